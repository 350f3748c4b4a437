"""Goals: targets for models of outcomes, such as "raise to 0.8" or "lower by 2 years".

A goal turns a model of outcomes (b, k) into a classifier of two classes, "not reached" and
"reached", so that every method can follow it. Let d be the distance of an outcome to the bound of
the goal, negative outside of the goal. The log odds of "reached" are d / scale while d is negative,
and at least ``CERTAIN`` as soon as the goal is reached. So a search that raises the log odds comes
closer to the goal. Any ``confidence`` is reached exactly where the goal is reached, so no method
overshoots.

For a goal such as "lower by 2", each image has its own bound. Each image also has its own scale: a
tenth of the difference between its outcome and the bound. ``GoalClassifier`` therefore computes the
bounds of a batch from the originals, which are the first images that it classifies after ``begin``.
Later, ``Run.classify`` tells the classifier to which row of the batch each image belongs.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.classifiers import as_classifier, two_logits, unchecked_call
from cfxnb.core.docstrings import arguments_of
from cfxnb.core.modes import standard_modes
from cfxnb.core.outcomes import Outcomes, outcomes_of, record_of_goal, unit_of
from cfxnb.core.second_look import SecondLook
from cfxnb.core.types import Classifier
from cfxnb.core.warn import ProbabilityWatch

CERTAIN = 14.0  # log odds where the goal is reached: above the largest confidence, 1 - 1e-6
STEEPNESS = 10.0  # log odds of the original are -10, as those of a sure classifier
SLACK = 1e-4  # how much further a search has to go than the goal, relative to the way
ROUNDING = 2e-6  # the same, relative to the bound: outcomes are rounded differently in each batch
RELATIVE = ("raise_by", "lower_by")
KINDS = ("raise_to", "lower_to", *RELATIVE, "between", "score")


@dataclasses.dataclass(frozen=True)
class Goal:
    """A condition that the outcome of a model has to meet.

    Functions such as ``raise_to`` make it.

    Attributes:
        kind: One of ``KINDS``.
        values: The numbers of the goal, one or two.
        output: Number or name of the outcome, or None if the model has only one.
        function: For the kind "score": maps outcomes (b, k) to scores (b,).
    """

    kind: str
    values: tuple[float, ...]
    output: int | str | None = None
    function: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        validate.fields(self)
        validate.choice(self.kind, "kind", KINDS)
        count = 2 if self.kind == "between" else 1
        if len(self.values) != count:
            raise ValueError(f"values: expected {count} for {self.kind}, got {len(self.values)}")
        for value in self.values:
            validate.number(value, "values", -math.inf)

    @property
    def is_relative(self) -> bool:
        """Whether the bound depends on the outcome of the original."""
        return self.kind in RELATIVE


def bounds_of(goal: Goal, start: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest outcome of the goal, (b,) each.

    Args:
        start: Outcomes of the originals, (b,).
    """
    low, high = torch.full_like(start, -torch.inf), torch.full_like(start, torch.inf)
    first = goal.values[0]
    if goal.kind == "between":
        return low.fill_(first), high.fill_(goal.values[1])
    if goal.kind in ("raise_to", "score"):
        return low.fill_(first), high
    if goal.kind == "lower_to":
        return low, high.fill_(first)
    return (start + first, high) if goal.kind == "raise_by" else (low, start - first)


def column_of(goal: Goal, outcomes: Outcomes) -> int | None:
    """Return the number of the outcome that the goal names, or None if it names no outcome.

    Raises:
        ValueError, TypeError: If the model has no outcome of this name.
    """
    names = list(outcomes.names or ())
    if goal.output is None or not isinstance(goal.output, str):
        if names and (goal.output or 0) >= len(names):
            raise ValueError(f"output: expected a number below {len(names)}, got {goal.output}")
        return goal.output
    if goal.output not in names:
        known = f"one of {str(names)[:200]}" if names else "a number, as outcomes have no names"
        raise ValueError(f"output: expected {known}, got {goal.output[:80]!r}")
    return names.index(goal.output)


def read_outcome(goal: Goal, found: Tensor, outcomes: Outcomes) -> Tensor:
    """Select the outcome that the goal refers to, (b,), out of all outcomes (b, k)."""
    if goal.function is not None:
        score = validate.tensor_of(goal.function(found), "fn")
        score = validate.instance(score, Tensor, "fn", "scores as a torch tensor")
        if score.shape == (len(found), 1):
            score = score[:, 0]
        if score.shape != found.shape[:1] or not score.is_floating_point():
            raise ValueError(
                f"fn: expected floats of shape ({len(found)},), one per image, got "
                f"{score.dtype} of shape {tuple(score.shape)}"
            )
        return score.to(found)
    column, count = column_of(goal, outcomes), found.shape[1]
    if column is None and count > 1:
        raise ValueError(
            f"output: expected a number or a name, because the model has {count} outcomes"
            f"{'' if outcomes.names is None else ', ' + str(list(outcomes.names))[:200]}, got "
            "None"
        )
    if column is not None and column >= count:
        raise ValueError(f"output: expected a number below {count}, got {column}")
    return found[:, column or 0]


def text_of(goal: Goal, outcomes: Outcomes) -> str:
    """Return the goal in words, such as "age lowered by 2 years"."""
    column = column_of(goal, outcomes)
    number = column or 0
    if goal.kind == "score":
        what = "score"
    elif outcomes.names is not None:
        what = outcomes.names[number]
    else:
        what = "outcome" if column is None else f"outcome {column}"
    unit = "" if goal.kind == "score" else unit_of(outcomes, number)
    values = [f"{value:g}" for value in goal.values]
    words = {
        "raise_to": "at least {}",
        "score": "at least {}",
        "lower_to": "at most {}",
        "raise_by": "raised by {}",
        "lower_by": "lowered by {}",
        "between": "between {} and {}",
    }[goal.kind].format(*values)
    return f"{what} {words} {unit}".rstrip()


def record_for(goal: Goal, outcomes: Outcomes) -> dict[str, Any]:
    """Return the goal as entries for the record (``made_by``) of a result."""
    unit = "" if goal.kind == "score" else unit_of(outcomes, column_of(goal, outcomes) or 0)
    return {
        "kind": goal.kind,
        "values": list(goal.values),
        "output": goal.output,
        "text": text_of(goal, outcomes),
        "units": unit,
    }


def recorded_goal(made_by: Mapping[str, Any]) -> Goal | None:
    """Return the goal in the record of a result, or None if the target was a class.

    Raises:
        ValueError: If the goal was a score, whose function is not recorded.
    """
    found = record_of_goal(made_by)
    if found is None:
        return None
    if found["kind"] == "score":
        raise ValueError(
            "target: expected a goal that is recorded, got the score of a function. Pass "
            "cfx.select_goal(model, goal, scale=...) as classifier, and 1 as target, in both calls."
        )
    return Goal(found["kind"], tuple(found["values"]), found["output"])


def reached_by(model: Any, cf: Any, name: str) -> Tensor:
    """Return whether the counterfactuals reach the goal according to another model, bool (n,).

    For goals such as "lower by 2", the bounds are those of the other model's own outcomes.

    Args:
        model: Regression model with the same outcomes as the explained model.
        cf: Counterfactuals with a goal as target.
        name: Name of the model in messages.

    Raises:
        ValueError: If the targets are classes.
    """
    goal = recorded_goal(cf.made_by)
    if goal is None:
        raise ValueError(
            f"{name}: expected a classifier, because the targets are classes, got a regression "
            "model"
        )
    classifier, parts = goal_classifier(model, goal), []
    for rows in torch.arange(len(cf)).split(256):
        classifier.begin()
        for images in (cf.original, cf.image):
            logits = classifier(images[rows.to(images.device)])
        parts.append(logits[:, 1] > 0)
    return torch.cat(parts)


def _finite(value: Any, name: str) -> float:
    return validate.number(value, name, -math.inf)


def _amount(value: Any) -> float:
    return validate.number(value, "amount", 0.0, open_low=True)


def _output(value: Any) -> int | str | None:
    if value is None or isinstance(value, str):
        return value
    return validate.count(value, "output")


def raise_to(value: float, *, output: int | str | None = None) -> Goal:
    """Return the goal that an outcome becomes at least ``value``, to pass as ``target``.

    Args:
        value: Lowest outcome that counts as reached, in the units of the outcome.
        output: Number or name of the outcome. Default: the only outcome of the model.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    return Goal("raise_to", (_finite(value, "value"),), _output(output))


@arguments_of(raise_to, "cfx.raise_to")
def lower_to(value: float, *, output: int | str | None = None) -> Goal:
    """Return the goal that an outcome becomes at most ``value``, to pass as ``target``.

    Args:
        value: Highest outcome that counts as reached, in the units of the outcome.
        output: As in ``cfx.raise_to``.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    return Goal("lower_to", (_finite(value, "value"),), _output(output))


@arguments_of(raise_to, "cfx.raise_to")
def raise_by(amount: float, *, output: int | str | None = None) -> Goal:
    """Return the goal that an outcome grows by at least ``amount``, to pass as ``target``.

    Args:
        amount: Least increase against the original image, above 0, in the units of the outcome.
        output: As in ``cfx.raise_to``.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    return Goal("raise_by", (_amount(amount),), _output(output))


@arguments_of(raise_to, "cfx.raise_to")
def lower_by(amount: float, *, output: int | str | None = None) -> Goal:
    """Return the goal that an outcome falls by at least ``amount``, to pass as ``target``.

    Args:
        amount: Least decrease against the original image, above 0, in the units of the outcome.
        output: As in ``cfx.raise_to``.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    return Goal("lower_by", (_amount(amount),), _output(output))


@arguments_of(raise_to, "cfx.raise_to")
def between(low: float, high: float, *, output: int | str | None = None) -> Goal:
    """Return the goal that an outcome lies in the interval [low, high], to pass as ``target``.

    A method whose steps change the outcome by more than ``high - low`` may step across the
    interval. Such images have the status "not_found".

    Args:
        low, high: Ends of the interval, in the units of the outcome. ``low`` is below ``high``.
        output: As in ``cfx.raise_to``.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    low, high = _finite(low, "low"), _finite(high, "high")
    if low >= high:
        raise ValueError(f"high: expected a number above low, {low:g}, got {high:g}")
    return Goal("between", (low, high), _output(output))


def score(fn: Callable[[Tensor], Tensor], *, at_least: float = 0.0) -> Goal:
    """Return the goal that a score of your own becomes at least ``at_least``.

    Args:
        fn: Maps the outputs of the model, (b, k), to scores (b,). For a classifier these are its
            logits. Write ``fn`` with operations of torch, so that gradients pass through.
        at_least: Lowest score that counts as reached. Default: 0.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    return Goal("score", (_finite(at_least, "at_least"),), None, validate.function(fn, "fn"))


@dataclasses.dataclass
class Placement:
    """The bounds of a goal for each image of one batch.

    All tensors are (b,), or (1,) for all images.

    Attributes:
        low, high: Bounds of the outcome.
        start: Outcomes of the originals.
        scale: Outcome difference that changes the log odds by 1.
        slack: Distance by which a search has to pass the bound, so that rounding errors do not undo
            the success.
    """

    low: Tensor
    high: Tensor
    start: Tensor
    scale: Tensor
    slack: Tensor


class GoalClassifier:
    """A classifier with the classes "not reached" and "reached". See the module's docstring.

    Args:
        model: Model of outcomes, or a classifier for a goal that is a score.
        goal: The goal.
        scale: If a number, the log odds are the signed distance to the goal divided by ``scale``.
            All images then have the same bound, and ``begin`` is not needed. If None, each image
            has its own bound and scale.

    Attributes:
        values: Outcomes of the images classified last, (b,).
        placed: The goal of the present batch, or None until the originals are classified.
        rows: For each of the next images, its row in the batch, (b,). If None, the images are those
            of the whole batch, or all belong to its only image.
        searching: If True, the goal is reached only where the outcome passes the bound by
            ``slack``.
    """

    def __init__(self, model: Any, goal: Goal, scale: float | None = None) -> None:
        self.outcomes = None  # it is a classifier, also if its model is not
        self._outcomes = outcomes_of(model) or Outcomes()
        if outcomes_of(model) is None:
            if goal.kind != "score":
                raise TypeError(
                    "target: expected a class, because the classifier is no regression model, got "
                    f"the goal {goal.kind!r}; cfx.wrap_regression makes a model of outcomes, and "
                    "cfx.score makes a goal for logits"
                )
            model = as_classifier(model)
        self.model, self.goal, self.fixed_scale = model, goal, scale
        self.class_names = ("not reached", text_of(goal, self._outcomes))
        self.device = getattr(model, "device", None)
        self.searching = False
        self.values: Tensor | None = None
        self.rows: Tensor | None = None
        black = isinstance(model, validate.BlackBoxed)
        self._look = SecondLook("classifier", _outcomes_distance, again=not black)
        self.placed: Placement | None = None
        self._watch = ProbabilityWatch("classifier", needed=False)

    @property
    def module(self) -> Any:
        """The torch module inside the model, or None."""
        return getattr(self.model, "module", None)

    def record(self) -> dict[str, Any]:
        """Return the goal as entries for the record (``made_by``) of a result."""
        return record_for(self.goal, self._outcomes)

    def begin(self) -> None:
        """Compute the bounds of the goal from the next images, which are the originals."""
        self.placed, self.rows, self.searching = None, None, False

    def read(self, images: Tensor) -> Tensor:
        """Return the outcomes of images that the goal is about, (b,)."""
        found = unchecked_call(self.model)(images)
        found = validate.instance(validate.tensor_of(found, "classifier"), Tensor, "classifier")
        if found.ndim != 2 or len(found) != len(images):
            raise ValueError(
                f"classifier: expected outcomes of shape ({len(images)}, k), got "
                f"{tuple(found.shape)}"
            )
        return read_outcome(self.goal, found.float(), self._outcomes)

    def __call__(self, images: Tensor) -> Tensor:
        values = self._look(self.read, images)
        self.values = values.detach()
        if self.fixed_scale is None and self.placed is None:
            self.placed = self.place(self.values)
        return two_logits(self.log_odds(values))

    def place(self, start: Tensor) -> Placement:
        """Return bounds and scales for originals with the outcomes ``start``, (b,)."""
        low, high = bounds_of(self.goal, start)
        gap = (-_inside(start, low, high)).nan_to_num(0.0, 0.0, 0.0).clamp_min(0)
        bound = torch.where(low.isfinite(), low.abs(), 0.0) + torch.where(
            high.isfinite(), high.abs(), 0.0
        )
        slack = SLACK * gap + ROUNDING * bound.nan_to_num()
        if self.goal.kind == "between":  # the slack must leave something of the interval
            slack = torch.minimum(slack, (high - low) / 4)
        scale = torch.where(gap > 0, gap / STEEPNESS, 1.0).clamp_min(1e-30)
        return Placement(low, high, start, scale, slack)

    def log_odds(self, values: Tensor) -> Tensor:
        """Return the log odds of "reached" for outcomes (b,)."""
        if self.fixed_scale is not None:
            return _inside(values, *bounds_of(self.goal, values.detach())) / self.fixed_scale
        if self.placed is None:
            raise RuntimeError("the goal has no place yet; call begin and classify the originals")
        at = self.placed
        parts: tuple[Tensor, ...] = (at.low, at.high, at.slack, at.scale)
        if self.rows is not None:
            parts = tuple(part[self.rows] for part in parts)
        elif len(values) != len(at.start) != 1:
            raise RuntimeError(
                "a goal needs the row of each image; call run.classify(images, rows), or make the "
                "Run without by_row=True"
            )
        low, high, slack, scale = parts
        distance = _inside(values, low, high)
        if self.searching:
            distance = distance - slack
        return distance / scale + CERTAIN * (distance.detach() >= 0)

    def __repr__(self) -> str:
        return f"GoalClassifier({self.model!r}, {self.class_names[1]})"


class BlackBoxGoal(GoalClassifier, validate.BlackBoxed):
    """A goal for a ``BlackBox``, which has no gradients, and whose queries are counted."""


def _inside(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return how far outcomes lie inside the bounds, (b,); negative outside."""
    return torch.minimum(values - low, high - values)


def _outcomes_distance(a: Tensor, b: Tensor) -> float:
    """Return the difference of the first outcomes, relative to their size."""
    one, other = float(a.detach()[0]), float(b.detach()[0])
    if not (math.isfinite(one) and math.isfinite(other)):
        return 0.0
    return abs(one - other) / max(abs(one), abs(other), 1e-3)


def goal_classifier(model: Any, goal: Goal, scale: float | None = None) -> GoalClassifier:
    """Return the classifier of a goal. A ``BlackBox`` stays a black box."""
    kind = BlackBoxGoal if isinstance(model, validate.BlackBoxed) else GoalClassifier
    return kind(model, goal, scale)


@standard_modes
def select_goal(model: Any, goal: Goal, *, scale: float) -> Classifier:
    """Make a classifier of two classes from a regression model and a goal.

    The classes are 0 "not reached" and 1 "reached". Functions that take a classifier, such as
    ``cfx.fit_flow`` and ``cfx.integrated_gradients``, also take this one. The result can be the
    judge of ``cfx.report``. Methods with an argument ``target`` take the goal itself.

    Args:
        model: A model from ``cfx.wrap_regression``, a ``BlackBox`` of it, or for ``cfx.score`` a
            classifier.
        goal: A goal from ``cfx.raise_to``, ``cfx.lower_to``, ``cfx.between`` or ``cfx.score``. The
            goals ``raise_by`` and ``lower_by`` are refused, because their bound depends on the
            original of each image.
        scale: Difference of the outcome that changes the log odds by 1, above 0, in the units of
            the outcome. The log odds of "reached" are (outcome - bound) / scale. A tenth of the
            range of the outcomes is a good choice.

    Returns:
        A callable that maps images to logits (b, 2). Gradients pass through.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    return goal_classifier(
        model, absolute(goal, "goal"), validate.number(scale, "scale", 0.0, open_low=True)
    )


def absolute(goal: Any, name: str) -> Goal:
    """Return a goal that has the same bound for all images, and refuse other goals."""
    found: Goal = validate.instance(goal, Goal, name, "a goal such as cfx.raise_to(0.8)")
    if found.is_relative:
        raise ValueError(
            f"{name}: expected a goal with the same bound for all images, got {found.kind}; use "
            "cfx.raise_to or cfx.lower_to. Methods for single images take the goal as target."
        )
    return found
