"""The smallest change that reaches the target: gradient steps in a ball that shrinks and grows.

The radius of the ball shrinks while the target is reached, and grows otherwise, as in DDN (Rony et
al., CVPR 2019). As in FMN (Pintor et al., NeurIPS 2021), a linear estimate of the distance to the
boundary helps to choose the radius, and the changes of the radius get smaller during the search.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from cfxnb.attacks.gradient_search import Classify, Parametrisation, SearchOptions, SearchResult
from cfxnb.core.decisions import log_odds
from cfxnb.core.driver import EncodedBatch, Stop
from cfxnb.core.tensors import finite_rows, gradient, norms, require_gradient, unit
from cfxnb.core.types import Step

FIRST_RATE, LAST_RATE = 0.05, 0.001  # fraction by which a radius changes in one step
LAST_STEP = 0.01  # length of the last step, relative to the first
LEAD = 1e-4  # of the target's logit, relative to the largest logit: rounding must not decide


class BallParametrisation(Parametrisation, Protocol):
    """Changes that can be projected to a ball around the image."""

    def project(self, rows: Tensor, change: Tensor, radius: Tensor) -> Tensor:
        """Project each change to the ball with its ``radius``, (b,)."""


def search_minimal_norm(
    classify: Classify,
    batch: EncodedBatch,
    moves: BallParametrisation,
    stop: Stop,
    options: SearchOptions,
    *,
    epsilon: float,
    step_size: float,
) -> SearchResult:
    """Follow the gradient in a ball around each image, with a radius that shrinks and grows.

    The first radius of the ball is ``epsilon``. While the target is reached, the radius shrinks
    below the length of the present change. While the target is not reached, the radius grows.
    Shrinking and growing the radius keeps the change near the decision boundary. The function
    returns the shortest change that reached the target.

    Args:
        classify: Maps images and their rows in the batch to logits, such as ``Run.classify``.
        moves: The BallParametrisation of the attack, which turns changes into images and projects
            changes to a ball.
        epsilon: First and largest radius.
        step_size: Length of the first step.
    """
    found, steps = SearchResult.start(batch, moves), options.steps
    radius = torch.full_like(batch.target, epsilon, dtype=found.change.dtype)
    shortest = torch.full_like(radius, torch.inf)
    with stop.on_interrupt():
        for step in range(steps + 1):
            rows = found.active.nonzero().squeeze(1)
            if not len(rows) or stop.now:
                break
            fading = (1 + math.cos(math.pi * step / steps)) / 2  # from 1 to 0
            # 1. Classify the changed images. Keep each change that is the shortest so far.
            change = found.change[rows].requires_grad_()
            with torch.enable_grad():
                logits = classify(moves.render(rows, change), rows)
                surplus = _surplus(logits, batch.target[rows], options.confidence)
            reached, length = surplus.detach() >= 0, norms(change.detach())
            shorter = reached & (length < shortest[rows])
            shortest[rows[shorter]] = length[shorter]
            _record(found, rows, change.detach(), logits.detach(), shorter)
            # 2. The gradient leads to the target, and tells how far the boundary is.
            moving, slope = torch.full_like(reached, step < steps), torch.zeros_like(change)
            if step < steps:
                require_gradient(logits)
                slope = gradient(surplus, change)
                moving = found.record_slope(rows, logits, slope, moving)
            to_boundary = surplus.detach().abs() / norms(slope).clamp_min(1e-12)
            # 3. Shrink the radius where the target is reached, and let it grow elsewhere.
            rate = LAST_RATE + (FIRST_RATE - LAST_RATE) * fading
            shrunk = torch.minimum(radius[rows], length)
            smaller = (shrunk - to_boundary).clamp(shrunk / 2, (1 - rate) * shrunk)
            old = radius[rows]
            larger = (old + to_boundary).clamp((1 + rate) * old, 2 * old).clamp(max=epsilon)
            radius[rows] = torch.where(reached, smaller, larger)
            # 4. Take a gradient step, and project the change to the ball.
            size = step_size * (LAST_STEP + (1 - LAST_STEP) * fading)
            moved = moves.project(rows, change.detach() + size * unit(slope), radius[rows])
            found.change[rows[moving]] = moved[moving]
            code = moves.code(rows, change.detach())
            p = log_odds(logits.detach(), batch.target[rows]).sigmoid()
            stop.tell(Step(step + 1, steps + 1, batch.rows[rows], code, p, moving))
    found.change = found.last_finite
    return found


def _surplus(logits: Tensor, target: Tensor, confidence: float) -> Tensor:
    """Return by how much each sample exceeds the conditions for reaching the target, (b,).

    The target is reached if it has the largest logit and a probability of at least ``confidence``.
    """
    own = logits.gather(1, target[:, None])[:, 0]
    lead = own - logits.scatter(1, target[:, None], -torch.inf).amax(1)
    lead = lead - LEAD * logits.detach().abs().amax(1)
    need = torch.logit(torch.tensor(confidence, dtype=torch.float64)).to(logits)
    return torch.minimum(lead, log_odds(logits, target) - need)


def _record(
    found: SearchResult, rows: Tensor, change: Tensor, logits: Tensor, shorter: Tensor
) -> None:
    """Record an evaluation. Changes marked in ``shorter`` replace the shortest so far."""
    found.evaluations[rows] += 1
    kept = finite_rows(logits) & (shorter | ~found.reached[rows])
    found.last_finite[rows[kept]] = change[kept]
    found.logits[rows[kept]] = logits[kept].to(found.logits)
    found.reached[rows[shorter]] = True
