"""Directions for all 45 pairs of digits: ``python -m benchmarks.digit_pairs``.

For each pair, ``find_directions`` gets 32 training images (16 seen as each class), 8, or one, and
its default number of queries. Held-out test digits of both classes are moved towards the other
class of their pair. Nothing was tuned on the images that are measured.

By default the directions are those of ``digits/vae``, which renders quickly. With ``--space
digits/diffae --shared`` an image's answers are computed once and used for the nine pairs of its
class, by the parts of ``find_directions``. Images are rendered with five steps: 99 % of the
decisions agree with those at twenty steps. One seed then takes about twenty minutes on one core.
"""

import argparse
import dataclasses
import inspect
import sys
from itertools import combinations
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import cfxnb as cfx
from benchmarks.rows import Rows, arguments
from cfxnb.core.bisection import bisect
from cfxnb.core.code_covariance import CodeCovariance, covariance_of
from cfxnb.core.decisions import is_predicted, is_reached, log_odds
from cfxnb.core.tensors import (
    noise_like,
    per_sample,
    standardise,
    typical_distance,
    unit,
)
from cfxnb.core.types import Code
from cfxnb.directions.global_search import class_scores, fit_scores
from cfxnb.directions.probing import BlackBoxProbe, ImageProbes, rms
from cfxnb.directions.query_log import QueryLog
from cfxnb.directions.search_config import SearchConfig

CLASSES = 10
CONFIDENCE = inspect.signature(cfx.follow_direction).parameters["confidence"].default
BOUNDS = {  # images: (flipped within half, within the whole, worst pair within the whole)
    32: (0.55, 0.93, 0.75),
    8: (0.45, 0.90, 0.0),
    1: (0.30, 0.70, 0.0),
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all measurements share: networks, held-out images, and how far they are moved."""

    space: Any
    classifier: Any
    judge: Any
    covariance: CodeCovariance
    images: Tensor  # held-out, (classes, n, c, h, w)
    codes: dict[int, Code]  # of the classes that are measured
    grid: int
    halvings: int
    confidence: float

    @property
    def far(self) -> float:
        return typical_distance(self.space.std)


def main() -> int:
    parser = arguments("digit_pairs", __doc__)
    parser.add_argument("--images", type=int, default=20, help="held-out images of each class")
    parser.add_argument("--queries", type=int, default=2048, help="queries of a search")
    parser.add_argument("--shared", action="store_true", help="answers are shared by the pairs")
    parser.add_argument("--seeds", type=int, default=3, help="draws of the source images")
    parser.add_argument("--sources", type=int, nargs="*", default=[32, 8, 1])
    parser.add_argument("--grid", type=int, default=8, help="steps that are tested for an image")
    parser.add_argument("--halvings", type=int, default=4, help="steps of the binary search")
    parser.add_argument("--confidence", type=float, default=CONFIDENCE, help="of the target")
    parser.add_argument("--classes", type=int, nargs="*", default=list(range(CLASSES)))
    parser.add_argument("--space", default="digits/vae")
    chosen = parser.parse_args()
    diffusion = chosen.space == "digits/diffae"
    way = "answers shared by the pairs" if chosen.shared else "`cfx.find_directions` for each pair"
    rows = Rows(
        "digit_pairs" + "_by_diffusion" * diffusion,
        f"All pairs of {len(chosen.classes)} digits in `{chosen.space}`, {chosen.images} held-out "
        f"digits of each class, {chosen.seeds} draws of the source images, at most "
        f"{chosen.queries} queries per search, {way}. An image ends where "
        f"the target has the probability {chosen.confidence:g}.",
        chosen.write,
        " ".join(["digit_pairs", *(part for part in sys.argv[1:] if part != "--write")]),
    )
    with torch.no_grad():
        measure(rows, chosen)
    return rows.close()


def measure(rows: Rows, chosen: argparse.Namespace) -> None:
    space = cfx.load(chosen.space)
    space = space.with_steps(5) if hasattr(space, "with_steps") else space
    f, judge = cfx.load("digits/classifier"), cfx.load("digits/judge")
    held, train = (seen_images(f, part) for part in ("test", "train"))
    images = torch.stack([part[: chosen.images] for part in held])
    encode = {c: space.encode(images[c]) for c in chosen.classes}
    setting = Setting(
        space, f, judge, covariance_of(space), images, encode,
        chosen.grid, chosen.halvings, chosen.confidence,
    )  # fmt: skip
    by_chance = random_flips(setting)
    rows.say("a random direction within the active axes: flipped within half", by_chance[0])
    rows.say("a random direction within the active axes: flipped within the whole", by_chance[1])
    every: list[dict[str, Any]] = []
    for seed in range(chosen.seeds):
        draw = torch.Generator().manual_seed(seed)
        drawn = [x[torch.randperm(len(x), generator=draw)[:16]] for x in train]
        answers = probe_pool(setting, drawn, chosen, seed) if chosen.shared else []
        for n_sources in chosen.sources:
            for pair in combinations(chosen.classes, 2):
                if chosen.shared:
                    found = pair_directions(
                        answers, pair, n_sources, about(chosen.queries), setting
                    )
                else:
                    found = called(setting, drawn, pair, n_sources, chosen.queries, seed)
                every += [
                    {"sources": n_sources, "seed": seed, "pair": pair, **row}
                    for row in walks(setting, pair, found)
                ]
            table = pd.DataFrame(every).query("sources == @n_sources and seed == @seed")
            print(n_sources, seed, table.mean(numeric_only=True).round(3).to_dict(), flush=True)
    report(rows, pd.DataFrame(every), chosen.sources)


def report(rows: Rows, table: pd.DataFrame, sources: list[int]) -> None:
    for n_sources in sources:
        part = table[table["sources"] == n_sources]
        pairs = part.groupby("pair")[["half", "whole"]].mean()
        half, whole, worst = BOUNDS[n_sources]
        name = f"{n_sources} images" if n_sources > 1 else "one image"
        rows.add(f"{name}: flipped within half, mean of all pairs", part["half"].mean(), half)
        rows.add(f"{name}: flipped within the whole", part["whole"].mean(), whole)
        rows.add(f"{name}: flipped within the whole, worst pair", pairs["whole"].min(), worst)
        flips = part[part["whole"] == 1]
        agreement = flips["judge"].mean()
        rows.add(f"{name}: the judge agrees, of flips", agreement, 0.9)
        rows.say(f"{name}: flips with the confidence", flips["confident"].mean())
        worst_pairs = pairs.sort_values("whole")
        rows.table(f"{name}: the five hardest pairs", worst_pairs.set_axis(
            [f"{a}/{b}" for a, b in worst_pairs.index]).head(5))  # fmt: skip


def seen_images(classifier: Any, split: str, limit: int = 3000) -> list[Tensor]:
    """Return digits by the class that the classifier predicts."""
    images = cfx.data.digits(split).images[:limit]
    seen = cfx.predict_logits(classifier, images).argmax(1)
    return [images[seen == c] for c in range(CLASSES)]


def called(
    setting: Setting, drawn: list[Tensor], pair: tuple[int, int], n_sources: int, queries: int,
    seed: int,
) -> Tensor:  # fmt: skip
    """Return one direction per class from ``find_directions``, (k, d), in std."""
    half = max(1, n_sources // 2)
    images = torch.cat([drawn[c][:half] for c in (pair if n_sources > 1 else pair[:1])])
    found = cfx.find_directions(
        setting.space, cfx.BlackBox(setting.classifier), images, pair[1], max_queries=queries,
        n_curvature=0, seed=seed,
    )  # fmt: skip
    assert found.class_vectors is not None
    return standardise(found.class_vectors, setting.space.std).cpu()


def about(queries: int) -> int:
    """Return the queries about changed images: ``find_directions`` keeps a quarter for tests."""
    return queries - queries // 4


def per_image(n_sources: int, queries: int) -> int:
    """Return the number of probes of each image, an even number."""
    return queries // n_sources // 2 * 2


def probe_pool(
    setting: Setting, drawn: list[Tensor], chosen: argparse.Namespace, seed: int
) -> list[list[ImageProbes]]:
    """Return the answers about each image of each class, as many as the largest search needs."""
    pool = []
    for c, images in enumerate(drawn):
        probes: list[ImageProbes] = []
        pool.append(probes)
        if c not in chosen.classes:
            continue
        for position, image in enumerate(images[: max(1, max(chosen.sources) // 2)]):
            counts = [
                per_image(n, about(chosen.queries))
                for n in chosen.sources
                if position < (n + 1) // 2
            ]
            count = max(counts)
            far = setting.far
            config = SearchConfig(0, None, radius=far, max_step=far, max_queries=count + 1,
                                  seed=1000 * seed + 20 * c + position)  # fmt: skip
            log = QueryLog(count + 1, None, {})
            box = BlackBoxProbe(
                setting.space, cfx.BlackBox(setting.classifier), rms, image[None], log, config
            )
            probes.append(box.sample_images(0))
        print(f"class {c} is probed", flush=True)
    return pool


def pair_directions(
    pool: list[list[ImageProbes]],
    pair: tuple[int, int],
    n_sources: int,
    queries: int,
    setting: Setting,
) -> Tensor:
    """Return one direction per class, from the images of two classes (or one image)."""
    each = per_image(n_sources, queries)
    classes = pair if n_sources > 1 else pair[:1]
    parts = [probes for c in classes for probes in pool[c][: max(1, n_sources // 2)]]
    joined = {
        field.name: torch.cat([getattr(probes, field.name)[:each] for probes in parts])
        for field in dataclasses.fields(ImageProbes)
    }
    joined["image"] = torch.arange(len(parts)).repeat_interleave(
        torch.tensor([min(each, len(probes.image)) for probes in parts])
    )
    config = SearchConfig(0, None, radius=setting.far, max_step=setting.far)
    gamma = fit_scores(ImageProbes(**joined), class_scores(joined["logits"], config))
    return unit(gamma @ setting.covariance.axes)


def walks(setting: Setting, pair: tuple[int, int], directions: Tensor) -> list[dict[str, float]]:
    """Move the held-out images of both classes of a pair towards the other class."""
    own, other = pair
    return [*walk(setting, own, other, directions), *walk(setting, other, own, directions)]


def walk(setting: Setting, own: int, target: int, directions: Tensor) -> list[dict[str, float]]:
    """Move the held-out images of one class towards a target, and say what was reached.

    As in ``follow_direction``, the end is the smallest step with the confidence, or else the
    flipping step with the largest probability.
    """
    step = setting.space.std.cpu() * directions[target]
    code, goal = setting.codes[own], torch.full((len(setting.images[own]),), target)
    places = setting.far * torch.arange(1, setting.grid + 1) / setting.grid
    logits = [render(setting, code, place.expand(len(goal)), step)[0] for place in places]
    flips = torch.stack([is_predicted(x, goal) for x in logits])
    sure = torch.stack([is_reached(x, goal, setting.confidence) for x in logits])
    odds = torch.stack([log_odds(x, goal) for x in logits]).where(flips, torch.tensor(-1e9))
    end = places[torch.where(sure.any(0), sure.float().argmax(0), odds.argmax(0))]
    rows = sure.any(0).nonzero()[:, 0]
    end[rows] = bisect(
        lambda at: is_reached(
            render(setting, code[rows], at, step)[0], goal[rows], setting.confidence
        ),
        end[rows] - setting.far / setting.grid,
        end[rows],
        setting.halvings,
    )
    agrees = setting.judge(render(setting, code, end, step)[1]).argmax(1) == goal
    columns = {
        "half": flips[: setting.grid // 2].any(0),
        "whole": flips.any(0),
        "confident": sure.any(0),
        "judge": agrees,
    }
    return [{name: float(column[i]) for name, column in columns.items()} for i in range(len(goal))]


def render(setting: Setting, code: Code, at: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and images after steps of length ``at``, (n,), along a direction."""
    images = setting.space.decode(code.with_z(code.z + per_sample(at, code.z) * step))
    return setting.classifier(images), images


def random_flips(setting: Setting) -> list[float]:
    """Return the flips along random directions, both signs, towards each other class."""
    half, whole = [], []
    for own, code in setting.codes.items():
        noise = noise_like(torch.zeros(1, len(setting.covariance.axes)), own)
        step = setting.space.std.cpu() * unit(noise @ setting.covariance.axes)[0]
        n = len(code)
        places = setting.far * torch.tensor([s * x for x in (0.25, 0.5, 0.75, 1) for s in (1, -1)])
        seen = torch.stack([render(setting, code, p.expand(n), step)[0].argmax(1) for p in places])
        for target in range(CLASSES):
            if target != own:
                half.append((seen[:4] == target).any(0).float().mean().item())
                whole.append((seen == target).any(0).float().mean().item())
    return [sum(half) / len(half), sum(whole) / len(whole)]


if __name__ == "__main__":
    sys.exit(main())
