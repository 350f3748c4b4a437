"""Wrong arguments of edits and scores from tables: each message names what, and what came."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from bits import CONTRASTS, BitSpace, edits, images_of, judge, scores
from torch import nn
from wrong import (
    NAN,
    choice_values,
    classifier_values,
    count_values,
    image_values,
    number_values,
    own_arguments,
    space_values,
)
from wrong_scores import (
    CONTEXTS,
    EDITS,
    FACTORS,
    PAIRS,
    READERS,
    SPACE,
    VALUES,
    F,
    X,
    check_message,
    rows,
    without,
)

import cfxnb as cfx

IMAGES = image_values((8, 1, 1, 3))
BLANK = SimpleNamespace(mean=SPACE.mean, std=SPACE.std, decode=SPACE.decode)
BLANK.encode = lambda images: SPACE.encode(images).z
SPACES = space_values() | {"tensors for codes": (BLANK, "Tensor")}


def tables(column):
    return {
        "None": (None, "NoneType"),
        "array": (FACTORS.to_numpy(), "ndarray"),
        "short": (FACTORS[:5], "got 5"),
        "long": (pd.concat([FACTORS, FACTORS]), "got 16"),
        "twice": (pd.concat([FACTORS, FACTORS], axis=1), "['A', 'B', 'C', 'A', 'B', 'C']"),
        **column,
    }


def edit(code, name, value):
    return edits().edit(code, name, value)


TABLE = {
    cfx.fit_attribute_edits: (
        {"space": SPACE, "images": X, "factors": FACTORS},
        {
            "space": SPACES,
            "images": IMAGES,
            "factors": tables(
                {
                    "no column": (FACTORS[[]], "none"),
                    "NaN": (FACTORS.assign(A=[NAN, *FACTORS["A"][1:]]), "NaN"),
                    "constant": (FACTORS.assign(A="no"), "('no',)"),
                    "three": (FACTORS.assign(A=["maybe", *FACTORS["A"][1:]]), "'maybe'"),
                    "copies": (FACTORS.assign(D=FACTORS["A"]), "'A'"),
                }
            ),
            "contrasts": PAIRS,
            "reader": READERS,
            "preserve_others": {"text": ("keep", "str"), "number": (1, "int")},
            "l2_penalty": number_values(0.0, -1.0),
            "hidden_dim": count_values(0, -1),
            "steps": count_values(0, -1),
            "batch_size": count_values(0, -1),
            "lr": number_values(0.0, -0.1),
            "length_weight": number_values(-0.1),
            "code_noise": number_values(-0.1),
            "seed": count_values(-1),
        },
    ),
    cfx.contrastive_scores: (
        {"space": SPACE, "classifier": F, "images": X, "factors": FACTORS, "edits": edits()},
        {
            "space": SPACES,
            "first_row": count_values(-1),
            "classifier": classifier_values(8),
            "images": IMAGES,
            "factors": tables(
                {
                    "missing": (FACTORS.drop(columns="B"), "['A', 'C']"),
                    "other values": (FACTORS == "yes", "none"),
                    "all NaN": (FACTORS.replace({"yes": NAN, "no": NAN}), "none"),
                }
            ),
            "outcome": count_values(2, -1) | {"one a row": (torch.ones(8).long(), "Tensor")},
            "contrasts": {"beside edits": ({"A": ("no", "yes")}, "'A'")},
            "edits": without(EDITS, "None"),  # none means to fit some
            "judge": READERS,
            "context": CONTEXTS,
            "edit_filter": choice_values("clean"),
            "confidence_level": number_values(0.0, 1.0, -0.5),
            "batch_size": count_values(0, -1),
        },
    ),
    edit: (
        {"code": SPACE.encode(X[:1]), "name": "A", "value": "yes"},
        {
            "code": {
                "None": (None, "NoneType"),
                "tensor": (SPACE.encode(X).z, "Tensor"),
                "other space": (cfx.Code(torch.zeros(1, 4)), "(4,)"),
            },
            "name": choice_values("A" * 2) | {"unknown": ("D", "'D'")},
            "value": VALUES,
        },
    ),
}


@pytest.mark.parametrize(("function", "arguments", "argument", "told"), rows(TABLE))
def test_wrong_argument(function, arguments, argument, told):
    check_message(function, arguments, argument, told)


@pytest.mark.parametrize("function", TABLE, ids=lambda f: f.__name__)
def test_right_arguments_are_accepted(function):
    function(**TABLE[function][0])


@pytest.mark.parametrize("function", TABLE, ids=lambda f: f.__name__)
def test_no_argument_is_left_out(function):
    told = set(TABLE[function][0]) | set(TABLE[function][1])
    assert own_arguments(function) - {"title", "checkpoint_dir", "linear_init"} <= told


class Far(nn.Module):
    def forward(self, u, target):
        return 10 * target


@pytest.mark.parametrize("reader", [None, judge()])
def test_edits_that_leave_the_range_of_images_are_the_spaces_fault(reader):
    """Also where no judge looks at them: a classifier would be asked about no image at all."""
    with pytest.raises(ValueError, match=r"space\.decode: expected values in \[0, 1\]"):
        scores("and", edits=edits(Far()), judge=reader)


def test_codes_that_say_nothing_are_told():
    with pytest.raises(ValueError, match="images: expected codes that depend on 'A'"):
        cfx.fit_attribute_edits(SPACE, X[:1].expand(8, -1, -1, -1), FACTORS)


def test_more_attributes_than_the_code_can_hold_apart():
    """Three bits of two dimensions: free edits do, kept ones can't."""
    flat = BitSpace(dims=2)
    images = images_of(torch.randint(2, (40, 2))) + 0.02 * torch.rand(40, 1, 1, 2)
    z = flat.encode(images).z
    read = {"A": z[:, 0], "B": z[:, 1], "C": z[:, 0] + z[:, 1]}
    factors = pd.DataFrame({n: v > v.median() for n, v in read.items()})
    cfx.fit_attribute_edits(flat, images, factors, preserve_others=False)
    with pytest.raises(ValueError, match=r"contrasts: expected factors.*preserve_others=False"):
        cfx.fit_attribute_edits(flat, images, factors)
    assert set(CONTRASTS) == set(factors)
