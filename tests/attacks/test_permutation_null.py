"""The permutation null against a planted bug: the one in a published figure.

The notebook released with arXiv 2504.15479 subtracts one fixed original from all counterfactuals,
by an index left over from an earlier cell. Its bars are mostly that one face's attributes, times
how unevenly the two directions of flipping are represented.
"""

from itertools import permutations

import numpy as np
import pytest

from cfxnb import permutation_null
from cfxnb.attacks.describe_change import paired_t

SEEDS = range(20)
STALE = -1  # the row that the leftover index points to
MOVED, D, N = 0, 5, 60


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def flips(seed):
    """Readings before and after, (n, d) log odds, and the direction of each flip, (n,).

    A linear classifier looks at descriptor 0 only; nine in ten of the images are positive. A
    counterfactual mirrors that reading and leaves the others almost alone.
    """
    rng = np.random.default_rng(seed)
    before = 2 * rng.normal(size=(N, D))
    before[:, MOVED] += 2.5
    sign = np.where(before[:, MOVED] < 0, 1.0, -1.0)
    after = before + 0.2 * rng.normal(size=(N, D))
    after[:, MOVED] = -before[:, MOVED] + sign
    return before, after, sign


def published(sign):
    """mean_i s_i (sigmoid(after_i) - sigmoid(before of one stale row))."""
    return lambda before, after: (sign[:, None] * (sigmoid(after) - sigmoid(before[STALE]))).mean(0)


def correct(sign):
    """The same with each image's own original."""
    return lambda before, after: (sign[:, None] * (sigmoid(after) - sigmoid(before))).mean(0)


def test_the_published_bars_look_large_on_properties_that_never_moved():
    largest, honest = [], []
    for seed in SEEDS:
        before, after, sign = flips(seed)
        largest.append(np.abs(published(sign)(before, after)[1:]).max())
        honest.append(np.abs(correct(sign)(before, after)[1:]).max())
    assert np.median(largest) > 0.25
    assert np.median(honest) < 0.02


def test_the_null_refutes_the_published_score():
    """On every descriptor, also the one that truly moved, for most seeds."""
    p = np.stack([permutation_null(published(s), b, a)["p"] for b, a, s in map(flips, SEEDS)])
    assert (p >= 0.05).mean() > 0.85
    assert (p >= 0.05).mean(0).min() >= 0.8, "each descriptor"
    assert ((p >= 0.05).all(1)).mean() >= 0.6, "all five at once"


def test_the_null_confirms_the_correct_score_where_something_moved():
    for seed in SEEDS:
        before, after, sign = flips(seed)
        table = permutation_null(correct(sign), before, after, n_resamples=400)
        assert table["p"][MOVED] < 0.05


def test_the_null_confirms_paired_t():
    """One direction of flipping, as in ``describe_change``: the moved reading stands out."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        before = 2 * rng.normal(size=(N, D))
        after = before + 0.2 * rng.normal(size=(N, D))
        after[:, MOVED] += 1.5
        own = permutation_null(paired_t, before, after, n_resamples=400)
        stale = permutation_null(
            lambda b, a: paired_t(np.broadcast_to(b[STALE], a.shape), a),
            before,
            after,
            n_resamples=400,
        )
        assert own["p"][MOVED] < 0.05
        assert own["score"][MOVED] > own["high"][MOVED]
        assert (stale["p"] >= 0.05).mean() >= 0.6


def test_the_plain_mean_can_not_be_refuted_nor_confirmed():
    """It is the same in whatever order the originals stand: why ``paired_t`` is the statistic."""
    before, after, _ = flips(0)
    table = permutation_null(lambda b, a: (a - b).mean(0), before, after, n_resamples=100)
    assert (table["p"] == 1).all()


def test_p_is_uniform_where_there_is_nothing():
    """Readings after that have nothing to do with those before: no p always 0 or always 1."""
    p = []
    for seed in range(60):
        rng = np.random.default_rng(1000 + seed)
        before, after = rng.normal(size=(2, 12, 3))
        p.append(permutation_null(paired_t, before, after, n_resamples=99, seed=seed)["p"])
    p = np.concatenate(p)
    assert 0.0 < (p <= 0.05).mean() < 0.12
    assert 0.35 < (p <= 0.5).mean() < 0.65
    assert p.min() >= 1 / 100  # an observed score is one of its own null's draws


def test_p_and_range_are_those_of_all_orders():
    """Four rows have 24 orders: the exact null is enumerated."""
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 4, 2))
    after += before
    table = permutation_null(paired_t, before, after, n_resamples=6000)
    orders = [list(o) for o in permutations(range(4))]
    exact = np.stack([paired_t(before[order], after) for order in orders])
    mean = exact.mean(0)
    far = (np.abs(exact - mean) >= np.abs(paired_t(before, after) - mean) - 1e-9).mean(0)
    np.testing.assert_allclose(table["p"], far, atol=0.03)
    np.testing.assert_allclose(table["null"], mean, atol=0.15 * exact.std(0).max())
    np.testing.assert_allclose(table["score"], paired_t(before, after))
    assert (table["low"] >= exact.min(0) - 1e-9).all()
    assert (table["high"] <= exact.max(0) + 1e-9).all()


def test_paired_t_is_the_textbooks():
    from scipy.stats import ttest_rel

    before, after = np.random.default_rng(0).normal(size=(2, 9, 3))
    expected = ttest_rel(after, before).statistic
    np.testing.assert_allclose(paired_t(before, after), expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_seed(seed):
    before, after, _ = flips(0)
    one, two = (permutation_null(paired_t, before, after, n_resamples=50, seed=seed) for _ in "ab")
    assert one.equals(two)
    other = permutation_null(paired_t, before, after, n_resamples=50, seed=seed + 2)
    assert not one["null"].equals(other["null"])
