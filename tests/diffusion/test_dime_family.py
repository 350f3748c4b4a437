"""MaskDiME, FastDiME and DiME with their default options, in a world whose truth is known."""

import pytest
import torch
from gaussians import GAP, gaussian_world
from torch import nn

import cfxnb as cfx
from cfxnb.core.ddim import even_schedule, linear_alphas_cumprod
from cfxnb.core.ddpm import levels, posterior_mean, posterior_variance
from cfxnb.diffusion.fastdime import large_changes
from cfxnb.diffusion.maskdime import MaskDiMEOptions, largest_gradients
from cfxnb.spaces import Autoencoder, Diffusion, PixelUnshuffleCodec, Unconditional

METHODS = (cfx.maskdime, cfx.fastdime, cfx.dime)
MASKED = (cfx.maskdime, cfx.fastdime)
each_method = pytest.mark.parametrize("method", METHODS, ids=lambda f: f.__name__)
each_masked = pytest.mark.parametrize("method", MASKED, ids=lambda f: f.__name__)


def close(a, b, atol=1e-5):
    torch.testing.assert_close(a, b, rtol=0, atol=atol, equal_nan=True)


def alone(cf, row):
    """All numbers of one image, but its cost, which must be compared exactly."""
    return (cf.image[row], cf.code_after.z[row], cf.logits_after[row], cf.trace["probability"][row])


@each_method
def test_it_flips_and_changes_what_the_class_is_made_of(method):
    cf = method(*gaussian_world(3, 9))
    assert cf.flipped.all()
    assert (cf.confidence >= 0.99 - 1e-4).all()
    moved = (cf.code_after.z - cf.code_before.z).abs().mean((0, 1, 2))
    assert moved[:GAP].min() > 1.5 * moved[GAP:].max()


def test_a_sample_without_gradient_keeps_its_mask():
    """The logarithm of a probability of 1 has no gradient. The change must not be lost for that."""
    space, f, x, target = gaussian_world(2, 8)
    cf = cfx.maskdime(space, f, x, target, scales=[2.0], strength=0.6, loss="log_probability")
    assert cf.flipped.any()
    assert (cf.image[cf.flipped] != x[cf.flipped]).flatten(1).any(1).all()


@each_method
def test_the_first_image_that_flips_is_nearer_and_cheaper(method):
    pause, stop = (method(*gaussian_world(3, 9), when_reached=way) for way in ("pause", "stop"))
    assert stop.flipped.all()
    off = [(cf.image - cf.original).flatten(1).norm(dim=1).mean() for cf in (pause, stop)]
    assert off[1] < off[0]
    assert stop.cost["unet"].sum() < pause.cost["unet"].sum()


@each_method
def test_batch_mates_and_shards_do_not_matter(method):
    space, f, x, target = gaussian_world(3, 7)
    target[-1] = f(x[-1:]).argmax(1)
    whole = method(space, f, x, target, seed=5)
    assert whole.status[-1] == "already_target"
    small = method(space, f, x, target, seed=5, batch_size=2)
    shard = method(space, f, x[3:], target[3:], seed=5, first_row=3)
    chosen = method(space, f, x[[4, 1]], target[[4, 1]], seed=5, first_row=torch.tensor([4, 1]))
    for row in range(7):
        others = [(small, row)] + [(shard, row - 3)] * (row >= 3)
        others += [(chosen, place) for place, own in enumerate((4, 1)) if own == row]
        for other, place in others:
            for a, b in zip(alone(whole, row), alone(other, place), strict=True):
                close(a, b, 1e-4)
            for part, count in whole.cost.items():
                assert count[row] == other.cost[part][place]
    another = method(space, f, x, target, seed=6)
    assert not torch.equal(whole.image[:-1], another.image[:-1])


@each_masked
def test_outside_of_the_mask_is_exactly_the_original(method):
    space, f, x, target = gaussian_world(2, 8)
    more = {} if method is cfx.maskdime else {"masking_threshold": 0.5, "warmup": 1}
    cf = method(space, f, x, target, dilation=1, **more)
    flipped = cf.flipped
    assert flipped.any()
    mask = cf.trace["mask"][:, None].expand_as(cf.image)
    outside = ~mask & flipped.view(-1, 1, 1, 1)
    assert outside.any()
    assert torch.equal(cf.image[outside], x[outside])


def test_the_mask_covers_what_was_asked_for():
    space, f, x, target = gaussian_world(2, 8)
    wide = cfx.maskdime(space, f, x, target, dilation=1, mask_fraction=0.5, inner_fraction=0.5)
    covered = wide.trace["mask_fraction"][:, 1:]
    assert covered[covered.isfinite()].max() <= 0.25 + 1e-6
    published = cfx.maskdime(
        space, f, x, target, mask_fraction=0.25, dilation=3, as_published=True, steps=20
    )
    assert published.trace["mask_fraction"][:, 1:].nanmean() > 0.4


def options(**given):
    usual = {
        "scales": (1.0,), "strength": 0.5, "steps": 5, "confidence": 0.9, "l1_scale": 0.0,
        "perceptual_scale": 0.0, "loss": "log_odds", "gradient_clip": "none",
        "clip_sample_range": None, "when_reached": "pause", "as_published": False, "seed": 0,
        "mask_fraction": 0.3, "inner_fraction": 0.5, "dilation": 3, "per_channel": False,
    }  # fmt: skip
    return MaskDiMEOptions(**usual | given)


@pytest.mark.parametrize("dilation", [1, 3, 5])
def test_masks_are_the_largest_squares_that_fit(dilation):
    """One by one, squares around the largest scores are added, as long as the area allows it."""
    score = torch.randn(4, 2, 9, 11, generator=torch.Generator().manual_seed(0))
    masks = largest_gradients(score, options(mask_fraction=0.4), dilation)
    most = int(0.4 * 99), max(1, int(0.5 * int(0.4 * 99)))
    for mask, count in zip(masks, most, strict=True):
        for row, own in zip(score.abs().mean(1), mask[:, 0], strict=True):
            wanted = torch.zeros_like(own)
            for place in row.flatten().argsort(descending=True).tolist():
                y, x, half = place // 11, place % 11, dilation // 2
                larger = wanted.clone()
                larger[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1] = True
                if wanted.any() and larger.sum() > count:
                    break
                wanted = larger
            assert torch.equal(own, wanted)
    assert (masks[0] | ~masks[1]).all()


def test_a_zero_gradient_has_no_mask():
    for published in (False, True):
        masks = largest_gradients(torch.zeros(2, 3, 4, 6), options(as_published=published), 3)
        assert not masks[0].any()
        assert not masks[1].any()


def test_large_changes():
    before = torch.zeros(2, 1, 5, 5)
    after = before.clone()
    after[0, 0, 2, 2], after[0, 0, 0, 0] = 1.0, 0.1
    mask = large_changes(before, after, 0.5, 3)
    assert mask[0, 0, 1:4, 1:4].all()
    assert mask[0].sum() == 9
    assert not mask[1].any()  # nothing changed


@each_method
def test_no_gradient_and_nothing_found(method):
    space, f, x, target = gaussian_world(2, 4)

    class Blind(nn.Module):
        """Always the first class, with a gradient of 0."""

        def forward(self, images):
            return 0 * images.flatten(1)[:, :2] + torch.tensor([3.0, 0.0])

    cf = method(space, cfx.wrap(Blind()), x, 1)
    assert set(cf.status) == {"no_gradient"}
    assert torch.equal(cf.code_after.z, cf.code_before.z)
    assert torch.equal(cf.image, cf.reconstruction)
    weak = method(space, f, x, target, scales=[1e-6], strength=0.05)
    assert "not_found" in weak.status
    rows = [status == "not_found" for status in weak.status]
    assert torch.equal(weak.code_after.z[rows], weak.code_before.z[rows])
    assert torch.equal(weak.image[rows], weak.reconstruction[rows])


@each_method
def test_codes_that_diverge_are_never_a_success(method):
    """The published update is not bounded. An infinite logit does not count as a flip."""
    space, f, x, target = gaussian_world(2, 4)
    cf = method(space, f, x, target, as_published=True, steps=20, scales=[1e30], confidence=0.5)
    assert cf.image.isfinite().all()
    assert cf.code_after.z.isfinite().all()
    assert not cf.flipped.any()


@each_method
def test_costs_are_what_the_networks_count(method):
    space, f, x, target = gaussian_world(2, 6)
    target[-1] = f(x[-1:]).argmax(1)
    space.rows, f.module.rows, f.module.backward = [], 0, 0
    cf = method(space, f, x, target)
    checks = 2  # the first calls are repeated for one row, to notice random networks
    assert 0 <= sum(space.rows) - cf.cost["unet"].sum() <= checks
    assert cf.cost["unet"][-1] == 0
    again = 8  # rows that the checks classify once more
    counted = f.module.rows + f.module.backward
    assert counted - again <= cf.cost["classifier"].sum() <= counted


@each_method
def test_stops_when_asked(method):
    space, f, x, target = gaussian_world(2, 4)
    cf = method(space, f, x, target, on_step=lambda step: True)
    assert set(cf.status) == {"stopped"}
    seen = []
    cf = method(space, f, x, target, on_step=seen.append)
    assert [step.number for step in seen] == sorted({step.number for step in seen})
    assert seen[-1].number <= seen[-1].total
    assert all(len(step.rows) == len(step.probability) for step in seen)


@each_method
def test_distances_keep_the_image_closer(method):
    space, f, x, target = gaussian_world(2, 8)

    def far(**more):
        cf = method(space, f, x, target, scales=[0.5], strength=0.5, **more)
        return (cf.image - x).flatten(1).norm(dim=1)[cf.flipped].mean()

    plain = far()
    assert far(l1_scale=0.2) < plain
    assert far(perceptual_scale=0.2, features=lambda images: images.flatten(1)) < plain


def pixel_space(variance=True):
    """A tiny pixel model that has learned the variance of its steps."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 6 if variance else 3, 3, padding=1)

        def forward(self, z, t):
            return self.conv(z) * (1 + t.view(-1, 1, 1, 1) / 1000)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        pixels = Autoencoder(PixelUnshuffleCodec(1), torch.zeros(3, 8, 8), torch.ones(3, 8, 8))
        return Diffusion(Net(), pixels, conditions=Unconditional())


def test_learned_variance():
    space = pixel_space()
    z, t = torch.randn(2, 3, 8, 8), torch.tensor([3, 700])
    noise, fraction = space.predict_noise_and_variance(z, t, space.encode_condition([None, None]))
    both = space.net(z, t)
    close(noise, both[:, :3])
    close(fraction, (both[:, 3:] + 1) / 2)
    close(noise, space.predict_noise(z, t, space.encode_condition([None, None])))
    plain = pixel_space(variance=False)
    assert plain.predict_noise_and_variance(z, t, plain.encode_condition([None, None]))[1] is None


@each_masked
@pytest.mark.parametrize("variance", [True, False])
def test_pixel_models(method, variance):
    space = pixel_space(variance)
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    f = cfx.wrap(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)))
    target = 1 - f(x).argmax(1)
    cf = method(space, f, x, target, clip_sample_range=1.0, confidence=0.6)
    close(cf.reconstruction, x)
    close(cf.image, space.decode(cf.code_after), 1e-5)
    assert cf.flipped.any()
    mask = cf.trace["mask"][:, None].expand_as(x) | ~cf.flipped.view(-1, 1, 1, 1)
    assert torch.equal(cf.image[~mask], x[~mask])


def test_variances_of_the_steps():
    """beta_tilde < beta, except where the step leads to the clean code; and the posterior mean."""
    schedule = even_schedule(linear_alphas_cumprod(), torch.full((2,), 0.5), 7)
    steps = levels(schedule)
    assert [level.is_last for level in steps] == [False] * 6 + [True]
    for level in steps[:-1]:
        assert (level.beta_tilde > 0).all()
        assert (level.beta_tilde < level.beta).all()
        assert torch.equal(level.beta_tilde, level.beta_tilde_learned)
    assert (steps[-1].beta_tilde == 0).all()
    assert torch.equal(steps[-1].beta_tilde_learned, steps[-2].beta_tilde)
    x_0, eps = torch.randn(2, 1, 3, 3), torch.randn(2, 1, 3, 3)
    z = steps[-1].alpha_bar[0].sqrt() * x_0 + (1 - steps[-1].alpha_bar[0]).sqrt() * eps
    close(posterior_mean(z.float(), x_0, steps[-1]), x_0)
    # A fraction of 0 is beta_tilde, and a fraction of 1 is beta.
    for level in steps[:-1]:
        low = posterior_variance(x_0, level, torch.zeros_like(x_0))
        high = posterior_variance(x_0, level, torch.ones_like(x_0))
        close(low, level.beta_tilde[0].float().expand_as(low), 1e-6)
        close(high, level.beta[0].float().expand_as(high), 1e-6)


def test_posterior_of_a_gaussian():
    """Mean and variance agree with those of Gaussian variables that are conditioned directly."""
    level = levels(even_schedule(linear_alphas_cumprod(), torch.full((1,), 0.6), 4))[1]
    ahead, beta = level.alpha_bar_prev[0], level.beta[0]
    # Given x_0: u = sqrt(ahead) x_0 + sqrt(1 - ahead) n, z = sqrt(1 - beta) u + sqrt(beta) m.
    total = (1 - beta) * (1 - ahead) + beta
    gain = (1 - beta).sqrt() * (1 - ahead) / total
    x_0, z = torch.tensor([[0.7]]), torch.tensor([[-0.4]])
    prior = ahead.sqrt() * x_0
    close(posterior_mean(z, x_0, level), (prior + gain * (z - (1 - beta).sqrt() * prior)).float())
    left = (1 - ahead) - gain * (1 - beta).sqrt() * (1 - ahead)
    close(posterior_variance(z, level)[0, 0], left.float())
