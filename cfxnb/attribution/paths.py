"""Curves of images, from a baseline at t = 0 to what is explained at t = 1."""

from numbers import Real

import torch
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedSpace
from cfxnb.core.directions import heading
from cfxnb.core.images import SLACK
from cfxnb.core.modes import standard_modes
from cfxnb.core.tensors import per_sample
from cfxnb.core.types import Code, LatentSpace

FARTHEST = 1e30  # spreads along a direction: more is no number in float32


class Path:
    """A curve of images for each of ``len(path)`` samples.

    Attributes:
        device: where its images come out.
        straight: True if it is a straight line in pixels.
        renders: generator passes that one point costs: 0 or 1.
    """

    straight = False
    renders = 0

    def __init__(self, count: int, device: torch.device) -> None:
        self.count, self.device = count, device

    def __len__(self) -> int:
        return self.count

    def at(self, rows: Tensor, t: Tensor) -> Tensor:
        """Images (n, c, h, w) of the samples ``rows`` (n,) at the places ``t`` (n,) in [0, 1]."""
        raise NotImplementedError

    def nodes(self, n_points: int) -> Tensor:
        """At least ``n_points`` evenly spaced places from 0 to 1, all corners among them, float64."""
        return torch.linspace(0, 1, n_points, dtype=torch.float64)

    def passes(self, t: Tensor) -> Tensor:
        """Generator passes that each of the places ``t`` (n,) costs, int64 (n,)."""
        return torch.full(t.shape, self.renders, dtype=torch.int64, device=t.device)


class StraightPath(Path):
    """Made by ``straight_path``."""

    straight = True

    def __init__(self, images: Tensor, baseline: Tensor) -> None:
        super().__init__(len(images), images.device)
        self.images, self.baseline = images, baseline

    def at(self, rows: Tensor, t: Tensor) -> Tensor:
        begin, end = self.baseline[rows], self.images[rows]
        return torch.lerp(begin, end, per_sample(t.to(end), end))  # exact at both ends


class PiecewiseLinearPath(Path):
    """Made by ``piecewise_linear_path``."""

    def __init__(self, images: Tensor) -> None:
        super().__init__(len(images), images.device)
        self.images, self.last = images, images.shape[1] - 1

    def at(self, rows: Tensor, t: Tensor) -> Tensor:
        place = t.double() * self.last
        near = place.round()
        place = torch.where((place - near).abs() < 1e-6, near, place)  # corners exactly
        before = place.floor().clamp(0, self.last - 1).long()
        begin, end = self.images[rows, before], self.images[rows, before + 1]
        return torch.lerp(begin, end, per_sample((place - before).to(end), end))

    def nodes(self, n_points: int) -> Tensor:
        pieces = max(1, -(-(n_points - 1) // self.last))
        return super().nodes(self.last * pieces + 1)


class LatentPath(Path):
    """Made by ``latent_path`` and ``direction_path``."""

    renders = 1

    def __init__(self, space: LatentSpace, start: Code, end: Code) -> None:
        super().__init__(len(end), space.mean.device)
        self.space = CheckedSpace(space)
        self.start, self.end = start.to(self.device), end.to(self.device)

    def at(self, rows: Tensor, t: Tensor) -> Tensor:
        end, begin = self.end[rows], self.start.z[rows]
        code = end.with_z(torch.lerp(begin, end.z, per_sample(t.to(begin), begin)))
        return validate.images(self.space.decode(code), "space.decode")


class JoinedPath(Path):
    """One path in t < 1/2, another one, which begins where it ends, from t = 1/2 on."""

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
        return super().nodes(max(n_points, 3) | 1)  # an odd number: t = 1/2 is one of them

    def passes(self, t: Tensor) -> Tensor:
        return torch.where(t < 0.5, self.first.passes(t), self.second.passes(t))


@standard_modes
def straight_path(images: Tensor, baseline: float | Tensor = 0.0) -> StraightPath:
    """The straight line in pixels from a baseline to the images.

    Args:
        images: what is explained, (b, c, h, w) in [0, 1].
        baseline: one gray level in [0, 1] for all pixels, or images of the same shape.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    images = validate.images(images)
    if not isinstance(baseline, Real):
        begin = validate.images(baseline, "baseline").to(images.device)
        if begin.shape != images.shape:
            raise ValueError(
                f"baseline: expected the shape of images, {tuple(images.shape)}, "
                f"got {tuple(begin.shape)}"
            )
    else:
        begin = torch.full_like(images, validate.number(baseline, "baseline", 0.0, 1.0))
    return StraightPath(images, begin)


@standard_modes
def piecewise_linear_path(images: Tensor) -> PiecewiseLinearPath:
    """The path through given images, straight between each and the next.

    Args:
        images: (b, m, c, h, w) in [0, 1], m >= 2: first the baseline, last what is explained.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    validate.instance(images, Tensor, "images", "a torch tensor")
    if not images.is_floating_point() or images.layout != torch.strided:
        raise TypeError(f"images: expected float32 in [0, 1], got {images.dtype} {images.layout}")
    if images.ndim != 5 or 0 in images.shape or images.shape[1] < 2:
        raise ValueError(
            f"images: expected shape (b, m, c, h, w) with m >= 2, got {tuple(images.shape)}"
        )
    if not images.is_meta and images.max() > 1 + SLACK:  # floats of bytes would be scaled
        raise ValueError(f"images: expected values in [0, 1], got up to {images.max().item():.4g}")
    return PiecewiseLinearPath(validate.images(images.flatten(0, 1)).view(images.shape))


@standard_modes
def latent_path(space: LatentSpace, start: Code, end: Code) -> LatentPath:
    """What a straight line between two codes looks like: decoded, a curve in pixels.

    Args:
        start: codes of the baselines, (b, ...).
        end: codes of what is explained, with the same ``aux``, which stays as it is.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
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
        raise ValueError("start: expected the same rest as end has, got another; use end.at(z)")
    return LatentPath(space, start, end)


@standard_modes
def direction_path(
    space: LatentSpace, code: Code, direction: Tensor, steps_along: float | Tensor
) -> LatentPath:
    """From a point along a direction, ``steps_along`` away, back to the codes.

    Args:
        code: codes of what is explained, at t = 1.
        direction: like ``space.mean``, or one a code, (b, ...); its own length plays no part.
        steps_along: signed, in spreads, one or (b,): where t = 0 lies.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    validate.space(space)
    validate_results.code(code, "code", tuple(space.mean.shape))
    if not len(code):
        raise ValueError("code: expected at least one, got none")
    unit_step = heading(space, direction, len(code)).to(code.z)
    if isinstance(steps_along, Real) and not isinstance(steps_along, bool):
        value = validate.number(steps_along, "steps_along", -FARTHEST, FARTHEST)
        length = torch.full((len(code),), value).to(code.z)
    else:
        length = torch.from_numpy(validate.array(steps_along, "steps_along")).to(code.z)
        if length.shape != (len(code),):
            raise ValueError(
                f"steps_along: expected finite numbers of shape ({len(code)},), got "
                f"{validate.describe(steps_along)}"
            )
    if not length.isfinite().all():
        raise ValueError("steps_along: expected numbers of ordinary size, got too large ones")
    return latent_path(space, code.with_z(code.z + per_sample(length, code.z) * unit_step), code)
