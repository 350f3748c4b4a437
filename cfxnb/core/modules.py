"""Networks in evaluation mode with frozen parameters, wherever they are hidden."""

import contextlib
import functools
import threading
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEPTH = 8  # how far references are followed
OBJECTS = 5000  # how many objects are looked at, networks not counted
WIDTH = 256  # a longer list or dict is data, and holds no networks

#: Data, and what describes it: no network is in there.
LEAVES = (
    str, bytes, int, float, complex, type, types.ModuleType, Tensor, np.ndarray, np.generic,
    torch.dtype, torch.device, torch.Generator,
)  # fmt: skip
#: Code of these packages refers to no network of the caller.
LIBRARIES = {
    "builtins", "captum", "cfxnb", "diffusers", "functools", "matplotlib", "numpy", "onnxruntime",
    "pandas", "PIL", "safetensors", "scipy", "sklearn", "torch", "transformers", "typing",
}  # fmt: skip


def modules_of(*parts: Any) -> list[nn.Module]:
    """Find the networks that ``parts`` use, with all of their submodules, each once.

    A network may be the part itself or lie in an attribute, a list, a closure, a bound object, a
    partial, a default, or in a global variable that a function names.
    """
    found: dict[int, nn.Module] = {}
    seen: set[int] = set()
    waiting = [(part, 0) for part in reversed(parts)]
    objects = 0
    while waiting:
        part, depth = waiting.pop()
        if part is None or id(part) in seen or isinstance(part, LEAVES):
            continue
        seen.add(id(part))
        if isinstance(part, nn.Module):
            found[id(part)] = part
        else:
            objects += 1
        if depth < DEPTH and objects <= OBJECTS:
            waiting += [(each, depth + 1) for each in _references(part)]
    every = {id(m): m for top in found.values() for m in top.modules()}
    return list(every.values())


def _references(part: Any) -> list[Any]:
    """The objects that one object refers to, as far as they may hold networks."""
    if isinstance(part, dict):
        return list(part.values()) if len(part) <= WIDTH else []
    if isinstance(part, list | tuple | set | frozenset):
        return list(part) if len(part) <= WIDTH else []
    if isinstance(part, functools.partial):
        return [part.func, *part.args, *part.keywords.values()]
    if isinstance(part, types.MethodType):
        return [part.__self__, part.__func__]
    if isinstance(part, types.FunctionType):
        return _of_function(part)
    inside = [value for name, value in _attributes(part) if name not in ("_parameters", "_buffers")]
    return inside + [f for f in _methods(type(part)) if f.__module__ is not None]


def _attributes(part: Any) -> list[tuple[str, Any]]:
    found = list(getattr(part, "__dict__", {}).items())
    for kind in type(part).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            with contextlib.suppress(AttributeError):  # a slot that was never filled
                found.append((name, object.__getattribute__(part, name)))
    return found


def _methods(kind: type) -> list[types.FunctionType]:
    """The methods of a caller's own class: they may name networks in global variables."""
    return [
        value
        for each in kind.__mro__
        if not _of_library(each.__module__)
        for value in vars(each).values()
        if isinstance(value, types.FunctionType)
    ]


def _of_library(module: str | None) -> bool:
    return (module or "").split(".")[0] in LIBRARIES


def _of_function(function: types.FunctionType) -> list[Any]:
    inside: list[Any] = [getattr(function, "__wrapped__", None), *vars(function).values()]
    inside += list(function.__defaults__ or ()) + list((function.__kwdefaults__ or {}).values())
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # a cell that is still empty
            inside.append(cell.cell_contents)
    if not _of_library(function.__module__):
        names = _names(function.__code__)
        inside += [function.__globals__[n] for n in names if n in function.__globals__]
    return inside


def _names(code: types.CodeType) -> list[str]:
    """Global names in a function and in the functions inside it."""
    inner = [name for c in code.co_consts if isinstance(c, types.CodeType) for name in _names(c)]
    return [*code.co_names, *inner]


class _Held:
    """State of one module or parameter, as it was before its first user, and how many use it."""

    def __init__(self, kept: Any, was: bool) -> None:
        self.kept, self.was, self.users = kept, was, 0


_LOCK = threading.RLock()
_MODULES: dict[int, _Held] = {}
_PARAMETERS: dict[int, _Held] = {}


@contextlib.contextmanager
def eval_frozen(*parts: Any) -> Iterator[None]:
    """Put the networks that ``parts`` use into evaluation mode and freeze their parameters.

    Afterwards everything is as it was before, also after an exception. Several threads may use the
    same network: the last one to leave restores its state.
    """
    modules = [m for m in modules_of(*parts) if hasattr(m, "training")]  # frozen scripts have none
    parameters = {id(p): p for m in modules for p in m.parameters(recurse=False)}
    # Parameters made under torch.inference_mode get no gradient, and can't be changed.
    weights = [p for p in parameters.values() if not p.is_inference()]
    with _LOCK:
        for m in modules:
            held = _MODULES.setdefault(id(m), _Held(m, m.training))
            held.users += 1
            if m.training:
                m.training = False
        for p in weights:
            held = _PARAMETERS.setdefault(id(p), _Held(p, p.requires_grad))
            held.users += 1
            p.requires_grad_(False)
    try:
        yield
    finally:
        with _LOCK:
            for m in modules:
                if (last := _left(_MODULES, m)) and m.training != last.was:
                    m.training = last.was
            for p in weights:
                if last := _left(_PARAMETERS, p):
                    p.requires_grad_(last.was)


def _left(table: dict[int, _Held], kept: Any) -> _Held | None:
    """One user less; what was held, if that was the last one."""
    held = table[id(kept)]
    held.users -= 1
    return table.pop(id(kept)) if not held.users else None
