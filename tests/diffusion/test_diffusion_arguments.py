"""Counterfactuals by diffusion, and folders of models: wrong arguments from tables."""

import math

import pytest
import torch
from gaussians import gaussian_world
from tiny_ldm import labelled, settled, stable_diffusion, table, tiny, write
from torch import nn
from worlds import LinearSpace
from wrong import (
    choice_values,
    classifier_values,
    count_values,
    image_values,
    label_values,
    number_values,
    own_arguments,
    space_values,
)
from wrong_scores import check_message, rows, without

import cfxnb as cfx
from cfxnb.diffusion.composite import edit_mask
from cfxnb.diffusion.consensus import chance_level
from cfxnb.spaces import (
    AttributeConditions,
    Autoencoder,
    ClassConditions,
    Diffusion,
    EmbeddingConditions,
)

pytestmark = pytest.mark.filterwarnings("ignore:null_class. the last of")

SPACE, F, X, TARGET = gaussian_world(2, 2)
FLAGS = {"None": (None, "NoneType"), "number": (1, "1"), "text": ("yes", "'yes'")}
CONDITIONS = {
    "text": ("red", "str"),
    "number": (3, "int"),
    "dict": ({0: 1}, "dict"),
    "too few": ([0], "got 1"),
    "too many": ([0, 1, 2], "got 3"),
    "unknown": ([5, 6], "got"),
    "names": (["red", "blue"], "str"),
}
QUICK = {"steps": 2, "max_attempts": 1}
NET, CODEC = settled(labelled(4)), settled(tiny())
PLACE = {"mean": torch.zeros(4, 8, 8), "std": torch.ones(4, 8, 8)}
CODER = Autoencoder(CODEC, **PLACE)
MODULES = {"None": (None, "NoneType"), "class": (nn.Linear, "type"), "text": ("unet", "str")}
PLACES = {
    "None": (None, "NoneType"),
    "list": ([0.0], "list"),
    "vector": (torch.zeros(4), "(4,)"),
    "batch_size": (torch.zeros(1, 4, 8, 8), "(1, 4, 8, 8)"),
}
PRECISIONS = without(choice_values("float32"), "None")
TABLE = {
    cfx.diffusion_counterfactual: (
        {"space": SPACE, "classifier": F, "images": X, "target": 1, **QUICK},
        {
            "space": space_values() | {"no diffusion": (LinearSpace(), "LinearSpace without")},
            "classifier": classifier_values(),
            "images": image_values((2, 3, 4, 6)),
            "target": label_values(),
            "conditions": CONDITIONS,
            "first_row": count_values(-1),
            "cone_angle": number_values(-1.0, 181.0),
            "guidance": choice_values("consensus"),
            "classifier_scale": number_values(-0.1),
            "distance_scale": number_values(-0.1),
            "noise": choice_values("random"),
            "guidance_scale": without(number_values(-0.1), "None"),
            "strength": number_values(0.0, 1.0, -0.1),
            "steps": count_values(0, -1),
            "max_attempts": count_values(0, -1),
            "min_strength": number_values(-0.1, 1.0),
            "confidence": number_values(0.0, 1.0, -0.1),
            "timestep_spacing": choice_values("even"),
            "distance_space": choice_values("code"),
            "backprop_diffusion": FLAGS,
            "pause_when_reached": FLAGS,
            "patch_size": count_values(0, -1) | {"no divisor": (4, "got 4")},
            "composite_threshold": without(number_values(-0.1, 1.1), "None"),
            "seed": count_values(-1),
            "batch_size": count_values(0, -1),
            "on_step": {"text": ("bar", "str"), "number": (3, "int")},
        },
    ),
    edit_mask: (
        {"before": X, "after": X, "threshold": 0.1},
        {
            "before": image_values((2, 3, 4, 6)),
            "after": image_values((2, 3, 4, 6)) | {"other size": (X[..., :5], "(2, 3, 4, 5)")},
            "threshold": number_values(-0.1, 1.1),
        },
    ),
    chance_level: (
        {"size": 3, "cone_angle": 45.0},
        {"size": count_values(0, -1), "cone_angle": number_values(-1.0, 181.0)},
    ),
    Autoencoder: (
        {"net": CODEC, **PLACE},
        {"net": MODULES, "mean": PLACES, "std": PLACES, "precision": PRECISIONS},
    ),
    Diffusion: (
        {"net": NET, "autoencoder": CODER, "conditions": ClassConditions(4)},
        {
            "net": MODULES,
            "autoencoder": MODULES | {"net": (CODEC, "AutoencoderTiny")},
            "conditions": {"None": (None, "None")},
            "alphas_cumprod": {
                "list": ([0.9, 0.5], "list"),
                "rising": (torch.tensor([0.1, 0.5]), "others"),
                "one": (torch.tensor([0.5]), "others"),
                "NaN": (torch.tensor([0.5, math.nan]), "others"),
                "betas": (torch.linspace(1e-4, 0.02, 10), "others"),
            },
            "prediction_type": without(choice_values("noise"), "None", "empty"),
        },
    ),
    Diffusion(NET, CODER, conditions=ClassConditions(4)).sample: (
        {"conditions": [0, None], "steps": 2},
        {
            "guidance_scale": number_values(-0.1),
            "steps": count_values(0, 1) | {"no stride": (999, "999")},
            "seed": count_values(-1),
        },
    ),
    ClassConditions: (
        {"n_classes": 2},
        {"n_classes": count_values(0, 1), "null": {"number": (1, "int")}},
    ),
}
# The generated calls of tests/contract test these.
LEFT = {"shift_factor", "scaling_factor", "shape", "class_names", "parametrisation"}


@pytest.mark.parametrize(("function", "arguments", "argument", "told"), rows(TABLE))
def test_wrong_argument(function, arguments, argument, told):
    check_message(function, arguments, argument, told)


@pytest.mark.parametrize("function", TABLE, ids=lambda f: f.__name__)
def test_right_arguments_are_accepted(function):
    function(**TABLE[function][0])


@pytest.mark.parametrize("function", TABLE, ids=lambda f: f.__name__)
def test_no_argument_is_left_out(function):
    told = set(TABLE[function][0]) | set(TABLE[function][1])
    assert own_arguments(function) - LEFT <= told


@pytest.mark.parametrize("number", ["a", [1.0, 2.0, 3.0], math.nan, 0.0])
def test_units_that_are_none(number):
    with pytest.raises((ValueError, TypeError), match="scaling_factor: expected"):
        Autoencoder(CODEC, **PLACE, scaling_factor=number)


def test_attributes_by_name():
    with pytest.raises((ValueError, TypeError), match="conditions"):
        cfx.diffusion_counterfactual(SPACE, F, X, 1, conditions=["0", "1"], **QUICK)
    assert AttributeConditions({"a": ("b", "c")}).encode(["b"]).tolist() == [[0]]


# -- folders

PATHS = {
    "None": (None, "NoneType"),
    "number": (3, "int"),
    "bytes": (b"unet", "bytes"),
    "list": (["unet"], "list"),
    "nothing there": ("nowhere", "nothing there"),
    "far away": ("a/b/c/d", "nothing there"),
    "null": ("no\0where", "nothing there"),
    "file": (__file__, "a file"),
    "empty folder": (".", "no model_index.json in it"),
}
SHARED = {
    "path": PATHS,
    "revision": {
        "main": ("main", "'main'"),
        "even": ("0123456", "'0123456'"),
        "number": (3, "3"),
        "of a folder": ("0" * 40, "0" * 40),
    },
    "device": {"unknown": ("toaster", "toaster"), "number": ([1], "[1]")},
    "precision": PRECISIONS,
}
FOLDERS = {
    cfx.spaces.load_ldm: SHARED
    | {
        "conditions": {
            "text": ("red", "str"),
            "tensor": (table(), "Tensor"),
            "list": ([0, 1], "list"),
            "other classes": (ClassConditions(9), "got 9"),
            "vectors": (EmbeddingConditions(table()), "got 12"),
        }
    },
    cfx.spaces.load_stable_diffusion: SHARED
    | {
        "template": {
            "None": (None, "NoneType"),
            "number": (3, "3"),
            "no place": ("a photo", "'a photo'"),
            "named": ("a {name}", "'a {name}'"),
        }
    },
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    where = tmp_path_factory.mktemp("folders")
    return {
        cfx.spaces.load_ldm: write(where / "ldm", labelled(4), tiny()),
        cfx.spaces.load_stable_diffusion: stable_diffusion(where / "sd"),
    }


@pytest.mark.parametrize(
    ("load", "name", "kind"),
    [(f, name, kind) for f, table_ in FOLDERS.items() for name in table_ for kind in table_[name]],
)
def test_wrong_folders(good, load, name, kind):
    value, told = FOLDERS[load][name][kind]
    with pytest.raises((ValueError, TypeError)) as caught:
        load(**{"path": good[load], "device": "cpu"} | {name: value})
    assert str(caught.value).startswith(f"{name}: expected ")
    assert told in str(caught.value)
    assert len(str(caught.value)) < 500


def test_right_folders(good):
    for load, path in good.items():
        assert load(path, device="cpu").mean.shape == (4, 8, 8)
        assert load(str(path), device="cpu", precision="bfloat16").autoencoder.precision
