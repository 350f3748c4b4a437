"""Checkpoint folders, from which interrupted work is continued by another process.

A checkpoint folder is used by one process at a time and belongs to one task. Files that are
incomplete, altered, or of another task are refused with the reason. ``directions.query_log`` stores
the answers of a black box in a checkpoint folder. ``core.training`` stores its last checkpoint in a
checkpoint folder.
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
PARTIAL = ".cfxnb.partial"  # unfinished files; no other program uses this suffix
ROOM = f"room{PARTIAL}"
SYSTEM = ("Thumbs.db", "desktop.ini")  # operating systems put these into folders
FORMAT = 2  # of the files; 1 had other names
LARGEST_HEADER = 2**24  # bytes; the header of a file is read before its tensors
SUMS = 16  # numbers in a sketch
TOLERANCE = 1e-3  # of the std of answers: another processor changes less, another network more
ROUNDING = 1e-5  # of their size: float32 rounding of large answers that hardly differ


class CheckpointDir:
    """A checkpoint folder, locked for this process and thread.

    A JSON file in the folder records the task to which the folder belongs. Every other file
    contains its own name, the random number of the folder, and a hash of its content. A process
    that dies while it writes a file leaves the old file unchanged.

    Args:
        folder: path of the folder, which is created if it does not exist. A folder of another task,
            or a folder with files but without a record, is refused. Hidden files are ignored.
        record: name of the JSON file that records the task.
        config: all settings on which the work depends, as JSON values, which identify the task.
        notes: further JSON values to record. Notes may be different when the work is continued.
        argument: name of the caller's argument, for messages.
        wait: seconds to wait while another process uses the folder.

    Attributes:
        notes: the JSON values that were recorded when the folder was first used.

    Raises:
        ValueError: if the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        record: str,
        config: Mapping[str, Any],
        notes: Any = None,
        *,
        argument: str = "checkpoint_dir",
        wait: float = 0.0,
    ) -> None:
        self.folder, self.record, self.argument, self.wait = folder, record, argument, wait
        with self._errors("opened"):
            if "\0" in str(folder):
                raise ValueError(f"{self.argument}: expected a path, got {str(folder)!r}")
            if folder.exists() and not folder.is_dir():
                raise ValueError(f"{self.argument}: expected a folder, got the file {folder}")
            self._check_foreign()  # before the lock file is written
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
        try:
            with self._errors("opened"):
                self._check_foreign()
                self._clean()
                self.number, self.notes = self._begin(config, notes)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Unlock the folder. If the process dies, the operating system unlocks the folder."""
        if not self._lock.is_locked:
            return
        with contextlib.suppress(OSError):
            self._clean()
        self._lock.release()

    def names(self, suffix: str) -> list[str]:
        """Return the sorted names of the files in the folder that end with ``suffix``."""
        with self._errors("read"):
            return sorted(name for name in os.listdir(self.folder) if name.endswith(suffix))

    def has(self, name: str) -> bool:
        """Return whether the folder has a file with this name."""
        with self._errors("read"):
            return (self.folder / name).is_file()

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Store tensors in a file. A .pt file can also hold numbers, lists and dicts."""
        self._replace(name, _packed(content, {"name": name, "folder": self.number}))

    def read(self, name: str, remedy: str) -> dict[str, Any]:
        """Return the content of a file, with all tensors on the CPU.

        Args:
            remedy: advice that ends the error message if the file is damaged.

        Raises:
            ValueError: if the file was altered, renamed, or copied from another folder.
        """
        with self._errors("read"):
            path = self.folder / name
            data = path.read_bytes() if _as_large_as_stated(path) else b""
        try:
            content, seal, found = _unpacked(name, data)
            fault = self._fault(name, seal, found)
        except Exception:  # the readers raise many kinds of errors for damaged bytes
            fault = "is damaged"
        if fault:
            raise ValueError(
                f"{self.argument}: expected complete files of this work only, got {name} in "
                f"{self.folder}, which {fault}; {remedy}"
            )
        return content

    def remove(self, name: str) -> None:
        """Delete a file of the folder, if the file exists."""
        with self._errors("written"):
            (self.folder / name).unlink(missing_ok=True)

    def reserve(self, size: int) -> None:
        """Write a file of ``size`` bytes, so that a full disk is noticed before queries are
        spent."""
        with self._errors("written"):
            (self.folder / ROOM).write_bytes(bytes(size))

    def release(self) -> None:
        """Delete the file that ``reserve`` wrote, right before the disk space is needed."""
        with contextlib.suppress(OSError):  # there may be room nevertheless
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
        lock = FileLock(self.folder / LOCK, timeout=self.wait, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(
                f"{self.argument}: expected a free folder, got {self.folder}, which is in use by "
                "another process or thread; wait for its end, or pass another folder"
            ) from None
        return lock

    def _check_foreign(self) -> None:
        names = set(os.listdir(self.folder)) if self.folder.is_dir() else set()
        own = {LOCK, *(name for name in names if name.endswith(PARTIAL))}
        hidden = {name for name in names if name.startswith(".")}
        others = sorted(names - own - hidden - set(SYSTEM))
        if others and self.record not in names:
            raise ValueError(
                f"{self.argument}: expected an empty folder, or one with {self.record}, got "
                f"{self.folder} with other files, such as {others[0]}"
            )

    def _clean(self) -> None:
        """Delete unfinished files of a process that died.

        The lock keeps other processes out of the folder.
        """
        for left in self.folder.glob("*" + PARTIAL):
            left.unlink(missing_ok=True)

    def _begin(self, config: Mapping[str, Any], notes: Any) -> tuple[str, Any]:
        """Return the folder's random number and notes, after writing a record if there is none."""
        expected = json.loads(json.dumps(config))
        if self.record in os.listdir(self.folder):
            record = read_record(self.folder / self.record, self.argument)
            if names := _differences(expected, record["config"]):
                raise ValueError(
                    f"{self.argument}: expected an empty folder, or one of the same task, got one "
                    f"with another {', '.join(names)}: {self.folder}; pass another folder"
                )
            return str(record["folder"]), record.get("notes")
        record = {"config": expected, "folder": uuid.uuid4().hex, "format": FORMAT}
        record["notes"] = json.loads(json.dumps(notes))
        record["digest"] = digest(record)
        self._replace(self.record, json.dumps(record, indent=1, sort_keys=True).encode("utf-8"))
        return str(record["folder"]), record["notes"]

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ValueError(
                f"{self.argument}: expected a folder that can be {what}, got {shown(self.folder)}: "
                f"{cause(error)}"
            ) from error


def read_record(path: Path, argument: str = "checkpoint_dir") -> dict[str, Any]:
    """Return the record of a folder, after checking that it is complete and was not altered.

    Raises:
        ValueError: if the record is damaged, altered, or of another version. The message names
            ``argument``.
    """
    data = b"" if path.stat().st_size > LARGEST_TEXT else path.read_bytes()
    fault = "which is damaged, altered, or from a later version"
    try:
        record: dict[str, Any] = json.loads(data.decode("utf-8"))
        intact = record.pop("digest") == digest(record)
        if intact and record["format"] < FORMAT:
            fault, intact = "which is from an older version of cfxnb", False
        intact = intact and record["format"] == FORMAT
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        intact = False
    if not intact:
        raise ValueError(
            f"{argument}: expected an empty folder, or one of the same task, got {path.parent} "
            f"with a {path.name}, {fault}; begin with an empty folder"
        )
    return record


def checkpoint_path(value: Any) -> Path:
    """Return ``checkpoint_dir`` as a path, with ``~`` replaced by the home directory.

    Raises:
        ValueError, TypeError: if the value is not a path, or is empty.
    """
    return given_path(value, "a path", "checkpoint_dir")


def digest(*parts: Any) -> str:
    """Return a short hash of tensors, with their shapes and types, and of JSON values."""
    sha = hashlib.sha256()
    _feed(sha, parts)
    return sha.hexdigest()[:16]


def _feed(sha: Any, part: Any) -> None:
    if isinstance(part, Tensor):
        plain = part.detach().cpu().contiguous().flatten()
        sha.update(f"T{plain.dtype}{tuple(part.shape)}".encode())
        sha.update(plain.view(torch.uint8).numpy())
    elif isinstance(part, Mapping):
        sha.update(f"M{len(part)}".encode())
        for key in sorted(part, key=str):
            _feed(sha, str(key))
            _feed(sha, part[key])
    elif isinstance(part, Sequence) and not isinstance(part, str):
        sha.update(f"S{len(part)}".encode())
        for each in part:
            _feed(sha, each)
    else:
        text = repr(part).encode()
        sha.update(f"V{type(part).__name__}{len(text)}:".encode() + text)


def sketch(rows: Tensor) -> Tensor:
    """Return 16 numbers that represent each row, (n, ...) -> (n, 16), on the CPU.

    Each of the 16 numbers of a sketch is a sum of numbers of the row with random signs. The
    distance of two sketches is about the root mean squared difference of their rows. Unlike a hash,
    a sketch changes only a little if another processor computes the row.
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
    found: Tensor, stored: Tensor, among: Tensor | None = None, tolerance: float = TOLERANCE
) -> bool:
    """Return whether a network's answers (n, ...) differ by more than rounding.

    Rounding differs a little between processors, so equal networks may give unequal numbers.

    Args:
        found: present answers of the network, one row per input.
        stored: earlier answers of the network to the same inputs.
        among: answers of the network to m inputs, (m, ...). ``tolerance`` is a multiple of the
            standard deviation of ``among``. If ``among`` is None, ``stored`` is used instead.
        tolerance: largest accepted difference, in standard deviations of ``among``. If ``among``
            has a single row, ``tolerance`` is a multiple of the norm of this row.
    """
    if found.shape != stored.shape:
        return True
    new, old, every = (
        x.double().flatten(1) for x in (found, stored, stored if among is None else among)
    )
    every = every[every.isfinite().all(1)]
    size = every.square().sum(1).mean().sqrt().nan_to_num()
    std = (every - every.mean(0)).square().sum(1).mean().sqrt() if len(every) > 1 else size
    change = (new - old).norm(dim=1)
    return not bool((change <= tolerance * std + ROUNDING * size).all())  # NaN differs


def other_part(part: str, folder: Path) -> ValueError:
    """Return the error for a network whose answers have changed since the folder was made.

    ``part`` names the network in the message.
    """
    return ValueError(
        f"{part}: expected the same one as when the folder {folder} was begun, got one with other "
        f"answers. Pass another folder for another {part}. If the {part} gives random answers, "
        "work without a folder."
    )


def _differences(expected: Mapping[str, Any], other: Any) -> list[str]:
    """Return the names of the entries in which two configs differ, with their values if short."""
    if not isinstance(other, Mapping):
        return ["task"]
    names = []
    for name in sorted({**expected, **other}):
        here, there = expected.get(name), other.get(name)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            names += [f"{inner} ({name})" for inner in _differences(here, there)]
        elif here != there:
            short = max(len(repr(here)), len(repr(there))) <= 12
            names.append(f"{name} ({there!r} before, {here!r} now)" if short else name)
    return names


def _packed(content: dict[str, Any], seal: dict[str, str]) -> bytes:
    """Return the bytes of a file, including its seal: name, folder and digest."""
    if not seal["name"].endswith(".pt"):
        # safetensors refuses tensors that share memory.
        own = {
            key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in content.items()
        }
        return safetensors.torch.save(own, {**seal, "digest": digest(own)})
    file = io.BytesIO()
    torch.save(content, file)
    data = file.getvalue()
    # The seal becomes the comment at the end of the zip archive.
    comment = json.dumps({**seal, "digest": hashlib.sha256(data).hexdigest()}).encode()
    return data[:-2] + len(comment).to_bytes(2, "little") + comment


def _as_large_as_stated(path: Path) -> bool:
    """Return whether a file has the size that its header states. Only the header is read."""
    try:
        with path.open("rb") as file:
            if path.suffix == ".pt":
                # A zip archive has its directory at the end. If bytes are missing or added, the
                # first entry does not begin at 0.
                return min(entry.header_offset for entry in zipfile.ZipFile(file).infolist()) == 0
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= LARGEST_HEADER else {}
            ends = [each["data_offsets"][1] for k, each in header.items() if k != "__metadata__"]
            return 8 + length + max(ends, default=0) == path.stat().st_size
    except OSError:
        raise
    except Exception:  # a damaged header can raise many kinds of errors
        return False


def _unpacked(name: str, data: bytes) -> tuple[dict[str, Any], dict[str, str], str]:
    """Return the content of a file, its seal (name, folder, digest), and the present digest."""
    if not name.endswith(".pt"):
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        content = safetensors.torch.load(data)
        return content, header["__metadata__"], digest(content)
    comment = zipfile.ZipFile(io.BytesIO(data)).comment
    found = hashlib.sha256(data[: -len(comment) - 2] + b"\0\0").hexdigest()
    content = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    return content, json.loads(comment), found
