"""Checks of the exercises in 08_attribution_along_paths."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb.checks.core import exercise, expect, expect_none_of, expect_tensor, near

PathMap = Callable[[Tensor, Tensor], Tensor]
SHAPE = (2, 4, 3)  # channels, height, width; all differ
_LINEAR = torch.linspace(-1, 1, 24).view(SHAPE)


def _f(images: Tensor) -> Tensor:
    """Return one number per image; the gradients differ between pixels and between images."""
    return (_LINEAR * images + (2 - _LINEAR) * images**3).flatten(1).sum(1)


def _gradient(images: Tensor) -> Tensor:
    """Return the gradient of ``_f`` at the images."""
    return _LINEAR + 3 * (2 - _LINEAR) * images**2


def _ends() -> tuple[Tensor, Tensor]:
    g = Generator().manual_seed(8)
    return torch.rand(SHAPE, generator=g), torch.rand(SHAPE, generator=g)


def _curve() -> Tensor:
    """Return a path of six images.

    Along the path, some pixels change back and forth, and one pixel never changes.
    """
    images = torch.rand(6, *SHAPE, generator=Generator().manual_seed(9))
    images[3] = images[2] + 0.05 * (images[3] - images[2])
    images[:, 0, 0, 0] = 0.5
    return images


def _map(got: Any) -> Tensor:
    cause = "the sum is not over the points, or also over channels or pixels"
    hint = "sum over the points of the path only; the result has shape (c, h, w)"
    expect_tensor(got, SHAPE, cause, hint, f"a map of shape {SHAPE}")
    expect(
        bool(got.isfinite().all()),
        "the map is not finite",
        cause="a value is divided by a change of zero",
        hint="consider a pixel, or a whole image, that does not change",
    )
    return got.to(torch.float32)


def _same(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-4 * b.abs().max())


def _compare(got: Tensor, right: Tensor, hint: str, known: Mapping[str, tuple]) -> None:
    """Check that a heat map is right, and name the mistake if the map has a known mistake."""
    expect_none_of(known, lambda wrong: _same(got, wrong), hint=hint, start="that is ")
    total, wanted = float(got.sum()), float(right.sum())
    expect(
        _same(got, right),
        f"expected another map; its sum should be {wanted:.3f}, it is {total:.3f}",
        cause="a point, a factor or a sign is missing, or pixels are in the wrong order",
        hint="compute the map for three images and one pixel by hand, and compare",
    )


@exercise("Completeness by hand")
def straight_ig(answer: Callable[[Callable, Tensor, Tensor, int], Tensor]) -> None:
    image, baseline = _ends()
    seen: list[Tensor] = []

    def gradient(images: Tensor) -> Tensor:
        expect(
            isinstance(images, Tensor) and images.shape[1:] == SHAPE,
            f"gradient: expected images of shape (b, {', '.join(map(str, SHAPE))}), got "
            f"{tuple(getattr(images, 'shape', ()))}",
            cause="the batch dimension is missing, or t has too few dimensions",
            hint="t.view(-1, 1, 1, 1) times (c, h, w) has shape (n_points, c, h, w)",
        )
        seen.extend(images.detach().clone())
        return _gradient(images)

    n_points = 5
    got = _map(answer(gradient, image.clone(), baseline.clone(), n_points))
    step = image - baseline
    t = torch.linspace(0, 1, n_points).view(-1, 1, 1, 1)
    g = _gradient(baseline + t * step)
    middles = (g[1:] + g[:-1]) / 2
    right = step * middles.mean(0)
    hint = "mean of the gradients at both ends, times (image - baseline) / (n_points - 1); sum"
    half = "the gradient at the other end of each interval is missing"
    known = {
        "the map with the wrong sign": (-right, "baseline and image are exchanged"),
        "the mean gradient alone": (
            middles.mean(0),
            "it is not multiplied by image - baseline",
        ),
        "the map times the number of intervals": (
            step * middles.sum(0),
            "each interval is multiplied by the whole image - baseline",
        ),
        "the sum divided by n_points": (
            step * middles.sum(0) / n_points,
            "there are n_points - 1 intervals",
        ),
        "gradient times image": (image * middles.mean(0), "the baseline is assumed to be black"),
        "the mean of all gradients times (image - baseline)": (
            step * g.mean(0),
            "the gradients at both ends of the path need half the weight",
        ),
        "the sum of the left ends": (step * g[:-1].mean(0), half),
        "the sum of the right ends": (step * g[1:].mean(0), half),
        "one gradient, at the image": (step * g[-1], "there is no path"),
    }
    _compare(got, right, hint, known)
    points = torch.stack(seen)
    expect(
        any(_same(p, image) for p in points) and any(_same(p, baseline) for p in points),
        "the gradient was not computed at both ends",
        cause="this is not the trapezoid rule",
        hint="torch.linspace(0, 1, n_points) includes both ends",
    )
    two = _map(answer(_gradient, image.clone(), baseline.clone(), 2))
    expect(
        _same(two, step * (_gradient(image[None])[0] + _gradient(baseline[None])[0]) / 2),
        "with n_points=2 the map is wrong",
        cause="the answer uses a fixed number of points",
        hint="use the argument n_points",
    )


@exercise("The line integral")
def path_ig(answer: PathMap) -> None:
    x = _curve()
    g = _gradient(x)
    got = _map(answer(g.clone(), x.clone()))
    steps, middles = x.diff(dim=0), (g[1:] + g[:-1]) / 2
    right = (steps * middles).sum(0)
    whole_step = x[-1] - x[0]
    hint = "mean of the gradients at both ends, times images[1:] - images[:-1]; sum"
    straight = "this formula is for a straight line only"
    half = "the gradient at the other end of each interval is missing"
    known = {
        "the published sum, mean gradient times (end - start)": (whole_step * g.mean(0), straight),
        "the mean of the averaged gradients times (end - start)": (
            whole_step * middles.mean(0),
            straight,
        ),
        "the map with the wrong sign": (
            -right,
            "the steps are earlier - later, not later - earlier",
        ),
        "the mean over intervals": (right / len(steps), "the steps already have the right length"),
        "twice the map": (2 * right, "the two gradients are added, not averaged"),
        "the sum with left ends": ((steps * g[:-1]).sum(0), half),
        "the sum with right ends": ((steps * g[1:]).sum(0), half),
        "the sum with absolute steps": (
            (steps.abs() * middles).sum(0),
            "the steps need their sign",
        ),
    }
    _compare(got, right, hint, known)


def _slopes(values: Tensor, x: Tensor) -> Tensor:
    moved = x.diff(dim=0)
    return torch.where(moved == 0, 0.0, values.diff().view(-1, 1, 1, 1) / moved)


@exercise("The secant rule")
def secant_attribution(answer: PathMap) -> None:
    image, baseline = _ends()
    t = torch.linspace(0, 1, 5).view(-1, 1, 1, 1)
    line = baseline + t * (image - baseline)
    line[:, 1, 2, 1] = 0.25  # this pixel does not change
    values = _f(line)
    got = _map(answer(values.clone(), line.clone()))
    change = float(values[-1] - values[0])
    expect(
        float(got[1, 2, 1]) == 0,
        f"a pixel that never changes should get 0, got {float(got[1, 2, 1]):.3g}",
        cause="a small number is added to the denominator, or steps of zero are not handled",
        hint="torch.where(moved == 0, 0.0, ...)",
    )
    moving = torch.ones(SHAPE, dtype=torch.bool)
    moving[1, 2, 1] = False
    mean = got[moving].mean().item()
    expect(
        bool(((got[moving] - change).abs() < 1e-3 * abs(change)).all()),
        f"on a straight path every pixel that changes gets the whole change of f, {change:.3f}; "
        f"here the mean is {mean:.3f}",
        cause="intervals are summed, not averaged, a factor is missing, or the order is reversed",
        hint="slopes are (f_next - f) / (x_next - x); the map is their mean times (end - start)",
    )
    x = _curve()
    x[3, 1] = x[2, 1]  # does not change in one interval
    values, whole_step = _f(x), x[-1] - x[0]
    slopes = _slopes(values, x)
    n_moving = (slopes != 0).sum(0).clamp_min(1)
    secant = torch.where(whole_step == 0, 0.0, values[-1] - values[0])
    own = (slopes * x.diff(dim=0)).sum(0)
    known = {
        "the mean over intervals in which the pixel moves": (
            whole_step * slopes.sum(0) / n_moving,
            "slopes of zero count too",
        ),
        "one secant from start to end": (secant, "the images between are not used"),
        "each slope times its own step": (own, "this undoes the division by the step"),
    }
    hint = "one slope per interval and pixel; their mean over all intervals, times (end - start)"
    _compare(_map(answer(values.clone(), x.clone())), whole_step * slopes.mean(0), hint, known)


@exercise("In proportion to the change")
def proportional_attribution(answer: PathMap) -> None:
    x = _curve()
    x[5] = x[4]  # nothing changes in the last interval
    values = _f(x)
    got = _map(answer(values.clone(), x.clone()))
    rise, size = values.diff().view(-1, 1, 1, 1), x.diff(dim=0).abs()
    total = size.sum((1, 2, 3), keepdim=True).clamp_min(1e-12)
    right = (rise * size / total).sum(0)
    change, distance = values[-1] - values[0], (x[-1] - x[0]).abs()
    over_intervals, signed = size / size.sum(0).clamp_min(1e-12), x.diff(dim=0)
    hint = "in each interval: change of f times |step| / sum of |step| over the pixels; sum"
    lost = "the changes of f within the path are lost"
    known = {
        "the map with the wrong sign": (-right, "the change of f is earlier - later"),
        "the total change of f, distributed once": (change * size.sum(0) / size.sum(), lost),
        "the total change of f, distributed by |end - start|": (
            change * distance / distance.sum(),
            lost,
        ),
        "the map divided by the total over intervals": (
            (rise * over_intervals).sum(0),
            "the total must be over the pixels",
        ),
        "the map with signed steps": ((rise * signed / total).sum(0), "take the absolute step"),
        "the map without division by the total": (
            (rise * size).sum(0),
            "each interval is not divided by its total",
        ),
        "the mean over intervals": (right / len(rise), "sum the intervals, do not average them"),
        "the map with |change of f|": (
            (rise.abs() * size / total).sum(0),
            "the change of f needs its sign",
        ),
    }
    _compare(got, right, hint, known)


@exercise("Better than chance")
def relevance_ratio(answer: Callable[[Tensor, Tensor], float]) -> None:
    heat_map = torch.tensor([[4.0, -2.0, 0.0, 1.0], [-1.0, 0.0, 2.0, -2.0]])
    mask = torch.tensor([[True, True, False, False], [False, False, False, False]])
    got = float(answer(heat_map.clone(), mask.clone()))
    known = {
        "the fraction alone": (0.5, "it is not divided by the area of the mask"),
        "the fraction of the signed sum": (4.0, "positive and negative values cancel"),
        "the fraction of the positive part": (16 / 7, "negative values are left out"),
        "the fraction times the area": (0.125, "it is multiplied, not divided"),
        "divided by the number of pixels": (0.25, "the area is a fraction, not a count"),
        "the ratio outside the mask": (2 / 3, "the mask is inverted"),
    }
    hint = "fraction of heat_map.abs() inside the mask, divided by mask.float().mean()"
    start = f"expected 2, got {got:.3f}: that is "
    expect_none_of(known, lambda wrong: near(got, wrong), hint=hint, start=start)
    expect(
        math.isclose(got, 2, abs_tol=1e-5),
        f"half of |heat_map| lies on a quarter of the image: expected 2, got {got:.3f}",
        cause="the sum or the area is wrong",
        hint="fraction of |heat_map| inside the mask, divided by mask.float().mean()",
    )
    full = float(answer(heat_map.clone(), torch.ones_like(mask)))
    expect(
        math.isclose(full, 1, abs_tol=1e-5),
        f"for a mask of all pixels expected 1, got {full:.3f}",
        cause="the area is wrong",
        hint="the whole image holds the whole map, so the ratio is 1",
    )
    empty = float(answer(torch.zeros(2, 4), mask.clone()))
    expect(
        math.isnan(empty),
        f"for a map of zeros expected NaN, got {empty:.3g}",
        cause="a map of zeros has no ratio; 0 would mean a bad map",
        hint='return float("nan") if the total is 0',
    )
