"""Compare all methods on the same images: ``python -m benchmarks.bakeoff``.

Every method and every baseline explains the same images, for the same targets, and is judged by the
same judge. The sprites say which factors a classifier uses: those of the shipped planted
classifiers, and those of classifiers that are trained here on rules drawn at random by seed. So an
explanation can be compared with a known cause. Digits and faces have an independent judge instead.

A new method enters with one line in ``cfxnb/evaluation/methods.py``. ``--quick`` takes fewer rules
and images.
"""

import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import scipy.stats

import cfxnb as cfx
from benchmarks.rows import RESULTS, Rows, arguments, commit
from cfxnb.core import locations
from cfxnb.evaluation.measure import COLUMNS, measure
from cfxnb.evaluation.methods import METHODS
from cfxnb.evaluation.tasks import RANDOM, Task, sprite_task, tasks
from cfxnb.train.sprites import train_planted

PICTURE = (
    "One panel per world: network passes per flip against the fraction of images that flip and "
    "change nothing but a cause (sprites), or that the judge confirms (digits, faces)."
)
MIN_TASKS = 5  # with fewer tasks an interval over tasks says nothing
TRUTH = ["flip rate", "cause changed", "only causes changed"]


def bakeoff_tasks(worlds: list[str], n: int, n_rules: int, n_sets: int) -> Iterator[Task]:
    """Make the tasks of the chosen worlds, one at a time.

    Args:
        worlds: Names of worlds.
        n: Images per task.
        n_rules: Random planted rules, with the seeds 0, 1, ...
        n_sets: Disjoint sets of images of digits and of faces, with different targets.
    """
    if "sprites" in worlds:
        yield from tasks(["sprites"], n, [0])
        for seed in range(n_rules):
            rule = cfx.data.random_planted_classifier(seed)
            folder = locations.runs() / f"random_rule_{seed}"
            net = cfx.wrap(train_planted(rule, folder), class_names=["gray", "red"])
            yield sprite_task(f"rule {seed}", rule, net, rule.world, n)
    yield from tasks([world for world in worlds if world != "sprites"], n, range(n_sets))


def mean_and_interval(values: pd.Series) -> pd.Series:
    """Return mean and 95 % t-interval over the tasks, which needs ``MIN_TASKS`` of them."""
    known = values.dropna().to_numpy(float)
    half = math.nan
    if len(known) >= MIN_TASKS:
        half = float(scipy.stats.sem(known) * scipy.stats.t.ppf(0.975, len(known) - 1))
    mean = float(known.mean()) if len(known) else math.nan
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
    for task in bakeoff_tasks(options.worlds, options.images, options.rules, options.sets):
        for name in options.methods:
            if (task.world, task.name, name) in known:
                continue
            kind = METHODS[name][1]
            if kind == "codes" and task.space is None:
                continue
            own = task.first(options.denoised) if kind == "denoised" else task
            began = time.perf_counter()
            found = METHODS[name][2](own)
            row = {**measure(own, name, found), "commit": commit()}
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
