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


@pytest.fixture(autouse=True)
def no_tries_yet(monkeypatch):
    monkeypatch.setattr(core, "_failures", {})


def test_a_failing_result_says_what_and_why():
    result = two(lambda: 3)
    assert not result
    assert repr(result).startswith("✘ Two: it isn't two")
    assert "Likely cause: <another> number" in repr(result)
    assert "&lt;another&gt;" in result._repr_html_()


def test_the_hint_comes_at_the_third_failed_try():
    shown = [repr(two(lambda: 3)) for _ in range(4)]
    assert ["count" in text for text in shown] == [False, False, True, True]
    assert "A hint follows after 2 more failed tries." in shown[0]
    assert "A hint follows after 1 more failed try." in shown[1]
    assert two(lambda: 2)
    assert "count" not in repr(two(lambda: 3))  # a right answer starts anew


def test_a_stub_is_no_try():
    assert all("replace the line" in repr(two(stub)) for _ in range(2))
    assert "after 2 more" in repr(two(lambda: 3))


def test_asking_whether_an_answer_passes_is_no_try(monkeypatch):
    monkeypatch.setenv("CFXNB_STRICT", "1")
    assert core.passes(two, lambda: 2)
    assert not core.passes(two, lambda: 3)
    assert not core.passes(two, stub)
    assert core._failures == {}


def test_an_exception_names_the_line_of_the_learner():
    def answer():
        value = "2"
        return value - 1

    result = two(answer)
    assert "it raised TypeError" in result.failed
    assert result.failed.endswith("(line 3 of answer: `return value - 1`)")


def test_a_forgotten_return_is_named():
    def answer():
        2 + 0  # noqa: B018

    result = two(answer)
    assert result.failed == "answer returned None"
    assert "return" in result.cause


def test_a_return_of_nothing_in_one_case_is_no_forgotten_return():
    def answer(n=1):
        return n if n > 1 else None

    assert two(answer).failed == "it isn't two"


def test_a_stub_that_the_answer_calls_is_named():
    result = two(lambda: stub())
    assert result.failed == "it calls stub, which has no answer yet"


def test_the_function_of_the_solution_is_no_answer():
    def answer():
        return 2

    answer._cfxnb_solution = True
    assert "function of the solution" in two(answer).failed


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
