"""Latent Diffusion Counterfactual Explanations (Farid et al., arXiv 2310.06668)."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.conditions import conditions_per_class, require_conditional
from cfxnb.core.decisions import still_reached
from cfxnb.core.driver import Edit, EncodedBatch, Run
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.core.streamed import streamed
from cfxnb.core.target import Target
from cfxnb.core.types import Classifier, Images, OnStep
from cfxnb.diffusion.options import GUIDANCES, DiffusionOptions
from cfxnb.diffusion.strength_search import StrengthSearch

#: Settings of the paper for ImageNet with a class-conditional model: 191 of 500 steps, gradients
#: through the U-Net, random noise, and one attempt without pauses.
PAPER_DIFFUSION: dict[str, Any] = {
    "steps": 500,
    "timestep_spacing": "paper",
    "strength": 0.382,
    "max_attempts": 1,
    "noise": "random",
    "classifier_scale": 6.9,
    "distance_scale": 0.9,
    "guidance_scale": 0.0,
    "distance_space": "image",
    "backprop_diffusion": True,
    "pause_when_reached": False,
    "confidence": 0.5,
}


@streamed
@standard_modes
@torch.no_grad()
def diffusion_counterfactual(
    space: Any,
    classifier: Classifier,
    images: Images,
    target: Target,
    *,
    # The ones that matter:
    conditions: Sequence[Any] | None = None,
    cone_angle: float = 45.0,
    classifier_scale: float = 10.0,
    distance_scale: float = 0.9,
    strength: float = 0.6,
    min_strength: float = 0.3,
    max_attempts: int = 3,
    steps: int = 6,
    confidence: float = 0.99,
    composite_threshold: float | None = None,
    # For comparisons and the settings of the paper:
    guidance: str = "consensus",
    guidance_scale: float | None = None,
    noise: str = "ddim_inversion",
    timestep_spacing: str = "even",
    distance_space: str = "code",
    backprop_diffusion: bool = True,
    pause_when_reached: bool = True,
    patch_size: int = 1,
    # As in every method:
    seed: int = 0,
    batch_size: int = 32,
    first_row: int | Tensor = 0,
    on_step: OnStep | None = None,
    output_dir: str | os.PathLike | None = None,
) -> Counterfactuals:
    """Add some noise to each image and denoise it, guided towards the target by the classifier.

    The gradient of the classifier alone leads to adversarial examples. Consensus guidance uses the
    classifier's gradient only at positions where the gradient agrees with the implicit classifier
    of the diffusion model. The implicit classifier is the noise that the model predicts with the
    target as condition, minus the noise that the model predicts without a condition.

    If the classifier has no gradient at an image in some step, the image is not guided at all in
    this step. The official code still pulls an image without a gradient back to the original.

    Differences from the paper, with the default options: we use few steps, and noise from DDIM
    inversion. We search for the smallest strength (amount of noise) that flips each image. The
    distance to the original is measured in code space. The guidance of an image pauses while the
    predicted clean image is classified as the target. ``**cfx.PAPER_DIFFUSION`` gives the settings
    of the paper.

    Args:
        space: a ``Diffusion`` space.
        classifier: images (b, c, h, w) -> logits (b, k), with gradients.
        images: (b, c, h, w) in [0, 1], or a data set (see ``cfx.open``).
        target: class to reach, by number or name: one for all images, or one per image (b,). With
            a regression model: a goal, such as ``cfx.raise_to(0.8)``. With a data set also an entry
            of each item, such as ``cfx.from_item("label")``.

        conditions: the condition of the diffusion model for each class of the classifier. A
            model that is conditioned on attributes takes names of options, or dicts such as
            ``{"hair": "red"}``. A model that is conditioned on classes takes class numbers. A model
            that is conditioned on texts takes prompts. By default the conditions are derived from
            the class names or the class numbers of the classifier.
        cone_angle: half-opening of the cone in degrees, 0 to 180. The classifier's gradient
            and the implicit classifier agree if their angle is at most this angle. A larger angle
            keeps more of the classifier's gradient.
        classifier_scale: norm of the classifier's part of the guidance, in units of the norm of the
            implicit classifier.
        distance_scale: norm of the part of the guidance that pulls back to the original, in units
            of the norm of the implicit classifier.
        strength: fraction of the diffusion time to which noise is added, above 0 and below 1. The
            bisection over strengths begins at ``strength``. Half of ``strength`` is tried before,
            unless ``max_attempts`` is 1 or half of ``strength`` is below ``min_strength``.
        min_strength: lowest strength that is tried after an image has flipped. With very little
            noise the diffusion model can hardly change the image, and the classifier flips on small
            edits that other classifiers ignore. The classifier ``sprites/shortcut`` was trained to
            depend on one known factor, its cause. Of 150 training sprites, 98 % flip by a change of
            the cause with the default ``min_strength``, and 83 % with four attempts and
            ``min_strength=0``.
        max_attempts: number of strengths that the bisection tries for each image. After a success
            it tries a lower strength, after a failure a higher one. Of the attempts that flip an
            image, the search returns the one with the lowest strength.
            Half of ``strength`` is tried first, because most images flip there. An image that flips
            at half of ``strength`` skips the attempt at ``strength``. An image that flips neither
            at half of ``strength`` nor at ``strength`` takes one attempt more than
            ``max_attempts``.
            On 300 faces, 150 digits and 200 sprites, this order found the same counterfactuals as a
            bisection that begins at ``strength``, except for one sprite. It needed 47 instead of 65
            generator passes per flip on faces, 29 instead of 50 on sprites, and 91 instead of 90 on
            digits.
        steps: denoising steps of each attempt. With ``timestep_spacing="paper"`` the whole
            diffusion time has ``steps`` steps, and an attempt takes int(strength * steps) of them.
        confidence: an image counts as flipped if the target is predicted with at least this
            probability.
        composite_threshold: restore the pixels of the original where the edit changes them by at
            most this fraction of the largest change of the image. An image that would no longer
            flip after the restoration keeps all its edited pixels. By default no pixels are
            restored.

        guidance: ``"consensus"`` is the method of the paper. All other values of ``guidance`` serve
            for comparison. ``"classifier"`` uses the classifier's gradient at all positions.
            ``"random_mask"`` uses the gradient at random positions, as many as consensus would
            keep. ``"classifier_free"`` is classifier-free guidance without the classifier.
            ``"none"`` only adds noise and denoises.
        guidance_scale: weight w in classifier-free guidance eps_uncond + w (eps_cond - eps_uncond).
            If ``guidance`` uses the classifier, w (eps_cond - eps_uncond) is added to the
            classifier's guidance. The paper does not combine consensus guidance and classifier-free
            guidance (w = 0). The default of ``guidance_scale`` is 10 with
            ``guidance="classifier_free"``, else 0.
        noise: ``"ddim_inversion"`` computes the noise from which denoising without a condition
            approximately returns the image (Song et al., 2021). All attempts start from the same
            inversion of the image. ``"random"`` draws random noise, as in the paper.
        timestep_spacing: ``"even"`` spaces the diffusion times evenly. ``"paper"`` takes the times
            of the official code, and needs ``max_attempts=1``.
        distance_space: ``"code"`` guides by the squared distance to the code of the original,
            ``"image"`` by the L1 distance to the original image.
        backprop_diffusion: whether to take gradients through the U-Net. If ``backprop_diffusion``
            is False, gradients are taken at the predicted clean code, which saves one or two passes
            of the U-Net per step. False is not the default, because fewer images then flip: 139
            instead of all of 150 digits, and 95 instead of all of 100 sprites with the classifier
            ``sprites/shortcut``. With ``backprop_diffusion=False``, 84 of the 95 flips of the
            sprites changed the cause of the classifier, otherwise 98 of 100. Of 296 faces that flip
            either way, the judge agreed with 274 instead of 279.
        pause_when_reached: whether to pause the guidance of a sample while its predicted clean
            image is classified as the target.
        patch_size: side of square patches. All positions of a patch agree or disagree together.

        seed: seed of random noise and random masks. The random noise of an image depends only on
            the seed and the position of the image in its data set. With
            ``noise="ddim_inversion"`` the seed affects only random masks.
        batch_size: Number of images processed together, which does not change the results.
        first_row: position of the first image in its data set. With the right ``first_row``, a data
            set that is processed in shards gives the same results as in one call. For selected
            images, pass the position of each image, (b,).
        on_step: called with a ``Step`` after each denoising step. If ``on_step`` returns True, the
            search stops. Images that have flipped keep their result, and all other images get the
            status "stopped".
        output_dir: folder to which the results are written in shards, for any number of images.
            After a crash, the same call goes on. ``cfx.open`` opens the folder. Default: None.

    Returns:
        Counterfactuals. ``trace`` describes the returned attempt of each image. ``kept_fraction``
        (b, steps) is the fraction of positions at which the classifier's gradient was used, NaN
        where no guidance was applied. ``chance_fraction`` (b,) is the fraction of random vectors
        that would agree with the implicit classifier by chance. ``masks`` (b, steps, h, w) are the
        positions at which the classifier's gradient was used. ``probability`` (b, steps) is the
        probability of the target after each step, and ``strength`` (b,) the strength of the
        returned attempt. ``cost`` counts forward and backward passes of ``unet``, ``classifier``
        and ``generator`` (U-Net and decoder together). ``cost`` also counts passes whose results
        are not used.

    Raises:
        ValueError, TypeError: if an argument is wrong, or if the classifier is a ``BlackBox``.
    """
    require_conditional(validate.diffusion(space))
    validate.white_box(classifier)
    guidance = validate.choice(guidance, "guidance", GUIDANCES)
    if guidance_scale is None:
        guidance_scale = 10.0 if guidance == "classifier_free" else 0.0
    options = DiffusionOptions(
        cone_angle=cone_angle,
        guidance=guidance,
        classifier_scale=classifier_scale,
        distance_scale=distance_scale,
        guidance_scale=guidance_scale,
        strength=strength,
        steps=steps,
        max_attempts=max_attempts,
        min_strength=min_strength,
        noise=noise,
        confidence=confidence,
        timestep_spacing=timestep_spacing,
        distance_space=distance_space,
        backprop_diffusion=backprop_diffusion,
        pause_when_reached=pause_when_reached,
        patch_size=patch_size,
        composite_threshold=composite_threshold,
        seed=seed,
    )
    if options.timestep_spacing == "paper":
        _check_paper_schedule(options, len(space.alphas_cumprod))
    run = Run(
        classifier,
        images,
        target,
        space=space,
        batch_size=batch_size,
        first_row=first_row,
        on_step=on_step,
        any_size=True,
    )
    by_class: list[Any] = []  # filled with the first batch, which shows the number of classes
    recorded: list[str] = []

    def edit(batch: EncodedBatch) -> Edit:
        if not by_class:
            n_classes = batch.logits_before.shape[1]
            by_class.extend(conditions_per_class(run.space, run.classifier, conditions, n_classes))
            recorded.extend(map(str, by_class))
        return StrengthSearch(run, batch, by_class, options).run()

    return run.counterfactuals(
        edit,
        still_reached(options.confidence),
        function="diffusion_counterfactual",
        **dataclasses.asdict(options),
        conditions=recorded,
    )


def _check_paper_schedule(options: DiffusionOptions, n_times: int) -> None:
    """Raise ValueError if the options do not fit the schedule of the official code.

    The official schedule is the same for all samples, so it allows only one attempt.
    """
    if options.max_attempts > 1:
        raise ValueError(
            f"max_attempts: expected 1 with timestep_spacing='paper', got {options.max_attempts}"
        )
    if options.steps > n_times:
        raise ValueError(f"steps: expected at most {n_times} as in training, got {options.steps}")
    if int(options.strength * options.steps) < 1:
        raise ValueError(
            f"strength: expected at least one of {options.steps} steps, got {options.strength}"
        )
