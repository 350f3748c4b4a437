"""Directions of codes, checked and brought to unit length."""

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.tensors import norms, per_sample, standardise
from cfxnb.core.types import LatentSpace


def heading(space: LatentSpace, direction: Tensor, rows: int) -> Tensor:
    """A direction as codes (rows, ...) that are one spread long: |direction / spread| = 1.

    Raises:
        ValueError, TypeError: if it has another shape, or no finite length but 0.
    """
    validate.instance(direction, Tensor, "direction", "a torch tensor")
    if not direction.is_floating_point() or direction.is_meta or direction.layout != torch.strided:
        raise TypeError(f"direction: expected floats, got {direction.dtype} {direction.layout}")
    shape = tuple(space.mean.shape)
    if tuple(direction.shape) not in (shape, (rows, *shape)):
        raise ValueError(
            f"direction: expected shape {shape}, or ({rows}, ...) with one a sample, "
            f"got {tuple(direction.shape)}"
        )
    steps = direction.detach().to(space.mean).expand(rows, *shape)
    length = norms(standardise(steps, space.std))
    if not (length.isfinite() & (length > 0)).all():
        raise ValueError(
            f"direction: expected finite numbers, not all 0 where codes vary, "
            f"got lengths of {length.min().item():.4g} to {length.max().item():.4g} spreads"
        )
    return steps / per_sample(length, steps)
