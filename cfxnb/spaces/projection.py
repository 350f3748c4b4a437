"""Projection: find the code whose image is closest to a real image, by gradient descent.

As in Karras et al. (arXiv 1912.04958, section 5), but with two differences. We add no noise to the
code during the search, and we don't optimise the noise maps.
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
"""Takes two image batches in [0, 1] and returns distances (b,), such as LPIPS."""


def squared(made: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared difference of each pair of images, (b,).

    ``made`` is not clamped to [0, 1], because clamped pixels have no gradient. A pixel that would
    be equal after clamping counts as equal, such as 1.3 where white is wanted.
    """
    equal = made.detach().clamp(0, 1) == wanted
    return (made - wanted).masked_fill(equal, 0).square().flatten(1).mean(1)


@dataclasses.dataclass
class Projection:
    """The search by gradient descent.

    Samples don't influence each other: the losses are summed, and Adam works elementwise.

    Attributes:
        render: turns codes into images that are not clamped to [0, 1].
        std: unit of the step length, with the shape of one code.
        distance: added to the squared difference of pixels, with the factor ``distance_weight``.
    """

    render: Callable[[Tensor], Tensor]
    std: Tensor
    distance: Distance | None
    distance_weight: float

    @torch.no_grad()
    def nearest(self, wanted: Tensor, codes: Tensor, batch_size: int) -> Tensor:
        """For each wanted image, return the code whose image has the smallest difference."""
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
        """Return the best codes found, (b, ...). ``rows`` are their positions in the input."""
        change = torch.zeros_like(start, requires_grad=True)
        adam = torch.optim.Adam([change])
        best, lowest = start, torch.full_like(squared(wanted, wanted), math.inf)
        for number in range(1, steps + 2):
            code = start + self.std * change
            loss = self.loss(code, wanted)
            seen, code = loss.detach(), code.detach()
            better = seen < lowest
            lowest = torch.where(better, seen, lowest)
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
        """Return the loss of each sample, (b,).

        Raises:
            ValueError, TypeError: if ``distance`` doesn't return one finite number per sample.
        """
        image = self.render(code)
        loss = squared(image, wanted)
        if self.distance is None:
            return loss
        distances = self.distance(image.clamp(0, 1), wanted)
        validate.instance(distances, Tensor, "distance", "a tensor from it")
        if distances.shape != loss.shape:
            expected, got = tuple(loss.shape), tuple(distances.shape)
            raise ValueError(f"distance: expected shape {expected} from it, got {got}")
        if not distances.is_floating_point() or distances.is_meta:
            raise TypeError(
                f"distance: expected floats from it, got {distances.dtype} on {distances.device}"
            )
        if not distances.isfinite().all():
            raise ValueError("distance: expected finite numbers from it, got NaN or infinity")
        return loss + self.distance_weight * distances
