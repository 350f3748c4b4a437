"""Data files, checked against ``data/MANIFEST.json`` before they are used."""

import functools
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from cfxnb.core import locations as paths
from cfxnb.core.disk import NOTHING, cause, kind_of, read_json, writing

ENTRY = {"path": str, "bytes": int, "sha256": str}  # what each entry of the manifest has at least

REMEDY = (
    "Restore it with 'git checkout -- data' in the project's folder, or set CFXNB_HOME to the "
    "folder that holds data/."
)


class DamagedFileError(ValueError):
    """A data file is missing, truncated or altered; the message names it and the remedy."""


@contextmanager
def whole(file: str) -> Iterator[None]:
    """Turn what goes wrong inside into a DamagedFile that names ``file`` and the remedy.

    For readers of files whose content is not what it should be: they fail in many ways.
    """
    try:
        yield
    except DamagedFileError:
        raise
    except Exception as error:  # each reader has errors of its own
        told = f"{type(error).__name__}: {cause(error)}"
        raise DamagedFileError(f"{file} is damaged ({told}). {REMEDY}") from None


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
    """The entries of ``MANIFEST.json`` by path relative to ``data/``."""
    path = paths.data() / "MANIFEST.json"
    if (kind := kind_of(path)) in NOTHING:
        raise DamagedFileError(f"{path} is missing. {REMEDY}")
    if kind != "a file":
        raise DamagedFileError(f"{path} is no file that can be read, but {kind}. {REMEDY}")
    with whole(str(path)):
        return _manifest(path, path.stat().st_mtime_ns)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def problem(name: str) -> str | None:
    """What is wrong with the file ``name`` (relative to ``data/``), or None if it is sound."""
    entry = manifest().get(name)
    path = paths.data() / name
    if entry is None:
        return f"data/{name} is not listed in MANIFEST.json"
    if (kind := kind_of(path)) in NOTHING:
        return f"data/{name} is missing ({entry['bytes']} bytes expected)"
    if kind != "a file":
        return f"data/{name} is no file that can be read, but {kind}"
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
def _sound(name: str, path: Path, size: int, modified: int) -> bool:
    """Remembers, for this exact state of the file, that its checksum was right."""
    if (found := problem(name)) is not None:
        raise DamagedFileError(f"{found}. {REMEDY}")
    return True


def checked(name: str) -> Path:
    """Path of the data file ``name`` (relative to ``data/``) after a check of size and sha256.

    Raises:
        DamagedFileError: if the file is missing, truncated or altered.
    """
    path = paths.data() / name
    if kind_of(path) != "a file":
        raise DamagedFileError(f"{problem(name)}. {REMEDY}")
    state = path.stat()
    _sound(name, path, state.st_size, state.st_mtime_ns)
    return path


def record(name: str, **facts: object) -> None:
    """List the file ``name`` in the manifest, or renew its entry (size, sha256, ``facts``)."""
    path, target = paths.data() / name, paths.data() / "MANIFEST.json"
    listed = {"entries": []} if kind_of(target) in NOTHING else read_json(target)
    entry = {"path": name, "bytes": path.stat().st_size, "sha256": sha256(path), **facts}
    others = [e for e in listed["entries"] if e["path"] != name]
    entries = sorted([*others, entry], key=lambda e: str(e["path"]))
    with writing(target, "MANIFEST.json") as partial:
        text = json.dumps({**listed, "entries": entries}, indent=1)
        partial.write_text(text + "\n", encoding="utf-8")
