"""Projection: find the code whose image is closest to a real image, by gradient descent.

The method follows Karras et al. (arXiv 1912.04958, section 5), with two differences: we add no
noise to the code during the search, and we don't optimise the noise maps.
"""

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from cfxnb.core import progress, validate
from cfxnb.core.tensors import per_sample
from cfxnb.core.types import OnStep, Step

Distance = Callable[[Tensor, Tensor], Tensor]
"""Takes two image batches in [0, 1] and returns distances (b,), such as LPIPS."""


def squared(made: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared difference of each pair of images, (b,).

    ``made`` is not clamped to [0, 1], because clamped pixels have no gradient. If clamping makes a
    pixel of ``made`` equal to the wanted pixel, such as 1.3 and 1, their difference counts as 0.
    """
    equal = made.detach().clamp(0, 1) == wanted
    return (made - wanted).masked_fill(equal, 0).square().flatten(1).mean(1)


@dataclasses.dataclass
class Projection:
    """Search by gradient descent for the codes whose images are closest to wanted images.

    Samples don't influence each other, because the losses are summed and Adam works elementwise.

    Attributes:
        render: turns codes into images that are not clamped to [0, 1].
        std: standard deviation of the codes, with the shape of one code. The learning rate is
            measured in units of ``std``.
        distance: additional distance between two image batches. The loss is the squared difference
            of pixels plus ``distance_weight`` times this distance.
    """

    render: Callable[[Tensor], Tensor]
    std: Tensor
    distance: Distance | None
    distance_weight: float

    @torch.no_grad()
    def nearest(self, wanted: Tensor, codes: Tensor, batch_size: int) -> Tensor:
        """For each wanted image, return the code in ``codes`` whose image is closest to it."""
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
        """Return the best code found for each wanted image, (b, ...).

        ``rows`` are the positions of the wanted images in the user's input.
        """
        change = torch.zeros_like(start, requires_grad=True)
        adam = torch.optim.Adam([change])
        best, lowest = start, torch.full_like(squared(wanted, wanted), math.inf)
        for number in progress.each(range(1, steps + 2), "projection"):
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
        """Return the loss of each code: the distance of its image from the wanted image, (b,).

        Raises:
            ValueError, TypeError: if ``distance`` doesn't return one finite number per sample.
        """
        image = self.render(code)
        loss = squared(image, wanted)
        if self.distance is None:
            return loss
        return loss + self.distance_weight * self.distance(image.clamp(0, 1), wanted)
