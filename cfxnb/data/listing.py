"""List the images of a folder: by class folders, or by a table of names, labels and factors.

Nothing is decoded here. Names that leave the folder, and rows that cannot be used, are listed with
the reason.
"""

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from cfxnb.core.disk import cause, kind_of, shown
from cfxnb.data.read_image import looks_like_image

TABLES = (".csv", ".tsv", ".parquet", ".jsonl")
METADATA = tuple(f"metadata{ending}" for ending in TABLES)  # as Hugging Face's imagefolder has it
FILE_COLUMNS = ("file_name", "filename", "file", "path", "image", "image_path", "image_id")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "target")
SYSTEM = ("thumbs.db", "desktop.ini", "__macosx")  # written by operating systems
#: Names of folders and values of a column that stand for a split.
GIVEN_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
UNLABELLED = "unlabelled"


@dataclasses.dataclass
class Listing:
    """The images of a folder before any of them is opened.

    Attributes:
        root: The folder.
        files: Name of each image, relative to ``root``.
        labels: Name of each image's class.
        class_names: Names of all classes, in their order.
        splits: The split of each image that the folder itself states, or None.
        factors: One row per image.
        skipped: Pairs of file and reason.
        layout: How images and labels were found, in a few words.
    """

    root: Path
    files: list[str]
    labels: list[str]
    class_names: list[str]
    splits: list[str] | None
    factors: pd.DataFrame
    skipped: list[tuple[str, str]]
    layout: str


def list_images(
    path: Path,
    root: Path | None,
    file_column: str | None,
    label_column: str | None,
    factors: Sequence[str] | None,
    follow_links: bool,
) -> Listing:
    """Return the images of a folder, or of the table ``path``. See ``cfxnb.data.folder``."""
    kind = kind_of(path)
    if kind == "a file" and path.suffix.lower() in TABLES:
        where = path.parent if root is None else root
        return _of_table(path, where, "", file_column, label_column, factors, follow_links)
    if kind != "a folder":
        raise ValueError(
            f"path: expected a folder of images, or a table ({', '.join(TABLES)}), got "
            f"{shown(path)}: {kind}"
        )
    if root is not None:
        raise ValueError("root: expected None, unless path is a table; got a folder for both")
    if (own := _metadata(path)) is not None:
        return _of_table(own, path, "", file_column, label_column, factors, follow_links)
    below = [e.name for e in os.scandir(path) if e.is_dir() and not _hidden(e.name)]
    given = {name: GIVEN_SPLITS[name.lower()] for name in below if name.lower() in GIVEN_SPLITS}
    has_splits = "train" in given.values() and len(given) == len(below)
    tables = {name: _metadata(path / name) for name in given} if has_splits else {}
    if any(tables.values()):
        parts = [
            _of_table(table, path, name, file_column, label_column, factors, follow_links)
            for name, table in tables.items()
            if table is not None
        ]
        return _joined(parts)
    for name, value in (("file_column", file_column), ("label_column", label_column)):
        if value is not None:
            raise ValueError(
                f"{name}: expected None, as {shown(path)} has no table such as {METADATA[0]}, got "
                f"{value!r:.80}"
            )
    if factors is not None:
        raise ValueError(f"factors: expected None, as {shown(path)} has no table, got some")
    return _of_class_folders(path, given if has_splits else None, follow_links)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM


def _metadata(path: Path) -> Path | None:
    found = [path / name for name in METADATA if kind_of(path / name) == "a file"]
    if len(found) > 1:
        names = " and ".join(f.name for f in found)
        raise ValueError(
            f"path: expected one table in {shown(path)}, got {names}; "
            "pass the path of the right one"
        )
    return found[0] if found else None


def _of_class_folders(root: Path, given: dict[str, str] | None, follow_links: bool) -> Listing:
    skipped: list[tuple[str, str]] = []
    names = sorted(_walk(root, follow_links, skipped))
    depth = 0 if given is None else 1  # of the class in the name
    inside = [PurePosixPath(name).parts for name in names]
    looks = [looks_like_image(name) or not PurePosixPath(name).suffix for name in names]
    classes = {p[depth] for p, ok in zip(inside, looks, strict=True) if ok and len(p) > depth + 1}
    files, labels = [], []
    for name, parts, ok in zip(names, inside, looks, strict=True):
        if not ok:
            skipped.append((name, "not an image, by the ending of its name"))
        elif classes and len(parts) < depth + 2:
            skipped.append((name, "in no class folder"))
        else:
            files.append(name)
            labels.append(parts[depth] if classes else UNLABELLED)
    splits = None if given is None else [given[name.split("/")[0]] for name in files]
    return Listing(
        root=root,
        files=files,
        labels=labels,
        class_names=in_order(classes) or [UNLABELLED],
        splits=splits,
        factors=pd.DataFrame(index=range(len(files))),
        skipped=skipped,
        layout="class folders" if classes else "a folder without classes",
    )


def _walk(root: Path, follow_links: bool, skipped: list[tuple[str, str]]) -> Iterator[str]:
    """Yield the name of each file below ``root``. Links out of ``root`` are listed as skipped."""
    home, seen = os.path.realpath(root), set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(root / folder)
        if real in seen:  # a circle of links
            skipped.append((folder, "a link to a folder that is already listed"))
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(root / folder), key=lambda e: e.name)
        except OSError as error:
            skipped.append((folder or ".", cause(error)))
            continue
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if _hidden(entry.name):
                continue
            if entry.is_symlink() and not follow_links and not within(root / name, home):
                skipped.append((name, "a link that leaves the folder; see follow_links="))
            elif entry.is_dir():
                if entry.is_symlink() and not follow_links:
                    skipped.append((name, "a link to a folder; see follow_links="))
                else:
                    waiting.append(name)
            else:
                yield name


def within(path: Path, home: str) -> bool:
    """Return whether a path, after all links, is inside of the folder ``home`` (a real path)."""
    real = os.path.realpath(path)
    return real == home or real.startswith(home.rstrip(os.sep) + os.sep)


def _of_table(
    path: Path,
    root: Path,
    prefix: str,
    file_column: str | None,
    label_column: str | None,
    factors: Sequence[str] | None,
    follow_links: bool,
) -> Listing:
    """Return the images that a table lists. ``prefix`` is the table's folder below ``root``."""
    table, file_column = _read_table(path, file_column)
    label_column, classes = _labels(table, label_column, file_column)
    split_column = next((c for c in table if str(c).lower() == "split"), None)
    known = [c for c in table if c not in (file_column, label_column, split_column)]
    chosen = known if factors is None else list(factors)
    if missing := [c for c in chosen if c not in known]:
        raise ValueError(
            f"factors: expected columns of {path.name}, out of {known}, got {missing[0]!r:.80}"
        )
    columns = pd.DataFrame({c: _plain_column(table[c]) for c in chosen}, index=table.index)
    gaps = columns.isna() if factors is not None else None

    home, skipped, kept, files = os.path.realpath(root), [], [], []
    listed: dict[str, list[int]] = {}
    values = table.drop(columns=file_column)
    for row, value in enumerate(table[file_column]):
        name, reason = _inside(value, prefix, root, home, follow_links)
        if reason:
            skipped.append((name, reason))
        else:
            listed.setdefault(name, []).append(row)
    for name, (row, *again) in listed.items():
        if any(not values.iloc[r].equals(values.iloc[row]) for r in again):
            skipped.append((name, f"listed {len(again) + 1} times with different values"))
            continue
        skipped += [(name, "listed again")] * len(again)
        if classes is not None and classes[row] is None:
            skipped.append((name, f"no label in column {label_column!r}"))
        elif gaps is not None and gaps.iloc[row].any():
            skipped.append((name, f"no value for {columns.columns[gaps.iloc[row]][0]!r}"))
        else:
            kept.append(row)
            files.append(name)
    names = [UNLABELLED] if classes is None else in_order({c for c in classes if c is not None})
    splits = None
    if split_column is not None:
        splits = [GIVEN_SPLITS.get(str(v).lower(), "") for v in table[split_column].iloc[kept]]
        if "" in splits:
            came = str(table[split_column].iloc[kept].iloc[splits.index("")])
            raise ValueError(
                f"path: expected train, validation or test in the column {split_column!r} of "
                f"{path.name}, got {came!r:.80}"
            )
    elif prefix:
        splits = [GIVEN_SPLITS[prefix.lower()]] * len(kept)
    return Listing(
        root=root,
        files=files,
        labels=[UNLABELLED] * len(kept) if classes is None else [str(classes[r]) for r in kept],
        class_names=names,
        splits=splits,
        factors=columns.iloc[kept].reset_index(drop=True),
        skipped=skipped,
        layout=f"the table {path.name}",
    )


def _joined(parts: list[Listing]) -> Listing:
    """Return one listing of the tables in the folders of several splits."""
    return Listing(
        root=parts[0].root,
        files=[f for p in parts for f in p.files],
        labels=[label for p in parts for label in p.labels],
        class_names=in_order({c for p in parts for c in p.class_names}),
        splits=[s for p in parts for s in p.splits or ()],
        factors=pd.concat([p.factors for p in parts], ignore_index=True),
        skipped=[s for p in parts for s in p.skipped],
        layout="a table for each split",
    )


def _read_table(path: Path, file_column: str | None) -> tuple[pd.DataFrame, str]:
    """Return a table, and its column of file names."""
    ending, separator = path.suffix.lower(), "\t" if path.suffix.lower() == ".tsv" else ","
    text = ending in (".csv", ".tsv")
    try:
        if text:
            columns = list(pd.read_csv(path, sep=separator, nrows=0).columns)
        elif ending == ".parquet":
            table = pd.read_parquet(path)
            columns = list(table.columns)
        else:
            table = pd.read_json(path, lines=True, dtype=False, convert_dates=False)
            columns = list(table.columns)
        found = file_column
        if found is None:
            found = next((c for n in FILE_COLUMNS for c in columns if str(c).lower() == n), None)
        if found in columns and text:
            # Names such as 007 are texts, and so are labels, whatever they look like.
            kinds = {c: str for c in columns if c == found or str(c).lower() in LABEL_COLUMNS}
            table = pd.read_csv(path, sep=separator, dtype=kinds)
    except Exception as error:  # a damaged table raises many kinds of errors
        raise ValueError(f"path: expected a table, got {shown(path)}: {cause(error)}") from None
    if len(columns) != len(set(columns)):
        raise ValueError(f"path: expected distinct columns in {shown(path)}, got {columns}")
    if found not in columns:
        wanted = "a column of file names" if file_column is None else "a column of the table"
        raise ValueError(
            f"file_column: expected {wanted}, out of {columns}, got {file_column!r:.80}"
        )
    return table, str(found)


def _labels(
    table: pd.DataFrame, column: str | None, file_column: str
) -> tuple[str | None, list[str | None] | None]:
    """Return the column of labels, and the class of each row; (None, None) without labels."""
    named = column is not None
    if named and (column not in table or column == file_column):
        raise ValueError(
            f"label_column: expected a column of the table, out of {list(table.columns)}, got "
            f"{column!r:.80}"
        )
    if not named:
        free: list[Any] = [c for c in table if c != file_column]
        column = next((c for n in LABEL_COLUMNS for c in free if str(c).lower() == n), None)
        if column is None:
            return None, None
    classes = [_class_of(value) for value in table[column]]
    fractions = [c for c in classes if c is not None and re.fullmatch(r"-?\d*\.\d+(e-?\d+)?", c)]
    if fractions and named:
        raise ValueError(
            f"label_column: expected classes, got numbers such as {fractions[0]} in {column!r}; "
            "numbers are factors, see factors="
        )
    return (None, None) if fractions else (column, classes)


def _class_of(value: Any) -> str | None:
    """Return the name of a class, or None for a missing one. 3.0 becomes "3"."""
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    text = str(value).strip()
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text) or None


def in_order(names: set[str]) -> list[str]:
    """Return the names of classes in order: whole numbers by size, other names as texts."""
    if all(re.fullmatch(r"-?\d+", name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _inside(
    value: Any, prefix: str, root: Path, home: str, follow_links: bool
) -> tuple[str, str | None]:
    """Return a name in a table relative to ``root``, and the reason if it cannot be used."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return str(value)[:80], "no file name"
    name = value.strip()
    if "\\" in name and not (root / prefix / name).exists():
        name = name.replace("\\", "/")  # written on Windows
    place = os.path.normpath(os.path.join(root, prefix, name))
    base = os.path.normpath(root)
    if not place.startswith(base.rstrip(os.sep) + os.sep):
        return name, "outside of the folder; see root="
    relative = Path(place).relative_to(base).as_posix()
    if not os.path.lexists(place):
        return relative, "missing"
    if not follow_links and not within(Path(place), home):
        return relative, "a link that leaves the folder; see follow_links="
    return relative, None


def _plain_column(column: pd.Series) -> pd.Series:
    """Return a column with a numpy dtype. Missing and infinite values become NaN."""
    if pd.api.types.is_bool_dtype(column) and not column.isna().any():
        return column.astype(bool)
    if pd.api.types.is_numeric_dtype(column):
        if column.isna().any() or column.dtype.kind == "f":
            numbers = column.astype(float)
            return numbers.where(np.isfinite(numbers), np.nan)
        return column.astype(np.int64)
    texts = column.astype(object)
    return texts.where(column.notna(), np.nan)
