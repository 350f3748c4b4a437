"""Necessity and sufficiency from tables against values worked out by hand and by counting."""

import itertools

import numpy as np
import pandas as pd
import pytest
from stored import stored

from cfxnb.contrastive.observed_scores import adjusted_effect, observed_scores, score_bounds
from cfxnb.contrastive.tally import tally

NAMES = ("monotone", "nonmonotone", "skipped_stratum")
SCORES = {"necessity": "necessity", "sufficiency": "sufficiency", "pns": "nesuf"}
BOUNDS = {"necessity": "necessity", "sufficiency": "sufficiency", "pns": "nesuf_tian_pearl"}
FACTS = {name: stored(f"scores_{name}")[1] for name in NAMES}
each_set = pytest.mark.parametrize("name", NAMES)


def sample(name):
    tensors = stored(f"scores_{name}")[0]
    return pd.DataFrame({key: column.numpy() for key, column in tensors.items()})


def population(facts, units=1000):
    """The table in which every frequency is the true probability, to the last unit."""
    rows = []
    for c, x, response in itertools.product(range(len(facts["p_c"])), (0, 1), range(4)):
        p_x = facts["p_x_given_c"][c]
        p = facts["p_c"][c] * (p_x if x else 1 - p_x) * facts["response_joint_given_c"][c][response]
        count = round(p * units)
        assert count == pytest.approx(p * units, abs=1e-6)
        # Never, helped, harmed, always: bit 0 is the outcome with x', bit 1 that with x.
        without, with_x = [(0, 0), (0, 1), (1, 0), (1, 1)][response]
        rows += [(c, x, with_x if x else without)] * count
    return pd.DataFrame(rows, columns=["C", "X", "O"])


def close(found, expected, scores=SCORES, tolerance=1e-9):
    for ours, theirs in scores.items():
        assert getattr(found, ours) == pytest.approx(expected[theirs], abs=tolerance), ours


@each_set
def test_estimates_by_counting(name):
    expected = FACTS[name]["plug_in_counts"]
    found = observed_scores(sample(name), "X", "O", adjust=["C"])
    assert (found.value, found.baseline) == (1, 0)
    close(found, expected)
    close(found.bounds, expected["bounds"], BOUNDS)
    assert found.overlap_violation == 0
    effect = adjusted_effect(sample(name), "X", "O", ["C"])
    assert effect[1] == pytest.approx(expected["p_o_do_x"], abs=1e-9)
    assert effect[0] == pytest.approx(expected["p_o_do_xp"], abs=1e-9)
    low, high = expected["bounds"]["nesuf_simple"]
    assert found.bounds.pns[0] >= low - 1e-9
    assert found.bounds.pns[1] <= high + 1e-9


@each_set
def test_both_outcomes_of_each_unit(name):
    """With these no assumption is needed: what an edit of an image gives, too."""
    table = sample(name)
    under = table[["O_if_x0", "O_if_x1"]].to_numpy()
    rows, x = np.arange(len(table)), table["X"].to_numpy()
    assert (under[rows, x] == table["O"]).all()
    units = pd.DataFrame({"factor": "X", "value": x, "used": True})
    units["before"], units["after"] = under[rows, x] == 1, under[rows, 1 - x] == 1
    found = tally(units, {"X": (0, 1)}, 0.95).loc["X"]
    assert (found["value"], found["baseline"]) == (1, 0)
    wanted = FACTS[name]["unit_level_on_sample"]
    for ours, theirs in (SCORES | {"monotonicity_violation": "harm"}).items():
        assert found[ours] == pytest.approx(wanted[theirs], abs=1e-12), ours


@each_set
def test_bounds_of_the_true_distribution(name):
    truth = FACTS[name]["analytic"]
    table = population(FACTS[name])
    do = {"do_value": truth["p_o_do_x"], "do_baseline": truth["p_o_do_xp"]}
    bounds = score_bounds(table, "X", "O", **do)
    close(bounds, truth["bounds_from_true_distribution"], BOUNDS)
    effect = adjusted_effect(table, "X", "O", ["C"])
    assert (effect[1], effect[0]) == pytest.approx((truth["p_o_do_x"], truth["p_o_do_xp"]))
    raw = adjusted_effect(table, "X", "O", [])
    assert (raw[1], raw[0]) == pytest.approx((truth["p_o_given_x"], truth["p_o_given_xp"]))
    found = observed_scores(table, "X", "O", adjust=["C"])
    close(found.bounds, truth["bounds_from_true_distribution"], BOUNDS)
    close(found, truth["adjustment_formula_on_true_distribution"])
    for ours, theirs in SCORES.items():
        low, high = getattr(bounds, ours)
        assert low - 1e-9 <= truth[theirs] <= high + 1e-9


@each_set
def test_estimates_are_the_truth_only_under_monotonicity(name):
    truth = FACTS[name]["analytic"]
    found = observed_scores(population(FACTS[name]), "X", "O", adjust=["C"])
    if FACTS[name]["monotone"]:
        close(found, truth)
        return
    for ours, theirs in SCORES.items():
        assert getattr(found, ours) < truth[theirs] - 0.1  # the harmed hide as many of the helped
    assert found.pns == pytest.approx(truth["nesuf"] - truth["harm"], abs=1e-9)


@each_set
def test_the_truth_is_within_the_bounds_of_a_sample(name):
    """Up to three standard errors of each bound, by bootstrap."""
    table, truth = sample(name), FACTS[name]["analytic"]
    bounds = observed_scores(table, "X", "O", adjust=["C"]).bounds
    again = [
        observed_scores(table.sample(frac=1, replace=True, random_state=i), "X", "O", adjust=["C"])
        for i in range(60)
    ]
    for ours, theirs in SCORES.items():
        low, high = getattr(bounds, ours)
        slack = 3 * np.std([getattr(a.bounds, ours) for a in again], axis=0)
        assert slack.max() < 0.1
        assert low - slack[0] <= truth[theirs] <= high + slack[1]


def test_contexts():
    """Within a stratum nothing is left to adjust for."""
    facts = FACTS["monotone"]
    for context in facts["contexts"]:
        here = {"C": context["C"]}
        found = observed_scores(population(facts), "X", "O", context=here)
        close(found, context["analytic"])
        close(found.bounds, context["analytic"]["bounds_from_true_distribution"], BOUNDS)
        found = observed_scores(sample("monotone"), "X", "O", adjust=["C"], context=here)
        close(found, context["lingam_lewis"], tolerance=0.02)


@pytest.mark.parametrize("name", ["monotone", "nonmonotone"])
def test_lingam_gives_the_same_by_random_forests(name):
    close(
        observed_scores(sample(name), "X", "O", adjust=["C"]),
        FACTS[name]["lingam_lewis_adjusted"],
        tolerance=0.02,
    )


@each_set
def test_lingam_without_adjustment(name):
    found = observed_scores(sample(name), "X", "O")
    close(found, FACTS[name]["lingam_lewis_unadjusted"], tolerance=0.02)


def test_a_stratum_where_nobody_has_the_outcome_is_not_skipped():
    """lingam leaves it out of the sum, and with it all necessity."""
    facts = FACTS["skipped_stratum"]
    theirs = facts["lingam_lewis_adjusted"]
    assert theirs["necessity"] == 0
    found = observed_scores(sample("skipped_stratum"), "X", "O", adjust=["C"])
    close(found, theirs, {"sufficiency": "sufficiency", "pns": "nesuf"}, tolerance=0.02)
    assert found.necessity == pytest.approx(0.6445057111459921, abs=1e-9)
    assert found.necessity == pytest.approx(facts["analytic"]["necessity"], abs=0.03)
