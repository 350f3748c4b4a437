"""Training of the smile classifier that we explain."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from cfxnb import weights
from cfxnb.core.classifiers import wrap
from cfxnb.core.prediction import predict_logits
from cfxnb.core.training import Recipe, autocast, fit
from cfxnb.data import faces
from cfxnb.data.fairface import FILE, NAMES, SOURCE
from cfxnb.nets.convnets import PlainNet
from cfxnb.train.cards import card_of
from cfxnb.train.chest import augment

CONFIG = {"outputs": 2, "channels": 3, "size": [64, 64], "n_downsamplings": 4}
CAUTION = (
    "The labels are the opinion of a network (smile_score), not of people, and not of those shown. "
    "Whoever explains this classifier explains how well it copies that opinion."
)


def augmented_loss(model: nn.Module, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
    """Return the cross-entropy on augmented images."""
    images, labels = augment(batch[0], generator), batch[1]
    mirror = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    images = torch.where(mirror, images.flip(3), images)
    with autocast(images.device):
        logits = model(images)
    return F.cross_entropy(logits.float(), labels)


def classifier(folder: Path | None, *, steps: int = 3000, device: str = "cpu") -> PlainNet:
    """Train the classifier, which takes three minutes on one core."""
    train = faces("train")
    torch.manual_seed(0)
    return fit(
        PlainNet(**CONFIG),  # type: ignore[arg-type]
        augmented_loss,
        (train.images, train.labels),
        steps=steps,
        batch_size=64,
        lr=2e-3,
        checkpoint_dir=folder,
        device=device,
    )


def make_classifier(folder: Path, device: str) -> None:
    net = classifier(folder, device=device).cpu()
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
    return {name: round(value, 4) for name, value in found.items()}


RECIPES: dict[str, Recipe] = {"faces/smile": make_classifier}
