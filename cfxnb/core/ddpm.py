"""Denoising diffusion probabilistic models (DDPM; Ho et al., 2020): the steps that add noise.

One step goes from the noise level ``alpha_bar`` to the lower level ``alpha_bar_prev``. Given the
clean code x_0, the code after the step has a Gaussian distribution. ``posterior_mean`` returns the
mean of the code after the step, and ``posterior_variance`` its variance. Some networks learn the
variance (Nichol & Dhariwal, 2021): they predict where the logarithm of the variance lies between
log(beta_tilde) and log(beta).
"""

import dataclasses

import torch
from torch import Tensor

from cfxnb.core.ddim import Schedule, exact
from cfxnb.core.tensors import per_sample


@dataclasses.dataclass(frozen=True, eq=False)
class Level:
    """One step of a schedule. All tensors have one number per sample, (b,).

    Attributes:
        times: times at which the network is evaluated, int64.
        alpha_bar, alpha_bar_prev: noise level before and after the step, float64.
        beta: variance of the noise that the forward process adds in this step, float64.
        beta_tilde: variance of the step if the clean code is known, float64. ``beta_tilde`` is 0 in
            the step that leads to the clean code.
        beta_tilde_learned: lower bound of a learned variance. In most steps, ``beta_tilde_learned``
            equals ``beta_tilde``. In the step that leads to the clean code, log(beta_tilde) is not
            finite, and ``beta_tilde_learned`` is the ``beta_tilde`` of the step before.
        is_last: whether this is the last step of the schedule.
    """

    times: Tensor
    alpha_bar: Tensor
    alpha_bar_prev: Tensor
    beta: Tensor
    beta_tilde: Tensor
    beta_tilde_learned: Tensor
    is_last: bool


def levels(schedule: Schedule) -> list[Level]:
    """Return the steps of a schedule, from the noisiest to the last."""
    before, after = schedule.alpha_bar, schedule.alpha_bar_prev
    beta, tilde = _variances(before, after)
    above = before[-2] if len(before) > 1 else schedule.start
    _, tilde_before = _variances(above, before[-1])
    learned = tilde.clone()
    learned[-1] = torch.where(tilde[-1] > 0, tilde[-1], tilde_before)
    is_last = [False] * (len(before) - 1) + [True]
    learned = learned.clamp_min(1e-20)
    rows = zip(schedule.times, before, after, beta, tilde, learned, is_last, strict=True)
    return [Level(*row) for row in rows]


def _variances(alpha_bar: Tensor, alpha_bar_prev: Tensor) -> tuple[Tensor, Tensor]:
    """Return beta and beta_tilde of the step from ``alpha_bar`` to ``alpha_bar_prev``."""
    beta = 1 - alpha_bar / alpha_bar_prev
    return beta, beta * (1 - alpha_bar_prev) / (1 - alpha_bar)


def posterior_mean(noisy: Tensor, clean: Tensor, level: Level) -> Tensor:
    """Return the mean of the codes after a step, given the clean codes, (b, ...).

    Args:
        noisy: codes before the step, (b, ...).
        clean: predicted clean codes, (b, ...).
        level: the step.
    """
    ahead, beta = level.alpha_bar_prev, level.beta
    own = (ahead.sqrt() * beta / (1 - level.alpha_bar)).to(noisy)
    kept = ((1 - beta).sqrt() * (1 - ahead) / (1 - level.alpha_bar)).to(noisy)
    return per_sample(own, noisy) * clean + per_sample(kept, noisy) * noisy


def posterior_variance(like: Tensor, level: Level, fraction: Tensor | None = None) -> Tensor:
    """Return the variance of the codes after a step, (b, 1, ...) or (b, ...).

    Args:
        like: codes (b, ...). The result has the dtype, device and number of axes of ``like``.
        level: the step.
        fraction: learned position of the log variance between log(beta_tilde) (0) and log(beta)
            (1), (b, ...). If ``fraction`` is None, the variance is beta_tilde.
    """
    if fraction is None:
        return per_sample(level.beta_tilde.to(like), like)
    low = per_sample(level.beta_tilde_learned.log().to(like), like)
    high = per_sample(level.beta.log().to(like), like)
    return (fraction * high + (1 - fraction) * low).exp()


def respaced_schedule(alphas_cumprod: Tensor, strength: Tensor, steps: int) -> Schedule:
    """Return the schedule of the official code of improved diffusion (Nichol & Dhariwal, 2021).

    The schedule has evenly spaced times from the first to the last training time. As in the
    official code of DiME, the noisy codes at the start have more noise than the first step expects,
    namely the noise level of the next higher time.

    Args:
        alphas_cumprod: alpha_bar at each time of the training, (times,).
        strength: fraction of the ``steps`` steps that the schedule takes, (b,), equal for all
            samples. The schedule has int(strength * steps) steps, computed in double precision.
        steps: number of evenly spaced times in the whole diffusion.

    Raises:
        ValueError: if there are more steps than times, if the strengths differ, or if a strength
            gives no step or starts beyond the last time.
    """
    total = len(alphas_cumprod)
    if not 2 <= steps <= total:
        raise ValueError(f"steps: expected 2 to {total}, as many as there are times, got {steps}")
    if not (strength == strength[0]).all():
        raise ValueError(f"strength: expected the same for all samples, got {strength.tolist()}")
    count = int(float(exact(strength[:1], steps)) * steps)
    if not 1 <= count < steps:
        raise ValueError(
            f"strength: expected one that takes 1 to {steps - 1} of {steps} steps, "
            f"got {float(strength[0]):.7g}, which takes {count}"
        )
    # The official code adds up the stride. Halves are rounded by the error of this sum.
    stride, place, times = (total - 1) / (steps - 1), 0.0, []
    for _ in range(steps):
        times.append(round(place))
        place += stride
    alpha_bar = alphas_cumprod[torch.tensor(times)]
    before = torch.cat([torch.ones_like(alpha_bar[:1]), alpha_bar])
    back = torch.arange(count - 1, -1, -1)

    def for_all(values: Tensor) -> Tensor:
        return values[:, None].expand(-1, len(strength))

    start = alpha_bar[count].expand(len(strength))
    times_back = torch.tensor(times)[back]
    return Schedule(for_all(times_back), for_all(alpha_bar[back]), for_all(before[back]), start)
