"""Read a data set of PyTorch or of Hugging Face as a LazyImageSet."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from cfxnb.core import progress, validate
from cfxnb.core.disk import cause
from cfxnb.core.docstrings import arguments_of
from cfxnb.core.images import as_images
from cfxnb.data.folder import Options, Scan, check_options, folder, make_set
from cfxnb.data.lazy_imageset import LazyImageSet
from cfxnb.data.listing import GIVEN_SPLITS, LABEL_COLUMNS, UNLABELLED, in_order
from cfxnb.data.read_image import Header, ImageFormat, check_pixels, header, resized, to_tensor
from cfxnb.data.splits import SPLITS, check_fractions, digest, split_of

IMAGE_COLUMNS = ("image", "images", "img", "picture", "pixel_values")
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in a gray image (ITU-R BT.601)


@arguments_of(folder, "cfx.data.folder")
def from_dataset(
    dataset: Any,
    split: str | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "crop",
    class_names: Sequence[str] | Mapping[Any, Any] | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    errors: str = "skip",
    max_pixels: int = 2**26,
    white_value: float | None = None,
) -> LazyImageSet:
    """Read a data set of PyTorch or of Hugging Face as a set of images, labels and factors.

    Each item is read once now, to check it, and again when its image is used. No image is kept in
    memory. The other columns of a Hugging Face data set, or the other numbers and texts in items
    that are dicts, become factors. If ``class_names`` is None, the names are those of
    ``dataset.classes`` or of the features of a Hugging Face data set, if it has any.

    Args:
        dataset: An object with a length, whose items ``dataset[i]`` are an image, a pair (image,
            label), or a dict. Images are PIL images, arrays or tensors. Values must not be
            normalised: use a transform without ``Normalize``, and without random augmentation. A
            ``DatasetDict`` of Hugging Face is accepted, too.
        split: ``"train"``, ``"validation"``, ``"test"``, or None for all items. The split of an
            item is decided by a hash of its pixels. For a ``DatasetDict``, ``split`` chooses its
            part of this name. Default: None.
        size, channels, resize, class_names: As in ``cfx.data.folder``.
        image_column, label_column: Keys of the image and of the label in items that are dicts.
            Default: "image" and "label", or other usual names.
        fractions, errors, max_pixels, white_value: As in ``cfx.data.folder``.

    Returns:
        A LazyImageSet. The index of ``factors`` holds the positions of the items as texts.

    Raises:
        ValueError, TypeError: If an argument is wrong, if no item can be used, if images have
            several sizes and ``size`` is None, or if an item is broken and ``errors`` is "raise".
    """
    options = check_options(size, channels, resize, errors, True, max_pixels, white_value)
    named = validate.optional(validate.class_names, class_names, "class_names")
    if split is not None:
        validate.choice(split, "split", SPLITS)
    for name, value in (("image_column", image_column), ("label_column", label_column)):
        validate.optional(validate.text, value, name)
    parts = check_fractions(fractions)
    chosen = _part(dataset, split)
    items = Items(chosen, image_column)
    scan = _scan(items, label_column, parts, options)
    if chosen is not dataset:  # the part of a DatasetDict
        scan.splits = [str(split)] * len(scan.splits)
    return make_set(scan, split, named, options, type(dataset).__name__, "dataset")


def _part(dataset: Any, split: str | None) -> Any:
    """Return the data set itself, or the part for a split if it is a dict of data sets."""
    if isinstance(dataset, Mapping):
        keys = [k for k in dataset if GIVEN_SPLITS.get(str(k).lower(), "") == split]
        if len(keys) != 1:
            wanted = "a split" if split is None else f"one part for {split!r}"
            raise ValueError(
                f"split: expected {wanted} out of {str(list(dataset))[:200]}, got {split!r}"
            )
        return dataset[keys[0]]
    wrong = f"dataset: expected one with a length and items [i], got {validate.describe(dataset)}"
    if isinstance(dataset, str | bytes | Tensor | np.ndarray | pd.DataFrame | set):
        raise TypeError(wrong)
    if not hasattr(dataset, "__getitem__"):
        raise TypeError(wrong)
    try:
        length = len(dataset)
    except Exception:
        raise TypeError(wrong) from None
    if not length:
        raise ValueError("dataset: expected one with items, got an empty one")
    return dataset


@dataclasses.dataclass(frozen=True)
class Items:
    """Reads the images of a data set by their positions."""

    dataset: Any
    image_column: str | None

    def item(self, row: int) -> tuple[Any, dict[str, Any]]:
        """Return the image of an item, and its other values by name."""
        try:
            item = self.dataset[row]
        except MemoryError:
            raise
        except Exception as error:  # an item of the caller may raise any error
            raise ValueError(f"damaged: {type(error).__name__}: {cause(error)}") from None
        if isinstance(item, Mapping):
            column = self.image_column
            column = column or next((c for c in IMAGE_COLUMNS if c in item), None)
            if column is None or column not in item:
                raise TypeError(
                    f"image_column: expected a key of the items, out of {str(list(item))[:200]}, "
                    f"got {self.image_column!r:.80} for the dataset"
                )
            return item[column], {str(k): v for k, v in item.items() if k != column}
        if isinstance(item, tuple | list):
            if not item:
                raise ValueError("an empty item")
            return item[0], dict(zip(LABEL_COLUMNS[:1], item[1:2], strict=False))
        return item, {}

    def check(self, row: int, options: Options) -> tuple[Header, bytes, dict[str, Any]]:
        """Return header, digest of the pixels, and other values of an item."""
        image, others = self.item(row)
        if isinstance(image, Image.Image):
            found = header(image, options.max_pixels)
            check_pixels(image, options.white_value, shrink=False)
            return found, digest(f"{image.mode}{image.size}".encode() + image.tobytes()), others
        pixels = _pixels(image, row)
        height, width = pixels.shape[1:]
        found = Header(height, width, "L" if len(pixels) == 1 else "RGB")
        if found.height * found.width > options.max_pixels:
            raise ValueError(f"{found.height} x {found.width} pixels, more than max_pixels")
        return found, digest(str(tuple(pixels.shape)).encode() + pixels.numpy().tobytes()), others

    def __call__(self, row: int, how: ImageFormat) -> Tensor:
        try:
            image, _ = self.item(row)
            if isinstance(image, Image.Image):
                return to_tensor(image, how)
            return _shaped(_pixels(image, row), how)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"images: expected items that can be read, got item {row}: {error}"
            ) from None


def _pixels(image: Any, row: int) -> Tensor:
    """Return an image of an item as float32 (c, h, w) in [0, 1] on the CPU."""
    if image is None:
        raise ValueError("no image")
    found = as_images(image, f"dataset[{row}]").cpu()
    if len(found) != 1 or found.shape[1] not in (1, 3):
        raise ValueError(f"expected one image with 1 or 3 channels, got {tuple(found.shape)}")
    return found[0]


def _shaped(pixels: Tensor, how: ImageFormat) -> Tensor:
    """Return an image (c, h, w) with the channels and the size of ``how``."""
    if how.channels == 1 and len(pixels) == 3:
        pixels = (pixels * torch.tensor(LUMA)[:, None, None]).sum(0, keepdim=True)
    if how.size is not None and tuple(pixels.shape[1:]) != how.size:
        planes = [Image.fromarray(plane.numpy()) for plane in pixels]
        made = [np.asarray(resized(p, how.size, how.resize)) for p in planes]
        pixels = torch.from_numpy(np.stack(made)).clamp(0, 1)
    return pixels.expand(how.channels, -1, -1).contiguous()


def _scan(
    items: Items, label_column: str | None, fractions: Sequence[float], options: Options
) -> Scan:
    """Read each item once, and return those that can be used as a Scan."""
    rows, headers, keys, others, skipped = [], [], [], [], []
    for row in progress.each(range(len(items.dataset)), "checking images"):
        try:
            found, key, values = items.check(row, options)
        except ValueError as error:
            skipped.append((str(row), str(error)))
            continue
        rows.append(row)
        headers.append(found)
        keys.append(key)
        others.append(values)
    column = label_column
    if column is None:
        column = next((c for c in LABEL_COLUMNS if any(c in each for each in others)), None)
    elif not any(column in each for each in others):
        raise ValueError(
            f"label_column: expected a key of the items, out of "
            f"{sorted({k for each in others for k in each})}, got {column!r:.80}"
        )
    known = _known_names(items.dataset, column)
    labels = [_label(each.pop(column, None), known) for each in others] if column else []
    if all(label is None for label in labels):
        labels, known = [UNLABELLED] * len(rows), [UNLABELLED]
    kept = [i for i, label in enumerate(labels) if label is not None]
    skipped += [(str(rows[i]), "no label") for i, label in enumerate(labels) if label is None]
    present = {str(labels[i]) for i in kept}
    return Scan(
        files=[str(rows[i]) for i in kept],
        labels=[str(labels[i]) for i in kept],
        splits=[split_of(keys[i], fractions) for i in kept],
        headers=[headers[i] for i in kept],
        factors=_factors([others[i] for i in kept]),
        class_names=known if known and present <= set(known) else in_order(present),
        skipped=skipped,
        layout=f"a {type(items.dataset).__name__}",
        splits_given=False,
        rows=[rows[i] for i in kept],
        source=items,
    )


def _known_names(dataset: Any, column: str | None) -> list[str]:
    """Return the class names that a data set states, or an empty list."""
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping) and column in features:
        return [str(name) for name in getattr(features[column], "names", None) or ()]
    while hasattr(dataset, "dataset") and not hasattr(dataset, "classes"):
        dataset = dataset.dataset  # torch's Subset
    found = getattr(dataset, "classes", None)
    return [str(name) for name in found] if isinstance(found, list | tuple) else []


def _label(value: Any, known: Sequence[str]) -> str | None:
    """Return the class of an item, or None if it has none. Numbers count in ``known``."""
    value = _scalar(value)
    if value is None or value != value:
        return None
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    if isinstance(value, int):
        if not known:
            return str(value)
        return known[value] if 0 <= value < len(known) else None
    if isinstance(value, str):
        return value
    raise TypeError(
        f"label_column: expected a class number or a name for each item, got "
        f"{validate.describe(value)}"
    )


def _scalar(value: Any) -> Any:
    """Return the number in a tensor or an array with one element, and other values unchanged."""
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else value
    return value.item() if isinstance(value, np.ndarray | np.generic) and value.size == 1 else value


def _factors(others: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the numbers and texts of the items as a table."""
    single = [{k: _scalar(v) for k, v in each.items()} for each in others]
    plain = [
        {k: v for k, v in e.items() if isinstance(v, str | bool | int | float)} for e in single
    ]
    table = pd.DataFrame(plain, index=range(len(others)))
    for column in table:
        if not pd.api.types.is_numeric_dtype(table[column]):
            table[column] = table[column].astype(object)
    return table
