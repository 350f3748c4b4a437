"""Consensus of two fields of vectors (Farid et al., arXiv 2310.06668, section 3.2)."""

import torch
from scipy.special import betainc
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from cfxnb.core import validate
from cfxnb.core.tensors import norms, per_sample


def consensus(
    implicit: Tensor, direction: Tensor, cone_angle: float, patch_size: int = 1
) -> tuple[Tensor, Tensor]:
    """Keep the vectors of ``direction`` that lie in a cone around the vectors of ``implicit``.

    The channels at one position form one vector. Vectors of ``direction`` outside the cone become
    0.

    Difference from the paper: here cosines are clamped to [-1, 1], and a vector that is zero or not
    finite never agrees. The official code does not clamp cosines, so the angle of zero vectors and
    of some exactly opposite vectors is NaN. The official code keeps vectors whose angle is NaN.

    Args:
        implicit, direction: the two fields of vectors, (b, c, h, w).
        cone_angle: half-opening of the cone in degrees, 0 to 180.
        patch_size: side of square patches. All channels and positions of a patch form one vector.

    Returns:
        The filtered ``direction``, (b, c, h, w), and the mask of the patches that were kept, bool
        (b, h / patch_size, w / patch_size).

    Raises:
        ValueError, TypeError: if the shapes differ, if ``patch_size`` does not divide height and
            width, or if a number is out of range.
    """
    side = validate.count(patch_size, "patch_size", 1)
    limit = validate.number(cone_angle, "cone_angle", 0.0, 180.0)
    for value, name in ((implicit, "implicit"), (direction, "direction")):
        shape = validate.instance(value, Tensor, name, "a torch tensor").shape
        if len(shape) != 4 or shape != implicit.shape or shape[2] % side or shape[3] % side:
            raise ValueError(
                f"{name}: expected shape (b, c, h, w) like the other, sides divisible by {side}, "
                f"got {tuple(shape)}"
            )
    keep = angles(implicit, direction, side) <= limit  # False where the angle is NaN
    return apply_mask(direction, keep), keep


def angles(a: Tensor, b: Tensor, patch_size: int = 1) -> Tensor:
    """Return the angle between the vectors of two fields at each patch, in degrees.

    Args:
        a, b: the two fields of vectors, (b, c, h, w).
        patch_size: see ``consensus``.

    Returns:
        The angles, float64 (b, h / patch_size, w / patch_size). An angle is NaN if a vector is zero
        or not finite.
    """
    first, second = (_unit_vectors(pixel_unshuffle(x, patch_size)) for x in (a, b))
    return torch.rad2deg((first * second).sum(1).clamp(-1, 1).arccos())


def _unit_vectors(x: Tensor) -> Tensor:
    """Divide each vector of channels by its length. A vector of length 0 becomes NaN."""
    x = x.cpu().double()  # on the CPU, because not every device has float64
    x = x / x.abs().amax(1, keepdim=True)  # squares of tiny or huge numbers would leave the range
    return x / x.norm(dim=1, keepdim=True)


def apply_mask(direction: Tensor, keep: Tensor) -> Tensor:
    """Set the vectors of ``direction`` (b, c, h, w) to 0 where ``keep`` (b, h', w') is False."""
    side = direction.shape[2] // keep.shape[1]
    wide = keep.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, None]
    return torch.where(wide.to(direction.device), direction, 0.0)


def match_norm(x: Tensor, like: Tensor) -> Tensor:
    """Rescale each sample of ``x`` to the L2 norm of the same sample of ``like``; 0 stays 0."""
    return x * per_sample(norms(like) / norms(x).clamp_min(1e-22), x)


def random_mask(keep: Tensor, noise: Tensor) -> Tensor:
    """Return random masks that keep as many positions of each sample as the mask ``keep``.

    Args:
        keep: bool (b, h', w').
        noise: random numbers (b, h', w'). The mask keeps the positions with the smallest numbers.
    """
    order = noise.flatten(1).argsort(1).argsort(1)
    count = keep.flatten(1).sum(1, keepdim=True)
    return (order < count).view(keep.shape)


def chance_level(size: int, cone_angle: float) -> float:
    """Return the probability that the angle of two random vectors is at most ``cone_angle``.

    The probability is the fraction of a sphere that the cone covers. A cone of 45 degrees covers
    14.6 % of the sphere in 3 dimensions, and 9.1 % in 4 dimensions.

    Args:
        size: number of dimensions of the vectors, which is the number of channels of a code times
            the number of positions in a patch.
        cone_angle: half-opening of the cone in degrees, 0 to 180.

    Raises:
        ValueError, TypeError: if ``size`` is below 1, or ``cone_angle`` is out of range.
    """
    size = validate.count(size, "size", 1)
    angle = torch.deg2rad(
        torch.tensor(validate.number(cone_angle, "cone_angle", 0.0, 180.0)).double()
    )
    if size == 1:  # there are only two directions
        return 1.0 if cone_angle == 180 else 0.5
    cap = 0.5 * float(betainc((size - 1) / 2, 0.5, angle.sin().item() ** 2))
    return cap if cone_angle <= 90 else 1 - cap
