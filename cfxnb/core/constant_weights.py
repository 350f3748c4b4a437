"""Store values computed from weights, such as transformed weights, while weights are constant.

A space evaluates its network many times in one call, with the same weights. Inside a
``constant_weights`` block, values such as transformed weights are computed only once and stored.
The stored values are deleted at the end of the block, so that no value is used after its weights
have changed.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


class _Thread(threading.local):
    """The stored values of a thread, or None outside of ``constant_weights`` blocks."""

    def __init__(self) -> None:
        self.values: dict[tuple[Any, ...], tuple[Tensor, Tensor]] | None = None


_THREAD = _Thread()


@contextlib.contextmanager
def constant_weights() -> Iterator[None]:
    """Promise that this thread changes no weights in the ``with`` block.

    Blocks may be nested. The stored values are deleted at the end of the outermost block.
    """
    outermost = _THREAD.values is None
    if outermost:
        _THREAD.values = {}
    try:
        yield
    finally:
        if outermost:
            _THREAD.values = None


def are_constant() -> bool:
    """Return whether this thread is in a ``constant_weights`` block.

    While torch.compile traces a network, the function returns False.
    """
    return not torch.compiler.is_compiling() and _THREAD.values is not None


def derived(weights: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``make(weights)``, which is computed once in each ``constant_weights`` block.

    Outside of ``constant_weights`` blocks, every call computes the value. A value that passes
    gradients on to ``weights`` is never stored.

    Args:
        weights: a tensor.
        make: function of ``weights``. Pass the same function object in each call.
    """
    values = _THREAD.values if are_constant() else None
    if values is None or (torch.is_grad_enabled() and weights.requires_grad):
        return make(weights)
    # Assignments in place raise the version of a tensor. They are noticed in spite of the promise.
    key = (id(weights), weights._version, make)
    if key not in values:
        values[key] = weights, make(weights)  # ``weights`` is stored because ids are used again
    return values[key][1]
