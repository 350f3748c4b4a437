"""Wrong and odd values: some for any argument, and others made out of a good one.

Each is made anew for each call, so that no call can spoil the next one's.
"""

import copy
import dataclasses
import datetime
import decimal
import fractions
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import cfxnb as cfx

NAN, INF = math.nan, math.inf


class Own(Exception):
    """What a function of the caller raises: passed on as it is."""


#: How often a wrong function was called: nobody can know of one that wasn't.
CALLS = [0]


def told(function: Callable) -> Callable:
    """The same function, counted."""

    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        CALLS[0] += 1
        return function(*args, **kwargs)

    return counted


@dataclasses.dataclass(frozen=True)
class Odd:
    """One value.

    Attributes:
        kind: what it is, in words.
        make: makes it.
        wrong: True if no function can be right to take it.
        own: True if it may fail by itself when it is called.
        asleep: True if it is wrong only when one of its functions is called.
        names: of further arguments that a message may name instead.
    """

    kind: str
    make: Callable[[], Any]
    wrong: bool = False
    own: bool = False
    asleep: bool = False
    names: frozenset[str] = frozenset()


def given(value: Any) -> Callable[[], Any]:
    return lambda: value


#: For any argument.
ANYTHING = {
    "None": None, "True": True, "False": False, "text": "text", "number as text": "1",
    "empty text": "", "NaN as text": "nan", "bytes": b"text", "path": Path("text"),
    "minus one": -1, "zero": 0, "two": 2, "one and a half": 1.5, "a half": 0.5, "NaN": NAN,
    "infinity": INF, "minus infinity": -INF, "1e308": 1e308, "-1e308": -1e308, "1e-320": 1e-320,
    "10**30": 10**30, "-10**30": -(10**30), "complex": 1j, "decimal NaN": decimal.Decimal("NaN"),
    "fraction": fractions.Fraction(1, 3), "numpy NaN": np.float64(NAN), "numpy int": np.int64(1),
    "numpy float": np.float32(0.5), "numpy bool": np.bool_(True),
    "datetime": datetime.datetime(2024, 1, 1), "numpy NaT": np.datetime64("NaT"), "pd.NA": pd.NA,
    "pd.NaT": pd.NaT, "ellipsis": ..., "empty list": [], "empty dict": {}, "empty tuple": (),
    "empty set": set(), "list of NaN": [NAN], "list of None": [None], "ragged list": [[1], [1, 2]],
    "dict": {"a": 1}, "dict of NaN": {"up": NAN}, "range": range(3), "slice": slice(None),
    "object": object(), "class": dict, "module": math, "exception": ValueError("x"),
    "long text": 1000 * "text ", "long list": list(range(2000)), "list of texts": ["text", "text"],
}  # fmt: skip

#: For any argument, with state of its own.
FRESH = {
    "generator": lambda: (i for i in range(3)),
    "array of NaN": lambda: np.array([NAN]),
    "array of NaN without dimensions": lambda: np.array(NAN),
    "empty array": lambda: np.array([]),
    "array of objects": lambda: np.array([None, object()], dtype=object),
    "array of texts": lambda: np.array(["a", "b"]),
    "complex array": lambda: np.ones(2, complex),
    "array of bytes": lambda: np.zeros((2, 4, 4, 3), np.uint8),
    "number as a tensor": lambda: torch.tensor(0.5),
    "NaN as a tensor": lambda: torch.tensor(NAN),
    "tensor of NaN": lambda: torch.tensor([NAN]),
    "empty tensor": lambda: torch.empty(0),
    "empty images": lambda: torch.empty(0, 3, 4, 4),
    "whole number as a tensor": lambda: torch.tensor(1),
    "whole numbers in five dimensions": lambda: torch.zeros(1, 1, 1, 1, 1, dtype=torch.int64),
    "bool as a tensor": lambda: torch.tensor(True),
    "complex tensor": lambda: torch.ones(2, dtype=torch.complex64),
    "meta tensor": lambda: torch.empty(2, device="meta"),
    "sparse tensor": lambda: torch.eye(2).to_sparse(),
    "empty table": pd.DataFrame,
    "series of NaN": lambda: pd.Series([NAN, NAN]),
    "table of missing values": lambda: pd.DataFrame({"up": [pd.NA, None]}),
}
IMAGES = frozenset({"images", "module"})  # what wrap calls the input of a net, and the net
CALLED = [
    Odd("net", lambda: nn.Linear(2, 2), own=True, names=IMAGES),
    Odd("lambda", lambda: lambda *a, **k: None, own=True),
]

NEVER = {
    "NaN", "infinity", "minus infinity", "decimal NaN", "numpy NaN", "numpy NaT", "pd.NA", "pd.NaT",
    "list of NaN", "dict of NaN", "array of NaN", "array of NaN without dimensions",
    "NaN as a tensor", "tensor of NaN", "complex", "complex array", "complex tensor",
    "meta tensor", "array of objects", "object", "exception", "module", "series of NaN",
}  # fmt: skip


def values(good: Any) -> Iterator[Odd]:
    """All that an argument is replaced by whose good value is ``good``."""
    for kind, value in ANYTHING.items():
        yield Odd(kind, given(copy.copy(value) if isinstance(value, dict | list) else value),
                  kind in NEVER)  # fmt: skip
    for kind, make in FRESH.items():
        yield Odd(kind, make, kind in NEVER)
    yield from CALLED
    yield from out_of(good)


def out_of(good: Any) -> Iterator[Odd]:
    """Made of the good one, each wrong in one way."""
    if isinstance(good, Tensor):
        yield from tensors(good)
    elif isinstance(good, pd.DataFrame):
        yield from tables(good)
    elif isinstance(good, pd.Series):
        yield from series(good)
    elif isinstance(good, cfx.types.LatentSpace) and not isinstance(good, type):
        yield from spaces(good)
    elif isinstance(good, cfx.FactorReader):
        yield from readers(good)
    elif dataclasses.is_dataclass(good) and not isinstance(good, type):
        yield from records(good)
    elif callable(good) and not isinstance(good, type):
        yield from functions(good)
    elif isinstance(good, Mapping):
        yield from mappings(good)
    elif isinstance(good, list | tuple):
        yield from sequences(good)
    elif isinstance(good, np.ndarray):
        for odd in tensors(torch.from_numpy(good)):
            yield dataclasses.replace(odd, make=lambda make=odd.make: _array(make()))


def _array(value: Any) -> Any:
    if isinstance(value, Tensor) and value.device.type == "cpu" and not value.is_sparse:
        value = value.detach()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return value


def spoilt(good: Tensor, number: float) -> Tensor:
    """One of the numbers replaced."""
    wrong = good.detach().clone()
    wrong = wrong if wrong.is_floating_point() else wrong.float()
    wrong.view(-1)[:1] = number
    return wrong


#: At which the caller's own functions may fail by themselves.
OTHER_SHAPES = ("a column less",)


def tensors(good: Tensor) -> Iterator[Odd]:
    for kind, number in {"a NaN": NAN, "an infinity": INF, "a -infinity": -INF}.items():
        yield Odd(f"{kind} in it", lambda number=number: spoilt(good, number), True)
    yield Odd("all NaN", lambda: torch.full(good.shape, NAN), True)
    yield Odd("complex", lambda: good.to(torch.complex64), True)
    yield Odd("meta", lambda: good.to("meta"), True)
    makes: dict[str, Callable[[], Any]] = {
        "1e38 times as large": lambda: good.float() * 1e38,
        "of 0 to 255": lambda: good.float() * 255,
        "negative": lambda: -good.float(),
        "float64": lambda: good.double(),
        "float16": lambda: good.half(),
        "bfloat16": lambda: good.bfloat16(),
        "int64": lambda: good.long(),
        "uint8": lambda: (good * 255).to(torch.uint8),
        "bool": lambda: good.bool(),
        "a dimension more": lambda: good[None],
        "first row": lambda: good[0],
        "no rows": lambda: good[:0],
        "one row": lambda: good[:1],
        "rows twice": lambda: torch.cat([good, good]),
        "a column less": lambda: good[..., :-1],
        "no columns": lambda: good[..., :0],
        "zeros": lambda: torch.zeros_like(good),
        "flat": lambda: good.flatten(),
        "sparse": lambda: good.to_sparse(),
        "with a gradient": lambda: good.detach().float().clone().requires_grad_(),
        "not contiguous": lambda: good.detach().transpose(0, -1).contiguous().transpose(0, -1),
        "array": lambda: good.detach().numpy(),
        "list": lambda: good.detach().tolist(),
        "array of objects": lambda: good.detach().numpy().astype(object),
        "tuple of rows": lambda: tuple(good),
    }
    for kind, make in makes.items():
        if good.ndim or kind in ("float64", "int64", "negative", "array", "list"):
            yield Odd(f"good one: {kind}", make, own=kind in OTHER_SHAPES, names=IMAGES)


def tables(good: pd.DataFrame) -> Iterator[Odd]:
    first = good.columns[0]

    def filled(values: Any) -> Callable[[], pd.DataFrame]:
        return lambda: good.assign(**{first: values})

    def with_one(value: Any) -> Callable[[], pd.DataFrame]:
        def make() -> pd.DataFrame:
            column = good[first].astype(object).copy()
            column.iloc[0] = value
            return good.assign(**{first: column})

        return make

    makes: dict[str, Callable[[], Any]] = {
        "no rows": lambda: good[:0],
        "a row less": lambda: good[:-1],
        "no columns": lambda: good[[]],
        "a column less": lambda: good.drop(columns=first),
        "a column twice": lambda: pd.concat([good, good[[first]]], axis=1),
        "columns by number": lambda: good.set_axis(range(good.shape[1]), axis=1),
        "two levels of columns": lambda: pd.concat({"a": good}, axis=1),
        "nullable": lambda: good.convert_dtypes(),
        "categories": lambda: good.astype("category"),
        "texts": lambda: good.astype(str),
        "objects": lambda: good.astype(object),
        "pd.NA in a nullable one": lambda: _missing(good.convert_dtypes()),
        "a missing category": lambda: _missing(good.astype("category")),
        "None in it": with_one(None),
        "NaN in it": with_one(NAN),
        "NaT in it": with_one(pd.NaT),
        "a list in it": with_one([1, 2]),
        "an array in it": with_one(np.ones(2)),
        "infinity in it": with_one(INF),
        "all missing": filled(None),
        "all NaN": filled(NAN),
        "dates": filled(pd.Timestamp("2024-01-01")),
        "constant": filled(0),
        "complex": filled(1j),
        "another index": lambda: good.set_axis(range(7, 7 + len(good)), axis=0),
        "an index twice": lambda: good.set_axis([0] * len(good), axis=0),
        "array": lambda: good.to_numpy(),
        "dict of lists": lambda: good.to_dict("list"),
        "list of rows": lambda: good.to_dict("records"),
        "first column": lambda: good[first],
    }
    for kind, make in makes.items():
        yield Odd(f"good table: {kind}", make)


def _missing(table: pd.DataFrame) -> pd.DataFrame:
    table = table.copy()
    table.iloc[0, 0] = pd.NA
    return table


def series(good: pd.Series) -> Iterator[Odd]:
    makes = {
        "texts": lambda: good.astype(str),
        "nullable": lambda: good.convert_dtypes(),
        "pd.NA in it": lambda: good.astype("Float64").where([False] + [True] * (len(good) - 1)),
        "one less": lambda: good[:-1],
        "no rows": lambda: good[:0],
        "names twice": lambda: pd.concat([good, good]),
        "other names": lambda: good.set_axis(range(len(good)), axis=0),
        "bool": lambda: good.astype(bool),
        "array": lambda: good.to_numpy(),
        "dict": lambda: good.to_dict(),
        "1e308 times as large": lambda: good * 1e308,
    }
    for kind, make in makes.items():
        yield Odd(f"good series: {kind}", make)
    yield Odd(
        "good series: a NaN in it", lambda: good.where([False] + [True] * (len(good) - 1)), True
    )
    yield Odd("good series: infinite", lambda: good * INF, True)


def returned(good: Any) -> dict[str, tuple[Callable[[Any], Any], bool]]:
    """What a function may make of a good answer, and whether that is always wrong."""
    return {
        "None": (lambda out: None, True),
        "NaN": (lambda out: torch.full_like(out, NAN), True),
        "a NaN": (lambda out: spoilt(out, NAN), True),
        "an infinity": (lambda out: spoilt(out, INF), True),
        "complex": (lambda out: out.to(torch.complex64), True),
        "meta": (lambda out: out.to("meta"), True),
        "text": (lambda out: "text", True),
        "a number": (lambda out: 1.0, True),
        "an object": (lambda out: object(), True),
        "too few rows": (lambda out: out[:-1], True),
        "too many rows": (lambda out: torch.cat([out, out]), True),
        "no rows": (lambda out: out[:0], True),
        "a dimension more": (lambda out: out[None], True),
        "array": (lambda out: out.detach().cpu().numpy(), False),
        "list": (lambda out: out.tolist(), False),
        "tuple": (lambda out: (out,), False),
        "whole numbers": (lambda out: out.long(), False),
        "bools": (lambda out: out > 0, False),
        "float64": (lambda out: out.double(), False),
        "float16": (lambda out: out.half(), False),
        "a column": (lambda out: out.flatten(1)[:, :1] if out.ndim > 1 else out[:, None], False),
        "no columns": (lambda out: out[..., :0], False),
        "one a row": (lambda out: out.flatten(1)[:, 0] if out.ndim > 1 else out[0], False),
        "zeros": (lambda out: torch.zeros_like(out), False),
        "1e38 times as large": (lambda out: out * 1e38, False),
        "without a gradient": (lambda out: out.detach(), False),
    }


def functions(good: Callable) -> Iterator[Odd]:
    """Functions in place of a good one, whose answers are wrong in each way."""
    module = good if isinstance(good, nn.Module) else None

    for kind, (change, wrong) in returned(good).items():

        def make(change: Callable = change) -> Callable:
            # Keeps the name of what it stands for, and is as good in everything else.
            def function(*args: Any, **kwargs: Any) -> Any:
                out = good(*args, **kwargs)
                return change(out) if isinstance(out, Tensor) else change(torch.zeros(2, 2))

            return Answer(told(function)) if module is not None else told(function)

        yield Odd(f"returns {kind}", make, wrong, asleep=True, names=IMAGES)

    def raises(*_: Any, **__: Any) -> Any:
        raise Own("of its own")

    def spoils(first: Any, *args: Any, **kwargs: Any) -> Any:
        out = good(first, *args, **kwargs)
        if isinstance(first, Tensor) and not first.requires_grad:
            first.mul_(0.5)
        return out

    for kind, function in (
        ("raises", raises), ("takes nothing", _nothing), ("changes its input", spoils),
    ):  # fmt: skip
        make = functools.partial(Answer, function) if module is not None else given(function)
        yield Odd(kind, make, own=True, names=IMAGES)
    inner = module or getattr(good, "module", None)
    if isinstance(inner, nn.Module) and any(True for _ in inner.parameters()):
        yield Odd("NaN for weights", lambda: _broken(good), True, asleep=True)


class Answer(nn.Module):
    """A module that answers by a function."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def _nothing() -> None:
    return None


def _broken(good: Any) -> Any:
    wrong = copy.deepcopy(good)
    inner = wrong if isinstance(wrong, nn.Module) else wrong.module
    with torch.no_grad():
        for weight in inner.parameters():
            weight.fill_(NAN)
    inner.register_forward_hook(told(lambda *_: None))
    return wrong


def readers(good: cfx.FactorReader) -> Iterator[Odd]:
    for odd in functions(good.module):
        yield dataclasses.replace(
            odd,
            kind=f"a reader whose net {odd.kind}",
            make=lambda make=odd.make: cfx.FactorReader(make(), good.options),
        )
    other = {f"other {name}": values for name, values in good.options.items()}
    yield Odd("a reader of others", lambda: cfx.FactorReader(good.module, other))


SIZES = ("another size", "gray images")  # at which a classifier may fail by itself


class Space:
    """A space of one's own: a good one with some parts replaced."""

    def __init__(self, good: Any, without: str = "", **parts: Any) -> None:
        self._good, self._without, self._parts = good, without, parts

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == self._without:
            raise AttributeError(name)
        return self._parts[name] if name in self._parts else getattr(self._good, name)


def spaces(good: Any) -> Iterator[Odd]:
    def own(**parts: Any) -> Callable[[], Space]:
        return lambda: Space(good, **parts)

    for name in ("encode", "decode", "mean", "std"):
        yield Odd(f"a space without {name}", own(without=name), True)
        yield Odd(f"a space with None for {name}", own(**{name: None}), True)
    for name in ("encode", "decode"):
        yield Odd(f"a space with a number for {name}", own(**{name: 1}), True)
        yield Odd(f"a space whose {name} takes nothing", own(**{name: _nothing}), own=True)
        yield Odd(f"a space whose {name} raises", own(**{name: _raises}))
    yield Odd("a space that does nothing new", own())
    for name in ("mean", "std"):
        tensor = getattr(good, name)
        for kind, wrong in {
            "a NaN": lambda t=tensor: spoilt(t, NAN),
            "an infinity": lambda t=tensor: spoilt(t, INF),
            "another shape": lambda t=tensor: torch.cat([t, t]),
            "a dimension more": lambda t=tensor: t[None],
            "a single number": lambda t=tensor: t.flatten()[0],
            "no numbers": lambda t=tensor: t[:0],
            "complex numbers": lambda t=tensor: t.to(torch.complex64),
            "no values": lambda t=tensor: t.to("meta"),
            "texts": lambda t=tensor: "text",
        }.items():
            # A number or a dimension of 1 broadcasts: not always wrong.
            yield Odd(f"a space with {kind} for {name}",
                      lambda w=wrong, n=name: Space(good, **{n: w()}),
                      kind not in ("a single number", "a dimension more"))  # fmt: skip
        for kind, other in {
            "an array": lambda t=tensor: t.numpy(),
            "a list": lambda t=tensor: t.tolist(),
            "float64": lambda t=tensor: t.double(),
            "whole numbers": lambda t=tensor: t.long(),
        }.items():
            yield Odd(f"a space with {kind} for {name}",
                      lambda w=other, n=name: Space(good, **{n: w()}), own=True)  # fmt: skip
    yield Odd("a space with 0 for spread", own(std=torch.zeros_like(good.std)), True)
    yield Odd("a space with -1 for spread", own(std=-torch.ones_like(good.std)), True)
    yield Odd("a space with 1e38 for spread", own(std=torch.full_like(good.std, 1e38)))

    def encoding(change: Callable[[Any], Any]) -> Callable[[], Space]:
        return own(encode=told(lambda images: change(good.encode(images))))

    for kind, (change, wrong) in {
        "None": (lambda c: None, True),
        "a tensor": (lambda c: c.z, True),
        "a tuple": (lambda c: (c.z, c.aux), True),
        "a Code of NaN": (lambda c: c.with_z(torch.full_like(c.z, NAN)), True),
        "a Code with a NaN": (lambda c: c.with_z(spoilt(c.z, NAN)), True),
        "a Code with an infinity": (lambda c: c.with_z(spoilt(c.z, INF)), True),
        "too few rows": (lambda c: c[:-1], True),
        "too many rows": (lambda c: cfx.Code(torch.cat([c.z, c.z])), True),
        "codes of another shape": (lambda c: c.with_z(torch.cat([c.z, c.z], 1)), True),
        "a Code of arrays": (lambda c: cfx.Code(c.z.detach().numpy()), False),
        "a Code of None": (lambda c: cfx.Code(None), True),
        "whole numbers": (lambda c: c.with_z(c.z.long()), False),
        "float64": (lambda c: c.with_z(c.z.double()), False),
        "complex numbers": (lambda c: c.with_z(c.z.to(torch.complex64)), True),
    }.items():
        yield Odd(
            f"a space whose encode gives {kind}", encoding(change), wrong,
            own="Code" in kind or "numbers" in kind, asleep=True,
        )  # fmt: skip

    def decoding(change: Callable[[Tensor], Any]) -> Callable[[], Space]:
        return own(decode=told(lambda code, *a, **k: change(good.decode(code, *a, **k))))

    for kind, (change, wrong) in {
        "None": (lambda x: None, True),
        "text": (lambda x: "text", True),
        "NaN": (lambda x: torch.full_like(x, NAN), True),
        "a NaN": (lambda x: spoilt(x, NAN), True),
        "an infinity": (lambda x: spoilt(x, INF), True),
        "too few rows": (lambda x: x[:-1], True),
        "too many rows": (lambda x: torch.cat([x, x]), True),
        "no rows": (lambda x: x[:0], True),
        "images above 1": (lambda x: x + 1, True),
        "images of 0 to 255": (lambda x: 255 * x, True),
        "images in [-1, 1]": (lambda x: 2 * x - 1, True),
        "another size": (lambda x: torch.cat([x, x], 2), True),
        "gray images": (lambda x: x.mean(1, keepdim=True), True),
        "no batch": (lambda x: x[0], True),
        "bytes": (lambda x: (255 * x).to(torch.uint8), True),
        "arrays": (lambda x: x.detach().numpy(), False),
        "float64": (lambda x: x.double(), False),
        "float16": (lambda x: x.half(), False),
        "no gradient": (lambda x: x.detach(), False),
        "complex numbers": (lambda x: x.to(torch.complex64), True),
    }.items():
        yield Odd(f"a space whose decode gives {kind}", decoding(change), wrong, own=kind in SIZES,
                  asleep=True, names=IMAGES)  # fmt: skip


def _raises(*_: Any, **__: Any) -> Any:
    raise Own("of its own")


def records(good: Any) -> Iterator[Odd]:
    """Results and the like, with one field replaced."""
    for field in dataclasses.fields(good):
        value = getattr(good, field.name)
        changes: dict[str, Any] = {"None": given(None), "text": given("text")}
        if isinstance(value, Tensor) and value.ndim:
            changes |= {
                "NaN": lambda v=value: torch.full(v.shape, NAN),
                "a NaN": lambda v=value: spoilt(v, NAN),
                "one row": lambda v=value: v[:1],
                "no rows": lambda v=value: v[:0],
                "a column less": lambda v=value: v[..., :-1],
                "flat": lambda v=value: v.flatten(),
                "an array": lambda v=value: v.detach().numpy(),
                "complex numbers": lambda v=value: v.to(torch.complex64),
                "1e38 times": lambda v=value: 1e38 * v.float(),
            }
        elif isinstance(value, pd.DataFrame):
            changes |= {
                "no rows": lambda v=value: v[:0],
                "no columns": lambda v=value: v[[]],
                "all missing": lambda v=value: v.mask(np.ones(v.shape, bool)),
            }
        elif isinstance(value, tuple):
            changes |= {
                "one less": lambda v=value: v[:-1],
                "numbers": lambda v=value: (1,) * len(v),
            }
        elif isinstance(value, dict):
            changes |= {"nothing": dict, "texts": lambda v=value: dict.fromkeys(v, "text")}
        elif isinstance(value, float | int):
            changes |= {"NaN": given(NAN), "-1": given(-1)}
        for kind, change in changes.items():
            yield Odd(
                f"good one with {kind} for {field.name}",
                lambda change=change, name=field.name: dataclasses.replace(
                    good, **{name: change()}
                ),
            )
    if hasattr(good, "__getitem__") and hasattr(good, "__len__"):
        yield Odd("good one: no rows", lambda: good[:0])
        yield Odd("good one: one row", lambda: good[:1])
        yield Odd("good one: a list", lambda: [good])


PARTS: dict[str, Any] = {
    "None": None, "NaN": NAN, "infinity": INF, "text": "text", "True": True, "-1": -1,
    "object": object(), "empty list": [], "list": [1, 2, 3], "dict": {},
}  # fmt: skip


def mappings(good: Mapping) -> Iterator[Odd]:
    if not good:
        return
    (key, value), *_ = good.items()
    for kind, part in PARTS.items():
        yield Odd(f"{{..: {kind}}}", given({**good, key: part}))
        if part is not None and getattr(part, "__hash__", None):
            yield Odd(f"{{{kind}: ..}}", given({**good, part: value}))
    yield Odd("list of pairs", given(list(good.items())))
    yield Odd("list of keys", given(list(good)))
    for odd in out_of(value):
        yield dataclasses.replace(
            odd, kind=f"{{..: {odd.kind}}}", make=lambda make=odd.make: {**good, key: make()}
        )


def sequences(good: list | tuple) -> Iterator[Odd]:
    kind_of = type(good)
    for kind, part in PARTS.items():
        yield Odd(f"[{kind}, ...]", lambda part=part: kind_of([part, *good[1:]]))
        yield Odd(f"[..., {kind}]", lambda part=part: kind_of([*good, part]))
    makes: dict[str, Callable[[], Any]] = {
        "one less": lambda: good[:-1],
        "the first alone": lambda: good[0],
        "twice": lambda: good + good,
        "backwards": lambda: good[::-1],
        "a set": lambda: set(good),
        "an array": lambda: np.array(good),
        "an iterator": lambda: iter(good),
        "nested": lambda: [good],
        "dict": lambda: dict.fromkeys(good, 1),
        "a series": lambda: pd.Series(good),
        "nullable": lambda: pd.Series(good).convert_dtypes(),
        "with a missing one": lambda: pd.Series([*good[1:], None]),
        "categories": lambda: pd.Series(good, dtype="category"),
    }
    for kind, make in makes.items():
        yield Odd(f"good ones: {kind}", make)
    if good:
        for odd in out_of(good[0]):
            yield dataclasses.replace(
                odd,
                kind=f"[{odd.kind}, ...]",
                make=lambda make=odd.make: kind_of([make(), *good[1:]]),
            )
