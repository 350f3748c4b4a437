"""Turn the images that callers pass into the tensors that a training needs."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import psutil
import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.kept_work import digest
from cfxnb.data import folder
from cfxnb.train.losses import as_bytes, as_unit

CHUNK = 512  # images that are read at a time
MEMORY_PART = 0.4  # of the free memory, which the images may fill
MIN_IMAGES = 20
STOP_PART, TEST_PART, MAX_PART = 0.1, 0.1, 2000  # fractions and largest size of held-out parts
SPLIT_SEED = 0  # the test part is the same for every seed of a training
PROBES = 64  # images by which a data set that does not fit in memory is identified


class LazyRows:
    """Images of a set that does not fit in memory. A batch is read when it is needed."""

    def __init__(self, data: Any, rows: Tensor) -> None:
        self.data, self.rows = data, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Tensor:
        return as_bytes(self.data[self.rows[index]].images)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingData:
    """Images for a training, with labels and factors if they are known.

    Attributes:
        images: (n, c, h, w), uint8 if no image loses anything by it, else float32; or ``LazyRows``.
        labels: Class of each image, int64 (n,), or None.
        class_names: Names of the classes.
        factors: Table with one row per image, or None.
        source: Authors and licence of the images, in one line.
    """

    images: Any
    labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    factors: pd.DataFrame | None = None
    source: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image, (c, h, w)."""
        return tuple(self.images[torch.arange(1)].shape[1:])

    @property
    def id(self) -> str:
        """A short hash of images and labels."""
        images = self.images
        if isinstance(images, LazyRows):
            images = images[torch.linspace(0, len(images) - 1, PROBES).long()]
        return digest(images, [len(self)] if self.labels is None else self.labels)

    def __getitem__(self, rows: Tensor) -> "TrainingData":
        if isinstance(self.images, LazyRows):
            images: Any = LazyRows(self.images.data, self.images.rows[rows])
        else:
            images = self.images[rows]
        return dataclasses.replace(
            self,
            images=images,
            labels=None if self.labels is None else self.labels[rows],
            factors=None if self.factors is None else self.factors.iloc[rows.numpy()],
        )

    def floats(self, limit: int | None = None) -> Tensor:
        """Return the first images as floats in [0, 1]. Default: all images."""
        rows = torch.arange(min(len(self), limit or len(self)))
        return as_unit(self.images[rows])


@dataclasses.dataclass(frozen=True)
class Parts:
    """The three parts of a data set: for training, for early stopping, and for measuring."""

    train: TrainingData
    stop: TrainingData | None
    test: TrainingData


def opened(data: Any, held_out: Any, **options: Any) -> tuple[Any, Any]:
    """Return the images of a folder to train on and to measure with, if ``data`` is a path.

    A tenth of the images is held out, chosen by their content, unless the folder states its splits.

    Args:
        data, held_out: What the caller passed.
        options: Further arguments of ``cfx.data.folder``.
    """
    if not isinstance(data, str | os.PathLike):
        return data, held_out
    fractions = (1 - TEST_PART, 0.0, TEST_PART)
    if held_out is None:
        held_out = folder(data, "test", fractions=fractions, **options)
    return folder(data, "train", fractions=fractions, **options), held_out


def training_data(
    value: Any, name: str = "data", labelled: bool = False, least: int = MIN_IMAGES
) -> TrainingData:
    """Return the images that a caller passed.

    Args:
        value: An ``ImageSet``, a set from ``cfx.data.folder``, images (n, c, h, w), or a pair of
            images and labels.
        name: Name of the argument, for messages.
        labelled: Whether labels are needed.
        least: Smallest number of images.
    """
    pair = isinstance(value, tuple | list) and len(value) == 2 and _rows_of(value[0]) is not None
    if pair and _rows_of(value[0]) == _rows_of(value[1]):
        images = validate.images(value[0], name)
        labels = validate.labels(value[1], len(images), 10**6, f"{name}[1]")
        names = tuple(map(str, range(int(labels.max()) + 1)))
        found = TrainingData(_compact(images), labels.cpu(), names)
    elif all(hasattr(value, part) for part in ("labels", "class_names", "__getitem__", "__len__")):
        found = _from_set(value)
    else:
        wanted = "an image set, a folder, images (n, c, h, w), or a pair of images and labels"
        try:
            found = TrainingData(_compact(validate.images(value, name)))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: expected {wanted}. {error}") from None
    if len(found) < least:
        raise ValueError(f"{name}: expected at least {least} images, got {len(found)}")
    if labelled and (found.labels is None or len(found.labels.unique()) < 2):
        raise ValueError(
            f"{name}: expected labels of at least two classes, got "
            f"{'none' if found.labels is None else 'one class'}. Pass a folder with one subfolder "
            "per class, an ImageSet, or a pair (images, labels)."
        )
    return found


def _rows_of(value: Any) -> int | None:
    return len(value) if hasattr(value, "shape") and len(value.shape) else None


def _from_set(value: Any) -> TrainingData:
    labels = torch.as_tensor(value.labels).long()
    n, first = len(value), value[0:1].images
    if first.is_floating_point() and isinstance(getattr(type(value), "images", None), property):
        # A lazy set: ``.images`` would hold four bytes per number, and we need one.
        size = n * first[0].numel()
        if size > MEMORY_PART * psutil.virtual_memory().available:
            images: Any = LazyRows(value, torch.arange(n))
        else:
            images = torch.empty((n, *first.shape[1:]), dtype=torch.uint8)
            for start in range(0, n, CHUNK):
                images[start : start + CHUNK] = as_bytes(value[start : start + CHUNK].images)
    else:
        images = _compact(value.images)
    factors = getattr(value, "factors", None)
    factors = None if factors is None or not len(factors.columns) else factors
    names = tuple(map(str, value.class_names))
    return TrainingData(images, labels, names, factors, str(getattr(value, "source", "")))


def _compact(images: Tensor) -> Tensor:
    """Return images as uint8 if this changes none of them."""
    images = images.detach().cpu()
    exact = all(torch.equal(as_unit(as_bytes(part)), part) for part in images.split(CHUNK))
    return torch.cat([as_bytes(part) for part in images.split(CHUNK)]) if exact else images


def split(data: TrainingData, held_out: Any, early_stopping: bool, seed: int) -> Parts:
    """Divide a data set into images for training, for early stopping, and for measuring.

    The test part does not depend on the seed, so that no training sees it.

    Args:
        held_out: Images on which the quality is measured, or None for a tenth of ``data``.
        early_stopping: Whether a tenth of the images is needed to stop early.
    """
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SPLIT_SEED))
    if held_out is None:
        count = max(1, min(MAX_PART, int(TEST_PART * len(data))))
        test, rest = data[order[:count]], order[count:].sort().values
    else:
        test, rest = training_data(held_out, "held_out", least=2), torch.arange(len(data))
        generator = torch.Generator().manual_seed(SPLIT_SEED)
        test = test[torch.randperm(len(test), generator=generator)]  # often sorted by class
        if test.shape != data.shape:
            raise ValueError(
                f"held_out: expected images of shape {data.shape}, as data has, got {test.shape}"
            )
        labelled = test.labels is not None and data.labels is not None
        if labelled and test.class_names != data.class_names:
            raise ValueError(
                f"held_out: expected the classes {data.class_names[:9]}, as data has, got "
                f"{test.class_names[:9]}"
            )
    if not early_stopping:
        return Parts(data if held_out is not None else data[rest], None, test)
    mixed = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed + 1))]
    count = max(1, min(MAX_PART, int(STOP_PART * len(data))))
    return Parts(data[mixed[count:].sort().values], data[mixed[:count].sort().values], test)


def class_indices(data: TrainingData, attributes: Mapping[str, Sequence[str]]) -> Tensor:
    """Return the index of the option of each attribute for each image, int64 (n, attributes).

    An attribute is a column of ``data.factors``. Any other name stands for the label.
    """
    columns = []
    for name, options in attributes.items():
        listed = [str(option) for option in options]
        if data.factors is not None and name in data.factors:
            values = [str(value) for value in data.factors[name]]
        elif data.labels is not None and len(options) == len(data.class_names):
            columns.append(data.labels)
            continue
        else:
            raise ValueError(f"attributes: expected factors, or one option per class, got {name!r}")
        if unknown := sorted(set(values) - set(listed)):
            raise ValueError(f"attributes: expected all options of {name!r}, got no {unknown[:3]}")
        columns.append(torch.tensor([listed.index(value) for value in values]))
    return torch.stack(columns, 1)
