"""Tables as people have them: nullable types, categories and missing values."""

import good
import numpy as np
import pandas as pd
import pytest
import torch

import cfxnb as cfx

#: The same values in other types.
TYPES = {
    "nullable": lambda t: t.convert_dtypes(),
    "categories": lambda t: t.astype("category"),
    "objects": lambda t: t.astype(object),
    "texts of pandas": lambda t: t.astype(
        {c: "string" for c in t if t[c].dtype.kind not in "biuf"}
    ),
    "another index": lambda t: t.set_axis(range(5, 5 + len(t)), axis=0),
}
MISSING = {
    "pd.NA": lambda t: t.convert_dtypes(),
    "None": lambda t: t.astype(object),
    "a missing category": lambda t: t.astype("category"),
}
each_type = pytest.mark.parametrize("change", TYPES.values(), ids=TYPES)
each_missing = pytest.mark.parametrize("change", MISSING.values(), ids=MISSING)


def with_gap(table, column):
    table = table.copy()
    table.iloc[0, table.columns.get_loc(column)] = None
    return table


def discrete():
    """A table of observations in which every kind of column plays a part."""
    return good.table().assign(x=good.table()["x"].map({"a": 0, "b": 1}))


@each_type
def test_scores_of_observations(change):
    table = discrete()
    plain = cfx.observed_scores(table, "x", "y", adjust=["z"])
    other = cfx.observed_scores(change(table), "x", "y", adjust=["z"])
    assert other == plain
    here = table["z"] == "u"
    masks = (here.to_numpy(), here.tolist(), torch.tensor(here.to_numpy()),
             here.astype("boolean").set_axis(change(table).index))  # fmt: skip
    told = [cfx.adjusted_effect(change(table), "x", "y", context=given) for given in masks]
    for effect in told:
        assert effect.tolist() == cfx.adjusted_effect(table, "x", "y", context=here).tolist()


@each_missing
@pytest.mark.parametrize("column", ["x", "y", "z"])
def test_observations_that_are_missing(change, column):
    name = {"x": "cause", "y": "outcome", "z": "adjust"}[column]
    table = with_gap(change(discrete()), column)
    with pytest.raises(ValueError, match=rf"^{name}: expected .* got NaN in '{column}'.*dropna"):
        cfx.observed_scores(table, "x", "y", adjust=["z"])
    assert cfx.observed_scores(table.dropna(), "x", "y").n["pns"] == len(table) - 1


def test_a_mask_with_a_gap_says_what_to_do():
    table = discrete()
    given = with_gap((table[["z"]] == "u").astype("boolean"), "z")["z"]
    with pytest.raises(ValueError, match=r"^context: expected .* missing value; .*fillna"):
        cfx.adjusted_effect(table, "x", "y", context=given)


@each_type
def test_edits_and_scores_of_images(change):
    space, f, factors = good.space(), good.classifier(), good.factors()
    plain = cfx.fit_attribute_edits(space, good.images(), factors)
    other = cfx.fit_attribute_edits(space, good.images(), change(factors))
    assert other.contrasts == plain.contrasts
    torch.testing.assert_close(other.step_model.normals, plain.step_model.normals)
    torch.testing.assert_close(other.step_model.goals, plain.step_model.goals)
    tables = [
        cfx.contrastive_scores(space, f, good.images(), t, edits=plain).table
        for t in (factors, change(factors))
    ]
    pd.testing.assert_frame_equal(*tables)


@each_missing
def test_images_without_a_value_are_not_asked_about(change):
    """Contrasts must be named then: which values there are can't be told."""
    factors = with_gap(change(good.factors()), "up")
    with pytest.raises(ValueError, match=r"^factors: expected a value .* contrasts"):
        cfx.fit_attribute_edits(good.space(), good.images(), factors)
    scores = cfx.contrastive_scores(
        good.space(), good.classifier(), good.images(), factors, edits=good.edits()
    )
    asked = scores.units.groupby("factor")["row"].nunique()
    assert asked["up"] == good.ROWS - 1
    assert asked["side"] == good.ROWS


@pytest.mark.parametrize("kind", ["Float64", "Float32", object])
def test_descriptors_of_nullable_numbers(kind):
    factors = good.many_factors()
    plain, other = (
        cfx.fit_descriptors(good.space(), good.many(), t, test_size=0.5)
        for t in (factors, factors.astype(kind))
    )
    torch.testing.assert_close(other.weights, plain.weights, atol=1e-5, rtol=0)
    gaps = [factors.assign(up=factors["up"].where(np.arange(len(factors)) > 4))]
    gaps.append(gaps[0].convert_dtypes())
    left, right = (cfx.fit_descriptors(good.space(), good.many(), t, test_size=0.5) for t in gaps)
    assert torch.equal(left.weights, right.weights), "rows without a value are left out"


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_groups_that_are_missing(missing):
    groups = ["a", missing, *["b"] * (good.ROWS - 2)]
    for made in (groups, pd.Series(groups), np.array(groups, object)):
        with pytest.raises(ValueError, match=r"^groups: expected .* missing value in row 1; "):
            cfx.metrics.accuracy_by_group(good.classifier(), good.images(), good.labels(), made)
    whole = pd.Series(["a"] * 2 + ["b"] * (good.ROWS - 2))
    tables = [
        cfx.metrics.accuracy_by_group(good.classifier(), good.images(), good.labels(), each)
        for each in (whole, whole.astype("string"), whole.astype("category"), whole.tolist())
    ]
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0])


@each_missing
def test_edits_learn_from_the_rows_that_have_a_value(change):
    contrasts = dict.fromkeys(("up", "side"), good.WORDS)
    numbers = good.factors().replace({"no": 0, "yes": 1}).astype(int)
    for table, pairs in ((good.factors(), contrasts), (numbers, dict.fromkeys(contrasts, (0, 1)))):
        plain, other = (
            cfx.fit_attribute_edits(good.space(), good.images(), t, contrasts=pairs)
            for t in (with_gap(table.astype(object), "up"), with_gap(change(table), "up"))
        )
        torch.testing.assert_close(other.step_model.normals, plain.step_model.normals)
        torch.testing.assert_close(other.step_model.goals, plain.step_model.goals)
