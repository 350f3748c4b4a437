"""Counterfactual Attacks: adversarial search in a generator's latent space.

Goldwasser & Hooker, "Counterfactual Attacks", arXiv 2504.15479. The paper minimises the bare
probability with Adam and keeps the last code (``PAPER`` below). The defaults here differ where
that hurts: log odds do not saturate, the distance is part of the objective, each sample stops
by itself, and a bisection goes back to the smallest change that still passes.
"""

import time
from typing import Any

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
from cfxnb.tensors import finite_rows, gradient, noise_like, norms, per_sample, undisturbed
from cfxnb.types import Classifier, Code, LatentSpace, OnStep, Step

#: The paper's own setting for changing one digit into another (official code, MNIST).
PAPER: dict[str, Any] = {
    "loss": "probability",
    "units": "code",
    "lr": 0.1,
    "steps": 1000,
    "confidence": 0.5,
    "proximity": 0.0,
    "prior": 0.0,
    "halvings": 0,
    "restarts": 0,
}


def latent_attack(
    space: LatentSpace,
    classifier: Classifier,
    images: Tensor,
    target: int | Tensor,
    *,
    confidence: float = 0.995,
    steps: int = 25,
    restarts: int = 5,
    lr: float = 0.3,
    loss: str = "margin",
    proximity: float = 0.1,
    prior: float = 0.3,
    units: str = "spread",
    halvings: int = 5,
    jitter: float = 0.0,
    batch: int = 256,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Counterfactuals:
    """Change each image's code until the classifier sees the target, then as little as needed.

    Minimises, for a code z = z0 + spread * u (arXiv 2504.15479, section 3; terms 2 and 3 ours):
    ``-log_odds(target) + proximity * |u|^2 + prior * |(z - center) / spread|^2``.

    Args:
        space: where to search; ``space.spread`` is the unit of length.
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
        halvings: bisections of the step back, each one decoding; 0 keeps the end of the search.
        jitter: scale, in ``units``, of a random start around the code: a way to diverse answers.
        batch: samples worked on together; bounds the memory, never changes a result.
        seed: of jitter and restarts; noise is drawn per sample from (seed, row).
        on_step: called with a Step after each step; returning True stops the search.

    Returns:
        Counterfactuals. ``reconstruction_flips`` marks samples whose mere reconstruction is
        already seen as the target: no change to the code explains those.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them a BlackBox.
    """
    began = time.perf_counter()
    validate.space(space)
    if isinstance(classifier, BlackBox):
        raise TypeError(
            "classifier: expected one that passes gradients, got a BlackBox; "
            "use a black-box method instead"
        )
    knobs = {
        "confidence": validate.number(confidence, "confidence", 0.0, 1 - 1e-6, open_low=True),
        "steps": validate.count(steps, "steps", 1),
        "restarts": validate.count(restarts, "restarts"),
        "lr": validate.number(lr, "lr", 0.0, open_low=True),
        "loss": validate.choice(loss, "loss", ("margin", "probability")),
        "proximity": validate.number(proximity, "proximity", 0.0),
        "prior": validate.number(prior, "prior", 0.0),
        "units": validate.choice(units, "units", ("spread", "code")),
        "halvings": validate.count(halvings, "halvings"),
        "jitter": validate.number(jitter, "jitter", 0.0),
        "seed": validate.count(seed, "seed"),
    }
    with undisturbed(space, classifier):
        parts = [
            _attack(space, classifier, task, knobs, on_step)
            for task in tasks(classifier, images, target, batch)
        ]
    weights = {"space": fingerprint(space), "classifier": fingerprint(classifier)}
    return finish(parts, began, method="latent_attack", **knobs, weights=weights)


def _attack(
    space: LatentSpace, classifier: Classifier, task: Task, knobs: dict, on_step: OnStep | None
) -> Counterfactuals:
    need = threshold(knobs["confidence"])
    with torch.no_grad():
        start = space.encode(task.images)
        reconstruction = space.decode(start)
        recon_logits = classifier(reconstruction)
    scale = space.spread.to(start.z) if knobs["units"] == "spread" else torch.ones_like(start.z[0])
    u = _random_start(start.z, task.rows, knobs, attempt=0)
    moot = is_predicted(task.before, task.target) | is_predicted(recon_logits, task.target)
    u[moot] = 0
    active = ~moot
    passed, lost = torch.zeros_like(moot), torch.zeros_like(moot)
    generator = torch.ones(len(u), dtype=torch.int64)
    adam = Adam(u, knobs["lr"])

    def decode(rows: Tensor, change: Tensor) -> Tensor:
        return space.decode(start[rows].at(start.z[rows] + scale * change))

    total = knobs["steps"] * (1 + knobs["restarts"])
    for number in range(1, total + 1):
        rows = active.nonzero().squeeze(1)
        if not len(rows):
            break
        attempt, step = divmod(number - 1, knobs["steps"])
        if attempt and not step:
            u[rows] = _random_start(start.z[rows], task.rows[rows], knobs, attempt)
            adam = Adam(u, knobs["lr"])
        change = u[rows].clone().requires_grad_()
        odds_logits = classifier(decode(rows, change))
        objective, odds = _objective(
            space, start[rows], change, scale, odds_logits, task.target[rows], knobs
        )
        slope = gradient(objective, change)
        generator[rows] += 2

        done = odds.detach() >= need
        stuck = ~done & (~finite_rows(slope) | (norms(slope) == 0))
        passed[rows[done]] = True
        lost[rows[stuck]] = True
        active[rows[done | stuck]] = False
        moving = ~(done | stuck)
        adam.step(u, rows[moving], slope[moving])
        if on_step is not None and on_step(
            Step(
                number=number,
                total=total,
                rows=task.rows[rows],
                code=start.z[rows] + scale * change.detach(),
                probability=odds.detach().sigmoid(),
                active=moving,
            )
        ):
            break

    with torch.no_grad():
        winners = passed.nonzero().squeeze(1)

        def passes(share: Tensor, rows: Tensor) -> Tensor:
            generator[rows] += 1
            logits = classifier(decode(rows, per_sample(share, u) * u[rows]))
            return log_odds(logits, task.target[rows]) >= need

        if len(winners):
            u[winners] *= per_sample(step_back(passes, winners, knobs["halvings"]), u)
        code = start.at(start.z + scale * u)
        image = space.decode(code)
        after = classifier(image)
        generator += 1
    return Counterfactuals(
        original=task.images,
        image=image,
        reconstruction=reconstruction,
        before=task.before,
        after=after,
        target=task.target,
        status=statuses(task, passed, lost=lost, reconstruction=recon_logits),
        start=start,
        code=code,
        cost={"generator": generator, "classifier": generator + 1},
    )


def _random_start(z: Tensor, rows: Tensor, knobs: dict, attempt: int) -> Tensor:
    """Where an attempt begins, as a change of the code in ``units``: the first one at the code."""
    scale = knobs["jitter"] + 0.5 * attempt
    return scale * noise_like(z, knobs["seed"] + 7919 * attempt, rows)


def _objective(
    space: LatentSpace,
    start: Code,
    change: Tensor,
    scale: Tensor,
    logits: Tensor,
    target: Tensor,
    knobs: dict,
) -> tuple[Tensor, Tensor]:
    """What is minimised, (b,), and the log odds of the target, (b,)."""
    odds = log_odds(logits, target)
    away = (start.z + scale * change - space.center.to(change)) / space.spread.to(change)
    lengths = knobs["proximity"] * change.flatten(1).square().sum(1)
    lengths = lengths + knobs["prior"] * away.flatten(1).square().sum(1)
    return lengths - (odds if knobs["loss"] == "margin" else odds.sigmoid()), odds


class Adam:
    """Adam (Kingma & Ba, 2015) on chosen rows: the others keep their place and their moments.

    ``torch.optim.Adam`` moves every row at every step by its momentum, so that a finished
    sample would drift on and the result of one image depend on its batch mates.
    """

    def __init__(self, like: Tensor, lr: float) -> None:
        self.lr = lr
        self.mean = torch.zeros_like(like)
        self.square = torch.zeros_like(like)
        self.count = torch.zeros_like(like)

    def step(self, x: Tensor, rows: Tensor, slope: Tensor) -> None:
        """Move ``x[rows]`` in place against ``slope``."""
        self.count[rows] += 1
        self.mean[rows] = 0.9 * self.mean[rows] + 0.1 * slope
        self.square[rows] = 0.999 * self.square[rows] + 0.001 * slope**2
        mean = self.mean[rows] / (1 - 0.9 ** self.count[rows])
        square = self.square[rows] / (1 - 0.999 ** self.count[rows])
        x[rows] -= self.lr * mean / (square.sqrt() + 1e-8)
