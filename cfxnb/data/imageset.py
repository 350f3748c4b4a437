"""A data set in memory: images, labels and factors."""

import dataclasses
from collections.abc import Sequence
from numbers import Integral

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.images import SLACK
from cfxnb.core.tensors import positions


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their labels and factors.

    Row i of ``images``, of ``labels`` and of ``factors`` belongs to image i.

    Attributes:
        images: Images in [0, 1], float32 (n, c, h, w).
        labels: Class of each image, int64 (n,).
        class_names: Name of each class. The class of image i is ``class_names[labels[i]]``.
        factors: DataFrame of known or measured properties of the images, one row per image and one
            column per factor.
        source: Authors and licence of the images, in one line.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    factors: pd.DataFrame
    source: str = ""

    def __post_init__(self) -> None:
        validate.instance(self.images, Tensor, "images", "a torch tensor")
        if self.images.ndim != 4 or 0 in self.images.shape[1:]:
            raise ValueError(f"images: expected shape (n, c, h, w), got {tuple(self.images.shape)}")
        if not self.images.is_floating_point() or not _plain(self.images):
            raise TypeError(f"images: expected floats, got {validate.describe(self.images)}")
        validate.instance(self.labels, Tensor, "labels", "a torch tensor")
        if self.labels.ndim != 1 or self.labels.dtype != torch.int64 or not _plain(self.labels):
            raise ValueError(
                f"labels: expected int64 of shape (n,), got {self.labels.dtype} of shape "
                f"{tuple(self.labels.shape)}"
            )
        names = validate.instance(self.class_names, tuple, "class_names", "a tuple of texts")
        for name in names:
            validate.text(name, "class_names")
        validate.instance(self.factors, pd.DataFrame, "factors", "a DataFrame")
        validate.text(self.source, "source")
        sizes = {len(self.images), len(self.labels), len(self.factors)}
        if len(sizes) != 1:
            raise ValueError(
                "images, labels and factors: expected equally many rows, got "
                f"{len(self.images)}, {len(self.labels)} and {len(self.factors)}"
            )
        validate.labels(self.labels, len(self), len(names), "labels")
        if len(self) and not (self.images.min() >= -SLACK and self.images.max() <= 1 + SLACK):
            raise ValueError("images: expected finite values in [0, 1], got others")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray | Tensor) -> "ImageSet":
        """Return an ImageSet of the images at the positions ``rows`` (an int for one image)."""
        index = positions(rows, len(self), f"a set with {len(self)} images")
        return dataclasses.replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            factors=self.factors.iloc[index.numpy()],
        )

    def select(self, *classes: int) -> "ImageSet":
        """Return the images whose label is one of ``classes``, in the same order."""
        chosen = [int(c) for c in classes if isinstance(c, Integral) and not isinstance(c, bool)]
        inside = all(0 <= c < len(self.class_names) for c in chosen)
        if not classes or len(chosen) < len(classes) or not inside:
            raise ValueError(
                f"classes: expected labels from 0 to {len(self.class_names) - 1}, got "
                f"{validate.describe(list(classes))}"
            )
        return self[torch.isin(self.labels, torch.tensor(chosen))]

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        return (
            f"ImageSet({len(self)} images {shape}, {len(self.class_names)} classes; {self.source})"
        )


def _plain(tensor: Tensor) -> bool:
    """Return whether a tensor is dense and not on the meta device."""
    return tensor.layout == torch.strided and not tensor.is_meta
