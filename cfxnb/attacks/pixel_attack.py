"""The adversarial baseline: the same question, asked without a generator."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cfxnb.attacks.gradient_search import search
from cfxnb.core import validate
from cfxnb.core.decisions import still_reached
from cfxnb.core.driver import Edit, EncodedBatch, Run
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import norms, per_sample, unit
from cfxnb.core.types import Classifier, OnStep


@standard_modes
def pixel_attack(
    classifier: Classifier,
    images: Tensor,
    target: int | str | Sequence[int | str] | Tensor,
    *,
    confidence: float = 0.995,
    epsilon: float = 6.0,
    steps: int = 100,
    step_size: float = 0.2,
    binary_search_steps: int = 5,
    batch_size: int = 256,
    seed: int = 0,
    first_row: int = 0,
    on_step: OnStep | None = None,
) -> Counterfactuals:
    """Projected gradient descent on pixels (Madry et al., 2018, section 2.1), L2-bounded.

    Climbs the log odds of the target in steps of fixed length, inside the ball of ``epsilon``
    around the image and inside [0, 1], then goes back to the smallest share of the change that
    still passes. It shows what a classifier's gradient alone asks for.

    Args:
        classifier: images -> logits (b, k), differentiable.
        images: (b, c, h, w) in [0, 1].
        target: class to reach, one for all or one a sample (b,).
        confidence: probability of the target at which a sample is done, in (0, 1).
        epsilon: largest L2 length of the change, in pixel values summed over the image.
        steps: gradient steps at most.
        step_size: L2 length of one step.
        binary_search_steps: bisections of the step back; 0 keeps the end of the search.
        batch_size: samples worked on together; never changes a result.
        seed: recorded only: nothing here is random.
        first_row: position of the first image in its data set, for ``on_step``.
        on_step: called with a Step after each look. Returning True ends the call: what has passed
            is kept, the other samples get the status "stopped".

    Returns:
        Counterfactuals without codes; ``reconstruction`` is the original.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them a BlackBox.
    """
    validate.white_box(classifier)
    knobs: dict[str, Any] = {
        "confidence": validate.number(confidence, "confidence", 0.0, 1 - 1e-6, open_low=True),
        "epsilon": validate.number(epsilon, "epsilon", 0.0, open_low=True),
        "steps": validate.count(steps, "steps", 1),
        "step_size": validate.number(step_size, "step_size", 0.0, open_low=True),
        "binary_search_steps": validate.count(binary_search_steps, "binary_search_steps"),
        "seed": validate.seed(seed),
    }
    run = Run(
        classifier, images, target, batch_size=batch_size, first_row=first_row, on_step=on_step
    )

    def edit(task: EncodedBatch) -> Edit:
        moves = PixelMoves(task.images, knobs)
        kept = {k: knobs[k] for k in ("confidence", "steps", "binary_search_steps")}
        found = search(run.classifier, task, moves, run.stop, skip=task.skip, **kept)
        image = (task.images + found.change).clamp(0, 1)
        return found.edit(image=image)

    need = still_reached(knobs["confidence"])
    return run.counterfactuals(edit, need, function="pixel_attack", **knobs)


class PixelMoves:
    """Moves of an image, inside a ball and inside [0, 1]; the change is one of pixels."""

    def __init__(self, images: Tensor, knobs: dict) -> None:
        self.images, self.step_size, self.epsilon = images, knobs["step_size"], knobs["epsilon"]

    def begin(self, rows: Tensor, attempt: int) -> Tensor:
        return torch.zeros_like(self.images[rows])

    def draw(self, rows: Tensor, change: Tensor) -> Tensor:
        return self.images[rows] + change

    view = draw

    def price(self, rows: Tensor, change: Tensor, odds: Tensor) -> Tensor:
        return -odds

    def step(self, rows: Tensor, change: Tensor, slope: Tensor) -> Tensor:
        moved = self.draw(rows, change) - self.step_size * unit(slope)
        return project(moved, self.images[rows], self.epsilon) - self.images[rows]


def project(x: Tensor, center: Tensor, epsilon: float) -> Tensor:
    """The nearest point within ``epsilon`` of ``center``, then clamped to [0, 1].

    Clamping moves each pixel towards ``center``, which lies in [0, 1]: the result stays inside.
    """
    change = x - center
    shrink = (epsilon / norms(change).clamp_min(1e-12)).clamp(max=1.0)
    return (center + per_sample(shrink, x) * change).clamp(0, 1)
