"""Confidence intervals of proportions."""

from typing import Any

import numpy as np
from scipy.special import ndtri

from cfxnb.core import validate

Ends = np.float64 | np.ndarray
MAX_COUNT = 1e15  # up to there floats represent all integers


def wilson_interval(successes: Any, n: Any, confidence_level: float = 0.95) -> tuple[Ends, Ends]:
    """Return the Wilson score interval of a proportion (Wilson, 1927).

    Unlike the normal approximation, the Wilson interval stays in [0, 1] and has a positive width
    for 0 and for n successes. The values equal those of
    ``scipy.stats.binomtest(k, n).proportion_ci(method="wilson")``, which does not take arrays.

    Args:
        successes: Integers from 0 to n, one number or an array.
        n: Integers >= 0, one number or an array that broadcasts with ``successes``.
        confidence_level: Confidence level of the two-sided interval, in (0, 1). Default: 0.95.

    Returns:
        (low, high) of the broadcast shape, with 0 <= low <= successes / n <= high <= 1. Where n is
        0, low and high are NaN.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    confidence_level = checked_confidence_level(confidence_level)
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
    safe_n = np.where(total > 0, total, np.nan)
    p, scale = k / safe_n, 1 + z**2 / safe_n
    center = (p + z**2 / (2 * safe_n)) / scale
    half = z * np.sqrt(p * (1 - p) / safe_n + z**2 / (4 * safe_n**2)) / scale
    # For 0 and for n successes one end is exactly 0 or 1; rounding must not move it.
    low = np.where((k == 0) & (total > 0), 0.0, center - half)
    high = np.where((k == total) & (total > 0), 1.0, center + half)
    return low[()], high[()]


def checked_confidence_level(value: Any) -> float:
    """Return a confidence level in (0, 1).

    A level within 1e-15 of 1 is refused, because the interval would be infinite.
    """
    confidence_level = validate.number(value, "confidence_level", 0.0, 1.0, open_low=True)
    if confidence_level > 1 - 1e-15:
        raise ValueError(
            f"confidence_level: expected a number in (0.0, 1.0), got {confidence_level}"
        )
    return confidence_level


def _counts(value: Any, name: str) -> np.ndarray:
    """Check that the numbers are integers >= 0, and return them as floats."""
    wrong = f"{name}: expected whole numbers >= 0, got {validate.describe(value)}"
    try:
        array = validate.array(value, name)
    except (TypeError, ValueError) as error:
        raise type(error)(wrong) from None
    if not ((array >= 0) & (array == np.floor(array)) & (array <= MAX_COUNT)).all():
        raise ValueError(wrong)
    return array


def bootstrap_interval(
    values: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of sum(values) / sum(weights) (Efron, 1979).

    Args:
        values: Finite numbers, one per image, (n,).
        weights: Divisors, one per image, (n,). By default, all weights are 1, and the interval is
            that of the mean of ``values``.
        n_resamples: Number of samples of n images, drawn with replacement.
        seed: Seed of the resamples.

    Returns:
        (low, high), or NaN for fewer than two images. Resamples whose weights are all 0 are left
        out.
    """
    n = len(values)
    if n < 2:
        return np.nan, np.nan
    weights = np.ones(n) if weights is None else weights
    draw = np.random.default_rng(seed)
    counts = draw.multinomial(n, np.full(n, 1 / n), size=n_resamples)
    top, bottom = counts @ values, counts @ weights
    ratios = top[bottom > 0] / bottom[bottom > 0]
    if not len(ratios):
        return np.nan, np.nan
    low, high = np.quantile(ratios, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    return float(low), float(high)
