"""FastDiME (Weng et al., ECCV 2024, arXiv 2312.14223): DiME with a cheap clean image and a mask."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from cfxnb.core import validate
from cfxnb.core.ddim import add_noise
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import Classifier, OnStep
from cfxnb.diffusion.guided_ddpm import DDPMOptions, GuidedDDPM
from cfxnb.diffusion.scale_ladder import run_ladder

#: Settings of the official code for CelebA at 128 pixels. The perceptual distance uses the first 18
#: layers of VGG-19, see ``features``.
PAPER_FASTDIME: dict[str, Any] = {
    "as_published": True,
    "steps": 200,
    "strength": 0.3,
    "scales": (8.0, 10.0, 15.0),
    "warmup": 30,
    "masking_threshold": 0.15,
    "dilation": 5,
    "l1_scale": 0.05,
    "perceptual_scale": 30.0,
    "clip_sample_range": 1.0,
    "confidence": 0.5,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FastDiMEOptions(DDPMOptions):
    """The checked options of ``fastdime``, which explains them."""

    warmup: int
    masking_threshold: float
    dilation: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(
            {
                "warmup": validate.count,
                "masking_threshold": partial(validate.number, low=0.0, high=1.0),
                "dilation": validate.odd,
            }
        )


def sample_fastdime(guided: GuidedDDPM, o: FastDiMEOptions) -> None:
    """Denoise with guidance, and restore what changed little: the algorithm of the paper.

    In the code below, x is the code of the original, x_0 the predicted clean code, and x_c the
    clean code at which gradients are taken. DiME denoises completely to get x_c. FastDiME uses the
    x_0 of the step before. After ``warmup`` steps, positions at which x_0 is close to x return to
    the original.
    """
    x = x_c = guided.code
    z = add_noise(x, guided.noise(), guided.schedule.start)
    mask = torch.ones_like(x[:, :1], dtype=torch.bool)
    for number, level in enumerate(guided.levels()):
        # 1. Predict the clean code, and the distribution of the codes after this step.
        x_0, mean, variance = guided.posterior(z, level)
        # 2. Take the gradients of the classifier and of the distance at the clean code.
        class_gradient, distance_gradient = guided.gradients(x_c, z, level, mask)
        # 3. Follow the gradients, and add the noise of the step.
        z = mean - guided.shift(class_gradient + distance_gradient, variance)
        z = z + variance.sqrt() * guided.noise(level)
        x_c = x_0
        # 4. Return to the original, with its noise, where the clean code changed little.
        if number >= o.warmup:
            mask = large_changes(x, x_0, o.masking_threshold, o.dilation)
            x_c = torch.where(mask, x_0, x)
            outside = add_noise(x, guided.noise(), guided.outside(level))
            z = torch.where(mask, z, outside)
    guided.finish(torch.where(mask, z, x), mask)


def large_changes(before: Tensor, after: Tensor, threshold: float, dilation: int) -> Tensor:
    """Return a mask of the positions that changed most, bool (b, 1, h, w).

    Args:
        before, after: (b, c, h, w).
        threshold: fraction of the largest change of a sample. The change of a position is summed
            over the channels.
        dilation: side of the square with which the mask is dilated, odd.
    """
    change = (before - after).abs().sum(1, keepdim=True)
    largest = change.amax((1, 2, 3), keepdim=True).clamp_min(1e-30)
    return max_pool2d(change / largest, dilation, stride=1, padding=dilation // 2) >= threshold


@standard_modes
@torch.no_grad()
def fastdime(
    space: Any,
    classifier: Classifier,
    images: Tensor,
    target: int | str | Sequence[int | str] | Tensor,
    *,
    # The ones that matter:
    scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
    strength: float = 0.5,
    steps: int = 10,
    warmup: int = 5,
    masking_threshold: float = 0.15,
    dilation: int = 5,
    l1_scale: float = 0.0,
    perceptual_scale: float = 0.0,
    features: Callable[[Tensor], Tensor] | None = None,
    confidence: float = 0.99,
    # For comparisons and the settings of the paper:
    as_published: bool = False,
    loss: str = "log_odds",
    gradient_clip: str = "none",
    clip_sample_range: float | None = None,
    # As in every method:
    seed: int = 0,
    batch_size: int = 32,
    first_row: int | Tensor = 0,
    on_step: OnStep | None = None,
) -> Counterfactuals:
    """TODO"""
    options = FastDiMEOptions(
        scales=scales,
        strength=strength,
        steps=steps,
        warmup=warmup,
        masking_threshold=masking_threshold,
        dilation=dilation,
        l1_scale=l1_scale,
        perceptual_scale=perceptual_scale,
        confidence=confidence,
        as_published=as_published,
        loss=loss,
        gradient_clip=gradient_clip,
        clip_sample_range=clip_sample_range,
        seed=seed,
    )
    return run_ladder(
        "fastdime",
        space,
        classifier,
        images,
        target,
        options,
        lambda guided: sample_fastdime(guided, options),
        features=features,
        batch_size=batch_size,
        first_row=first_row,
        on_step=on_step,
        divide=False,
    )
