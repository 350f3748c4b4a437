"""What a call keeps in its folder, so that a repeated call computes nothing twice.

The folder of a page holds in ``results`` one folder of shards per method (see ``core.streamed``),
and in ``work`` the flows and directions that methods needed. Beside each of them stands a key that
depends on the question: networks, images, targets and options. What has another key is removed and
computed again. Several processes take turns at this, by locks that the operating system frees if a
process dies.
"""

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from cfxnb.core.disk import cause, shown, writing

RESULTS, WORK = "results", "work"


def file_name(name: str) -> str:
    """Return a name as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "method"


def place_of(place: Path, what: str, space: str | None) -> Path:
    """Return the file that keeps a flow or a direction of a space."""
    return place / WORK / f"{what}_{file_name(space or 'space')}.safetensors"


def once(place: Path | None, key: str, kind: Any, compute: Callable[[], Any]) -> Any:
    """Return the object that a file keeps. If there is none, compute the object and keep it.

    Args:
        place: The file, or None to keep nothing.
        key: Depends on the question.
        kind: Class of the object, with ``save`` and ``load``.
        compute: Returns the object. While one process computes it, the others wait.
    """
    if place is None:
        return compute()
    with locked(place.parent, place.stem):
        if _same_key(place, key):
            with contextlib.suppress(ValueError, TypeError):  # it is missing or damaged
                return kind.load(place)
        else:
            place.unlink(missing_ok=True)
            shutil.rmtree(place.with_suffix(""), ignore_errors=True)  # unfinished work
            _write_key(place, key)
        compute().save(place)
        shutil.rmtree(place.with_suffix(""), ignore_errors=True)
        return kind.load(place)  # so that the first call and later ones have the same object


def folder_for(place: Path, name: str, key: str) -> Path:
    """Return the folder of the results of a method. Results of another question are removed."""
    found = place / RESULTS / file_name(name)
    note = place / WORK / found.name
    with locked(note.parent, f"results_{found.name}"):
        if not _same_key(note, key):
            shutil.rmtree(found, ignore_errors=True)
            _write_key(note, key)
    found.parent.mkdir(exist_ok=True)
    return found


@contextlib.contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Keep other processes out of the ``with`` block."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{name}.lock", thread_local=False)
        lock.acquire()
    except OSError as error:
        raise ValueError(
            f"output_dir: expected a folder that can be written, got {shown(folder)}: "
            f"{cause(error)}"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _note(place: Path) -> Path:
    return place.with_name(f"{place.stem}.key")


def _same_key(place: Path, key: str) -> bool:
    try:
        return _note(place).read_text(encoding="utf-8") == key
    except (OSError, UnicodeError):
        return False


def _write_key(place: Path, key: str) -> None:
    with writing(_note(place), "output_dir") as partial:
        partial.write_text(key, encoding="utf-8")
