"""A planted linear property is recovered; one that is not in the code is given up."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from worlds import LinearSpace

import cfxnb as cfx
from cfxnb.attacks.descriptors import _auc, _calibration_error

SPREAD = torch.tensor([1.0, 0.5, 2.0, 0.8])
SLOPE = torch.tensor([1.5, -2.0, 0.5, 0.0])  # on codes in units of the spread


@pytest.fixture(scope="module")
def planted():
    space = LinearSpace(std=SPREAD, scale=0.02)
    x = space.sample(800, seed=1)
    u = space.encode(x).z / SPREAD
    rng = np.random.default_rng(0)
    odds = (u @ SLOPE).numpy()
    factors = pd.DataFrame(
        {
            "planted": (odds + rng.logistic(size=800) * 0.5 > 0.3).astype(float),
            "measured": 10 + 3 * odds + 0.1 * rng.normal(size=800),
            "unrelated": rng.integers(0, 2, 800).astype(float),
        }
    )
    factors.loc[:40, "measured"] = np.nan
    return space, x, factors, cfx.fit_descriptors(space, x, factors)


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a, b, dim=0).item()


def test_the_planted_direction_is_found(planted):
    found = planted[3]
    assert cosine(found.weights[0], SLOPE) > 0.95
    assert cosine(found.weights[1], SLOPE) > 0.95


def test_quality_tells_them_apart(planted):
    quality = planted[3].quality
    assert planted[3].readable == ("planted", "measured")
    assert quality.loc["measured", "AUC"] > 0.99
    assert 0.35 < quality.loc["unrelated", "AUC"] < 0.65
    assert (quality["low"] <= quality["AUC"]).all()
    assert (quality["AUC"] <= quality["high"]).all()


def test_quality_is_on_images_that_were_held_out(planted):
    """Thirty coordinates fit thirty coin tosses perfectly, and mean nothing for the others."""
    space = LinearSpace(dims=30, shape=(1, 6, 6))
    x = space.sample(60)
    random = pd.DataFrame({"coin": np.random.default_rng(1).integers(0, 2, 60).astype(float)})
    found = cfx.fit_descriptors(space, x, random, l2_penalty=1e-3, test_size=0.5)
    everywhere = roc_auc_score(random["coin"], found.log_odds(space.encode(x).z)[:, 0])
    assert everywhere > 0.7
    assert found.quality.loc["coin", "AUC"] < 0.7
    assert found.readable == ()


def test_measured_columns_are_split_at_the_median(planted):
    _, _, factors, found = planted
    assert found.quality.loc["measured", "threshold"] == pytest.approx(factors["measured"].median())
    assert found.quality.loc["planted", "threshold"] == 0.5


def test_readings_are_log_odds_of_the_formula(planted):
    space, x, _, found = planted
    z = space.encode(x).z[:5]
    expected = (z - found.mean) / found.std @ found.weights.T + found.bias
    torch.testing.assert_close(found.log_odds(z), expected)
    # The intercept is that of the plant: P(planted) crosses one half at odds of 0.3.
    slope = (found.weights[0] @ SLOPE) / SLOPE.square().sum()
    assert (-found.bias[0] / slope).item() == pytest.approx(0.3, abs=0.25)


def test_calibration_of_a_well_specified_reading_is_good(planted):
    assert planted[3].quality.loc["planted", "calibration error"] < 0.12


def test_auc_is_that_of_scikit_learn():
    rng = np.random.default_rng(4)
    score = rng.normal(size=300).round(1)  # with ties
    truth = rng.random(300) < 0.4
    assert _auc(truth, score) == pytest.approx(roc_auc_score(truth, score), abs=1e-12)


def test_calibration_error_is_the_weighted_mean_of_the_gaps():
    rng = np.random.default_rng(5)
    score = rng.normal(size=300)
    truth = rng.random(300) < 0.4
    p = 1 / (1 + np.exp(-score))
    gaps = []
    for b in range(10):
        inside = (p >= b / 10) & (p < (b + 1) / 10)
        if inside.any():
            gaps.append(inside.mean() * abs(p[inside].mean() - truth[inside].mean()))
    assert _calibration_error(truth, score) == pytest.approx(sum(gaps), abs=1e-12)


def test_correlation_is_that_of_the_readings(planted):
    space, x, _, found = planted
    readings = found.log_odds(space.encode(x).z).numpy()
    np.testing.assert_allclose(found.correlation, np.corrcoef(readings.T), atol=1e-4)
    assert found.correlation.loc["planted", "measured"] > 0.9


def test_the_same_seed_gives_the_same(planted):
    space, x, factors, found = planted
    again = cfx.fit_descriptors(space, x, factors)
    assert torch.equal(again.weights, found.weights)
    pd.testing.assert_frame_equal(again.quality, found.quality)
    other = cfx.fit_descriptors(space, x, factors, seed=1)
    assert not torch.equal(other.weights, found.weights)


def test_integer_columns_with_ties_are_split_nearest_to_half():
    """Few distinct values: the threshold whose upper part is nearest to half of the images."""
    from cfxnb.attacks.descriptors import _threshold

    values = np.array([0.0] * 45 + [1.0] * 40 + [2.0] * 15)
    assert (values > _threshold(values)).mean() == pytest.approx(0.55)
    values = np.array([0.0] * 10 + [1.0] * 75 + [2.0] * 15)
    assert (values > _threshold(values)).mean() == pytest.approx(0.15)
