"""The shipped networks for X-rays keep what their cards say, and what the recipes promise."""

import pytest
import torch
from torch import nn

import cfxnb as cfx
from cfxnb.train import chest
from cfxnb.train.losses import augment
from cfxnb.train.train_classifier import ClassifierLoss, class_weights
from cfxnb.train.training_data import training_data
from cfxnb.weights import cards

NAMES = ["chest/classifier", "chest/judge"]


@pytest.mark.parametrize("name", NAMES)
def test_card_and_network_agree(name):
    """Each figure anew, by plain counting; the AUC over all pairs."""
    f = cfx.load(name, "cpu")
    assert f.class_names == ("normal", "pneumonia")
    for split in ("validation", "test"):
        part = cfx.data.chest(split)
        logits = cfx.predict_logits(f, part.images)
        margin = (logits[:, 1] - logits[:, 0]).double()
        ill, well = margin[part.labels == 1], margin[part.labels == 0]
        higher = (ill[:, None] > well).double() + 0.5 * (ill[:, None] == well)
        found = {
            "accuracy": ((margin > 0).long() == part.labels).double().mean(),
            "sensitivity": (ill > 0).double().mean(),
            "specificity": (well <= 0).double().mean(),
            "AUC": higher.mean(),
        }
        for what, value in found.items():
            told = cards()[name]["quality"][f"{what} on {len(part)} {split} X-rays"]
            assert value.item() == pytest.approx(told, abs=0.003), (split, what)


@pytest.mark.parametrize("name", NAMES)
def test_good_on_validation_and_plain_about_the_test_part(name):
    card = cards()[name]
    told = card["quality"]
    assert told["accuracy on 521 validation X-rays"] >= 0.96
    assert told["accuracy on 624 test X-rays"] < told["accuracy on 521 validation X-rays"]
    assert "Not for diagnosis" in card["caution"]
    assert "lower" in card["caution"]


def test_judge_and_classifier_share_nothing():
    f, judge = (cfx.load(name, "cpu") for name in NAMES)
    assert type(f.module) is not type(judge.module)
    assert cards()[NAMES[0]]["seed"] != cards()[NAMES[1]]["seed"]


def test_features_are_what_the_judge_decides_by():
    judge = cfx.load("chest/judge", "cpu")
    images = cfx.data.chest()[:5].images
    features = judge.module.features(images)
    assert features.shape == (5, 256)
    assert torch.equal(judge.module.head[-1](features), judge(images))


def test_a_pixel_attack_fools_the_classifier_but_not_the_judge():
    part = cfx.data.chest("validation")
    f, judge = (cfx.load(name, "cpu") for name in NAMES)
    both = (cfx.predict_logits(f, part.images).argmax(1) == part.labels) & (
        cfx.predict_logits(judge, part.images).argmax(1) == part.labels
    )
    asked = part[torch.cat([torch.where(both & (part.labels == k))[0][:30] for k in (0, 1)])]
    attacked = cfx.pixel_attack(f, asked.images, 1 - asked.labels)
    assert attacked.flipped.double().mean() > 0.9
    unmoved = cfx.predict_logits(judge, attacked.image).argmax(1) == asked.labels
    for label in (0, 1):
        assert unmoved[asked.labels == label].double().mean() > 0.9


def test_class_weights_make_both_classes_weigh_as_much():
    counts = cfx.data.chest("train").labels.bincount()
    weight = class_weights(training_data(cfx.data.chest("train"))) * counts
    assert weight[0] == pytest.approx(weight[1].item())
    assert weight.sum() == pytest.approx(counts.sum().item())


def test_what_training_varies_stays_an_xray():
    """In [0, 1], another each time it is asked for, and no black margin where none was."""
    images = cfx.data.chest()[:40].images * 0.5 + 0.4
    first, again, other = (
        augment(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == images.shape
    assert first.min() >= 0
    assert first.max() <= 1
    darkest = 0.5 + (0.4 - 0.5) * 1.2 - 0.1  # contrast and brightness at their ends
    assert first.min() >= darkest - 1e-6
    assert (first - images).abs().mean(dim=(1, 2, 3)).min() > 0.001


class Spy(nn.Module):
    """Remembers what it is shown; the slope of its loss has the sign of its weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.shown = []

    def forward(self, images):
        self.shown.append(images.detach())
        mean = self.weight * images.mean((1, 2, 3))
        return torch.stack([-mean, mean], 1)


def test_the_judge_is_attacked_on_half_of_its_images():
    images, labels = torch.full((8, 1, 64, 64), 0.5), torch.tensor([0, 0, 1, 1] * 2)
    spy = Spy()
    loss = ClassifierLoss(torch.ones(2), robust=chest.EPSILON)  # as chest.judge has it
    loss(spy, (images, labels), torch.Generator().manual_seed(0)).backward()
    before, after = spy.shown
    step = after - before
    assert (step[::2] == 0).all()
    for row in (1, 3, 5, 7):
        # A loss that falls with the mean for class 1 is raised by darker images.
        assert (step[row] * (1 - 2 * labels[row]) > 0).all()
        assert step[row].abs().max() <= chest.EPSILON + 1e-6
        assert before[row].std() > 0
    assert (before[::2].flatten(1).std(1) < 1e-6).all()
    assert spy.weight.grad is not None


@pytest.mark.parametrize("recipe", [chest.classifier, chest.judge])
def test_the_recipes_run(recipe, tmp_path):
    """A few steps, the same twice, kept on disk."""
    first, again = (recipe(folder, steps=3) for folder in (tmp_path, None))
    for a, b in zip(first.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not first.module.training
    assert (tmp_path / "checkpoint.pt").is_file()
    told = chest.measured(first)
    assert len(told) == 8
    assert all(0 <= value <= 1 for value in told.values())
