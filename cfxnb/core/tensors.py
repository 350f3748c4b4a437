"""Small tensor tools that every method shares."""

import math
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor


def noise_like(code: Tensor, seed: int, rows: Tensor | None = None) -> Tensor:
    """Standard normal noise, one draw a sample from (seed, row), always made on the CPU.

    What a sample gets depends neither on its batch mates nor on the device. ``rows`` are the
    samples' positions in the whole input; 0, 1, ... by default.
    """
    positions = range(len(code)) if rows is None else rows.tolist()
    draws = [
        torch.randn(
            code.shape[1:],
            generator=Generator("cpu").manual_seed(hash_seed(seed, row)),
            dtype=torch.float32,
            device="cpu",
        )
        for row in positions
    ]
    return torch.stack(draws).to(code) if draws else torch.empty_like(code)


def hash_seed(seed: int, row: int) -> int:
    """One seed from two numbers: neighbours must not give related streams."""
    return (seed * 0x9E3779B97F4A7C15 + row * 0xC2B2AE3D27D4EB4F + 0x165667B1) % 2**63


def positions(rows: Any, length: int, whole: str) -> Tensor:
    """The positions that ``rows`` choose among ``length``, int64 (n,), in the order asked for.

    Args:
        rows: a slice, a mask, several positions, or a single one; lists, arrays and tensors.
        whole: what has these rows, for the message.

    Raises:
        IndexError: if there is no such row, or ``rows`` is none of these.
    """
    if isinstance(rows, slice):
        return torch.from_numpy(np.arange(length)[rows].copy())
    try:
        plain = rows.detach().cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)
    except (RuntimeError, TypeError, ValueError):  # sparse or meta tensors, lists in lists
        raise IndexError(
            f"rows of {whole}: expected a slice, a mask or whole numbers, got "
            f"{type(rows).__name__} that can't be read as such"
        ) from None
    chosen = np.atleast_1d(plain)
    if not chosen.size:
        return torch.empty(
            0, dtype=torch.int64, device="cpu"
        )  # an empty list has no type of its own
    if chosen.ndim > 1 or chosen.dtype.kind not in "biu":
        raise IndexError(
            f"rows of {whole}: expected a slice, a mask or whole numbers in one dimension, "
            f"got {chosen.dtype} of shape {chosen.shape}"
        )
    if chosen.dtype.kind == "b":
        if len(chosen) != length:
            raise IndexError(f"rows of {whole}: expected a mask of as many, got {len(chosen)}")
        return torch.from_numpy(np.flatnonzero(chosen))
    outside = chosen[(chosen < -length) | (chosen >= length)]
    if len(outside):
        raise IndexError(f"row {outside[0]} of {whole}")
    return torch.from_numpy(np.arange(length)[chosen])


def norms(x: Tensor) -> Tensor:
    """L2 norm of each sample, (b, ...) -> (b,)."""
    return x.flatten(1).norm(dim=1)


def active_dims(std: Tensor) -> Tensor:
    """Coordinates that carry anything: those with at least 2 % of the largest spread.

    A variational autoencoder leaves coordinates unused that it doesn't need. In units of their
    own tiny spread they would count like any other, though the decoder ignores them.
    """
    return std > 0.02 * std.max()


def typical_distance(std: Tensor) -> float:
    """Between the codes of two images, in spreads: sqrt(2 d), d coordinates carrying anything."""
    return math.sqrt(2 * int(active_dims(std).sum()))


def standardise(change: Tensor, std: Tensor) -> Tensor:
    """A difference of codes in units of the spread; 0 in coordinates that carry nothing."""
    std = std.to(change)
    used = active_dims(std)
    # The divisor is never 0: torch.where would pass its infinity on to the gradient.
    return torch.where(used, change / torch.where(used, std, 1.0), 0.0)


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """(b,) -> (b, 1, ..., 1), to scale whole samples of ``like``."""
    return values.view(-1, *[1] * (like.ndim - 1))


def unit(x: Tensor, eps: float = 1e-12) -> Tensor:
    """Each sample divided by its L2 norm; a zero sample stays zero."""
    return x / per_sample(norms(x).clamp_min(eps), x)


def needs_gradient(logits: Tensor) -> None:
    """Refuse a classifier whose output is cut off from its input.

    Raises:
        TypeError: if there is no gradient to be had, as with a black box.
    """
    if not logits.requires_grad:
        raise TypeError(
            "classifier: expected one that passes gradients, got one that does not (a BlackBox, "
            "torch.no_grad, torch.inference_mode or numpy inside); use a black-box method instead"
        )


def gradient(values: Tensor, point: Tensor, retain_graph: bool = False) -> Tensor:
    """Gradient of ``values.sum()`` with respect to ``point``."""
    return torch.autograd.grad(values.sum(), point, retain_graph=retain_graph)[0]


def finite_rows(x: Tensor) -> Tensor:
    """Which samples hold only finite numbers, (b, ...) or (b,) -> bool (b,)."""
    return x.isfinite()[..., None].flatten(1).all(1)


def predicted(logits: Tensor) -> Tensor:
    """The class with the largest logit, int64 (b,); -1 where a logit is not finite.

    Every decision of the package is taken here: argmax alone takes NaN for a class.
    """
    return torch.where(logits.isfinite().all(1), logits.argmax(1), -1)
