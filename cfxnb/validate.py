"""Checks at the border: every message names the argument, what was expected, what came."""

import math
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any, TypeVar

import torch
from torch import Tensor

from cfxnb.results import Counterfactuals
from cfxnb.types import Code

T = TypeVar("T")


class BlackBoxed:
    """What ``cfxnb.BlackBox`` is, for checks below it."""


def told(value: Any) -> str:
    """What came, for a message: its type and the beginning of what it shows."""
    return f"{type(value).__name__} {value!r}"[:80]


def instance(value: Any, kind: type, name: str, what: str = "") -> Any:
    """An object of ``kind``, which the message calls ``what``."""
    if not isinstance(value, kind):
        raise TypeError(f"{name}: expected {what or kind.__name__}, got {type(value).__name__}")
    return value


def optional(check: Callable[[Any, str], T], value: Any, name: str) -> T | None:
    """None, or what ``check`` accepts."""
    return None if value is None else check(value, name)


def images(value: Any, name: str = "images") -> Tensor:
    """A float image batch (b, c, h, w) in [0, 1], b >= 1."""
    instance(value, Tensor, name, "a torch tensor")
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
    instance(value, Tensor, name, "logits as a torch tensor")
    if value.ndim != 2 or value.shape[0] != rows or value.shape[1] < 2:
        raise ValueError(
            f"{name}: expected logits of shape ({rows}, k) with k >= 2, got {tuple(value.shape)}; "
            "cfx.wrap widens a single-logit head"
        )
    return value


def labels(value: Any, rows: int, classes: int, name: str = "target") -> Tensor:
    """One class a sample, (rows,) int64 in [0, classes); a single int stands for all."""
    if isinstance(value, bool) or not isinstance(value, int | Tensor):
        raise TypeError(f"{name}: expected an int or an integer tensor, got {told(value)}")
    tensor = torch.as_tensor(value)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name}: expected integer classes, got {tensor.dtype}")
    if tensor.ndim == 0:
        tensor = tensor.expand(rows)
    if tensor.shape != (rows,):
        raise ValueError(f"{name}: expected shape ({rows},), got {tuple(tensor.shape)}")
    if rows and not (tensor.min().item() >= 0 and tensor.max().item() < classes):
        low, high = tensor.min().item(), tensor.max().item()
        came = f"{low}" if low == high else f"{low} to {high}"
        raise ValueError(f"{name}: expected classes from 0 to {classes - 1}, got {came}")
    return tensor.to(torch.int64)


def number(
    value: Any, name: str, low: float, high: float = math.inf, *, open_low: bool = False
) -> float:
    """A finite number in [low, high], or in (low, high] with ``open_low``."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {told(value)}")
    value = float(value)
    if not math.isfinite(value) or value > high or value < low or (open_low and value == low):
        left = "(" if open_low else "["
        raise ValueError(f"{name}: expected a number in {left}{low}, {high}], got {value!r}")
    return value


def count(value: Any, name: str, low: int = 0) -> int:
    """A whole number >= low."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected a whole number, got {told(value)}")
    if value < low:
        raise ValueError(f"{name}: expected a whole number >= {low}, got {value}")
    return int(value)


def flag(value: Any, name: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {told(value)}")
    return value


def choice(value: Any, name: str, allowed: Iterable[str]) -> str:
    """One of the ``allowed`` names."""
    known = list(allowed)
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected one of {known}, got {told(value)}")
    if value not in known:
        raise ValueError(f"{name}: expected one of {known}, got {value!r}")
    return value


def device(value: Any, name: str = "device") -> torch.device:
    """A device that torch has here; None for the best there is: CUDA, else MPS, else the CPU."""
    if value is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=value).device
    # A torch that was built without CUDA says so by an assertion.
    except (RuntimeError, TypeError, AssertionError):
        raise ValueError(
            f"{name}: expected one that torch has here, such as 'cpu', got {told(value)}"
        ) from None


def names(value: Any, name: str, count: int | None = None) -> tuple[str, ...]:
    """A sequence of names, perhaps ``count`` of them; a text is not taken for its letters."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{name}: expected a sequence of names, got {told(value)}")
    listed = tuple(str(v) for v in value)
    if count is not None and len(listed) != count:
        raise ValueError(f"{name}: expected {count} names, got {len(listed)}")
    return listed


def space(value: Any, name: str = "space") -> Any:
    """Something with encode, decode, center and spread."""
    missing = [a for a in ("encode", "decode", "center", "spread") if not hasattr(value, a)]
    if missing:
        raise TypeError(
            f"{name}: expected a space with encode, decode, center and spread, "
            f"got {type(value).__name__} without {', '.join(missing)}"
        )
    for part in ("center", "spread"):
        tensor = instance(getattr(value, part), Tensor, f"{name}.{part}", "a torch tensor")
        if not tensor.isfinite().all():
            raise ValueError(f"{name}.{part}: expected finite numbers, got NaN or infinity")
    if (value.spread < 0).any() or not (value.spread > 0).any():
        raise ValueError(
            f"{name}.spread: expected numbers >= 0, some of them positive, "
            f"got {value.spread.min().item():.4g} to {value.spread.max().item():.4g}"
        )
    return value


def diffusion(value: Any, name: str = "space") -> Any:
    """A space that also has alphas, eps, tell and conditions, such as ``Diffusion``."""
    space(value, name)
    missing = [a for a in ("alphas", "eps", "tell", "conditions") if not hasattr(value, a)]
    if missing:
        raise TypeError(
            f"{name}: expected a Diffusion space, got {type(value).__name__} without "
            f"{', '.join(missing)}"
        )
    return value


def same_classes(judge: Any, images: Tensor, classes: int, name: str) -> Tensor:
    """What another classifier reads, (n,): of use only if it has the same classes.

    Raises:
        ValueError: if it has another number of them.
    """
    read = logits(judge(images), len(images), name)
    if read.shape[1] != classes:
        raise ValueError(
            f"{name}: expected the {classes} classes of the results, got {read.shape[1]}; "
            "wrap one that adds up the probabilities of what belongs together"
        )
    return read.argmax(1)


def codes(value: Any, name: str) -> tuple[Code, Code]:
    """Where a result's changes begin and where they end."""
    cf: Counterfactuals = instance(value, Counterfactuals, name)
    if cf.start is None or cf.code is None:
        raise TypeError(
            f"{name}: expected a result with codes, as latent_attack returns, got a result "
            "without codes, such as that of pixel_attack"
        )
    return cf.start, cf.code


def function(value: Any, name: str) -> Any:
    """Anything that can be called."""
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
    return optional(function, value, "on_step")
