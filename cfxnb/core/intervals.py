"""Intervals of shares: how far a count out of n may be from the truth."""

from typing import Any

import numpy as np
from scipy.special import ndtri

from cfxnb.core import validate

Ends = np.float64 | np.ndarray
LARGEST = 1e15  # of a count: up to there floats hold all whole numbers


def wilson_interval(successes: Any, n: Any, confidence_level: float = 0.95) -> tuple[Ends, Ends]:
    """Wilson's score interval of a share (Wilson, 1927, "Probable inference").

    Unlike share +- 1.96 standard errors, it stays in [0, 1] and has a width at 0 and at n.

    Args:
        successes: whole numbers from 0 to n, a number or an array.
        n: whole numbers >= 0, a number or an array that broadcasts with ``successes``.
        confidence_level: of the two-sided interval, in (0, 1).

    Returns:
        (low, high) with 0 <= low <= successes / n <= high <= 1, of the broadcast shape. NaN where
        n is 0.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    confidence_level = checked_confidence(confidence_level)
    k, total = _counts(successes, "successes"), _counts(n, "n")
    try:
        k, total = np.broadcast_arrays(k, total)
    except ValueError:
        raise ValueError(
            f"successes, n: expected shapes that broadcast, got {k.shape} and {total.shape}"
        ) from None
    if (k > total).any():
        worst = np.argmax(k - total)
        raise ValueError(
            f"successes: expected at most n, got {k.flat[worst]:.0f} of {total.flat[worst]:.0f}"
        )
    z = ndtri((1 + confidence_level) / 2)
    safe = np.where(total > 0, total, np.nan)
    share, scale = k / safe, 1 + z**2 / safe
    mean = (share + z**2 / (2 * safe)) / scale
    half = z * np.sqrt(share * (1 - share) / safe + z**2 / (4 * safe**2)) / scale
    # Rounding must not take the ends of 0 out of n and n out of n off 0 and 1.
    low = np.where((k == 0) & (total > 0), 0.0, mean - half)
    high = np.where((k == total) & (total > 0), 1.0, mean + half)
    return low[()], high[()]


def checked_confidence(value: Any) -> float:
    """Of a two-sided interval, in (0, 1): for less than 1e-15 below 1 it would be infinite."""
    confidence_level = validate.number(value, "confidence_level", 0.0, 1.0, open_low=True)
    if confidence_level > 1 - 1e-15:
        raise ValueError(
            f"confidence_level: expected a number in (0.0, 1.0), got {confidence_level}"
        )
    return confidence_level


def _counts(value: Any, name: str) -> np.ndarray:
    """Whole numbers >= 0, as floats."""
    try:
        array = validate.array(value, name)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: expected whole numbers >= 0, got {validate.describe(value)}") from None
    if not ((array >= 0) & (array == np.floor(array)) & (array <= LARGEST)).all():
        raise ValueError(f"{name}: expected whole numbers >= 0, got {validate.describe(value)}")
    return array
