"""Consensus, chances, schedules and pasting: by hand, by loops and by chance."""

import math

import pytest
import torch
from torch import Generator

from cfxnb.core import ddim
from cfxnb.core.ddim import add_noise, denoise, even_schedule, paper_schedule, predict_x0
from cfxnb.core.tensors import noise_like
from cfxnb.diffusion.composite import composite_edit, edit_mask
from cfxnb.diffusion.consensus import (
    angles,
    apply_mask,
    chance_level,
    consensus,
    match_norm,
    random_mask,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


DEGREES = (0.0, 20.0, 45.0, 90.0, 130.0, 180.0)


@pytest.mark.parametrize("cone_angle", DEGREES)
def test_chance_in_two_and_three_dimensions(cone_angle):
    """An arc is proportional to its angle; a cap is proportional to its height (Archimedes)."""
    assert chance_level(2, cone_angle) == pytest.approx(cone_angle / 180, abs=1e-12)
    height = (1 - math.cos(math.radians(cone_angle))) / 2
    assert chance_level(3, cone_angle) == pytest.approx(height, abs=1e-12)


@pytest.mark.parametrize("size", [1, 2, 4, 12, 64])
@pytest.mark.parametrize("cone_angle", [45.0, 80.0, 110.0])
def test_chance_against_drawing(size, cone_angle):
    a, b = draw(1, size, 100, 400, seed=1), draw(1, size, 100, 400, seed=2)
    _, keep = consensus(a, b, cone_angle)
    p = chance_level(size, cone_angle)
    assert keep.float().mean().item() == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / 4e4))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_chance_of_a_cone_and_of_the_rest(size):
    """At most d from b, or less than 180 - d from -b: one of the two holds of every vector."""
    for cone_angle in (10.0, 45.0, 89.0):
        both = chance_level(size, cone_angle) + chance_level(size, 180 - cone_angle)
        assert both == pytest.approx(1.0)
    assert chance_level(size, 180.0) == 1.0


def naive(implicit, direction, cone_angle, patch_size):
    b, _, h, w = implicit.shape
    out = torch.zeros_like(direction)
    keep = torch.zeros(b, h // patch_size, w // patch_size, dtype=torch.bool)
    for i in range(b):
        for y in range(0, h, patch_size):
            for x in range(0, w, patch_size):
                at = (i, slice(None), slice(y, y + patch_size), slice(x, x + patch_size))
                u, v = (t[at].flatten().double().tolist() for t in (implicit, direction))
                lengths = [math.sqrt(sum(n * n for n in side)) for side in (u, v)]
                if not all(0 < length < math.inf for length in lengths):
                    continue
                cosine = sum(m * n for m, n in zip(u, v, strict=True)) / math.prod(lengths)
                if math.degrees(math.acos(max(-1, min(1, cosine)))) <= cone_angle:
                    keep[i, y // patch_size, x // patch_size] = True
                    out[at] = direction[at]
    return out, keep


@pytest.mark.parametrize("patch_size", [1, 2])
@pytest.mark.parametrize("cone_angle", [30.0, 75.0, 180.0])
def test_consensus_is_the_loop(patch_size, cone_angle):
    a, b = draw(2, 3, 4, 6), draw(2, 3, 4, 6, seed=1)
    b = a + 0.7 * b
    a[0, :, :2, :2], b[1, :, 2:, 4:] = 0, 0
    b[0, 0, 2, 2] = torch.inf
    found, keep = consensus(a, b, cone_angle, patch_size)
    expected, where = naive(a, b, cone_angle, patch_size)
    assert torch.equal(keep, where)
    assert torch.equal(found, expected)
    assert found.isfinite().all()
    assert keep.any()
    assert not keep.all()


def test_the_length_of_vectors_does_not_matter():
    a, b = draw(1, 4, 8, 8), draw(1, 4, 8, 8, seed=1)
    _, keep = consensus(a, b, 60.0)
    for tiny, huge in ((1e-30, 1e30), (1e-42, 1.0)):
        _, same = consensus(torch.sign(a) * tiny, b * huge, 60.0)
        assert torch.equal(same, consensus(torch.sign(a), b, 60.0)[1])
    assert keep.any()


def test_the_same_and_the_opposite():
    a = draw(1, 3, 20, 20)
    assert consensus(a, 7 * a, 1e-4)[1].all()
    assert not consensus(a, -7 * a, 179.9)[1].any()
    assert consensus(a, -7 * a, 180.0)[1].all()
    torch.testing.assert_close(angles(a, -a), torch.full((1, 20, 20), 180.0).double(), atol=1e-4,
                               rtol=0)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((draw(1, 3, 4, 4), draw(1, 3, 4, 5), 45.0), "direction: expected"),
        ((draw(3, 4, 4), draw(3, 4, 4), 45.0), "implicit: expected"),
        ((draw(1, 3, 4, 5), draw(1, 3, 4, 5), 45.0, 2), "divisible by 2"),
        ((draw(1, 3, 4, 4), draw(1, 3, 4, 4), 181.0), "cone_angle: expected"),
        ((draw(1, 3, 4, 4), draw(1, 3, 4, 4), 45.0, 0), "patch_size: expected"),
        ((draw(1, 3, 4, 4).numpy(), draw(1, 3, 4, 4), 45.0), "implicit: expected"),
    ],
)
def test_wrong_fields_of_vectors(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        consensus(*arguments)


def test_match_norm_has_the_norm_of_the_other_and_its_own_direction():
    a, like = draw(3, 2, 4, 4), 5 * draw(3, 2, 4, 4, seed=1)
    a[1] = 0
    found = match_norm(a, like)
    for i in (0, 2):
        assert found[i].norm().item() == pytest.approx(like[i].norm().item(), rel=1e-5)
        assert torch.cosine_similarity(found[i].flatten(), a[i].flatten(), 0) > 0.99999
    assert (found[1] == 0).all()


def test_random_masks_have_equal_areas_and_other_places():
    keep = draw(6, 5, 7) > 0.5
    keep[0], keep[1] = False, True
    found = random_mask(keep, noise_like(keep.float(), 3))
    assert torch.equal(found.sum((1, 2)), keep.sum((1, 2)))
    assert not torch.equal(found, keep)
    rows = random_mask(keep[2:3], noise_like(keep[2:3].float(), 3, torch.tensor([2])))
    assert torch.equal(rows[0], found[2])
    many = torch.zeros(4000, 2, 2, dtype=torch.bool)
    many[:, 0, 0] = True  # goes everywhere as often
    share = random_mask(many, noise_like(many.float(), 0)).float().mean(0)
    torch.testing.assert_close(share, torch.full((2, 2), 0.25), atol=0.04, rtol=0)


def test_apply_mask_takes_away_even_what_is_not_finite():
    x = torch.full((1, 2, 4, 4), torch.nan)
    keep = torch.zeros(1, 2, 2, dtype=torch.bool)
    assert (apply_mask(x, keep) == 0).all()
    keep[0, 0, 1] = True
    found = apply_mask(torch.ones(1, 2, 4, 4), keep)
    assert found.sum() == 2 * 4
    assert (found[..., :2, 2:] == 1).all()


def test_short_schedule_by_hand():
    alphas = torch.linspace(0.99, 0.01, 100).double()
    found = even_schedule(alphas, torch.tensor([0.5, 0.2]), 5)
    assert found.times.T.tolist() == [[49, 39, 29, 19, 9], [19, 15, 11, 7, 3]]
    assert torch.equal(found.alpha_bar, alphas[found.times])
    assert torch.equal(found.alpha_bar_prev[:-1], found.alpha_bar[1:])
    assert (found.alpha_bar_prev[-1] == 1).all()
    assert torch.equal(found.start, found.alpha_bar[0])


def test_more_steps_than_times_change_nothing():
    """Steps that stay at a time lead nowhere; there are never times below 0."""
    alphas = torch.linspace(0.99, 0.01, 10).double()
    found = even_schedule(alphas, torch.tensor([0.3]), 30)
    assert found.times.min() == 0
    assert found.times[:, 0].unique().tolist() == [0, 1, 2]
    z = draw(1, 2, 2, 2).double()
    many = denoise(lambda x, t, alpha_bar: 0.1 * x, z, found)
    few = denoise(lambda x, t, alpha_bar: 0.1 * x, z, even_schedule(alphas, torch.tensor([0.3]), 3))
    torch.testing.assert_close(many, few)


def test_published_schedule_by_hand():
    """Every 2nd of 20 times from 1 on; noise for level 4, and then from level 3 to the first."""
    alphas = torch.linspace(0.95, 0.05, 20).double()
    found = paper_schedule(alphas, torch.tensor([0.45, 0.45]), 10)
    assert found.times.T.tolist() == [[7, 5, 3, 1]] * 2
    assert torch.equal(found.alpha_bar[:, 0], alphas[[7, 5, 3, 1]])
    assert torch.equal(found.alpha_bar_prev[:, 1], alphas[[5, 3, 1, 0]])
    assert torch.equal(found.start, alphas[[9, 9]])


def test_noise_goes_on_and_comes_off():
    clean, noise, alpha_bar = (
        draw(3, 2, 4, 4),
        draw(3, 2, 4, 4, seed=1),
        torch.tensor([0.9, 0.5, 0.1]),
    )
    noisy = add_noise(clean, noise, alpha_bar)
    torch.testing.assert_close(predict_x0(noisy, noise, alpha_bar), clean, atol=1e-5, rtol=0)
    many = add_noise(torch.zeros(1, 1, 300, 300), draw(1, 1, 300, 300), torch.tensor([0.3]))
    assert many.var().item() == pytest.approx(0.7, abs=0.02)


def test_denoising_one_gaussian_is_its_line():
    """For N(0, s^2) the way of DDIM is known: z shrinks as the standard deviation does."""
    alphas, s = ddim.linear_alphas_cumprod(), 0.5

    def ideal(z, times, alpha_bar):
        a = alpha_bar.view(-1, 1)
        return (z - a.sqrt() * s**2 * a.sqrt() / (s**2 * a + 1 - a) * z) / (1 - a).sqrt()

    z = draw(4, 3).double()
    strength = torch.tensor([0.2, 0.4, 0.6, 0.8])
    schedule = even_schedule(alphas, strength, 500)
    found = denoise(ideal, z, schedule)
    std = (s**2 * schedule.start + 1 - schedule.start).sqrt()[:, None]
    torch.testing.assert_close(found, z * s / std, rtol=0.01, atol=0)


def test_a_stop_ends_with_the_guess_of_the_clean_code():
    alphas, looks = ddim.linear_alphas_cumprod(), []
    schedule = even_schedule(alphas, torch.tensor([0.5]), 10)

    def denoiser(z, times, alpha_bar):
        looks.append(z)
        return 0.3 * z

    z = draw(1, 2, 2, 2)
    found = denoise(denoiser, z, schedule, lambda: len(looks) == 3)
    assert len(looks) == 3
    torch.testing.assert_close(found, predict_x0(looks[-1], 0.3 * looks[-1], schedule.alpha_bar[2]))


def pictures(seed=0):
    before = torch.rand(3, 3, 12, 16, generator=Generator().manual_seed(seed))
    after = before.clone()
    after[0, :, 4:6, 5:8] += 0.4 * (0.5 - before[0, :, 4:6, 5:8]).sign()
    after[1, 1, 0, 0] = 1 - before[1, 1, 0, 0]
    after += 1e-4 * (0.5 - before)
    after[2] = before[2]
    return before, after


def test_the_mask_of_an_edit_is_the_edit_and_one_pixel_around():
    before, after = pictures()
    mask = edit_mask(before, after, 0.2)
    expected = torch.zeros(3, 1, 12, 16, dtype=torch.bool)
    expected[0, :, 3:7, 4:9] = True
    expected[1, :, :2, :2] = True
    assert torch.equal(mask, expected)
    assert not edit_mask(before, after, 1.0).any()


def test_outside_of_the_mask_every_bit_is_the_original():
    before, after = pictures()
    original = (before + 0.05 * torch.rand(before.shape)).clamp(0, 1)
    found = composite_edit(original, before, after, 0.2)
    mask = edit_mask(before, after, 0.2).expand_as(found)
    assert torch.equal(found[~mask], original[~mask])
    assert torch.equal(found[mask], after[mask])
    assert not torch.equal(original, found)
    assert torch.equal(found[2], original[2])


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan, True, "half"])
def test_wrong_threshold(threshold):
    before, after = pictures()
    with pytest.raises((ValueError, TypeError), match="threshold: expected"):
        edit_mask(before, after, threshold)
    with pytest.raises(ValueError, match="after: expected"):
        edit_mask(before, after[..., :-1], 0.5)
