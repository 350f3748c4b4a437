"""Read pickles as data, without importing or calling anything.

A pickle is a program for a small stack machine. ``pickle.Unpickler`` runs the program in a pickle,
and imports and calls every function that the program names. The machine in this module has the same
instructions as ``pickle.Unpickler``, but only builds numbers, texts, lists and dicts. If a pickle
names or calls a function, the machine only stores a ``Name`` or a ``Call`` object. By default, the
machine refuses every name that a checkpoint of StyleGAN2-ADA doesn't need. ``safe_loading`` turns
``Call`` objects into tensors, and scans files with this machine before torch reads them.

The instructions of a pickle are documented in the module ``pickletools``. The allowed names are
those that PyTorch and NVIDIA's ``torch_utils.persistence`` write into checkpoints. We ignore the
source code that ``torch_utils.persistence`` stores in a checkpoint.
"""

import dataclasses
import pickletools
from collections.abc import Collection
from typing import Any, BinaryIO

MAX_INSTRUCTIONS = 1_000_000  # largest number of instructions; known files have about ten thousand
HEAVY = 10_000  # largest number of entries of a tuple, including nested ones

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

# Instructions that push their argument, a constant, an empty container, or a tuple. A set becomes
# a list, since we don't need its content.
CARRIED = {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"}
CARRIED |= {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
CARRIED |= {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
EMPTY = {"EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_DICT": dict}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Name:
    """A class or function that a pickle names, such as ``"numpy.dtype"``."""

    path: str


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Call:
    """A function call that a pickle describes. The machine never calls the function."""

    name: str
    args: tuple


def read_pickle(
    file: BinaryIO, allowed: Collection[str] | None = ALLOWED, met: set[str] | None = None
) -> Any:
    """Return the content of a pickle of protocol 2 to 5: numbers, texts, containers, ``Call``s.

    Args:
        file: the open file, which is read up to the end of the pickle.
        allowed: names of the classes and functions that are allowed. With ``allowed=None``, any
            name and any reference to a storage is allowed, and instructions that set attributes are
            ignored.
        met: a set to which all names in the pickle are added.

    Raises:
        ValueError: if a name or an instruction is not allowed, or if the file is damaged.
    """
    machine = Machine(allowed, set() if met is None else met)
    try:
        for number, (instruction, argument, _) in enumerate(pickletools.genops(file)):
            if number >= MAX_INSTRUCTIONS:
                raise ValueError(f"refused a pickle of more than {MAX_INSTRUCTIONS} instructions")
            if instruction.name == "STOP":
                return machine.stack.pop()
            machine.do(instruction.name, argument)
    except (IndexError, KeyError, TypeError, MemoryError, OverflowError, Warning) as error:
        raise ValueError(f"a damaged pickle: {type(error).__name__}") from None
    raise ValueError("a damaged pickle: no end")


class Machine:
    """Stack machine that runs a pickle without importing or calling anything.

    The machine has a stack, a list of outer stacks (one per open mark), and a memo of earlier
    objects.
    """

    def __init__(self, allowed: Collection[str] | None, met: set[str]) -> None:
        self.allowed = allowed
        self.met = met
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.tuples: dict[int, tuple[int, tuple]] = {}  # id -> (number of entries, the tuple)

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
        """Push a tuple. Raise ValueError if the tuple has too many nested entries.

        If a deeply nested tuple were a key of a dict, its hash would crash Python or never end.
        """
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
        self._fill(self._since_mark())

    def _fill(self, items: list[Any]) -> None:
        """Add alternating keys and values to the dict on top of the stack.

        Keys must be texts, numbers or None. If any name is allowed, a ``Name`` may be a key too. If
        a ``Call`` is on top of the stack, the keys and values are ignored.
        """
        keys, values = items[::2], items[1::2]
        if len(keys) > len(values):
            raise ValueError("a damaged pickle: a key without a value")
        for key in keys:
            named = self.allowed is None and isinstance(key, Name)  # trainers use classes as keys
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
        elif called.path == "_codecs.encode" and args[1:] == ("latin1",):  # bytes in protocol 2
            self.stack.append(_only(args[0], str).encode("latin1"))
        else:
            self.stack.append(Call(called.path, args))

    _newobj = _reduce

    def _binpersid(self, _: Any) -> None:
        if self.allowed is not None:
            raise ValueError("refused the pickle instruction BINPERSID")
        self.stack.append(Call("storage", (self.stack.pop(),)))

    def _build(self, _: Any) -> None:
        self.stack.pop()  # the state, which is ignored
        target = self.stack[-1]
        harmless = isinstance(target, dict) or getattr(target, "name", None) == "numpy.dtype"
        if self.allowed is not None and not harmless:
            what = getattr(target, "path", None) or getattr(target, "name", type(target).__name__)
            raise ValueError(f"refused to set attributes of {what}")


def _only(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"a damaged pickle: {type(value).__name__} instead of {kind.__name__}")
    return value
