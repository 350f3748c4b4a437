"""Count the outcomes before and after the edits, and compute the scores of each attribute."""

import numpy as np
import pandas as pd

from cfxnb.contrastive.contrasts import Contrasts
from cfxnb.core.intervals import wilson_interval


def tally(
    units: pd.DataFrame, contrasts: Contrasts, confidence_level: float, orient: bool = True
) -> pd.DataFrame:
    """Compute the scores of each attribute from the outcomes before and after the edits.

    A unit is a pair of one image and one attribute. The outcome before the edit is the unit's
    potential outcome under the value that the image has. The outcome after the edit is the unit's
    potential outcome under the other value of the attribute.

    Args:
        units, contrasts: As in ``ContrastiveScores``.
        confidence_level: Confidence level of the Wilson intervals, in (0, 1).
        orient: If True, swap value and baseline of an attribute if the baseline favours the outcome
            more than the value does.

    Returns:
        ``ContrastiveScores.table``.
    """
    table = {}
    for attribute, (baseline, value) in contrasts.items():
        own = units[units["factor"] == attribute]
        used = own[own["used"]]
        x = (used["value"] == value).to_numpy(bool)
        before, after = (used[column].to_numpy(bool) for column in ("before", "after"))
        o_x, o_other = np.where(x, before, after), np.where(x, after, before)
        if orient and o_other.sum() > o_x.sum():
            value, baseline, x, o_x, o_other = baseline, value, ~x, o_other, o_x
        everyone = np.ones_like(x)
        row = {
            "value": value,
            "baseline": baseline,
            **_rate("necessity", ~o_other, x & o_x, confidence_level),
            **_rate("sufficiency", o_x, ~x & ~o_other, confidence_level),
            **_rate("pns", o_x & ~o_other, everyone, confidence_level),
            **_rate("monotonicity_violation", ~o_x & o_other, everyone, confidence_level),
        }
        for column in ("took effect", "clean"):
            row[column] = float(own[column].mean()) if column in own else np.nan
        table[attribute] = row
    return pd.DataFrame.from_dict(table, orient="index")


def _rate(name: str, event: np.ndarray, among: np.ndarray, level: float) -> dict[str, float]:
    """Return a dict with one score, the interval of the score, and the number of units.

    Of the units in the mask ``among``, the score is the fraction that is also in the mask
    ``event``.
    """
    k, n = int((event & among).sum()), int(among.sum())
    low, high = wilson_interval(k, n, level)
    rate = k / n if n else np.nan
    return {name: rate, f"{name} low": float(low), f"{name} high": float(high), f"{name} n": n}


def leakage_of(units: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Return the fraction of edits of each attribute (row) that changed another factor (column).

    Args:
        units: As in ``ContrastiveScores``.
        names: The attributes.

    Returns:
        ``ContrastiveScores.leakage``, which is empty if there was no judge.
    """
    changed = [c for c in map(str, units.columns) if c.startswith("changed ")]
    columns = {c: c.removeprefix("changed ") for c in changed}
    if not columns:
        return pd.DataFrame()
    leakage = units.groupby("factor")[list(columns)].mean().rename(columns=columns)
    leakage = leakage.reindex(names).astype(float)
    for name in names:
        leakage.loc[name, name] = np.nan  # the edited attribute is meant to change
    return leakage
