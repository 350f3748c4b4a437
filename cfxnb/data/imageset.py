"""A data set in memory: images, labels, and the measured or known factors of each image."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cfxnb.tensors import positions


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with labels and factors, row by row.

    Attributes:
        images: float32 in [0, 1], shape (n, c, h, w).
        labels: int64, shape (n,).
        names: name of each class; ``names[labels[i]]`` describes image i.
        factors: one row an image, one column a measured or known factor.
        source: attribution and licence, in one line.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    factors: pd.DataFrame
    source: str = ""

    def __post_init__(self) -> None:
        sizes = {len(self.images), len(self.labels), len(self.factors)}
        if len(sizes) != 1:
            raise ValueError(
                "images, labels and factors: expected equally many rows, got "
                f"{len(self.images)}, {len(self.labels)} and {len(self.factors)}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray | Tensor) -> "ImageSet":
        """The chosen rows as an ImageSet (an int gives a set of one image)."""
        index = positions(rows, len(self), f"a set with {len(self)} images")
        return dataclasses.replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            factors=self.factors.iloc[index.numpy()],
        )

    def of(self, *classes: int) -> "ImageSet":
        """The images whose label is one of ``classes``, in their old order."""
        unknown = [c for c in classes if not 0 <= c < len(self.names)]
        if unknown or not classes:
            raise ValueError(
                f"classes: expected labels from 0 to {len(self.names) - 1}, got {list(classes)}"
            )
        return self[torch.isin(self.labels, torch.tensor(classes))]

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        return f"ImageSet({len(self)} images {shape}, {len(self.names)} classes; {self.source})"
