"""Find the smallest step along a direction that flips each image of a data set."""

import os

import torch
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.bisection import bisect
from cfxnb.core.decisions import is_predicted, is_reached, log_odds
from cfxnb.core.directions import checked_direction, directions_of
from cfxnb.core.driver import Batch, Edit, EncodedBatch, Run
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.core.streamed import streamed
from cfxnb.core.target import Target
from cfxnb.core.tensors import (
    noise_like,
    norms,
    per_sample,
    predicted,
    standardise,
    typical_distance,
)
from cfxnb.core.types import Classifier, Code, Images, LatentSpace, OnStep, Step
from cfxnb.directions.result import Directions


@streamed
@standard_modes
@torch.no_grad()
def follow_direction(
    space: LatentSpace,
    classifier: Classifier,
    images: Images,
    direction: Tensor | Directions,
    target: Target | None = None,
    *,
    confidence: float = 0.99,
    max_step: float | None = None,
    grid_steps: int = 8,
    binary_search_steps: int = 4,
    noise_seed: int | None = None,
    batch_size: int = 64,
    first_row: int = 0,
    on_step: OnStep | None = None,
    output_dir: str | os.PathLike | None = None,
) -> Counterfactuals:
    """Find the smallest step along a direction after which the target is predicted with confidence.

    The function needs only queries of the classifier, no gradients. For each
    image the function tests ``grid_steps`` evenly spaced steps up to ``max_step``, first with the
    sign for which the target's log odds are higher after the first step. If no step with the first
    sign changes the class to the target, the function tests the opposite sign. The first step that
    reaches ``confidence`` is refined by binary search. If the class changes but no step reaches
    ``confidence``, the result is the step with the largest probability of the target.

    Differences from the paper (Global Counterfactual Directions, arXiv 2404.12488): the paper tests
    fixed lengths with one sign, chosen by a rule, and a probability above 0.5 suffices. The paper
    also does not mark images whose reconstruction already has the target class.

    Args:
        space: space in which the codes are moved.
        classifier: images -> logits (b, k), for example a ``BlackBox``.
        images: images in [0, 1], (b, c, h, w), or a data set (see ``cfx.open``).
        direction: direction in code space, shaped like ``space.mean``, or one per image. The sign
            and length of the direction are ignored. If ``direction`` is the result of
            ``find_directions``, each image follows the direction towards its own target
            (``Directions.towards``).
        target: class to reach, by number or name: one for all images, or one per image (b,). With
            a regression model: a goal, such as ``cfx.raise_to(0.8)``. With a data set also an entry
            of each item, such as ``cfx.from_item("label")``. If ``target`` is None,
            the classifier must have two classes, and the target is the class that is not predicted.
        confidence: probability of the target at which the search for an image ends, in [0, 1).
            Default: 0.99. With ``confidence=0`` the search ends where the class changes, and other
            classifiers often do not see the target there. On digits, an independent classifier sees
            the target in 66 % of the flips with ``confidence=0``, and in 93 % with
            ``confidence=0.9``.
        max_step: longest step, in standard deviations of the code (std). Default: sqrt(d / 2),
            where d is the number of active dimensions. The default is half the typical distance
            between the codes of two images. After a step longer than the default, a code is nearer
            to the code of another image, and most directions flip some decision.
        grid_steps: number of evenly spaced steps that are tested for each sign. Default: 8.
        binary_search_steps: number of steps of the binary search between the last step that does
            not reach ``confidence`` and the first that does. Each step renders one image. Default:
            4.
        noise_seed: replaces the stochastic code (aux) of each image by random noise, from
            (noise_seed, row). If ``noise_seed`` is None, each image keeps its own stochastic code.
            The seed is ignored if the space has no stochastic code.
        batch_size: number of images processed together, which does not change the results.
        first_row: position of the first image in its data set. With the right ``first_row``, a data
            set that is processed in shards gets the same results as in one call.
        on_step: called with a ``Step`` after each tested step. Return True to stop. If ``on_step``
            stops the search, images that have flipped are still refined, and all other images get
            the status "stopped".
        output_dir: folder to which the results are written in shards, for any number of images.
            After a crash, the same call goes on. ``cfx.open`` opens the folder. Default: None.

    Returns:
        Counterfactuals. The status "flipped" means that the class has changed to the target. The
        trace ``reached_confidence`` tells, for each image, whether the target also has the
        probability ``confidence``. Images that do not flip keep their original code.

    Raises:
        ValueError, TypeError: if an argument is wrong.
    """
    validate.space(space)
    if max_step is None:
        max_step = typical_distance(space.std) / 2
    max_step = validate.number(max_step, "max_step", 0.0, open_low=True)
    confidence = validate.number(confidence, "confidence", 0.0, 1 - 1e-6)
    grid_steps = validate.count(grid_steps, "grid_steps", 1)
    binary_search_steps = validate.count(binary_search_steps, "binary_search_steps")
    noise_seed = validate.optional(validate.seed, noise_seed, "noise_seed")

    def encode(batch: Batch) -> tuple[Code, Tensor, int]:
        return _encode_with_noise(run, batch, noise_seed or 0)

    run = Run(
        classifier,
        images,
        target,
        space=space,
        batch_size=batch_size,
        first_row=first_row,
        on_step=on_step,
        choose=_other_class if target is None else None,
        encode=None if noise_seed is None else encode,
        by_row=True,
    )
    checked = checked_direction(run.space, direction, len(run.images))

    def edit(batch: EncodedBatch) -> Edit:
        unit = _fix_sign(directions_of(run.space, checked, batch.index, batch.target))
        walk = DirectionWalk(run, batch, unit, max_step, grid_steps, confidence)
        return walk.run(binary_search_steps)

    return run.counterfactuals(
        edit,
        function="follow_direction",
        confidence=confidence,
        max_step=max_step,
        grid_steps=grid_steps,
        binary_search_steps=binary_search_steps,
        noise_seed=noise_seed,
    )


def _fix_sign(step: Tensor) -> Tensor:
    """Make the largest coordinate positive, so that a direction and its negative act the same."""
    flat = step.flatten(1)
    largest = flat.gather(1, flat.abs().argmax(1, keepdim=True))
    return step * per_sample(largest.sign()[:, 0], step)


def _other_class(logits: Tensor) -> Tensor:
    """Return the class that is not predicted, (b,)."""
    if logits.shape[1] != 2:
        raise ValueError(f"target: expected a class out of {logits.shape[1]}, got None")
    return 1 - predicted(logits).clamp_min(0)  # any class if logits are not finite: see the status


def _encode_with_noise(run: Run, batch: Batch, noise_seed: int) -> tuple[Code, Tensor, int]:
    """Return codes with random stochastic codes (aux), reconstructions, and decoder passes.

    A reconstruction with a random aux differs from the image in its pixels, so ``run.fit`` does not
    compare the reconstruction with the image.
    """
    code = run.space.encode(batch.images)
    if code.aux is not None:
        code = Code(code.z, noise_like(code.aux, noise_seed, batch.rows))
    return code, validate.images(run.space.decode(code), "space.decode"), 1


class DirectionWalk:
    """The search of ``follow_direction`` for one batch of images. The grid search skips images that
    have reached the confidence.

    Args:
        unit_step: change of each code with length 1 in standard deviations of the code, (b, *code).

    Attributes:
        position: signed position of each image, as a fraction of ``max_step``, (b,).
        flipped: whether the target is predicted at ``position``, bool (b,).
        reached: whether the target is predicted with the required confidence, bool (b,).
        logits: logits at ``position``, (b, k), NaN if unknown.
        passes: images rendered and classified so far, (b,).
    """

    def __init__(
        self,
        run: Run,
        batch: EncodedBatch,
        unit_step: Tensor,
        max_step: float,
        grid_steps: int,
        confidence: float,
    ) -> None:
        self.space, self.classify, self.stop = run.space, run.classify, run.stop
        self.batch, self.code_before, self.unit_step = batch, batch.code_before, unit_step
        self.max_step, self.grid_steps, self.confidence = max_step, grid_steps, confidence
        count, device = len(batch.rows), unit_step.device
        self.position = torch.zeros(count, device=device)
        self.flipped = torch.zeros(count, dtype=torch.bool, device=device)
        self.reached = torch.zeros_like(self.flipped)
        self.logits = torch.full_like(batch.logits_before, torch.nan)
        self.passes = torch.zeros(count, dtype=torch.int64, device=device)

    def run(self, binary_search_steps: int) -> Edit:
        """Test steps with both signs, refine those that flip, and return the edited codes."""
        rows = (~self.batch.skip).nonzero()[:, 0]
        if len(rows):
            with self.stop.on_interrupt():
                self._both_signs(rows)
            with self.stop.on_interrupt():
                self._binary_search(binary_search_steps)
        every = torch.arange(len(self.position), device=self.position.device)
        return Edit(
            code=self.code_at(every, self.position),
            reached=self.flipped,
            seen=self.logits,
            generator=self.passes,
            classifier=self.passes,
            trace={"reached_confidence": self.reached},
        )

    def code_at(self, rows: Tensor, position: Tensor) -> Code:
        """Return the codes of n images at signed positions along the direction, (n,)."""
        z = self.code_before.z[rows]
        change = per_sample(self.max_step * position, z) * self.unit_step[rows]
        moved: Code = self.code_before[rows].with_z(z + change)
        return moved

    def evaluate(self, rows: Tensor, position: Tensor) -> Tensor:
        """Return the logits of n images at signed positions along the direction, (n, k)."""
        self.passes[rows] += 1
        return self.classify(self.space.decode(self.code_at(rows, position)), rows)

    def _both_signs(self, rows: Tensor) -> None:
        """Test steps with the better sign. For images that do not flip, test the other sign."""
        first = torch.full((len(rows),), 1 / self.grid_steps, device=rows.device)
        plus, minus = self.evaluate(rows, first), self.evaluate(rows, -first)
        target = self.batch.target[rows]
        up = log_odds(plus, target) >= log_odds(minus, target)
        better = torch.where(up[:, None], plus, minus)
        worse = torch.where(up[:, None], minus, plus)
        sign = torch.where(up, 1.0, -1.0)
        self._along(rows, sign, better, 0)
        left = ~self.flipped[rows]
        self._along(rows[left], -sign[left], worse[left], self.grid_steps)

    def _along(self, rows: Tensor, sign: Tensor, first: Tensor, done: int) -> None:
        """Test increasing steps with one sign, until each image has reached the confidence.

        An image keeps the first step that reaches the confidence. If no step reaches the
        confidence, the image keeps the step with the largest probability among those at which the
        target is predicted. If the target is never predicted, the image keeps its original code.

        Args:
            first: logits after the first step, (n, k).
            done: number of steps tested before this call, which the ``Step`` for ``on_step``
                includes.
        """
        for number in range(1, self.grid_steps + 1):
            if not len(rows) or self.stop.now:
                return
            target = self.batch.target[rows]
            position = sign * (number / self.grid_steps)
            logits = first if number == 1 else self.evaluate(rows, position)
            reached = is_reached(logits, target, self.confidence)
            flipped = is_predicted(logits, target)
            earlier = log_odds(self.logits[rows], target)
            better = flipped & (~self.flipped[rows] | (log_odds(logits, target) > earlier))
            kept = reached | better
            self.position[rows[kept]] = position[kept]
            self.logits[rows[kept]] = logits[kept]
            self.flipped[rows] |= flipped
            self.reached[rows] = reached
            z, p = self.code_at(rows, position).z, log_odds(logits, target).sigmoid()
            total, positions = 2 * self.grid_steps, self.batch.rows[rows]
            self.stop.tell(Step(done + number, total, positions, z, p, ~reached))
            rows, sign = rows[~reached], sign[~reached]

    def _binary_search(self, steps: int) -> None:
        """Refine the positions of the images that have reached the confidence."""
        rows = self.reached.nonzero()[:, 0]
        far = self.position[rows].clone()

        def confident(middle: Tensor) -> Tensor:
            logits = self.evaluate(rows, middle)
            reached = is_reached(logits, self.batch.target[rows], self.confidence)
            self.position[rows[reached]] = middle[reached]
            self.logits[rows[reached]] = logits[reached]
            return reached

        bisect(confident, far - far.sign() / self.grid_steps, far, steps)


def step_lengths(space: LatentSpace, result: Counterfactuals) -> Tensor:
    """Return how far each code was moved, in standard deviations of the code, (n,).

    Raises:
        TypeError: if the result has no codes.
    """
    before, after = validate_results.codes(result, "result")
    return norms(standardise(after.z - before.z, space.std))
