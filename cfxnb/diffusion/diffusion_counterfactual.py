"""Latent Diffusion Counterfactual Explanations (Farid et al., arXiv 2310.06668)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.decisions import still_reached
from cfxnb.core.driver import Edit, EncodedBatch, Run
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import Classifier, OnStep
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


@standard_modes
@torch.no_grad()
def diffusion_counterfactual(
    space: Any,
    classifier: Classifier,
    images: Tensor,
    target: int | str | Sequence[int | str] | Tensor,
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
) -> Counterfactuals:
    """Add some noise to each image and denoise it, guided towards the target by the classifier.

    The gradient of the classifier alone leads to adversarial examples. Consensus guidance uses it
    only at positions where it agrees with the implicit classifier of the diffusion model: the
    difference between its predictions with and without the target as condition.

    An image at which the classifier has no gradient is not guided at all in that step. The official
    code would still apply the distance term.

    Differences from the paper, with the default options: we use few steps, and noise from DDIM
    inversion. We search for the smallest strength that flips each image. The distance is measured
    in code space, and guidance pauses while the target is reached. ``**cfx.PAPER_DIFFUSION`` gives
    the settings of the paper.

    Args:
        space: a ``Diffusion`` space.
        classifier: images (b, c, h, w) -> logits (b, k), with gradients.
        images: (b, c, h, w) in [0, 1].
        target: class to reach, by number or name: one for all images or one per image (b,).

        conditions: the condition of the diffusion model for each class of the classifier. For a
            model of attributes: the name of an option, or a dict such as ``{"hair": "red"}``. For
            a model of classes: their numbers. For a model of texts: prompts. Default: the class
            names of the classifier if they are options of the model; classes without names are
            taken by number.
        cone_angle: half-opening of the cone in degrees, 0 to 180. Vectors agree if the angle
            between them is at most this. A larger angle keeps more of the classifier's gradient.
        classifier_scale: norm of the classifier's term, relative to the implicit classifier.
        distance_scale: norm of the term that pulls back to the original, relative to the implicit
            classifier.
        strength: fraction of the diffusion time to which noise is added at the first attempt, above
            0 and below 1.
        min_strength: the search ends if a success would be followed by a lower strength than this.
            With less noise the diffusion model can hardly change the image. The classifier then
            flips on small edits that other classifiers ignore. Of 150 training sprites of
            ``sprites/shortcut``, 98 % flip by the planted cause with this bound, and 83 % with four
            attempts and no bound.
        max_attempts: number of strengths to try for each image. A success is followed by a lower
            strength, a failure by a higher one. The success at the lowest strength is returned.
        steps: denoising steps of each attempt. With ``timestep_spacing="paper"``: steps through all
            times, of which int(strength * steps) are taken.
        confidence: probability of the target from which an image counts as flipped.
        composite_threshold: restore the pixels of the original wherever the edit changes less than
            this fraction of its largest change, if the image still flips. None: do not composite.

        guidance: ``"consensus"``. For comparison: ``"classifier"`` uses the gradient everywhere,
            ``"random_mask"`` at as many random positions, ``"classifier_free"`` is classifier-free
            guidance without the classifier, and ``"none"`` only adds noise and denoises.
        guidance_scale: weight of classifier-free guidance, eps_uncond + w (eps_cond - eps_uncond).
            With the classifier's guidance it is added to it; the paper adds nothing. Default: 10
            with ``guidance="classifier_free"``, else 0.
        noise: ``"ddim_inversion"`` finds the noise from which the image comes without a condition
            (Song et al., 2021): without guidance the image hardly changes. ``"random"`` draws it,
            as in the paper.
        timestep_spacing: ``"even"``, or ``"paper"`` as in the official code, with one attempt.
        distance_space: measure the distance to the original in ``"code"`` (squared) or ``"image"``
            (L1).
        backprop_diffusion: take gradients through the U-Net. If False, they are taken at the
            predicted clean code, which saves one or two passes per step.
        pause_when_reached: pause the guidance of a sample while its predicted clean image reaches
            the target.
        patch_size: side of square patches of positions that agree or disagree together.

        seed: seed of random noise and random masks. The noise of an image depends only on the seed
            and its row. With ``noise="ddim_inversion"`` it affects only random masks.
        batch_size: Images per batch. Affects memory and speed, not results.
        first_row: position of the first image in its data set, so that a data set can be processed
            in shards with the same results. For selected images: the position of each, (b,).
        on_step: called with a ``Step`` after each denoising step. Return True to stop. Images that
            have flipped are kept; the others get the status "stopped".

    Returns:
        Counterfactuals. ``trace`` describes the attempt that was kept, with NaN where no guidance
        was applied: ``kept_fraction`` (b, steps), the fraction of positions that agreed;
        ``chance_fraction`` (b,), the same for random vectors; ``masks`` (b, steps, h, w);
        ``probability`` of the target (b, steps); ``strength`` (b,). ``cost`` counts forward and
        backward passes: ``unet``, ``classifier``, and ``generator``, which is U-Net and decoder.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it. A BlackBox is refused.
    """
    validate.diffusion(space)
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
    """Refuse what the schedule of the official code cannot do. It is the same for all samples."""
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


def conditions_per_class(
    space: Any, classifier: Any, conditions: Sequence[Any] | None, n_classes: int
) -> list[Any]:
    """Return the condition of the diffusion model for each class, checked if the space can.

    Args:
        conditions: those of the caller. None: the default of the space.

    Raises:
        ValueError, TypeError: if there are not as many conditions as classes, or if one is unknown.
    """
    if conditions is None:
        names = getattr(classifier, "class_names", None)
        found = space.conditions.defaults(n_classes, names)
    elif isinstance(conditions, str) or not isinstance(conditions, Sequence):
        raise TypeError(f"conditions: expected a sequence, got {validate.describe(conditions)}")
    elif len(conditions) != n_classes:
        raise ValueError(
            f"conditions: expected one for each of {n_classes} classes, got {len(conditions)}"
        )
    else:
        found = list(conditions)
    if hasattr(space.conditions, "check"):
        space.conditions.check(found)
    return found
