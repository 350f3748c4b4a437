"""Directions in code space, checked and scaled to length 1."""

from typing import Any

from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.tensors import norms, per_sample, standardise
from cfxnb.core.types import LatentSpace


def expand_direction(space: LatentSpace, direction: Tensor, rows: int) -> Tensor:
    """Return a direction for each row, (rows, ...), with length 1 in standard deviations (std).

    Args:
        direction: one direction for all rows, shaped like ``space.mean``, or one per row. Its
            length is ignored.

    Raises:
        ValueError, TypeError: if the shape is wrong, or if the length is 0 or not finite.
    """
    validate.float_tensor(direction, "direction")
    shape = tuple(space.mean.shape)
    if tuple(direction.shape) not in (shape, (rows, *shape)):
        raise ValueError(
            f"direction: expected shape {shape}, or ({rows}, ...) with one per image, "
            f"got {tuple(direction.shape)}"
        )
    steps = direction.detach().to(space.mean).expand(rows, *shape)
    length = norms(standardise(steps, space.std))
    if not (length.isfinite() & (length > 0)).all():
        raise ValueError(
            f"direction: expected finite numbers, not all 0 in the active dimensions, "
            f"got lengths of {length.min().item():.4g} to {length.max().item():.4g} std"
        )
    return steps / per_sample(length, steps)


def checked_direction(space: LatentSpace, direction: Any, rows: int) -> Any:
    """Return a direction for each row. A result of ``find_directions`` is returned unchanged.

    Args:
        direction: see ``expand_direction``, or a result of ``find_directions``, whose method
            ``towards`` returns one direction per class.
    """
    if callable(getattr(direction, "towards", None)):
        return direction
    return expand_direction(space, direction, rows)


def directions_of(space: LatentSpace, direction: Any, rows: Tensor, classes: Tensor) -> Tensor:
    """Return the directions of n images, (n, ...), with length 1 in std.

    Args:
        direction: a result of ``checked_direction``.
        rows: positions of the images, (n,).
        classes: target class of each image, (n,), used only with a result of ``find_directions``.
    """
    if isinstance(direction, Tensor):
        return direction[rows.to(direction.device)]
    return expand_direction(space, direction.towards(classes), len(rows))
