"""Targets of the workbench: a class, or a goal for an outcome or for the probability of a class.

Methods accept goals only with models of outcomes. For the probability of a class, the outcome is
the log odds of the class. Log odds rise with the probability, and their gradients do not vanish.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cfxnb.core.classifiers import BlackBox
from cfxnb.core.goals import (
    Goal,
    between,
    lower_by,
    lower_to,
    raise_by,
    raise_to,
    reached_by,
    text_of,
)
from cfxnb.core.outcomes import Outcomes, outcomes_of
from cfxnb.core.prediction import predict_logits
from cfxnb.core.regression import wrap_regression
from cfxnb.core.results import Counterfactuals

CLASS = "class"
#: Goals that the panel offers, as it names them, and the functions that make them.
OUTCOME_GOALS: dict[str, Callable[..., Goal]] = {
    "at least": raise_to,
    "at most": lower_to,
    "between": between,
    "raised by": raise_by,
    "lowered by": lower_by,
}
PROBABILITY_GOALS = {
    f"probability {name}": OUTCOME_GOALS[name] for name in ("at least", "at most", "between")
}
REACHED = ("not reached", "reached")


def log_odds(z: Tensor, c: int) -> Tensor:
    """Return the log odds of class c, (b,), for logits z (b, k)."""
    return z[:, c] - torch.cat([z[:, :c], z[:, c + 1 :]], 1).logsumexp(1)


LOG_ODDS_CODE = inspect.getsource(log_odds)


@dataclasses.dataclass(frozen=True)
class Target:
    """The target of a run, and the models that measure it.

    Attributes:
        value: Class number, or goal.
        text: The target in words.
        code: Python code of ``value``.
        model: Classifier or model of outcomes that the method gets.
        judge: Classifier or model of outcomes that judges the result, or None without a judge.
        class_names: Names of the classes of the result.
        setup: Python code that makes ``model`` from the classifier ``f``, or an empty text.
        judge_code: Python code of ``judge``.
    """

    value: int | Goal
    text: str
    code: str
    model: Any
    judge: Any
    class_names: Sequence[str]
    setup: str = ""
    judge_code: str = "judge"

    @property
    def model_code(self) -> str:
        """Python code of ``model``."""
        return "model" if self.setup else "f"

    def judged(self, cf: Counterfactuals) -> Tensor | None:
        """Return the class that the judge sees in each counterfactual, int64 (n,), on the CPU.

        For a goal the classes are 0, "not reached", and 1, "reached".
        """
        if self.judge is None:
            return None
        if not isinstance(self.value, Goal):
            return predict_logits(self.judge, cf.image).argmax(1).cpu()
        return reached_by(self.judge, cf, "judge").long().cpu()


def class_target(number: int, name: str | None, names: Sequence[str], f: Any, judge: Any) -> Target:
    """Return the target of a class. ``name`` is None if the classifier has no class names."""
    shown: int | str = number if name is None else name
    return Target(number, str(shown), repr(shown), f, judge, names)


def outcome_target(kind: str, text: str, number: int, model: Any, judge: Any) -> Target:
    """Return a goal for an outcome of a regression model.

    Args:
        kind: A key of ``OUTCOME_GOALS``.
        text: The numbers of the goal, as typed.
        number: Number of the outcome.
        model, judge: The regression model to explain, and the judge or None.

    Raises:
        ValueError: If the text holds other numbers than the goal needs.
    """
    make, values = OUTCOME_GOALS[kind], _numbers(kind, text)
    goal = make(*values, output=number)
    words = text_of(goal, outcomes_of(model) or Outcomes())
    code = f"cfx.{make.__name__}({', '.join(map(repr, values))}, output={number})"
    return Target(goal, words, code, model, judge, REACHED)


def probability_target(kind: str, text: str, number: int, name: str, f: Any, judge: Any) -> Target:
    """Return a goal for the probability of a class.

    Args:
        kind: A key of ``PROBABILITY_GOALS``.
        text: The probabilities of the goal, as typed.
        number, name: Number and name of the class.
        f, judge: The classifier, and the judge or None.

    Raises:
        ValueError: If the text holds other numbers than the goal needs.
    """
    make, values = PROBABILITY_GOALS[kind], _numbers(kind, text)
    if not all(0 < value < 1 for value in values):
        raise ValueError(f"goal value: expected probabilities above 0 and below 1, got {text!r}")
    bounds = [round(math.log(value / (1 - value)), 6) for value in values]
    return Target(
        make(*bounds),
        f"probability of {name} {kind.removeprefix('probability ')} {text.strip()}",
        f"cfx.{make.__name__}({', '.join(map(repr, bounds))})",
        log_odds_model(f, number, name),
        None if judge is None else log_odds_model(judge, number, name),
        REACHED,
        f"model = {_model_code('f', number, name, isinstance(f, BlackBox))}",
        _model_code("judge", number, name, isinstance(judge, BlackBox)),
    )


def log_odds_model(classifier: Any, number: int, name: str) -> Any:
    """Return a model whose outcome is the log odds of a class. A ``BlackBox`` stays one."""
    model = wrap_regression(lambda x: log_odds(classifier(x), number), names=name, units="log odds")
    return BlackBox(model) if isinstance(classifier, BlackBox) else model


def _model_code(classifier: str, number: int, name: str, black_box: bool) -> str:
    outcome = f"lambda x: log_odds({classifier}(x), {number})"
    code = f"cfx.wrap_regression({outcome}, names={name!r}, units='log odds')"
    return f"cfx.BlackBox({code})" if black_box else code


def _numbers(kind: str, text: str) -> list[float]:
    """Return the numbers that were typed for a goal: two for "between", one for other goals."""
    count = 2 if "between" in kind else 1
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count:
        wanted = "two numbers, such as 0.2, 0.4" if count == 2 else "a number"
        raise ValueError(f"goal value: expected {wanted}, got {text!r:.40}")
    return found
