"""Ablation through a classifier whose reasons are known."""

import pytest
import torch
from made import counterfactuals, descriptors
from worlds import LinearSpace, code_classifier

import cfxnb as cfx

SPREAD = torch.tensor([1.0, 0.5, 2.0, 0.8])
CARES = torch.tensor([[2.0, -1.0, 0.5, 1.0]])  # on codes in units of the spread
IGNORED = torch.tensor([[1.0, 2.0, 0.0, 0.0]])  # orthogonal to it


@pytest.fixture
def case():
    """Changes with a part that the classifier sees and a larger one that it does not."""
    space = LinearSpace(std=SPREAD, scale=0.02)
    f = code_classifier(space, CARES / SPREAD)
    g = torch.Generator().manual_seed(0)
    u = torch.randn(40, 4, generator=g)
    u = u - (u @ CARES.T + 2) * CARES / CARES.square().sum()  # odds of -2 for all
    move = 4 * CARES / CARES.square().sum() + 2 * IGNORED * torch.randn(40, 1, generator=g)
    cf = counterfactuals(space, f, SPREAD * u, SPREAD * (u + move), 1)
    return space, f, cf


def test_the_reason_is_necessary_and_sufficient(case):
    space, f, cf = case
    assert cf.flipped.all()
    d = descriptors(torch.cat([CARES, IGNORED]), std=SPREAD)
    table = cfx.ablate(space, f, cf, d, (("a",), ("b",)))
    assert table.loc["a", "flips without"] == 0
    assert table.loc["a", "flips alone"] == 1
    assert table.loc["b", "flips without"] == 1
    assert table.loc["b", "flips alone"] == 0
    assert table.loc["a", "log odds alone"] == pytest.approx(4, abs=1e-3)
    assert table.loc["a", "log odds without"] == pytest.approx(0, abs=1e-3)
    assert table.loc["b", "log odds without"] == pytest.approx(4, abs=1e-3)


def test_large_and_irrelevant_is_told_from_small_and_decisive(case):
    """The share of the change says nothing about what the classifier looks at."""
    space, f, cf = case
    d = descriptors(torch.cat([CARES, IGNORED]), std=SPREAD)
    share = cfx.ablate(space, f, cf, d, (("a",), ("b",)))["fraction"]
    u = (cf.code_after.z - cf.code_before.z) / SPREAD
    along = (u @ IGNORED.T).square() / IGNORED.square().sum() / u.square().sum(1, keepdim=True)
    assert share["b"] == pytest.approx(along.mean().item(), abs=1e-4)
    assert share["a"] + share["b"] == pytest.approx(1, abs=1e-4)  # they are orthogonal
    assert share["all descriptors"] == pytest.approx(1, abs=1e-4)
    assert share["not described"] == pytest.approx(0, abs=1e-4)


def test_a_reason_that_nobody_described_is_in_the_rest(case):
    space, f, cf = case
    table = cfx.ablate(space, f, cf, descriptors(IGNORED, std=SPREAD), (("a",),))
    assert table.loc["not described", "flips alone"] == 1
    assert table.loc["not described", "flips without"] == 0
    assert table.loc["all descriptors", "flips alone"] == 0
    assert table.loc["all descriptors", "fraction"] + table.loc[
        "not described", "fraction"
    ] == pytest.approx(1)


def test_groups_are_spans_not_sums(case):
    """Two slanted descriptors span the plane of both directions; none of them alone does."""
    space, f, cf = case
    slanted = torch.cat([CARES + IGNORED, CARES - IGNORED])
    d = descriptors(slanted, std=SPREAD)
    table = cfx.ablate(space, f, cf, d, (("a", "b"),))
    assert table.loc["a + b", "fraction"] == pytest.approx(1, abs=1e-4)
    assert table.loc["a + b", "flips alone"] == 1
    assert table.loc["a + b", "flips without"] == 0


def test_chance_level_is_one_dimension_in_four():
    space = LinearSpace(std=SPREAD, scale=0.02)
    f = code_classifier(space, CARES / SPREAD)
    g = torch.Generator().manual_seed(0)
    u = torch.randn(300, 4, generator=g)
    cf = counterfactuals(space, f, torch.zeros(300, 4), SPREAD * u, 1)
    d = descriptors(CARES, std=SPREAD)
    shares = [
        cfx.ablate(space, f, cf, d, (("a",),), seed=s).loc["random direction", "fraction"]
        for s in range(3)
    ]
    assert shares == pytest.approx([0.25] * 3, abs=0.05)
    assert len(set(shares)) == 3


def test_describe_change_runs_it_with_its_own_groups(case):
    space, f, cf = case
    correlation = [[1.0, 0.9], [0.9, 1.0]]
    d = descriptors(torch.cat([CARES, IGNORED]), std=SPREAD, correlation=correlation)
    told = cfx.describe_change(cf, d, space=space, classifier=f, n_resamples=5)
    assert told.groups == (("a", "b"),)
    assert told.ablation.loc["a + b", "flips without"] == 0
    assert cfx.describe_change(cf, d, n_resamples=5).ablation is None
