"""COUT on whatever images and linear classifiers."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import images, quick, weights
from worlds import LinearNet

import cfxnb as cfx

TARGET, SOURCE = torch.tensor([1, 2]), torch.tensor([0, 0])


@quick
@given(weights(), images(), images(), st.integers(1, 20))
def test_within_one(w, original, image, chunks):
    value = cfx.cout(cfx.wrap(LinearNet(w)), original, image, TARGET, SOURCE, n_chunks=chunks)
    assert value.abs().max() <= 1 + 1e-6


@quick
@given(weights(), images(), st.integers(1, 20))
def test_of_an_unchanged_image(w, original, chunks):
    """Nothing happens along the way: p(target) - p(source) of the original."""
    f = cfx.wrap(LinearNet(w))
    p = f(original).detach().softmax(1)
    expected = p[[0, 1], TARGET] - p[[0, 1], SOURCE]
    value = cfx.cout(f, original, original, TARGET, SOURCE, n_chunks=chunks)
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-5)


@quick
@given(weights(), images(), images())
def test_target_and_source_are_opposed(w, original, image):
    f = cfx.wrap(LinearNet(w))
    there = cfx.cout(f, original, image, TARGET, SOURCE)
    back = cfx.cout(f, original, image, SOURCE, TARGET)
    torch.testing.assert_close(there, -back, rtol=0, atol=1e-5)


@quick
@given(weights(), images(), images())
def test_source_defaults_to_the_prediction(w, original, image):
    f = cfx.wrap(LinearNet(w))
    source = f(original).argmax(1)
    given_one = cfx.cout(f, original, image, TARGET, source)
    torch.testing.assert_close(cfx.cout(f, original, image, TARGET), given_one)


@quick
@given(weights(), images(5), images(5), st.integers(1, 100))
def test_batch_changes_nothing(w, original, image, batch):
    f = cfx.wrap(LinearNet(w))
    whole = cfx.cout(f, original, image, 1, torch.zeros(5, dtype=torch.int64))
    parts = cfx.cout(f, original, image, 1, torch.zeros(5, dtype=torch.int64), batch_size=batch)
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-5)
