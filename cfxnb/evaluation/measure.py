"""Compute the measures of a method on a task, and pool the measures of several tasks."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cfxnb.core.intervals import wilson_interval
from cfxnb.core.results import Counterfactuals
from cfxnb.evaluation.tasks import Task
from cfxnb.metrics.report import report
from cfxnb.weights import load

RATES = ("flip rate", "judge agrees", "cause changed", "only causes changed")
MEANS = ("L2",)
COSTS = ("network passes per flip", "seconds per flip")
COLUMNS = (*RATES, *MEANS, *COSTS)
LEVEL = 0.95


def measure(task: Task, name: str, found: Counterfactuals, level: float | None = None) -> dict:
    """Return the columns of ``cfx.report`` for one method on one task, and the costs.

    Args:
        task: The task.
        name: Name of the method.
        found: Result of the method.
        level: Confidence level of the intervals, or None for no intervals.
    """
    told: dict[str, Any] = {}
    if task.causes is not None:
        told = {"reader": load("sprites/judge"), "causes": list(task.causes)}
    table = report({name: found}, judge=task.judge, confidence_level=level, **told).iloc[0]
    passes = sum(table[f"{network} passes per flip"] for network in ("generator", "classifier"))
    row = {
        **table.to_dict(),
        "network passes per flip": passes if found.flipped.any() else math.nan,
    }
    kept = {f"{column}{end}" for column in COLUMNS for end in ("", " low", " high", " n")}
    return {k: float(v) for k, v in row.items() if k in kept}


def total_costs(found: Counterfactuals, passes_per_flip: float) -> dict[str, float]:
    """Return flips, network passes and seconds of a call. Unknown costs are NaN.

    ``passes_per_flip`` includes passes that all images share. If no image flipped,
    ``passes_per_flip`` is unknown, and the function adds up the passes of the images.
    """
    flips = int(found.flipped.sum())
    spent = [found.cost.get(network) for network in ("generator", "classifier")]
    passes = sum(math.nan if each is None else float(each.sum()) for each in spent)
    seconds = float(found.made_by.get("seconds", math.nan))
    return {
        "flips": flips,
        "passes": passes_per_flip * flips if flips else passes,
        "seconds": seconds,
    }


def pool(rows: pd.DataFrame) -> dict[str, float]:
    """Return one row for several tasks: values, ends of their 95 % intervals, and images.

    Rates are pooled over images, with a Wilson interval. Means are weighted by their images, and
    their intervals are combined as those of independent strata. Costs are divided by all flips, so
    that a task without flips counts.
    """
    found: dict[str, float] = {}
    for name in RATES:
        if f"{name} n" in rows and rows[f"{name} n"].notna().any():  # causes are known in sprites
            n = rows[f"{name} n"].fillna(0).to_numpy(float)
            hits = (rows[name].fillna(0).to_numpy(float) * n).round()
            _add(found, name, *_rate(hits.sum(), n.sum()))
            found[f"{name} n"] = n.sum()
    for name in MEANS:
        n = rows[f"{name} n"].fillna(0).to_numpy(float)
        ends = rows[[name, f"{name} low", f"{name} high"]].fillna(0).to_numpy(float).T
        if not (total := n.sum()):
            _add(found, name, math.nan, math.nan, math.nan)
            continue
        mean, low, high = ends
        center = float((mean * n).sum() / total)
        below, above = (float(np.sqrt((((e - mean) * n) ** 2).sum()) / total) for e in (low, high))
        _add(found, name, center, center - below, center + above)
    flips = rows["flips"].sum()
    for name, column in zip(COSTS, ("passes", "seconds"), strict=True):
        found[name] = rows[column].sum(min_count=len(rows)) / flips if flips else math.nan
    return found


def _rate(hits: float, n: float) -> tuple[float, float, float]:
    if not n:
        return math.nan, math.nan, math.nan
    low, high = wilson_interval(int(hits), int(n), confidence_level=LEVEL)
    return hits / n, float(low), float(high)


def _add(found: dict[str, float], name: str, value: float, low: float, high: float) -> None:
    found |= {name: value, f"{name} low": low, f"{name} high": high}


def shown(row: Mapping[str, float], name: str) -> str:
    """Format a value with its interval, such as ``0.92 [0.85, 0.96]``."""
    value = row.get(name, math.nan)
    if math.isnan(value):
        return "–"
    low, high = row.get(f"{name} low", math.nan), row.get(f"{name} high", math.nan)
    return f"{value:.3g}" if math.isnan(low) else f"{value:.3g} [{low:.2g}, {high:.2g}]"
