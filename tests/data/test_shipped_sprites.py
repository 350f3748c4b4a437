"""What is shipped for sprites keeps its promises, on few figures; the benchmark takes more."""

import numpy as np
import pytest
import torch

import cfxnb as cfx

PAIRS = cfx.data.SPRITE_CONTRASTS


@pytest.fixture(scope="module")
def space():
    return cfx.load("sprites/vae", "cpu")


@pytest.fixture(scope="module")
def judge():
    return cfx.load("sprites/judge", "cpu")


@pytest.fixture(scope="module")
def asked():
    return cfx.data.sprites("pairs", 150, split="test", seed=23)


def test_figures_survive_the_space(space, judge):
    figures = cfx.data.sprites(n_samples=200, split="test", seed=23)
    with torch.no_grad():
        rebuilt = space.decode(space.encode(figures.images))
    right = (judge.read(rebuilt) == figures.factors).mean()
    assert right.min() > 0.95
    assert right.mean() > 0.97


def test_samples_of_the_prior_are_figures(space, judge):
    """Each is nearer to the figure it is read as than to that of its neighbour."""
    drawn = space.decode(space.sample(100))
    twins = cfx.data.render_sprites(judge.read(drawn))
    own = (drawn - twins).square().mean((1, 2, 3))
    other = (drawn - twins.roll(1, 0)).square().mean((1, 2, 3))
    assert (own < other).double().mean() > 0.95
    assert own.mean() < other.mean() / 5


@pytest.mark.parametrize("name", ["shortcut", "majority", "conjunction", "unknown"])
def test_scores_by_shipped_edits_are_the_truth(space, judge, asked, name):
    f = cfx.load(f"sprites/{name}", "cpu")
    edits = cfx.load("sprites/edits_preserve", "cpu")
    found = cfx.contrastive_scores(space, f, asked.images, asked.factors, edits=edits, judge=judge)
    causes = cfx.data.SPRITE_CLASSIFIERS[name].causes
    assert set(found.ranking[: len(causes)]) == set(causes)
    wrong = cfx.metrics.score_errors(found, cfx.metrics.true_scores(asked, f, PAIRS))
    assert wrong["error"].groupby(level="kind").mean().max() < 0.05
    assert wrong["covered"].mean() >= 0.9
    assert found.table["took effect"].min() > 0.9
    assert np.nanmax(found.leakage) < 0.1


def test_edits_that_do_not_care_change_bystanders(space, judge, asked):
    f = cfx.load("sprites/honest", "cpu")
    leaks = {
        others: np.nanmean(
            cfx.contrastive_scores(
                space,
                f,
                asked.images,
                asked.factors,
                edits=cfx.load("sprites/edits_" + ("preserve" if others else "free"), "cpu"),
                judge=judge,
            ).leakage
        )
        for others in (True, False)
    }
    assert leaks[True] < 0.01 < leaks[False]


def test_the_judge_is_not_fooled_by_a_pixel_attack(judge, asked):
    f = cfx.load("sprites/shortcut", "cpu")
    images = asked.images[:60]
    attacked = cfx.pixel_attack(f, images, 1 - cfx.predict_logits(f, images).argmax(1))
    assert attacked.flipped.double().mean() > 0.9
    kinds = cfx.metrics.classify_flips(attacked, judge, causes=["top"], named_factor="hair")
    assert (kinds["kind"] == "adversarial").mean() > 0.9
