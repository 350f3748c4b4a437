"""What a call with an odd value has come to: fine, unclear, or wrong without a word."""

import contextlib
import dataclasses
import inspect
import io
import math
import numbers
import re
import signal
import traceback
import types
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from odd import CALLS, Odd, Own
from torch import Tensor, nn

from cfxnb.attribution.result import Attribution
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import NO_GRADIENT, NOT_FINITE, STOPPED, LatentSpace

LIMIT = 3.0  # seconds of the processor that a call may take
LONGEST = 600  # letters of a message

#: What a row with such a status holds need not be finite.
UNFINISHED = (NOT_FINITE, NO_GRADIENT, STOPPED)
#: Files of functions that stand for the caller's own, and where torch calls a network.
OWN = {"gaussians.py", "good.py", "module.py", "odd.py", "worlds.py"}
#: What may stand for a tensor, and for a table.
ARRAYS = (Tensor, np.ndarray, list, tuple, range, pd.Series, pd.DataFrame)
TABLES = (pd.DataFrame, pd.Series, Mapping, list, np.ndarray)
FINE, UNCLEAR, ACCEPTED = "fine", "unclear", "accepted"


@dataclasses.dataclass(frozen=True)
class Verdict:
    kind: str
    told: str = ""


class TooLong(BaseException):
    """Not an Exception: no handler may take it for an answer."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Stops what takes longer, in time of this process: other work on the machine costs none."""

    def stop(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def judge(
    call: Callable[[], Any],
    odd: Odd,
    parameter: inspect.Parameter,
    names: set[str],
    fit: bool | None,
    usual: set[str],
    may_be_undefined: re.Pattern[str],
    finite: bool = True,
    errors: tuple[type[Exception], ...] = (),
) -> Verdict:
    """Run a call, and judge what comes.

    Args:
        names: of all arguments: a message names the one replaced, or begins with another that
            doesn't fit it.
        fit: whether the value is one for this argument, as far as its kind tells.
        usual: places of the result that aren't finite in a good call either.
        may_be_undefined: further ones that the documentation names.
        finite: whether a result must be finite otherwise.
        errors: further kinds that are customary for this call.
    """
    CALLS[0] = 0
    try:
        with warnings.catch_warnings(record=True) as heard, limited(LIMIT):
            warnings.simplefilter("always")
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                result = call()
    except Own:
        return Verdict(FINE)
    except TooLong:
        return Verdict(UNCLEAR, f"took more than {LIMIT:g} s")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if odd.own and own_fault(error):
            return Verdict(FINE)
        return told_well(error, parameter, names | odd.names, errors)
    loud = [w for w in heard if w.category is UserWarning and "cfxnb" in w.filename]
    if stray := [w for w in heard if issubclass(w.category, RuntimeWarning)]:
        where = Path(stray[0].filename).name
        return Verdict(UNCLEAR, f"warned {stray[0].message} ({where}:{stray[0].lineno})")
    if loud:
        return Verdict(FINE)
    if odd.asleep and not CALLS[0]:
        return Verdict(FINE)
    if isinstance(result, Counterfactuals | Attribution) and not sound(result):
        return Verdict(FINE)  # it says so
    if odd.wrong or fit is False:
        return Verdict(ACCEPTED, f"returned {type(result).__name__}")
    found = not_finite(result) - usual
    if finite and (found := {f for f in found if not may_be_undefined.fullmatch(f)}):
        return Verdict(ACCEPTED, f"not finite: {sorted(found)[:3]}")
    return Verdict(FINE)


def own_fault(error: BaseException) -> bool:
    """Whether a function of the caller has failed by itself, or can't be called like this."""
    frames = traceback.extract_tb(error.__traceback__)
    called = bool(OWN & {Path(f.filename).name for f in frames})
    return called or bool(re.search(r"positional argument|unexpected keyword argument", str(error)))


def told_well(
    error: BaseException,
    parameter: inspect.Parameter,
    names: set[str],
    errors: tuple[type[Exception], ...],
) -> Verdict:
    """An error is clear if its kind and its words say which argument was wrong, and how."""
    text = str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    told = f"{type(error).__name__}: {text[:160]!r} ({Path(where.filename).name}:{where.lineno})"
    if errors and isinstance(error, errors) and text:
        return Verdict(FINE)
    if not isinstance(error, ValueError | TypeError | ImportError):
        return Verdict(UNCLEAR, told)
    if "expected" not in text or "/cfxnb/" not in where.filename:
        return Verdict(UNCLEAR, told)
    own = re.search(rf"\b{re.escape(parameter.name)}\b", text)
    other = any(re.match(rf"{re.escape(n)}\b", text) for n in names)
    if not own and not other:
        return Verdict(UNCLEAR, f"doesn't name {parameter.name}: {told}")
    if len(text) > LONGEST:
        return Verdict(UNCLEAR, f"{len(text)} letters: {told}")
    return Verdict(FINE)


def fits(
    good: Any, parameter: inspect.Parameter, hint: Any, value: Any, free: bool, record: bool
) -> bool | None:
    """Whether a value is of the kind of a good one; None where that can't be said.

    Args:
        hint: annotation of the argument.
        free: any text will do.
        record: what is made just holds its arguments, NaN included.
    """
    kinds = set(_kinds(hint))
    if value is None:
        unsaid = Any in kinds or hint is inspect.Parameter.empty
        return parameter.default is None or type(None) in kinds or unsaid
    if Any in kinds or hint is inspect.Parameter.empty:
        kinds = set()
        if isinstance(good, bool | int | float | str) or good is None:
            return None
    many = bool(kinds & {Tensor, np.ndarray}) or any(
        inspect.isclass(k) and issubclass(k, typing.Sequence) and k is not str for k in kinds
    )
    if isinstance(good, bool):
        return isinstance(value, bool | np.bool_)
    if isinstance(good, int):
        if isinstance(value, bool | np.bool_) or _text(value):
            return None if many and _text(value) else False
        if isinstance(value, numbers.Integral):
            return True
        return None if many else _whole(value)
    if isinstance(good, float):
        if isinstance(value, bool | np.bool_) or _text(value):
            return False
        if isinstance(value, numbers.Real):
            return math.isfinite(value) or (None if record else False)
        return None if many else _number(value)
    if isinstance(good, str):
        if isinstance(value, Path) and any(k in (Path, type(Path())) for k in kinds):
            return None
        if not isinstance(value, str):
            return None if many or len(kinds) > 1 else False
        return True if free else None if value == good else (None if len(kinds) > 1 else False)
    if isinstance(good, Tensor):
        if good.dtype == torch.int64 and isinstance(value, numbers.Integral):
            return False if isinstance(value, bool) else None  # one for all
        return None if isinstance(value, ARRAYS) or len(kinds) > 1 else False
    if isinstance(good, pd.DataFrame | pd.Series):
        return None if isinstance(value, TABLES) else False
    if isinstance(good, Mapping):
        return None if isinstance(value, Mapping) else (None if many else False)
    if isinstance(good, list | tuple):
        return None
    if callable(good) and not isinstance(good, LatentSpace):
        return None if callable(value) or many else False
    return None


def _kinds(hint: Any) -> Iterator[Any]:
    """The kinds that an annotation allows, without what is in them."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        for part in typing.get_args(hint):
            yield from _kinds(part)
    else:
        yield origin or hint


def _text(value: Any) -> bool:
    return isinstance(value, str | bytes)


def _whole(value: Any) -> bool:
    """A tensor or array of one whole number."""
    if isinstance(value, Tensor):
        return value.ndim == 0 and not value.is_floating_point() and value.dtype != torch.bool
    return isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iu"


def _number(value: Any) -> bool:
    if isinstance(value, Tensor):
        real = value.ndim == 0 and not value.is_complex() and value.dtype != torch.bool
        return real and value.device.type != "meta" and bool(value.isfinite())
    return (
        isinstance(value, np.ndarray)
        and value.ndim == 0
        and value.dtype.kind in "iuf"
        and bool(np.isfinite(value))
    )


def not_finite(result: Any) -> set[str]:
    """Where a result holds NaN, infinity or a missing value."""
    found: set[str] = set()
    _look(result, "result", found, set(), 0)
    return found


def sound(result: Counterfactuals | Attribution) -> bool:
    return not any(s in UNFINISHED for s in result.status)


def _look(value: Any, place: str, found: set[str], seen: set[int], depth: int) -> None:
    if depth > 6 or id(value) in seen:
        return
    if isinstance(value, Tensor):
        if value.layout == torch.strided and value.device.type != "meta":
            inexact = value.is_floating_point() or value.is_complex()
            if inexact and not value.detach().isfinite().all():
                found.add(place)
    elif isinstance(value, np.ndarray):
        if value.dtype.kind in "fc" and not np.isfinite(value).all():
            found.add(place)
    elif isinstance(value, float | np.floating):
        if not math.isfinite(value):
            found.add(place)
    elif isinstance(value, pd.DataFrame):
        for i, name in enumerate(value.columns):
            _look(value.iloc[:, i], f"{place}[{name!r}]", found, seen, depth + 1)
    elif isinstance(value, pd.Series):
        numeric = value.dtype.kind in "fc" if isinstance(value.dtype, np.dtype) else False
        if value.isna().any() or (numeric and np.isinf(value).any()):
            found.add(place)
    elif isinstance(value, str | bytes | int | type | types.FunctionType) or value is None:
        return
    elif isinstance(value, Mapping):
        for key, one in value.items():
            _look(one, f"{place}[{key!r}]", found, seen, depth + 1)
    elif isinstance(value, list | tuple | set):
        for one in value:
            _look(one, f"{place}[]", found, seen, depth + 1)
    elif isinstance(value, nn.Module):
        seen.add(id(value))
        for name, one in value.state_dict().items():
            _look(one, f"{place}.{name}", found, seen, depth + 1)
    elif isinstance(value, Counterfactuals | Attribution) and not sound(value):
        seen.add(id(value))
        rows = [i for i, s in enumerate(value.status) if s not in UNFINISHED]
        _look(value[rows], place, found, seen, depth)
    elif type(value).__module__.startswith("cfxnb"):
        seen.add(id(value))
        for name, one in vars(value).items():
            _look(one, f"{place}.{name}", found, seen, depth + 1)
