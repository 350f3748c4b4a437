"""Put networks into evaluation mode and freeze their parameters, wherever they are stored."""

import contextlib
import dis
import functools
import threading
import types
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy

DEPTH = 8  # how far references are followed
OBJECTS = 5000  # how many objects are searched, not counting networks
WIDTH = 256  # longer lists and dicts hold data, not networks

#: Types that hold no networks.
LEAVES = (
    str, bytes, int, float, complex, type, types.ModuleType, Tensor, np.ndarray, np.generic,
    torch.dtype, torch.device, torch.Generator,
)  # fmt: skip
#: Packages whose code does not refer to networks of the caller.
LIBRARIES = {
    "builtins", "captum", "cfxnb", "diffusers", "functools", "matplotlib", "numpy", "onnxruntime",
    "pandas", "PIL", "safetensors", "scipy", "sklearn", "torch", "transformers", "typing",
}  # fmt: skip


def modules_of(*parts: Any) -> list[nn.Module]:
    """Return the networks that ``parts`` use, with all of their submodules, each once.

    A network may be one of the parts itself. The function also searches attributes, lists,
    closures, bound objects, partials, default values, and global variables that a function names.
    A network in any other place is not found, and ``eval_frozen`` freezes such a network at its
    first call.
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
    """Return the objects that one object refers to, as far as they may hold networks."""
    if isinstance(part, dict | list | tuple | set | frozenset):
        inside = list(part.values() if isinstance(part, dict) else part)
        return inside if len(inside) <= WIDTH else []
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
    """Return the methods of a caller's class, which may use networks in global variables."""
    return [
        value
        for each in kind.__mro__
        if not of_library(each.__module__)
        for value in vars(each).values()
        if isinstance(value, types.FunctionType)
    ]


def of_library(module: str | None) -> bool:
    """Return whether a module name belongs to one of the packages in ``LIBRARIES``."""
    return (module or "").split(".")[0] in LIBRARIES


def _of_function(function: types.FunctionType) -> list[Any]:
    inside: list[Any] = [getattr(function, "__wrapped__", None), *vars(function).values()]
    inside += list(function.__defaults__ or ()) + list((function.__kwdefaults__ or {}).values())
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # a cell that is still empty
            inside.append(cell.cell_contents)
    if not of_library(function.__module__):
        names = _names(function.__code__)
        inside += [function.__globals__[n] for n in names if n in function.__globals__]
    return inside


@functools.lru_cache(4096)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """Return the names that a function, and the functions inside it, look up as globals."""
    named = [
        i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    ]
    inner = [name for c in code.co_consts if isinstance(c, types.CodeType) for name in _names(c)]
    return tuple(dict.fromkeys([*named, *inner]))


class _Held:
    """Original state of a frozen module or parameter, and how many ``eval_frozen`` blocks use it.

    The state is the training mode of a module, or requires_grad of a parameter.
    """

    def __init__(self, kept: Any, was: bool) -> None:
        self.kept, self.was, self.users = kept, was, 0


_LOCK = threading.RLock()
_MODULES: dict[int, _Held] = {}
_PARAMETERS: dict[int, _Held] = {}


class _Hold:
    """The networks that one ``eval_frozen`` block freezes in evaluation mode until it ends.

    Attributes:
        modules, weights: Frozen modules and parameters, by their ``id``.
        given: Warnings that were given inside the block, so that no warning is given twice.
    """

    def __init__(self) -> None:
        self.modules: dict[int, Any] = {}
        self.weights: dict[int, Tensor] = {}
        self.given: set[str] = set()

    def take(self, modules: Iterable[Any]) -> None:
        """Freeze more modules. A module's state is recorded before the module is changed."""
        with _LOCK:
            for m in modules:
                if id(m) in self.modules or not hasattr(m, "training"):
                    continue  # frozen scripts have no mode
                _MODULES.setdefault(id(m), _Held(m, m.training)).users += 1
                self.modules[id(m)] = m
                _set_mode(m, False)
                for p in m.parameters(recurse=False):
                    if id(p) not in self.weights and _can_be_frozen(p):
                        _PARAMETERS.setdefault(id(p), _Held(p, p.requires_grad)).users += 1
                        self.weights[id(p)] = p
                        p.requires_grad_(False)

    def give_back(self) -> None:
        with _LOCK:
            for m in self.modules.values():
                if last := _left(_MODULES, m):
                    _set_mode(m, last.was)
            for p in self.weights.values():
                if last := _left(_PARAMETERS, p):
                    p.requires_grad_(last.was)


def _set_mode(module: Any, training: bool) -> None:
    """Set the training mode of one module without its submodules, and ignore errors."""
    with contextlib.suppress(Exception):
        if module.training != training:
            module.training = training


def _can_be_frozen(p: Tensor) -> bool:
    """Return False for lazy parameters, computed tensors, and tensors of torch.inference_mode."""
    return not is_lazy(p) and p.is_leaf and not p.is_inference()


def _left(table: dict[int, _Held], kept: Any) -> _Held | None:
    """Count one user less of a frozen module or parameter, and return its state if no user is
    left."""
    held = table[id(kept)]
    held.users -= 1
    return table.pop(id(kept)) if not held.users else None


class _Thread(threading.local):
    """The open ``eval_frozen`` blocks of a thread, and its number of ``within_call`` blocks."""

    def __init__(self) -> None:
        self.holds: list[_Hold] = []
        self.calls = 0


_THREAD = _Thread()
_hook: Any = None
_hook_users = 0


@contextlib.contextmanager
def eval_frozen(*parts: Any) -> Iterator[None]:
    """Put the networks that ``parts`` use into evaluation mode and freeze their parameters.

    A network that ``modules_of`` does not find is frozen at its first call, if this thread calls it
    in a ``within_call`` block. When the block of ``eval_frozen`` ends, the original state of all
    networks is restored, also after an exception. If several threads use the same network, the last
    thread to finish restores it."""
    hold = _Hold()
    try:
        found = modules_of(*parts)
        hold.take(found)
        _THREAD.holds.append(hold)
        # torch warns of hooks when a compiled network is called. Its modules are found anyway.
        with contextlib.nullcontext() if is_compiled(found) else _noticing():
            yield
    finally:
        if hold in _THREAD.holds:
            _THREAD.holds.remove(hold)
        hold.give_back()


def own_state(module: nn.Module) -> tuple[list[bool], list[bool]]:
    """Return training modes and requires_grad flags of a network as its owner set them.

    The present state may differ, because ``eval_frozen`` may have frozen the network.
    """
    with _LOCK:
        modes = [_was(_MODULES, m, getattr(m, "training", False)) for m in module.modules()]
        flags = [_was(_PARAMETERS, p, p.requires_grad) for p in module.parameters()]
    return modes, flags


def _was(table: dict[int, _Held], part: Any, now: bool) -> bool:
    held = table.get(id(part))
    return now if held is None else held.was


@contextlib.contextmanager
def within_call() -> Iterator[None]:
    """Mark that code of the caller runs inside the ``with`` block."""
    _THREAD.calls += 1
    try:
        yield
    finally:
        _THREAD.calls -= 1


def first_time(warning: str) -> bool:
    """Return whether a warning is new in the outermost ``eval_frozen`` block of this thread."""
    if not _THREAD.holds:
        return True
    given = _THREAD.holds[0].given
    first = warning not in given
    given.add(warning)
    return first


def warned_before() -> bool:
    """Return whether any warning was given in the thread's outermost ``eval_frozen`` block."""
    return bool(_THREAD.holds and _THREAD.holds[0].given)


def is_compiled(modules: Iterable[Any]) -> bool:
    """Return whether one of the modules was compiled by torch.

    A compiled module may be compiled again for another batch size, which takes long.
    """
    return any("_orig_mod" in getattr(m, "_modules", ()) for m in modules)


def uninitialised(modules: Iterable[nn.Module]) -> bool:
    """Return whether one of the modules is a lazy module of torch that has no weights yet."""
    return any(is_lazy(p) for m in modules for p in m.parameters(recurse=False))


@contextlib.contextmanager
def _noticing() -> Iterator[None]:
    """Let torch call ``_hold_too`` before each forward pass inside the ``with`` block."""
    global _hook, _hook_users
    with _LOCK:
        if not _hook_users:
            _hook = register_module_forward_pre_hook(_hold_too)
        _hook_users += 1
    try:
        yield
    finally:
        with _LOCK:
            _hook_users -= 1
            if not _hook_users:
                _hook.remove()


def _hold_too(module: nn.Module, _: Any) -> None:
    """Freeze a network of the caller that ``modules_of`` did not find.

    A network that was frozen before and is in training mode now is left as it is, because the
    caller set this mode on purpose."""
    if torch.compiler.is_compiling() or not _THREAD.calls or not _THREAD.holds:
        return
    if getattr(module, "training", False) and id(module) not in _MODULES:
        _THREAD.holds[-1].take(module.modules())
