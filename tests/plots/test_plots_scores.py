"""Pictures of scores: what is drawn is what was found, and the text says it."""

import math

import numpy as np
import pytest
import torch
from bits import (
    ALL,
    NAMES,
    PAIR,
    RULES,
    BitSpace,
    Pixels,
    decide,
    edits,
    factors_of,
    images_of,
    judge,
    scores,
)
from torch import nn

import cfxnb as cfx
from cfxnb.plots import scores as plots_scores


@pytest.fixture
def drawn(monkeypatch):
    """The matplotlib figures that were drawn."""
    figures, plain = [], plots_scores.figure

    def watch(*size):
        fig, axes = plain(*size)
        figures.append(fig)
        return fig, axes

    monkeypatch.setattr(plots_scores, "figure", watch)
    return figures


def texts(axes):
    return [t.get_text() for t in axes.texts]


def test_bars_are_the_scores_strongest_first(drawn):
    found = scores(lambda b: b[:, 1] & (b[:, 0] | b[:, 2]))
    picture = cfx.score_bars(found, title="B, and one of the others")
    (axes,) = drawn[0].axes
    order = list(found.ranking)
    assert order[0] == "B"
    necessity, sufficiency = axes.containers[1], axes.containers[3]
    for bars, kind in ((necessity, "necessity"), (sufficiency, "sufficiency")):
        assert [bar.get_width() for bar in bars] == found.table.loc[order, kind].tolist()
        assert bars.get_label() == kind
    ends = axes.containers[0].lines[2][0].get_segments()  # of the errors of necessity
    for (left, right), name in zip(ends, order, strict=True):
        low, high = found.table.loc[name, ["necessity low", "necessity high"]]
        assert (left[0], right[0]) == pytest.approx((low, high))
    assert next(t.get_text() for t in axes.get_yticklabels()) == "B: yes, not no"
    assert axes.get_title() == "B, and one of the others"
    assert axes.yaxis_inverted(), "the first is on top"
    summary = f"B {found.necessity['B']:.2f} and {found.sufficiency['B']:.2f}"
    assert f"highest PNS first: {summary}" in picture.alt
    assert picture.png.startswith(b"\x89PNG")


def test_the_truth_is_drawn_for_the_contrast_that_was_scored(drawn):
    """Truth that favours the other value is counted anew, as for the table of errors."""
    bits = torch.cat([ALL, ALL[:3]])
    found, truth = scores("or", bits), scores(lambda b: ~b[:, 0] | b[:, 1], bits)
    assert found.contrasts["A"] == truth.contrasts["A"][::-1]
    cfx.score_bars(found, truth=truth)
    markers = [line for line in drawn[0].axes[0].lines if line.get_marker() == "D"]
    rows = cfx.metrics.score_errors(found, truth)["truth"]
    for line, kind in zip(markers, ("necessity", "sufficiency"), strict=True):
        for x, name in zip(line.get_xdata(), found.ranking, strict=True):
            if (kind, name) in rows.index:
                assert x == rows[kind, name]
    place = list(found.ranking).index("A")
    # With A=1 nobody who has o loses it by A=0, and with A=0 nobody lacks it.
    shown = [m.get_xdata()[place] for m in markers]
    assert shown == pytest.approx([0, math.nan], nan_ok=True)
    assert truth.sufficiency["A"] > 0


def test_scores_without_anybody_to_ask_are_drawn(drawn):
    nobody = scores("and", context=np.array(ALL[:, 0] == 0))
    assert math.isnan(nobody.necessity["A"])
    cfx.score_bars(nobody, truth=nobody)
    asked = texts(drawn[0].axes[0])
    empty = nobody.table[["necessity", "sufficiency"]].isna().to_numpy().sum()
    assert asked == ["no images"] * empty
    alone = scores("and", ALL[:1])
    assert "nan" in cfx.score_bars(alone).alt
    assert "nan" in repr(alone)
    assert "n 0" in alone._repr_html_()


class Drag(nn.Module):
    """Editing A sets C as well; B and C are edited exactly."""

    def forward(self, u, target):
        step = torch.where(target == 0, 0.0, target - u)
        step[:, 2] = torch.where(target[:, 0] != 0, target[:, 0] - u[:, 2], step[:, 2])
        return step


def test_a_map_shows_each_share_of_leakage(drawn):
    leaking = scores("B", edits=edits(Drag()), judge=judge())
    picture = cfx.leakage_map({"careless": leaking, "exact": scores("B", judge=judge())})
    left, right = drawn[0].axes
    assert texts(left) == ["–", "0", "50", "0", "–", "0", "0", "0", "–"]
    assert texts(right) == ["–", "0", "0", "0", "–", "0", "0", "0", "–"]
    assert [t.get_text() for t in left.get_yticklabels()] == list(NAMES)
    assert left.get_title().startswith("careless")
    assert "careless at worst 50 %; exact at worst 0 %" in picture.alt


def test_a_map_of_a_single_factor_has_nothing_to_leak_into():
    """And a factor that no image had leaves a row of gaps."""
    one = scores("B", edits=edits(names=("A",)), judge=judge(("A",)))
    assert one.leakage.isna().all(axis=None)
    assert "at worst 0 %" in cfx.leakage_map({"one": one}).alt
    factors = factors_of(ALL).assign(C="unknown")
    found = cfx.contrastive_scores(
        BitSpace(), decide(RULES["B"]), images_of(ALL), factors, edits=edits(), judge=judge()
    )
    assert found.leakage.loc["C"].isna().all()
    assert math.isnan(found.table.loc["C", "took effect"])
    cfx.leakage_map({"gaps": found})
    cfx.score_bars(found)


def strip(row, rule="and", **kwargs):
    bits = ALL[row : row + 1]
    kwargs = {"factors": factors_of(bits), **kwargs}
    f = kwargs.pop("classifier", None) or decide(RULES[rule])
    return cfx.edit_strip(BitSpace(), f, edits(), images_of(bits), **kwargs)


def test_a_strip_tells_which_edits_flip(drawn):
    picture = strip(6, class_names=("out", "in"))  # A=1, B=1, C=0
    titles = [axes.get_title() for axes in drawn[0].axes]
    assert titles == ["original", "reconstruction", "A: no", "B: no", "C: yes"]
    labels = [axes.get_xlabel() for axes in drawn[0].axes]
    assert labels == ["→ in", "→ in", "→ out (flips)", "→ out (flips)", "→ in"]
    assert "classified as in" in picture.alt
    assert "flips for: A: no, B: no." in picture.alt
    images = [axes.images[0].get_array()[0] for axes in drawn[0].axes]
    np.testing.assert_allclose(images[2], [0.4, 0.6, 0.4], atol=1e-6)
    np.testing.assert_allclose(images[4], [0.6, 0.6, 0.6], atol=1e-6)


def test_a_strip_of_nothing_that_flips():
    assert "flips for: none of them." in strip(0).alt
    assert "classified as 0" in strip(0).alt
    assert "classified as 1" in strip(6).alt


def test_a_strip_leaves_out_what_has_neither_value(drawn):
    factors = factors_of(ALL[6:7]).assign(A="unknown")
    picture = strip(6, factors=factors)
    assert len(drawn[0].axes) == 4
    assert "flips for: B: no." in picture.alt


def one_edit(row, name, value, rule="and"):
    return cfx.edit_picture(
        BitSpace(), decide(RULES[rule]), edits(), images_of(ALL[row : row + 1]), name, value,
        class_names=("out", "in"),
    )  # fmt: skip


def test_an_edit_tells_what_it_shows(drawn):
    picture = one_edit(6, "A", "no")
    verdict = "the old A was necessary for in; no suffices for out"
    assert picture.alt.endswith(f"setting A to no: {verdict}.")
    assert drawn[0].get_suptitle() == verdict
    before, after, difference = drawn[0].axes
    chance = torch.tensor([-1.0, 1.0]).sigmoid()
    # A single logit of 1 or -1 is as sure of one class as of the other.
    assert before.get_xlabel() == f"→ in ({chance[1]:.2f})"
    assert after.get_xlabel() == f"→ out ({chance[1]:.2f})"
    np.testing.assert_allclose(difference.images[0].get_array()[0], [0.2, 0, 0], atol=1e-6)


@pytest.mark.filterwarnings("ignore:classifier. its outputs look like probabilities")
def test_an_edit_that_leaves_the_decision():
    assert "C = yes does not change the class" in one_edit(6, "C", "yes").alt
    assert "A = yes does not change the class" in one_edit(6, "A", "yes").alt


def test_pictures_leave_no_trace_and_ask_black_boxes():
    module = nn.Sequential(Pixels(2), nn.Dropout(0.5)).train()
    space = BitSpace().train()
    box = cfx.BlackBox(cfx.wrap(module))
    random = torch.get_rng_state()
    shown = [strip(6, classifier=box).alt for _ in range(4)]
    cfx.edit_picture(space, box, edits(), images_of(ALL[:1]), "A", PAIR[1])
    assert len(set(shown)) == 1
    assert box.n_queries == 4 * 5 + 2
    assert module.training
    assert module[1].training
    assert space.training
    assert torch.equal(torch.get_rng_state(), random)
