"""SCE, regions that later attempts may not use, and the smooth copy of a classifier."""

import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from gaussians import GaussianSpace, gaussian_world
from torch import nn

import cfxnb as cfx
from cfxnb.diffusion.composite import edit_mask
from cfxnb.diffusion.sce_as_published import blurred_difference
from cfxnb.diffusion.smooth_relu import SmoothReLUs, leaky_softplus

NOT = {"smooth": False, "steps": 40, "lr": 1.0}


class Halves(nn.Module):
    """Class 1 shows in the left half or in the right half of an image: either is enough."""

    def forward(self, images):
        z = (images - 0.5) / 0.05
        left, right = z[..., :3].mean((1, 2, 3)), z[..., 3:].mean((1, 2, 3))
        score = 20 * ((5 * torch.stack([left, right], 1)).logsumexp(1) / 5 - 1)
        return torch.stack([torch.zeros_like(score), score], 1)


def halves(count=4):
    space = GaussianSpace(4)
    space.means[:] = 0
    space.means[1::2, ..., :3] = 1.0  # the halves are independent of each other
    space.means[2:, ..., 3:] = 1.0
    z = -0.6 + 0.1 * torch.randn(count, *space.mean.shape)
    z[..., :3] += 0.4  # the left half is nearer to class 1
    images = space.decode(cfx.Code(z))
    return space, cfx.wrap(Halves()), images


def left_only(images):
    mask = torch.zeros_like(images[:, 0], dtype=torch.bool)
    mask[..., :3] = True
    return mask


@pytest.mark.parametrize("side", ["left", "right"])
def test_only_allowed_pixels_change(side):
    space, f, x = halves()
    allowed = left_only(x) if side == "left" else ~left_only(x)
    found = cfx.sce(space, f, x, 1, allowed=allowed, **NOT)
    assert found.flipped.all()
    same = (found.image == found.original).all(1)
    assert same[~allowed].all()
    assert torch.equal(same, ~found.trace["changed"] | same)
    assert (found.trace["forbidden_fraction"] == 0.5).all()
    assert (f(found.image).softmax(1)[:, 1] >= 0.99 - 1e-3).all()


def test_no_allowed_pixel_finds_nothing_and_costs_nothing():
    space, f, x = halves()
    allowed = left_only(x)
    allowed[1] = False
    found = cfx.sce(space, f, x, 1, allowed=allowed, **NOT)
    assert found.status[1] == "not_found"
    assert found.flipped[[0, 2, 3]].all()
    assert torch.equal(found.image[1], found.reconstruction[1])
    assert found.cost["unet"][1] == 0


def test_the_region_of_an_image_belongs_to_it_in_every_batch():
    space, f, x = halves(5)
    allowed = left_only(x)
    allowed[::2] = ~allowed[::2]
    whole = cfx.sce(space, f, x, 1, allowed=allowed, **NOT)
    parts = cfx.sce(space, f, x, 1, allowed=allowed, batch_size=2, **NOT)
    torch.testing.assert_close(whole.image, parts.image)
    alone = cfx.sce(space, f, x[3:4], 1, allowed=allowed[3:4], first_row=3, **NOT)
    torch.testing.assert_close(alone.image, whole.image[3:4])


def test_gradients_may_come_from_another_network():
    space, f, x = halves()
    box = cfx.BlackBox(f)
    found = cfx.sce(space, box, x, 1, gradient_classifier=f, **NOT)
    torch.testing.assert_close(found.image, cfx.sce(space, f, x, 1, **NOT).image)
    assert box.n_queries > 0
    with pytest.raises(TypeError, match=r"BlackBox"):
        cfx.sce(space, box, x, 1, **NOT)


@pytest.mark.parametrize("wrong", [torch.ones(4, 4, 6), torch.ones(3, 4, 6) > 0, "all", 1])
def test_allowed_is_a_mask_of_pixels(wrong):
    space, f, x = halves()
    for method in (cfx.sce, partial(cfx.sce_as_published, blur_size=3)):
        with pytest.raises((ValueError, TypeError), match=r"allowed: expected .* got"):
            method(space, f, x, 1, allowed=wrong)


def methods(space):
    return {
        "sce": partial(cfx.sce, space, **NOT),
        "pixel attack": partial(cfx.pixel_attack, confidence=0.9),
    }


@pytest.mark.parametrize("name", ["sce", "pixel attack"])
def test_the_second_answer_leaves_the_first_ones_pixels_alone(name):
    space, f, x = halves()
    first, second = cfx.diverse_counterfactuals(methods(space)[name], f, x, 1, region_threshold=0.2)
    changed = first.trace["changed"]
    assert first.flipped.all()
    assert second.flipped.any()
    torch.testing.assert_close(
        second.trace["forbidden_fraction"], changed.flatten(1).float().mean(1)
    )
    for i in second.flipped.nonzero()[:, 0].tolist():
        assert (second.image[i] == second.original[i])[:, changed[i]].all()
        assert not (changed[i] & second.trace["changed"][i]).any()
    with torch.no_grad():
        logits = f(second.image)
    tried = second.flipped
    torch.testing.assert_close(logits[tried], second.logits_after[tried], rtol=1e-3, atol=1e-3)


def test_attempts_end_where_nothing_is_found_or_nothing_is_left():
    space, f, x = halves()
    x[2] = space.decode(cfx.Code(torch.full_like(x[2:3], 2.0)))[0]  # is class 1 already
    results = cfx.diverse_counterfactuals(partial(cfx.pixel_attack), f, x, 1, n_attempts=6)
    assert len(results) == 6
    assert {r.status[2] for r in results} == {"already_target"}
    for earlier, later in itertools.pairwise(results):
        assert not (later.flipped & ~earlier.flipped).any()
        fraction = earlier.trace["forbidden_fraction"], later.trace["forbidden_fraction"]
        assert (fraction[0] <= fraction[1]).all()
    assert results[-1].status[0] == "not_found"
    assert torch.equal(results[-1].image[0], x[0])
    assert cfx.metrics.diversity(results[:2]).isfinite().any()


def test_a_black_box_stays_one():
    space, f, x = halves()
    box = cfx.BlackBox(f)

    def method(classifier, images, target):
        assert isinstance(classifier, cfx.BlackBox)
        direction = torch.ones(space.mean.shape)
        return cfx.follow_direction(space, classifier, images, direction, target, max_step=30.0)

    first, _ = cfx.diverse_counterfactuals(method, box, x, 1)
    assert first.flipped.all()


def test_a_method_returns_counterfactuals():
    _, f, x = halves()
    with pytest.raises(TypeError, match=r"method: expected .*Counterfactuals.* got"):
        cfx.diverse_counterfactuals(lambda f, x, t: x, f, x, 1)


def naive_leaky_softplus(x):
    return 0.5 * (torch.where(x > 0, x, 0.1 * x) + torch.log1p(torch.exp(10 * x)) / 10)


@pytest.mark.parametrize(
    "relu",
    [
        F.relu,
        torch.relu,
        nn.ReLU(),
        nn.ReLU(inplace=True),
        lambda x: x.relu(),
        lambda x: F.relu(input=x, inplace=True),
    ],
)
def test_every_relu_is_smooth_inside_only(relu):
    x = torch.linspace(-2, 2, 41)
    with SmoothReLUs():
        inside = relu(x.clone())
        untouched = F.silu(x)
    torch.testing.assert_close(inside, naive_leaky_softplus(x))
    assert torch.equal(untouched, F.silu(x))
    assert torch.equal(relu(x.clone()), x.clamp_min(0))


def test_a_dead_network_has_smooth_gradients():
    """All ReLUs are off, so the classifier's own gradient is 0."""
    space, _, x = halves()
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        net[1].weight.fill_(0.1)
        net[1].bias.fill_(-4.5)
        net[3].weight.copy_(torch.tensor([[0.0], [60.0]]))
        net[3].bias.copy_(torch.tensor([0.0, -3.0]))
    own = cfx.sce(space, net, x, 1, smooth=False, steps=20)
    assert set(own.status) == {"no_gradient"}
    smooth = cfx.sce(space, net, x, 1, steps=60, lr=1.0)
    assert smooth.flipped.any()
    assert smooth.trace["smooth_agrees"].all()


def test_leaky_softplus_has_a_gradient_everywhere():
    x = torch.linspace(-20, 20, 401).requires_grad_()
    slope = torch.autograd.grad(leaky_softplus(x).sum(), x)[0]
    assert slope.min() >= 0.05 - 1e-6
    assert slope.max() <= 1 + 1e-6


def test_an_unchanged_image_has_no_difference():
    x = torch.rand(2, 3, 8, 8)
    assert not blurred_difference(x, x, 5).any()
    assert not edit_mask(x, x, 0.0).any()


def test_published_steps_need_pixels():
    class Small(GaussianSpace):
        def encode(self, images):
            return cfx.Code(super().encode(images).z[:, :1])

    space, f, x = halves()
    small = Small(shape=(1, 4, 6))
    small.decode = lambda code, clamp=True: space.decode(cfx.Code(code.z.expand(-1, 3, -1, -1)))
    with pytest.raises(ValueError, match=r"space: expected a diffusion model of pixels"):
        cfx.sce_as_published(small, f, x, 1, steps=1, blur_size=3)
    with pytest.raises(ValueError, match=r"blur_size: expected .* got 13"):
        cfx.sce_as_published(space, f, x, 1)


def test_a_black_box_is_distilled():
    space, f, x, _ = gaussian_world(3, 6)
    many = space.sample(torch.arange(240) % 3, seed=3)
    box = cfx.BlackBox(f)
    copy = cfx.distill_classifier(box, many, width=8, steps=120)
    assert box.n_queries == 240
    assert copy.module.agreement > 0.8
    images = x.clone().requires_grad_()
    torch.autograd.grad(copy(images).sum(), images)
    again = cfx.distill_classifier(box, many, width=8, steps=120)
    torch.testing.assert_close(again(x), copy(x))
