"""Flip rate, MNAC and CD against the official values."""

import pytest
import torch
from stored import SmallNet, stored

import cfxnb as cfx
from cfxnb.metrics import correlation_difference, flip_rate, mnac

T, FACTS = stored("metrics_attributes")
BEFORE, AFTER = T["oracle_decision_original"], T["oracle_decision_counterfactual"]
QUERY = FACTS["query_attribute"]


def test_decisions_are_those_of_the_wrapped_oracle():
    class Oracle(torch.nn.Module):
        net = SmallNet(T, "oracle")

        def forward(self, x):
            return self.net(x)

    f = cfx.wrap(Oracle(), mean=0.5, std=0.5)
    both = [f(T[f"{kind}_uint8"] / 255) for kind in ("image", "counterfactual")]
    assert torch.equal(both[0] > 0, T.wanted("oracle_decision_original"))
    assert torch.equal(both[1] > 0, T.wanted("oracle_decision_counterfactual"))
    nearest = torch.cat(both).abs().min().item()
    assert nearest == pytest.approx(FACTS["smallest_abs_oracle_logit"], abs=1e-5)
    # The decision that was asked to change is one of them.
    asked = [b[:, QUERY] > 0 for b in both]
    assert torch.equal(asked[0], T.wanted("prediction_original"))
    assert torch.equal(asked[1], T.wanted("prediction_counterfactual"))
    assert torch.equal(asked[0] != asked[1], T.wanted("flipped"))
    assert torch.equal(asked[0] == T["label"], T.wanted("correct"))


def test_flip_rate():
    before, after = T["prediction_original"], T["prediction_counterfactual"]
    assert flip_rate(before, after) == pytest.approx(FACTS["flip_rate_all"], abs=1e-12)
    ours = flip_rate(before, after, T["correct"])
    assert ours == pytest.approx(FACTS["flip_rate_correct"], abs=1e-12)


def test_mean_changed():
    flipped = T["flipped"]
    ours = mnac(BEFORE[flipped], AFTER[flipped])
    assert ours == pytest.approx(FACTS["mnac_mean"], abs=1e-12)
    each = [mnac(b[None], a[None]) for b, a in zip(BEFORE, AFTER, strict=True)]
    alone = torch.tensor(each, dtype=torch.float64)[flipped]
    assert torch.equal(alone, T.wanted("mnac_per_flipped_image").double())
    std = alone.std(correction=0).item()
    assert std == pytest.approx(FACTS["mnac_std_population"], abs=1e-12)


def test_normalising_twice_is_what_the_official_number_comes_from():
    """For CelebA-HQ; here the oracle sees what it was made for."""
    seen = [((T[f"{kind}_uint8"] / 255 - 0.5) / 0.5) for kind in ("image", "counterfactual")]
    oracle = SmallNet(T, "oracle")
    twice = [oracle((x - 0.5) / 0.5)[T["flipped"]] > 0 for x in seen]
    official = FACTS["mnac_mean_double_normalised_official_hq"]
    assert mnac(*twice) == pytest.approx(official, abs=1e-12)
    assert abs(official - FACTS["mnac_mean"]) > 1


def test_correlation_difference():
    labels = T["train_labels"][T["train_partition"] == 0] > 0
    flipped = T["flipped"]
    cd, seen = correlation_difference(BEFORE[flipped], AFTER[flipped], labels, QUERY)
    assert cd == pytest.approx(FACTS["cd"], abs=1e-9)
    torch.testing.assert_close(seen, T.wanted("corr_counterfactual"), rtol=0, atol=1e-9)
    # What changes as labels occur together correlates as these do.
    zero, wanted = correlation_difference(torch.zeros_like(labels), labels, labels, QUERY)
    assert zero == 0
    torch.testing.assert_close(wanted, T.wanted("corr_train"), rtol=0, atol=1e-9)


def test_an_attribute_that_never_changes_correlates_with_nothing():
    before = torch.zeros(4, 2, dtype=torch.bool)
    after = torch.tensor([[1, 0], [0, 0], [1, 0], [0, 0]], dtype=torch.bool)
    labels = torch.tensor([[1, 1], [0, 0], [1, 1], [0, 0]], dtype=torch.bool)
    cd, seen = correlation_difference(before, after, labels, 0)
    assert seen.tolist() == pytest.approx([1, 0])
    assert cd == pytest.approx(1)
