"""Tables of answers to the exercises, and what a check has to say to each.

The wrong answers are what learners write, not random changes: a check that lets one of them
pass, or explains it by something else, teaches something false.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest


@dataclasses.dataclass(frozen=True)
class Answers:
    """Answers to one exercise.

    Attributes:
        right: answers that must pass, by what is particular to them.
        wrong: typical mistakes with a part of the message that each must get.
    """

    right: dict[str, Callable[..., Any]]
    wrong: dict[str, tuple[Callable[..., Any], str]]


def public_checks(module):
    """All checks of a module, by name: ``exercise`` leaves the undecorated function behind."""
    return {
        name: thing
        for name, thing in vars(module).items()
        if hasattr(thing, "__wrapped__") and thing.__module__ == module.__name__
    }


def right_answers(module, table):
    return pytest.mark.parametrize(
        ("check", "answer"),
        [
            pytest.param(getattr(module, name), answer, id=f"{name}-{kind}")
            for name, answers in table.items()
            for kind, answer in answers.right.items()
        ],
    )


def wrong_answers(module, table):
    return pytest.mark.parametrize(
        ("check", "answer", "fragment"),
        [
            pytest.param(getattr(module, name), answer, fragment, id=f"{name}-{kind}")
            for name, answers in table.items()
            for kind, (answer, fragment) in answers.wrong.items()
        ],
    )


def assert_accepted(result):
    assert result.passed, repr(result)


def assert_rejected(result, fragment):
    assert not result.passed, "a wrong answer passes"
    assert fragment in result.failed
    assert result.cause
    assert result.hint
