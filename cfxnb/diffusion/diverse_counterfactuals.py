"""Several counterfactuals of each image, which change different regions."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.classifiers import BlackBox, class_names_of
from cfxnb.core.goals import Goal
from cfxnb.core.modes import standard_modes
from cfxnb.core.outcomes import OUTCOMES, outcomes_of
from cfxnb.core.results import Counterfactuals
from cfxnb.core.target import Target
from cfxnb.core.types import ALREADY_TARGET, NOT_FINITE, NOT_FOUND, STOPPED, Classifier
from cfxnb.diffusion.composite import edit_mask

Method = Callable[..., Counterfactuals]  # (classifier, images, target) -> Counterfactuals


@standard_modes
def diverse_counterfactuals(
    method: Method,
    classifier: Classifier,
    images: Tensor,
    target: Target,
    *,
    n_attempts: int = 2,
    region_threshold: float = 0.3,
) -> list[Counterfactuals]:
    """Find several counterfactuals of each image, in regions that do not overlap.

    The first attempt may change every pixel. Each further attempt may change only pixels that no
    earlier attempt has changed, so it must find another explanation. The idea comes from SCE (arXiv
    2506.14698), but works here with every method. Pixels outside of the allowed region are replaced
    by the original, in all images that the classifier sees and in the result.

    Args:
        method: a function (classifier, images, target) -> Counterfactuals, for example
            ``functools.partial(cfx.latent_attack, space)``. A method with an argument ``allowed``,
            such as ``cfx.sce``, gets the allowed region (b, h, w) of all images in one call. Every
            other method is called with one image at a time after the first attempt.
        classifier: images (b, c, h, w) -> logits (b, k).
        images: (b, c, h, w) in [0, 1].
        target: class to reach, by number or name: one for all images, or one per image (b,). With a
            regression model: a goal, such as ``cfx.raise_to(0.8)``.
        n_attempts: largest number of counterfactuals per image.
        region_threshold: a pixel counts as changed if its change is more than this fraction of the
            largest change of the image. ``sce`` ignores ``region_threshold``, because it reports
            the changed pixels itself.

    Returns:
        One result per attempt, in the order of the attempts. Row i of each result belongs to image
        i. An image for which an attempt found nothing is not tried again, and has the status
        "not_found" in all later results. ``trace["changed"]`` (b, h, w) are the pixels that an
        attempt has changed, and ``trace["forbidden_fraction"]`` (b,) is the fraction of the pixels
        that the attempt could not change. ``cfx.metrics.diversity`` compares the results.

    Raises:
        ValueError, TypeError: if an argument is wrong. The error message names the argument.
    """
    validate.function(method, "method")
    n_attempts = validate.count(n_attempts, "n_attempts", 1)
    region_threshold = validate.number(region_threshold, "region_threshold", 0.0, 1.0)
    first = _checked(method(classifier, images, target), "method")
    forbidden = torch.zeros_like(first.original[:, 0], dtype=torch.bool)
    results = [_with_region(first, forbidden, region_threshold)]
    goal = target if isinstance(target, Goal) else None
    takes_region = "allowed" in inspect.signature(method).parameters
    for _ in range(1, n_attempts):
        last = results[-1]
        forbidden = forbidden | last.trace["changed"].to(forbidden.device)
        tried = last.flipped.to(forbidden.device)
        allowed = ~forbidden & tried[:, None, None]
        if takes_region:
            asked = goal or first.target
            found = _checked(method(classifier, first.original, asked, allowed=allowed))
        else:
            found = _one_by_one(method, classifier, last, allowed, goal)
        results.append(_with_region(found, forbidden, region_threshold))
    return results


def _one_by_one(
    method: Method,
    classifier: Classifier,
    last: Counterfactuals,
    allowed: Tensor,
    goal: Goal | None,
) -> Counterfactuals:
    """Run a method on one image at a time, with a classifier that ``restrict`` returns."""
    parts = []
    for row in range(len(last)):
        one, region = last[row], allowed[row : row + 1, None]
        if not region.any():
            parts.append(_not_tried(one))
            continue
        seen = restrict(classifier, one.original, region)
        found = _checked(method(seen, one.original, goal or one.target))
        image = torch.where(region, found.image, one.original)
        rebuilt = torch.where(region, found.reconstruction, one.original)
        parts.append(dataclasses.replace(found, image=image, reconstruction=rebuilt))
    return Counterfactuals.concatenate(parts)


def restrict(classifier: Classifier, original: Tensor, allowed: Tensor) -> Classifier:
    """Return a classifier that replaces all pixels outside of ``allowed`` by the original.

    Args:
        classifier: images -> logits (b, k).
        original: one image, (1, c, h, w).
        allowed: pixels in which an image may differ from the original, bool (1, 1, h, w).
    """
    found = RestrictedClassifier(classifier, original, allowed)
    return BlackBox(found) if isinstance(classifier, validate.BlackBoxed) else found


class RestrictedClassifier:
    """The classifier that ``restrict`` returns."""

    def __init__(self, classifier: Classifier, original: Tensor, allowed: Tensor) -> None:
        self.classifier, self.original, self.allowed = classifier, original, allowed
        self.class_names = class_names_of(classifier)
        self.outcomes = outcomes_of(classifier)
        self.device = getattr(classifier, "device", None)

    def __call__(self, images: Tensor) -> Tensor:
        allowed, original = self.allowed.to(images.device), self.original.to(images)
        return self.classifier(torch.where(allowed, images, original))


def _checked(found: Any, name: str = "method") -> Counterfactuals:
    return validate.instance(
        found, Counterfactuals, name, "a function that returns Counterfactuals"
    )


def _not_tried(last: Counterfactuals) -> Counterfactuals:
    """Return a result with the original image, and a status that says why no attempt was made."""
    kept = last.status[0] in (ALREADY_TARGET, NOT_FINITE, STOPPED)
    outcomes = {name: last.trace[name] for name in OUTCOMES if name in last.trace}
    if outcomes:
        outcomes["outcome_after"] = outcomes["outcome_before"]
    return dataclasses.replace(
        last,
        image=last.original,
        logits_after=last.logits_before,
        status=last.status if kept else (NOT_FOUND,),
        code_after=last.code_before,
        cost={name: torch.zeros_like(count) for name, count in last.cost.items()},
        trace=outcomes,
    )


def _with_region(found: Counterfactuals, forbidden: Tensor, threshold: float) -> Counterfactuals:
    """Add the changed pixels and the size of the forbidden region to the trace."""
    changed = found.trace.get("changed")
    if changed is None:
        changed = edit_mask(found.reconstruction, found.image, threshold)[:, 0]
    changed = changed & found.flipped[:, None, None].to(changed.device)
    changed = changed.cpu() & ~forbidden.cpu()
    fraction = forbidden.flatten(1).float().mean(1).cpu()
    return dataclasses.replace(
        found, trace={**found.trace, "changed": changed, "forbidden_fraction": fraction}
    )
