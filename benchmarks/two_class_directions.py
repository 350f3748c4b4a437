"""Directions between two classes: ``python -m benchmarks.two_class_directions``.

``find_directions`` gets 32 training images without labels (16 seen as each class) and its default
number of queries. Held-out images of both classes are moved towards their other class, at most by
the typical distance between codes. A random direction within the active axes is walked beside it,
as far as 95 % of the flips need. The classifiers of sprites read one of six factors. Chest X-rays
and faces have their shipped classifiers. Nothing was tuned on the images that are measured.
"""

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import cfxnb as cfx
from benchmarks.rows import Rows, arguments
from cfxnb.core.code_covariance import covariance_of
from cfxnb.core.tensors import noise_like, typical_distance

SOURCES = 16  # images of each class in one search


@dataclasses.dataclass(frozen=True)
class Task:
    """A classifier of two classes, its judge, and the images.

    Attributes:
        train, test: images (n, c, h, w) for the search, and held-out images.
        flips, agreement: bounds of the benchmark.
    """

    name: str
    space: Any
    classifier: Any
    judge: Any
    train: Tensor
    test: Tensor
    flips: float
    agreement: float = 0.0


class Factor(nn.Module):
    """Logits of two options of a factor, from a reader of all factors."""

    def __init__(self, reader: Any, factor: str, options: list[Any]) -> None:
        super().__init__()
        self.reader, self.factor = reader, factor
        self.columns = [list(reader.options[factor]).index(option) for option in options]

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.reader(images)[self.factor]
        return logits[:, self.columns]


def sprites() -> Iterator[Task]:
    """Yield one task per factor of a world in which each factor has two options."""
    space = cfx.load("sprites/vae")
    readers = cfx.load("sprites/reader"), cfx.load("sprites/judge")
    world = cfx.data.random_planted_classifier(0).world  # all factors are independent
    train = cfx.data.sprites(world, 600, split="train", seed=11)
    test = cfx.data.sprites(world, 400, split="test", seed=11)
    for factor in ("body", "bottom", "top", "shoes", "hair", "direction"):
        options = sorted(train.factors[factor].unique())
        f, judge = (cfx.wrap(Factor(reader, factor, options)) for reader in readers)
        yield Task(f"sprites: {factor}", space, f, judge, train.images, test.images, 0.95)


def chest() -> Iterator[Task]:
    f, judge = cfx.load("chest/classifier"), cfx.load("chest/judge")
    train, test = (mixed(cfx.data.chest(part).images) for part in ("train", "test"))
    yield Task("chest", cfx.load("chest/diffae"), f, judge, train[:600], test, 0.9)


def faces() -> Iterator[Task]:
    f, judge = cfx.load("faces/smile"), cfx.load("faces/judge")
    train, test = (mixed(cfx.data.faces(part).images) for part in ("train", "test"))
    yield Task("faces: smile", cfx.load("faces/diffae"), f, judge, train[:600], test, 0.9, 0.8)


WORLDS: dict[str, Callable[[], Iterator[Task]]] = {
    "sprites": sprites,
    "chest": chest,
    "faces": faces,
}


def main() -> int:
    parser = arguments("two_class_directions", __doc__)
    parser.add_argument("--images", type=int, default=50, help="held-out images of each class")
    parser.add_argument("--seeds", type=int, default=3, help="draws of the source images")
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), choices=list(WORLDS))
    chosen = parser.parse_args()
    rows = Rows(
        "two_class_directions",
        f"Two classes, 32 images without labels, {chosen.images} held-out images of each class, "
        f"{chosen.seeds} draws of the source images; shipped models, default options.",
        chosen.write,
    )
    for world in chosen.worlds:
        for task in WORLDS[world]():
            measure(rows, task, chosen.images, chosen.seeds)
    return rows.close()


def measure(rows: Rows, task: Task, count: int, seeds: int) -> None:
    rows.section(task.name)
    test = equal_parts(task.classifier, task.test, count)
    target = 1 - cfx.predict_logits(task.classifier, test).argmax(1)
    far = typical_distance(task.space.std)
    found: list[dict[str, float]] = []
    for seed in range(seeds):
        draw = torch.Generator().manual_seed(seed)
        sources = equal_parts(
            task.classifier, task.train[torch.randperm(len(task.train), generator=draw)], SOURCES
        )
        box = cfx.BlackBox(task.classifier)
        ways = cfx.find_directions(task.space, box, sources, 1, n_curvature=0, seed=seed)
        found.append({"queries": box.n_queries, **walked(task, test, target, ways, far)})
        print(seed, found[-1], flush=True)
    mean = {name: sum(run[name] for run in found) / seeds for name in found[0]}
    least = min(run["flipped"] for run in found)
    axes = covariance_of(task.space).axes
    noise = noise_like(axes[:1, :1].expand(1, len(axes)), 1000)
    chance = walked(task, test, target, task.space.std.cpu() * (noise @ axes)[0], mean["need"])
    rows.say(f"images of both classes, of {2 * count}", len(test))
    rows.add("queries of a search", mean["queries"], 2048, at_most=True)
    rows.add("flipped", mean["flipped"], task.flips)
    rows.say("flipped, least of the draws", least)
    rows.say("towards the second class", mean["up"])
    rows.say("towards the first class", mean["down"])
    if task.agreement:
        rows.add("the judge agrees, of flips", mean["judge"], task.agreement)
    else:
        rows.say("the judge agrees, of flips", mean["judge"])
    rows.say("step length, median (std)", mean["length"])
    rows.say("step length of 95 % of the flips (std)", mean["need"])
    rows.say("a random direction, within this length: flipped", chance["flipped"])


def walked(task: Task, test: Tensor, target: Tensor, way: Any, far: float) -> dict[str, float]:
    """Follow a direction from each held-out image, at most by ``far``."""
    moved = cfx.follow_direction(
        task.space, task.classifier, test, way, target, max_step=far, grid_steps=16
    )
    able = torch.tensor([status in ("flipped", "not_found") for status in moved.status])
    agrees = cfx.predict_logits(task.judge, moved.image).argmax(1) == target
    assert moved.code_after is not None
    assert moved.code_before is not None
    step = (moved.code_after.z - moved.code_before.z).flatten(1) / task.space.std.flatten().cpu()
    return {
        "flipped": moved.flipped[able].float().mean().item(),
        "up": moved.flipped[able & (target == 1)].float().mean().item(),
        "down": moved.flipped[able & (target == 0)].float().mean().item(),
        "judge": agrees[moved.flipped].float().mean().item(),
        "length": percentile(step.norm(dim=1)[moved.flipped], 50),
        "need": percentile(step.norm(dim=1)[moved.flipped], 95),
    }


def percentile(lengths: Tensor, percent: float) -> float:
    return lengths.quantile(percent / 100).item() if len(lengths) else math.nan


def equal_parts(classifier: Any, images: Tensor, count: int) -> Tensor:
    """Return the first ``count`` images that are seen as each class."""
    seen = cfx.predict_logits(classifier, images).argmax(1)
    return torch.cat([images[seen == label][:count] for label in (0, 1)])


def mixed(images: Tensor) -> Tensor:
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]


if __name__ == "__main__":
    sys.exit(main())
