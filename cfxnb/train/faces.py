"""Training of the smile classifier that we explain."""

from pathlib import Path

import torch

from cfxnb.core.classifiers import Wrapped
from cfxnb.core.prediction import predict_logits
from cfxnb.core.training import Recipe
from cfxnb.data import faces
from cfxnb.data.fairface import FILE, NAMES, SOURCE
from cfxnb.train.cards import card_of, rounded, ship
from cfxnb.train.train_classifier import classifier

CAUTION = (
    "The labels are the opinion of a network (smile_score), not of people, and not of those shown. "
    "Whoever explains this classifier explains how well it copies that opinion."
)


def make_classifier(folder: Path, device: str) -> None:
    """Train and save the classifier, which takes three minutes on one core."""
    found = classifier(
        faces("train"),
        mirror=True,
        balanced=False,
        held_out=faces(),
        early_stopping=False,
        steps=3000,
        batch_size=64,
        lr=2e-3,
        checkpoint_dir=folder,
        device=device,
    )
    summary = "the smile classifier that is explained"
    card = card_of("classifier", summary, source=SOURCE, files=FILE)
    fields = {"class_names": list(NAMES), "quality": measured(found), "caution": CAUTION}
    ship("faces/smile", found, card | fields)


def measured(classifier: Wrapped) -> dict[str, float]:
    """Return the accuracy on held-out faces, in total and per gender and age group."""
    test = faces()
    right = (predict_logits(classifier, test.images).argmax(1) == test.labels).double()
    found = {"accuracy on 3,380 test faces": right.mean().item()}
    for name in ("gender", "age_group"):
        for group in sorted(test.factors[name].unique()):
            rows = torch.tensor((test.factors[name] == group).tolist())
            found[f"of those perceived as {group}"] = right[rows].mean().item()
    return rounded(found)


RECIPES: dict[str, Recipe] = {"faces/smile": make_classifier}
