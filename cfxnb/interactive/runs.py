"""Runs of the workbench: their measures, and the code that makes them again."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor

from cfxnb.core.decisions import log_odds
from cfxnb.core.results import Counterfactuals
from cfxnb.interactive.methods import Method
from cfxnb.metrics.pairwise import l2


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One call of a method, and what came out.

    Attributes:
        method: The method.
        images_code: Python code of the images.
        target: Class to reach, a number or a name.
        options: Dict of the options that differ from the defaults.
        result: The counterfactuals.
        judged: Class that the judge sees in each counterfactual, int64 (n,). None without a judge.
        log_odds: Mean log odds of the target over the images, one number per step.
    """

    method: Method
    images_code: str
    target: int | str
    options: Mapping[str, Any]
    result: Counterfactuals
    judged: Tensor | None
    log_odds: Sequence[float]

    def code(self, name: str) -> str:
        """Return the Python code of this run, whose result gets the name ``name``."""
        call = self.method.code.format(target=f"target={self.target!r}")
        options = "".join(f", {key}={value!r}" for key, value in self.options.items())
        return f"x = {self.images_code}\n{name} = {call}{options})\n"

    def table(self, class_names: Sequence[str]) -> pd.DataFrame:
        """Return one row per image: decisions, status, log odds, distance and cost."""
        cf, target = self.result, self.result.target
        before, after = (
            log_odds(logits.cpu(), target.cpu()).tolist()
            for logits in (cf.logits_before, cf.logits_after)
        )
        columns: dict[str, Any] = {
            "before": [class_names[i] for i in cf.logits_before.argmax(1).tolist()],
            "after": [class_names[i] for i in cf.logits_after.argmax(1).tolist()],
            "status": [each.replace("_", " ") for each in cf.status],
        }
        if self.judged is not None:
            columns["judge sees"] = [class_names[i] for i in self.judged.tolist()]
        columns |= {
            "log odds before": before,
            "log odds after": after,
            "L2": l2(cf.image, cf.original).tolist(),
        }
        columns |= {f"{key} passes": cost.tolist() for key, cost in cf.cost.items()}
        return pd.DataFrame(columns).round(2)

    def summary(self) -> dict[str, Any]:
        """Return the measures of this run: a dict with one entry per column of the comparison."""
        cf, n = self.result, len(self.result)
        agree = None if self.judged is None else int((self.judged == cf.target.cpu()).sum())
        return {
            "method": self.method.name,
            "options": ", ".join(f"{k}={v!r}" for k, v in self.options.items()) or "defaults",
            "flipped": f"{int(cf.flipped.sum())} of {n}",
            "judge agrees": "" if agree is None else f"{agree} of {n}",
            "L2 (mean)": round(float(l2(cf.image, cf.original).mean()), 2),
            **{f"{key} passes": round(float(v.float().mean()), 1) for key, v in cf.cost.items()},
            "seconds": cf.made_by.get("seconds"),
        }


def compare(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Return the measures of several runs, one row per run."""
    return pd.DataFrame({name: run.summary() for name, run in runs.items()}).T


def code_of(runs: Mapping[str, Run]) -> str:
    """Return a Python script that makes the runs again, and compares them.

    The script uses the names ``space``, ``f`` and ``images`` for the arguments of
    ``cfx.workbench``, and ``flow``, ``direction``, ``methods`` and ``judge`` if they were given.
    """
    calls = "".join("\n" + run.code(name) for name, run in runs.items())
    imports = "import torch\n\n" if "torch.cat(" in calls else ""
    text = f"{imports}import cfxnb as cfx\n\n"
    text += "# space, f, images, ...: what you passed to cfx.workbench\n" + calls
    same = len({run.images_code for run in runs.values()}) == 1
    judge = ", judge=judge" if any(run.judged is not None for run in runs.values()) else ""
    if runs and same:
        listed = ", ".join(f"{name!r}: {name}" for name in runs)
        text += f"\ncfx.report({{{listed}}}{judge})\n"
    return text
