"""Flips on other classifiers, and the gain of a repair, where both can be counted."""

from functools import partial

import pytest
import torch
from simple_methods import bright, idle, level, perfect

import cfxnb as cfx
from cfxnb.metrics import accuracy_gain, transfer

X = level(0.1, 0.2, 0.7, 0.9)
OTHERS = [partial(bright, threshold=t) for t in (0.5, 0.6, 0.85)]


def test_fraction_of_classifiers_that_see_it_too():
    cf = perfect(X, torch.tensor([1, 1, 0, 0]))
    # 0.9 and 0.8 are class 1 for thresholds below; 0.3 and 0.1 are class 0 for all. The image 0.7
    # is class 0 for the third classifier already, which is left out for this image.
    assert transfer(cf, OTHERS).tolist() == pytest.approx([1, 2 / 3, 1, 1])


def test_what_did_not_flip_or_was_the_target_already_is_nan():
    assert transfer(idle(X, torch.ones(4).long()), OTHERS).isnan().all()
    mixed = transfer(perfect(X, torch.ones(4).long()), OTHERS)
    assert mixed.isnan().tolist() == [False, False, True, True]
    dim = [partial(bright, threshold=0.05)]  # for it all images are class 1
    assert transfer(perfect(X[:2], torch.ones(2).long()), dim).isnan().all()


def test_an_adversarial_flip_does_not_transfer():
    """A flip that only one classifier sees."""
    cf = perfect(level(0.49), torch.ones(1).long())
    assert transfer(cf, OTHERS[1:]).tolist() == [0]


def test_wrong_classifiers():
    cf = perfect(X, torch.ones(4).long())
    with pytest.raises(TypeError, match="classifiers: expected a list"):
        transfer(cf, bright)
    with pytest.raises(ValueError, match="classifiers: expected at least one"):
        transfer(cf, [])
    with pytest.raises(ValueError, match=r"classifiers\[0\]: expected the 2 classes"):
        transfer(cf, [lambda x: torch.zeros(len(x), 3)])


def test_gain_of_a_repair():
    labels = torch.tensor([0, 1, 1, 0])
    other = partial(bright, threshold=0.15)
    gain = accuracy_gain(bright, other, X, labels)
    assert gain.tolist() == [0, 1, 0, 0]
    assert accuracy_gain(other, bright, X, labels).tolist() == [0, -1, 0, 0]
    assert not accuracy_gain(bright, bright, X, labels).any()


@pytest.mark.parametrize("name", ["digits/classifier", "sprites/honest", "sprites/shortcut"])
def test_five_retrained_classifiers_are_shipped(name):
    nets = cfx.load_retrained(name, "cpu")
    assert len(nets) == 5
    first = cfx.load(name, "cpu")
    states = [net.module.state_dict() for net in (first, *nets)]
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert any((state[k] - states[0][k]).abs().max() > 0.1 for k in state)
    assert all(net.class_names == first.class_names for net in nets)
    for seed in range(1, 6):
        card = cfx.weights.read_card(f"{name}_retrained_{seed}")
        assert card["seed"] == seed
        assert min(card["quality"].values()) > 0.99


def test_names_of_retrained_classifiers():
    with pytest.raises(ValueError, match=r"name: expected one of \['digits/classifier'"):
        cfx.load_retrained("digits/vae")
