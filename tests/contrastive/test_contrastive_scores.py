"""Necessity and sufficiency where a world of bits can be worked out by hand."""

import math

import numpy as np
import pytest
import torch
from bits import (
    ALL,
    CONTRASTS,
    NAMES,
    RULES,
    BitSpace,
    decide,
    edits,
    factors_of,
    images_of,
    judge,
    scores,
)
from torch import nn

import cfxnb as cfx

# All eight combinations of A, B, C once, outcome 1. One row: (necessity, n), (sufficiency, n),
# pns and violations of monotonicity of 8. By hand:
#   A and B: with A=1 and o (B=1) A is needed: 2 of 2. With A=0 all four have o'; A suffices where
#     B=1: 2 of 4. PNS: B=1.
#   A or B: with A=1 all four have o; A is needed where B=0. With A=0 and o' B=0: 2 of 2.
#   A xor B: where B=0 A gives o, where B=1 it takes it: both 1/2, violation 1/2.
#   majority: A counts where just one of B and C does; o with A=1 has three of four combinations.
BY_HAND = {
    ("and", "A"): ((1, 2), (1 / 2, 4), 1 / 2, 0),
    ("and", "B"): ((1, 2), (1 / 2, 4), 1 / 2, 0),
    ("and", "C"): ((0, 1), (0, 3), 0, 0),
    ("or", "A"): ((1 / 2, 4), (1, 2), 1 / 2, 0),
    ("or", "C"): ((0, 3), (0, 1), 0, 0),
    ("xor", "A"): ((1, 2), (1, 2), 1 / 2, 1 / 2),
    ("xor", "B"): ((1, 2), (1, 2), 1 / 2, 1 / 2),
    ("xor", "C"): ((0, 2), (0, 2), 0, 0),
    ("majority", "A"): ((2 / 3, 3), (2 / 3, 3), 1 / 2, 0),
    ("majority", "C"): ((2 / 3, 3), (2 / 3, 3), 1 / 2, 0),
}


@pytest.mark.parametrize(("rule", "name"), BY_HAND)
def test_by_hand(rule, name):
    found = scores(rule)
    (necessity, n_necessity), (sufficiency, n_sufficiency), pns, violation = BY_HAND[rule, name]
    row = found.table.loc[name]
    for score, value, n in (
        ("necessity", necessity, n_necessity),
        ("sufficiency", sufficiency, n_sufficiency),
        ("pns", pns, 8),
        ("monotonicity_violation", violation, 8),
    ):
        assert row[score] == pytest.approx(value, abs=1e-12), score
        assert row[f"{score} n"] == n, score
        low, high = cfx.wilson_interval(round(value * n), n)
        assert (row[f"{score} low"], row[f"{score} high"]) == pytest.approx((low, high)), score
    assert (row["value"], row["baseline"]) == ("yes", "no")
    assert found.reconstruction_agreement == 1
    assert len(found.units) == 24
    assert found.leakage.empty
    assert np.isnan(found.table[["took effect", "clean"]].to_numpy()).all()


def test_the_value_that_favours_the_outcome_comes_first():
    """Not A: A=0 gives o. Turned round by name, the scores are those of A itself."""
    found = scores("not A")
    assert found.contrasts["A"] == ("yes", "no")
    assert (found.necessity["A"], found.sufficiency["A"], found.monotonicity_violation["A"]) == (
        1,
        1,
        0,
    )
    assert found.ranking[0] == "A"
    # A tie is no reason to turn: B does nothing, xor helps as often as it harms.
    assert found.contrasts["B"] == scores("xor").contrasts["A"] == ("no", "yes")


@pytest.mark.parametrize("rule", ["and", "or", "majority", "not A"])
def test_the_other_outcome_swaps_the_roles(rule):
    """Needed for o is what suffices against o', and the other way round."""
    one, other = scores(rule, outcome=1).table, scores(rule, outcome=0).table
    for name in ("A", "B", "C"):
        a, b = one.loc[name], other.loc[name]
        if a["pns"] > 0:  # without an effect there is no order to be turned
            assert (a["value"], a["baseline"]) == (b["baseline"], b["value"])
            for end in ("", " n", " low", " high"):
                assert a[f"necessity{end}"] == b[f"sufficiency{end}"]
                assert a[f"sufficiency{end}"] == b[f"necessity{end}"]
        assert (a["pns"], a["monotonicity_violation"]) == (b["pns"], b["monotonicity_violation"])


def boolean(seed):
    """A random rule of three bits, and 60 figures whose bits depend on one another."""
    random = np.random.default_rng(seed)
    truth = torch.from_numpy(random.random(8) < 0.5)
    bits = ALL[random.choice(8, 60, p=random.dirichlet(np.ones(8)))]
    return (lambda b: truth[(b.long() * torch.tensor([4, 2, 1])).sum(1)]), bits


@pytest.mark.parametrize("seed", range(12))
def test_any_rule_unit_by_unit(seed):
    """PNS = P(x, o) necessity + P(x', o') sufficiency, and a plain loop over units agrees."""
    rule, bits = boolean(seed)
    found = scores(rule, bits)
    for j, name in enumerate(NAMES):
        row = found.table.loc[name]
        value = int(row["value"] == "yes")
        counts = dict.fromkeys(("necessity", "sufficiency", "pns", "monotonicity_violation"), 0)
        n_units = dict(counts, pns=len(bits), monotonicity_violation=len(bits))
        for one in bits:
            o = {}
            for x in (value, 1 - value):
                twin = one.clone()
                twin[j] = x
                o[x == value] = bool(rule(twin[None].bool())[0])
            has = int(one[j]) == value
            n_units["necessity"] += has and o[True]
            counts["necessity"] += has and o[True] and not o[False]
            n_units["sufficiency"] += not has and not o[False]
            counts["sufficiency"] += not has and not o[False] and o[True]
            counts["pns"] += o[True] and not o[False]
            counts["monotonicity_violation"] += o[False] and not o[True]
        for score, hits in counts.items():
            expected = hits / n_units[score] if n_units[score] else math.nan
            assert row[score] == pytest.approx(expected, nan_ok=True), (name, score)
            assert row[f"{score} n"] == n_units[score]
        fractions = [n_units[s] / len(bits) for s in ("necessity", "sufficiency")]
        weighed = np.nan_to_num(row[["necessity", "sufficiency"]].to_numpy(float)) @ fractions
        assert row["pns"] == pytest.approx(weighed)
        assert (
            row["pns"] >= row["monotonicity_violation"]
        )  # that is what the order of the values means


def test_nobody_to_ask():
    """With A=0 everywhere nobody can lose A: NaN, n = 0; the rest is as it was."""
    found = scores("and", context=np.array(ALL[:, 0] == 0))
    row = found.table.loc["A"]
    assert np.isnan(row[["necessity", "necessity low", "necessity high"]].to_numpy(float)).all()
    assert row["necessity n"] == 0
    assert (row["sufficiency"], row["sufficiency n"], row["pns n"]) == (1 / 2, 4, 4)


def test_a_context_conditions():
    """In the context B=1, A and B is A; in the context B=0 nothing counts."""
    inside = scores("and", context=ALL[:, 1] == 1)
    assert (inside.necessity["A"], inside.sufficiency["A"], inside.pns["A"]) == (1, 1, 1)
    assert sorted(inside.units["row"].unique()) == [2, 3, 6, 7]
    outside = scores("and", context=(ALL[:, 1] == 0).tolist())
    assert (outside.sufficiency["A"], outside.pns["A"]) == (0, 0)
    assert outside.table.loc["B", "necessity n"] == 0


def test_figures_with_a_third_value_are_not_asked():
    factors = factors_of(ALL)
    factors.loc[[0, 7], "A"] = "unknown"
    factors.loc[3, "B"] = math.nan
    found = cfx.contrastive_scores(
        BitSpace(), decide(RULES["and"]), images_of(ALL), factors, edits=edits()
    )
    assert found.table["pns n"].to_dict() == {"A": 6, "B": 7, "C": 8}
    assert found.table.loc["A", ["necessity", "sufficiency"]].tolist() == [1, 2 / 3]
    assert (found.units["factor"] == "A").sum() == 6


class Careless(nn.Module):
    """Where C=1, editing A drags B along, and editing B does nothing; C is edited exactly."""

    def forward(self, u, target):
        step = torch.where(target == 0, 0.0, target - u)
        c = u[:, 2] > 0
        dragged = torch.where(c & (target[:, 0] != 0), target[:, 0] - u[:, 1], 0.0)
        step[:, 1] = torch.where(c, dragged, step[:, 1])
        return step


# The class is B. Editing A flips B where C=1 and B equals the old A: (0,0,1) and (1,1,1).
# necessity n, sufficiency n, pns n of A and of B, for each choice of edits:
LEAKING = {
    "all": {"A": ((1 / 2, 2), (1 / 2, 2), (1 / 4, 8)), "B": ((1 / 2, 4), (1 / 2, 4), (1 / 2, 8))},
    "effective": {"A": ((1 / 2, 2), (1 / 2, 2), (1 / 4, 8)), "B": ((1, 2), (1, 2), (1, 4))},
    "clean": {"A": ((0, 1), (0, 1), (0, 6)), "B": ((1, 2), (1, 2), (1, 4))},
}


@pytest.mark.parametrize("edit_filter", LEAKING)
def test_edits_that_leak_on_purpose(edit_filter):
    found = scores("B", edits=edits(Careless()), judge=judge(), edit_filter=edit_filter)
    for name, expected in LEAKING[edit_filter].items():
        row = found.table.loc[name]
        for score, (value, n) in zip(("necessity", "sufficiency", "pns"), expected, strict=True):
            assert (row[score], row[f"{score} n"]) == (value, n), (name, score)
    assert found.table["took effect"].to_dict() == {"A": 1, "B": 1 / 2, "C": 1}
    assert found.table["clean"].to_dict() == {"A": 6 / 8, "B": 1 / 2, "C": 1}
    nan = math.nan
    expected = [[nan, 2 / 8, 0], [0, nan, 0], [0, 0, nan]]
    np.testing.assert_array_equal(found.leakage.to_numpy(), expected)
    assert list(found.leakage.index) == list(found.leakage.columns) == list(NAMES)


def test_without_a_judge_all_edits_count():
    blind = scores("B", edits=edits(Careless())).table
    told = scores("B", edits=edits(Careless()), judge=judge(), edit_filter="all").table
    shown = [c for c in blind if c not in ("took effect", "clean")]
    assert blind[shown].equals(told[shown])


def test_a_judge_of_more_factors_sees_leakage_into_those():
    """C is read by the judge, though nobody edits it."""

    class Drag(nn.Module):
        def forward(self, u, target):
            step = torch.where(target[:, :1] == 0, 0.0, target[:, :1] - u[:, :1])
            return torch.cat([step, 0 * step, torch.ones_like(step) * 2], 1)

    found = scores("B", edits=edits(Drag(), names=("A",)), judge=judge())
    assert list(found.leakage.index) == ["A"]
    assert found.leakage.loc["A", ["B", "C"]].tolist() == [0, 1 / 2]
    assert found.table.loc["A", "clean"] == 1 / 2


@pytest.mark.filterwarnings("ignore:space. it does not know these images")
def test_a_lossy_space_asks_only_whose_decision_it_keeps():
    """B is lost and the class is B: rows with B=1 change their decision by reconstruction."""
    found = scores("B", space=BitSpace(lost=(1,)))
    assert found.reconstruction_agreement == 1 / 2
    kept = found.units[found.units["used"]]
    assert sorted(kept["row"].unique()) == [0, 1, 4, 5]
    assert not kept["before"].any()
    row = found.table.loc["A"]
    assert math.isnan(row["necessity"])
    assert (row["sufficiency"], row["sufficiency n"], row["pns n"]) == (0, 2, 4)


def test_what_the_space_lost_was_not_changed_by_an_edit():
    """The judge compares with the reconstruction, as the classifier does."""
    found = scores(lambda b: b[:, 0], space=BitSpace(lost=(1,)), judge=judge())
    assert found.reconstruction_agreement == 1
    # The rows with B had lost it before the edit that was to take it away.
    assert found.table["clean"].to_dict() == {"A": 1, "B": 1 / 2, "C": 1}
    assert np.nanmax(found.leakage) == 0


def test_default_edits_are_linear_ones_of_the_same_table():
    """In independent bits the regressions' normals are the axes, and the goals the bits."""
    bits = ALL.repeat(4, 1)
    found = scores("majority", bits, edits=None)
    exact = scores("majority", bits)
    assert found.table.equals(exact.table)
    assert found.contrasts == CONTRASTS
    assert found.made_by["preserve_others"] is True


def test_default_edits_take_the_contrasts():
    bits = ALL.repeat(4, 1)
    factors = factors_of(bits)
    factors.loc[[0, 7], "A"] = "unknown"
    call = BitSpace(), decide(RULES["and"]), images_of(bits), factors
    with pytest.raises(ValueError, match=r"contrasts.*'A'"):
        cfx.contrastive_scores(*call)
    found = cfx.contrastive_scores(*call, contrasts=CONTRASTS)
    assert found.table["pns n"].to_dict() == {"A": 30, "B": 32, "C": 32}
    assert found.necessity["A"] == found.necessity["B"] == 1


def test_scores_show_themselves():
    found = scores("and", judge=judge())
    assert found.ranking == ("A", "B", "C")
    assert "necessity 1.00, sufficiency 0.50" in repr(found)
    page = found._repr_html_()
    assert page.count("<tr") == 4
    assert f"1.00 [{cfx.wilson_interval(2, 2)[0]:.2f}, 1.00], n 2" in page
    assert "100.0%" in page
