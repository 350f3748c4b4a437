"""What a method needs to know while it works on one shard of a data set.

``core.streamed`` calls a method once per shard. Inside of such a call, ``current`` returns the
ShardCall, which collects what concerns the whole data set: whether the user has stopped the search,
and values that are the same for every shard.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


@dataclasses.dataclass
class ShardCall:
    """The state that the calls for all shards of a data set share.

    Attributes:
        stopped: Whether ``on_step`` returned True, or the user pressed Ctrl-C.
        interrupted: Whether the user pressed Ctrl-C.
        largest_batch: Number of images that fit in memory at a time, once memory has run out.
        known: Values that are computed once for all shards, see ``once``.
    """

    stopped: bool = False
    interrupted: bool = False
    largest_batch: int | None = None
    known: dict[Hashable, tuple[Any, Any]] = dataclasses.field(default_factory=dict)


_CURRENT: contextvars.ContextVar[ShardCall | None] = contextvars.ContextVar("shard", default=None)


def current() -> ShardCall | None:
    """Return the ShardCall in which this code runs, or None in an ordinary call."""
    return _CURRENT.get()


@contextlib.contextmanager
def working(call: ShardCall | None) -> Iterator[None]:
    """Make ``call`` the current ShardCall inside the ``with`` block."""
    token = _CURRENT.set(call)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def once(name: str, owners: tuple[Any, ...], compute: Callable[[], T]) -> T:
    """Return ``compute()``, which is called once for all shards of a data set.

    In an ordinary call, ``compute`` is called each time.

    Args:
        name: What is computed.
        owners: Objects of the caller, such as networks, to which the value belongs.
    """
    call = current()
    if call is None:
        return compute()
    key = (name, *map(id, owners))
    if key not in call.known:
        call.known[key] = (owners, compute())  # owners are kept, so that their ids stay their own
    value: T = call.known[key][1]
    return value
