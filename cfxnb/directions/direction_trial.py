"""Test directions on a few images, to rank them by the fraction of images that they flip.

The paper (arXiv 2404.12488) moves the image from which a direction was found by 16 lengths along
the direction, and reports the flips. The paper does not rank directions by the flips of other
images. ``Trial`` tests each direction at two lengths.
"""

import dataclasses
import math
import warnings

import pandas as pd
import torch
from torch import Tensor

from cfxnb.core.types import Code
from cfxnb.directions.probing import BlackBoxProbe
from cfxnb.directions.proxies import MIN_PROBES, ProxyFit

STEP_FRACTIONS = (0.5, 1.0)  # of max_step; the correction of g needs a ratio of 2
AXES_PER_KEPT = 3  # h-directions tested per one kept: the strongest need not flip most


@dataclasses.dataclass(frozen=True)
class TrialAnswers:
    """The classifier's answers to 4 steps along each of n directions (``Trial.signed_steps``).

    Attributes:
        is_target_before: 1 if the target is predicted without a step, 0 if not, NaN if the answer
            is lost, (images,).
        is_target: 1 if the target is predicted after a step, 0 if not, NaN if the answer is lost,
            (images, n, 4).
        score_before: log odds of the target without a step, NaN if the answer is lost, (images,).
        score: log odds of the target after each step, NaN if the answer is lost, (images, n, 4).
    """

    is_target_before: Tensor
    is_target: Tensor
    score_before: Tensor
    score: Tensor


def queries_per_image(n_directions: int) -> int:
    """Return the number of queries that test ``n_directions`` directions on one image."""
    return 1 + n_directions * 2 * len(STEP_FRACTIONS)


class Trial:
    """Tests directions by moving images along them by two step lengths, with both signs.

    Args:
        others: images on which directions are tested, (m, c, h, w). If m is 0, the image of
            ``probe`` is used.

    Attributes:
        signed_steps: the tested steps, as fractions of ``max_step``.
        budget_fraction: largest fraction of all queries that tests of directions may use.
    """

    signed_steps = torch.tensor([s * x for x in STEP_FRACTIONS for s in (1, -1)])

    def __init__(self, probe: BlackBoxProbe, others: Tensor) -> None:
        self.probe, self.max_step = probe, probe.config.max_step
        self.has_others = len(others) > 0
        self.images = others if self.has_others else probe.image
        self.budget_fraction = 0.5 if self.has_others else 0.25
        self._codes: list[Code] = []

    def plan(self, n_curvature: int, dims: int, n_gradients: int) -> tuple[int, int]:
        """Return how many h-directions to test, and how many queries to reserve for tests.

        If the queries do not suffice for all images, fewer h-directions (eigenvectors of the
        Hessian) are tested, but at least ``n_curvature``. If the queries do not suffice for
        ``n_curvature`` h-directions on all images, only the first images are used. If the queries
        do not suffice for one image, nothing is tested, and the user gets a warning.

        Args:
            n_curvature: number of h-directions (eigenvectors) to keep.
            dims: number of active dimensions, which limits the number of h-directions.
            n_gradients: number of gradients among the directions, which are always tested.
        """
        budget = self.probe.log.max_queries
        own = min(int(self.budget_fraction * budget), budget - 1 - MIN_PROBES)
        per_image = own // max(1, len(self.images))
        affordable = (per_image - queries_per_image(n_gradients)) // (2 * len(STEP_FRACTIONS))
        n_axes = min(max(min(AXES_PER_KEPT * n_curvature, affordable), n_curvature), dims)
        each = queries_per_image(n_gradients + n_axes)
        self.images = self.images[: own // each]
        if not len(self.images):
            needed = max(1 + MIN_PROBES + each, math.ceil(each / self.budget_fraction))
            warnings.warn(
                f"max_queries: testing {n_gradients + n_axes} directions needs at least {needed} "
                f"queries, got {budget}. The directions are returned untested: flip rates are NaN "
                "and the order is that of the proxy. Increase max_queries or reduce n_curvature.",
                stacklevel=5,
            )
        return n_axes, each * len(self.images)

    def run(self, directions: dict[str, Tensor]) -> TrialAnswers:
        """Query the classifier about images without a step, and after steps along directions."""
        unchanged = torch.zeros_like(self.probe.space.std)[None]
        steps = torch.cat([unchanged, self._steps(directions)])
        is_target, score = self.evaluate("trial", steps)
        n_steps = (len(directions), len(self.signed_steps))
        return TrialAnswers(
            is_target_before=is_target[:, 0],
            is_target=is_target[:, 1:].unflatten(1, n_steps),
            score_before=score[:, 0],
            score=score[:, 1:].unflatten(1, n_steps),
        )

    def run_corrected(self, g: Tensor, answers: TrialAnswers) -> TrialAnswers:
        """Query steps along a corrected gradient g (d,), and put the answers before ``answers``."""
        is_target, score = self.evaluate("corrected", self._steps({"g": g}))
        return dataclasses.replace(
            answers,
            is_target=torch.cat([is_target[:, None], answers.is_target], 1),
            score=torch.cat([score[:, None], answers.score], 1),
        )

    def _steps(self, directions: dict[str, Tensor]) -> Tensor:
        """Return the code changes of 4 steps along each of n directions, (4 n, *code)."""
        vectors = as_code_changes(directions, self.probe.space.std)
        factors = self.max_step * self.signed_steps.to(vectors)
        steps = factors.view(-1, *[1] * (vectors.ndim - 1)) * vectors[:, None]
        return steps.flatten(0, 1)

    def evaluate(self, kind: str, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Query the classifier about each image after each of n changes of its code, (n, *code).

        Returns:
            is_target: 1 if the target is predicted, 0 if not, NaN for lost answers, (images, n).
            score: log odds of the target, NaN if the answer is lost, (images, n).
        """
        while len(self._codes) < len(self.images):
            image = self.images[len(self._codes)][None]
            self._codes.append(self.probe.encode(image.to(self.probe.image.device)))
        rows = [self._evaluate(kind, number, steps) for number in range(len(self.images))]
        both = torch.stack(rows) if rows else torch.zeros(0, 2, len(steps))
        return both[:, 0], both[:, 1]

    def _evaluate(self, kind: str, number: int, steps: Tensor) -> Tensor:
        """Return is_target and score of image ``number`` after n changes, (2, n)."""
        probe, code = self.probe, self._codes[number]
        parts = []
        for some in steps.split(probe.config.batch_size):
            batch = probe.batch(kind, self.images[number][None], code, code.z + some)
            part = torch.full((2, len(some)), torch.nan)
            answers = None
            if probe.log.can_afford(batch) and not probe.stop.interrupted:
                with probe.on_interrupt():
                    answers = probe.query(batch, code)
            if answers is not None:
                part = torch.stack([answers["is_target"].float(), answers["score"]])
                part[:, answers["score"].isnan()] = torch.nan
            parts.append(part)
        return torch.cat(parts, 1)

    def rank(
        self, directions: dict[str, Tensor], answers: TrialAnswers, fit: ProxyFit
    ) -> pd.DataFrame:
        """Return one row per direction, best first.

        Columns: flip rate, mean length of the steps that flip, curvature of the score.
        """
        lengths = (self.signed_steps.abs() * self.max_step).to(torch.float64)
        before = answers.is_target_before[:, None]
        lost = answers.is_target.isnan().any(2) | before.isnan()
        # The shortest step that flips: infinite if no step flips, NaN if an answer is lost.
        flips = answers.is_target != before[:, :, None]
        steps = torch.where(flips, lengths, torch.inf).amin(2)
        steps = torch.where(lost, torch.nan, steps).T
        table = pd.DataFrame(index=pd.Index(directions, name="direction"))
        table["flip rate"] = [_mean(row[~row.isnan()].isfinite()) for row in steps]
        table["length"] = [_mean(row[row.isfinite()]) for row in steps]
        table["curvature"] = [(u @ fit.hessian @ u).item() for u in directions.values()]
        return table.sort_values(["flip rate", "length"], ascending=[False, True], kind="stable")


def as_code_changes(directions: dict[str, Tensor], std: Tensor) -> Tensor:
    """Convert n directions (d,), in standard deviations of the code, to changes of a code."""
    flat = torch.stack([*directions.values(), std.flatten().cpu()])[:-1]  # there may be none
    return std * flat.to(std).view(-1, *std.shape)


def _mean(values: Tensor) -> float:
    return values.double().mean().item() if len(values) else float("nan")
