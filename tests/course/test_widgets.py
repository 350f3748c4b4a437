"""Widgets without a browser: what is displayed, and what a moved control does."""

import ipywidgets
import pytest
import torch

import cfxnb as cfx
from cfxnb.course import widgets


class Handle:
    """Stands for IPython's display: keeps what was shown, and what it was updated to."""

    def __init__(self, monkeypatch):
        self.shown, self.updates = [], []
        monkeypatch.setattr(widgets, "display", self.display)

    def display(self, thing, display_id=None):
        self.shown.append(thing)
        return self

    def update(self, thing):
        self.updates.append(thing)


@pytest.fixture
def screen(monkeypatch):
    return Handle(monkeypatch)


def picture(step):
    if step == 3:
        raise KeyError("no such step <3>")
    return cfx.gallery(torch.rand(1, 1, 4, 4), alt=f"step {step}")


def test_explore_draws_at_once_and_again_when_a_control_moves(screen):
    cfx.explore(picture, step=(1, 4))
    first, box = screen.shown
    assert first.alt == "step 1"
    assert screen.updates == []
    box.children[0].value = 2
    assert [p.alt for p in screen.updates] == ["step 2"]


def test_explore_fails_at_once_and_tells_later_failures(screen):
    with pytest.raises(KeyError):
        cfx.explore(picture, step=(3, 4))
    cfx.explore(picture, step=(1, 4))
    screen.shown[-1].children[0].value = 3
    assert "KeyError" in screen.updates[-1].data
    assert "&lt;3&gt;" in screen.updates[-1].data


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
