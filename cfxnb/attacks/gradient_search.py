"""The gradient search that ``latent_attack`` and ``pixel_attack`` share."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from cfxnb.core.bisection import bisect
from cfxnb.core.decisions import is_reached, log_odds
from cfxnb.core.driver import Edit, EncodedBatch, Stop
from cfxnb.core.tensors import finite_rows, gradient, norms, per_sample, require_gradient
from cfxnb.core.types import Step

Classify = Callable[[Tensor, Tensor], Tensor]


class Parametrisation(Protocol):
    """The part in which ``latent_attack`` and ``pixel_attack`` differ: what changes, and how.

    In all methods, ``rows`` holds the positions of some samples in the batch, and ``change`` has
    one row per sample in ``rows``.
    """

    def initial(self, rows: Tensor, attempt: int) -> Tensor:
        """Return the changes at which an attempt starts."""

    def render(self, rows: Tensor, change: Tensor) -> Tensor:
        """Return the changed images."""

    def loss(self, rows: Tensor, change: Tensor, odds: Tensor) -> Tensor:
        """Return the loss to minimise, (b,), given the log odds of the target, (b,)."""

    def step(self, rows: Tensor, change: Tensor, slope: Tensor) -> Tensor:
        """Return the change after one step, given the gradient ``slope`` of the loss."""

    def code(self, rows: Tensor, change: Tensor) -> Tensor:
        """Return the code, or the image, that ``on_step`` receives."""


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """Options that ``latent_attack`` and ``pixel_attack`` share.

    Attributes:
        confidence: Probability of the target at which the search for a sample ends.
        steps: Largest number of gradient steps per attempt.
        binary_search_steps: Bisection steps that shrink each successful change.
        seed: Seed of all random numbers.
    """

    confidence: float
    steps: int
    binary_search_steps: int
    seed: int


@dataclasses.dataclass
class SearchResult:
    """The state of a search, and its result at the end. Every tensor has one row per sample.

    Attributes:
        change: The current change.
        active: Samples that are still searched in the current attempt, bool (b,).
        reached: Samples that reached the target, bool (b,).
        no_gradient: Samples whose last attempt ended at a gradient that is zero or not finite,
            bool (b,).
        evaluations: Forward and backward passes of the classifier, int64 (b,).
        logits: The latest finite logits, (b, k), or NaN before the first evaluation of the
            classifier.
        last_finite: The latest change at which the logits were finite.
    """

    change: Tensor
    active: Tensor
    reached: Tensor
    no_gradient: Tensor
    evaluations: Tensor
    logits: Tensor
    last_finite: Tensor

    @classmethod
    def start(cls, batch: EncodedBatch, moves: Parametrisation) -> "SearchResult":
        """Return the state before the first step."""
        skip = batch.skip
        change = moves.initial(torch.arange(len(skip), device=skip.device), 0)
        change[skip] = 0
        return cls(
            change,
            active=~skip,
            reached=torch.zeros_like(skip),
            no_gradient=torch.zeros_like(skip),
            evaluations=torch.zeros_like(skip, dtype=torch.int64),
            logits=torch.full_like(batch.logits_before, torch.nan),
            last_finite=torch.zeros_like(change),
        )

    def start_attempt(self, batch: EncodedBatch, moves: Parametrisation, attempt: int) -> None:
        """Start an attempt for all samples that have not reached the target.

        In attempt 0 the changes are those of ``SearchResult.start``.
        """
        self.active = ~(batch.skip | self.reached)
        self.no_gradient[self.active] = False
        if attempt:
            rows = self.active.nonzero().squeeze(1)
            self.change[rows] = moves.initial(rows, attempt)

    def record_logits(self, rows: Tensor, logits: Tensor, reached: Tensor) -> None:
        """Record an evaluation of the classifier at the current change of ``rows``."""
        self.evaluations[rows] += 1
        known = finite_rows(logits)
        self.last_finite[rows[known]] = self.change[rows[known]]
        self.logits[rows[known]] = logits[known].to(self.logits)
        self.reached[rows[reached]] = True
        self.active[rows[reached]] = False

    def record_slope(self, rows: Tensor, logits: Tensor, slope: Tensor, moving: Tensor) -> Tensor:
        """Record the gradients of the samples in ``moving``, and return which can take a step.

        A sample leaves the attempt if its logits or its gradient are not finite, or if its gradient
        is zero.
        """
        self.evaluations[rows[moving]] += 1
        usable = finite_rows(logits.detach()) & finite_rows(slope) & (norms(slope) > 0)
        self.no_gradient[rows[moving & ~usable]] = True
        self.active[rows[moving & ~usable]] = False
        return moving & usable

    def edit(self, **made: Any) -> Edit:
        """Return the search result as an ``Edit``, with the changed codes or images in ``made``."""
        return Edit(
            reached=self.reached,
            no_gradient=self.no_gradient,
            seen=self.logits,
            classifier=self.evaluations,
            **made,
        )


def search(
    classify: Classify,
    batch: EncodedBatch,
    moves: Parametrisation,
    stop: Stop,
    options: SearchOptions,
    restarts: int = 0,
) -> SearchResult:
    """Follow the gradient until the target is reached, then shrink the change by bisection.

    A sample that reaches the target leaves the search, so the result of a sample does not depend on
    the rest of its batch.

    Args:
        classify: Maps images and their rows in the batch to logits, such as ``Run.classify``.
        moves: The Parametrisation of the attack, which turns changes into images, and defines the
            loss and the steps.
        stop: Tells whether the user has stopped the call. The changes found before a stop are kept.
        restarts: Number of further attempts for samples that have not reached the target.
    """
    found, number = SearchResult.start(batch, moves), 0
    steps, total = options.steps, (options.steps + 1) * (1 + restarts)
    with stop.on_interrupt():
        for attempt in range(1 + restarts):
            if stop.now:
                break
            found.start_attempt(batch, moves, attempt)
            for step in range(steps + 1):
                rows = found.active.nonzero().squeeze(1)
                if not len(rows):
                    break
                change = found.change[rows].clone().requires_grad_()
                with torch.enable_grad():
                    logits = classify(moves.render(rows, change), rows)
                    odds = log_odds(logits, batch.target[rows])
                reached = is_reached(logits.detach(), batch.target[rows], options.confidence)
                found.record_logits(rows, logits.detach(), reached)
                if stop.now:  # this round only classified the result of the last step
                    break
                moving = ~reached & (step < steps)
                if moving.any():
                    require_gradient(logits)
                    with torch.enable_grad():
                        slope = gradient(moves.loss(rows, change, odds), change)
                    moving = found.record_slope(rows, logits, slope, moving)
                    on = rows[moving]
                    found.change[on] = moves.step(on, found.change[on], slope[moving])
                number += 1
                code, p = moves.code(rows, change.detach()), odds.detach().sigmoid()
                active = moving if attempt == restarts else ~reached
                stop.tell(Step(number, total, batch.rows[rows], code, p, active))
    failed = ~found.reached & ~batch.skip
    found.change[failed] = found.last_finite[failed]
    with stop.on_interrupt():
        _shrink_successes(classify, batch, moves, found, options)
    return found


@torch.no_grad()
def _shrink_successes(
    classify: Classify,
    batch: EncodedBatch,
    moves: Parametrisation,
    found: SearchResult,
    options: SearchOptions,
) -> None:
    """Shrink each successful change to the smallest fraction that still reaches the target."""
    rows = found.reached.nonzero().squeeze(1)

    def reaches(fraction: Tensor) -> Tensor:
        found.evaluations[rows] += 1
        shorter = per_sample(fraction, found.change) * found.change[rows]
        logits = classify(moves.render(rows, shorter), rows)
        reached = is_reached(logits, batch.target[rows], options.confidence)
        found.logits[rows[reached]] = logits[reached].to(found.logits)
        return reached

    ones = torch.ones(len(rows), device=rows.device)
    fraction = bisect(reaches, torch.zeros_like(ones), ones, options.binary_search_steps)
    found.change[rows] *= per_sample(fraction, found.change)
