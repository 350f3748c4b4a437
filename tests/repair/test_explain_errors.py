"""Errors explained in a world whose ideal denoiser is known, and so are the errors."""

import math

import pandas as pd
import pytest
import torch
from gaussians import GAP, SHAPE, Bayes, GaussianSpace

import cfxnb as cfx

QUICK = {"steps": 6, "max_attempts": 1}
DRIVEN = {
    "distance_scale": 0.0,
    "pause_when_reached": False,
}  # a pause would let noise do what it can
LAST = SHAPE[2] - 1  # the column that a cheat looks at; no class shows there


def cheated(classes=2, count=40, cheat=150.0):
    """A classifier that is misled by a column of pure noise, and images with true classes."""
    space = GaussianSpace(classes)
    labels = torch.arange(count) % classes
    f = cfx.wrap(Bayes(space, cheat), class_names=["ape", "bee", "cat"][:classes])
    return space, f, space.sample(labels), labels


@pytest.fixture(scope="module")
def world():
    return cheated()


@pytest.fixture(scope="module")
def explained(world):
    return cfx.explain_errors(*world, guidance="classifier", **DRIVEN, **QUICK)


def wrong_of(world):
    _, f, images, labels = world
    return [i for i, y in enumerate(labels.tolist()) if int(f(images[i : i + 1]).argmax()) != y]


def test_errors_are_run_towards_their_true_class(world, explained):
    space, f, images, labels = world
    wrong = wrong_of(world)
    assert 5 < len(wrong) < 35
    assert explained.rows.tolist() == wrong
    by_hand = cfx.diffusion_counterfactual(
        space, f, images[wrong], labels[wrong], guidance="classifier", seed=0, **DRIVEN, **QUICK
    )
    assert torch.equal(explained.counterfactuals.image, by_hand.image)
    assert torch.equal(explained.counterfactuals.original, images[wrong])
    assert torch.equal(explained.counterfactuals.target, labels[wrong])


def counted(world, found):
    """The table once more, one image at a time."""
    _, f, images, labels = world
    names, out = f.class_names, {}
    rows = found.rows.tolist()
    for i, y in enumerate(labels.tolist()):
        said = int(f(images[i : i + 1]).argmax())
        if said != y:
            row = out.setdefault(f"{names[y]} seen as {names[said]}", [0, 0, 0, 0])
            row[0] = int((labels == y).sum())
            row[1] += 1
            if i in rows:
                row[2] += 1
                row[3] += bool(found.counterfactuals.flipped[rows.index(i)])
    return out


@pytest.mark.parametrize("max_images", [1, 4, 100])
def test_the_table_counts_kinds_of_errors(max_images):
    world = cheated(3, 60, 100.0)
    found = cfx.explain_errors(*world, max_images=max_images, seed=3, conditions=[0, 1, 2], **QUICK)
    naive = counted(world, found)
    assert len(naive) > 2
    assert set(found.table.index) == set(naive)
    for kind, (images, errors, tried, flipped) in naive.items():
        row = found.table.loc[kind]
        assert (row["images"], row["errors"], row["explained"]) == (images, errors, tried)
        share = flipped / tried if tried else math.nan
        assert row["flipped"] == pytest.approx(share, nan_ok=True)
    assert found.table["errors"].is_monotonic_decreasing
    assert len(found.rows) == min(max_images, len(wrong_of(world)))
    assert "seen as" in found._repr_html_()


def test_some_errors_are_a_random_choice_of_all(world):
    choices = [
        cfx.explain_errors(*world, max_images=3, seed=seed, steps=2, max_attempts=1).rows.tolist()
        for seed in range(4)
    ]
    wrong = wrong_of(world)
    for rows in choices:
        assert len(rows) == 3
        assert rows == sorted(rows)
        assert set(rows) <= set(wrong)
    assert len(set(map(tuple, choices))) > 1
    assert any(rows != wrong[:3] for rows in choices)


def test_maps_are_the_mean_change_of_what_flipped():
    world = cheated(2, 40)
    found = cfx.explain_errors(*world, strength=0.2, steps=3, max_attempts=1)
    flipped, cf = found.counterfactuals.flipped, found.counterfactuals
    assert flipped.any()
    assert not flipped.all()
    names = world[1].class_names
    for kind, heat in found.change_maps.items():
        mine = [
            (cf.image[j] - cf.reconstruction[j]).abs().mean(0)
            for j, y in enumerate(cf.target.tolist())
            if flipped[j] and kind.startswith(names[y])
        ]
        assert heat.shape == SHAPE[1:]
        torch.testing.assert_close(heat, torch.stack(mine).mean(0))


def test_maps_point_at_what_misled_the_classifier(world, explained):
    """Left to itself, the slope goes where the cheat looks; consensus can't see that column."""
    agreed = cfx.explain_errors(*world, **DRIVEN, **QUICK)
    free = cfx.explain_errors(*world, guidance="none", **QUICK)
    last = {}
    for name, found in {"slope": explained, "consensus": agreed, "none": free}.items():
        cf = found.counterfactuals
        last[name] = (
            (cf.code_after.z - free.counterfactuals.code_after.z)[..., LAST].abs().mean().item()
        )
    assert last["slope"] > 0.02
    assert last["consensus"] < 1e-3
    cf = explained.counterfactuals
    towards = (cf.code_after.z - cf.code_before.z)[..., LAST].mean((1, 2))[cf.flipped]
    up = cf.target[cf.flipped] == 1  # the cheat says 1 where this column is bright
    assert (towards[up] > 0).all()
    assert (towards[~up] < 0).all()
    moved = (agreed.counterfactuals.code_after.z - free.counterfactuals.code_after.z).abs()
    assert moved[..., :GAP].mean() > 20 * moved[..., LAST].mean()


def test_what_changed_is_named_by_descriptors(world):
    space = world[0]
    many = space.sample(torch.arange(400) % 2, seed=7)
    last = many[..., LAST].mean((1, 2))
    quiet = many[..., LAST - 1].mean((1, 2))  # neither the class nor the cheat is there
    factors = pd.DataFrame({"last column": last.numpy(), "beside it": quiet.numpy()})
    found = cfx.explain_errors(
        *world, guidance="classifier",
        descriptors=cfx.fit_descriptors(space, many, factors), **DRIVEN, **QUICK,
    )  # fmt: skip
    feature_attribution = found.feature_attribution
    assert set(feature_attribution.local.index) == set(
        found.counterfactuals.flipped.nonzero()[:, 0].tolist()
    )
    means = feature_attribution.global_["mean"].unstack()
    assert (means["last column"][means.index == "0 to 1"] > 0.5).all()
    assert (means["last column"][means.index == "1 to 0"] < -0.5).all()
    assert (means["last column"].abs() > 2 * means["beside it"].abs()).all()


def test_nothing_is_named_where_nothing_flips(world):
    space = world[0]
    factors = pd.DataFrame({"class": (torch.arange(200) % 2).numpy()})
    fitted = cfx.fit_descriptors(space, space.sample(torch.arange(200) % 2, seed=7), factors)
    found = cfx.explain_errors(
        *world, descriptors=fitted, classifier_scale=0.0, strength=0.01, steps=1, max_attempts=1
    )
    assert not found.counterfactuals.flipped.any()
    assert found.feature_attribution is None
    assert found.change_maps == {}
    assert (found.table["flipped"] == 0).all()


def test_classes_without_names_are_numbered(world):
    space, f, images, labels = world
    found = cfx.explain_errors(space, cfx.wrap(f.module), images, labels, steps=2, max_attempts=1)
    assert set(found.table.index) == {"0 seen as 1", "1 seen as 0"}
