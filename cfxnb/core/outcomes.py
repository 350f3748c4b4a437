"""Names and units of the outcomes of a regression model, by which such a model is recognised."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What a model of outcomes predicts.

    Attributes:
        names: Name of each outcome, or None.
        units: Unit of each outcome, or None.
    """

    names: tuple[str, ...] | None = None
    units: tuple[str, ...] | None = None

    def unit(self, output: int) -> str:
        """Return the unit of one outcome, or an empty text."""
        return self.units[output] if self.units and output < len(self.units) else ""


def outcomes_of(model: Any) -> Outcomes | None:
    """Return the outcomes of a regression model, or None for any other object."""
    found = getattr(model, "outcomes", None)
    return found if isinstance(found, Outcomes) else None
