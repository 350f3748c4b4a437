"""Warn if the outputs of a classifier are probably probabilities instead of logits."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfxnb.core.modules import first_time

REMEDY = "cfx.wrap(..., probabilities=True) takes their logarithm"

ROUNDING = 1e-3  # how far rounding moves a probability out of [0, 1]
ROUGH = 0.06  # how far the sum of rounded (two decimals) or smoothed probabilities is from 1
FEW = 4  # this many rows of logits are hardly ever all within [0, 1]
ENOUGH = 64  # number of rows that are checked

#: Operations of torch after which a probability is still one: they move, round or scale it.
PASSIVE = (
    "Add", "Alias", "AsStrided", "Cat", "Clamp", "Clone", "Copy", "Div", "Expand", "Index", "Mean",
    "Mul", "Permute", "Rsub", "ReshapeAlias", "Round", "Select", "Slice", "Split", "Squeeze",
    "Stack", "Sub", "Sum", "T", "ToCopy", "Transpose", "Unbind", "UnsafeView", "Unsqueeze", "View",
)  # fmt: skip
#: The last operation of a sigmoid or a softmax, built in or written out.
ENDS = ("Sigmoid", "Softmax", "Hardsigmoid", "Tanh", "Exp", "Reciprocal")


class ProbabilityWatch:
    """Warns once if outputs that should be logits look like probabilities.

    As soon as an output is outside of [0, 1], nothing more is checked. Outputs within [0, 1] count
    as probabilities if a sigmoid or a softmax made them, or if, for example, all rows sum to 1.

    Args:
        name: Name of the classifier, for the message.
        needed: False if it is known that no warning is needed.
        remedy: Advice at the end of the message.
    """

    def __init__(self, name: str, needed: bool = True, remedy: str = REMEDY) -> None:
        self.name, self.needed, self.remedy = name, needed, remedy
        self.reset()

    def reset(self) -> None:
        """Check outputs again, because a new call of a method begins."""
        self.done = not self.needed
        self._rows: Tensor | None = None
        self._end: bool | None = None

    def see(self, values: Tensor, again: Callable[[], Tensor] | None = None) -> None:
        """Check outputs (b, k).

        Args:
            values: The outputs.
            again: Function that computes the outputs with autograd, which records the operation
                that made them. ``again`` is called only for outputs that may be probabilities.
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
    """Remove a first column of zeros, which was added when one logit was widened to two."""
    widened = values.shape[1] == 2 and not values[:, 0].any() and bool(values[:, 1].any())
    return values[:, 1:] if widened else values


def _unit(rows: Tensor) -> Tensor | None:
    """Return values within [0, 1] unchanged, percentages divided by 100, and otherwise None."""
    low, high = rows.min().item(), rows.max().item()
    if low < -ROUNDING or high > 100 * (1 + ROUGH):
        return None
    if high <= 1 + ROUNDING:
        return rows
    percent = rows.shape[1] > 1 and bool(((rows.sum(1) / 100 - 1).abs() < ROUNDING).all())
    return rows / 100 if percent else None


def _look_like_probabilities(rows: Tensor, known: bool) -> bool:
    """Return whether the numbers (b, k), all in [0, 1], look like probabilities.

    Args:
        rows: The numbers.
        known: Whether it is known that no sigmoid or softmax is the last operation.
    """
    inside = bool(((rows > 0) & (rows < 1)).any())
    # Equal rows prove nothing.
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
    except Exception:  # there is no gradient, or not for a single image
        return None


def _made_by_sigmoid(values: Tensor) -> bool | None:
    """Return whether a sigmoid or softmax made all values, or None if torch cannot tell."""
    return None if values.grad_fn is None else _ends(values.grad_fn, 16)


def _ends(step: Any, left: int) -> bool | None:
    name, _, number = step.name().rpartition("Backward")
    if name in ENDS:
        return True
    if not number.isdigit():  # a custom operation, about which nothing is known
        return None
    if name not in PASSIVE or not left:
        return False
    inner = [each for each, _ in step.next_functions if each is not None]
    inner = [each for each in inner if "AccumulateGrad" not in each.name()]  # a weight, a factor
    found = [_ends(each, left - 1) for each in inner]
    if False in found or not found:
        return False
    return None if None in found else True
