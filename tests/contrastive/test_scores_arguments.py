"""Wrong arguments of what reads scores: pictures and measures."""

import pytest
import torch
from bits import edits, judge, scores
from wrong import (
    NAN,
    choice_values,
    classifier_values,
    image_values,
    own_arguments,
    result_values,
    space_values,
)
from wrong_scores import EDITS, FACTORS, SPACE, VALUES, F, X, check_message, rows, without

import cfxnb as cfx
from cfxnb.metrics import (
    changed_factors,
    classify_flips,
    distinct_explanations,
    rank_agreement,
    score_errors,
)

SCORES, JUDGED = scores("and"), scores("and", judge=judge())
ONE = {"space": SPACE, "classifier": F, "edits": edits(), "image": X[:1]}
CF = cfx.reconstruct(SPACE, F, X, 1)
NAMED = {"text": ("ab", "'ab'"), "number": (2, "2"), "too few": (["only"], "1")}
TABLE = {
    cfx.score_bars: (
        {"scores": SCORES},
        {
            "scores": result_values(),
            "truth": without(result_values(), "None")
            | {
                "other factors": (scores("B", edits=edits(names=("A",))), "first: A"),
                "other values": (
                    cfx.contrastive_scores(SPACE, F, X, FACTORS == "yes"),
                    "first: A",
                ),
            },
        },
    ),
    cfx.leakage_map: (
        {"scores": {"a": JUDGED}},
        {
            "scores": {
                "None": (None, "NoneType"),
                "bare": (JUDGED, "ContrastiveScores"),
                "empty": ({}, "none"),
                "no judge": ({"a": SCORES}, "without"),
                "table inside": ({"a": JUDGED.leakage}, "DataFrame"),
            }
        },
    ),
    cfx.edit_strip: (
        {**ONE, "factors": FACTORS[:1]},
        {
            "space": space_values(),
            "classifier": without(classifier_values(5), "wrong rows")
            | {"one row": (lambda x: torch.zeros(1, 2), "(1, 2)")},
            "edits": EDITS,
            "image": image_values((1, 1, 1, 3)) | {"two": (X[:2], "(2, 1, 1, 3)")},
            "factors": {"None": (None, "NoneType"), "two rows": (FACTORS[:2], "got 2")}
            | {"series": (FACTORS.iloc[0], "Series"), "missing": (FACTORS[["A"]][:1], "['A']")},
            "class_names": NAMED,
        },
    ),
    cfx.edit_picture: (
        {**ONE, "name": "A", "value": "yes"},
        {
            "space": space_values(),
            "classifier": classifier_values(2),
            "edits": EDITS,
            "image": image_values((1, 1, 1, 3)) | {"two": (X[:2], "(2, 1, 1, 3)")},
            "name": choice_values("A" * 2) | {"unknown": ("D", "'D'")},
            "value": VALUES,
            "class_names": NAMED,
        },
    ),
    score_errors: (
        {"scores": SCORES, "truth": SCORES},
        {"scores": result_values(), "truth": result_values()},
    ),
    changed_factors: (
        {"counterfactuals": CF, "judge": judge()},
        {"counterfactuals": result_values(), "judge": result_values() | {"net": (F, "Wrapped")}},
    ),
    classify_flips: (
        {"counterfactuals": CF, "judge": judge(), "causes": ["A"], "named_factor": "B"},
        {
            "counterfactuals": result_values(),
            "judge": result_values() | {"net": (F, "Wrapped")},
            "causes": {"text": ("A", "'A'"), "unknown": (["D"], "'D'"), "None": (None, "None")},
            "named_factor": choice_values("B" * 2) | {"unknown": ("D", "'D'")},
        },
    ),
    distinct_explanations: (
        {"results": [CF, CF], "judge": judge()},
        {
            "results": {
                "None": (None, "NoneType"),
                "empty": ([], "[]"),
                "bare": (CF, "Counterfactuals"),
                "tensors": ([X], "Tensor"),
                "lengths": ([CF, CF[:3]], "[8, 3]"),
                "other images": ([CF, CF[list(range(7, -1, -1))]], "results[1]"),
            },
            "judge": result_values(),
            "causes": {"text": ("A", "'A'"), "unknown": (["D"], "'D'")},
        },
    ),
    rank_agreement: (
        {"importance": SCORES.pns, "truth": SCORES.pns, "causes": ["A"]},
        {
            "importance": result_values()
            | {"missing": (SCORES.pns[["A"]], "B"), "NaN": (SCORES.pns * NAN, "NaN")},
            "truth": result_values() | {"NaN": (SCORES.pns * NAN, "NaN")},
            "causes": {"text": ("A", "'A'"), "None": (None, "None")},
        },
    ),
}


@pytest.mark.parametrize(("function", "arguments", "argument", "told"), rows(TABLE))
def test_wrong_argument(function, arguments, argument, told):
    check_message(function, arguments, argument, told)


@pytest.mark.parametrize("function", TABLE, ids=lambda f: f.__name__)
def test_right_arguments_are_accepted(function):
    function(**TABLE[function][0])


@pytest.mark.parametrize("function", TABLE, ids=lambda f: f.__name__)
def test_no_argument_is_left_out(function):
    told = set(TABLE[function][0]) | set(TABLE[function][1])
    assert own_arguments(function) - {"title", "checkpoint_dir", "linear_init"} <= told


def test_the_table_is_long_enough():
    assert len(rows(TABLE)) > 100
    assert len({row.id for row in rows(TABLE)}) == len(rows(TABLE))
