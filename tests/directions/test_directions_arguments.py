"""Wrong arguments of searches for directions, of walks along them, and of single labels."""

from pathlib import Path

import pytest
import torch
from worlds import LinearSpace, code_classifier
from wrong import (
    NAN,
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

SPACE = LinearSpace()
F = code_classifier(SPACE, torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 8.0)
X = SPACE.decode(cfx.Code(torch.tensor([[-1.0, 0, 0, 0], [-2.0, 1, 0, 0]])))
AXIS = torch.tensor([1.0, 0.0, 0.0, 0.0])
WATCH = {"text": ("bar", "str"), "number": (3, "int")}

TABLE = {
    cfx.find_directions: (
        {"space": SPACE, "classifier": F, "images": X, "target": 1, "max_queries": 140},
        {
            "space": space_values(),
            "classifier": classifier_values(1),
            "images": without(image_values((1, 3, 4, 4)), "no batch"),
            "target": count_values(-1) | {"too large": (2, "2")},
            "contrast_class": without(count_values(-1), "None")
            | {"too large": (2, "2"), "the label": (1, "1")},
            "max_queries": count_values(0, -1, 35),
            "proxy": choice_values("ridge") | {"one image": ("ridge", "2 images")},
            "radius": without(number_values(0.0, -1.0), "None"),
            "saturation": without(number_values(0.0, -1.0), "None"),
            "n_curvature": count_values(-1),
            "validation_images": without(image_values(), "None")
            | {"other size": (X[..., :2], "(3, 4, 2)")},
            "max_step": without(number_values(0.0, -1.0), "None"),
            "distance": {
                "text": ("lpips", "str"),
                "one for all": (lambda a, b: (a - b).abs().mean(), "()"),
                "maps": (lambda a, b: (a - b).abs(), "(1, 3, 4, 4)"),
                "number": (lambda a, b: 0.5, "float"),
            },
            "batch_size": count_values(0, 1, -1),
            "checkpoint_dir": {
                "number": (3, "3"),
                "list": (["a"], "'a'"),
                "file": (__file__, "file"),
            }
            | {"not empty": (Path(__file__).parent, "other files")},
            "seed": count_values(-1),
            "on_step": WATCH,
        },
    ),
    cfx.follow_direction: (
        {"space": SPACE, "classifier": F, "images": X, "direction": AXIS},
        {
            "space": space_values(),
            "classifier": classifier_values(),
            "images": image_values(),
            "first_row": count_values(-1),
            "direction": {
                "None": (None, "NoneType"),
                "list": ([1.0, 0.0, 0.0, 0.0], "list"),
                "name": ("g", "str"),
                "short": (AXIS[:3], "(3,)"),
                "too many": (AXIS.expand(3, 4), "(3, 4)"),
                "zero": (0 * AXIS, "0"),
                "NaN": (NAN * AXIS, "nan"),
            },
            "target": without(label_values(), "None"),
            "confidence": number_values(-0.1, 1.0),
            "max_step": without(number_values(0.0, -1.0), "None"),
            "grid_steps": count_values(0, -1),
            "binary_search_steps": count_values(-1),
            "noise_seed": without(count_values(-1), "None"),
            "batch_size": count_values(0, -1),
            "on_step": WATCH,
        },
    ),
    cfx.select_label: (
        {"classifier": F, "label": 1},
        {
            "classifier": {"None": (None, "NoneType"), "text": ("f", "str")},
            "label": count_values(-1),
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
    assert own_arguments(function) <= told


def test_a_label_that_is_not_there_is_told_when_asked():
    with pytest.raises(ValueError, match=r"label: expected .*got 5 with \(2, 2\)"):
        cfx.select_label(F, 5)(X)
    with pytest.raises(TypeError, match="classifier: expected logits, got list"):
        cfx.select_label(lambda x: [1.0], 0)(X)
