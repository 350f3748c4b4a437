"""Wrong arguments of the scores from tables: each message names what, and says what came."""

import re

import numpy as np
import pandas as pd
import pytest
from wrong import NAN, number_values

from cfxnb.contrastive.observed_scores import adjusted_effect, observed_scores, score_bounds
from cfxnb.core.intervals import wilson_interval

GOOD = pd.DataFrame({"C": [0, 0, 1, 1] * 2, "X": [0, 1] * 4, "Y": [0, 1, 2, 0] * 2})
GOOD["O"] = [0, 1, 1, 1, 0, 0, 0, 1]
OBSERVED = (observed_scores, {})
BOUNDED = (score_bounds, {"do_value": 0.7, "do_baseline": 0.3})
EFFECT = (adjusted_effect, {})


def other_column(**columns):
    return GOOD.assign(**columns)


TABLES = {
    "None": (None, "table", "NoneType"),
    "dict": ({"X": [0, 1]}, "table", "dict"),
    "array": (GOOD.to_numpy(), "table", "ndarray"),
    "series": (GOOD.X, "table", "Series"),
    "twice a name": (pd.concat([GOOD, GOOD[["X"]]], axis=1), "table", "'X', 'Y', 'O', 'X'"),
    "no cause": (GOOD.drop(columns="X"), "cause", "'X'"),
    "no outcome": (GOOD.drop(columns="O"), "outcome", "'O'"),
    "NaN in cause": (other_column(X=[NAN, *GOOD.X[1:]]), "cause", "NaN in 'X'"),
    "NaN in outcome": (other_column(O=[NAN, *GOOD.O[1:]]), "outcome", "NaN in 'O'"),
    "None in cause": (other_column(X=[None, *GOOD.X[1:]]), "cause", "NaN in 'X'"),
    "three outcomes": (other_column(O=GOOD.Y), "outcome", "2"),
    "probabilities": (other_column(O=GOOD.O * 0.8), "outcome", "0.8"),
    "texts": (other_column(O=GOOD.O.astype(str)), "outcome", "'0'"),
    "lists": (other_column(X=[[0]] * 8), "cause", "list"),
}
ARGUMENTS = {
    "cause": {"unknown": ("Z", "'Z'"), "None": (None, "None"), "number": (1, "1")},
    "outcome": {
        "unknown": ("Z", "'Z'"),
        "None": (None, "None"),
        "the cause": ("X", "'X'"),
        "not binary": ("Y", "2"),
    },
}
CONTEXTS = {
    "unknown column": ({"Z": 1}, "'Z'"),
    "absent value": ({"C": 7}, "7"),
    "several values": ({"C": [0, 1]}, "list"),
    "by the cause": ({"X": 1}, "'X'"),
    "by the outcome": ({"O": 1}, "'O'"),
    "text": ("C", "str"),
    "numbers": ([1, 0] * 4, "list"),
    "one for all": (True, "()"),
    "short": ([True] * 7, "(7,)"),
    "matrix": (np.ones((8, 1), dtype=bool), "(8, 1)"),
    "another index": ((GOOD.C == 1)[::-1], "another index"),
}
ADJUSTED = {
    "text": ("C", "str"),
    "None": (None, "NoneType"),
    "unknown": (["Z"], "'Z'"),
    "cause": (["C", "X"], "'X'"),
    "outcome": (["O"], "'O'"),
}
PAIRS = {
    "unknown value": ({"value": 2}, "value", "2"),
    "unknown baseline": ({"baseline": "no"}, "baseline", "'no'"),
    "list": ({"value": [1]}, "value", "list"),
    "equal": ({"value": 1, "baseline": 1}, "baseline", "1"),
    "three values": ({"cause": "Y"}, "value and baseline", "3"),
    "three values, one given": ({"cause": "Y", "value": 1}, "baseline", "3"),
    "one value": ({"table": GOOD.assign(X=1)}, "value and baseline", "1"),
    "no rows": ({"table": GOOD[:0]}, "value and baseline", "0"),
}


def told(function, arguments, name, came):
    good = {"table": GOOD, "cause": "X", "outcome": "O"}
    with pytest.raises((ValueError, TypeError)) as caught:
        function(**good | arguments)
    message = str(caught.value)
    assert re.match(rf"{re.escape(name)}(\[.*\])?: expected ", message), message
    assert came in message.split(": expected ", 1)[1], message
    assert "got" in message, message


each = pytest.mark.parametrize(("function", "more"), [OBSERVED, BOUNDED, EFFECT])
each_of_two = pytest.mark.parametrize(("function", "more"), [OBSERVED, BOUNDED])


@each
@pytest.mark.parametrize("table", TABLES)
def test_tables(function, more, table):
    value, name, came = TABLES[table]
    told(function, more | {"table": value}, name, came)


@each
@pytest.mark.parametrize(("name", "case"), [(n, c) for n in ARGUMENTS for c in ARGUMENTS[n]])
def test_columns(function, more, name, case):
    value, came = ARGUMENTS[name][case]
    told(function, more | {name: value}, name, came)


@each
@pytest.mark.parametrize("case", CONTEXTS)
def test_contexts(function, more, case):
    value, came = CONTEXTS[case]
    told(function, more | {"context": value}, "context", came)


def test_a_context_with_nan():
    told(
        observed_scores, {"table": GOOD.assign(C=NAN), "context": {"C": 1}}, "context", "NaN in 'C'"
    )


@pytest.mark.parametrize("function", [observed_scores, adjusted_effect])
@pytest.mark.parametrize("case", ADJUSTED)
def test_columns_adjusted_for(function, case):
    value, came = ADJUSTED[case]
    told(function, {"adjust": value}, "adjust", came)


def test_nan_among_columns_adjusted_for():
    told(observed_scores, {"table": GOOD.assign(C=NAN), "adjust": ["C"]}, "adjust", "NaN in 'C'")


@each_of_two
@pytest.mark.parametrize("case", PAIRS)
def test_values(function, more, case):
    arguments, name, came = PAIRS[case]
    told(function, more | arguments, name, came)


@pytest.mark.parametrize("name", ["do_value", "do_baseline"])
@pytest.mark.parametrize("case", number_values(1.1, -0.1))
def test_probabilities(name, case):
    value, came = number_values(1.1, -0.1)[case]
    told(score_bounds, {"do_value": 0.5, "do_baseline": 0.5} | {name: value}, name, came)


COUNTS = {
    "None": (None, "NoneType"),
    "text": ("5", "str"),
    "bool": (True, "bool"),
    "ragged": ([[1], [1, 2]], "list"),
    "fraction": (0.5, "0.5"),
    "negative": ([1, -1], "-1"),
    "NaN": (NAN, "nan"),
}


@pytest.mark.parametrize("name", ["successes", "n"])
@pytest.mark.parametrize("case", COUNTS)
def test_wilson_counts(name, case):
    value, came = COUNTS[case]
    with pytest.raises((ValueError, TypeError)) as caught:
        wilson_interval(**{"successes": 0, "n": 10, name: value})
    assert str(caught.value).startswith(f"{name}: expected whole numbers")
    assert came in str(caught.value)


@pytest.mark.parametrize("case", number_values(0.0, 1.0, 1.5, -0.1))
def test_wilson_confidence(case):
    value, came = number_values(0.0, 1.0, 1.5, -0.1)[case]
    with pytest.raises(
        (ValueError, TypeError), match=r"^confidence_level: expected a number"
    ) as caught:
        wilson_interval(1, 2, value)
    assert came in str(caught.value)


def test_wilson_together():
    with pytest.raises(ValueError, match="successes: expected at most n, got 3 of 2"):
        wilson_interval([1, 3], 2)
    with pytest.raises(ValueError, match=r"successes, n: expected shapes.*\(2,\) and \(3,\)"):
        wilson_interval([1, 1], [2, 2, 2])
