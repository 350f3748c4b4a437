"""Counterfactual Attacks: adversarial search in a generator's latent space.

Goldwasser & Hooker, "Counterfactual Attacks", arXiv 2504.15479. The paper minimises the bare
probability with Adam and keeps the last code (``PAPER_ATTACK`` below). The defaults here differ
where that hurts: log odds do not saturate, the distance is part of the objective, each sample stops
by itself, and a bisection goes back to the smallest change that still passes.
"""

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
from cfxnb.core.tensors import active_dims, noise_like, standardise
from cfxnb.core.types import Classifier, Code, LatentSpace, OnStep

#: The paper's own setting for changing one digit into another (official code, MNIST).
PAPER_ATTACK: dict[str, Any] = {
    "loss": "probability",
    "units": "code",
    "lr": 0.1,
    "steps": 5000,
    "confidence": 0.5,
    "proximity": 0.0,
    "prior": 0.0,
    "binary_search_steps": 0,
    "restarts": 0,
}


@standard_modes
def latent_attack(
    space: LatentSpace,
    classifier: Classifier,
    images: Tensor,
    target: int | str | Sequence[int | str] | Tensor,
    *,
    confidence: float = 0.995,
    steps: int = 25,
    restarts: int = 5,
    lr: float = 0.3,
    loss: str = "margin",
    proximity: float = 0.1,
    prior: float = 0.3,
    units: str = "std",
    binary_search_steps: int = 5,
    init_noise: float = 0.0,
    batch_size: int = 256,
    seed: int = 0,
    first_row: int = 0,
    on_step: OnStep | None = None,
) -> Counterfactuals:
    """Change each image's code until the classifier sees the target, then as little as needed.

    Minimises, for a code z = z0 + spread * u (arXiv 2504.15479; terms 2 and 3 are ours):
    ``-log_odds(target) + proximity * |u|^2 + prior * |(z - center) / spread|^2``.

    Args:
        space: where to search; ``space.std`` is the unit of length.
        classifier: images -> logits (b, k), differentiable.
        images: (b, c, h, w) in [0, 1].
        target: class to reach, one for all or one a sample (b,).
        confidence: probability of the target at which a sample is done, in (0, 1).
        steps: gradient steps at most, in each attempt.
        restarts: further attempts for samples that are stuck, each from a random code near the
            original, half a spread farther away every time.
        lr: Adam's step length, in ``units``.
        loss: ``"margin"`` (log odds) or ``"probability"`` (the paper's, which saturates).
        proximity, prior: weights of the two squared lengths, >= 0.
        units: ``"spread"`` scales every coordinate by the spread of real codes, ``"code"`` not.
        binary_search_steps: bisections of the step back, each one decoding; 0 keeps the end of the search.
        init_noise: scale, in ``units``, of a random start around the code: a way to diverse answers.
        batch_size: samples worked on together; bounds the memory, never changes a result.
        seed: of jitter and restarts; noise is drawn per sample from (seed, row).
        first_row: position of the first image in its data set: a data set that is worked on in
            shards gets the answers of one call.
        on_step: called with a Step after each look. Returning True ends the call: what has passed
            is kept, the other samples get the status "stopped".

    Returns:
        Counterfactuals. ``reconstruction_is_target``: the mere reconstruction is seen as the target.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them a BlackBox.
    """
    validate.white_box(classifier)
    knobs: dict[str, Any] = {
        "confidence": validate.number(confidence, "confidence", 0.0, 1 - 1e-6, open_low=True),
        "steps": validate.count(steps, "steps", 1),
        "restarts": validate.count(restarts, "restarts"),
        "lr": validate.number(lr, "lr", 0.0, open_low=True),
        "loss": validate.choice(loss, "loss", ("margin", "probability")),
        "proximity": validate.number(proximity, "proximity", 0.0),
        "prior": validate.number(prior, "prior", 0.0),
        "units": validate.choice(units, "units", ("std", "code")),
        "binary_search_steps": validate.count(binary_search_steps, "binary_search_steps"),
        "init_noise": validate.number(init_noise, "init_noise", 0.0),
        "seed": validate.seed(seed),
    }
    run = Run(
        classifier, images, target, space=validate.space(space), batch_size=batch_size, first_row=first_row,
        on_step=on_step,
    )  # fmt: skip

    def edit(task: EncodedBatch) -> Edit:
        moves = CodeMoves(run.space, task.code_before, task.rows, knobs)
        kept = {k: knobs[k] for k in ("confidence", "steps", "restarts", "binary_search_steps")}
        found = search(run.classifier, task, moves, run.stop, skip=task.skip, **kept)
        code = task.code_before.with_z(task.code_before.z + moves.scale * found.change)
        return found.edit(code=code, generator=found.evaluations)

    need = still_reached(knobs["confidence"])
    return run.counterfactuals(edit, need, function="latent_attack", **knobs)


class CodeMoves:
    """Moves of a code: z = z0 + scale * change, by Adam."""

    def __init__(self, space: Any, start: Code, rows: Tensor, knobs: dict) -> None:
        self.space, self.start, self.rows, self.knobs = space, start, rows, knobs
        self.mean, self.std = space.mean.to(start.z), space.std.to(start.z)
        length = self.std if knobs["units"] == "std" else torch.ones_like(self.std)
        self.scale = length * active_dims(self.std)  # what carries nothing is left alone
        self.adam = Adam(start.z, knobs["lr"])

    def begin(self, rows: Tensor, attempt: int) -> Tensor:
        """The first attempt begins at the code, each further one half a unit farther away."""
        self.adam.forget(rows)
        far = self.knobs["init_noise"] + 0.5 * attempt
        seed = self.knobs["seed"] + 7919 * attempt
        return far * noise_like(self.start.z[rows], seed, self.rows[rows])

    def view(self, rows: Tensor, change: Tensor) -> Tensor:
        return self.start.z[rows] + self.scale * change

    def draw(self, rows: Tensor, change: Tensor) -> Tensor:
        return self.space.decode(self.start[rows].with_z(self.view(rows, change)))

    def price(self, rows: Tensor, change: Tensor, odds: Tensor) -> Tensor:
        away = standardise(self.view(rows, change) - self.mean, self.std)
        lengths = self.knobs["proximity"] * change.flatten(1).square().sum(1)
        lengths = lengths + self.knobs["prior"] * away.flatten(1).square().sum(1)
        return lengths - (odds if self.knobs["loss"] == "margin" else odds.sigmoid())

    def step(self, rows: Tensor, change: Tensor, slope: Tensor) -> Tensor:
        return change - self.adam.step(rows, slope)


class Adam:
    """Adam (Kingma & Ba, 2015) on chosen rows: the others keep their moments.

    ``torch.optim.Adam`` moves every row at every step by its momentum, so that a finished
    sample would drift on and the result of one image depend on its batch mates.
    """

    def __init__(self, like: Tensor, lr: float) -> None:
        self.lr = lr
        self.mean, self.square, self.count = (torch.zeros_like(like) for _ in range(3))

    def forget(self, rows: Tensor) -> None:
        for moment in (self.mean, self.square, self.count):
            moment[rows] = 0

    def step(self, rows: Tensor, slope: Tensor) -> Tensor:
        """How far to move ``rows`` against ``slope``."""
        self.count[rows] += 1
        self.mean[rows] = 0.9 * self.mean[rows] + 0.1 * slope
        self.square[rows] = 0.999 * self.square[rows] + 0.001 * slope**2
        mean = self.mean[rows] / (1 - 0.9 ** self.count[rows])
        square = self.square[rows] / (1 - 0.999 ** self.count[rows])
        return self.lr * mean / (square.sqrt() + 1e-8)
