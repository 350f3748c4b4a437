"""Wrong arguments of what finds, explains and repairs errors."""

import numpy as np
import pandas as pd
import pytest
import torch
from gaussians import gaussian_world
from torch import nn
from worlds import LinearSpace
from wrong import (
    INF,
    NAN,
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
from cfxnb.metrics import accuracy_by_group

SPACE, F, X, WRONG = gaussian_world(2, 4)
SHAPE = (4, 3, 4, 6)
LABELS = label_values(rows=4)
GROUPS = {
    "None": (None, "NoneType"),
    "number": (1, "int"),
    "text": ("abcd", "'abcd'"),
    "array of one": (np.array(3), "array(3)"),
}
QUICK = {"steps": 2, "max_attempts": 1}


TABLE = {
    cfx.explain_errors: (
        {"space": SPACE, "classifier": F, "images": X, "labels": WRONG, "kwargs": {}, **QUICK},
        {
            "space": space_values() | {"no diffusion": (LinearSpace(), "LinearSpace without")},
            "classifier": classifier_values(4) | {"black box": (cfx.BlackBox(F), "BlackBox")},
            "images": image_values(SHAPE),
            "labels": LABELS,
            "descriptors": {
                "text": ("top", "str"),
                "table": (pd.DataFrame({"a": [0, 1]}), "DataFrame"),
            },
            "max_images": count_values(0, -1),
            "seed": count_values(-1),
            "first_row": count_values(-1),
            "guidance": {"unknown": ("me", "'me'")},
            "conditions": {"too few": ([0], "got 1"), "text": ("red", "str")},
        },
    ),
    cfx.fine_tune: (
        {"classifier": F, "images": X, "labels": WRONG, "steps": 2},
        {
            "classifier": {
                "None": (None, "NoneType"),
                "text": ("digits/classifier", "str"),
                "black box": (cfx.BlackBox(F), "BlackBox"),
                "function": (torch.sigmoid, "builtin"),
            },
            "images": image_values(SHAPE),
            "labels": LABELS,
            "sample_weight": {
                "list": ([1.0] * 4, "list"),
                "short": (torch.ones(3), "(3,)"),
                "column": (torch.ones(4, 1), "(4, 1)"),
                "NaN": (torch.tensor([1, 1, 1, NAN]), "(4,)"),
                "infinite": (torch.tensor([1, 1, 1, INF]), "(4,)"),
                "negative": (torch.tensor([1.0, 1, 1, -1]), "(4,)"),
            },
            "steps": count_values(0, -1),
            "batch_size": count_values(0, -1),
            "lr": number_values(0.0, -1.0),
            "seed": count_values(-1),
        },
    ),
    cfx.group_weights: ({"groups": ["a", "b"]}, {"groups": GROUPS | {"empty": ([], "none")}}),
    accuracy_by_group: (
        {"classifier": F, "images": X, "labels": WRONG, "groups": list("abab")},
        {
            "classifier": classifier_values(4),
            "images": image_values(SHAPE),
            "labels": LABELS,
            "groups": GROUPS | {"short": (["a"] * 3, "got 3"), "long": (range(5), "got 5")},
        },
    ),
    cfx.nearest_classes: (
        {"classifier": F, "images": X, "labels": WRONG},
        {
            "classifier": classifier_values(4),
            "images": image_values(SHAPE),
            "labels": without(LABELS, "too large", "negative")
            | {"one for all": (1, "none of [0]"), "too large": (2, "2"), "negative": (-1, "-1")},
            "features": {
                "text": ("mean", "str"),
                "array": (lambda x: x.flatten(1).numpy(), "ndarray"),
                "images": (lambda x: x, "(4, 3, 4, 6)"),
                "one row": (lambda x: x.flatten(1)[:1], "(1, 72)"),
                "NaN": (lambda x: NAN * x.flatten(1), "NaN"),
            },
            "batch_size": count_values(0, -1),
        },
    ),
}


@pytest.mark.parametrize(("function", "arguments", "argument", "told"), rows(TABLE))
def test_wrong_argument(function, arguments, argument, told):
    check_message(function, {k: v for k, v in arguments.items() if k != "kwargs"}, argument, told)


@pytest.mark.parametrize("function", TABLE, ids=lambda f: f.__name__)
def test_right_arguments_are_accepted(function):
    function(**{k: v for k, v in TABLE[function][0].items() if k != "kwargs"})


@pytest.mark.parametrize("function", TABLE, ids=lambda f: f.__name__)
def test_no_argument_is_left_out(function):
    told = set(TABLE[function][0]) | set(TABLE[function][1])
    assert own_arguments(function) <= told


def test_without_errors():
    right = cfx.predict_logits(F, X).argmax(1)
    with pytest.raises(ValueError, match=r"images: expected some that are misclassified"):
        cfx.explain_errors(SPACE, F, X, right)


def test_an_unknown_option_is_named():
    with pytest.raises(TypeError, match="strengths"):
        cfx.explain_errors(SPACE, F, X, WRONG, strengths=0.5)


@pytest.mark.parametrize(
    ("module", "came"), [(nn.Flatten(0), "(72, 2)"), (nn.Flatten(0, 1), "(3, 4, 6)")]
)
def test_modules_that_give_no_logits(module, came):
    with pytest.raises(ValueError, match="module: expected logits of shape") as caught:
        cfx.fine_tune(module, X, WRONG, steps=2)
    assert came in str(caught.value)
