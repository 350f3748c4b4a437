"""Necessity and sufficiency from a table of observations: estimates and bounds.

With o the outcome, x a value of a cause, x' the value instead, and k a context:

    necessity    P(o would not be, had the cause been x' | x, o, k)
    sufficiency  P(o would be, had the cause been x | x', not o, k)
    both         P(o with x, and not o with x' | k)

These are about two worlds at once, and no table shows more than one of them. Tian & Pearl (2000,
"Probabilities of causation: bounds and identification") say how much a table tells nevertheless:
bounds, and under monotonicity the very numbers. Galhotra, Pradhan & Salimi (2021, LEWIS,
"Explaining black-box algorithms using probabilistic contrastive counterfactuals") explain
classifiers by them.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from cfxnb.contrastive import contingency as counts
from cfxnb.core import validate

Interval = tuple[float, float]
Context = Mapping[str, Any] | Any
"""A mask of the rows (a sequence of booleans), or column -> value; None takes every row."""


@dataclasses.dataclass(frozen=True)
class ScoreBounds:
    """(low, high) of each score, in [0, 1]; (NaN, NaN) for one of nobody or of unknown effects.

    low > high shows that the table and the interventions contradict each other; an end may then
    lie outside [0, 1]. A contradiction as large as the sampling error proves nothing.
    """

    necessity: Interval
    sufficiency: Interval
    pns: Interval

    def __post_init__(self) -> None:
        validate.fields(self)


@dataclasses.dataclass(frozen=True)
class ObservedScores:
    """What a table tells about a cause; see ``observed_scores``.

    Attributes:
        value, baseline: x and x'.
        necessity, sufficiency, pns: the estimates, not clipped to [0, 1].
        bounds: what holds without monotonicity.
        n: units each score is about: those with x and o, those with x' and not o, all.
        overlap_violation: share of all units, in [0, 1], in strata where x or x' is never seen.
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
    """Back-door estimates of necessity and sufficiency by frequencies, and their bounds.

    The estimates rest on two assumptions that the table can't confirm. Back-door: ``adjust``
    blocks every path from the cause to the outcome that begins with an arrow into the cause, and
    holds no effect of the cause. Monotonicity: changing x' into x takes the outcome from nobody.
    The bounds rest on the first alone. Estimates are not clipped: one well outside [0, 1] shows
    that an assumption fails (one inside shows nothing).

    Args:
        table: one row a unit; columns may have nullable types.
        cause: column of any discrete values.
        outcome: column of booleans, or of 0 and 1.
        adjust: columns of discrete values; each combination is a stratum.
        value, baseline: x and x'. By default the two values of a two-valued cause, ``value`` being
            the one with the larger share of the outcome in the whole table (as LEWIS orders them).
        context: the context k, a mask of the rows or column -> value. Not an effect of the cause.

    Returns:
        The scores. One of nobody is NaN, with n = 0. So is one that needs a frequency that the
        table lacks: that of the outcome under a value never seen in a stratum. Leaving out the
        stratum would answer another question, about other units.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them unknown columns, NaN in
            a column, an outcome that isn't binary, a value that doesn't occur.
    """
    table = validate.table(table, "table")
    k = counts.read(table, cause, outcome, adjust, context)
    value, baseline = counts.pair(table, cause, outcome, value, baseline)
    (with_x, o_with_x), (with_other, o_with_other) = k.of(value), k.of(baseline)
    rate_x, rate_other = _ratio(o_with_x, with_x), _ratio(o_with_other, with_other)
    do_x, do_other = _average(rate_x, k.units), _average(rate_other, k.units)
    affected, missed = o_with_x.sum(), (with_other - o_with_other).sum()
    # Units that have x and o, less what x' would leave of them; and the other way round.
    lost = affected - with_x.sum() * _average(rate_other, with_x)
    gained = with_other.sum() * _average(rate_x, with_other) - o_with_other.sum()
    lonely = k.units[(with_x == 0) | (with_other == 0)].sum()
    return ObservedScores(
        value=value,
        baseline=baseline,
        necessity=float(_ratio(lost, affected)),
        sufficiency=float(_ratio(gained, missed)),
        pns=do_x - do_other,
        bounds=_bounds(k, value, baseline, do_x, do_other),
        n={"necessity": int(affected), "sufficiency": int(missed), "pns": int(k.units.sum())},
        overlap_violation=float(_ratio(lonely, k.units.sum())),
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
    """Bounds of Tian & Pearl on the scores, without monotonicity and without a graph.

    No narrower ones follow from these shares and the two interventions alone. They hold for a
    cause of more than two values, too.

    Args:
        table, cause, outcome, value, baseline, context: as for ``observed_scores``.
        do_value, do_baseline: P(o | do x, k) and P(o | do x', k) in [0, 1], known from experiments,
            from edits, or from ``adjusted_effect``.

    Raises:
        ValueError, TypeError: as ``observed_scores``, and for probabilities outside [0, 1].
    """
    table = validate.table(table, "table")
    k = counts.read(table, cause, outcome, (), context)
    value, baseline = counts.pair(table, cause, outcome, value, baseline)
    do_value = validate.number(do_value, "do_value", 0.0, 1.0)
    do_baseline = validate.number(do_baseline, "do_baseline", 0.0, 1.0)
    return _bounds(k, value, baseline, do_value, do_baseline)


def adjusted_effect(
    table: pd.DataFrame,
    cause: str,
    outcome: str,
    adjust: Iterable[str] = (),
    *,
    context: Context = None,
) -> pd.Series:
    """P(outcome | do cause = v), in [0, 1], by the back-door formula, for every value v.

    Args:
        table, cause, outcome, adjust, context: as for ``observed_scores``.

    Returns:
        One number a value of the cause, which is the index. NaN for a value that some stratum
        never shows: what would happen there is not in the table.

    Raises:
        ValueError, TypeError: as ``observed_scores``.
    """
    table = validate.table(table, "table")
    k = counts.read(table, cause, outcome, adjust, context)
    rates = _ratio(k.happened, k.seen)
    effect = {v: _average(rates[:, i], k.units) for i, v in enumerate(k.values)}
    return pd.Series(effect, name=f"P({outcome} | do {cause})", dtype=float)


def _ratio(part: Any, whole: Any) -> np.ndarray:
    """NaN where the whole is 0."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _average(rate: np.ndarray, units: np.ndarray) -> float:
    """Over units; NaN if one's rate is unknown. An empty stratum has no say, a rate of 0 has."""
    some = units > 0
    return float(_ratio((rate[some] * units[some]).sum(), units.sum()))


def _bounds(
    k: counts.Counts, value: Any, baseline: Any, do_value: float, do_baseline: float
) -> ScoreBounds:
    """Each bound is a share of all units that must, or can at most, change with the cause."""
    n = k.units.sum()
    (with_x, o_with_x), (with_other, o_with_other) = k.of(value), k.of(baseline)
    o_x, o_other = _ratio(o_with_x.sum(), n), _ratio(o_with_other.sum(), n)
    no_x = _ratio((with_x - o_with_x).sum(), n)
    no_other = _ratio((with_other - o_with_other).sum(), n)
    lost = (o_x + o_other - do_baseline, 1 - do_baseline - no_other)
    gained = (no_x + no_other - (1 - do_value), do_value - o_x)
    least = [0, do_value - do_baseline, lost[0], gained[0]]
    most = [
        do_value,
        1 - do_baseline,
        1 - o_other - no_x,  # whom x' leaves with o, or x without, doesn't change
        do_value - o_x + 1 - do_baseline - no_other,
    ]
    return ScoreBounds(
        necessity=_interval([0, _ratio(lost[0], o_x)], [1, _ratio(lost[1], o_x)]),
        sufficiency=_interval([0, _ratio(gained[0], no_other)], [1, _ratio(gained[1], no_other)]),
        pns=_interval(least, most) if n else (np.nan, np.nan),
    )


def _interval(lows: list[Any], highs: list[Any]) -> Interval:
    """NumPy's max and min, unlike Python's, keep a NaN."""
    return float(np.max(lows)), float(np.min(highs))
