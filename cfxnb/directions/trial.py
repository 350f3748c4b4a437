"""What directions do to a few images: the trial by which they are ranked, and the best kept."""

import math
import warnings

import pandas as pd
import torch
from torch import Tensor

from cfxnb.core.types import Code
from cfxnb.directions.probing import FEWEST, Questions
from cfxnb.directions.proxies import Fit

LENGTHS = (0.5, 1.0)  # of the reach; the correction counts on the second being twice the first
TRIED = 3  # axes of curvature for each that is kept: the strongest need not flip most


def looks_of(directions: int) -> int:
    """Queries that a trial of as many directions asks about one image."""
    return 1 + directions * 2 * len(LENGTHS)


class Trial:
    """Both senses of each direction at two lengths, on each image.

    Attributes:
        share: of all queries that it may spend.
        senses: where a direction is looked at, signed, in reaches.
    """

    senses = torch.tensor([s * x for x in LENGTHS for s in (1, -1)])

    def __init__(self, ask: Questions, images: Tensor, max_step: float, share: float) -> None:
        self.ask, self.images, self.max_step, self.share = ask, images, max_step, share
        self._codes: list[Code] = []

    def plan(self, n_curvature: int, dims: int, slopes: int) -> tuple[int, int]:
        """Axes of curvature to try so that ``n_curvature`` can be kept, and queries to keep for it.

        Where queries don't do for all images, fewer axes are tried, but not fewer than can be kept;
        then the first images only. If they don't do for one, there is no trial, and a warning.

        Args:
            dims: of the code: there are no more axes.
            slopes: g-directions, which are always tried.
        """
        budget = self.ask.ledger.budget
        share = min(int(self.share * budget), budget - 1 - FEWEST)
        afford = (share // max(1, len(self.images)) - looks_of(slopes)) // (2 * len(LENGTHS))
        axes = min(max(min(TRIED * n_curvature, afford), n_curvature), dims)
        each = looks_of(slopes + axes)
        self.images = self.images[: share // each]
        if not len(self.images):
            least = max(1 + FEWEST + each, math.ceil(each / self.share))
            warnings.warn(
                f"queries: a trial of {slopes + axes} directions takes at least {least}, got "
                f"{budget}: flip rates are unknown, and directions are as the proxy has them",
                stacklevel=3,
            )
        return axes, each * len(self.images)

    def moves(self, vectors: Tensor) -> Tensor:
        """Steps along each of (n, *code), sense by sense, (4 n, *code)."""
        place = self.max_step * self.senses.to(vectors).view(-1, *[1] * (vectors.ndim - 1))
        return torch.cat([vectors[:0], *(place * vector for vector in vectors)])

    def look(self, name: str, moves: Tensor) -> tuple[Tensor, Tensor]:
        """Whether the label is seen after each move of each image's code, and its score.

        Returns:
            seen: 1 or 0, NaN if lost; score: log odds, NaN if lost; both (images, moves).
        """
        while len(self._codes) < len(self.images):
            image = self.images[len(self._codes)][None]
            self._codes.append(self.ask.encode(image.to(self.ask.image.device)))
        found = [self._look(name, number, moves) for number in range(len(self.images))]
        both = torch.stack(found) if found else torch.zeros(0, 2, len(moves))
        return both[:, 0], both[:, 1]

    def _look(self, name: str, number: int, moves: Tensor) -> Tensor:
        ask, code = self.ask, self._codes[number]
        found = []
        for some in moves.split(ask.knobs["batch_size"]):
            question = ask.question(name, self.images[number][None], code, code.z + some)
            told = torch.full((2, len(some)), torch.nan)
            answers = None
            if ask.ledger.affords(question) and not ask.stop.interrupted:
                with ask.may_end():
                    answers = ask.render(question, code)
            if answers is not None:
                told = torch.stack([answers["seen"].float(), answers["score"]])
                told[:, answers["score"].isnan()] = torch.nan
            found.append(told)
        return torch.cat(found, 1)

    def rank(
        self, vectors: Tensor, names: list[str], fit: Fit, home: Tensor, seen: Tensor
    ) -> pd.DataFrame:
        """One row a direction, best first: flip rate, and mean length of the steps that flip.

        Args:
            home: whether the label is seen without a move, (images,).
            seen: whether it is after ``moves(vectors)``, (images, 4 n).
        """
        lengths = (self.senses.abs() * self.max_step).to(torch.float64)
        after = seen.view(len(seen), len(names), len(self.senses))
        lost = after.isnan().any(2) | home.isnan()[:, None]
        # The shortest step that flips: infinite without any, NaN if lost.
        steps = torch.where(after != home[:, None, None], lengths, torch.inf).amin(2)
        steps = torch.where(lost, torch.nan, steps).T
        table = pd.DataFrame(index=pd.Index(names, name="direction"))
        table["flip rate"] = [_mean(row[~row.isnan()].isfinite()) for row in steps]
        table["length"] = [_mean(row[row.isfinite()]) for row in steps]
        units = (vectors / self.ask.space.std).nan_to_num().flatten(1).cpu()
        table["curvature"] = [(u @ fit.hessian @ u).item() for u in units]
        return table.sort_values(["flip rate", "length"], ascending=[False, True], kind="stable")


def _mean(values: Tensor) -> float:
    return values.double().mean().item() if len(values) else float("nan")
