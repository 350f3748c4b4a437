"""Denoising diffusion implicit models (DDIM; Song et al., 2021): schedules, steps, inversion.

``alpha_bar`` is the fraction of the clean code's variance that is left at a time of the diffusion
(``alphas_cumprod`` in diffusers). We never add fresh noise (eta = 0 in the paper), so a step is
deterministic and can be taken in both directions.

The module has two samplers that share one loop:

- ``denoise`` and ``ddim_invert`` are for methods such as LDCE. A ``Schedule`` holds the times,
  which may differ between samples.
- ``render`` and ``invert`` are for diffusion autoencoders, with the same times for all samples.

``ddim_invert`` and ``invert`` follow different conventions. On the way from one time to a later
one, ``ddim_invert`` evaluates the network at the later time, like diffusers' DDIMInverseScheduler.
``invert`` evaluates the network at the earlier of the two times, like the code of Preechakul et al.
(2022).
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from cfxnb.core.tensors import per_sample

TRAIN_STEPS = 1000
Predict = Callable[[Tensor, int], Tensor]  # (noisy images, time from 0 to 999) -> their noise
Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy codes (b, ...), times (b,), alpha_bar (b,)) -> the noise in the codes, (b, ...)."""


def linear_alphas_cumprod(
    first: float = 1e-4, last: float = 0.02, steps: int = TRAIN_STEPS
) -> Tensor:
    """Return alpha_bar of the linear schedule of Ho et al. (2020), float64 (steps,).

    Args:
        first, last: beta, the variance of the noise added in one step, at the first and last time.
        steps: number of times.
    """
    return (1 - torch.linspace(first, last, steps, dtype=torch.float64)).cumprod(0)


def timesteps(steps: int, total: int = TRAIN_STEPS, name: str = "steps") -> list[int]:
    """Return ``steps`` evenly spaced diffusion times from 0 on, as in the code of Preechakul et al.

    Args:
        steps: number of times wanted.
        total: number of times that the network was trained on.
        name: name of the argument, for the error message.

    Raises:
        ValueError: if no distance between times gives exactly ``steps`` times. The message suggests
            possible values of ``steps``.
    """
    possible = {len(range(0, total, stride)) for stride in range(1, total // 2 + 1)}
    if steps not in possible:
        nearest = sorted(possible, key=lambda n: abs(n - steps))[:4]
        raise ValueError(
            f"{name}: expected a number of equal strides through {total}, got {steps}; "
            f"near to it are {', '.join(map(str, sorted(nearest)))}"
        )
    return list(range(0, total, -(-total // steps)))


def add_noise(clean: Tensor, noise: Tensor, alpha_bar: Tensor | float) -> Tensor:
    """Return sqrt(alpha_bar) * clean + sqrt(1 - alpha_bar) * noise.

    Args:
        clean, noise: (b, ...).
        alpha_bar: fraction of the variance to keep, one number or one per sample (b,).
    """
    signal, sigma = _roots(alpha_bar, clean)
    return signal * clean + sigma * noise


def predict_x0(noisy: Tensor, eps: Tensor, alpha_bar: Tensor | float) -> Tensor:
    """Return the clean codes (noisy - sqrt(1 - alpha_bar) * eps) / sqrt(alpha_bar).

    Args:
        noisy: (b, ...).
        eps: predicted noise in ``noisy``.
        alpha_bar: noise level of ``noisy``, one number or one per sample (b,).
    """
    signal, sigma = _roots(alpha_bar, noisy)
    return (noisy - sigma * eps) / signal


def ddim_step(
    noisy: Tensor,
    eps: Tensor,
    alpha_bar: Tensor | float,
    alpha_bar_next: Tensor | float,
    clip_sample_range: float | None = None,
) -> Tensor:
    """Take one DDIM step: predict the clean codes, and add the predicted noise at the next level.

    Args:
        noisy: (b, ...).
        eps: predicted noise in ``noisy``.
        alpha_bar: noise level of ``noisy``, one number or one per sample (b,).
        alpha_bar_next: alpha_bar of the result, higher than ``alpha_bar`` for denoising and lower
            for inversion. ``alpha_bar_next=1`` gives the clean codes, and 0 gives pure noise.
        clip_sample_range: Largest absolute value to which the predicted clean codes are clipped,
            before ``eps`` is recomputed. If ``clip_sample_range`` is None, nothing is clipped.
    """
    clean = predict_x0(noisy, eps, alpha_bar)
    if clip_sample_range is not None:
        clean = clean.clamp(-clip_sample_range, clip_sample_range)
        signal, sigma = _roots(alpha_bar, noisy)
        eps = (noisy - signal * clean) / sigma
    return add_noise(clean, eps, alpha_bar_next)


def _roots(alpha_bar: Tensor | float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return sqrt(alpha_bar) and sqrt(1 - alpha_bar), computed in double precision."""
    double = torch.as_tensor(alpha_bar).detach().cpu().double()
    signal, sigma = double.sqrt().to(like), (1 - double).sqrt().to(like)
    return (per_sample(signal, like), per_sample(sigma, like)) if double.ndim else (signal, sigma)


@dataclasses.dataclass(frozen=True, eq=False)
class Schedule:
    """The times at which each sample is denoised: one row per step, one column per sample.

    Attributes:
        times: times at which the network is evaluated, int64 (steps, b).
        alpha_bar, alpha_bar_prev: noise level before and after each step, (steps, b).
        start: noise level at which denoising starts, (b,).
    """

    times: Tensor
    alpha_bar: Tensor
    alpha_bar_prev: Tensor
    start: Tensor


def even_schedule(alphas_cumprod: Tensor, strength: Tensor, steps: int) -> Schedule:
    """Return a schedule of ``steps`` evenly spaced times that ends at the clean code.

    For strength 1 the times are those of diffusers with timestep_spacing="trailing" and
    set_alpha_to_one=True.

    Args:
        alphas_cumprod: alpha_bar at each time of the training, (times,).
        strength: fraction of the diffusion time at which denoising starts, one per sample (b,).
        steps: number of steps. With a lower ``strength`` the steps are shorter, and their number is
            the same.
    """
    top = exact(strength, len(alphas_cumprod)) * len(alphas_cumprod)
    strides = torch.arange(steps, 0, -1, dtype=torch.float64)[:, None]
    # Multiply before dividing: a place halfway between two times is then represented exactly.
    times = (top * strides / steps).round().long().clamp(1, len(alphas_cumprod)) - 1
    alpha_bar = alphas_cumprod[times]
    alpha_bar_prev = torch.cat([alpha_bar[1:], torch.ones_like(alpha_bar[:1])])
    return Schedule(times, alpha_bar, alpha_bar_prev, alpha_bar[0])


def paper_schedule(alphas_cumprod: Tensor, strength: Tensor, steps: int) -> Schedule:
    """Return the schedule of the official code of LDCE (Farid et al., 2023).

    The times are those of diffusers with timestep_spacing="leading", steps_offset=1 and
    set_alpha_to_one=False. As in the official code, the noisy codes at the start have more noise
    than the first step expects, namely the noise level of the next higher time. The last step leads
    to the noise level of the first training time, not to the clean code.

    Args:
        alphas_cumprod: alpha_bar at each time of the training, (times,).
        strength: fraction of the diffusion at which denoising starts, (b,), equal for all samples.
            The schedule has int(strength * steps) steps, computed in double precision.
        steps: determines the distance of neighbouring times, ``len(alphas_cumprod) // steps``.

    Raises:
        ValueError: if there are more steps than times, if the strengths differ, or if a strength
            gives no step or starts beyond the last time.
    """
    total = len(alphas_cumprod)
    if not 1 <= steps <= total:
        raise ValueError(f"steps: expected 1 to {total}, as many as there are times, got {steps}")
    value = float(strength[0])
    if not (strength == strength[0]).all():
        raise ValueError(f"strength: expected the same for all samples, got {strength.tolist()}")
    times = torch.arange(0, total, total // steps) + 1
    times = times[times < total]  # the official code fails if the last time does not exist
    level = int(float(exact(strength[:1], steps)) * steps)
    if not 1 <= level < len(times):
        highest = min(steps, len(times) - 1)
        raise ValueError(
            f"strength: expected one that takes 1 to {highest} of {steps} steps, "
            f"got {value:.7g}, which takes {level}"
        )
    back = torch.arange(level - 1, -1, -1)
    before = torch.cat([torch.zeros(1, dtype=torch.int64), times])[back]
    grid = torch.stack([times[back], before]).unsqueeze(2).expand(-1, -1, len(strength))
    start = alphas_cumprod[times[level]].expand(len(strength))
    return Schedule(grid[0], alphas_cumprod[grid[0]], alphas_cumprod[grid[1]], start)


def exact(fraction: Tensor, parts: int) -> Tensor:
    """Return fractions (b,) in double precision, on the CPU, without the rounding of float32.

    For example, 0.382 * 500 is 191, but in float32 0.382 is a little less, and int() of the product
    would give 190 steps. A float32 number is therefore replaced by the nearest n / ``parts``, where
    n is an integer, if both numbers are equal in float32. Numbers in double precision are returned
    unchanged.
    """
    fraction = fraction.cpu()
    nearest = (fraction.double() * parts).round() / parts
    return torch.where(nearest.to(fraction.dtype) == fraction, nearest, fraction.double())


def denoise(
    denoiser: Denoiser,
    noisy: Tensor,
    schedule: Schedule,
    stopped: Callable[[], bool] = lambda: False,
) -> Tensor:
    """Denoise codes with all DDIM steps of a schedule.

    Args:
        denoiser: predicts the noise. For guidance, pass a function that calls the network and
            guides its prediction.
        noisy: codes at the noise level ``schedule.start``, (b, ...).
        stopped: called after each evaluation of the denoiser. If ``stopped()`` is True, the
            function returns the clean codes that are predicted at this step.
    """
    levels = zip(schedule.times, schedule.alpha_bar, schedule.alpha_bar_prev, strict=True)
    return _walk(denoiser, noisy, levels, stopped=stopped)


def ddim_invert(denoiser: Denoiser, clean: Tensor, schedule: Schedule) -> Tensor:
    """Return the noisy codes from which ``denoise`` leads (nearly) to the codes ``clean``.

    The steps of ``denoise`` are taken in the opposite direction. The more steps a schedule has, the
    smaller is the error after inversion and denoising.
    """
    backwards = (schedule.times, schedule.alpha_bar_prev, schedule.alpha_bar)
    return _walk(denoiser, clean, zip(*(part.flip(0) for part in backwards), strict=True))


def _walk(
    denoiser: Callable[[Tensor, Any, Any], Tensor],
    code: Tensor,
    levels: Iterable[tuple[Any, Any, Any]],
    clip_sample_range: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Tensor:
    """Take one DDIM step per entry of ``levels``: (times, alpha_bar before, alpha_bar after)."""
    for times, alpha_bar, alpha_bar_next in levels:
        eps = denoiser(code, times, alpha_bar)
        if stopped():
            return predict_x0(code, eps, alpha_bar)
        code = ddim_step(code, eps, alpha_bar, alpha_bar_next, clip_sample_range)
    return code


def step(
    predict: Predict,
    noisy: Tensor,
    alphas_cumprod: Tensor,
    time: int,
    to: int | None,
    clip_sample_range: float | None = 1.0,
) -> Tensor:
    """Take one step of a diffusion autoencoder, with the same time for all samples.

    Args:
        predict: maps noisy images and a time to the predicted noise in the images.
        noisy: images in [-1, 1] with the noise level of ``time``, (b, c, h, w).
        alphas_cumprod: alpha_bar at each time, (times,).
        to: time after the step. -1 stands for the clean image, and None for pure noise.
        clip_sample_range: largest absolute value of the predicted clean image, see ``ddim_step``.
    """
    return _walk_times(predict, noisy, alphas_cumprod, [(time, to)], clip_sample_range)


def invert(
    predict: Predict,
    images: Tensor,
    alphas_cumprod: Tensor,
    times: list[int],
    clip_sample_range: float | None = 1.0,
) -> Tensor:
    """Return the noise, (b, c, h, w), that ``render`` turns (nearly) into ``images``.

    Args:
        images: (b, c, h, w) in [-1, 1].
        times: increasing diffusion times, as ``timesteps`` returns them.

    For the other arguments see ``step``.
    """
    pairs = zip(times, [*times[1:], None], strict=True)
    return _walk_times(predict, images, alphas_cumprod, pairs, clip_sample_range)


def render(
    predict: Predict,
    noise: Tensor,
    alphas_cumprod: Tensor,
    times: list[int],
    clip_sample_range: float | None = 1.0,
) -> Tensor:
    """Turn noise (b, c, h, w) into images in [-1, 1].

    Args:
        times: increasing diffusion times, as ``timesteps`` returns them.

    For the other arguments see ``step``.
    """
    pairs = zip(reversed(times), [*reversed(times[:-1]), -1], strict=True)
    return _walk_times(predict, noise, alphas_cumprod, pairs, clip_sample_range)


def _walk_times(
    predict: Predict,
    x: Tensor,
    alphas_cumprod: Tensor,
    pairs: Iterable[tuple[int, int | None]],
    clip_sample_range: float | None,
) -> Tensor:
    """Take one step per pair (time before, time after), see ``step``."""
    levels = (
        (time, alphas_cumprod[time], 0.0 if to is None else 1.0 if to < 0 else alphas_cumprod[to])
        for time, to in pairs
    )
    return _walk(lambda x, time, _: predict(x, time), x, levels, clip_sample_range)
