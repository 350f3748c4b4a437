"""Scored against the truth: flips, explanations, ranks and errors, made by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from bits import ALL, RULES, Pixels, images_of, scores
from torch import nn

import cfxnb as cfx
from cfxnb.core.types import FLIPPED, NOT_FOUND
from cfxnb.metrics import (
    FLIP_KINDS,
    changed_factors,
    classify_flips,
    distinct_explanations,
    rank_agreement,
    score_errors,
)

NAMES = ("hair", "top", "shoes", "eyes")


def judge():
    return cfx.FactorReader(Pixels(4), dict.fromkeys(NAMES, (0, 1)))


def result(*rows, flipped=None):
    """Rows "original reconstruction image", four bits each."""
    bits = [[[int(b) for b in part] for part in row.split()] for row in rows]
    original, reconstruction, image = (images_of(torch.tensor(b)) for b in zip(*bits, strict=True))
    flipped = [True] * len(rows) if flipped is None else flipped
    return cfx.Counterfactuals(
        original=original,
        image=image,
        reconstruction=reconstruction,
        logits_before=torch.zeros(len(rows), 2),
        logits_after=torch.zeros(len(rows), 2),
        target=torch.ones(len(rows), dtype=torch.int64),
        status=tuple(FLIPPED if f else NOT_FOUND for f in flipped),
    )


def test_what_the_space_cannot_draw_is_not_a_change():
    """Hair was lost by reconstruction: only what differs from there counts."""
    table = changed_factors(result("1000 0000 0100", "1000 0000 1000", "1111 1111 1111"), judge())
    assert table.to_numpy().tolist() == [
        [False, True, False, False],
        [True, False, False, False],
        [False] * 4,
    ]
    assert list(table.columns) == list(NAMES)
    assert table.dtypes.unique().tolist() == [bool]


def test_kinds_of_flips_by_precedence():
    """Named factor before cause, cause before side effect, side effect before none."""
    rows = {
        "0000 0000 1111": "trivial",  # everything changed
        "0000 0000 1000": "trivial",
        "0000 0000 0111": "causal",  # causes and a side effect
        "0000 0000 0010": "causal",
        "0000 0000 0001": "non-causal",
        "0000 0000 0000": "adversarial",
        "1000 0000 0000": "adversarial",  # lost by reconstruction, not by the search
        "0000 0000 1001": None,  # not flipped
    }
    flipped = [kind is not None for kind in rows.values()]
    table = classify_flips(result(*rows, flipped=flipped), judge(), ["top", "shoes"], "hair")
    assert table["kind"].tolist() == [k for k in rows.values() if k]
    assert set(table["kind"]) == set(FLIP_KINDS)
    assert table.index.tolist() == list(range(7))
    assert table.loc[0, ["cause", "named_factor", "side_effect"]].tolist() == [True] * 3
    assert table.loc[2, ["cause", "named_factor", "side_effect"]].tolist() == [True, False, True]
    assert table["changed"].tolist()[:4] == [NAMES, ("hair",), NAMES[1:], ("shoes",)]
    assert table["changed"].tolist()[5] == ()


def test_rows_of_flips_are_those_of_the_result():
    both = result("0000 0000 0100", "0000 0000 0001", flipped=[False, True])
    table = classify_flips(both, judge(), ("top",), "hair")
    assert table.index.tolist() == [1]
    assert table.loc[1, "kind"] == "non-causal"
    none = classify_flips(both[:1], judge(), ("top",), "hair")
    assert len(none) == 0
    assert list(none.columns) == list(table.columns)


def test_causes_may_come_from_anywhere():
    one = result("0000 0000 0010")
    for causes in (("shoes",), {"shoes": 1}, (c for c in ["shoes"])):
        assert classify_flips(one, judge(), causes, "hair")["kind"].tolist() == ["causal"]
    # A cause that is the named factor counts as the named factor; there may be no other factor.
    assert (
        classify_flips(result("0000 0000 1000"), judge(), ["hair"], "hair").loc[0, "kind"]
        == "trivial"
    )
    two = cfx.FactorReader(Pixels(2), dict.fromkeys(NAMES[:2], (0, 1)))
    assert classify_flips(result("0000 0000 0100"), two, ["top"], "hair").loc[0, "kind"] == "causal"


def test_the_judge_is_in_evaluation_mode():
    """With dropout on, it would see changes that are not there."""
    module = nn.Sequential(Pixels(4), nn.Dropout(0.5)).train()
    reader = cfx.FactorReader(module, dict.fromkeys(NAMES, (0, 1)))
    same = result(*["1111 1111 1111"] * 20)
    assert not changed_factors(same, reader).to_numpy().any()
    assert module.training
    assert module[1].training


def test_distinct_explanations_are_sets():
    """The same set twice is one; nothing changed is none; what did not flip is none."""
    tries = [
        result("0000 0000 0100", "0000 0000 1100", "0000 0000 1000"),
        result("0000 0000 0100", "0000 0000 0110", "0000 0000 0000"),
        result("0000 0000 0010", "0000 0000 1100", "0000 0000 0001", flipped=[True, True, False]),
    ]
    assert distinct_explanations(tries, judge()).tolist() == [2, 2, 1]
    assert distinct_explanations(tries[::-1], judge()).tolist() == [2, 2, 1]
    assert distinct_explanations(tries[1:2], judge()).tolist() == [1, 1, 0]
    # Of causes only: what else changed makes no other explanation.
    assert distinct_explanations(tries, judge(), ["hair", "top"]).tolist() == [1, 2, 1]
    # Changed from 0 to 1 or from 1 to 0: the set of factors is the same.
    pair = [result("1000 1000 0000"), result("1000 0000 1000")]
    assert distinct_explanations(pair, judge()).tolist() == [1]


def test_rank_agreement():
    truth = pd.Series({"hair": 0.0, "top": 0.6, "shoes": 0.5, "eyes": 0.1})
    order = pd.Series({"eyes": 2.0, "hair": 1.0, "shoes": -3.0, "top": -9.0})
    found = rank_agreement(order, truth, ["top", "shoes"])
    assert found == {"rank correlation": pytest.approx(1.0), "first": 1.0}
    contrast_class = rank_agreement(1 / order, truth, ["top"])
    assert contrast_class == {"rank correlation": pytest.approx(-1.0), "first": 0.0}
    # Spearman by hand: ranks 4, 1, 2, 3 against 1, 4, 3, 2 with one pair swapped.
    swapped = pd.Series({"hair": 0.1, "top": 0.5, "shoes": 0.6, "eyes": 0.2})
    assert rank_agreement(swapped, truth, ["top"])["rank correlation"] == pytest.approx(
        1 - 6 * (1 + 1) / (4 * 15)
    )
    assert rank_agreement(swapped, truth, ["top"])["first"] == 0.0
    # More factors than the truth knows are not ranked; equally first ones share the first place.
    more = pd.concat([order, pd.Series({"age": 99.0})])
    assert rank_agreement(more, truth, ["top"]) == rank_agreement(order, truth, ["top"])
    tied = pd.Series({"hair": 1.0, "top": 1.0, "shoes": -1.0, "eyes": 0.0})
    assert rank_agreement(tied, truth, ["top"])["first"] == pytest.approx(1 / 3)


def test_errors_are_differences_of_scores():
    bits = torch.cat([ALL, ALL[:3]])
    found, truth = scores("majority", bits), scores("and", bits)
    table = score_errors(found, truth)
    for (kind, name), row in table.iterrows():
        a, b = found.table.loc[name], truth.table.loc[name]
        assert (row["score"], row["truth"]) == (a[kind], b[kind])
        assert row["error"] == abs(a[kind] - b[kind])
        assert row["covered"] == (a[f"{kind} low"] <= b[kind] <= a[f"{kind} high"])
    assert len(table) == 9
    assert len(table.loc["necessity"]) == 3
    assert 0 < table["covered"].mean() < 1
    assert (score_errors(found, found)["error"] == 0).all()


def test_the_truth_is_taken_for_the_contrast_that_was_scored():
    """Truth: not A, so that A=0 favours o. Scores: A favours o. Asked for A=1 against A=0, the
    truth has neither necessity nor sufficiency: no one gains or loses o that way."""
    found, truth = scores(lambda b: b[:, 0]), scores("not A")
    assert (truth.necessity["A"], truth.contrasts["A"]) == (1, ("yes", "no"))
    rows = score_errors(found, truth)
    for kind in ("sufficiency", "pns"):
        if (kind, "A") in rows.index:
            assert rows.loc[(kind, "A"), ["score", "truth", "error"]].tolist() == [1, 0, 1]
    # By hand: nobody with A=1 has o, nobody with A=0 lacks it; only "pns" is defined.
    assert [k for k, n in rows.index if n == "A"] == ["pns"]
    # Turned on both sides, nothing is left of the difference.
    assert (score_errors(truth, truth)["error"] == 0).all()


def test_one_third_of_the_truth_in_the_other_direction():
    """A tie in the truth stays as it is stated, and is counted anew from its units."""
    bits = torch.tensor([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]])
    favours = scores(lambda b: b[:, 0] ^ (b[:, 1] & ~b[:, 2]), bits)
    contrast_class = scores(lambda b: ~b[:, 0] & b[:, 1] | b[:, 2] & ~b[:, 0], bits)
    assert contrast_class.contrasts["A"] == ("yes", "no")
    rows = score_errors(favours, contrast_class)
    # Under A=1 nobody has o in the truth. Under A=0 rows 1, 3 and 4 do: harm, seen from A=1.
    assert rows.loc[("pns", "A"), "truth"] == 0
    assert rows.loc[("sufficiency", "A"), "truth"] == 0
    assert ("necessity", "A") not in rows.index


def test_nan_is_left_out():
    found = scores("and", context=np.array(ALL[:, 0] == 0))
    table = score_errors(found, scores("and"))
    assert math.isnan(found.necessity["A"])
    assert ("necessity", "A") not in table.index
    assert ("sufficiency", "A") in table.index
    nothing = scores(RULES["B"], ALL[:1])
    nothing = nothing.table.index[nothing.table["necessity"].isna()]
    assert list(nothing) == ["A", "B", "C"]
