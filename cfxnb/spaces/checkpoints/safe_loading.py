"""Tensors out of files, by torch's restricted reader and within what the file really holds."""

import argparse
import io
import os
import re
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import torch
from safetensors import safe_open
from torch import Tensor

from cfxnb.core.disk import cause, given_path, kind_of, shown
from cfxnb.spaces.checkpoints.safe_pickle import PARAMETER, STORAGE, TENSOR, Call, read_pickle

LARGEST = 2 * 2**30  # bytes of a file, and of all its tensors; the largest known have 0.4 GiB
PICKLED = 2**28  # bytes of a pickle in an archive, which has its tensors beside it
HEADER = 2**24  # bytes of the header of safetensors; the largest known have 0.3 MiB
WRAPPERS = ("module", "_orig_mod")  # what torch puts into names: DataParallel, and torch.compile
LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # old torch files


T = TypeVar("T")


class InertClass:
    """What stands for every class of a library that is not asked: takes anything, does nothing."""

    def __new__(cls, *_: Any) -> "InertClass":
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def existing(path: Any, wanted: str, largest: int = LARGEST) -> Path:
    """A file that is there and not too large; ``wanted`` is what the message calls it.

    Raises:
        ValueError, TypeError: if it is not; the message begins with ``path``.
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


def opened(file: Path) -> Any:
    """Safetensors, opened to be read tensor by tensor, as a context.

    Raises:
        ValueError: if its header is too large: the whole header is read before anything else.
    """
    with file.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
    if length > HEADER:
        raise ValueError(f"a header of more than {HEADER // 2**20} MiB")
    return safe_open(file, "pt")


def all_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a file of safetensors."""
    with opened(file) as content:
        return {k: content.get_tensor(k) for k in content.keys()}  # noqa: SIM118 (not a dict)


def all_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors of a file of safetensors, as its header has them."""
    with opened(file) as content:
        names = content.keys()
        return {name: tuple(content.get_slice(name).get_shape()) for name in names}


def plain_name(name: str) -> str:
    """The name of a tensor in the network itself, without what wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def plain_names(found: Mapping[str, T]) -> dict[str, T]:
    """The same under plain names.

    Raises:
        ValueError: if two names become one.
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
    """What ``torch.load`` reads without executing anything.

    Args:
        file: is read from its beginning, wherever it stands.
        libraries: packages whose classes become ``InertClass``, whether they are installed or not.
        path: of the same file: tensors are then read from there when they are used.

    Raises:
        ValueError: if it refuses. Its own message is not passed on: it tells how to give in.
    """
    file.seek(0)
    names = _look_through(file)
    inert = [(InertClass, name) for name in sorted(names) if name.split(".")[0] in libraries]
    file.seek(0)
    old = file.read(len(LEGACY)) == LEGACY  # cannot be read in parts
    file.seek(0)
    try:
        # Training files hold their command line; a Namespace keeps values and does nothing.
        with torch.serialization.safe_globals([argparse.Namespace, *inert]):
            if path is None or old:
                return torch.load(file, weights_only=True, map_location="cpu")
            return torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except Exception as error:  # many kinds, all of them for a damaged or hostile file
        name = re.search(r"GLOBAL ([\w.]{1,80})", str(error))
        text = f"refused to import {name[1]}" if name else f"torch fails ({type(error).__name__})"
        raise ValueError(text) from None


def _look_through(file: BinaryIO) -> set[str]:
    """Refuse what torch's reader does not survive: bombs, and tuples within tuples as keys.

    Returns:
        The classes and functions that the file names.
    """
    names: set[str] = set()
    old = file.read(len(LEGACY)) == LEGACY
    file.seek(0)
    if old:
        for _ in range(5):  # what it is, its version, the machine it is from, the content, storages
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
            if sum(entry.file_size for entry in entries) > size:  # entries that share their bytes
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
    """The tensor that a note of ``read_pickle`` describes, a copy on the CPU.

    Raises:
        ValueError: if it describes none, or one that does not lie within its storage.
    """
    if isinstance(note, Call) and note.name == PARAMETER and note.args:
        note = note.args[0]  # the rest is gradients and hooks
    match note:
        case Call(
            name=str(made), args=(Call(name=str(read), args=(bytes(raw),)), offset, size, step, *_)
        ) if (made, read) == (TENSOR, STORAGE):
            return checked(_view(_storage(raw), offset, size, step)).clone()
    raise ValueError("an entry that is no tensor")


def _storage(raw: bytes) -> Tensor:
    """All numbers of a storage, (n,)."""
    if not raw.startswith(LEGACY):
        raise ValueError("a storage that is no torch file")
    storage = torch_load(io.BytesIO(raw))
    if type(storage) is not torch.storage.TypedStorage:
        raise ValueError(f"a storage that is a {type(storage).__name__}")
    return torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)


def _view(whole: Tensor, offset: Any, size: Any, step: Any) -> Tensor:
    try:
        # Tensor.set_ would take more memory where a file asks for more than it holds.
        return whole.as_strided(size, step, offset)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        raise ValueError("a tensor that is not within its storage") from None


def checked(value: Any) -> Tensor:
    """A plain tensor on the CPU that is no larger than the memory it lies in.

    A step of 0 would let a few bytes stand for terabytes.

    Raises:
        ValueError: if it is anything else.
    """
    plain = type(value) in (Tensor, torch.nn.Parameter) and value.layout == torch.strided
    if not plain or value.is_quantized:
        raise ValueError(f"a {type(value).__name__} instead of a plain tensor")
    if value.device.type != "cpu":
        raise ValueError(f"a tensor on {value.device} instead of numbers")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"a tensor of shape {tuple(value.shape)} that is larger than its storage")
    return value
