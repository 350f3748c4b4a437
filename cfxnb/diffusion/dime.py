"""DiME (Jeanneret et al., ACCV 2022, arXiv 2203.15636): gradients at completely denoised images."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

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


_CHECKS = DDPMOptions.checks | {"inner_noise": validate.flag}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiMEOptions(DDPMOptions):
    """The checked options of ``dime``, whose docstring explains each option."""

    checks = _CHECKS
    inner_noise: bool


def sample_dime(guided: GuidedDDPM, o: DiMEOptions) -> None:
    """Denoise with gradients at completely denoised images: the algorithm of the paper.

    In the code below, x is the code of the original, and x_c the clean code at which gradients are
    taken. At each step a new x_c is computed by denoising completely without guidance, so an
    attempt with n steps has n (n + 1) / 2 passes of the U-Net.
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


@streamed
@standard_modes
@torch.no_grad()
def dime(
    space: Any,
    classifier: Classifier,
    images: Images,
    target: Target,
    *,
    # The ones that matter:
    scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0),
    strength: float = 0.3,
    steps: int = 6,
    l1_scale: float = 0.0,
    perceptual_scale: float = 0.0,
    features: Callable[[Tensor], Tensor] | None = None,
    confidence: float = 0.99,
    # For comparisons and the settings of the paper:
    when_reached: str = "stop",
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
    output_dir: str | os.PathLike | None = None,
) -> Counterfactuals:
    """Add noise to each image and denoise it, guided by gradients at completely denoised images.

    The method is DiME (Jeanneret et al., ACCV 2022, arXiv 2203.15636). A classifier trained on
    clean images cannot judge a noisy image. At each step, a copy of the noisy image is therefore
    denoised completely without guidance, and the classifier's gradient is taken at the denoised
    copy. An attempt with n steps has n (n + 1) / 2 passes of the U-Net. ``fastdime`` and
    ``maskdime`` need n passes for n steps.

    Unless ``as_published`` is True, the function differs from the official code:

    - Gradients are divided by their root mean square.
    - Small scales of the classifier's gradient are tried first. An image is finished at the first
      step whose denoised copy is classified as the target. Flips are decided on images clamped to
      [0, 1].
    - An image that does not flip keeps its original code. An image at which the classifier has no
      gradient gets the status "no_gradient".

    ``**cfx.PAPER_DIME`` gives the settings of the official code.

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
        l1_scale: scale of the pull towards the original, measured like ``scales``. The pull is the
            sign of the difference (code minus original code). Default: 0 (no pull).
        perceptual_scale: scale of the gradient of the perceptual distance to the original, measured
            like ``scales``. The perceptual distance is the mean squared difference of the features
            of two images (see ``features``). Default: 0 (not used).
        features: images (b, c, h, w) in [0, 1] -> features (b, ...), with gradients. Needed for
            ``perceptual_scale``. The official code uses layers of VGG-19 as ``features``.
        confidence: an image counts as flipped if the target is predicted with at least this
            probability.

        when_reached: ``"stop"`` returns the first denoised copy that reaches the target.
            ``"pause"`` takes all steps, and does not guide an image while its denoised copy reaches
            the target. With ``"pause"``, the noise of later steps may undo the change.
        as_published: follow the official code. With ``as_published``, ``steps`` is the number of
            steps of the whole diffusion, and an attempt takes int(strength * steps) of them. With
            ``as_published``, gradients are multiplied by the scale and by the variance of the step.
            Without ``as_published``, gradients are normalised, and then multiplied by the scale and
            by the standard deviation of the step. With ``as_published``, all steps are taken, and
            an image that does not flip gets the result of the last scale. The official code adds
            one step more of noise than it removes.
        inner_noise: in each step, the gradients are taken at a completely denoised copy of the
            noisy image. If True, noise is added while this copy is denoised. Default: False.
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
        Counterfactuals. ``trace`` describes the last attempt of each image. ``probability`` (b,
        steps) is the probability of the target at each step, NaN for steps that were not taken.
        ``scale`` (b,) is the scale of the classifier's gradient in the last attempt. ``cost``
        counts forward and backward passes of ``unet``, ``classifier``, ``generator`` (U-Net and
        decoder together) and, if given, ``features``.

    Raises:
        ValueError, TypeError: if an argument is wrong, or if the classifier is a ``BlackBox``. The
            error message names the argument.
    """
    options = DiMEOptions.among(locals())
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
