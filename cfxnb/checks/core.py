"""Code that the checks of all exercises share."""

import dataclasses
import functools
import html
import os
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Result:
    """Outcome of a check, which a notebook displays as coloured text.

    Attributes:
        exercise: Title of the exercise.
        passed: Whether the answer has all required properties.
        failed: The first property that does not hold, or "" if all hold.
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
        return Result(
            title,
            False,
            "there is no answer yet",
            "the stub still raises NotImplementedError",
            "replace the line 'raise NotImplementedError()' by your code; the hints are above",
        )
    except Exception as error:  # whatever an answer raises must not stop the notebook
        return Result(
            title,
            False,
            f"it raised {type(error).__name__}: {error}",
            "an error in the code, or a tensor of the wrong shape",
            "call it by hand on one small tensor and read the last line of the traceback",
        )
    return Result(title, True)
