"""Functions that share arguments show the same descriptions, each of them whole."""

import inspect

import pytest

import cfxnb as cfx
from cfxnb.core.docstrings import arguments_of


def source(a, b=1, c=2):
    """Do something.

    Args:
        a: The first. It takes
            two lines.
        b, c: The others: both of them.

    Returns:
        A number.
    """


def test_the_descriptions_of_the_source_are_shown():
    @arguments_of(source, "source")
    def target(z, a, c):
        """Do something else.

        Args:
            z: Its own.
            a: As in ``source``.
            c: As in ``source``.

        Returns:
            Another number.
        """

    lines = ["Do something else.", "", "Args:", "    z: Its own.", "    a: The first. It takes"]
    lines += ["        two lines.", "    b, c: The others: both of them.", "", "Returns:"]
    assert inspect.getdoc(target) == "\n".join([*lines, "    Another number."])


SHARING = (cfx.lower_to, cfx.raise_by, cfx.lower_by, cfx.between, cfx.data.from_dataset)


@pytest.mark.parametrize("function", SHARING, ids=lambda f: f.__name__)
def test_each_argument_is_described(function):
    text = inspect.getdoc(function)
    described = [line.split(": ")[0].strip() for line in text.splitlines() if ": " in line]
    names = {name.strip() for each in described for name in each.split(",")}
    assert set(inspect.signature(function).parameters) <= names
    assert "As in" not in text
