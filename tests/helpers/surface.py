"""What the package offers: every public function, constructor, method and property, found anew.

Nothing is listed here by name. What a module exports belongs to it, and so do the public methods
of each class that it exports or that one of its functions is annotated to return.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import cfxnb as cfx

MODULES = {"cfx": cfx} | {
    f"cfx.{name}": getattr(cfx, name) for name in ("data", "metrics", "spaces", "types", "weights")
}
#: Parts of a protocol, called in inner loops with what the package itself has made.
INNER = re.compile(
    r".*\.(predict_noise|predict_noise_and_variance|check|check_images|defaults|default_noise"
    r"|network_input|noise)|.*Path\.(at|nodes|passes)"
)
#: They write the weights that the project ships, and are called by its training alone.
SHIPPING = re.compile(r"cfx\.weights\.(data_hash|save|write_card)")
#: Called by Python itself, with arguments of the caller.
SPECIAL = ("__add__", "__call__", "__getitem__", "__len__", "forward")


@dataclasses.dataclass(frozen=True)
class Callee:
    """Something public that can be called.

    Attributes:
        label: as one would write it: "cfx.Code.with_z".
        function: what is called; for a method with the object as its first argument.
        owner: the class of that object, or None.
        parameters: name -> parameter, without the object.
        makes: the class, if it is a constructor.
    """

    label: str
    function: Callable
    owner: type | None
    parameters: dict[str, inspect.Parameter]
    makes: type | None = None


def exported(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """The names of a module's ``__all__``; without one, its public functions and classes."""
    for name in getattr(module, "__all__", vars(module)):
        value = getattr(module, name)
        own = "__all__" in vars(module) or getattr(value, "__module__", "") == module.__name__
        if own and not name.startswith("_") and not inspect.ismodule(value):
            yield name, value


def everything() -> list[Callee]:
    """Each thing once, also if two modules export it."""
    found: dict[Any, Callee] = {}
    classes: dict[type, str] = {}
    for prefix, module in MODULES.items():
        for name, value in exported(module):
            label = f"{prefix}.{name}"
            if inspect.isclass(value):
                classes.setdefault(value, label)
            elif SHIPPING.fullmatch(label):
                continue
            elif inspect.isroutine(value) and value not in found:
                found[value] = Callee(label, value, None, _parameters(value))
    shown, waiting = set(classes), dict(classes)
    for callee in found.values():
        waiting |= {c: _title(c) for c in _returned(callee.function) if c not in classes}
    while waiting:
        kind, label = waiting.popitem()
        classes.setdefault(kind, label)
        for callee in _of_class(kind, label, kind in shown):
            found[callee.label] = callee
            waiting |= {c: _title(c) for c in _returned(callee.function) if c not in classes}
    return sorted(found.values(), key=lambda callee: callee.label)


def _title(kind: type) -> str:
    return f"{kind.__module__.replace('cfxnb', 'cfx', 1)}.{kind.__name__}"


def _of_class(kind: type, label: str, exported: bool) -> Iterator[Callee]:
    """Methods and properties, and the constructor of what is exported; others are made inside."""
    if getattr(kind, "_is_protocol", False) or issubclass(kind, BaseException):
        return
    if exported:
        yield Callee(label, kind, None, _parameters(kind), kind)
    for name in sorted({n for c in kind.__mro__ if _ours(c) for n in vars(c)}):
        title, raw = f"{label}.{name}", inspect.getattr_static(kind, name)
        if INNER.fullmatch(title) or (name.startswith("_") and name not in SPECIAL):
            continue
        if isinstance(raw, staticmethod):
            yield Callee(title, raw.__func__, None, _parameters(raw.__func__))
        elif isinstance(raw, classmethod):
            bound = getattr(kind, name)
            yield Callee(title, bound, None, _parameters(bound))
        elif isinstance(raw, property):
            yield Callee(title, raw.fget, kind, {})
        elif inspect.isfunction(raw):
            parameters = _parameters(raw)
            parameters.pop(next(iter(parameters)))
            yield Callee(title, raw, kind, parameters)


def _parameters(function: Callable) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def _ours(kind: type) -> bool:
    return kind.__module__.startswith("cfxnb")


def _returned(function: Callable) -> set[type]:
    """The package's classes in the annotation of what comes back."""
    try:
        hint = typing.get_type_hints(function).get("return")
    except NameError:
        return set()
    found: set[type] = set()
    hints = [hint]
    while hints:
        hint = hints.pop()
        hints += typing.get_args(hint)
        if inspect.isclass(hint) and _ours(hint):
            found.add(hint)
    return found
