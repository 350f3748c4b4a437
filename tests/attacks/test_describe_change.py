"""Attribution of changes that are known."""

import numpy as np
import pandas as pd
import pytest
import torch
from made import counterfactuals, descriptors
from worlds import LinearSpace, code_classifier

import cfxnb as cfx
from cfxnb.attacks.describe_change import correlated_groups

SPREAD = torch.tensor([1.0, 0.5, 2.0, 0.8])
WEIGHTS = torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 1.0, -1.0, 0.0]])


@pytest.fixture
def space():
    return LinearSpace(std=SPREAD, scale=0.02)


@pytest.fixture
def always():
    """A classifier that sees class 1 everywhere: every change counts as flipped."""

    class One(torch.nn.Module):
        def forward(self, x):
            return torch.tensor([0.0, 9.0]).expand(len(x), 2)

    return cfx.wrap(One())


def codes(seed, n=12):
    return SPREAD * torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))


def test_local_scores_are_the_formula(space, always):
    a, b = codes(0), codes(1)
    cf = counterfactuals(space, always, a, b, 1)
    local = cfx.describe_change(cf, descriptors(WEIGHTS, std=SPREAD), n_resamples=20).local
    expected = ((b - a) / SPREAD) @ WEIGHTS.T
    np.testing.assert_allclose(local.to_numpy(), expected.numpy(), atol=1e-4)
    assert list(local.columns) == ["a", "b"]


def test_scores_add_up_along_a_path(space, always):
    """The published difference of probabilities does not have this."""
    a, b, c = codes(0), codes(1), codes(2)
    d = descriptors(WEIGHTS, std=SPREAD, bias=[0.7, -1.0])
    one, two, both = (
        cfx.describe_change(counterfactuals(space, always, p, q, 1), d, n_resamples=20)
        for p, q in ((a, b), (b, c), (a, c))
    )
    np.testing.assert_allclose(one.local + two.local, both.local, atol=1e-4)
    np.testing.assert_allclose(
        one.global_["mean"] + two.global_["mean"], both.global_["mean"], atol=1e-4
    )
    p = [d.log_odds(z).sigmoid() for z in (a, b, c)]
    assert ((p[1] - p[0]) - (d.log_odds(b) - d.log_odds(a)).sigmoid()).abs().max() > 0.1


def test_unexplained_share(space, always):
    """0 for a change inside the span of the weights, 1 for one across it, else in between."""
    a = codes(0, 3)
    inside = (torch.tensor([[1.0, -0.5], [0.3, 2.0], [1.0, 1.0]]) @ WEIGHTS) * SPREAD
    across = torch.linalg.svd(WEIGHTS).Vh[2:] * SPREAD
    d = descriptors(WEIGHTS, std=SPREAD)

    def share(change):
        cf = counterfactuals(space, always, a, a + change, 1)
        return cfx.describe_change(cf, d, n_resamples=5).unexplained.to_numpy()

    np.testing.assert_allclose(share(inside), 0, atol=1e-4)
    np.testing.assert_allclose(share(across[[0, 1, 0]]), 1, atol=1e-4)
    # A unit step inside and one across, both in units of the spread: half each.
    unit = WEIGHTS[0] / WEIGHTS[0].norm() * SPREAD
    np.testing.assert_allclose(share((unit + across[0]).expand(3, 4)), 0.5, atol=1e-4)


def test_unreadable_descriptors_explain_nothing(space, always):
    a = codes(0, 3)
    d = descriptors(WEIGHTS, std=SPREAD, readable=[False, True])
    change = torch.tensor([[2.0, 0.0, 0.0, 0.0]]) * SPREAD
    told = cfx.describe_change(counterfactuals(space, always, a, a + change, 1), d, n_resamples=5)
    assert told.unreadable == ("a",)
    assert list(told.local.columns) == ["b"]
    np.testing.assert_allclose(told.unexplained, 1, atol=1e-4)


def test_only_flipped_rows_and_each_flip_by_itself(space):
    f = code_classifier(space, torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    up, down = torch.tensor([3.0, 0, 0, 0]), torch.tensor([-3.0, 0, 0, 0])
    start = torch.tensor([[-1.0, 0, 0, 0], [1.0, 0, 0, 0], [-1.0, 0, 0, 0], [-5.0, 0, 0, 0]])
    end = start + torch.stack([up, down, up, up])
    cf = counterfactuals(space, f, start, end, torch.tensor([1, 0, 1, 1]))
    told = cfx.describe_change(cf, descriptors(WEIGHTS, std=SPREAD), n_resamples=50)
    assert list(told.local.index) == [0, 1, 2]  # row 3 did not flip
    assert told.transition.to_dict() == {0: "0 to 1", 1: "1 to 0", 2: "0 to 1"}
    table = told.global_
    assert table.loc[("0 to 1", "a"), "mean"] == pytest.approx(3)
    assert table.loc[("1 to 0", "a"), "mean"] == pytest.approx(-3)
    assert table.loc[("0 to 1", "a"), "n"] == 2
    assert np.isnan(table.loc[("1 to 0", "a"), "low"])  # one image has no interval


def test_bootstrap_interval_covers_what_theory_says(space, always):
    """Changes ~ N(1, 1): the interval of the mean of 200 is about 1 +- 1.96 / sqrt(200)."""
    rng = torch.Generator().manual_seed(0)
    size = torch.randn(200, 1, generator=rng)
    size = 1 + (size - size.mean()) / size.std()
    change = size * torch.tensor([1.0, 0, 0, 0])
    a = codes(3, 200)
    d = descriptors(WEIGHTS[:1], std=SPREAD)
    row = cfx.describe_change(counterfactuals(space, always, a, a + change, 1), d).global_.iloc[0]
    assert row["mean"] == pytest.approx(1, abs=1e-4)
    assert row["high"] - 1 == pytest.approx(1.96 / 200**0.5, rel=0.15)
    assert 1 - row["low"] == pytest.approx(1.96 / 200**0.5, rel=0.15)


def naive_groups(matrix, min_correlation):
    """Connected components, by spreading labels until nothing changes."""
    label = list(range(len(matrix)))
    for _ in label:
        for i in range(len(label)):
            for j in range(len(label)):
                if abs(matrix[i][j]) >= min_correlation:
                    label[i] = label[j] = min(label[i], label[j])
    return {frozenset(i for i, own in enumerate(label) if own == g) for g in label}


@pytest.mark.parametrize("seed", range(8))
def test_groups_are_connected_components(seed):
    rng = np.random.default_rng(seed)
    half = np.triu(rng.uniform(-1, 1, (7, 7)), 1)
    matrix = half + half.T + np.eye(7)
    names = list("abcdefg")
    groups = correlated_groups(pd.DataFrame(matrix, names, names), 0.8)
    ours = {frozenset(names.index(n) for n in g) for g in groups}
    assert ours == naive_groups(matrix.tolist(), 0.8)
    assert sorted(n for g in groups for n in g) == names


def test_a_chain_is_one_group():
    names = list("abc")
    matrix = np.array([[1, 0.1, -0.9], [0.1, 1, 0.9], [-0.9, 0.9, 1]])
    assert set(correlated_groups(pd.DataFrame(matrix, names, names), 0.7)[0]) == set(names)
