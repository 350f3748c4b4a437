"""What networks predict, in one kind of coordinates: closed forms, and the steps of diffusers."""

import math
import types

import pytest
import torch
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

import cfxnb as cfx
from cfxnb.core.ddim import ddim_step, linear_alphas_cumprod, predict_x0
from cfxnb.spaces import Autoencoder, Diffusion, Parametrisation, PixelUnshuffleCodec, Unconditional
from cfxnb.spaces.parametrisation import shifted

MEAN, STD = 0.3, 0.7  # of clean codes, which are Gaussian: so the best predictions are known
SIGMAS = torch.logspace(-2.5, 1.9, 50, dtype=torch.float64)  # of EDM
TIMES = torch.linspace(0, 1, 101, dtype=torch.float64)  # of a flow


def exact_noise(z, a):
    """E[e | z] for z = sqrt(a) x0 + sqrt(1 - a) e and Gaussian x0."""
    return (1 - a).sqrt() * (z - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)


def exact_clean(x, signal, noise):
    """E[x0 | x] for x = signal x0 + noise e."""
    gain = signal * STD**2 / (signal**2 * STD**2 + noise**2)
    return MEAN + gain * (x - signal * MEAN)


def ddpm_network(prediction_type, alphas):
    def net(x, t):
        a = alphas[t][:, None]
        clean = exact_clean(x, a.sqrt(), (1 - a).sqrt())
        noise = (x - a.sqrt() * clean) / (1 - a).sqrt()
        return {
            "sample": clean,
            "epsilon": noise,
            "v_prediction": a.sqrt() * noise - (1 - a).sqrt() * clean,
        }[prediction_type]

    return net


def flow_network(scale):
    def net(x, t):
        s = t[:, None].double() / scale
        clean = exact_clean(x, 1 - s, s)
        return (x - clean) / s  # E[e - x0 | x], since x - x0 = s (e - x0)

    return net


def edm_network(sign, sigma_data):
    def net(scaled, t):
        s = (4 * t[:, None].double()).exp()
        total = s**2 + sigma_data**2
        x = scaled * total.sqrt()
        clean = exact_clean(x, torch.ones_like(s), s)
        return sign * (clean - sigma_data**2 / total * x) / (s * sigma_data / total.sqrt())

    return net


ALPHAS = linear_alphas_cumprod()
KINDS = {
    **{
        kind: (Parametrisation.ddpm(ALPHAS, prediction_type=kind), ddpm_network(kind, ALPHAS))
        for kind in ("epsilon", "v_prediction", "sample")
    },
    "flow": (Parametrisation.flow_matching(TIMES), flow_network(1000.0)),
    "flow, shifted": (
        Parametrisation.flow_matching(shifted(TIMES, 3.0), time_scale=1.0),
        flow_network(1.0),
    ),
    "edm": (Parametrisation.edm(SIGMAS), edm_network(1, 0.5)),
    "edm, v": (
        Parametrisation.edm(SIGMAS, sigma_data=1.0, prediction_type="v_prediction"),
        edm_network(-1, 1.0),
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_every_network_has_the_noise_of_the_closed_form(kind):
    """With Gaussian data, each network's best prediction is known in its own coordinates."""
    made, net = KINDS[kind]
    t = torch.arange(len(made.alphas_cumprod))
    z = torch.randn(len(t), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, times = made.network_input(z, t)
    found = made.noise(z, t, net(x, times))
    wanted = exact_noise(z, made.alphas_cumprod[:, None])
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@each_kind
def test_a_wrong_sign_or_time_is_seen(kind):
    """The test above would notice both."""
    made, net = KINDS[kind]
    t = torch.arange(len(made.alphas_cumprod) // 2, len(made.alphas_cumprod))
    z = torch.randn(len(t), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, times = made.network_input(z, t)
    wanted = exact_noise(z, made.alphas_cumprod[t][:, None])
    assert (made.noise(z, t, -net(x, times)) - wanted).abs().max() > 0.1
    later = made.network_input(z, (t - 20).clamp_min(0))[1]
    assert (made.noise(z, t, net(x, later)) - wanted).abs().max() > 1e-3


@each_kind
def test_denoising_gaussian_codes_gives_gaussian_codes(kind):
    """DDIM with the exact noise maps N(0, 1) to clean codes with the right mean and std.

    The map is affine, so that two codes tell it.
    """
    made, net = KINDS[kind]
    z = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    alphas = made.alphas_cumprod
    for t in range(len(alphas) - 1, -1, -1):
        at = torch.tensor([t])
        x, times = made.network_input(z, at)
        ahead = alphas[t - 1] if t else 1.0
        z = ddim_step(z, made.noise(z, at, net(x, times)), alphas[t], ahead)
    shift = alphas[-1].sqrt() * MEAN / (alphas[-1] * STD**2 + 1 - alphas[-1]).sqrt()
    assert float(z[0, 1] - z[0, 0]) == pytest.approx(STD, rel=0.15)
    middle = float(z[0, 0]) + STD * float(shift)
    assert middle == pytest.approx(MEAN, abs=0.05)


def test_steps_of_a_flow_are_those_of_diffusers():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(7)
    made = Parametrisation.flow_matching(scheduler.sigmas.flip(0), time_scale=1000.0)
    net = flow_network(1000.0)
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    # The first sigma is 1: pure noise, at which the space has a little less noise.
    sigmas = scheduler.sigmas.double()
    x = x * sigmas[1] + 0.2 * (1 - sigmas[1])
    scheduler.set_begin_index(1)
    z = x / ((1 - sigmas[1]) ** 2 + sigmas[1] ** 2).sqrt()
    for i in range(1, 7):
        t = scheduler.timesteps[i].expand(4)
        x = scheduler.step(net(x, t), scheduler.timesteps[i], x).prev_sample
        at = torch.full((4,), 6 - i)
        seen, times = made.network_input(z, at)
        torch.testing.assert_close(times, t, rtol=1e-5, atol=1e-3)
        ahead = 1.0 if i == 6 else float(made.alphas_cumprod[6 - i - 1])
        eps = made.noise(z, at, net(seen, times))
        z = ddim_step(z, eps, made.alphas_cumprod[6 - i], ahead)
    torch.testing.assert_close(z, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "sign"), [("epsilon", 1), ("v_prediction", -1)])
def test_steps_of_edm_are_those_of_diffusers(kind, sign):
    scheduler = EDMEulerScheduler(prediction_type=kind)
    scheduler.set_timesteps(9)
    made = Parametrisation.edm(scheduler.sigmas.flip(0), prediction_type=kind)
    net = edm_network(sign, 0.5)
    x = 80 * torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    z = x / math.sqrt(1 + 80.0**2)
    for i, t in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(x, t)
        x = scheduler.step(net(scaled, t.expand(4)), t, x).prev_sample
        at = torch.full((4,), 8 - i)
        seen, times = made.network_input(z, at)
        torch.testing.assert_close(seen, scaled, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(times, t.expand(4))
        ahead = 1.0 if i == 8 else float(made.alphas_cumprod[8 - i - 1])
        z = ddim_step(z, made.noise(z, at, net(seen, times)), made.alphas_cumprod[8 - i], ahead)
    torch.testing.assert_close(z, x, rtol=1e-3, atol=1e-3)


def test_pure_noise_and_clean_codes_are_left_out():
    made = Parametrisation.flow_matching(TIMES)
    assert len(made.alphas_cumprod) == 100  # without the sigma 0
    assert made.alphas_cumprod[-1] == made.alphas_cumprod[-2] / 2
    a = made.alphas_cumprod[-1]
    sigma = (1 - a).sqrt() / (a.sqrt() + (1 - a).sqrt())
    assert float(made.times[-1]) == pytest.approx(1000 * float(sigma))
    made = Parametrisation.ddpm(torch.tensor([0.9, 0.5, 0.0]), prediction_type="v_prediction")
    assert made.alphas_cumprod.tolist() == pytest.approx([0.9, 0.5, 0.25])
    made = Parametrisation.edm(torch.tensor([0.0, 0.1, 1.0]))
    assert made.alphas_cumprod.tolist() == pytest.approx([1 / 1.01, 0.5])


class Net(torch.nn.Module):
    """The exact network of Gaussian pixels, with or without a learned variance."""

    def __init__(self, net, channels=0):
        super().__init__()
        self.net, self.channels = net, channels

    def forward(self, x, t):
        found = self.net(x.double().flatten(1), t).view(x.shape)
        extra = torch.full_like(found[:, : self.channels], 0.5)
        return torch.cat([found, extra], 1).float()


@pytest.mark.parametrize("channels", [0, 2])
@each_kind
def test_a_space_sees_noise(kind, channels):
    made, net = KINDS[kind]
    pixels = Autoencoder(PixelUnshuffleCodec(1), torch.zeros(2, 4, 4), torch.ones(2, 4, 4))
    space = Diffusion(Net(net, channels), pixels, conditions=Unconditional(), parametrisation=made)
    z = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    t = torch.tensor([1, 20, 45])
    eps, fraction = space.predict_noise_and_variance(z, t, space.encode_condition([None] * 3))
    a = space.alphas_cumprod[t][:, None, None, None]
    torch.testing.assert_close(eps, exact_noise(z.double(), a).float(), rtol=1e-3, atol=1e-3)
    assert (fraction is None) == (channels == 0)
    if channels:
        assert (fraction == 0.75).all()
    clean = predict_x0(z, eps, a.flatten())
    clean.sum().backward()
    assert z.grad.isfinite().all()
    samples = space.sample([None] * 2, guidance_scale=0, steps=10)
    assert samples.z.isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Parametrisation.flow_matching(torch.tensor([0.5, 0.2])), "sigmas: .*increasing"),
        (lambda: Parametrisation.flow_matching(torch.tensor([0.5, 1.2])), "sigmas: .*at most 1"),
        (lambda: Parametrisation.flow_matching(TIMES, time_scale=0), "time_scale: "),
        (lambda: Parametrisation.flow_matching([0.1, 1.0]), "sigmas: .*tensor"),
        (lambda: Parametrisation.edm(torch.tensor([0.0, 1.0])), "sigmas: .*two"),
        (lambda: Parametrisation.edm(SIGMAS, sigma_data=-1), "sigma_data: "),
        (lambda: Parametrisation.edm(SIGMAS, prediction_type="sample"), "prediction_type: "),
        (lambda: Parametrisation.ddpm(ALPHAS, prediction_type="flow"), "prediction_type: "),
        (lambda: Parametrisation.ddpm(ALPHAS.flip(0)), "alphas_cumprod: .*falling"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_a_space_has_one_parametrisation():
    pixels = Autoencoder(PixelUnshuffleCodec(1), torch.zeros(2, 4, 4), torch.ones(2, 4, 4))
    made, net = KINDS["flow"]
    for name, value in (("alphas_cumprod", ALPHAS), ("prediction_type", "epsilon")):
        with pytest.raises(ValueError, match=f"{name}: expected None with parametrisation"):
            Diffusion(
                Net(net),
                pixels,
                conditions=Unconditional(),
                parametrisation=made,
                **{name: value},
            )


# -- methods don't see what a network predicts


def clean_of_class(x, signal, noise, label):
    """E[x0 | x, class]: classes have different means, and "no class" (2) is wider."""
    mean = torch.tensor([-0.5, 0.5, 0.0]).double()[label].view(-1, 1, 1, 1)
    std = torch.tensor([0.4, 0.4, 0.8]).double()[label].view(-1, 1, 1, 1)
    gain = signal * std**2 / (signal**2 * std**2 + noise**2)
    return mean + gain * (x - signal * mean)


class Labelled(torch.nn.Module):
    """One model of two classes, as a network of ``kind``."""

    def __init__(self, kind, alphas):
        super().__init__()
        self.kind, self.alphas = kind, alphas

    def forward(self, x, t, class_labels):
        x, label = x.double(), class_labels
        if self.kind == "flow":
            s = t.double().view(-1, 1, 1, 1) / 1000
            out = (x - clean_of_class(x, 1 - s, s, label)) / s
        elif self.kind == "edm":
            s = (4 * t.double().view(-1, 1, 1, 1)).exp()
            total = s**2 + 0.25
            x = x * total.sqrt()
            clean = clean_of_class(x, 1.0, s, label)
            out = (clean - 0.25 / total * x) / (s * 0.5 / total.sqrt())
        else:
            a = self.alphas[t].view(-1, 1, 1, 1)
            clean = clean_of_class(x, a.sqrt(), (1 - a).sqrt(), label)
            noise = (x - a.sqrt() * clean) / (1 - a).sqrt()
            out = {"sample": clean, "epsilon": noise}.get(
                self.kind, a.sqrt() * noise - (1 - a).sqrt() * clean
            )
        return types.SimpleNamespace(sample=out.float())


def as_kind(kind):
    """The same model at the same noise levels, with a network of ``kind``."""
    alphas = linear_alphas_cumprod()[::10]
    sigma = ((1 - alphas) / alphas).sqrt()
    if kind == "flow":
        made = Parametrisation.flow_matching(sigma / (1 + sigma))
    elif kind == "edm":
        made = Parametrisation.edm(sigma)
    else:
        made = Parametrisation.ddpm(alphas, prediction_type=kind)
    torch.testing.assert_close(made.alphas_cumprod, alphas)
    pixels = Autoencoder(PixelUnshuffleCodec(1), torch.zeros(1, 4, 4), torch.ones(1, 4, 4))
    net = Labelled(kind, alphas)
    return Diffusion(net, pixels, conditions=cfx.spaces.ClassConditions(3), parametrisation=made)


def brightness(images):
    """Logits of "dark" and "bright"."""
    score = 20 * (images.mean((1, 2, 3)) - 0.5)
    return torch.stack([-score, score], 1)


METHODS = {
    "consensus": lambda *a: cfx.diffusion_counterfactual(*a, cone_angle=90.0),
    "random noise": lambda *a: cfx.diffusion_counterfactual(*a, noise="random"),
    "classifier-free": lambda *a: cfx.diffusion_counterfactual(*a, guidance="classifier_free"),
    "maskdime": lambda *a: cfx.maskdime(*a, steps=3),
    "sce": lambda *a: cfx.sce(*a, steps=5),
    "flow": lambda *a: cfx.flow_counterfactual(*a, rounds=5),
}


@pytest.mark.parametrize("method", METHODS)
def test_the_same_model_gives_the_same_counterfactuals(method):
    """Noise, v, clean codes, velocities or EDM: the guidance and the walk are the same."""
    images = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(3)) * 0.4
    run = METHODS[method]
    f = cfx.wrap(brightness)
    wanted = run(as_kind("epsilon"), f, images, 1)
    if method != "sce":
        assert wanted.flipped.any()
    for kind in ("v_prediction", "sample", "flow", "edm"):
        found = run(as_kind(kind), f, images, 1)
        assert found.status == wanted.status
        torch.testing.assert_close(found.image, wanted.image, atol=2e-3, rtol=0)
