"""Store the best attempt of each sample during a search for the smallest strength."""

import torch
from torch import Tensor

from cfxnb.core.tensors import finite_rows
from cfxnb.diffusion.guidance import GuidedDenoiser


class BestAttempt:
    """Stores for each sample the last attempt that reached the target.

    If no attempt has reached the target, the last attempt is stored. ``StrengthSearch`` lowers the
    strength (amount of noise) after each success, so the last success has the lowest strength.

    Args:
        z: codes of the originals, (b, c, h, w).
        logits: tensor with the shape of the logits, (b, k). The values of ``logits`` are not used.

    Attributes:
        z: edited codes, (b, c, h, w). An attempt with a code that is not finite leaves ``z``
            unchanged.
        logits: logits of the edited images, (b, k); NaN before the first attempt.
        reached: samples that reached the target, bool (b,).
        no_gradient: samples whose stored attempt had no gradient or no finite code, bool (b,).
        strength: strength of the stored attempt, (b,); NaN before the first attempt.
        cost: number of passes of each network over all attempts, by name, int64 (b,).
    """

    def __init__(self, z: Tensor, logits: Tensor) -> None:
        count = len(z)
        self.z = z.clone()
        self.logits = torch.full_like(logits, torch.nan)
        self.reached = torch.zeros(count, dtype=torch.bool, device=z.device)
        self.no_gradient = torch.zeros_like(self.reached)
        self.strength = torch.full((count,), torch.nan)
        parts = ("unet", "decoder", "classifier")
        self.cost = {part: torch.zeros(count, dtype=torch.int64) for part in parts}
        self._steps: dict[str, Tensor] = {}

    def update(
        self,
        rows: Tensor,
        z: Tensor,
        logits: Tensor,
        reached: Tensor,
        strength: Tensor,
        guided: GuidedDenoiser,
        n_steps: int,
    ) -> None:
        """Record one attempt for n samples, and store it for samples where it is the best so far.

        Args:
            rows: positions of the n samples in the batch, (n,).
            z: codes at the end of the attempt, (n, c, h, w).
            logits: logits of the decoded codes, (n, k).
            reached: whether each sample reached the target, bool (n,).
            strength: strength of the attempt for each sample, (n,).
            guided: denoiser of the attempt, which has recorded the steps and network passes.
            n_steps: number of steps of an attempt that is not stopped.
        """
        here = rows.cpu()
        for part, passes in guided.networks.cost.items():
            self.cost[part][here] += passes
        self.cost["decoder"][here] += 1  # the final image, too, is decoded and classified
        self.cost["classifier"][here] += 1
        better = reached | ~self.reached[rows]
        chosen = rows[better]
        finite = finite_rows(z)
        self.z[rows[better & finite]] = z[better & finite]
        self.logits[rows[better & finite]] = logits[better & finite]
        self.reached[chosen] = reached[better]
        self.no_gradient[chosen] = (guided.no_gradient | ~finite)[better]
        self.strength[chosen.cpu()] = strength[better.cpu()].float()
        for name, values in guided.trace(n_steps).items():
            if name not in self._steps:
                empty = torch.nan if values.is_floating_point() else 0
                shape = (len(self.z), *values.shape[1:])
                self._steps[name] = torch.full(shape, empty, dtype=values.dtype)
            self._steps[name][chosen.cpu()] = values[better.cpu()]

    def trace(self, chance_fraction: float) -> dict[str, Tensor]:
        """Return the step records and strengths of the stored attempts, one row per sample.

        Args:
            chance_fraction: fraction of random vectors that would agree with the implicit
                classifier by chance.
        """
        return {
            **self._steps,
            "strength": self.strength,
            "chance_fraction": torch.full_like(self.strength, chance_fraction),
        }
