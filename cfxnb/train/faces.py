"""Training of the smile classifier that we explain."""

from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from cfxnb import weights
from cfxnb.core.classifiers import wrap
from cfxnb.core.prediction import predict_logits
from cfxnb.core.training import Recipe, fit
from cfxnb.data import faces
from cfxnb.data.fairface import FILE, NAMES, SOURCE
from cfxnb.nets.convnets import PlainNet
from cfxnb.train.cards import card_of, rounded
from cfxnb.train.chest import augment
from cfxnb.train.losses import cross_entropy, mirrored

CONFIG = {"outputs": 2, "channels": 3, "size": [64, 64], "n_downsamplings": 4}
CAUTION = (
    "The labels are the opinion of a network (smile_score), not of people, and not of those shown. "
    "Whoever explains this classifier explains how well it copies that opinion."
)


def augmented_loss(model: nn.Module, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
    """Return the cross-entropy of the classifier on augmented images."""
    images = augment(batch[0], generator)
    return cross_entropy(model, mirrored(images, generator), batch[1])


def make_classifier(folder: Path, device: str) -> None:
    """Train and save the classifier, which takes three minutes on one core."""
    train = faces("train")
    torch.manual_seed(0)
    net = fit(
        PlainNet(**CONFIG),  # type: ignore[arg-type]
        augmented_loss,
        (train.images, train.labels),
        steps=3000,
        batch_size=64,
        lr=2e-3,
        checkpoint_dir=folder,
        device=device,
    ).cpu()
    card = card_of(
        "classifier",
        "PlainNet",
        CONFIG,
        "the smile classifier that is explained",
        source=SOURCE,
        files=FILE,
    )
    fields = {"class_names": list(NAMES), "quality": measured(net), "caution": CAUTION}
    weights.save("faces/smile", net, card | fields)


def measured(net: nn.Module) -> dict[str, float]:
    """Return the accuracy on held-out faces, in total and per gender and age group."""
    test = faces()
    right = (predict_logits(wrap(net), test.images).argmax(1) == test.labels).double()
    found = {"accuracy on 3,380 test faces": right.mean().item()}
    for name in ("gender", "age_group"):
        for group in sorted(test.factors[name].unique()):
            rows = torch.tensor((test.factors[name] == group).tolist())
            found[f"of those perceived as {group}"] = right[rows].mean().item()
    return rounded(found)


RECIPES: dict[str, Recipe] = {"faces/smile": make_classifier}
