"""Measure the flow walk on random planted rules: ``python -m benchmarks.random_rules``.

For each rule a classifier is trained, a flow is fitted to its answers about 1,500 unlabelled
figures, and the flow walk explains held-out figures, which the bake-off does not use. All calls
have their default options. A judge reads which factors changed. The class swap stands beside it.
Exits with 1 if a row falls short.
"""

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
from cfxnb.evaluation.measure import measure
from cfxnb.evaluation.methods import CLASS_SWAP
from cfxnb.evaluation.tasks import N_FLOW, Task, sprite_task
from cfxnb.train.sprites import train_planted

FIGURES = 1  # seed of the figures; the bake-off uses those of seed 0
COLUMNS = ("flip rate", "cause changed", "only causes changed", "judge agrees", "L2")
METHODS: dict[str, dict[str, Any]] = {"flow walk": {}, "class swap": CLASS_SWAP}


def main() -> int:
    parser = arguments("random_rules", __doc__)
    parser.add_argument("--rules", type=int, default=20, help="number of random planted rules")
    parser.add_argument("--images", type=int, default=500, help="held-out figures per rule")
    parser.add_argument("--kept", type=Path, help="file of measured rules, from which to go on")
    options = parser.parse_args()
    setting = (
        f"{options.rules} classifiers with random planted rules, {options.images} held-out figures "
        f"each. The flow of each classifier is fitted to its answers about {N_FLOW:,} unlabelled "
        "figures. Default options. Queries are evaluations of the classifier per figure, also of "
        "the original and its reconstruction."
    )
    rows = Rows("random_rules", setting, options.write)
    known = _kept(options.kept)
    for seed in range(options.rules):
        if str(seed) not in known:
            known[str(seed)] = measured(seed, options.images)
            print(seed, known[str(seed)], flush=True)
            if options.kept:
                with options.kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({str(seed): known[str(seed)]}) + "\n")
    found = [known[str(seed)] for seed in range(options.rules)]
    tables = {name: pd.DataFrame([each[name] for each in found]) for name in METHODS}
    walk = tables["flow walk"].mean()
    rows.add("flow walk: flip rate", walk["flip rate"], 0.99)
    rows.add("flow walk: cause changed, of flips", walk["cause changed"], 0.98)
    rows.add("flow walk: only causes changed, of flips", walk["only causes changed"], 0.97)
    rows.add("flow walk: queries", walk["queries"], 6, at_most=True)
    rows.say("flow walk: judge agrees, of flips", walk["judge agrees"])
    rows.say("flow walk: only causes changed, worst rule",
             tables["flow walk"]["only causes changed"].min())  # fmt: skip
    swap = tables["class swap"].mean()
    for name in ("flip rate", "cause changed", "only causes changed"):
        rows.say(f"class swap: {name}", swap[name])
    rules = [cfx.data.random_planted_classifier(seed).description for seed in range(options.rules)]
    rows.table("Flow walk, one row per rule", tables["flow walk"].set_axis(rules))
    return rows.close()


def rule_task(seed: int, n: int) -> Task:
    """Return the task of the classifier with the random rule of this seed, on n figures."""
    rule = cfx.data.random_planted_classifier(seed)
    net = train_planted(rule, locations.runs() / f"random_rule_{seed}")
    wrapped = cfx.wrap(net, class_names=["gray", "red"])
    return sprite_task(f"rule {seed}", rule, wrapped, rule.world, n, FIGURES)


def fitted(task: Task) -> Any:
    """Fit the flow of a task, which is kept for the next run."""
    kept = locations.runs() / "random_rule_flows"
    return cfx.fit_flow(task.space, task.classifier, task.train[:N_FLOW], checkpoint_dir=kept)


def measured(seed: int, n: int) -> dict[str, dict[str, float]]:
    """Return the columns of each method for the rule of this seed."""
    task = rule_task(seed, n)
    flow, rows = fitted(task), {}
    for name, options in METHODS.items():
        found = cfx.flow_counterfactual(
            task.space, task.classifier, task.images, task.target, flow=flow, **options
        )
        table = measure(task, name, found)
        searched = torch.tensor([s != "reconstruction_is_target" for s in found.status])
        queries = found.cost["classifier"][searched].double().mean().item()
        rows[name] = {
            **{column: table.get(column, math.nan) for column in COLUMNS},
            "queries": queries,
            "figures": float(searched.sum()),
        }
    return rows


def _kept(path: Path | None) -> dict[str, dict[str, dict[str, float]]]:
    """Read the measured rules of an earlier run that was stopped."""
    if path is None or not path.exists():
        return {}
    known: dict[str, dict[str, dict[str, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        known |= json.loads(line)
    return known


if __name__ == "__main__":
    sys.exit(main())
