"""Parts of losses that several recipes share."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from cfxnb.core.ddim import TRAIN_STEPS, linear_alphas_cumprod
from cfxnb.core.training import autocast


def as_unit(images: Tensor) -> Tensor:
    """Convert uint8 images to floats in [0, 1]; images of floats are returned unchanged."""
    return images if images.is_floating_point() else images.float() / 255


def as_bytes(images: Tensor) -> Tensor:
    """Convert images in [0, 1] to uint8."""
    return (images * 255).round().to(torch.uint8)


def mirrored(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each image horizontally with probability 1/2."""
    turn = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    return torch.where(turn, images.flip(3), images)


def moved(images: Tensor, change: Tensor, padding: str = "zeros") -> Tensor:
    """Rotate, scale and shift images.

    Args:
        images: n images, (n, c, h, w).
        change: four rows of n numbers, (4, n): angle in radians, change of scale, shift to the
            left, shift upwards. The shifts are fractions of half the width or height.
        padding: ``"zeros"`` fills the empty margin with 0, ``"border"`` with the pixels of the
            border.
    """
    angle, scale, across, down = change
    size, cos, sin = 1 + scale, torch.cos(angle), torch.sin(angle)
    rows = [size * cos, -size * sin, across, size * sin, size * cos, down]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), False)
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)


def augment(images: Tensor, generator: Generator) -> Tensor:
    """Augment images: shift by up to 3 pixels, rotate by up to 5 degrees, scale by up to 10 %.

    The function also changes brightness and contrast. Border pixels fill the margins, because
    black margins would tell a network how an image was moved, and in X-rays even its class. The
    shifts are those for 64x64 images, and in proportion for others.
    """
    noise = torch.rand(6, len(images), generator=generator, device=images.device) * 2 - 1
    limits = torch.tensor([[0.09], [0.1], [0.09], [0.09], [0.2], [0.1]]).to(noise)
    *change, contrast, brightness = noise * limits
    placed = moved(images, torch.stack(change), "border")
    lit = (placed - 0.5) * (1 + contrast).view(-1, 1, 1, 1) + 0.5 + brightness.view(-1, 1, 1, 1)
    return lit.clamp(0, 1)


def cross_entropy(
    model: nn.Module, images: Tensor, labels: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Return the mean cross-entropy of a classifier, with one optional weight per class."""
    with autocast(images.device):
        logits = model(images)
    return F.cross_entropy(logits.float(), labels, weight=weight)


def kl_term(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the KL divergence of the posteriors from N(0, 1), in nats per image, (n,)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)


def noised(clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a diffusion time t for each of n images, and add the noise of time t to the image.

    Returns:
        Three tensors: the times t, int64 (n,), the noisy images, and the velocities that the
        network is to predict (Salimans & Ho, 2022).
    """
    t = torch.randint(TRAIN_STEPS, (len(clean),), generator=generator, device=clean.device)
    alpha_bar = linear_alphas_cumprod().float().to(clean.device)[t].view(-1, 1, 1, 1)
    noise = torch.randn(clean.shape, generator=generator, device=clean.device)
    signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return t, signal * clean + spread * noise, signal * noise - spread * clean
