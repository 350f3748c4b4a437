"""The distance in SqueezeNet features, by single positions and single channels."""

import math

import pytest
import torch

import cfxnb as cfx
from cfxnb.metrics import perceptual_distance
from cfxnb.nets.squeezenet import DISTANCE_LAYERS


@pytest.fixture(scope="module")
def net():
    return cfx.load("faces/features", "cpu")


@pytest.fixture
def pairs():
    """Three pairs of pictures, the last of them equal."""
    a, b = torch.rand(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return a, torch.stack([b[0], (a[1] + 0.01).clamp(0, 1), a[2]])


def by_hand(net, a, b, tap):
    """One pair (c, h, w), one position after another."""
    x, y = (net(image[None])[tap][0].double() for image in (a, b))
    total, cells = 0.0, 0
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            u, v = x[:, i, j].tolist(), y[:, i, j].tolist()
            long_u, long_v = (math.sqrt(sum(c * c for c in w)) for w in (u, v))
            pairs = zip(u, v, strict=True)
            total += sum((p / long_u - q / long_v) ** 2 for p, q in pairs)
            cells += 1
    return total / cells


@torch.no_grad()
def test_single_positions(net, pairs):
    a, b = pairs
    for tap in ("fire5", "fire9"):
        expected = [by_hand(net, *pair, tap) for pair in zip(a, b, strict=True)]
        found = perceptual_distance(net, a, b, layers=(tap,))
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_taps_count_alike(net, pairs):
    single = [perceptual_distance(net, *pairs, layers=[tap]) for tap in DISTANCE_LAYERS]
    torch.testing.assert_close(perceptual_distance(net, *pairs), torch.stack(single).mean(0))


@torch.no_grad()
def test_symmetric_bounded_and_zero_if_equal(net, pairs):
    a, b = pairs
    found = perceptual_distance(net, a, b)
    torch.testing.assert_close(found, perceptual_distance(net, b, a))
    assert found[2] == 0
    assert 0 < found[1] < found[0] < 2


@torch.no_grad()
def test_batch_mates_do_not_matter(net, pairs):
    a, b = pairs
    alone = torch.cat([perceptual_distance(net, a[[i]], b[[i]]) for i in range(3)])
    torch.testing.assert_close(perceptual_distance(net, a, b), alone, rtol=1e-4, atol=1e-6)


def test_gradients_reach_both_and_stay_finite(net, pairs):
    """Also where no feature is alive, or nothing differs."""
    a, b = (x.clone().requires_grad_() for x in pairs)
    with torch.no_grad():
        a[0] = 0
    perceptual_distance(net, a, b).sum().backward()
    for grad in (a.grad, b.grad):
        assert grad.isfinite().all()
        assert grad[1].abs().sum() > 0
        assert grad[2].abs().sum() == 0


@torch.no_grad()
def test_what_is_seen_as_near(net, test_faces):
    """A little blur or noise is nearer than another face; noise counts for more than to the eye."""
    a = test_faces.images[:32]
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(0))
    other = perceptual_distance(net, a, a.roll(1, 0))
    little = perceptual_distance(net, a, (a + 0.02 * noise).clamp(0, 1))
    more = perceptual_distance(net, a, (a + 0.05 * noise).clamp(0, 1))
    assert (little < more).all()
    assert (more < other).all()
