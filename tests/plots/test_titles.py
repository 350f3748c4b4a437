"""Words above images: they say what is the case, and none runs into its neighbour."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
import torch

import cfxnb as cfx
from cfxnb.attribution.result import ATTRIBUTION_STATUSES, Attribution
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import STATUSES
from cfxnb.plots import attribution as plots_heat
from cfxnb.plots import charts as plots_charts
from cfxnb.plots import pictures as plots

NAMES = ("no pneumonia", "pneumonia")
IMAGES = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def cycled(values, count=8):
    return tuple(itertools.islice(itertools.cycle(values), count))


@pytest.fixture
def titles(monkeypatch):
    """Titles of the last picture, with the boxes that they fill."""
    figures, plain = [], plots.figure

    def watched(rows, columns, size):
        fig, axes = plain(rows, columns, size)
        figures.append(fig)
        return fig, axes

    for module in (plots, plots_heat):
        monkeypatch.setattr(module, "figure", watched)

    def last():
        figures[-1].draw_without_rendering()
        found = [axes.title for axes in figures[-1].axes if axes.get_title()]
        return [(t.get_text(), t.get_window_extent()) for t in found]

    return last


def collisions(titles):
    return [(a, b) for (a, x), (b, y) in itertools.combinations(titles, 2) if x.overlaps(y)]


class Judge:
    def __call__(self, images):
        return torch.tensor([[0.0, 4.0]]).expand(len(images), 2)


@pytest.mark.parametrize(
    ("count", "judge", "rebuilt"),
    [(3, Judge(), True), (3, None, False), (8, Judge(), True), (8, None, False)],
)
def test_decisions_do_not_collide(titles, count, judge, rebuilt):
    logits = torch.tensor([[9.0, 0.0], [0.0, 9.0]]).repeat(4, 1)
    cf = Counterfactuals(
        original=IMAGES,
        image=1 - IMAGES,
        reconstruction=0.9 * IMAGES if rebuilt else IMAGES,
        logits_before=logits,
        logits_after=-logits,
        target=(-logits).argmax(1),
        status=cycled(STATUSES[::-1]),
    )
    cfx.show(cf, max_images=count, judge=judge, class_names=NAMES)
    assert any("pneumonia" in text for text, _ in titles())
    assert collisions(titles()) == []


def test_what_is_seen_is_told_with_its_own_probability(titles):
    """Not with that of the target, which is another where the search failed."""
    cf = Counterfactuals(
        original=IMAGES[:1],
        image=IMAGES[:1],
        reconstruction=IMAGES[:1],
        logits_before=torch.tensor([[0.0, 4.0]]),
        logits_after=torch.tensor([[0.0, 2.0]]),  # 0.88 for class 1
        target=torch.tensor([0]),
        status=("not_found",),
    )
    cfx.show(cf)
    assert "counterfactual\nnot found\nseen as 1 (88%)" in [text for text, _ in titles()]


def maps(delta, change):
    count = len(delta)
    return Attribution(
        image=IMAGES[:count],
        baseline=1 - IMAGES[:count],
        attributions=IMAGES[:count] - 0.5,
        output_change=torch.tensor(change),
        relative_delta=torch.tensor(delta),
        n_points=torch.full((count,), 17),
        label=torch.arange(count) % 2,
        contrast_class=None,
        status=cycled(ATTRIBUTION_STATUSES, count),
    )


def test_relative_deltas_are_readable(titles):
    inf, nan = float("inf"), float("nan")
    delta = [0.004, -0.9, 75329.641, -75329.641, inf, nan, 9.99, 10.01]
    picture = cfx.heat_maps(
        maps(delta, [1e-6, -12.3, 1e-6, 1e-6, 0.0, 0.0, 5.0, 123456.0]),
        max_images=8,
        class_names=NAMES,
    )
    expected = ["delta +0.4%", "delta -90.0%", "delta > +1000%", "delta < -1000%"]
    expected += ["delta > +1000%", "delta unknown", "delta +999.0%", "delta > +1000%"]
    shown = [text.split("\n")[-1] for text, _ in titles() if "delta" in text]
    assert shown == expected
    assert re.findall(r", (delta [^)]*)\)", picture.alt) == expected
    assert "f +0" in [text for text, _ in titles()]
    assert "f -0" not in [text for text, _ in titles()]
    assert collisions(titles()) == []


def test_rows_have_names_and_titles_their_number():
    drawn = []
    plain = plots.figure

    def watched(*args):
        drawn.append(plain(*args)[0])
        return drawn[-1], np.array(drawn[-1].axes).reshape(args[0], args[1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "figure", watched)
        cfx.gallery(IMAGES, n_columns=4, row_labels=["original", "counterfactual"], alt="two rows")
    drawn[0].draw_without_rendering()
    words = [axes.yaxis.label for axes in drawn[0].axes if axes.get_ylabel()]
    assert [label.get_text() for label in words] == ["original", "counterfactual"]
    first = drawn[0].axes[0].get_window_extent()
    assert all(label.get_window_extent().x0 >= 0 for label in words)
    assert all(label.get_window_extent().x1 <= first.x0 for label in words)
    for wrong in ({"row_labels": ["one"]}, {"titles": ["a"] * 7}, {"titles": ["a"] * 9}):
        with pytest.raises(ValueError, match=rf"{next(iter(wrong))}: expected"):
            cfx.gallery(IMAGES, n_columns=4, alt="wrong", **wrong)


def test_bars_keep_their_order_on_request():
    """The first row on top, however long its bar."""
    drawn = []
    plain = plots_charts.figure

    def watched(*args):
        drawn.append(plain(*args))
        return drawn[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots_charts, "figure", watched)
        for sort in (True, False):
            cfx.bars(pd.Series({"a": 1.0, "b": -3.0, "c": 2.0}), sort=sort, alt="three bars")
    names = [[t.get_text() for t in axes[0, 0].get_yticklabels()] for _, axes in drawn]
    assert names == [["a", "c", "b"], ["c", "b", "a"]]
