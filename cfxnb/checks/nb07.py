"""Checks of the exercises in 07_global_directions."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb.checks.core import exercise, expect, expect_none_of, expect_pair, expect_tensor

Known = Mapping[str, tuple[Any, str]]  # message -> (wrong answer, its cause)


def _close(a: Any, b: Any) -> bool:
    a, b = torch.as_tensor(a).double(), torch.as_tensor(b).double()
    return bool(torch.allclose(a, b, rtol=1e-4, atol=1e-4))


def _shape(got: Any, shape: tuple[int, ...], what: str) -> None:
    cause = "the function returns something else, or mixes up pairs and scores"
    expect_tensor(got, shape, cause, "print the shapes of the intermediate results", what)


def _compare(got: Any, right: Any, known: Known, name: str, hint: str) -> None:
    """Compare an answer first with typical mistakes, and then with the right answer."""
    expect_none_of(known, lambda wrong: _close(got, wrong), hint=hint, start=f"{name}: ")
    a, b = (torch.as_tensor(x).flatten()[:5].tolist() for x in (right, got))
    expect(
        _close(got, right),
        f"{name}: expected {', '.join(f'{x:.3f}' for x in a)}, "
        f"got {', '.join(f'{x:.3f}' for x in b)}",
        cause="another formula",
        hint=hint,
    )


@exercise("Odd and even")
def odd_even(answer: Callable[[Tensor, float], tuple[Tensor, Tensor]]) -> None:
    forward = torch.tensor([5.0, -1.0, 2.5, 7.0, 0.0])
    backward = torch.tensor([1.0, 4.0, 2.5, -3.0, 6.0])
    home, score = 1.5, torch.stack([forward, backward], 1).flatten()
    odd, even = expect_pair(answer(score.clone(), home), "the odd and the even part")
    for part, name in ((odd, "odd"), (even, "even")):
        _shape(part, (5,), f"one {name} part per pair, shape (5,)")
    right, mean = (forward - backward) / 2, (forward + backward) / 2
    known: Known = {
        "the first half of the scores is paired with the second": (
            (score[:5] - score[5:]) / 2,
            "the function expects the opposite changes in the second half",
        ),
        "the odd and the even part are exchanged": (
            mean - home,
            "the two parts are returned in the wrong order",
        ),
        "its sign is wrong": (
            -right,
            "the score of the change is subtracted from that of its opposite",
        ),
        "it is too large by a factor of 2": (2 * right, "the difference is not divided by 2"),
    }
    _compare(odd, right, known, "odd part", "(score[::2] - score[1::2]) / 2")
    known = {"the score of the unchanged code was not subtracted": (mean, "home is not subtracted")}
    _compare(even, mean - home, known, "even part", "the mean of the two scores minus home")


@exercise("The slope by ridge regression")
def ridge_slope(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    g = Generator().manual_seed(5)
    delta = torch.randn(20, 6, generator=g)
    odd = delta @ torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, 1.0])
    odd = odd + 0.5 * torch.randn(20, generator=g) + 1.0
    penalty = 4.0

    def solved(weight: float | Tensor, d: Tensor = delta, y: Tensor = odd) -> Tensor:
        return torch.linalg.lstsq((d.T @ d + weight).double(), (d.T @ y).double()).solution

    eye = torch.eye(6)
    got = answer(delta.clone(), odd.clone(), penalty)
    _shape(got, (6,), "6 numbers, one per dimension")
    centred = solved(penalty * eye, delta - delta.mean(0), odd - odd.mean())
    known: Known = {
        "the penalty is ignored": (solved(0.0), "it is not added to the diagonal"),
        "the penalty is too large by a factor of 2": (
            solved(2 * penalty * eye),
            "there is an extra factor of 2",
        ),
        "half of the penalty is used": (solved(penalty / 2 * eye), "a factor of 2 is missing"),
        "the penalty is squared": (solved(penalty**2 * eye), "it is multiplied by itself"),
        "the penalty is multiplied by the number of changes": (
            solved(penalty * 20 * eye),
            "the squares were averaged instead of summed",
        ),
        "the penalty is added to every entry": (solved(penalty), "torch.eye is missing"),
        "an intercept was fitted as well": (centred, "changes or scores were centred"),
        "nothing was solved": (delta.T @ odd, "the function returns only the right-hand side"),
        "its sign is wrong": (-solved(penalty * eye), "there is an extra minus sign"),
    }
    hint = "(D^T D + penalty * identity) slope = D^T odd"
    _compare(got, solved(penalty * eye), known, "slope", hint)
    few = answer(delta[:3].clone(), odd[:3].clone(), penalty)
    right = solved(penalty * eye, delta[:3], odd[:3])
    _compare(few, right, {}, "with fewer changes than coordinates", hint)


@exercise("How much does it predict?")
def r_squared(answer: Callable[[Tensor, Tensor], float]) -> None:
    observed = torch.tensor([1.0, 4.0, 2.0, 7.0, 6.0])
    predicted = torch.tensor([1.5, 3.0, 3.0, 5.0, 5.0])
    errors, deviations = (
        (observed - predicted).square().sum(),
        (observed - observed.mean()).square().sum(),
    )
    right = 1 - errors / deviations
    corr = torch.corrcoef(torch.stack([observed, predicted]))[0, 1]
    known: Known = {
        "that is the fraction that is not explained": (1 - right, "1 - ... is missing"),
        "that is the squared correlation": (corr**2, "R² also depends on scale and shift"),
        "that is the correlation": (corr, "R² also depends on scale and shift"),
        "the observed values are squared instead of their deviations from the mean": (
            1 - errors / observed.square().sum(),
            "the mean is not subtracted",
        ),
        "the deviations are those of the predictions": (
            1 - errors / (predicted - predicted.mean()).square().sum(),
            "the two arguments are exchanged",
        ),
        "a square root was taken": (
            1 - (errors / deviations).sqrt(),
            "R² is defined without a root",
        ),
    }
    hint = "1 - sum of squared errors / sum of squared deviations from the mean"
    _compare(answer(observed.clone(), predicted.clone()), right, known, "R²", hint)
    below = 1 - (observed + predicted).square().sum() / deviations
    hint = "a negative R² is worse than always predicting the mean; do not clip it at 0"
    _compare(answer(observed.clone(), -predicted), below, {}, "R² of a bad prediction", hint)


@exercise("The smallest step")
def smallest_step(answer: Callable[..., float]) -> None:
    queried: list[float] = []

    def flips(length: float) -> bool:
        queried.append(float(length))
        expect(
            len(queried) <= 50,
            "the box is queried more than 50 times",
            cause="the loop does not end",
            hint="for _ in range(binary_search_steps)",
        )
        return length >= 3.3

    got = answer(flips, 2.0, 6.0, 4)
    expect(
        isinstance(got, float | int) and not isinstance(got, bool),
        f"expected a number, got {type(got).__name__}",
        cause="the function returns nothing, or the answer of the box",
        hint="return a length",
    )
    expect(
        queried[:1] == [4.0],
        f"the first query was at {queried[0]:g}; the middle of 2 and 6 is 4"
        if queried
        else "the box was never queried",
        cause="flips is not called, or called at an end, where the answer is known",
        hint="flips((low + high) / 2)",
    )
    expect(
        len(queried) == 4,
        f"expected 4 queries for 4 steps, got {len(queried)}",
        cause="each step queries twice, or the loop has another length",
        hint="query once per step, and store the answer",
    )
    expect(
        queried == [4.0, 3.0, 3.5, 3.25],
        f"queried at {', '.join(f'{x:g}' for x in queried)}",
        cause="the wrong end of the interval is moved",
        hint="if the middle flips, it becomes the far end",
    )
    expect(
        float(got) == 3.5,
        f"expected 3.5, got {float(got):g}, which does not flip, or was not queried",
        cause="the function returns the near end, or the middle of the last interval",
        hint="return the far end, which is known to flip",
    )
    last = answer(lambda length: False, 0.0, 8.0, 3)
    _compare(
        last, 8.0, {}, "if no shorter step flips", "move the far end only to a step that flips"
    )


@exercise("Orient")
def orient(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    axes = torch.tensor([[2.0, 0, 0], [-1, 1, 0], [0, 0, 1], [-0.5, -0.5, -0.5]])
    gradient = torch.tensor([1.0, 0.25, 0.0])
    got = answer(axes.clone(), gradient.clone())
    _shape(got, (4, 3), "axes of shape (4, 3)")
    expect(
        bool(got[2].any()),
        "an axis orthogonal to the gradient has become 0",
        cause="sign() is 0 at 0",
        hint="negate the axes with a negative slope, and leave the others",
    )
    expect(
        _close(got.abs(), axes.abs()),
        "the length or the order of the axes has changed",
        cause="axes are multiplied by their slope, normalised, or sorted",
        hint="an axis is either unchanged, or negated as a whole",
    )
    falls = got @ gradient < -1e-6
    expect(
        not bool(falls.any()),
        f"along {int(falls.sum())} of 4 axes the score still decreases",
        cause="the condition is inverted, or does not use the slope",
        hint="negate the rows in which axes @ gradient is negative",
    )
    right = torch.where((axes @ gradient < 0)[:, None], -axes, axes)
    expect(
        _close(got[[0, 1, 3]], right[[0, 1, 3]]),
        "only some coordinates of an axis changed sign",
        cause="abs() makes each coordinate positive",
        hint="negate the whole axis",
    )


@exercise("The fraction in the frame")
def frame_fraction(answer: Callable[[Tensor, int], tuple[float, float]]) -> None:
    change = torch.randn(10, 14, generator=Generator().manual_seed(2))
    change[:2] *= 3
    for width in (2, 3):
        got = expect_pair(
            answer(change.clone(), width), "the fraction of the change and of the area"
        )
        inside = change[width:-width, width:-width]
        right, area = 1 - inside.abs().sum() / change.abs().sum(), 1 - inside.numel() / 140
        squares = 1 - inside.square().sum() / change.square().sum()
        known: Known = {
            "the two fractions are exchanged": (area, "the function returns the area first"),
            "that is the fraction inside the frame": (1 - right, "the frame is the rest"),
            "positive and negative changes cancel": (
                1 - inside.sum() / change.sum(),
                "take absolute values first",
            ),
            "squares are summed": (squares, "the exercise needs absolute values"),
        }
        hint = "the frame is everything except the inside; each corner counts once"
        _compare(got[0], right, known, "fraction of the change", hint)
        _compare(got[1], area, {}, "fraction of the area", hint)


def parts(score: Tensor, home: float) -> tuple[Tensor, Tensor]:
    """Return the odd and the even part of each pair of scores (used by later notebook cells)."""
    pairs = score.view(-1, 2)
    return pairs.diff(dim=1)[:, 0] / -2, pairs.mean(1) - home


def framed(change: Tensor, width: int) -> tuple[float, float]:
    """Return the fraction of a change, and of the area, that lies near the border of the image."""
    within = change[width:-width, width:-width]
    fraction = 1 - within.abs().sum() / change.abs().sum()
    return fraction.item(), 1 - within.numel() / change.numel()
