"""Widgets without a browser: what is displayed, and what a moved control does."""

import ipywidgets
import pytest
import torch

import cfxnb as cfx
from cfxnb.course import widgets


class Screen:
    """Stands for IPython's display: keeps what was shown."""

    def __init__(self, monkeypatch):
        self.shown = []
        monkeypatch.setattr(widgets, "display", self.shown.append)


@pytest.fixture
def screen(monkeypatch):
    return Screen(monkeypatch)


def picture(step):
    if step == 3:
        raise KeyError("no such step <3>")
    return cfx.gallery(torch.rand(1, 1, 4, 4), alt=f"step {step}")


def test_explore_draws_at_once_and_again_when_a_control_moves(screen):
    cfx.explore(picture, step=(1, 4))
    first, panel = screen.shown
    shown, slider = panel.children
    assert first.alt == "step 1"
    assert 'alt="step 1"' in shown.value
    slider.value = 2
    assert 'alt="step 2"' in shown.value


def test_the_still_picture_has_a_png_for_pages_without_a_kernel(screen):
    cfx.explore(picture, step=(1, 4))
    first, panel = screen.shown
    data, metadata = first._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == data["text/plain"] == "step 1"
    assert "run this cell again" in data["text/html"]
    assert "cfx-live" in panel._dom_classes  # the style sheet hides the still picture beside it


def test_explore_fails_at_once_and_tells_later_failures(screen):
    with pytest.raises(KeyError):
        cfx.explore(picture, step=(3, 4))
    cfx.explore(picture, step=(1, 4))
    shown, slider = screen.shown[-1].children
    slider.value = 3
    assert "KeyError" in shown.value
    assert "&lt;3&gt;" in shown.value


def test_a_guess_is_compared_with_the_answer(screen):
    compare = cfx.predict_then_run("Which?", ["this", "that"])
    (box,) = screen.shown
    radio = next(c for c in box.children if isinstance(c, ipywidgets.RadioButtons))
    assert "No guess" in compare("this")
    radio.value = "this"
    assert "as you guessed" in compare("this")
    assert "you guessed: this" in compare("that")
    with pytest.raises(ValueError, match="answer: expected one of"):
        compare("neither")
    told = compare("this", why="Because $p < 1$.")
    assert told._repr_markdown_().endswith("**Why?** Because $p < 1$.")


def test_progress_counts_steps(monkeypatch):
    bars = []
    monkeypatch.setattr(widgets, "tqdm", lambda **_: bars.append(Bar()) or bars[-1])

    class Bar:
        n = total = 0

        def update(self, by):
            self.n += by

        def set_postfix(self, **told):
            self.told = told

    report = cfx.progress()
    for number, left in ((1, 2), (2, 0)):
        active = torch.arange(3) < left
        assert not report(cfx.Step(number, 5, torch.arange(3), torch.zeros(3), active, active))
    assert (bars[0].n, bars[0].total, bars[0].told) == (2, 5, {"active": 0})
