import nbformat
import pytest
from books import FOLDER, SOURCES

from cfxnb.course import build


@pytest.fixture(scope="session", params=sorted(SOURCES))
def name(request):
    return request.param


@pytest.fixture(scope="session")
def book(name):
    """The solution notebook as its source says, not executed."""
    return build.read_source(SOURCES[name])


@pytest.fixture(scope="session")
def solution(name):
    return nbformat.read(FOLDER / "solutions" / f"{name}.ipynb", as_version=4)


@pytest.fixture(scope="session")
def learner(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
