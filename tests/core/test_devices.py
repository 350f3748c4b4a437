"""Devices: which one is the default, and what is said of one that is not there."""

import pytest
import torch

from cfxnb.core import validate


@pytest.mark.parametrize(
    ("cuda", "mps", "best"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_best_device_is_the_default(monkeypatch, cuda, mps, best):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert validate.device(None) == torch.device(best)
    assert validate.device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("value", ["cpu", torch.device("cpu"), "meta"])
def test_devices_that_are_there(value):
    assert validate.device(value) == torch.device(value)


def without_cuda(*_, **__):
    raise AssertionError("Torch not compiled with CUDA enabled")


@pytest.mark.parametrize("value", ["toaster", "", ["cpu"], 1.5])
def test_devices_that_are_not_there(value):
    with pytest.raises(ValueError, match=r"^where: expected .*, got ") as caught:
        validate.device(value, "where")
    assert repr(value) in str(caught.value)


def test_a_torch_without_cuda(monkeypatch):
    monkeypatch.setattr(torch, "empty", without_cuda)
    with pytest.raises(ValueError, match=r"^device: expected .*, got str 'cuda'$"):
        validate.device("cuda")
