"""Inversion against a world in which the noise of everything is known in closed form."""

import pytest
import torch

from cfxnb.methods.denoising import denoise, inverted, noised, short
from cfxnb.spaces.ddim import linear_alphas

SPREAD = 2.0  # of the clean codes, which are normal around 0


def ideal(z, times, left):
    """The noise to be expected in a noisy code, where codes are N(0, SPREAD^2)."""
    share = linear_alphas()[times].view(-1, 1).to(z)
    return z * (1 - share).sqrt() / (share * SPREAD**2 + 1 - share)


@pytest.fixture
def clean():
    return SPREAD * torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).double()


def round_trip(clean, steps, strength=(0.2, 0.5, 0.9)):
    plan = short(linear_alphas(), torch.tensor(strength), steps)
    noisy = inverted(ideal, clean, plan)
    return noisy, denoise(ideal, noisy, plan)


def test_the_way_back_ends_where_it_began(clean):
    errors = [(round_trip(clean, n)[1] - clean).abs().max().item() for n in (10, 40, 160)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.02


def test_drawn_noise_ends_elsewhere(clean):
    plan = short(linear_alphas(), torch.tensor([0.2, 0.5, 0.9]), 160)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)).double()
    ends = denoise(ideal, noised(clean, noise, plan.start), plan)
    assert (ends - clean).abs().amax(1).min() > 0.2


def test_each_sample_goes_back_as_far_as_it_is_told(clean):
    """The flow of this world only scales: by the standard deviation of what is noisy."""
    noisy, _ = round_trip(clean, 500)
    left = linear_alphas()[(torch.tensor([0.2, 0.5, 0.9]).double() * 1000).round().long() - 1]
    scale = (left * SPREAD**2 + 1 - left).sqrt() / SPREAD
    torch.testing.assert_close(noisy, clean * scale.view(-1, 1), rtol=0.02, atol=0.0)


def test_samples_do_not_mix(clean):
    whole, _ = round_trip(clean, 20)
    alone, _ = round_trip(clean[1:2], 20, (0.5,))
    torch.testing.assert_close(whole[1:2], alone)
