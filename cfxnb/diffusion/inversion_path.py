"""One DDIM inversion per image, from which attempts of any strength start."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from cfxnb.core.ddim import ddim_step, exact


class InversionPath:
    """The noisy codes of a DDIM inversion, computed only up to the noise that attempts need.

    A stride is one DDIM step towards more noise. Strides are short up to half the strength of the
    first attempt, and long beyond. The second attempt after a success starts at half the strength.
    The short strides equal those of a DDIM inversion for the second attempt alone, because most
    results come from this attempt. A sample takes only the strides that its attempts need.

    Args:
        code: codes of the originals, (b, c, h, w).
        alphas_cumprod: alpha_bar at each time of the training, (times,).
        strength: strength of the first attempt.
        steps: number of short strides up to ``strength / 2``, and of long strides up to
            ``strength``.
        halved: whether an attempt with half the strength is possible. If ``halved`` is False, all
            strides are long.
    """

    def __init__(
        self, code: Tensor, alphas_cumprod: Tensor, strength: float, steps: int, halved: bool
    ) -> None:
        total = len(alphas_cumprod)
        top = exact(torch.tensor([strength], dtype=torch.float64), total) * total
        long = top * torch.arange(1, math.ceil(total * steps / float(top)) + 1).double() / steps
        if halved:
            short = top / 2 * torch.arange(1, steps + 1).double() / steps
            long = torch.cat([short, long[long > top / 2]])
        # As in ``core.ddim.even_schedule``.
        self.times = long.round().long().clamp(1, total) - 1
        self.alpha_bar = torch.cat([torch.ones_like(top), alphas_cumprod[self.times]])
        self.codes = [code, *(torch.empty_like(code) for _ in self.times)]
        self.eps = [torch.empty_like(code) for _ in self.times]
        self.taken = torch.zeros(len(code), dtype=torch.int64, device="cpu")

    def start(
        self, rows: Tensor, alpha_bar: Tensor, predict: Callable[[Tensor, Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Return the noisy codes of n samples at their noise levels, (n, c, h, w).

        Args:
            rows: positions of the samples, (n,), on the CPU.
            alpha_bar: noise level of each sample, (n,).
            predict: maps positions among the n samples (m,), noisy codes and times (m,) to the
                noise that the U-Net predicts without a condition.
        """
        needed = (self.alpha_bar > alpha_bar[:, None]).sum(1)  # strides up to the noise level
        for stride in range(int(needed.max())):
            missing = ((stride < needed) & (self.taken[rows] <= stride)).nonzero()[:, 0]
            if len(missing):
                self._extend(stride, rows[missing], missing, predict)
        before = needed - 1
        pairs = list(zip(before.tolist(), rows.tolist(), strict=True))
        codes = torch.stack([self.codes[stride][row] for stride, row in pairs])
        eps = torch.stack([self.eps[stride][row] for stride, row in pairs])
        return ddim_step(codes, eps, self.alpha_bar[before], alpha_bar)

    def _extend(
        self,
        stride: int,
        rows: Tensor,
        missing: Tensor,
        predict: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> None:
        """Add one stride to the paths of the samples at ``rows``."""
        codes = self.codes[stride][rows]
        eps = predict(missing, codes, self.times[stride].expand(len(rows)))
        self.eps[stride][rows] = eps
        self.codes[stride + 1][rows] = ddim_step(
            codes, eps, self.alpha_bar[stride], self.alpha_bar[stride + 1]
        )
        self.taken[rows] = stride + 1
