"""Read tensors from files safely.

``torch.load`` with ``weights_only=True`` executes no code. In addition, this module checks that no
tensor is larger than its data in the file.
"""

import argparse
import contextlib
import io
import os
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cfxnb.core.disk import cause, given_path, kind_of, shown
from cfxnb.spaces.checkpoints.safe_pickle import PARAMETER, STORAGE, TENSOR, Call, read_pickle

LARGEST = 2 * 2**30  # bytes of a file and of its tensors; the largest known have 0.4 GiB
PICKLED = 2**28  # bytes of a pickle in an archive, without its tensors
HEADER = 2**24  # bytes of a safetensors header; the largest known have 0.3 MiB
WRAPPERS = ("module", "_orig_mod")  # prefixes from DataParallel and torch.compile
LEGACY = (
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # first bytes of old torch files
)


T = TypeVar("T")


class InertClass:
    """Placeholder for classes in a checkpoint that come from libraries we don't need.

    An ``InertClass`` takes any arguments and does nothing.
    """

    def __new__(cls, *_: Any) -> "InertClass":
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def existing(path: Any, wanted: str, largest: int = LARGEST) -> Path:
    """Check that a file exists and is not too large, and return its path.

    Args:
        wanted: description of the file in the error message.
        largest: largest allowed size of the file in bytes.

    Raises:
        ValueError, TypeError: if the path is not that of a file, or the file is too large. The
            error message begins with "path:".
    """
    file = given_path(path, "the path of a file")
    if (kind := kind_of(file)) != "a file":
        raise ValueError(f"path: expected {wanted}, got {shown(file)}: {kind}")
    try:
        size = file.stat().st_size
    except OSError as error:
        raise ValueError(f"path: expected {wanted}, got {file.name}: {cause(error)}") from None
    if size > largest:
        text = f"{size / 2**30:.1f} GiB"
        raise ValueError(f"path: expected at most {largest // 2**30} GiB, got {file.name}: {text}")
    return file


@contextlib.contextmanager
def weight_file(
    path: Any, wanted: str, largest: int = LARGEST
) -> Iterator[tuple[Path, BinaryIO, str]]:
    """Give the ``with`` block a file of weights: its path, the open file, and its format.

    The format is "safetensors", "torch" or "pickle", and follows from the first bytes of the file.

    Args:
        wanted: description of the file in error messages.
        largest: largest allowed size of the file in bytes.

    Raises:
        ValueError, TypeError: if the file can't be opened or has another format. Errors in the
            ``with`` block become a ValueError about ``path``, too.
    """
    file = existing(path, wanted, largest)
    try:
        with file.open("rb") as content:
            begins = content.read(16)
            content.seek(0)
            if begins[6:9] == b"\0\0{":  # after eight bytes with the length
                yield file, content, "safetensors"
            elif begins.startswith((b"PK\x03\x04", LEGACY)):
                yield file, content, "torch"
            elif begins.startswith(b"\x80"):
                yield file, content, "pickle"
            else:
                text = f"a file that begins with {begins!r}" if begins else "an empty file"
                raise ValueError(text)
    except (ValueError, SafetensorError, OSError) as error:
        text = str(error)[:300]  # a quote of a damaged file may be very long
        raise ValueError(f"path: expected {wanted}, got {file.name}: {text}") from None


def opened(file: Path) -> Any:
    """Open a safetensors file as a context, to read it tensor by tensor.

    Raises:
        ValueError: if the header of the file is too large, because safetensors would read the whole
            header into memory.
    """
    with file.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
    if length > HEADER:
        raise ValueError(f"a header of more than {HEADER // 2**20} MiB")
    return safe_open(file, "pt")


def all_tensors(file: Path) -> dict[str, Tensor]:
    """Return all tensors of a safetensors file by name."""
    with opened(file) as content:
        return {k: content.get_tensor(k) for k in content.keys()}  # noqa: SIM118 (not a dict)


def all_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors of a safetensors file, from its header alone."""
    with opened(file) as content:
        names = content.keys()
        return {name: tuple(content.get_slice(name).get_shape()) for name in names}


def plain_name(name: str) -> str:
    """Return the name of a tensor without prefixes of wrappers such as torch.compile."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def plain_names(found: Mapping[str, T]) -> dict[str, T]:
    """Return a copy of a dict, with ``plain_name`` applied to each key.

    Raises:
        ValueError: if two tensors get the same name.
    """
    plain: dict[str, T] = {}
    for name, value in found.items():
        if (short := plain_name(name)) in plain:
            raise ValueError(f"two tensors that are called {short[:80]} without their prefixes")
        plain[short] = value
    return plain


def torch_load(
    file: BinaryIO, libraries: Collection[str] = (), path: str | os.PathLike | None = None
) -> Any:
    """Read a torch file with ``torch.load``, without executing code.

    Args:
        file: the open file, which is read from its beginning.
        libraries: packages whose classes are replaced by ``InertClass``, even if the packages are
            installed.
        path: path of ``file``. If ``path`` is given, tensors are memory-mapped.

    Raises:
        ValueError: if torch refuses the file. The error message doesn't quote torch, because torch
            suggests how to load the file unsafely.
    """
    file.seek(0)
    old = file.read(len(LEGACY)) == LEGACY  # can't be memory-mapped
    file.seek(0)
    names = _scan(file, old)
    inert = [(InertClass, name) for name in sorted(names) if name.split(".")[0] in libraries]
    file.seek(0)
    try:
        # Training files contain their command line as a Namespace, which is harmless.
        with torch.serialization.safe_globals([argparse.Namespace, *inert]):
            if path is None or old:
                return torch.load(file, weights_only=True, map_location="cpu")
            return torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except Exception as error:  # many kinds, for a damaged or hostile file
        name = re.search(r"GLOBAL ([\w.]{1,80})", str(error))
        text = f"refused to import {name[1]}" if name else f"torch fails ({type(error).__name__})"
        raise ValueError(text) from None


def _scan(file: BinaryIO, old: bool) -> set[str]:
    """Refuse files that would crash ``torch.load``, such as zip bombs.

    Dicts with deeply nested tuples as keys are refused too.

    Returns:
        The names of all classes and functions that the file refers to.
    """
    names: set[str] = set()
    if old:
        for _ in range(5):  # magic number, version, system, content, storages
            read_pickle(file, allowed=None, met=names)
        return names
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(entry.compress_type for entry in entries):  # torch never compresses
                raise ValueError("a compressed archive")
            if len({entry.filename.lower() for entry in entries}) < len(entries):
                raise ValueError("an archive with two entries of one name")
            size = file.seek(0, io.SEEK_END)
            if sum(entry.file_size for entry in entries) > size:  # entries that overlap
                raise ValueError("an archive whose entries are larger than the file")
            for entry in entries:
                if entry.filename.lower().endswith(".pkl"):
                    if entry.file_size > PICKLED:
                        raise ValueError(f"a pickle of more than {PICKLED // 2**20} MiB")
                    with archive.open(entry) as opened:
                        read_pickle(io.BytesIO(opened.read()), allowed=None, met=names)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"a damaged archive ({type(error).__name__})") from None
    return names


def tensor(note: Any) -> Tensor:
    """Return the tensor that a ``Call`` from ``read_pickle`` describes, as a copy on the CPU.

    Raises:
        ValueError: if the ``Call`` describes no tensor, or a tensor that is larger than its
            storage.
    """
    if isinstance(note, Call) and note.name == PARAMETER and note.args:
        note = note.args[0]  # the other arguments are gradients and hooks
    match note:
        case Call(
            name=str(made), args=(Call(name=str(read), args=(bytes(raw),)), offset, size, step, *_)
        ) if (made, read) == (TENSOR, STORAGE):
            return checked(_view(_storage(raw), offset, size, step)).clone()
    raise ValueError("an entry that is no tensor")


def _storage(raw: bytes) -> Tensor:
    """Return the n numbers of a pickled tensor storage as a tensor (n,)."""
    if not raw.startswith(LEGACY):
        raise ValueError("a storage that is no torch file")
    storage = torch_load(io.BytesIO(raw))
    if type(storage) is not torch.storage.TypedStorage:
        raise ValueError(f"a storage that is a {type(storage).__name__}")
    return torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)


def _view(storage: Tensor, offset: Any, size: Any, step: Any) -> Tensor:
    try:
        # Unlike Tensor.set_, this never allocates more memory than the file holds.
        return storage.as_strided(size, step, offset)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        raise ValueError("a tensor that is not within its storage") from None


def checked(value: Any) -> Tensor:
    """Check that ``value`` is a plain tensor on the CPU, no larger than its storage.

    With a stride of 0, a tensor stored in a few bytes could describe terabytes of numbers.

    Raises:
        ValueError: if ``value`` is not a plain tensor on the CPU, or is larger than its storage.
    """
    plain = type(value) in (Tensor, torch.nn.Parameter) and value.layout == torch.strided
    if not plain or value.is_quantized:
        raise ValueError(f"a {type(value).__name__} instead of a plain tensor")
    if value.device.type != "cpu":
        raise ValueError(f"a tensor on {value.device} instead of numbers")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"a tensor of shape {tuple(value.shape)} that is larger than its storage")
    return value
