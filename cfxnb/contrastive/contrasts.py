"""Contrasts: the two values of each attribute between which the attribute is edited."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from cfxnb.core import validate

Contrasts = dict[str, tuple[Any, Any]]
"""attribute -> (baseline, value)"""


def checked_factors(factors: Any, rows: int, names: Iterable[str] = ()) -> pd.DataFrame:
    """Check a table of factors with one row per image.

    The columns ``names`` must hold discrete values.
    """
    table = validate.table(factors, "factors", rows)
    if wrong := [name for name in table.columns if not isinstance(name, str)]:
        raise TypeError(
            f"factors: expected texts as names of columns, got {validate.describe(wrong[0])}. "
            "Convert them with factors.columns = map(str, factors.columns)."
        )
    for name in names:
        if name in table:
            validate.discrete(table[name], "factors")
    return table


def checked_contrasts(
    factors: pd.DataFrame, contrasts: Mapping[str, Any] | None, rows: int
) -> Contrasts:
    """Check the contrasts, or make default contrasts from the columns of ``factors``.

    The default contrast of a column has the two values of the column, sorted.

    Raises:
        ValueError, TypeError: If ``factors`` is not a DataFrame with ``rows`` rows, or if an
            attribute or a value of a contrast does not occur in ``factors``. If ``contrasts`` is
            None, a column with more than two values also raises an error.
    """
    factors = checked_factors(factors, rows)
    if contrasts is None:
        contrasts = {name: _all_values(factors[name]) for name in factors.columns.tolist()}
    validate.instance(contrasts, Mapping, "contrasts", "a dict: factor -> (baseline, value)")
    checked: Contrasts = {}
    for name, pair in contrasts.items():
        validate.choice(name, "contrasts", factors.columns)
        try:
            values = validate.pair(pair, f"contrasts[{name!r}]")
        except ValueError as error:
            raise ValueError(
                f"{error}. If the factor has more than two values, choose two in contrasts."
            ) from None
        validate.discrete(factors[name], "factors")
        for value in values:
            if not (factors[name] == value).any():
                raise ValueError(
                    f"contrasts[{name!r}]: expected values that occur in factors, got "
                    f"{validate.describe(value)}"
                )
        checked[name] = values
    if not checked:
        raise ValueError("contrasts: expected at least one factor, got none")
    return checked


def _all_values(column: pd.Series) -> tuple[Any, ...]:
    """Return the different values of a column, sorted if they can be compared."""
    if column.isna().any():
        raise ValueError(
            f"factors: expected a value in every row of {column.name!r}, got NaN. Name its two "
            "values in contrasts; rows with neither value are then skipped."
        )
    values = validate.discrete(column, "factors").unique().tolist()
    try:
        return tuple(sorted(values))
    except TypeError:  # for example text and numbers in one column
        return tuple(values)


def contrast_indices(factors: Any, contrasts: Contrasts, rows: int) -> dict[str, np.ndarray]:
    """Return which of two values n images have, for each attribute: dict attribute -> (n,).

    The entry of an image is 1 for the value of the contrast, 0 for the baseline, and -1 for
    neither.
    """
    checked_factors(factors, rows)
    if missing := [name for name in contrasts if name not in factors]:
        raise ValueError(f"factors: expected columns {missing}, got {list(factors.columns)}")
    try:
        return {
            name: pd.Index(pair).get_indexer(pd.Index(factors[name]))
            for name, pair in contrasts.items()
        }
    except TypeError:  # lists and arrays in a column
        raise TypeError(
            f"factors: expected the values of {contrasts}, got lists in a column"
        ) from None
