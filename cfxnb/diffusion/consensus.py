"""Consensus guidance: where two directions agree (Farid et al., arXiv 2310.06668, section 3.2)."""

import torch
from scipy.special import betainc
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from cfxnb.core import validate
from cfxnb.core.tensors import norms, per_sample


def consensus(
    implicit: Tensor, direction: Tensor, cone_angle: float, patch_size: int = 1
) -> tuple[Tensor, Tensor]:
    """``direction`` where it lies within a cone around ``implicit``, and 0 elsewhere.

    At each position the channels are one vector each. The official code takes the arc cosine
    without care, so that zero vectors, and some exactly opposite ones, pass. Here cosines are
    clamped, and a vector that is zero or not finite agrees with nothing.

    Args:
        implicit, direction: (b, c, h, w).
        cone_angle: half the opening of the cone, 0 to 180.
        patch_size: side of the squares of positions that are one vector together.

    Returns:
        What is left of ``direction``, (b, c, h, w), and where it is, bool (b, h/patch, w/patch).

    Raises:
        ValueError, TypeError: for tensors of unequal shapes, sides that ``patch_size`` doesn't divide,
            or numbers out of range.
    """
    side = validate.count(patch_size, "patch_size", 1)
    most = validate.number(cone_angle, "cone_angle", 0.0, 180.0)
    for value, name in ((implicit, "implicit"), (direction, "direction")):
        shape = validate.instance(value, Tensor, name, "a torch tensor").shape
        if len(shape) != 4 or shape != implicit.shape or shape[2] % side or shape[3] % side:
            raise ValueError(
                f"{name}: expected shape (b, c, h, w) like the other, sides divisible by {side}, "
                f"got {tuple(shape)}"
            )
    keep = angles(implicit, direction, side) <= most  # NaN is not
    return masked(direction, keep), keep


def angles(a: Tensor, b: Tensor, patch_size: int = 1) -> Tensor:
    """Degrees between two fields of vectors, float64 (b, h/patch, w/patch); NaN for no angle."""
    first, second = (_directions(pixel_unshuffle(x, patch_size)) for x in (a, b))
    return torch.rad2deg((first * second).sum(1).clamp(-1, 1).arccos())


def _directions(x: Tensor) -> Tensor:
    """Unit vectors along the channels; NaN where there is none, or one that is not finite."""
    x = x.cpu().double()  # on the CPU: not every device has float64
    x = x / x.abs().amax(1, keepdim=True)  # squares of tiny or huge numbers don't fit
    return x / x.norm(dim=1, keepdim=True)


def masked(direction: Tensor, keep: Tensor) -> Tensor:
    """``direction`` where ``keep`` (b, h', w') says so; 0 elsewhere, whatever was there."""
    side = direction.shape[2] // keep.shape[1]
    wide = keep.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, None]
    return torch.where(wide.to(direction.device), direction, 0.0)


def rescaled(x: Tensor, like: Tensor) -> Tensor:
    """Each sample of ``x`` with the norm of that of ``like``; a zero sample stays zero."""
    return x * per_sample(norms(like) / norms(x).clamp_min(1e-22), x)


def chance_level(size: int, cone_angle: float) -> float:
    """Share of independent random vectors of ``size`` numbers that agree within ``cone_angle``.

    The share of a sphere that a cone cuts out: 14.6 % for 3 numbers and 45 degrees, 9.1 % for 4.

    Raises:
        ValueError, TypeError: for a size below 1, or degrees out of 0 to 180.
    """
    size = validate.count(size, "size", 1)
    angle = torch.deg2rad(
        torch.tensor(validate.number(cone_angle, "cone_angle", 0.0, 180.0)).double()
    )
    if size == 1:  # two directions only
        return 1.0 if cone_angle == 180 else 0.5
    part = 0.5 * float(betainc((size - 1) / 2, 0.5, angle.sin().item() ** 2))
    return part if cone_angle <= 90 else 1 - part


def shuffled(keep: Tensor, noise: Tensor) -> Tensor:
    """A random mask of equal area for each sample, chosen by ``noise`` (b, h', w')."""
    order = noise.flatten(1).argsort(1).argsort(1)
    count = keep.flatten(1).sum(1, keepdim=True)
    return (order < count).view(keep.shape)
