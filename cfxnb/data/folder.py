"""Read a folder of images of any format and size as a data set."""

import dataclasses
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from cfxnb.core import progress, validate
from cfxnb.core.disk import given_path
from cfxnb.data.lazy_imageset import LazyImageSet
from cfxnb.data.listing import Listing, list_images
from cfxnb.data.read_image import (
    RESIZE,
    Header,
    ImageFormat,
    check_pixels,
    opened,
    read_bytes,
    to_tensor,
)
from cfxnb.data.splits import SPLITS, check_fractions, digest, split_of

MAX_SIDE = 4096  # largest height and width of the images of a set
SHOWN = 5  # files in a message


def folder(
    path: str | PathLike[str],
    split: str | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "crop",
    class_names: Sequence[str] | Mapping[Any, Any] | None = None,
    file_column: str | None = None,
    label_column: str | None = None,
    factors: Sequence[str] | None = None,
    root: str | PathLike[str] | None = None,
    split_by: str = "content",
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    errors: str = "skip",
    verify: bool = True,
    max_pixels: int = 2**26,
    white_value: float | None = None,
    follow_links: bool = False,
) -> LazyImageSet:
    """Read a folder of images as a data set. The images are read when they are used.

    The folder has one of three layouts. **Class folders**: one folder per class, with images at any
    depth. **A table**: a file ``metadata.csv`` (or ``.tsv``, ``.parquet``, ``.jsonl``) beside the
    images, as in ``imagefolder`` of Hugging Face datasets, or another table whose path is passed.
    **Plain**: images without classes, which get the label 0 and the class name "unlabelled".

    Files are read by their content: AVIF, BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TIFF and WebP.
    Transparent parts become white. Palettes, CMYK and other colour models become RGB, and the EXIF
    orientation is applied. Colour profiles are ignored. Gray images of 16 bits keep their
    precision; colour images of 16 bits are read with 8 bits.

    **Splits.** Each image belongs to "train", "validation" or "test" by a hash of its content.
    Adding, removing, renaming or relabelling images moves no other image, and copies of an image
    are always in the same split. If the folder states its own splits, these are used: as folders
    named "train", "val" and "test" above the class folders, or as a column "split" of the table.

    Args:
        path: The folder, or a table of file names, labels and factors.
        split: ``"train"``, ``"validation"``, ``"test"``, or None for all images. Default: None.
        size: Height and width of the images in pixels: one number for both, or a pair. Default:
            None, for images that all have one size already.
        channels: 1 for gray images, 3 for colour. Default: 3 if any file has colour.
        resize: What happens to images of other proportions than ``size``. ``"crop"`` cuts off what
            is not in the middle, ``"pad"`` adds white borders, and ``"stretch"`` distorts. All of
            them are antialiased. Default: ``"crop"``.
        class_names: Names of the classes in the order of the classifier's outputs, or a dict such
            as ``id2label``. Default: the names in alphabetical order, or in numerical order if all
            are whole numbers.
        file_column: Column of the table with the file names, relative to ``root``. Default:
            "file_name", or another usual name.
        label_column: Column of the table with the class of each image. Default: "label", or another
            usual name, unless its values are fractional numbers.
        factors: Columns of the table that become factors. Images without a value in one of these
            columns are skipped. Default: all other columns. Missing values in these columns stay
            NaN.
        root: Folder that the names in a table refer to. Default: the folder of the table.
        split_by: What the split of an image depends on: ``"content"``, ``"name"`` (the name
            relative to the folder, faster if ``verify`` is False), or a column of the table, such
            as a patient's number. Images with the same value are in the same split. Default:
            ``"content"``.
        fractions: Expected fractions of the images in train, validation and test. Default: 0.8,
            0.1 and 0.1.
        errors: ``"skip"`` leaves out images that cannot be used. The table ``skipped`` of the
            result lists them with the reason, and one warning is given. ``"raise"`` raises a
            ValueError instead. Default: ``"skip"``.
        verify: Whether each file is decoded once now. If False, only the headers are read, which is
            faster, and a truncated file raises an error when it is used. Default: True.
        max_pixels: Largest number of pixels of an image. A file whose header states more is skipped
            before it is decoded. Default: 2**26, for example 8192 x 8192.
        white_value: Pixel value of white in images of more than 8 bits, such as 4095 for 12 bits.
            Default: 65535 for 16-bit integers, and 1 for floats.
        follow_links: Whether links out of the folder, and links to folders, are followed. Default:
            False.

    Returns:
        A LazyImageSet: ``data[0:64]`` reads 64 images, and ``data.images`` reads all. The index of
        ``factors`` holds the file names.

    Raises:
        ValueError, TypeError: If an argument is wrong, if no image can be used, if the images have
            several sizes and ``size`` is None, or if a file is broken and ``errors`` is "raise".
    """
    options = check_options(size, channels, resize, errors, verify, max_pixels, white_value)
    named = validate.optional(validate.class_names, class_names, "class_names")
    if split is not None:
        validate.choice(split, "split", SPLITS)
    for name, value in (("file_column", file_column), ("label_column", label_column)):
        validate.optional(validate.text, value, name)
    chosen = None if factors is None else validate.texts(factors, "factors")
    validate.text(split_by, "split_by")
    parts = check_fractions(fractions)
    validate.flag(follow_links, "follow_links")
    place = given_path(path)
    where = None if root is None else given_path(root, name="root")
    listing = list_images(place, where, file_column, label_column, chosen, follow_links)
    scan = scan_files(listing, split_by, parts, options)
    return make_set(scan, split, named, options, str(path))


@dataclasses.dataclass(frozen=True)
class Options:
    """Checked arguments that ``folder`` and ``from_dataset`` share."""

    size: tuple[int, int] | None
    channels: int | None
    resize: str
    errors: str
    verify: bool
    max_pixels: int
    white_value: float | None


def check_options(
    size: Any,
    channels: Any,
    resize: Any,
    errors: Any,
    verify: Any,
    max_pixels: Any,
    white_value: Any,
) -> Options:
    """Check the arguments that ``folder`` and ``from_dataset`` share."""
    if size is not None:
        pair = isinstance(size, tuple | list)
        sides = validate.listed(size, "size", "sides") if pair else [size, size]
        if len(sides) != 2:
            raise ValueError(f"size: expected a number or (height, width), got {size!r:.80}")
        size = tuple(validate.count(side, "size", 1, MAX_SIDE) for side in sides)
    if channels is not None and validate.count(channels, "channels", 1) not in (1, 3):
        raise ValueError(f"channels: expected 1 for gray or 3 for colour, got {channels}")
    limit = Image.MAX_IMAGE_PIXELS or validate.LARGEST
    return Options(
        size=size,
        channels=channels,
        resize=validate.choice(resize, "resize", RESIZE),
        errors=validate.choice(errors, "errors", ("skip", "raise")),
        verify=validate.flag(verify, "verify"),
        max_pixels=validate.count(max_pixels, "max_pixels", 1, limit),
        white_value=None
        if white_value is None
        else validate.number(white_value, "white_value", 0, open_low=True),
    )


@dataclasses.dataclass
class Scan:
    """What was found in a folder or a data set, before a split is chosen.

    Attributes:
        files, labels, splits: Name, class and split of each image that can be used.
        headers: Size and mode of each image.
        factors: One row per image.
        class_names: Names of all classes, in their order.
        skipped: Pairs (file, reason why it was skipped).
        layout: Layout of the folder in a few words, such as "class folders".
        splits_given: Whether the folder states the splits itself.
        rows: Position of each image in ``source``.
        source: Function that returns an image (c, h, w), given a position and an ImageFormat.
    """

    files: list[str]
    labels: list[str]
    splits: list[str]
    headers: list[Header]
    factors: pd.DataFrame
    class_names: list[str]
    skipped: list[tuple[str, str]]
    layout: str
    splits_given: bool
    rows: list[int]
    source: Any


def scan_files(
    listing: Listing, split_by: str, fractions: Sequence[float], options: Options
) -> Scan:
    """Open each file of a listing once, and return those that can be used as a Scan."""
    column = None if split_by in ("content", "name") else split_by
    if column is not None and column not in listing.factors:
        raise ValueError(
            f"split_by: expected 'content', 'name' or a column out of "
            f"{list(listing.factors.columns)}, got {split_by!r:.80}"
        )
    files = Files(listing.root, listing.files)
    rows, headers, keys, skipped = [], [], [], list(listing.skipped)
    for row, name in enumerate(progress.each(listing.files, "checking images")):
        try:
            found, content_key = files.check(row, options)
            if column is not None and pd.isna(listing.factors[column].iloc[row]):
                raise ValueError(f"no value for {column!r}, on which the split depends")
        except ValueError as error:
            skipped.append((name, str(error)))
            continue
        rows.append(row)
        headers.append(found)
        if column is not None:
            keys.append(digest(str(listing.factors[column].iloc[row])))
        else:
            keys.append(digest(name) if split_by == "name" else content_key)
    own = listing.splits
    return Scan(
        files=[listing.files[row] for row in rows],
        labels=[listing.labels[row] for row in rows],
        splits=[own[r] for r in rows]
        if own is not None
        else [split_of(key, fractions) for key in keys],
        headers=headers,
        factors=listing.factors.iloc[rows].reset_index(drop=True),
        class_names=listing.class_names,
        skipped=skipped,
        layout=listing.layout,
        splits_given=own is not None,
        rows=rows,
        source=files,
    )


@dataclasses.dataclass(frozen=True)
class Files:
    """Reads the images of a folder by their positions."""

    root: Path
    names: list[str]

    def check(self, row: int, options: Options) -> tuple[Header, bytes]:
        """Return the header of an image and the digest of its file."""
        content = read_bytes(self.root / self.names[row])
        with opened(content, options.max_pixels) as (picture, header):
            if options.verify:
                check_pixels(picture, options.white_value)
            return header, digest(content)

    def __call__(self, row: int, how: ImageFormat) -> Tensor:
        try:
            with opened(read_bytes(self.root / self.names[row]), how.max_pixels) as (picture, _):
                return to_tensor(picture, how)
        except ValueError as error:
            raise ValueError(
                f"images: expected files that can be read, got {self.names[row]!r:.200}: {error}; "
                "cfx.data.folder(..., verify=True) leaves such files out"
            ) from None


def make_set(
    scan: Scan,
    split: str | None,
    class_names: Sequence[str] | None,
    options: Options,
    name: str,
    argument: str = "path",
) -> LazyImageSet:
    """Return the images of one split as a LazyImageSet.

    Args:
        scan, split, class_names, options: What was found, and the checked arguments.
        name: Name of the folder or of the data set, for ``source``.
        argument: Name of the argument with the folder or the data set, for messages.
    """
    skipped = pd.DataFrame(scan.skipped, columns=["file", "reason"], dtype=object)
    tell_skipped(scan, options.errors, argument)
    chosen = np.array([split in (None, each) for each in scan.splits], dtype=bool)
    if not chosen.any():
        if not len(chosen):
            raise ValueError(f"{argument}: expected images that can be used, got none{_some(scan)}")
        count = Counter(scan.splits)
        found = ", ".join(f"{each} {count[each]:,}" for each in SPLITS if count[each])
        raise ValueError(f"split: expected one that has images ({found}), got {split!r}")
    names = tuple(scan.class_names if class_names is None else class_names)
    if unknown := sorted(set(scan.labels) - set(names)):
        raise ValueError(
            f"class_names: expected all classes of the images, {scan.class_names}, got none for "
            f"{unknown[0]!r:.80}"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"class_names: expected distinct names, got {list(names)}")
    sizes = Counter((h.height, h.width) for h in scan.headers)
    if options.size is None and len(sizes) > 1:
        low, high = min(sizes, key=np.prod), max(sizes, key=np.prod)
        raise ValueError(
            f"size: expected one, because the images have {len(sizes)} sizes (height x width "
            f"{low[0]}x{low[1]} to {high[0]}x{high[1]}), got None; pass for example size=64"
        )
    height, width = options.size or next(iter(sizes))
    channels = options.channels or (1 if all(h.gray for h in scan.headers) else 3)
    how = ImageFormat(
        (height, width), channels, options.resize, options.white_value, options.max_pixels
    )
    factors = scan.factors.set_axis(pd.Index(scan.files, dtype=object, name="file"))[chosen]
    numbers = {each: i for i, each in enumerate(names)}
    labels = torch.tensor([numbers[each] for each in scan.labels], dtype=torch.int64)
    part = "" if split is None else f"{split} part of "
    return LazyImageSet(
        labels=labels[torch.from_numpy(chosen)],
        class_names=names,
        factors=factors,
        shape=(channels, height, width),
        source=f"{part}{name}",
        skipped=skipped,
        read=partial(scan.source, how=how),
        rows=np.array(scan.rows, dtype=np.int64)[chosen],
    )


def tell_skipped(scan: Scan, errors: str, argument: str) -> None:
    """Warn about files that are skipped and about gaps, or raise ValueError if asked for."""
    if scan.skipped:
        total = len(scan.skipped) + len(scan.files)
        if errors == "raise":
            raise ValueError(
                f"{argument}: expected only images that can be used, got {len(scan.skipped)} of "
                f"{total} that cannot{_some(scan)}"
            )
        warnings.warn(
            f"cfx.data: {len(scan.skipped)} of {total} files were skipped{_some(scan)}; the table "
            "'skipped' of the data set lists all",
            stacklevel=4,
        )
    gaps = scan.factors.isna().sum()
    if gaps.any():
        worst = ", ".join(f"{count} in {name!r}" for name, count in gaps[gaps > 0][:SHOWN].items())
        warnings.warn(
            f"cfx.data: factors have gaps ({worst}), which stay NaN; factors=[...] names the "
            "columns that every image must have",
            stacklevel=4,
        )


def _some(scan: Scan) -> str:
    """Return the first skipped files with their reasons, as the end of a message."""
    told = "; ".join(f"{name!r:.60}: {reason}" for name, reason in scan.skipped[:SHOWN])
    return f" ({told}{' ...' if len(scan.skipped) > SHOWN else ''})" if told else ""
