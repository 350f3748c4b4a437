"""Explanations of the same image with other seeds and a little noise."""

import numpy as np
import pytest
import torch
from simple_methods import idle, level, noisy, perfect, results

from cfxnb.metrics import stability

X = level(0.1, 0.2, 0.7, 0.9)
OTHER = torch.tensor([1, 1, 0, 0])


def test_a_method_without_noise_is_stable():
    for more in ({}, {"input_noise": 0.01}):
        table = stability(perfect, perfect(X, OTHER), **more)
        assert table["flips again"].tolist() == [1] * 4
        assert table["similarity"].to_numpy() == pytest.approx(1, abs=0.02)


def test_noise_lowers_the_similarity_and_no_change_has_none():
    noise = stability(noisy, noisy(X, OTHER))
    assert (noise["similarity"] < 0.999).all()
    assert stability(idle, idle(X, OTHER)).isna().all(axis=None)


def test_by_hand():
    """Changes at right angles, in two of three calls."""

    def method(images, target, seed):
        image = images.clone()
        columns = {0: [0, 1], 1: [0, 1], 2: [2, 3]}[seed]
        image[..., columns] = 1.0
        return results(images, image, target, f=dark)

    def dark(images):
        inked = (images > 0.9).float().mean((1, 2, 3))
        return torch.stack([0.4 - inked, inked - 0.4], 1)

    first = method(level(0.1), torch.tensor([1]), 0)
    table = stability(method, first, seeds=(1, 2))
    assert table["flips again"].tolist() == [1]
    assert table["similarity"].to_numpy() == pytest.approx(1 / 3)  # pairs: 1, 0, 0


def test_flips_that_are_lost_are_counted():
    def unsteady(images, target, seed):
        return perfect(images, target) if seed in (0, 2) else idle(images, target)

    table = stability(unsteady, perfect(X, OTHER), seeds=(1, 2, 3, 4))
    assert table["flips again"].tolist() == [0.25] * 4
    assert table["similarity"].to_numpy() == pytest.approx(1)


def test_the_recorded_seed_is_not_used_twice():
    seen = []

    def method(images, target, seed):
        seen.append(seed)
        return perfect(images, target)

    stability(method, results(X, 1 - X, OTHER, seed=7))
    assert seen == [8, 9]
    seen.clear()
    stability(method, results(X, 1 - X, OTHER, seed=7), input_noise=0.01)
    assert seen == [7, 7]


def test_an_image_that_noise_alone_makes_the_target_is_left_out():
    edge = level(0.4999)
    table = stability(perfect, perfect(edge, torch.tensor([1])), seeds=range(1, 9), input_noise=0.1)
    assert np.isnan(table["flips again"].iloc[0]) or table["flips again"].iloc[0] == 1


def test_wrong_arguments():
    cf = perfect(X, OTHER)
    for more, message in (
        ({"seeds": []}, "seeds: expected at least one"),
        ({"seeds": [-1]}, "seeds: expected"),
        ({"input_noise": -0.1}, "input_noise: expected"),
    ):
        with pytest.raises(ValueError, match=message):
            stability(perfect, cf, **more)
    with pytest.raises(TypeError, match="method: expected"):
        stability("perfect", cf)


def test_noise_of_an_image_depends_on_its_row_so_all_images_run_again():
    """Images that did not flip keep their rows, so that the others keep theirs."""
    seen = []

    def method(images, target, seed):
        seen.append(images.clone())
        return perfect(images, target)

    cf = perfect(X, torch.ones(4).long())  # two of four flip
    table = stability(method, cf)
    assert all(torch.equal(images, X) for images in seen)
    assert table["flips again"].isna().tolist() == [False, False, True, True]
