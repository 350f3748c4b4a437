"""A data set of any size, whose images are read when they are used."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral

import numpy as np
import pandas as pd
import psutil
import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.tensors import positions
from cfxnb.data.imageset import ImageSet

SHARE_OF_MEMORY = 0.8  # of the free memory, which ``images`` may fill


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LazyImageSet:
    """Images that are read when they are used, with their labels and factors.

    A ``LazyImageSet`` has the attributes of an ``ImageSet`` and takes the same place, but holds no
    pixels. ``data[0:64]`` reads 64 images and returns them as an ``ImageSet``. ``data.images``
    reads all images, and refuses if they do not fit in memory. ``for part in data.batches(64)``
    passes over the whole set. A torch ``DataLoader`` takes a LazyImageSet as its data set, and
    gives pairs of images and labels.

    Attributes:
        labels: Class of each image, int64 (n,).
        class_names: Name of each class. The class of image i is ``class_names[labels[i]]``.
        factors: DataFrame of properties of the images, one row per image. Its index holds the names
            of the files.
        shape: Shape (c, h, w) of each image.
        source: Where the images come from, in one line.
        skipped: DataFrame of the images that cannot be used, with the columns ``file`` and
            ``reason``.
        read: Function that returns the image at a position as float32 (c, h, w) in [0, 1].
        rows: Positions that are passed to ``read``, int64 (n,).
    """

    labels: Tensor
    class_names: tuple[str, ...]
    factors: pd.DataFrame
    shape: tuple[int, int, int]
    source: str
    skipped: pd.DataFrame
    read: Callable[[int], Tensor]
    rows: np.ndarray

    def __post_init__(self) -> None:
        validate.function(self.read, "read")
        if not isinstance(self.rows, np.ndarray) or self.rows.dtype.kind != "i":
            raise TypeError(f"rows: expected whole numbers, got {validate.describe(self.rows)}")
        shape = validate.sizes(self.shape, "shape", "(c, h, w)")
        validate.instance(self.skipped, pd.DataFrame, "skipped", "a DataFrame")
        if self.rows.ndim != 1:
            raise ValueError(f"rows: expected one dimension, got shape {self.rows.shape}")
        # An ImageSet checks labels, names, factors and source. One pixel stands for the images.
        pixels = torch.zeros(1, 1, 1, 1).expand(len(self.rows), *shape[:1], 1, 1)
        ImageSet(pixels, self.labels, self.class_names, self.factors, self.source)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def files(self) -> list[str]:
        """Name of each image's file, relative to the folder."""
        return [str(name) for name in self.factors.index]

    @property
    def images(self) -> Tensor:
        """All images, float32 (n, c, h, w) in [0, 1].

        Raises:
            ValueError: If the images do not fit in the free memory.
        """
        return self[:].images

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray | Tensor) -> ImageSet:
        """Read the images at the positions ``rows`` (an int for one image).

        Raises:
            ValueError: If the images do not fit in the free memory, or if a file has changed since
                the set was made and cannot be read any more.
        """
        part = self.subset(rows)
        needed = len(part) * int(np.prod(part.shape)) * 4
        free = psutil.virtual_memory().available
        if needed > SHARE_OF_MEMORY * free:
            raise ValueError(
                f"images: expected a number that fits in memory, got {len(part):,} images that "
                f"need {needed / 2**30:.3g} GiB, with {free / 2**30:.3g} GiB free; use a smaller "
                "size=, a part such as data[:1000], or 'for part in data.batches(64)'"
            )
        images = torch.empty(len(part), *part.shape, device="cpu", dtype=torch.float32)
        for i, row in enumerate(part.rows.tolist()):
            images[i] = part.read(row)
        return ImageSet(images, part.labels, part.class_names, part.factors, part.source)

    def __getitems__(self, rows: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Return pairs of image and label, for torch's ``DataLoader``."""
        part = self[rows]
        return list(zip(part.images, part.labels.tolist(), strict=True))

    def batches(self, batch_size: int = 64) -> Iterator[ImageSet]:
        """Read the images in their order, ``batch_size`` at a time."""
        batch_size = validate.count(batch_size, "batch_size", 1)
        return (self[i : i + batch_size] for i in range(0, len(self), batch_size))

    def subset(self, rows: int | slice | Sequence[int] | np.ndarray | Tensor) -> "LazyImageSet":
        """Return a LazyImageSet of the images at the positions ``rows``, and read none of them."""
        index = positions(rows, len(self), f"a set with {len(self)} images").numpy()
        return dataclasses.replace(
            self,
            labels=self.labels[index],
            factors=self.factors.iloc[index],
            rows=self.rows[index],
        )

    def select(self, *classes: int) -> "LazyImageSet":
        """Return the images whose label is one of ``classes``, in the same order."""
        chosen = [int(c) for c in classes if isinstance(c, Integral) and not isinstance(c, bool)]
        inside = all(0 <= c < len(self.class_names) for c in chosen)
        if not classes or len(chosen) < len(classes) or not inside:
            raise ValueError(
                f"classes: expected labels from 0 to {len(self.class_names) - 1}, got "
                f"{validate.describe(list(classes))}"
            )
        return self.subset(torch.isin(self.labels, torch.tensor(chosen)))

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        skipped = f", {len(self.skipped):,} skipped" if len(self.skipped) else ""
        return (
            f"LazyImageSet({len(self):,} images {shape}, {len(self.class_names)} classes{skipped}; "
            f"{self.source})"
        )
