"""What all checks share: they report instead of raising, and none is without its mutants."""

import importlib
import pkgutil

import pytest
from mutants import public_checks

import cfxnb.checks
from cfxnb.checks import core

NOTEBOOKS = [m.name for m in pkgutil.iter_modules(cfxnb.checks.__path__) if m.name != "core"]
CHECKS = [
    pytest.param(check, id=f"{notebook}-{name}")
    for notebook in NOTEBOOKS
    for name, check in public_checks(getattr(cfxnb.checks, notebook)).items()
]


def stub(*_):
    raise NotImplementedError()


def slip(*_):
    raise KeyError("no such descriptor")


def nothing(*_):
    return None


@core.exercise("Two")
def two(answer):
    core.expect(answer() == 2, "it isn't two", cause="<another> number", hint="count")


@pytest.mark.parametrize("check", CHECKS)
def test_a_stub_is_no_answer_yet(check):
    result = check(stub)
    assert not result
    assert "no answer yet" in result.failed
    assert result.cause
    assert result.hint


@pytest.mark.parametrize("check", CHECKS)
def test_what_an_answer_raises_is_reported(check):
    result = check(slip)
    assert not result
    assert "it raised KeyError" in result.failed
    assert "no such descriptor" in result.failed


@pytest.mark.parametrize("check", CHECKS)
def test_an_answer_without_return_is_rejected(check):
    result = check(nothing)
    assert not result
    assert result.failed
    assert result.cause
    assert result.hint


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_every_check_has_its_mutants(notebook):
    table = importlib.import_module(f"test_{notebook}").TABLE
    checks = public_checks(getattr(cfxnb.checks, notebook))
    assert checks
    assert set(table) == set(checks)
    for name, answers in table.items():
        assert answers.right, name
        assert len(answers.wrong) >= 3, name
        assert len({fragment for _, fragment in answers.wrong.values()}) >= 2, name


def test_a_passing_result_shows_itself():
    result = two(lambda: 2)
    assert result
    assert repr(result).startswith("✔ Two")
    assert core.Result("Two", True) == result
    assert "✔" in result._repr_html_()


def test_a_failing_result_says_what_why_and_where_next():
    result = two(lambda: 3)
    assert not result
    assert repr(result).startswith("✘ Two: it isn't two")
    assert "Likely cause: <another> number" in repr(result)
    assert "Next: count" in repr(result)
    assert "&lt;another&gt;" in result._repr_html_()


def test_strict_mode_raises_what_the_result_says(monkeypatch):
    monkeypatch.setenv("CFXNB_STRICT", "1")
    assert two(lambda: 2)
    with pytest.raises(AssertionError, match="it isn't two"):
        two(lambda: 3)
    with pytest.raises(AssertionError, match="no answer yet"):
        two(stub)


@pytest.mark.parametrize("value", ["0", ""])
def test_other_values_are_not_strict(monkeypatch, value):
    monkeypatch.setenv("CFXNB_STRICT", value)
    assert not two(lambda: 3)
