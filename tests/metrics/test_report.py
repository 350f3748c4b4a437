"""The table on a result put together by hand; what can't be said is NaN, never 0."""

import dataclasses
import math
from functools import partial

import pytest
import simple_methods as simple
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
    for wrong in (turned, other, other[:2]):
        with pytest.warns(UserWarning, match="'b' has other images than 'a'"):
            cfx.report({"a": cf, "b": wrong})


NEW = ("transfer", "changed factors", "MNAC", "composition 1", "accuracy gain")


def mirrored(target=None):
    """Four images of four grey levels, mirrored at the boundary by a perfect method."""
    images = simple.level(0.1, 0.2, 0.7, 0.9)
    return simple.perfect(images, torch.tensor([1, 1, 0, 0] if target is None else target))


def test_measures_that_cost_much_are_off_by_default(cf):
    table = cfx.report({"a": cf}, classifier=bright, judge=bright)
    assert not set(NEW) & set(table.columns)
    assert not [c for c in table.columns if c.endswith((" low", " n"))]


def test_effectiveness_counts_all_eligible_images(cf):
    row = cfx.report({"a": cf}, judge=bright).loc["a"]
    assert row["judge agrees"] == pytest.approx(1 / 2)
    assert row["effectiveness"] == pytest.approx(3 / 4)  # 0.6, 0.9, 0.9 and 0.9 against 0.7


def test_sparsity_and_distances(cf):
    row = cfx.report({"a": cf}, distances={"L1 again": cfx.metrics.l1}).loc["a"]
    assert row["sparsity"] == 0
    assert row["L1 again"] == row["L1"]
    left = simple.idle(simple.level(0.1), torch.tensor([1]))
    assert cfx.report({"a": left}).loc["a", "sparsity"] == 1


def test_transfer_is_the_mean_over_flips():
    others = [partial(simple.bright, threshold=t) for t in (0.5, 0.85)]
    row = cfx.report({"a": mirrored()}, retrained=others, confidence_level=0.95).loc["a"]
    assert row["transfer"] == pytest.approx((1 + 1 / 2 + 1 + 1) / 4)
    assert row["transfer n"] == 4
    ends = cfx.wilson_interval(3, 4)[0], cfx.wilson_interval(4, 4)[1]
    assert (row["transfer low"], row["transfer high"]) == ends  # 3.5 of 4 images


def test_axioms_and_stability_of_known_methods():
    target = torch.tensor([1, 1, 0, 0])
    x = mirrored().original
    made = {n: getattr(simple, n) for n in ("perfect", "idle", "noisy")}
    table = cfx.report({n: f(x, target) for n, f in made.items()}, methods=made)
    for name in ("perfect", "idle"):
        assert table.loc[name, "composition 1"] == table.loc[name, "composition 10"] == 0
    assert table.loc["noisy", "composition 1"] > 20
    perfect = table.loc["perfect"]
    assert perfect["flipped back"] == perfect["flips again (seed)"] == 1
    assert perfect["return distance"] == pytest.approx(0, abs=1e-4)
    assert perfect["return / one way"] == pytest.approx(0, abs=1e-6)
    for kind in ("seed", "noise"):
        assert perfect[f"similarity ({kind})"] == pytest.approx(1, abs=0.01)
    assert table.loc["noisy", "similarity (seed)"] < 0.99
    for column in ("flipped back", "return distance", "flips again (seed)", "similarity (noise)"):
        assert math.isnan(table.loc["idle", column]), column


def test_null_edits_replace_the_method_for_composition():
    cf = mirrored()
    row = cfx.report({"a": cf}, null_edits={"a": simple.noisy}).loc["a"]
    assert row["composition 1"] > 20
    assert math.isnan(row["flipped back"])


def test_minimality_leaves_explained_images_out():
    cf = mirrored()
    draw = torch.Generator().manual_seed(0)
    other = torch.rand(60, 1, 1, 1, generator=draw).expand(-1, 1, 4, 4).clone()
    real = torch.cat([cf.original, other])
    labels = simple.bright(real).argmax(1)
    options = {"features": {"level": lambda x: x.mean((2, 3))}, "confidence_level": 0.9}
    row = cfx.report({"a": cf}, real=real, real_labels=labels, **options).loc["a"]
    own = cfx.metrics.minimality(
        cf.original.mean((2, 3)), cf.image.mean((2, 3)), 1 - cf.target, cf.target,
        reference=other.mean((2, 3)), reference_labels=labels[4:],
    )  # fmt: skip
    for column in own:
        assert row[f"{column} (level features)"] == pytest.approx(own[column].mean())
        assert row[f"{column} (level features) n"] == 4
    assert {"sFID (level features)", "KID (level features)"} <= set(row.index)


def test_attributes():
    """Attribute 0 is the class, attribute 1 is never there, attribute 2 is the class turned."""
    cf = mirrored()

    def read(x):
        own = simple.bright(x)[:, 1]
        return torch.stack([own, -torch.ones_like(own), -own], 1)

    labels = torch.tensor([[1, 0, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]], dtype=torch.bool)
    options = {"attributes": read, "attribute_labels": labels, "query": 0}
    row = cfx.report({"a": cf}, **options, confidence_level=0.95).loc["a"]
    assert row["MNAC"] == 2
    assert row["CD"] == pytest.approx(0, abs=1e-9)
    assert row["MNAC n"] == row["CD n"] == 4


def test_gain_after_repair():
    images, labels = simple.level(0.1, 0.2, 0.7, 0.9), torch.tensor([0, 1, 1, 1])
    mended = partial(simple.bright, threshold=0.15)
    options = {"classifier": simple.bright, "held_out": (images, labels)}
    row = cfx.report({"a": mirrored()}, repaired={"a": mended}, **options).loc["a"]
    assert row["accuracy gain"] == pytest.approx(1 / 4)
    table = cfx.report({"a": mirrored(), "b": mirrored()}, repaired={"a": mended}, **options)
    assert math.isnan(table.loc["b", "accuracy gain"])


def test_costs_include_failures_and_what_all_images_share():
    cf = simple.perfect(simple.level(0.1, 0.6), torch.tensor([1, 1]))
    shared = dataclasses.replace(cf, made_by={"shared": {"classifier": 100}, "seconds": 4.0})
    row = cfx.report({"a": shared}).loc["a"]
    assert row["classifier passes per flip"] == 2 * 3 + 100
    assert row["seconds per flip"] == 4
    assert math.isnan(row["generator passes per flip"])
    parts = cfx.report({"a": shared + cf}).loc["a"]
    assert parts["classifier passes per flip"] == (4 * 3 + 100) / 2


def test_counted_evaluations_are_those_that_a_network_sees():
    """The report counts every image that the classifier classifies."""
    seen = []

    def f(x):
        seen.append(len(x))
        return bright(x)

    images = level(0.1, 0.2, 0.8)
    cf = cfx.nearest_neighbour(f, images, 1, pool=level(0.75, 0.9, 0.3, 0.2))
    row = cfx.report({"a": cf}).loc["a"]
    # The border also looks at single images, to see whether a classifier is random.
    several = sum(n for n in seen if n > 1)
    assert row["classifier passes per flip"] * 2 == several == 4 + 2 * 3


def test_intervals():
    f = partial(simple.bright, threshold=0.75)
    cf = mirrored()
    row = cfx.report({"a": cf}, judge=f, confidence_level=0.95).loc["a"]
    low, high = cfx.wilson_interval(4, 4)
    assert (row["flip rate low"], row["flip rate high"], row["flip rate n"]) == (low, high, 4)
    assert row["L2 low"] < row["L2"] < row["L2 high"]
    wide = cfx.report({"a": cf}, confidence_level=0.99).loc["a"]
    assert wide["L2 low"] <= row["L2 low"]
    assert wide["classifier passes per flip n"] == 4
    plain = cfx.report({"a": cf}, judge=f).loc["a"]
    assert {c for c in row.index if not c.endswith((" low", " high", " n"))} == set(plain.index)
    assert plain.to_dict() == pytest.approx(row[plain.index].to_dict(), nan_ok=True)


def test_of_nothing_all_new_measures_are_nan_with_n_0():
    cf = simple.perfect(simple.level(0.9, 0.8), torch.ones(2).long())
    assert not cf.eligible.any()
    made = {"a": simple.perfect}
    row = cfx.report(
        {"a": cf}, judge=simple.bright, retrained=[simple.bright], methods=made,
        attributes=simple.bright, attribute_labels=torch.eye(2) > 0, query=0,
        features={"level": lambda x: x.mean((2, 3))}, real=cf.original, real_labels=[1, 1],
        distances={"LPIPS": cfx.metrics.l2}, confidence_level=0.95,
    ).loc["a"]  # fmt: skip
    counts = [c for c in row.index if c.endswith(" n")]
    names = [c.removesuffix(" n") for c in counts if "passes" not in c]
    assert len(names) > 25
    assert row[names].isna().all()
    assert (row[[f"{name} n" for name in names]] == 0).all()


def test_arguments_that_need_others_are_refused(cf):
    def read(x):
        return x.mean((2, 3))

    for more, message in (
        ({"real_labels": [0]}, "real_labels: expected None without real"),
        ({"causes": ["up"]}, "causes: expected None without a reader"),
        ({"named_factor": "up"}, "named_factor: expected None without a reader"),
        ({"query": 0}, "query: expected None without attributes"),
        ({"attributes": read, "query": 0}, "attribute_labels, query: expected both"),
        ({"attributes": read, "attribute_labels": torch.eye(2) > 0, "query": 2}, "query: expected"),
        ({"methods": {"b": simple.perfect}}, "methods: expected names of results, got 'b'"),
        ({"repaired": {"a": bright}}, "held_out: expected a value"),
        ({"repaired": {"a": bright}, "held_out": (0, 1)}, "classifier: expected a value"),
        ({"confidence_level": 1.0}, "confidence_level: expected"),
    ):
        with pytest.raises(ValueError, match=message):
            cfx.report({"a": cf}, **more)


class Halves(torch.nn.Module):
    """Reads whether each half of an image is bright."""

    def forward(self, x):
        halves = [20 * (part.mean((1, 2, 3)) - 0.5) for part in x.chunk(2, 3)]
        return torch.stack([v for m in halves for v in (-m, m)], 1)


READER = cfx.FactorReader(Halves(), dict.fromkeys(("left", "right"), ("dark", "bright")))


def left(x):
    """The classifier: class 1 if the left half is bright."""
    return Halves()(x)[:, :2]


def test_kinds_of_flips():
    """Of four flips, two change the cause alone, one both halves, one nothing that is read."""
    x = simple.level(0.2, 0.2, 0.2, 0.4999)
    image = x.clone()
    image[:3, ..., :2] = 0.9
    image[2, ..., 2:] = 0.9
    image[3] = 0.5001

    def fooled(images):
        return left(images) + torch.tensor([0.0, 1e-2])

    cf = simple.results(x, image, torch.ones(4).long(), f=fooled)
    cf = dataclasses.replace(
        cf, reconstruction=torch.cat([x[:3], image[3:]]), status=(FLIPPED,) * 4
    )
    options = {"reader": READER, "causes": ["left"], "confidence_level": 0.95}
    row = cfx.report({"a": cf}, **options).loc["a"]
    assert row["changed factors"] == pytest.approx((1 + 1 + 2 + 0) / 4)
    assert row["cause changed"] == pytest.approx(3 / 4)
    assert row["only causes changed"] == pytest.approx(2 / 4)
    assert row["only causes changed n"] == 4
    kinds = cfx.report({"a": cf}, **options, named_factor="right").loc["a"]
    wanted = {"causal": 2 / 4, "trivial": 1 / 4, "non-causal": 0, "adversarial": 1 / 4}
    assert {kind: kinds[kind] for kind in cfx.metrics.FLIP_KINDS} == pytest.approx(wanted)


def test_factor_diversity_of_seeds():
    """With an odd seed the right half changes, too."""

    def method(images, target, seed=0):
        image = images.clone()
        image[..., :2] = 0.9
        image[..., 2:] = 0.9 if seed % 2 else images[..., 2:]
        return simple.results(images, image, target, f=left, seed=seed)

    cf = method(simple.level(0.1, 0.2), torch.ones(2).long())
    row = cfx.report({"a": cf}, reader=READER, methods={"a": method}).loc["a"]
    assert row["factor diversity"] == pytest.approx(2 / 3)  # seeds 0, 1, 2: two of three pairs
    none = cfx.metrics.factor_diversity([cf[:0], cf[:0]], READER)
    assert none.shape == (0,)
    idle = simple.idle(cf.original, cf.target)
    assert cfx.metrics.factor_diversity([idle, idle], READER).isnan().all()
