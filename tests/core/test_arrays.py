"""Images and classes as people have them: taken where unambiguous, refused with the remedy."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import cfxnb as cfx
from cfxnb.core import validate

GEN = np.random.default_rng(0)
BYTES = GEN.integers(0, 256, (4, 3, 8, 6), dtype=np.uint8)
RIGHT = torch.from_numpy(BYTES).float() / 255
PICTURES = [Image.fromarray(b) for b in BYTES.transpose(0, 2, 3, 1)]

TAKEN = {
    "tensor": RIGHT,
    "double": RIGHT.double(),
    "numpy": RIGHT.numpy(),
    "numpy double": RIGHT.double().numpy(),
    "other byte order": RIGHT.numpy().astype(">f4"),
    "negative strides": RIGHT.numpy()[::-1][::-1],
    "bytes": BYTES,
    "byte tensor": torch.from_numpy(BYTES),
    "0 to 255 as ints": BYTES.astype(np.int64),
    "0 to 255 as floats": BYTES.astype(np.float32),
    "channels last": RIGHT.numpy().transpose(0, 2, 3, 1),
    "channels last, tensor": RIGHT.permute(0, 2, 3, 1),
    "channels last, bytes": BYTES.transpose(0, 2, 3, 1),
    "pictures": PICTURES,
    "tuple of pictures": tuple(PICTURES),
    "list of tensors": list(RIGHT),
    "list of arrays": list(BYTES.transpose(0, 2, 3, 1)),
    "with gradient": RIGHT.clone().requires_grad_(),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_taken(kind):
    given = TAKEN[kind]
    before = given.copy() if isinstance(given, np.ndarray) else None
    found = validate.images(given)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    assert not found.requires_grad
    torch.testing.assert_close(found, RIGHT, atol=1e-6, rtol=0)
    if before is not None:
        assert np.array_equal(given, before)


@pytest.mark.parametrize("kind", TAKEN)
def test_taken_by_methods(kind):
    f = cfx.wrap(nn.Sequential(nn.Flatten(), nn.Linear(144, 2)))
    assert torch.equal(cfx.predict(f, TAKEN[kind]), cfx.predict(f, RIGHT))


ONE = {
    "colour": RIGHT[0],
    "colour, channels last": RIGHT[0].permute(1, 2, 0),
    "picture": PICTURES[0],
    "bytes": BYTES[0],
}
GRAY = torch.from_numpy(BYTES[:, :1]).float() / 255
ONE_GRAY = {
    "plane": GRAY[0, 0],
    "numpy plane": GRAY[0, 0].numpy(),
    "one channel": GRAY[0],
    "gray picture": Image.fromarray(BYTES[0, 0]),
}


def test_one_image_is_a_batch_of_one():
    for given in ONE.values():
        torch.testing.assert_close(validate.images(given), RIGHT[:1], atol=1e-6, rtol=0)
    for given in ONE_GRAY.values():
        torch.testing.assert_close(validate.images(given), GRAY[:1], atol=1e-6, rtol=0)
    gray = [Image.fromarray(b[0]) for b in BYTES]
    torch.testing.assert_close(validate.images(gray), GRAY, atol=1e-6, rtol=0)


NAN_IMAGE = RIGHT.clone()
NAN_IMAGE[2, 0, 0, 0] = torch.nan
REFUSED = {
    "gray batch or one image": (GRAY[:, 0], "missing axis"),
    "gray batch, numpy": (GRAY[:, 0].numpy(), "missing axis"),
    "either axis": (np.zeros((2, 3, 5, 1)), "second axis or the last"),
    "minus one to one": (2 * RIGHT - 1, r"\(x \+ 1\) / 2"),
    "standardised": ((RIGHT - 0.5) / 0.2, "undo any normalisation"),
    "0 to 255, not whole": (255 * RIGHT + 0.3 * (RIGHT < 0.5), "0, 1"),
    "mask": ((RIGHT > 0.5).to(torch.uint8), "mask or nearly black"),
    "classes": (np.ones((2, 1, 4, 4), np.int64) * 3, "mask or nearly black"),
    "bools": (RIGHT > 0.5, "bool"),
    "NaN": (NAN_IMAGE, "1 of 4 images"),
    "complex": (RIGHT.to(torch.complex64), "complex"),
    "empty": (RIGHT[:0], r"\(0, 3, 8, 6\)"),
    "empty list": ([], "list"),
    "objects": (np.array([None, "a"], dtype=object), "object"),
    "masked": (np.ma.masked_array(RIGHT.numpy(), BYTES > 9), "masked"),
    "sparse": (RIGHT.to_sparse(), "sparse"),
    "meta": (RIGHT.to("meta"), "meta"),
    "transparent": (Image.new("RGBA", (4, 4)), "RGBA"),
    "sixteen bits": (Image.new("I;16", (4, 4)), "I;16"),
    "unequal sizes": ([Image.new("L", (4, 4)), Image.new("L", (5, 4))], "resize"),
    "negative": (np.full((1, 1, 2, 2), -3), "-3"),
    "path": ("cat.png", "str"),
    "five axes": (RIGHT[None], r"\(1, 4, 3, 8, 6\)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_the_remedy(kind):
    value, told = REFUSED[kind]
    with pytest.raises((ValueError, TypeError), match=rf"^images: expected.*{told}"):
        validate.images(value)


TARGETS = {
    "int": 2,
    "numpy int": np.int64(2),
    "small int": np.uint8(2),
    "0-dim array": np.array(2),
    "0-dim tensor": torch.tensor(2),
    "list": [2, 2, 2],
    "tuple": (2, 2, 2),
    "list of numpy": [np.int32(2)] * 3,
    "array": np.array([2, 2, 2], np.int16),
    "byte tensor": torch.tensor([2, 2, 2], dtype=torch.uint8),
    "series": pd.Series([2, 2, 2], index=[9, 8, 7]),
    "nullable series": pd.Series([2, 2, 2], dtype="Int64"),
    "name": "cow",
    "names": ["cow", "cow", "cow"],
    "array of names": np.array(["cow"] * 3),
    "series of names": pd.Series(["cow"] * 3, dtype="string"),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_targets_that_are_taken(kind):
    found = validate.labels(TARGETS[kind], 3, 4, names=("cat", "dog", "cow", "hen"))
    assert found.dtype == torch.int64
    assert found.tolist() == [2, 2, 2]


WRONG = {
    "float": 2.0,
    "floats": [2.0, 2.0, 2.0],
    "bool": True,
    "bools": [True, False, True],
    "numpy bool": np.bool_(True),
    "none": None,
    "huge": 10**30,
    "huge ones": [10**30] * 3,
    "unknown name": "horse",
    "mixed": [1, "cat", 2],
    "missing": pd.Series([1, None, 2], dtype="Int64"),
    "NaN": [1, np.nan, 2],
    "ragged": [[1], [1, 2]],
    "dict": {0: 1},
    "set": {1},
    "object": object(),
    "complex": np.array([1j]),
    "dates": np.array(["2020-01-01"], "datetime64[D]"),
    "meta": torch.ones(3, dtype=torch.int64, device="meta"),
    "too large": [0, 1, 4],
    "negative": -1,
}


@pytest.mark.parametrize("kind", WRONG)
def test_targets_that_are_refused(kind):
    with pytest.raises((ValueError, TypeError), match=r"^target: expected"):
        validate.labels(WRONG[kind], 3, 4, names=("cat", "dog", "cow", "hen"))


def test_names_need_a_classifier_that_has_them():
    with pytest.raises(ValueError, match="target: expected class numbers, or names"):
        cfx.pixel_attack(nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), RIGHT, "cat")
    f = cfx.wrap(nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), labels=["cat", "dog"])
    by_name = cfx.pixel_attack(f, RIGHT, ["dog", "cat", "dog", "cat"])
    assert by_name.target.tolist() == [1, 0, 1, 0]
