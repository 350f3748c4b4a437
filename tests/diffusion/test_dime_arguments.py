"""MaskDiME, FastDiME and DiME: wrong arguments from tables."""

import pytest
import torch
from gaussians import gaussian_world
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
from cfxnb.spaces import Unconditional

SPACE, F, X, TARGET = gaussian_world(2, 2)
FLAGS = {"None": (None, "NoneType"), "number": (1, "1"), "text": ("yes", "'yes'")}
GOOD = {"space": SPACE, "classifier": F, "images": X, "target": 1, "steps": 2, "scales": (0.5,)}
SHARED = {
    "space": space_values() | {"no diffusion": (LinearSpace(), "LinearSpace without")},
    "classifier": classifier_values(),
    "images": image_values((2, 3, 4, 6)),
    "target": label_values(),
    "scales": {
        "number": (1.0, "float"),
        "none": ((), "got none"),
        "zero": ((0.5, 0.0), "0.0"),
        "text": ("large", "str"),
        "texts": (("large",), "'large'"),
        "NaN": ((float("nan"),), "nan"),
    },
    "strength": number_values(0.0, 1.0, -0.1),
    "steps": count_values(0, -1),
    "l1_scale": number_values(-0.1),
    "perceptual_scale": number_values(-0.1),
    "features": {"number": (3, "int"), "text": ("vgg", "str"), "tensor": (X, "Tensor")},
    "confidence": number_values(0.0, 1.0, -0.1),
    "when_reached": choice_values("stop"),
    "as_published": FLAGS,
    "loss": choice_values("logit"),
    "gradient_clip": choice_values("image"),
    "clip_sample_range": without(number_values(0.0, -1.0), "None"),
    "seed": count_values(-1),
    "batch_size": count_values(0, -1),
    "first_row": count_values(-1),
    "on_step": {"text": ("bar", "str"), "number": (3, "int")},
}
EVEN = {"even": (4, "got 4")}
FRACTION = number_values(0.0, 1.1, -0.1)
TABLE = {
    cfx.maskdime: (
        GOOD,
        SHARED
        | {
            "mask_fraction": FRACTION,
            "inner_fraction": FRACTION,
            "dilation": without(count_values(0, -1), "None") | EVEN,
            "per_channel": FLAGS,
        },
    ),
    cfx.fastdime: (
        GOOD,
        SHARED
        | {
            "warmup": count_values(-1),
            "masking_threshold": number_values(-0.1, 1.1),
            "dilation": without(count_values(0, -1), "None") | EVEN,
        },
    ),
    cfx.dime: (GOOD, SHARED | {"inner_noise": FLAGS}),
    Unconditional().encode: (
        {"conditions": [None, None]},
        {"conditions": {"None": (None, "NoneType"), "class": ([None, 3], "3")}},
    ),
}
METHODS = (cfx.maskdime, cfx.fastdime, cfx.dime)


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


@pytest.mark.parametrize("method", METHODS, ids=lambda f: f.__name__)
def test_a_perceptual_distance_needs_features(method):
    with pytest.raises(ValueError, match="features: expected a function"):
        method(**GOOD, perceptual_scale=1.0)


@pytest.mark.parametrize("method", METHODS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"steps": 1}, "steps"),
        ({"steps": 1001}, "steps"),
        ({"steps": 10, "strength": 0.01}, "strength"),
    ],
)
def test_published_schedules_that_do_not_exist(method, options, name):
    with pytest.raises(ValueError, match=f"{name}: expected"):
        method(**GOOD | options, as_published=True)


def test_an_unconditional_network_has_no_conditions_for_classes():
    with pytest.raises(ValueError, match="conditions: expected a network that can be conditioned"):
        Unconditional().defaults(2, None)
    assert Unconditional().encode([None] * 3).shape == (3,)


def test_codes_without_places_are_refused():
    class Flat(LinearSpace):
        def __init__(self):
            super().__init__()
            self.alphas_cumprod, self.conditions = SPACE.alphas_cumprod, Unconditional()

        def encode_condition(self, conditions):
            return self.conditions.encode(conditions)

        def predict_noise(self, z, t, condition):
            return torch.zeros_like(z)

    space = Flat()
    with pytest.raises(ValueError, match="space: expected codes"):
        cfx.maskdime(space, lambda x: x.flatten(1)[:, :2], space.sample(2), 1)
