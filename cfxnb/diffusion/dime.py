"""DiME (Jeanneret et al., ACCV 2022, arXiv 2203.15636): gradients at completely denoised images."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.ddim import add_noise
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import Classifier, OnStep
from cfxnb.diffusion.guided_ddpm import DDPMOptions, GuidedDDPM
from cfxnb.diffusion.scale_ladder import run_ladder

#: Settings of the official code for CelebA at 128 pixels. The perceptual distance uses the first 18
#: layers of VGG-19, see ``features``.
PAPER_DIME: dict[str, Any] = {
    "as_published": True,
    "steps": 200,
    "strength": 0.3,
    "scales": (8.0, 10.0, 15.0),
    "l1_scale": 0.05,
    "perceptual_scale": 30.0,
    "clip_sample_range": 1.0,
    "confidence": 0.5,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiMEOptions(DDPMOptions):
    """The checked options of ``dime``, which explains them."""

    inner_noise: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check({"inner_noise": validate.flag})


def sample_dime(guided: GuidedDDPM, o: DiMEOptions) -> None:
    """Denoise with gradients at completely denoised images: the algorithm of the paper.

    In the code below, x is the code of the original, and x_c the clean code at which gradients are
    taken. At each step x_c is denoised anew, without guidance. So an attempt with n steps has
    n (n + 1) / 2 passes of the U-Net.
    """
    x = x_c = guided.code
    z = add_noise(x, guided.noise(), guided.schedule.start)
    for level in guided.levels():
        # 1. The distribution of the codes after this step.
        _, mean, variance = guided.posterior(z, level)
        # 2. Take the gradients of the classifier and of the distance at the clean code.
        class_gradient, distance_gradient = guided.gradients(x_c, z, level)
        # 3. Follow the gradients, and add the noise of the step.
        z = mean - guided.shift(class_gradient + distance_gradient, variance)
        z = z + variance.sqrt() * guided.noise(level)
        # 4. Denoise completely.
        x_c = guided.denoise(z, level, o.inner_noise)
    guided.finish(z)


@standard_modes
@torch.no_grad()
def dime(
    space: Any,
    classifier: Classifier,
    images: Tensor,
    target: int | str | Sequence[int | str] | Tensor,
    *,
    # The ones that matter:
    scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
    strength: float = 0.5,
    steps: int = 6,
    l1_scale: float = 0.0,
    perceptual_scale: float = 0.0,
    features: Callable[[Tensor], Tensor] | None = None,
    confidence: float = 0.99,
    # For comparisons and the settings of the paper:
    as_published: bool = False,
    inner_noise: bool = False,
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
    options = DiMEOptions(
        scales=scales,
        strength=strength,
        steps=steps,
        l1_scale=l1_scale,
        perceptual_scale=perceptual_scale,
        confidence=confidence,
        as_published=as_published,
        inner_noise=inner_noise,
        loss=loss,
        gradient_clip=gradient_clip,
        clip_sample_range=clip_sample_range,
        seed=seed,
    )
    return run_ladder(
        "dime",
        space,
        classifier,
        images,
        target,
        options,
        lambda guided: sample_dime(guided, options),
        features=features,
        batch_size=batch_size,
        first_row=first_row,
        on_step=on_step,
        masked=False,
    )
