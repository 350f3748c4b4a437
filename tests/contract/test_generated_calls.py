"""Everything public, called with every argument replaced by wrong and odd values.

A call is fine if it raises an error that names the argument and says what was expected, or if it
returns what is right. The calls are built from the signatures: a new function is covered without
a line here. Where one of its arguments has a new name, the test asks for a good value.
"""

import functools
import inspect
import math
import resource

import calls
import good
import pytest
import torch
from huggingface_hub import constants
from odd import Odd, functions, given, spaces, tables, tensors
from surface import Callee, everything
from verdict import ACCEPTED, FINE, UNCLEAR, judge

import cfxnb as cfx
from cfxnb.evaluation import tasks

SURFACE = everything()
#: Bytes of memory that a call may ask for beside what is there: more is a slip.
ROOM = 4 * 2**30
#: Calls whose error can't be clear: (function, argument, kind of value) -> why. At most one in 200.
KNOWN: dict[tuple[str, str, str], str] = {
    ("cfx.metrics.stability", "seeds", "long list"): "two thousand calls take longer",
}


@pytest.fixture(autouse=True)
def little_room(tmp_path, monkeypatch):
    """No network, no screen, a folder of its own, and not all of the machine's memory."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.fixture(autouse=True)
def worlds_are_read_once(monkeypatch):
    """The calls of ``cfx.evaluate`` share one world, as other calls share a space."""
    monkeypatch.setattr(tasks, "load", functools.cache(tasks.load))
    monkeypatch.setattr(tasks.data, "digits", functools.cache(tasks.data.digits))


@pytest.mark.parametrize("callee", SURFACE, ids=lambda callee: callee.label)
def test_wrong_calls(callee):
    """Nothing wrong is taken without a word, and every error says what was wrong."""
    found = list(calls.judged(callee, SURFACE))
    if callee.parameters:
        assert len(found) >= 60 * len(callee.parameters), "each argument meets each kind of value"
    wrong: dict[str, list[str]] = {ACCEPTED: [], UNCLEAR: []}
    for name, odd, verdict in found:
        if verdict.kind != FINE and not calls.listed(KNOWN, callee.label, name, odd.kind):
            wrong[verdict.kind].append(f"{name} <- {odd.kind}: {verdict.told}")
    for kind, told in wrong.items():
        assert not told, f"{kind}: {len(told)} of {len(found)} calls\n" + "\n".join(told[:40])


def test_the_surface_is_what_is_exported():
    labels = {callee.label for callee in SURFACE}
    assert len(labels) == len(SURFACE) > 200
    for name in cfx.__all__:
        value = getattr(cfx, name)
        if callable(value) and not getattr(value, "_is_protocol", False):
            assert f"cfx.{name}" in labels, name
    # Methods of what functions return are found by the annotations.
    for found in ("cfx.Attribution.concatenate", "cfx.spaces.VAE.encode", "cfx.metrics.fid",
                  "cfx.core.classifiers.Wrapped.__call__", "cfx.data.World.sample"):  # fmt: skip
        assert found in labels


def test_a_new_function_needs_no_line():
    """And one with a must of an unknown name asks for a value of it."""

    def news(images: torch.Tensor, steps: int = 3, colour: str = "red") -> None:
        """Not in any list."""

    callee = Callee("news", news, None, dict(inspect.signature(news).parameters))
    replaced = {name for name, _, _ in calls.judged(callee, SURFACE)}
    assert replaced == {"images", "steps", "colour"}

    def unknown(gadget: int) -> None:
        """Nobody knows a gadget."""

    callee = Callee("unknown", unknown, None, dict(inspect.signature(unknown).parameters))
    with pytest.raises(LookupError, match="no good value for gadget"):
        next(calls.judged(callee, SURFACE))


def outcome(call, odd=None, fit=None, finite=True):
    parameter = inspect.Parameter("steps", inspect.Parameter.KEYWORD_ONLY)
    nowhere = calls.re.compile("(?!)")
    odd = odd or Odd("an odd one", given(0))
    return judge(call, odd, parameter, {"steps", "images"}, fit, set(), nowhere, finite).kind


def raising(error):
    def call():
        raise error

    return call


def refusal():
    """An error of the package itself."""
    cfx.wilson_interval(1, 2, confidence_level=2.0)


def test_the_judge_finds_each_fault():
    """Otherwise nothing above could fail."""
    assert outcome(lambda: 1) == FINE
    assert outcome(lambda: 1, fit=False) == ACCEPTED
    assert outcome(lambda: 1, Odd("NaN", given(math.nan), wrong=True)) == ACCEPTED
    code = cfx.Code(torch.full((1, 2), math.nan))
    for bad in (math.nan, torch.tensor([1.0, math.inf]), {"a": [math.nan]}, code):
        assert outcome(lambda bad=bad: bad) == ACCEPTED
        assert outcome(lambda bad=bad: bad, finite=False) == FINE
    for error in (RuntimeError("steps: expected 1"), KeyError("steps"), MemoryError(), OSError("x"),
                  ValueError("steps: expected 1, got 2"), TypeError("'int' is not iterable"),
                  RecursionError(), AttributeError("steps")):  # fmt: skip
        assert outcome(raising(error)) == UNCLEAR, error  # not raised by the package
    assert outcome(refusal) == UNCLEAR, "it names another argument"
    assert outcome(lambda: cfx.by_profile("none", ci=1, cpu=1, gpu=1)) == UNCLEAR
    assert outcome(lambda: cfx.metrics.kid(None, None)) == UNCLEAR
    assert outcome(lambda: endless()) == UNCLEAR


def endless():
    while True:
        pass


def test_odd_values_are_odd():
    """Each kind is there once, and those made of a good value differ from it."""
    for make, of in ((tensors, good.images()), (tables, good.factors()), (spaces, good.space()),
                     (functions, good.classifier())):  # fmt: skip
        kinds = [odd.kind for odd in make(of)]
        assert len(set(kinds)) == len(kinds) > 20
    assert any(odd.make().isnan().any() for odd in tensors(good.images()) if "NaN" in odd.kind)
    assert not good.images().isnan().any(), "the good one stays as it is"
