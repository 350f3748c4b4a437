"""Runs of the workbench: their measures, and the code that makes them again."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cfxnb.core.decisions import log_odds
from cfxnb.core.goals import Goal
from cfxnb.core.results import Counterfactuals
from cfxnb.interactive.methods import Method
from cfxnb.interactive.targets import LOG_ODDS_CODE, Target
from cfxnb.metrics.pairwise import l2


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One call of a method, and its result.

    Attributes:
        method: The method.
        images_code: Python code of the images.
        target: Target of the run: a class or a goal.
        options: Dict of the options that differ from the defaults.
        result: The counterfactuals.
        judged: Class that the judge sees in each counterfactual, int64 (n,). For a goal, 1 if the
            goal is reached according to the judge, else 0. None without a judge.
        log_odds: Mean log odds of the target over the images, one number per step.
    """

    method: Method
    images_code: str
    target: Target
    options: Mapping[str, Any]
    result: Counterfactuals
    judged: Tensor | None
    log_odds: Sequence[float]

    def code(self, name: str) -> str:
        """Return the Python code of this run, whose result gets the name ``name``."""
        target = f"target={self.target.code}"
        call = self.method.code.format(model=self.target.model_code, target=target)
        options = "".join(f", {key}={value!r}" for key, value in self.options.items())
        setup = f"{self.target.setup}\n" if self.target.setup else ""
        return f"x = {self.images_code}\n{setup}{name} = {call}{options})\n"

    def table(self) -> pd.DataFrame:
        """Return one row per image: decisions or outcomes, status, distance and cost."""
        cf, class_names = self.result, self.target.class_names
        columns: dict[str, Any] = {
            "before": [class_names[i] for i in cf.logits_before.argmax(1).tolist()],
            "after": [class_names[i] for i in cf.logits_after.argmax(1).tolist()],
            "status": [each.replace("_", " ") for each in cf.status],
        }
        if self.judged is not None:
            columns["judge sees"] = [class_names[i] for i in self.judged.tolist()]
        columns |= self._readings()
        columns["L2"] = l2(cf.image, cf.original).tolist()
        columns |= {f"{key} passes": cost.tolist() for key, cost in cf.cost.items()}
        return pd.DataFrame(columns).round(2)

    def _readings(self) -> dict[str, list[float]]:
        """Return log odds of a class, or outcomes of a goal, before and after the change."""
        cf = self.result
        if isinstance(self.target.value, Goal):
            outcomes = cf.outcomes
            name = "log odds" if self.target.setup else "outcome"
            found = {f"{name} {when}": outcomes[when].tolist() for when in ("before", "after")}
            if self.target.setup:
                found |= {
                    f"probability {when}": torch.tensor(outcomes[when]).sigmoid().tolist()
                    for when in ("before", "after")
                }
            return found
        logits = {"before": cf.logits_before.cpu(), "after": cf.logits_after.cpu()}
        target = cf.target.cpu()
        return {f"log odds {when}": log_odds(z, target).tolist() for when, z in logits.items()}

    def summary(self) -> dict[str, Any]:
        """Return the measures of this run: a dict with one entry per column of the comparison."""
        cf, n = self.result, len(self.result)
        agree = None if self.judged is None else int((self.judged == cf.target.cpu()).sum())
        return {
            "method": self.method.name,
            "target": self.target.text,
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
    helper = f"\n{LOG_ODDS_CODE}\n\n" if "log_odds(" in calls else ""
    imports = "import torch\n\n" if "torch.cat(" in calls else ""
    imports = "import torch\nfrom torch import Tensor\n\n" if helper else imports
    text = f"{imports}import cfxnb as cfx\n\n{helper}"
    text += "# space, f, images, ...: what you passed to cfx.workbench\n" + calls
    # A report compares results on the same images, and goals only with the same goal.
    questions = {
        (run.images_code, *((t.setup, t.code) if isinstance(t.value, Goal) else ()))
        for run in runs.values()
        for t in [run.target]
    }
    judges = {run.target.judge_code for run in runs.values() if run.judged is not None}
    judge = "".join(f", judge={code}" for code in judges)
    if len(questions) == 1:
        listed = ", ".join(f"{name!r}: {name}" for name in runs)
        text += f"\ncfx.report({{{listed}}}{judge})\n"
    return text
