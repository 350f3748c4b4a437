"""Checks of 05_contrastive_explanations."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

from cfxnb.checks.core import (
    exercise,
    expect,
    expect_none_of,
    expect_pair,
    expect_tensor,
    near,
    same,
)
from cfxnb.contrastive.attribute_edits import AttributeEdits
from cfxnb.contrastive.contrastive_scores import contrastive_scores
from cfxnb.contrastive.tally import tally
from cfxnb.core.intervals import wilson_interval
from cfxnb.core.tensors import standardise
from cfxnb.core.types import Code
from cfxnb.data import sprites
from cfxnb.weights import load

Pair = tuple[int, int]
SCORES = ("necessity", "sufficiency", "pns", "monotonicity_violation")
#: Figures on which the assembled scores are compared with the library's.
N_FIGURES = 50
#: Largest difference of scores and ends of intervals.
TOLERANCE = 1e-3
#: (hair, decision, decision with the other hair) -> number of figures in the table
_HAND = {
    ("red", "red", "gray"): 3,
    ("red", "red", "red"): 2,
    ("red", "gray", "red"): 1,
    ("gray", "gray", "red"): 1,
    ("gray", "gray", "gray"): 3,
    ("gray", "red", "gray"): 1,
    ("gray", "red", "red"): 1,
}


def hand_table() -> pd.DataFrame:
    """Return the table of twelve figures that is counted by hand."""
    rows = [row for row, n in _HAND.items() for _ in range(n)]
    order = [7, 0, 3, 10, 8, 1, 5, 11, 6, 4, 9, 2]  # the same rows are not side by side
    columns = ["hair", "decision", "with the other hair"]
    table = pd.DataFrame([rows[i] for i in order], columns=columns)
    return table.set_axis(pd.RangeIndex(1, 13, name="figure"), axis=0)


def _counts(got: Any, names: tuple[str, ...]) -> dict[str, Pair]:
    """Check that the answer is a dict of pairs of numbers, and return it."""
    expect(
        isinstance(got, Mapping),
        f"expected a dict of pairs, got {type(got).__name__}",
        cause="is the answer a dict whose keys are the names of the scores?",
        hint='return {"necessity": (k, n), ...}',
    )
    missing = [name for name in names if name not in got]
    expect(
        not missing,
        f"there is no entry {', '.join(map(repr, missing))}",
        cause="is a score missing, or is a name misspelt?",
        hint=f"the keys are {', '.join(map(repr, names))}",
    )
    pairs = {}
    for name in names:
        k, n = expect_pair(got[name], f"a pair (k, n) for {name}")
        expect(
            all(float(part) == int(part) for part in (k, n)),
            f"{name}: expected two whole numbers, got {k} and {n}",
            cause="is the fraction returned, and not the two numbers of figures?",
            hint="k and n are numbers of figures; nothing is divided yet",
        )
        pairs[name] = (int(k), int(n))
    return pairs


def _check_counts(got: dict[str, Pair], right: Mapping[str, Pair]) -> None:
    """Compare counted pairs with the right ones."""
    causes = {
        "necessity": "which figures have the value and the outcome?",
        "sufficiency": "which figures have neither the value nor the outcome?",
        "pns": "this score has no condition. Which figures does it count?",
        "monotonicity_violation": "this score has no condition. Which figures does it count?",
    }
    hints = {
        "necessity": "the condition is the value and the outcome; the event is: without the value "
        "there is no outcome",
        "sufficiency": "the condition is neither; the event is: the outcome with the value",
        "pns": "the event is the outcome with the value, and none with the baseline",
        "monotonicity_violation": "the event is no outcome with the value, and one with the "
        "baseline",
    }
    for name, (k, n) in got.items():
        right_k, right_n = right[name]
        expect(
            (k, n) != (right_n, right_k),
            f"{name}: the two numbers are swapped",
            cause="which of the two is the number of figures in the condition?",
            hint="return (k, n)",
        )
        expect(
            n == right_n,
            f"{name}: expected n = {right_n} figures in the condition, got {n}",
            cause=causes[name],
            hint=hints[name],
        )
        expect(
            k != right_n - right_k or 2 * k == right_n,
            f"{name}: k = {k} figures do not react as asked, and these are counted",
            cause="is the event the change of the outcome, or that it stays?",
            hint=hints[name],
        )
        expect(
            k == right_k,
            f"{name}: k = {k} figures are counted, which is wrong",
            cause="is the event about the potential outcome that the score asks for, "
            "and counted within the condition?",
            hint=hints[name],
        )


@exercise("By hand")
def by_hand(answer: Callable[[], Any]) -> None:
    names = SCORES[:3]
    _check_counts(
        _counts(answer(), names), {"necessity": (3, 5), "sufficiency": (1, 4), "pns": (4, 12)}
    )


@exercise("Count units")
def count_units(answer: Callable[..., Any]) -> None:
    cell = np.repeat(np.arange(8), [3, 5, 2, 7, 4, 1, 6, 9])
    cell = np.random.default_rng(0).permutation(cell)
    has, before, after = cell >= 4, cell // 2 % 2 == 1, cell % 2 == 1
    kept = [part.copy() for part in (has, before, after)]
    got = answer(has, before, after)
    expect(
        all(map(np.array_equal, (has, before, after), kept)),
        "the arguments were changed",
        cause="is an array changed in place?",
        hint="np.where returns a new array",
    )
    o_x, o_other = np.where(has, before, after), np.where(has, after, before)
    pairs = _counts(got, SCORES)
    n = len(has)
    right = {
        "necessity": (int((has & before & ~after).sum()), int((has & before).sum())),
        "sufficiency": (int((~has & ~before & after).sum()), int((~has & ~before).sum())),
        "pns": (int((o_x & ~o_other).sum()), n),
        "monotonicity_violation": (int((~o_x & o_other).sum()), n),
    }
    expect(
        pairs["pns"] != (int((before & ~after).sum()), n),
        "pns counts figures that lose the outcome by the edit",
        cause="for a figure with the baseline, is the decision before the edit the one with the "
        "value?",
        hint="np.where(has, before, after) is the potential outcome under the value",
    )
    _check_counts(pairs, right)
    none = np.zeros(2, dtype=bool)
    empty = _counts(answer(none, none, none), SCORES)
    expect(
        empty["necessity"] == (0, 0),
        f"if no figure is in the condition expected (0, 0), got {empty['necessity']}",
        cause="is a number replaced if nothing is counted?",
        hint="count; the case n = 0 is treated later",
    )


@exercise("The Wilson interval")
def wilson(answer: Callable[..., Any]) -> None:
    def ends(k: int, n: int) -> tuple[float, float]:
        low, high = expect_pair(answer(k, n), "the lower and the upper end", "return low, high")
        return float(low), float(high)

    low, high = ends(3, 10)
    right = tuple(map(float, wilson_interval(3, 10)))
    expect(
        not (near(high, right[0]) and near(low, right[1])),
        "the two ends are swapped",
        cause="which root is the smaller one?",
        hint="the smaller root has the minus sign before the square root",
    )
    half = 1.959964 * math.sqrt(0.21 / 10)
    known = {
        "this is the interval of the textbook, with the observed fraction in the root": (
            (0.3 - half, 0.3 + half),
            "is the quadratic inequality solved for p?",
        ),
        "the roots are not divided by twice the leading coefficient": (
            tuple(2 * (1 + 0.3841459) * end for end in right),
            "what stands in the denominator of the formula for the roots?",
        ),
        "the roots are divided by 2 only": (
            tuple((1 + 0.3841459) * end for end in right),
            "the parabola's leading coefficient is not 1. Where does it enter the roots?",
        ),
    }
    hint = "(b - root) / (2 * a) and (b + root) / (2 * a), with b = 2 * p + z**2 / n"
    expect_none_of(
        known,
        lambda w: abs(low - w[0]) < 1e-3 and abs(high - w[1]) < 1e-3,
        hint=hint,
    )
    for k, n in ((3, 10), (60, 100), (0, 10), (10, 10), (1, 1)):
        low, high = ends(k, n)
        right = tuple(map(float, wilson_interval(k, n)))
        expect(
            abs(low - right[0]) < TOLERANCE and abs(high - right[1]) < TOLERANCE,
            f"for {k} of {n} expected {right[0]:.3f} to {right[1]:.3f}, got {low:.3f} to "
            f"{high:.3f}",
            cause="are the three coefficients those of the parabola? Are p and n mixed up?",
            hint=hint,
        )
    expect(
        all(map(math.isnan, ends(0, 0))),
        "for 0 of 0 expected NaN and NaN",
        cause="what can be said without a single figure?",
        hint="if n == 0: return math.nan, math.nan",
    )


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


class _Line:
    """A space of codes with mean and standard deviation, for checks of edits."""

    def __init__(self) -> None:
        self.mean = torch.tensor([1.0, -2.0, 0.5, 3.0])
        self.std = torch.tensor([2.0, 0.5, 1.0, 4.0])

    def encode(self, images: Tensor) -> Code:
        return Code(images.flatten(1)[:, :4] * 2)

    def decode(self, code: Code) -> Tensor:
        return torch.cat([code.z / 2, torch.zeros_like(code.z)], 1).view(-1, 2, 2, 2)


def _only(got: Tensor, right: Tensor, wrong: Tensor) -> bool:
    """Return whether an answer equals a wrong one that is not also right."""
    return same(got, wrong, atol=1e-4) and not same(wrong, right)


@exercise("Directions and goals")
def fit_directions(answer: Callable[..., Any]) -> None:
    g = Generator().manual_seed(4)
    u = torch.randn(90, 5, generator=g)
    normals = {
        name: torch.nn.functional.normalize(torch.randn(5, generator=g), dim=0)
        for name in ("hair", "top", "eyes")
    }
    draw = np.random.default_rng(1)
    options = {"hair": ["gray", "red"], "top": ["white", "metal"], "eyes": ["blue", "red", "green"]}
    factors = pd.DataFrame({n: draw.choice(o, 90) for n, o in options.items()})
    contrasts = {"hair": ("gray", "red"), "top": ("white", "metal"), "eyes": ("blue", "red")}
    got = answer(u, normals, factors, contrasts)
    hint = "found[attribute] = direction, goals; return found after the loop"
    expect(
        isinstance(got, Mapping) and list(got) == list(contrasts),
        f"expected a dict with the keys {list(contrasts)}, got "
        f"{list(got) if isinstance(got, Mapping) else type(got).__name__}",
        cause="is there one entry per attribute, and is the dict returned after the loop?",
        hint=hint,
    )
    for name, pair in contrasts.items():
        direction, goals = expect_pair(got[name], f"direction and goals of {name}", hint)
        expect_tensor(direction, (5,), "is the first part the direction?", hint, "a vector (5,)")
        goals = torch.as_tensor(goals)
        expect_tensor(goals, (2,), "is there one goal per value?", hint, "two goals, shape (2,)")
        others = torch.stack([n for other, n in normals.items() if other != name])
        expect(
            bool((others @ direction.to(others)).abs().max() < 1e-3),
            f"the direction of {name} still changes another attribute",
            cause="against which normals is it held: all but its own?",
            hint="project_out(normals[attribute], the stacked normals of all other attributes)",
        )
        expect(
            float(direction.to(others) @ normals[name]) > 1e-3,
            f"the direction of {name} is not that of its own normal",
            cause="which normal is held against the others?",
            hint="project_out(normals[attribute], held)",
        )
        place = u @ direction.to(u)
        right = torch.stack([place[torch.tensor((factors[name] == v).to_numpy())].mean()
                             for v in pair])  # fmt: skip
        along_normal = u @ normals[name]
        rest = place[torch.tensor((factors[name] != pair[0]).to_numpy())].mean()
        known = {
            "the goals are in the wrong order": (
                right.flip(0), "which goal comes first, that of the baseline or of the value?"),
            "the goals are places along the normal": (
                torch.stack([along_normal[torch.tensor((factors[name] == v).to_numpy())].mean()
                             for v in pair]),
                "the step goes along the direction. Where are the codes along it?"),
            "a goal uses figures with neither of the two values": (
                torch.stack([right[0], rest]),
                "which figures have the value? Some have neither of the two"),
        }  # fmt: skip
        expect_none_of(
            known,
            functools.partial(_only, goals, right),
            hint="the mean of u @ direction over the figures with each value",
            start=f"{name}: ",
        )
        expect(
            same(goals, right, atol=1e-4),
            f"{name}: expected goals {right[0]:.3f} and {right[1]:.3f}, got {goals[0]:.3f} and "
            f"{goals[1]:.3f}",
            cause="over which figures is the mean taken, and of what?",
            hint="the mean of u @ direction over the figures with each value",
        )


@exercise("Set an attribute")
def set_attribute(answer: Callable[..., Tensor]) -> None:
    space: Any = _Line()
    g = Generator().manual_seed(2)
    z = space.mean + space.std * torch.randn(6, 4, generator=g)
    direction = torch.nn.functional.normalize(torch.tensor([1.0, 2.0, -1.0, 0.5]), dim=0)
    goal = torch.linspace(-1, 2, 6)
    kept = z.clone()
    got = answer(space, z, direction, goal)
    expect(
        torch.equal(z, kept),
        "the codes that were passed were changed",
        cause="is the argument changed in place?",
        hint="u + step makes a new tensor",
    )
    hint = "u + (goal - place)[:, None] * direction, and then back to the units of z"
    expect_tensor(got, (6, 4), "is there one code per row?", hint, "codes of shape (6, 4)")
    u = standardise(z - space.mean, space.std)
    place = u @ direction

    def back(moved: Tensor) -> Tensor:
        return space.mean + space.std * moved

    right = u + (goal - place)[:, None] * direction
    known = {
        "the codes are still standardised": (right, "in which units are the codes returned?"),
        "the step is as long as the goal, whatever the code's place is": (
            back(u + goal[:, None] * direction),
            "how far is the code already along the direction?",
        ),
        "the codes move away from their goals": (
            back(u - (goal - place)[:, None] * direction),
            "is it goal minus place, or place minus goal?",
        ),
        "only the place along the direction is left of the code": (
            back(goal[:, None] * direction),
            "what is orthogonal to the direction must stay",
        ),
        "the codes were not standardised": (
            z + (goal - z @ direction)[:, None] * direction,
            "direction and goal belong to standardised codes",
        ),
        "the step was added to the codes without its unit": (
            z + (goal - place)[:, None] * direction,
            "the step is in standard deviations, and the code is not",
        ),
        "the mean is missing": (space.std * right, "how is the standardisation undone?"),
    }
    expect_none_of(known, lambda w: same(got.to(w), w), hint=hint)
    expect(
        same(got.to(z), back(right)),
        "the codes are not at their goals, or they moved orthogonal to the direction",
        cause="does each code move by its own distance, along the direction only?",
        hint=hint,
    )


class _Edits:
    """Edits of a toy: the value of the attribute is written into one coordinate of the code."""

    def __init__(self) -> None:
        self.contrasts = {"top": ("white", "metal"), "hair": ("gray", "red")}
        self.calls: list[tuple[Tensor, str, list[Any]]] = []

    def edit(self, code: Code, attribute: str, wanted: Any) -> Code:
        values = list(wanted)
        if len(values) != len(code) or not set(values) <= set(self.contrasts[attribute]):
            raise ValueError(
                f"wanted: expected values of {self.contrasts[attribute]}, one per code, got "
                f"{values[:3]}"
            )
        self.calls.append((code.z.detach().clone(), attribute, values))
        z = code.z.clone()
        z[:, 3] = torch.tensor([9.0 if v == self.contrasts[attribute][1] else 5.0 for v in values])
        return code.with_z(z)


@exercise("Abduction, action, prediction")
def twin(answer: Callable[..., Any]) -> None:
    space, edits = _Line(), _Edits()
    images = torch.rand(5, 2, 2, 2, generator=Generator().manual_seed(5))
    has = np.array([True, False, False, True, False])
    kept = images.clone()
    got = expect_pair(
        answer(space, edits, images, "hair", has), "two sets of images", "return before, after"
    )
    expect(
        torch.equal(images, kept),
        "the images that were passed were changed",
        cause="is the argument changed in place?",
        hint="encode and decode return new tensors",
    )
    hint = "space.decode(code) before the edit, and space.decode of the edited code"
    for part in got:
        expect_tensor(part, (5, 2, 2, 2), "are both parts images?", hint, "images like the input")
    expect(
        bool(edits.calls),
        "no code was edited",
        cause="which call is the action?",
        hint="edits.edit(code, attribute, wanted)",
    )
    code = space.encode(images)
    rebuilt = space.decode(code)
    expect(
        not same(got[0], images),
        "the first part is the original",
        cause="the twin has passed through the generator. With which image is it compared?",
        hint="the first part is the decoded code, before the edit",
    )
    wanted = ["gray" if h else "red" for h in has]
    right = space.decode(_Edits().edit(code, "hair", wanted))
    wrong = space.decode(_Edits().edit(code, "hair", ["red" if h else "gray" for h in has]))
    expect(
        not (same(got[0], right) and same(got[1], rebuilt)),
        "the two parts are swapped",
        cause="which comes first, the reconstruction or the twin?",
        hint=hint,
    )
    expect(
        not same(got[1], wrong),
        "the attribute is set to the value that the figure has already",
        cause="which value does a figure get that has the value of the contrast?",
        hint="baseline if it has the value, else value",
    )
    for value in ("gray", "red"):
        each = space.decode(_Edits().edit(code, "hair", [value] * 5))
        expect(
            not same(got[1], each),
            f"every figure gets the value {value!r}",
            cause="each figure gets its own other value. Is `has` used?",
            hint="wanted = [baseline if h else value for h in has]",
        )
    expect(
        same(got[0], rebuilt) and same(got[1], right),
        "the images are not the reconstruction and its twin",
        cause="is the code of the images edited once, and are both codes decoded?",
        hint=hint,
    )


@exercise("Clean edits")
def is_clean(answer: Callable[..., Any]) -> None:
    rows = [  # before, after, wanted
        ((0, 1, 2), (0, 0, 2), 0), ((0, 1, 2), (0, 1, 2), 0), ((0, 1, 2), (0, 2, 2), 0),
        ((0, 1, 2), (1, 0, 2), 0), ((0, 0, 2), (0, 0, 2), 0), ((0, 1, 2), (0, 0, 1), 0),
        ((0, 2, 1), (0, 1, 1), 1), ((0, 1, 2), (2, 1, 2), 2),
    ]  # fmt: skip
    before, after, wanted = (np.array(part) for part in zip(*rows, strict=True))
    got = answer(before.copy(), after.copy(), 1, wanted)
    got = np.asarray(got)
    expect(
        got.shape == (8,) and got.dtype == bool,
        f"expected one bool per figure, got {got.dtype} of shape {got.shape}",
        cause="is there one answer per figure, and none per factor?",
        hint="combine the conditions with & and reduce the other factors with .any(axis=1)",
    )
    changed = before != after
    took = changed[:, 1] & (after[:, 1] == wanted)
    others = changed[:, [0, 2]].any(axis=1)
    known = {
        "edits that changed another factor count as clean": (
            took, "may an edit of the top change the hair?"),
        "an edit that reached another option counts as clean": (
            changed[:, 1] & ~others, "did the attribute change to the wanted option?"),
        "a figure that had the wanted option before counts as clean": (
            (after[:, 1] == wanted) & ~others,
            "if the judge read the wanted option already, what did the edit change?"),
        "no edit that changes its own attribute can be clean": (
            took & ~changed.any(axis=1), "the own attribute is meant to change"),
        "the answers are those of the edits that are not clean": (
            ~(took & ~others), "is the result negated?"),
    }  # fmt: skip
    hint = "changed = before != after; own column changed to wanted, and no other column changed"
    expect_none_of(known, lambda w: np.array_equal(got, w), hint=hint)
    expect(
        np.array_equal(got, took & ~others),
        f"expected {(took & ~others).tolist()}, got {got.tolist()}",
        cause="which three conditions does a clean edit fulfil?",
        hint=hint,
    )


class _SomeEdits:
    """Learned edits of four attributes. Those of the paper: they often change other factors."""

    names = ("body", "top", "shoes", "direction")

    def __init__(self, edits: AttributeEdits) -> None:
        self.contrasts = {name: edits.contrasts[name] for name in self.names}
        self.edit = edits.edit


_known: dict[Any, Any] = {}


def _sprites() -> dict[Any, Any]:
    """Return networks, a few figures, and the library's scores of the figures."""
    if _known:
        return _known
    space, judge, edits, classifier = (
        load(f"sprites/{name}", "cpu") for name in ("vae", "judge", "edits_free", "unknown")
    )
    figures = sprites("pairs", N_FIGURES, split="test", seed=12)
    asked = (space, classifier, figures.images, figures.factors)
    found: dict[Any, Any] = {"arguments": (*asked, _SomeEdits(edits), judge)}
    for outcome in (1, 0):
        scores = contrastive_scores(*asked, outcome, edits=edits, judge=judge)
        found[outcome, "clean"] = scores.table
        for which, column in (("effective", "took effect"), ("all", "reconstruction agrees")):
            used = scores.units["reconstruction agrees"] & scores.units[column]
            found[outcome, which] = tally(scores.units.assign(used=used), edits.contrasts, 0.95)
        turned = scores.units.assign(before=scores.units["after"], after=scores.units["before"])
        found[outcome, "reverse"] = tally(turned, edits.contrasts, 0.95)
    _known.update(found)
    return _known


@exercise("Your contrastive scores")
def my_contrastive_scores(answer: Callable[..., Any]) -> None:
    known = _sprites()
    tables = []
    for outcome in (1, 0):
        tables.append(answer(*known["arguments"], outcome))
        expect(
            not (outcome == 0 and tables[0].equals(tables[1])),
            "the outcomes 0 and 1 have the same scores",
            cause="is the argument `outcome` used?",
            hint="compare the argmax of the logits with outcome",
        )
        _compare(tables[-1], known, outcome)


def _compare(got: Any, known: dict[Any, Any], outcome: int) -> None:
    """Compare a table of scores with the library's."""
    right = known[outcome, "clean"].loc[list(_SomeEdits.names)]
    expect(
        isinstance(got, pd.DataFrame),
        f"expected a DataFrame, got {type(got).__name__}",
        cause="is the table returned?",
        hint='pd.DataFrame.from_dict(rows, orient="index")',
    )
    columns = ["value", "baseline"]
    columns += [f"{s}{end}" for s in SCORES for end in ("", " low", " high", " n")]
    missing = [column for column in columns if column not in got]
    expect(
        list(got.index) == list(right.index) and not missing,
        f"expected the rows {list(right.index)}, got {list(got.index)[:8]}; "
        f"missing columns: {missing or 'none'}",
        cause="is there one row per attribute, with all columns?",
        hint="each row is a dict: value, baseline, and four entries per score",
    )
    got, counts = got[columns], [f"{s} n" for s in SCORES]
    hint = "used = is_clean(...) & (decision of the original == decision of the reconstruction)"
    for which in ("effective", "all"):
        n = known[outcome, which].loc[right.index, "pns n"]
        expect(
            not (got["pns n"] == n).all(),
            "edits that are not clean count as well",
            cause="which edits are clean, according to is_clean?",
            hint=hint,
        )
    wrong = got.index[(got["pns n"] != right["pns n"]).to_numpy()]
    name = wrong[0] if len(wrong) else ""
    expect(
        not len(wrong),
        f"{name}: {got.loc[name, 'pns n'] if name else 0} figures count, in the library "
        f"{right.loc[name, 'pns n'] if name else 0}",
        cause="is a figure used if it has one of the two values, its edit is clean, and "
        "original and reconstruction agree? Is the wanted option the other one?",
        hint=hint,
    )
    reverse = known[outcome, "reverse"].loc[right.index, counts]
    expect(
        not (got[counts] == reverse).all(axis=None),
        "the decisions before and after the edit are swapped",
        cause="which of the two images does `twin` return first?",
        hint="before, after = the decisions of the two images, in the order of twin",
    )
    swapped = got.index[(got["value"] != right["value"]).to_numpy()]
    expect(
        not len(swapped),
        f"{', '.join(swapped)}: value and baseline are those of the contrast, or swapped although "
        "they should not be",
        cause="which of the two values favours the outcome, among the figures that count?",
        hint="compare the numbers of figures that have the outcome with each of the two values",
    )
    for column in counts:
        wrong = got.index[(got[column] != right[column]).to_numpy()]
        name = wrong[0] if len(wrong) else ""
        expect(
            not len(wrong),
            f"{name}: {column} is {got.loc[name, column] if name else 0}, in the library "
            f"{right.loc[name, column] if name else 0}",
            cause="if value and baseline change places, does `has` turn around, and nothing else? "
            "Is `before` the decision for the reconstruction?",
            hint="has = ~has; before and after stay",
        )
    for column in (c for c in columns[2:] if c not in counts):
        a, b = got[column].astype(float), right[column].astype(float)
        apart = ~(((a - b).abs() < TOLERANCE) | (a.isna() & b.isna()))
        name = a.index[apart.to_numpy()][0] if apart.any() else ""
        expect(
            not apart.any(),
            f"{name}: {column} is {a.get(name, 0):.3f}, in the library {b.get(name, 0):.3f}",
            cause="is a score k / n, NaN if n is 0, and are low and high the ends of its interval?",
            hint="row[name] = k / n if n else math.nan; low, high = wilson(k, n)",
        )


@exercise("The correlation baseline")
def correlations(answer: Callable[..., Any]) -> None:
    draw = np.random.default_rng(3)
    hair = draw.choice(["gray", "red"], 200)
    eyes = draw.choice(["blue", "red", "green"], 200)
    outcome = np.where(draw.random(200) < 0.8, hair == "red", eyes == "blue")
    factors = pd.DataFrame({"eyes": eyes, "hair": hair}, index=draw.permutation(200))
    contrasts = {"eyes": ("blue", "red"), "hair": ("gray", "red")}
    got = answer(factors, outcome, contrasts)
    expect(
        isinstance(got, pd.Series) and list(got.index) == list(contrasts),
        f"expected a Series with the index {list(contrasts)}, got {type(got).__name__}",
        cause="is there one number per attribute, under its name?",
        hint="pd.Series of a dict: attribute -> number",
    )
    right, of_all, differences = {}, {}, {}
    for name, pair in contrasts.items():
        rows, value = factors[name].isin(pair).to_numpy(), (factors[name] == pair[1]).to_numpy()
        right[name] = np.corrcoef(value[rows], outcome[rows])[0, 1]
        of_all[name] = np.corrcoef(value, outcome)[0, 1]
        differences[name] = outcome[value].mean() - outcome[rows & ~value].mean()
    series = pd.Series(right)
    known = {
        "figures with neither of the two values are counted": (
            pd.Series(of_all), "which figures have one of the two values?"),
        "the sign is wrong": (-series, "positive means that the value, and not the baseline, goes "
                              "together with the outcome"),
        "the sign is missing": (series.abs(), "is the absolute value taken?"),
        "these are differences of probabilities": (
            pd.Series(differences), "a correlation divides by both standard deviations"),
    }  # fmt: skip
    hint = "np.corrcoef(value[rows], has_outcome[rows])[0, 1]"
    expect_none_of(
        known,
        lambda w: (
            np.allclose(got.to_numpy(float), w, atol=1e-4) and not np.allclose(w, series, atol=1e-4)
        ),
        hint=hint,
    )
    expect(
        np.allclose(got.to_numpy(float), series, atol=1e-4),
        f"expected {series['eyes']:.3f} for the eyes and {series['hair']:.3f} for the hair, got "
        f"{float(got['eyes']):.3f} and {float(got['hair']):.3f}",
        cause="which entry of the matrix is the correlation of the two? Are the same rows used?",
        hint=hint,
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
def decisive_factors(answer: Callable[[pd.DataFrame], Any]) -> None:
    # (pns, n, violations): each row is one factor
    tables = {
        "two causes, monotone": {"top": (50, 100, 0), "shoes": (90, 100, 1), "hair": (1, 100, 1)},
        "two causes, not monotone": {"top": (50, 100, 48), "shoes": (60, 100, 0)},
        "few figures": {"eyes": (2, 12, 0), "hair": (12, 12, 0), "top": (0, 0, 0)},
        "many figures": {"hair": (700, 10_000, 650), "top": (460, 10_000, 0)},
        "a rare violation": {"hair": (80, 100, 7), "top": (0, 100, 0)},
    }
    for text, rows in tables.items():
        table = _table(rows)
        got = answer(table.copy())
        parts = got if isinstance(got, tuple | list) else [got]
        expect(
            len(parts) == 2
            and isinstance(parts[0], set | frozenset | list | tuple | pd.Index)
            and isinstance(parts[1], bool | np.bool_),
            f"expected a set and True or False, got {', '.join(type(p).__name__ for p in parts)}",
            cause="is one of the two missing, are they swapped, or is the second no bool?",
            hint='set(table.index[table["pns low"] > 0.05]), and bool(...)',
        )
        named, monotone = set(parts[0]), bool(parts[1])
        right = set(table.index[table["pns low"] > 0.05])
        by_score = set(table.index[table["pns"] > 0.05])
        violations = table.loc[list(right)]
        expect(
            named == right or named != by_score,
            f"{text}: {', '.join(sorted(named - right))} may be chance, because the interval "
            "reaches below 5 %",
            cause="the lower end of the interval must be above 5 %, and not only the score",
            hint='the column is "pns low"',
        )
        expect(
            named == right,
            f"{text}: expected {sorted(right)}, got {sorted(map(str, named))}",
            cause="which score is about all figures, and which of its columns is compared?",
            hint='the column is "pns low"',
        )
        expect(
            monotone == bool((violations["monotonicity_violation low"] <= 0.05).all()),
            f"{text}: monotone = {monotone} is wrong",
            cause="which violations count: the score or its lower end, of which factors? And do "
            "all of them have to be small, or one?",
            hint='table.loc[list(deciding), "monotonicity_violation low"], all at most 0.05',
        )


def _table(rows: Mapping[str, tuple[int, int, int]]) -> pd.DataFrame:
    """Return a table of scores with these counts of pns and of violations."""
    table = {}
    for name, (pns, n, violations) in rows.items():
        row: dict[str, float] = {}
        half = {"necessity": (pns, max(pns, 1)), "sufficiency": (pns, max(pns, 1))}
        counts = {**half, "pns": (pns, n), "monotonicity_violation": (violations, n)}
        for score, (k, m) in counts.items():
            low, high = wilson_interval(k, m)
            row |= {score: k / m if m else math.nan, f"{score} n": m}
            row |= {f"{score} low": float(low), f"{score} high": float(high)}
        table[name] = row
    return pd.DataFrame.from_dict(table, orient="index")
