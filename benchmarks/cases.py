"""The questions of ``benchmarks.directions``: one in each world, asked about held-out images."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import cfxnb as cfx
from cfxnb.core.tensors import noise_like, typical_distance


@dataclasses.dataclass(frozen=True)
class Case:
    """A classifier's decision between two classes, and what is asked of directions there.

    Attributes:
        source: the one image that directions are found with; not among ``images``.
        sources: four others, to see how much hangs on the one.
        validation: twelve training images, six of each class, on which directions are tried.
        label, other: the classes; ``contrast_class`` is what ``find_directions`` is told of ``other``.
        target: the other class than that which is predicted, one an image.
        features: the judge's.
        max_step: of the walks, in spreads.
        survive, flips: bounds.
        figures: the sprites with their factors.
    """

    world: str
    space: Any
    classifier: Any
    source: Tensor
    sources: Tensor
    validation: Tensor
    images: Tensor
    target: Tensor
    label: int
    other: int
    contrast_class: int | None
    features: Callable[[Tensor], Tensor]
    survive: float
    flips: float
    max_step: float
    figures: Any = None

    @property
    def std(self) -> Tensor:
        """That of the space, on the CPU, where images and directions are."""
        return self.space.std.cpu()

    def random(self, seed: int) -> Tensor:
        """A random direction, uniform in spreads."""
        return self.std * noise_like(self.std[None], 1000 + seed)[0]


def _case(
    world: str,
    classifier: Any,
    images: Tensor,
    train: Tensor,
    label: int,
    other: int,
    count: int,
    **more: Any,
) -> Case:
    """The first images seen as ``other`` are sources; of the rest as many of both classes.

    Args:
        images, train: held-out ones, and some of those for training.
    """
    space = cfx.load(f"{world}/diffae")
    logits = cfx.predict_logits(classifier, images)
    seen = logits.argmax(1)
    first = (seen == other).nonzero()[:5, 0]
    rest = torch.ones(len(images), dtype=torch.bool)
    rest[first] = False
    halves = [((seen == c) & rest).nonzero()[: count // 2, 0] for c in (label, other)]
    chosen = torch.cat(halves).sort().values
    said = cfx.predict_logits(classifier, train).argmax(1)
    few = torch.stack([(said == c).nonzero()[:6, 0] for c in (label, other)], 1).flatten()
    judge = cfx.load(f"{world}/judge").module
    where = next(judge.parameters()).device
    return Case(
        world=world,
        space=space,
        max_step=typical_distance(space.std) / 2,
        classifier=classifier,
        source=images[first[:1]],
        sources=images[first[1:]],
        validation_images=train[few],
        images=images[chosen],
        target=torch.where(seen[chosen] == label, other, label),
        label=label,
        other=other,
        contrast_class=other if logits.shape[1] > 2 else None,
        features=lambda x: judge.features(x.to(where)).cpu(),
        **more,
    )


def digits(count: int) -> Case:
    test, train = cfx.data.digits("test"), cfx.data.digits("train")
    pair, known = (((d.labels == 4) | (d.labels == 9)) for d in (test, train))
    seen = train.images[known][:100]
    classifier = cfx.load("digits/classifier")
    more = {"survive": 0.98, "flips": 0.9}
    return _case("digits", classifier, test.images[pair], seen, 9, 4, count, **more)


def sprites(count: int) -> Case:
    test = cfx.data.sprites("pairs", 4 * count, split="test", seed=11)
    train = cfx.data.sprites("pairs", 100, split="train", seed=11)
    classifier = cfx.load("sprites/honest")
    more = {"survive": 0.98, "flips": 0.9, "figures": test}
    return _case("sprites", classifier, test.images, train.images, 1, 0, count, **more)


def chest(count: int) -> Case:
    test, train = (_shuffled(cfx.data.chest(split).images) for split in ("test", "train"))
    classifier = cfx.load("chest/classifier")
    more = {"survive": 0.95, "flips": 0.8}
    return _case("chest", classifier, test, train[:100], 1, 0, count, **more)


def _shuffled(images: Tensor) -> Tensor:
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]


CASES: dict[str, Callable[[int], Case]] = {"digits": digits, "sprites": sprites, "chest": chest}
