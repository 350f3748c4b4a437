"""Latent Diffusion Counterfactual Explanations (Farid et al., arXiv 2310.06668)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.driver import Batch, Run
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import Classifier, OnStep
from cfxnb.diffusion.guidance import GUIDES
from cfxnb.diffusion.strength_search import Search

#: What the paper's class-conditional runs on ImageNet do: 191 of 500 steps, slopes through the
#: denoiser, no stop, one strength.
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
    conditions: Sequence[Any] | None = None,
    cone_angle: float = 45.0,
    guidance: str = "consensus",
    classifier_scale: float = 10.0,
    distance_scale: float = 0.9,
    guidance_scale: float | None = None,
    strength: float = 0.6,
    steps: int = 6,
    max_attempts: int = 3,
    min_strength: float = 0.3,
    noise: str = "ddim_inversion",
    confidence: float = 0.99,
    timestep_spacing: str = "even",
    distance_space: str = "code",
    backprop_diffusion: bool = True,
    pause_when_reached: bool = True,
    patch_size: int = 1,
    composite_threshold: float | None = None,
    seed: int = 0,
    batch_size: int = 32,
    first_row: int | Tensor = 0,
    on_step: OnStep | None = None,
) -> Counterfactuals:
    """Noise each image a little, and denoise it under the guidance of a classifier.

    A classifier's slope alone fools it. Consensus guidance keeps it only where the diffusion
    model's own idea of the target, the difference that telling it makes, points the same way.
    ``PAPER_DIFFUSION`` holds the knobs of the published method.

    Args:
        space: a ``Diffusion`` space.
        classifier: images of that space -> logits (b, k), with gradients.
        images: (b, c, h, w) in [0, 1].
        target: class to reach, one for all or one a sample (b,).
        conditions: what the model is told for each class of the classifier: for a model of
            attributes the name of an option or ``{"hair": "red"}``, for one of classes their
            numbers, for one of texts prompts. By default the classifier's labels, where they name
            options; classes without labels are taken by number.
        cone_angle: half the opening of the cone in which two vectors agree, 0 to 180.
        guidance: ``"consensus"``; or, to compare with: ``"classifier"`` (no consensus), ``"random_mask"``
            (random positions, as many as agree), ``"classifier_free"`` (classifier-free guidance alone,
            ``classifier_scale`` is its scale) or ``"none"`` (noise and denoise).
        classifier_scale: norm of the classifier's part, in norms of the implicit classifier's.
        distance_scale: the same for the part that draws back to the original.
        guidance_scale: what is added of the implicit classifier itself, as classifier-free guidance does; the
            paper adds nothing.
        strength: share of the diffusion's times that is gone back at the first try, (0, 1).
        steps: of denoising in each try; with ``timestep_spacing="paper"`` from the end of all times.
        max_attempts: noise levels tried for each sample: lower ones after a success, higher ones after
            a failure; the lowest that flips is kept.
        min_strength: strength below which nothing is tried after a success. So little noise leaves the
            diffusion model no say, and small edits flip that mean nothing to others: of 150
            training sprites of ``sprites/shortcut`` 98 % flip by the planted cause with this
            bound, 83 % with four tries and no bound.
        noise: ``"inverted"``, the very noise that an image comes from when nothing is told (Song et
            al., 2021), so that nothing changes without guidance; or ``"drawn"``, as published.
        confidence: probability of the target from which on a sample counts as flipped.
        timestep_spacing: ``"even"``, or ``"paper"`` as in the official code, with one try.
        distance_space: where the distance to the original is taken: ``"code"``, or ``"image"`` (L1).
        backprop_diffusion: whether slopes go through the denoiser; without, they are taken at its guess of
            the clean code, which saves one pass a step.
        pause_when_reached: whether guidance pauses where the guess already shows the target.
        patch_size: side of the squares of positions that agree together or not at all.
        composite_threshold: change of the image, as a share of the largest one, up to which pixels are put
            back to exactly the original's, if the image still flips; None keeps what was drawn.
        seed: of drawn noise, one draw a sample from (seed, row): another seed, another answer. It
            has no say in inverted noise.
        batch_size: images worked on together; bounds the memory, never changes a result.
        first_row: position of the first image in its data set: a data set that is worked on in
            shards gets the answers of one call. For a choice of a data set's images, the position
            of each, (b,).
        on_step: called with a Step after each step. Returning True ends the call: what has flipped
            is kept, the other samples get the status "stopped".

    Returns:
        Counterfactuals. ``trace`` holds, for the try that was kept: ``kept`` (b, steps), the
            share of positions that agreed; ``chance``, what it would be for random vectors;
            ``masks`` (b, steps, h, w); ``probability`` of the target (b, steps); ``strength``.
            NaN where nothing was guided. ``cost``: ``unet`` and ``decoder`` passes, forward and
            backward, together ``generator``; ``classifier``.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them a BlackBox.
    """
    validate.diffusion(space)
    validate.white_box(classifier)
    if guidance_scale is None:
        guidance_scale = 10.0 if guidance == "classifier_free" else 0.0
    knobs = {
        "cone_angle": validate.number(cone_angle, "cone_angle", 0.0, 180.0),
        "guidance": validate.choice(guidance, "guidance", GUIDES),
        "classifier_scale": validate.number(classifier_scale, "classifier_scale", 0.0),
        "distance_scale": validate.number(distance_scale, "distance_scale", 0.0),
        "guidance_scale": validate.number(guidance_scale, "guidance_scale", 0.0),
        "strength": validate.number(strength, "strength", 0.0, 0.999, open_low=True),
        "steps": validate.count(steps, "steps", 1),
        "max_attempts": validate.count(max_attempts, "max_attempts", 1),
        "min_strength": validate.number(min_strength, "min_strength", 0.0, 0.999),
        "noise": validate.choice(noise, "noise", ("ddim_inversion", "random")),
        "confidence": validate.number(confidence, "confidence", 0.0, 1 - 1e-6, open_low=True),
        "timestep_spacing": validate.choice(
            timestep_spacing, "timestep_spacing", ("even", "paper")
        ),
        "distance_space": validate.choice(distance_space, "distance_space", ("code", "image")),
        "backprop_diffusion": validate.flag(backprop_diffusion, "backprop_diffusion"),
        "pause_when_reached": validate.flag(pause_when_reached, "pause_when_reached"),
        "patch_size": validate.count(patch_size, "patch_size", 1),
        "composite_threshold": validate.optional(
            _share, composite_threshold, "composite_threshold"
        ),
        "seed": validate.seed(seed),
    }
    if knobs["timestep_spacing"] == "paper":
        _fitting(knobs, len(space.alphas_cumprod))
    run = Run(
        classifier, images, target, space=space, batch_size=batch_size, first_row=first_row, on_step=on_step,
        any_size=True,
    )  # fmt: skip
    entries: list[Any] = []

    def work(task: Batch) -> Counterfactuals:
        if not entries:  # the same for all chunks
            classes = task.logits_before.shape[1]
            entries.extend(entries_of(run.space, run.classifier, conditions, classes))
        return Search(run, task, entries, knobs).run()

    parts = run.each(work)
    made_by = {**knobs, "conditions": list(map(str, entries))}
    return run.join_results(parts, function="diffusion_counterfactual", **made_by)


def _fitting(knobs: dict[str, Any], total: int) -> None:
    """What the official schedule can do: all samples walk the same steps."""
    if knobs["max_attempts"] > 1:
        raise ValueError(
            f"max_attempts: expected 1 with timestep_spacing='paper', got {knobs['max_attempts']}"
        )
    if knobs["steps"] > total:
        raise ValueError(f"steps: expected at most {total} as in training, got {knobs['steps']}")
    if int(knobs["strength"] * knobs["steps"]) < 1:
        raise ValueError(
            f"strength: expected at least one of {knobs['steps']} steps, got {knobs['strength']}"
        )


def _share(value: Any, name: str) -> float:
    return validate.number(value, name, 0.0, 1.0)


def entries_of(
    space: Any, classifier: Any, conditions: Sequence[Any] | None, classes: int
) -> list[Any]:
    """What the model is told for each class."""
    entries = _listed(space, classifier, conditions, classes)
    if hasattr(space.conditions, "check"):
        space.conditions.check(entries)
    return entries


def _listed(
    space: Any, classifier: Any, conditions: Sequence[Any] | None, classes: int
) -> list[Any]:
    if conditions is None:
        return space.conditions.defaults(classes, getattr(classifier, "class_names", None))
    if isinstance(conditions, str) or not isinstance(conditions, Sequence):
        raise TypeError(f"conditions: expected a sequence, got {validate.describe(conditions)}")
    if len(conditions) != classes:
        raise ValueError(
            f"conditions: expected one for each of {classes} classes, got {len(conditions)}"
        )
    return list(conditions)
