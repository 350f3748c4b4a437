"""Curves of images from a baseline (t = 0) to the explained image (t = 1)."""

from numbers import Real

import torch
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedSpace
from cfxnb.core.directions import expand_direction
from cfxnb.core.images import SLACK
from cfxnb.core.modes import standard_modes
from cfxnb.core.tensors import per_sample
from cfxnb.core.types import Code, LatentSpace

MAX_STEP = 1e30  # standard deviations; the square of a longer step overflows


class Path:
    """``len(path)`` curves of images, one for each explained image.

    Attributes:
        device: Device of the images on the path.
        straight: True if every curve is a straight line of pixels.
        renders: Number of generator passes for one point on a path: 0 or 1.
    """

    straight = False
    renders = 0

    def __init__(self, n_images: int, device: torch.device) -> None:
        self.n_images, self.device = n_images, device

    def __len__(self) -> int:
        return self.n_images

    def at(self, rows: Tensor, t: Tensor) -> Tensor:
        """Return n images on the curves, (n, c, h, w).

        Args:
            rows: Position of the curve of each image, int64 (n,).
            t: Position of each image on its curve, (n,) in [0, 1].
        """
        raise NotImplementedError

    def nodes(self, n_points: int) -> Tensor:
        """Return ``n_points`` or more evenly spaced values of t, among them all corners."""
        return torch.linspace(0, 1, n_points, dtype=torch.float64)

    def passes(self, t: Tensor) -> Tensor:
        """Return the number of generator passes for the image at each of n values t, (n,)."""
        return torch.full(t.shape, self.renders, dtype=torch.int64, device=t.device)


class StraightPath(Path):
    """See ``straight_path``."""

    straight = True

    def __init__(self, images: Tensor, baseline: Tensor) -> None:
        super().__init__(len(images), images.device)
        self.images, self.baseline = images, baseline

    def at(self, rows: Tensor, t: Tensor) -> Tensor:
        start, end = self.baseline[rows], self.images[rows]
        return torch.lerp(start, end, per_sample(t.to(end), end))  # exact at both ends


class PiecewiseLinearPath(Path):
    """See ``piecewise_linear_path``."""

    def __init__(self, images: Tensor) -> None:
        super().__init__(len(images), images.device)
        self.images, self.last = images, images.shape[1] - 1

    def at(self, rows: Tensor, t: Tensor) -> Tensor:
        s = t.double() * self.last
        nearest = s.round()
        s = torch.where((s - nearest).abs() < 1e-6, nearest, s)  # exact at the corners
        index = s.floor().clamp(0, self.last - 1).long()
        start, end = self.images[rows, index], self.images[rows, index + 1]
        return torch.lerp(start, end, per_sample((s - index).to(end), end))

    def nodes(self, n_points: int) -> Tensor:
        per_segment = max(1, -(-(n_points - 1) // self.last))
        return super().nodes(self.last * per_segment + 1)


class LatentPath(Path):
    """See ``latent_path`` and ``direction_path``."""

    renders = 1

    def __init__(self, space: LatentSpace, start: Code, end: Code) -> None:
        super().__init__(len(end), space.mean.device)
        self.space = CheckedSpace(space)
        self.start, self.end = start.to(self.device), end.to(self.device)

    def at(self, rows: Tensor, t: Tensor) -> Tensor:
        end, z = self.end[rows], self.start.z[rows]
        code = end.with_z(torch.lerp(z, end.z, per_sample(t.to(z), z)))
        return validate.images(self.space.decode(code), "space.decode")


class JoinedPath(Path):
    """Path that follows ``first`` for t < 1/2, and ``second`` for t >= 1/2."""

    def __init__(self, first: Path, second: Path) -> None:
        super().__init__(len(first), first.device)
        self.first, self.second = first, second

    def at(self, rows: Tensor, t: Tensor) -> Tensor:
        early = t < 0.5
        parts = []
        if early.any():
            parts.append(self.first.at(rows[early], 2 * t[early]))
        if not early.all():
            parts.append(self.second.at(rows[~early], 2 * t[~early] - 1))
        order = torch.cat([early.nonzero()[:, 0], (~early).nonzero()[:, 0]])
        return torch.cat(parts)[order.argsort()]

    def nodes(self, n_points: int) -> Tensor:
        return super().nodes(max(n_points, 3) | 1)  # an odd number, so that t = 1/2 is included

    def passes(self, t: Tensor) -> Tensor:
        return torch.where(t < 0.5, self.first.passes(t), self.second.passes(t))


@standard_modes
def straight_path(images: Tensor, baseline: float | Tensor = 0.0) -> StraightPath:
    """Return the straight line of pixels from a baseline to each image.

    Args:
        images: Images to explain, (b, c, h, w) in [0, 1].
        baseline: One gray level in [0, 1] for all pixels, or images like ``images``. Default: 0,
            black.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    images = validate.images(images)
    if not isinstance(baseline, Real):
        start = validate.images(baseline, "baseline").to(images.device)
        validate.shape(start.shape, images.shape, "baseline", "the shape of images,")
    else:
        start = torch.full_like(images, validate.number(baseline, "baseline", 0.0, 1.0))
    return StraightPath(images, start)


@standard_modes
def piecewise_linear_path(images: Tensor) -> PiecewiseLinearPath:
    """Return the path through given images, with a straight line from each image to the next.

    Args:
        images: m >= 2 images per path, from the baseline to the explained image,
            (b, m, c, h, w) in [0, 1].

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    validate.instance(images, Tensor, "images", "a torch tensor")
    if not images.is_floating_point() or images.layout != torch.strided:
        raise TypeError(f"images: expected float32 in [0, 1], got {images.dtype} {images.layout}")
    if images.ndim != 5 or 0 in images.shape or images.shape[1] < 2:
        raise ValueError(
            f"images: expected shape (b, m, c, h, w) with m >= 2, got {tuple(images.shape)}"
        )
    # validate.images would divide values up to 255 by 255.
    if not images.is_meta and images.max() > 1 + SLACK:
        raise ValueError(f"images: expected values in [0, 1], got up to {images.max().item():.4g}")
    return PiecewiseLinearPath(validate.images(images.flatten(0, 1)).view(images.shape))


@standard_modes
def latent_path(space: LatentSpace, start: Code, end: Code) -> LatentPath:
    """Return the path of images along a straight line between two codes.

    The path is straight in the space of codes. In the space of pixels, the path is usually a curve.

    Args:
        space: Generator that decodes the codes.
        start: Codes of the baselines, (b, ...).
        end: Codes of the explained images, (b, ...). The auxiliary codes ``aux`` (such as noise
            maps) must be the same as in ``start``.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    validate.space(space)
    for value, name in ((start, "start"), (end, "end")):
        validate_results.code(value, name)
        shape, wanted = tuple(value.z.shape), tuple(space.mean.shape)
        if shape[1:] != wanted or not len(value):
            raise ValueError(
                f"{name}: expected z of shape (b, {', '.join(map(str, wanted))}), got {shape}"
            )
    if len(start) != len(end):
        raise ValueError(f"start: expected as many codes as end, {len(end)}, got {len(start)}")
    both = start.aux is not None and end.aux is not None
    if (start.aux is None) != (end.aux is None) or (
        both and not torch.equal(start.aux, end.aux)  # type: ignore[arg-type]
    ):
        raise ValueError("start: expected the same aux as end, got another; use end.with_z(z)")
    return LatentPath(space, start, end)


@standard_modes
def direction_path(
    space: LatentSpace, code: Code, direction: Tensor, steps_along: float | Tensor
) -> LatentPath:
    """Return the path that moves along a direction to the codes of the explained images.

    Args:
        space: Generator that decodes the codes.
        code: Codes of the explained images, which are the ends of the paths (t = 1).
        direction: One direction, shaped like ``space.mean``, or one per code, (b, ...). The
            length of a direction has no effect.
        steps_along: Signed length of the step from the code to the start of the path (t = 0), in
            standard deviations of the code. One number for all codes, or one per code, (b,).

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    validate.space(space)
    validate_results.code(code, "code", tuple(space.mean.shape))
    if not len(code):
        raise ValueError("code: expected at least one, got none")
    unit = expand_direction(space, direction, len(code)).to(code.z)
    if isinstance(steps_along, Real) and not isinstance(steps_along, bool):
        value = validate.number(steps_along, "steps_along", -MAX_STEP, MAX_STEP)
        steps = torch.full((len(code),), value).to(code.z)
    else:
        steps = torch.from_numpy(validate.array(steps_along, "steps_along")).to(code.z)
        if steps.shape != (len(code),):
            raise ValueError(
                f"steps_along: expected finite numbers of shape ({len(code)},), got "
                f"{validate.describe(steps_along)}"
            )
    if not steps.isfinite().all():
        raise ValueError("steps_along: expected finite numbers in float32, got too large ones")
    return latent_path(space, code.with_z(code.z + per_sample(steps, code.z) * unit), code)
