"""Flip rate, MNAC and CD against the official values."""

import pytest
import torch
from stored import SmallNet, stored

import cfxnb as cfx
from cfxnb.metrics import correlation_difference, flip_rate, mean_changed

T, FACTS = stored("metrics_attributes")
BEFORE, AFTER = T["oracle_decision_original"], T["oracle_decision_counterfactual"]
QUERY = FACTS["query_attribute"]


def test_decisions_are_those_of_the_wrapped_oracle():
    class Oracle(torch.nn.Module):
        net = SmallNet(T, "oracle")

        def forward(self, x):
            return self.net(x)

    f = cfx.wrap(Oracle(), mean=0.5, std=0.5)
    assert torch.equal(f(T["image_uint8"] / 255) > 0, BEFORE)
    assert torch.equal(f(T["counterfactual_uint8"] / 255) > 0, AFTER)


def test_flip_rate():
    before, after = T["prediction_original"], T["prediction_counterfactual"]
    assert flip_rate(before, after) == pytest.approx(FACTS["flip_rate_all"], abs=1e-12)
    ours = flip_rate(before, after, T["correct"])
    assert ours == pytest.approx(FACTS["flip_rate_correct"], abs=1e-12)


def test_mean_changed():
    flipped = T["flipped"]
    ours = mean_changed(BEFORE[flipped], AFTER[flipped])
    assert ours == pytest.approx(FACTS["mnac_mean"], abs=1e-12)
    assert ours == pytest.approx(T["mnac_per_flipped_image"].double().mean().item(), abs=1e-12)


def test_correlation_difference():
    labels = T["train_labels"][T["train_partition"] == 0] > 0
    flipped = T["flipped"]
    cd, seen = correlation_difference(BEFORE[flipped], AFTER[flipped], labels, QUERY)
    assert cd == pytest.approx(FACTS["cd"], abs=1e-9)
    torch.testing.assert_close(seen, T["corr_counterfactual"], rtol=0, atol=1e-9)


def test_an_attribute_that_never_changes_correlates_with_nothing():
    before = torch.zeros(4, 2, dtype=torch.bool)
    after = torch.tensor([[1, 0], [0, 0], [1, 0], [0, 0]], dtype=torch.bool)
    labels = torch.tensor([[1, 1], [0, 0], [1, 1], [0, 0]], dtype=torch.bool)
    cd, seen = correlation_difference(before, after, labels, 0)
    assert seen.tolist() == pytest.approx([1, 0])
    assert cd == pytest.approx(1)
