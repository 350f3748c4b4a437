"""One direction on a whole data set: the smallest step along it that flips each decision."""

from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.decisions import is_predicted, log_odds
from cfxnb.core.directions import expand_direction
from cfxnb.core.driver import Batch, Edit, EncodedBatch, Run
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import (
    noise_like,
    norms,
    per_sample,
    predicted,
    standardise,
    typical_distance,
)
from cfxnb.core.types import Classifier, Code, LatentSpace, OnStep, Step


@standard_modes
@torch.no_grad()
def follow_direction(
    space: LatentSpace,
    classifier: Classifier,
    images: Tensor,
    direction: Tensor,
    target: int | Tensor | None = None,
    *,
    max_step: float | None = None,
    grid_steps: int = 8,
    binary_search_steps: int = 4,
    noise_seed: int | None = None,
    batch_size: int = 64,
    first_row: int = 0,
    on_step: OnStep | None = None,
) -> Counterfactuals:
    """Walk every code along one direction, both ways, to the first place that shows the target.

    Black-box: the classifier is only asked. Global Counterfactual Directions (arXiv 2404.12488)
    looks at fixed lengths of the sense that a sign rule names; here both are tried, the step is
    bisected, and a reconstruction that flips by itself is told apart.

    Args:
        direction: like ``space.mean``; neither sign nor length matter.
        target: class to reach, one for all or one a sample (b,). None: with two classes, the
            other one than that which is predicted.
        max_step: longest step, in spreads. By default sqrt(d / 2), with d coordinates that carry
            anything: half the typical distance between the codes of two images. Farther on, a code
            is nearer to some other image's, and most directions flip something.
        grid_steps: evenly spaced renders along the reach, in each sense that is walked: first the one
            that raises the target's log odds more at the first look; the other if that fails.
        binary_search_steps: bisections of the stretch in which the decision flips, one render each.
        noise_seed: seed of a random stochastic code for each image, from (seed, row), in place of the
            image's own: another seed, another answer, unless the space has no such code. None
            keeps its own.
        batch_size: images worked on together; bounds the memory, never changes a result.
        first_row: position of the first image in its data set: a data set that is worked on in
            shards gets the answers of one call.
        on_step: called with a Step after each look. Returning True ends the call: what has flipped
            is still bisected, the other samples get the status "stopped".

    Returns:
        Counterfactuals. What is not flipped ends at the far end of the second walk.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    validate.space(space)
    if max_step is None:
        max_step = typical_distance(space.std) / 2
    knobs: dict[str, Any] = {
        "max_step": validate.number(max_step, "max_step", 0.0, open_low=True),
        "grid_steps": validate.count(grid_steps, "grid_steps", 1),
        "binary_search_steps": validate.count(binary_search_steps, "binary_search_steps"),
        "noise_seed": validate.optional(validate.seed, noise_seed, "noise_seed"),
    }
    run = Run(
        classifier, images, target, space=space, batch_size=batch_size, first_row=first_row, on_step=on_step,
        choose=_other if target is None else None,
        encode=None if noise_seed is None else lambda task: _with_random_rest(run, task, knobs["noise_seed"]),
    )  # fmt: skip
    step = _upright(expand_direction(run.space, direction, len(run.images)))

    def edit(task: EncodedBatch) -> Edit:
        return Walk(run, task, step[task.index.to(step.device)], knobs).run()

    return run.counterfactuals(edit, function="follow_direction", **knobs)


def _upright(step: Tensor) -> Tensor:
    """Largest coordinate positive: where both senses look alike, the given sign must not tell."""
    flat = step.flatten(1)
    largest = flat.gather(1, flat.abs().argmax(1, keepdim=True))
    return step * per_sample(largest.sign()[:, 0], step)


def _other(logits: Tensor) -> Tensor:
    if logits.shape[1] != 2:
        raise ValueError(f"target: expected a class out of {logits.shape[1]}, got None")
    return 1 - predicted(logits).clamp_min(0)  # not finite: any will do, the status tells


def _with_random_rest(run: Run, task: Batch, noise_seed: int) -> tuple[Code, Tensor, int]:
    """Codes whose stochastic part is random, if the space has one, and their reconstructions.

    The pixels are those of another stochastic code, so ``run.fit`` does not compare them.
    """
    code = run.space.encode(task.images)
    if code.aux is not None:
        code = Code(code.z, noise_like(code.aux, noise_seed, task.rows))
    return code, validate.images(run.space.decode(code), "space.decode"), 1


class Walk:
    """One chunk of images; a sample that has arrived leaves, whatever its mates do."""

    def __init__(self, run: Run, task: EncodedBatch, step: Tensor, knobs: dict) -> None:
        self.space, self.classifier, self.task = run.space, run.classifier, task
        self.start, self.step, self.knobs, self.stop = task.code_before, step, knobs, run.stop
        count = len(task.rows)
        self.place = torch.zeros(count, device=step.device)  # signed, in reaches
        self.passed = torch.zeros(count, dtype=torch.bool, device=step.device)
        self.seen = torch.full_like(task.logits_before, torch.nan)  # logits at the place
        self.renders = torch.zeros(count, dtype=torch.int64, device=step.device)

    def code(self, rows: Tensor, place: Tensor) -> Code:
        z = self.start.z[rows]
        return self.start[rows].with_z(
            z + per_sample(self.knobs["max_step"] * place, z) * self.step[rows]
        )

    def look(self, rows: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at signed places (n, k), and whether the targets are predicted, bool (n,)."""
        self.renders[rows] += 1
        logits = self.classifier(self.space.decode(self.code(rows, place)))
        return logits, is_predicted(logits, self.task.target[rows])

    def run(self) -> Edit:
        rows = (~self.task.skip).nonzero()[:, 0]
        if len(rows):
            with self.stop.on_interrupt():
                self._both_ways(rows)
            with self.stop.on_interrupt():
                self._bisect()
        everyone = torch.arange(len(self.place), device=self.place.device)
        return Edit(
            code=self.code(everyone, self.place),
            reached=self.passed,
            seen=self.seen,
            generator=self.renders,
            classifier=self.renders,
        )

    def _both_ways(self, rows: Tensor) -> None:
        first = torch.full((len(rows),), 1 / self.knobs["grid_steps"], device=rows.device)
        there, back = self.look(rows, first), self.look(rows, -first)
        target = self.task.target[rows]
        up = log_odds(there[0], target) >= log_odds(back[0], target)
        better = torch.where(up[:, None], there[0], back[0])
        other = torch.where(up[:, None], back[0], there[0])
        sense = torch.where(up, 1.0, -1.0)
        self._along(rows, sense, better, 0)
        left = ~self.passed[rows]
        self._along(rows[left], -sense[left], other[left], self.knobs["grid_steps"])

    def _along(self, rows: Tensor, sense: Tensor, first: Tensor, told: int) -> None:
        """Look by look outwards; ``first`` are the logits of the first look, (n, k).

        Args:
            told: looks before these, for ``on_step``.
        """
        looks = self.knobs["grid_steps"]
        for look in range(1, looks + 1):
            if not len(rows) or self.stop.now:
                return
            place = sense * (look / looks)
            if look == 1:
                logits, seen = first, is_predicted(first, self.task.target[rows])
            else:
                logits, seen = self.look(rows, place)
            known = predicted(logits) >= 0  # where it is not, the sample stays where it was
            self.place[rows[known]] = place[known]
            self.seen[rows[known]] = logits[known]
            self.passed[rows] = seen
            z, p = self.code(rows, place).z, log_odds(logits, self.task.target[rows]).sigmoid()
            self.stop.tell(Step(told + look, 2 * looks, self.task.rows[rows], z, p, ~seen))
            rows, sense = rows[~seen], sense[~seen]

    def _bisect(self) -> None:
        rows = self.passed.nonzero()[:, 0]
        far = self.place[rows]
        near = far - far.sign() / self.knobs["grid_steps"]
        for _ in range(self.knobs["binary_search_steps"] if len(rows) else 0):
            middle = (near + far) / 2
            logits, ok = self.look(rows, middle)
            near, far = torch.where(ok, near, middle), torch.where(ok, middle, far)
            self.place[rows] = far
            self.seen[rows[ok]] = logits[ok]


def step_lengths(space: LatentSpace, result: Counterfactuals) -> Tensor:
    """How far each code was moved, in spreads, (n,).

    Raises:
        TypeError: for a result without codes.
    """
    start, code = validate_results.codes(result, "result")
    return norms(standardise(code.z - start.z, space.std))
