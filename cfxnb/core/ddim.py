"""Denoising diffusion implicit models (Song et al., 2021): schedules, steps, and the way back.

``alpha_bar`` is the fraction of an image's variance that is left at a time (``alphas_cumprod`` in
diffusers). With no fresh noise on the way, each step can be taken in both directions, and what
noise an image comes from is as well defined as what image noise leads to.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from cfxnb.core.tensors import per_sample

TRAIN_STEPS = 1000
Predict = Callable[[Tensor, int], Tensor]  # (noisy images, time from 0 to 999) -> their noise
Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy codes (b, ...), times (b,), alpha_bar (b,)) -> the noise in them."""


def linear_alphas_cumprod(
    first: float = 1e-4, last: float = 0.02, steps: int = TRAIN_STEPS
) -> Tensor:
    """alpha_bar at each time, float64 (steps,), for the linear schedule of Ho et al. (2020)."""
    return (1 - torch.linspace(first, last, steps, dtype=torch.float64)).cumprod(0)


def timesteps(count: int, total: int = TRAIN_STEPS, name: str = "steps") -> list[int]:
    """``count`` times from 0 on with equal strides, as the official sampler chooses them.

    Raises:
        ValueError: if no stride gives as many; the message names counts nearby that do.
    """
    fits = {len(range(0, total, stride)) for stride in range(1, total // 2 + 1)}
    if count not in fits:
        near = sorted(fits, key=lambda n: abs(n - count))[:4]
        raise ValueError(
            f"{name}: expected a number of equal strides through {total}, got {count}; "
            f"near to it are {', '.join(map(str, sorted(near)))}"
        )
    return list(range(0, total, -(-total // count)))


def add_noise(clean: Tensor, noise: Tensor, alpha_bar: Tensor | float) -> Tensor:
    """Clean codes (b, ...) with so much noise that ``alpha_bar`` of their variance is left.

    Args:
        alpha_bar: one number, or one for each sample (b,).
    """
    signal, rest = _roots(alpha_bar, clean)
    return signal * clean + rest * noise


def predict_x0(noisy: Tensor, eps: Tensor, alpha_bar: Tensor | float) -> Tensor:
    """The clean codes that noisy ones come from, if ``eps`` is their noise."""
    signal, rest = _roots(alpha_bar, noisy)
    return (noisy - rest * eps) / signal


def ddim_step(
    noisy: Tensor,
    eps: Tensor,
    alpha_bar: Tensor | float,
    alpha_bar_next: Tensor | float,
    clip: float | None = None,
) -> Tensor:
    """From one noise level to another, down or up: predict the clean code, and noise it anew.

    Args:
        eps: the noise in ``noisy``.
        alpha_bar_next: of the level to go to; 1 is the clean code, 0 nothing but noise.
        clip: the clean code is kept within [-clip, clip].
    """
    clean = predict_x0(noisy, eps, alpha_bar)
    if clip is not None:
        clean = clean.clamp(-clip, clip)
        signal, rest = _roots(alpha_bar, noisy)
        eps = (noisy - signal * clean) / rest
    return add_noise(clean, eps, alpha_bar_next)


def _roots(alpha_bar: Tensor | float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Roots of what is left and of what is noise, computed in double precision."""
    exact = torch.as_tensor(alpha_bar).detach().cpu().double()
    signal, rest = exact.sqrt().to(like), (1 - exact).sqrt().to(like)
    return (per_sample(signal, like), per_sample(rest, like)) if exact.ndim else (signal, rest)


@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
    """When each sample is denoised; rows are steps, columns samples.

    Attributes:
        times: of the denoiser, int64 (steps, b).
        alpha_bar, alpha_bar_prev: fraction of the variance that is left before and after each
            step, (steps, b).
        start: fraction that is left when noise is added, (b,).
    """

    times: Tensor
    alpha_bar: Tensor
    alpha_bar_prev: Tensor
    start: Tensor


def even_schedule(alphas_cumprod: Tensor, strength: Tensor, steps: int) -> Schedule:
    """``steps`` equal strides from ``strength`` (b,) of all times down to the clean code."""
    top = exact(strength, len(alphas_cumprod)) * len(alphas_cumprod)
    strides = torch.arange(steps, 0, -1, dtype=torch.float64)[:, None]
    # Divided last, so that a place halfway between two times is exactly that.
    times = (top * strides / steps).round().long().clamp(1, len(alphas_cumprod)) - 1
    alpha_bar = alphas_cumprod[times]
    alpha_bar_prev = torch.cat([alpha_bar[1:], torch.ones_like(alpha_bar[:1])])
    return Schedule(times, alpha_bar, alpha_bar_prev, alpha_bar[0])


def paper_schedule(alphas_cumprod: Tensor, strength: Tensor, steps: int) -> Schedule:
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
    total = len(alphas_cumprod)
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
    start = alphas_cumprod[times[level]].expand(len(strength))
    return Schedule(grid[0], alphas_cumprod[grid[0]], alphas_cumprod[grid[1]], start)


def exact(share: Tensor, parts: int) -> Tensor:
    """Shares (b,) in double precision, on the CPU: n / parts where float32 has rounded that.

    The float32 number nearest to 0.382, times 500, is a little less than 191, and one step would
    be lost. What was given in double precision stays as it is.
    """
    share = share.cpu()
    whole = (share.double() * parts).round() / parts
    return torch.where(whole.to(share.dtype) == share, whole, share.double())


def denoise(
    denoiser: Denoiser,
    noisy: Tensor,
    schedule: Schedule,
    stopped: Callable[[], bool] = lambda: False,
) -> Tensor:
    """All steps of DDIM without fresh noise; what the denoiser does inside is its own affair.

    Args:
        stopped: asked after each call of the denoiser; if True, its prediction of the clean codes
            is the end.
    """
    rows = zip(schedule.times, schedule.alpha_bar, schedule.alpha_bar_prev, strict=True)
    for times, alpha_bar, alpha_bar_prev in rows:
        eps = denoiser(noisy, times, alpha_bar)
        if stopped():
            return predict_x0(noisy, eps, alpha_bar)
        noisy = ddim_step(noisy, eps, alpha_bar, alpha_bar_prev)
    return noisy


def ddim_invert(denoiser: Denoiser, clean: Tensor, schedule: Schedule) -> Tensor:
    """The noisy codes that these clean ones come from: all steps of ``denoise``, the other way.

    What is denoised from there without guidance ends near to where it began.
    """
    code, alpha_bar = clean, schedule.alpha_bar_prev[-1]
    for times, alpha_bar_next in zip(
        schedule.times.flip(0), schedule.alpha_bar.flip(0), strict=True
    ):
        code = ddim_step(code, denoiser(code, times, alpha_bar), alpha_bar, alpha_bar_next)
        alpha_bar = alpha_bar_next
    return code


def step(
    predict: Predict,
    noisy: Tensor,
    alphas_cumprod: Tensor,
    time: int,
    to: int | None,
    limit: float | None = 1.0,
) -> Tensor:
    """One step of a diffusion autoencoder, whose samples all have the same time.

    Args:
        noisy: images in [-1, 1], (b, c, h, w).
        to: a time; -1 for the clean image, None for nothing but noise.
        limit: how far from 0 the predicted clean image may lie; None for anywhere.
    """
    alpha_bar_next = 0.0 if to is None else 1.0 if to < 0 else alphas_cumprod[to]
    return ddim_step(noisy, predict(noisy, time), alphas_cumprod[time], alpha_bar_next, limit)


def invert(
    predict: Predict,
    images: Tensor,
    alphas_cumprod: Tensor,
    times: list[int],
    limit: float | None = 1.0,
) -> Tensor:
    """The noise that images come from: what ``render`` turns into them, (b, c, h, w)."""
    for time, to in zip(times, [*times[1:], None], strict=True):
        images = step(predict, images, alphas_cumprod, time, to, limit)
    return images


def render(
    predict: Predict,
    noise: Tensor,
    alphas_cumprod: Tensor,
    times: list[int],
    limit: float | None = 1.0,
) -> Tensor:
    """Images in [-1, 1] out of noise."""
    for time, to in zip(reversed(times), [*reversed(times[:-1]), -1], strict=True):
        noise = step(predict, noise, alphas_cumprod, time, to, limit)
    return noise
