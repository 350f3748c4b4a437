"""The tasks on which methods are compared: a classifier to explain, images, targets, and a judge.

For sprites, we know which factors a classifier uses, so an explanation can be compared with the
known cause. Digits, faces and X-rays have an independent judge instead.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from cfxnb import data
from cfxnb.core.classifiers import BlackBox
from cfxnb.core.prediction import predict_logits
from cfxnb.data import SPRITE_CLASSIFIERS, SPRITE_CONTRASTS, ImageSet
from cfxnb.data.sprite_classifiers import PlantedClassifier
from cfxnb.directions.find_directions import find_directions
from cfxnb.flows.velocity import fit_flow
from cfxnb.weights import load

N_FLOW = 1500  # unlabelled images whose answers a flow learns
N_DIRECTION = 32  # unlabelled images from which directions are found
N_TRAIN = 3000  # unlabelled images that methods may use
RANDOM = "sprites, random rules"
WORLDS = ("sprites", "digits", "faces", "chest")
#: Names of the vae, the ldm and the classifier of the worlds with an independent judge.
PARTS = {
    "digits": ("vae", "ldm", "classifier"),
    "faces": (None, "ldm", "smile"),
    "chest": ("vae", "ldm", "classifier"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A classifier to explain, and everything that methods and judges need.

    Attributes:
        world: Name of the data set. Results are averaged per world.
        name: Name of the classifier, or of the seed of its rule.
        classifier: The classifier that methods explain.
        space: Space for methods that move codes. None if no space of this world decodes fast.
        diffusion: Diffusion model, the space for methods that denoise.
        read_train: Function that returns ``train``, the unlabelled training images. They are read
            when a method needs them.
        images, target: Images to explain and their targets, the same for all methods.
        judge: Independent classifier with the same classes.
        causes: Planted causes, or None where they are not known.
        conditions: Condition of the diffusion model for each class. Default: by the class names.
        seed: Seed for methods that draw random numbers.
        flow_steps: Number of training steps of the fitted flow.
    """

    world: str
    name: str
    classifier: Any
    space: Any
    diffusion: Any
    read_train: Callable[[], Tensor]
    images: Tensor
    target: Tensor
    judge: Any
    causes: tuple[str, ...] | None = None
    conditions: list[Any] | None = None
    seed: int = 0
    flow_steps: int = 2000

    def first(self, n: int) -> "Task":
        """Return the task with its first n images only."""
        return dataclasses.replace(self, images=self.images[:n], target=self.target[:n])

    @property
    def train(self) -> Tensor:
        """Unlabelled training images."""
        return self.read_train()

    @functools.cached_property
    def flow(self) -> Any:
        """A flow that is fitted to the answers of the classifier."""
        train = self.train[:N_FLOW]
        return fit_flow(self.space, self.classifier, train, steps=self.flow_steps)

    @functools.cached_property
    def class_means(self) -> Any:
        """The mean code of each class, as a flow."""
        return fit_flow(self.space, self.classifier, self.train[:N_FLOW], kind="class_means")

    @functools.cached_property
    def direction(self) -> Callable[[int], Any]:
        """Find the direction to a class, once for each class."""
        black_box = BlackBox(self.classifier)
        few = self.train[:N_DIRECTION]
        return functools.cache(lambda t: find_directions(self.space, black_box, few, t)["g"])


def rule_judge(rule: PlantedClassifier) -> Callable[[Tensor], Tensor]:
    """Return a judge of sprites, which applies the planted rule to the predicted factors."""
    reader = load("sprites/judge")

    def judge(images: Tensor) -> Tensor:
        says = torch.tensor(rule.label(reader.read(images)).to_numpy(bool))
        return 5.0 * torch.stack([~says, says], 1).float()

    return judge


def sprite_task(
    name: str, rule: PlantedClassifier, classifier: Any, world: Any, n: int, seed: int = 0
) -> Task:
    """Return the task of a classifier with a planted rule.

    Args:
        name: Name of the classifier, or of its rule.
        rule: Planted rule that the classifier was trained to follow.
        classifier: The classifier to explain.
        world: World from which sprites are sampled.
        n: Number of images.
        seed: Seed of the images. The images of seed 0 are those of the bake-off.
    """
    test = data.sprites(world, n, split="test", seed=33 + 1000 * seed)
    return Task(
        world="sprites" if name in SPRITE_CLASSIFIERS else RANDOM,
        name=name,
        classifier=classifier,
        space=load("sprites/vae"),
        diffusion=load("sprites/ldm"),
        read_train=functools.cache(
            lambda: data.sprites(world, N_TRAIN, split="train", seed=21).images
        ),
        images=test.images,
        target=1 - predict_logits(classifier, test.images).argmax(1),
        judge=rule_judge(rule),
        causes=rule.causes,
        conditions=[{rule.causes[0]: option} for option in SPRITE_CONTRASTS[rule.causes[0]]],
        seed=seed,
    )


def photograph_task(
    world: str, part: ImageSet, read_train: Callable[[], Tensor], seed: int
) -> Task:
    """Return the task of a world with an independent judge. The targets depend on the seed."""
    space: Any
    diffusion: Any
    classifier: Any
    space, diffusion, classifier = (n and load(f"{world}/{n}") for n in PARTS[world])
    seen = predict_logits(classifier, part.images)
    shift = 1 if seen.shape[1] == 2 else 1 + seed % (seen.shape[1] - 1)
    return Task(
        world=world,
        name=f"images {seed}",
        classifier=classifier,
        space=space,
        diffusion=diffusion,
        read_train=read_train,
        images=part.images,
        target=(seen.argmax(1) + shift) % seen.shape[1],
        judge=load(f"{world}/judge"),
        seed=seed,
    )


def tasks(worlds: Sequence[str], n: int, seeds: Sequence[int]) -> Iterator[Task]:
    """Make the tasks of the chosen worlds, one at a time.

    Args:
        worlds: Some of ``WORLDS``.
        n: Images per task.
        seeds: Each seed selects different images, and different targets if there are more than two
            classes.

    Raises:
        ValueError: If a world has too few images. Nothing was computed before.
    """
    sets = {world: getattr(data, world)("test") for world in worlds if world != "sprites"}
    for world, test in sets.items():
        if max(seeds, default=0) * n >= len(test):
            raise ValueError(
                f"seeds: expected seeds up to {(len(test) - 1) // n} for {n} images of {world}, "
                f"which has {len(test)}, got {max(seeds)}"
            )
    for world in worlds:
        if world == "sprites":
            for seed in seeds:
                for name, rule in SPRITE_CLASSIFIERS.items():
                    yield sprite_task(name, rule, load(f"sprites/{name}"), "pairs", n, seed)
            continue
        read_train = functools.cache(functools.partial(_some_of, world))
        for seed in seeds:
            part = sets[world][seed * n : (seed + 1) * n]
            yield photograph_task(world, part, read_train, seed)


def _some_of(world: str) -> Tensor:
    """Return some training images of a world, in random order."""
    part = getattr(data, world)("train")
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0))
    return part.images[order[:N_TRAIN]]
