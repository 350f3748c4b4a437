"""Score a user's method on fixed tasks, and compare it with baselines, in one call."""

import dataclasses
import html
import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cfxnb.core import validate
from cfxnb.core.progress import Progress
from cfxnb.core.results import Counterfactuals
from cfxnb.core.saved import Result
from cfxnb.data import SPRITE_CLASSIFIERS
from cfxnb.evaluation.measure import COLUMNS, LEVEL, measure, pool, shown, total_costs
from cfxnb.evaluation.methods import METHODS
from cfxnb.evaluation.own_method import Method, run_method
from cfxnb.evaluation.tasks import WORLDS, Task, tasks

BASELINES = ("pixel attack", "latent attack", "flow walk")
SPACES = ("vae", "ldm")
QUICK_FLOW = 500  # steps with which the flow of the baseline is fitted; the bake-off takes 2,000
MAX_SEED = 10**6
MAX_SEEDS = 1000
log = logging.getLogger("cfxnb")


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation(Result):
    """Measures of several methods on tasks with known causes or an independent judge.

    Attributes:
        table: DataFrame with one row per world and method. The columns are those of ``cfx.report``,
            pooled over the tasks of the world. Each rate and each mean is followed by the ends of
            its 95 % interval (``low``, ``high``). Rates also have the number of images (``n``).
            ``images`` is the number of images that the method explained, ``tasks`` the number of
            tasks, and ``failed`` the number of tasks on which the method failed.
        tasks: DataFrame with one row per world, task, seed and method, and the same columns.
        failures: DataFrame with one row per failure: ``world``, ``task``, ``seed``, ``method`` and
            ``problem``, a text that says what was wrong.
        made_by: Record of the call.
    """

    table: pd.DataFrame
    tasks: pd.DataFrame
    failures: pd.DataFrame
    made_by: dict[str, Any]

    def __post_init__(self) -> None:
        validate.fields(self)

    def _check_saved(self) -> None:
        if self.table.index.names != ["world", "method"]:
            raise ValueError(f"table: expected rows by world and method, got {self.table.index}")

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per world and method: ``table``."""
        return self.table.copy()

    def _short(self) -> pd.DataFrame:
        """Return the table with each value and its interval in one cell."""
        columns = [column for column in COLUMNS if column in self.table]
        records: Any = self.table.to_dict("records")
        rows = [{c: shown(row, c) for c in columns} for row in records]
        counts = self.table[["images", "tasks", "failed"]]
        return pd.DataFrame(rows, index=self.table.index, columns=columns).join(counts)

    def _problems(self) -> list[str]:
        return [
            f"{row['method']} on {row['world']}, {row['task']}: {row['problem']}"
            for row in self.failures.to_dict("records")
        ]

    def __repr__(self) -> str:
        return "\n".join([self._short().to_string(), *self._problems()])

    def _repr_html_(self) -> str:
        problems = "".join(f"<p>{html.escape(problem)}</p>" for problem in self._problems())
        return self._short().to_html() + problems


def evaluate(
    method: Method | Mapping[str, Method],
    *,
    worlds: Sequence[str] = ("digits", "sprites"),
    baselines: Sequence[str] = BASELINES,
    space: str = "vae",
    n_images: int = 24,
    seeds: int | Sequence[int] = 1,
) -> Evaluation:
    """Score a counterfactual method on fixed tasks, and compare it with baselines.

    In the world "sprites" the planted causes of the decisions are known. The worlds "digits",
    "faces" and "chest" have an independent judge. All methods explain the same images for the same
    targets. If a method fails on a task, the evaluation continues with the other methods and tasks.
    The table ``failures`` then says what was wrong.

    Args:
        method: Function ``method(space, classifier, images, target)`` that returns Counterfactuals,
            or edited images (n, c, h, w) in [0, 1]. If it has an argument ``seed``, it gets the
            seed. Several methods can be passed as a dict from names to functions.
        worlds: Some of "sprites", "digits", "faces" and "chest".
        baselines: Names of methods of ``cfxnb.evaluation.methods.METHODS`` for comparison.
            Default: pixel attack, latent attack and flow walk. To save time, the flow is fitted
            with few steps. The flow walk is therefore somewhat weaker than in the bake-off.
        space: Space that the method gets: "vae", whose codes are vectors, or "ldm", a
            ``cfx.spaces.Diffusion`` for methods that denoise. The faces have no "vae".
        n_images: Number of images per task. Default: 24.
        seeds: Number of seeds, or the seeds. Each seed selects different images. With digits it
            also stands for other targets. Default: 1.

    Returns:
        An Evaluation. Its ``table`` has one row per world and method. If ``flip rate`` is high and
        ``judge agrees`` is low, as for the pixel attack, then the method finds adversarial
        examples. ``only causes changed`` is the fraction of flips that changed a planted cause and
        nothing else.

    Raises:
        ValueError, TypeError: If an argument is wrong.

    Warns:
        UserWarning: If a method failed on a task.
    """
    methods = _checked_methods(method)
    worlds = _chosen(worlds, "worlds", WORLDS)
    baselines = _chosen(baselines, "baselines", METHODS, some=False)
    space = validate.choice(space, "space", SPACES)
    n_images = validate.count(n_images, "n_images", 1)
    seeds = _checked_seeds(seeds)
    if clash := set(methods) & set(baselines):
        raise ValueError(f"method: expected other names than those of baselines, got {clash}")
    rows: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    count = len(seeds) * sum(len(SPRITE_CLASSIFIERS) if w == "sprites" else 1 for w in worlds)
    with Progress(count * (len(methods) + len(baselines)), "evaluate") as bar:
        for task in tasks(worlds, n_images, seeds):
            task = dataclasses.replace(task, flow_steps=QUICK_FLOW)
            key = {"world": task.world, "task": task.name, "seed": task.seed}
            for name in (*methods, *baselines):
                bar.begin(1)
                try:
                    found = _run(name, methods, task, space)
                    row = measure(task, name, found, LEVEL)
                except Exception as error:  # the other methods and tasks go on
                    problem = f"{type(error).__name__}: {error}"[:500]
                    log.info("%s failed on %s, %s: %s", name, task.world, task.name, problem)
                    failures.append({**key, "method": name, "problem": problem})
                else:
                    costs = total_costs(found, row["network passes per flip"])
                    rows.append({**key, "method": name, "images": len(found), **row, **costs})
                bar.end()
    if failures:
        first = failures[0]
        warnings.warn(
            f"{len(failures)} of {count * (len(methods) + len(baselines))} runs failed, and are "
            f"missing in the table; the first failure: {first['method']} on {first['world']}, "
            f"{first['task']}: {first['problem']}",
            stacklevel=2,
        )
    made_by: dict[str, Any] = {
        "function": "evaluate",
        "worlds": worlds,
        "baselines": baselines,
        "space": space,
    }
    made_by |= {"n_images": n_images, "seeds": seeds}
    return _summary(rows, failures, made_by)


def _run(name: str, methods: Mapping[str, Method], task: Task, space: str) -> Counterfactuals:
    if name not in methods:
        if METHODS[name][1] == "codes" and task.space is None:
            raise ValueError(f"space: expected one with a fast decoder, got none for {task.world}")
        return METHODS[name][2](task)
    chosen = task.space if space == "vae" else task.diffusion
    if chosen is None:
        raise ValueError(f"space: expected 'ldm' for {task.world}, which has no vae, got 'vae'")
    return run_method(methods[name], task, chosen, name)


def _summary(
    rows: list[dict[str, Any]], failures: list[dict[str, Any]], made_by: dict[str, Any]
) -> Evaluation:
    """Pool the rows of the tasks of each world, for each method."""
    keys = ["world", "task", "seed", "method"]
    measured = pd.DataFrame(rows, columns=None if rows else [*keys, "images"])
    failed = pd.DataFrame(failures, columns=[*keys, "problem"])
    pooled = {}
    for world, name in dict.fromkeys(_pairs(measured) + _pairs(failed)):
        own = measured[(measured["world"] == world) & (measured["method"] == name)]
        lost = int(((failed["world"] == world) & (failed["method"] == name)).sum())
        counts = {"images": int(own["images"].sum()), "tasks": len(own) + lost, "failed": lost}
        pooled[world, name] = {
            **(pool(own) if len(own) else {}),
            **counts,
        }
    index = pd.MultiIndex.from_tuples(pooled, names=["world", "method"])
    table = pd.DataFrame(list(pooled.values()), index=index)
    return Evaluation(
        table.sort_index(level="world", sort_remaining=False), measured, failed, made_by
    )


def _pairs(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(table["world"], table["method"], strict=True))


def _checked_methods(value: Any) -> dict[str, Method]:
    if not isinstance(value, Mapping):
        validate.function(value, "method")
        return {str(getattr(value, "__name__", type(value).__name__)): value}
    if not value:
        raise ValueError("method: expected a function, or a dict of functions, got an empty dict")
    return {
        validate.text(name, "method"): validate.function(own, f"method[{name!r}]")
        for name, own in value.items()
    }


def _chosen(value: Any, name: str, known: Any, some: bool = True) -> list[str]:
    """Check that all names are known and different, and return them as a list."""
    listed = validate.texts([value] if isinstance(value, str) else value, name)
    unknown = [each for each in listed if each not in known]
    if unknown or len(set(listed)) < len(listed) or (some and not listed):
        got = ", ".join(f"{each!r:.40}" for each in listed[:20]) or "none"
        raise ValueError(f"{name}: expected some of {list(known)}, each once, got {got}")
    return listed


def _checked_seeds(value: Any) -> list[int]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return list(range(validate.count(value, "seeds", 1, MAX_SEEDS)))
    if len(value) > MAX_SEEDS:
        raise ValueError(f"seeds: expected at most {MAX_SEEDS} seeds, got {len(value)}")
    listed = [validate.count(each, "seeds", 0, MAX_SEED) for each in value]
    if not listed or len(set(listed)) < len(listed):
        raise ValueError(f"seeds: expected different seeds, at least one, got {listed[:20]}")
    return listed
