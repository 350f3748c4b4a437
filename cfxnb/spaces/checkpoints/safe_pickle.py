"""Pickles read as data: nothing that they name is imported, called or given attributes.

A pickle is a program for a small stack machine, and ``pickle.Unpickler`` runs it: it imports and
calls whatever the program names. The machine here shares only the instruction set. It can build
numbers, texts, lists and dicts; where the program names a function or calls one, it puts down a
note of that. Names that a checkpoint of StyleGAN2-ADA has no use for are refused as soon as they
are read. ``safe_loading`` makes tensors of the notes, and uses the machine to look through what
torch is going to read.

Instructions: the documentation of ``pickletools``. Names: those that PyTorch and NVIDIA's
``torch_utils.persistence`` write. The source code that the latter stores is never looked at.
"""

import dataclasses
import pickletools
from collections.abc import Collection
from typing import Any, BinaryIO

MOST = 1_000_000  # instructions in a pickle; the largest known have some ten thousand
HEAVY = 10_000  # entries of a tuple, counting those of tuples in it as often as they are in it

MODULE = "torch_utils.persistence._reconstruct_persistent_obj"
TENSOR, PARAMETER = "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"
STORAGE = "torch.storage._load_from_bytes"
DICTS = {"collections.OrderedDict", "dnnlib.util.EasyDict"}
ALLOWED = {MODULE, TENSOR, PARAMETER, STORAGE, *DICTS} | {
    "builtins.set",
    "__builtin__.set",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    *(f"torch.{name}" for name in ("float16", "bfloat16", "float32", "float64", "int64")),
}

# Instructions that push what they carry, and that push an empty container. A set becomes a list:
# nothing here asks what is in one.
CARRIED = {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"} | {
    f"{size}{kind}" for kind in ("BINUNICODE", "BINBYTES") for size in ("SHORT_", "")
}
CARRIED |= {"BINUNICODE8", "BINBYTES8"}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
EMPTY = {"EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_DICT": dict}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Name:
    """A class or function that a pickle names, such as ``"numpy.dtype"``."""

    path: str


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Call:
    """A call that a pickle asks for, and that nobody makes."""

    name: str
    args: tuple


def read_pickle(
    file: BinaryIO, allowed: Collection[str] | None = ALLOWED, met: set[str] | None = None
) -> Any:
    """What a pickle of protocol 2 to 5 describes: containers, numbers, texts, and ``Call``s.

    Args:
        file: is read up to the pickle's end.
        allowed: the names that may be in it; None for any, and for torch's references to storages
            and attributes of objects besides, which become nothing.
        met: is filled with the names that are in it.

    Raises:
        ValueError: for a name or instruction that is not allowed, or a damaged file.
    """
    machine = Machine(allowed, set() if met is None else met)
    try:
        for number, (instruction, argument, _) in enumerate(pickletools.genops(file)):
            if number >= MOST:
                raise ValueError(f"refused a pickle of more than {MOST} instructions")
            if instruction.name == "STOP":
                return machine.stack.pop()
            machine.do(instruction.name, argument)
    except (IndexError, KeyError, TypeError, MemoryError, OverflowError, Warning) as error:
        raise ValueError(f"a damaged pickle: {type(error).__name__}") from None
    raise ValueError("a damaged pickle: no end")


class Machine:
    """A stack, older stacks below each mark, and a memo of what the pickle refers to again."""

    def __init__(self, allowed: Collection[str] | None, met: set[str]) -> None:
        self.allowed = allowed
        self.met = met
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.tuples: dict[int, tuple[int, tuple]] = {}  # by id: the weight, and what has that id

    def do(self, name: str, argument: Any) -> None:
        """Run one instruction."""
        if name in CARRIED:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in EMPTY:
            self.stack.append(EMPTY[name]())
        elif name in TUPLES:
            self._push_tuple([self.stack.pop() for _ in range(TUPLES[name])][::-1])
        elif name not in ("PROTO", "FRAME"):
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                raise ValueError(f"refused the pickle instruction {name}")
            step(argument)

    def _mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def _tuple(self, _: Any) -> None:
        self._push_tuple(self._since_mark())

    def _push_tuple(self, items: list[Any]) -> None:
        """A tuple: as a key, Python would look through it by recursion, and crash or never end."""
        weight = 1 + sum(self.tuples.get(id(item), (1,))[0] for item in items)
        if weight > HEAVY:
            raise ValueError(f"refused tuples within tuples, {HEAVY} in all")
        self.stack.append(tuple(items))
        self.tuples[id(self.stack[-1])] = weight, self.stack[-1]

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        _only(self.stack[-1], list).append(item)

    def _appends(self, _: Any) -> None:
        items = self._since_mark()
        _only(self.stack[-1], list).extend(items)

    _additems = _appends

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def _setitems(self, _: Any) -> None:
        items = self._since_mark()
        self._fill(items)

    def _fill(self, items: list[Any]) -> None:
        """Keys and values in turn; keys are simple, and the entries of a note are left out."""
        keys, values = items[::2], items[1::2]
        if len(keys) > len(values):
            raise ValueError("a damaged pickle: a key without a value")
        for key in keys:
            named = self.allowed is None and isinstance(key, Name)  # trainers have classes as keys
            if not (named or isinstance(key, str | int | float | None)):
                raise ValueError(f"refused a {type(key).__name__} as a key")
        if not isinstance(self.stack[-1], Call):
            _only(self.stack[-1], dict).update(zip(keys, values, strict=True))

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _binput(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    _long_binput = _binput

    def _binget(self, place: int) -> None:
        self.stack.append(self.memo[place])

    _long_binget = _binget

    def _global(self, argument: str) -> None:
        self._named(*argument.split(" ", 1))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._named(_only(module, str), _only(name, str))

    def _named(self, module: str, name: str) -> None:
        path = f"{module}.{name}"
        if self.allowed is not None and path not in self.allowed:
            raise ValueError(f"refused to import {path[:80]}")
        self.met.add(path)
        self.stack.append(Name(path))

    def _reduce(self, _: Any) -> None:
        args, called = _only(self.stack.pop(), tuple), self.stack.pop()
        if not isinstance(called, Name):
            raise ValueError(f"refused to call a {type(called).__name__}")
        if called.path in DICTS and not args:
            self.stack.append({})
        elif called.path == "_codecs.encode" and args[1:] == ("latin1",):  # protocol 2's bytes
            self.stack.append(_only(args[0], str).encode("latin1"))
        else:
            self.stack.append(Call(called.path, args))

    _newobj = _reduce

    def _binpersid(self, _: Any) -> None:
        if self.allowed is not None:
            raise ValueError("refused the pickle instruction BINPERSID")
        self.stack.append(Call("storage", (self.stack.pop(),)))

    def _build(self, _: Any) -> None:
        self.stack.pop()  # the state: of an inert thing, there is nothing to set
        target = self.stack[-1]
        harmless = isinstance(target, dict) or getattr(target, "name", None) == "numpy.dtype"
        if self.allowed is not None and not harmless:
            what = getattr(target, "path", None) or getattr(target, "name", type(target).__name__)
            raise ValueError(f"refused to set attributes of {what}")


def _only(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"a damaged pickle: {type(value).__name__} instead of {kind.__name__}")
    return value
