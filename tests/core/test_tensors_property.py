"""Projection and noise on whatever input."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import images, quick

from cfxnb.attacks.pixel_attack import project
from cfxnb.core.tensors import noise_like, norms

radii = st.floats(0.05, 3.0)
shifts = images().map(lambda x: 6 * x - 3)


@quick
@given(images(), shifts, radii)
def test_projection_stays_inside(mean, shift, radius):
    inside = project(mean + shift, mean, radius)
    assert (norms(inside - mean) <= radius * (1 + 1e-5)).all()
    assert inside.min() >= 0
    assert inside.max() <= 1


@quick
@given(images(), shifts, radii)
def test_projection_is_idempotent(mean, shift, radius):
    once = project(mean + shift, mean, radius)
    torch.testing.assert_close(project(once, mean, radius), once, rtol=0, atol=1e-6)


@quick
@given(images(), images(), radii)
def test_projection_leaves_what_is_inside(mean, other, radius):
    near = mean + (other - mean) * min(1.0, 0.9 * radius / 4)  # 4: the longest difference
    torch.testing.assert_close(project(near, mean, radius), near, rtol=0, atol=1e-6)


@quick
@given(st.integers(0, 2**40), st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
def test_noise_depends_on_seed_and_row_only(seed, rows):
    like = torch.zeros(len(rows), 3)
    together = noise_like(like, seed, torch.tensor(rows))
    for i, row in enumerate(rows):
        alone = noise_like(like[:1], seed, torch.tensor([row]))
        assert torch.equal(together[i], alone[0])
    for i, a in enumerate(rows):
        for j, b in enumerate(rows[:i]):
            assert torch.equal(together[i], together[j]) == (a == b)


@quick
@given(st.integers(0, 2**40), st.integers(1, 6))
def test_rows_default_to_counting(seed, count):
    like = torch.zeros(count, 2, dtype=torch.float64)
    ours = noise_like(like, seed)
    assert ours.dtype == torch.float64
    assert torch.equal(ours, noise_like(like, seed, torch.arange(count)))
    assert not torch.equal(ours, noise_like(like, seed + 1))
