"""Scores of necessity and sufficiency, from what happened to each unit."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from cfxnb.contrastive.edits import Contrasts
from cfxnb.core import validate
from cfxnb.core.intervals import wilson_interval

SCORES = ("necessity", "sufficiency", "pns", "monotonicity_violation")


@dataclasses.dataclass(frozen=True, eq=False)
class ContrastiveScores:
    """Contrastive scores of named attributes for one outcome.

    Attributes:
        outcome: the class whose reasons were asked for.
        table: one row an attribute: ``value`` (the one that favours the outcome more) and
            ``baseline``; for each of ``necessity``, ``sufficiency``, ``pns`` and ``monotonicity_violation`` the
            score in [0, 1], its interval (``... low``, ``... high``) and the number of images
            asked (``... n``; with 0 of them the score is NaN); ``took effect`` and ``clean``, the
            shares of edits that a judge found so (NaN without one).
        units: one row an image and attribute: ``row`` (position of the image), ``factor``,
            ``value`` (which of the two it has), ``before`` and ``after`` (outcome or not, before
            and after the edit to the other value), ``agrees`` (reconstruction decided as the
            original), ``used``; with a judge ``took effect``, ``clean`` and one
            ``changed ...`` column a factor.
        leakage: edited attribute by other factor: share of edits that changed it; empty
            without a judge.
        reconstruction_agreement: share of images whose reconstruction is decided as the original.
        made_by: method, arguments, weights and seconds.
    """

    outcome: int
    table: pd.DataFrame
    units: pd.DataFrame
    leakage: pd.DataFrame
    reconstruction_agreement: float
    made_by: dict[str, Any]

    def __post_init__(self) -> None:
        validate.fields(self)

    @property
    def necessity(self) -> pd.Series:
        return self.table["necessity"]

    @property
    def sufficiency(self) -> pd.Series:
        return self.table["sufficiency"]

    @property
    def pns(self) -> pd.Series:
        return self.table["pns"]

    @property
    def monotonicity_violation(self) -> pd.Series:
        return self.table["monotonicity_violation"]

    @property
    def contrasts(self) -> Contrasts:
        """Attribute -> (instead, value), the value being the one that favours the outcome."""
        pairs = zip(self.table["baseline"], self.table["value"], strict=True)
        return dict(zip(map(str, self.table.index), pairs, strict=True))

    @property
    def ranking(self) -> tuple[str, ...]:
        """Attributes by their necessity and sufficiency, the strongest first."""
        return tuple(self.pns.sort_values(ascending=False, kind="stable").index)

    def __repr__(self) -> str:
        first = self.ranking[0]
        return (
            f"Scores(outcome {self.outcome}, {self.units['row'].nunique()} images; first: {first}, "
            f"necessity {self.necessity[first]:.2f}, sufficiency {self.sufficiency[first]:.2f})"
        )

    def _repr_html_(self) -> str:
        shown = self.table.loc[list(self.ranking), ["value", "baseline"]]
        for score in SCORES:
            shown[score] = [
                f"{row[score]:.2f} [{row[f'{score} low']:.2f}, {row[f'{score} high']:.2f}], "
                f"n {row[f'{score} n']:.0f}"
                for _, row in self.table.loc[list(self.ranking)].iterrows()
            ]
        note = (
            f"<p>Outcome {self.outcome}; {self.reconstruction_agreement:.1%} of the images keep their decision "
            "when reconstructed.</p>"
        )
        return note + shown.to_html()


_UNITS = ("row", "factor", "value", "before", "after", "used")


def checked_scores(value: Any, name: str) -> ContrastiveScores:
    """Scores with the tables that go with them: at least one attribute, each once."""
    scores: ContrastiveScores = validate.instance(
        value, ContrastiveScores, name, "ContrastiveScores"
    )
    columns = ["value", "baseline", *(f"{s}{end}" for s in SCORES for end in ("", " low", " high"))]
    for field, wanted in (("table", columns), ("units", _UNITS), ("leakage", ())):
        table = validate.instance(getattr(scores, field), pd.DataFrame, f"{name}.{field}")
        if missing := [c for c in wanted if c not in table]:
            raise ValueError(f"{name}.{field}: expected a column {missing[0]!r}, got none")
    if scores.table.empty or not scores.table.index.is_unique:
        raise ValueError(
            f"{name}.table: expected each attribute in one row, got {len(scores.table)}"
        )
    return scores


def tally(
    units: pd.DataFrame, contrasts: Contrasts, confidence_level: float, orient: bool = True
) -> pd.DataFrame:
    """``ContrastiveScores.table`` out of ``ContrastiveScores.units``.

    ``orient``: the value that favours the outcome less becomes the one instead of the other.

    With both potential outcomes of each unit at hand: for an attribute that the unit has, the
    outcome under x is what was seen, and the outcome under x' is what the edit gave.
    """
    rows = {}
    for name, (baseline, value) in contrasts.items():
        mine = units[units["factor"] == name]
        used = mine[mine["used"]]
        has = (used["value"] == value).to_numpy(bool)
        seen, edited = (used[column].to_numpy(bool) for column in ("before", "after"))
        under_value, under_other = np.where(has, seen, edited), np.where(has, edited, seen)
        if (
            orient and under_other.sum() > under_value.sum()
        ):  # the other value is the one that favours it
            value, baseline, has = baseline, value, ~has
            under_value, under_other = under_other, under_value
        asked = {
            "necessity": (~under_other, has & under_value),
            "sufficiency": (under_value, ~has & ~under_other),
            "pns": (under_value & ~under_other, np.ones_like(has)),
            "monotonicity_violation": (~under_value & under_other, np.ones_like(has)),
        }
        row = {"value": value, "baseline": baseline}
        for score, (hit, among) in asked.items():
            row |= _share(score, int((hit & among).sum()), int(among.sum()), confidence_level)
        for column in ("took effect", "clean"):
            row[column] = float(mine[column].mean()) if column in mine else np.nan
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def _share(name: str, hits: int, count: int, confidence_level: float) -> dict[str, float]:
    low, high = wilson_interval(hits, count, confidence_level)
    share = hits / count if count else np.nan
    return {name: share, f"{name} low": float(low), f"{name} high": float(high), f"{name} n": count}
