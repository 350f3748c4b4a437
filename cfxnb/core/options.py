"""Options of a method: a frozen dataclass that checks its fields."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckedOptions:
    """Base class for the options of a method. Subclasses add fields, and a check for each field.

    Attributes:
        checks: name of a field -> function of the value and the name. The function returns the
            checked value, or raises an error that names the option.

    Raises:
        ValueError, TypeError: if an option is wrong. The error message names the option.
    """

    checks: ClassVar[dict[str, Callable[[Any, str], Any]]] = {}

    def __post_init__(self) -> None:
        for name, check in self.checks.items():
            object.__setattr__(self, name, check(getattr(self, name), name))

    @classmethod
    def among(cls, arguments: Mapping[str, Any]) -> Self:
        """Return the options that are among the arguments of a method.

        Args:
            arguments: all arguments by name: ``locals()`` at the beginning of the method.
        """
        return cls(**{each.name: arguments[each.name] for each in dataclasses.fields(cls)})
