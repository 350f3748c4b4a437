"""The adversarial baseline: the same question, asked without a generator."""

import time

import torch
from torch import Tensor

from cfxnb import validate
from cfxnb.classify import BlackBox
from cfxnb.methods.search import (
    Task,
    fingerprint,
    finish,
    is_predicted,
    log_odds,
    statuses,
    step_back,
    tasks,
    threshold,
)
from cfxnb.results import Counterfactuals
from cfxnb.tensors import finite_rows, gradient, norms, per_sample, undisturbed, unit
from cfxnb.types import Classifier, OnStep, Step


def pixel_attack(
    classifier: Classifier,
    images: Tensor,
    target: int | Tensor,
    *,
    confidence: float = 0.995,
    radius: float = 6.0,
    steps: int = 100,
    lr: float = 0.2,
    halvings: int = 5,
    batch: int = 256,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Counterfactuals:
    """Projected gradient descent on pixels (Madry et al., 2018, section 2.1), L2-bounded.

    Climbs the log odds of the target in steps of fixed length, inside the ball of ``radius``
    around the image and inside [0, 1], then goes back to the smallest share of the change that
    still passes. It shows what a classifier's gradient alone asks for.

    Args:
        classifier: images -> logits (b, k), differentiable.
        images: (b, c, h, w) in [0, 1].
        target: class to reach, one for all or one a sample (b,).
        confidence: probability of the target at which a sample is done, in (0, 1).
        radius: largest L2 length of the change, in pixel values summed over the image.
        steps: gradient steps at most.
        lr: L2 length of one step.
        halvings: bisections of the step back; 0 keeps the end of the search.
        batch: samples worked on together; never changes a result.
        seed: recorded only: nothing here is random.
        on_step: called with a Step after each step; returning True stops the search.

    Returns:
        Counterfactuals without codes; ``reconstruction`` is the original.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them a BlackBox.
    """
    began = time.perf_counter()
    if isinstance(classifier, BlackBox):
        raise TypeError("classifier: expected one that passes gradients, got a BlackBox")
    knobs = {
        "confidence": validate.number(confidence, "confidence", 0.0, 1 - 1e-6, open_low=True),
        "radius": validate.number(radius, "radius", 0.0, open_low=True),
        "steps": validate.count(steps, "steps", 1),
        "lr": validate.number(lr, "lr", 0.0, open_low=True),
        "halvings": validate.count(halvings, "halvings"),
        "seed": validate.count(seed, "seed"),
    }
    with undisturbed(classifier):
        parts = [
            _attack(classifier, task, knobs, on_step)
            for task in tasks(classifier, images, target, batch)
        ]
    weights = {"classifier": fingerprint(classifier)}
    return finish(parts, began, method="pixel_attack", **knobs, weights=weights)


def _attack(
    classifier: Classifier, task: Task, knobs: dict, on_step: OnStep | None
) -> Counterfactuals:
    need = threshold(knobs["confidence"])
    x = task.images.clone()
    active = ~is_predicted(task.before, task.target)
    passed, lost = torch.zeros_like(active), torch.zeros_like(active)
    calls = torch.ones(len(x), dtype=torch.int64)

    for number in range(1, knobs["steps"] + 1):
        rows = active.nonzero().squeeze(1)
        if not len(rows):
            break
        point = x[rows].clone().requires_grad_()
        odds = log_odds(classifier(point), task.target[rows])
        slope = gradient(odds, point)
        calls[rows] += 2
        done = odds.detach() >= need
        stuck = ~done & (~finite_rows(slope) | (norms(slope) == 0))
        passed[rows[done]] = True
        lost[rows[stuck]] = True
        active[rows[done | stuck]] = False
        moving = ~(done | stuck)
        chosen = rows[moving]
        moved = x[chosen] + knobs["lr"] * unit(slope[moving])
        x[chosen] = project(moved, task.images[chosen], knobs["radius"])
        if on_step is not None and on_step(
            Step(
                number,
                knobs["steps"],
                task.rows[rows],
                point.detach(),
                odds.detach().sigmoid(),
                moving,
            )
        ):
            break

    with torch.no_grad():
        change = x - task.images
        winners = passed.nonzero().squeeze(1)

        def passes(share: Tensor, rows: Tensor) -> Tensor:
            calls[rows] += 1
            nearer = task.images[rows] + per_sample(share, x) * change[rows]
            return log_odds(classifier(nearer), task.target[rows]) >= need

        if len(winners):
            change[winners] *= per_sample(step_back(passes, winners, knobs["halvings"]), x)
        image = task.images + change
        after = classifier(image)
        calls += 1
    return Counterfactuals(
        original=task.images,
        image=image,
        reconstruction=task.images,
        before=task.before,
        after=after,
        target=task.target,
        status=statuses(task, passed, lost=lost),
        cost={"generator": torch.zeros_like(calls), "classifier": calls},
    )


def project(x: Tensor, center: Tensor, radius: float) -> Tensor:
    """The nearest point within ``radius`` of ``center``, then clamped to [0, 1].

    Clamping moves each pixel towards ``center``, which lies in [0, 1]: the result stays inside.
    """
    change = x - center
    shrink = (radius / norms(change).clamp_min(1e-12)).clamp(max=1.0)
    return (center + per_sample(shrink, x) * change).clamp(0, 1)
