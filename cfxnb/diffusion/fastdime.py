"""FastDiME (Weng et al., ECCV 2024, arXiv 2312.14223): DiME with cheaper gradients and a mask."""

import dataclasses
import os
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
from cfxnb.core.streamed import streamed
from cfxnb.core.target import Target
from cfxnb.core.types import Classifier, Images, OnStep
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


_CHECKS = DDPMOptions.checks | {
    "warmup": validate.count,
    "masking_threshold": partial(validate.number, low=0.0, high=1.0),
    "dilation": partial(validate.optional, validate.odd),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FastDiMEOptions(DDPMOptions):
    """The checked options of ``fastdime``, whose docstring explains each option."""

    checks = _CHECKS
    warmup: int
    masking_threshold: float
    dilation: int | None


def sample_fastdime(guided: GuidedDDPM, o: FastDiMEOptions) -> None:
    """Denoise with guidance, and restore what changed little: the algorithm of the paper.

    In the code below, x is the code of the original, x_0 the predicted clean code, and x_c the
    clean code at which gradients are taken. DiME computes x_c by denoising completely, while
    FastDiME takes the x_0 of the step before as x_c. After ``warmup`` steps, positions at which x_0
    is close to x return to the original.
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
            mask = large_changes(x, x_0, o.masking_threshold, guided.dilation(o.dilation))
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


@streamed
@standard_modes
@torch.no_grad()
def fastdime(
    space: Any,
    classifier: Classifier,
    images: Images,
    target: Target,
    *,
    # The ones that matter:
    scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
    strength: float = 0.3,
    steps: int = 10,
    warmup: int = 1,
    masking_threshold: float = 0.15,
    dilation: int | None = None,
    l1_scale: float = 0.0,
    perceptual_scale: float = 0.0,
    features: Callable[[Tensor], Tensor] | None = None,
    confidence: float = 0.99,
    # For comparisons and the settings of the paper:
    when_reached: str = "stop",
    as_published: bool = False,
    loss: str = "log_odds",
    gradient_clip: str = "none",
    clip_sample_range: float | None = None,
    # As in every method:
    seed: int = 0,
    batch_size: int = 32,
    first_row: int | Tensor = 0,
    on_step: OnStep | None = None,
    output_dir: str | os.PathLike | None = None,
) -> Counterfactuals:
    """Add noise to each image and denoise it, guided by the classifier, and keep large changes.

    The method is FastDiME (Weng et al., ECCV 2024, arXiv 2312.14223). The classifier's gradient is
    taken at the clean image that the step before has predicted. After ``warmup`` steps, all
    positions at which the predicted clean image is close to the original return to the original.
    Each step needs one pass of the U-Net, and no gradient through the U-Net.

    Unless ``as_published`` is True, the function differs from the official code:

    - After each step, the original outside the mask gets noise of the same level as the code inside
      the mask. In the official code, the noise outside the mask still has the level before the
      step.
    - Gradients are divided by their root mean square.
    - Small scales of the classifier's gradient are tried first. An image is finished at the first
      step whose predicted clean image is classified as the target. Flips are decided on images
      clamped to [0, 1].
    - An image that does not flip keeps its original code. An image at which the classifier has no
      gradient gets the status "no_gradient".

    In a space of latents, which the paper does not use, masks lie on the grid of the latents. The
    decoded change inside the mask is added to the original image. ``**cfx.PAPER_FASTDIME`` gives
    the settings of the official code.

    Args:
        space: a ``Diffusion`` space of pixels or of latents. The U-Net is evaluated without a
            condition.
        classifier: images (b, c, h, w) -> logits (b, k), with gradients.
        images: (b, c, h, w) in [0, 1], or a data set (see ``cfx.open``).
        target: class to reach, by number or name: one for all images, or one per image (b,). With
            a regression model: a goal, such as ``cfx.raise_to(0.8)``. With a data set also an entry
            of each item, such as ``cfx.from_item("label")``.

        scales: scales of the classifier's gradient, in the order in which they are tried. An image
            that has flipped is not tried again. With scale 1, the root mean square of the guidance
            in a step equals the standard deviation of the noise of the step.
        strength: fraction of the diffusion time to which noise is added, above 0 and below 1. More
            noise allows larger changes.
        steps: denoising steps of each attempt.
        warmup: number of steps without a mask at the start of each attempt.
        masking_threshold: fraction of the largest change of an image, 0 to 1. Positions that change
            by less than this fraction return to the original.
        dilation: side of the square with which the mask is dilated, in positions of the code, odd.
            Default: about 5 pixels of the image.
        l1_scale: scale of the pull towards the original, measured like ``scales``. The pull is the
            sign of the difference (code minus original code). Default: 0 (no pull).
        perceptual_scale: scale of the gradient of the perceptual distance to the original, measured
            like ``scales``. The perceptual distance is the mean squared difference of the features
            of two images (see ``features``). Default: 0 (not used).
        features: images (b, c, h, w) in [0, 1] -> features (b, ...), with gradients. Needed for
            ``perceptual_scale``. The official code uses layers of VGG-19 as ``features``.
        confidence: an image counts as flipped if the target is predicted with at least this
            probability.

        when_reached: ``"stop"`` returns the first predicted clean image that reaches the target.
            ``"pause"`` takes all steps, and does not guide an image while its predicted clean image
            reaches the target. With ``"pause"``, the noise of later steps may undo the change.
        as_published: follow the official code. With ``as_published``, ``steps`` is the number of
            steps of the whole diffusion, and an attempt takes int(strength * steps) of them. With
            ``as_published``, gradients are multiplied by the scale and by the variance of the step.
            Without ``as_published``, gradients are normalised, and then multiplied by the scale and
            by the standard deviation of the step. With ``as_published``, all steps are taken, and
            an image that does not flip gets the result of the last scale. The official code adds
            one step more of noise than it removes.
        loss: the guidance raises the ``"log_odds"``, the ``"logit"`` or the ``"log_probability"``
            of the target. With two classes, the log odds equal the single logit that the official
            code uses.
        gradient_clip: ``"image"`` clips the classifier's gradient to its mean plus or minus three
            standard deviations. ``"batch"`` clips with the mean and the standard deviation of the
            whole batch, like an option of the official code. With ``"batch"``, a result depends on
            the other images (and on ``batch_size``). Default: ``"none"``.
        clip_sample_range: clip the predicted clean codes to this absolute value. Use 1 for pixel
            models with codes from -1 to 1. Default: nothing is clipped.

        seed: seed of the noise. The noise of an image depends only on the seed and the position of
            the image in its data set.
        batch_size: Images per batch. The batch size affects memory and speed, not results.
        first_row: position of the first image in its data set, or the position of each image, (b,).
        on_step: called with a ``Step`` after each evaluation of the gradient. If ``on_step``
            returns True, the search stops. Images that have flipped keep their result, and all
            other images get the status "stopped".
        output_dir: folder to which the results are written in shards, for any number of images.
            After a crash, the same call goes on. ``cfx.open`` opens the folder. Default: None.

    Returns:
        Counterfactuals. Outside ``trace["mask"]`` the image is the original, unless
        ``as_published``. ``trace`` describes the last attempt of each image. ``probability`` (b,
        steps) is the probability of the target at each step, NaN for steps that were not taken.
        ``scale`` (b,) is the scale of the classifier's gradient in the last attempt. ``mask`` (b,
        h, w) are the pixels that could change, and ``mask_fraction`` (b, steps) is the fraction of
        positions at which the predicted clean image could change. ``cost`` counts forward and
        backward passes of ``unet``, ``classifier``, ``generator`` (U-Net and decoder together) and,
        if given, ``features``.

    Raises:
        ValueError, TypeError: if an argument is wrong, or if the classifier is a ``BlackBox``. The
            error message names the argument.
    """
    options = FastDiMEOptions.among(locals())
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
