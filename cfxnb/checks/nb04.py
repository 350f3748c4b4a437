"""Checks of 04_known_truth."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfxnb.checks.core import exercise, expect
from cfxnb.data import World, intervene, sprites


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
        world.causes() == [("hair", "top")],
        f"expected the single arrow hair -> top, got {world.causes()}",
        cause="the top is stated as a root, or the arrow points the other way",
        hint='top=cfx.data.given("hair", gray=..., red=...)',
    )
    drawn = world.sample(20_000, seed=7)
    red = (drawn["hair"] == "red").mean()
    expect(
        set(drawn["hair"]) == {"gray", "red"} and abs(red - 0.5) < 0.02,
        f"expected gray and red hair equally often, got a share of {red:.2f} red",
        cause="the roots' probabilities differ, or other colours are among them",
        hint='hair=["gray", "red"]',
    )
    for hair, wanted in (("red", 0.9), ("gray", 0.1)):
        metal = (drawn.loc[drawn["hair"] == hair, "top"] == "metal").mean()
        expect(
            abs(metal - wanted) < 0.02,
            f"P(metal | {hair}) should be {wanted}, got {metal:.2f}",
            cause="the two cases are exchanged, or their probabilities are",
            hint='gray={"white": 0.9, "metal": 0.1}, and red the other way round',
        )
    expect(
        set(drawn["top"]) == {"white", "metal"},
        f"expected white and metal tops only, got {sorted(set(drawn['top']))}",
        cause="the rest of the probability went to another top",
        hint="each case has two options that add up to 1",
    )


def _by_brightness(rows: slice) -> Callable[[Tensor], Tensor]:
    """A classifier that looks at how bright some rows of pixels are."""

    def classify(images: Tensor) -> Tensor:
        bright = images[:, :, rows].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(bright), 60 * (bright - 0.53)], 1)

    return classify


@exercise("The true effect of a factor")
def true_effect(answer: Callable[..., float]) -> None:
    figures = sprites("independent", 40, seed=8)
    for rows, factor, pair in (
        (slice(44, 56), "shoes", ("brown", "metal")),
        (slice(44, 56), "hair", ("gray", "red")),
        (slice(24, 44), "top", ("white", "chain")),
    ):
        f = _by_brightness(rows)
        said = [f(intervene(figures, **{factor: v}).images).argmax(1) for v in pair]
        right = sum(a != b for a, b in zip(*(s.tolist() for s in said), strict=True)) / 40
        got = answer(f, figures, factor, pair)
        expect(
            isinstance(got, float | int) or (isinstance(got, Tensor) and got.ndim == 0),
            f"expected one number, got {type(got).__name__}",
            cause="one value a figure is returned",
            hint="average over the figures",
        )
        got = float(got)
        expect(
            0 <= got <= 1,
            f"a share lies in [0, 1], got {got:.3g}",
            cause="figures are counted and not averaged, or logits are compared",
            hint=".double().mean().item()",
        )
        only_one = [(f(figures.images).argmax(1) != s).double().mean().item() for s in said]
        expect(
            right in only_one or all(abs(got - share) > 1e-6 for share in only_one),
            f"for {factor} expected {right:.3f}, got {got:.3f}: figures as they are were compared "
            "with figures that were set",
            cause="only one of the two options is set",
            hint="set the factor to each of the two options, and compare those two sets",
        )
        overall = abs(said[0].double().mean() - said[1].double().mean()).item()
        expect(
            abs(overall - right) < 1e-6 or abs(got - overall) > 1e-6,
            f"for {factor} expected {right:.3f}, got {got:.3f}: two averages were subtracted",
            cause="flips in both directions cancel in the averages",
            hint="compare figure by figure, then average",
        )
        expect(
            abs(got - right) < 1e-6,
            f"for {factor} expected {right:.3f}, got {got:.3f}",
            cause="decisions are not compared figure by figure",
            hint="argmax(1) under the one option != argmax(1) under the other",
        )


@exercise("Accuracy in conflict")
def conflict_accuracy(answer: Callable[[Tensor, Tensor, Tensor], float]) -> None:
    label = torch.tensor([0, 1, 0, 1, 0, 1, 1, 0])
    shortcut = torch.tensor([0, 1, 1, 0, 0, 1, 0, 0])  # disagree at 2, 3 and 6
    predicted = torch.tensor([0, 1, 0, 0, 1, 1, 0, 0])  # right at 2 of those
    got = float(answer(predicted, label, shortcut))
    expect(
        not math.isclose(got, 5 / 8),
        "this is the accuracy over all figures",
        cause="the mask is not used",
        hint="average over the conflicts only",
    )
    expect(
        not math.isclose(got, 4 / 5),
        "this is the accuracy where label and shortcut agree",
        cause="the mask is the wrong way round",
        hint="conflict = label != shortcut",
    )
    expect(
        not math.isclose(got, 2 / 3),
        "this is how often the prediction follows the shortcut",
        cause="predictions are compared with the shortcut",
        hint="(predicted == label)[conflict]",
    )
    expect(
        not math.isclose(got, 1 / 8),
        "the hits in conflict are divided by all figures",
        cause="a product of masks is averaged over everything",
        hint="index with the mask first, then average",
    )
    expect(
        math.isclose(got, 1 / 3),
        f"expected 1 of 3, got {got:.3f}",
        cause="another set of figures is averaged",
        hint="label != shortcut holds for three figures here; one of them is predicted right",
    )
    nobody = answer(label, label, label)
    expect(
        math.isnan(float(nobody)),
        f"without any conflict expected NaN, got {float(nobody):.3g}",
        cause="no evidence is told as a number",
        hint='if not conflict.any(): return float("nan")',
    )


@exercise("The kind of a flip")
def kind_of(answer: Callable[[list, list, list], list[str]]) -> None:
    rows = list(itertools.product([False, True], repeat=3))
    got = answer([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])
    expect(
        isinstance(got, list) and len(got) == len(rows),
        f"expected a list of {len(rows)} names, got {type(got).__name__}",
        cause="one name for all, or a generator, is returned",
        hint="append one name a flip and return the list",
    )
    known = {"trivial", "causal", "non-causal", "adversarial"}
    expect(
        set(got) <= known,
        f"unknown names: {sorted(set(map(str, got)) - known)}",
        cause="a name is misspelt",
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
