"""Parts of training losses: closed forms."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from cfxnb.core.ddim import linear_alphas_cumprod
from cfxnb.train.diffae import correlation
from cfxnb.train.losses import kl_term, mirrored, moved, noised

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_correlation_of_independent_equal_and_opposite_coordinates():
    a = torch.tensor([1.0, 1.0, -1.0, -1.0])
    b = torch.tensor([1.0, -1.0, 1.0, -1.0])
    assert correlation(torch.stack([a, 5 * b + 2], 1)).item() == pytest.approx(0, abs=1e-9)
    # Three coordinates that determine each other: two squared correlations of 1 per coordinate.
    codes = torch.randn(10_000, 1, generator=torch.Generator().manual_seed(1))
    same = torch.cat([codes, 3 * codes + 1, -codes], 1)
    assert correlation(same).item() == pytest.approx(2, rel=1e-3)


def test_correlation_has_a_gradient_that_decorrelates():
    codes = torch.randn(200, 2, generator=torch.Generator().manual_seed(2))
    codes[:, 1] += codes[:, 0]
    for _ in range(200):
        codes.requires_grad_()
        (gradient,) = torch.autograd.grad(correlation(codes), codes)
        codes = (codes - 10 * gradient).detach()
    assert torch.corrcoef(codes.T)[0, 1].abs() < 0.05


def test_image_and_noise_follow_from_noisy_image_and_velocity():
    t, noisy, velocity = noised(IMAGES, torch.Generator().manual_seed(3))
    alpha_bar = linear_alphas_cumprod().float()[t].view(-1, 1, 1, 1)
    clean = alpha_bar.sqrt() * noisy - (1 - alpha_bar).sqrt() * velocity
    torch.testing.assert_close(clean, IMAGES, atol=1e-5, rtol=0)
    noise = (1 - alpha_bar).sqrt() * noisy + alpha_bar.sqrt() * velocity
    assert abs(noise.mean()) < 0.2
    assert abs(noise.std() - 1) < 0.1


def test_kl_term_is_that_of_torch():
    mean, log_variance = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(4))
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_term(mean, log_variance), expected)


def test_moves_of_known_size():
    torch.testing.assert_close(moved(IMAGES, torch.zeros(4, 4)), IMAGES, atol=1e-5, rtol=0)
    shift = torch.zeros(4, 4)
    shift[2] = 0.25  # a quarter of half the width is one pixel
    out = moved(IMAGES, shift, "border")
    torch.testing.assert_close(out[..., :-1], IMAGES[..., 1:], atol=1e-5, rtol=0)
    turned = torch.zeros(4, 4)
    turned[0] = torch.pi / 2
    expected = [torch.rot90(IMAGES, k, (2, 3)) for k in (1, 3)]
    out = moved(IMAGES, turned)
    assert min((out - e).abs().max() for e in expected) < 1e-4


def test_images_are_mirrored_whole():
    out = mirrored(IMAGES, torch.Generator().manual_seed(5))
    kinds = [
        [torch.equal(a, b), torch.equal(a, b.flip(2))] for a, b in zip(out, IMAGES, strict=True)
    ]
    assert all(any(kind) for kind in kinds)
