"""Learners' functions in later cells, and the modules with the solutions."""

import importlib
import pkgutil
import sys
import types

import nbformat
import pytest

import cfxnb as cfx
import cfxnb.solutions
from cfxnb.checks import core
from cfxnb.course import pieces, solutions

CHAPTERS = [module.name for module in pkgutil.iter_modules(cfxnb.solutions.__path__)]


@core.exercise("Double")
def double(answer):
    core.expect(answer(2) == 4, "it isn't doubled", cause="another factor", hint="2 * x")


@pytest.fixture
def notes(monkeypatch):
    """A chapter nb99 with one exercise; what ``piece`` displays."""
    monkeypatch.delenv("CFXNB_STRICT", raising=False)
    solved = types.SimpleNamespace(double=lambda x: x + x)
    monkeypatch.setitem(sys.modules, "cfxnb.checks.nb99", types.SimpleNamespace(double=double))
    monkeypatch.setitem(sys.modules, "cfxnb.solutions.nb99", solved)
    shown = []
    monkeypatch.setattr(pieces, "display", shown.append)
    return shown


def test_a_finished_function_is_used_as_it_is(notes):
    def own(x):
        return 2 * x

    assert cfx.course.piece("nb99.double", own) is own
    assert notes == []


def test_the_solution_stands_in_for_an_unfinished_function_and_says_so(notes):
    def own(x):
        return 3 * x

    used = cfx.course.piece("nb99.double", own)
    assert used(5) == 10
    assert "Your double is not finished yet" in repr(notes[0])
    assert "function of the solution" in double(used).failed  # it does not pass as an answer


def test_a_solution_must_not_need_to_stand_in(notes, monkeypatch):
    monkeypatch.setenv("CFXNB_STRICT", "1")
    with pytest.raises(AssertionError, match=r"nb99\.double"):
        cfx.course.piece("nb99.double", lambda x: 3 * x)


@pytest.mark.parametrize("name", ["double", "nb99.triple", "nb98.double", ""])
def test_an_unknown_exercise_is_refused(notes, name):
    with pytest.raises(ValueError, match="name: expected chapter and exercise"):
        cfx.course.piece(name, lambda x: x)


def test_what_is_no_function_is_refused(notes):
    with pytest.raises(TypeError, match="own"):
        cfx.course.piece("nb99.double", 4)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_stored_solution_passes_its_check(chapter):
    module = importlib.import_module(f"cfxnb.solutions.{chapter}")
    checks = importlib.import_module(f"cfxnb.checks.{chapter}")
    own = {n: f for n, f in vars(module).items() if getattr(f, "__module__", "") == module.__name__}
    tested = [name for name in own if hasattr(checks, name)]
    assert tested
    for name in tested:
        assert core.passes(getattr(checks, name), own[name]), name


def test_a_module_of_solutions_holds_what_the_pieces_need():
    def cell(source, *tags):
        return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})

    half = (
        "def half(x):\n    ### BEGIN SOLUTION\n    return math.floor(x / 2)\n    ### END SOLUTION"
    )
    quarter = (
        "def quarter(x):\n    ### BEGIN SOLUTION\n    return half(half(x))\n    ### END SOLUTION"
    )
    other = "def other(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION"
    cells = [cell("import math\nimport random"), *(cell(c, "exercise") for c in (half, other))]
    cells += [
        cell(quarter, "exercise"),
        cell('quarter = cfx.course.piece("nb99.quarter", quarter)'),
    ]
    book = nbformat.v4.new_notebook(cells=cells)
    made = solutions.solution_module(book, "99_test")
    scope = {}
    exec(made, scope)
    assert scope["quarter"](9) == 2
    assert "import math" in made
    assert "random" not in made
    assert "other" not in made
    assert "SOLUTION" not in made
    book.cells.append(cell('cfx.course.piece("nb99.third", third)'))
    with pytest.raises(ValueError, match="'third', which no exercise defines"):
        solutions.solution_module(book, "99_test")
