"""Check the config of a network before the network is built.

A few lines in a config decide how much memory a network takes. We first check the type and range of
each field against the signature of the network's class. Before the network gets memory, we build it
on torch's device "meta", and compare the shapes of its weights with the shapes in the files.
"""

import contextlib
import inspect
import math
import re
import threading
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as registry

LARGEST = 10**6  # largest number in a config, and length of a list; known ones are below 300,000
PARTS = 8  # largest number of modules and parameters per tensor; known networks have at most 2.5
MAX_PARTS = 50_000  # modules and parameters of a network; known networks have at most 4,000
SLACK = 2**20  # numbers of a network that are not in its file: fixed filters, position ids
SIGNED = ("freq_shift", "trained_betas")  # numbers that may be negative
#: Ends of the names of integers that may be 0. Some levels of an AutoencoderDC have no layers.
ZERO = (
    "padding",
    "_id",
    "transformer_layers_per_block",
    "coder_layers_per_block",
    "dual_attention_layers",
)
#: Fields without weights that decide the size of feature maps, with their allowed range.
FIXED = {"upsampling_scaling_factor": (2, 2), "downsample_padding": (0, 1)}
MIN_DIVISOR = 1e-12
SHOWN = 60  # characters of a value in a message

Shapes = Mapping[str, tuple[int, ...]]


def declared(kind: Any) -> dict[str, Any]:
    """Return a dict with the declared type of each argument of a class's ``__init__``."""
    hints = typing.get_type_hints(kind.__init__)
    arguments = inspect.signature(kind.__init__).parameters
    return {
        name: hints.get(name, type(argument.default))
        for name, argument in arguments.items()
        if name != "self" and argument.kind is not argument.VAR_KEYWORD
    }


def declared_defaults(kind: Any) -> dict[str, Any]:
    """Return a dict with the default values of the arguments of a class's ``__init__``."""
    arguments = inspect.signature(kind.__init__).parameters.values()
    return {each.name: each.default for each in arguments if each.default is not each.empty}


def check_fields(config: Mapping[str, Any], fields: Mapping[str, Any], file: str) -> None:
    """Check the type of each field of a config, and the range of its numbers.

    Fields of the config that are not in ``fields`` are not checked.

    Args:
        config: dict from the name of each field to its value.
        fields: the type of each field, such as ``int | tuple[int, ...] | None``.
        file: name of the config file, for error messages.

    Raises:
        ValueError: if a field has the wrong type, or a number is out of range.
    """
    for name, kind in fields.items():
        if name not in config:
            continue
        value = config[name]
        if not fits(value, kind):
            wanted = kind.__name__ if isinstance(kind, type) and kind in PLAIN else str(kind)
            raise ValueError(
                f"{file} has {name} {value!r:.{SHOWN}}, not {wanted.replace('typing.', '')} with "
                f"finite numbers of at most {LARGEST}"
            )
        low, high = _range(name, kind)
        if any(not low <= each <= high for each in numbers(value)):
            text = f"numbers from {low:g} to {high:g}"
            raise ValueError(f"{file} has {name} {value!r:.{SHOWN}}, not {text}")


PLAIN = (bool, int, float, str)


def fits(value: Any, kind: Any) -> bool:
    """Return whether a JSON value has the type ``kind`` and no number above ``LARGEST``."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in typing.get_args(kind))
    if kind is type(None):
        return value is None
    if kind is bool or kind is str:
        return isinstance(value, kind)
    if kind is int:
        return type(value) is int and abs(value) <= LARGEST
    if kind is float:
        return type(value) in (int, float) and abs(value) <= LARGEST  # False for NaN
    if origin in (tuple, list) or kind in (tuple, list):
        inner = typing.get_args(kind)[:1] or (bool | int | float | str,)
        listed = isinstance(value, list) and len(value) <= LARGEST
        return listed and all(fits(each, inner[0]) for each in value)
    return not inspect.isclass(kind)  # JSON has no objects of other classes, such as arrays


def numbers(value: Any) -> list[float]:
    """Return a flat list of all numbers in a JSON value."""
    return [number for _, number in named_numbers(value, "")]


def named_numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """Yield each number in a JSON value with the name of its field, such as ``size[1]``."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from named_numbers(each, f"{name}, {key}" if name else str(key))
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from named_numbers(each, f"{name}[{i}]")
    elif type(value) in (int, float):
        yield name, value


def _range(name: str, kind: Any) -> tuple[float, float]:
    """Return the smallest and largest number that a field of this name and type may have."""
    if name in FIXED:
        return FIXED[name]
    if name in SIGNED or name.endswith(("shift", "shift_factor", "mean")):
        return -LARGEST, LARGEST
    if name.endswith("_eps"):
        return MIN_DIVISOR, 1
    if name.endswith(("_factor", "_std")):
        return MIN_DIVISOR, LARGEST
    counts = "float" not in str(kind) and not name.endswith(ZERO)
    return int(counts), LARGEST


@contextlib.contextmanager
def at_most(tensors: int) -> Iterator[None]:
    """Return a context in which networks are built on device "meta", where tensors take no memory.

    Raises:
        ValueError: if a network has far more modules and parameters than its weight file has
            tensors.
    """
    thread, made, limit = threading.get_ident(), [0], min(PARTS * (tensors + PARTS), MAX_PARTS)

    def count(*_: Any) -> None:
        if threading.get_ident() == thread:
            made[0] += 1
            if made[0] > limit:
                raise ValueError(f"far more parts than the {tensors} tensors of the file")

    handles = [
        registry.register_module_module_registration_hook(count),
        registry.register_module_parameter_registration_hook(count),
    ]
    try:
        with torch.device("meta"):
            yield
    finally:
        for handle in handles:
            handle.remove()


def check_fit(build: Callable[[], nn.Module], shapes: Shapes) -> None:
    """Check that the tensors of a network have the same shapes as in its weight files.

    The network may have at most ``SLACK`` more numbers than its files hold.

    Args:
        build: function that builds the network. ``check_fit`` calls ``build`` on device "meta",
            where tensors take no memory.
        shapes: shape of each tensor in the files, by name.

    Raises:
        ValueError: if the network doesn't fit its files.
        Exception: every error that ``build`` raises.
    """
    with at_most(len(shapes)):
        net = build()
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    for name, shape in wanted.items():
        if shapes.get(name, shape) != shape:
            raise ValueError(
                f"{name[:80]} has shape {shapes[name]} in the file, {shape} by its config"
            )
    held = sum(math.prod(shape) for shape in shapes.values())
    needed = sum(t.numel() for t in (*net.parameters(), *net.buffers()))
    if needed > held + SLACK:
        raise ValueError(f"its config asks for {needed} numbers, and the files hold {held}")


def suspects(config: Mapping[str, Any], fields: Mapping[str, Any], error: Exception) -> str:
    """Return the config fields that most likely made a build fail, as text for a message.

    The text names up to three fields whose values the error quotes. If the error quotes no value,
    the text names the three fields with the largest numbers.
    """
    given = [name for name in fields if name in config]
    words = set(re.findall(r"[\w.-]+", str(error)))
    quoted = [name for name in given if words & set(_texts(config[name]))]
    by_size = sorted(given, key=lambda name: -max(numbers(config[name]), default=0))
    return ", ".join(f"{name} {config[name]!r:.{SHOWN}}" for name in quoted[:3] or by_size[:3])


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) and value else []
