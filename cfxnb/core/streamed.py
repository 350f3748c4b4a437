"""Data sets of any size: the decorator of all methods that work image by image.

A decorated method also takes a data set in place of images, and an argument ``output_dir``. The
data set is split into shards. The method is called once per shard, with ``first_row`` set to the
row of the shard's first image, so that the answers are those of one call. With ``output_dir`` each
finished shard is written to a folder at once, and a later call goes on after the finished shards.

Several processes may work in one folder at the same time, on one machine or on several. Each
process takes the next shard that no process has locked or finished. If a process dies, its shard is
free again. ``accelerate launch`` and ``torchrun`` start several processes, see ``core.processes``.

Read first ``streamed``, then ``_Call.in_folder``.
"""

import contextlib
import functools
import inspect
import itertools
import os
import time
import typing
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cfxnb.core import one_shard, processes, validate
from cfxnb.core.border import CheckedClassifier, CheckedSpace
from cfxnb.core.disk import NOTHING, given_path, kind_of
from cfxnb.core.goals import Goal, goal_classifier, recorded_goal
from cfxnb.core.kept_work import LOCK, CheckpointDir, differ, digest, other_part
from cfxnb.core.modes import standard
from cfxnb.core.modules import eval_frozen
from cfxnb.core.outcomes import outcomes_of
from cfxnb.core.progress import Progress
from cfxnb.core.question import described
from cfxnb.core.result_folder import (
    COMPLETE,
    PROBES,
    RECORD,
    SHARDS,
    TABLE,
    ResultFolder,
    ShardFiles,
    write_json,
)
from cfxnb.core.streams import Chunk, FromItem, Shard, as_stream, is_data_set
from cfxnb.core.types import NOT_FINITE, STOPPED
from cfxnb.core.weights_hash import weights_hash

Function = TypeVar("Function", bound=Callable[..., Any])

#: Arguments that may hold one value per image.
PER_IMAGE = (
    "target", "label", "contrast_class", "allowed", "first_row", "factors", "context",
)  # fmt: skip
#: Arguments on which the answers do not depend, or which are recorded elsewhere.
NOT_ASKED = ("classifier", "space", "batch_size", "on_step", "output_dir")
N_PROBES = 4  # images whose answers are recorded
WAIT = 600.0  # seconds for which a process waits until another one has begun a folder
PAUSES = (0.02, 1.0)  # first and longest seconds between two looks at shards of other processes


@typing.overload
def streamed(function: Function) -> Function: ...
@typing.overload
def streamed(
    *, of: str, made: Callable[[Tensor], Any] | None = None
) -> Callable[[Function], Function]: ...
def streamed(
    function: Any = None, *, of: str = "images", made: Callable[[Tensor], Any] | None = None
) -> Any:
    """Decorate a method, so that it also takes data sets and writes its results to a folder.

    The method must have the arguments ``images`` and ``batch_size``. If it has an argument
    ``output_dir``, results can be written to a folder. The decorator handles data sets and
    ``output_dir``, so the method gets neither of them.

    Args:
        function: The method.
        of: Name of the argument that may be a data set.
        made: Function that turns the images of a shard into what the method takes. By default the
            method takes the images.
    """
    if function is None:
        return functools.partial(streamed, of=of, made=made)
    signature = inspect.signature(function)

    @functools.wraps(function)
    def method(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # which says what is wrong
        given, folder = bound.arguments, bound.arguments.get("output_dir")
        if folder is None and not is_data_set(given.get(of)):
            if found := next((n for n, v in given.items() if isinstance(v, FromItem)), None):
                raise ValueError(
                    f"{found}: expected a value, got cfx.from_item, which needs a data set"
                )
            return function(*args, **kwargs)
        bound.apply_defaults()
        call = _Call(function, bound.arguments, of, made)
        return call.in_memory() if folder is None else call.in_folder(folder)

    return method


class _Call:
    """One call of a method with a data set.

    Args:
        function: The method.
        arguments: All arguments of the call by name.
        of, made: As in ``streamed``.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: dict[str, Any],
        of: str,
        made: Callable[[Tensor], Any] | None,
    ) -> None:
        self.function, self.arguments, self.of, self.made = function, arguments, of, made
        self.kind: Any = typing.get_type_hints(function)["return"]
        self.stream = as_stream(arguments[of], of)
        self.batch_size = validate.count(arguments["batch_size"], "batch_size", 1)
        self.state = one_shard.ShardCall()
        self.n_finished = 0
        for name, value in arguments.items():
            length = self.stream.length
            if name in PER_IMAGE and _has_rows(value) and length not in (None, len(value)):
                raise ValueError(
                    f"{name}: expected one for all images or one for each of the {length} images, "
                    f"got {len(value)}"
                )

    def in_memory(self) -> Any:
        """Return the result of all images."""
        if processes.count() > 1 and processes.is_main():
            remedy = "; pass output_dir, so that they share the work"
            warnings.warn(
                f"{self.of}: each of the {processes.count()} processes works on the whole data "
                f"set{remedy if 'output_dir' in self.arguments else ''}",
                stacklevel=3,
            )
        parts: list[Any] = []
        with self._working():
            for shard in self.stream.shards(self.batch_size):
                parts.append(self._result(shard.read()))
                self._advance(shard)
                if self.state.stopped:
                    break
        if not parts:
            raise KeyboardInterrupt
        result = self.kind.concatenate(parts)
        # Scores of attributes are about all images together, and have no status.
        status = getattr(result, "status", None)
        done = self.n_finished if status is None else sum(s != STOPPED for s in status)
        self._end(done, set(status or ()))
        return result

    def in_folder(self, output_dir: str | os.PathLike) -> ResultFolder:
        """Write the results of all images to a folder, and return the opened folder."""
        place = given_path(output_dir, "a path", "output_dir")
        self._check_order()
        fresh = kind_of(place / RECORD) in NOTHING
        try:
            with self._working():
                files, shards = self._begin(place)
                self._work_through(files, shards, set(files.finished()))
        except (ValueError, TypeError):
            if fresh:
                _forget(place)
            raise
        folder = ResultFolder(place)
        if not len(folder):
            raise KeyboardInterrupt
        self._end(len(folder), {status for seal in folder.seals for status in seal.status})
        return folder

    def _begin(self, place: Path) -> tuple[ShardFiles, Iterator[Shard]]:
        """Record the call in the folder, or compare the call with the record of the folder.

        Returns:
            The files of the shards, and the shards.
        """
        asked = {
            n: described(v) for n, v in self.arguments.items() if n not in (self.of, *NOT_ASKED)
        }
        parts = {n: self.arguments[n] for n in ("space", "classifier") if n in self.arguments}
        config: dict[str, Any] = {
            "function": self.function.__name__,
            **asked,
            **{name: {"weights": weights_hash(part)} for name, part in parts.items()},
        }
        # Results do not depend on the batch size. A folder keeps the shards with which it began.
        notes = {"kind": self.kind.__name__, "shard_size": self.batch_size}
        with CheckpointDir(
            place, RECORD, config, notes, argument="output_dir", wait=WAIT
        ) as folder:
            shards = self.stream.shards(int(folder.notes["shard_size"]))
            first = next(shards)
            chunk, target = first.read(), self.arguments.get("target")
            if chunk.result is not None and outcomes_of(parts.get("classifier")) is not None:
                target = recorded_goal(chunk.result.made_by)  # that of the results in ``of``
            found = _answers(chunk.images[:N_PROBES], target=target, **parts)
            if folder.has(PROBES):
                stored = folder.read(PROBES, "pass another folder")
                for name, answer in found.items():
                    if name not in stored or differ(answer, stored[name]):
                        raise other_part(name.split(".")[0], place)
            else:
                folder.write(PROBES, found)
            for name in (SHARDS, TABLE):
                (place / name).mkdir(exist_ok=True)
            return ShardFiles(place, folder.number, "output_dir"), itertools.chain([first], shards)

    def _work_through(self, files: ShardFiles, shards: Iterator[Shard], earlier: set[int]) -> None:
        """Finish all shards.

        Shards that other processes work on are checked again later.

        Args:
            earlier: Numbers of the shards that were finished before this call.
        """
        waiting: list[Shard] = []
        count = 0
        for shard in shards:
            count += 1
            waiting = [s for s in [*waiting, shard] if not self._finish(files, s, earlier)]
            if self.state.stopped:
                return
        pause = PAUSES[0]
        while waiting:
            waiting = [s for s in waiting if not self._finish(files, s, earlier)]
            if self.state.stopped:
                return
            if waiting:
                time.sleep(pause)
                pause = min(1.5 * pause, PAUSES[1])
        if further := [number for number in files.finished() if number >= count]:
            raise ValueError(
                f"{self.of}: expected the data set with which the folder was begun, got one with "
                f"fewer images, and {len(further)} finished shards of further images: "
                f"{files.path}; pass another output_dir"
            )
        write_json(files.path / COMPLETE, {"shards": count}, "output_dir")

    def _finish(self, files: ShardFiles, shard: Shard, earlier: set[int]) -> bool:
        """Compute a shard unless another process does, and return whether it is finished."""
        if self.state.stopped:
            return True
        if self._is_finished(files, shard, earlier):
            self._advance(shard)
            return True
        with files.claimed(shard.number) as mine:
            if not mine:
                return False
            if not self._is_finished(files, shard, earlier):
                chunk = shard.read()
                result = self._result(chunk).to("cpu")
                if STOPPED in result.status:
                    return True
                row = self._first_row() + shard.first
                files.write(shard.number, shard.first, result, chunk.images, row)
        self._advance(shard)
        return True

    def _is_finished(self, files: ShardFiles, shard: Shard, earlier: set[int]) -> bool:
        """Return whether a shard is finished, and refuse it if it has other images.

        All images of shards from an earlier launch are read and compared once. Several processes
        share the comparisons.
        """
        seal = files.seal(shard.number)
        if seal is None:
            return False
        same = (seal.first, seal.count) == (shard.first, shard.count)
        mine = (shard.number - processes.index()) % processes.count() == 0
        if same and mine and shard.number in earlier:
            same = digest(shard.read().images) == seal.images
        if not same:
            last = seal.first + seal.count - 1
            raise ValueError(
                f"{self.of}: expected the data set with which the folder was begun, got other "
                f"images in rows {seal.first} to {last}: {files.path}; pass another output_dir"
            )
        return True

    def _result(self, chunk: Chunk) -> Any:
        """Call the method with the images of one shard."""
        changed = {name: self._for_chunk(name, chunk) for name in self.arguments}
        images = chunk.images if self.made is None else self.made(chunk.images)
        given = images if chunk.result is None else chunk.result
        changed[self.of] = given
        if "output_dir" in changed:
            changed["output_dir"] = None
        if "first_row" in changed and not _has_rows(changed["first_row"]):
            changed["first_row"] = self._first_row() + chunk.first
        with one_shard.working(self.state):
            return self.function(**changed)

    def _for_chunk(self, name: str, chunk: Chunk) -> Any:
        """Return the value of one argument for the images of one shard."""
        value = self.arguments[name]
        if isinstance(value, FromItem):
            return chunk.column(value.key, name)
        if name not in PER_IMAGE or not _has_rows(value):
            return value
        whole = value.iloc if isinstance(value, pd.DataFrame | pd.Series) else value
        rows = whole[chunk.first : chunk.first + len(chunk)]
        if len(rows) < len(chunk):
            raise ValueError(
                f"{name}: expected one for all images or one for each of them, got {len(value)}, "
                f"and at least {chunk.first + len(chunk)} images"
            )
        return rows

    def _first_row(self) -> int:
        """Return the row of the first image of the data set."""
        value = self.arguments.get("first_row", 0)
        return 0 if _has_rows(value) else validate.count(value, "first_row")

    def _check_order(self) -> None:
        """Refuse a loader that shuffles, or that gives each process different images."""
        if self.stream.shuffled:
            raise ValueError(
                f"{self.of}: expected the same order each time, got a DataLoader that shuffles, "
                "with which the call could not be continued; pass shuffle=False"
            )
        if self.stream.partial and processes.count() > 1:
            raise ValueError(
                f"{self.of}: expected the whole data set in each process, got a DataLoader that "
                "gives each process another part; pass the data set itself, whose shards are "
                "shared among the processes"
            )

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        """Show a progress bar, and end the ``with`` block quietly when the user presses Ctrl-C."""
        networks = [self.arguments[n] for n in ("space", "classifier") if n in self.arguments]
        bar = Progress(self.stream.length, self.function.__name__)
        with eval_frozen(*networks), bar as self.progress:
            try:
                yield
            except KeyboardInterrupt:
                self.state.stopped = self.state.interrupted = True

    def _advance(self, shard: Shard) -> None:
        self.n_finished += shard.count
        self.progress.begin(shard.count)
        self.progress.end()

    def _end(self, done: int, statuses: set[str]) -> None:
        """Warn if the call was interrupted, and refuse a classifier without any finite answer."""
        if self.state.interrupted:
            total = "" if self.stream.length is None else f" of {self.stream.length}"
            warnings.warn(f"interrupted: {done}{total} images are finished", stacklevel=4)
        if statuses == {NOT_FINITE}:
            raise ValueError(
                "classifier: expected finite logits, got NaN or infinity for the original or the "
                f"reconstruction of all {done} images"
            )


def _has_rows(value: Any) -> bool:
    """Return whether an argument has one value per image."""
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim > 0
    return isinstance(value, list | tuple | pd.Series | pd.DataFrame)


def _answers(
    images: Tensor, classifier: Any, space: Any = None, target: Any = None
) -> dict[str, Tensor]:
    """Return the outputs of classifier (or model of outcomes) and space for a few images.

    The networks get one image at a time, because the memory may not be enough for more.
    """

    def one(image: Tensor) -> dict[str, Tensor]:
        found = {"images": image}
        if space is not None:
            code = checked.encode(image.to(checked.mean.device))
            found |= {"space.encode": code.z, "space.decode": checked.decode(code)}
        device = network.device or found.get("space.decode", image).device
        found["classifier"] = (network if goal is None else goal.read)(image.to(device))
        return found

    with standard(), torch.no_grad(), eval_frozen(space, classifier):
        checked: Any = None if space is None else CheckedSpace(space, any_size=True)
        goal = goal_classifier(classifier, target) if isinstance(target, Goal) else None
        network = CheckedClassifier(classifier if goal is None else goal)
        parts = [one(image[None]) for image in images]
    return {
        name: torch.cat([part[name].nan_to_num().cpu().view(1, -1) for part in parts])
        for name in parts[0]
    }


def _forget(place: Path) -> None:
    """Remove a folder in which nothing was finished, so that a refused call leaves no folder."""
    with contextlib.suppress(OSError, ValueError):
        if any((place / SHARDS).glob("*.json")):
            return
        for name in (RECORD, PROBES, LOCK):
            (place / name).unlink(missing_ok=True)
        for empty in (place / SHARDS, place / TABLE, place):
            empty.rmdir()  # fails if there is anything else
