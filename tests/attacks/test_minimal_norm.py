"""The pixel attack that looks for the smallest change: closed forms, and DDN as a yardstick."""

import math

import pytest
import torch
import torch.nn.functional as F
from worlds import LinearSpace, code_classifier

import cfxnb as cfx


def ddn(f, x, target, steps=100, gamma=0.05):
    """Decoupled direction and norm (Rony et al., CVPR 2019), as the paper and foolbox have it."""
    per_image = (-1, 1, 1, 1)
    change, radius = torch.zeros_like(x), torch.ones(len(x))
    worst = torch.maximum(x, 1 - x).flatten(1).norm(dim=1)
    best, shortest = torch.zeros_like(x), worst.clone()
    found = torch.zeros(len(x), dtype=torch.bool)
    for step in range(steps):
        point = (x + change).requires_grad_()
        logits = f(point)
        slope = torch.autograd.grad(F.cross_entropy(logits, target, reduction="sum"), point)[0]
        reached = logits.argmax(1) == target
        length = change.flatten(1).norm(dim=1)
        better = reached & (length <= shortest)
        found |= reached
        shortest = torch.where(better, length, shortest)
        best = torch.where(better.view(per_image), change, best)
        size = 0.01 + 0.99 / 2 * (1 + math.cos(math.pi * step / steps))
        change = change - size * slope / slope.flatten(1).norm(dim=1).view(per_image)
        radius = torch.minimum(radius * torch.where(reached, 1 - gamma, 1 + gamma), worst)
        change = change * (radius / change.flatten(1).norm(dim=1)).view(per_image)
        change = (x + change).clamp(0, 1) - x
    return best, found


def lengths(result):
    return (result.image - result.original).flatten(1).norm(dim=1)


@pytest.mark.parametrize("confidence", [None, 0.5, 0.9])
def test_a_linear_classifier_is_crossed_at_its_distance(confidence):
    space = LinearSpace()
    f = code_classifier(space, torch.tensor([[0.5, -0.5, 0.5, 0.5]]), 2.0)
    w = f.module.weight[0].detach()
    x = space.sample(6, 3)
    x = x[f(x).argmax(1) == 0]
    result = cfx.pixel_attack(f, x, 1, minimal_norm=True, confidence=confidence)
    assert result.flipped.all()
    need = math.log(9) if confidence == 0.9 else 0.0
    exact = (need - f(x)[:, 1]) / w.norm()
    torch.testing.assert_close(lengths(result), exact, rtol=2e-3, atol=1e-4)
    assert (lengths(result) >= exact - 1e-6).all()


def test_what_lies_beyond_epsilon_is_not_found():
    space = LinearSpace()
    f = code_classifier(space, torch.tensor([[0.5, -0.5, 0.5, 0.5]]), 2.0)
    x = space.sample(6, 3)
    x = x[f(x).argmax(1) == 0]
    shortest = lengths(cfx.pixel_attack(f, x, 1, minimal_norm=True))
    epsilon = float(shortest.median()) * 1.01
    result = cfx.pixel_attack(f, x, 1, minimal_norm=True, epsilon=epsilon)
    assert torch.equal(result.flipped, shortest < epsilon)
    assert lengths(result).max() <= epsilon + 1e-5


def test_not_longer_than_ddn_with_as_many_steps():
    f, digits = cfx.load("digits/classifier"), cfx.data.digits(split="test").images[200:216]
    target = (f(digits).argmax(1) + 1) % 10
    theirs, found = ddn(f, digits, target)
    result = cfx.pixel_attack(f, digits, target, minimal_norm=True)
    assert found.all()
    assert result.flipped.all()
    ratio = lengths(result) / theirs.flatten(1).norm(dim=1)
    assert ratio.median() <= 1.0
    assert (result.cost["classifier"] == 2 + 101 + 100).all()


def test_it_is_shorter_than_the_shrunk_attack():
    f, digits = cfx.load("digits/classifier"), cfx.data.digits(split="test").images[216:224]
    target = (f(digits).argmax(1) + 3) % 10
    plain = cfx.pixel_attack(f, digits, target, confidence=0.5)
    short = cfx.pixel_attack(f, digits, target, confidence=0.5, minimal_norm=True)
    assert short.flipped.all()
    assert (short.confidence >= 0.5 - 1e-4).all()
    assert (lengths(short) < lengths(plain)).all()
