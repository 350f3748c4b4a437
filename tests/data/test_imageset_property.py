"""Rows of an ImageSet belong together however they are chosen."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import quick

from cfxnb.data import ImageSet

N = 6


def numbered():
    """Image, label and factor of row i all say i."""
    i = torch.arange(N)
    return ImageSet(
        images=(i / 10).view(N, 1, 1, 1).expand(N, 1, 2, 2).clone(),
        labels=i % 3,
        class_names=("a", "b", "c"),
        factors=pd.DataFrame({"i": i.double().numpy()}),
    )


def rows_of(part):
    rows = part.factors["i"].astype(int).tolist()
    assert (part.images[:, 0, 0, 0] * 10).round().int().tolist() == rows
    assert part.labels.tolist() == [r % 3 for r in rows]
    assert len(part) == len(rows)
    return rows


@quick
@given(st.lists(st.integers(-N, N - 1), min_size=1, max_size=9))
def test_lists_arrays_and_tensors(rows):
    expected = [r % N for r in rows]
    for form in (rows, np.array(rows), torch.tensor(rows)):
        assert rows_of(numbered()[form]) == expected


@quick
@given(st.slices(N))
def test_slices(rows):
    assert rows_of(numbered()[rows]) == list(range(N))[rows]


@quick
@given(st.lists(st.booleans(), min_size=N, max_size=N))
def test_masks(mask):
    expected = [i for i, m in enumerate(mask) if m]
    for form in (mask, np.array(mask), torch.tensor(mask)):
        assert rows_of(numbered()[form]) == expected


@quick
@given(st.integers(-N, N - 1))
def test_single_rows(row):
    for form in (row, np.int64(row), torch.tensor(row)):
        assert rows_of(numbered()[form]) == [row % N]


def test_no_rows():
    assert rows_of(numbered()[[]]) == []


@pytest.mark.parametrize("row", [N, -N - 1])
def test_rows_that_do_not_exist(row):
    with pytest.raises(IndexError, match=f"row {row} of a set with {N}"):
        numbered()[row]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([0, N], f"row {N} of a set with {N}"),
        (torch.tensor([-N - 1]), f"row {-N - 1} of a set with {N}"),
        ([True] * (N - 1), f"expected a mask of as many, got {N - 1}"),
        (torch.ones(N, 1).nonzero(), rf"one dimension, got int64 of shape \({N}, 2\)"),
        ([0.0, 1.0], "whole numbers in one dimension, got float64"),
        ("ab", "whole numbers in one dimension, got <U2"),
        (None, "whole numbers in one dimension, got object"),
    ],
)
def test_what_is_no_choice_of_rows(rows, told):
    with pytest.raises(IndexError, match=told):
        numbered()[rows]


def test_classes():
    assert rows_of(numbered().select(1)) == [1, 4]
    assert rows_of(numbered().select(2, 0)) == [0, 2, 3, 5]
    for wrong in ((), (3,), (-1,)):
        with pytest.raises(ValueError, match="classes: expected labels from 0 to 2"):
            numbered().select(*wrong)
