"""Bisection, for several samples at a time."""

from collections.abc import Callable

import torch
from torch import Tensor


def bisect(
    holds: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, binary_search_steps: int
) -> Tensor:
    """Return, for each sample, the value nearest to ``low`` at which ``holds`` was seen true.

    Args:
        holds: Condition, called with one value per sample, (n,). Returns bool (n,). It is known to
            be true at ``high`` and false at ``low``.
        low, high: Ends of the interval of each sample, (n,).
        binary_search_steps: How often each interval is halved. With 0 the function returns
            ``high``.
    """
    for _ in range(binary_search_steps if len(high) else 0):
        middle = (low + high) / 2
        true = holds(middle)
        low, high = torch.where(true, low, middle), torch.where(true, middle, high)
    return high
