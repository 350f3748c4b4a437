"""Checks at the border: every message names the argument, what was expected, what came."""

import math
from typing import Any

import torch
from torch import Tensor


class BlackBoxed:
    """What ``cfxnb.BlackBox`` is, for checks below it."""


def images(value: Any, name: str = "images") -> Tensor:
    """A float image batch (b, c, h, w) in [0, 1], b >= 1."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch tensor, got {type(value).__name__}")
    if value.ndim != 4 or 0 in value.shape:
        raise ValueError(f"{name}: expected shape (b, c, h, w), got {tuple(value.shape)}")
    if not value.is_floating_point():
        raise TypeError(f"{name}: expected float32 in [0, 1], got {value.dtype}")
    if not value.isfinite().all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    low, high = value.min().item(), value.max().item()
    if low < -1e-4 or high > 1 + 1e-4:
        raise ValueError(f"{name}: expected values in [0, 1], got {low:.4g} to {high:.4g}")
    return value.detach().float().clamp(0, 1)


def logits(value: Any, rows: int, name: str = "classifier") -> Tensor:
    """What a classifier must return for ``rows`` images: (rows, k) with k >= 2."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected logits as a torch tensor, got {type(value).__name__}")
    if value.ndim != 2 or value.shape[0] != rows or value.shape[1] < 2:
        raise ValueError(
            f"{name}: expected logits of shape ({rows}, k) with k >= 2, got {tuple(value.shape)}; "
            "cfx.wrap widens a single-logit head"
        )
    return value


def labels(value: Any, rows: int, classes: int, name: str = "target") -> Tensor:
    """One class a sample, (rows,) int64 in [0, classes); a single int stands for all."""
    if isinstance(value, bool) or not isinstance(value, int | Tensor):
        got = f"{type(value).__name__} {value!r}"
        raise TypeError(f"{name}: expected an int or an integer tensor, got {got[:80]}")
    tensor = torch.as_tensor(value)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name}: expected integer classes, got {tensor.dtype}")
    if tensor.ndim == 0:
        tensor = tensor.expand(rows)
    if tensor.shape != (rows,):
        raise ValueError(f"{name}: expected shape ({rows},), got {tuple(tensor.shape)}")
    if rows and not (tensor.min().item() >= 0 and tensor.max().item() < classes):
        raise ValueError(
            f"{name}: expected classes from 0 to {classes - 1}, "
            f"got {tensor.min().item()} to {tensor.max().item()}"
        )
    return tensor.to(torch.int64)


def number(
    value: Any, name: str, low: float, high: float = math.inf, *, open_low: bool = False
) -> float:
    """A finite number in [low, high], or in (low, high] with ``open_low``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__} {value!r}")
    if not math.isfinite(value) or value > high or value < low or (open_low and value == low):
        left = "(" if open_low else "["
        raise ValueError(f"{name}: expected a number in {left}{low}, {high}], got {value!r}")
    return float(value)


def count(value: Any, name: str, low: int = 0) -> int:
    """A whole number >= low."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected a whole number, got {type(value).__name__} {value!r}")
    if value < low:
        raise ValueError(f"{name}: expected a whole number >= {low}, got {value}")
    return value


def choice(value: Any, name: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {list(allowed)}, got {value!r}")
    return value


def space(value: Any, name: str = "space") -> Any:
    """Something with encode, decode, center and spread."""
    missing = [a for a in ("encode", "decode", "center", "spread") if not hasattr(value, a)]
    if missing:
        raise TypeError(
            f"{name}: expected a space with encode, decode, center and spread, "
            f"got {type(value).__name__} without {', '.join(missing)}"
        )
    return value


def function(value: Any, name: str) -> Any:
    if not callable(value):
        raise TypeError(f"{name}: expected a callable, got {type(value).__name__}")
    return value


def white_box(value: Any, name: str = "classifier") -> Any:
    """A classifier that lets gradients through; what it returns is checked when it does."""
    if isinstance(value, BlackBoxed):
        raise TypeError(
            f"{name}: expected one that passes gradients, got a BlackBox; "
            "use a black-box method instead"
        )
    return function(value, name)


def on_step(value: Any) -> Any:
    return None if value is None else function(value, "on_step")
