"""Checks of exercises with odd answers: none of them passes, and none of them raises."""

import inspect
import types

import odd
import pytest

import cfxnb as cfx
from cfxnb.checks import Result
from cfxnb.course import build

CHECKS = {
    f"{name}.{check}": function
    for name, module in vars(cfx.checks).items()
    if isinstance(module, types.ModuleType) and name.startswith("nb")
    for check, function in vars(module).items()
    if hasattr(function, "__wrapped__") and function.__module__ == module.__name__
}
ANSWERS = {
    **odd.ANYTHING,
    "gives nothing": lambda *a, **k: None,
    "gives NaN": lambda *a, **k: odd.NAN,
    "gives a text": lambda *a, **k: "text",
    "gives its input": lambda *a, **k: a[0] if a else None,
    "takes nothing": lambda: None,
    "raises": lambda *a, **k: 1 / 0,
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_odd_answers(name, monkeypatch):
    monkeypatch.delenv("CFXNB_STRICT", raising=False)
    check = CHECKS[name]
    count = len(inspect.signature(check.__wrapped__).parameters)
    for kind, answer in ANSWERS.items():
        result = check(*[answer] * count)
        assert isinstance(result, Result), kind
        assert not result.passed, kind
        assert result.failed, kind
        assert result.hint, kind


def test_there_are_checks_in_every_notebook():
    assert len({name.split(".")[0] for name in CHECKS}) == len(build.sources())
    assert len(CHECKS) > 30
