"""The result of ``contrastive_scores``: scores per attribute, and what happened to each image."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd

from cfxnb.contrastive.contrasts import Contrasts
from cfxnb.contrastive.tally import leakage_of, tally
from cfxnb.core import validate
from cfxnb.core.saved import Result

#: Entries of the record in which parts of one result agree.
SAME = ("edit_filter", "confidence_level", "preserve_others", "contrasts", "weights")
SCORES = ("necessity", "sufficiency", "pns", "monotonicity_violation")


@dataclasses.dataclass(frozen=True, eq=False)
class ContrastiveScores(Result):
    """Contrastive scores of named attributes for one outcome.

    Attributes:
        outcome: Index of the class whose causes are scored.
        table: DataFrame with one row per attribute. ``value`` is the value of the attribute that
            favours the outcome more, and ``baseline`` is the other value. Each of the scores
            ``necessity``, ``sufficiency``, ``pns`` and ``monotonicity_violation`` has four columns.
            The columns hold the score in [0, 1], its interval (``... low``, ``... high``) and the
            number of images from which the score is estimated (``... n``). A score that is
            estimated from 0 images is NaN. ``took effect`` is the fraction of edits that changed
            the attribute as wanted, according to the judge. ``clean`` is the fraction of edits that
            took effect and changed no other factor. If no judge was passed, the columns ``took
            effect`` and ``clean`` are NaN.
        units: DataFrame with one row per pair of image and attribute. ``row`` is the position of
            the image, ``factor`` the attribute, and ``value`` the value of the attribute before the
            edit. ``before`` and ``after`` tell whether the predicted class is the outcome, before
            and after the attribute is set to the other value. ``reconstruction agrees`` tells
            whether the reconstruction has the outcome if and only if the original has it. The
            column ``used`` tells whether the row of ``units`` counts in ``table``. If a judge was
            passed, ``units`` also has the columns ``took effect`` and ``clean``, and one column
            ``changed ...`` per factor.
        leakage: DataFrame: the fraction of edits of one attribute (row) that changed another factor
            (column). Empty without a judge.
        reconstruction_agreement: Fraction of images whose reconstruction has the outcome if and
            only if the original has it.
        made_by: Record of the call: function, arguments, hashes of the weights, and seconds.
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
        """Fraction of images that lose the outcome if an attribute goes from baseline to value."""
        return self.table["monotonicity_violation"]

    @property
    def contrasts(self) -> Contrasts:
        """Contrasts as a dict: attribute -> (baseline, value).

        Of the two values of a contrast, the second (``value``) favours the outcome more.
        """
        pairs = zip(self.table["baseline"], self.table["value"], strict=True)
        return dict(zip(map(str, self.table.index), pairs, strict=True))

    @property
    def ranking(self) -> tuple[str, ...]:
        """Attributes, sorted by PNS from the highest to the lowest."""
        return tuple(self.pns.sort_values(ascending=False, kind="stable").index)

    @staticmethod
    def concatenate(parts: "Sequence[ContrastiveScores]") -> "ContrastiveScores":
        """Join the scores of parts of a data set, which one call with other images has made each.

        The images of all parts are counted together.

        Raises:
            ValueError: If the parts are of different calls, or if no image has any of the values.
        """
        if isinstance(parts, ContrastiveScores) or not isinstance(parts, Sequence):
            raise TypeError(f"parts: expected a list of scores, got {validate.describe(parts)}")
        if not parts:
            raise ValueError("parts: expected at least one result, got none")
        calls = [checked_scores(p, f"parts[{i}]").made_by for i, p in enumerate(parts)]
        first = calls[0]
        for i, (part, call) in enumerate(zip(parts, calls, strict=True)):
            if missing := [name for name in SAME if name not in call]:
                raise ValueError(f"parts[{i}].made_by: expected an entry {missing[0]!r}, got none")
            if part.outcome != parts[0].outcome or any(call[n] != first[n] for n in SAME):
                raise ValueError(f"parts[{i}]: expected scores of the same question, got others")
        contrasts: Contrasts = {name: tuple(p) for name, p in first["contrasts"].items()}
        if not (counted := [part.units for part in parts if len(part.units)]):
            raise ValueError(f"factors: expected some with the values of {contrasts}, got none")
        units = pd.concat(counted, ignore_index=True)
        seconds = round(sum(call.get("seconds", 0.0) for call in calls), 3)
        return ContrastiveScores(
            outcome=parts[0].outcome,
            table=tally(units, contrasts, first["confidence_level"]),
            units=units,
            leakage=leakage_of(units, list(contrasts)),
            reconstruction_agreement=float(
                units.drop_duplicates("row")["reconstruction agrees"].mean()
            ),
            made_by={**first, "seconds": seconds},
        )

    def _check_saved(self) -> None:
        checked_scores(self, "scores")
        unknown = set(self.units["factor"]) - set(self.table.index)
        if unknown or self.outcome < 0:
            raise ValueError(f"units: expected factors of the table, got {sorted(unknown)[:3]}")

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per attribute: ``table``, with the index "factor".

        The attribute ``units`` is the table with one row per pair of image and attribute.
        """
        return self.table.rename_axis("factor")

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


UNITS = ("row", "factor", "value", "before", "after", "used")


def checked_scores(value: Any, name: str) -> ContrastiveScores:
    """Return the scores, after checking the columns and rows of the tables."""
    kind = "ContrastiveScores"
    scores: ContrastiveScores = validate.instance(value, ContrastiveScores, name, kind)
    columns = ["value", "baseline", *(f"{s}{end}" for s in SCORES for end in ("", " low", " high"))]
    for field, wanted in (("table", columns), ("units", UNITS), ("leakage", ())):
        table = validate.instance(getattr(scores, field), pd.DataFrame, f"{name}.{field}")
        if missing := [c for c in wanted if c not in table]:
            raise ValueError(f"{name}.{field}: expected a column {missing[0]!r}, got none")
    if scores.table.empty or not scores.table.index.is_unique:
        raise ValueError(
            f"{name}.table: expected each attribute in one row, got {len(scores.table)}"
        )
    return scores
