"""The table on a result put together by hand; what can't be said is NaN, never 0."""

import dataclasses
import math

import pytest
import torch

import cfxnb as cfx
from cfxnb.core.types import ALREADY_TARGET, FLIPPED, NOT_FOUND, RECONSTRUCTION_IS_TARGET

STATUS = (FLIPPED, FLIPPED, NOT_FOUND, ALREADY_TARGET, RECONSTRUCTION_IS_TARGET)


def level(*values):
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


@pytest.fixture
def cf():
    """Constant images of four pixels: each L1 is 4, each L2 is 2 times the change of level."""
    n = len(STATUS)
    return cfx.Counterfactuals(
        original=level(0.1, 0.2, 0.0, 0.0, 0.0),
        reconstruction=level(0.2, 0.2, 0.9, 0.9, 0.9),
        image=level(0.6, 0.9, 0.9, 0.9, 0.9),
        logits_before=torch.tensor([[1.0, 0.0]]).expand(n, 2),
        logits_after=torch.tensor([[0.0, 1.0]]).expand(n, 2),
        target=torch.ones(n, dtype=torch.int64),
        status=STATUS,
        code_before=cfx.Code(torch.zeros(n, 2)),
        code_after=cfx.Code(torch.tensor([[3.0, 8.0], [0.0, 2.0], [0, 0], [9, 9], [0, 0]])),
        cost={"generator": torch.tensor([10, 20, 30, 1, 1])},
        made_by={"seconds": 3.0},
    )


def bright(images):
    """A judge that reads class 1 above a level of 0.7."""
    return torch.stack([torch.full((len(images),), 0.7), images.mean((1, 2, 3))], 1)


def test_by_hand(cf):
    row = cfx.report({"a": cf}, judge=bright, code_std=torch.tensor([1.0, 2.0])).loc["a"]
    assert row["images"] == 5
    assert row["flip rate"] == pytest.approx(2 / 4)
    assert row["judge agrees"] == pytest.approx(1 / 2)
    # Distances: over the four images that were not the target yet, flipped or not.
    assert row["L1"] == pytest.approx(4 * (0.5 + 0.7 + 0.9 + 0.9) / 4)
    assert row["L2"] == pytest.approx(2 * (0.5 + 0.7 + 0.9 + 0.9) / 4)
    assert row["L2 reconstruction"] == pytest.approx(2 * (0.1 + 0.0 + 0.9 + 0.9) / 4)
    assert row["L2 edit"] == pytest.approx(2 * (0.4 + 0.7 + 0.0 + 0.0) / 4)
    assert row["code distance"] == pytest.approx((5 + 1 + 0 + 0) / 4)
    assert row["generator passes per flip"] == pytest.approx(62 / 2)
    assert row["seconds per flip"] == pytest.approx(1.5)


def test_cout_is_the_mean_over_the_same_images(cf):
    rows = [0, 1, 2, 4]
    own = cfx.cout(bright, cf.original[rows], cf.image[rows], cf.target[rows])
    row = cfx.report({"a": cf}, classifier=bright).loc["a"]
    assert row["COUT"] == pytest.approx(own.mean().item(), abs=1e-6)


def test_of_failures_some_things_can_not_be_said(cf):
    failed = dataclasses.replace(cf[2:3], made_by={})
    row = cfx.report({"a": failed}, classifier=bright, judge=bright, code_std=torch.ones(2)).loc[
        "a"
    ]
    assert row["flip rate"] == 0
    for name in ("judge agrees", "generator passes per flip", "seconds per flip"):
        assert math.isnan(row[name]), name


def test_of_skipped_images_nothing_can_be_said(cf):
    row = cfx.report({"a": cf[3:4]}, classifier=bright, judge=bright, code_std=torch.ones(2)).loc[
        "a"
    ]
    for name in (
        "flip rate",
        "judge agrees",
        "L1",
        "L2",
        "COUT",
        "code distance",
        "generator passes per flip",
    ):
        assert math.isnan(row[name]), name


def test_too_few_images_for_a_distance(cf):
    def features(x):
        return x.flatten(1)

    few = cfx.report({"a": cf[:2]}, features={"pixels": features}).loc["a"]
    assert math.isnan(few["FID (pixels features)"])
    generator = torch.Generator().manual_seed(0)
    many = dataclasses.replace(
        (cf[:1] + cf[:1] + cf[:1]) + (cf[:1] + cf[:1] + cf[:1]),
        image=torch.rand(6, 1, 2, 2, generator=generator),
        original=torch.rand(6, 1, 2, 2, generator=generator),
    )
    enough = cfx.report({"a": many}, features={"pixels": features}).loc["a"]
    expected = cfx.metrics.fid(features(many.image), features(many.original))
    assert enough["FID (pixels features)"] == pytest.approx(expected)


def test_one_row_per_method_in_their_order(cf):
    assert list(cfx.report({"z": cf, "a": cf[:2]}).index) == ["z", "a"]


def test_a_judge_with_the_same_names_in_another_order_is_refused(cf):
    named = cfx.wrap(bright, class_names=["dark", "bright"])
    turned = cfx.wrap(lambda x: bright(x).flip(1), class_names=["bright", "dark"])
    other = cfx.wrap(bright, class_names=["dunkel", "hell"])
    recorded = dataclasses.replace(cf, made_by={"class_names": ["dark", "bright"]})
    parts = dataclasses.replace(cf, made_by={"parts": [recorded.made_by, {}]})
    for result, asked in ((recorded, {}), (parts, {}), (cf, {"classifier": named})):
        for judge in (named, bright, other):
            row = cfx.report({"a": result}, judge=judge, **asked).loc["a"]
            assert row["judge agrees"] == pytest.approx(1 / 2)
        with pytest.raises(ValueError, match=r"^judge: expected the classes in the order"):
            cfx.report({"a": result}, judge=turned, **asked)
    with pytest.raises(ValueError, match=r"^classifier: expected the classes in the order"):
        cfx.report({"a": recorded}, classifier=turned)


def test_results_record_the_names_of_the_classes(tmp_path):
    named = cfx.wrap(bright, class_names=["dark", "bright"])
    made = cfx.pixel_attack(named, level(0.1, 0.2), "bright", steps=2)
    again = cfx.Counterfactuals.load(made.save(tmp_path / "made"))
    for result in (made, again, made + made):
        assert result.made_by["class_names"] == ["dark", "bright"]
    assert "class_names" not in cfx.pixel_attack(bright, level(0.1), 1, steps=2).made_by


def test_other_images_and_another_order_give_a_warning(cf):
    cfx.report({"a": cf, "same": cf, "part": cf[:2]})
    turned = cf[[1, 0, 2, 3, 4]]
    other = dataclasses.replace(cf, original=level(0.5, 0.2, 0.0, 0.0, 0.0))
    for wrong in (turned, other):
        with pytest.warns(UserWarning, match="'b' has other images than 'a'"):
            cfx.report({"a": cf, "b": wrong})
