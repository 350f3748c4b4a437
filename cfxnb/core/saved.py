"""Save and load results of every kind, and write their tables: one place for all of them.

A result is a dataclass that inherits from ``Result``. ``save`` writes a safetensors file: all
tensors, and in the header a JSON text that says how the fields are made of these tensors, of tables
and of plain values. The header also has the name of the class, and a hash of the whole content.
``load`` executes nothing that is in the file. It refuses files that are damaged, altered, of
another class, or contradictory.

``Counterfactuals`` has an older format, see ``cfxnb.core.results_file``.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cfxnb.core.disk import cause, given_path, kind_of, parsed, shown, writing
from cfxnb.core.modes import standard_modes
from cfxnb.core.results_file import DEEPEST, digest, plain_copy, with_ending
from cfxnb.core.types import Code

FORMAT = "1"
NUMBERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16",
           "float32", "float64")  # fmt: skip
DTYPES = (*NUMBERS, "bool", "str", "string", "boolean", "Int64", "Float64")
KINDS: dict[str, Any] = {}  # classes that can be saved, by name
MODULES: dict[str, Any] = {}  # networks that can be saved, by name
Module = TypeVar("Module", bound=nn.Module)


def saved_module(kind: type[Module]) -> type[Module]:
    """Register a class of networks that results may hold.

    The class has a method ``from_state(state_dict)`` that returns a network with these weights.
    """
    MODULES[kind.__name__] = kind
    return kind


class Tabular:
    """Something that can be turned into a table."""

    def to_frame(self) -> pd.DataFrame:
        """Return the result as a table. Each class says in its docstring what a row is."""
        raise NotImplementedError

    def to_csv(self, path: str | os.PathLike) -> Path:
        """Write the table of ``to_frame`` to a CSV file, and return the path of the file.

        Args:
            path: Path of the file. The ending ``.csv`` is added if it is missing. Missing folders
                are created. An existing file is replaced, or kept if writing fails.

        Raises:
            ValueError, TypeError: If the file cannot be written. The error message names ``path``.
        """
        place = with_ending(path, ".csv")
        with writing(place) as partial:
            self.to_frame().to_csv(partial)
        return place


class Saved:
    """A record that can be part of a saved result."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        KINDS[cls.__name__] = cls

    @classmethod
    def _saved_fields(cls) -> tuple[str, ...]:
        """Return the arguments of the constructor, each of which is an attribute, too."""
        kind: Any = cls
        return tuple(field.name for field in dataclasses.fields(kind))

    def _check_saved(self) -> None:
        """Check that the fields agree with each other. Called before writing, and after reading.

        Raises:
            ValueError, TypeError: If fields contradict each other.
        """


class Result(Tabular, Saved):
    """A result that can be saved, loaded, and turned into a table."""

    @standard_modes
    def save(self, path: str | os.PathLike) -> Path:
        """Write the result to a safetensors file, and return the path of the file.

        Args:
            path: Path of the file. The ending ``.safetensors`` is added if it is missing. Missing
                folders are created, and ``~`` stands for the home folder. If writing fails, an
                existing file at ``path`` is kept.

        Raises:
            ValueError, TypeError: If the file cannot be written, or if a field cannot be saved. The
                error message names the path or the field.
        """
        place = with_ending(path)
        if kind_of(place) == "a folder" or kind_of(given_path(path)) == "a folder":
            raise ValueError(f"path: expected the name of a file, got the folder {shown(path)}")
        self._check_saved()
        tensors: dict[str, Tensor] = {}
        tree = _encoded(self, "", tensors)
        texts = {"cfxnb": FORMAT, "kind": type(self).__name__, "content": json.dumps(tree)}
        try:
            parsed(texts["content"], DEEPEST)
        except ValueError as error:
            raise ValueError(f"made_by: expected what JSON can hold, got {error}") from None
        with writing(place) as partial:
            save_file(tensors, partial, metadata={**texts, "sha256": digest(tensors, texts)})
        return place

    @classmethod
    @standard_modes
    def load(cls, path: str | os.PathLike) -> Self:
        """Read a result that ``save`` wrote.

        Args:
            path: Path of the file. The ending ``.safetensors`` may be left out.

        Raises:
            ValueError, TypeError: If the file does not exist, is damaged or altered, or holds no
                result of this class.
        """
        place = with_ending(path)
        try:
            if (kind := kind_of(place)) != "a file":
                raise ValueError(kind)
            if not place.stat().st_size:
                raise ValueError("an empty file")
            with place.open("rb"):  # safetensors calls a file that cannot be read missing
                pass
            with safe_open(place, "pt") as file:
                texts = dict(file.metadata() or {})
                _check_header(cls.__name__, texts)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if texts.pop("sha256", None) != digest(tensors, texts):
                raise ValueError("it was altered after it was saved; restore it, or run it again")
            left = dict(tensors)
            found = _decoded(parsed(texts["content"], DEEPEST), left)
            if type(found) is not cls or left:
                raise ValueError("content: expected the fields of one result, got other ones")
            found._check_saved()
            return found
        except (ValueError, TypeError, SafetensorError, OSError, RuntimeError) as error:
            why = cause(error, 300)
            raise ValueError(
                f"path: expected a saved {cls.__name__}, got {shown(place)}: {why}"
            ) from None


def cost_columns(cost: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return one column per network: how often the network was evaluated for each image."""
    return {f"{name} passes": value.detach().cpu().numpy() for name, value in cost.items()}


def image_index(count: int) -> pd.Index:
    """Return the index of a table with one row per image of a result."""
    return pd.RangeIndex(count, name="image")


def kind_of_result(path: Path) -> str | None:
    """Return the name of the class of the result in a file, or None if the file holds no result."""
    try:
        with safe_open(path, "pt") as file:
            return _kind(dict(file.metadata() or {}))
    except (SafetensorError, OSError):
        return None


def _kind(texts: Mapping[str, str]) -> str | None:
    return texts.get("kind") or ("Counterfactuals" if "status" in texts else None)


def _check_header(wanted: str, texts: dict[str, str]) -> None:
    kind = _kind(texts)
    if kind is None:
        raise ValueError("a safetensors file without a result of cfxnb")
    if kind != wanted:
        raise ValueError(f"a saved {kind:.60}; cfx.load reads results of any class")
    if texts.get("cfxnb") != FORMAT or "content" not in texts:
        raise ValueError("a file of another version of cfxnb")


def _encoded(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return a value as JSON values. Tensors are put into ``tensors`` under their names."""

    def inside(part: Any, label: Any) -> Any:
        return _encoded(part, f"{name}.{label}" if name else str(label), tensors)

    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        tensors[name] = plain_copy(value)
        return {"tensor": name}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [inside(part, i) for i, part in enumerate(value)]}
    if isinstance(value, Mapping):
        pairs = value.items()
        return {"dict": [[inside(k, "key"), inside(v, _label(k, i))] for i, (k, v) in
                         enumerate(pairs)]}  # fmt: skip
    if isinstance(value, Code):
        return {"code": [inside(value.z, "z"), inside(value.aux, "aux")]}
    if isinstance(value, pd.DataFrame):
        columns = [inside(value.iloc[:, i], i) for i in range(value.shape[1])]
        return {"table": [_labels(value.index, inside), _labels(value.columns, inside), columns]}
    if isinstance(value, pd.Series):
        name_of = inside(value.name, "name")
        return {"series": [_labels(value.index, inside), name_of, _column(value, inside)]}
    if isinstance(value, nn.Module):
        state = {k: inside(v, k) for k, v in value.state_dict().items()}
        kind = type(value).__name__
        if MODULES.get(kind) is not type(value):
            raise TypeError(
                f"{name}: expected one of the networks {sorted(MODULES)}, got {kind}, which is "
                "made by code that cannot be saved; save its state_dict yourself"
            )
        return {"module": [kind, state]}
    if isinstance(value, Saved) and KINDS.get(type(value).__name__) is type(value):
        fields = {n: inside(getattr(value, n), n) for n in value._saved_fields()}
        return {"kind": [type(value).__name__, fields]}
    raise TypeError(
        f"{name}: expected what can be saved (numbers, texts, tensors, tables), got "
        f"{type(value).__name__}"
    )


def _label(key: Any, place: int) -> str:
    """Return the key of a dict as a part of the names of tensors, which are unique."""
    return key if isinstance(key, str) and key.isidentifier() else str(place)


def _column(value: Any, inside: Callable[[Any, Any], Any]) -> Any:
    """Return the values of a column or an index level, with their dtype."""
    dtype = str(value.dtype)
    if dtype not in DTYPES:
        return ["object", [inside(_scalar(each), "value") for each in value]]
    return [dtype, [None if each is pd.NA else _scalar(each) for each in value.tolist()]]


def _scalar(value: Any) -> Any:
    return None if value is pd.NA else value


def _labels(index: pd.Index, inside: Callable[[Any, Any], Any]) -> Any:
    names = [inside(name, "name") for name in index.names]
    levels = [_column(index.get_level_values(i), inside) for i in range(index.nlevels)]
    return [names, levels]


def _decoded(node: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the value that ``_encoded`` made ``node`` of. Used tensors leave ``tensors``."""
    if not isinstance(node, dict):
        if isinstance(node, list):
            raise ValueError("content: expected values with their kinds, got a bare list")
        return node
    if len(node) != 1:
        raise ValueError(f"content: expected one kind for each value, got {list(node)[:3]}")
    ((kind, inner),) = node.items()
    if kind == "tensor":
        if inner not in tensors:
            raise ValueError(f"{inner!s:.60}: expected a tensor, got nothing of this name")
        return tensors.pop(inner)
    if kind == "kind":
        name, fields = _parts(inner, str, dict)
        made_of = KINDS.get(name)
        if made_of is None or set(fields) != set(made_of._saved_fields()):
            raise ValueError(f"content: expected the fields of a result, got those of {name:.60}")
        return made_of(**{key: _decoded(value, tensors) for key, value in fields.items()})
    if kind == "module":
        name, state = _parts(inner, str, dict)
        if name not in MODULES:
            raise ValueError(f"content: expected one of {sorted(MODULES)}, got {name:.60}")
        return MODULES[name].from_state({k: _decoded(v, tensors) for k, v in state.items()})
    if kind not in _DECODERS or not isinstance(inner, list):
        raise ValueError(f"content: expected one of {[*_DECODERS]}, got {kind:.60}")
    return _DECODERS[kind](inner, tensors)


def _parts(inner: Any, *kinds: type) -> list[Any]:
    """Return the parts of a value, after checking their number and their types."""
    if not isinstance(inner, list) or len(inner) != len(kinds):
        raise ValueError(f"content: expected {len(kinds)} parts, got {inner!s:.60}")
    for part, kind in zip(inner, kinds, strict=True):
        if not isinstance(part, kind):
            raise ValueError(f"content: expected {kind.__name__}, got {part!s:.60}")
    return inner


def _dict(inner: Any, tensors: dict[str, Tensor]) -> dict[Any, Any]:
    pairs = [_parts(pair, object, object) for pair in inner]
    found = {_key(_decoded(key, tensors)): _decoded(value, tensors) for key, value in pairs}
    if len(found) < len(pairs):
        raise ValueError("content: expected each key once, got one twice")
    return found


def _key(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        raise ValueError("content: expected keys that can be hashed, got others") from None
    return value


def _code(inner: Any, tensors: dict[str, Tensor]) -> Code:
    z, aux = _parts(inner, object, object)
    return Code(_decoded(z, tensors), _decoded(aux, tensors))


def _values(inner: Any, tensors: dict[str, Tensor]) -> Any:
    dtype, values = _parts(inner, str, list)
    if dtype == "object":
        made = np.empty(len(values), object)
        made[:] = [_decoded(each, tensors) for each in values]
        return made
    if dtype not in DTYPES or any(isinstance(each, list | dict) for each in values):
        raise ValueError(f"content: expected a column of {DTYPES}, got {dtype:.60}")
    return pd.array(values, dtype=dtype)


def _index(inner: Any, tensors: dict[str, Tensor]) -> pd.Index:
    names, levels = _parts(inner, list, list)
    named = [_decoded(name, tensors) for name in names]
    arrays = [_values(level, tensors) for level in levels]
    if not arrays or len(arrays) != len(named):
        raise ValueError("content: expected one name for each level of an index, got others")
    if len(arrays) == 1:
        return pd.Index(arrays[0], name=named[0])
    return pd.MultiIndex.from_arrays(arrays, names=named)


def _table(inner: Any, tensors: dict[str, Tensor]) -> pd.DataFrame:
    index, columns, data = _parts(inner, list, list, list)
    rows, labels = _index(index, tensors), _index(columns, tensors)
    made = [_decoded(column, tensors) for column in data]
    right = len(made) == len(labels)
    if not right or any(not isinstance(c, pd.Series) or len(c) != len(rows) for c in made):
        raise ValueError("content: expected a column of equal length for each label, got others")
    table = pd.DataFrame(dict(enumerate(c.array for c in made)), index=rows)
    table.columns = labels
    return table


def _series(inner: Any, tensors: dict[str, Tensor]) -> pd.Series:
    index, name, data = _parts(inner, list, object, list)
    values, rows = _values(data, tensors), _index(index, tensors)
    if len(values) != len(rows):
        raise ValueError("content: expected as many values as labels, got others")
    return pd.Series(values, index=rows, name=_key(_decoded(name, tensors)))


_DECODERS: dict[str, Callable[[Any, dict[str, Tensor]], Any]] = {
    "list": lambda inner, tensors: [_decoded(part, tensors) for part in inner],
    "tuple": lambda inner, tensors: tuple(_decoded(part, tensors) for part in inner),
    "dict": _dict,
    "code": _code,
    "table": _table,
    "series": _series,
}


def with_state(net: Module, state: Mapping[str, Any]) -> Module:
    """Return a network with the weights of a state dict, all of which must fit.

    Raises:
        ValueError: If the weights do not fit.
    """
    try:
        net.load_state_dict(dict(state))
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"weights: expected those of {type(net).__name__}, {error}") from None
    return net.eval().requires_grad_(False)
