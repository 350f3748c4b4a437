"""Latent Diffusion Counterfactual Explanations (Farid et al., arXiv 2310.06668)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.driver import Run, Task
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import Classifier, OnStep
from cfxnb.diffusion.guidance import GUIDES
from cfxnb.diffusion.strength_search import Search

#: What the paper's class-conditional runs on ImageNet do: 191 of 500 steps, slopes through the
#: denoiser, no stop, one strength.
PAPER_DIFFUSION: dict[str, Any] = {
    "steps": 500,
    "spacing": "published",
    "strength": 0.382,
    "tries": 1,
    "noise": "drawn",
    "pull": 6.9,
    "stay": 0.9,
    "lead": 0.0,
    "near": "image",
    "jacobian": True,
    "ease": False,
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
    degrees: float = 45.0,
    guide: str = "consensus",
    pull: float = 10.0,
    stay: float = 0.9,
    lead: float = 0.0,
    strength: float = 0.6,
    steps: int = 6,
    tries: int = 3,
    least: float = 0.3,
    noise: str = "inverted",
    confidence: float = 0.99,
    spacing: str = "short",
    near: str = "code",
    jacobian: bool = True,
    ease: bool = True,
    patch: int = 1,
    composite: float | None = None,
    seed: int = 0,
    batch: int = 32,
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
        degrees: half the opening of the cone in which two vectors agree, 0 to 180.
        guide: ``"consensus"``; or, to compare with: ``"classifier"`` (no consensus), ``"random"``
            (random positions, as many as agree), ``"free"`` (classifier-free guidance alone,
            ``pull`` is its scale) or ``"none"`` (noise and denoise).
        pull: norm of the classifier's part, in norms of the implicit classifier's.
        stay: the same for the part that draws back to the original.
        lead: what is added of the implicit classifier itself, as classifier-free guidance does; the
            paper adds nothing.
        strength: share of the diffusion's times that is gone back at the first try, (0, 1).
        steps: of denoising in each try; with ``spacing="published"`` from the end of all times.
        tries: noise levels tried for each sample: lower ones after a success, higher ones after
            a failure; the lowest that flips is kept.
        least: strength below which nothing is tried after a success. So little noise leaves the
            diffusion model no say, and small edits flip that mean nothing to others: of 150
            training sprites of ``sprites/shortcut`` 98 % flip by the planted cause with this
            bound, 83 % with four tries and no bound.
        noise: ``"inverted"``, the very noise that an image comes from when nothing is told (Song et
            al., 2021), so that nothing changes without guidance; or ``"drawn"``, as published.
        confidence: probability of the target from which on a sample counts as flipped.
        spacing: ``"short"``, or ``"published"`` as in the official code, with one try.
        near: where the distance to the original is taken: ``"code"``, or ``"image"`` (L1).
        jacobian: whether slopes go through the denoiser; without, they are taken at its guess of
            the clean code, which saves one pass a step.
        ease: whether guidance pauses where the guess already shows the target.
        patch: side of the squares of positions that agree together or not at all.
        composite: change of the image, as a share of the largest one, up to which pixels are put
            back to exactly the original's, if the image still flips; None keeps what was drawn.
        seed: of drawn noise, one draw a sample from (seed, row): another seed, another answer. It
            has no say in inverted noise.
        batch: images worked on together; bounds the memory, never changes a result.
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
    knobs = {
        "degrees": validate.number(degrees, "degrees", 0.0, 180.0),
        "guide": validate.choice(guide, "guide", GUIDES),
        "pull": validate.number(pull, "pull", 0.0),
        "stay": validate.number(stay, "stay", 0.0),
        "lead": validate.number(lead, "lead", 0.0),
        "strength": validate.number(strength, "strength", 0.0, 0.999, open_low=True),
        "steps": validate.count(steps, "steps", 1),
        "tries": validate.count(tries, "tries", 1),
        "least": validate.number(least, "least", 0.0, 0.999),
        "noise": validate.choice(noise, "noise", ("inverted", "drawn")),
        "confidence": validate.number(confidence, "confidence", 0.0, 1 - 1e-6, open_low=True),
        "spacing": validate.choice(spacing, "spacing", ("short", "published")),
        "near": validate.choice(near, "near", ("code", "image")),
        "jacobian": validate.flag(jacobian, "jacobian"),
        "ease": validate.flag(ease, "ease"),
        "patch": validate.count(patch, "patch", 1),
        "composite": validate.optional(_share, composite, "composite"),
        "seed": validate.seed(seed),
    }
    if knobs["spacing"] == "published":
        _fitting(knobs, len(space.alphas))
    run = Run(
        classifier, images, target, space=space, batch=batch, first_row=first_row, on_step=on_step,
        any_size=True,
    )  # fmt: skip
    entries: list[Any] = []

    def work(task: Task) -> Counterfactuals:
        if not entries:  # the same for all chunks
            classes = task.logits_before.shape[1]
            entries.extend(entries_of(run.space, run.classifier, conditions, classes))
        return Search(run, task, entries, knobs).run()

    parts = run.each(work)
    made_by = {**knobs, "conditions": list(map(str, entries))}
    return run.finish(parts, method="diffusion_counterfactual", **made_by)


def _fitting(knobs: dict[str, Any], total: int) -> None:
    """What the official schedule can do: all samples walk the same steps."""
    if knobs["tries"] > 1:
        raise ValueError(f"tries: expected 1 with spacing='published', got {knobs['tries']}")
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
        return space.conditions.default(classes, getattr(classifier, "labels", None))
    if isinstance(conditions, str) or not isinstance(conditions, Sequence):
        raise TypeError(f"conditions: expected a sequence, got {validate.told(conditions)}")
    if len(conditions) != classes:
        raise ValueError(
            f"conditions: expected one for each of {classes} classes, got {len(conditions)}"
        )
    return list(conditions)
