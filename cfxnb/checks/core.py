"""Code that the checks of all exercises share."""

import dataclasses
import dis
import functools
import html
import linecache
import math
import operator
import os
import traceback
from collections.abc import Callable, Mapping
from inspect import CO_GENERATOR
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor

near = functools.partial(math.isclose, abs_tol=1e-6)  # also if one is in single precision

#: How often an exercise must fail before its check shows the hint.
FAILURES_BEFORE_HINT = 3
#: Attribute of functions that ``cfx.course.piece`` took from the solutions.
IS_SOLUTION = "_cfxnb_solution"
_failures: dict[str, int] = {}  # failed tries of each exercise, since the kernel was started
_passed: dict[str, Any] = {}  # the last answer of each exercise that passed
_PACKAGE = str(Path(__file__).parents[1])


@dataclasses.dataclass(frozen=True)
class Result:
    """Outcome of a check, which a notebook displays as coloured text.

    Attributes:
        exercise: Title of the exercise.
        passed: Whether the answer has all required properties.
        failed: The first property that the answer lacks, or "" if the answer has all properties.
        cause: The likely reason.
        hint: What the learner can do next.
        tries_left: Number of further failed tries until the hint is shown. 0 shows the hint.
    """

    exercise: str
    passed: bool
    failed: str = ""
    cause: str = ""
    hint: str = ""
    tries_left: int = 0

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        if self.passed:
            return f"✔ {self.exercise}: all properties hold."
        following = f"Next: {self.hint}"
        if self.tries_left:
            tries = "try" if self.tries_left == 1 else "tries"
            following = f"A hint follows after {self.tries_left} more failed {tries}."
        return f"✘ {self.exercise}: {self.failed}\n  Likely cause: {self.cause}\n  {following}"

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
    """Decorate a function that calls ``expect``, so that the function returns a ``Result``.

    The first results of an exercise say what is wrong and why. From the third failed try on, the
    result also shows the hint.
    """

    def decorate(properties: Callable[..., None]) -> Callable[..., Result]:
        key = f"{properties.__module__}.{properties.__name__}"

        @functools.wraps(properties)
        def check(*answer: Any) -> Result:
            result = _count_failure(key, _run(title, properties, answer))
            _passed[key] = answer if result.passed else None
            if not result and os.environ.get("CFXNB_STRICT") == "1":
                raise AssertionError(repr(result))
            return result

        return check

    return decorate


def passes(check: Callable[..., Result], *answer: Any) -> bool:
    """Return whether an answer passes a check, without counting a failed try.

    If the check has just passed the same function, it is not run again.
    """
    last = _passed.get(f"{check.__module__}.{check.__name__}") or ()
    if answer and len(last) == len(answer) and all(map(operator.is_, last, answer)):
        return True
    return _run("", check.__wrapped__, answer).passed  # type: ignore[attr-defined]


def _count_failure(key: str, result: Result) -> Result:
    """Count a failed try of an exercise, and return the result with the tries left to the hint."""
    if result.passed:
        _failures.pop(key, None)
        return result
    if result.tries_left == 0:  # the hint is about the procedure, and not about the answer
        return result
    _failures[key] = _failures.get(key, 0) + 1
    left = max(0, FAILURES_BEFORE_HINT - _failures[key])
    return dataclasses.replace(result, tries_left=left)


def _has_no_return(function: Any) -> bool:
    """Return whether a function can end only without a value, because a ``return`` is missing."""
    if not isinstance(function, FunctionType) or function.__code__.co_flags & CO_GENERATOR:
        return False
    if function.__name__ == "__init__":  # returns nothing in any case
        return False
    steps = list(dis.get_instructions(function))
    ends = 0
    for before, step in zip([steps[0], *steps], steps, strict=False):
        if step.opname in ("RETURN_VALUE", "RETURN_CONST"):
            value = before if step.opname == "RETURN_VALUE" else step
            constant = value.opname in ("LOAD_CONST", "RETURN_CONST")
            if not constant or value.argval is not None or step.is_jump_target:
                return False
            ends += 1
    return ends > 0


def _run(title: str, properties: Callable[..., None], answer: tuple[Any, ...]) -> Result:
    if any(getattr(part, IS_SOLUTION, None) is True for part in answer):
        cause = "cfx.course.piece has replaced your function, because it did not pass its check"
        hint = "write your function, run its cell, and run this cell again"
        return Result(title, False, "this is the function of the solution", cause, hint)
    functions = [f for part in answer for f in _functions(part)]
    codes = [function.__code__ for function in functions]
    raised = False  # an exception in the learner's own code
    try:
        properties(*answer)
    except NotImplementedError as error:
        return _unfinished(title, error, codes)
    except Wrong as wrong:
        result = Result(title, False, wrong.failed, wrong.cause, wrong.hint, FAILURES_BEFORE_HINT)
    except Exception as error:  # whatever an answer raises must not stop the notebook
        place = _where(error, codes)
        raised = bool(place)
        failed = f"it raised {type(error).__name__}: {error}{place}"
        cause = "an error in the code, or a tensor of the wrong shape"
        hint = "print the shapes of the tensors just before this line"
        result = Result(title, False, failed, cause, hint)
    else:
        return Result(title, True)
    silent = [f.__name__ for f in functions if not raised and _has_no_return(f)]
    if silent:
        failed = f"{silent[0]} returned None"
        cause = "the function computes a value, but has no line that begins with 'return'"
        return Result(title, False, failed, cause, "end the function with 'return' and the value")
    return result


def _functions(part: Any) -> list[FunctionType]:
    """Return the functions of an answer: a function itself, or the methods of a class."""
    if isinstance(part, type):
        return [f for f in vars(part).values() if isinstance(f, FunctionType)]
    return [part] if isinstance(part, FunctionType) else []


def _unfinished(title: str, error: Exception, codes: list[CodeType]) -> Result:
    """Return the result for a stub, which may also be another function that the answer calls."""
    last = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1].f_code
    if codes and last not in codes and not last.co_filename.startswith(_PACKAGE):
        failed = f"it calls {last.co_name}, which has no answer yet"
        cause = f"the stub of {last.co_name} still raises NotImplementedError"
        return Result(title, False, failed, cause, f"finish {last.co_name} first")
    cause = "the stub still raises NotImplementedError"
    hint = "replace the line 'raise NotImplementedError()' by your code; the hints are above"
    return Result(title, False, "there is no answer yet", cause, hint)


def _where(error: Exception, codes: list[CodeType]) -> str:
    """Return the line of the learner's code at which an exception was raised, as text."""
    frames = [(f.f_code, line) for f, line in traceback.walk_tb(error.__traceback__)]
    files = {code.co_filename for code in codes if not code.co_filename.startswith(_PACKAGE)}
    own = [(code, line) for code, line in frames if code.co_filename in files]
    if not own:
        return ""
    code, line = own[-1]
    text = linecache.getline(code.co_filename, line).strip()
    place = f"line {line - code.co_firstlineno + 1} of {code.co_name}"
    return f" ({place}: `{text}`)" if text else f" ({place})"
