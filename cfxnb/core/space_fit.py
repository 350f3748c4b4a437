"""Check whether a space fits the images, and whether a result was made with a space."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cfxnb.core.intervals import wilson_interval
from cfxnb.core.modules import eval_frozen
from cfxnb.core.tensors import predicted
from cfxnb.core.types import Code

FEW = 0.8  # a warning is given if reconstruction keeps a smaller fraction of the decisions
FEWEST = 3  # smallest number of images for this warning
ROUNDING = 0.01  # tolerance for mean and std, as a fraction of the std
FAR = 2.0  # a warning is given if the error is larger than this multiple of the space's own error


class SpaceFit:
    """Counts images that keep their class after reconstruction, and measures reconstruction errors.

    A space may have an attribute ``reconstruction_error``, the mean squared error of its
    reconstructions of test images. ``warn`` compares the measured error with
    ``reconstruction_error``."""

    def __init__(self, space: Any) -> None:
        self.own = getattr(space, "reconstruction_error", None)
        self.count = self.asked = self.kept = 0
        self.error = 0.0

    @contextlib.contextmanager
    def kept_if_finished(self) -> Iterator[None]:
        """Forget what the ``with`` block added if the block ends with an error."""
        before = dict(vars(self))
        try:
            yield
        except Exception:
            vars(self).update(before)
            raise

    def add_images(self, images: Tensor, reconstruction: Tensor) -> None:
        """Add the squared differences of images (b, c, h, w) and their reconstructions."""
        self.count += len(images)
        self.error += float((images - reconstruction).square().flatten(1).mean(1).sum())

    def add_decisions(self, before: Tensor, after: Tensor) -> None:
        """Count images that have the same predicted class before and after reconstruction."""
        self.asked += len(before)
        self.kept += int((predicted(before) == predicted(after)).sum())

    def warn(self) -> None:
        """Warn if few images keep their predicted class, or if reconstructions differ too much."""
        found = []
        if self.asked >= FEWEST and wilson_interval(self.kept, self.asked)[1] < FEW:
            found.append(f"the classifier decides {self.kept} of {self.asked} images as before")
        mean = self.error / max(1, self.count)
        if self.count and self.own and mean > self.own * max(FAR, 1 + 9 / self.count**0.5):
            found.append(
                f"their mean squared error is {mean:.2g}, and {self.own:.2g} on the space's own "
                "test images"
            )
        if found:
            warnings.warn(
                "space: it does not know these images: after reconstruction "
                f"{', and '.join(found)}; what is found says little about the images",
                stacklevel=5,
            )


CHECKED = 4  # rows of a result that are decoded once more
SAME = 0.02  # largest root mean squared difference of pixels that rounding can explain


def same_scale(mean: Tensor, std: Tensor, space: Any, name: str, what: str) -> None:
    """Raise ValueError if ``mean`` and ``std`` are not those of the space."""
    own, unit = space.mean.detach().float(), space.std.detach().float()
    if mean.shape == own.shape:
        mean, std = mean.detach().to(own), std.detach().to(own)
        room = ROUNDING * unit.abs() + ROUNDING * unit.abs().mean()
        if ((mean - own).abs() <= room).all() and ((std - unit).abs() <= room).all():
            return
    raise ValueError(
        f"{name}: expected {what}, got those of another space, whose codes have another mean or "
        f"std; make {name} with the space that you pass"
    )


@torch.no_grad()
def check_codes(space: Any, start: Code, reconstruction: Tensor, name: str) -> None:
    """Raise ValueError if the first codes of a result do not decode to its reconstructions.

    A result whose codes decode to other images was made with another space.

    Args:
        space: A checked space.
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
