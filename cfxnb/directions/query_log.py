"""Count the queries to a black box, and store its answers so that they survive a crash."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from cfxnb.core.kept_work import CheckpointDir, differ, digest

Answers = dict[str, Tensor]
PENDING, ANSWERED = ".pending", ".safetensors"
REMEDY = "delete it and run again: its images are queried again"
SAME_CODES = 1e-4  # codes from another processor may differ by this fraction of their std


@dataclasses.dataclass(frozen=True, eq=False)
class QueryBatch:
    """Changed codes of one image, whose renderings are sent to the classifier together.

    Attributes:
        kind: purpose of the batch, such as "probes", in a word without a hyphen.
        z: changed codes, (n, ...).
        z_start: code of the image, (1, ...).
        source: digest of the image, (8,); see ``image_digest``.
        key: a short vector per changed code, (n, m), by which the batch is recognised. The vectors
            hardly change if another processor computes the codes.
        n_batches: number of batches of probes up to this one.
    """

    kind: str
    z: Tensor
    z_start: Tensor
    source: Tensor
    key: Tensor
    n_batches: int = 0

    def __len__(self) -> int:
        return len(self.z)

    @functools.cached_property
    def name(self) -> str:
        """Name of the batch's file, which depends on the codes and the image, not on the time."""
        return f"{self.kind}-{digest(self.z, self.source)}-{len(self)}"


class QueryLog:
    """Counts queries, stores answers, and queries no batch twice, even over several processes.

    A batch is written to the folder before it is queried, and its answers afterwards. If a process
    dies before the answers are written, the queries count and their answers are lost. The limit
    ``max_queries`` applies to all queries of all processes that used the folder.

    Args:
        max_queries: largest number of images that may be classified.
        folder: where the answers are stored. The folder is locked until ``close``. If None, nothing
            is stored.
        identity: everything on which the answers depend. A folder with another identity is refused.
        weights: hashes of the weights of the networks. The hashes are recorded, and a folder with
            other hashes is accepted.

    Attributes:
        n_queries: images classified so far, by all processes.
        lost: images of this search whose answers are lost.
        answers: all stored answers by name of the batch, without the codes.
        n_batches: number of batches of probes that earlier processes queried.
        same_weights: whether the search in the folder was begun with the weights ``weights``.

    Raises:
        ValueError: if the folder cannot be used, or contains damaged answers or the answers of
            another search.
    """

    def __init__(
        self,
        max_queries: int,
        folder: Path | None,
        identity: dict[str, Any],
        weights: dict[str, Any] | None = None,
    ) -> None:
        self.max_queries, self.n_queries, self.lost, self.n_batches = max_queries, 0, 0, 0
        self.answers: dict[str, Answers] = {}
        self._queried: dict[str, Answers] = {}  # records of all batches, answered or not
        self._earlier: dict[str, Answers] = {}  # those of earlier processes
        self.kept = (
            None if folder is None else CheckpointDir(folder, "search.json", identity, weights)
        )
        self.same_weights = self.kept is None or self.kept.notes == weights
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Unlock the folder."""
        if self.kept is not None:
            self.kept.close()

    @property
    def remaining(self) -> int:
        """Number of images that may still be classified."""
        return self.max_queries - self.n_queries

    def can_afford(self, batch: QueryBatch, reserved: int = 0) -> bool:
        """Return whether a batch is stored already, or leaves ``reserved`` of the queries."""
        return self._known(batch) is not None or len(batch) + reserved <= self.remaining

    def query(
        self, batch: QueryBatch, render: Callable[[], Tensor], classify: Callable[[Tensor], Answers]
    ) -> Answers | None:
        """Return the answers to a batch, one row per image, or None if they are lost.

        Args:
            render: returns the images. An interruption of ``render`` loses no query.
            classify: returns the classifier's answers to the images.

        Raises:
            RuntimeError: if the batch exceeds the limit. Call ``can_afford`` first.
        """
        name = self._known(batch)
        if name in self.answers:
            return self.answers[name]
        if name is not None:
            self.lost += len(batch)
            return None
        if len(batch) > self.remaining:
            raise RuntimeError(
                f"{len(batch)} more queries, {self.remaining} left of {self.max_queries}"
            )
        images = render()
        self._record_pending(batch)
        self.n_queries += len(batch)
        answers = {name: value.detach().cpu() for name, value in classify(images).items()}
        self._record_answers(batch, answers)
        return answers

    def _record_pending(self, batch: QueryBatch) -> None:
        record = {"key": batch.key, "source": batch.source}
        record["n_batches"] = torch.tensor(batch.n_batches)
        if self.kept is not None:
            self.kept.reserve(self._size(batch))
            self.kept.write(batch.name + PENDING, record)
        self._queried[batch.name] = record

    def _record_answers(self, batch: QueryBatch, answers: Answers) -> None:
        record = {**answers, **self._queried[batch.name], "z_start": batch.z_start}
        if self.kept is not None:
            self.kept.release()
            self.kept.write(batch.name + ANSWERED, {**record, "z": batch.z})
            self.kept.remove(batch.name + PENDING)
        self.answers[batch.name] = record

    def codes(self, name: str) -> Tensor:
        """Return the stored codes of a batch, (n, ...)."""
        if self.kept is None:
            raise RuntimeError("without a folder no codes are stored")
        codes: Tensor = self.kept.read(name + ANSWERED, REMEDY)["z"]
        return codes

    def _open(self) -> None:
        """Read the answers that earlier processes stored in the folder."""
        if self.kept is None:
            return
        for file in self.kept.names(ANSWERED):
            answers = self.kept.read(file, REMEDY)
            del answers["z"]  # codes may be large, and few are needed again
            self.answers[file.removesuffix(ANSWERED)] = answers
        for file in self.kept.names(PENDING):
            name = file.removesuffix(PENDING)
            if name in self.answers:  # the process died right after it had written the answers
                self.kept.remove(file)
            else:
                self._queried[name] = self.kept.read(file, REMEDY)
        self._queried |= self.answers
        self._earlier = dict(self._queried)
        self.n_queries = sum(len(record["key"]) for record in self._queried.values())
        self.n_batches = max((int(r["n_batches"]) for r in self._queried.values()), default=0)

    def _known(self, batch: QueryBatch) -> str | None:
        """Return the name under which the batch is stored already, or None if it is new."""
        if batch.name in self._queried:
            return batch.name
        for name, record in self._earlier.items():
            if (
                name.startswith(batch.kind + "-")
                and torch.equal(record["source"], batch.source)
                and not differ(batch.key, record["key"], tolerance=SAME_CODES)
            ):
                return name
        return None

    def _size(self, batch: QueryBatch) -> int:
        """Return an upper estimate of the bytes of the answers."""
        widths = [
            sum(value.nbytes for value in each.values()) // len(each["key"])
            for each in self.answers.values()
        ]
        row = batch.z[0].nbytes + 2 * max([4096, *widths])
        return len(batch) * row + batch.z_start.nbytes + 2**16


def image_digest(image: Tensor) -> Tensor:
    """Return the digest of an image as numbers (8,), which can be stored beside the answers."""
    return torch.tensor(list(bytes.fromhex(digest(image))), dtype=torch.uint8)
