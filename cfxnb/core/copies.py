"""Copy a classifier so that the copy shares nothing with the original."""

import copy
from typing import Any

from torch import Tensor

from cfxnb.core.modules import eval_frozen, modules_of


def copied(value: Any, name: str = "classifier") -> Any:
    """Return a deep copy of a network, or of an object that holds one.

    Tensors that a network keeps from its last call are copied without their autograd graph.

    Raises:
        TypeError: If a part of the object cannot be copied; the message gives the reason.
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
