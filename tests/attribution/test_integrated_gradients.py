"""Attributions along paths whose line integrals are known."""

import math

import pytest
import torch
from torch import Tensor, nn
from worlds import LinearNet, TinyNet, vae_world

import cfxnb as cfx
from cfxnb.attribution import integrated_gradients as attribution
from cfxnb.attribution.captum_attribution import captum_attribution
from cfxnb.attribution.integrated_gradients import METHODS, integrated_gradients
from cfxnb.attribution.paths import (
    direction_path,
    latent_path,
    piecewise_linear_path,
    straight_path,
)
from cfxnb.attribution.result import COMPLETE, INCOMPLETE
from cfxnb.core.types import NO_GRADIENT


class Bent(nn.Module):
    """One coordinate z as two pixels (z^2, z)."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("std", torch.ones(1))

    def encode(self, images: Tensor) -> cfx.Code:
        return cfx.Code(images[:, 0, 0, 1:])

    def decode(self, code: cfx.Code) -> Tensor:
        return torch.stack([code.z**2, code.z], dim=-1)[:, None]


def formula(function):
    """A classifier with logits (0, function of the flat pixels)."""
    return lambda images: cfx.two_logits(function(images.flatten(1)))


PRODUCT = formula(lambda p: p[:, 0] * p[:, 1])
CURVE = latent_path(Bent(), cfx.Code(torch.zeros(1, 1)), cfx.Code(torch.ones(1, 1)))
LINE = straight_path(torch.ones(1, 1, 1, 2))


def heat(path, method="trapezoid", n_points=2001, f=PRODUCT, **kwargs):
    found = integrated_gradients(
        f, path, 1, method=method, n_points=n_points, max_points=1, **kwargs
    )
    return found.heat_map[0, 0]


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(
        a.double(), torch.as_tensor(b, dtype=torch.float64), rtol=0, atol=tolerance
    )


def test_product_along_a_straight_line():
    """Both factors share alike; the trapezoid rule is exact for a gradient linear in t."""
    for n_points in (2, 5, 17):
        close(heat(LINE, n_points=n_points), [0.5, 0.5], 1e-6)
    close(heat(LINE, "gausslegendre", 3), [0.5, 0.5], 1e-6)


def test_product_along_a_curve():
    """x = t^2, y = t: the integral of y dx is 2/3, that of x dy is 1/3."""
    close(heat(CURVE), [2 / 3, 1 / 3])


def test_published_mean_along_a_curve_misses():
    """It takes the curve for a line: means of y and x over t are 1/2 and 1/3, the change is 1."""
    found = integrated_gradients(PRODUCT, CURVE, 1, method="mean_gradient", n_points=2001)
    close(found.heat_map[0, 0], [1 / 2, 1 / 3], 1e-3)
    close(found.relative_delta, [-1 / 6], 1e-3)
    assert found.status == (INCOMPLETE,)


def test_proportional_along_a_curve():
    """df = 3 t^2 dt, shared by the speeds 2 t and 1: 3/8 log 3 for y, complete at any number."""
    close(heat(CURVE, "proportional"), [1 - 3 / 8 * math.log(3), 3 / 8 * math.log(3)], 1e-4)
    for n_points in (2, 3, 20):
        found = integrated_gradients(PRODUCT, CURVE, 1, method="proportional", n_points=n_points)
        assert found.relative_delta.abs().max() < 1e-6


def test_proportional_on_a_straight_line_go_by_the_pixels_change():
    path = straight_path(torch.tensor([[[[1.0, 0.25]]]]), 0.0)
    f = formula(lambda p: torch.sin(3 * p[:, 0]) + p[:, 1] ** 2)
    total = math.sin(3) + 0.0625
    close(heat(path, "proportional", 9, f), [0.8 * total, 0.2 * total], 1e-6)


def test_published_secant():
    """On a straight line every pixel gets the whole change; on the curve 3/4 and 1."""
    close(heat(LINE, "secant", 50), [1.0, 1.0], 1e-4)
    close(heat(CURVE, "secant"), [0.75, 1.0], 2e-3)
    found = integrated_gradients(PRODUCT, LINE, 1, method="secant", n_points=50)
    close(found.relative_delta, [1.0], 1e-4)


@pytest.mark.parametrize("method", ["trapezoid", "gausslegendre", "mean_gradient"])
def test_linear_classifier_is_exact_whatever_the_points(method):
    weight = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    x = torch.rand(4, 3, 2, 2)
    b = torch.rand(4, 3, 2, 2)
    for contrast_class in (None, 2):
        w = (weight[1] - (0 if contrast_class is None else weight[2])).view(3, 2, 2)
        found = integrated_gradients(
            cfx.wrap(LinearNet(weight)), straight_path(x, b), 1, contrast_class=contrast_class,
            method=method, n_points=3, max_points=1,
        )  # fmt: skip
        close(found.attributions, (w * (x - b)).double(), 1e-6)
        close(found.output_change, ((w * (x - b)).sum((1, 2, 3))).double(), 1e-5)
        assert torch.equal(found.image, x)
        assert torch.equal(found.baseline, b)


def test_linear_classifier_along_a_detour():
    """Constant gradients see the ends alone, wherever the path goes between."""
    weight = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    corners = torch.rand(4, 6, 3, 2, 2)
    found = integrated_gradients(cfx.wrap(LinearNet(weight)), piecewise_linear_path(corners), 0)
    close(
        found.attributions,
        (weight[0].view(3, 2, 2) * (corners[:, -1] - corners[:, 0])).double(),
        1e-6,
    )


def test_of_two_classes_only_the_difference_counts():
    """A widened single logit leaves class 0 at 0: its own map would be empty."""
    f = formula(lambda p: p[:, 0] * p[:, 1])
    ours = [integrated_gradients(f, LINE, label) for label in (0, 1)]
    close(ours[0].heat_map, -ours[1].heat_map.double(), 0)
    close(ours[1].heat_map[0, 0], [0.5, 0.5], 1e-6)
    assert [a.contrast_class.tolist() for a in ours] == [[1], [0]]


STEEP = formula(lambda p: 4 * torch.tanh(20 * (p @ torch.tensor([0.3, 0.7]) - 0.9)))


def test_bisection_reaches_the_tolerance_with_fewer_points():
    """A function of one sum: each pixel's share is its weight, whatever the function."""
    found = integrated_gradients(STEEP, LINE, 1, n_points=5, tolerance=1e-3, max_points=1000)
    assert found.status == (COMPLETE,)
    assert found.relative_delta.abs() <= 1e-3
    close(found.heat_map[0, 0], found.output_change * torch.tensor([0.3, 0.7]), 0.01)
    even = integrated_gradients(STEEP, LINE, 1, n_points=int(found.n_points), max_points=1)
    assert found.relative_delta.abs() < even.relative_delta.abs()
    assert 5 < found.n_points < 100


def test_no_more_points_than_allowed():
    found = integrated_gradients(STEEP, LINE, 1, n_points=5, tolerance=1e-9, max_points=12)
    assert found.n_points.tolist() == [12]
    assert found.status == (INCOMPLETE,)
    fixed = integrated_gradients(STEEP, LINE, 1, n_points=5, tolerance=1e-9, max_points=5)
    assert fixed.n_points.tolist() == [5]


def test_opposite_errors_do_not_pass_for_completeness():
    """First x rises by x^3, then y by 4 y - y^3: three points give 3/2 and 5/2 for 1 and 3."""
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]).view(1, 3, 1, 1, 2)
    f = formula(lambda p: p[:, 0] ** 3 + 4 * p[:, 1] - p[:, 1] ** 3)
    coarse = integrated_gradients(f, piecewise_linear_path(corners), 1, n_points=3, max_points=3)
    close(coarse.heat_map[0, 0], [1.5, 2.5])
    assert coarse.relative_delta.abs() < 1e-6
    fine = integrated_gradients(f, piecewise_linear_path(corners), 1, n_points=3, tolerance=0.01)
    close(fine.heat_map[0, 0], [1.0, 3.0], 0.04)


def test_corners_are_points_of_the_path():
    """Through a corner (1, 0): all of the product's rise comes from the second pixel."""
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]).view(1, 3, 1, 1, 2)
    for n_points in (2, 4, 17):
        close(heat(piecewise_linear_path(corners), n_points=n_points), [0.0, 1.0], 1e-6)


def test_steps_along_are_in_standard_deviations():
    space = Bent()
    space.std = torch.tensor([0.25])
    code = cfx.Code(torch.tensor([[0.9], [0.6]]))
    path = direction_path(space, code, torch.tensor([-7.0]), torch.tensor([2.0, -1.0]))
    ends = [path.at(torch.arange(2), torch.full((2,), t))[:, 0, 0, 1] for t in (0.0, 1.0)]
    close(ends[0], [0.9 - 2 * 0.25, 0.6 + 0.25])
    close(ends[1], [0.9, 0.6])


@pytest.mark.parametrize(("classes", "contrast_class"), [(2, None), (3, None), (3, 2)])
def test_equal_to_captum(classes, contrast_class):
    _, f, x = vae_world(classes)
    baseline = x.flip(0)
    ours = integrated_gradients(
        f,
        straight_path(x, baseline),
        1,
        contrast_class=contrast_class,
        method="gausslegendre",
        n_points=20,
    )
    theirs = captum_attribution(
        "integrated_gradients",
        f,
        x,
        1,
        contrast_class=contrast_class,
        baseline=baseline,
        n_points=20,
    )
    torch.testing.assert_close(ours.attributions, theirs.attributions, rtol=0, atol=1e-6)
    assert (ours.attributions - theirs.attributions.roll(1, 0)).abs().max() > 1e-3
    assert theirs.status == (COMPLETE,) * 7
    assert torch.equal(theirs.cost["classifier"], torch.full((7,), 20 + 2))


def test_captum_baselines_in_closed_form():
    weight = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    f, x = cfx.wrap(LinearNet(weight)), torch.rand(3, 3, 2, 2)
    label = torch.tensor([0, 1, 0])
    w = weight[label].view(3, 3, 2, 2)
    product = captum_attribution("input_x_gradient", f, x, label)
    close(product.attributions, (w * x).double(), 1e-6)
    box = cfx.BlackBox(f)
    hidden = captum_attribution("occlusion", box, x, label, baseline=0.2, window=1, stride=1)
    # The window covers all channels, which get what they lose together.
    lost = (w * (x - 0.2)).sum(1, keepdim=True).expand(3, 3, 2, 2)
    close(hidden.attributions, lost.double(), 1e-5)
    assert int(hidden.n_queries.sum()) == box.n_queries


@pytest.mark.parametrize("method", METHODS)
def test_constant_classifier_has_an_empty_complete_map(method):
    f = cfx.wrap(LinearNet(torch.zeros(2, 12)))
    found = integrated_gradients(f, straight_path(torch.rand(2, 3, 2, 2)), 1, method=method)
    assert not found.attributions.any()
    assert found.relative_delta.tolist() == [0.0, 0.0]
    assert found.status == (COMPLETE, COMPLETE)
    assert found.negative_fraction.isnan().all()


def test_what_has_no_gradient_says_so():
    def steps(images):
        return cfx.two_logits((images.flatten(1)[:, 0] * 4).round() + 0 * images.sum((1, 2, 3)))

    path = straight_path(torch.rand(3, 1, 2, 2) / 2 + 0.5)
    white = integrated_gradients(steps, path, 1)
    assert white.status == (NO_GRADIENT,) * 3
    assert integrated_gradients(steps, path, 1, method="proportional").status == (COMPLETE,) * 3


def test_gradients_that_are_not_finite_are_data():
    def nowhere(images):
        flat = images.flatten(1)
        return cfx.two_logits(flat.sum(1) + (0 * flat).sqrt().sum(1))  # 0 times infinity

    found = integrated_gradients(nowhere, straight_path(torch.rand(2, 1, 2, 2)), 1)
    assert found.status == (NO_GRADIENT,) * 2


@pytest.mark.parametrize("at", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("n_points", [2, 17, 40])
def test_an_infinite_slope_has_a_finite_integral(at, n_points):
    """The slope of the root of |mean - at| is infinite on the way, or at an end of it."""

    def root(images):
        mean = images.mean((1, 2, 3))
        return cfx.two_logits(5 * (mean - at).sign() * (mean - at).abs().sqrt())

    x = torch.ones(2, 1, 2, 2)
    found = integrated_gradients(root, straight_path(x), 1, n_points=n_points)
    change = 5 * ((1 - at) ** 0.5 + at**0.5)
    assert set(found.status) == {"complete"}
    torch.testing.assert_close(
        found.attributions, torch.full_like(x, change / 4), rtol=0.01, atol=0
    )
    gauss = integrated_gradients(root, straight_path(x), 1, method="gausslegendre", n_points=16)
    assert gauss.attributions.isfinite().all()


def test_of_two_logits_one_alone_can_be_explained():
    x = torch.rand(2, 1, 2, 2)

    def two(images):
        flat = images.flatten(1)
        return torch.stack([flat[:, 0], 10 * flat[:, 1]], 1)

    alone = integrated_gradients(two, straight_path(x), 0, contrast_class="none")
    assert alone.contrast_class is None
    torch.testing.assert_close(alone.attributions.flatten(1)[:, 0], x.flatten(1)[:, 0])
    assert not alone.attributions.flatten(1)[:, 1:].any()
    difference = integrated_gradients(two, straight_path(x), 0)
    torch.testing.assert_close(difference.attributions.flatten(1)[:, 1], -10 * x.flatten(1)[:, 1])


def test_negative_fraction():
    f = cfx.wrap(LinearNet(torch.tensor([[0.0, 0, 0, 0], [3.0, -1, 0, 0]])))
    found = integrated_gradients(f, straight_path(torch.ones(1, 1, 2, 2)), 1)
    close(found.negative_fraction, [0.25], 1e-6)


@pytest.mark.parametrize("wrong", ["ends", "no sign", "half"])
def test_planted_errors_are_caught(monkeypatch, wrong):
    right = attribution._map

    def plant(method, x, f, g, weights):
        if wrong == "ends":  # gradients at the left ends only
            return (g[:-1] * x.diff(dim=0)).sum(0).double()
        if wrong == "no sign":
            return (0.5 * (g[1:] + g[:-1]) * x.diff(dim=0).abs()).sum(0).double()
        return right(method, x, f, g, weights) / 2

    monkeypatch.setattr(attribution, "_map", plant)
    tests = [test_product_along_a_straight_line, test_corners_are_points_of_the_path]
    caught = 0
    for test in [*tests, lambda: test_linear_classifier_is_exact_whatever_the_points("trapezoid")]:
        try:
            test()
        except AssertionError:
            caught += 1
    assert caught


def test_evaluation_mode_inside():
    x = torch.rand(5, 3, 8, 8)
    net = TinyNet(2, x).train()
    path = straight_path(x)
    a, b = (integrated_gradients(cfx.wrap(net), path, 1) for _ in range(2))
    assert torch.equal(a.attributions, b.attributions)
    assert net.training


def test_evaluation_mode_of_the_space_inside():
    space, f, x = vae_world(3)
    code = space.encode(x)
    path = direction_path(space, cfx.Code(code.z.detach()), torch.ones(4), 1.0)
    calm = integrated_gradients(f, path, 1)
    space.train()
    torch.testing.assert_close(integrated_gradients(f, path, 1).attributions, calm.attributions)
    assert space.training
