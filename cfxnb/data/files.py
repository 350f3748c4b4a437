"""Data files, checked against ``data/MANIFEST.json`` before they are used."""

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from cfxnb.core import locations as paths
from cfxnb.core.disk import NOTHING, cause, kind_of, read_json, sha256, writing

ENTRY = {"path": str, "bytes": int, "sha256": str}  # required fields of each entry of the manifest

REMEDY = (
    "Restore it with 'git checkout -- data' in the project's folder, or set CFXNB_HOME to the "
    "folder that holds data/."
)


class DamagedFileError(ValueError):
    """Raised if a data file is missing, truncated or altered.

    The error message names the data file, and says how to restore the file.
    """


@contextmanager
def reading(file: str) -> Iterator[None]:
    """Turn every exception in the ``with`` block into a DamagedFileError that names ``file``.

    The code in the ``with`` block reads a data file. Libraries that read a damaged file raise many
    kinds of exceptions.
    """
    try:
        yield
    except DamagedFileError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {cause(error)}"
        raise DamagedFileError(f"{file} is damaged ({text}). {REMEDY}") from None


@functools.cache
def _manifest(path: Path, modified: int) -> dict[str, dict[str, Any]]:
    entries = read_json(path)["entries"]
    for entry in entries:
        for key, kind in ENTRY.items():
            if type(entry[key]) is not kind:
                raise ValueError(f"{key} {entry[key]!r:.40} instead of a {kind.__name__}")
        place = PurePosixPath(entry["path"])
        if place.is_absolute() or ".." in place.parts:
            raise ValueError(f"path {str(place)!r:.80} outside of the folder")
    return {entry["path"]: entry for entry in entries}


def manifest() -> dict[str, dict[str, Any]]:
    """Return the entries of ``MANIFEST.json``: a dict, path relative to ``data/`` -> entry."""
    path = paths.data() / "MANIFEST.json"
    if (kind := kind_of(path)) in NOTHING:
        raise DamagedFileError(f"{path} is missing. {REMEDY}")
    if kind != "a file":
        raise DamagedFileError(f"{path} is not a readable file but {kind}. {REMEDY}")
    with reading(str(path)):
        return _manifest(path, path.stat().st_mtime_ns)


def problem(name: str) -> str | None:
    """Return a text that says what is wrong with a data file, or None if the file is right.

    Args:
        name: Path of the file relative to ``data/``.
    """
    entry = manifest().get(name)
    path = paths.data() / name
    if entry is None:
        return f"data/{name} is not listed in MANIFEST.json"
    if (kind := kind_of(path)) in NOTHING:
        return f"data/{name} is missing ({entry['bytes']} bytes expected)"
    if kind != "a file":
        return f"data/{name} is not a readable file but {kind}"
    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            return f"data/{name} has {size} bytes instead of {entry['bytes']}: truncated or altered"
        if sha256(path) != entry["sha256"]:
            return f"data/{name} does not match its checksum: damaged or altered"
    except OSError as error:
        return f"data/{name} can't be read: {cause(error)}"
    return None


@functools.cache
def _check_state(name: str, path: Path, size: int, modified: int) -> None:
    """Check a data file; it is checked again only if its size or modification time changes."""
    if (found := problem(name)) is not None:
        raise DamagedFileError(f"{found}. {REMEDY}")


def verified_path(name: str) -> Path:
    """Check the size and the SHA-256 digest of a data file, and return its path.

    Args:
        name: Path of the file relative to ``data/``.

    Raises:
        DamagedFileError: If the file is missing, truncated or altered.
    """
    path = paths.data() / name
    if kind_of(path) != "a file":
        raise DamagedFileError(f"{problem(name)}. {REMEDY}")
    state = path.stat()
    _check_state(name, path, state.st_size, state.st_mtime_ns)
    return path


def add_to_manifest(name: str, **facts: object) -> None:
    """Add a data file to ``MANIFEST.json``, or update the entry of the file.

    Args:
        name: Path of the file relative to ``data/``.
        facts: Further fields of the entry of the file, besides size and digest.
    """
    path, target = paths.data() / name, paths.data() / "MANIFEST.json"
    listed = {"entries": []} if kind_of(target) in NOTHING else read_json(target)
    entry = {"path": name, "bytes": path.stat().st_size, "sha256": sha256(path), **facts}
    others = [e for e in listed["entries"] if e["path"] != name]
    entries = sorted([*others, entry], key=lambda e: str(e["path"]))
    with writing(target, "MANIFEST.json") as partial:
        text = json.dumps({**listed, "entries": entries}, indent=1)
        partial.write_text(text + "\n", encoding="utf-8")
