"""A cell that is run too early says which cell to run first."""

import json
import types

import pytest

from cfxnb.course import out_of_order


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    monkeypatch.setenv("CFXNB_HOME", str(tmp_path))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    folder = tmp_path / "notebooks"
    folder.mkdir()
    cells = [
        ("markdown", "# Title\n\n## Load the data"),
        ("code", "# a comment\nimages = load()"),
        ("markdown", "## Search"),
        ("code", "found = search(images)"),
        ("code", "later = 1"),
    ]
    book = {"cells": [{"cell_type": kind, "source": [text]} for kind, text in cells]}
    (folder / "01_test.ipynb").write_text(json.dumps(book))
    (folder / "02_broken.ipynb").write_text("{")


def test_it_names_the_cell_that_defines_the_name(notebooks):
    advice = out_of_order.cell_to_run("images", "found = search(images)")
    assert "stands under 'Load the data'" in advice
    assert "images = load()" in advice


def test_it_is_silent_where_it_does_not_know(notebooks):
    assert out_of_order.cell_to_run("nowhere", "found = search(images)") == ""
    assert out_of_order.cell_to_run("later", "found = search(images)") == ""  # comes after
    assert out_of_order.cell_to_run("images", "a cell of another notebook") == ""


def test_a_cell_that_the_learner_changed_belongs_to_the_open_notebook(notebooks, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "/course/01_test.ipynb")
    assert "Load the data" in out_of_order.cell_to_run("images", "mine = images * 2")


def test_the_kernel_shows_traceback_and_advice(notebooks, capsys):
    shown = []
    shell = types.SimpleNamespace(
        showtraceback=lambda what, tb_offset: shown.append(what),
        user_ns={"In": ["", "found = search(images)"]},
    )
    error = NameError("name 'images' is not defined")
    out_of_order._show(shell, NameError, error, None)
    assert shown
    assert "Run that cell first" in capsys.readouterr().out
