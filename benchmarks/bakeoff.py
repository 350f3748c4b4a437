"""Compare all methods on the same images: ``python -m benchmarks.bakeoff``.

Every method and every baseline explains the same images, for the same targets, and is judged by the
same judge. The sprites say which factors a classifier uses: those of the shipped planted
classifiers, and those of classifiers that are trained here on rules drawn at random by seed. So an
explanation can be compared with a known cause. Digits and faces have an independent judge instead.

A new method enters with one line in ``METHODS``. ``--quick`` takes fewer rules and images.
"""

import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import scipy.stats
import torch
from torch import Tensor

import cfxnb as cfx
from benchmarks.rows import RESULTS, Rows, arguments, commit
from cfxnb.core import locations
from cfxnb.core.results import Counterfactuals
from cfxnb.data import SPRITE_CLASSIFIERS, SPRITE_CONTRASTS, ImageSet
from cfxnb.data.sprite_classifiers import PlantedClassifier
from cfxnb.train.sprites import train_planted

NAN = float("nan")
N_FLOW = 1500  # unlabelled images whose answers a flow learns
N_DIRECTION = 32  # unlabelled images from which directions are found
PICTURE = (
    "One panel per world: network passes per flip against the fraction of images that flip and "
    "change nothing but a cause (sprites), or that the judge confirms (digits, faces)."
)
MIN_TASKS = 5  # with fewer tasks an interval over tasks says nothing


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A classifier to explain, and all that methods and judges need.

    Attributes:
        world: Data set, under which results are averaged.
        name: The classifier, or the seed of its rule.
        classifier: The classifier that methods explain.
        space: Space of methods that walk in codes, or None if there is none that decodes fast.
        diffusion: Space of methods that denoise.
        train: Unlabelled training images.
        images, target: What is explained, the same for all methods.
        judge: Independent classifier with the same classes.
        causes: Planted causes, or None where they are not known.
        conditions: Conditions of a diffusion model that is told what the classes mean. Default: by
            the class names.
    """

    world: str
    name: str
    classifier: Any
    space: Any
    diffusion: Any
    train: Tensor
    images: Tensor
    target: Tensor
    judge: Any
    causes: tuple[str, ...] | None = None
    conditions: list[Any] | None = None

    def first(self, n: int) -> "Task":
        """Return the task with its first n images only."""
        return dataclasses.replace(self, images=self.images[:n], target=self.target[:n])

    @functools.cached_property
    def flow(self) -> Any:
        return cfx.fit_flow(self.space, self.classifier, self.train[:N_FLOW])

    @functools.cached_property
    def class_means(self) -> Any:
        return cfx.fit_flow(self.space, self.classifier, self.train[:N_FLOW], kind="class_means")

    @functools.cached_property
    def direction(self) -> Callable[[int], Any]:
        """Find the direction to a class, once for each class."""
        black_box = cfx.BlackBox(self.classifier)
        few = self.train[:N_DIRECTION]
        return functools.cache(lambda t: cfx.find_directions(self.space, black_box, few, t)["g"])


def _follow(task: Task) -> Counterfactuals:
    """Follow the direction to each target, with the images of each target together."""
    parts, rows = [], []
    for target in task.target.unique().tolist():
        own = (task.target == target).nonzero()[:, 0]
        found = cfx.follow_direction(
            task.space, task.classifier, task.images[own], task.direction(target), target
        )
        parts.append(found)
        rows.append(own)
    return Counterfactuals.concatenate(parts)[torch.cat(rows).argsort()]


def _random(task: Task) -> Counterfactuals:
    like = cfx.latent_attack(task.space, task.classifier, task.images, task.target)
    return cfx.random_change(task.space, task.classifier, like)


def _latent(method: Callable[..., Any], **options: Any) -> Callable[[Task], Any]:
    return lambda t: method(t.space, t.classifier, t.images, t.target, **options)


def _denoising(method: Callable[..., Any], **options: Any) -> Callable[[Task], Any]:
    return lambda t: method(t.diffusion, t.classifier, t.images, t.target, **options)


def _told(method: Callable[..., Any]) -> Callable[[Task], Any]:
    return lambda t: method(t.diffusion, t.classifier, t.images, t.target, conditions=t.conditions)


def _pixels(**options: Any) -> Callable[[Task], Any]:
    return lambda t: cfx.pixel_attack(t.classifier, t.images, t.target, **options)


def _flow(flow: str, **options: Any) -> Callable[[Task], Any]:
    def run(t: Task) -> Any:
        own = {"flow": getattr(t, flow), **options}
        return cfx.flow_counterfactual(t.space, t.classifier, t.images, t.target, **own)

    return run


CLASS_SWAP = {"update": "leap", "gamma": 1.0, "rounds": 1, "confidence": 0.5}

#: name -> (where it was published, what it changes, how it runs). Methods that denoise get fewer
#: images. Methods that change codes need a space whose decoder is fast.
METHODS: dict[str, tuple[str, str, Callable[[Task], Any]]] = {
    "reconstruction": ("baseline", "codes", _latent(cfx.reconstruct)),
    "random change": ("baseline", "codes", _random),
    "nearest real image": (
        "baseline",
        "pixels",
        lambda t: cfx.nearest_neighbour(t.classifier, t.images, t.target, pool=t.train),
    ),
    "pixel attack": ("baseline", "pixels", _pixels()),
    "line of class means": ("baseline", "codes", _flow("class_means")),
    "class swap": ("baseline", "codes", _flow("flow", **CLASS_SWAP)),
    "latent attack": ("2504.15479", "codes", _latent(cfx.latent_attack)),
    "query attack": ("this package", "codes", _latent(cfx.query_attack)),
    "global direction": ("2404.12488", "codes", _follow),
    "LeapFactual": ("2510.14623", "codes", _flow("flow", **cfx.PAPER_FLOW)),
    "flow walk": ("this package", "codes", _flow("flow")),
    "flow walk of the denoiser": ("this package", "denoised", _told(cfx.flow_counterfactual)),
    "consensus": ("2310.06668", "denoised", _told(cfx.diffusion_counterfactual)),
    "FastDiME": ("FastDiME", "denoised", _denoising(cfx.fastdime)),
    "SCE": ("2506.14698", "denoised", _denoising(cfx.sce)),
    "MaskDiME": ("2602.18792", "denoised", _denoising(cfx.maskdime)),
}

TRUTH = ["flip rate", "cause changed", "only causes changed"]
RANDOM = "sprites, random rules"
COLUMNS = [
    "flip rate",
    "judge agrees",
    "cause changed",
    "only causes changed",
    "L2",
    "network passes per flip",
    "seconds per flip",
]


def rule_judge(rule: PlantedClassifier) -> Callable[[Tensor], Tensor]:
    """Return a judge of sprites: the planted rule, applied to the factors that a reader reads."""
    reader = cfx.load("sprites/judge")

    def judge(images: Tensor) -> Tensor:
        says = torch.tensor(rule.label(reader.read(images)).to_numpy(bool))
        return 5.0 * torch.stack([~says, says], 1).float()

    return judge


def _sprites(name: str, rule: PlantedClassifier, classifier: Any, world: Any, n: int) -> Task:
    train = cfx.data.sprites(world, 2 * N_FLOW, split="train", seed=21)
    test = cfx.data.sprites(world, n, split="test", seed=33)
    return Task(
        world="sprites" if name in SPRITE_CLASSIFIERS else RANDOM,
        name=name,
        classifier=classifier,
        space=cfx.load("sprites/vae"),
        diffusion=cfx.load("sprites/ldm"),
        train=train.images,
        images=test.images,
        target=1 - cfx.predict_logits(classifier, test.images).argmax(1),
        judge=rule_judge(rule),
        causes=rule.causes,
        conditions=[{rule.causes[0]: option} for option in SPRITE_CONTRASTS[rule.causes[0]]],
    )


def _photographs(world: str, part: ImageSet, train: ImageSet, seed: int, names: Any) -> Task:
    space, diffusion, classifier = (n and cfx.load(f"{world}/{n}") for n in names)
    seen = cfx.predict_logits(classifier, part.images)
    shift = 1 if seen.shape[1] == 2 else 1 + seed
    return Task(
        world=world,
        name=f"images {seed}",
        classifier=classifier,
        space=space,
        diffusion=diffusion,
        train=train.images,
        images=part.images,
        target=(seen.argmax(1) + shift) % seen.shape[1],
        judge=cfx.load(f"{world}/judge"),
    )


def tasks(worlds: list[str], n: int, n_rules: int, n_sets: int) -> Iterator[Task]:
    """Make the tasks of the chosen worlds, one at a time.

    Args:
        worlds: Names of worlds.
        n: Images per task.
        n_rules: Random planted rules, with the seeds 0, 1, ...
        n_sets: Disjoint sets of images of digits and of faces, with different targets.
    """
    if "sprites" in worlds:
        for name, rule in SPRITE_CLASSIFIERS.items():
            yield _sprites(name, rule, cfx.load(f"sprites/{name}"), "pairs", n)
        for seed in range(n_rules):
            rule = cfx.data.random_planted_classifier(seed)
            folder = locations.runs() / f"random_rule_{seed}"
            net = cfx.wrap(train_planted(rule, folder), class_names=["gray", "red"])
            yield _sprites(f"rule {seed}", rule, net, rule.world, n)
    if "digits" in worlds:
        test, train = cfx.data.digits("test"), _shuffled(cfx.data.digits("train"))
        for seed in range(n_sets):
            part = test[seed * n : (seed + 1) * n]
            yield _photographs("digits", part, train, seed, ("vae", "ldm", "classifier"))
    if "faces" in worlds:
        test, train = cfx.data.faces("test"), _shuffled(cfx.data.faces("train"))
        for seed in range(n_sets):
            part = test[seed * n : (seed + 1) * n]
            yield _photographs("faces", part, train, seed, (None, "ldm", "smile"))


def _shuffled(part: ImageSet) -> ImageSet:
    return part[torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[:3000]]


def measure(task: Task, name: str) -> dict[str, float]:
    """Run one method on one task, and return the columns of the table."""
    found = METHODS[name][2](task)
    told = {}
    if task.causes is not None:
        told = {"reader": cfx.load("sprites/judge"), "causes": list(task.causes)}
    table = cfx.report({name: found}, judge=task.judge, **told).iloc[0]
    passes = sum(table[f"{network} passes per flip"] for network in ("generator", "classifier"))
    row = {**table.to_dict(), "network passes per flip": passes if found.flipped.any() else NAN}
    return {k: float(row[k]) for k in COLUMNS if k in row}


def mean_and_interval(values: pd.Series) -> pd.Series:
    """Return mean and 95 % t-interval over the tasks, which needs ``MIN_TASKS`` of them."""
    known = values.dropna().to_numpy(float)
    half = NAN
    if len(known) >= MIN_TASKS:
        half = float(scipy.stats.sem(known) * scipy.stats.t.ppf(0.975, len(known) - 1))
    mean = float(known.mean()) if len(known) else NAN
    return pd.Series({"mean": mean, "+-": half, "tasks": len(known)})


def shown(value: pd.Series) -> str:
    """Format a mean with its interval, or with the number of tasks if they are few."""
    if pd.isna(value["mean"]):
        return ""
    few = f" (n = {value['tasks']:.0f})"
    interval = few if pd.isna(value["+-"]) else f" ± {value['+-']:.2g}"
    return f"{value['mean']:.3g}{interval}"


def summary(measured: pd.DataFrame) -> pd.DataFrame:
    """Return one row per method: mean and interval of each column over the tasks of a world."""
    rows = {}
    for name in METHODS:
        own = measured[measured["method"] == name]
        if len(own):
            rows[name] = {"published": METHODS[name][0]} | {
                column: shown(mean_and_interval(own[column])) for column in COLUMNS if column in own
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def main() -> int:
    parser = arguments("bakeoff", __doc__)
    parser.add_argument("--quick", action="store_true", help="two rules, one set, few images")
    parser.add_argument("--worlds", nargs="*", default=["sprites", "digits", "faces"])
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--rules", type=int, default=20, help="number of random planted rules")
    parser.add_argument("--sets", type=int, default=3, help="sets of digits and of faces")
    parser.add_argument("--images", type=int, default=100, help="images per task")
    parser.add_argument("--denoised", type=int, default=12, help="of these, for denoising methods")
    parser.add_argument("--kept", type=Path, help="file of measured rows, from which to go on")
    parser.add_argument("--kept-only", action="store_true", help="measure nothing further")
    options = parser.parse_args()
    if options.kept_only and not options.kept:
        parser.error("--kept-only needs --kept FILE")
    if options.quick:
        options.rules, options.sets, options.images, options.denoised = 2, 1, 24, 4
    rows = Rows(
        "bakeoff",
        f"{options.images} held-out images per task, {options.denoised} for methods that denoise. "
        f"{options.rules} classifiers with random planted rules. Means with 95 % intervals over "
        f"tasks; with fewer than {MIN_TASKS} tasks, their number n instead. In sprites, consensus "
        "and the flow walk of the denoiser are told the first planted cause. Passes count "
        "generators, denoisers and classifiers, but not the small velocity networks.",
        options.write,
    )
    known = _kept(options.kept)
    if options.kept_only:
        options.worlds = []
    for task in tasks(options.worlds, options.images, options.rules, options.sets):
        for name in options.methods:
            if (task.world, task.name, name) in known:
                continue
            kind = METHODS[name][1]
            if kind == "codes" and task.space is None:
                continue
            own = task.first(options.denoised) if kind == "denoised" else task
            began = time.perf_counter()
            row = {**measure(own, name), "commit": commit()}
            known[task.world, task.name, name] = row
            seconds = time.perf_counter() - began
            print(f"{task.world}, {task.name}, {name}: {seconds:.0f} s, {row}", flush=True)
            if options.kept:
                with options.kept.open("a", encoding="utf-8") as file:
                    key = [task.world, task.name, name]
                    file.write(json.dumps({"key": key, "row": row}) + "\n")
    measured = pd.DataFrame(
        [{"world": w, "task": t, "method": m, **row} for (w, t, m), row in known.items()]
    )
    made = measured.groupby("commit", sort=False)["world"].unique()
    if len(made) > 1:
        rows.runs = "in several runs that --kept joined"
        rows.setting += " Rows: " + "; ".join(f"{', '.join(w)}: {c}" for c, w in made.items()) + "."
    for world, part in measured.groupby("world", sort=False):
        rows.section(str(world).capitalize())
        rows.table(f"{part['task'].nunique()} tasks", summary(part))
        if world == RANDOM:
            turning = part["task"].map(_turns).astype(bool)
            for place, some in (("not among", part[~turning]), ("among", part[turning])):
                count = some["task"].nunique()
                title = f"{count} of these rules, in which the direction is {place} the causes"
                rows.table(title, summary(some).reindex(columns=TRUTH))
    rows.parts.append(f"![{PICTURE}](bakeoff.png)")
    draw(measured, RESULTS.parent / "bakeoff.png" if options.write else None)
    return rows.close()


def _turns(task: str) -> bool:
    """Return whether a random rule depends on the direction, which redraws the whole figure."""
    return "direction" in cfx.data.random_planted_classifier(int(task.split()[1])).causes


def _kept(path: Path | None) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Read measured rows of an earlier run that was stopped."""
    if path is None or not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(line["key"][0], line["key"][1], line["key"][2]): line["row"] for line in lines}


def draw(measured: pd.DataFrame, path: Path | None) -> None:
    """Draw truth against cost, one panel per world, and save the figure."""
    if path is None:
        return
    import matplotlib.pyplot as plt

    worlds = list(measured["world"].unique())
    size = (4.6 * len(worlds), 5.6)
    figure, panels = plt.subplots(1, len(worlds), figsize=size, squeeze=False)
    for world, panel in zip(worlds, panels[0], strict=True):
        own = measured[measured["world"] == world]
        truth = "only causes changed" if own.get("only causes changed") is not None else ""
        truth = truth if truth and own[truth].notna().any() else "judge agrees"
        means = own.assign(true=own[truth] * own["flip rate"]).groupby("method")
        points = means[["network passes per flip", "true"]].mean().dropna()
        for name, point in points.iterrows():
            number = list(METHODS).index(str(name))
            marker = "os^"[number // 7]
            panel.plot(*point, marker, color=f"C{number % 7}", markersize=8, alpha=0.8,
                       markeredgecolor="black", markeredgewidth=0.5, label=str(name))  # fmt: skip
        panel.set_xscale("log")
        panel.set_xlim(4, 250)
        panel.set_xticks([5, 10, 20, 50, 100, 200], ["5", "10", "20", "50", "100", "200"])
        panel.minorticks_off()
        panel.set_ylim(-0.03, 1.06)
        panel.set_title(str(world))
        panel.set_xlabel("network passes per flip")
        panel.set_ylabel(f"images that flip, and {truth}")
    shown_by_name: dict[str, Any] = {}  # labels beside the points would overlap
    for panel in panels[0]:
        shown_by_name |= dict(zip(*panel.get_legend_handles_labels()[::-1], strict=True))
    names = [name for name in METHODS if name in shown_by_name]
    figure.legend([shown_by_name[name] for name in names], names, loc="lower center", ncol=5,
                  fontsize=9, frameon=False)  # fmt: skip
    figure.tight_layout(rect=(0, 0.16, 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
