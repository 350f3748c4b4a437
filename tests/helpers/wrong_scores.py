"""Wrong values for what works on edits and scores, in a world of bits."""

import re

import numpy as np
import pytest
import torch
from bits import ALL, PAIR, RULES, BitSpace, decide, edits, factors_of, images_of
from torch import nn

import cfxnb as cfx

SPACE, F, X, FACTORS = BitSpace(), decide(RULES["and"]), images_of(ALL), factors_of(ALL)
EDITS = {
    "None": (None, "NoneType"),
    "tensor": (torch.zeros(3), "Tensor"),
    "steps": (edits().step_model, "LinearSteps"),
    "of another space": (edits(dims=4), "(4,)"),
}
VALUES = {
    "unknown": ("maybe", "'maybe'"),
    "None": (None, "None"),
    "number": (1, "1"),
    "tensor": (torch.ones(1), "1.0"),
    "too many": (["yes", "no"], "'yes'"),
}
CONTEXTS = {
    "short": ([True] * 7, "(7,)"),
    "matrix": (np.ones((8, 1), bool), "(8, 1)"),
    "one for all": (True, "()"),
    "numbers": (np.ones(8), "float64"),
    "whole numbers": (torch.ones(8, dtype=torch.int64), "int64"),
    "positions": ([0, 1], "int64"),
    "column": ("A", "<U1"),
    "names": (FACTORS["A"], "got"),
    "nobody": ([False] * 8, "none"),
}
PAIRS = {
    "text": ("A", "str"),
    "list": (["A"], "list"),
    "empty": ({}, "none"),
    "unknown": ({"D": PAIR}, "'D'"),
    "number": ({0: PAIR}, "0"),
    "equal": ({"A": ("yes", "yes")}, "'yes'"),
    "one": ({"A": "yes"}, "'yes'"),
    "three": ({"A": ("yes", "no", "maybe")}, "'maybe'"),
    "not there": ({"A": ("yes", "maybe")}, "'maybe'"),
    "NaN": ({"A": ("yes", float("nan"))}, "nan"),
}
READERS = {
    "None of these": (cfx.FactorReader(nn.Flatten(), {"hair": PAIR}), "hair"),
    "other options": (cfx.FactorReader(nn.Flatten(), {"A": ("no", "maybe")}), "A"),
    "classifier": (F, "Wrapped"),
    "net": (nn.Flatten(), "Flatten"),
    "text": ("sprites/judge", "str"),
}


def without(values, *kinds):
    return {k: v for k, v in values.items() if k not in kinds}


def rows(table):
    """One parameter a wrong value: (function, arguments, the wrong one, what must be told)."""
    return [
        pytest.param(
            function, good | {name: value}, name, told, id=f"{function.__name__}-{name}-{kind}"
        )
        for function, (good, wrong) in table.items()
        for name, kinds in wrong.items()
        for kind, (value, told) in kinds.items()
    ]


def check_message(function, arguments, argument, told):
    # Values out of the table of factors are told by the contrasts that are made of them.
    named = rf"\b({argument}|contrasts)\b" if argument == "factors" else rf"\b{argument}\b"
    with pytest.raises((ValueError, TypeError)) as caught:
        function(**arguments)
    message = str(caught.value)
    assert re.search(named, message.split(": expected")[0]), message
    assert ": expected" in message, message
    assert told in message, message
    assert len(message) < 500
