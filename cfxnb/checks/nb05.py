"""Checks of 05_contrastive_explanations."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

from cfxnb.checks.core import exercise, expect, expect_none_of, expect_pair, near
from cfxnb.core.prediction import predict_logits
from cfxnb.data import SPRITE_CONTRASTS, intervene, sprites
from cfxnb.weights import load

Units = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[float, int]]


def _units() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return bools (has, before, after) in which the 8 combinations occur with different counts."""
    cell = np.repeat(np.arange(8), [3, 5, 2, 7, 4, 1, 6, 9])
    return cell >= 4, cell // 2 % 2 == 1, cell % 2 == 1


def _pair(got: Any) -> tuple[float, float]:
    """Check that the answer is a pair: a score, and how many figures it is computed from."""
    hint = "return score, number; also if no figure meets the condition"
    score, number = expect_pair(got, "the score and the number of figures", hint)
    return float(score), float(number)


def _check_score(answer: Units, has: bool, before: bool, wanted: bool, mask: str) -> None:
    score, number = _pair(answer(*_units()))
    units = _units()
    among = (units[0] == has) & (units[1] == before)
    total, right = int(among.sum()), float((units[2] == wanted)[among].mean())
    expect(
        not (score < 0 or score > 1),
        f"a score is a fraction in [0, 1], got {score:.3g}",
        cause="figures are counted and not averaged, or score and number are swapped",
        hint="return score, number; the score is the average over the figures in the condition",
    )
    expect(
        number == total,
        f"expected {total} figures, got {number:g}",
        cause="the condition is different, or only the changed figures are counted",
        hint=f"the condition is {mask}",
    )
    expect(
        not near(score, 1 - right),
        f"expected {right:.3f}, got {score:.3f}, which is one minus it",
        cause="the figures that keep their outcome are counted",
        hint="necessity counts figures that lose the outcome, sufficiency those that get it",
    )
    expect(
        near(score, right),
        f"expected {right:.3f}, got {score:.3f}",
        cause="the average is over other figures",
        hint="average only over the figures in the condition",
    )
    score, number = _pair(answer(*(np.array([x]) for x in (not has, before, True))))
    expect(
        math.isnan(score) and number == 0,
        f"without any such figure expected NaN and 0, got {score:.3g} and {number:.3g}",
        cause="the case without any figure is not handled",
        hint='float("nan") if the number is 0',
    )


@exercise("Necessity")
def necessity(answer: Units) -> None:
    _check_score(answer, has=True, before=True, wanted=False, mask="has & before")


@exercise("Sufficiency")
def sufficiency(answer: Units) -> None:
    _check_score(answer, has=False, before=False, wanted=True, mask="~has & ~before")


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a, b, dim=0))


@exercise("Project out the others")
def project_out(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    g = Generator().manual_seed(3)
    normal = torch.randn(6, generator=g)
    held = torch.randn(3, 6, generator=g)
    held[1:] = held[0] + 0.5 * held[1:]  # far from orthogonal
    got = answer(normal.clone(), held.clone())
    expect(
        isinstance(got, Tensor) and got.shape == (6,),
        f"expected a vector of 6 numbers, got {getattr(got, 'shape', type(got))}",
        cause="the coefficients of the projection are returned, or one vector per other normal",
        hint="normal minus its projection has the shape of normal",
    )
    got = got.to(normal.dtype)
    basis = torch.linalg.qr(held.T).Q
    part = basis @ (basis.T @ normal)
    for vector, text, cause in (
        (normal, "nothing was removed", "the other normals are not used"),
        (part, "this is the part that must be removed", "the projection itself is returned"),
    ):
        expect(
            not abs(_cosine(got, vector)) > 0.9999, text, cause=cause, hint="normal minus that part"
        )
    for i, reading in enumerate((held @ got).tolist(), 1):
        expect(
            abs(reading) < 1e-4,
            f"reading {i} of 3 still changes, by {reading:.3f} per unit step",
            cause="some are not projected out, or treated as orthogonal or as unit vectors",
            hint="q = torch.linalg.qr(held.T).Q is an orthonormal basis of their span",
        )
    expect(
        abs(float(got.norm()) - 1) < 1e-4,
        f"expected a unit vector, got one of length {float(got.norm()):.3f}",
        cause="the result is not divided by its norm",
        hint="rest / rest.norm()",
    )
    along = _cosine(got, normal - part)
    expect(
        along > 0.9999,
        "it has the wrong sign: the attribute decreases along it"
        if along < -0.9999
        else "it is orthogonal to the others, but it is not the remainder of this normal",
        cause="the difference has the wrong sign, or another orthogonal vector is returned",
        hint="normal minus its projection",
    )


@exercise("Adjust for a confounder")
def adjusted(answer: Callable[[pd.DataFrame, str], float]) -> None:
    # (x, c): (rows, rows with the outcome)
    cells = {("a", "u"): (40, 30), ("a", "v"): (10, 1), ("b", "u"): (10, 5), ("b", "v"): (60, 3)}
    rows = [
        {"x": x, "c": c, "o": i < hits} for (x, c), (n, hits) in cells.items() for i in range(n)
    ]
    table = pd.DataFrame(rows).sample(frac=1, random_state=0, ignore_index=True)
    kept = table.copy()
    for x in ("a", "b"):
        means = {c: cells[x, c][1] / cells[x, c][0] for c in ("u", "v")}
        right = means["u"] * 50 / 120 + means["v"] * 70 / 120
        of_x = kept.loc[kept["x"] == x, "o"].mean()
        got = float(answer(table, x))
        expect(
            table.equals(kept),
            "the table was changed",
            cause="a column is added to the argument, or the table is changed in place",
            hint="select rows without assigning to the table",
        )
        known = {
            "P(o | x), observed without an intervention": (
                of_x,
                "the strata are weighted by P(c | x), or not adjusted for",
            ),
            "P(o) over all values of x": (
                kept["o"].mean(),
                "rows with the other x are averaged as well",
            ),
            "the unweighted mean of the strata": (
                (means["u"] + means["v"]) / 2,
                "the weights P(c) are not used",
            ),
        }
        hint = 'P(c) of all rows, table["c"].value_counts(normalize=True), times P(o | x, c)'
        start = f"for x = {x} got {got:.3f}: that is "
        expect_none_of(known, functools.partial(near, got), hint=hint, start=start)
        expect(
            near(got, right),
            f"for x = {x} expected {right:.3f}, got {got:.3f}",
            cause="the weights are wrong or belong to another stratum, or some strata are missing",
            hint="sum over c of P(o | x, c) * P(c)",
        )


@exercise("The lower bound of necessity")
def lower_bound(answer: Callable[[float, float, float], float]) -> None:
    got = float(answer(0.5, 0.2, 0.4))
    expect(
        near(got, 0.75),
        f"for 0.5, 0.2 and 0.4 expected 0.75, got {got:.3f}",
        cause="the difference has the wrong sign, or it is not divided by P(o, x)",
        hint="(p_outcome - p_outcome_do_other) / p_both",
    )
    low = float(answer(0.2, 0.5, 0.1))
    expect(
        low == 0,
        f"the bound is never negative, expected 0, got {low:.3f}",
        cause="the bound is not clipped at 0",
        hint="max(0.0, ...)",
    )
    none = float(answer(0.2, 0.5, 0.0))
    expect(
        math.isnan(none),
        f"if no figure has both x and o, expected NaN, got {none}",
        cause="the case P(o, x) = 0 is not handled",
        hint='if p_both == 0: return float("nan")',
    )


@exercise("Find the decisive factors")
def decisive_factors(answer: Callable[[], Any]) -> None:
    got = answer()
    parts = got if isinstance(got, tuple | list) else [got]
    expect(
        len(parts) == 2
        and isinstance(parts[0], set | frozenset | list | tuple | pd.Index)
        and isinstance(parts[1], bool | np.bool_),
        f"expected a set and True or False, got {', '.join(type(p).__name__ for p in parts)}",
        cause="one of the two is missing, they are swapped, or the second is not a bool",
        hint='return {"..."}, True, or False instead of True',
    )
    named, monotone = set(parts[0]), bool(parts[1])
    expect(
        named <= set(SPRITE_CONTRASTS),
        f"unknown factors: {', '.join(sorted(map(str, named - set(SPRITE_CONTRASTS))))}",
        cause="a name is misspelt, or it is an option and not a factor",
        hint=f"the factors are {', '.join(SPRITE_CONTRASTS)}",
    )
    figures = sprites("pairs", 100, split="test", seed=31)
    f = load("sprites/unknown", "cpu")
    effects, monotone_true = set(), True
    for factor, pair in SPRITE_CONTRASTS.items():
        low, high = (
            predict_logits(f, intervene(figures, **{factor: option}).images).argmax(1)
            for option in pair
        )
        if (low != high).double().mean() > 0.05:
            effects.add(factor)
            monotone_true &= bool((high >= low).all() or (high <= low).all())
    without_effect = named - effects
    expect(
        not without_effect,
        f"re-rendered, hardly any decision depends on {', '.join(sorted(without_effect))}",
        cause="leakage gives another factor a score, or the threshold is too low",
        hint="look at necessity and its interval; a factor with a necessity near 0 decides nothing",
    )
    expect(
        named == effects,
        "another factor decides as well",
        cause="a factor is missing",
        hint="which other attribute has a necessity far from zero?",
    )
    expect(
        monotone == monotone_true,
        f"monotone = {monotone} is not what re-rendering shows",
        cause="violations of monotonicity are overlooked, or leakage is mistaken for them",
        hint="monotonicity_violation counts figures in which the value removes the outcome",
    )
