"""Every public function with every argument wrong in every way: the message helps.

It names the argument, says what was expected, and says what came.
"""

import re

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from worlds import LinearNet, LinearSpace, code_classifier
from wrong import (
    INF,
    NAN,
    choice_values,
    classifier_values,
    count_values,
    feature_values,
    image_values,
    label_values,
    number_values,
    own_arguments,
    result_values,
    space_values,
)

import cfxnb as cfx
from cfxnb.metrics import fid, kid, mmd2

SPACE = LinearSpace()
F = code_classifier(SPACE, torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 8.0)
X = SPACE.decode(cfx.Code(torch.tensor([[-1.0, 0, 0, 0], [-2.0, 1, 0, 0]])))
CF = cfx.latent_attack(SPACE, F, X, 1)
PIXEL = cfx.pixel_attack(F, X, 1)
MANY = SPACE.sample(200)
FACTORS = pd.DataFrame({"up": (SPACE.encode(MANY).z[:, 0] > 0).float().numpy()})
READERS = cfx.fit_descriptors(SPACE, MANY, FACTORS)
A = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
READ = A.numpy()


def mean_score(before, after):
    return (after - before).mean(0)


def without_none(values):
    return {name: value for name, value in values.items() if value[0] is not None}


# function -> (good arguments, {argument: wrong values})
SEARCH = {
    "confidence": number_values(0.0, 1.0, 1.5, -0.1),
    "steps": count_values(0, -1),
    "lr": number_values(0.0, -0.1),
    "binary_search_steps": count_values(-1),
    "batch_size": count_values(0, -1),
    "seed": count_values(-1),
    "images": image_values(),
    "target": label_values(),
    "classifier": classifier_values(),
    "on_step": {"text": ("bar", "str"), "number": (3, "int")},
}
assert CF.flipped.all()
TABLE = {
    cfx.latent_attack: (
        {"space": SPACE, "classifier": F, "images": X, "target": 1},
        SEARCH
        | {
            "first_row": count_values(-1),
            "space": space_values(),
            "restarts": count_values(-1),
            "loss": choice_values("margin"),
            "units": choice_values("std"),
            "proximity": number_values(-0.1),
            "prior": number_values(-0.1),
            "init_noise": number_values(-0.1),
        },
    ),
    cfx.pixel_attack: (
        {"classifier": F, "images": X, "target": 1},
        {name: values for name, values in SEARCH.items() if name != "lr"}
        | {
            # None stands for a default that depends on minimal_norm.
            "confidence": without_none(number_values(0.0, 1.0, 1.5, -0.1)),
            "step_size": without_none(number_values(0.0, -0.1)),
            "minimal_norm": {"text": ("yes", "str"), "number": (2, "2")},
            "epsilon": number_values(0.0, -1.0),
            "first_row": count_values(-1),
        },
    ),
    cfx.reconstruct: (
        {"space": SPACE, "classifier": F, "images": X, "target": 1},
        {
            "space": space_values(),
            "classifier": classifier_values(),
            "images": image_values(),
            "target": label_values(),
            "batch_size": count_values(0, -1),
            "first_row": count_values(-1),
        },
    ),
    cfx.random_change: (
        {"space": SPACE, "classifier": F, "like": CF},
        {
            "space": space_values(),
            "classifier": classifier_values(),
            "like": result_values() | {"no codes": (PIXEL, "without codes")},
            "first_row": count_values(-1),
            "batch_size": count_values(0, -1),
            "seed": count_values(-1),
        },
    ),
    cfx.predict_logits: (
        {"classifier": F, "images": X},
        {
            "classifier": classifier_values(),
            "images": image_values(),
            "batch_size": count_values(0, -1),
        },
    ),
    cfx.wrap: (
        {"module": LinearNet(torch.zeros(2, 48))},
        {
            "module": {
                "None": (None, "NoneType"),
                "text": ("resnet", "str"),
                "class": (LinearNet, "type"),
                "number": (3.0, "float"),
            },
            "channels": {"none": (0, "0"), "two": (2, "2"), "text": ("3", "str")},
            "probabilities": {"number": (1, "int"), "None": (None, "NoneType")},
            "mean": {
                "text": ("0.5", "'0.5'"),
                "NaN": (NAN, "nan"),
                "one NaN": ([0.5, NAN, 0.5], "nan"),
                "bool": (True, "True"),
                "names": (["a", "b"], "'a'"),
                "empty": ([], "[]"),
            },
            "std": {
                "zero": (0.0, "0.0"),
                "one zero": ([0.5, 0.0, 0.5], "0.0"),
                "negative": (-1.0, "-1.0"),
                "NaN": (NAN, "nan"),
                "infinite": (INF, "inf"),
                "text": ("0.5", "'0.5'"),
                "bool": (True, "True"),
                "empty": ([], "[]"),
            },
            "size": {
                "zero": (0, "0"),
                "negative": ((4, -4), "-4"),
                "three": ((4, 4, 4), "(4, 4, 4)"),
                "float": (4.5, "4.5"),
                "text": ("32", "'32'"),
                "bool": (True, "True"),
                "floats": ((4.5, 4.5), "4.5"),
            },
            "class_names": {"number": (3, "3"), "text": ("ab", "'ab'")},
        },
    ),
    cfx.BlackBox: (
        {"classifier": F},
        {"classifier": {"None": (None, "NoneType"), "text": ("f", "str")}},
    ),
    cfx.two_logits: (
        {"logit": torch.zeros(3)},
        {
            "logit": {
                "None": (None, "NoneType"),
                "number": (0.5, "float"),
                "two logits": (torch.zeros(3, 2), "(3, 2)"),
            }
        },
    ),
    cfx.load: (
        {"name": "digits/judge", "device": "cpu"},
        {
            "name": choice_values("digits/judge") | {"path": ("../secrets", "../secrets")},
            "device": {"text": ("toaster", "toaster")},
        },
    ),
    cfx.data.digits: ({"split": "test"}, {"split": choice_values("train")}),
    cfx.data.chest: ({"split": "test"}, {"split": choice_values("train")}),
    cfx.data.faces: ({"split": "test"}, {"split": choice_values("train")}),
    cfx.data.measure_digits: (
        {"images": torch.zeros(2, 1, 8, 8)},
        {
            "images": {k: v for k, v in image_values((2, 1, 8, 8)).items() if k != "empty"}
            | {"color": (torch.zeros(2, 3, 8, 8), "(2, 3, 8, 8)")}
        },
    ),
    cfx.fit_descriptors: (
        {"space": SPACE, "images": MANY, "factors": FACTORS},
        {
            "space": space_values(),
            "images": image_values((60, 3, 4, 4)),
            "factors": {
                "None": (None, "NoneType"),
                "array": (FACTORS.to_numpy(), "ndarray"),
                "short": (FACTORS[:9], "9 rows"),
                "constant": (0 * FACTORS, "'up'"),
                "text": (FACTORS.replace({0.0: "no", 1.0: "yes"}), "'up'"),
                "all NaN": (FACTORS * NAN, "'up'"),
                "no columns": (FACTORS[[]], "no column"),
                "one of a kind": (FACTORS.assign(up=(FACTORS.index == 0) * 1.0), "'up'"),
            },
            "l2_penalty": number_values(0.0, -1.0),
            "test_size": number_values(0.0, 1.0, -0.5),
            "min_auc": number_values(0.4, 1.1),
            "batch_size": count_values(0, -1),
            "seed": count_values(-1),
        },
    ),
    cfx.describe_change: (
        {
            "counterfactuals": CF,
            "descriptors": READERS,
            "space": SPACE,
            "classifier": F,
            "n_resamples": 5,
        },
        {
            "counterfactuals": result_values() | {"no codes": (PIXEL, "without codes")},
            "descriptors": result_values(),
            "min_correlation": number_values(-0.1, 1.1),
            "n_resamples": count_values(0, -1),
            "seed": count_values(-1),
            "space": {"text": ("vae", "str")},
            "classifier": {"text": ("f", "str")},
        },
    ),
    cfx.ablate: (
        {
            "space": SPACE,
            "classifier": F,
            "counterfactuals": CF,
            "descriptors": READERS,
            "groups": (("up",),),
        },
        {
            "space": space_values(),
            "classifier": classifier_values(),
            "counterfactuals": result_values() | {"no codes": (PIXEL, "without codes")},
            "descriptors": result_values(),
            "groups": {
                "unknown": ((("down",),), "'down'"),
                "empty": ((), "()"),
                "empty group": (((),), "()"),
                "names": (("up",), "'up'"),
            },
            "seed": count_values(-1),
        },
    ),
    cfx.permutation_null: (
        {"score": mean_score, "before": READ, "after": READ + 1, "n_resamples": 5},
        {
            "score": {
                "None": (None, "NoneType"),
                "text": ("mean", "str"),
                "wrong shape": (lambda b, a: a - b, "(9, 3)"),
            },
            "before": {
                "short": (READ[:5], "(5, 3)"),
                "vector": (READ[0], "(3,)"),
                "NaN": (READ * NAN, "NaN"),
                "text": ("x", "x"),
            },
            "after": {"short": (READ[:5], "(5, 3)"), "NaN": (READ * NAN, "NaN")},
            "names": {"too few": (("a",), "1")},
            "n_resamples": count_values(0, -1),
            "seed": count_values(-1),
        },
    ),
    cfx.cout: (
        {"classifier": F, "original": X, "image": X, "target": 1},
        {
            "classifier": {k: v for k, v in classifier_values().items() if k != "wrong rows"},
            "original": image_values(),
            "image": image_values() | {"other size": (X[..., :2], "(2, 3, 4, 2)")},
            "target": label_values(),
            "source": {k: v for k, v in label_values().items() if k != "None"},
            "n_chunks": count_values(0, -1),
            "batch_size": count_values(0, -1),
        },
    ),
    fid: ({"a": A, "b": A}, {"a": feature_values(), "b": feature_values()}),
    mmd2: (
        {"a": A, "b": A},
        {"a": feature_values(), "b": feature_values() | {"wide": (A[:, :2], "2")}},
    ),
    kid: (
        {"a": A, "b": A, "subset_size": 4, "n_subsets": 2},
        {
            "a": feature_values(),
            "b": feature_values(),
            "subset_size": count_values(1, -1) | {"too many": (10, "10")},
            "n_subsets": count_values(0, -1),
            "seed": count_values(-1),
        },
    ),
    cfx.report: (
        {"results": {"a": CF}},
        {
            "results": {
                "None": (None, "NoneType"),
                "bare": (CF, "Counterfactuals"),
                "empty": ({}, "{}"),
                "tensor inside": ({"a": X}, "Tensor"),
            },
            "classifier": {"text": ("f", "str")},
            "judge": {"text": ("f", "str")},
            "features": {"function": (mean_score, "function"), "text inside": ({"a": "f"}, "str")},
            "real": {k: v for k, v in image_values().items() if k == "text"},
            "real_labels": {"without real": ([0, 1], "labels")},
            "code_std": {"text": ("1", "str"), "number": (1.0, "float")},
            "distances": {"function": (cfx.metrics.l2, "function")},
            "retrained": {"bare": (F, "Wrapped"), "empty": ([], "none"), "text": (["f"], "str")},
            "reader": {"classifier": (F, "Wrapped")},
            "causes": {"without reader": (["up"], "a value")},
            "named_factor": {"without reader": ("up", "a value")},
            "attributes": {"text": ("f", "str")},
            "attribute_labels": {"without attributes": (A > 0, "a value")},
            "query": {"without attributes": (0, "a value")},
            "methods": {"unknown": ({"b": F}, "'b'"), "function": (F, "Wrapped")},
            "null_edits": {"text inside": ({"a": "f"}, "str")},
            "repaired": {"without held_out": ({"a": F}, "None")},
            "held_out": {"without repaired": ((X, [0, 1]), "None")},
            "confidence_level": {
                k: v for k, v in number_values(0.0, 1.0, 1.5).items() if k != "None"
            },
        },
    ),
    cfx.by_profile: (
        {"profile": "ci", "ci": 1, "cpu": 2, "gpu": 3},
        {"profile": choice_values("ci")},
    ),
    cfx.explore: (
        {"draw": lambda a: cfx.as_picture(Figure(), "nothing"), "a": [1, 2]},
        {
            "draw": {
                "None": (None, "NoneType"),
                "text": ("f", "str"),
                "figure": (lambda a: Figure(), "Figure"),
                "nothing": (lambda a: None, "NoneType"),
            },
            "a": {
                "number": (3, "3"),
                "empty": ([], "[]"),
                "text": ("ab", "'ab'"),
                "one": ((1,), "(1,)"),
                "reversed": ((5, 1), "(5, 1)"),
                "no step": ((1, 5, 0), "(1, 5, 0)"),
                "names": (("x", "y"), "'x'"),
            },
        },
    ),
    cfx.as_picture: (
        {"figure": Figure(), "alt": "a figure"},
        {
            "figure": {"None": (None, "NoneType"), "tensor": (X, "Tensor")},
            "alt": {
                "empty": ("", "empty text"),
                "blank": ("  ", "empty text"),
                "None": (None, "NoneType"),
            },
        },
    ),
    cfx.data.ImageSet: (
        {
            "images": X,
            "labels": torch.tensor([0, 1]),
            "class_names": ("a", "b"),
            "factors": pd.DataFrame({"f": [0.0, 1.0]}),
        },
        {
            "images": {"short": (X[:1], "1")},
            "labels": {"short": (torch.tensor([0]), "1")},
            "factors": {"short": (pd.DataFrame({"f": [0.0]}), "1")},
        },
    ),
}

ROWS = [
    pytest.param(function, good | {argument: value}, argument, told, id=f"{name}-{argument}-{kind}")
    for function, (good, wrong) in TABLE.items()
    for name in [getattr(function, "__name__", str(function))]
    for argument, kinds in wrong.items()
    for kind, (value, told) in kinds.items()
]


@pytest.mark.parametrize(("function", "arguments", "argument", "told"), ROWS)
def test_wrong_argument(function, arguments, argument, told, capsys):
    with pytest.raises((ValueError, TypeError)) as caught:
        function(**arguments)
    message = str(caught.value)
    assert re.search(rf"\b{argument}\b", message), "names the argument"
    assert "expected" in message, "says what was expected"
    assert told in message, "says what came"
    assert len(message) < 500


def flipped(cf):
    """Both images reach the target, and the stored logits are those of the image."""
    logits = F(cf.image)
    return (
        cf.status == ("flipped", "flipped")
        and logits.argmax(1).tolist() == [1, 1]
        and torch.allclose(logits, cf.logits_after, atol=1e-4)
    )


def unchanged(cf):
    """The images are those of the caller, which the space draws exactly."""
    return cf.status == ("not_found", "not_found") and torch.allclose(cf.image, X, atol=1e-5)


def as_far(cf):
    """The codes moved as far as those of the result that they are compared with."""
    lengths = [(each.code_after.z - each.code_before.z).norm(dim=1) for each in (cf, CF)]
    return torch.allclose(*lengths, rtol=1e-3)


def shaped(*shape):
    return lambda images: tuple(images.images.shape[1:]) == shape and len(images.labels) > 600


#: What is true of each answer to right arguments. X holds two images of class 0.
TRUE = {
    cfx.latent_attack: flipped,
    cfx.pixel_attack: flipped,
    cfx.reconstruct: unchanged,
    cfx.random_change: as_far,
    cfx.predict_logits: lambda logits: torch.equal(logits, F(X)),
    cfx.wrap: lambda f: torch.equal(f(X), torch.zeros(2, 2)),
    cfx.BlackBox: lambda box: torch.equal(box(X), F(X)) and box.n_queries == 2,
    cfx.two_logits: lambda logits: torch.equal(logits, torch.zeros(3, 2)),
    cfx.load: lambda judge: judge(torch.zeros(2, 1, 32, 32)).shape == (2, 10),
    cfx.data.digits: shaped(1, 32, 32),
    cfx.data.chest: shaped(1, 64, 64),
    cfx.data.faces: shaped(3, 64, 64),
    cfx.data.measure_digits: lambda table: len(table) == 2 and table.isna().all(None),
    cfx.fit_descriptors: lambda found: found.quality.loc["up", "AUC"] == 1.0,
    cfx.describe_change: lambda change: (change.local["up"] > 0).all() and len(change.local) == 2,
    cfx.ablate: lambda table: table.loc["up", "fraction"] > table.loc["not described", "fraction"],
    cfx.permutation_null: lambda table: np.allclose(table["score"], 1.0) and len(table) == 3,
    cfx.cout: lambda scores: scores.shape == (2,) and (scores < -0.9).all(),  # no change at all
    fid: lambda distance: abs(distance) < 1e-9,  # a set has no distance to itself
    mmd2: lambda distance: distance < 0,  # unbiased: 0 on average over fresh sets
    kid: lambda found: len(found) == 2 and found[1] >= 0,
    cfx.report: lambda table: table.loc["a", ["images", "flip rate"]].tolist() == [2, 1.0],
    cfx.by_profile: lambda chosen: chosen == 1,
    cfx.explore: lambda shown: shown is None,
    cfx.as_picture: lambda picture: picture.alt == "a figure" and picture.png[1:4] == b"PNG",
    cfx.data.ImageSet: lambda found: torch.equal(found.images, X) and len(found) == 2,
}


@pytest.mark.parametrize("function", TABLE, ids=lambda f: f.__name__)
def test_right_arguments_give_a_right_answer(function, capsys):
    """Or every test above could pass for a reason of its own."""
    found = function(**TABLE[function][0])
    assert TRUE[function](found)
    assert ("Dropdown" in capsys.readouterr().out) == (function is cfx.explore)


@pytest.mark.parametrize("function", TABLE, ids=lambda f: f.__name__)
def test_no_argument_is_left_out(function):
    listed = set(TABLE[function][0]) | set(TABLE[function][1])
    known = own_arguments(function) - {"controls", "subset_indices", "source"}
    known -= {"ci", "cpu", "gpu", "allow_few"}  # values that go through as they are, and a flag
    assert known <= listed


def test_the_table_is_wide():
    assert len(ROWS) > 300
    assert len({row.id for row in ROWS}) == len(ROWS)


def test_widgets_are_real(capsys):
    """``explore`` shows what it draws at once; a broken drawing would fail here."""
    cfx.explore(lambda a: cfx.as_picture(Figure(), f"{a}"), a=(0, 3))
    assert isinstance(ipywidgets.IntSlider(0), ipywidgets.Widget)
    assert np.isfinite(READ).all()
