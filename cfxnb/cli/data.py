"""List the data sets and the trained models that are included, or check a folder of images.

Without PATH, the command prints one line per data set and per model. With PATH, the command opens
each image of a folder, or of a table of file names (csv, tsv, parquet or jsonl). The command then
prints the number of images per class and per split, and the sizes and modes of the images. The
command also lists each file that cannot be used, with the reason.

The exit status is 0 if every file can be used, 1 if files were skipped, and 2 if none can be used.
"""

import argparse
import shutil
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from cfxnb import weights
from cfxnb.core.disk import given_path
from cfxnb.data.folder import Scan, check_options, scan_files
from cfxnb.data.listing import list_images
from cfxnb.data.splits import SPLITS, check_fractions

SETS = {
    "digits": "handwritten digits (MNIST), 1 x 32 x 32, ten classes",
    "sprites": "pixel-art figures whose factors are all known, 3 x 64 x 64",
    "faces": "photographs of faces, 3 x 64 x 64, smiling or not",
    "chest": "chest X-rays of children, 1 x 28 x 28 and 1 x 64 x 64",
}
MOST = 20  # lines of one list
USUAL = (28, 32, 64, 96, 128, 224, 256)  # sides that networks are made for


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("path", nargs="?", metavar="PATH", help="a folder of images, or a table")
    parser.add_argument("--all", action="store_true", help="list all skipped files and classes")
    parser.add_argument("--root", help="folder to which the file names in a table are relative")
    parser.add_argument("--file-column", help="column with the file names (default: file_name)")
    parser.add_argument("--label-column", help="column with the classes (default: label)")
    parser.add_argument(
        "--split-by",
        default="content",
        help="what the split of an image depends on: content, name, or a column such as patient",
    )
    parser.add_argument(
        "--follow-links", action="store_true", help="also read files that links in PATH point to"
    )


def run(chosen: argparse.Namespace) -> int:
    """Print the lists, or the check of a folder."""
    if chosen.path is None:
        print(shipped())
        return 0
    path = given_path(chosen.path)
    root = None if chosen.root is None else given_path(chosen.root, name="root")
    columns = chosen.file_column, chosen.label_column
    listing = list_images(path, root, *columns, None, chosen.follow_links)
    options = check_options(None, None, "crop", "skip", True, 2**26, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # everything is in the lists
        scan = scan_files(listing, chosen.split_by, check_fractions((0.8, 0.1, 0.1)), options)
    print(check_of(scan, str(chosen.path), chosen.split_by, None if chosen.all else MOST))
    return 2 if not scan.files else 1 if scan.skipped else 0


def shipped() -> str:
    """Return the lists of the data sets and of the models that are included."""
    table = weights.available()
    kinds = table["kind"].to_dict()
    models = [(name, kinds[name], what) for name, what in table["what"].items()]
    return "\n".join(
        [
            "Data sets: cfx.data.NAME(split)",
            *_table([(name, "data", what) for name, what in SETS.items()]),
            "",
            "Models: cfx.load(NAME)",
            *_table(models),
            "",
            "Images of your own: python -m cfxnb data PATH",
        ]
    )


def check_of(scan: Scan, path: str, split_by: str, most: int | None) -> str:
    """Return the check of a folder as a text.

    Args:
        scan: What was found.
        path: The folder, as the user named it.
        split_by: What the split of an image depends on, see ``cfx.data.folder``.
        most: Largest number of lines per list, or None for all.
    """
    total = len(scan.files) + len(scan.skipped)
    classes = Counter(scan.labels)
    sizes = Counter((h.height, h.width) for h in scan.headers)
    splits = Counter(scan.splits)
    lines = [
        f"{path}: {scan.layout}",
        "",
        *_entry("images", [f"{len(scan.files):,} of {total:,} files can be used"]),
    ]
    if not scan.files:
        return "\n".join([*lines, *_skipped(scan, most)])
    named = [f"{classes[name]:>8,}  {name}" for name in scan.class_names]
    lines += _entry("classes", _shortened(named, most))
    lines += _entry("sizes", _sizes(sizes))
    lines += _entry("modes", [_counted(Counter(h.mode for h in scan.headers))])
    lines += _entry("splits", [f"{splits[name]:>8,}  {name}" for name in SPLITS])
    own = "stated by the folder" if scan.splits_given else f"by a hash of the {split_by}"
    lines += _entry("", [own])
    if len(scan.factors.columns):
        lines += _entry("factors", _shortened(_factors(scan.factors), most))
    lines += _skipped(scan, most)
    size = "" if len(sizes) == 1 else f", size={_usual(sizes)}"
    lines += ["", *_entry("in Python", [f"cfx.data.folder({path!r}, 'train'{size})"])]
    return "\n".join(lines)


def _sizes(sizes: Counter[tuple[int, int]]) -> list[str]:
    if len(sizes) == 1:
        return ["{} x {} pixels (height x width)".format(*next(iter(sizes)))]
    heights, widths = zip(*sizes, strict=True)
    often = [f"{n:>8,}  {h} x {w}" for (h, w), n in sizes.most_common(5)]
    more = [f"          and {len(sizes) - 5:,} other sizes"] if len(sizes) > 5 else []
    span = f"height {min(heights)} to {max(heights)}, width {min(widths)} to {max(widths)} pixels"
    return [span, *often, *more, "several sizes: size= is needed"]


def _usual(sizes: Counter[tuple[int, int]]) -> int:
    """Return the largest usual size, such as 64, that enlarges no image, or the smallest one."""
    least = min(min(size) for size in sizes)
    return max((side for side in USUAL if side <= least), default=USUAL[0])


def _factors(table: pd.DataFrame) -> list[str]:
    lines = []
    for name, column in table.items():
        known = column.dropna()
        gaps = f", {len(column) - len(known):,} gaps" if len(known) < len(column) else ""
        if not len(known):
            what = "no values"
        elif pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known):
            what = f"{known.min():.4g} to {known.max():.4g}"
        else:
            values = known.astype(str)
            few = ", ".join(sorted(values.unique())[:4])
            what = f"{values.nunique():,} values: {few}{' ...' if values.nunique() > 4 else ''}"
        lines.append(f"{name}: {what}{gaps}")
    return lines


def _skipped(scan: Scan, most: int | None) -> list[str]:
    told = [f"{name}: {reason}" for name, reason in scan.skipped]
    return _entry("skipped", [f"{len(told):,}", *_shortened(told, most)] if told else ["none"])


def _counted(count: Counter[str]) -> str:
    return ", ".join(f"{mode} {n:,}" for mode, n in count.most_common())


def _shortened(lines: Sequence[str], most: int | None) -> list[str]:
    if most is None or len(lines) <= most:
        return list(lines)
    return [*lines[:most], f"... and {len(lines) - most:,} more (--all lists them)"]


def _entry(name: str, lines: Iterable[str]) -> list[str]:
    """Put a name before the first of several lines, and return them."""
    return [f"{name if i == 0 else '':<11}{line}" for i, line in enumerate(lines)]


def _table(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return rows (name, kind, summary) as lines that fit the width of the terminal."""
    wide = [max(len(str(row[i])) for row in rows) for i in range(2)]
    left = sum(wide) + 6
    room = max(30, shutil.get_terminal_size((100, 24)).columns - left)
    lines = []
    for name, kind, what in rows:
        first, *rest = textwrap.wrap(str(what), room) or [""]
        lines.append(f"  {name:<{wide[0]}}  {kind:<{wide[1]}}  {first}".rstrip())
        lines += [" " * left + line for line in rest]
    return lines
