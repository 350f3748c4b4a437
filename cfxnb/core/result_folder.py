"""Folders of results, which are written in shards and read when they are used.

A folder of results has these files:

- ``results.json``: the call, as JSON, with the hashes of the networks' weights
- ``probes.safetensors``: the answers of the classifier and the space to a few images
- ``shards/000000.safetensors``: the result for the first images, and so on
- ``shards/000000.json``: the seal of a shard, with the digests of its images and files. The seal is
  written last, so a shard with a seal is finished
- ``table/000000.parquet``: one row per image; ``pandas.read_parquet(folder / "table")`` reads all
- ``complete.json``: the number of images, written when all shards are finished
"""

import contextlib
import dataclasses
import hashlib
import importlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from cfxnb.core.disk import cause, given_path, kind_of, parsed, read_json, shown, writing
from cfxnb.core.kept_work import digest, read_record
from cfxnb.core.results import Counterfactuals
from cfxnb.core.saved import Tabular
from cfxnb.core.tensors import positions

RECORD, PROBES, COMPLETE = "results.json", "probes.safetensors", "complete.json"
SHARDS, TABLE = "shards", "table"
#: The kinds of results that a folder may hold, and where they are defined.
KINDS = {"Counterfactuals": "cfxnb.core.results", "Attribution": "cfxnb.attribution.result"}
SHOWN = 6  # images that a notebook shows


@dataclasses.dataclass(frozen=True)
class Seal:
    """Facts about a finished shard, which can be read without reading its results.

    Attributes:
        folder: Random number that identifies the folder.
        number, first, count: Number of the shard, position of its first image, and number of its
            images.
        images: Digest of the images of the shard.
        status: How many images have each status.
        seconds: How long the shard took.
        files: Dict from the names of the shard's files to their SHA-256 digests.
    """

    folder: str
    number: int
    first: int
    count: int
    images: str
    status: dict[str, int]
    seconds: float
    files: dict[str, str]


class ShardFiles:
    """The files of all shards of one folder.

    Args:
        path: The folder.
        folder: Random number that identifies the folder. Every seal repeats it.
        argument: Name of the caller's argument, for messages.
    """

    def __init__(self, path: Path, folder: str, argument: str = "path") -> None:
        self.path, self.folder, self.argument = path, folder, argument

    def names(self, number: int) -> tuple[str, str, str]:
        """Return the names of the tensors, the table and the seal of a shard."""
        tensors, table = f"{SHARDS}/{number:06d}.safetensors", f"{TABLE}/{number:06d}.parquet"
        return tensors, table, f"{SHARDS}/{number:06d}.json"

    def finished(self) -> list[int]:
        """Return the numbers of the finished shards, in order."""
        place = self.path / SHARDS
        names = os.listdir(place) if place.is_dir() else []
        return sorted(int(n[:-5]) for n in names if n.endswith(".json") and n[:-5].isdecimal())

    def seal(self, number: int) -> Seal | None:
        """Return the seal of a shard, or None if the shard is not finished.

        Raises:
            ValueError: If the seal is damaged, altered, or of another folder.
        """
        name = self.names(number)[2]
        try:
            content = parsed((self.path / name).read_bytes())
            stated = content.pop("digest")
            seal = Seal(**content)
            intact = stated == digest(content) and seal.folder == self.folder
            intact = intact and seal.number == number
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            intact = False
        if not intact:
            raise self._fault(name, "is damaged, altered or of another folder")
        return seal

    @contextlib.contextmanager
    def claimed(self, number: int) -> Iterator[bool]:
        """Lock a shard.

        The ``with`` block gets True if the lock is free, and False otherwise.

        The operating system frees the lock of a process that dies.
        """
        place = self.path / SHARDS / f"{number:06d}.lock"
        lock = FileLock(place, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            # Whoever still waits for the deleted file finds the seal, and does nothing.
            with contextlib.suppress(OSError):
                place.unlink()
            lock.release()

    def write(self, number: int, first: int, result: Any, images: Tensor, row: int) -> None:
        """Write the files of a shard, and its seal last.

        Args:
            first: Position of the first image in the data set.
            result: Result of the shard, on the CPU.
            images: Images of the shard, (b, c, h, w).
            row: Row of the first image in its data set (``first_row`` of the method).
        """
        tensors, table, name = self.names(number)
        for left in self.path.glob(f"*/.{number:06d}.*.partial"):  # of a process that died
            left.unlink(missing_ok=True)
        result.save(self.path / tensors)
        rows = np.arange(row, row + len(result))
        frame = result.to_frame().reset_index(drop=True)
        frame.insert(0, "row", rows)
        frame.insert(1, "digest", [digest(image) for image in images])
        with writing(self.path / table, self.argument) as partial:
            frame.to_parquet(partial, engine="pyarrow", index=False)
        content = {
            "folder": self.folder,
            "number": number,
            "first": first,
            "count": len(result),
            "images": digest(images),
            "status": {s: result.status.count(s) for s in sorted(set(result.status))},
            "seconds": float(result.made_by.get("seconds", 0.0)),
            "files": {each: _sha256(self.path / each) for each in (tensors, table)},
        }
        write_json(self.path / name, content, self.argument)

    def checked(self, seal: Seal, name: str) -> Path:
        """Return the path of a file of a shard, after comparing its digest with the seal."""
        path = self.path / name
        try:
            intact = seal.files.get(name) == _sha256(path)
        except OSError as error:
            raise self._fault(name, cause(error)) from None
        if not intact:
            raise self._fault(name, "is damaged or altered")
        return path

    def _fault(self, name: str, why: str) -> ValueError:
        number = Path(name).stem
        return ValueError(
            f"{self.argument}: expected complete files of one call, got {name} in "
            f"{shown(self.path)}, which {why}; delete {SHARDS}/{number}.json and repeat the call, "
            "which computes these images again"
        )


class ResultFolder(Tabular):
    """Results in a folder, which are read when they are used.

    ``len`` is the number of finished images. ``folder[0:100]`` reads some of them, and returns
    Counterfactuals (or an Attribution). A loop over the folder reads shard after shard, so that the
    results of any number of images can be used with constant memory. ``cfx.report`` and
    ``cfx.describe_change`` take a ResultFolder in place of Counterfactuals.

    Args:
        path: The folder.

    Attributes:
        path: The folder.
        kind: Class of the results, Counterfactuals or Attribution.
        complete: Whether all images of the data set are finished.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        path = given_path(path)
        if kind_of(path) != "a folder" or kind_of(path / RECORD) != "a file":
            raise ValueError(
                f"path: expected a folder that a call with output_dir= has written, got "
                f"{shown(path)}"
            )
        record = read_record(path / RECORD, "path")
        self.path = path
        self._files = ShardFiles(path, str(record["folder"]), "path")
        name = (record.get("notes") or {}).get("kind")
        if name not in KINDS:
            raise ValueError(f"path: expected a folder of results, got one of {name!r:.40}")
        self.kind: Any = getattr(importlib.import_module(KINDS[name]), name)
        self.function = str(record["config"].get("function", "?"))
        self.seals = [s for n in self._files.finished() if (s := self._files.seal(n)) is not None]
        self.complete = self._is_complete()
        self._last: tuple[int, Any] = (-1, None)

    def _is_complete(self) -> bool:
        try:
            return bool(read_json(self.path / COMPLETE)["shards"] == len(self.seals))
        except (OSError, ValueError, TypeError, KeyError):
            return False

    def __len__(self) -> int:
        return sum(seal.count for seal in self.seals)

    def __iter__(self) -> Iterator[Any]:
        """Yield the result of one shard after the other."""
        for seal in self.seals:
            yield self._read(seal)

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray | Tensor) -> Any:
        """Read the results at some positions, in the order in which ``rows`` names them.

        Only the shards with these positions are read. ``folder[:]`` reads everything.
        """
        index = positions(rows, len(self), f"a folder with {len(self)} results")
        starts = np.cumsum([0, *(seal.count for seal in self.seals)])
        shard = np.searchsorted(starts, index.numpy(), side="right") - 1
        parts, order = [], []
        for number in np.unique(shard).tolist():
            chosen = np.flatnonzero(shard == number)
            part = self._read(self.seals[number])
            parts.append(part[index[chosen] - int(starts[number])])
            order.append(chosen)
        if not parts:
            if not self.seals:
                raise IndexError("a folder without any finished shard")
            return self._read(self.seals[0])[[]]
        joined = self.kind.concatenate(parts)
        return joined[torch.from_numpy(np.argsort(np.concatenate(order)))]

    def without_images(self) -> Any:
        """Return all finished Counterfactuals, with one black pixel in place of each image.

        The codes, logits, targets and statuses of 100,000 images usually fit in memory, and their
        images do not.
        """

        check_counterfactuals(self, "counterfactuals")

        def slim(part: Counterfactuals) -> Counterfactuals:
            pixel = torch.zeros(1, 1, 1, 1).expand(len(part), 1, 1, 1)
            images: dict[str, Any] = dict.fromkeys(("original", "image", "reconstruction"), pixel)
            return dataclasses.replace(part, **images, trace={})

        return self.kind.concatenate([slim(part) for part in self])

    def to_frame(self) -> pd.DataFrame:
        """Return the table of all finished images, with one row per image.

        The column ``row`` is the row of the image in its data set, and ``digest`` a digest of the
        image. The other columns are those of ``to_frame`` of Counterfactuals or of an Attribution.
        """
        names = [(seal, self._files.names(seal.number)[1]) for seal in self.seals]
        parts = [pd.read_parquet(self._files.checked(seal, name)) for seal, name in names]
        table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        return table.rename_axis("image")

    @property
    def made_by(self) -> dict[str, Any]:
        """Record of the call, with the seconds of all shards."""
        first = self._read(self.seals[0]).made_by if self.seals else {"function": self.function}
        return {**first, "seconds": round(sum(seal.seconds for seal in self.seals), 3)}

    @property
    def status(self) -> tuple[str, ...]:
        """Status of each finished image."""
        frame = self.to_frame()
        return tuple(frame["status"]) if len(frame) else ()

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        for seal in self.seals:
            counts |= {s: counts.get(s, 0) + n for s, n in seal.status.items()}
        text = ", ".join(f"{n:,} {s}" for s, n in counts.items())
        rest = "" if self.complete else "; not complete, repeat the call to go on"
        return f"ResultFolder({len(self):,} by {self.function}: {text}{rest})"

    def _repr_html_(self) -> str:
        shown_here = self[: min(SHOWN, len(self))]
        return f"<p>{self!r}</p>{shown_here._repr_html_()}"

    def _read(self, seal: Seal) -> Any:
        """Return the result of a shard. The shard that was read last stays in memory."""
        number, result = self._last
        if number != seal.number:
            result = self.kind.load(self._files.checked(seal, self._files.names(seal.number)[0]))
            self._last = (seal.number, result)
        return result


def open(path: str | os.PathLike) -> ResultFolder:
    """Open a folder of results, which a call with ``output_dir=`` has written.

    Methods that take ``output_dir`` also take a data set as ``images``:

    - a torch ``Dataset`` with items (image, ...), or dicts with the key "image"
    - a ``DataLoader`` that does not shuffle, or an iterator of images or of batches
    - an ``ImageSet``, or the set of ``cfx.data.folder``

    The results are those of one call with all images. Targets are one for all images, one per
    image, an entry of each item (``cfx.from_item``), or a function of the logits of a batch.

    The results are written in shards, which are the batches of the call. A repeated call continues
    after the finished shards. The call is refused if the folder belongs to a call with other
    arguments, images, classifier or space. Several processes share the work if each of them makes
    the same call. The processes may run on several machines with a common folder.

    Args:
        path: The folder. Its results are read when they are used.

    Raises:
        ValueError, TypeError: If the folder does not exist, is damaged, or holds no results.
    """
    return ResultFolder(path)


def check_counterfactuals(folder: ResultFolder, name: str) -> None:
    """Raise ValueError if a folder is empty, or holds another kind of result.

    Args:
        folder: The folder.
        name: Name of the argument, for the message.
    """
    if folder.kind is not Counterfactuals or not len(folder):
        found = f"{len(folder)} results of kind {folder.kind.__name__}"
        raise ValueError(f"{name}: expected a folder of Counterfactuals, got {found}")


def write_json(path: Path, content: dict[str, Any], argument: str) -> None:
    """Write JSON with a digest of its content."""
    text = json.dumps({**content, "digest": digest(content)}, indent=1, sort_keys=True)
    with writing(path, argument) as partial:
        partial.write_text(text, encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
