"""A shortcut classifier repaired with its own counterfactuals, for ``benchmarks.diffusion``."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import cfxnb as cfx
from benchmarks.rows import Rows
from cfxnb.data import SPRITE_CLASSIFIERS, ImageSet

SHORTCUT = SPRITE_CLASSIFIERS["shortcut"]
TRAINED = 600  # figures of the world that the shortcut comes from


def repair(rows: Rows) -> None:
    """With the few figures that tell hair and top apart, and without any of them."""
    train = cfx.data.sprites(SHORTCUT.world, TRAINED, split="train", seed=31)
    agree = (train.factors["hair"] == "red") == (train.factors["top"] == "metal")
    repaired(rows, "some tell", train)
    repaired(rows, "none tells", train[np.flatnonzero(agree)])


def repaired(rows: Rows, name: str, train: ImageSet) -> None:
    """Worst group before and after; beside it more of the same data, varied or weighted."""
    shortcut = cfx.load("sprites/shortcut")
    labels = red(train)
    edited = own_counterfactuals(shortcut, train)
    keep = cause_unchanged(edited)
    rows.say(f"repair, {name}: counterfactuals kept, of figures", keep.sum().item() / len(train))
    both = torch.cat([train.images, edited.image[keep]])
    twice = torch.cat([labels, labels[keep]])
    groups = train.factors["hair"] + ", " + train.factors["top"]
    tuned = {
        "before": shortcut,
        "on its counterfactuals": cfx.fine_tune(shortcut, both, twice),
        "plain augmentation": cfx.fine_tune(shortcut, *varied(train.images, labels)),
        "weights by group": cfx.fine_tune(
            shortcut, train.images, labels, sample_weight=cfx.group_weights(groups)
        ),
    }
    found = {how: measured(net) for how, net in tuned.items()}
    rows.table(f"Repair, {name}: accuracy", pd.DataFrame(found).T)
    before, after = found["before"], found["on its counterfactuals"]
    gained, lost = after["worst"] - before["worst"], before["all"] - after["all"]
    rows.add(f"repair, {name}: worst group's accuracy, gained", gained, 0.15)
    rows.add(f"repair, {name}: accuracy in the old world, lost", lost, 0.01, at_most=True)


def own_counterfactuals(shortcut: Any, train: ImageSet) -> cfx.Counterfactuals:
    """What this classifier takes for the other class; that it goes by the top, it showed before."""
    target = 1 - cfx.predict_logits(shortcut, train.images).argmax(1)
    return cfx.diffusion_counterfactual(
        cfx.load("sprites/ldm"),
        shortcut,
        train.images,
        target,
        conditions=[{"top": "white"}, {"top": "metal"}],
    )


def cause_unchanged(edited: cfx.Counterfactuals) -> Tensor:
    """Flips after which a reader still sees the same hair."""
    changed = cfx.metrics.changed_factors(edited, cfx.load("sprites/judge"))
    return edited.flipped & ~torch.tensor(changed["hair"].tolist())


def red(figures: ImageSet) -> Tensor:
    """What the classifier's answers claim to be about."""
    return torch.tensor((figures.factors["hair"] == "red").tolist()).long()


def varied(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """As many new images: mirrored, and a little lighter or darker."""
    draw = torch.Generator().manual_seed(0)
    light = 0.2 * torch.rand(len(images), 1, 1, 1, generator=draw) - 0.1
    return torch.cat([images, (images.flip(3) + light).clamp(0, 1)]), torch.cat([labels, labels])


def measured(net: Any) -> dict[str, float]:
    """The worst group where hair and top are independent; all of the world of the shortcut."""
    fair = cfx.data.sprites("pairs", 2000, split="test", seed=41)
    groups = fair.factors["hair"] + ", " + fair.factors["top"]
    table = cfx.metrics.accuracy_by_group(net, fair.images, red(fair), groups)
    old = cfx.data.sprites(SHORTCUT.world, 2000, split="test", seed=42)
    right = cfx.predict_logits(net, old.images).argmax(1) == red(old)
    worst = table.drop(index="all")["accuracy"].min()
    return {"worst": worst, "all": right.double().mean().item(), "fair": table["accuracy"]["all"]}
