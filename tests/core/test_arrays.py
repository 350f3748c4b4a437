"""Images and classes as people have them: taken where unambiguous, refused with the remedy."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import cfxnb as cfx
from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier

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
    "0 to 255 without a sign": BYTES.astype(np.uint16),
    "tensor without a sign": torch.from_numpy(BYTES).to(torch.uint32),
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
    assert torch.equal(cfx.predict_logits(f, TAKEN[kind]), cfx.predict_logits(f, RIGHT))


ONE = {
    "colour": RIGHT[0],
    "colour, channels last": RIGHT[0].permute(1, 2, 0),
    "picture": PICTURES[0],
    "bytes, channels last": BYTES[0].transpose(1, 2, 0),
    "byte tensor": torch.from_numpy(BYTES[0]),
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
    "three gray ones or a colour": (RIGHT[0].numpy(), "missing axis"),
    "either axis": (np.zeros((2, 3, 5, 1)), "second axis or the last"),
    "transparency last": (np.zeros((2, 8, 8, 4), np.uint8), "transparency"),
    "transparency last, tensor": (torch.zeros(2, 8, 8, 4), "transparency"),
    "gray and transparency last": (np.zeros((2, 8, 8, 2)), "last axis"),
    "0 to 16 as floats": (torch.from_numpy(BYTES % 17).float(), "largest possible value"),
    "0 to 16 as ints": ((BYTES % 17).astype(np.int64), "largest possible value"),
    "0 to 100 as floats": (torch.from_numpy(BYTES % 101).float(), "largest possible value"),
    "16 bits": (BYTES.astype(np.uint16) * 257, "0 to 255"),
    "nested": (torch.nested.nested_tensor([RIGHT[0]], layout=torch.jagged), "nested"),
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
    "sixteen bits": (Image.new("I;16", (4, 4)), "I;16.*65535"),
    "picture of floats": (Image.new("F", (4, 4)), "F.*largest possible value"),
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


def test_how_an_image_is_read_does_not_depend_on_its_batch_mates():
    dark = torch.from_numpy(BYTES % 100).float()
    dark[0] /= 99
    mixed = [
        torch.cat([dark[1:2], torch.from_numpy(BYTES).float()]),
        torch.cat([dark[0:1], torch.from_numpy(BYTES).float()]),
        torch.cat([(RIGHT[:1] > 0.5).float(), torch.from_numpy(BYTES).float()]),
    ]
    for images in mixed:
        with pytest.raises(ValueError, match=r"images: expected values in .0, 1."):
            validate.images(images)
    black = torch.cat([torch.zeros(1, 3, 8, 6), torch.from_numpy(BYTES).float()])
    torch.testing.assert_close(validate.images(black)[1:], RIGHT)


def test_a_nearly_black_picture_is_a_picture():
    assert validate.images(Image.new("L", (4, 4), 1)).max() == pytest.approx(1 / 255)


def test_pictures_that_cannot_be_read_are_told_as_images(tmp_path):
    PICTURES[0].resize((99, 99)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:300])
    closed = Image.open(tmp_path / "whole.png")
    closed.close()
    with Image.open(tmp_path / "cut.png") as cut:
        for picture in (closed, cut):
            with pytest.raises(ValueError, match=r"^images: expected pictures that can be read"):
                validate.images(picture)
    with pytest.raises(ValueError, match=r"^images\[1\]: expected pictures that can be read"):
        validate.images([PICTURES[0], closed])


F = cfx.wrap(nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), mean=0.4, std=0.2)
CALLED = {
    "wrapped": F,
    "black box": cfx.BlackBox(F),
    "black box of a function": cfx.BlackBox(lambda x: F(x)),
    "one label": cfx.select_label(F, 1),
}


@pytest.mark.parametrize("kind", CALLED)
def test_a_call_reads_images_as_the_methods_do(kind):
    f = CALLED[kind]
    for given in (*TAKEN.values(), *ONE.values()):
        torch.testing.assert_close(f(given).detach(), cfx.predict_logits(f, given))
    for given, told in REFUSED.values():
        with pytest.raises((ValueError, TypeError), match=rf"^images: expected.*{told}"):
            f(given)


def test_gradients_pass_the_reading():
    weight = F.module[1].weight / 0.2
    for x in (RIGHT, RIGHT + 5e-5, RIGHT - 5e-5):
        x = x.clone().requires_grad_()
        F(x)[:, 1].sum().backward()
        torch.testing.assert_close(x.grad.flatten(1), weight[1].expand(4, -1))
    last = RIGHT.permute(0, 2, 3, 1).clone().requires_grad_()
    F(last)[:, 1].sum().backward()
    torch.testing.assert_close(last.grad.permute(0, 3, 1, 2).flatten(1), weight[1].expand(4, -1))


def test_an_image_of_a_generator_that_does_not_clamp_is_taken_as_it_is():
    code = RIGHT.clone().requires_grad_()
    right = F.module((RIGHT * 1.4 - 0.2 - 0.4) / 0.2)
    torch.testing.assert_close(F(code * 1.4 - 0.2), right)
    for given in (RIGHT * 1.4 - 0.2, code * 2 - 1, code * 200.5):
        with pytest.raises(ValueError, match=r"images: expected values in .0, 1."):
            F(given)


def test_methods_may_ask_about_noisy_images_beyond_the_range():
    """SmoothGrad and its kind leave [0, 1]; these images were read when the call began."""
    noisy = RIGHT + 0.3
    right = F.module((noisy - 0.4) / 0.2)
    torch.testing.assert_close(CheckedClassifier(F)(noisy), right)


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
    "masked": np.ma.masked_array([0, 1, 2], mask=[0, 1, 0]),
}


@pytest.mark.parametrize("kind", WRONG)
def test_targets_that_are_refused(kind):
    with pytest.raises((ValueError, TypeError), match=r"^target: expected"):
        validate.labels(WRONG[kind], 3, 4, names=("cat", "dog", "cow", "hen"))


def test_names_need_a_classifier_that_has_them():
    with pytest.raises(ValueError, match=r"target: expected class numbers, .* no class names"):
        cfx.pixel_attack(nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), RIGHT, "cat")
    f = cfx.wrap(nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), class_names=["cat", "dog"])
    by_name = cfx.pixel_attack(f, RIGHT, ["dog", "cat", "dog", "cat"])
    assert by_name.target.tolist() == [1, 0, 1, 0]


def test_a_number_is_no_name_of_another_class():
    def read(target, names=("1", "2", "3")):
        return validate.labels(target, 3, 3, names=names).tolist()

    assert read("2") == [1, 1, 1]
    assert read(0) == [0, 0, 0]
    assert read(torch.tensor([0, 1, 2])) == [0, 1, 2]  # tensors come from argmax
    assert read([0, 1, 2], names=("0", "1", "2")) == [0, 1, 2]
    for target in (2, 3, [0, 1, 2], np.array([1, 2, 3])):
        with pytest.raises(ValueError, match=r"target: expected a name of a class.*count from 0"):
            read(target)


MASKED = np.ma.masked_array([1, 0, 1], mask=[0, 0, 1])


@pytest.mark.parametrize(
    "check",
    [
        lambda: validate.mask(MASKED.astype(bool), "value", 3),
        lambda: validate.array(MASKED, "value"),
        lambda: validate.decisions(MASKED, "value"),
        lambda: validate.groups(MASKED, "value"),
        lambda: validate.logits(np.ma.masked_array(np.eye(3), np.eye(3)), 3, "value"),
    ],
)
def test_masks_of_arrays_are_not_forgotten(check):
    with pytest.raises(TypeError, match="value: expected plain numbers, got a masked array"):
        check()


@pytest.mark.parametrize("kind", [">f4", ">f8", np.longdouble, np.float16])
def test_logits_in_any_format_of_numpy(kind):
    right = np.array([[0.5, -1.0], [2.0, 3.0]])
    assert validate.logits(right.astype(kind), 2).tolist() == right.tolist()
