"""The questions of ``benchmarks.directions``: one in each world, asked about held-out images."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import cfxnb as cfx
from cfxnb.tensors import noise_like, typical_distance


@dataclasses.dataclass(frozen=True)
class Case:
    """A classifier's decision between two classes, and what is asked of directions there.

    Attributes:
        source: the one image that directions are found with; not among ``images``.
        label, other: the classes; ``against`` is what ``find_directions`` is told of ``other``.
        target: the other class than that which is predicted, one an image.
        features: the judge's.
        reach: of the walks, in spreads.
        survive, flips: bounds.
        figures: the sprites with their factors.
    """

    world: str
    space: Any
    classifier: Any
    source: Tensor
    images: Tensor
    target: Tensor
    label: int
    other: int
    against: int | None
    features: Callable[[Tensor], Tensor]
    survive: float
    flips: float
    reach: float
    figures: Any = None

    def random(self, seed: int) -> Tensor:
        """A random direction, uniform in spreads."""
        spread = self.space.spread.cpu()
        return spread * noise_like(spread[None], 1000 + seed)[0]


def _case(
    world: str,
    classifier: Any,
    images: Tensor,
    label: int,
    other: int,
    count: int,
    **more: Any,
) -> Case:
    """The first image seen as ``other`` is the source; of the rest as many of both classes."""
    space = cfx.load(f"{world}/diffae")
    logits = cfx.predict(classifier, images)
    seen = logits.argmax(1)
    source = int((seen == other).nonzero()[0])
    rows = torch.arange(len(images))
    halves = [rows[(seen == c) & (rows != source)][: count // 2] for c in (label, other)]
    chosen = torch.cat(halves).sort().values
    judge = cfx.load(f"{world}/judge")
    return Case(
        world=world,
        space=space,
        reach=typical_distance(space.spread) / 2,
        classifier=classifier,
        source=images[source : source + 1],
        images=images[chosen],
        target=torch.where(seen[chosen] == label, other, label),
        label=label,
        other=other,
        against=other if logits.shape[1] > 2 else None,
        features=judge.module.features,
        **more,
    )


def digits(count: int) -> Case:
    test = cfx.data.digits("test")
    pair = (test.labels == 4) | (test.labels == 9)
    classifier = cfx.load("digits/classifier")
    more = {"survive": 0.98, "flips": 0.9}
    return _case("digits", classifier, test.images[pair], 9, 4, count, **more)


def sprites(count: int) -> Case:
    test = cfx.data.sprites("pairs", 4 * count, split="test", seed=11)
    classifier = cfx.load("sprites/honest")
    more = {"survive": 0.98, "flips": 0.9, "figures": test}
    return _case("sprites", classifier, test.images, 1, 0, count, **more)


def chest(count: int) -> Case:
    test = cfx.data.chest("test")
    order = torch.randperm(len(test.images), generator=torch.Generator().manual_seed(0))
    classifier = cfx.load("chest/classifier")
    return _case("chest", classifier, test.images[order], 1, 0, count, survive=0.95, flips=0.8)


CASES: dict[str, Callable[[int], Case]] = {"digits": digits, "sprites": sprites, "chest": chest}
