"""Projection: the code whose image is nearest to a real one, by gradient.

As in Karras et al. (arXiv 1912.04958, section 5), without their noise: Adam on the code alone.
"""

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.tensors import per_sample
from cfxnb.core.types import OnStep, Step

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two image batches in [0, 1] -> (b,), such as LPIPS."""


def squared(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference of each pair of images, (b,), ``made`` being not clamped yet.

    Clamping first would stop the gradient of what is out of range. But what it would make equal,
    such as 1.3 where white is wanted, is no difference.
    """
    equal = made.detach().clamp(0, 1) == wanted
    return (made - wanted).masked_fill(equal, 0).square().flatten(1).mean(1)


@dataclasses.dataclass
class Projection:
    """What is minimised. Samples share nothing: losses are summed, and Adam is elementwise.

    Attributes:
        render: codes -> images before clamping to [0, 1], which would stop the gradient.
        std: unit of a step, shape of one code.
        distance, distance_weight: what is added to the squared difference of pixels.
    """

    render: Callable[[Tensor], Tensor]
    std: Tensor
    distance: Distance | None
    distance_weight: float

    @torch.no_grad()
    def nearest(self, wanted: Tensor, codes: Tensor, batch_size: int) -> Tensor:
        """For each wanted image, the code whose image has the least squared difference."""
        made = (image for part in codes.split(batch_size) for image in self.render(part))
        return codes[torch.stack([squared(image, wanted) for image in made]).argmin(0)]

    def run(
        self,
        wanted: Tensor,
        start: Tensor,
        rows: Tensor,
        steps: int,
        lr: float,
        on_step: OnStep | None,
    ) -> Tensor:
        """The best codes seen, (b, ...); ``rows`` are their positions in the whole input."""
        change = torch.zeros_like(start, requires_grad=True)
        adam = torch.optim.Adam([change])
        best, least = start, torch.full_like(squared(wanted, wanted), math.inf)
        for number in range(1, steps + 2):
            code = start + self.std * change
            loss = self.loss(code, wanted)
            seen, code = loss.detach(), code.detach()
            better = seen < least
            least = torch.where(better, seen, least)
            best = torch.where(per_sample(better, best), code, best)
            active = torch.full_like(better, number <= steps)
            if on_step is not None:
                step = Step(number, steps + 1, rows, code, (-seen).exp(), active)
                if validate.stops(on_step(step)):
                    break
            if number <= steps:
                change.grad = torch.autograd.grad(loss.sum(), change)[0]
                adam.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * (number - 1) / steps)) / 2
                adam.step()
        return best

    def loss(self, code: Tensor, wanted: Tensor) -> Tensor:
        """(b,), finite.

        Raises:
            ValueError, TypeError: if the distance is not a finite number a sample.
        """
        image = self.render(code)
        loss = squared(image, wanted)
        if self.distance is None:
            return loss
        far = self.distance(image.clamp(0, 1), wanted)
        validate.instance(far, Tensor, "distance", "a tensor from it")
        if far.shape != loss.shape:
            expected, got = tuple(loss.shape), tuple(far.shape)
            raise ValueError(f"distance: expected shape {expected} from it, got {got}")
        if not far.is_floating_point() or far.is_meta:
            raise TypeError(f"distance: expected floats from it, got {far.dtype} on {far.device}")
        if not far.isfinite().all():
            raise ValueError("distance: expected finite numbers from it, got NaN or infinity")
        return loss + self.distance_weight * far
