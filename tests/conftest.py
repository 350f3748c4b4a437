"""Fixtures that several folders of tests share."""

import os

import pytest
import torch
from worlds import WORLDS, LinearSpace

import cfxnb as cfx

os.environ["CFXNB_PROGRESS"] = "0"  # no bars between the lines of pytest -s


@pytest.fixture(params=list(WORLDS))
def world(request):
    """(space, classifier, images): every kind of space with every kind of classifier."""
    return WORLDS[request.param]()


@pytest.fixture
def linear():
    return LinearSpace()


@pytest.fixture(scope="session")
def test_digits():
    return cfx.data.digits("test")


@pytest.fixture(scope="session")
def test_faces():
    return cfx.data.faces("test")


@pytest.fixture(autouse=True)
def same_random_numbers():
    """No test may depend on the order in which tests run."""
    torch.manual_seed(0)
