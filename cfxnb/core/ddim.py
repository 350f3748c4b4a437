"""From noisy codes to clean ones, sample by sample at times of its own (Song et al., 2021)."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from cfxnb.core.tensors import per_sample

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
    top = exact(strength, len(alphas)) * len(alphas)
    strides = torch.arange(steps, 0, -1, dtype=torch.float64)[:, None]
    # Divided last, so that a place halfway between two times is exactly that.
    times = (top * strides / steps).round().long().clamp(1, len(alphas)) - 1
    left = alphas[times]
    ahead = torch.cat([left[1:], torch.ones_like(left[:1])])
    return Schedule(times, left, ahead, left[0])


def published(alphas: Tensor, strength: Tensor, steps: int) -> Schedule:
    """As the official code does it: ``steps`` strides through all times, from ``strength`` on.

    Noise is added for one stride more than the first step takes away, and the last step leads to
    the first time, not to the clean code.

    Args:
        strength: (b,), the same for all samples: int(strength * steps) steps are taken, computed
            in double precision.

    Raises:
        ValueError: for more steps than times, strengths that differ, or a strength that takes no
            step or begins beyond the last time.
    """
    total = len(alphas)
    if not 1 <= steps <= total:
        raise ValueError(f"steps: expected 1 to {total}, as many as there are times, got {steps}")
    value = float(strength[0])
    if not (strength == strength[0]).all():
        raise ValueError(f"strength: expected the same for all samples, got {strength.tolist()}")
    times = torch.arange(0, total, total // steps) + 1
    times = times[times < total]  # the official code breaks off where the last one is no time
    level = int(float(exact(strength[:1], steps)) * steps)
    if not 1 <= level < len(times):
        most = min(steps, len(times) - 1)
        raise ValueError(
            f"strength: expected one that takes 1 to {most} of {steps} steps, "
            f"got {value:.7g}, which takes {level}"
        )
    back = torch.arange(level - 1, -1, -1)
    before = torch.cat([torch.zeros(1, dtype=torch.int64), times])[back]
    grid = torch.stack([times[back], before]).unsqueeze(2).expand(-1, -1, len(strength))
    return Schedule(
        grid[0], alphas[grid[0]], alphas[grid[1]], alphas[times[level]].expand(len(strength))
    )


def exact(share: Tensor, parts: int) -> Tensor:
    """Shares (b,) in double precision, on the CPU: n / parts where float32 has rounded that.

    The float32 number nearest to 0.382, times 500, is a little less than 191, and one step would
    be lost. What was given in double precision stays as it is.
    """
    share = share.cpu()
    whole = (share.double() * parts).round() / parts
    return torch.where(whole.to(share.dtype) == share, whole, share.double())


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
