"""Measure the walk along a flow: ``python -m benchmarks.flow_walk``.

Shipped classifiers with planted rules: in two worlds, along the shipped flows; and in a world in
which hair and top agree for 97 % of the figures, along flows that are fitted there. Random planted
rules: for each rule a classifier is trained, a flow is fitted to its answers about
1,500 unlabelled figures, and the walk explains held-out figures, which the bake-off does not use. A
judge reads which factors changed. Digits: the shipped flow. Faces: the denoiser, without any fit.
All calls have their default options. Exits with 1 if a row falls short.
"""

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import cfxnb as cfx
from benchmarks.rows import Rows, arguments
from cfxnb.core import locations
from cfxnb.core.results import Counterfactuals
from cfxnb.data.causal import World, given
from cfxnb.evaluation.measure import measure
from cfxnb.evaluation.methods import CLASS_SWAP
from cfxnb.evaluation.tasks import N_FLOW, Task, sprite_task
from cfxnb.train.sprites import train_planted

PARTS = ("planted", "confounded", "rules", "digits", "faces")
FIGURES = 1  # seed of the figures; the bake-off uses those of seed 0
FACES = (100, 400)  # test images
WORLDS = ("pairs", "confounded")
AGREE = 0.97  # of the figures in the most confounded world
COLUMNS = ("flip rate", "cause changed", "only causes changed", "judge agrees", "L2")
METHODS: dict[str, dict[str, Any]] = {"flow walk": {}, "class swap": CLASS_SWAP}
NOT_BEGUN = ("already_target", "reconstruction_is_target")
Table = dict[str, dict[str, float]]


def main() -> int:
    parser = arguments("flow_walk", __doc__)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--rules", type=int, default=20, help="number of random planted rules")
    parser.add_argument("--images", type=int, default=500, help="held-out figures per rule")
    parser.add_argument("--digits", type=int, default=1000, help="test digits")
    parser.add_argument("--consensus", type=int, default=100, help="of the faces, for consensus")
    parser.add_argument("--kept", type=Path, help="file of measured rows, from which to go on")
    options = parser.parse_args()
    setting = (
        "Default options. Queries are evaluations of the classifier per image, also of the "
        "original and its reconstruction. Rates of the judge and of the causes are of flips."
    )
    rows = Rows("flow_walk", setting, options.write)
    kept = _Kept(options.kept)
    if kept.known:
        rows.runs = "in several runs that --kept joined"
    if "planted" in options.parts:
        planted(rows, kept, options.images)
    if "confounded" in options.parts:
        confounded(rows, kept, options.images)
    if "rules" in options.parts:
        rules(rows, kept, options.rules, options.images)
    if "digits" in options.parts:
        found = kept.get("digits", lambda: digits(options.digits))["flow walk"]
        rows.section(f"Digits: {options.digits:,} test images, target: label + 1")
        rows.add("flip rate", found["flip rate"], 0.995)
        rows.add("judge agrees", found["judge agrees"], 0.98)
        rows.add("queries", found["queries"], 6, at_most=True)
        rows.say("L2", found["L2"])
    if "faces" in options.parts:
        table = kept.get("faces", lambda: faces(options.consensus))
        walk, first, other = (table[name] for name in ("all", "first", "consensus"))
        rows.section(f"Faces: test images {FACES[0]} to {FACES[1] - 1}, without a fit")
        rows.add("flip rate", walk["flip rate"], 0.97)
        rows.add("judge agrees", walk["judge agrees"], 0.94)
        rows.add("passes of the denoiser, none of them backward", walk["unet"], 40, at_most=True)
        rows.add("queries", walk["queries"], 10, at_most=True)
        title = f"the first {options.consensus} images"
        rows.add(f"L2 on {title}; bound: consensus", first["L2"], other["L2"], at_most=True)
        rows.say(f"judge agrees, {title}", first["judge agrees"])
        rows.say(f"judge agrees, {title}, consensus", other["judge agrees"])
    return rows.close()


def planted(rows: Rows, kept: "_Kept", n: int) -> None:
    """Explain the shipped classifiers of sprites in two worlds, along the shipped flows."""

    def measured(name: str, world: str) -> Table:
        rule, f = cfx.data.SPRITE_CLASSIFIERS[name], cfx.load(f"sprites/{name}")
        task = sprite_task(name, rule, f, world, n, FIGURES)
        return explained(task, cfx.load(f"sprites/flow_{name}"), METHODS)

    pairs = [(name, world) for name in cfx.data.SPRITE_CLASSIFIERS for world in WORLDS]
    found = [
        kept.get(f"{name}, {world}", lambda each=(name, world): measured(*each))
        for name, world in pairs
    ]
    rows.section(f"Shipped classifiers with planted rules, {n} held-out figures per world")
    tables = {name: pd.DataFrame([each[name] for each in found]) for name in METHODS}
    walk, swap = (tables[name].mean() for name in METHODS)
    rows.add("flip rate", walk["flip rate"], 0.99)
    rows.add("cause changed", walk["cause changed"], 0.98)
    rows.add("only causes changed", walk["only causes changed"], 0.97)
    rows.add("queries", walk["queries"], 6, at_most=True)
    rows.say("class swap: only causes changed", swap["only causes changed"])
    said = [f"{name}, {world}" for name, world in pairs]
    rows.table("The walk, one row per classifier and world", tables["flow walk"].set_axis(said))


def confounded(rows: Rows, kept: "_Kept", n: int) -> None:
    """Explain two classifiers in a world in which hair and top nearly always agree."""
    small = {"gamma": 0.1, "growth": 1.25, "landing_time": 1.0}
    methods = METHODS | {"no landing": {"landing_time": 1.0}, "no landing, small steps": small}

    def measured(name: str) -> Table:
        options = {k: list(v) for k, v in cfx.data.SPRITE_CONTRASTS.items()}
        (gray, red), (white, metal) = options.pop("hair"), options.pop("top")
        hair = given(
            "top",
            **{white: {gray: AGREE, red: 1 - AGREE}, metal: {gray: 1 - AGREE, red: AGREE}},
        )
        world = World(top=[white, metal], hair=hair, **options)
        rule = dataclasses.replace(cfx.data.SPRITE_CLASSIFIERS[name], world=world)
        task = sprite_task(name, rule, cfx.load(f"sprites/{name}"), world, n, FIGURES)
        flow = cfx.fit_flow(task.space, task.classifier, task.train[:N_FLOW])
        return explained(task, flow, methods)

    names = ("honest", "shortcut")
    found = {name: kept.get(f"{name}, 97 %", lambda name=name: measured(name)) for name in names}
    rows.section(
        f"Hair and top agree for {AGREE:.0%}: flows fitted to {N_FLOW} figures, {n} tested"
    )
    for name, table in found.items():
        best = max(each["only causes changed"] for each in table.values())
        rows.add(f"{name}: only causes changed, best of the ways below", best, 0.95)
        rows.table(f"{name}, reads {cfx.data.SPRITE_CLASSIFIERS[name].causes[0]}",
                   pd.DataFrame(table).T)  # fmt: skip


def rules(rows: Rows, kept: "_Kept", n_rules: int, n: int) -> None:
    seeds = range(n_rules)
    found = [kept.get(f"rule {seed}", lambda seed=seed: one_rule(seed, n)) for seed in seeds]
    rows.section(f"Random planted rules: {n_rules} classifiers, {n} held-out figures each")
    tables = {name: pd.DataFrame([each[name] for each in found]) for name in METHODS}
    walk, swap = (tables[name].mean() for name in METHODS)
    rows.add("flip rate", walk["flip rate"], 0.99)
    rows.add("cause changed", walk["cause changed"], 0.98)
    rows.add("only causes changed", walk["only causes changed"], 0.97)
    rows.add("queries", walk["queries"], 6, at_most=True)
    rows.say("judge agrees", walk["judge agrees"])
    for name in ("flip rate", "cause changed", "only causes changed"):
        rows.say(f"class swap: {name}", swap[name])
    said = [cfx.data.random_planted_classifier(seed).description for seed in seeds]
    rows.table("The walk, one row per rule", tables["flow walk"].set_axis(said))


def rule_task(seed: int, n: int) -> Task:
    """Return the task of the classifier with the random rule of this seed, on n figures."""
    rule = cfx.data.random_planted_classifier(seed)
    net = train_planted(rule, locations.runs() / f"random_rule_{seed}")
    wrapped = cfx.wrap(net, class_names=["gray", "red"])
    return sprite_task(f"rule {seed}", rule, wrapped, rule.world, n, FIGURES)


def one_rule(seed: int, n: int) -> Table:
    """Return the columns of each method for the rule of this seed."""
    task, kept = rule_task(seed, n), locations.runs() / "random_rule_flows"
    flow = cfx.fit_flow(task.space, task.classifier, task.train[:N_FLOW], checkpoint_dir=kept)
    return explained(task, flow, METHODS)


def explained(task: Task, flow: Any, methods: dict[str, dict[str, Any]]) -> Table:
    """Return the columns of each method on a task."""
    rows = {}
    for name, options in methods.items():
        found = cfx.flow_counterfactual(
            task.space, task.classifier, task.images, task.target, flow=flow, **options
        )
        row = measure(task, name, found)
        rows[name] = {column: row.get(column, math.nan) for column in COLUMNS} | spent(found)
    return rows


def digits(n: int) -> Table:
    """Return the columns of the walk along the shipped flow of digits, on n test images."""
    test = cfx.data.digits()[:n]
    found = cfx.flow_counterfactual(
        cfx.load("digits/vae"), cfx.load("digits/classifier"), test.images,
        (test.labels + 1) % 10, flow=cfx.load("digits/flow"),
    )  # fmt: skip
    return {"flow walk": judged(found, cfx.load("digits/judge"))}


def faces(n_consensus: int) -> Table:
    """Return the columns of the walk of the denoiser, and those of consensus on some images."""
    space, smile, judge = (cfx.load(f"faces/{name}") for name in ("ldm", "smile", "judge"))
    images = cfx.data.faces()[slice(*FACES)].images
    target = 1 - cfx.predict_logits(smile, images).argmax(1)
    walk = cfx.flow_counterfactual(space, smile, images, target, batch_size=16)
    some = slice(n_consensus)
    consensus = cfx.diffusion_counterfactual(
        space, smile, images[some], target[some], batch_size=16
    )
    parts = {"all": walk, "first": walk[some], "consensus": consensus}
    return {name: judged(found, judge) for name, found in parts.items()}


def judged(found: Counterfactuals, judge: Any) -> dict[str, float]:
    row = cfx.report({"": found}, judge=judge).iloc[0]
    return {name: float(row[name]) for name in ("flip rate", "judge agrees", "L2")} | spent(found)


def spent(found: Counterfactuals) -> dict[str, float]:
    """Return the passes per image of all images for which a search began."""
    begun = torch.tensor([status not in NOT_BEGUN for status in found.status])
    passes = {"queries": found.cost["classifier"], "unet": found.cost.get("unet")}
    means = {k: v[begun].double().mean().item() for k, v in passes.items() if v is not None}
    return {**means, "images": float(begun.sum())}


class _Kept:
    """Rows that an earlier run measured and kept, so that a stopped run goes on."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.known = path, dict[str, Table]()
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                self.known |= json.loads(line)

    def get(self, name: str, measured: Any) -> Table:
        """Return the rows of this name. Without them, call ``measured`` and keep its result."""
        if name not in self.known:
            self.known[name] = measured()
            print(name, self.known[name], flush=True)
            if self.path:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({name: self.known[name]}) + "\n")
        return self.known[name]


if __name__ == "__main__":
    sys.exit(main())
