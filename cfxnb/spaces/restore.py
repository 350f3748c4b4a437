"""Tensors out of files, by torch's restricted reader and within what the file really holds."""

import argparse
import io
import re
import zipfile
from typing import Any, BinaryIO

import torch
from torch import Tensor

from cfxnb.spaces.unpickle import PARAMETER, STORAGE, TENSOR, Call, read_pickle

LARGEST = 2 * 2**30  # bytes of a file, and of all its tensors; the largest known have 0.4 GiB
LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # old torch files


def torch_load(file: BinaryIO) -> Any:
    """What ``torch.load`` reads without executing anything.

    Raises:
        ValueError: if it refuses. Its own message is not passed on: it tells how to give in.
    """
    _look_through(file)
    file.seek(0)
    try:
        # Training files hold their command line; a Namespace keeps values and does nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:  # many kinds, all of them for a damaged or hostile file
        name = re.search(r"GLOBAL ([\w.]{1,80})", str(error))
        told = f"refused to import {name[1]}" if name else f"torch fails ({type(error).__name__})"
        raise ValueError(told) from None


def _look_through(file: BinaryIO) -> None:
    """Refuse what torch's reader does not survive: bombs, and tuples within tuples as keys."""
    old = file.read(len(LEGACY)) == LEGACY
    file.seek(0)
    if old:
        for _ in range(5):  # what it is, its version, the machine it is from, the content, storages
            read_pickle(file, allowed=None)
        return
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(entry.compress_type for entry in entries):  # torch never compresses
                raise ValueError("a compressed archive")
            if len({entry.filename.lower() for entry in entries}) < len(entries):
                raise ValueError("an archive with two entries of one name")
            for entry in entries:
                if entry.filename.lower().endswith(".pkl"):
                    with archive.open(entry) as opened:
                        read_pickle(io.BytesIO(opened.read()), allowed=None)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"a damaged archive ({type(error).__name__})") from None


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
