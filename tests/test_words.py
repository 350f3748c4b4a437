"""One thing has one name: what was renamed does not come back."""

import dataclasses

import pytest
from surface import everything

#: Old names that have another name everywhere. Those that are right in some places are not here.
RETIRED = {
    "batch", "halvings", "looks", "reach", "folder", "repeats", "against", "instead", "penalty",
    "chunks", "knobs", "jitter", "degrees", "guide", "pull", "stay", "lead", "tries", "least",
    "spacing", "near", "jacobian", "ease", "patch", "composite", "most", "curved", "validation",
    "walked", "gap", "complete_to_image", "rule", "points", "stepper", "others", "warm", "hidden",
    "given", "do_instead", "without_overlap", "holdout", "least_auc", "together", "few", "taps",
    "meaning", "center", "spread", "alphas", "predicts", "asked", "told", "invert", "memory",
    "draws", "truncation", "columns", "ticks", "lengths", "story",
}  # fmt: skip
#: A retired word that is the field's own word in this place.
ALLOWED = {
    ("cfx.code_map", "points"),  # points of a scatter plot
}


@pytest.mark.parametrize("callee", everything(), ids=lambda callee: callee.label)
def test_no_retired_word(callee):
    used = RETIRED & {*callee.parameters, *(f.name for f in fields_of(callee.makes))}
    assert not {word for word in used if (callee.label, word) not in ALLOWED}


def fields_of(made):
    return dataclasses.fields(made) if dataclasses.is_dataclass(made) else ()
