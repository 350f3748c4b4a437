"""A query budget that holds, and answers that survive a crash."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from cfxnb.core.kept_work import Kept, differ, digest

Answers = dict[str, Tensor]
ASKED, ANSWERED = ".asked", ".safetensors"
REMEDY = "delete it and run again: what it tells of is asked anew"
SAME_QUESTION = 1e-4  # part of the spread of codes by which another processor may move them


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """Pictures of one image's changed code, about which a black box is asked.

    Attributes:
        kind: what they are for, such as "probes"; a word without a hyphen.
        z: codes, (n, ...).
        base: code of the image, (1, ...).
        source: stamp of the image, (8,).
        key: sketch of all that is rendered, (n, m). Another processor hardly changes it.
        after: batches of probes that were asked before, or with it.
    """

    kind: str
    z: Tensor
    base: Tensor
    source: Tensor
    key: Tensor
    after: int = 0

    def __len__(self) -> int:
        return len(self.z)

    @functools.cached_property
    def name(self) -> str:
        """What it is filed under: what is asked, not when it is asked."""
        return f"{self.kind}-{digest(self.z, self.source)}-{len(self)}"


class Ledger:
    """Every question is asked at most once, in this process or any before it.

    A question is written down before it is asked, its answers after. What was under way when a
    process died is spent, and its answers are lost. All that was ever asked here counts.

    Args:
        budget: images that may be asked about in all.
        folder: where to keep the answers, locked until ``close``; None keeps none.
        identity: what the answers depend on. A folder of another search is refused.
        weights: hashes of the weights that answer. They are written down, and may differ.

    Attributes:
        spent: images asked about so far, by all processes.
        lost: images among those wanted here whose answers are lost.
        answers: all that are known, without the codes, by the name of the question.
        reached: batches of probes that earlier searches asked, whether they are still on file.
        same_weights: whether the folder was begun with these weights.

    Raises:
        ValueError: if the folder can't be used, or holds anything but whole answers of this search.
    """

    def __init__(
        self,
        budget: int,
        folder: Path | None,
        identity: dict[str, Any],
        weights: dict[str, Any] | None = None,
    ) -> None:
        self.budget, self.spent, self.lost, self.reached = budget, 0, 0, 0
        self.answers: dict[str, Answers] = {}
        self._asked: dict[str, Answers] = {}  # what is known of all that was ever asked
        self._earlier: dict[str, Answers] = {}  # and by other processes
        self.kept = None if folder is None else Kept(folder, "search.json", identity, weights)
        self.same_weights = self.kept is None or self.kept.noted == weights
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
        """Let others use the folder."""
        if self.kept is not None:
            self.kept.close()

    @property
    def left(self) -> int:
        """Images that may still be asked about."""
        return self.budget - self.spent

    def affords(self, question: Question, keep: int = 0) -> bool:
        """Whether it was asked before, or can be, with ``keep`` images left after it."""
        return self._known(question) is not None or len(question) + keep <= self.left

    def ask(
        self, question: Question, draw: Callable[[], Tensor], answer: Callable[[Tensor], Answers]
    ) -> Answers | None:
        """The answers to a question, one row per image; None if they were lost.

        Args:
            draw: makes the images; only what is interrupted after that is lost.
            answer: asks the black box about them.

        Raises:
            RuntimeError: if the budget doesn't allow it: callers look at ``affords`` before.
        """
        name = self._known(question)
        if name in self.answers:
            return self.answers[name]
        if name is not None:
            self.lost += len(question)
            return None
        if len(question) > self.left:
            raise RuntimeError(f"{len(question)} more queries, {self.left} left of {self.budget}")
        images = draw()
        self._write_down(question)
        self.spent += len(question)
        answers = {name: value.detach().cpu() for name, value in answer(images).items()}
        self._file(question, answers)
        return answers

    def _write_down(self, question: Question) -> None:
        """Before it is asked."""
        told = {"key": question.key, "source": question.source}
        told["after"] = torch.tensor(question.after)
        if self.kept is not None:
            self.kept.reserve(self._size(question))
            self.kept.write(question.name + ASKED, told)
        self._asked[question.name] = told

    def _file(self, question: Question, answers: Answers) -> None:
        """After it was answered."""
        told = {**answers, **self._asked[question.name], "base": question.base}
        if self.kept is not None:
            self.kept.release()
            self.kept.write(question.name + ANSWERED, {**told, "z": question.z})
            self.kept.remove(question.name + ASKED)
        self.answers[question.name] = told

    def codes(self, name: str) -> Tensor:
        """The codes that were rendered for answers that were kept, (n, ...)."""
        if self.kept is None:
            raise RuntimeError("nothing is kept without a folder")
        codes: Tensor = self.kept.read(name + ANSWERED, REMEDY)["z"]
        return codes

    def _open(self) -> None:
        if self.kept is None:
            return
        for file in self.kept.names(ANSWERED):
            answers = self.kept.read(file, REMEDY)
            del answers["z"]  # these may be large, and few are looked at
            self.answers[file.removesuffix(ANSWERED)] = answers
        for file in self.kept.names(ASKED):
            name = file.removesuffix(ASKED)
            if name in self.answers:  # the process died right after it had written them
                self.kept.remove(file)
            else:
                self._asked[name] = self.kept.read(file, REMEDY)
        self._asked |= self.answers
        self._earlier = dict(self._asked)
        self.spent = sum(len(asked["key"]) for asked in self._asked.values())
        self.reached = max((int(asked["after"]) for asked in self._asked.values()), default=0)

    def _known(self, question: Question) -> str | None:
        """The name under which it was filed, perhaps on another processor."""
        if question.name in self._asked:
            return question.name
        for name, asked in self._earlier.items():
            if (
                name.startswith(question.kind + "-")
                and torch.equal(asked["source"], question.source)
                and not differ(question.key, asked["key"], tolerance=SAME_QUESTION)
            ):
                return name
        return None

    def _size(self, question: Question) -> int:
        """Bytes that the answers may take, on the large side."""
        widths = [
            sum(value.nbytes for value in each.values()) // len(each["key"])
            for each in self.answers.values()
        ]
        row = question.z[0].nbytes + 2 * max([4096, *widths])
        return len(question) * row + question.base.nbytes + 2**16


def stamp(image: Tensor) -> Tensor:
    """The digest of an image as numbers, which can be kept beside the answers, (8,)."""
    return torch.tensor(list(bytes.fromhex(digest(image))), dtype=torch.uint8)
