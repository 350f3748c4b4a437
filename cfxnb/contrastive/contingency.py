"""A table of observations, checked and counted: how often did what go with what?"""

import dataclasses
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from cfxnb.core import validate


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
    """Units of a context in each of s strata and with each of v values of the cause.

    Attributes:
        values: of the cause anywhere in the table, in order if they have one.
        units: (s,), all.
        seen: (s, v), those with the value.
        happened: (s, v), those with the value and the outcome.
    """

    values: list[Any]
    units: np.ndarray
    seen: np.ndarray
    happened: np.ndarray

    def of(self, value: Any) -> tuple[np.ndarray, np.ndarray]:
        """(seen, happened), each (s,)."""
        column = self.values.index(value)
        return self.seen[:, column], self.happened[:, column]


def read(
    table: pd.DataFrame, cause: str, outcome: str, adjust: Iterable[str], context: Any
) -> Counts:
    """Count a table; see ``observed_scores`` for the arguments.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    table = validate.table(table, "table")
    x, o = _column(table, cause, "cause"), _column(table, outcome, "outcome")
    if cause == outcome:
        raise ValueError(f"outcome: expected another column than the cause, got {outcome!r}")
    if wrong := [v for v in o.unique() if v not in (0, 1)]:
        raise ValueError(f"outcome: expected booleans, or 0 and 1, got {wrong[0]!r} in {outcome!r}")
    strata = _strata(table, adjust, (cause, outcome))
    here = _context(table, context, (cause, outcome))
    values = _ordered(x.drop_duplicates().tolist())
    place = {value: i for i, value in enumerate(values)}
    cell = strata * len(values) + np.array([place[v] for v in x.tolist()], dtype=np.intp)
    shape = (strata.max(initial=0) + 1, len(values))

    def count(rows: np.ndarray) -> np.ndarray:
        return np.bincount(cell[rows], minlength=shape[0] * shape[1]).reshape(shape)

    seen = count(here)
    return Counts(values, seen.sum(1), seen, count(here & o.isin([1]).to_numpy()))


def pair(
    table: pd.DataFrame, cause: str, outcome: str, value: Any, baseline: Any
) -> tuple[Any, Any]:
    """The value and the one instead; of two values, the one with more of the outcome comes first.

    Raises:
        ValueError, TypeError: if they don't occur, are equal, or are missing and not obvious.
    """
    values = _ordered(table[cause].drop_duplicates().tolist())
    for name, one in (("value", value), ("baseline", baseline)):
        if one is not None:
            _occurs(one, values, name, cause)
    if value is not None and baseline is not None:
        if value == baseline:
            raise ValueError(f"baseline: expected another value than {value!r}, got {baseline!r}")
        return value, baseline
    if len(values) != 2:
        missing = " and ".join(
            n for n, v in (("value", value), ("baseline", baseline)) if v is None
        )
        raise ValueError(
            f"{missing}: expected to be told for a cause that hasn't two values, got None; "
            f"{cause!r} has {len(values)}: {validate.describe(values)}"
        )
    low, high = values
    happens = table[outcome].isin([1])
    share_low, share_high = (happens[table[cause].isin([v])].mean() for v in values)
    if value == low or baseline == high or (value is baseline is None and share_low > share_high):
        low, high = high, low
    return high, low


def _column(table: pd.DataFrame, column: Any, name: str) -> pd.Series:
    """A column of discrete values without NaN."""
    series = table[validate.choice(column, name, table.columns)]
    if series.isna().any():
        raise ValueError(
            f"{name}: expected a column without missing values, got NaN in {column!r}; "
            f"leave these rows out, by table.dropna(subset=[{column!r}])"
        )
    try:
        series.nunique()
    except TypeError:
        kind = type(series.iloc[0]).__name__
        raise TypeError(f"{name}: expected discrete values in {column!r}, got {kind}") from None
    return series


def _strata(table: pd.DataFrame, adjust: Any, taken: tuple[str, str]) -> np.ndarray:
    """The number of each row's combination of values of the columns adjusted for, (rows,)."""
    names = list(dict.fromkeys(validate.texts(adjust, "adjust")))
    for name in names:
        _column(table, name, "adjust")
        if name in taken:
            raise ValueError(f"adjust: expected neither cause nor outcome, got {name!r}")
    if not names:
        return np.zeros(len(table), dtype=np.intp)
    return table.groupby(names, observed=True, sort=False).ngroup().to_numpy()


def _context(table: pd.DataFrame, context: Any, taken: tuple[str, str]) -> np.ndarray:
    """The rows that belong to the context, (rows,) bool."""
    rows = np.ones(len(table), dtype=bool)
    if context is None:
        return rows
    if isinstance(context, Mapping):
        for name, value in context.items():
            column = _column(table, name, "context")
            if name in taken:
                raise ValueError(f"context: expected neither cause nor outcome, got {name!r}")
            _occurs(value, column.drop_duplicates().tolist(), f"given[{name!r}]", name)
            rows &= column.isin([value]).to_numpy()
        return rows
    if isinstance(context, pd.Series) and not context.index.equals(table.index):
        raise ValueError("context: expected a mask with the table's index, got another index")
    many = isinstance(context, Sequence | np.ndarray | pd.Series | Tensor | bool)
    if not many or isinstance(context, str):
        raise TypeError(
            f"context: expected a mask of booleans or a dict of column -> value, "
            f"got {validate.describe(context)}"
        )
    return validate.mask(context, "context", len(table))


def _occurs(value: Any, values: list[Any], name: str, column: str) -> None:
    if not isinstance(value, Hashable) or isinstance(value, Tensor) or value is pd.NA:
        raise TypeError(f"{name}: expected a value of {column!r}, got {validate.describe(value)}")
    if value not in values:
        raise ValueError(
            f"{name}: expected a value of {column!r}, out of {str(values)[:80]}, got "
            f"{validate.describe(value)}"
        )


def _ordered(values: list[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:  # texts and numbers, say, stay as they came
        return values
