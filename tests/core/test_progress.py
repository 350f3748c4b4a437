"""Progress bars: where they are shown, how far they are, and what they leave behind."""

import io
import logging
import sys
import types

import pytest
import torch

import cfxnb as cfx
from cfxnb.core import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def free(monkeypatch):
    """Nothing is decided by the environment variable."""
    monkeypatch.delenv(progress.VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", None)
    return monkeypatch


def test_bars_are_shown_in_a_terminal_and_not_in_a_file(free):
    free.setattr(sys, "stderr", Terminal())
    assert progress.shown()
    free.setattr(sys, "stderr", io.StringIO())
    assert not progress.shown()
    free.setattr(sys, "stderr", None)  # a program without a console
    assert not progress.shown()


@pytest.mark.parametrize("person", [True, False])
def test_a_notebook_shows_bars_only_to_a_person(free, person):
    """Clients that execute notebooks forbid input, as nbclient and papermill do."""
    shell = types.SimpleNamespace(kernel=types.SimpleNamespace(_allow_stdin=person))
    free.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    free.setattr(sys, "stderr", Terminal())
    assert progress.shown() == person


def test_ipython_in_a_terminal_is_a_terminal(free):
    shell = types.SimpleNamespace()  # has no kernel
    free.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    free.setattr(sys, "stderr", Terminal())
    assert progress.shown()


@pytest.mark.parametrize(("value", "expected"), [("0", False), ("1", True), ("off", False)])
def test_the_variable_decides(free, value, expected):
    free.setenv(progress.VARIABLE, value)
    free.setattr(sys, "stderr", io.StringIO() if expected else Terminal())
    assert progress.shown() == expected


def test_another_value_of_the_variable_is_refused(free):
    free.setenv(progress.VARIABLE, "maybe")
    with pytest.raises(ValueError, match="CFXNB_PROGRESS: expected 0 or 1, got 'maybe'"):
        progress.shown()


@pytest.fixture
def screen(free, capsys):
    """Bars without a delay; returns a function that reads what was written."""
    free.setattr(progress, "DELAY", 0.0)
    free.setenv(progress.VARIABLE, "1")
    return lambda: capsys.readouterr().err


def test_a_bar_counts_images_and_never_moves_backwards(screen):
    with progress.Progress(10, "attack") as bar:
        places = []
        for size in (4, 6):
            bar.begin(size)
            for fraction in (0.5, 0.25, 2.0):  # a second attempt starts from the beginning
                bar.within(fraction)
                places.append(bar._bar.n)
            bar.end()
            places.append(bar._bar.n)
    assert places == [2, 2, 4, 4, 7, 7, 10, 10]
    assert "attack" in screen()


def test_a_method_fills_its_bar_and_removes_it(screen, linear, free):
    images = linear.sample(6)
    bars = []

    class Watched(progress.Progress):
        def __exit__(self, *error):
            bars.append(self._bar.n)
            super().__exit__(*error)

    free.setattr("cfxnb.core.driver.Progress", Watched)
    f = lambda x: torch.stack([x.mean((1, 2, 3)), -x.mean((1, 2, 3))], 1)  # noqa: E731
    cfx.latent_attack(linear, f, images, 1, steps=3, restarts=0, batch_size=4)
    assert bars == [6]
    written = screen()
    assert "latent_attack" in written
    assert written.rstrip(" ").endswith("\r")  # the line is empty again


def test_errors_close_the_bar(screen):
    with pytest.raises(ZeroDivisionError), progress.Progress(3, "fails"):
        1 / 0  # noqa: B018
    assert screen().rstrip(" ").endswith("\r")


def test_items_are_counted():
    assert list(progress.each(iter("abc"), "letters")) == ["a", "b", "c"]
    assert list(progress.each(range(0), "nothing")) == []


def test_a_call_is_logged_and_prints_nothing(linear, capsys, caplog):
    f = lambda x: torch.stack([x.mean((1, 2, 3)), -x.mean((1, 2, 3))], 1)  # noqa: E731
    with caplog.at_level(logging.INFO, "cfxnb"):
        cfx.latent_attack(linear, f, linear.sample(4), 1, steps=2, restarts=0)
    assert capsys.readouterr() == ("", "")
    assert "latent_attack: 4 images in" in caplog.text
