"""The StyleGAN2 adapter on a tiny random generator: codes, images, projection."""

import pytest
import torch
from stylegans import generator
from torch import nn
from worlds import LinearNet

import cfxnb as cfx
from cfxnb.core.tensors import active_dims
from cfxnb.core.types import LatentSpace
from cfxnb.spaces import StyleGAN2

LATENTS = ("w", "w+", "s")
SHAPES = {"w": (12,), "w+": (6, 12), "s": (16 + 16 + 16 + 16 + 16 + 16 + 8 + 8,)}


@pytest.fixture(scope="module")
def spaces():
    net = generator()
    return {latent: StyleGAN2(net, latent).eval() for latent in LATENTS}


@pytest.fixture(params=LATENTS, scope="module")
def space(request, spaces):
    return spaces[request.param]


@pytest.fixture(scope="module")
def images(spaces):
    return spaces["w"].decode(spaces["w"].sample(3, seed=5))


def squares(a, b):
    return (a - b).square().flatten(1).mean(1)


def test_shapes(space):
    assert isinstance(space, LatentSpace)
    assert space.mean.shape == space.std.shape == SHAPES[space.latent]
    code = space.sample(4)
    assert code.z.shape == (4, *SHAPES[space.latent])
    images = space.decode(code)
    assert images.shape == (4, 3, 16, 16)
    assert images.min() >= 0
    assert images.max() <= 1
    assert squares(images[:1], images[1:]).min() > 1e-3


def test_all_latents_draw_and_decode_the_same_images(spaces):
    expected = spaces["w"].decode(spaces["w"].sample(3, seed=2, truncation_psi=0.8))
    for space in spaces.values():
        torch.testing.assert_close(space.decode(space.sample(3, 2, 0.8)), expected)
        w = spaces["w"].sample(3, seed=2, truncation_psi=0.8).z
        torch.testing.assert_close(space.decode(space.from_w(w)), expected)


def test_center_and_spread_are_those_of_draws(space):
    z = space.sample(20_000, seed=9).z
    assert (z.mean(0) - space.mean).abs().max() < 0.06 * z.std(0).max()
    std = z.std(0)
    if space.latent == "s":
        std = std.masked_fill(space.net.in_rgb, 0)
    torch.testing.assert_close(space.std, std, rtol=0.06, atol=1e-5)


def test_styles_of_rgb_carry_nothing(spaces):
    space = spaces["s"]
    assert torch.equal(active_dims(space.std), ~space.net.in_rgb)
    assert space.net.in_rgb.sum() == 16 + 16 + 8


def test_samples_are_bound_to_seed_and_row(space):
    many, few = space.sample(5, seed=3).z, space.sample(2, seed=3).z
    torch.testing.assert_close(many[:2], few)
    assert not torch.allclose(space.sample(2, seed=4).z, few)


def test_truncation(space):
    mean = space.decode(space.from_w(space.net.mapping.w_avg[None]))
    for image in space.decode(space.sample(3, truncation_psi=0.0)):
        torch.testing.assert_close(image[None], mean)
    whole, half = (space.decode(space.sample(50, truncation_psi=psi)) for psi in (1.0, 0.5))
    assert squares(half, mean).mean() < 0.7 * squares(whole, mean).mean()


def test_the_same_code_gives_the_same_image(space):
    """The noise is fixed, and mates don't matter."""
    code = space.sample(4)
    torch.testing.assert_close(space.decode(code)[2:3], space.decode(code[2:3]))
    assert torch.equal(space.decode(code), space.decode(code))


def test_the_gradient_is_right(spaces):
    """Against differences, in double precision, for every latent space."""
    net = generator().double()
    for latent in LATENTS:
        space = StyleGAN2(net, latent, w_avg_samples=50)
        z = space.sample(1, truncation_psi=0.3).z.requires_grad_()
        direction = space.std * torch.randn_like(space.std)
        pixels = torch.randn(1, 3, 16, 16, dtype=torch.float64)

        def height(z, space=space, pixels=pixels):
            return (space.decode(cfx.Code(z)) * pixels).sum()

        slope = (torch.autograd.grad(height(z), z)[0] * direction).sum()
        step = 1e-6 * direction
        differences = (height(z + step) - height(z - step)) / 2e-6
        torch.testing.assert_close(slope, differences, rtol=1e-3, atol=1e-5)
        assert slope.abs() > 1e-3


def test_images_stay_in_range_and_gradients_go_through(space):
    z = space.sample(3).z.requires_grad_()
    space.decode(cfx.Code(z)).sum().backward()
    assert z.grad.isfinite().all()
    assert (z.grad.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize(("latent", "factor"), [("w", 200), ("w+", 20), ("s", 4)])
def test_projection_finds_a_generated_image(spaces, images, latent, factor):
    space, losses = spaces[latent], []

    def watch(step):
        assert (step.number, step.total) == (len(losses) + 1, 151)
        assert step.rows.tolist() == [0, 1, 2]
        assert (step.active == (step.number < 151)).all()
        losses.append(-step.probability.log())

    code = space.project(images, steps=150, lr=0.15, on_step=watch)
    assert len(losses) == 151
    rebuilt = space.decode(code)
    assert (squares(rebuilt, images) * factor < losses[0]).all()
    assert code.z.shape == (3, *space.mean.shape)
    assert not code.z.requires_grad


def test_projection_into_w_finds_the_code(spaces):
    space = spaces["w"]
    truth = space.sample(2, seed=6, truncation_psi=0.7)
    found = space.project(space.decode(truth), steps=250, lr=0.15)
    assert ((found.z - truth.z) / space.std).abs().max() < 0.1


def test_a_known_start_is_taken(spaces):
    """An image of one of the draws needs no step at all."""
    space = spaces["w"]
    drawn = space.sample(8, seed=4)
    found = space.project(space.decode(drawn[3:5]), n_starts=8, seed=4, steps=1)
    torch.testing.assert_close(found.z, drawn.z[3:5])


def test_projection_never_ends_worse_than_it_began(space, images):
    first = space.project(images, steps=1, lr=1e-9)
    wild = space.project(images, steps=5, lr=50.0)
    worse = squares(space.decode(wild), images) > squares(space.decode(first), images) + 1e-6
    assert not worse.any()


def test_batch_mates_do_not_matter(space, images):
    kwargs = {"steps": 30, "n_starts": 8}
    whole = space.project(images, **kwargs).z
    alone = torch.cat([space.project(image[None], **kwargs).z for image in images])
    small = space.project(images, batch_size=2, **kwargs).z
    turned = space.project(images.flip(0), **kwargs).z.flip(0)
    for other in (alone, small, turned):
        torch.testing.assert_close(other, whole, rtol=0, atol=1e-3)


def test_saturated_pixels_are_no_difference(spaces):
    """A picture that is white where the generator exceeds white is matched exactly."""
    space = spaces["w"]
    bright = space.sample(40, seed=1)
    image = space.decode(bright)
    found = [row for row in range(40) if (image[row] == 1).float().mean() > 0.05]
    assert found
    row = slice(found[0], found[0] + 1)
    kept = space.project(image[row], n_starts=40, seed=1, steps=1)
    torch.testing.assert_close(kept.z, bright.z[row])


def test_on_step_stops(spaces, images):
    looks = []
    spaces["w"].project(images, steps=50, on_step=lambda step: looks.append(step) or len(looks) > 2)
    assert len(looks) == 3


def test_distance_is_minimised_too(spaces, images):
    """This one contradicts the pixels: it wants the colours of the negative."""
    space = spaces["w"]

    def negative(a, b):
        assert a.min() >= 0
        assert a.max() <= 1
        return (a.mean((2, 3)) + b.mean((2, 3)) - 1).square().sum(1)

    kwargs = {"steps": 30, "n_starts": 4}
    without = space.project(images, **kwargs)
    using = space.project(images, distance=negative, distance_weight=100.0, **kwargs)
    far = [negative(space.decode(code), images) for code in (without, using)]
    assert far[1].sum() < far[0].sum() / 3
    none = space.project(images, distance=negative, distance_weight=0.0, **kwargs)
    torch.testing.assert_close(none.z, without.z)


def test_encode_projects_as_it_is_told(spaces, images):
    net = spaces["w"].net
    quick = StyleGAN2(net, "w+", projection={"steps": 4, "n_starts": 2})
    with torch.no_grad():  # as methods do
        code = quick.encode(images)
    assert torch.equal(code.z, quick.project(images, steps=4, n_starts=2).z)


def test_projection_leaves_no_trace(images):
    space = StyleGAN2(generator().requires_grad_(True).train(), "w", w_avg_samples=10)
    distance = nn.Linear(1, 1)
    before, random = {k: v.clone() for k, v in space.state_dict().items()}, torch.get_rng_state()

    def measured(a, b):
        return distance((a - b).square().mean((1, 2, 3))[:, None])[:, 0].square()

    space.project(images[:1], steps=2, n_starts=2, distance=measured)
    assert space.training
    assert all(p.requires_grad and p.grad is None for p in space.net.parameters())
    assert all(p.grad is None for p in distance.parameters())
    assert all(torch.equal(v, before[k]) for k, v in space.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_attacks_work_in_every_latent_space(spaces, images):
    """A classifier of brightness, fooled by a search of ``methods``; toRGB stays as it is."""
    weight = torch.ones(1, 3 * 16 * 16) / 30
    for latent, whole in spaces.items():
        space = StyleGAN2(whole.net, latent, projection={"steps": 20, "n_starts": 4})
        level = ((images - 0.5).flatten(1) @ weight.T).max()
        f = cfx.wrap(LinearNet(2 * weight, -2 * level[None] - 0.5))
        cf = cfx.latent_attack(space, f, images, 1, confidence=0.6)
        assert cf.flipped.any()
        assert "no_gradient" not in cf.status
        if latent == "s":
            moved = (cf.code_after.z - cf.code_before.z)[cf.flipped]
            assert (moved[:, space.net.in_rgb] == 0).all()
            assert (moved[:, ~space.net.in_rgb] != 0).any()
