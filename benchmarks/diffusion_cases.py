"""The cases of ``benchmarks.diffusion``: a classifier and held-out images of each data set."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

import cfxnb as cfx
from cfxnb.attacks.nearest_classes import nearest_classes
from cfxnb.data import ImageSet


@dataclasses.dataclass(frozen=True)
class Case:
    """A classifier, held-out images, and a target class for each image.

    Attributes:
        space: a Diffusion space; its ``autoencoder`` is what the latent attack searches in.
        target: class to reach, one per image.
        conditions: condition of the diffusion model for each class; None: by the class names.
        judge: a classifier with the same classes, which no method sees; None on sprites, where
            ``reader`` shows what changed.
        cause: the factor that decides the classifier, where it is known.
        features: for distances between sets, by name.
        flips, agrees: bounds.
    """

    world: str
    space: Any
    classifier: Any
    images: Tensor
    target: Tensor
    conditions: Sequence[Any] | None
    judge: Any
    features: dict[str, Callable[[Tensor], Tensor]]
    flips: float
    agrees: float | None
    reader: Any = None
    cause: str | None = None


def _batched(features: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Compute features in small batches: the networks for faces need much memory."""

    def each(images: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([features(part) for part in images.split(32)])

    return each


def digits(count: int) -> Case:
    """Towards the digit with which the classifier confuses each digit most."""
    classifier, judge = cfx.load("digits/classifier"), cfx.load("digits/judge")
    train, test = cfx.data.digits("train")[:5000], cfx.data.digits()[:count]
    nearest = nearest_classes(classifier, train.images, train.labels)
    return Case(
        "digits",
        cfx.load("digits/ldm"),
        classifier,
        test.images,
        nearest[test.labels],
        None,
        judge,
        {"LeNet-5": judge.module.features},
        0.97,
        0.75,
    )


def sprites(count: int) -> Case:
    """Towards the other colour of hair, as the honest classifier sees it."""
    return _figures("sprites", "honest", "hair", count)


def shortcut(count: int) -> Case:
    """The classifier that is named after the hair, and is decided by the top."""
    return _figures("shortcut", "shortcut", "top", count)


def _figures(world: str, name: str, cause: str, count: int) -> Case:
    """Towards the other class; the model is conditioned on the cause of the classifier."""
    classifier, reader = cfx.load(f"sprites/{name}"), cfx.load("sprites/judge")
    test = cfx.data.sprites("pairs", count, split="test")
    return Case(
        world,
        cfx.load("sprites/ldm"),
        classifier,
        test.images,
        1 - cfx.predict_logits(classifier, test.images).argmax(1),
        [{cause: option} for option in cfx.data.SPRITE_CONTRASTS[cause]],
        None,
        {"judge": reader.module.features},
        0.97,
        None,
        reader,
        cause,
    )


def faces(count: int) -> Case:
    """Towards a smile, or away from it. The judge is a network that others trained."""
    classifier, test = cfx.load("faces/smile"), some_faces(count)
    return Case(
        "faces",
        cfx.load("faces/ldm"),
        classifier,
        test.images,
        1 - cfx.predict_logits(classifier, test.images).argmax(1),
        None,
        cfx.load("faces/judge"),
        {"expression net": _batched(cfx.load("faces/expression").module.features)},
        0.9,
        0.75,
    )


def some_faces(count: int) -> ImageSet:
    """Images at equal distances in the file, because neighbours may be related."""
    test = cfx.data.faces()
    return test[torch.arange(len(test))[:: max(1, len(test) // count)][:count]]


CASES: dict[str, Callable[[int], Case]] = {
    "digits": digits,
    "sprites": sprites,
    "shortcut": shortcut,
    "faces": faces,
}
