"""Warnings about classifiers whose answers are probably not what the caller thinks."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfxnb.core.modules import first_time

REMEDY = "cfx.wrap(..., probabilities=True) takes their logarithm"

ROUNDING = 1e-3  # how far rounding takes a probability out of [0, 1]
ROUGH = 0.06  # how far the sum of probabilities with two decimals, or some smoothing, is from 1
FEW = 4  # rows within [0, 1] that logits hardly ever fill, if nothing else is known of them
ENOUGH = 64  # rows that are looked at

#: Steps of torch that leave a probability one: they move, round or scale it.
PASSIVE = (
    "Add", "Alias", "AsStrided", "Cat", "Clamp", "Clone", "Copy", "Div", "Expand", "Index", "Mean",
    "Mul", "Permute", "Rsub", "ReshapeAlias", "Round", "Select", "Slice", "Split", "Squeeze",
    "Stack", "Sub", "Sum", "T", "ToCopy", "Transpose", "Unbind", "UnsafeView", "Unsqueeze", "View",
)  # fmt: skip
#: What a sigmoid or a softmax ends with, written out or not.
ENDS = ("Sigmoid", "Softmax", "Hardsigmoid", "Tanh", "Exp", "Reciprocal")


class ProbabilityWatch:
    """Warns once if outputs that should be logits look like probabilities.

    Logits soon leave [0, 1], and then nothing is looked at any more. Outputs that stay there are
    probabilities if a sigmoid or a softmax made them, or if their numbers say so.

    Args:
        name: what the message calls the classifier.
        needed: False if it is known that there is nothing to warn of.
    """

    def __init__(self, name: str, needed: bool = True, remedy: str = REMEDY) -> None:
        self.name, self.needed, self.remedy = name, needed, remedy
        self.begin()

    def begin(self) -> None:
        """Look again, and warn again: a new call of a method begins."""
        self.done = not self.needed
        self._rows: Tensor | None = None
        self._end: bool | None = None

    def see(self, values: Tensor, again: Callable[[], Tensor] | None = None) -> None:
        """Look at outputs (b, k).

        Args:
            again: asks for outputs with a gradient, which tell by what they were made. It is
                called at most once, and only for outputs that may be probabilities.
        """
        if self.done:
            return
        rows = _only_output(values.detach()[:ENOUGH]).float()
        rows = rows[rows.isfinite().all(1)]
        if not rows.numel():
            return
        scaled = _unit(rows)
        if scaled is None:
            self.done = True
            return
        if self._rows is None or self._rows.shape[1] != scaled.shape[1]:
            self._end = _made_by_sigmoid(values)
            if self._end is None and again is not None:
                self._end = _asked_again(again)
        else:
            scaled = torch.cat([self._rows.to(scaled), scaled])
        self._rows = scaled
        self.done = len(scaled) >= ENOUGH
        if self._end or _look_like_probabilities(scaled, known=self._end is not None):
            self.done = True
            self._warn()

    def _warn(self) -> None:
        if first_time(f"{self.name} gives probabilities"):
            warnings.warn(
                f"{self.name}: its outputs look like probabilities, and logits are expected; leave "
                f"out the last softmax or sigmoid, or {self.remedy}",
                stacklevel=5,
            )


def _only_output(values: Tensor) -> Tensor:
    """Without a first column of zeros: so a single logit is widened to two."""
    widened = values.shape[1] == 2 and not values[:, 0].any() and bool(values[:, 1].any())
    return values[:, 1:] if widened else values


def _unit(rows: Tensor) -> Tensor | None:
    """Values within [0, 1], or percentages divided by 100; None if they are neither."""
    low, high = rows.min().item(), rows.max().item()
    if low < -ROUNDING or high > 100 * (1 + ROUGH):
        return None
    if high <= 1 + ROUNDING:
        return rows
    percent = rows.shape[1] > 1 and bool(((rows.sum(1) / 100 - 1).abs() < ROUNDING).all())
    return rows / 100 if percent else None


def _look_like_probabilities(rows: Tensor, known: bool) -> bool:
    """Whether the numbers (b, k), all in [0, 1], say so.

    Args:
        known: it was seen that no sigmoid or softmax stands at the end.
    """
    inside = bool(((rows > 0) & (rows < 1)).any())
    # The same row again and again may be anything.
    vary = bool((rows.amax(0) > rows.amin(0)).any())
    if rows.shape[1] > 1:
        off = (rows.sum(1) - 1).abs().max().item()
        if off < (ROUNDING if known else ROUGH) and (inside or (vary and len(rows) >= FEW)):
            return True
    return not known and inside and vary and len(rows) >= FEW


def _asked_again(again: Callable[[], Tensor]) -> bool | None:
    try:
        with torch.enable_grad():
            return _made_by_sigmoid(again())
    except Exception:  # no gradient can be had of it, or not for one image alone
        return None


def _made_by_sigmoid(values: Tensor) -> bool | None:
    """Whether torch says that a sigmoid or softmax made all of these; None if it can't tell."""
    return None if values.grad_fn is None else _ends(values.grad_fn, 16)


def _ends(step: Any, left: int) -> bool | None:
    name, _, number = step.name().rpartition("Backward")
    if name in ENDS:
        return True
    if not number.isdigit():  # no step of torch itself: it hides what it does
        return None
    if name not in PASSIVE or not left:
        return False
    inner = [each for each, _ in step.next_functions if each is not None]
    inner = [each for each in inner if "AccumulateGrad" not in each.name()]  # a weight, a factor
    found = [_ends(each, left - 1) for each in inner]
    if False in found or not found:
        return False
    return None if None in found else True
