"""Checks of 07_global_directions."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb.checks.core import exercise, expect

Known = Mapping[str, tuple[Any, str]]


def _two(got: Any, what: str) -> list[Any]:
    expect(
        isinstance(got, tuple | list) and len(got) == 2,
        f"expected {what}, got {type(got).__name__}",
        cause="only one of the two is returned",
        hint="return both, separated by a comma",
    )
    return list(got)


def _close(a: Any, b: Any) -> bool:
    a, b = torch.as_tensor(a).double(), torch.as_tensor(b).double()
    return bool(torch.allclose(a, b, rtol=1e-4, atol=1e-4))


def _shape(got: Any, shape: tuple[int, ...], what: str) -> None:
    expect(
        isinstance(got, Tensor) and tuple(got.shape) == shape,
        f"expected {what}, got {getattr(got, 'shape', type(got).__name__)}",
        cause="something else is returned, such as a prediction, or pairs and scores are mixed up",
        hint="print the shapes on the way",
    )


def _compare(got: Any, right: Any, known: Known, name: str, hint: str) -> None:
    """Name a typical mistake: told -> (what it gives, its cause); else say what was expected."""
    for told, (wrong, cause) in known.items():
        expect(not _close(got, wrong), f"{name}: {told}", cause=cause, hint=hint)
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
    there = torch.tensor([5.0, -1.0, 2.5, 7.0, 0.0])
    back = torch.tensor([1.0, 4.0, 2.5, -3.0, 6.0])
    home, score = 1.5, torch.stack([there, back], 1).flatten()
    odd, even = _two(answer(score.clone(), home), "the odd and the even part")
    for part, name in ((odd, "odd"), (even, "even")):
        _shape(part, (5,), f"one {name} part a pair, shape (5,)")
    right, mean = (there - back) / 2, (there + back) / 2
    known: Known = {
        "the first half of the scores is paired with the second": (
            (score[:5] - score[5:]) / 2,
            "opposites are taken to lie in the second half",
        ),
        "it is exchanged with the even part": (mean - home, "they are in the other order"),
        "its sign is wrong": (-right, "the change is taken away from its opposite"),
        "it is twice too large": (2 * right, "the difference isn't halved"),
    }
    _compare(odd, right, known, "odd part", "half of score[::2] less score[1::2]")
    known = {"the score at home is still in it": (mean, "home isn't taken away")}
    _compare(even, mean - home, known, "even part", "the mean of the two scores, less home once")


@exercise("The slope by least squares")
def slope(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    g = Generator().manual_seed(5)
    delta = torch.randn(20, 6, generator=g)
    odd = delta @ torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, 1.0])
    odd = odd + 0.5 * torch.randn(20, generator=g) + 1.0
    penalty = 4.0

    def solved(weight: float | Tensor, d: Tensor = delta, y: Tensor = odd) -> Tensor:
        return torch.linalg.lstsq((d.T @ d + weight).double(), (d.T @ y).double()).solution

    eye = torch.eye(6)
    got = answer(delta.clone(), odd.clone(), penalty)
    _shape(got, (6,), "6 numbers, one a coordinate")
    centred = solved(penalty * eye, delta - delta.mean(0), odd - odd.mean())
    known: Known = {
        "the penalty plays no part": (solved(0.0), "it is not added to the diagonal"),
        "the penalty is twice too large": (solved(2 * penalty * eye), "a factor of 2 too many"),
        "half of the penalty is used": (solved(penalty / 2 * eye), "a factor of 2 is missing"),
        "the penalty is squared": (solved(penalty**2 * eye), "it is multiplied by itself"),
        "the penalty is multiplied by the number of changes": (
            solved(penalty * 20 * eye),
            "the squares were averaged, not added up",
        ),
        "the penalty is added to every entry": (solved(penalty), "torch.eye is missing"),
        "an intercept was fitted, too": (centred, "changes or answers were centred"),
        "nothing was solved": (delta.T @ odd, "only the right-hand side is returned"),
        "its sign is wrong": (-solved(penalty * eye), "a minus too many"),
    }
    hint = "(D^T D + penalty * identity) slope = D^T odd"
    _compare(got, solved(penalty * eye), known, "slope", hint)
    few = answer(delta[:3].clone(), odd[:3].clone(), penalty)
    right = solved(penalty * eye, delta[:3], odd[:3])
    _compare(few, right, {}, "with fewer changes than coordinates", hint)


@exercise("How much does it predict?")
def r_squared(answer: Callable[[Tensor, Tensor], float]) -> None:
    seen = torch.tensor([1.0, 4.0, 2.0, 7.0, 6.0])
    told = torch.tensor([1.5, 3.0, 3.0, 5.0, 5.0])
    misses, std = (seen - told).square().sum(), (seen - seen.mean()).square().sum()
    right = 1 - misses / std
    corr = torch.corrcoef(torch.stack([seen, told]))[0, 1]
    known: Known = {
        "that is the share that is missed": (1 - right, "one minus is missing"),
        "that is the squared correlation": (corr**2, "scale and shift count, too"),
        "that is the correlation": (corr, "scale and shift count, too"),
        "what was seen is squared, not its deviations": (
            1 - misses / seen.square().sum(),
            "the mean isn't taken away",
        ),
        "deviations are those of what was told": (
            1 - misses / (told - told.mean()).square().sum(),
            "the two arguments are exchanged",
        ),
        "that has a square root": (1 - (misses / std).sqrt(), "it needs no root"),
    }
    hint = "1 - misses / deviations, sums of squares both"
    _compare(answer(seen.clone(), told.clone()), right, known, "R²", hint)
    below = 1 - (seen + told).square().sum() / std
    hint = "below 0 is worse than always telling the mean: worth knowing, so don't cut it"
    _compare(answer(seen.clone(), -told), below, {}, "R² of a bad prediction", hint)


@exercise("The smallest step")
def smallest_step(answer: Callable[..., float]) -> None:
    asked: list[float] = []

    def flips(length: float) -> bool:
        asked.append(float(length))
        expect(
            len(asked) <= 50,
            "it goes on asking",
            cause="the loop has no end",
            hint="for _ in range(halvings)",
        )
        return length >= 3.3

    got = answer(flips, 2.0, 6.0, 4)
    expect(
        isinstance(got, float | int) and not isinstance(got, bool),
        f"expected a number, got {type(got).__name__}",
        cause="the end of the function returns nothing, or an answer of the box",
        hint="return a length",
    )
    expect(
        asked[:1] == [4.0],
        f"the first question was about {asked[0]:g}; the middle of 2 and 6 is 4"
        if asked
        else "the box was never asked",
        cause="flips isn't called, or about an end, whose answer is known",
        hint="flips((low + high) / 2)",
    )
    expect(
        len(asked) == 4,
        f"expected 4 questions for 4 halvings, got {len(asked)}",
        cause="each turn asks twice, or the loop has another length",
        hint="ask once a turn, and keep the answer",
    )
    expect(
        asked == [4.0, 3.0, 3.5, 3.25],
        f"asked about {', '.join(f'{x:g}' for x in asked)}",
        cause="the wrong end is moved",
        hint="if the middle flips, it becomes the far end",
    )
    expect(
        float(got) == 3.5,
        f"expected 3.5, got {float(got):g}, which does not flip, or nobody has asked about",
        cause="the near end, or the middle of what is left, is returned",
        hint="return the far end: it was seen to flip",
    )
    last = answer(lambda length: False, 0.0, 8.0, 3)
    _compare(last, 8.0, {}, "where nothing nearer flips", "the far end moves only if it flips")


@exercise("Orient")
def orient(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    axes = torch.tensor([[2.0, 0, 0], [-1, 1, 0], [0, 0, 1], [-0.5, -0.5, -0.5]])
    gradient = torch.tensor([1.0, 0.25, 0.0])
    got = answer(axes.clone(), gradient.clone())
    _shape(got, (4, 3), "axes of shape (4, 3)")
    expect(
        bool(got[2].any()),
        "an axis at a right angle to the gradient has become 0",
        cause="sign() is 0 at 0",
        hint="negate where the slope is below zero, and leave the others",
    )
    expect(
        _close(got.abs(), axes.abs()),
        "an axis has another length or place",
        cause="axes are multiplied by their slope, normalised, or sorted",
        hint="an axis stays as it is, or all of it changes its sign",
    )
    falls = got @ gradient < -1e-6
    expect(
        not bool(falls.any()),
        f"along {int(falls.sum())} of 4 axes the score still falls",
        cause="the condition is the other way round, or looks at something else than the slope",
        hint="negate rows where axes @ gradient is below zero",
    )
    right = torch.where((axes @ gradient < 0)[:, None], -axes, axes)
    expect(
        _close(got[[0, 1, 3]], right[[0, 1, 3]]),
        "some coordinate of an axis has a sign of its own",
        cause="abs() makes each coordinate positive",
        hint="an axis turns as a whole",
    )


@exercise("The share of the frame")
def frame_share(answer: Callable[[Tensor, int], tuple[float, float]]) -> None:
    change = torch.randn(10, 14, generator=Generator().manual_seed(2))
    change[:2] *= 3
    for width in (2, 3):
        got = _two(answer(change.clone(), width), "the share of the change and of the area")
        inside = change[width:-width, width:-width]
        right, area = 1 - inside.abs().sum() / change.abs().sum(), 1 - inside.numel() / 140
        squares = 1 - inside.square().sum() / change.square().sum()
        known: Known = {
            "it is exchanged with the area": (area, "the area is returned first"),
            "that is the share of the inside": (1 - right, "the frame is what is left of it"),
            "light and dark cancel": (1 - inside.sum() / change.sum(), "absolute values first"),
            "squares are added up": (squares, "absolute values were asked for"),
        }
        hint = "everything less the inside is the frame; corners count once"
        _compare(got[0], right, known, "share of the change", hint)
        _compare(got[1], area, {}, "share of the area", hint)


def parts(score: Tensor, home: float) -> tuple[Tensor, Tensor]:
    """Odd and even part of the answers to pairs: later cells don't wait for the exercise."""
    pairs = score.view(-1, 2)
    return pairs.diff(dim=1)[:, 0] / -2, pairs.mean(1) - home


def framed(change: Tensor, width: int) -> tuple[float, float]:
    """Shares of a change and of the area in the frame: later cells don't wait for the exercise."""
    within = change[width:-width, width:-width]
    share = 1 - within.abs().sum() / change.abs().sum()
    return share.item(), 1 - within.numel() / change.numel()
