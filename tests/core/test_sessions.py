"""Sessions of ONNX Runtime: type, shape and outputs are those that they tell."""

import numpy as np
import pytest
import torch
from torch import nn
from worlds import LinearSpace

import cfxnb as cfx

SPACE = LinearSpace(shape=(1, 8, 8), scale=0.05)
X = SPACE.sample(5, 5)
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}


def net():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()


NET = net()
RIGHT = NET(X).detach()


class Value:
    """An input or output of a session."""

    def __init__(self, name, shape=(None, 1, 8, 8), type="tensor(float)"):
        self.name, self.shape, self.type = name, list(shape), type


class Session:
    """As strict about type and shape as ONNX Runtime."""

    def __init__(self, given, outputs=None, gray_last=False):
        self.given, self.gray_last = given, gray_last
        self.outputs = outputs or [Value("scores")]

    def get_inputs(self):
        return [self.given]

    def get_outputs(self):
        return list(self.outputs)

    def run(self, names, feed):
        x = feed[self.given.name]
        assert x.dtype == TYPES[self.given.type]
        assert all(
            w in (n, None, "batch_size") for w, n in zip(self.given.shape, x.shape, strict=True)
        )
        x = torch.from_numpy(x.astype(np.float32) / (255 if x.dtype == np.uint8 else 1))
        x = x.permute(0, 3, 1, 2) if self.gray_last else x
        logits = NET(x).detach().numpy()
        answers = {"hidden": x.flatten(1).numpy(), "label": logits.argmax(1)}
        return [answers.get(name, logits) for name in names or [o.name for o in self.outputs]]


@pytest.mark.parametrize("kind", TYPES)
def test_images_are_given_in_the_type_of_the_input(kind):
    found = cfx.predict_logits(Session(Value("pixels", type=kind)), X)
    near = 1e-5 if kind in ("tensor(float)", "tensor(double)") else 0.02
    torch.testing.assert_close(found, RIGHT, atol=near, rtol=near)


@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_a_fixed_number_of_rows_is_served(rows):
    found = cfx.predict_logits(Session(Value("pixels", (rows, 1, 8, 8))), X)
    torch.testing.assert_close(found, RIGHT)


def test_channels_last_and_named_sides():
    last = Session(Value("pixels", ("batch_size", 8, 8, 1)), gray_last=True)
    torch.testing.assert_close(cfx.predict_logits(last, X), RIGHT)
    torch.testing.assert_close(
        cfx.predict_logits(Session(Value("pixels", ("batch_size", 1, 8, 8))), X), RIGHT
    )


def test_the_output_of_logits_is_taken():
    hidden, label = Value("hidden"), Value("label", type="tensor(int64)")
    for outputs in ((hidden, Value("logits")), (Value("logits"), hidden), (label, Value("scores"))):
        found = cfx.predict_logits(Session(Value("pixels"), outputs), X)
        torch.testing.assert_close(found, RIGHT)


MANY = (Value("hidden"), Value("scores"))
REFUSED = {
    "several outputs": (lambda: Session(Value("pixels"), MANY), r"\['hidden', 'scores'\]"),
    "maps of probabilities": (
        lambda: Session(Value("pixels"), [Value("p", type="seq(map(int64,tensor(float)))")]),
        "one output of floats",
    ),
    "words": (
        lambda: Session(Value("pixels"), [Value("label", type="tensor(string)")]),
        "one output of floats",
    ),
    "other size": (lambda: Session(Value("pixels", (None, 1, 16, 16))), "size="),
    "other channels": (lambda: Session(Value("pixels", (None, 3, 8, 8))), "channels="),
    "rows of pixels": (lambda: Session(Value("pixels", (None, 64))), r"takes \(b, c, h, w\)"),
    "whole numbers": (lambda: Session(Value("pixels", type="tensor(int64)")), "floats or bytes"),
    "bytes after normalisation": (
        lambda: cfx.wrap(Session(Value("pixels", type="tensor(uint8)")), mean=0.5, std=0.2),
        "no normalisation",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_the_remedy(kind):
    make, told = REFUSED[kind]
    with pytest.raises((ValueError, TypeError), match=rf"^\w+: expected.*{told}"):
        cfx.predict_logits(make(), X)


def test_what_the_runtime_says_is_told_of_the_images():
    class Failing(Session):
        def run(self, names, feed):
            raise Exception("INVALID_ARGUMENT")  # ONNX Runtime's errors are no RuntimeErrors

    with pytest.raises(ValueError, match=r"^images: expected such as .*INVALID_ARGUMENT"):
        cfx.predict_logits(Failing(Value("pixels")), X)
