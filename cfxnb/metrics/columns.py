"""The cells of one row of the table of ``report``: means with intervals and counts."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cfxnb.core.intervals import bootstrap_interval, wilson_interval

N_RESAMPLES = 1000


class Columns:
    """Collects the cells of one method's row in a table, by the name of the column.

    Undefined values, which are NaN, are left out of means and fractions. A cell is NaN if all
    values are undefined.

    Args:
        confidence_level: Confidence level of the intervals. If ``confidence_level`` is None, the
            row has no cells for intervals. If ``confidence_level`` is a number, each value gets the
            additional cells ``low``, ``high`` and ``n``.
    """

    def __init__(self, confidence_level: float | None) -> None:
        self.level = confidence_level
        self.row: dict[str, float] = {}

    def rate(self, name: str, hits: Tensor | None) -> None:
        """Add the fraction of hits that are True, with a Wilson interval. ``hits`` is bool (n,)."""
        count, total = (0, 0) if hits is None else (int(hits.sum()), len(hits))
        low, high = wilson_interval(count, total, self.level or 0.95)
        self.value(name, _ratio(count, total), total, float(low), float(high))

    def fraction(self, name: str, values: Tensor | np.ndarray | None) -> None:
        """Add the mean of the fractions that are not NaN, with a Wilson interval.

        The Wilson interval counts each image as one success or failure, which can only widen the
        interval. A bootstrap interval would have no width if all values are 1.
        """
        known = _known(values)
        total, n = float(known.sum()), len(known)
        low, _ = wilson_interval(math.floor(total), n, self.level or 0.95)
        _, high = wilson_interval(math.ceil(total), n, self.level or 0.95)
        self.value(name, _ratio(total, n), n, float(low), float(high))

    def mean(self, name: str, values: Tensor | np.ndarray | None) -> None:
        """Add a cell with the mean of the values that are not NaN, with a bootstrap interval."""
        known = _known(values)
        low, high = self._interval(known)
        mean = float(known.mean()) if len(known) else math.nan
        self.value(name, mean, len(known), low, high)

    def ratio(self, name: str, top: Tensor, bottom: Tensor, shared: float = 0.0) -> None:
        """Add (sum(top) + shared) / sum(bottom), with a bootstrap interval over the images."""
        a, b = _numbers(top), _numbers(bottom)
        n, total = len(a), b.sum()
        low, high = self._interval(a + shared / max(n, 1), b)
        self.value(name, _ratio(a.sum() + shared, total), n, low, high)

    def statistic(self, name: str, n: int, function: Callable[[Tensor], float]) -> None:
        """Add ``function(rows)`` for all rows, with an interval from 200 resamples of the rows."""
        value, low, high = math.nan, math.nan, math.nan
        if n:
            value = function(torch.arange(n))
        if n > 1 and self.level is not None:
            draw = np.random.default_rng(0)
            resamples = torch.from_numpy(draw.integers(n, size=(200, n)))
            ends = [(1 - self.level) / 2, (1 + self.level) / 2]
            low, high = np.quantile([function(rows) for rows in resamples], ends)
        self.value(name, value, n, float(low), float(high))

    def value(
        self, name: str, value: float, n: int, low: float = math.nan, high: float = math.nan
    ) -> None:
        """Add a value, and the ends of its interval. An unknown end is NaN."""
        self.row[name] = value
        if self.level is not None:
            self.row |= {f"{name} low": low, f"{name} high": high, f"{name} n": n}

    def _interval(
        self, values: np.ndarray, weights: np.ndarray | None = None
    ) -> tuple[float, float]:
        if self.level is None:
            return math.nan, math.nan
        return bootstrap_interval(
            values, weights, n_resamples=N_RESAMPLES, confidence_level=self.level
        )


def _known(values: Tensor | np.ndarray | None) -> np.ndarray:
    """Return the values that are not NaN."""
    found = np.zeros(0) if values is None else _numbers(values)
    return found[~np.isnan(found)]


def _numbers(values: Tensor | np.ndarray) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=float)


def _ratio(top: float, bottom: float) -> float:
    return float(top / bottom) if bottom else math.nan
