"""What a search over noise levels has found so far."""

import torch
from torch import Tensor

from cfxnb.core.tensors import finite_rows
from cfxnb.diffusion.guidance import Guided


class Best:
    """For each sample the try at the lowest noise that flipped it, or else the last one.

    Attributes:
        z: codes, (b, ...); where none was finite, those of the images.
        logits: of what the codes show, (b, k), NaN before the first try.
        passed, lost: reached the target; had no slope in the try that is kept, bool (b,).
        cost: network passes over all tries, (b,) each.
    """

    def __init__(self, z: Tensor, logits: Tensor) -> None:
        count = len(z)
        self.z = z.clone()
        self.logits = torch.full_like(logits, torch.nan)
        self.passed = torch.zeros(count, dtype=torch.bool, device=z.device)
        self.lost = torch.zeros_like(self.passed)
        self.strength = torch.full((count,), torch.nan)
        self.cost = {
            part: torch.zeros(count, dtype=torch.int64)
            for part in ("unet", "decoder", "classifier")
        }
        self._steps: dict[str, Tensor] = {}

    def update(
        self,
        rows: Tensor,
        z: Tensor,
        logits: Tensor,
        passed: Tensor,
        strength: Tensor,
        guided: Guided,
        steps: int,
    ) -> None:
        """Another try of some ``rows``, lower than before for those that have passed before.

        Args:
            steps: that a try has, unless it is stopped.
        """
        here = rows.cpu()
        for part, spent in guided.cost.items():
            self.cost[part][here] += spent
        self.cost["decoder"][here] += 1  # what came out is looked at once more
        self.cost["classifier"][here] += 1
        better = passed | ~self.passed[rows]
        chosen = rows[better]
        known = finite_rows(z)
        self.z[rows[better & known]] = z[better & known]
        self.logits[rows[better & known]] = logits[better & known]
        self.passed[chosen] = passed[better]
        self.lost[chosen] = (guided.lost | ~known)[better]
        self.strength[chosen.cpu()] = strength[better.cpu()].float()
        for name, values in guided.steps(steps).items():
            if name not in self._steps:
                empty = torch.nan if values.is_floating_point() else 0
                shape = (len(self.z), *values.shape[1:])
                self._steps[name] = torch.full(shape, empty, dtype=values.dtype)
            self._steps[name][chosen.cpu()] = values[better.cpu()]

    def trace(self, chance: float) -> dict[str, Tensor]:
        """Row by row what the kept try did; ``chance`` is the share that random vectors keep."""
        return {
            **self._steps,
            "strength": self.strength,
            "chance_fraction": torch.full_like(self.strength, chance),
        }
