"""The planted classifiers do what their descriptions say, and their cards tell the true scores."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import cfxnb as cfx
from cfxnb.data import SPRITE_CLASSIFIERS, SPRITE_CONTRASTS
from cfxnb.metrics import score_errors, true_scores
from cfxnb.weights import cards

TRUE = "true scores on 2,000 held-out figures of 'pairs', by re-rendering"


@pytest.fixture(scope="module")
def figures():
    return cfx.data.sprites("pairs", 200, split="test", seed=31)


class Bright(nn.Module):
    """Class 1 for a figure neither bright nor dark: a bit of every factor, and not monotone."""

    def forward(self, images):
        light = images[:, :, :40].mean((1, 2, 3))
        return torch.stack([(light - 0.575).abs(), torch.full_like(light, 0.035)], 1)


def by_hand(figures, f, name, pair, outcome):
    """A loop over figures; each twin is drawn anew, and asked for alone."""
    baseline, value = pair
    rows = []
    for i in range(len(figures)):
        had = figures.factors[name].iloc[i]
        if had not in pair:
            continue
        o = {}
        for option in pair:
            twin = cfx.data.render_sprites(figures.factors.iloc[[i]].assign(**{name: option}))
            o[option] = int(f(twin).argmax()) == outcome
        rows.append((had, o[value], o[baseline]))
    has = np.array([r[0] == value for r in rows])
    up, down = (np.array([r[k] for r in rows]) for k in (1, 2))
    if down.sum() > up.sum():
        value, has, up, down = baseline, ~has, down, up

    def share(hit, among):
        return (hit[among].mean() if among.any() else math.nan), among.sum()

    everyone = np.ones_like(has)
    return value, {
        "necessity": share(~down, has & up),
        "sufficiency": share(up, ~has & ~down),
        "pns": share(up & ~down, everyone),
        "monotonicity_violation": share(~up & down, everyone),
    }


@pytest.mark.parametrize("outcome", [0, 1])
def test_true_scores_are_those_of_a_plain_loop(figures, outcome):
    f = cfx.wrap(Bright())
    some = figures[:60]
    found = true_scores(some, f, SPRITE_CONTRASTS, outcome)
    for name, pair in SPRITE_CONTRASTS.items():
        value, expected = by_hand(some, f, name, pair, outcome)
        assert found.table.loc[name, "value"] == value, name
        for score, (share, n) in expected.items():
            assert found.table.loc[name, score] == pytest.approx(share, nan_ok=True), (name, score)
            assert found.table.loc[name, f"{score} n"] == n
    assert 0 < found.pns["top"] < 1
    assert 0 < found.monotonicity_violation.max() < 1
    assert found.reconstruction_agreement == 1


def test_a_context_keeps_the_rows_of_the_whole(figures):
    f = cfx.wrap(Bright())
    inside = figures.factors["hair"] == "red"
    found = true_scores(figures, f, SPRITE_CONTRASTS, context=inside)
    alone = true_scores(figures[inside.to_numpy()], f, SPRITE_CONTRASTS)
    assert found.table.equals(alone.table)
    assert set(found.units["row"]) == set(np.flatnonzero(inside))
    whole = true_scores(figures, f, SPRITE_CONTRASTS).units
    both = found.units.merge(whole, on=["row", "factor"])
    assert (both["after_x"] == both["after_y"]).all()
    assert len(both) == len(found.units)


def test_own_interventions_change_nothing(figures):
    """Of a factor that isn't seen at all, every score is 0 or cannot be asked."""
    flat = cfx.wrap(nn.Sequential(nn.Flatten(), Constant()))
    table = true_scores(figures[:20], flat, SPRITE_CONTRASTS).table
    assert (table["pns"] == 0).all()
    assert (table["monotonicity_violation"] == 0).all()
    assert table["sufficiency"].isna().all()


class Constant(nn.Module):
    def forward(self, pixels):
        return pixels.new_tensor([0.0, 2.0]).expand(len(pixels), 2)


@pytest.mark.parametrize("name", SPRITE_CLASSIFIERS)
def test_the_rule_holds_on_held_out_figures(figures, name):
    """On new combinations of factors, and on figures in which each factor was set."""
    f, rule = cfx.load(f"sprites/{name}", device="cpu"), SPRITE_CLASSIFIERS[name].label
    assert f.class_names == ("gray", "red")
    sets = [
        figures,
        *(cfx.data.intervene(figures, **{c: SPRITE_CONTRASTS[c][1]}) for c in ("hair", "top")),
    ]
    for each in sets:
        said = cfx.predict_logits(f, each.images).argmax(1).numpy() == 1
        assert (said == rule(each.factors).to_numpy(bool)).mean() > 0.99


@pytest.mark.parametrize("name", SPRITE_CLASSIFIERS)
def test_the_causes_are_those_of_the_rule(name):
    """A factor is a cause if and only if setting it can change the label."""
    factors = cfx.data.SPRITE_WORLDS["pairs"].sample(500)
    label = SPRITE_CLASSIFIERS[name].label
    for factor, pair in SPRITE_CONTRASTS.items():
        up, down = (label(factors.assign(**{factor: option})) for option in pair)
        assert bool((up != down).any()) == (factor in SPRITE_CLASSIFIERS[name].causes), factor


def test_one_secret_is_kept():
    every = cards()
    for name in SPRITE_CLASSIFIERS:
        card = every[f"sprites/{name}"]
        assert ("causes" in card) == (name != "unknown")
        if name != "unknown":
            assert tuple(card["causes"]) == SPRITE_CLASSIFIERS[name].causes
    told = str(every["sprites/unknown"])
    assert not any(word in told for word in ("shoes", "top", "necessity"))


def test_a_card_tells_the_true_scores():
    """Both outcomes of the vote of three, recomputed from the same figures."""
    card = cards()["sprites/majority"][TRUE]
    f = cfx.load("sprites/majority", device="cpu")
    figures = cfx.data.sprites("pairs", 2000, split="test", seed=11)
    for outcome, named in enumerate(("gray", "red")):
        table = true_scores(figures, f, {"hair": SPRITE_CONTRASTS["hair"]}, outcome).table
        told, row = card[named]["hair"], table.loc["hair"]
        for score in ("necessity", "sufficiency", "pns"):
            assert told[score] == pytest.approx(row[score], abs=0.005), (named, score)
            assert told[f"{score} n"] == pytest.approx(row[f"{score} n"], abs=5)
        assert (told["value"], told["baseline"]) == (row["value"], row["baseline"])
    # Against the rule itself, without any network: a vote counts if the two others differ.
    factors = figures.factors
    others = (factors["top"] == "metal").astype(int) + (factors["shoes"] == "metal")
    red = factors["hair"] == "red"
    assert card["red"]["hair"]["pns"] == pytest.approx((others == 1).mean(), abs=0.005)
    needed = (others[red & (others >= 1)] == 1).mean()
    assert card["red"]["hair"]["necessity"] == pytest.approx(needed, abs=0.005)


def test_the_truth_against_itself_has_no_error(figures):
    f = cfx.load("sprites/conjunction", device="cpu")
    truth = true_scores(figures, f, SPRITE_CONTRASTS)
    turned = {name: pair[::-1] for name, pair in SPRITE_CONTRASTS.items()}
    same = score_errors(truth, true_scores(figures, f, turned))
    assert (same["error"] == 0).all()
    assert same["covered"].all()
    assert {"hair", "top"} == set(truth.ranking[:2])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"figures": torch.zeros(2, 3, 56, 32)}, "figures: expected an ImageSet.*got Tensor"),
        ({"classifier": None}, "classifier: .*got NoneType"),
        ({"contrasts": ["hair"]}, "contrasts: .*got list"),
        ({"contrasts": {}}, "contrasts: .*got none"),
        ({"contrasts": {"age": ("old", "young")}}, "contrasts: .*got 'age'"),
        ({"contrasts": {"hair": "red"}}, r"contrasts\['hair'\]: .*got str 'red'"),
        ({"contrasts": {"hair": ("red", "red")}}, r"contrasts\['hair'\]: .*got tuple"),
        ({"contrasts": {"hair": ("red", "bald")}}, r"contrasts\['hair'\]: .*got tuple.*bald"),
        ({"contrasts": {"hair": ("red", "gray", "pink")}}, r"contrasts\['hair'\]: .*pink"),
        ({"outcome": 2}, "outcome: .*got 2"),
        ({"outcome": -1}, "outcome: .*got -1"),
        ({"outcome": torch.ones(10)}, "outcome: .*got Tensor"),
        ({"outcome": "red"}, "outcome: .*got str 'red'"),
        ({"context": [True]}, r"context: expected 10 bools.*shape \(1,\)"),
        ({"context": np.ones(10)}, "context: expected 10 bools.*float64"),
        ({"context": [False] * 10}, "context: expected at least one image, got none"),
        ({"confidence_level": 1.0}, "confidence_level: .*got 1.0"),
    ],
)
def test_wrong_questions_are_named(figures, change, named):
    good = {
        "figures": figures[:10],
        "classifier": cfx.wrap(Bright()),
        "contrasts": SPRITE_CONTRASTS,
    }
    with pytest.raises((ValueError, TypeError), match=named) as caught:
        true_scores(**good | change)
    assert "expected" in str(caught.value)


def test_other_images_are_refused():
    other = cfx.data.ImageSet(
        torch.rand(4, 1, 8, 8), torch.zeros(4).long(), ("a",), pd.DataFrame({"hair": ["red"] * 4})
    )
    with pytest.raises(ValueError, match="figures: expected a set made by sprites"):
        true_scores(other, lambda x: torch.zeros(len(x), 2), {"hair": ("gray", "red")})


def test_random_rules_name_their_causes():
    """A cause changes the label of some figure, another factor of none; seeds differ."""
    seen = set()
    for seed in range(30):
        rule = cfx.data.random_planted_classifier(seed)
        drawn = cfx.data.sprites(rule.world, 300, split="train", seed=1).factors
        before = rule.label(drawn)
        assert 0.1 < before.mean() < 0.9
        for name, pair in SPRITE_CONTRASTS.items():
            swapped = drawn.assign(
                **{name: drawn[name].map(dict(zip(pair, pair[::-1], strict=True)))}
            )
            assert (rule.label(swapped) != before).any() == (name in rule.causes)
        seen.add(rule.description)
        assert cfx.data.random_planted_classifier(seed).description == rule.description
    assert len(seen) > 20
    assert len({len(cfx.data.random_planted_classifier(s).causes) for s in range(30)}) == 3
    assert any("hidden" in text for text in seen)
    with pytest.raises(ValueError, match="seed"):
        cfx.data.random_planted_classifier(-1)
