"""A coordinate that carries nothing is left alone, and counts in no distance."""

import pytest
import torch
from worlds import LinearSpace, code_classifier

import cfxnb as cfx
from cfxnb.core.tensors import standardise


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
