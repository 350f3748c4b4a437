"""Data files, checked against ``data/MANIFEST.json`` before they are used."""

import functools
import hashlib
import json
from pathlib import Path

from cfxnb import paths

REMEDY = (
    "Restore it with 'git checkout -- data' in the project's folder, or set CFXNB_HOME to the "
    "folder that holds data/."
)


class DamagedFile(ValueError):
    """A data file is missing, truncated or altered; the message names it and the remedy."""


@functools.cache
def _manifest(path: Path, modified: int) -> dict[str, dict]:
    entries = json.loads(path.read_text())["entries"]
    return {entry["path"]: entry for entry in entries}


def manifest() -> dict[str, dict]:
    """The entries of ``MANIFEST.json`` by path relative to ``data/``."""
    path = paths.data() / "MANIFEST.json"
    try:
        return _manifest(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        raise DamagedFile(f"{path} is missing. {REMEDY}") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DamagedFile(f"{path} is damaged ({error!r}). {REMEDY}") from None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def problem(name: str) -> str | None:
    """What is wrong with the file ``name`` (relative to ``data/``), or None if it is sound."""
    entry = manifest().get(name)
    path = paths.data() / name
    if entry is None:
        return f"data/{name} is not listed in MANIFEST.json"
    if not path.is_file():
        return f"data/{name} is missing ({entry['bytes']} bytes expected)"
    size = path.stat().st_size
    if size != entry["bytes"]:
        return f"data/{name} has {size} bytes instead of {entry['bytes']}: truncated or altered"
    if sha256(path) != entry["sha256"]:
        return f"data/{name} does not match its checksum: damaged or altered"
    return None


@functools.cache
def _sound(name: str, path: Path, size: int, modified: int) -> bool:
    """Remembers, for this exact state of the file, that its checksum was right."""
    if (found := problem(name)) is not None:
        raise DamagedFile(f"{found}. {REMEDY}")
    return True


def checked(name: str) -> Path:
    """Path of the data file ``name`` (relative to ``data/``) after a check of size and sha256.

    Raises:
        DamagedFile: if the file is missing, truncated or altered.
    """
    path = paths.data() / name
    if not path.is_file():
        raise DamagedFile(f"{problem(name)}. {REMEDY}")
    state = path.stat()
    _sound(name, path, state.st_size, state.st_mtime_ns)
    return path


def record(name: str, **facts: object) -> None:
    """List the file ``name`` in the manifest, or renew its entry (size, sha256, ``facts``)."""
    path, target = paths.data() / name, paths.data() / "MANIFEST.json"
    listed = json.loads(target.read_text()) if target.is_file() else {"entries": []}
    entry = {"path": name, "bytes": path.stat().st_size, "sha256": sha256(path), **facts}
    others = [e for e in listed["entries"] if e["path"] != name]
    entries = sorted([*others, entry], key=lambda e: str(e["path"]))
    target.write_text(json.dumps({**listed, "entries": entries}, indent=1) + "\n")
