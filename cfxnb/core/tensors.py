"""Small tensor functions that all methods share."""

import math
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

USUAL_DIMS = 20  # largest number of active dimensions up to which squared distances count in full


def noise_like(code: Tensor, seed: int, rows: Tensor | None = None) -> Tensor:
    """Return standard normal noise with the shape of ``code``.

    The noise of a sample depends only on (seed, row). Noise is drawn on the CPU, and therefore does
    not depend on the device.

    Args:
        code: Tensor (b, ...).
        rows: Rows of the samples in the data set, (b,). Default: 0, 1, ...
    """
    positions = range(len(code)) if rows is None else rows.tolist()
    own = [Generator("cpu").manual_seed(hash_seed(seed, row)) for row in positions]
    shape, kind = code.shape[1:], torch.float32
    draws = [torch.randn(shape, generator=each, dtype=kind, device="cpu") for each in own]
    return torch.stack(draws).to(code) if draws else torch.empty_like(code)


def hash_seed(seed: int, row: int) -> int:
    """Combine a seed and a row to one seed. Neighbouring rows get unrelated seeds."""
    return (seed * 0x9E3779B97F4A7C15 + row * 0xC2B2AE3D27D4EB4F + 0x165667B1) % 2**63


def positions(rows: Any, length: int, whole: str) -> Tensor:
    """Return the n positions that ``rows`` selects out of ``length``, int64 (n,), in the order of
    ``rows``.

    Args:
        rows: A slice, a mask, positions, or a single position. ``rows`` may be a list, an array or
            a tensor.
        whole: Description of the indexed object, for messages.

    Raises:
        IndexError: If a position does not exist, or if ``rows`` has another type.
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
    if not chosen.size:  # an empty list has no type of its own
        return torch.empty(0, dtype=torch.int64, device="cpu")
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
    """Return the L2 norm of each sample, (b, ...) -> (b,)."""
    return x.flatten(1).norm(dim=1)


def active_dims(std: Tensor) -> Tensor:
    """Return which coordinates of a code are active: those with a std above 2 % of the largest.

    A variational autoencoder leaves some coordinates unused. Unused coordinates have a tiny std.
    Measured in their own std, unused coordinates would count as much as the others, although the
    decoder ignores them."""
    return std > 0.02 * std.max()


def typical_distance(std: Tensor) -> float:
    """Return the typical distance of two codes, in standard deviations.

    The typical distance is sqrt(2 d), where d is the number of active dimensions. This holds for
    correlated coordinates too: the mean squared distance of two codes is twice the sum of the
    variances of all coordinates, or, which is the same, of all axes of their covariance.
    """
    return math.sqrt(2 * int(active_dims(std).sum()))


def distance_weight(std: Tensor) -> float:
    """Return the factor min(1, 20 / d) for squared distances of codes with d active dimensions.

    A squared distance is a sum over coordinates, so it grows with d. The log odds of a class do
    not. In a code of many dimensions, a loss with both can depend on little but the distances. With
    the factor, a squared distance counts as in a code of ``USUAL_DIMS`` = 20 dimensions at most.
    """
    return USUAL_DIMS / max(USUAL_DIMS, int(active_dims(std).sum()))


def standardise(change: Tensor, std: Tensor) -> Tensor:
    """Return a difference of codes in standard deviations. Inactive coordinates become 0."""
    std = std.to(change)
    used = active_dims(std)
    # The divisor is never 0: torch.where would pass its infinity on to the gradient.
    return torch.where(used, change / torch.where(used, std, 1.0), 0.0)


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Reshape (b,) to (b, 1, ..., 1), to multiply each sample of ``like`` by its own number."""
    return values.view(-1, *[1] * (like.ndim - 1))


def unit(x: Tensor, eps: float = 1e-12) -> Tensor:
    """Divide each sample by its L2 norm. A sample of zeros stays zero."""
    return x / per_sample(norms(x).clamp_min(eps), x)


def require_gradient(logits: Tensor) -> None:
    """Raise TypeError if no gradient passes through the classifier, as with a black box."""
    if not logits.requires_grad:
        raise TypeError(
            "classifier: expected one that passes gradients, got one that does not (a BlackBox, "
            "torch.no_grad, torch.inference_mode or numpy inside); use a black-box method instead"
        )


def gradient(values: Tensor, point: Tensor, retain_graph: bool = False) -> Tensor:
    """Return the gradient of ``values.sum()`` with respect to ``point``."""
    ones = torch.ones_like(values)
    return torch.autograd.grad(values, point, ones, retain_graph=retain_graph)[0]


def finite_rows(x: Tensor) -> Tensor:
    """Return which samples hold only finite numbers, (b, ...) or (b,) -> bool (b,)."""
    return x.isfinite()[..., None].flatten(1).all(1)


def predicted(logits: Tensor) -> Tensor:
    """Return the class with the largest logit, int64 (b,), or -1 if a logit is not finite.

    All parts of the package use ``predicted``, because argmax would treat NaN as the largest logit.
    """
    return torch.where(logits.isfinite().all(1), logits.argmax(1), -1)
