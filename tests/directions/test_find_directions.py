"""Directions of black boxes whose gradients and curvatures are known, around one image."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor
from worlds import LinearSpace, code_classifier

import cfxnb as cfx
from cfxnb.directions import gradient_correction as correction
from cfxnb.directions import one_image_search as gcd
from cfxnb.directions import probing, proxies
from cfxnb.directions.direction_candidates import direction_candidates, top_eigenvectors
from cfxnb.directions.proxies import Probes, ProxyFit, ridge

SPREAD = torch.tensor([0.5, 1.0, 2.0, 1.5, 0.8])
SPACE = LinearSpace(5, std=SPREAD)
W = torch.tensor([1.0, -2.0, 0.5, 0.3, 0.7])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def source(*z):
    return SPACE.decode(cfx.Code(torch.tensor([z])))


AT = source(0.3, 0.5, -0.2, 0.4, 0.1)


def of_code(function):
    """A classifier with logits (0, function of the code)."""
    return lambda images: cfx.two_logits(function(SPACE.encode(images).z))


LINEAR = of_code(lambda z: z @ W)

#: Of log odds as they are, whose slope and curvature are known.
exactly = partial(cfx.find_directions, proxy="ridge", saturation=None)

#: The search around one image.
one_image = partial(cfx.find_directions, proxy="ridge")


def cos(a: Tensor, b: Tensor) -> float:
    return torch.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0).item()


@pytest.mark.parametrize("label", [0, 1])
def test_linear_score(label):
    """In spreads the slope is weight * spread; as a change of the code, weight * spread^2."""
    found = exactly(SPACE, LINEAR, AT, label, max_queries=400)
    sign = 2 * label - 1
    torch.testing.assert_close(found.proxy_fit.gradient, sign * W * SPREAD, rtol=0, atol=2e-3)
    step = SPREAD * (W * SPREAD) / (W * SPREAD).norm()
    torch.testing.assert_close(found.g, sign * step, rtol=0, atol=1e-3)
    assert found.proxy_fit.expected_cosine > 0.9999
    assert found.proxy_fit.r2 > 0.9999
    assert found.proxy_fit.hessian.abs().max() < 0.01
    assert (found.target, found.contrast_class) == (label, None)


def quadratic(gradient, curvature, home=0.0):
    """Score home + gradient . u + 1/2 u H u of changes u in spreads from AT."""
    begin = SPACE.encode(AT).z

    def score(z):
        u = (z - begin) / SPREAD
        return home + u @ gradient + 0.5 * torch.einsum("nd,de,ne->n", u, curvature, u)

    return of_code(score)


AXES = torch.linalg.qr(normal(5, 5, seed=1)).Q.T
SLOPE = AXES[0] * 0.5 - AXES[1] + 0.3 * AXES[2] + 0.2 * AXES[4]
BENT = torch.einsum("n,nd,ne->de", torch.tensor([-3.0, 2.0, 1.0, 0.0, 0.0]), AXES, AXES)


@pytest.mark.parametrize("home", [-0.4, 0.4])
def test_quadratic_score(home):
    found = exactly(
        SPACE, quadratic(SLOPE, BENT, home), AT, 1, max_queries=600, n_curvature=5, radius=1.0
    )
    torch.testing.assert_close(found.proxy_fit.gradient, SLOPE, rtol=0, atol=0.01)
    torch.testing.assert_close(found.proxy_fit.hessian, BENT, rtol=0, atol=0.03)
    assert found.proxy_fit.r2 > 0.999
    for number in range(3):
        u = found[f"h{number + 1}"] / SPREAD
        assert abs(cos(u, AXES[number])) > 0.999
        assert u @ SLOPE > 0  # which settles the sign: -AXES[1] is h2
        torch.testing.assert_close(u.norm(), torch.tensor(1.0))
    bends = found.table.loc[["h1", "h2", "h3"], "curvature"]
    np.testing.assert_allclose(bends, [-3.0, 2.0, 1.0], atol=0.05)


def test_pairs_take_odd_and_even_apart():
    """What is even in the change tells the gradient nothing, exactly, and the other way round."""
    f = quadratic(0 * SLOPE, BENT)
    assert one_image(SPACE, f, AT, 1, max_queries=300).proxy_fit.gradient.abs().max() < 1e-4
    values = normal(10, seed=2)
    odd, even = proxies._odd_even(values)
    np.testing.assert_allclose(odd + even, values[::2], rtol=1e-12)
    np.testing.assert_allclose(even - odd, values[1::2], rtol=1e-12)


def products(delta):
    """Slow: every product of two coordinates, scaled so that each counts alike."""
    rows, columns = np.triu_indices(delta.shape[1])
    return delta[:, rows] * delta[:, columns] * np.where(rows == columns, 0.5**0.5, 1.0)


@pytest.mark.parametrize("pairs", [12, 40, 200])
def test_curvature_is_ridge_on_all_products(pairs):
    """With inner products alone, as with all products written down."""
    delta = normal(pairs, 5, seed=3).double().numpy()
    values = (0.5 * (delta @ BENT.double().numpy()) * delta).sum(1)
    values += normal(pairs, seed=4).double().numpy()
    known, weight = proxies._fit_quadratic(delta, values)
    slow = RidgeCV(proxies.PENALTIES, fit_intercept=False).fit(products(delta), values).coef_
    other = normal(7, 5, seed=5).double().numpy()
    np.testing.assert_allclose(
        0.5 * (other @ known.T) ** 2 @ weight, products(other) @ slow, rtol=1e-4, atol=1e-6
    )
    bend = known.T * weight @ known
    np.testing.assert_allclose(
        0.5 * ((other @ bend) * other).sum(1), products(other) @ slow, rtol=1e-4, atol=1e-6
    )


def probes(delta, score, home=0.0):
    both = torch.stack([delta, -delta], 1).flatten(0, 1)
    return Probes(both, score, torch.stack([0 * score, score], 1), 0 * score, home)


def test_confidence_is_the_cosine_with_the_truth():
    """Over many noisy worlds: at each level of noise what is told is what is so."""
    dims, pairs, truth, std = 40, 100, normal(40, seed=6), []
    for noise, near in ((0.3, 0.03), (1.0, 0.05), (4.0, 0.15), (1000.0, 0.45)):
        told, so = [], []
        for seed in range(25):
            delta = normal(pairs, dims, seed=100 + seed) / dims**0.5
            clean = torch.stack([delta @ truth, -delta @ truth], 1).flatten()
            fit = ridge(probes(delta, clean + noise * normal(2 * pairs, seed=900 + seed)))
            told.append(fit.expected_cosine)
            so.append(cos(fit.gradient, truth))
        assert abs(np.mean(told) - np.mean(so)) < near, (noise, np.mean(told), np.mean(so))
        std.append(np.mean(so))
    assert std[0] > 0.98
    assert std[2] < 0.75
    assert abs(std[3]) < 0.1


def test_answers_saturate():
    """Near 0 as they are, far away no more than ``most``, and every decision as it was."""
    score = torch.tensor([-900.0, -3.0, -0.01, 0.01, 3.0, 900.0])
    soft = Probes(0 * score[:, None], score, 0 * score[:, None], 0 * score, -900.0).saturated(3.0)
    expected = [-3.0, -3 * np.tanh(1), -0.01, 0.01, 3 * np.tanh(1), 3.0]
    np.testing.assert_allclose(soft.score, expected, rtol=1e-4)
    assert soft.score_at_start == -3.0


def test_curvature_does_not_saturate():
    f = quadratic(SLOPE, BENT, -0.4)
    found = one_image(SPACE, f, AT, 1, max_queries=600, radius=1.0, saturation=0.5)
    torch.testing.assert_close(found.proxy_fit.hessian, BENT, rtol=0, atol=0.03)
    assert found.proxy_fit.gradient.norm() < 0.7 * SLOPE.norm()  # but the slope does


def test_how_sure_a_classifier_is_far_away_does_not_matter():
    """The side of a plane decides, and how sure it is grows without end across it."""
    slope, other = W * SPREAD / (W * SPREAD).norm(), torch.eye(5)[3]
    home = SPACE.encode(AT).z

    def sure(z):
        u = (z - home) / SPREAD
        return (u @ slope + 0.2).sign() * (2 * u @ other).exp()

    found = one_image(SPACE, of_code(sure), AT, 1, max_queries=600, radius=5.0)
    raw = exactly(SPACE, of_code(sure), AT, 1, max_queries=600, radius=5.0)
    assert cos(found.proxy_fit.gradient, slope) > 0.98
    assert cos(raw.proxy_fit.gradient, slope) < 0.9


def test_r2_counts_a_wrong_offset():
    """A score at home that is off by one is missed everywhere: variance alone wouldn't see it."""
    delta = normal(100, 5, seed=7)
    score = torch.stack([delta @ W, -delta @ W], 1).flatten()
    right, wrong = ridge(probes(delta, score)), ridge(probes(delta, score, home=-100.0))
    assert right.r2 > 0.999
    assert wrong.r2 < 0.9


@pytest.mark.parametrize("home", [-1.5, 1.5])
def test_both_sides_of_the_decision(home):
    """Seen as the label or not: g is the same, and its distance is paid on the way that flips."""
    z = torch.tensor([0.3, 0.5, -0.2, 0.4, 0.1])
    f = of_code(lambda c: c @ W + home - z @ W)

    def away(images, originals):
        return (0.2 + 0.1 * SPACE.encode(images).z[:, 2]).sigmoid()

    found = exactly(SPACE, f, AT, 1, max_queries=500, distance=away)
    slope = torch.zeros(5)
    slope[2] = (
        0.1 * SPREAD[2] * torch.sigmoid(torch.tensor(0.18)) * torch.sigmoid(-torch.tensor(0.18))
    )
    both = 0.05 * W * SPREAD + (1 if home > 0 else -1) * slope
    assert cos(found.g / SPREAD, W * SPREAD) > 0.9999
    assert cos(found["g with distance"] / SPREAD, both) > 0.999
    assert found["g with distance"] / SPREAD @ (W * SPREAD) > 0


def test_flip_rate_and_length_are_measured():
    """A source 1.2 spreads from the boundary along g: of 1/4, 1/2 ... of 4 spreads the second."""
    f = of_code(lambda z: z @ W - (SPACE.encode(AT).z @ W) - 1.2 * (W * SPREAD).norm())
    found = one_image(SPACE, f, AT, 1, max_queries=1000, max_step=4.0, n_curvature=0)
    assert found.table.loc["g"].tolist()[:2] == [1.0, 2.0]
    images = torch.cat([AT, source(-9.0, 9.0, 0.0, 0.0, 0.0)])  # the other one is far away
    found = one_image(
        SPACE, f, AT, 1, max_queries=1000, max_step=4.0, n_curvature=0, validation_images=images
    )
    assert found.table.loc["g"].tolist()[:2] == [0.5, 2.0]


def test_best_direction_comes_first():
    """An axis across the slope along which the score bends flips what the slope hardly does."""
    slope, bend = 0.1 * AXES[0], torch.einsum("d,e->de", 3 * AXES[1], AXES[1])
    found = one_image(SPACE, quadratic(slope, bend, -1.0), AT, 1, max_queries=600, max_step=3.0)
    assert found.names[0] == "h1"
    assert torch.equal(found.vectors[0], found["h1"])
    assert torch.equal(found[0], found.h[0])
    assert found.table.index.tolist() == list(found.names)
    rates = found.table["flip rate"]
    assert rates.is_monotonic_decreasing
    assert (rates["h1"], rates["g"]) == (1.0, 0.0)


OTHERS = torch.cat([source(*row) for row in normal(6, 5, seed=4).tolist()])


def test_answers_of_the_trial_correct_the_gradient():
    """Where the slope is SLOPE + BENT u, that of several images is the one at their mean."""
    f = quadratic(SLOPE, BENT)
    mean = ((SPACE.encode(torch.cat([AT, OTHERS])).z - SPACE.encode(AT).z) / SPREAD).mean(0)
    wanted = SLOPE + BENT @ mean
    assert cos(SLOPE, wanted) < 0.8
    found = exactly(SPACE, f, AT, 1, max_queries=900, validation_images=OTHERS, radius=1.0)
    assert cos(found.g / SPREAD, wanted) > 0.999
    assert cos(found["g uncorrected"] / SPREAD, SLOPE) > 0.999
    torch.testing.assert_close(found.proxy_fit.gradient, SLOPE, rtol=0, atol=0.02)
    assert found.table["flip rate"].notna().all()
    # Without others, by the paper's network, or where the slope is the same: nothing to correct.
    for other in (
        exactly(SPACE, f, AT, 1, max_queries=900),
        exactly(SPACE, f, AT, 1, max_queries=900, validation_images=OTHERS, proxy="mlp_paper"),
        exactly(SPACE, LINEAR, AT, 1, max_queries=900, validation_images=OTHERS),
    ):
        assert "g uncorrected" not in other.names


@pytest.mark.parametrize("away", [0.5, 12.0, 18.0, 36.0])
def test_images_far_from_the_decision_do_not_spoil_the_gradient(away):
    """Scores that saturate along g, and not across it, must not turn the slope of a linear one."""
    space = LinearSpace(64, (3, 8, 8), scale=0.02)
    slope = 3 * normal(64, seed=7) / 8
    unit = slope / slope.norm()
    z = space.encode(space.sample(13, 8)).z
    z = z - (z @ slope)[:, None] / slope.norm() * unit  # on the border
    side = torch.tensor([1.0, -1.0] * 6)[:, None]
    images = space.decode(cfx.Code(z[1:] + side * away / slope.norm() * unit))
    f = code_classifier(space, slope[None])
    found = one_image(
        space, f, space.decode(cfx.Code(z[:1])), 1, max_queries=2048, validation_images=images
    )
    assert cos(found.g, slope) > 0.99


def test_a_correction_that_does_worse_in_the_trial_is_not_g(monkeypatch):
    """Along what is not asked for, nothing flips; the image's own slope flips all."""
    weight = torch.tensor([1.0, -2.0, 0.5, 0.0, 0.7])
    nothing = torch.eye(5)[3]
    monkeypatch.setattr(gcd, "correct_gradient", lambda *_: nothing)
    f = of_code(lambda z: z @ weight)
    found = exactly(SPACE, f, AT, 1, max_queries=900, validation_images=OTHERS)
    assert cos(found.g / SPREAD, weight * SPREAD) > 0.999
    assert cos(found["g corrected"] / SPREAD, nothing) > 0.999
    rates = found.table["flip rate"]
    assert rates["g"] > rates["g corrected"] == 0
    assert "g uncorrected" not in found.names
    assert found.names[0] == "g"


def test_more_images_are_tried_on_fewer_axes():
    """A trial asks 1 + 4 n about each image, n directions: three slopes and the axes."""
    space = LinearSpace(16, (1, 4, 4), scale=0.05)
    f = code_classifier(space, normal(1, 16))
    images = space.decode(cfx.Code(normal(13, 16, seed=1)))
    tried = {}
    for many in (3, 8, 12):
        found = one_image(
            space,
            f,
            images[:1],
            1,
            max_queries=400,
            n_curvature=2,
            validation_images=images[1 : many + 1],
        )
        tried[many] = found.made_by["tried"]
    # 200 queries: 1 + 4 * (3 + 6) = 37 about 3, 1 + 4 * (3 + 3) = 25 about 8, 21 about 9 of 12.
    assert tried == {3: 3, 8: 8, 12: 9}


def test_lost_answers_of_others_are_left_out():
    """A box that breaks down for some images: the others correct the gradient."""
    seen = torch.cat([AT, OTHERS[:5]])
    mean = ((SPACE.encode(seen).z - SPACE.encode(AT).z) / SPREAD).mean(0)
    last = SPACE.encode(OTHERS[5:]).z

    def breaking(images):
        logits = quadratic(SLOPE, BENT)(images)
        near = (SPACE.encode(images).z - last).norm(dim=1) < 1e-3
        logits[near] = torch.nan  # without a move
        return logits

    found = exactly(SPACE, breaking, AT, 1, max_queries=900, validation_images=OTHERS, radius=1.0)
    assert cos(found.g / SPREAD, SLOPE + BENT @ mean) > 0.9
    assert found.table["flip rate"].notna().all()
    assert found.made_by["tried"] == 6


def test_no_direction_is_there_twice():
    """The score bends along one axis, far along which the others lie: it is their slope as well."""
    f = quadratic(0.3 * AXES[0], torch.einsum("d,e->de", 3 * AXES[1], AXES[1]))
    u = 3 * AXES[1] + 0.1 * normal(6, 5, seed=4)
    others = SPACE.decode(cfx.Code(SPACE.encode(AT).z + SPREAD * u))
    found = exactly(SPACE, f, AT, 1, max_queries=900, validation_images=others)
    assert abs(cos(found.g / SPREAD, AXES[1])) > 0.99
    units = found.vectors / SPREAD
    same = (units @ units.T - torch.eye(len(units))).abs()
    assert same.max() <= 0.99


def scores(slopes, homes, units, step):
    """Of images with one slope each, (images, n, 4)."""
    along = (slopes @ units.T)[..., None] * step * torch.tensor([1.0, -1.0, 2.0, -2.0])
    return homes[:, None, None] + along


def test_correction_is_the_mean_of_all_slopes():
    units = torch.nn.functional.normalize(normal(12, 4, seed=5), dim=1)
    own, homes = 2 * units[0], 9 * normal(5, seed=7)
    slopes = normal(4, seed=6) + 0.01 * normal(5, 4, seed=8)
    told = scores(slopes, homes, units, 1.5)
    wanted = torch.cat([own[None], slopes]).mean(0)
    better = correction.correct_gradient(own, units, homes, told, 1.5, None)
    torch.testing.assert_close(better, wanted, rtol=0, atol=0.02)
    # What is lost is left out: here all that one image said, and a few answers of others.
    told[4], told[0, 3, 0], told[1, 7, 1] = torch.nan, torch.nan, torch.inf
    wanted = torch.cat([own[None], slopes[:4]]).mean(0)
    better = correction.correct_gradient(own, units, homes, told, 1.5, None)
    torch.testing.assert_close(better, wanted, rtol=0, atol=0.02)
    assert torch.equal(
        correction.correct_gradient(own, units, homes, told * torch.nan, 1.5, None), own
    )


def test_a_very_sure_image_has_no_more_say_in_a_correction():
    """Beyond where scores saturate it doesn't count how far they go, along g and across it."""
    units, homes = torch.eye(3)[:2], torch.zeros(2)
    slopes = torch.tensor([[1000.0, 900.0, 0.0], [0.1, 0.0, 0.0]])
    told = scores(slopes, homes, units, 2.0)
    better = correction.correct_gradient(
        torch.tensor([1.0, 0.0, 0.0]), units, homes, told, 2.0, 5.0
    )
    along = (1 + 5 / 2 + 5 * np.tanh(0.2 / 5) / 2) / 3
    assert better[0].item() == pytest.approx(along, rel=1e-4)
    assert 0.6 < better[1] < (5 / 2 + 0) / 3  # with a penalty on so few answers
    assert better[2] == 0


def test_axes_that_flip_are_kept():
    """The source is not seen as the label: it flips along the one axis that bends upwards."""
    bends = torch.tensor([-3.0, -2.5, 1.2, 0.0, 0.0])
    f = quadratic(0.1 * AXES[4], torch.einsum("n,nd,ne->de", bends, AXES, AXES), -1.0)
    found = exactly(SPACE, f, AT, 1, max_queries=600, max_step=4.0, n_curvature=1)
    assert found.names == ("h3", "g")
    assert abs(cos(found[0] / SPREAD, AXES[2])) > 0.99
    assert found.table.loc["h3"].tolist()[:2] == [1.0, 2.0]
    # Seen as the label, it flips along both of those that bend downwards; strong ones sooner.
    f = quadratic(0.1 * AXES[4], torch.einsum("n,nd,ne->de", bends, AXES, AXES), 7.0)
    found = exactly(SPACE, f, AT, 1, max_queries=600, max_step=4.0, n_curvature=2)
    assert found.names == ("h1", "h2", "g")
    assert found.table["flip rate"].tolist() == [1.0, 1.0, 0.0]


def test_too_few_queries_for_a_trial_are_told():
    """Seven directions, two senses, two lengths, and the image itself: 29, a quarter of 116."""
    with pytest.warns(UserWarning, match="max_queries: testing 7 .* at least 116 .*got 115"):
        found = one_image(SPACE, quadratic(SLOPE, BENT), AT, 1, max_queries=115)
    assert found.table["flip rate"].isna().all()
    assert found.names[0] == "g"
    found = one_image(SPACE, quadratic(SLOPE, BENT), AT, 1, max_queries=116)
    assert found.table["flip rate"].notna().all()


def test_three_classes_against_one_or_all():
    rows = normal(3, 5, seed=8)
    f = code_classifier(SPACE, rows)
    one = exactly(SPACE, f, AT, 2, contrast_class=0, max_queries=500)
    torch.testing.assert_close(
        one.proxy_fit.gradient, (rows[2] - rows[0]) * SPREAD, rtol=0, atol=5e-3
    )
    assert (one.target, one.contrast_class) == (2, 0)
    everyone = exactly(SPACE, f, AT, 2, max_queries=900, radius=0.3)
    z = SPACE.encode(AT).z
    p = (z @ rows.T).softmax(1)[0]
    slope = rows[2] - (p[0] * rows[0] + p[1] * rows[1]) / (p[0] + p[1])
    assert cos(everyone.proxy_fit.gradient, slope * SPREAD) > 0.999


def test_a_flip_is_a_change_of_what_is_seen():
    """Three classes: the label wins with less than half of the probability."""

    def three(images):
        z = SPACE.encode(images).z[:, 0]
        return torch.stack([0.1 * z, 0 * z, 0 * z], 1)

    at = source(-0.5, 0.0, 0.0, 0.0, 0.0)
    found = one_image(SPACE, three, at, 0, max_queries=500, max_step=4.0, n_curvature=0)
    assert found.table.loc["g", "flip rate"] == 1.0


def test_one_label_of_several():
    rows = normal(3, 5, seed=8)
    many = code_classifier(SPACE, rows)
    for label in range(3):
        f = cfx.select_label(many, label)
        found = exactly(SPACE, f, AT, 1, max_queries=400)
        torch.testing.assert_close(
            found.proxy_fit.gradient, rows[label] * SPREAD, rtol=0, atol=5e-3
        )
        logits = f(AT)
        torch.testing.assert_close(logits.softmax(1)[:, 1], many(AT)[:, label].sigmoid())


@pytest.mark.parametrize("proxy", ["mlp", "mlp_paper"])
def test_networks_find_the_slope_too(proxy):
    found = one_image(SPACE, LINEAR, AT, 1, max_queries=500, proxy=proxy)
    least = 0.98 if proxy == "mlp" else 0.5
    assert cos(found.proxy_fit.gradient, W * SPREAD) > least
    assert np.isnan(found.proxy_fit.expected_cosine)
    assert found.proxy_fit.r2 > 0.95 or proxy == "mlp_paper"


def test_coordinates_that_carry_nothing_are_left_alone():
    space = LinearSpace(5, std=torch.tensor([1.0, 0.001, 1.0, 0.0, 1.0]))
    f = code_classifier(space, W[None])
    for proxy in ("ridge", "mlp_paper"):
        found = one_image(space, f, space.sample(1), 1, max_queries=300, proxy=proxy)
        assert not found.vectors[:, [1, 3]].any()
        assert found.vectors.isfinite().all()
        torch.testing.assert_close(found.vectors[:, [0, 2, 4]].norm(dim=1), torch.ones(len(found)))


def test_radius_is_the_longest_change_and_lengths_are_even():
    lengths = []

    def watch(step):
        lengths.append(((step.code - SPACE.encode(AT).z) / SPREAD).norm(dim=1))

    found = one_image(SPACE, LINEAR, AT, 1, max_queries=2000, radius=0.7, on_step=watch)
    share = torch.cat(lengths)[::2] / 0.7
    assert len(share) * 2 == found.proxy_fit.n_queries
    assert share.max() <= 1 + 1e-4
    assert abs(share.mean() - 0.5) < 0.03
    assert abs(share.var() - 1 / 12) < 0.01


def test_a_classifier_that_says_nothing_has_no_directions():
    found = one_image(SPACE, of_code(lambda z: 0 * z[:, 0] + 1), AT, 1, max_queries=200)
    assert (len(found), found.names) == (0, ())
    assert found.vectors.shape == (0, 5)
    assert found.h.shape == (0, 5)
    assert "Directions(" in repr(found)
    with pytest.raises(KeyError, match="'g'"):
        found["g"]


def test_answers_that_are_not_finite_are_data():
    """Where a box breaks down, pairs are left out; the slope is found from the others."""
    f = of_code(lambda z: torch.where(z[:, 2] > 1.0, torch.nan, z @ W))
    found = exactly(SPACE, f, AT, 1, max_queries=600)
    assert 32 <= found.proxy_fit.n_queries < 500
    assert cos(found.proxy_fit.gradient, W * SPREAD) > 0.999
    with pytest.raises(ValueError, match="classifier: expected finite logits"):
        exactly(SPACE, of_code(lambda z: z[:, 0] * torch.nan), AT, 1)
    home = SPACE.encode(AT).z

    def gone(z):
        return torch.where((z - home).norm(dim=1) > 1e-4, torch.nan, 1.0)

    with pytest.raises(ValueError, match=r"classifier: expected finite numbers .* for 2018"):
        exactly(SPACE, of_code(gone), AT, 1)


def test_many_coordinates_have_the_same_axes(monkeypatch):
    """Above a size only the axes that are wanted are computed."""
    bend = torch.einsum("n,nd,ne->de", torch.tensor([-3.0, 2.0, 1.0, 0.4, 0.1]), AXES, AXES)
    few = top_eigenvectors(bend, 3)
    monkeypatch.setattr("cfxnb.directions.direction_candidates.MAX_DENSE_DIMS", 4)
    many = top_eigenvectors(bend, 3)
    torch.testing.assert_close((few * many).sum(1).abs(), torch.ones(3, dtype=torch.float64))


def test_shows_itself():
    found = one_image(SPACE, LINEAR, AT, 1, max_queries=300)
    assert f"{found.n_queries} queries" in repr(found)
    assert "flip rate" in found._repr_html_()
    assert found.made_by["function"] == "find_directions"
    assert found.made_by["seconds"] >= 0
    with pytest.raises(KeyError, match="expected one of"):
        found["h99"]


WRONG = ["no sign", "order", "units", "one side"]


@pytest.mark.parametrize("wrong", WRONG)
def test_planted_errors_are_caught(monkeypatch, wrong):
    if wrong == "no sign":  # the eigenvector's own, or its opposite

        def unsigned(fit: ProxyFit, sign, n_axes, active):
            found = direction_candidates(fit, sign, n_axes, active)
            return {n: v * (-1 if n == "h2" else 1) for n, v in found.items()}

        monkeypatch.setattr(gcd, "direction_candidates", unsigned)
    if wrong == "order":  # axes by signed curvature
        monkeypatch.setattr(
            "cfxnb.directions.direction_candidates.top_eigenvectors",
            lambda h, count: torch.linalg.eigh(h.double())[1].T.flip(0)[:count],
        )
    if wrong == "units":  # slopes taken for changes of the code, with no regard to its spread
        monkeypatch.setattr(
            gcd,
            "direction_candidates",
            lambda *a: {n: v / SPREAD for n, v in direction_candidates(*a).items()},
        )
    if wrong == "one side":
        monkeypatch.setattr(probing, "log_odds", lambda logits, *_: logits[:, 0])
    tests = [lambda: test_quadratic_score(0.4), lambda: test_linear_score(1)]
    caught = 0
    for test in tests:
        try:
            test()
        except (AssertionError, KeyError):
            caught += 1
    assert caught
