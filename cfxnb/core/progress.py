"""Progress bars with the time left, and the one rule that decides whether they are shown.

The environment variable ``CFXNB_PROGRESS`` decides if it is set: "0" turns all bars off, "1" turns
them on. Without the variable, bars are shown in a terminal and in a notebook that a person has
open. Bars are off if the output goes to a file, and if a notebook is executed without a person
(papermill, nbconvert, nbclient). A call that takes less than a second shows no bar, and a bar
disappears at its end.

If a script runs in several processes, only the main process shows bars. A call with a data set
shows one bar, and no further bar for each shard of the data set.
"""

import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Self, TypeVar

from tqdm.std import tqdm

from cfxnb.core import one_shard, processes

Item = TypeVar("Item")

VARIABLE = "CFXNB_PROGRESS"
DELAY = 1.0  # seconds before a bar appears
UNKNOWN = "{desc}: {n:.0f} [{elapsed}{postfix}]"  # for a data set without a length
FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} [{elapsed}<{remaining}{postfix}]"
OFF = ("0", "false", "no", "off")
ON = ("1", "true", "yes", "on")


def shown() -> bool:
    """Return whether progress bars are shown.

    Raises:
        ValueError: If the environment variable ``CFXNB_PROGRESS`` has another value than 0 or 1.
    """
    if one_shard.current() is not None or not processes.is_main():
        return False
    chosen = os.environ.get(VARIABLE, "").strip().lower()
    if chosen:
        if chosen not in (*OFF, *ON):
            raise ValueError(f"{VARIABLE}: expected 0 or 1, got {chosen[:40]!r}")
        return chosen in ON
    kernel = _kernel()
    if kernel is not None:
        # Clients that execute a notebook without a person forbid questions to the person.
        return bool(getattr(kernel, "_allow_stdin", True))
    return bool(getattr(sys.stderr, "isatty", lambda: False)())


def _kernel() -> Any:
    """Return the Jupyter kernel in which this process runs, or None."""
    ipython = sys.modules.get("IPython")  # a kernel has imported IPython before any other code
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None)


class Progress:
    """A progress bar over parts of different size, such as batches of images.

    Use it in a ``with`` block. ``begin`` starts the next part, ``within`` says how much of the part
    is done, and ``end`` finishes the part.

    Args:
        total: Sum of the sizes of all parts, or None if it is not known.
        name: Text in front of the bar, such as the name of the function.
        initial: Size of the parts that an earlier call has finished.
    """

    def __init__(self, total: float | None, name: str, initial: float = 0) -> None:
        on = shown()
        kind: Any = importlib.import_module("tqdm.auto").tqdm if on else tqdm
        self._bar = kind(
            total=total,
            desc=name,
            initial=initial,
            disable=not on,
            delay=DELAY,
            leave=False,
            dynamic_ncols=True,
            bar_format=UNKNOWN if total is None else FORMAT,
        )
        self._done, self._size = float(initial), 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def begin(self, size: float) -> None:
        """Start the next part, which has this size."""
        self._size = size

    def within(self, fraction: float, **notes: Any) -> None:
        """Move the bar to this fraction of the present part. The bar never moves backwards.

        ``notes`` are written behind the bar, for example ``loss=0.31``.
        """
        if self._bar.disable:
            return
        if notes:
            self._bar.set_postfix(notes, refresh=False)
        self._move_to(self._done + self._size * min(max(fraction, 0.0), 1.0))

    def end(self) -> None:
        """Finish the present part."""
        self._done, self._size = self._done + self._size, 0.0
        self._move_to(self._done)

    def _move_to(self, place: float) -> None:
        if place > self._bar.n:
            self._bar.update(place - self._bar.n)


def each(items: Iterable[Item], name: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items, with a progress bar that counts them.

    Args:
        items: What to iterate over.
        name: Text in front of the bar.
        total: Number of items, if ``items`` has no length.
    """
    if total is None:
        items = items if isinstance(items, Sized) else list(items)
        total = len(items)
    with Progress(total, name) as progress:
        for item in items:
            progress.begin(1)
            yield item
            progress.end()
