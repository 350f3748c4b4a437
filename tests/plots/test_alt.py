"""Without ``alt``, plots describe what they draw; with ``alt``, they say what the caller says."""

import pandas as pd
import pytest
import torch

import cfxnb as cfx


def test_a_gallery_names_rows_and_titles():
    images = torch.rand(5, 1, 4, 4)
    titles = ["a 3", "a 5", "", "", "seen\nas 8"]
    drawn = cfx.gallery(images, titles, n_columns=3, row_labels=["original", "changed"])
    assert drawn.alt == (
        "5 images in 2 rows of 3. row 1, original: a 3; a 5. row 2, changed: seen as 8."
    )
    assert cfx.gallery(images[:1]).alt == "1 image in a row."


def test_curves_say_ends_and_extremes():
    lines = {"up": [1.0, 2.0, 3.0], "bent": [0.0, 4.0, 1.0], "gap": [float("nan"), 2.0, 5.0]}
    alt = cfx.curves([0, 1, 2], lines, xlabel="step", ylabel="odds").alt
    assert alt.startswith(
        "odds over step. up: 1 at 0, 3 at 2; bent: 0 at 0, 1 at 2, highest 4 at 1"
    )
    assert alt.endswith("gap: 2 at 1, 5 at 2.")
    empty = cfx.curves([0], {"none": [float("nan")]}, xlabel="x", ylabel="y", tick_labels=["a"])
    assert empty.alt == "y over x. none: no values."


def test_bars_are_read_from_top_to_bottom():
    alt = cfx.bars(pd.Series({"hair": 1.0, "top": -2.5}), xlabel="effect").alt
    assert alt == "Bars, effect, from top to bottom: top -2.5, hair 1."


def test_a_map_counts_its_points():
    points = torch.tensor([[0.0, 0.0], [2.0, 4.0], [1.0, 1.0]])
    alt = cfx.code_map(points, torch.tensor([0, 0, 1]), ["a", "b", "c"]).alt
    assert alt == "Points in a plane, 3 in all. a: 2, mean (1, 2); b: 1, mean (1, 1)."


def test_a_description_of_ones_own_wins_and_is_not_empty():
    images = torch.rand(1, 1, 4, 4)
    assert cfx.gallery(images, alt="a five").alt == "a five"
    with pytest.raises(ValueError, match="alt: expected a sentence"):
        cfx.gallery(images, alt=" ")
