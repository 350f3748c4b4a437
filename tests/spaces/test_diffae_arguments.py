"""load_diffae: wrong arguments."""

import io

import pytest
import torch
from wrong import count_values

from cfxnb.nets import DiffAE
from cfxnb.spaces import load_diffae

NET = {"size": 16, "base": 8, "dims": 8, "blocks": 1, "encoder_blocks": 1}
WRONG = {
    "path": {
        "None": (None, "NoneType"),
        "number": (3, "int"),
        "bytes": (b"net.ckpt", "bytes"),
        "list": (["net.ckpt"], "list"),
        "open file": (io.BytesIO(b""), "BytesIO"),
        "nothing there": ("no/such.ckpt", "nothing there"),
        "null": ("no\0file", "nothing there"),
        "folder": (".", "a folder"),
    },
    "image_size": count_values(0, -1) | {"too small": (2, "2"), "odd": (33, "33")},
    "device": {"unknown": ("toaster", "toaster"), "number": ([1], "[1]")},
    "steps": count_values(0, 1) | {"no stride": (999, "999")},
    "inversion_steps": count_values(-1),
    "seed": count_values(-1),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("diffae") / "x.pt"
    torch.save(DiffAE(**NET).state_dict(), file)
    return file


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name, kinds in WRONG.items()
        for kind in kinds
        if (name, kind) != ("image_size", "None")
    ],
)
def test_wrong_arguments(path, name, kind):
    value, told = WRONG[name][kind]
    with pytest.raises((ValueError, TypeError)) as caught:
        load_diffae(**{"path": path, "device": "cpu"} | {name: value})
    assert str(caught.value).startswith(f"{name}: expected ")
    assert told in str(caught.value)


def test_the_right_arguments_are_right(path):
    assert load_diffae(str(path), device="cpu", image_size=32, steps=4).net.dims == 8
    assert load_diffae(path).mean.shape == (8,)


def test_a_size_that_the_file_contradicts(path, tmp_path):
    state = DiffAE(**NET).state_dict() | {"x_T": torch.zeros(1, 3, 16, 16)}
    torch.save(state, tmp_path / "x.pt")
    assert load_diffae(tmp_path / "x.pt", device="cpu", image_size=16)
    with pytest.raises(ValueError, match="image_size: expected 16, as this file has it, got 32"):
        load_diffae(tmp_path / "x.pt", device="cpu", image_size=32)


def test_unknown_knobs(path):
    with pytest.raises(TypeError, match="stesp"):
        load_diffae(path, device="cpu", stesp=4)
