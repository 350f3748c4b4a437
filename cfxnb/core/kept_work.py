"""Folders of kept work: one user at a time, one question each, and files that are checked.

Work that takes hours is kept in a folder, so that a process that died can be followed by another.
What is found there later must be an answer to the question that is asked now, whole and unaltered;
everything else is refused, with the reason. A search keeps the answers of a black box
(``directions.query_log``), a training its last checkpoint (``core.training``).
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import uuid
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.torch
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from torch.nn import functional as F

from cfxnb.core.disk import LARGEST_TEXT, cause, given_path, shown

LOCK = "folder.lock"
PARTIAL = ".cfxnb.partial"  # no program of others gives files such names: these are deleted
ROOM = f"room{PARTIAL}"
SYSTEM = ("Thumbs.db", "desktop.ini")  # as .DS_Store: what systems put into any folder
FORMAT = 1  # of the files; raised when a later version could misread them
LARGEST_HEADER = 2**24  # bytes of what a file tells of its tensors; it is read before they are
SUMS = 16  # numbers in a sketch
TOLERANCE = 1e-3  # of the spread of answers; another processor changes less, another network more
ROUNDING = 1e-5  # of their size: what float32 leaves of large answers that hardly differ


class Kept:
    """A folder of kept work, open for this process and thread alone.

    Its record, a JSON file, tells what was asked. Each file is sealed: it carries its own name, the
    number of its folder, and a digest of its content. Files are replaced as a whole: a process
    that dies while it writes leaves the old file, or none.

    Args:
        folder: made, if there is none. One in which something else was asked is refused, and so
            is one with other files and without a record. Hidden files don't count.
        record: name of the record's file.
        asked: everything that the work depends on, as JSON values.
        noted: what is written down beside it, and may differ, as JSON values.

    Attributes:
        noted: what was written down when the folder was begun.

    Raises:
        ValueError: if the folder can't be used, naming it and the reason: others use it, it is
            that of another question, it can't be read or written, its record is damaged.
    """

    def __init__(
        self, folder: Path, record: str, asked: Mapping[str, Any], noted: Any = None
    ) -> None:
        self.folder, self.record = folder, record
        with self._errors("opened"):
            if "\0" in str(folder):
                raise ValueError(f"folder: expected a path, got {str(folder)!r}")
            if folder.exists() and not folder.is_dir():
                raise ValueError(f"folder: expected a folder, got the file {folder}")
            self._check_foreign()  # before anything is left in it
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
        try:
            with self._errors("opened"):
                self._check_foreign()
                self._clean()
                self.number, self.noted = self._begin(asked, noted)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others use the folder. A process that dies does so by dying."""
        if not self._lock.is_locked:
            return
        with contextlib.suppress(OSError):
            self._clean()
        self._lock.release()

    def names(self, suffix: str) -> list[str]:
        """Names of the kept files with a suffix, sorted."""
        with self._errors("read"):
            return sorted(name for name in os.listdir(self.folder) if name.endswith(suffix))

    def has(self, name: str) -> bool:
        with self._errors("read"):
            return (self.folder / name).is_file()

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Keep tensors under a name; with the suffix .pt also numbers, lists and dicts of them."""
        self._replace(name, _packed(content, {"name": name, "folder": self.number}))

    def read(self, name: str, remedy: str) -> dict[str, Any]:
        """What was kept under a name, on the CPU.

        Args:
            remedy: what to do if the file is damaged, for the message.

        Raises:
            ValueError: if the file isn't what was written under this name in this folder.
        """
        with self._errors("read"):
            path = self.folder / name
            data = path.read_bytes() if _as_large_as_stated(path) else b""
        try:
            content, seal, found = _unpacked(name, data)
            fault = self._fault(name, seal, found)
        except Exception:  # whatever a reader stumbles over in bytes that are none of ours
            fault = "is damaged"
        if fault:
            raise ValueError(
                f"folder: expected whole files of this work alone, got {name} in {self.folder}, "
                f"which {fault}; {remedy}"
            )
        return content

    def remove(self, name: str) -> None:
        with self._errors("written"):
            (self.folder / name).unlink(missing_ok=True)

    def reserve(self, size: int) -> None:
        """Take up so many bytes, so that a full disk is noticed before something is asked."""
        with self._errors("written"):
            (self.folder / ROOM).write_bytes(bytes(size))

    def release(self) -> None:
        """Give back what is reserved, right before it is needed."""
        with contextlib.suppress(OSError):  # then there may be room all the same
            (self.folder / ROOM).unlink(missing_ok=True)

    def _fault(self, name: str, seal: Mapping[str, str], found: str) -> str:
        if seal["folder"] != self.number:
            return "comes from another folder"
        if seal["name"] != name:
            return f"was written as {seal['name']}"
        return "" if seal["digest"] == found else "was altered"

    def _replace(self, name: str, data: bytes) -> None:
        partial = self.folder / (name + PARTIAL)
        with self._errors("written"):
            try:
                partial.write_bytes(data)
                partial.replace(self.folder / name)
            except OSError:
                with contextlib.suppress(OSError):
                    partial.unlink(missing_ok=True)
                raise

    def _locked(self) -> FileLock:
        lock = FileLock(self.folder / LOCK, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(
                f"folder: expected one that nobody uses, got {self.folder}, which is in use by "
                "another process or thread; wait for its end, or name another folder"
            ) from None
        return lock

    def _check_foreign(self) -> None:
        names = set(os.listdir(self.folder)) if self.folder.is_dir() else set()
        own = {LOCK, *(name for name in names if name.endswith(PARTIAL))}
        hidden = {name for name in names if name.startswith(".")}
        others = sorted(names - own - hidden - set(SYSTEM))
        if others and self.record not in names:
            raise ValueError(
                f"folder: expected an empty one, or one with {self.record}, got {self.folder} "
                f"with other files, such as {others[0]}"
            )

    def _clean(self) -> None:
        """Remove what a process left that died while it wrote; nobody else writes now."""
        for left in self.folder.glob("*" + PARTIAL):
            left.unlink(missing_ok=True)

    def _begin(self, asked: Mapping[str, Any], noted: Any) -> tuple[str, Any]:
        """The number of this folder, and what was noted: of the record if the same was asked."""
        expected = json.loads(json.dumps(asked))
        if self.record in os.listdir(self.folder):
            record = self._read_record()
            if names := _differences(expected, record["asked"]):
                raise ValueError(
                    f"folder: expected an empty one, or that of the same question, got one with "
                    f"another {', '.join(names)}: {self.folder}; name another folder"
                )
            return str(record["folder"]), record.get("noted")
        record = {"asked": expected, "folder": uuid.uuid4().hex, "format": FORMAT}
        record["noted"] = json.loads(json.dumps(noted))
        record["digest"] = digest(record)
        self._replace(self.record, json.dumps(record, indent=1, sort_keys=True).encode("utf-8"))
        return str(record["folder"]), record["noted"]

    def _read_record(self) -> dict[str, Any]:
        path = self.folder / self.record
        data = b"" if path.stat().st_size > LARGEST_TEXT else path.read_bytes()
        try:
            record: dict[str, Any] = json.loads(data.decode("utf-8"))
            whole = record.pop("digest") == digest(record) and record["format"] == FORMAT
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            whole = False
        if not whole:
            raise ValueError(
                f"folder: expected an empty one, or that of the same question, got {self.folder} "
                f"with a {self.record}, which is damaged, altered, or of another version; begin "
                "with an empty folder"
            )
        return record

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ValueError(
                f"folder: expected one that can be {what}, got {shown(self.folder)}: {cause(error)}"
            ) from error


def given_folder(value: Any, name: str = "folder") -> Path:
    """Return a path as the caller gave it, with ``~`` replaced by the home folder.

    Raises:
        ValueError, TypeError: if the value is no path, or an empty text.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}: expected a path, got {type(value).__name__} {value!r}"[:120])
    return given_path(value, "a path", name)


def digest(*parts: Any) -> str:
    """Short hash of tensors, with their shapes and types, and of JSON values around them."""
    whole = hashlib.sha256()
    _feed(whole, parts)
    return whole.hexdigest()[:16]


def _feed(whole: Any, part: Any) -> None:
    if isinstance(part, Tensor):
        plain = part.detach().cpu().contiguous().flatten()
        whole.update(f"T{plain.dtype}{tuple(part.shape)}".encode())
        whole.update(plain.view(torch.uint8).numpy())
    elif isinstance(part, Mapping):
        whole.update(f"M{len(part)}".encode())
        for key in sorted(part, key=str):
            _feed(whole, str(key))
            _feed(whole, part[key])
    elif isinstance(part, Sequence) and not isinstance(part, str):
        whole.update(f"S{len(part)}".encode())
        for each in part:
            _feed(whole, each)
    else:
        text = repr(part).encode()
        whole.update(f"V{type(part).__name__}{len(text)}:".encode() + text)


def sketch(rows: Tensor) -> Tensor:
    """Sixteen signed sums of each row's numbers, (n, ...) -> (n, 16), on the CPU.

    Few numbers that stand for many: the distance of two sketches is about the root of the mean
    squared difference of the rows. Unlike a digest they change little on another processor.
    """
    flat = rows.detach().flatten(1).float()
    size = flat.shape[1]
    padded = F.pad(flat, (0, max(SUMS, size + -size % SUMS) - size))
    signed = padded * torch.from_numpy(_signs(padded.shape[1])).to(padded)
    return (signed.unflatten(1, (-1, SUMS)).sum(1) / max(1, size) ** 0.5).cpu()


@functools.lru_cache(maxsize=8)
def _signs(count: int) -> np.ndarray:
    # This generator gives the same numbers in every version of numpy.
    return (2 * np.random.RandomState(0).randint(0, 2, count) - 1).astype(np.int8)


def differ(
    found: Tensor, kept: Tensor, among: Tensor | None = None, tolerance: float = TOLERANCE
) -> bool:
    """Whether answers (n, ...) differ by more than floats do on another processor.

    Args:
        kept: what was answered before, like ``found``.
        among: more answers, (m, ...), for their spread; by default those kept.
        tolerance: part of the spread that counts as the same; of the size, for a single answer.
    """
    if found.shape != kept.shape:
        return True
    new, old, all_ = (
        x.double().flatten(1) for x in (found, kept, kept if among is None else among)
    )
    all_ = all_[all_.isfinite().all(1)]
    size = all_.square().sum(1).mean().sqrt().nan_to_num()
    std = (all_ - all_.mean(0)).square().sum(1).mean().sqrt() if len(all_) > 1 else size
    far = (new - old).norm(dim=1)
    return not bool((far <= tolerance * std + ROUNDING * size).all())  # NaN differs


def refuse(part: str, folder: Path) -> ValueError:
    """The error for a part that answers otherwise than when the folder was begun."""
    return ValueError(
        f"{part}: expected the one that the folder {folder} was begun with, got one that answers "
        f"otherwise than when this folder was begun; name another folder for another {part}, and "
        "use no folder for one that doesn't answer the same question the same way twice"
    )


def _differences(expected: Mapping[str, Any], other: Any) -> list[str]:
    """Names of what differs; both values if they are short."""
    if not isinstance(other, Mapping):
        return ["question"]
    names = []
    for name in sorted({**expected, **other}):
        here, there = expected.get(name), other.get(name)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            names += [f"{inner} ({name})" for inner in _differences(here, there)]
        elif here != there:
            short = max(len(repr(here)), len(repr(there))) <= 12
            names.append(f"{name} ({there!r} there, {here!r} now)" if short else name)
    return names


def _packed(content: dict[str, Any], seal: dict[str, str]) -> bytes:
    if not seal["name"].endswith(".pt"):
        # Copies: the format has no tensors that share memory.
        own = {
            key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in content.items()
        }
        return safetensors.torch.save(own, {**seal, "digest": digest(own)})
    file = io.BytesIO()
    torch.save(content, file)
    data = file.getvalue()
    # An archive may end with a comment, for which torch leaves no room.
    told = json.dumps({**seal, "digest": hashlib.sha256(data).hexdigest()}).encode()
    return data[:-2] + len(told).to_bytes(2, "little") + told


def _as_large_as_stated(path: Path) -> bool:
    """Whether a file has the size that its own header tells, which alone is read for that."""
    try:
        with path.open("rb") as file:
            if path.suffix == ".pt":
                # The archive tells its size from its end: before the first entry is nothing.
                return min(entry.header_offset for entry in zipfile.ZipFile(file).infolist()) == 0
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= LARGEST_HEADER else {}
            ends = [each["data_offsets"][1] for k, each in header.items() if k != "__metadata__"]
            return 8 + length + max(ends, default=0) == path.stat().st_size
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return False
    except (zipfile.BadZipFile, NotImplementedError):
        return False


def _unpacked(name: str, data: bytes) -> tuple[dict[str, Any], dict[str, str], str]:
    """Content, seal, and the digest of what is there."""
    if not name.endswith(".pt"):
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        content = safetensors.torch.load(data)
        return content, header["__metadata__"], digest(content)
    told = zipfile.ZipFile(io.BytesIO(data)).comment
    found = hashlib.sha256(data[: -len(told) - 2] + b"\0\0").hexdigest()
    content = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    return content, json.loads(told), found
