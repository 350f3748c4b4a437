"""What directions do to a few images: the trial by which they are ranked."""

import pandas as pd
import torch
from torch import Tensor

from cfxnb.methods.asking import FEWEST, Questions
from cfxnb.methods.proxies import Fit

LENGTHS = (0.25, 0.5, 0.75, 1.0)  # of the reach
SHARE = 0.25  # of the queries, at most


def looks_of(directions: int) -> int:
    """Queries that a trial of as many directions asks about one image."""
    return 1 + directions * 2 * len(LENGTHS)


class Trial:
    """Both senses of each direction at four lengths, on each image."""

    def __init__(self, ask: Questions, images: Tensor, reach: float) -> None:
        self.ask, self.images, self.reach = ask, images, reach

    def plan(self, directions: int) -> int:
        """Queries to keep for the trial; where they don't do for all images, fewer are tried."""
        each = looks_of(directions)
        fit = int(SHARE * (self.ask.ledger.budget - 1 - FEWEST)) // each
        self.images = self.images[:fit]
        return each * len(self.images)

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
