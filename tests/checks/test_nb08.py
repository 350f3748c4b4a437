"""Answers to the exercises of 08_attribution_along_paths."""

import numpy as np
import torch
from mutants import Answers, assert_accepted, assert_rejected, right_answers, wrong_answers

from cfxnb.checks import nb08

NAN = float("nan")


def places(image, baseline, n_points):
    t = torch.linspace(0, 1, n_points).view(-1, 1, 1, 1)
    return baseline + t * (image - baseline)


def mean_of_pairs(g):
    return (g[1:] + g[:-1]) / 2


def on_the_line(combine):
    """``combine(gradients, image, baseline)`` with gradients at evenly spaced points."""

    def answer(gradient, image, baseline, n_points):
        return combine(gradient(places(image, baseline, n_points)), image, baseline)

    return answer


def in_a_loop(gradient, image, baseline, n_points):
    total, step = torch.zeros_like(image), (image - baseline) / (n_points - 1)
    for k in range(n_points - 1):
        pair = torch.stack([baseline + k * step, baseline + (k + 1) * step])
        total += gradient(pair).mean(0) * step
    return total


def by_torch_trapezoid(gradient, image, baseline, n_points):
    t = torch.linspace(0, 1, n_points)
    return torch.trapezoid(gradient(places(image, baseline, n_points)), t, dim=0) * (
        image - baseline
    )


def at_midpoints(gradient, image, baseline, n_points):
    t = ((torch.arange(n_points) + 0.5) / n_points).view(-1, 1, 1, 1)
    return gradient(baseline + t * (image - baseline)).mean(0) * (image - baseline)


def always_five_points(gradient, image, baseline, n_points):
    return in_a_loop(gradient, image, baseline, 5)


def without_batch(gradient, image, baseline, n_points):
    return gradient(image) * (image - baseline)


def along(combine):
    """``combine(middles, steps)`` of the pieces of a path."""
    return lambda g, x: combine(mean_of_pairs(g), x.diff(dim=0))


def line_in_a_loop(gradients, images):
    total = 0
    for k in range(len(images) - 1):
        total = total + (gradients[k] + gradients[k + 1]) / 2 * (images[k + 1] - images[k])
    return total


def pieces(values, images):
    return values.diff().view(-1, 1, 1, 1), images.diff(dim=0)


def slopes(values, images):
    rise, moved = pieces(values, images)
    return torch.where(moved == 0, 0.0, rise / moved)


def secant(values, images):
    return (images[-1] - images[0]) * slopes(values, images).mean(0)


def secant_by_nan_to_num(values, images):
    rise, moved = pieces(values, images)
    found = (rise / moved).nan_to_num(0.0, 0.0, 0.0)
    return (images[-1] - images[0]) * found.mean(0)


def secant_without_guard(values, images):
    rise, moved = pieces(values, images)
    return (images[-1] - images[0]) * (rise / moved).mean(0)


def secant_with_a_small_number(values, images):
    rise, moved = pieces(values, images)
    return (images[-1] - images[0] + 1e-6) * (rise / (moved + 1e-6)).mean(0)


def secant_where_it_moves(values, images):
    found = slopes(values, images)
    mean = found.sum(0) / (found != 0).sum(0).clamp_min(1)
    return (images[-1] - images[0]) * mean


def one_secant(values, images):
    way = images[-1] - images[0]
    return torch.where(way == 0, 0.0, values[-1] - values[0])


def shared(combine):
    """``combine(rise, size, whole)`` of the pieces of a path."""

    def answer(values, images):
        rise, moved = pieces(values, images)
        size = moved.abs()
        return combine(rise, size, size.sum((1, 2, 3), keepdim=True).clamp_min(1e-12))

    return answer


def proportional_in_a_loop(values, images):
    total = torch.zeros_like(images[0])
    for k in range(len(images) - 1):
        size = (images[k + 1] - images[k]).abs()
        if size.any():
            total += (values[k + 1] - values[k]) * size / size.sum()
    return total


def proportional_unguarded(values, images):
    rise, moved = pieces(values, images)
    return (rise * moved.abs() / moved.abs().sum((1, 2, 3), keepdim=True)).sum(0)


def at_once(values, images):
    size = images.diff(dim=0).abs()
    return (values[-1] - values[0]) * size.sum(0) / size.sum()


def by_the_ends(values, images):
    size = (images[-1] - images[0]).abs()
    return (values[-1] - values[0]) * size / size.sum()


def with_signs(values, images):
    rise, moved = pieces(values, images)
    whole = moved.abs().sum((1, 2, 3), keepdim=True).clamp_min(1e-12)
    return (rise * moved / whole).sum(0)


def ratio_of(inside, area=lambda mask: float(mask.double().mean()), mass=torch.abs):
    """``inside(mass, mask)`` over the area, with the guard."""

    def answer(heat, mask):
        size = mass(heat)
        if not heat.any():
            return NAN
        return float(inside(size, mask)) / area(mask)

    return answer


def fraction(size, mask):
    return size[mask].sum() / size.sum()


def by_means(heat, mask):
    mean = heat.abs().mean()
    return heat.abs()[mask].mean() / mean if mean else NAN


def by_numpy(heat, mask):
    size, where = np.abs(heat.numpy()), mask.numpy()
    return size[where].sum() / size.sum() / where.mean() if size.any() else np.nan


TABLE = {
    "straight_ig": Answers(
        right={
            "mean of pairs": on_the_line(lambda g, x, b: mean_of_pairs(g).mean(0) * (x - b)),
            "loop": in_a_loop,
            "torch.trapezoid": by_torch_trapezoid,
        },
        wrong={
            "way back": (
                on_the_line(lambda g, x, b: mean_of_pairs(g).mean(0) * (b - x)),
                "that is the map with the wrong sign",
            ),
            "not multiplied": (
                on_the_line(lambda g, x, b: mean_of_pairs(g).mean(0)),
                "that is the mean gradient alone",
            ),
            "summed": (
                on_the_line(lambda g, x, b: mean_of_pairs(g).sum(0) * (x - b)),
                "that is the map times the number of intervals",
            ),
            "divided by points": (
                on_the_line(lambda g, x, b: mean_of_pairs(g).sum(0) / len(g) * (x - b)),
                "that is the sum divided by n_points",
            ),
            "times image": (
                on_the_line(lambda g, x, b: mean_of_pairs(g).mean(0) * x),
                "that is gradient times image",
            ),
            "plain average": (
                on_the_line(lambda g, x, b: g.mean(0) * (x - b)),
                "that is the mean of all gradients times (image - baseline)",
            ),
            "left ends": (
                on_the_line(lambda g, x, b: g[:-1].mean(0) * (x - b)),
                "that is the sum of the left ends",
            ),
            "right ends": (
                on_the_line(lambda g, x, b: g[1:].mean(0) * (x - b)),
                "that is the sum of the right ends",
            ),
            "no path": (
                on_the_line(lambda g, x, b: g[-1] * (x - b)),
                "that is one gradient, at the image",
            ),
            "midpoints": (at_midpoints, "expected another map; its sum should be"),
            "number, not map": (
                on_the_line(lambda g, x, b: (mean_of_pairs(g).mean(0) * (x - b)).sum()),
                "expected a map of shape (2, 4, 3), got torch.Size([])",
            ),
            "channels added": (
                on_the_line(lambda g, x, b: (mean_of_pairs(g).mean(0) * (x - b)).sum(0)),
                "expected a map of shape (2, 4, 3), got torch.Size([4, 3])",
            ),
            "points fixed": (always_five_points, "with n_points=2 the map is wrong"),
            "no batch": (without_batch, "gradient: expected images of shape (b, 2, 4, 3)"),
        },
    ),
    "path_ig": Answers(
        right={
            "pieces": along(lambda middles, steps: (middles * steps).sum(0)),
            "loop": line_in_a_loop,
            "double precision": lambda g, x: line_in_a_loop(g.double(), x.double()),
        },
        wrong={
            "published": (
                lambda g, x: (x[-1] - x[0]) * g.mean(0),
                "that is the published sum",
            ),
            "published, trapezoid": (
                lambda g, x: (x[-1] - x[0]) * mean_of_pairs(g).mean(0),
                "that is the mean of the averaged gradients times (end - start)",
            ),
            "way back": (
                along(lambda middles, steps: -(middles * steps).sum(0)),
                "that is the map with the wrong sign",
            ),
            "averaged": (
                along(lambda middles, steps: (middles * steps).mean(0)),
                "that is the mean over intervals",
            ),
            "not halved": (
                along(lambda middles, steps: (2 * middles * steps).sum(0)),
                "that is twice the map",
            ),
            "left ends": (
                lambda g, x: (g[:-1] * x.diff(dim=0)).sum(0),
                "that is the sum with left ends",
            ),
            "right ends": (
                lambda g, x: (g[1:] * x.diff(dim=0)).sum(0),
                "that is the sum with right ends",
            ),
            "sizes": (
                along(lambda middles, steps: (middles * steps.abs()).sum(0)),
                "that is the sum with absolute steps",
            ),
            "pieces kept": (
                along(lambda middles, steps: middles * steps),
                "expected a map of shape (2, 4, 3), got torch.Size([5, 2, 4, 3])",
            ),
            "last piece lost": (
                lambda g, x: line_in_a_loop(g[:-1], x[:-1]),
                "expected another map; its sum should be",
            ),
        },
    ),
    "secant_attribution": Answers(
        right={"where": secant, "nan_to_num": secant_by_nan_to_num},
        wrong={
            "no guard": (secant_without_guard, "the map is not finite"),
            "small number": (secant_with_a_small_number, "a pixel that never changes should get 0"),
            "summed": (
                lambda f, x: (x[-1] - x[0]) * slopes(f, x).sum(0),
                "every pixel that changes gets the whole change",
            ),
            "mean slope alone": (
                lambda f, x: slopes(f, x).mean(0),
                "every pixel that changes gets the whole change",
            ),
            "way back": (
                lambda f, x: (x[0] - x[-1]) * slopes(f, x).mean(0),
                "every pixel that changes gets the whole change",
            ),
            "divided by points": (
                lambda f, x: (x[-1] - x[0]) * slopes(f, x).sum(0) / len(x),
                "every pixel that changes gets the whole change",
            ),
            "where it moves": (
                secant_where_it_moves,
                "that is the mean over intervals in which the pixel moves",
            ),
            "one secant": (one_secant, "that is one secant from start to end"),
            "own steps": (
                lambda f, x: (slopes(f, x) * x.diff(dim=0)).sum(0),
                "that is each slope times its own step",
            ),
            "proportional": (
                proportional_in_a_loop,
                "every pixel that changes gets the whole change",
            ),
            "sizes": (
                lambda f, x: (x[-1] - x[0]).abs() * slopes(f, x).mean(0),
                "every pixel that changes gets the whole change",
            ),
        },
    ),
    "proportional_attribution": Answers(
        right={
            "clamped": shared(lambda rise, size, whole: (rise * size / whole).sum(0)),
            "loop": proportional_in_a_loop,
        },
        wrong={
            "no guard": (proportional_unguarded, "the map is not finite"),
            "at once": (at_once, "that is the total change of f, distributed once"),
            "by the ends": (
                by_the_ends,
                "that is the total change of f, distributed by |end - start|",
            ),
            "with signs": (with_signs, "that is the map with signed steps"),
            "no shares": (
                shared(lambda rise, size, whole: (rise * size).sum(0)),
                "that is the map without division by the total",
            ),
            "averaged": (
                shared(lambda rise, size, whole: (rise * size / whole).mean(0)),
                "that is the mean over intervals",
            ),
            "way back": (
                shared(lambda rise, size, whole: (-rise * size / whole).sum(0)),
                "that is the map with the wrong sign",
            ),
            "sizes of changes": (
                shared(lambda rise, size, whole: (rise.abs() * size / whole).sum(0)),
                "that is the map with |change of f|",
            ),
            "over pieces": (
                shared(
                    lambda rise, size, whole: (rise * size / size.sum(0).clamp_min(1e-12)).sum(0)
                ),
                "that is the map divided by the total over intervals",
            ),
            "channel by channel": (
                shared(
                    lambda rise, size, whole: (
                        rise * size / size.sum((2, 3), keepdim=True).clamp_min(1e-12)
                    ).sum(0)
                ),
                "expected another map; its sum should be",
            ),
            "secant": (secant, "expected another map; its sum should be"),
        },
    ),
    "relevance_ratio": Answers(
        right={"fraction": ratio_of(fraction), "means": by_means, "numpy": by_numpy},
        wrong={
            "fraction alone": (
                ratio_of(fraction, area=lambda mask: 1.0),
                "that is the fraction alone",
            ),
            "signed": (
                ratio_of(fraction, mass=lambda heat: heat),
                "that is the fraction of the signed sum",
            ),
            "positive": (
                ratio_of(fraction, mass=lambda heat: heat.clamp_min(0)),
                "that is the fraction of the positive part",
            ),
            "times the area": (
                ratio_of(fraction, area=lambda mask: 1 / float(mask.double().mean())),
                "that is the fraction times the area",
            ),
            "number of pixels": (
                ratio_of(fraction, area=lambda mask: float(mask.sum())),
                "that is divided by the number of pixels",
            ),
            "outside": (
                lambda heat, mask: ratio_of(fraction)(heat, ~mask),
                "that is the ratio outside the mask",
            ),
            "inside only": (
                ratio_of(lambda size, mask: size[mask].sum()),
                "expected 2, got 24",
            ),
            "zero of nothing": (
                lambda heat, mask: ratio_of(fraction)(heat, mask) if heat.any() else 0.0,
                "for a map of zeros expected NaN, got 0",
            ),
            "small number added": (
                lambda heat, mask: (
                    heat.abs()[mask].sum() / (heat.abs().sum() + 1e-9) / mask.float().mean()
                ),
                "for a map of zeros expected NaN, got 0",
            ),
        },
    ),
}


@right_answers(nb08, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb08, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)
