"""What directions do to a few images: the trial by which they are ranked, and the best kept."""

import math
import warnings

import pandas as pd
import torch
from torch import Tensor

from cfxnb.methods.asking import FEWEST, Questions
from cfxnb.methods.proxies import Fit

LENGTHS = (0.5, 1.0)  # of the reach
SHARE = 0.25  # of the queries, at most
TRIED = 3  # axes of curvature for each that is kept: the strongest need not flip most
SLOPES = 2  # g-directions, which are always tried


def looks_of(directions: int) -> int:
    """Queries that a trial of as many directions asks about one image."""
    return 1 + directions * 2 * len(LENGTHS)


class Trial:
    """Both senses of each direction at two lengths, on each image."""

    def __init__(self, ask: Questions, images: Tensor, reach: float) -> None:
        self.ask, self.images, self.reach = ask, images, reach

    def plan(self, curved: int, dims: int) -> tuple[int, int]:
        """Axes of curvature to try so that ``curved`` can be kept, and queries to keep for it.

        Where queries don't do for all images, the first ones are tried; where not even for one,
        fewer axes, and in the end none: then there is a warning.

        Args:
            dims: of the code: there are no more axes.
        """
        budget = self.ask.ledger.budget
        share = int(SHARE * (budget - 1 - FEWEST))
        afford = (share - looks_of(SLOPES)) // (2 * len(LENGTHS))
        axes = min(max(min(TRIED * curved, afford), curved), dims)
        each = looks_of(SLOPES + axes)
        self.images = self.images[: share // each]
        if not len(self.images):
            least = 1 + FEWEST + math.ceil(each / SHARE)
            warnings.warn(
                f"queries: a trial of {SLOPES + axes} directions takes at least {least}, got "
                f"{budget}: flip rates are unknown, and directions are in the proxy's order",
                stacklevel=3,
            )
        return axes, each * len(self.images)

    def rank(self, vectors: Tensor, names: list[str], fit: Fit) -> pd.DataFrame:
        """One row a direction, best first: flip rate, and mean length of the steps that flip."""
        senses = torch.tensor([s * x for x in LENGTHS for s in (1, -1)])
        lengths = (senses.abs() * self.reach).to(torch.float64)
        place = self.reach * senses.to(vectors).view(-1, *[1] * (vectors.ndim - 1))
        none = torch.zeros(1, *vectors.shape[1:]).to(vectors)
        moves = torch.cat([none, *(place * vector for vector in vectors)])
        # The shortest step that flips, (directions, images): infinite without any, NaN if lost.
        steps = torch.zeros(len(names), len(self.images), dtype=torch.float64)
        for number in range(len(self.images) if names else 0):
            seen = self._seen(number, moves)
            after = seen[1:].view(len(names), len(senses))
            lost = after.isnan().any(1) | seen[0].isnan()
            shortest = torch.where(after != seen[0], lengths, torch.inf).amin(1)
            steps[:, number] = torch.where(lost, torch.nan, shortest)
        table = pd.DataFrame(index=pd.Index(names, name="direction"))
        table["flip rate"] = [_mean(row[~row.isnan()].isfinite()) for row in steps]
        table["length"] = [_mean(row[row.isfinite()]) for row in steps]
        units = (vectors / self.ask.space.spread).nan_to_num().flatten(1).cpu()
        table["curvature"] = [(u @ fit.hessian @ u).item() for u in units]
        return table.sort_values(["flip rate", "length"], ascending=[False, True], kind="stable")

    def _seen(self, number: int, moves: Tensor) -> Tensor:
        """1 or 0 for each move of an image's code: whether the label is seen; NaN if lost."""
        ask = self.ask
        code = ask.encode(self.images[number : number + 1].to(ask.image.device))
        found = []
        for part, some in enumerate(moves.split(ask.knobs["batch"])):
            # Directions rest on the probes that were asked about; other ones are another trial.
            name = f"trial-{ask.asked:06}-{number:04}-{part:03}"
            seen = torch.full((len(some),), torch.nan)
            affords = ask.ledger.affords(name, len(some))
            if affords and (answers := ask.render(name, code.z + some, code.rest)) is not None:
                seen = torch.where(answers["score"].isnan(), torch.nan, answers["seen"].float())
            found.append(seen)
        return torch.cat(found)


def _mean(values: Tensor) -> float:
    return values.double().mean().item() if len(values) else float("nan")
