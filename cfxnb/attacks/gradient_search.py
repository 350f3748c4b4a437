"""Search by gradient, sample by sample: the part that all attacks share."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from cfxnb.core.decisions import is_reached, log_odds
from cfxnb.core.driver import Batch, Edit, Stop
from cfxnb.core.tensors import finite_rows, gradient, needs_gradient, norms, per_sample
from cfxnb.core.types import Classifier, Step


class Moves(Protocol):
    """What distinguishes one attack from another; ``rows`` are those being worked on."""

    def begin(self, rows: Tensor, attempt: int) -> Tensor:
        """The change that an attempt begins with."""

    def draw(self, rows: Tensor, change: Tensor) -> Tensor:
        """The changed images."""

    def price(self, rows: Tensor, change: Tensor, odds: Tensor) -> Tensor:
        """What is minimised, (b,), given the log odds of the target."""

    def step(self, rows: Tensor, change: Tensor, slope: Tensor) -> Tensor:
        """The next change, given the gradient of the price."""

    def view(self, rows: Tensor, change: Tensor) -> Tensor:
        """What ``on_step`` is shown."""


@dataclasses.dataclass
class Found:
    """Where a search ended, and what each sample would have cost alone; all (b, ...).

    ``logits`` are those seen at ``change``, NaN where nothing was looked at.
    """

    change: Tensor
    reached: Tensor
    no_gradient: Tensor
    evaluations: Tensor
    logits: Tensor

    def edit(self, **made: Any) -> Edit:
        """The end of the search as an Edit, with the codes or images that were made of it."""
        return Edit(
            reached=self.reached,
            no_gradient=self.no_gradient,
            seen=self.logits,
            classifier=self.evaluations,
            **made,
        )


def search(
    classifier: Classifier,
    task: Batch,
    moves: Moves,
    stop: Stop,
    *,
    skip: Tensor,
    confidence: float,
    steps: int,
    restarts: int = 0,
    binary_search_steps: int = 0,
) -> Found:
    """Descend the price until the target is reached, then step back.

    A sample that is finished leaves the batch: nothing its mates do can move it any more.

    Args:
        stop: ends the search; what has passed by then is kept.
        skip: samples with nothing to search for, bool (b,); they stay as they are.
        steps: in each of ``1 + restarts`` attempts; after the last step there is one more look.
    """
    change = moves.begin(torch.arange(len(skip), device=skip.device), 0)
    change[skip] = 0
    found = Found(
        change,
        reached=torch.zeros_like(skip),
        no_gradient=torch.zeros_like(skip),
        evaluations=torch.zeros_like(skip, dtype=torch.int64),
        logits=torch.full_like(task.logits_before, torch.nan),
    )
    fine = torch.zeros_like(change)  # the last change of each sample with finite logits
    with stop.on_interrupt():
        _descend(classifier, task, moves, stop, found, fine, skip, confidence, steps, restarts)
    left = ~found.reached & ~skip
    change[left] = fine[left]
    with stop.on_interrupt():
        _settle(classifier, task, moves, found, confidence, binary_search_steps)
    return found


def _descend(
    classifier: Classifier,
    task: Batch,
    moves: Moves,
    stop: Stop,
    found: Found,
    fine: Tensor,
    skip: Tensor,
    confidence: float,
    steps: int,
    restarts: int,
) -> None:
    """All attempts; ``found`` and ``fine`` are kept up to date, so that it can end anywhere."""
    change, number, total = found.change, 0, (steps + 1) * (1 + restarts)
    for attempt in range(1 + restarts):
        if stop.now:
            return
        active = ~(skip | found.reached)
        found.no_gradient[active] = False
        if attempt:
            rows = active.nonzero().squeeze(1)
            change[rows] = moves.begin(rows, attempt)
        for look in range(steps + 1):
            rows = active.nonzero().squeeze(1)
            if not len(rows):
                break
            point = change[rows].clone().requires_grad_()
            with torch.enable_grad():
                logits = classifier(moves.draw(rows, point))
                odds = log_odds(logits, task.target[rows])
            found.evaluations[rows] += 1
            seen = logits.detach()
            known = finite_rows(seen)
            fine[rows[known]] = change[rows[known]]
            found.logits[rows[known]] = seen[known].to(found.logits)
            done = is_reached(seen, task.target[rows], confidence)
            found.reached[rows[done]] = True
            active[rows[done]] = False
            if stop.now:  # this round only looked at where the last step led
                return
            moving = ~done & (look < steps)
            if moving.any():
                needs_gradient(logits)
                with torch.enable_grad():
                    slope = gradient(moves.price(rows, point, odds), point)
                found.evaluations[rows[moving]] += 1
                stuck = moving & (~known | ~finite_rows(slope) | (norms(slope) == 0))
                found.no_gradient[rows[stuck]] = True
                active[rows[stuck]] = False
                moving &= ~stuck
                change[rows[moving]] = moves.step(rows[moving], change[rows[moving]], slope[moving])
            number += 1
            code = moves.view(rows, point.detach())
            goes_on = moving if attempt == restarts else ~done
            p = odds.detach().sigmoid()
            stop.tell(Step(number, total, task.rows[rows], code, p, goes_on))


@torch.no_grad()
def _settle(
    classifier: Classifier,
    task: Batch,
    moves: Moves,
    found: Found,
    confidence: float,
    binary_search_steps: int,
) -> None:
    """Go back to the smallest share of each successful change that still passes."""

    def passes(share: Tensor, rows: Tensor) -> Tensor:
        found.evaluations[rows] += 1
        nearer = per_sample(share, found.change) * found.change[rows]
        logits = classifier(moves.draw(rows, nearer))
        ok = is_reached(logits, task.target[rows], confidence)
        found.logits[rows[ok]] = logits[ok].to(found.logits)
        return ok

    winners = found.reached.nonzero().squeeze(1)
    shares = step_back(passes, winners, binary_search_steps)
    found.change[winners] *= per_sample(shares, found.change)


def step_back(
    passes: Callable[[Tensor, Tensor], Tensor], rows: Tensor, binary_search_steps: int
) -> Tensor:
    """The smallest share of each sample's change that still passes, by bisection.

    Args:
        passes: ``passes(share, rows) -> bool`` for the samples in ``rows``; known to be true at
            share 1 and false at 0.
        rows: samples to work on.
        binary_search_steps: the answer is exact to 2**-halvings.

    Returns:
        A share in (0, 1] for each of ``rows``, at which ``passes`` was seen true.
    """
    good = torch.ones(len(rows), device=rows.device)
    bad = torch.zeros_like(good)
    for _ in range(binary_search_steps if len(rows) else 0):
        middle = (good + bad) / 2
        ok = passes(middle, rows)
        good = torch.where(ok, middle, good)
        bad = torch.where(ok, bad, middle)
    return good
