"""What a regression model predicts, and what results record about a goal."""

import dataclasses
from collections.abc import Mapping
from typing import Any

#: What results record about a goal: outcomes of original and counterfactual, and bounds (b, 2).
OUTCOMES = ("outcome_before", "outcome_after", "goal")


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What a model of outcomes predicts.

    Attributes:
        names: Name of each outcome, or None.
        units: Unit of each outcome, or None.
    """

    names: tuple[str, ...] | None = None
    units: tuple[str, ...] | None = None


def unit_of(outcomes: Outcomes, output: int) -> str:
    """Return the unit of one outcome, or an empty text."""
    return outcomes.units[output] if outcomes.units and output < len(outcomes.units) else ""


def outcomes_of(model: Any) -> Outcomes | None:
    """Return the outcomes of a regression model, or None for any other object."""
    found = getattr(model, "outcomes", None)
    return found if isinstance(found, Outcomes) else None


def record_of_goal(made_by: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the entry "goal" of a record, or of its parts if they agree."""
    joined = made_by.get("parts")
    goals = [part.get("goal") for part in joined] if isinstance(joined, list) else []
    found = goals[0] if goals and all(g == goals[0] for g in goals) else made_by.get("goal")
    if not isinstance(found, dict):
        return None
    parts = (("kind", str), ("values", list), ("text", str))
    return found if all(isinstance(found.get(name), kind) for name, kind in parts) else None
