"""Code that the checks of all exercises share."""

import dataclasses
import functools
import html
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

near = functools.partial(math.isclose, abs_tol=1e-6)  # also if one is in single precision


@dataclasses.dataclass(frozen=True)
class Result:
    """Outcome of a check, which a notebook displays as coloured text.

    Attributes:
        exercise: Title of the exercise.
        passed: Whether the answer has all required properties.
        failed: The first property that the answer lacks, or "" if the answer has all properties.
        cause: The likely reason.
        hint: What the learner can do next.
    """

    exercise: str
    passed: bool
    failed: str = ""
    cause: str = ""
    hint: str = ""

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        if self.passed:
            return f"✔ {self.exercise}: all properties hold."
        return (
            f"✘ {self.exercise}: {self.failed}\n  Likely cause: {self.cause}\n  Next: {self.hint}"
        )

    def _repr_html_(self) -> str:
        colour = "#009E73" if self.passed else "#D55E00"
        text = html.escape(repr(self)).replace("\n", "<br>")
        return f"<div style='border-left:4px solid {colour};padding:4px 10px'>{text}</div>"


class Wrong(Exception):
    """Raised if a property of the answer does not hold."""

    def __init__(self, failed: str, cause: str, hint: str) -> None:
        super().__init__(failed)
        self.failed, self.cause, self.hint = failed, cause, hint


def expect(holds: bool, failed: str, *, cause: str, hint: str) -> None:
    """Raise ``Wrong`` if a property of the answer does not hold (``holds`` is False)."""
    if not holds:
        raise Wrong(failed, cause, hint)


def expect_tensor(got: Any, shape: tuple[int, ...], cause: str, hint: str, what: str = "") -> None:
    """Raise ``Wrong`` if the answer ``got`` is not a tensor of the shape ``shape``.

    The text ``what`` describes the expected tensor.
    """
    expect(
        isinstance(got, Tensor) and got.shape == shape,
        f"expected {what or f'a tensor of shape {shape}'}, "
        f"got {getattr(got, 'shape', type(got).__name__)}",
        cause=cause,
        hint=hint,
    )


def expect_pair(got: Any, what: str, hint: str = "return both, separated by a comma") -> list[Any]:
    """Return the two parts of an answer. Raise ``Wrong`` if the answer is not a pair."""
    expect(
        isinstance(got, tuple | list) and len(got) == 2,
        f"expected {what}, got {type(got).__name__}",
        cause="only one of the two is returned",
        hint=hint,
    )
    return list(got)


def expect_none_of(
    known: Mapping[str, tuple[Any, str]],
    found: Callable[[Any], bool],
    *,
    hint: str,
    start: str = "",
) -> None:
    """Raise ``Wrong`` if the learner's answer equals one that a known mistake leads to.

    Args:
        known: Dict from a description of each mistake to a pair: the wrong answer and the cause.
        found: Function that takes a wrong answer and says whether the learner's answer is equal to
            it.
        hint: What the learner can do next.
        start: Text that is put before the description of the mistake in the message.
    """
    for mistake, (wrong, cause) in known.items():
        expect(not found(wrong), start + mistake, cause=cause, hint=hint)


def same(a: Tensor, b: Tensor, rtol: float = 1e-5, atol: float = 1e-4) -> bool:
    """Return whether two tensors have the same shape and, up to rounding, the same numbers."""
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol, atol)


def exercise(title: str) -> Callable[[Callable[..., None]], Callable[..., Result]]:
    """Decorate a function that calls ``expect``, so that the function returns a ``Result``."""

    def decorate(properties: Callable[..., None]) -> Callable[..., Result]:
        @functools.wraps(properties)
        def check(*answer: Any) -> Result:
            result = _run(title, properties, answer)
            if not result and os.environ.get("CFXNB_STRICT") == "1":
                raise AssertionError(repr(result))
            return result

        return check

    return decorate


def _run(title: str, properties: Callable[..., None], answer: tuple[Any, ...]) -> Result:
    try:
        properties(*answer)
    except Wrong as wrong:
        return Result(title, False, wrong.failed, wrong.cause, wrong.hint)
    except NotImplementedError:
        cause = "the stub still raises NotImplementedError"
        hint = "replace the line 'raise NotImplementedError()' by your code; the hints are above"
        return Result(title, False, "there is no answer yet", cause, hint)
    except Exception as error:  # whatever an answer raises must not stop the notebook
        failed = f"it raised {type(error).__name__}: {error}"
        cause = "an error in the code, or a tensor of the wrong shape"
        hint = "call it by hand on one small tensor and read the last line of the traceback"
        return Result(title, False, failed, cause, hint)
    return Result(title, True)
