"""Checks of 00_welcome."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from cfxnb.checks.core import exercise, expect


@exercise("A path between two codes")
def straight_path(answer: Callable[[Tensor, Tensor, int], Tensor]) -> None:
    g = Generator().manual_seed(1)
    a, b = torch.randn(4, generator=g), torch.randn(4, generator=g)
    path = answer(a, b, 5)
    expect(
        isinstance(path, Tensor) and path.shape == (5, 4),
        f"expected 5 codes in a tensor of shape (5, 4), got {_shape(path)}",
        cause="the steps are not stacked, or one is missing at an end",
        hint="weights = torch.linspace(0, 1, steps).unsqueeze(1) gives one row per step",
    )
    expect(
        torch.allclose(path[0], a) and torch.allclose(path[-1], b),
        "the path doesn't begin at the start and end at the end",
        cause="start and end are exchanged, or the weights don't run from 0 to 1",
        hint="at weight 0 the code is the start, at weight 1 the end",
    )
    expect(
        torch.allclose(path[1:] - path[:-1], (b - a).expand(4, 4) / 4, atol=1e-5),
        "the steps are not equally long",
        cause="the weights are not evenly spaced",
        hint="torch.linspace makes evenly spaced numbers",
    )


@exercise("Where the decision flips")
def flip_point(answer: Callable[[Tensor], int]) -> None:
    never = answer(torch.tensor([0.1, 0.2, 0.3]))
    expect(
        never == -1,
        f"for a path that never flips expected -1, got {never}",
        cause="argmax of an all-False tensor is 0, which means 'flipped at step 0'"
        if never == 0
        else "there is no separate answer if no step is above one half",
        hint="check first whether any step is above one half",
    )
    got = answer(torch.tensor([0.01, 0.7, 0.3, 0.4, 0.9]))
    expect(
        got == 1,
        f"for [0.01, 0.7, 0.3, 0.4, 0.9] expected step 1, got {got}",
        cause="the last or the largest step was taken, or steps are counted from 1",
        hint="(p > 0.5) is True and False; the first True is its argmax as integers",
    )
    edge = answer(torch.tensor([0.5, 0.6]))
    expect(
        edge == 1,
        f"for [0.5, 0.6] expected step 1, got {edge}",
        cause="a probability of exactly one half counts as flipped",
        hint="use > and not >=",
    )
    start = answer(torch.tensor([0.6, 0.7]))
    expect(
        start == 0,
        f"for [0.6, 0.7] expected step 0, got {start}",
        cause="only changes between two steps are found; a path may start above one half",
        hint="the first True of p > 0.5 may be at index 0",
    )


@exercise("Agreement of the judge")
def judge_agreement(answer: Callable[[Tensor, Tensor, Tensor], float]) -> None:
    read, target = torch.tensor([9, 9, 4, 9]), torch.tensor([9, 9, 9, 9])
    flipped = torch.tensor([True, True, True, False])
    got = float(answer(read, target, flipped))
    expect(
        abs(got - 2 / 3) < 1e-6,
        f"three images flipped and the judge agrees on two: expected 0.667, got {got:.3f}",
        cause="images that did not flip are counted too, or it is not the fraction that agrees",
        hint="keep only the flipped: read[flipped] == target[flipped]",
    )
    pair = torch.tensor([3, 6])
    mixed = float(answer(pair, pair, torch.tensor([True, True])))
    expect(
        abs(mixed - 1) < 1e-6,
        f"for targets 3 and 6 read as 3 and 6 expected 1, got {mixed:.3f}",
        cause="the judge's class is compared with a fixed class",
        hint="each image has its own target",
    )
    nothing = float(answer(read, target, torch.zeros(4, dtype=torch.bool)))
    expect(
        nothing != nothing,
        f"if nothing flipped expected NaN, got {nothing}",
        cause="a fraction of no images is neither 0 nor 1",
        hint="the mean of an empty tensor is NaN",
    )


@exercise("The smallest successful change")
def smallest_change(answer: Callable[[Tensor, Tensor], int]) -> None:
    distance = torch.tensor([1.0, 2.5, 3.5, 1.5])
    kept = distance.clone()
    got = answer(distance, torch.tensor([False, False, True, True]))
    expect(
        torch.equal(distance, kept),
        "the distances that were handed in have changed",
        cause="infinity is written into the argument itself",
        hint="torch.where(flipped, distance, torch.inf) makes a new tensor",
    )
    expect(
        got != 1,
        "the index is one among the flipped images: expected 3 of all four, got 1",
        cause="distance[flipped] is shorter, and its argmin is an index of the shorter tensor",
        hint="replace the distances of failures by infinity, then use argmin",
    )
    expect(
        got == 3,
        f"distances 1, 2.5, 3.5, 1.5, only the last two flipped: expected index 3, got {got}",
        cause="a change that doesn't flip was taken, or the largest, or the distance itself",
        hint="replace the distances of failures by infinity, then use argmin",
    )
    got = answer(distance, torch.ones(4, dtype=torch.bool))
    expect(
        got == 0,
        f"when all flipped expected index 0, got {got}",
        cause="the largest change, or the last one, was taken",
        hint="argmin, not argmax",
    )
    none = answer(distance, torch.zeros(4, dtype=torch.bool))
    expect(
        none == -1,
        f"when nothing flipped expected -1, got {none}",
        cause="an image that did not flip is returned as a counterfactual",
        hint="check first whether any image flipped: flipped.any()",
    )


def _shape(value: object) -> object:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
