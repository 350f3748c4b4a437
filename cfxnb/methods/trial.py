"""What directions do to a few images: the trial by which they are ranked."""

import pandas as pd
import torch
from torch import Tensor

from cfxnb.methods.explained import log_odds
from cfxnb.methods.ledger import Ledger
from cfxnb.methods.proxies import Fit
from cfxnb.types import Classifier, LatentSpace

LENGTHS = (0.25, 0.5, 0.75, 1.0)  # of the reach
SHARE = 0.25  # of the queries, at most


def looks_of(directions: int) -> int:
    """Queries that a trial of as many directions asks about one image."""
    return directions * 2 * len(LENGTHS)


class Trial:
    """Both senses of each direction at four lengths, on each image."""

    def __init__(
        self,
        space: LatentSpace,
        classify: Classifier,
        images: Tensor,
        classes: tuple[Tensor, Tensor | None],
        reach: float,
    ) -> None:
        self.space, self.classify, self.images = space, classify, images
        self.classes, self.reach = classes, reach

    def plan(self, directions: int, left: int) -> int:
        """Queries to keep for the trial; where they don't do for all images, fewer are tried."""
        each = looks_of(directions) + 1
        fit = int(SHARE * left) // each
        self.images = self.images[:fit]
        return each * len(self.images)

    def rank(self, vectors: Tensor, names: list[str], fit: Fit, ledger: Ledger) -> pd.DataFrame:
        """One row a direction, best first: flip rate, and mean length of the steps that flip."""
        senses = torch.tensor([s * x for x in LENGTHS for s in (1, -1)])
        lengths = (senses.abs() * self.reach).tolist()
        flips: dict[str, list[float]] = {name: [] for name in names}
        for image in self.images:
            code = self.space.encode(image[None].to(self.space.center.device))
            home = ledger.ask(1, lambda code=code: self._score(code, code.z))
            for name, vector in zip(names, vectors, strict=True):
                moved = (
                    code.z + self.reach * senses.to(vector).view(-1, *[1] * vector.ndim) * vector
                )
                found = ledger.ask(len(senses), lambda c=code, z=moved: self._score(c, z))
                if home is None or found is None:
                    continue
                turned = ((found["score"] > 0) != (home["score"] > 0)).tolist()
                flips[name].append(
                    next((x for x, yes in zip(lengths, turned, strict=True) if yes), float("inf"))
                )
        table = pd.DataFrame(index=pd.Index(names, name="direction"))
        found = {name: torch.tensor(values) for name, values in flips.items()}
        table["flip rate"] = [_mean(found[name].isfinite()) for name in names]
        table["length"] = [_mean(found[name][found[name].isfinite()]) for name in names]
        units = (vectors / self.space.spread).nan_to_num().flatten(1).cpu()
        table["curvature"] = [(u @ fit.hessian @ u).item() for u in units]
        return table.sort_values(["flip rate", "length"], ascending=[False, True], kind="stable")

    def _score(self, code, z: Tensor) -> dict[str, Tensor]:
        rest = code.rest
        whole = type(code)(z, None if rest is None else rest.expand(len(z), *rest.shape[1:]))
        logits = self.classify(self.space.decode(whole))
        label, against = (None if c is None else c.expand(len(z)) for c in self.classes)
        return {"score": log_odds(logits, label, against).float()}


def _mean(values: Tensor) -> float:
    return values.double().mean().item() if len(values) else float("nan")
