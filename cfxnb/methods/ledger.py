"""A query budget that holds, and answers that survive a crash."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

Answers = dict[str, Tensor]


class Ledger:
    """Every question under its name: asked at most once, in this process or any before it.

    A question is written down before it is asked, its answers after. What was under way when a
    process died is spent, and its answers are lost. All that was ever asked here counts.

    Args:
        budget: images that may be asked about in all.
        folder: where to keep the answers; None keeps none: then no name may come twice.
        identity: what the answers depend on. A folder of another search is refused.

    Attributes:
        spent: images asked about so far, by all processes.
        lost: images among those wanted here whose answers are lost.
    """

    def __init__(self, budget: int, folder: Path | None, identity: dict[str, Any]) -> None:
        self.budget, self.folder = budget, folder
        self.spent = self.lost = 0
        if folder is None:
            return
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"folder: expected a folder, got the file {folder}")
        file = folder / "search.json"
        if file.is_file():
            _same_search(identity, file)
        elif folder.is_dir() and any(folder.iterdir()) and not _left_behind(folder):
            raise ValueError(f"folder: expected an empty one, got {folder} with other files")
        else:
            folder.mkdir(parents=True, exist_ok=True)
            _write(file, json.dumps(identity, indent=1, sort_keys=True))
        self.spent = sum(_rows(asked) for asked in folder.glob("*.asked"))

    @property
    def left(self) -> int:
        """Images that may still be asked about."""
        return self.budget - self.spent

    def affords(self, name: str, rows: int, keep: int = 0) -> bool:
        """Whether a question was asked before, or can be, with ``keep`` images left after it."""
        return self._known(name, rows) or rows + keep <= self.left

    def ask(
        self, name: str, rows: int, draw: Callable[[], Tensor], answer: Callable[[Tensor], Answers]
    ) -> Answers | None:
        """The answers to a question about ``rows`` images; None if they were lost.

        Args:
            draw: makes the images; only what is interrupted after that is lost.
            answer: asks the black box about them.

        Raises:
            RuntimeError: if the budget doesn't allow it: callers look at ``affords`` before.
        """
        if not self.affords(name, rows):
            raise RuntimeError(f"{rows} more queries, {self.left} left of {self.budget}")
        if self.folder is None:
            images = draw()
            self.spent += rows
            return answer(images)
        asked = self._file(name, rows)
        answered = asked.with_suffix(".safetensors")
        if answered.is_file():
            return _read(answered, rows)
        if asked.is_file():
            self.lost += rows
            return None
        images = draw()
        asked.touch(exist_ok=False)
        self.spent += rows
        answers = {key: value.detach().cpu().contiguous() for key, value in answer(images).items()}
        partial = answered.with_suffix(".partial")
        save_file(answers, partial)
        partial.replace(answered)
        return answers

    def _file(self, name: str, rows: int) -> Path:
        """The number of images stands in the name: an empty file is written in one go."""
        return (self.folder or Path()) / f"{name}-{rows}.asked"

    def _known(self, name: str, rows: int) -> bool:
        return self.folder is not None and self._file(name, rows).is_file()


def digest(*tensors: Tensor) -> str:
    """Short hash of tensors, to tell one search from another."""
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(str(tuple(tensor.shape)).encode())
        whole.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()[:16]


def _rows(asked: Path) -> int:
    count = asked.stem.rpartition("-")[2]
    if not count.isdecimal():
        raise ValueError(f"folder: expected files of this search alone, got {asked.name}")
    return int(count)


def _left_behind(folder: Path) -> bool:
    """Whether a process died here while it wrote its first file."""
    return [file.name for file in folder.iterdir()] == ["search.partial"]


def _write(file: Path, text: str) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(file)


def _read(file: Path, rows: int) -> Answers:
    try:
        answers = load_file(file)
    except SafetensorError as error:
        raise ValueError(
            f"folder: expected whole files, got {file.name}, which is damaged ({error})"
        ) from None
    if any(value.ndim == 0 or len(value) != rows for value in answers.values()):
        raise ValueError(f"folder: expected answers to {rows} images in {file.name}, got others")
    return answers


def _same_search(identity: dict[str, Any], file: Path) -> None:
    expected = json.loads(json.dumps(identity))
    try:
        other = json.loads(file.read_text())
        names = [n for n in {**expected, **other} if other.get(n) != expected.get(n)]
    except (ValueError, TypeError, AttributeError):
        names = ["search.json, which is damaged"]
    if names:
        raise ValueError(
            f"folder: expected an empty one, or that of the same search, got {file.parent} with "
            f"another {', '.join(names)}"
        )
