"""Checks of 04_known_truth."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfxnb.checks.core import exercise, expect
from cfxnb.data import World, intervene, sprites

_near = functools.partial(math.isclose, abs_tol=1e-6)  # also if one is in single precision


@exercise("State a causal model")
def my_world(answer: Callable[[], Any]) -> None:
    world = answer()
    expect(
        isinstance(world, World),
        f"expected a cfx.data.World, got {type(world).__name__}",
        cause="the factors are returned without the World around them",
        hint="return cfx.data.World(hair=..., top=...)",
    )
    missing = {"hair", "top"} - set(world.factors)
    expect(
        not missing,
        f"the world doesn't mention {', '.join(sorted(missing))}",
        cause="a factor is missing or has another name",
        hint="its keywords are hair and top",
    )
    expect(
        world.edges() == [("hair", "top")],
        f"expected the single arrow hair -> top, got {world.edges()}",
        cause="the top is a root, the arrow points the other way, or both have another cause",
        hint='top=cfx.data.given("hair", gray=..., red=...)',
    )
    drawn = world.sample(20_000, seed=7)
    for factor, options in (("hair", ["gray", "red"]), ("top", ["metal", "white"])):
        found = sorted(set(drawn[factor]))
        expect(
            found == options,
            f"expected {factor} to be {options[0]} or {options[1]}, got {', '.join(found)}",
            cause="an option is missing, misspelt or not asked for",
            hint="each distribution has exactly these two options",
        )
    red = (drawn["hair"] == "red").mean()
    expect(
        abs(red - 0.5) < 0.02,
        f"expected gray and red hair equally often, got a share of {red:.2f} red",
        cause="the probabilities of the root differ",
        hint='hair=["gray", "red"]',
    )
    for hair, wanted in (("red", 0.9), ("gray", 0.1)):
        metal = (drawn.loc[drawn["hair"] == hair, "top"] == "metal").mean()
        expect(
            abs(metal - wanted) < 0.02,
            f"P(metal | {hair}) should be {wanted}, got {metal:.2f}",
            cause="the cases or their probabilities are exchanged, or a case has none",
            hint='gray={"white": 0.9, "metal": 0.1}, and red the other way round',
        )


def _number(got: Any) -> float:
    """The one number that was asked for, of whatever kind."""
    kinds = (float, int, np.number, np.ndarray, Tensor)
    shape = f" of shape {tuple(got.shape)}" if isinstance(got, Tensor | np.ndarray) else ""
    expect(
        isinstance(got, kinds) and np.ndim(got) == 0,
        f"expected one number, got {type(got).__name__}{shape}",
        cause="one value a figure is returned, or nothing",
        hint="average over the figures: .double().mean().item()",
    )
    return float(got)


def _by_brightness(rows: slice) -> Callable[[Tensor], Tensor]:
    """A classifier for which some rows of pixels must be neither dark nor bright."""

    def classify(images: Tensor) -> Tensor:
        off = (images[:, :, rows].mean((1, 2, 3)) - 0.53).abs()
        return torch.stack([torch.zeros_like(off), 60 * (0.03 - off)], 1)

    return classify


def _share(one: Tensor, other: Tensor) -> float:
    return (one != other).double().mean().item()


@exercise("The true effect of a factor")
def true_effect(answer: Callable[..., float]) -> None:
    figures = sprites("independent", 40, seed=8)
    for rows, factor, pair in (  # the first two flip in both directions, the last never
        (slice(24, 44), "top", ("white", "chain")),
        (slice(24, 56), "bottom", ("white", "metal")),
        (slice(44, 56), "hair", ("gray", "red")),
    ):
        f = _by_brightness(rows)
        said = [f(intervene(figures, **{factor: v}).images).argmax(1) for v in pair]
        right = _share(*said)
        got = _number(answer(f, figures, factor, pair))
        told = f"for {factor} expected {right:.3f}, got {got:.3f}"
        expect(
            0 <= got <= 1,
            f"a share lies in [0, 1], got {got:.3g}",
            cause="figures are counted, not averaged, or decisions or logits are subtracted",
            hint="(one != other).double().mean().item()",
        )
        only_one = [_share(f(figures.images).argmax(1), s) for s in said]
        expect(
            right in only_one or not any(_near(got, share) for share in only_one),
            f"{told}: figures as they are were compared with figures that were set",
            cause="only one of the two options is set",
            hint="set the factor to each of the two options, and compare those two sets",
        )
        overall = abs(said[0].double().mean() - said[1].double().mean()).item()
        expect(
            _near(overall, right) or not _near(got, overall),
            f"{told}: two averages were subtracted",
            cause="flips in both directions cancel in the averages",
            hint="compare figure by figure, then average",
        )
        expect(
            not _near(got, 1 - right),
            f"{told}: this is the share that keeps its decision",
            cause="equal decisions are counted",
            hint="an effect is a difference: one != other",
        )
        expect(
            _near(got, right),
            told,
            cause="logits are compared, other options are set, or not all figures are asked",
            hint="argmax(1) under pair[0] != argmax(1) under pair[1], averaged over all figures",
        )


@exercise("Accuracy in conflict")
def conflict_accuracy(answer: Callable[[Tensor, Tensor, Tensor], float]) -> None:
    label = torch.tensor([0, 1, 0, 1, 0, 1, 1, 0])
    shortcut = torch.tensor([0, 1, 1, 0, 0, 1, 0, 0])  # disagree at 2, 3 and 6
    predicted = torch.tensor([0, 1, 0, 0, 1, 1, 0, 0])  # of these only figure 2 is right
    got = _number(answer(predicted, label, shortcut))
    expect(
        not _near(got, 5 / 8),
        "this is the accuracy over all figures",
        cause="the mask is not used",
        hint="average over the conflicts only",
    )
    expect(
        not _near(got, 4 / 5),
        "this is the accuracy where label and shortcut agree",
        cause="the mask is the wrong way round",
        hint="conflict = label != shortcut",
    )
    expect(
        not _near(got, 2 / 3),
        "this is how often the prediction follows the shortcut, and is wrong",
        cause="predictions are compared with the shortcut, or mistakes are counted",
        hint="(predicted == label)[conflict]",
    )
    expect(
        not _near(got, 1 / 8),
        "the hits in conflict are divided by all figures",
        cause="a product of masks is averaged over everything",
        hint="index with the mask first, then average",
    )
    expect(
        _near(got, 1 / 3),
        f"expected 1 of 3, got {got:.3f}",
        cause="another set of figures is averaged",
        hint="label != shortcut holds for three figures here; one of them is predicted right",
    )
    nobody = _number(answer(label, label, label))
    expect(
        math.isnan(nobody),
        f"without any conflict expected NaN, got {nobody:.3g}",
        cause="no evidence is told as a number",
        hint='if not conflict.any(): return float("nan")',
    )


@exercise("The kind of a flip")
def kind_of(answer: Callable[[list, list, list], list[str]]) -> None:
    rows = list(itertools.product([False, True], repeat=3))
    got = answer([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])
    expect(
        isinstance(got, list),
        f"expected a list of names, got {type(got).__name__}",
        cause="one name is returned for all of them, or a generator or an array",
        hint="append one name a flip to a list and return that",
    )
    expect(
        len(got) == len(rows),
        f"expected {len(rows)} names for {len(rows)} flips, got {len(got)}",
        cause="return stands inside the loop, or in some case no name, or two, are appended",
        hint="if, elif, elif, else: exactly one name a flip",
    )
    known = ("trivial", "causal", "non-causal", "adversarial")
    unknown = sorted({str(kind) for kind in got if kind not in known})
    expect(
        not unknown,
        f"unknown names: {', '.join(unknown)}",
        cause="a name is misspelt, or one case has none",
        hint='"trivial", "causal", "non-causal", "adversarial"',
    )
    for (cause, meaning, bystander), kind in zip(rows, got, strict=True):
        told = f"cause {cause}, meaning {meaning}, bystander {bystander}"
        if meaning:
            expect(
                kind == "trivial",
                f"{told}: expected trivial, got {kind}",
                cause="the meaning of the class is not looked at first",
                hint="if the meaning changed, nothing is learnt, whatever else changed",
            )
        elif cause:
            expect(
                kind == "causal",
                f"{told}: expected causal, got {kind}",
                cause="bystanders are looked at before causes",
                hint="a changed cause counts, also if bystanders changed with it",
            )
        else:
            right = "non-causal" if bystander else "adversarial"
            expect(
                kind == right,
                f"{told}: expected {right}, got {kind}",
                cause="the last two kinds are exchanged or missing",
                hint="adversarial is what remains when nothing readable changed",
            )
