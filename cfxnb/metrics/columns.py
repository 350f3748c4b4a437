"""The cells of one row of the table of ``report``: means with intervals and counts."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfxnb.core.intervals import bootstrap_interval, wilson_interval

N_RESAMPLES = 1000
Cell = tuple[float, float, float, float]  # value, ends of the interval, number of images


class Columns:
    """Collects the cells of one method's row in a table, by the name of the column.

    The images may come in parts, such as the shards of a folder: each call adds the values of
    further images to a column. ``row`` then computes the cells. Undefined values, which are NaN,
    are left out of means and fractions. A cell is NaN if all values are undefined.

    Args:
        confidence_level: Confidence level of the intervals. If ``confidence_level`` is None, the
            row has no cells for intervals. If ``confidence_level`` is a number, each value gets the
            additional cells ``low``, ``high`` and ``n``.
    """

    def __init__(self, confidence_level: float | None) -> None:
        self.level = confidence_level
        #: Name of the column -> the function that computes its cell, and the arguments of each call
        self._parts: dict[str, tuple[Callable[..., Cell], list[tuple[Any, ...]]]] = {}

    def row(self) -> dict[str, float]:
        """Return the cells of all columns."""
        row: dict[str, float] = {}
        for name, (cell, parts) in self._parts.items():
            value, low, high, n = cell(*zip(*parts, strict=True))
            row[name] = value
            if self.level is not None and cell != self._sum:
                row |= {f"{name} low": low, f"{name} high": high, f"{name} n": n}
        return row

    def count(self, name: str, count: int) -> None:
        """Add to a column that holds a sum, without an interval."""
        self._add(self._sum, name, count)

    def rate(self, name: str, hits: Tensor | None) -> None:
        """Add the fraction of hits that are True, with a Wilson interval. ``hits`` is bool (n,)."""
        count, total = (0, 0) if hits is None else (int(hits.sum()), len(hits))
        self._add(self._rate, name, count, total)

    def fraction(self, name: str, values: Tensor | np.ndarray | None) -> None:
        """Add the mean of the fractions that are not NaN, with a Wilson interval.

        The Wilson interval counts each image as one success or failure, which can only widen the
        interval. A bootstrap interval would have no width if all values are 1.
        """
        self._add(self._fraction, name, _known(values))

    def mean(self, name: str, values: Tensor | np.ndarray | None) -> None:
        """Add a cell with the mean of the values that are not NaN, with a bootstrap interval."""
        self._add(self._mean, name, _known(values))

    def ratio(self, name: str, top: Tensor, bottom: Tensor, shared: float = 0.0) -> None:
        """Add (sum(top) + shared) / sum(bottom), with a bootstrap interval over the images.

        ``shared`` belongs to all images together, and counts once if the images come in parts.
        """
        self._add(self._ratio, name, _numbers(top), _numbers(bottom), shared)

    def statistic(self, name: str, n: int, function: Callable[[Tensor], float]) -> None:
        """Add ``function(rows)`` for all rows, with an interval from 200 resamples of the rows."""
        self._add(self._statistic, name, n, function)

    def value(self, name: str, value: float, n: int) -> None:
        """Add a value that is known for all images together. It has no interval."""
        self._add(self._value, name, value, n)

    def quotient(self, name: str, top: float, bottom: int) -> None:
        """Add sum(top) / sum(bottom), without an interval."""
        self._add(self._quotient, name, top, bottom)

    def _add(self, cell: Callable[..., Cell], name: str, *values: Any) -> None:
        self._parts.setdefault(name, (cell, []))[1].append(values)

    def _sum(self, counts: Sequence[int]) -> Cell:
        return sum(counts), math.nan, math.nan, sum(counts)

    def _rate(self, counts: Sequence[int], totals: Sequence[int]) -> Cell:
        count, total = sum(counts), sum(totals)
        low, high = wilson_interval(count, total, self.level or 0.95)
        return _ratio(count, total), float(low), float(high), total

    def _fraction(self, values: Sequence[np.ndarray]) -> Cell:
        known = np.concatenate(values)
        total, n = float(known.sum()), len(known)
        low, _ = wilson_interval(math.floor(total), n, self.level or 0.95)
        _, high = wilson_interval(math.ceil(total), n, self.level or 0.95)
        return _ratio(total, n), float(low), float(high), n

    def _mean(self, values: Sequence[np.ndarray]) -> Cell:
        known = np.concatenate(values)
        mean = float(known.mean()) if len(known) else math.nan
        return mean, *self._interval(known), len(known)

    def _ratio(
        self, tops: Sequence[np.ndarray], bottoms: Sequence[np.ndarray], shared: Sequence[float]
    ) -> Cell:
        a, b, once = np.concatenate(tops), np.concatenate(bottoms), max(shared)
        value = _ratio(a.sum() + once, b.sum())
        return value, *self._interval(a + once / max(len(a), 1), b), len(a)

    def _statistic(
        self, counts: Sequence[int], functions: Sequence[Callable[[Tensor], float]]
    ) -> Cell:
        (n,), (function,) = counts, functions
        value, low, high = math.nan, math.nan, math.nan
        if n:
            value = function(torch.arange(n))
        if n > 1 and self.level is not None:
            draw = np.random.default_rng(0)
            resamples = torch.from_numpy(draw.integers(n, size=(200, n)))
            ends = [(1 - self.level) / 2, (1 + self.level) / 2]
            low, high = np.quantile([function(rows) for rows in resamples], ends)
        return value, float(low), float(high), n

    def _value(self, values: Sequence[float], counts: Sequence[int]) -> Cell:
        return values[0], math.nan, math.nan, sum(counts)

    def _quotient(self, tops: Sequence[float], bottoms: Sequence[int]) -> Cell:
        return _ratio(sum(tops), sum(bottoms)), math.nan, math.nan, sum(bottoms)

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
