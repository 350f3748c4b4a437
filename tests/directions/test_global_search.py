"""The search with several images: worlds in which directions and flips are known."""

import warnings
from functools import partial

import pytest
import torch
from worlds import LinearSpace

import cfxnb as cfx
from cfxnb.core.code_covariance import covariance_of, principal_axes
from cfxnb.directions.probing import BlackBoxProbe

STD = torch.tensor([0.5, 1.0, 2.0, 1.5, 0.8, 1.2])
search = partial(cfx.find_directions, max_queries=600)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cos(a, b):
    return torch.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0).item()


def flat_space(variances=(3.0, 1.5, 1.0, 0.5), seed=3):
    """A space of six coordinates whose codes vary along four axes only."""
    space = LinearSpace(6, std=STD.clone())
    axes = torch.linalg.qr(normal(6, 6, seed=seed)).Q.T[: len(variances)]
    space.axes, space.variances = axes.contiguous(), torch.tensor(variances)
    return space


def images_of(space, count, seed=0):
    xi = normal(count, len(space.variances), seed=seed)
    u = (xi * space.variances.sqrt()) @ space.axes
    return space.decode(cfx.Code(u * STD))


SPACE = flat_space()
X = images_of(SPACE, 12)
GAMMA = torch.tensor([1.0, -0.6, 0.8, 0.5])


def in_xi(function):
    """A classifier with logits (n, k) = function of the whitened code (n, 4)."""
    covariance = covariance_of(SPACE)

    def f(images):
        return function(covariance.whiten(SPACE.encode(images).z / STD))

    return f


LINEAR = in_xi(lambda xi: cfx.two_logits(xi @ GAMMA))


@pytest.mark.parametrize("count", [1, 2, 12])
def test_the_direction_weighs_each_axis_by_how_much_it_varies(count):
    """g is V^T gamma: neither the gradient V^T lambda^(-1/2) gamma, nor that of lambda^(1/2)."""
    found = search(SPACE, LINEAR, X[:count], 1, saturation=None)
    wanted = GAMMA @ SPACE.axes
    assert cos(found.g / STD, wanted) > 0.9999
    gradient = GAMMA / SPACE.variances.sqrt() @ SPACE.axes
    torch.testing.assert_close(found.proxy_fit.gradient, gradient, rtol=0, atol=5e-3)
    assert found.proxy_fit.r2 > 0.999
    assert found.proxy_fit.expected_cosine > 0.999
    torch.testing.assert_close((found.vectors / STD).norm(dim=1), torch.ones(len(found)))


def test_directions_stay_within_the_active_axes():
    off = torch.eye(6) - SPACE.axes.T @ SPACE.axes
    found = search(
        SPACE,
        in_xi(lambda xi: normal(5, 4, seed=1) @ xi.T.unsqueeze(0))
        if False
        else in_xi(lambda xi: (xi @ normal(4, 5, seed=1)).tanh()),
        X,
        3,
    )
    for vectors in (found.vectors, found.class_vectors):
        assert ((vectors / STD) @ off).abs().max() < 1e-5


def test_probes_have_the_covariance_of_real_codes():
    steps = []
    search(
        SPACE,
        LINEAR,
        X[:1],
        1,
        max_queries=4000,
        on_step=lambda s: steps.append((s.code - SPACE.encode(X[:1]).z) / STD),
    )
    u = torch.cat(steps)
    covariance = u.T @ u / len(u)
    typical = (2 * 6.0) ** 0.5  # radius; the variance of r in [0, 1] about 0 is 1/3
    expected = SPACE.axes.T * SPACE.variances @ SPACE.axes
    expected *= typical**2 / 3 / SPACE.variances.sum()
    torch.testing.assert_close(covariance, expected, rtol=0, atol=0.15)
    torch.testing.assert_close(u[::2], -u[1::2], rtol=0, atol=1e-5)


def test_several_images_have_the_mean_gradient_and_one_image_its_own():
    """The score bends: around one image its gradient is GAMMA + BENT xi."""
    bent = torch.diag(torch.tensor([-0.9, 0.8, 0.0, 0.3]))

    def score(xi):
        return cfx.two_logits(xi @ GAMMA + 0.5 * ((xi @ bent) * xi).sum(1))

    f = in_xi(score)
    one = search(SPACE, f, X[3:4], 1, saturation=None, max_queries=2048)
    at = covariance_of(SPACE).whiten(SPACE.encode(X[3:4]).z / STD)[0]
    assert cos(one.g / STD, (GAMMA + bent @ at) @ SPACE.axes) > 0.99
    half = images_of(SPACE, 30, seed=5)
    images = torch.cat([half, 1 - half])  # opposite codes, so that their mean is 0
    several = search(SPACE, f, images, 1, saturation=None, max_queries=2048)
    assert cos(several.g / STD, GAMMA @ SPACE.axes) > 0.99 > cos(one.g, several.g)
    # The Hessian of the plain score, in std.
    scale = SPACE.axes / SPACE.variances.sqrt()[:, None]
    torch.testing.assert_close(several.proxy_fit.hessian, scale.T @ bent @ scale, rtol=0, atol=0.05)


def test_each_class_has_a_direction_against_all_others():
    rows = normal(4, 3, seed=8)
    f = in_xi(lambda xi: 2 * xi @ rows)
    found = search(SPACE, f, X, 2, max_queries=1200)
    assert found.class_vectors.shape == (3, 6)
    assert torch.equal(found.g, found.towards(2))
    z = SPACE.encode(X).z
    for c in range(3):
        step = found.towards(c)
        logits = [f(SPACE.decode(cfx.Code(z + s * step))) for s in (-3, 3)]
        odds = [x[:, c] - x.logsumexp(1) for x in logits]
        assert (odds[1] > odds[0]).all()
    each = torch.tensor([0, 2, 1])
    assert torch.equal(found.towards(each), found.class_vectors[each])
    pair = search(SPACE, f, X, 2, contrast_class=0, saturation=None)
    assert cos(pair.g / STD, (rows[:, 2] - rows[:, 0]) @ SPACE.axes) > 0.999
    with pytest.raises(ValueError, match="target: expected"):
        found.towards(3)


def test_two_classes_have_opposite_directions():
    found = search(SPACE, LINEAR, X, 1)
    torch.testing.assert_close(found.towards(0), -found.towards(1), rtol=0, atol=1e-4)


def test_a_walk_follows_the_direction_of_each_target():
    rows = normal(4, 3, seed=8)
    f = in_xi(lambda xi: 2 * xi @ rows)
    found = search(SPACE, f, X, 2, max_queries=1200)
    others = images_of(SPACE, 20, seed=9)
    target = (f(others).argmax(1) + 1) % 3
    walk = cfx.follow_direction(SPACE, f, others, found, target, max_step=6.0)
    each = cfx.follow_direction(SPACE, f, others, found.towards(target), target, max_step=6.0)
    assert torch.equal(walk.image, each.image)
    assert walk.flipped.double().mean() > 0.9
    heat = cfx.latent_integrated_gradients(SPACE, f, others, found, target, n_points=5)
    same = cfx.latent_integrated_gradients(
        SPACE, f, others, found.towards(target), target, n_points=5
    )
    torch.testing.assert_close(heat.attributions, same.attributions)


def test_the_table_is_what_the_images_do():
    """Images at known distances from the border of a linear score, on both sides."""
    wanted = GAMMA @ SPACE.axes
    step = wanted / wanted.norm()
    slope = (GAMMA / SPACE.variances.sqrt()) @ SPACE.axes @ step
    places = torch.tensor([-1.0, 1.5, -3.0, 3.5, -30.0, 30.0])  # in std along g
    u = places[:, None] * step - 0.0
    images = SPACE.decode(cfx.Code(u * STD))
    assert slope > 0
    found = search(SPACE, LINEAR, X, 1, validation_images=images, max_step=4.0, n_curvature=0)
    g = found.table.loc["g"]
    assert g[["flip rate", "within half", "towards", "away"]].tolist() == pytest.approx(
        [4 / 6, 2 / 6, 2 / 3, 2 / 3]
    )
    assert g["length"] == pytest.approx((2 + 2 + 4 + 4) / 4)
    assert g["images"] == 6
    assert found.table.index.tolist() == ["g", "random"]
    assert found.made_by["held_out"]
    assert found.made_by["tried"] == 6


@pytest.mark.parametrize("queries", [42, 100, 256, 600])
@pytest.mark.parametrize("count", [1, 5, 12])
def test_the_budget_is_a_hard_limit(queries, count):
    box = cfx.BlackBox(LINEAR)
    found = search(SPACE, box, X[:count], 1, max_queries=queries, validation_images=X[2:9])
    assert box.n_queries == found.n_queries <= queries
    assert found.proxy_fit.n_queries >= min(32, 0.6 * queries - count)
    assert found.table.loc["g", "flip rate"] >= 0
    alone = search(SPACE, LINEAR, X[:count], 1, max_queries=queries)
    # With validation images the fit is the same, so that the direction is no worse.
    assert torch.equal(alone.g, found.g)
    assert not alone.made_by["held_out"]


def test_a_folder_changes_nothing_and_is_asked_once(tmp_path):
    rest = {"validation_images": X[8:], "n_curvature": 2, "batch_size": 20}
    first = search(SPACE, cfx.BlackBox(LINEAR), X[:5], 1, checkpoint_dir=tmp_path, **rest)
    plain = search(SPACE, LINEAR, X[:5], 1, **rest)
    assert torch.equal(first.vectors, plain.vectors)
    assert first.table.equals(plain.table)
    box = cfx.BlackBox(LINEAR)
    again = search(SPACE, box, X[:5], 1, checkpoint_dir=tmp_path, **rest)
    assert torch.equal(first.vectors, again.vectors)
    assert first.n_queries == again.n_queries
    assert 0 < box.n_queries == again.made_by["compared"] < 60
    with pytest.raises(ValueError, match="images"):
        search(SPACE, LINEAR, X[:4], 1, checkpoint_dir=tmp_path, **rest)
    other = in_xi(lambda xi: cfx.two_logits(xi @ GAMMA.flip(0)))
    with pytest.raises(ValueError, match="classifier"):
        search(SPACE, other, X[:5], 1, checkpoint_dir=tmp_path, **rest)


def test_an_interrupted_search_goes_on(tmp_path):
    calls = []

    def breaking(images):
        calls.append(len(images))
        if len(calls) == 9:
            raise KeyboardInterrupt
        return LINEAR(images)

    rest = {"validation_images": X[8:], "n_curvature": 2, "checkpoint_dir": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        search(SPACE, cfx.BlackBox(breaking), X[:5], 1, **rest)
    box = cfx.BlackBox(LINEAR)
    found = search(SPACE, box, X[:5], 1, **rest)
    assert found.made_by["lost"] == calls[8]
    asked = box.n_queries - found.made_by["compared"] + sum(calls)
    assert asked == found.n_queries <= 600
    assert cos(found.g, search(SPACE, LINEAR, X[:5], 1).g) > 0.99


def test_without_a_covariance_it_is_measured_on_the_images():
    space = LinearSpace(6, std=STD.clone())
    space.axes = space.variances = None
    images = images_of(SPACE, 60, seed=2)
    f = LINEAR
    found = search(space, f, images, 1, max_queries=2048, saturation=None)
    assert found.made_by["covariance"] == "images"
    assert cos(found.g / STD, GAMMA @ SPACE.axes) > 0.95
    with pytest.warns(UserWarning, match="space: expected axes and variances"):
        found = search(space, f, images[:1], 1, saturation=None)
    assert found.made_by["covariance"] == "none"
    assert cos(found.g / STD, GAMMA / SPACE.variances.sqrt() @ SPACE.axes) > 0.99
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert search(SPACE, f, images[:1], 1).made_by["covariance"] == "space"


def test_principal_axes_are_those_of_the_codes():
    codes = (normal(20_000, 4, seed=4) * SPACE.variances.sqrt()) @ SPACE.axes * STD + 7.0
    axes, variances = principal_axes(codes, STD)
    torch.testing.assert_close(variances, SPACE.variances, rtol=0.04, atol=0)
    assert (axes * SPACE.axes).sum(1).abs().min() > 0.99
    assert axes.gather(1, axes.abs().argmax(1, keepdim=True)).min() > 0


def test_a_classifier_that_says_nothing_has_no_directions():
    found = search(SPACE, in_xi(lambda xi: cfx.two_logits(0 * xi[:, 0] + 1)), X, 1)
    assert (len(found), found.names) == (0, ())


def test_lost_answers_are_left_out():
    f = in_xi(lambda xi: cfx.two_logits(torch.where(xi[:, 1] > 1.5, torch.nan, xi @ GAMMA)))
    found = search(SPACE, f, X, 1, saturation=None)
    assert cos(found.g / STD, GAMMA @ SPACE.axes) > 0.999
    assert found.proxy_fit.n_queries < 450


def test_batches_do_not_matter():
    a, b = (search(SPACE, LINEAR, X, 1, batch_size=size).g for size in (7, 64))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_planted_errors_are_caught(monkeypatch):
    plain = BlackBoxProbe._with_covariance
    monkeypatch.setattr(
        BlackBoxProbe, "_with_covariance", lambda self, rows: plain(self, rows) * STD
    )
    with pytest.raises(AssertionError):
        test_probes_have_the_covariance_of_real_codes()
