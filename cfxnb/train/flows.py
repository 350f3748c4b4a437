"""Recipes for flows: for digits, for X-rays, and for each classifier of sprites.

A flow is fitted to training images and the classes that a shipped classifier predicts for them; the
true labels are not used.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cfxnb import weights
from cfxnb.core.prediction import predict_logits
from cfxnb.core.training import Recipe
from cfxnb.data import ImageSet, chest, digits, sprites
from cfxnb.data.sprite_classifiers import SPRITE_CLASSIFIERS
from cfxnb.flows.flow_counterfactual import flow_counterfactual
from cfxnb.flows.velocity import fit_flow
from cfxnb.train.cards import card_of

N_TRAIN, N_TEST, N_SLOW = 6000, 200, 24


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
    space, classifier = weights.load(space_name, device), weights.load(classifier_name, device)
    # A diffusion autoencoder decodes slowly, so its flow learns the answers about the originals.
    slow = hasattr(space, "encode_semantic")
    n_test = N_SLOW if slow else N_TEST
    train, test = _shuffled(of("train"), N_TRAIN), _shuffled(of("test"), n_test)
    ask = "originals" if slow else "reconstructions"
    flow: Any = fit_flow(space, classifier, train.images, ask=ask, checkpoint_dir=folder)
    seen = predict_logits(classifier, test.images).argmax(1)
    target = (seen + 1) % flow.n_classes
    found = flow_counterfactual(space, classifier, test.images, target, flow=flow)
    flipped = [status == "flipped" for status in found.status]
    queries = found.cost["classifier"][torch.tensor(flipped)].double().mean() - 1
    summary = f"walks in {space_name} along the answers of {classifier_name}"
    config = {"dims": flow.mean.numel(), "n_classes": flow.n_classes, "hidden_dim": 256}
    files = f"{name.split('/')[0]}/"
    card = card_of("flow", "VelocityNet", config, summary, source=train.source, files=files)
    card |= {
        "of": {"space": space_name, "classifier": classifier_name},
        "class_names": list(map(str, classifier.class_names)),
        "quality": {
            f"flips of {n_test} held-out images": round(sum(flipped) / n_test, 4),
            "images decoded and classified per flip": round(float(queries), 2),
        },
    }
    weights.save(name, flow.net, card, mean=flow.mean, std=flow.std)


def _shuffled(part: ImageSet, n: int) -> ImageSet:
    order = torch.randperm(len(part.images), generator=torch.Generator().manual_seed(0))
    return part[order[:n]]


RECIPES: dict[str, Recipe] = {name: partial(make_flow, name) for name in FLOWS}
