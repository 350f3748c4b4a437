"""Composition, reversibility and effectiveness of methods for which they are known."""

import pytest
import torch
from simple_methods import bright, idle, level, noisy, perfect

from cfxnb.metrics import composition, cycle_distances, effectiveness, reversibility

X = level(0.1, 0.2, 0.7, 0.9)
LABELS = torch.tensor([0, 0, 1, 1])


def test_composition_of_a_perfect_and_of_an_idle_method():
    for method in (perfect, idle):
        assert (composition(method, X, LABELS) == 0).all(axis=None)


def test_composition_of_noise_with_one_seed_adds_up():
    """Every null edit moves each pixel by 0.1 in the same sense, until it is 0 or 1."""
    table = composition(noisy, level(0.7, 0.7), torch.ones(2).long(), [1, 2, 10])
    assert table.columns.tolist() == [1, 2, 10]
    assert table[1].to_numpy() == pytest.approx(25.5, abs=1e-3)
    assert table[2].to_numpy() == pytest.approx(51, abs=1e-3)
    assert (table[10] > table[2]).all()


def test_cycles_of_edits_come_back_or_do_not():
    targets = torch.stack([1 - LABELS, LABELS])
    there_and_back = cycle_distances(perfect, X, targets, 2)
    assert there_and_back.shape == (5, 4)
    assert there_and_back[0].tolist() == [0] * 4
    away = 255 * (1 - 2 * X.mean((1, 2, 3))).abs().double()
    for row, wanted in enumerate([0 * away, away, 0 * away, away, 0 * away]):
        torch.testing.assert_close(there_and_back[row], wanted, rtol=0, atol=1e-4)
    assert not cycle_distances(idle, X, targets, 3).any()


def test_reversibility():
    table = reversibility(perfect, perfect(X, 1 - LABELS))
    assert table["flipped back"].tolist() == [1] * 4
    assert table["return"].to_numpy() == pytest.approx(0, abs=1e-4)
    assert table["ratio"].to_numpy() == pytest.approx(0, abs=1e-6)
    away = 255 * (1 - 2 * X.mean((1, 2, 3))).abs()
    assert table["one way"].to_numpy() == pytest.approx(away.numpy(), abs=1e-3)


def test_what_does_not_flip_has_no_way_back():
    assert reversibility(idle, idle(X, 1 - LABELS)).isna().all(axis=None)
    one_way = reversibility(idle, perfect(X, 1 - LABELS))
    assert one_way["flipped back"].tolist() == [0] * 4
    assert one_way[["one way", "return", "ratio"]].isna().all(axis=None)
    mixed = reversibility(perfect, perfect(X, torch.ones(4).long()))
    assert mixed["flipped back"].isna().tolist() == [False, False, True, True]
    assert reversibility(perfect, perfect(X, LABELS)[:0]).shape == (0, 4)


def test_effectiveness_of_classes_is_accuracy():
    seen = bright(perfect(X, torch.ones(4).long()).image).argmax(1)
    assert effectiveness(seen, torch.ones(4).long()).tolist() == [1] * 4
    assert effectiveness(seen == 1, torch.tensor([True, True, True, False])).mean() == 0.75


def test_effectiveness_of_numbers_is_the_error():
    error = effectiveness(torch.tensor([1.0, 2.0]), torch.tensor([1.5, -2.0]))
    assert error.tolist() == [0.5, 4.0]


def test_a_method_must_return_counterfactuals_of_the_images():
    with pytest.raises(TypeError, match="method: expected a function that returns"):
        composition(lambda x, t, seed: x, X, LABELS)
    with pytest.raises(ValueError, match=r"method: expected counterfactuals of shape \(4, "):
        composition(lambda x, t, seed: perfect(x[:2], t[:2]), X, LABELS)
    with pytest.raises(ValueError, match="cycles: expected at least one"):
        composition(perfect, X, LABELS, [])
    with pytest.raises(ValueError, match=r"targets: expected classes of shape \(m, 4\)"):
        cycle_distances(perfect, X, LABELS[None, :3])
