"""Read and write paths, texts and JSON, with errors that name the path and the cause."""

import contextlib
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

DEPTH = 64  # how deep JSON may be nested; the deepest known file has 6
LARGEST_TEXT = 2**26  # bytes of a file of JSON
LONGEST = 240  # letters of a path in a message
NOTHING = ("nothing there", "a link to nothing")


def given_path(value: Any, wanted: str = "a str or os.PathLike", name: str = "path") -> Path:
    """Return a path as the caller gave it, with ``~`` replaced by the home folder.

    Args:
        value: The path.
        wanted: Description of what was expected, for the message.
        name: Name of the argument, for the message.

    Raises:
        ValueError, TypeError: If the value is not a path, or an empty text.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}: expected {wanted}, got {type(value).__name__} {value!r:.80}")
    text = os.fspath(value)
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected {wanted}, got a path of {type(text).__name__}")
    if not text:
        raise ValueError(f"{name}: expected {wanted}, got '': nothing there")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # a file may be called "~backup" although there is no such user
        return Path(text)


def kind_of(path: Path) -> str:
    """Return "a file", "a folder", or a description of what else is at a path."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return "a file"
        return "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
    except FileNotFoundError:
        return NOTHING[path.is_symlink()]
    except ValueError:  # a name with a null byte, which no file can have
        return NOTHING[0]
    except OSError as error:
        return cause(error)


def shown(path: Any) -> str:
    """Return a path as text for a message, without the middle if the path is very long."""
    text = repr(os.fspath(path))
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 :]}"


def cause(error: BaseException, max_letters: int = 160) -> str:
    """Return the reason of an error on one line, without the path, because messages name it."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if isinstance(error, SafetensorError):
        text = text.split(" at path ")[0]  # the path of a temporary file
    return " ".join(text.split())[:max_letters] or type(error).__name__


def parsed(raw: bytes | str, depth: int = DEPTH) -> Any:
    """Parse JSON in UTF-8.

    Args:
        raw: The text.
        depth: How deeply lists and dicts may be nested.

    Raises:
        ValueError: If the text is no JSON, not UTF-8, or nested too deeply.
    """
    try:
        value = json.loads(raw.decode("utf-8-sig") if isinstance(raw, bytes) else raw)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"text that is not UTF-8, at byte {error.start}") from None
    level, below = [value], 0
    while level := [part for each in level for part in _parts(each)]:
        below += 1
        if below > depth:
            raise ValueError(f"JSON that is nested deeper than {depth} times")
    return value


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: If nothing exists at ``path``.
        ValueError: If ``path`` is not a file, or if the file cannot be read, is too large, or holds
            no valid JSON.
    """
    if (kind := kind_of(path)) != "a file":
        raise FileNotFoundError(path) if kind in NOTHING else ValueError(kind)
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise ValueError(f"more than {LARGEST_TEXT // 2**20} MiB of JSON")
        return parsed(path.read_bytes())
    except OSError as error:
        raise ValueError(cause(error)) from None


def sha256(path: Path) -> str:
    """Return the SHA-256 digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def writing(path: Path, name: str = "path") -> Iterator[Path]:
    """Give the ``with`` block a temporary path, whose file replaces ``path`` at the end.

    Missing folders are created. If anything fails, an existing file at ``path`` is kept, and the
    temporary file is removed.

    Raises:
        ValueError: If the file cannot be written.
    """
    partial = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.partial")
    try:
        kind = kind_of(path)
        if kind not in ("a file", *NOTHING):
            raise OSError(kind)
        if "\0" in path.name:
            raise OSError("a name with a null byte")
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())  # some file systems tell only now that they are full
        partial.replace(path)
    except (OSError, UnicodeError, SafetensorError) as error:
        raise ValueError(
            f"{name}: expected a file that can be written, got {shown(path)}: {cause(error)}"
        ) from None
    finally:
        with contextlib.suppress(OSError, ValueError):
            partial.unlink(missing_ok=True)
