"""CLD in closed form; what has no group is NaN and counted."""

import math

import numpy as np
import pytest
import torch

from cfxnb.metrics import minimality

# Class 0 at 0, 1, 2 and class 1 at 10, 11, 12: everything can be counted by hand.
REAL = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
CLASSES = torch.tensor([0, 0, 0, 1, 1, 1])


def cld(nearer, farther):
    return math.log(0.8 * math.exp(nearer) + 0.2 * math.exp(farther))


def one(x, changed, **more):
    pair = torch.tensor([[x]]), torch.tensor([[changed]])
    known = {"reference": REAL, "reference_labels": CLASSES}
    return minimality(*pair, 0, 1, **(known | more)).loc[0]


def test_by_hand():
    # From 0.5 to 11.2: of class 1, 10 and 11 are nearer; of class 0, none is farther.
    row = one(0.5, 11.2)
    assert row["target nearer"] == pytest.approx(2 / 3)
    assert row["source farther"] == 0
    assert row["CLD"] == pytest.approx(cld(2 / 3, 0))
    # From 1.9 to 3: of class 0, only 0 is farther than 1.1.
    assert one(1.9, 3.0)["source farther"] == pytest.approx(1 / 3)


def test_an_unchanged_image_and_the_optimum():
    assert one(0.5, 0.5)["CLD"] == pytest.approx(math.log(0.8 + 0.2 * math.e))
    assert one(0.5, 5.0)["CLD"] == 0


def test_the_image_is_left_out_of_its_own_class():
    ours = minimality(REAL, REAL + 0.5, CLASSES, 1 - CLASSES)
    # 2 others of its class, all farther than 0.5.
    assert ours["source farther"].tolist() == [1.0] * 6
    paper = minimality(REAL, REAL + 0.5, CLASSES, 1 - CLASSES, distance="l1", paper=True)
    assert paper["source farther"].to_numpy() == pytest.approx(2 / 3)


def test_units_do_not_matter_by_default():
    draw = torch.Generator().manual_seed(0)
    x, y, real = (torch.randn(8, 3, generator=draw) for _ in range(3))
    labels, scale = torch.arange(8) % 2, torch.tensor([1.0, 100.0, 1e-3])
    tables = [
        minimality(x * s, y * s, labels, 1 - labels, reference=real * s, reference_labels=labels)
        for s in (torch.ones(3), scale)
    ]
    np.testing.assert_allclose(*tables, atol=1e-12)
    wide = [torch.cat([t, torch.ones(8, 1)], 1) for t in (x, y, real)]
    constant = minimality(*wide[:2], labels, 1 - labels, reference=wide[2], reference_labels=labels)
    np.testing.assert_allclose(constant, tables[0], atol=1e-12)


def test_an_empty_group_is_nan():
    table = minimality(REAL, REAL + 1, CLASSES, torch.tensor([1, 1, 2, 0, 0, 2]))
    assert table["CLD"].isna().tolist() == [False, False, True, False, False, True]
    assert minimality(REAL[:1], REAL[:1], 0, 0).isna().all(axis=None)  # nobody else is there


def test_what_does_not_go_together_is_refused():
    for more, message in (
        ({"paper": True}, "paper: expected the distance 'l1' or 'kl'"),
        ({"paper": True, "distance": "l1", "reference": REAL}, "paper: expected"),
        ({"reference_labels": CLASSES}, "reference_labels: expected None"),
        ({"reference": REAL[:, :0], "reference_labels": CLASSES}, "reference: expected shape"),
        ({"distance": "kl"}, r"original: expected shape \(n, 2, d\)"),
    ):
        with pytest.raises(ValueError, match=message):
            minimality(REAL, REAL, CLASSES, 1 - CLASSES, **more)
