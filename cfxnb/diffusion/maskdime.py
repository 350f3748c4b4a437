"""MaskDiME (arXiv 2602.18792): guided diffusion that changes only a part of each image."""

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
from cfxnb.core.tensors import norms, per_sample
from cfxnb.core.types import Classifier, Images, OnStep
from cfxnb.diffusion.guided_ddpm import DDPMOptions, GuidedDDPM
from cfxnb.diffusion.scale_ladder import run_ladder

_fraction = partial(validate.number, low=0.0, high=1.0, open_low=True)

#: Settings of the official script for smiles of CelebA at 128 pixels. The script multiplies each
#: gradient by a further factor of 8. Here this factor is part of the scales: 8, 10 and 15 become
#: 64, 80 and 120. The perceptual distance uses the first 18 layers of VGG-19, see ``features``.
PAPER_MASKDIME: dict[str, Any] = {
    "as_published": True,
    "steps": 200,
    "strength": 0.3,
    "scales": (64.0, 80.0, 120.0),
    "mask_fraction": 0.05,
    "inner_fraction": 0.5,
    "dilation": 5,
    "l1_scale": 0.4,
    "perceptual_scale": 240.0,
    "clip_sample_range": 1.0,
    "confidence": 0.5,
}


_CHECKS = DDPMOptions.checks | {
    "mask_fraction": _fraction,
    "inner_fraction": _fraction,
    "dilation": partial(validate.optional, validate.odd),
    "per_channel": validate.flag,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskDiMEOptions(DDPMOptions):
    """The checked options of ``maskdime``, whose docstring explains each option."""

    checks = _CHECKS
    mask_fraction: float
    inner_fraction: float
    dilation: int | None
    per_channel: bool


def sample_maskdime(guided: GuidedDDPM, o: MaskDiMEOptions) -> None:
    """Denoise inside a mask that follows the classifier's gradient: the algorithm of the paper.

    In the code below, x is the code of the original, x_0 the predicted clean code, and x_c the
    clean code at which gradients are taken. Inside mask_1 the codes are denoised and guided.
    Outside mask_1 the codes are noisy originals. The smaller mask_2 of the step before decides
    where x_c may differ from the original.
    """
    x = guided.code
    z = add_noise(x, guided.noise(), guided.schedule.start)
    mask_1 = mask_2 = torch.zeros_like(x[:, :1], dtype=torch.bool)
    for level in guided.levels():
        # 1. Predict the clean code, and the distribution of the codes after this step.
        x_0, mean, variance = guided.posterior(z, level)
        # 2. Take the gradients of the classifier and of the distance at a nearly clean image.
        x_c = torch.where(mask_2, x_0, x)
        class_gradient, distance_gradient = guided.gradients(x_c, z, level, mask_2)
        # 3. Find the positions at which the classifier's gradient is largest.
        # Without a gradient, a sample keeps its masks.
        found = largest_gradients(class_gradient, o, guided.dilation(o.dilation))
        usable = per_sample(norms(class_gradient) > 0, x)
        mask_1, mask_2 = (
            torch.where(usable, *m) for m in zip(found, (mask_1, mask_2), strict=True)
        )
        # 4. Inside the mask, follow the gradients. No noise is added there.
        inside = mean - guided.shift(class_gradient + distance_gradient, variance)
        # 5. Outside, return to the original, with the noise of the next level.
        outside = add_noise(x, guided.noise(), guided.outside(level))
        z = torch.where(mask_1, inside, outside)
    guided.finish(z, mask_1)


def largest_gradients(gradient: Tensor, o: MaskDiMEOptions, dilation: int) -> tuple[Tensor, Tensor]:
    """Return two masks of the positions with the largest gradients, the second inside the first.

    Here the larger mask covers ``mask_fraction`` of the positions after its dilation. The official
    code chooses ``mask_fraction`` of the positions and then dilates the mask, which thereby covers
    several times ``mask_fraction``.

    Args:
        gradient: (b, c, h, w).
        o: the options ``mask_fraction``, ``inner_fraction``, ``per_channel`` and ``as_published``.
        dilation: side of the square with which masks are dilated, odd.

    Returns:
        Two masks, bool (b, 1, h, w), or (b, c, h, w) with ``per_channel``.
    """
    score = gradient.abs() if o.per_channel else gradient.abs().mean(1, keepdim=True)
    first = max(1, int(o.mask_fraction * score[0, 0].numel()))
    second = max(1, int(o.inner_fraction * first))
    if o.as_published:
        chosen = (_top(score, count).float() for count in (first, second))
        mask_1, mask_2 = (_dilate(each, dilation) > 0 for each in chosen)
        return mask_1, mask_2
    # The largest score in the square around each position: a threshold of it is a dilated mask.
    nearby = _dilate(score, dilation)
    return _at_most(nearby, first), _at_most(nearby, second)


def _dilate(values: Tensor, size: int) -> Tensor:
    """Return the largest value in the square with side ``size`` around each position."""
    return max_pool2d(values, size, stride=1, padding=size // 2)


def _top(score: Tensor, count: int) -> Tensor:
    """Return a mask of the ``count`` largest positive scores of each sample and channel."""
    flat = score.flatten(2)
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen.scatter_(2, flat.topk(count, dim=2).indices, True)
    return chosen.view(score.shape) & (score > 0)


def _at_most(score: Tensor, count: int) -> Tensor:
    """Return a mask of the largest positive scores, at most ``count`` of them if ties allow.

    Positions with equal scores are all in the mask, or all outside of it. The positions with the
    largest score are always in the mask.
    """
    flat = score.flatten(2)
    ordered = flat.sort(2, descending=True).values
    limit = ordered[..., count - 1 : count]
    complete = (flat >= limit).sum(2, keepdim=True) <= count
    largest = ordered[..., :1]
    chosen = torch.where(complete, flat >= limit, (flat > limit) | (flat == largest))
    return chosen.view(score.shape) & (score > 0)


@streamed
@standard_modes
@torch.no_grad()
def maskdime(
    space: Any,
    classifier: Classifier,
    images: Images,
    target: Target,
    *,
    # The ones that matter:
    scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
    strength: float = 0.3,
    steps: int = 10,
    mask_fraction: float = 0.5,
    inner_fraction: float = 0.5,
    dilation: int | None = None,
    l1_scale: float = 0.0,
    perceptual_scale: float = 0.0,
    features: Callable[[Tensor], Tensor] | None = None,
    confidence: float = 0.99,
    # For comparisons and the settings of the paper:
    when_reached: str = "pause",
    as_published: bool = False,
    loss: str = "log_odds",
    gradient_clip: str = "none",
    clip_sample_range: float | None = None,
    per_channel: bool = False,
    # As in every method:
    seed: int = 0,
    batch_size: int = 32,
    first_row: int | Tensor = 0,
    on_step: OnStep | None = None,
    output_dir: str | os.PathLike | None = None,
) -> Counterfactuals:
    """Add noise to each image and denoise it, guided by the classifier inside an adaptive mask.

    The method is MaskDiME (Guo et al., arXiv 2602.18792). At each step, the classifier's gradient
    is taken at the predicted clean image. The positions with the largest gradients form the mask.
    Inside the mask the image is denoised and guided. Outside the mask the image stays the original.
    Each step needs one pass of the U-Net, and no gradient through the U-Net.

    Unless ``as_published`` is True, the function differs from the official code:

    - ``mask_fraction`` is the fraction of the positions in the dilated mask. The official code
      chooses ``mask_fraction`` of the positions before the dilation, so the dilated mask covers
      several times as much.
    - Outside the mask, the result is exactly the original. The result of the official code has
      noise outside the mask.
    - Gradients are divided by their root mean square. The official code multiplies the classifier's
      gradient by 64 to 120, and nothing bounds the product.
    - Small scales of the classifier's gradient are tried first. The guidance of an image pauses
      while its predicted clean image is classified as the target. Flips are decided on images
      clamped to [0, 1].
    - An image that does not flip keeps its original code. An image at which the classifier has no
      gradient gets the status "no_gradient".

    In a space of latents, which the paper does not use, masks lie on the grid of the latents. The
    decoded change inside the mask is added to the original image. ``**cfx.PAPER_MASKDIME`` gives
    the settings of the official code.

    MaskDiME needs no condition of the diffusion model, and fewer passes than consensus guidance
    (``cfx.diffusion_counterfactual``). MaskDiME does not check whether the classifier's gradient
    agrees with what the diffusion model knows of the target. On 32 held-out sprites, 23 % of the
    flips of MaskDiME change only the factor that the classifier uses. With consensus guidance, 84 %
    of the flips change only the factor that the classifier uses.

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
        mask_fraction: fraction of the positions in the mask, above 0 and at most 1. With
            ``as_published``, ``mask_fraction`` is the fraction before the mask is dilated.
        inner_fraction: fraction of the mask that forms the inner mask, above 0 and at most 1. The
            inner mask holds the positions with the largest gradients. At the next step, the
            predicted clean image may differ from the original only in the inner mask.
        dilation: side of the square with which masks are dilated, in positions of the code, odd.
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

        when_reached: ``"pause"`` does not guide an image while its predicted clean image reaches
            the target. ``"stop"`` returns the first predicted clean image that reaches the target,
            which costs less and changes less. On 32 training images of faces, an independent
            classifier sees the target in 88 % of the results with ``"stop"``, and in 97 % with
            ``"pause"``.
        as_published: follow the official code. With ``as_published``, ``steps`` is the number of
            steps of the whole diffusion, and an attempt takes int(strength * steps) of them. With
            ``as_published``, gradients are multiplied by the scale and by the variance of the step.
            Without ``as_published``, gradients are normalised, and then multiplied by the scale and
            by the standard deviation of the step. With ``as_published``, all steps are taken, and
            an image that does not flip gets the result of the last scale. The official code adds
            one step more of noise than it removes, and leaves the result noisy outside the mask.
        loss: the guidance raises the ``"log_odds"``, the ``"logit"`` or the ``"log_probability"``
            of the target. With two classes, the log odds equal the single logit that the official
            code uses.
        gradient_clip: ``"image"`` clips the classifier's gradient to its mean plus or minus three
            standard deviations. ``"batch"`` clips with the mean and the standard deviation of the
            whole batch, like an option of the official code. With ``"batch"``, a result depends on
            the other images (and on ``batch_size``). Default: ``"none"``.
        clip_sample_range: clip the predicted clean codes to this absolute value. Use 1 for pixel
            models with codes from -1 to 1. Default: nothing is clipped.
        per_channel: choose a mask for each channel. If ``per_channel`` is False, one mask for all
            channels is chosen by the mean over the channels.

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
    options = MaskDiMEOptions.among(locals())
    return run_ladder(
        "maskdime",
        space,
        classifier,
        images,
        target,
        options,
        lambda guided: sample_maskdime(guided, options),
        features=features,
        batch_size=batch_size,
        first_row=first_row,
        on_step=on_step,
    )
