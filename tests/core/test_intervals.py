"""Wilson's interval by hand, against scipy, and in a simulation; the bootstrap in closed form."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from cfxnb.core.intervals import bootstrap_interval, wilson_interval

Z = 1.959963984540054


def test_by_hand():
    # 5 of 10: center (0.5 + z^2/20) / (1 + z^2/10) = 0.5, z^2 = 3.841459;
    # half z sqrt(0.25/10 + z^2/400) / (1 + z^2/10) = 1.959964 * 0.186023 / 1.384146 = 0.263408.
    assert wilson_interval(5, 10) == pytest.approx((0.236593, 0.763407), abs=1e-5)
    # 0 of n: from 0 to z^2 / (n + z^2); n of n is its mirror image.
    assert wilson_interval(0, 10) == (0, pytest.approx(Z**2 / (10 + Z**2), abs=1e-12))
    assert wilson_interval(10, 10) == (pytest.approx(10 / (10 + Z**2), abs=1e-12), 1)


def test_of_nobody():
    assert all(math.isnan(end) for end in wilson_interval(0, 0))
    low, high = wilson_interval([0, 1], [0, 2])
    assert np.isnan([low[0], high[0]]).all()
    assert 0 < low[1] < 0.5 < high[1] < 1


@pytest.mark.parametrize("confidence_level", [0.5, 0.8, 0.95, 0.999])
def test_against_scipy(confidence_level):
    n = np.array([1, 2, 7, 50, 10_000])[:, None]
    k = np.minimum(np.array([0, 1, 3, 49, 5000]), n)
    low, high = wilson_interval(k, n, confidence_level)
    assert low.shape == high.shape == (5, 5)
    for i, j in np.ndindex(5, 5):
        ci = binomtest(int(k[i, j]), int(n[i, 0])).proportion_ci(confidence_level, method="wilson")
        assert (low[i, j], high[i, j]) == pytest.approx((ci.low, ci.high), abs=1e-12)


def test_shares_are_inside_and_ends_within_0_and_1():
    n = np.arange(1, 200)
    for k in (0 * n, n // 3, n):
        low, high = wilson_interval(k, n)
        assert (low >= 0).all()
        assert (high <= 1).all()
        assert ((low <= k / n) & (k / n <= high)).all()
        assert (low < high).all()


def test_broadcasts():
    low, _ = wilson_interval(3, [10, 20, 30])
    assert low.shape == (3,)
    assert low[1] == wilson_interval(3, 20)[0]
    assert isinstance(wilson_interval(3, 20)[0], float)


@pytest.mark.parametrize("p", [0.02, 0.2, 0.5, 0.9])
def test_coverage_in_a_simulation(p):
    k = np.random.default_rng(0).binomial(60, p, 20_000)
    low, high = wilson_interval(k, 60)
    covered = ((low <= p) & (p <= high)).mean()
    assert 0.93 < covered < 0.985
    # And exactly, by summing up the binomial distribution.
    k = np.arange(61)
    low, high = wilson_interval(k, 60)
    exact = binom.pmf(k, 60, p)[(low <= p) & (p <= high)].sum()
    assert covered == pytest.approx(exact, abs=0.006)


def test_bootstrap_of_constants_and_of_too_few():
    assert bootstrap_interval(np.full(20, 3.5)) == (3.5, 3.5)
    for few in (np.zeros(0), np.ones(1)):
        assert np.isnan(bootstrap_interval(few)).all()
    assert np.isnan(bootstrap_interval(np.ones(5), np.zeros(5))).all()


def test_bootstrap_agrees_with_the_normal_interval_of_a_mean():
    values = np.random.default_rng(1).normal(2.0, 3.0, 2000)
    low, high = bootstrap_interval(values, n_resamples=4000)
    half = 1.96 * values.std() / 2000**0.5
    assert low == pytest.approx(values.mean() - half, abs=0.02)
    assert high == pytest.approx(values.mean() + half, abs=0.02)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    wide = bootstrap_interval(values, confidence_level=0.99)
    assert wide[0] < low < high < wide[1]


def test_bootstrap_of_a_ratio():
    """Proportional parts have one ratio in every resample."""
    weights = np.arange(1.0, 30.0)
    assert bootstrap_interval(2 * weights, weights) == pytest.approx((2, 2))
