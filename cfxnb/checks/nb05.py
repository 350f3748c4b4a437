"""Checks of 05_contrastive_explanations."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

from cfxnb.checks.core import exercise, expect
from cfxnb.classify import predict
from cfxnb.data import CONTRASTS, intervene, sprites
from cfxnb.weights import load

Units = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[float, int]]
# has, before, after: every combination, each another number of times.
_CELLS = [
    (h, b, a, n)
    for (h, b, a), n in zip(
        [(bool(i & 4), bool(i & 2), bool(i & 1)) for i in range(8)],
        [3, 5, 2, 7, 4, 1, 6, 9],
        strict=True,
    )
]


def _units() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = np.array([(h, b, a) for h, b, a, n in _CELLS for _ in range(n)])
    return rows[:, 0], rows[:, 1], rows[:, 2]


def _counted(has: bool, before: bool) -> tuple[int, int]:
    """(with the outcome afterwards, all) among the units with this attribute and outcome."""
    here = [(a, n) for h, b, a, n in _CELLS if h == has and b == before]
    return sum(n for a, n in here if a), sum(n for _, n in here)


def _check_score(answer: Units, has: bool, before: bool, sought: bool, mask: str) -> None:
    got = answer(*_units())
    expect(
        isinstance(got, tuple) and len(got) == 2,
        f"expected the score and the number of figures, got {type(got).__name__}",
        cause="only one of the two is returned",
        hint="return score, number",
    )
    score, number = float(got[0]), int(got[1])
    after, total = _counted(has, before)
    right = (after if sought else total - after) / total
    expect(
        number == total,
        f"expected {total} figures to be asked, got {number}",
        cause="the condition is another one",
        hint=f"asked are those with {mask}",
    )
    expect(
        not math.isclose(score, 1 - right),
        f"expected {right:.3f}, got {score:.3f}, which is one minus it",
        cause="those that keep their outcome are counted",
        hint="necessity counts losses of the outcome, sufficiency gains",
    )
    expect(
        math.isclose(score, right, abs_tol=1e-9),
        f"expected {right:.3f}, got {score:.3f}",
        cause="the hits are divided by another number than that of the figures asked",
        hint="average over the figures asked only",
    )
    nobody = answer(*(np.array([not has]), np.array([before]), np.array([True])))
    expect(
        math.isnan(float(nobody[0])) and int(nobody[1]) == 0,
        f"with nobody to ask expected NaN and 0, got {nobody[0]} and {nobody[1]}",
        cause="an empty condition is told as a score",
        hint='float("nan") if the number is 0',
    )


@exercise("Necessity")
def necessity(answer: Units) -> None:
    _check_score(answer, has=True, before=True, sought=False, mask="has & before")


@exercise("Sufficiency")
def sufficiency(answer: Units) -> None:
    _check_score(answer, has=False, before=False, sought=True, mask="~has & ~before")


@exercise("Hold the others")
def hold(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    g = Generator().manual_seed(3)
    normal = torch.randn(6, generator=g)
    held = torch.randn(2, 6, generator=g)
    held[1] = held[0] + 0.3 * held[1]  # far from orthogonal
    got = answer(normal.clone(), held.clone())
    expect(
        isinstance(got, Tensor) and got.shape == (6,),
        f"expected a vector of 6 numbers, got {getattr(got, 'shape', type(got))}",
        cause="the projection itself, or its coefficients, are returned",
        hint="normal minus its projection has the shape of normal",
    )
    expect(
        not torch.allclose(got.abs(), (normal / normal.norm()).abs(), atol=1e-4),
        "nothing was removed",
        cause="the held normals are not used",
        hint="subtract the part of the normal that lies in their span",
    )
    expect(
        float((held[:1] @ got).abs().max()) < 1e-4,
        f"the first held reading still changes, by {float(held[0] @ got):.3f} a unit step",
        cause="the held normals are treated as if they were orthogonal or of length one",
        hint="q = torch.linalg.qr(held.T).Q is an orthonormal basis of their span",
    )
    expect(
        float((held[1:] @ got).abs().max()) < 1e-4,
        f"the second held reading still changes, by {float(held[1] @ got):.3f} a unit step",
        cause="only the first is held, or they are treated as if they were orthogonal",
        hint="q = torch.linalg.qr(held.T).Q is an orthonormal basis of their span",
    )
    expect(
        abs(float(got.norm()) - 1) < 1e-4,
        f"expected a unit vector, got one of length {float(got.norm()):.3f}",
        cause="the rest is not divided by its norm",
        hint="rest / rest.norm()",
    )
    expect(
        float(normal @ got) > 0,
        "it points the wrong way: along it, the attribute shrinks",
        cause="the difference is taken the other way round",
        hint="normal minus its projection",
    )
    basis = torch.linalg.qr(held.T).Q
    rest = normal - basis @ (basis.T @ normal)
    expect(
        torch.allclose(got, rest / rest.norm(), atol=1e-4),
        "it holds the others, but it isn't what is left of this normal",
        cause="another vector orthogonal to the held ones is returned",
        hint="start from the normal; subtract, don't search",
    )


@exercise("Adjust for what is confounded")
def adjusted(answer: Callable[[pd.DataFrame, str], float]) -> None:
    cells = {  # (x, c): (rows, rows with the outcome)
        ("a", "u"): (40, 30),
        ("a", "v"): (10, 1),
        ("b", "u"): (10, 5),
        ("b", "v"): (60, 3),
    }
    rows = [
        {"x": x, "c": c, "o": i < hits} for (x, c), (n, hits) in cells.items() for i in range(n)
    ]
    table = pd.DataFrame(rows).sample(frac=1, random_state=0, ignore_index=True)
    kept = table.copy()
    for x in ("a", "b"):
        means = {c: cells[x, c][1] / cells[x, c][0] for c in ("u", "v")}
        right = means["u"] * 50 / 120 + means["v"] * 70 / 120
        seen = sum(cells[x, c][1] for c in ("u", "v")) / sum(cells[x, c][0] for c in ("u", "v"))
        got = float(answer(table, x))
        expect(
            not math.isclose(got, seen),
            f"for x = {x} got {got:.3f}: that is P(o | x), seen and not done",
            cause="strata are weighed with P(c | x), or not at all",
            hint='P(c) of all rows: table["c"].value_counts(normalize=True)',
        )
        expect(
            not math.isclose(got, (means["u"] + means["v"]) / 2),
            f"for x = {x} got {got:.3f}: both strata count the same",
            cause="the strata's means are averaged without weights",
            hint="weigh each with its share of all rows",
        )
        expect(
            math.isclose(got, right, abs_tol=1e-9),
            f"for x = {x} expected {right:.3f}, got {got:.3f}",
            cause="another weight, or rows of the other x, are in the sum",
            hint="sum over c of P(o | x, c) * P(c)",
        )
    expect(
        table.equals(kept),
        "the table was changed",
        cause="a column is written into the argument",
        hint="select rows without assigning to the table",
    )


@exercise("The lower bound of necessity")
def lower_bound(answer: Callable[[float, float, float], float]) -> None:
    got = float(answer(0.5, 0.2, 0.4))
    expect(
        not math.isclose(got, 0.3),
        "the difference isn't divided by P(o, x)",
        cause="necessity is a share of those with x and o",
        hint="divide by p_both",
    )
    expect(
        math.isclose(got, 0.75),
        f"for 0.5, 0.2 and 0.4 expected 0.75, got {got:.3f}",
        cause="another numerator or denominator",
        hint="(p_outcome - p_outcome_do_other) / p_both",
    )
    low = float(answer(0.2, 0.5, 0.1))
    expect(
        low == 0,
        f"a share is never negative; expected 0, got {low:.3f}",
        cause="the bound isn't cut at 0",
        hint="max(0.0, ...)",
    )
    none = float(answer(0.2, 0.5, 0.0))
    expect(
        math.isnan(none),
        f"if nobody has both x and o expected NaN, got {none}",
        cause="there is nobody whose necessity could be bounded",
        hint='if p_both == 0: return float("nan")',
    )


@exercise("Find the reason")
def reason(answer: Callable[[], Any]) -> None:
    got = answer()
    expect(
        isinstance(got, tuple) and len(got) == 2 and isinstance(got[0], set | list | tuple),
        f"expected a set of names and True or False, got {type(got).__name__}",
        cause="only one of the two is returned",
        hint='return {"...", "..."}, False',
    )
    named, monotone = set(got[0]), got[1]
    expect(
        named <= set(CONTRASTS),
        f"unknown factors: {sorted(map(str, named - set(CONTRASTS)))}",
        cause="a name is misspelt",
        hint=f"the factors are {', '.join(CONTRASTS)}",
    )
    figures = sprites("pairs", 200, split="test", seed=31)
    f = load("sprites/unnamed", "cpu")
    effects, monotone_true = set(), True
    for factor, pair in CONTRASTS.items():
        low, high = (
            predict(f, intervene(figures, **{factor: option}).images).argmax(1) for option in pair
        )
        if (low != high).double().mean() > 0.05:
            effects.add(factor)
            monotone_true &= bool((high >= low).all() or (high <= low).all())
    idle = named - effects
    expect(
        not idle,
        f"re-rendered, {', '.join(sorted(idle))} changes hardly any decision",
        cause="a bystander has a score through leakage, or the threshold is too low",
        hint="look at necessity and its interval; what lies near 0 decides nothing",
    )
    expect(
        named == effects,
        "something else decides as well",
        cause="a factor is missing",
        hint="which other attribute has a necessity far from zero?",
    )
    expect(
        bool(monotone) == monotone_true,
        f"monotone = {monotone} is not what re-rendering shows",
        cause="harm is overlooked, or leakage is taken for it",
        hint="harm counts figures in which the value works the other way round",
    )
