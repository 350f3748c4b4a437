"""Describe arguments that several functions share once in the source, and in each help()."""

import inspect
import re
from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable)
ENTRY = re.compile(r"^    (?=\w[\w, ]*: )", re.M)  # begin of an argument in a cleaned docstring


def arguments_of(source: Callable, name: str) -> Callable[[F], F]:
    """Decorate a function whose docstring describes arguments as "As in ``name``.".

    In the docstring of the decorated function, the descriptions of ``source`` take the place of
    such entries.

    Args:
        source: Function that describes the arguments.
        name: What the entries call ``source``.
    """

    def fill(function: F) -> F:
        # Python removes all docstrings if it is started with -OO.
        text, known = inspect.getdoc(function), inspect.getdoc(source)
        if text and known:
            function.__doc__ = "".join(
                _copied(part, f"As in ``{name}``.", known) for part in _parts(text)
            )
        return function

    return fill


def _copied(part: str, marker: str, known: str) -> str:
    """Return a part of a docstring, or what ``known`` says about its arguments if it is marked."""
    names, _, described = part.partition(": ")
    if not described.startswith(marker):
        return part
    wanted = {each.strip() for each in names.split(",")}
    found = [
        each
        for each in _parts(known)[1:]
        if wanted & {name.strip() for name in each.partition(": ")[0].split(",")}
    ]
    return "".join(found) + described.removeprefix(marker).removeprefix("\n")


def _parts(text: str) -> list[str]:
    """Split a docstring before each argument, and after the last one."""
    head, args, rest = text.partition("Args:\n")
    body, gap, tail = rest.partition("\n\n")
    starts = [match.start() for match in ENTRY.finditer(body)]
    ends = [*starts[1:], len(body)]
    entries = [body[a:b].removesuffix("\n") + "\n" for a, b in zip(starts, ends, strict=True)]
    return [head + args, *entries, gap.removeprefix("\n") + tail]
