"""Smooth gradients of a ReLU network: its ReLUs are replaced while it is called."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

RELUS = {
    F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_,
}  # fmt: skip


def leaky_softplus(x: Tensor) -> Tensor:
    """Return the mean of a leaky ReLU (slope 0.1) and a softplus (beta 10).

    SCE (arXiv 2506.14698) uses this function in place of ReLU. The function is smooth except for a
    bend at 0, and its gradient is never 0.
    """
    return (F.leaky_relu(x, 0.1) + F.softplus(x, beta=10)) / 2


class SmoothReLUs(TorchFunctionMode):
    """Inside this ``with`` block every ReLU of a network is computed by ``leaky_softplus``.

    The network keeps its weights, so nothing is trained. The outputs of the network change a
    little, because ``leaky_softplus`` differs from ReLU. Networks without ReLUs, networks that are
    compiled, and networks outside of torch are not affected.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func not in RELUS:
            return func(*args, **(kwargs or {}))
        return leaky_softplus(args[0] if args else (kwargs or {})["input"])
