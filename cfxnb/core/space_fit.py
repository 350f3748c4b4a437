"""Does a space know the images? How many decisions survive, and how near reconstructions are."""

import warnings
from typing import Any

from torch import Tensor

from cfxnb.core.intervals import wilson
from cfxnb.core.tensors import predicted

FEW = 0.8  # fraction of decisions below which reconstructions keep few of them
FEWEST = 3  # images from which on that can be said
FAR = 2.0  # times the space's own error from which on reconstructions are far from the images


class SpaceFit:
    """Whether a space knows the images: how many decisions survive, how near reconstructions are.

    A space with an attribute ``reconstruction_error`` says what mean squared error it makes on
    images like those that it was trained on.
    """

    def __init__(self, space: Any) -> None:
        self.own = getattr(space, "reconstruction_error", None)
        self.count = self.kept = 0
        self.error = 0.0

    def see(self, images: Tensor, rebuilt: Tensor, before: Tensor, after: Tensor) -> None:
        """Count a chunk of images (b, c, h, w) and their logits (b, k) before and after."""
        self.count += len(images)
        self.kept += int((predicted(before) == predicted(after)).sum())
        self.error += float((images - rebuilt).square().flatten(1).mean(1).sum())

    def warn(self) -> None:
        """Warn once if few decisions survive, or if the reconstructions are far away."""
        if not self.count:
            return
        told = []
        if self.count >= FEWEST and wilson(self.kept, self.count)[1] < FEW:
            told.append(f"the classifier decides {self.kept} of {self.count} images as before")
        mean = self.error / self.count
        if self.own and mean > self.own * max(FAR, 1 + 9 / self.count**0.5):
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
