"""Checks of 08_attribution_along_paths."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb.checks.core import exercise, expect

Along = Callable[[Tensor, Tensor], Tensor]
SHAPE = (2, 4, 3)  # channels, height, width: all different
_LINEAR = torch.linspace(-1, 1, 24).view(SHAPE)


def _f(images: Tensor) -> Tensor:
    """A function of images whose gradient changes along a path, in another way at each pixel."""
    return (_LINEAR * images + (2 - _LINEAR) * images**3).flatten(1).sum(1)


def _slope(images: Tensor) -> Tensor:
    """Its gradient."""
    return _LINEAR + 3 * (2 - _LINEAR) * images**2


def _ends() -> tuple[Tensor, Tensor]:
    g = Generator().manual_seed(8)
    return torch.rand(SHAPE, generator=g), torch.rand(SHAPE, generator=g)


def _curve() -> Tensor:
    """Six images, unevenly far apart; some pixels go back and forth, and one stands still."""
    images = torch.rand(6, *SHAPE, generator=Generator().manual_seed(9))
    images[3] = images[2] + 0.05 * (images[3] - images[2])
    images[:, 0, 0, 0] = 0.5
    return images


def _map(got: Any) -> Tensor:
    expect(
        isinstance(got, Tensor) and got.shape == SHAPE,
        f"expected a map of shape {SHAPE}, got {getattr(got, 'shape', type(got).__name__)}",
        cause="points or channels are added up too far, or the points not at all",
        hint="the sum runs over the points of the path only: (c, h, w) is left",
    )
    expect(
        bool(got.isfinite().all()),
        "the map is not finite",
        cause="something is divided by a movement of zero",
        hint="look at what happens to a pixel, or a whole image, that doesn't move",
    )
    return got.to(torch.float32)


def _same(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-4 * b.abs().max())


def _compare(got: Tensor, right: Tensor, hint: str, known: Mapping[str, tuple]) -> None:
    """The right map, or the name and the cause of a known wrong one."""
    for told, (wrong, cause) in known.items():
        expect(not _same(got, wrong), f"that is {told}", cause=cause, hint=hint)
    total, wanted = float(got.sum()), float(right.sum())
    expect(
        _same(got, right),
        f"expected another map; its sum should be {wanted:.3f}, it is {total:.3f}",
        cause="a point, a factor or a sign is missing, or pixels are exchanged",
        hint="write it down for three images and one pixel, and compare by hand",
    )


@exercise("Completeness by hand")
def straight_heat(answer: Callable[[Callable, Tensor, Tensor, int], Tensor]) -> None:
    image, baseline = _ends()
    seen: list[Tensor] = []

    def gradient(images: Tensor) -> Tensor:
        expect(
            isinstance(images, Tensor) and images.shape[1:] == SHAPE,
            f"gradient: expected images of shape (b, {', '.join(map(str, SHAPE))}), got "
            f"{tuple(getattr(images, 'shape', ()))}",
            cause="the batch dimension is missing, or t has too few dimensions",
            hint="t.view(-1, 1, 1, 1) times (c, h, w) gives (points, c, h, w)",
        )
        seen.extend(images.detach().clone())
        return _slope(images)

    points = 5
    got = _map(answer(gradient, image.clone(), baseline.clone(), points))
    step = image - baseline
    t = torch.linspace(0, 1, points).view(-1, 1, 1, 1)
    g = _slope(baseline + t * step)
    middles = (g[1:] + g[:-1]) / 2
    right = step * middles.mean(0)
    hint = "mean of the gradients at both ends of a piece, times (image - baseline) / (points - 1)"
    half = "half of the rule is missing"
    known = {
        "the way back: all signs are turned": (-right, "baseline and image are exchanged"),
        "the mean gradient alone": (middles.mean(0), "it isn't multiplied by the way"),
        "too large by the number of pieces": (step * middles.sum(0), "all pieces get all the way"),
        "one piece too many": (step * middles.sum(0) / points, "there are points - 1 pieces"),
        "gradient times image": (image * middles.mean(0), "the baseline is taken for black"),
        "the plain average of all gradients": (step * g.mean(0), "both ends count like the others"),
        "the sum of the left ends": (step * g[:-1].mean(0), half),
        "the sum of the right ends": (step * g[1:].mean(0), half),
        "one gradient, at the image": (step * g[-1], "there is no path"),
    }
    _compare(got, right, hint, known)
    places = torch.stack(seen)
    expect(
        any(_same(p, image) for p in places) and any(_same(p, baseline) for p in places),
        "the gradient was not asked for at both ends",
        cause="another rule than the trapezoid rule",
        hint="torch.linspace(0, 1, points) has both ends",
    )
    two = _map(answer(_slope, image.clone(), baseline.clone(), 2))
    expect(
        _same(two, step * (_slope(image[None])[0] + _slope(baseline[None])[0]) / 2),
        "with points=2 it is another map",
        cause="the number of points is fixed in the answer",
        hint="use the argument points",
    )


@exercise("The line integral")
def line_heat(answer: Along) -> None:
    x = _curve()
    g = _slope(x)
    got = _map(answer(g.clone(), x.clone()))
    steps, middles = x.diff(dim=0), (g[1:] + g[:-1]) / 2
    right = (steps * middles).sum(0)
    way = x[-1] - x[0]
    hint = "mean of the gradients at both ends of a piece, times images[1:] - images[:-1]; add up"
    straight, half = "the path is taken for a straight line", "half of the rule is missing"
    known = {
        "the published sum, mean gradient times (end - start)": (way * g.mean(0), straight),
        "the mean of the middles times (end - start)": (way * middles.mean(0), straight),
        "the way back: all signs are turned": (-right, "steps go from later to earlier images"),
        "the mean over pieces": (right / len(steps), "each piece has its own, short step already"),
        "twice the map": (2 * right, "the two gradients are added, not averaged"),
        "the sum with left ends": ((steps * g[:-1]).sum(0), half),
        "the sum with right ends": ((steps * g[1:]).sum(0), half),
        "a sum of sizes": ((steps.abs() * middles).sum(0), "a way back counts like a way there"),
    }
    _compare(got, right, hint, known)


def _slopes(values: Tensor, x: Tensor) -> Tensor:
    moved = x.diff(dim=0)
    return torch.where(moved == 0, 0.0, values.diff().view(-1, 1, 1, 1) / moved)


@exercise("The secant rule")
def secant_heat(answer: Along) -> None:
    image, baseline = _ends()
    t = torch.linspace(0, 1, 5).view(-1, 1, 1, 1)
    line = baseline + t * (image - baseline)
    line[:, 1, 2, 1] = 0.25  # doesn't move
    values = _f(line)
    got = _map(answer(values.clone(), line.clone()))
    change = float(values[-1] - values[0])
    expect(
        float(got[1, 2, 1]) == 0,
        f"a pixel that never moves should get 0, got {float(got[1, 2, 1]):.3g}",
        cause="a small number is added to the denominator, or zeros aren't told apart",
        hint="torch.where(moved == 0, 0.0, ...)",
    )
    rest = torch.ones(SHAPE, dtype=torch.bool)
    rest[1, 2, 1] = False
    mean = got[rest].mean().item()
    expect(
        bool(((got[rest] - change).abs() < 1e-3 * abs(change)).all()),
        f"on a straight path every pixel that moves gets the whole change, {change:.3f}; here they "
        f"get {mean:.3f} on average",
        cause="pieces are added and not averaged, a factor is missing, or the order is turned",
        hint="slopes are (f_next - f) / (x_next - x); their mean, times end - start",
    )
    x = _curve()
    x[3, 1] = x[2, 1]  # stands still in one piece
    values, way = _f(x), x[-1] - x[0]
    slopes = _slopes(values, x)
    whole, moving = values[-1] - values[0], (slopes != 0).sum(0).clamp_min(1)
    secant, own = torch.where(way == 0, 0.0, whole), (slopes * x.diff(dim=0)).sum(0)
    known = {
        "a mean over some pieces only": (way * slopes.sum(0) / moving, "zeros are left out of it"),
        "one secant, from start to end": (secant, "the frames between play no part"),
        "each slope times its own step": (own, "that undoes the division by it"),
    }
    hint = "one slope a piece and pixel; their mean over all pieces, times end - start"
    _compare(_map(answer(values.clone(), x.clone())), way * slopes.mean(0), hint, known)


@exercise("Shares")
def shares_heat(answer: Along) -> None:
    x = _curve()
    x[5] = x[4]  # nothing moves in the last piece
    values = _f(x)
    got = _map(answer(values.clone(), x.clone()))
    rise, size = values.diff().view(-1, 1, 1, 1), x.diff(dim=0).abs()
    total = size.sum((1, 2, 3), keepdim=True).clamp_min(1e-12)
    right = (rise * size / total).sum(0)
    change, way = values[-1] - values[0], (x[-1] - x[0]).abs()
    each, signed = size / size.sum(0).clamp_min(1e-12), x.diff(dim=0)
    hint = "each piece's change of f, times |movement| / total of |movement| in it; add up pieces"
    lost = "the changes of f on the way are lost"
    known = {
        "the way back: all signs are turned": (-right, "f's change goes from later to earlier"),
        "the whole change shared out at once": (change * size.sum(0) / size.sum(), lost),
        "the change by the distance of the ends": (change * way / way.sum(), lost),
        "shares over pieces, not over pixels": ((rise * each).sum(0), "another total is taken"),
        "movement with its sign": ((rise * signed / total).sum(0), "getting darker counts against"),
        "movement, not shares of it": ((rise * size).sum(0), "it isn't divided by the total"),
        "the mean over pieces, not their sum": (right / len(rise), "the pieces are averaged"),
        "sizes of the changes": ((rise.abs() * size / total).sum(0), "a fall counts like a rise"),
    }
    _compare(got, right, hint, known)


@exercise("Better than chance")
def lift(answer: Callable[[Tensor, Tensor], float]) -> None:
    heat = torch.tensor([[4.0, -2.0, 0.0, 1.0], [-1.0, 0.0, 2.0, -2.0]])
    mask = torch.tensor([[True, True, False, False], [False, False, False, False]])
    got = float(answer(heat.clone(), mask.clone()))
    known = {
        "the share alone": (0.5, "it isn't divided by the mask's area"),
        "the share of the sum with signs": (4.0, "heat against the label cancels heat for it"),
        "the share of positive heat": (16 / 7, "negative heat is left out"),
        "the share times the area": (0.125, "it is multiplied, not divided"),
        "divided by the number of pixels": (0.25, "area is a share, not a count"),
        "lift outside the mask": (2 / 3, "the mask is turned"),
    }
    for told, (wrong, cause) in known.items():
        expect(
            not math.isclose(got, wrong, abs_tol=1e-6),
            f"expected 2, got {got:.3f}: that is {told}",
            cause=cause,
            hint="share of heat.abs() inside the mask, divided by mask.float().mean()",
        )
    expect(
        math.isclose(got, 2, abs_tol=1e-5),
        f"half of the |heat| lies on a quarter of the image: expected 2, got {got:.3f}",
        cause="another sum or another area",
        hint="share of |heat| inside the mask, divided by mask.float().mean()",
    )
    full = float(answer(heat.clone(), torch.ones_like(mask)))
    expect(
        math.isclose(full, 1, abs_tol=1e-5),
        f"for a mask of everything expected 1, got {full:.3f}",
        cause="the area is another one",
        hint="all heat on all of the image is chance",
    )
    empty = float(answer(torch.zeros(2, 4), mask.clone()))
    expect(
        math.isnan(empty),
        f"for a map of zeros expected NaN, got {empty:.3g}",
        cause="a map without heat is told as one that lies badly",
        hint='return float("nan") if the total is 0',
    )
