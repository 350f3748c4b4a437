"""The condition of a diffusion model for each class of a classifier."""

from collections.abc import Sequence
from typing import Any

from cfxnb.core import validate


def require_conditional(space: Any) -> None:
    """Raise ValueError if the diffusion model of a space takes no condition."""
    if getattr(space.conditions, "unconditional", False):
        raise ValueError(
            "space: expected a diffusion model that can be conditioned on the classes, got one "
            "that takes no condition. Use cfx.maskdime, cfx.fastdime, cfx.dime or cfx.sce, which "
            "need no condition."
        )


def conditions_per_class(
    space: Any, classifier: Any, conditions: Sequence[Any] | None, n_classes: int
) -> list[Any]:
    """Return the condition of the diffusion model for each class of the classifier.

    The conditions are checked if ``space.conditions`` has a method ``check``.

    Args:
        conditions: conditions that the caller passed, or None for the defaults of the space.

    Raises:
        ValueError, TypeError: if there are not as many conditions as classes, or if one is unknown.
    """
    if conditions is None:
        names = getattr(classifier, "class_names", None)
        found = space.conditions.defaults(n_classes, names)
    elif isinstance(conditions, str) or not isinstance(conditions, Sequence):
        raise TypeError(f"conditions: expected a sequence, got {validate.describe(conditions)}")
    elif len(conditions) != n_classes:
        raise ValueError(
            f"conditions: expected one for each of {n_classes} classes, got {len(conditions)}"
        )
    else:
        found = list(conditions)
    if hasattr(space.conditions, "check"):
        space.conditions.check(found)
    return found
