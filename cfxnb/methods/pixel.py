"""The adversarial baseline: the same question, asked without a generator."""

import time

import torch
from torch import Tensor

from cfxnb import validate
from cfxnb.methods.search import search
from cfxnb.methods.tasks import Task, fingerprint, finish, is_predicted, statuses, tasks
from cfxnb.results import Counterfactuals
from cfxnb.tensors import norms, per_sample, undisturbed, unit
from cfxnb.types import Classifier, OnStep


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
        on_step: called with a Step after each look; returning True stops the search.

    Returns:
        Counterfactuals without codes; ``reconstruction`` is the original.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them a BlackBox.
    """
    began = time.perf_counter()
    validate.white_box(classifier)
    validate.on_step(on_step)
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
            for task in tasks(
                classifier, images, target, batch, getattr(classifier, "device", None)
            )
        ]
    weights = {"classifier": fingerprint(classifier)}
    return finish(parts, images.device, began, method="pixel_attack", **knobs, weights=weights)


def _attack(
    classifier: Classifier, task: Task, knobs: dict, on_step: OnStep | None
) -> Counterfactuals:
    moves = PixelMoves(task.images, knobs)
    moot = is_predicted(task.before, task.target)
    kept = ("confidence", "steps", "halvings")
    found = search(
        classifier, task, moves, moot=moot, on_step=on_step, **{k: knobs[k] for k in kept}
    )
    image = task.images + found.change
    with torch.no_grad():
        after = classifier(image)
    return Counterfactuals(
        original=task.images,
        image=image,
        reconstruction=task.images,
        before=task.before,
        after=after,
        target=task.target,
        status=statuses(task, found.passed, lost=found.lost),
        # Besides the search: the original's logits and those of the final image.
        cost={
            "generator": torch.zeros_like(found.evaluations),
            "classifier": found.evaluations + 2,
        },
    )


class PixelMoves:
    """Moves of an image, inside a ball and inside [0, 1]; the change is one of pixels."""

    def __init__(self, images: Tensor, knobs: dict) -> None:
        self.images, self.lr, self.radius = images, knobs["lr"], knobs["radius"]

    def begin(self, rows: Tensor, attempt: int) -> Tensor:
        return torch.zeros_like(self.images[rows])

    def draw(self, rows: Tensor, change: Tensor) -> Tensor:
        return self.images[rows] + change

    view = draw

    def price(self, rows: Tensor, change: Tensor, odds: Tensor) -> Tensor:
        return -odds

    def step(self, rows: Tensor, change: Tensor, slope: Tensor) -> Tensor:
        moved = self.draw(rows, change) - self.lr * unit(slope)
        return project(moved, self.images[rows], self.radius) - self.images[rows]


def project(x: Tensor, center: Tensor, radius: float) -> Tensor:
    """The nearest point within ``radius`` of ``center``, then clamped to [0, 1].

    Clamping moves each pixel towards ``center``, which lies in [0, 1]: the result stays inside.
    """
    change = x - center
    shrink = (radius / norms(change).clamp_min(1e-12)).clamp(max=1.0)
    return (center + per_sample(shrink, x) * change).clamp(0, 1)
