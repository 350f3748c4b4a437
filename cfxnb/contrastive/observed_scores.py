"""Necessity and sufficiency from a table of observations: estimates and bounds.

Let o be the outcome, x a value of the cause, x' the baseline of the cause, and k a context:

    necessity:    P(not o, had the cause been x' | x, o, k)
    sufficiency:  P(o, had the cause been x | x', not o, k)
    pns:          P(o with x, and not o with x' | k)

Each score compares the outcomes of a unit under the values x and x' of the cause, but a table shows
each unit under only one value. Tian & Pearl (2000, "Probabilities of causation: bounds and
identification") derive bounds of the scores from a table of observations. Under monotonicity (the
value x never prevents the outcome), Tian & Pearl also derive the exact scores. Galhotra, Pradhan &
Salimi (2021, LEWIS, "Explaining black-box algorithms using probabilistic contrastive
counterfactuals") use necessity and sufficiency to explain classifiers.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from cfxnb.contrastive.contingency import ContingencyTable, count, value_and_baseline
from cfxnb.core import validate
from cfxnb.core.saved import Result

SCORES = ("necessity", "sufficiency", "pns")
Interval = tuple[float, float]
Context = Mapping[str, Any] | Any
"""A mask of the rows (sequence of booleans), or a dict column -> value. None keeps every row."""


@dataclasses.dataclass(frozen=True)
class ScoreBounds(Result):
    """Bounds (low, high) of each score: necessity, sufficiency and pns.

    Bounds are in [0, 1] if the table and the interventional probabilities P(o | do) agree. If the
    table and the interventional probabilities contradict each other, low can exceed high, and a
    bound can lie outside [0, 1]. A contradiction between table and interventional probabilities
    means nothing if it is no larger than the sampling error. The bounds of a score are (NaN, NaN)
    if no unit contributes to the score, or if an interventional probability P(o | do) is unknown.
    """

    necessity: Interval
    sufficiency: Interval
    pns: Interval

    def __post_init__(self) -> None:
        validate.fields(self)

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per score, and the columns ``low`` and ``high``."""
        bounds = {name: getattr(self, name) for name in SCORES}
        table = pd.DataFrame.from_dict(bounds, orient="index", columns=["low", "high"])
        return table.rename_axis("score")


@dataclasses.dataclass(frozen=True)
class ObservedScores(Result):
    """Scores of one cause, estimated from a table by ``observed_scores``.

    Attributes:
        value, baseline: The values x and x' of the cause.
        necessity, sufficiency, pns: The estimated scores, not clipped to [0, 1].
        bounds: Bounds of the scores that hold without monotonicity.
        n: Number of units from which each score is estimated. Necessity is estimated from the units
            with the value x and the outcome, sufficiency from the units with the baseline x' and
            without the outcome, and pns from all units.
        overlap_violation: Fraction of units, in [0, 1], whose stratum contains no unit with the
            value x or no unit with the baseline x'.
    """

    value: Any
    baseline: Any
    necessity: float
    sufficiency: float
    pns: float
    bounds: ScoreBounds
    n: dict[str, int]
    overlap_violation: float

    def __post_init__(self) -> None:
        validate.fields(self)

    def _check_saved(self) -> None:
        if set(self.n) != set(SCORES):
            raise ValueError(f"n: expected the number of units of {SCORES}, got {list(self.n)[:5]}")

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per score: necessity, sufficiency and pns.

        The columns are ``estimate``, ``low`` and ``high`` (bounds), ``n`` (number of units), and
        ``value``, ``baseline`` and ``overlap_violation``, which are the same in all rows.
        """
        table = self.bounds.to_frame()
        table.insert(0, "estimate", [getattr(self, name) for name in SCORES])
        table["n"] = [self.n[name] for name in SCORES]
        for name in ("value", "baseline", "overlap_violation"):
            table[name] = getattr(self, name)
        return table


def observed_scores(
    table: pd.DataFrame,
    cause: str,
    outcome: str,
    *,
    adjust: Iterable[str] = (),
    value: Any = None,
    baseline: Any = None,
    context: Context = None,
) -> ObservedScores:
    """Estimate necessity and sufficiency by back-door adjustment, with bounds.

    The estimates rest on two assumptions that a table cannot confirm: the back-door criterion and
    monotonicity. Back-door criterion: the columns ``adjust`` block every path from the cause to the
    outcome that starts with an arrow into the cause, and none of the columns ``adjust`` is an
    effect of the cause.
    Monotonicity: no unit loses the outcome if the cause is changed from the baseline x' to the
    value x. The bounds of the scores need only the back-door criterion, not monotonicity. Estimates
    are not clipped, because a value far outside [0, 1] shows that an assumption fails. An estimate
    inside [0, 1] does not show that the assumptions hold.

    Args:
        table: Table of observations with one row per unit. The columns of the table may have
            nullable types of pandas.
        cause: Name of the column with the cause, which has discrete values.
        outcome: Name of the column with the outcome, as booleans or as 0 and 1.
        adjust: Names of the columns to adjust for (the adjustment set), with discrete
            values. Each combination of values of the columns ``adjust`` is a stratum. Default:
            none.
        value, baseline: The values x and x' of the cause. If the cause has two values, the default
            of x is the value with the higher rate of the outcome in the whole table, as in LEWIS.
        context: The context k: a mask of the rows, or a dict column ->
            value. The context must not be an effect of the cause. Default:
            all rows.

    Returns:
        ObservedScores. A score to which no unit contributes is NaN, with n = 0. A score is also NaN
        if a value of the cause does not occur in some stratum, because a stratum tells nothing
        about values that do not occur in the stratum. A stratum in which a value of the cause does
        not occur is not dropped, because the score would describe fewer units without the stratum.

    Raises:
        ValueError, TypeError: For a wrong argument. The message names the argument. Wrong arguments
            are, for example, an unknown column, NaN in a column, an outcome that is not binary, or
            a value that does not occur.
    """
    table = validate.table(table, "table")
    counts = count(table, cause, outcome, adjust, context)
    value, baseline = value_and_baseline(table, cause, outcome, value, baseline)
    (n_x, o_x), (n_other, o_other) = counts.of(value), counts.of(baseline)
    rate_x, rate_other = _ratio(o_x, n_x), _ratio(o_other, n_other)
    do_x, do_other = _average(rate_x, counts.n_units), _average(rate_other, counts.n_units)
    n_necessity, n_sufficiency = o_x.sum(), (n_other - o_other).sum()
    # Units with x and o, minus those of x that would have o with x'; and the other way round.
    lost = n_necessity - n_x.sum() * _average(rate_other, n_x)
    gained = n_other.sum() * _average(rate_x, n_other) - o_other.sum()
    no_overlap = counts.n_units[(n_x == 0) | (n_other == 0)].sum()
    n_units = counts.n_units.sum()
    return ObservedScores(
        value=value,
        baseline=baseline,
        necessity=float(_ratio(lost, n_necessity)),
        sufficiency=float(_ratio(gained, n_sufficiency)),
        pns=do_x - do_other,
        bounds=_bounds(counts, value, baseline, do_x, do_other),
        n={
            "necessity": int(n_necessity),
            "sufficiency": int(n_sufficiency),
            "pns": int(n_units),
        },
        overlap_violation=float(_ratio(no_overlap, n_units)),
    )


def score_bounds(
    table: pd.DataFrame,
    cause: str,
    outcome: str,
    *,
    do_value: float,
    do_baseline: float,
    value: Any = None,
    baseline: Any = None,
    context: Context = None,
) -> ScoreBounds:
    """Return the Tian-Pearl bounds of the scores, without monotonicity and without a causal graph.

    The Tian-Pearl bounds are the tightest bounds that follow from the observed frequencies and the
    interventional probabilities ``do_value`` and ``do_baseline``. The bounds also hold for a cause
    with more than two values.

    Args:
        table, cause, outcome, value, baseline, context: As in ``observed_scores``.
        do_value, do_baseline: P(o | do x, k) and P(o | do x', k) in [0, 1], known from an
            experiment, from edits, or from ``adjusted_effect``.

    Raises:
        ValueError, TypeError: As in ``observed_scores``, and for probabilities outside [0, 1].
    """
    table = validate.table(table, "table")
    counts = count(table, cause, outcome, (), context)
    value, baseline = value_and_baseline(table, cause, outcome, value, baseline)
    do_value = validate.number(do_value, "do_value", 0.0, 1.0)
    do_baseline = validate.number(do_baseline, "do_baseline", 0.0, 1.0)
    return _bounds(counts, value, baseline, do_value, do_baseline)


def adjusted_effect(
    table: pd.DataFrame,
    cause: str,
    outcome: str,
    adjust: Iterable[str] = (),
    *,
    context: Context = None,
) -> pd.Series:
    """Return P(outcome | do cause = v) for each value v of the cause, by the back-door formula.

    Args:
        table, cause, outcome, adjust, context: As in ``observed_scores``.

    Returns:
        A Series with one probability per value of the cause, indexed by the values of the cause.
        The probability of a value that does not occur in some stratum is NaN.

    Raises:
        ValueError, TypeError: As in ``observed_scores``.
    """
    table = validate.table(table, "table")
    counts = count(table, cause, outcome, adjust, context)
    rates = _ratio(counts.n_outcome, counts.n_value)
    effect = {v: _average(rates[:, i], counts.n_units) for i, v in enumerate(counts.values)}
    return pd.Series(effect, name=f"P({outcome} | do {cause})", dtype=float)


def _ratio(part: Any, total: Any) -> np.ndarray:
    """Return part / total, and NaN where the total is 0."""
    part, total = np.asarray(part, float), np.asarray(total, float)
    return np.divide(part, total, out=np.full(total.shape, np.nan), where=total > 0)


def _average(rate: np.ndarray, n_units: np.ndarray) -> float:
    """Return the mean of the rates of the strata, weighted by the number of units in each stratum.

    The mean is NaN if the rate of a stratum with units is NaN. Strata without units are ignored.
    """
    some = n_units > 0
    return float(_ratio((rate[some] * n_units[some]).sum(), n_units.sum()))


def _bounds(
    counts: ContingencyTable, value: Any, baseline: Any, do_value: float, do_baseline: float
) -> ScoreBounds:
    """Return the Tian-Pearl bounds, computed from frequencies and probabilities over all units."""
    n = counts.n_units.sum()
    (n_x, n_o_x), (n_other, n_o_other) = counts.of(value), counts.of(baseline)
    o_x, o_other = _ratio(n_o_x.sum(), n), _ratio(n_o_other.sum(), n)
    no_x, no_other = _ratio((n_x - n_o_x).sum(), n), _ratio((n_other - n_o_other).sum(), n)
    # Least and largest fraction of units that lose o with x', and that get o with x.
    lost = (o_x + o_other - do_baseline, 1 - do_baseline - no_other)
    gained = (no_x + no_other - (1 - do_value), do_value - o_x)
    pns_low = [0, do_value - do_baseline, lost[0], gained[0]]
    pns_high = [
        do_value,
        1 - do_baseline,
        1 - o_other - no_x,  # units with o under x', or without o under x, cannot count
        do_value - o_x + 1 - do_baseline - no_other,
    ]
    return ScoreBounds(
        necessity=_interval([0, _ratio(lost[0], o_x)], [1, _ratio(lost[1], o_x)]),
        sufficiency=_interval([0, _ratio(gained[0], no_other)], [1, _ratio(gained[1], no_other)]),
        pns=_interval(pns_low, pns_high) if n else (np.nan, np.nan),
    )


def _interval(lows: list[Any], highs: list[Any]) -> Interval:
    """Return the largest of ``lows`` and the smallest of ``highs``.

    If ``lows`` contains NaN, the lower bound is NaN, and if ``highs`` contains NaN, the upper
    bound.
    """
    return float(np.max(lows)), float(np.min(highs))
