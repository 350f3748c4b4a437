"""Convolutions with fewer multiplications are the same convolutions."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cfxnb.core.constant_weights import are_constant, constant_weights, derived
from cfxnb.nets.convolutions import LEAST_CHANNELS, Conv3x3, upsample, upsampled_conv

MANY = LEAST_CHANNELS


def images(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def made(inside, outside):
    torch.manual_seed(1)
    return Conv3x3(inside, outside).requires_grad_(False)


def plainly(conv, x):
    """In double precision, by torch."""
    bias = None if conv.bias is None else conv.bias.double()
    return F.conv2d(x.double(), conv.weight.double(), bias, padding=1)


@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 4, 6), (2, 16, 8), (1, 5, 4)])
@pytest.mark.parametrize(("inside", "outside"), [(MANY, MANY + 3), (MANY + 1, MANY), (5, 7)])
@torch.no_grad()
def test_it_is_the_convolution(shape, inside, outside):
    conv, x = made(inside, outside), images(shape[0], inside, *shape[1:])
    for layout in (torch.contiguous_format, torch.channels_last):
        given = x.contiguous(memory_format=layout)
        with constant_weights():
            found = conv(given)
        torch.testing.assert_close(found.double(), plainly(conv, x), rtol=0, atol=2e-6)
        torch.testing.assert_close(conv(given), found, rtol=0, atol=1e-5)
        assert torch.equal(given, x)


@torch.no_grad()
def test_without_a_bias_and_with_little_workspace(monkeypatch):
    conv, x = made(MANY, MANY), images(3, MANY, 4, 4)
    conv.bias = None
    with constant_weights():
        whole = conv(x)
        monkeypatch.setattr("cfxnb.nets.convolutions.WORKSPACE", 1)
        torch.testing.assert_close(conv(x), whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(whole.double(), plainly(conv, x), rtol=0, atol=2e-6)


def test_gradients_are_those_of_the_convolution():
    conv, x = made(MANY, MANY).requires_grad_(), images(1, MANY, 4, 4).requires_grad_()
    with constant_weights():
        found = torch.autograd.grad(conv(x).square().sum(), [x, conv.weight])
    wanted = torch.autograd.grad(plainly(conv, x).square().sum(), [x, conv.weight])
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 4), (3, 7, 5)])
def test_upsampling_before_the_convolution(shape, layout):
    conv = made(6, 4).requires_grad_()
    x = images(shape[0], 6, *shape[1:]).contiguous(memory_format=layout).requires_grad_()
    large = F.interpolate(x.double(), scale_factor=2, mode="nearest")
    assert torch.equal(upsample(x).double(), large)
    found, wanted = upsampled_conv(conv, x), plainly(conv, large)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2e-6)
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), [x, conv.weight]),
        torch.autograd.grad(wanted.square().sum(), [x, conv.weight]),
        strict=True,
    ):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_weights_are_cast_once(monkeypatch):
    conv, x, casts = made(3, 4), images(2, 3, 4, 4), []
    plain = torch.Tensor.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        wanted = conv(x)
        monkeypatch.setattr(torch.Tensor, "bfloat16", lambda w: (casts.append(1), plain(w))[1])
        with constant_weights():
            assert torch.equal(conv(x), wanted)
            assert torch.equal(conv(x), wanted)
    assert wanted.dtype == torch.bfloat16
    assert len(casts) == 1


def test_weights_that_change_are_noticed():
    """Between two blocks, and in place within one."""
    conv, x = made(MANY, MANY), images(1, MANY, 4, 4)
    with torch.no_grad(), constant_weights():
        before = conv(x), upsampled_conv(conv, x)
        conv.weight.mul_(2)
        conv.bias.mul_(2)
        after = conv(x), upsampled_conv(conv, x)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(2 * one, other)
    conv.weight.data.zero_()
    with torch.no_grad(), constant_weights():
        torch.testing.assert_close(conv(x), conv.bias[:, None, None].expand(1, MANY, 4, 4))


def test_values_are_computed_once_in_a_block_and_never_kept():
    weights, calls = torch.ones(2), []

    def double(w):
        calls.append(1)
        return 2 * w

    for _ in range(2):
        derived(weights, double)
    assert len(calls) == 2
    with constant_weights():
        with constant_weights():
            derived(weights, double)
        assert are_constant()
        derived(weights, double)
    assert len(calls) == 3
    assert not are_constant()
    with constant_weights():  # a graph must not be used twice
        trained = weights.clone().requires_grad_()
        assert derived(trained, double).requires_grad
        assert derived(trained, double) is not derived(trained, double)
        with torch.no_grad():
            assert derived(trained, double) is derived(trained, double)


def test_names_of_weights_are_those_of_a_convolution():
    assert made(2, 3).state_dict().keys() == nn.Conv2d(2, 3, 3).state_dict().keys()
