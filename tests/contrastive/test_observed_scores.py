"""Necessity and sufficiency of models small enough for pencil and paper, and of random tables."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from cfxnb.contrastive.observed_scores import adjusted_effect, observed_scores, score_bounds

NAN = (math.nan, math.nan)
SCORES = ("necessity", "sufficiency", "pns")
quick = settings(max_examples=60, deadline=None, derandomize=True)

# C is a fair coin; X agrees with C in three of four units; O = X or C. Hence:
#   P(X=1, C=1) = 3/8, P(X=1, C=0) = 1/8, P(X=0, C=1) = 1/8, P(X=0, C=0) = 3/8.
# Necessity: of the units with X=1 (all have O) those with C=0 would lose O: 1/8 of 4/8 = 1/4.
# Sufficiency: units with X=0 and no O have C=0; with X=1 all of them would have O: 1.
# Both: O follows X exactly where C=0: 1/2. P(O | do X=1) = 1, P(O | do X=0) = P(C=1) = 1/2.
# Unadjusted, P(O | X=0) = 1/4 instead of 1/2: necessity 1 - 1/4 = 3/4 is wrong.
OR = pd.DataFrame({"C": [0, 0, 0, 0, 1, 1, 1, 1], "X": [0, 0, 0, 1, 0, 1, 1, 1]})
OR["O"] = OR.X | OR.C
# C and X are independent fair coins; O = X xor C, so X always decides, but harms where C=1.
# Truth: necessity 1, sufficiency 1, both P(C=0) = 1/2.
XOR = pd.DataFrame({"C": [0, 0, 1, 1], "X": [0, 1, 0, 1]})
XOR["O"] = XOR.X ^ XOR.C


def same(found, necessity, sufficiency, both):
    for name, expected in zip(SCORES, (necessity, sufficiency, both), strict=True):
        approx = pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert getattr(found, name) == approx, name


def test_or_by_hand():
    found = observed_scores(OR, "X", "O", adjust=["C"])
    same(found, 1 / 4, 1, 1 / 2)
    # P(o,x) = 4/8, P(o,x') = 1/8, P(o',x') = 3/8, P(o',x) = 0. The bounds leave nothing open:
    # necessity from (4/8 + 1/8 - 1/2) / (4/8) to (1/2 - 3/8) / (4/8); sufficiency from
    # (3/8 + 0 - 0) / (3/8); both from 1 - 1/2 to 1 - 1/2.
    same(found.bounds, (1 / 4, 1 / 4), (1, 1), (1 / 2, 1 / 2))
    assert found.n == {"necessity": 4, "sufficiency": 3, "pns": 8}
    assert adjusted_effect(OR, "X", "O", ["C"]).to_dict() == {0: 0.5, 1: 1.0}
    assert observed_scores(OR, "X", "O").necessity == pytest.approx(3 / 4)
    known = score_bounds(OR, "X", "O", do_value=1, do_baseline=0.5)
    same(known, (1 / 4, 1 / 4), (1, 1), (1 / 2, 1 / 2))


def test_xor_by_hand():
    """Help and harm cancel out: the estimates are far off, the bounds know nothing, rightly."""
    found = observed_scores(XOR, "X", "O", adjust=["C"])
    same(found, 0, 0, 0)
    # All four joint probabilities are 1/4, both effects 1/2. Necessity from (1/4 + 1/4 - 1/2) to
    # (1/2 - 1/4) / (1/4); both from 0 to min(1/2, 1/2, 1 - 1/4 - 1/4, 1/2 + 1/2 - 1/4 - 1/4).
    same(found.bounds, (0, 1), (0, 1), (0, 1 / 2))
    # X=1 and X=0 have the outcome equally often: the larger value is taken for x.
    assert (found.value, found.baseline) == (1, 0)


def test_an_estimate_outside_of_0_to_1_is_shown():
    """Where C=1, X=1 takes the outcome from all: monotonicity fails, and the table shows it."""
    helped = observed_scores(XOR, "X", "O", context={"C": 0})
    same(helped, 1, 1, 1)
    harmed = observed_scores(XOR, "X", "O", context=XOR.C == 1)
    same(harmed, math.nan, math.nan, -1)
    same(harmed.bounds, NAN, NAN, (0, 0))
    assert harmed.n == {"necessity": 0, "sufficiency": 0, "pns": 2}


def test_the_order_is_that_of_the_outcome_unless_told():
    turned = OR.assign(X=1 - OR.X)
    found = observed_scores(turned, "X", "O", adjust=["C"])
    assert (found.value, found.baseline) == (0, 1)
    same(found, 1 / 4, 1, 1 / 2)
    for told in ({"value": 0}, {"baseline": 1}, {"value": 0, "baseline": 1}):
        assert observed_scores(turned, "X", "O", adjust=["C"], **told) == found
    for told in ({"value": 1}, {"baseline": 0}):
        assert observed_scores(turned, "X", "O", **told).value == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.astype(bool),
        lambda t: t.astype(float),
        lambda t: t.assign(O=t.O.astype(bool).astype(object)),
        lambda t: t.assign(C=t.C.map({0: "no", 1: "yes"}).astype("category")),
        lambda t: t.assign(D=t.C, C=0 * t.C),
        lambda t: t.set_index(np.arange(8)[::-1]),
        lambda t: t.sample(frac=1, random_state=0),
        lambda t: pd.concat([t] * 50),
    ],
)
def test_kinds_of_columns_do_not_matter(change):
    table = change(OR)
    adjust = [c for c in table if c in "CD"]
    same(observed_scores(table, "X", "O", adjust=adjust), 1 / 4, 1, 1 / 2)


def test_causes_may_be_texts():
    table = OR.assign(X=OR.X.map({0: "red", 1: "blue"}))
    found = observed_scores(table, "X", "O", adjust=("C", "C"))
    assert (found.value, found.baseline) == ("blue", "red")
    effect = adjusted_effect(table, "X", "O", ["C"])
    assert effect.to_dict() == {"blue": 1.0, "red": 0.5}
    assert list(effect.index) == ["blue", "red"]
    switch = adjusted_effect(OR.assign(X=OR.X == 1), "X", "O", ["C"])
    assert (switch[False], switch[True]) == (0.5, 1.0)
    mixed = OR.assign(X=OR.X.map({0: "red", 1: 7}))  # these have no order
    same(observed_scores(mixed, "X", "O", adjust=["C"]), 1 / 4, 1, 1 / 2)


def test_monotone_limits():
    """A cause that decides alone has all scores 1; one that does nothing, 0."""
    x = np.arange(8) % 2
    decides = pd.DataFrame({"X": x, "O": x})
    found = observed_scores(decides, "X", "O")
    same(found, 1, 1, 1)
    same(found.bounds, (1, 1), (1, 1), (1, 1))
    nothing = pd.DataFrame({"X": x, "O": np.arange(8) // 4})
    same(observed_scores(nothing, "X", "O"), 0, 0, 0)


def test_nobody_with_the_outcome():
    found = observed_scores(OR.assign(O=0), "X", "O", adjust=["C"])
    same(found, math.nan, 0, 0)
    same(found.bounds, NAN, (0, 0), (0, 0))
    assert found.n["necessity"] == 0


def test_everybody_with_the_outcome():
    found = observed_scores(OR.assign(O=True), "X", "O", adjust=["C"])
    same(found, 0, math.nan, 0)
    same(found.bounds, (0, 0), NAN, (0, 0))


def test_a_context_of_two_columns_is_both():
    table = pd.concat([OR.assign(D=0), XOR.assign(D=1)])
    found = observed_scores(table, "X", "O", context={"D": 1, "C": 0})
    same(found, 1, 1, 1)
    assert found.n["pns"] == 2
    assert observed_scores(table, "X", "O", context={"C": 0, "D": 1}) == found


def test_an_empty_context():
    found = observed_scores(OR, "X", "O", adjust=["C"], context=np.zeros(8, dtype=bool))
    same(found, *[math.nan] * 3)
    same(found.bounds, *[NAN] * 3)
    assert found.n == {"necessity": 0, "sufficiency": 0, "pns": 0}
    assert math.isnan(found.overlap_violation)
    known = score_bounds(OR, "X", "O", do_value=1, do_baseline=0, context=[False] * 8)
    same(known, *[NAN] * 3)


def test_no_overlap():
    """C=2 was never seen with X=1: what X=1 would do there is not in the table."""
    table = pd.concat([OR, pd.DataFrame({"C": [2, 2], "X": [0, 0], "O": [0, 1]})])
    found = observed_scores(table, "X", "O", adjust=["C"])
    # Units with X=1 all have their like with X=0, so necessity stays 1/4; the others don't.
    same(found, 1 / 4, math.nan, math.nan)
    assert found.overlap_violation == pytest.approx(2 / 10)
    # P(O | do X=0) = 4/10 * 0 + 4/10 * 1 + 2/10 * 1/2 = 1/2, so necessity is from
    # (4 + 2 - 5) / 4 to (5 - 4) / 4; nothing is known of do X=1.
    same(found.bounds, (1 / 4, 1 / 4), NAN, NAN)
    effect = adjusted_effect(table, "X", "O", ["C"])
    assert effect[0] == pytest.approx(1 / 2)
    assert math.isnan(effect[1])
    # Elsewhere there is overlap.
    elsewhere = observed_scores(table, "X", "O", adjust=["C"], context=(table.C < 2).to_numpy())
    same(elsewhere, 1 / 4, 1, 1 / 2)
    assert elsewhere.overlap_violation == 0


def test_a_context_where_the_value_is_missing():
    found = observed_scores(OR, "X", "O", context=(OR.X == 0).to_numpy())
    same(found, *[math.nan] * 3)
    assert found.n == {"necessity": 0, "sufficiency": 3, "pns": 4}
    assert found.overlap_violation == 1


def test_interventions_that_contradict_the_table_cross_the_bounds():
    # With X=0 one unit of eight has O, so that do X=0 can't leave fewer.
    low, high = score_bounds(OR, "X", "O", do_value=1, do_baseline=0.1).necessity
    assert low > high
    low, high = score_bounds(OR, "X", "O", do_value=0.4, do_baseline=0.5).sufficiency
    assert low > high


tables = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 2), st.booleans()),
    min_size=1,
    max_size=40,
).map(lambda rows: pd.DataFrame(rows, columns=["C", "D", "X", "O"]))


def share(rows, *conditions):
    """P(last condition | the others), as a fraction; None if there is nobody."""
    for condition in conditions[:-1]:
        rows = [r for r in rows if condition(r)]
    return Fraction(sum(map(conditions[-1], rows)), len(rows)) if rows else None


def naive(rows, x, other):
    """The formulas of LEWIS as printed, in exact fractions; None where one can't be worked out."""

    def happens(r):
        return r.O

    def not_so(r):
        return not r.O

    def has(v):
        return lambda r: v == r.X

    strata = {(r.C, r.D) for r in rows}

    def total(rate, among):
        """sum_c P(. | c, v) P(c | among)"""
        result = Fraction(0)
        for c in strata:
            weight = share(rows, among, lambda r, c=c: c == (r.C, r.D))
            if weight is None:
                return None
            if weight:
                here = rate([r for r in rows if c == (r.C, r.D)])
                if here is None:
                    return None
                result += weight * here
        return result

    def minus_over(a, b, c):
        return None if a is None or b is None or not c else (a - b) / c

    necessity = minus_over(
        total(lambda s: share(s, has(other), not_so), has(x)),
        share(rows, has(x), not_so),
        share(rows, has(x), happens),
    )
    sufficiency = minus_over(
        total(lambda s: share(s, has(x), happens), has(other)),
        share(rows, has(other), happens),
        share(rows, has(other), not_so),
    )
    do = [total(lambda s, v=v: share(s, has(v), happens), lambda r: True) for v in (x, other)]
    return necessity, sufficiency, minus_over(*do, 1), do


def number(value):
    return math.nan if value is None else float(value)


@quick
@given(tables)
def test_random_tables_against_loops(table):
    values = sorted(set(table.X))
    if len(values) < 2:
        return
    x, other = values[-1], values[0]
    rows = list(table.itertuples())
    *expected, do = naive(rows, x, other)
    found = observed_scores(table, "X", "O", adjust=["C", "D"], value=x, baseline=other)
    same(found, *map(number, expected))
    effect = adjusted_effect(table, "X", "O", ["C", "D"])
    assert [effect[x], effect[other]] == pytest.approx([*map(number, do)], nan_ok=True)
    has_x, has_other = ({(r.C, r.D) for r in rows if v == r.X} for v in (x, other))
    lonely = share(rows, lambda r: (r.C, r.D) not in has_x & has_other)
    assert found.overlap_violation == pytest.approx(float(lonely))
    if None not in do:
        told = {"do_value": float(do[0]), "do_baseline": float(do[1])}
        bounds = score_bounds(table, "X", "O", value=x, baseline=other, **told)
        same(bounds, *(getattr(found.bounds, s) for s in SCORES))


def widest(table, x, other, do_x, do_other):
    """Least and most of each score over all populations that look like this, by linear programming.

    A unit has a value of X, an outcome (o if X is neither x nor x'), and outcomes under x and x'.
    """
    kinds = [(v, o, a, b) for v in range(3) for o in (0, 1) for a in (0, 1) for b in (0, 1)]
    kinds = [k for k in kinds if not (k[0] == x and k[1] != k[2])]
    kinds = [k for k in kinds if not (k[0] == other and k[1] != k[3])]
    cells = [(v, o) for v in range(3) for o in (0, 1)]
    equal = [[float(k[:2] == cell) for k in kinds] for cell in cells]
    target = [(table.X.eq(v) & table.O.eq(o)).mean() for v, o in cells]
    equal += [[k[2] for k in kinds], [k[3] for k in kinds]]
    target += [do_x, do_other]
    wanted = [
        ([k[:2] == (x, 1) and k[3] == 0 for k in kinds], target[cells.index((x, 1))]),
        ([k[:2] == (other, 0) and k[2] == 1 for k in kinds], target[cells.index((other, 0))]),
        ([k[2] == 1 and k[3] == 0 for k in kinds], 1),
    ]
    for goal, whole in wanted:
        if whole == 0:
            yield NAN
            continue
        ends = [
            linprog(sign * np.array(goal, float), A_eq=equal, b_eq=target, bounds=(0, 1))
            for sign in (1, -1)
        ]
        assert all(e.status == 0 for e in ends)
        yield ends[0].fun / whole, -ends[1].fun / whole


def check_by_programming(table, x, other, places):
    """For interventions that the table allows: P(o, x) <= P(o | do x) <= P(o, x) + P(not x)."""
    do = []
    for value, place in zip((x, other), places, strict=True):
        has = table.X.eq(value)
        do.append((has & table.O).mean() + place * (~has).mean())
    found = score_bounds(
        table, "X", "O", value=x, baseline=other, do_value=do[0], do_baseline=do[1]
    )
    for name, expected in zip(SCORES, widest(table, x, other, *do), strict=True):
        assert getattr(found, name) == pytest.approx(expected, abs=1e-6, nan_ok=True), name


@quick
@given(tables, st.floats(0, 1), st.floats(0, 1))
def test_bounds_are_the_widest_that_can_be(table, u, v):
    values = sorted(set(table.X))
    if len(values) > 1:
        check_by_programming(table, values[1], values[0], (u, v))


@pytest.mark.parametrize("values", [2, 3])
@pytest.mark.parametrize("seed", range(25))
def test_bounds_of_uneven_tables_are_the_widest_that_can_be(values, seed):
    """Very uneven ones: each term of a bound must be the one that counts in some."""
    rng = np.random.default_rng(seed)
    cell = rng.choice(2 * values, 200, p=rng.dirichlet(np.full(2 * values, 0.4)))
    cell[: 2 * values] = range(2 * values)
    table = pd.DataFrame({"X": cell // 2, "O": cell % 2 == 1})
    check_by_programming(table, 1, 0, rng.random(2))
