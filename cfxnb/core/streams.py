"""Data sets of images, and how they are read shard by shard.

A shard is a piece of a data set: some images that follow each other. ``as_stream`` accepts a torch
``Dataset`` or ``DataLoader``, an iterator, an ``ImageSet``, a folder set, or images in memory. If a
data set has a length and positions, only the images of a shard are read. Loaders and iterators are
always read from their beginning.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, RandomSampler

from cfxnb.core import validate
from cfxnb.core.images import as_images
from cfxnb.core.result_folder import ResultFolder
from cfxnb.core.results import Counterfactuals

#: Names under which items (dicts) have their image, in the order in which they are looked up.
IMAGE_KEYS = ("image", "images", "pixel_values", "img")
WANTED = "a data set whose items are images, pairs (image, label) or dicts with 'image'"
_END = object()
#: What is no data set, although it can be iterated over.
PLAIN = (
    str, bytes, Mapping, AbstractSet, Sequence, Tensor, np.ndarray, pd.DataFrame, pd.Series,
    Image.Image, nn.Module, type, Counterfactuals,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FromItem:
    """Names an entry of each item of a data set, see ``from_item``."""

    key: int | str


def from_item(key: int | str) -> FromItem:
    """Take an argument, such as the target, from each item of the data set.

    For example, with a data set of pairs (image, label), ``target=cfx.from_item(1)`` makes the
    label of each image its target.

    Args:
        key: Position of the entry in the item, if items are tuples. Name of the entry, if items are
            dicts. The labels of an ``ImageSet`` are called ``"label"``, and its factors have the
            names of their columns.
    """
    if isinstance(key, bool) or not isinstance(key, int | str):
        got = validate.describe(key)
        raise TypeError(f"key: expected a position or a name in each item, got {got}")
    if isinstance(key, int):
        validate.count(key, "key", 1)
    return FromItem(key)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """The images of one shard, and the other entries of their items.

    Attributes:
        first: Position of the first image in the data set.
        images: Images in [0, 1], (b, c, h, w).
        entries: Dict from names or positions of entries to one value per image.
        result: Counterfactuals of the images, if the data set is a result of another method.
    """

    first: int
    images: Tensor
    entries: Mapping[int | str, Sequence[Any] | Tensor]
    result: Counterfactuals | None = None

    def __len__(self) -> int:
        return len(self.images)

    def column(self, key: int | str, name: str) -> Any:
        """Return one entry of all items, for the argument ``name``."""
        if key not in self.entries:
            known = sorted(map(str, self.entries))
            raise ValueError(
                f"{name}: expected an entry of the items of the data set, which are {known}, got "
                f"{validate.describe(key)}"
            )
        values = self.entries[key]
        if isinstance(values, Tensor):
            return values
        if all(isinstance(v, Tensor | np.ndarray | np.generic) for v in values):
            return torch.stack([torch.as_tensor(v) for v in values])
        whole = all(isinstance(v, int) and not isinstance(v, bool) for v in values)
        return torch.tensor(values) if whole else list(values)


@dataclasses.dataclass(frozen=True)
class Shard:
    """A piece of a data set. ``read`` returns its images."""

    number: int
    first: int
    count: int
    read: Callable[[], Chunk]


@dataclasses.dataclass(frozen=True)
class Stream:
    """A data set that can be split into shards.

    Attributes:
        length: Number of images, or None if it is unknown until the end.
        shards: Function that takes the number of images per shard, and returns an iterator over the
            shards.
        shuffled: Whether the order of the images differs from one pass to the next.
        partial: Whether each process gets a different part of the images.
    """

    length: int | None
    shards: Callable[[int], Iterator[Shard]]
    shuffled: bool = False
    partial: bool = False


def is_data_set(value: Any) -> bool:
    """Return whether a value is a data set, and not a batch of images in memory."""
    if isinstance(value, Dataset | DataLoader):
        return True
    if isinstance(value, PLAIN):
        return False
    return isinstance(value, Iterable) or _has_positions(value)


def as_stream(value: Any, name: str = "images") -> Stream:
    """Return a Stream of a data set, or of images in memory.

    Raises:
        ValueError, TypeError: If the value holds no images.
    """
    if isinstance(value, Counterfactuals):
        return _of_results(value, name)
    if not is_data_set(value):
        images = validate.images(value, name)
        return _with_positions(len(images), lambda a, b: Chunk(a, images[a:b], {}), name)
    if isinstance(value, DataLoader):
        return _of_loader(value, name)
    if isinstance(value, ResultFolder):
        return _of_results(value, name)
    if isinstance(value, IterableDataset) or not _has_positions(value):
        return Stream(None, lambda size: _read_on(iter(value), size, name))
    if _is_image_set(value):
        return _with_positions(len(value), lambda a, b: _of_image_set(value, a, b, name), name)
    return _with_positions(len(value), lambda a, b: _of_items(value, a, b, name), name)


def _has_positions(value: Any) -> bool:
    return all(hasattr(type(value), method) for method in ("__len__", "__getitem__"))


def _with_positions(length: int, read: Callable[[int, int], Chunk], name: str) -> Stream:
    """Return the Stream of a data set that can be read at any position."""
    if not length:
        raise ValueError(f"{name}: expected at least one image, got an empty data set")

    def shards(size: int) -> Iterator[Shard]:
        for number, first in enumerate(range(0, length, size)):
            end = min(first + size, length)
            yield Shard(number, first, end - first, functools.partial(read, first, end))

    return Stream(length, shards)


def _of_loader(loader: DataLoader, name: str) -> Stream:
    sampler = getattr(loader, "sampler", None)
    # accelerate's loaders pass another part of the data set to each process.
    other = type(loader).__name__ in ("DataLoaderShard", "DataLoaderDispatcher")
    return Stream(
        None,
        lambda size: _read_on(iter(loader), size, name, batched=loader.batch_size is not None),
        shuffled=isinstance(sampler, RandomSampler),
        partial=other or isinstance(sampler, DistributedSampler),
    )


def _of_results(value: ResultFolder | Counterfactuals, name: str) -> Stream:
    if isinstance(value, ResultFolder) and not value.complete:
        raise ValueError(
            f"{name}: expected a complete folder of results, got {value.path}; repeat the call "
            "that writes it"
        )

    def read(first: int, end: int) -> Chunk:
        part = value[first:end]
        return Chunk(first, part.original, {}, part)

    return _with_positions(len(value), read, name)


def _is_image_set(value: Any) -> bool:
    """Return whether a value is an ImageSet or a folder set: a slice of it has images."""
    known = {"images", "labels"}
    fields = {*getattr(type(value), "__dataclass_fields__", ()), *dir(type(value))}
    return known <= fields


def _of_image_set(value: Any, first: int, end: int, name: str) -> Chunk:
    part = value[first:end]
    factors: dict[int | str, Any] = {
        str(column): part.factors[column].tolist() for column in part.factors
    }
    images = validate.images(part.images, name)
    return Chunk(first, images, {**factors, "label": part.labels, 1: part.labels})


def _of_items(value: Any, first: int, end: int, name: str) -> Chunk:
    rows = list(range(first, end))
    items = value.__getitems__(rows) if hasattr(value, "__getitems__") else [value[i] for i in rows]
    if isinstance(items, Mapping):  # Hugging Face data sets return columns
        items = [dict(zip(items, row, strict=True)) for row in zip(*items.values(), strict=True)]
    return _collate([_entries(item, name) for item in items], first, name)


def _count(parts: Sequence[Chunk]) -> int:
    return sum(len(part) for part in parts)


def _read_on(source: Iterator[Any], size: int, name: str, batched: bool | None = None) -> Any:
    """Yield the shards of a loader or an iterator, which can only be read from its beginning."""
    first, left = 0, None
    for number in itertools.count():
        parts: list[Chunk] = [] if left is None else [left]
        while _count(parts) < size:
            item = next(source, _END)
            if item is _END:
                break
            at = first + _count(parts)
            parts.append(_as_chunk(_entries(item, name), at, name, batched))
        if not parts:
            if not number:
                raise ValueError(f"{name}: expected at least one image, got an empty data set")
            return
        whole = _joined(parts, first, name)
        chunk, left = _cut(whole, 0, size), None
        if len(whole) > size:
            left = _cut(whole, size, len(whole))
        yield Shard(number, first, len(chunk), functools.partial(_given, chunk))
        first += len(chunk)


def _given(chunk: Chunk) -> Chunk:
    return chunk


def _entries(item: Any, name: str) -> dict[int | str, Any]:
    """Return an item or a batch of a data set as a dict. The entry 0 holds the images."""
    if isinstance(item, Mapping):
        key = next((key for key in IMAGE_KEYS if key in item), None)
        if key is None:
            raise ValueError(f"{name}: expected {WANTED}, got a dict of {sorted(map(str, item))}")
        return {**{str(k): v for k, v in item.items() if k != key}, 0: item[key]}
    if isinstance(item, tuple | list):
        if not item:
            raise ValueError(f"{name}: expected {WANTED}, got an empty {type(item).__name__}")
        if isinstance(item, list) and len(item) > 1 and all(map(_is_one_image, item)):
            raise ValueError(
                f"{name}: expected {WANTED}, got a list of {len(item)} images; stack them to one "
                "batch (b, c, h, w)"
            )
        return dict(enumerate(item))
    return {0: item}


def _is_one_image(value: Any) -> bool:
    array = isinstance(value, Tensor | np.ndarray) and value.ndim in (2, 3)
    return array or isinstance(value, Image.Image)


def _as_chunk(entries: dict[int | str, Any], first: int, name: str, batched: bool | None) -> Chunk:
    """Make a Chunk of an item of an iterator or a loader: one image, or a batch of images."""
    images = entries[0]
    if batched is None:
        batched = getattr(images, "ndim", 3) == 4 or isinstance(images, list | tuple)
    if not batched:
        return _collate([entries], first, name)
    x = as_images(images, _place(name, first))
    others = {key: _listed(value, len(x)) for key, value in entries.items() if key != 0}
    return Chunk(first, x, {key: value for key, value in others.items() if value is not None})


def _collate(items: list[dict[int | str, Any]], first: int, name: str) -> Chunk:
    """Join the items of a data set, each a dict with one image."""
    if any(not isinstance(item[0], Tensor | np.ndarray | Image.Image) for item in items):
        wrong = next(i for i in items if not isinstance(i[0], Tensor | np.ndarray | Image.Image))
        raise TypeError(f"{name}: expected {WANTED}, got {validate.describe(wrong[0])}")
    images = as_images([item[0] for item in items], _place(name, first))
    keys = [key for key in items[0] if key != 0 and all(key in item for item in items)]
    return Chunk(first, images, {key: [item[key] for item in items] for key in keys})


def _place(name: str, first: int) -> str:
    return name if not first else f"{name} (from row {first})"


def _listed(values: Any, count: int) -> Any:
    """Return an entry of a batch if it has one value per image, and None otherwise."""
    fits = isinstance(values, Tensor | np.ndarray | list | tuple) and len(values) == count
    return values if fits else None


def _joined(parts: list[Chunk], first: int, name: str) -> Chunk:
    shapes = {tuple(part.images.shape[1:]) for part in parts}
    if len(shapes) > 1:
        raise ValueError(
            f"{name}: expected images of one shape, got {sorted(shapes)[:4]}; resize them first"
        )
    if len(parts) == 1:
        return dataclasses.replace(parts[0], first=first)
    keys = [key for key in parts[0].entries if all(key in part.entries for part in parts)]
    entries = {key: list(itertools.chain(*(part.entries[key] for part in parts))) for key in keys}
    return Chunk(first, torch.cat([part.images for part in parts]), entries)


def _cut(chunk: Chunk, a: int, b: int) -> Chunk:
    entries = {key: values[a:b] for key, values in chunk.entries.items()}
    return Chunk(chunk.first + a, chunk.images[a:b], entries)
