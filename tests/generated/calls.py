"""Calls of everything public: the good ones, and each of them with one argument replaced."""

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

import good
import odd
import verdict
from surface import Callee

#: Arguments in which any text is right.
FREE_TEXT = {"alt", "title", "xlabel", "ylabel", "question", "source", "template"}


def known(callee: Callee, name: str, parameter: inspect.Parameter) -> Any:
    """The good value, or ``good.DEFAULT``."""
    elsewhere = good.ELSEWHERE.get(callee.label, {})
    if name in elsewhere:
        value = elsewhere[name]
        return value if value is good.DEFAULT else value()
    made = good.OBJECTS.get(callee.makes.__name__) if callee.makes else None
    if made and hasattr(made(), name) and not inspect.ismethod(getattr(made(), name)):
        return getattr(made(), name)
    must = parameter.default is inspect.Parameter.empty
    if name in good.NAMES_OF and (must or parameter.default is not None):
        return good.NAMES_OF[name]()
    if must and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
        raise LookupError(f"{callee.label}: no good value for {name}; add one to good.NAMES_OF")
    return good.DEFAULT


def base(callee: Callee) -> dict[str, Any]:
    """Good arguments."""
    found = {n: known(callee, n, p) for n, p in callee.parameters.items()}
    return {n: value for n, value in found.items() if value is not good.DEFAULT}


def example(callee: Callee, name: str, arguments: dict[str, Any]) -> Any:
    """What odd values are made of: the good value, the default, or what the name says."""
    if name in arguments:
        return arguments[name]
    default = callee.parameters[name].default
    if default is None or default is inspect.Parameter.empty:
        return good.NAMES_OF[name]() if name in good.NAMES_OF else None
    return default


def owner(callee: Callee, surface: list[Callee]) -> Any:
    """The object whose method it is."""
    kind = callee.owner
    if kind.__name__ in good.OBJECTS:
        return good.OBJECTS[kind.__name__]()
    constructor = next(c for c in surface if c.makes is kind)
    return call(constructor, base(constructor), None)()


def call(callee: Callee, arguments: dict[str, Any], this: Any) -> Callable[[], Any]:
    """Ready to run."""
    positional: list[Any] = [] if callee.owner is None else [this]
    named: dict[str, Any] = {}
    for name, value in arguments.items():
        kind = callee.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            positional += list(value)
        elif kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        elif kind is inspect.Parameter.POSITIONAL_ONLY:
            positional.append(value)
        else:
            named[name] = value
    return lambda: callee.function(*positional, **named)


def replaced(callee: Callee, arguments: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    kind = callee.parameters[name].kind
    if kind is inspect.Parameter.VAR_POSITIONAL:
        value = (value,)
    elif kind is inspect.Parameter.VAR_KEYWORD:
        value = {next(iter(arguments[name])): value}
    return {**arguments, name: value}


def hints(callee: Callee) -> dict[str, Any]:
    function = callee.function.__init__ if callee.makes else callee.function
    try:
        return typing.get_type_hints(function)
    except NameError:
        return {}


def customary(callee: Callee) -> tuple[type[Exception], ...]:
    """What Python's own containers raise."""
    return (IndexError, KeyError) if callee.label.endswith("__getitem__") else ()


def judged(callee: Callee, surface: list[Callee]) -> Iterator[tuple[str, odd.Odd, verdict.Verdict]]:
    """Each argument replaced by each odd value: name, value, verdict."""
    arguments = base(callee)
    this = None if callee.owner is None else owner(callee, surface)
    usual = verdict.not_finite(call(callee, arguments, this)())
    annotated = hints(callee)
    names = set(callee.parameters)
    for name, parameter in callee.parameters.items():
        names |= set(arguments[name]) if parameter.kind is parameter.VAR_KEYWORD and name in arguments else set()
    for name, parameter in callee.parameters.items():
        one = example(callee, name, arguments)
        whole = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if whole:
            if not one:
                continue
            one = next(iter(one.values() if isinstance(one, dict) else one))
        for each in odd.values(one):
            try:
                value = each.make()
            except Exception:  # no such value can be made of the good one
                continue
            fit = verdict.fits(one, parameter, annotated.get(name, Any), value, name in FREE_TEXT)
            run = call(callee, replaced(callee, arguments, name, value), this)
            yield name, each, verdict.judge(
                run, each, parameter, names, fit, usual,
                finite=callee.makes is None, errors=customary(callee),
            )  # fmt: skip
