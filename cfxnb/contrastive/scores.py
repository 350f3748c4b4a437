"""The result of ``contrastive_scores``: scores per attribute, and what happened to each image."""

import dataclasses
from typing import Any

import pandas as pd

from cfxnb.contrastive.contrasts import Contrasts
from cfxnb.core import validate

SCORES = ("necessity", "sufficiency", "pns", "monotonicity_violation")


@dataclasses.dataclass(frozen=True, eq=False)
class ContrastiveScores:
    """Contrastive scores of named attributes for one outcome.

    Attributes:
        outcome: Index of the class whose causes are scored.
        table: One row per attribute. ``value`` is the value that favours the outcome more, and
            ``baseline`` the other one. For each of ``necessity``, ``sufficiency``, ``pns`` and
            ``monotonicity_violation`` there are four columns: the score in [0, 1], its interval
            (``... low``, ``... high``) and the number of images it is estimated from (``... n``).
            With 0 images the score is NaN. ``took effect`` and ``clean`` are the fractions of
            edits that the judge found so; they are NaN without a judge.
        units: One row per image and attribute. ``row`` is the position of the image, ``factor``
            the attribute and ``value`` its value in the image. ``before`` and ``after`` tell
            whether the class is the outcome before and after the edit to the other value.
            ``reconstruction agrees`` tells whether the reconstruction has the outcome if and only
            if the original has it. ``used`` tells whether the row counts in ``table``. With a
            judge there are also ``took effect``, ``clean``, and one column ``changed ...`` per
            factor.
        leakage: Fraction of edits of one attribute (row) that changed another factor (column).
            Empty without a judge.
        reconstruction_agreement: Fraction of images whose reconstruction agrees with the original.
        made_by: Function, arguments, hashes of the weights, and seconds.
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
        """Probability of necessity (PN) of each attribute."""
        return self.table["necessity"]

    @property
    def sufficiency(self) -> pd.Series:
        """Probability of sufficiency (PS) of each attribute."""
        return self.table["sufficiency"]

    @property
    def pns(self) -> pd.Series:
        """Probability of necessity and sufficiency (PNS) of each attribute."""
        return self.table["pns"]

    @property
    def monotonicity_violation(self) -> pd.Series:
        """Fraction of images that lose the outcome by the favouring value (P(harm))."""
        return self.table["monotonicity_violation"]

    @property
    def contrasts(self) -> Contrasts:
        """attribute -> (baseline, value), where the value favours the outcome more."""
        pairs = zip(self.table["baseline"], self.table["value"], strict=True)
        return dict(zip(map(str, self.table.index), pairs, strict=True))

    @property
    def ranking(self) -> tuple[str, ...]:
        """Attributes by PNS, the highest first."""
        return tuple(self.pns.sort_values(ascending=False, kind="stable").index)

    def __repr__(self) -> str:
        first = self.ranking[0]
        return (
            f"ContrastiveScores(outcome {self.outcome}, {self.units['row'].nunique()} images; "
            f"first: {first}, necessity {self.necessity[first]:.2f}, "
            f"sufficiency {self.sufficiency[first]:.2f})"
        )

    def _repr_html_(self) -> str:
        table = self.table.loc[list(self.ranking)]
        shown = table[["value", "baseline"]].copy()
        for score in SCORES:
            shown[score] = [
                f"{row[score]:.2f} [{row[f'{score} low']:.2f}, {row[f'{score} high']:.2f}], "
                f"n {row[f'{score} n']:.0f}"
                for _, row in table.iterrows()
            ]
        note = (
            f"<p>Outcome {self.outcome}. The reconstruction agrees with the original for "
            f"{self.reconstruction_agreement:.1%} of the images.</p>"
        )
        return note + shown.to_html()


_UNITS = ("row", "factor", "value", "before", "after", "used")


def checked_scores(value: Any, name: str) -> ContrastiveScores:
    """Check the tables of scores: all columns, at least one attribute, each in one row."""
    kind = "ContrastiveScores"
    scores: ContrastiveScores = validate.instance(value, ContrastiveScores, name, kind)
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
