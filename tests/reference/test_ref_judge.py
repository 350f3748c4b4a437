"""The judge against values that its source's architecture gave in float64."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import cfxnb as cfx
from cfxnb.core import locations as paths
from cfxnb.nets import LeNet5


@pytest.fixture(scope="module")
def check():
    return load_file(paths.data() / "oracles" / "mnist_lenet5.check.safetensors")


@pytest.fixture(scope="module")
def net():
    net = LeNet5().eval()
    net.load_state_dict(load_file(paths.data() / "oracles" / "mnist_lenet5.safetensors"))
    return net


@torch.no_grad()
def test_logits_and_features(check, net):
    images = F.pad(check["images"], (2, 2, 2, 2))
    torch.testing.assert_close(net(images), check["logits"], rtol=0, atol=1e-4)
    torch.testing.assert_close(net.features(images), check["features"], rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_check_images_are_the_first_digits(check, test_digits):
    served = test_digits.images[:16]
    torch.testing.assert_close(served, F.pad(check["images"], (2, 2, 2, 2)), rtol=0, atol=1e-6)
    assert torch.equal(test_digits.labels[:16], check["labels"])


@torch.no_grad()
def test_the_shipped_judge_is_that_net(check):
    judge = cfx.load("digits/judge", device="cpu")
    images = F.pad(check["images"], (2, 2, 2, 2))
    torch.testing.assert_close(judge(images), check["logits"], rtol=0, atol=1e-4)


@torch.no_grad()
def test_accuracy_is_that_of_its_card(net, test_digits):
    """0.9908 with the resize of its training; 0.9861 if the padding were fed in instead."""
    right = cfx.predict_logits(cfx.wrap(net), test_digits.images).argmax(1) == test_digits.labels
    assert right.double().mean().item() == pytest.approx(0.9908, abs=5e-5)
