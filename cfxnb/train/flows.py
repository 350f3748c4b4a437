"""Recipes for flows: for digits, for X-rays, and for each classifier of sprites.

A flow is fitted to training images and the classes that a shipped classifier predicts for them; the
true labels are not used.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from cfxnb import weights
from cfxnb.core.training import Recipe
from cfxnb.data import ImageSet, chest, digits, sprites
from cfxnb.data.sprite_classifiers import SPRITE_CLASSIFIERS
from cfxnb.train.cards import card_of, ship
from cfxnb.train.flow import N_TEST, N_TRAIN, STEPS
from cfxnb.train.train_space import space as train_space


def _digits(split: str) -> ImageSet:
    return digits(split)


def _sprites(split: str) -> ImageSet:
    return sprites("pairs", N_TRAIN, split=split, seed=21)


def _chest(split: str) -> ImageSet:
    return chest(split)


#: flow -> (space, classifier, images of a split)
FLOWS: dict[str, tuple[str, str, Callable[[str], ImageSet]]] = {
    "digits/flow": ("digits/vae", "digits/classifier", _digits),
    **{
        f"sprites/flow_{name}": ("sprites/vae", f"sprites/{name}", _sprites)
        for name in SPRITE_CLASSIFIERS
    },
    "chest/flow": ("chest/diffae", "chest/classifier", _chest),
}


def make_flow(name: str, folder: Path, device: str) -> None:
    """Fit and save a flow, and write its flip rates on held-out images to its card."""
    space_name, classifier_name, of = FLOWS[name]
    data = _shuffled(of("train"), N_TRAIN)
    flow = train_space(
        data,
        "flow",
        space=weights.load(space_name, device),
        classifier=weights.load(classifier_name, device),
        held_out=_shuffled(of("test"), N_TEST),
        early_stopping=False,
        checkpoint_dir=folder,
        device=device,
        steps=STEPS,
    )
    summary = f"walks in {space_name} along the answers of {classifier_name}"
    card = card_of("flow", summary, source=data.source, files=f"{name.split('/')[0]}/")
    card |= {
        "of": {"space": space_name, "classifier": classifier_name},
        "class_names": flow.card["class_names"],
        "quality": flow.card["quality"],
    }
    ship(name, flow, card)


def _shuffled(part: ImageSet, n: int) -> ImageSet:
    order = torch.randperm(len(part.images), generator=torch.Generator().manual_seed(0))
    return part[order[:n]]


RECIPES: dict[str, Recipe] = {name: partial(make_flow, name) for name in FLOWS}
