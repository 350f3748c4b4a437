"""Check a table of observations, and count units (rows) by stratum, cause and outcome."""

import dataclasses
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from cfxnb.core import validate


@dataclasses.dataclass(frozen=True, eq=False)
class ContingencyTable:
    """Number of units (rows of a table) in a context, per stratum and value of the cause.

    Attributes:
        values: Values of the cause in the whole table, sorted if they can be compared.
        n_units: Number of units per stratum, (strata,).
        n_value: Number of units with each value of the cause, (strata, values).
        n_outcome: Number of units that have the outcome, for each value of the cause, (strata,
            values).
    """

    values: list[Any]
    n_units: np.ndarray
    n_value: np.ndarray
    n_outcome: np.ndarray

    def of(self, value: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return how many units have a value of the cause, and how many of them have the outcome.

        The two numbers of units are arrays with one entry per stratum, (strata,).
        """
        column = self.values.index(value)
        return self.n_value[:, column], self.n_outcome[:, column]


def count(
    table: pd.DataFrame, cause: str, outcome: str, adjust: Iterable[str], context: Any
) -> ContingencyTable:
    """Count the units (rows) of a table; ``observed_scores`` explains the arguments.

    Raises:
        ValueError, TypeError: For a wrong argument.
    """
    x, o = _column(table, cause, "cause"), _column(table, outcome, "outcome")
    if cause == outcome:
        raise ValueError(f"outcome: expected another column than the cause, got {outcome!r}")
    if wrong := [v for v in o.unique() if v not in (0, 1)]:
        raise ValueError(f"outcome: expected booleans, or 0 and 1, got {wrong[0]!r} in {outcome!r}")
    strata = _strata(table, adjust, (cause, outcome))
    in_context = _context_mask(table, context, (cause, outcome))
    values = _ordered(x.drop_duplicates().tolist())
    index = {value: i for i, value in enumerate(values)}
    cell = strata * len(values) + np.array([index[v] for v in x.tolist()], dtype=np.intp)
    shape = (strata.max(initial=0) + 1, len(values))

    def per_cell(rows: np.ndarray) -> np.ndarray:
        return np.bincount(cell[rows], minlength=shape[0] * shape[1]).reshape(shape)

    n_value = per_cell(in_context)
    n_outcome = per_cell(in_context & o.isin([1]).to_numpy())
    return ContingencyTable(values, n_value.sum(1), n_value, n_outcome)


def value_and_baseline(
    table: pd.DataFrame, cause: str, outcome: str, value: Any, baseline: Any
) -> tuple[Any, Any]:
    """Check value and baseline of a cause. If the cause has two values, replace None by a default.

    If value and baseline are None, the value is that with the higher rate of the outcome.

    Raises:
        ValueError, TypeError: If value or baseline does not occur in the cause, if value and
            baseline are equal, or if one is None and the cause does not have exactly two values.
    """
    values = _ordered(table[cause].drop_duplicates().tolist())
    given = {"value": value, "baseline": baseline}
    for name, one in given.items():
        if one is not None:
            _check_occurs(one, values, name, cause)
    if value is not None and baseline is not None:
        if value == baseline:
            raise ValueError(f"baseline: expected another value than {value!r}, got {baseline!r}")
        return value, baseline
    if len(values) != 2:
        missing = " and ".join(name for name, one in given.items() if one is None)
        raise ValueError(
            f"{missing}: expected a value of {cause!r}, got None. Only a cause with two values has "
            f"a default; this one has {len(values)}: {validate.describe(values)}"
        )
    low, high = values
    has_outcome = table[outcome].isin([1])
    rate_low, rate_high = (has_outcome[table[cause].isin([v])].mean() for v in values)
    if value == low or baseline == high or (value is baseline is None and rate_low > rate_high):
        low, high = high, low
    return high, low


def _column(table: pd.DataFrame, column: Any, name: str) -> pd.Series:
    """Return a column of a table, after checking that it holds discrete values and no NaN."""
    series = table[validate.choice(column, name, table.columns)]
    if series.isna().any():
        raise ValueError(
            f"{name}: expected a column without missing values, got NaN in {column!r}. "
            f"Leave these rows out with table.dropna(subset=[{column!r}])."
        )
    try:
        series.nunique()
    except TypeError:
        kind = type(series.iloc[0]).__name__
        raise TypeError(f"{name}: expected discrete values in {column!r}, got {kind}") from None
    return series


def _strata(table: pd.DataFrame, adjust: Any, taken: tuple[str, str]) -> np.ndarray:
    """Return, for each row of a table, the index of the row's stratum.

    Rows with the same values in all columns ``adjust`` form one stratum.
    """
    names = list(dict.fromkeys(validate.texts(adjust, "adjust")))
    for name in names:
        _column(table, name, "adjust")
        if name in taken:
            raise ValueError(f"adjust: expected neither cause nor outcome, got {name!r}")
    if not names:
        return np.zeros(len(table), dtype=np.intp)
    return table.groupby(names, observed=True, sort=False).ngroup().to_numpy()


def _context_mask(table: pd.DataFrame, context: Any, taken: tuple[str, str]) -> np.ndarray:
    """Return which rows belong to the context, bool (rows,)."""
    rows = np.ones(len(table), dtype=bool)
    if context is None:
        return rows
    if isinstance(context, Mapping):
        for name, value in context.items():
            column = _column(table, name, "context")
            if name in taken:
                raise ValueError(f"context: expected neither cause nor outcome, got {name!r}")
            _check_occurs(value, column.drop_duplicates().tolist(), f"context[{name!r}]", name)
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


def _check_occurs(value: Any, values: list[Any], name: str, column: str) -> None:
    if not isinstance(value, Hashable) or isinstance(value, Tensor) or value is pd.NA:
        raise TypeError(f"{name}: expected a value of {column!r}, got {validate.describe(value)}")
    if value not in values:
        raise ValueError(
            f"{name}: expected a value of {column!r}, one of {str(values)[:80]}, got "
            f"{validate.describe(value)}"
        )


def _ordered(values: list[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:  # for example text and numbers: keep the order of the table
        return values
