"""From noisy codes to clean ones, sample by sample at times of its own (Song et al., 2021)."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from cfxnb.tensors import per_sample

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy codes (b, ...), times (b,), share of variance left (b,)) -> the noise in them."""


@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
    """When each sample is denoised; rows are steps, columns samples.

    Attributes:
        times: of the denoiser, int64 (steps, b).
        left, ahead: share of the variance that is left before and after each step, (steps, b).
        start: share that is left when noise is added, (b,).
    """

    times: Tensor
    left: Tensor
    ahead: Tensor
    start: Tensor


def short(alphas: Tensor, strength: Tensor, steps: int) -> Schedule:
    """``steps`` equal strides from ``strength`` (b,) of all times down to the clean code."""
    top = strength.cpu().double() * len(alphas)
    strides = torch.arange(steps, 0, -1, dtype=torch.float64)[:, None] / steps
    times = (top * strides).round().long().clamp(1, len(alphas)) - 1
    left = alphas[times]
    ahead = torch.cat([left[1:], torch.ones_like(left[:1])])
    return Schedule(times, left, ahead, left[0])


def published(alphas: Tensor, strength: Tensor, steps: int) -> Schedule:
    """As the official code does it: ``steps`` strides through all times, from ``strength`` on.

    Noise is added for one stride more than the first step takes away, and the last step leads to
    the first time, not to the clean code.
    """
    times = torch.arange(0, len(alphas), len(alphas) // steps) + 1
    times = times[times < len(alphas)]
    level = int(float(strength[0]) * steps)
    back = torch.arange(level - 1, -1, -1)
    before = torch.cat([torch.zeros(1, dtype=torch.int64), times])[back]
    grid = torch.stack([times[back], before]).unsqueeze(2).expand(-1, -1, len(strength))
    return Schedule(
        grid[0], alphas[grid[0]], alphas[grid[1]], alphas[times[level]].expand(len(strength))
    )


def noised(clean: Tensor, noise: Tensor, left: Tensor) -> Tensor:
    """Clean codes with so much noise that ``left`` (b,) of their variance is left."""
    share = per_sample(left.to(clean), clean)
    return share.sqrt() * clean + (1 - share).sqrt() * noise


def cleaned(noisy: Tensor, eps: Tensor, left: Tensor) -> Tensor:
    """The clean code that noisy ones come from, if ``eps`` is their noise."""
    share = per_sample(left.to(noisy), noisy)
    return (noisy - (1 - share).sqrt() * eps) / share.sqrt()


def denoise(
    denoiser: Denoiser,
    noisy: Tensor,
    schedule: Schedule,
    stopped: Callable[[], bool] = lambda: False,
) -> Tensor:
    """All steps of DDIM without fresh noise; what the denoiser does inside is its own affair.

    Args:
        stopped: asked after each look of the denoiser; if True, its guess of the clean codes is
            the end.
    """
    for times, left, ahead in zip(schedule.times, schedule.left, schedule.ahead, strict=True):
        eps = denoiser(noisy, times, left)
        clean = cleaned(noisy, eps, left)
        if stopped():
            return clean
        noisy = noised(clean, eps, ahead)
    return noisy


def inverted(denoiser: Denoiser, clean: Tensor, schedule: Schedule) -> Tensor:
    """The noisy codes that these clean ones come from: all steps of ``denoise``, the other way.

    What is denoised from there without guidance ends near to where it began.
    """
    code, now = clean, schedule.ahead[-1]
    for times, left in zip(schedule.times.flip(0), schedule.left.flip(0), strict=True):
        eps = denoiser(code, times, now)
        code = noised(cleaned(code, eps, now), eps, left)
        now = left
    return code
