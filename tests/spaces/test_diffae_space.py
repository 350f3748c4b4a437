"""The diffusion autoencoder as a space: deterministic, row by row, differentiable, honest."""

import math

import pytest
import torch
from torch import nn

import cfxnb as cfx
from cfxnb.core import ddim
from cfxnb.nets import DiffAE
from cfxnb.spaces import DiffusionAutoencoder, LatentCodec, PixelUnshuffleCodec

TINY = {"size": 8, "channels": 4, "base": 8, "mult": (1, 2), "dims": 6, "encoder_mult": (1, 2)}


def tiny(prediction_type="v_prediction", sketch=(4, 4), latent=None, **kwargs):
    torch.manual_seed(0)
    net = DiffAE(**TINY, prediction_type=prediction_type, sketch=sketch, latent=latent).eval()
    with torch.no_grad():  # layers that begin at 0 would make every test true
        for p in net.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    net.requires_grad_(False)
    settings = {"codec": 2, "steps": 4, "inversion_steps": 4, "precision": "float32"} | kwargs
    return DiffusionAutoencoder(net, torch.zeros(6), torch.ones(6), **settings)


IMAGES = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("inversion_steps", [0, 4])
def test_batch_mates_and_memory_never_matter(inversion_steps):
    space = tiny(inversion_steps=inversion_steps)
    code = space.encode(IMAGES)
    whole = space.decode(code)
    narrow = tiny(inversion_steps=inversion_steps, max_memory_gib=1e-6)
    assert narrow._chunk(code.aux) == 1
    torch.testing.assert_close(narrow.decode(narrow.encode(IMAGES)), whole, atol=1e-4, rtol=0)
    for i in range(5):
        alone = space.encode(IMAGES[i : i + 1])
        torch.testing.assert_close(alone.aux[0], code.aux[i], atol=1e-4, rtol=0)
        torch.testing.assert_close(space.decode(alone)[0], whole[i], atol=1e-4, rtol=0)


def test_gradient_is_that_of_differences():
    space = tiny()
    code = space.encode(IMAGES[:1])
    z = code.z.clone().requires_grad_()
    pixels = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    (space.decode(code.with_z(z)) * pixels).sum().backward()
    for i in range(3):
        step = 1e-2 * torch.eye(6)[i]
        there, back = (
            (space.decode(code.with_z(code.z + s)) * pixels).sum() for s in (step, -step)
        )
        assert z.grad[0, i].item() == pytest.approx((there - back).item() / 2e-2, abs=2e-2, rel=0.1)
    assert z.grad.abs().max() > 1e-3


def test_velocity_is_noise_in_another_guise():
    space = tiny()
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(4))
    left = float(ddim.linear_alphas_cumprod()[500])
    velocity = space.net(x, torch.tensor([500]), z)
    noise = space.predict_noise(x, 500, z)
    clean = math.sqrt(left) * x - math.sqrt(1 - left) * velocity
    torch.testing.assert_close(math.sqrt(left) * clean + math.sqrt(1 - left) * noise, x)


def test_only_the_schedule_is_in_float64_and_it_stays_on_the_cpu():
    """Not every device has float64, and what is rendered depends on the schedule's last digits."""
    space = tiny()
    assert {t.dtype for t in (*space.parameters(), *space.buffers())} == {torch.float32}
    moved = space.to("meta", torch.bfloat16)
    assert moved.mean.device.type == "meta"
    assert torch.equal(moved.alphas_cumprod, ddim.linear_alphas_cumprod())


def test_folds_lose_nothing():
    torch.testing.assert_close(
        PixelUnshuffleCodec(4).decode(PixelUnshuffleCodec(4).encode(IMAGES)), IMAGES
    )


def test_latents_of_an_autoencoder():
    class Halves(nn.Module):
        def encode(self, images):
            return PixelUnshuffleCodec(2).encode(images) * 0.5

        def decode(self, latents):
            return PixelUnshuffleCodec(2).decode(latents / 0.5)

    plain, coded = tiny(), tiny(codec=LatentCodec(Halves(), scaling_factor=2.0))
    assert coded.clip_sample_range is None
    torch.testing.assert_close(coded.encode(IMAGES).z, plain.encode(IMAGES).z)
    assert coded.decode(coded.encode(IMAGES)).shape == IMAGES.shape


def test_with_steps_is_the_same_net():
    space = tiny()
    other = space.with_steps(8, 0)
    assert other.net is space.net
    assert (len(other.times), other.inversion_times, len(space.times)) == (8, [], 4)


def test_samples_are_drawn_by_seed_and_row():
    space = tiny(latent={"hidden_dim": 8, "layers": 3, "time_channels": 4})
    one, more = (space.sample(n, seed=1, shape=(1, 16, 16)) for n in (2, 3))
    torch.testing.assert_close(one.z, more.z[:2])
    torch.testing.assert_close(one.aux, more.aux[:2])
    assert not torch.equal(one.z, space.sample(2, seed=2, shape=(1, 16, 16)).z)
    with pytest.raises(ValueError, match="latent_net"):
        tiny().sample(2, shape=(1, 16, 16))


def test_latent_mean_is_the_centre_of_samples_only():
    latent = {"hidden_dim": 8, "layers": 3, "time_channels": 4}
    old = tiny(latent=latent)
    old.mean += torch.arange(6.0)
    new = tiny(latent=latent, latent_mean=old.mean.clone())
    before, after = (space.sample(3, seed=1, shape=(1, 16, 16)) for space in (old, new))
    assert torch.equal(before.z, after.z)
    assert torch.equal(before.aux, after.aux)
    assert torch.equal(old.encode(IMAGES).z, new.encode(IMAGES).z)
    new.fit(IMAGES)
    assert torch.equal(new.latent_mean, old.mean)
    with pytest.raises(ValueError, match="latent_mean: expected shape"):
        tiny(latent_mean=torch.zeros(5))
    with pytest.raises(ValueError, match="latent_mean: expected finite"):
        tiny(latent_mean=torch.full((6,), torch.nan))


def test_fit_measures_codes():
    space = tiny().fit(IMAGES)
    z = space.encode_semantic(IMAGES)
    torch.testing.assert_close(space.mean, z.mean(0))
    torch.testing.assert_close(space.std, z.std(0))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("steps", 600, "steps: expected a number of equal strides"),
        ("inversion_steps", 37, "inversion_steps: expected a number of equal strides"),
        ("max_memory_gib", 0, "max_memory_gib"),
        ("precision", "float16", "precision"),
        ("codec", 0, "codec"),
    ],
)
def test_wrong_options(name, value, message):
    with pytest.raises(ValueError, match=message):
        tiny(**{name: value})


def test_wrong_images_and_codes():
    space = tiny()
    with pytest.raises(ValueError, match=r"images: .*\(b, 1, h, w\)"):
        space.encode(torch.rand(2, 3, 16, 16))
    with pytest.raises(ValueError, match="divisible by 4"):
        space.encode(torch.rand(2, 1, 16, 18))
    with pytest.raises(ValueError, match="code: expected z"):
        space.decode(cfx.Code(torch.zeros(2, 6)))


@pytest.mark.parametrize("world", ["digits", "sprites", "chest", "faces"])
def test_shipped_spaces_rebuild_their_images(world):
    """Two dozen held-out images: the error is that of the card, and far from chance."""
    space = cfx.load(f"{world}/diffae", device="cpu")
    images = (
        cfx.data.sprites("pairs", 24, split="test", seed=3).images
        if world == "sprites"
        else getattr(cfx.data, world)("test").images[::20][:24]
    )
    code = space.encode(images)
    error = (space.decode(code) - images).square().mean()
    card = cfx.weights.read_card(f"{world}/diffae")["quality"]
    assert error < 2.5 * card["mean squared error of reconstructions"]
    swapped = space.decode(code.with_z(code.z.roll(1, 0)))
    assert (swapped - images).square().mean() > 5 * error
