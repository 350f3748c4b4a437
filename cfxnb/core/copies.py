"""A copy of a classifier that shares nothing with it."""

import copy
from typing import Any

from torch import Tensor

from cfxnb.core.modules import eval_frozen, modules_of


def copied(value: Any, name: str = "classifier") -> Any:
    """A deep copy of a network, or of what holds one.

    Tensors that a network keeps of its last call, as part of a graph, are copied without the graph.

    Raises:
        TypeError: if something inside can't be copied, with the reason.
    """
    try:
        with eval_frozen(value):
            kept = [x for m in modules_of(value) for x in vars(m).values() if isinstance(x, Tensor)]
            memo = {id(x): x.detach().clone() for x in kept if not x.is_leaf}
            return copy.deepcopy(value, memo)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise TypeError(
            f"{name}: expected a network that can be copied, got {type(value).__name__}: "
            f"{str(error)[:120]}"
        ) from None
