"""Checks of 04_known_truth."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfxnb.checks.core import exercise, expect, near
from cfxnb.data import World, intervene, sprites


@exercise("State a causal model")
def my_world(answer: Callable[[], Any]) -> None:
    world = answer()
    expect(
        isinstance(world, World),
        f"expected a cfx.data.World, got {type(world).__name__}",
        cause="the factors are returned, but not as a World",
        hint="return cfx.data.World(hair=..., top=...)",
    )
    missing = {"hair", "top"} - set(world.factors)
    expect(
        not missing,
        f"the world does not contain {', '.join(sorted(missing))}",
        cause="a factor is missing or has another name",
        hint="the keywords of World are hair and top",
    )
    expect(
        world.edges() == [("hair", "top")],
        f"expected the single edge hair -> top, got {world.edges()}",
        cause="the top has no cause, the edge has the wrong direction, or both have another cause",
        hint='top=cfx.data.given("hair", gray=..., red=...)',
    )
    drawn = world.sample(20_000, seed=7)
    for factor, options in (("hair", ["gray", "red"]), ("top", ["metal", "white"])):
        found = sorted(set(drawn[factor]))
        expect(
            found == options,
            f"expected {factor} to be {options[0]} or {options[1]}, got {', '.join(found)}",
            cause="an option is missing, misspelt or not part of the task",
            hint="each distribution has exactly these two options",
        )
    red = (drawn["hair"] == "red").mean()
    expect(
        abs(red - 0.5) < 0.02,
        f"expected gray and red hair equally often, got a fraction of {red:.2f} red",
        cause="the two probabilities of hair are not equal",
        hint='hair=["gray", "red"]',
    )
    for hair, wanted in (("red", 0.9), ("gray", 0.1)):
        metal = (drawn.loc[drawn["hair"] == hair, "top"] == "metal").mean()
        expect(
            abs(metal - wanted) < 0.02,
            f"P(metal | {hair}) should be {wanted}, got {metal:.2f}",
            cause="the cases or their probabilities are swapped, or a case has no probabilities",
            hint='gray={"white": 0.9, "metal": 0.1}, and red with the two numbers swapped',
        )


def _number(got: Any) -> float:
    """Check that the answer is one number, of any numeric type."""
    kinds = (float, int, np.number, np.ndarray, Tensor)
    shape = f" of shape {tuple(got.shape)}" if isinstance(got, Tensor | np.ndarray) else ""
    expect(
        isinstance(got, kinds) and np.ndim(got) == 0,
        f"expected one number, got {type(got).__name__}{shape}",
        cause="one value per figure is returned, or nothing",
        hint="average over the figures: .double().mean().item()",
    )
    return float(got)


def _by_brightness(rows: slice) -> Callable[[Tensor], Tensor]:
    """Return a classifier that tells whether the mean brightness of some pixel rows is medium."""

    def classify(images: Tensor) -> Tensor:
        off = (images[:, :, rows].mean((1, 2, 3)) - 0.53).abs()
        return torch.stack([torch.zeros_like(off), 60 * (0.03 - off)], 1)

    return classify


def _fraction_changed(one: Tensor, other: Tensor) -> float:
    return (one != other).double().mean().item()


@exercise("The true effect of a factor")
def true_effect(answer: Callable[..., float]) -> None:
    figures = sprites("independent", 40, seed=8)
    # Decisions flip in both directions in the first two cases, and never in the last.
    for rows, factor, pair in (
        (slice(24, 44), "top", ("white", "chain")),
        (slice(24, 56), "bottom", ("white", "metal")),
        (slice(44, 56), "hair", ("gray", "red")),
    ):
        f = _by_brightness(rows)
        decisions = [f(intervene(figures, **{factor: v}).images).argmax(1) for v in pair]
        right = _fraction_changed(*decisions)
        got = _number(answer(f, figures, factor, pair))
        text = f"for {factor} expected {right:.3f}, got {got:.3f}"
        expect(
            0 <= got <= 1,
            f"a fraction is in [0, 1], got {got:.3g}",
            cause="figures are counted and not averaged, or decisions or logits are subtracted",
            hint="(one != other).double().mean().item()",
        )
        only_one = [_fraction_changed(f(figures.images).argmax(1), d) for d in decisions]
        expect(
            right in only_one or not any(near(got, other) for other in only_one),
            f"{text}: unchanged figures were compared with figures whose factor was set",
            cause="only one of the two options is set",
            hint="set the factor to each of the two options, and compare these two sets of figures",
        )
        overall = abs(decisions[0].double().mean() - decisions[1].double().mean()).item()
        expect(
            near(overall, right) or not near(got, overall),
            f"{text}: this is the difference of two averages",
            cause="flips in both directions cancel in the averages",
            hint="compare the decisions of each figure, then average",
        )
        expect(
            not near(got, 1 - right),
            f"{text}: this is the fraction that keeps its decision",
            cause="equal decisions are counted",
            hint="count the decisions that differ: one != other",
        )
        expect(
            near(got, right),
            text,
            cause="logits are compared, other options are set, or not all figures are used",
            hint="compare argmax(1) with pair[0] and with pair[1], and average over all figures",
        )


@exercise("Accuracy in conflict")
def conflict_accuracy(answer: Callable[[Tensor, Tensor, Tensor], float]) -> None:
    label = torch.tensor([0, 1, 0, 1, 0, 1, 1, 0])
    shortcut = torch.tensor([0, 1, 1, 0, 0, 1, 0, 0])  # differs from label at 2, 3 and 6
    predicted = torch.tensor([0, 1, 0, 0, 1, 1, 0, 0])  # of these three only figure 2 is right
    got = _number(answer(predicted, label, shortcut))
    expect(
        not near(got, 5 / 8),
        "this is the accuracy over all figures",
        cause="the mask is not used",
        hint="average over the conflicts only",
    )
    expect(
        not near(got, 4 / 5),
        "this is the accuracy where label and shortcut agree",
        cause="the mask is negated",
        hint="conflict = label != shortcut",
    )
    expect(
        not near(got, 2 / 3),
        "this is how often the prediction follows the shortcut and is wrong",
        cause="predictions are compared with the shortcut, or mistakes are counted",
        hint="(predicted == label)[conflict]",
    )
    expect(
        not near(got, 1 / 8),
        "the correct predictions in conflict are divided by all figures",
        cause="a product of masks is averaged over everything",
        hint="index with the mask first, then average",
    )
    expect(
        near(got, 1 / 3),
        f"expected 1 of 3, got {got:.3f}",
        cause="the average is over other figures",
        hint="label != shortcut holds for three figures; one of them is predicted correctly",
    )
    none = _number(answer(label, label, label))
    expect(
        math.isnan(none),
        f"without any conflict expected NaN, got {none:.3g}",
        cause="the case without any conflict is not handled",
        hint='if not conflict.any(): return float("nan")',
    )


@exercise("The kind of a flip")
def classify_flip(answer: Callable[[list, list, list], list[str]]) -> None:
    rows = list(itertools.product([False, True], repeat=3))
    got = answer([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])
    expect(
        isinstance(got, list),
        f"expected a list of names, got {type(got).__name__}",
        cause="one name is returned for all flips, or a generator or an array",
        hint="append one name per flip to a list and return it",
    )
    expect(
        len(got) == len(rows),
        f"expected {len(rows)} names for {len(rows)} flips, got {len(got)}",
        cause="return is inside the loop, or no name or two names are appended in some case",
        hint="if, elif, elif, else: exactly one name per flip",
    )
    known = ("trivial", "causal", "non-causal", "adversarial")
    unknown = sorted({str(kind) for kind in got if kind not in known})
    expect(
        not unknown,
        f"unknown names: {', '.join(unknown)}",
        cause="a name is misspelt, or one case has no name",
        hint='"trivial", "causal", "non-causal", "adversarial"',
    )
    for (cause, meaning, other), kind in zip(rows, got, strict=True):
        text = f"cause {cause}, meaning {meaning}, other {other}"
        if meaning:
            expect(
                kind == "trivial",
                f"{text}: expected trivial, got {kind}",
                cause="the meaning of the class is not tested first",
                hint="if the meaning changed, the flip is trivial, no matter what else changed",
            )
        elif cause:
            expect(
                kind == "causal",
                f"{text}: expected causal, got {kind}",
                cause="other factors are tested before causes",
                hint="a changed cause counts, even if other factors changed as well",
            )
        else:
            right = "non-causal" if other else "adversarial"
            expect(
                kind == right,
                f"{text}: expected {right}, got {kind}",
                cause="the last two kinds are swapped or missing",
                hint="a flip is adversarial if no readable factor changed",
            )
