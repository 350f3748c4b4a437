"""Functions that learners have written, for the cells of a notebook that build on them."""

import html
import importlib
import os
from collections.abc import Callable
from typing import Any

from IPython.display import HTML, display

from cfxnb.checks import core as checks
from cfxnb.core import validate


def piece(name: str, own: Callable[..., Any]) -> Callable[..., Any]:
    """Return the learner's function if it passes its check, and the solution's if not.

    Because of ``piece``, the cells after an exercise work even if the exercise is not finished. If
    the solution's function is used, a note below the cell says so.

    Example: ``log_odds = cfx.course.piece("nb02.log_odds", log_odds)``.

    Args:
        name: chapter and check of the exercise. ``"nb02.log_odds"`` is checked by
            ``cfx.checks.nb02.log_odds``.
        own: the learner's function or class.

    Returns:
        ``own`` if it passes its check. Otherwise the function of the same name in
        ``cfxnb.solutions``.

    Raises:
        ValueError, TypeError: if no exercise has this name, or if ``own`` is no function.
        AssertionError: if the check fails and the environment variable ``CFXNB_STRICT`` is "1".
    """
    chapter, _, function = validate.text(name, "name").partition(".")
    try:
        check = getattr(importlib.import_module(f"cfxnb.checks.{chapter}"), function)
        solution = getattr(importlib.import_module(f"cfxnb.solutions.{chapter}"), function)
    except (ImportError, AttributeError, ValueError):
        raise ValueError(
            f"name: expected chapter and exercise such as 'nb02.log_odds', got {name!r}"
        ) from None
    if not isinstance(own, type):  # a class is called like a function
        validate.function(own, "own")
    if checks.passes(check, own):
        return own
    if os.environ.get("CFXNB_STRICT") == "1":
        raise AssertionError(f"{name}: the function does not pass its check")

    def standing_in(*args: Any, **kwargs: Any) -> Any:
        return solution(*args, **kwargs)

    setattr(standing_in, checks.IS_SOLUTION, True)
    standing_in.__name__ = standing_in.__qualname__ = function
    standing_in.__doc__ = solution.__doc__
    display(Note(f"Your {function} is not finished yet. The function of the solution is used."))
    return standing_in


class Note(HTML):
    """A note below a cell."""

    def __init__(self, text: str) -> None:
        self.text = text
        style = "border-left:4px solid #0072B2;padding:4px 10px"
        super().__init__(f"<div style='{style}'>{html.escape(text)}</div>")

    def __repr__(self) -> str:
        return self.text
