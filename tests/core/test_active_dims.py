"""A coordinate that carries nothing is left alone, and counts in no distance."""

import pytest
import torch
from torch import nn
from worlds import LinearSpace, code_classifier

import cfxnb as cfx
from cfxnb.core.tensors import standardise, typical_distance
from cfxnb.flows.velocity import FittedFlow


@pytest.fixture
def half_dead():
    """Two coordinates are used, one hardly, one not at all."""
    return LinearSpace(std=torch.tensor([1.0, 0.5, 0.005, 0.0]))


def test_distances_leave_them_out(half_dead):
    change = torch.tensor([[3.0, 2.0, 1.0, 1.0]])
    assert standardise(change, half_dead.std).tolist() == [[3.0, 4.0, 0.0, 0.0]]


def test_gradients_pass_beside_them(half_dead):
    change = torch.tensor([[3.0, 2.0, 1.0, 1.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(standardise(change, half_dead.std).sum(), change)
    assert gradient.tolist() == [[1.0, 2.0, 0.0, 0.0]]


@pytest.mark.parametrize("units", ["std", "code"])
def test_searches_do_not_move_them(half_dead, units):
    z = torch.tensor([[-1.0, 0.3, 0.2, -0.1], [-0.5, -0.2, 0.4, 0.3]])
    f = code_classifier(half_dead, torch.tensor([[1.0, 0.5, 0.5, 0.5]]), 8.0)
    result = cfx.latent_attack(half_dead, f, half_dead.decode(cfx.Code(z)), 1, units=units)
    assert result.flipped.all()
    moved = result.code_after.z - result.code_before.z
    assert torch.equal(moved[:, 2:], torch.zeros(2, 2))
    chance = cfx.random_change(half_dead, f, result)
    aside = chance.code_after.z - chance.code_before.z
    assert torch.equal(aside[:, 2:], torch.zeros(2, 2))
    torch.testing.assert_close(
        standardise(aside, half_dead.std).norm(dim=1),
        standardise(moved, half_dead.std).norm(dim=1),
    )


def correlated():
    """Four coordinates that vary together along two axes only."""
    space = LinearSpace()
    axes = torch.linalg.qr(torch.randn(4, 2, generator=torch.Generator().manual_seed(3))).Q.T
    space.axes, space.variances = axes.contiguous(), torch.tensor([2.5, 1.5])
    return space


class TowardsClass(nn.Module):
    """Velocities that point to class 1 or 0, whatever the axes are."""

    def forward(self, u, condition, t):
        return condition @ torch.tensor([[-1.0, -0.5, 0.5, -0.3], [1.0, 0.5, -0.5, 0.3]])


def walked(space):
    """Code changes of all methods that move codes in a space, for images of two classes."""
    codes = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    images = space.decode(cfx.Code(codes @ torch.eye(4)[:2] if len(space.axes) == 4 else
                                   codes * space.variances.sqrt() @ space.axes))  # fmt: skip
    f = code_classifier(space, torch.tensor([[1.0, 0.5, -0.5, 0.3]]), 8.0)
    target = 1 - f(images).argmax(1)
    attack = cfx.latent_attack(space, f, images, target)
    flow = FittedFlow(TowardsClass(), space.mean, space.std, 2)
    walk = cfx.flow_counterfactual(space, f, images, target, flow=flow, confidence=0.5)
    found = [attack, cfx.random_change(space, f, attack), walk]
    return [x.code_after.z - x.code_before.z for x in found]


def test_codes_move_along_the_active_axes_only():
    """Nothing leaves the span of the axes, which two of four coordinates would allow."""
    space = correlated()
    for moved in walked(space):
        assert moved.norm(dim=1).max() > 0.01
        outside = moved - moved @ space.axes.T @ space.axes
        assert outside.abs().max() < 1e-5


def test_axes_of_all_coordinates_change_nothing():
    space, silent = LinearSpace(), LinearSpace()
    del silent.axes, silent.variances
    silent.axes = torch.eye(4)
    space.axes = torch.linalg.qr(torch.randn(4, 4)).Q
    for a, b in zip(walked(space), walked(silent), strict=True):
        assert torch.equal(a, b)


def test_typical_distance_is_that_of_correlated_codes_too():
    space = correlated()
    noise = torch.randn(2, 4000, 2, generator=torch.Generator().manual_seed(1))
    codes = noise * space.variances.sqrt() @ space.axes
    root_mean_square = (codes[0] - codes[1]).square().sum(1).mean().sqrt()
    assert root_mean_square == pytest.approx(typical_distance(space.std), rel=0.03)
