"""Wrong arguments of the nets that others trained, and of the distance in their features."""

import pytest
import torch
from wrong_scores import check_message, rows

from cfxnb.metrics import perceptual_distance
from cfxnb.nets import AgeGender, FaceExpression, SmileJudge, SqueezeNet
from cfxnb.nets.face_nets import enlarged
from cfxnb.nets.squeezenet import LAYERS

X = torch.full((2, 3, 32, 32), 0.5)
NET = SqueezeNet()
BATCHES = {
    "None": (None, "NoneType"),
    "array": (X.numpy(), "ndarray"),
    "text": ("faces", "str"),
    "no batch": (X[0], "(3, 32, 32)"),
    "bytes": ((X * 255).to(torch.uint8), "uint8"),
    "two channels": (X[:, :2], "(2, 2, 32, 32)"),
    "no pixels": (X[..., :0], "(2, 3, 32, 0)"),
}
FACES = BATCHES | {"gray": (X[:, :1], "(2, 1, 32, 32)")}
SMALL = BATCHES | {"small": (X[..., :30], "(2, 3, 32, 30)")}
LAYER_VALUES = {
    "None": (None, "None"),
    "text": ("conv1", "'conv1'"),
    "empty": ((), "none"),
    "unknown": (("conv1", "fire1"), "'fire1'"),
    "number": (3, "3"),
}


def face_net(kind):
    def call(images):
        return kind()(images)

    call.__name__ = kind.__name__
    return call


def squeezed(images, layers=LAYERS):
    return NET(images, layers)


TABLE = {
    enlarged: ({"images": X}, {"images": FACES}),
    AgeGender().age: ({"images": X}, {"images": FACES}),
    squeezed: ({"images": X}, {"images": SMALL, "layers": LAYER_VALUES}),
    perceptual_distance: (
        {"net": NET, "a": X, "b": X},
        {
            "net": {
                "None": (None, "NoneType"),
                "name": ("faces/features", "str"),
                "another": (torch.nn.Flatten(), "Flatten"),
            },
            "a": SMALL | {"short": (X[:1], "(1, 3, 32, 32)")},
            "b": SMALL | {"short": (X[:1], "(1, 3, 32, 32)"), "gray": (X[:, :1], "(2, 1, 32, 32)")},
            "layers": LAYER_VALUES,
        },
    ),
} | {face_net(kind): ({"images": X}, {"images": FACES}) for kind in (FaceExpression, SmileJudge)}


@pytest.mark.parametrize(("function", "arguments", "argument", "told"), rows(TABLE))
def test_wrong_argument(function, arguments, argument, told):
    check_message(function, arguments, argument, told)


@pytest.mark.parametrize("function", TABLE, ids=lambda f: f.__name__)
def test_right_arguments_are_accepted(function):
    assert function(**TABLE[function][0]) is not None
