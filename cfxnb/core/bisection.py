"""Bisection, for several samples at a time."""

from collections.abc import Callable

import torch
from torch import Tensor


def bisect(
    holds: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, binary_search_steps: int
) -> Tensor:
    """Return, for each sample, the tested value closest to ``low`` at which ``holds`` is true.

    Args:
        holds: Condition that maps one value per sample, (n,), to bool (n,). The condition must be
            true at ``high`` and false at ``low``.
        low, high: Ends of the interval of each of n samples, (n,).
        binary_search_steps: How often each interval is halved. With ``binary_search_steps=0`` the
            function returns ``high``.
    """
    for _ in range(binary_search_steps if len(high) else 0):
        middle = (low + high) / 2
        true = holds(middle)
        low, high = torch.where(true, low, middle), torch.where(true, middle, high)
    return high
