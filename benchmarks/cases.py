"""The cases of ``benchmarks.directions``: one per data set, with held-out images."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import cfxnb as cfx
from cfxnb.core.code_covariance import covariance_of
from cfxnb.core.tensors import noise_like, typical_distance


@dataclasses.dataclass(frozen=True)
class Case:
    """A decision between two classes, and the images on which directions are tested.

    Attributes:
        source: the image from which directions are found. It is not among ``images``.
        sources: four other source images.
        several: 32 training images, 16 seen as each class, from which directions are found.
        validation_images: twelve other training images, six per class, on which directions are
            ranked.
        label: class that adding a direction favours.
        other: the other class.
        contrast_class: passed to ``find_directions``: ``other``, or None with two classes.
        target: the class that is not predicted, one per image.
        features: images -> features of the judge.
        survive, flips: bounds of the benchmark.
        max_step: longest step, in standard deviations of the code (std).
        figures: the sprites with their factors.
    """

    world: str
    space: Any
    classifier: Any
    source: Tensor
    sources: Tensor
    several: Tensor
    validation_images: Tensor
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
        """Standard deviation of the codes, on the CPU, like images and directions."""
        return self.space.std.cpu()

    def random(self, seed: int) -> Tensor:
        """Return a random direction within the active axes, uniform in std."""
        axes = covariance_of(self.space).axes
        return self.std * (noise_like(axes[:1, :1].expand(1, len(axes)), 1000 + seed) @ axes)[0]


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
    """Choose source images and an equal number of test images per class.

    The first images that are classified as ``other`` are the sources.

    Args:
        images, train: held-out images, and some training images.
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
    few = torch.stack([(said == c).nonzero()[:22, 0] for c in (label, other)], 1)
    judge = cfx.load(f"{world}/judge").module
    where = next(judge.parameters()).device
    return Case(
        world=world,
        space=space,
        max_step=typical_distance(space.std) / 2,
        classifier=classifier,
        source=images[first[:1]],
        sources=images[first[1:]],
        several=train[few[6:].flatten()],
        validation_images=train[few[:6].flatten()],
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
    seen = train.images[known][:200]
    classifier = cfx.load("digits/classifier")
    more = {"survive": 0.98, "flips": 0.9}
    return _case("digits", classifier, test.images[pair], seen, 9, 4, count, **more)


def sprites(count: int) -> Case:
    test = cfx.data.sprites("pairs", 4 * count, split="test", seed=11)
    train = cfx.data.sprites("pairs", 200, split="train", seed=11)
    classifier = cfx.load("sprites/honest")
    more = {"survive": 0.98, "flips": 0.9, "figures": test}
    return _case("sprites", classifier, test.images, train.images, 1, 0, count, **more)


def chest(count: int) -> Case:
    test, train = (_shuffled(cfx.data.chest(split).images) for split in ("test", "train"))
    classifier = cfx.load("chest/classifier")
    more = {"survive": 0.95, "flips": 0.8}
    return _case("chest", classifier, test, train[:200], 1, 0, count, **more)


def _shuffled(images: Tensor) -> Tensor:
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]


CASES: dict[str, Callable[[int], Case]] = {"digits": digits, "sprites": sprites, "chest": chest}
