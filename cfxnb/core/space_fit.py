"""Does a space know the images? How many decisions survive, and how near reconstructions are."""

import warnings
from typing import Any

import torch
from torch import Tensor

from cfxnb.core.intervals import wilson_interval
from cfxnb.core.modules import eval_frozen
from cfxnb.core.tensors import predicted
from cfxnb.core.types import Code

FEW = 0.8  # fraction of decisions below which reconstructions keep few of them
FEWEST = 3  # images from which on that can be said
ROUNDING = 0.01  # of the spread, by which one space's center and spread may differ
FAR = 2.0  # times the space's own error from which on reconstructions are far from the images


class SpaceFit:
    """Whether a space knows the images: how many decisions survive, how near reconstructions are.

    A space with an attribute ``reconstruction_error`` says what mean squared error it makes on
    images like those that it was trained on.
    """

    def __init__(self, space: Any) -> None:
        self.own = getattr(space, "reconstruction_error", None)
        self.count = self.asked = self.kept = 0
        self.error = 0.0

    def add_images(self, images: Tensor, rebuilt: Tensor) -> None:
        """Count the distance of images (b, c, h, w) from their reconstructions."""
        self.count += len(images)
        self.error += float((images - rebuilt).square().flatten(1).mean(1).sum())

    def add_decisions(self, before: Tensor, after: Tensor) -> None:
        """Count the decisions that reconstruction keeps, from logits (b, k)."""
        self.asked += len(before)
        self.kept += int((predicted(before) == predicted(after)).sum())

    def warn(self) -> None:
        """Warn once if few decisions survive, or if the reconstructions are far away."""
        told = []
        if self.asked >= FEWEST and wilson_interval(self.kept, self.asked)[1] < FEW:
            told.append(f"the classifier decides {self.kept} of {self.asked} images as before")
        mean = self.error / max(1, self.count)
        if self.count and self.own and mean > self.own * max(FAR, 1 + 9 / self.count**0.5):
            told.append(
                f"their mean squared error is {mean:.2g}, and {self.own:.2g} on the space's own "
                "test images"
            )
        if told:
            warnings.warn(
                f"space: it does not know these images: after reconstruction {', and '.join(told)};"
                " what is found says little about the images",
                stacklevel=5,
            )


CHECKED = 4  # rows of a result that are decoded once more
SAME = 0.02  # root of the mean squared difference of pixels that no rounding makes


def same_scale(mean: Tensor, std: Tensor, space: Any, name: str, what: str) -> None:
    """Refuse what was made in another space: its codes have another center or spread."""
    own, unit = space.mean.detach().float(), space.std.detach().float()
    if mean.shape == own.shape:
        mean, std = mean.detach().to(own), std.detach().to(own)
        room = ROUNDING * unit.abs() + ROUNDING * unit.abs().mean()
        if ((mean - own).abs() <= room).all() and ((std - unit).abs() <= room).all():
            return
    raise ValueError(
        f"{name}: expected {what}, got those of another space, whose codes have another center or "
        f"spread; make {name} with the space that you pass"
    )


@torch.no_grad()
def check_codes(space: Any, start: Code, reconstruction: Tensor, name: str) -> None:
    """Refuse a result of another space: its first codes don't decode to its reconstructions.

    Args:
        space: checked.
    """
    with eval_frozen(space):
        made = space.decode(start[slice(0, CHECKED)].to(space.mean.device))
    wanted = reconstruction[:CHECKED].to(made)
    fits = made.shape == wanted.shape
    if not fits or not ((made - wanted).square().flatten(1).mean(1).sqrt() <= SAME).all():
        raise ValueError(
            f"{name}: expected a result of this space, got one of another: its codes decode to "
            f"other images than {name}.reconstruction; pass the space that made {name}"
        )
