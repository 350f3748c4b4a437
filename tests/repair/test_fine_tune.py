"""Targets, groups, repair and errors: small truths worked out by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import cfxnb as cfx
from cfxnb.core.intervals import wilson_interval


class Pixels(nn.Module):
    """Logits that are the first pixels, so that images can be made to be classified at will."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, images):
        return 10 * images.flatten(1)[:, : self.classes]


def pictures(rows):
    images = torch.zeros(len(rows), 1, 2, 2)
    for image, row in zip(images, rows, strict=True):
        image.view(-1)[: len(row)] = torch.tensor(row)
    return images


def test_nearest_class_by_confusion():
    images = pictures([[1, 0.8, 0], [0.2, 1, 0.9], [0.9, 0.1, 1]])
    near = cfx.nearest_classes(cfx.wrap(Pixels(3)), images, torch.arange(3))
    assert near.tolist() == [1, 2, 0]


def test_nearest_class_by_features():
    images = pictures([[0.0], [0.2], [1.0], [0.1]])
    labels = torch.tensor([0, 1, 2, 0])
    near = cfx.nearest_classes(
        cfx.wrap(Pixels(3)), images, labels, features=lambda x: x.flatten(1)[:, :1]
    )
    assert near.tolist() == [1, 0, 1]


def test_a_class_without_images_is_named():
    with pytest.raises(ValueError, match=r"labels: .* got none of \[2\]"):
        cfx.nearest_classes(cfx.wrap(Pixels(3)), pictures([[1], [0]]), torch.tensor([0, 1]))


def test_accuracy_by_group():
    images = pictures([[1, 0], [1, 0], [0, 1], [0, 1], [1, 0]])
    labels = torch.tensor([0, 1, 1, 1, 0])
    table = cfx.metrics.accuracy_by_group(
        cfx.wrap(Pixels(2)), images, labels, np.array(["a", "b", "b", "b", "a"])
    )
    assert table.index.tolist() == ["b", "a", "all"]
    assert table["n"].tolist() == [3, 2, 5]
    assert table["accuracy"].tolist() == pytest.approx([2 / 3, 1, 4 / 5])
    assert (table.loc["b", "low"], table.loc["b", "high"]) == pytest.approx(wilson_interval(2, 3))


def test_group_weights_make_groups_count_alike():
    groups = ["a"] * 6 + ["b"] * 2
    weights = cfx.group_weights(groups)
    assert weights.mean() == pytest.approx(1)
    assert weights[:6].sum() == pytest.approx(weights[6:].sum().item())
    assert torch.equal(weights, cfx.group_weights(np.array(groups)))
    by_hand = [len(groups) / (2 * groups.count(name)) for name in groups]
    assert torch.equal(weights, torch.tensor(by_hand))
    assert weights.dtype == torch.float32


class Two(nn.Module):
    """Two classes by a line through two features of an image."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(2, 2)

    def forward(self, images):
        return self.line(images.flatten(1)[:, :2] * 4 - 2)


@pytest.fixture
def shortcut():
    """Of what is true (first pixel) and what went along with it (second) it reads the second."""
    net = Two()
    with torch.no_grad():
        net.line.weight.copy_(torch.tensor([[0.0, -2.0], [0.0, 2.0]]))
        net.line.bias.zero_()
    return cfx.wrap(net, class_names=["no", "yes"])


def test_counterfactuals_with_their_old_labels_repair_a_shortcut(shortcut):
    leaky = pictures([[0, 0], [1, 1]] * 40)
    labels = torch.tensor([0, 1] * 40)
    edited = pictures([[0, 1], [1, 0]] * 40)  # the shortcut exchanged, the cause as it was
    fair = pictures([[0, 0], [0, 1], [1, 0], [1, 1]])
    truth = torch.tensor([0, 0, 1, 1])
    kept = {k: v.clone() for k, v in shortcut.module.state_dict().items()}
    both, twice = torch.cat([leaky, edited]), torch.cat([labels, labels])
    repaired = cfx.fine_tune(shortcut, both, twice, steps=300, lr=0.1)
    more = cfx.fine_tune(shortcut, leaky, labels, steps=300, lr=0.1)
    assert (repaired(fair).argmax(1) == truth).all()
    assert (more(fair).argmax(1) == truth).sum() < 4  # more of the same does not
    assert repaired.class_names == shortcut.class_names
    for name, value in shortcut.module.state_dict().items():
        assert torch.equal(value, kept[name])


def test_weights_repair_it_too_where_the_groups_are_known(shortcut):
    images = pictures([[0, 0], [1, 1]] * 40 + [[0, 1], [1, 0]])
    labels = torch.tensor([0, 1] * 40 + [0, 1])
    groups = ["with"] * 80 + ["against"] * 2
    weights = cfx.group_weights(groups)
    tuned = cfx.fine_tune(shortcut, images, labels, sample_weight=weights, steps=300, lr=0.1)
    assert (tuned(images).argmax(1) == labels).all()


def test_the_same_seed_gives_the_same_net(shortcut):
    images, labels = torch.rand(30, 1, 2, 2), torch.arange(30) % 2
    torch.manual_seed(1)
    first = cfx.fine_tune(shortcut, images, labels, steps=20)
    torch.manual_seed(2)
    again = cfx.fine_tune(shortcut, images, labels, steps=20)
    other = cfx.fine_tune(shortcut, images, labels, steps=20, seed=1)
    assert torch.equal(first(images), again(images))
    assert not torch.equal(first(images), other(images))


def result(images, flipped):
    n = len(images)
    logits = torch.zeros(n, 2)
    status = tuple("flipped" if f else "not_found" for f in flipped)
    own = torch.zeros_like(images)
    return cfx.Counterfactuals(own, images, own, logits, logits, torch.ones(n).long(), status)


def test_diversity_is_the_mean_distance_of_what_flipped():
    a = result(pictures([[0.0], [0.0], [0.0]]), [True, True, False])
    b = result(pictures([[1.0], [1.0], [1.0]]), [True, True, True])
    c = result(pictures([[0.5], [0.5], [0.5]]), [True, False, False])
    found = cfx.metrics.diversity([a, b, c])
    assert found[:2].tolist() == pytest.approx([(1 + 0.5 + 0.5) / 3, 1.0])
    assert found[2].isnan()
    twice = cfx.metrics.diversity([a, b, c], lambda x: 2 * x.flatten(1))
    assert twice[0] == pytest.approx(2 * found[0].item())


def test_diversity_is_that_of_the_same_images():
    a = result(pictures([[0.0], [0.2]]), [True, True])
    other = dataclasses.replace(a, original=a.original + 0.1, reconstruction=a.original + 0.1)
    with pytest.raises(ValueError, match=r"same images, row by row, got other .*results\[1\]"):
        cfx.metrics.diversity([a, other])


@pytest.mark.parametrize(
    ("results", "error", "told"),
    [
        ("one", TypeError, "results: expected a list of results, got str"),
        ([], ValueError, r"got \[\]"),
        ([1, 2], TypeError, r"results\[0\]: expected Counterfactuals, got int"),
    ],
)
def test_wrong_results(results, error, told):
    with pytest.raises(error, match=told):
        cfx.metrics.diversity(results)
