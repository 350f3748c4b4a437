"""Where everything is linear, the smallest change that reaches a confidence is known."""

import math

import pytest
import torch
from worlds import LinearSpace, code_classifier

import cfxnb as cfx

KNOBS = {"steps": 200, "restarts": 0, "prior": 0.0, "proximity": 0.0}


def binary(std, weight, gain=2.0):
    space = LinearSpace(std=std)
    return space, code_classifier(space, torch.tensor([weight]), gain), gain * torch.tensor(weight)


def start_codes(slope, odds, seed=0):
    """Codes whose log odds for class 1 are ``odds``, otherwise random."""
    z = torch.randn(len(odds), 4, generator=torch.Generator().manual_seed(seed))
    along = slope / slope.square().sum()
    return z + (torch.tensor(odds) - z @ slope)[:, None] * along


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a, b, dim=1)


def test_direction_is_the_slope_when_the_spread_is_uniform():
    """A slope of equal components, in which Adam's step has the direction of the gradient."""
    space, f, slope = binary(torch.full((4,), 0.7), [0.5, -0.5, 0.5, 0.5])
    x = space.decode(cfx.Code(start_codes(slope, [-1.0, -2.0, -3.0])))
    result = cfx.latent_attack(space, f, x, 1, **KNOBS)
    assert result.flipped.all()
    change = result.code_after.z - result.code_before.z
    assert cosine(change, slope[None]).min() > 0.9999


def test_proximity_bends_the_way_towards_the_shortest():
    """With uneven slopes Adam alone walks along sign(slope); the proximity term corrects that.

    The optimum of ``-odds + proximity |u|^2`` is u = spread * slope / (2 proximity): in codes,
    the slope scaled by the spread squared. It is reached where no confidence stops it earlier.
    """
    std = torch.tensor([1.0, 0.5, 0.8, 0.3])
    space, f, slope = binary(std, [0.9, -0.4, 0.2, 0.6])
    x = space.decode(cfx.Code(start_codes(slope, [-6.0, -7.0])))
    result = cfx.latent_attack(
        space, f, x, 1, prior=0.0, proximity=0.8, steps=400, restarts=0, lr=0.03, confidence=0.999
    )
    assert result.status == ("not_found", "not_found")  # the optimum lies before the boundary
    expected = std**2 * slope / (2 * 0.8)
    torch.testing.assert_close(
        result.code_after.z - result.code_before.z, expected.expand(2, 4), rtol=1e-2, atol=2e-3
    )
    assert cosine(torch.sign(slope * std)[None], (slope * std)[None]) < 0.95


def test_prior_pulls_towards_the_center():
    """The optimum of ``-odds + prior |z / spread|^2`` is z = spread^2 slope / (2 prior)."""
    std = torch.tensor([1.0, 0.5, 0.8, 0.3])
    space, f, slope = binary(std, [0.9, -0.4, 0.2, 0.6])
    x = space.decode(cfx.Code(start_codes(slope, [-2.0, -4.0])))
    result = cfx.latent_attack(
        space, f, x, 1, prior=0.8, proximity=0.0, steps=600, restarts=0, lr=0.03, confidence=0.999
    )
    expected = std**2 * slope / (2 * 0.8)
    torch.testing.assert_close(result.code_after.z, expected.expand(2, 4), rtol=1e-2, atol=5e-3)


@pytest.mark.parametrize(("restarts", "weight"), [(0, 1.0), (1, 20 / 80)])
def test_restarts_weigh_distances_in_large_codes_as_in_codes_of_20_dimensions(restarts, weight):
    """The optimum of ``-odds + weight * (prior |z|^2 + proximity |z - z0|^2)``, with d = 80."""
    space = LinearSpace(80, (5, 4, 4))
    slope = torch.randn(80, generator=torch.Generator().manual_seed(1))
    slope *= math.sqrt(2) / slope.norm()
    f = code_classifier(space, slope[None], 1.0)
    z0 = 0.1 * torch.randn(2, 80, generator=torch.Generator().manual_seed(2)) - slope
    result = cfx.latent_attack(
        space, f, space.decode(cfx.Code(z0)), 1, prior=0.6, proximity=0.2, steps=600,
        restarts=restarts, lr=0.03, confidence=0.999,
    )  # fmt: skip
    assert result.status == ("not_found", "not_found")  # the optimum lies before the boundary
    expected = (slope / (2 * weight) + 0.2 * z0) / (0.6 + 0.2)
    torch.testing.assert_close(result.code_after.z, expected, rtol=1e-2, atol=5e-3)


@pytest.mark.parametrize("binary_search_steps", [1, 3, 6, 10])
@pytest.mark.parametrize("confidence", [0.6, 0.95])
def test_step_back_lands_at_the_boundary(binary_search_steps, confidence):
    """Along a straight line the odds are linear: the exact share is known."""
    space, f, slope = binary(torch.ones(4), [0.5, -0.5, 0.5, 0.5])
    odds = [-0.3, -1.0, -2.5, -4.0]
    x = space.decode(cfx.Code(start_codes(slope, odds)))
    kwargs = KNOBS | {"confidence": confidence, "lr": 0.7}
    far = cfx.latent_attack(space, f, x, 1, binary_search_steps=0, **kwargs)
    back = cfx.latent_attack(space, f, x, 1, binary_search_steps=binary_search_steps, **kwargs)
    need = math.log(confidence / (1 - confidence))
    reach = (far.code_after.z - far.code_before.z) @ slope
    exact = (need - torch.tensor(odds)) / reach
    share = ((back.code_after.z - back.code_before.z) @ slope) / reach
    assert (exact < 1).all()
    assert ((share - exact) >= -1e-4).all(), "beyond the boundary, never before it"
    assert ((share - exact) <= 2.0**-binary_search_steps + 1e-4).all()


def test_probability_loss_saturates_where_the_margin_does_not():
    """The reason for the default: far from the boundary the paper's loss has no slope left."""
    space, f, slope = binary(torch.ones(4), [0.5, -0.5, 0.5, 0.5], gain=8.0)
    x = space.decode(cfx.Code(start_codes(slope, [-120.0])))
    kwargs = KNOBS | {"confidence": 0.9, "steps": 60, "lr": 0.3}
    assert cfx.latent_attack(space, f, x, 1, loss="margin", **kwargs).status == ("flipped",)
    paper = cfx.latent_attack(space, f, x, 1, loss="probability", **kwargs)
    assert paper.status == ("no_gradient",)


def test_units_are_those_of_the_first_step():
    """Adam's first step has length lr in each coordinate, in units of the spread or of codes."""
    std = torch.tensor([1.0, 0.5, 0.8, 0.3])
    space, f, slope = binary(std, [0.9, -0.4, 0.2, 0.6])
    x = space.decode(cfx.Code(start_codes(slope, [-9.0])))
    for units, length in (("std", 0.1 * std), ("code", torch.full((4,), 0.1))):
        codes = []
        watch = codes.append
        kwargs = KNOBS | {"steps": 2, "lr": 0.1, "units": units}
        cfx.latent_attack(space, f, x, 1, on_step=lambda s, w=watch: w(s.code), **kwargs)
        moved = codes[1] - codes[0]
        torch.testing.assert_close(moved[0], length * slope.sign(), rtol=1e-4, atol=1e-5)


def test_pixel_attack_walks_along_the_weights():
    """L2-normalised steps: the change is along w, and as short as the boundary allows."""
    space = LinearSpace()
    f = code_classifier(space, torch.tensor([[0.5, -0.5, 0.5, 0.5]]), 2.0)
    w = f.module.weight[0].detach()
    x = space.sample(6, 3)
    x = x[f(x).argmax(1) == 0]
    result = cfx.pixel_attack(
        f, x, 1, step_size=0.01, confidence=0.9, binary_search_steps=12, epsilon=4.0
    )
    assert result.flipped.all()
    change = (result.image - x).flatten(1)
    assert cosine(change, w[None]).min() > 0.9999
    before = f(x)[:, 1]
    exact = (math.log(9) - before) / w.norm()
    torch.testing.assert_close(change.norm(dim=1), exact, rtol=1e-3, atol=1e-4)


def test_random_change_is_as_long_as_what_it_is_compared_with():
    std = torch.tensor([1.0, 0.5, 0.8, 0.3])
    space, f, slope = binary(std, [0.9, -0.4, 0.2, 0.6])
    x = space.decode(cfx.Code(start_codes(slope, [-1.0, -2.0, -3.0, 1.0])))
    like = cfx.latent_attack(space, f, x, 1, **KNOBS)
    chance = cfx.random_change(space, f, like, seed=4)
    ours = ((chance.code_after.z - chance.code_before.z) / std).norm(dim=1)
    theirs = ((like.code_after.z - like.code_before.z) / std).norm(dim=1)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert ours[3] == 0
    heading = (chance.code_after.z - chance.code_before.z)[:3]
    assert cosine(heading[[0]], heading[[1]]).abs() < 0.999  # a direction of its own for each


def test_random_directions_prefer_none():
    """Over many samples the mean of unit directions vanishes and each axis gets its share."""
    space, f, slope = binary(torch.ones(4), [0.5, -0.5, 0.5, 0.5])
    x = space.decode(cfx.Code(start_codes(slope, [-1.0]).expand(400, 4).clone()))
    like = cfx.latent_attack(space, f, x, 1, **KNOBS)
    chance = cfx.random_change(space, f, like)
    heading = torch.nn.functional.normalize(chance.code_after.z - chance.code_before.z)
    assert heading.mean(0).abs().max() < 0.1
    torch.testing.assert_close(heading.square().mean(0), torch.full((4,), 0.25), atol=0.05, rtol=0)
