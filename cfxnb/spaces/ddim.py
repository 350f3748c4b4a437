"""Denoising diffusion implicit models (Song et al., 2021): from image to noise and back.

Images are in [-1, 1] here. With no fresh noise on the way, each step can be run in both
directions, and what noise an image comes from is as well defined as what image noise leads to.
"""

from collections.abc import Callable

import torch
from torch import Tensor

TRAIN_STEPS = 1000
Predict = Callable[[Tensor, int], Tensor]  # (noisy images, time from 0 to 999) -> their noise


def linear_alphas(first: float = 1e-4, last: float = 0.02, steps: int = TRAIN_STEPS) -> Tensor:
    """How much of an image's variance is left at each time, float64 (steps,): a linear schedule."""
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


def invert(
    predict: Predict, images: Tensor, alphas: Tensor, times: list[int], limit: float | None = 1.0
) -> Tensor:
    """The noise that images come from: what ``render`` turns into them, (b, c, h, w)."""
    for number, time in enumerate(times):
        last = number + 1 == len(times)
        images = step(predict, images, alphas, time, None if last else times[number + 1], limit)
    return images


def render(
    predict: Predict, noise: Tensor, alphas: Tensor, times: list[int], limit: float | None = 1.0
) -> Tensor:
    """Images in [-1, 1] out of noise."""
    for number in reversed(range(len(times))):
        to = times[number - 1] if number else -1
        noise = step(predict, noise, alphas, times[number], to, limit)
    return noise


def step(
    predict: Predict,
    noisy: Tensor,
    alphas: Tensor,
    time: int,
    to: int | None,
    limit: float | None = 1.0,
) -> Tensor:
    """From one time to another: guess the image, keep it in range, noise it as ``to`` has it.

    Args:
        to: a time; -1 for the clean image, None for nothing but noise.
        limit: how far from 0 the guess may lie; None for anywhere.
    """
    left = float(alphas[time])
    image = (noisy - (1 - left) ** 0.5 * predict(noisy, time)) / left**0.5
    if limit is not None:
        image = image.clamp(-limit, limit)
    noise = (noisy - left**0.5 * image) / (1 - left) ** 0.5
    ahead = 0.0 if to is None else 1.0 if to < 0 else float(alphas[to])
    return ahead**0.5 * image + (1 - ahead) ** 0.5 * noise
