"""Checks of 06_diffusion_autoencoders."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from cfxnb import data, weights
from cfxnb.checks.core import (
    exercise,
    expect,
    expect_none_of,
    expect_pair,
    expect_tensor,
    near,
    same,
)
from cfxnb.core import ddim
from cfxnb.core.tensors import noise_like
from cfxnb.core.types import Code

#: Largest differences to the library that count as agreement: of semantic codes in standard
#: deviations, of stochastic codes, and of pixels in [0, 1].
TOLERANCE = {"z": 1e-3, "x_T": 0.02, "pixels": 0.002}


def spherical_interpolation(a: Tensor, b: Tensor, w: float) -> Tensor:
    """Interpolate each sample on the arc from ``a`` (weight w = 0) to ``b`` (w = 1)."""
    x, y = (v.flatten(1) / v.flatten(1).norm(dim=1, keepdim=True) for v in (a, b))
    # Unlike acos, atan2 is also exact for small angles.
    angle = 2 * torch.atan2((x - y).norm(dim=1), (x + y).norm(dim=1))
    angle = angle.view(-1, *[1] * (a.ndim - 1))
    return (((1 - w) * angle).sin() * a + (w * angle).sin() * b) / angle.sin()


@exercise("The noise schedule")
def noise_schedule(answer: Callable[..., Tensor]) -> None:
    got = answer(0.1, 0.4, 4)
    expect_tensor(
        got, (4,), "is there one value per time?", "torch.linspace(first, last, steps)", "4 values"
    )
    beta = torch.linspace(0.1, 0.4, 4, dtype=torch.float64)
    hint = "alpha_bar is the cumulative product (cumprod) of 1 - beta"
    wrong = {
        "these are the variances of the added noise": (
            beta,
            "which part of the variance is left after a step?",
        ),
        "each value belongs to one step only": (
            1 - beta,
            "the steps follow each other. What is left after two of them?",
        ),
        "the fractions are added": (
            (1 - beta).cumsum(0),
            "each step keeps a fraction of what the step before has left. Is that a sum?",
        ),
        "this is what the noise has replaced": (
            1 - (1 - beta).cumprod(0),
            "is alpha_bar the part of the image or the part of the noise?",
        ),
        "these are factors of the image, not of its variance": (
            (1 - beta).cumprod(0).sqrt(),
            "a variance grows with the square of the factor",
        ),
    }
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    expect(
        same(got, (1 - beta).cumprod(0)),
        f"for beta from 0.1 to 0.4 in 4 steps expected 0.90 to 0.30, got {got[0]:.2f} to "
        f"{got[-1]:.2f}",
        cause="do the variances rise evenly from `first` to `last`?",
        hint=hint,
    )
    expect(
        got.dtype == torch.float64,
        f"expected double precision, got {got.dtype}",
        cause="1 - alpha_bar is the difference of two nearly equal numbers at the first times",
        hint="torch.linspace(..., dtype=torch.float64)",
    )
    expect(
        same(answer(1e-4, 0.02, 1000), ddim.linear_alphas_cumprod()),
        "the schedule of the library, from 1e-4 to 0.02 in 1000 steps, is different",
        cause="are the three arguments used?",
        hint=hint,
    )


def _images(seed: int, n: int = 3, low: float = -1.0) -> Tensor:
    values = torch.rand(n, 2, 4, 4, generator=Generator().manual_seed(seed))
    return low + (1 - low) * values


@exercise("Adding noise")
def add_noise(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    x0, eps = _images(1), torch.randn(3, 2, 4, 4, generator=Generator().manual_seed(2))
    alpha_bar = torch.tensor([0.9, 0.5, 0.1])
    a = alpha_bar.view(-1, 1, 1, 1)
    got = answer(x0.clone(), eps.clone(), alpha_bar.clone())
    expect_tensor(
        got,
        (3, 2, 4, 4),
        "does each value of alpha_bar multiply one image?",
        "alpha_bar.view(-1, 1, 1, 1) has the shape (b, 1, 1, 1)",
        "noisy images of the shape of x0",
    )
    wrong = {
        "variances are used as factors": (
            a * x0 + (1 - a) * eps,
            "alpha_bar is a fraction of the variance. Which factor changes a variance so?",
        ),
        "image and noise are exchanged": (
            a.sqrt() * eps + (1 - a).sqrt() * x0,
            "alpha_bar near 1 means little noise",
        ),
        "the noise is subtracted": (
            a.sqrt() * x0 - (1 - a).sqrt() * eps,
            "which sign does the noise have in the formula?",
        ),
        "the two factors add up to 1": (
            a.sqrt() * x0 + (1 - a.sqrt()) * eps,
            "which two quantities add up to 1: the factors or the variances?",
        ),
    }
    hint = "alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps, with one alpha_bar per image"
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    expect(
        same(got, a.sqrt() * x0 + (1 - a).sqrt() * eps),
        "the result is not the mixture of image and noise",
        cause="does each image get its own alpha_bar, and each term its own factor?",
        hint=hint,
    )


class _Denoiser(nn.Module):
    """A tiny denoiser that depends on all of its arguments and remembers them."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        g = Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(32, 32, generator=g) / 12)
        self.mix = nn.Parameter(torch.randn(3, 32, generator=g) / 3)
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        self.calls.append((x.detach().clone(), torch.as_tensor(t).clone(), z.detach().clone()))
        time = torch.as_tensor(t).float().view(-1, 1) / 1000
        return (x.flatten(1) @ self.weight + z @ self.mix + time).view_as(x)


@exercise("The diffusion loss")
def diffusion_loss(answer: Callable[..., Tensor]) -> None:
    net, alphas_cumprod = _Denoiser(), ddim.linear_alphas_cumprod().float()
    x0, eps = _images(3), torch.randn(3, 2, 4, 4, generator=Generator().manual_seed(4))
    z, t = torch.randn(3, 3, generator=Generator().manual_seed(5)), torch.tensor([10, 400, 900])
    got = answer(net, x0, z, t, eps, alphas_cumprod)
    expect(
        isinstance(got, Tensor) and got.shape == (),
        f"expected one number for the batch, got {getattr(got, 'shape', type(got).__name__)}",
        cause="is the squared error averaged?",
        hint="(predicted - eps).square().mean()",
    )
    expect(
        got.requires_grad,
        "the loss has no gradient with respect to the weights of the denoiser",
        cause="does no_grad, detach or item cut the graph?",
        hint="return the tensor of the mean",
    )
    expect(
        len(net.calls) == 1,
        f"expected one call of the denoiser, got {len(net.calls)}",
        cause="the denoiser predicts all images of the batch in one call",
        hint="denoiser(x_t, t, z)",
    )
    seen = net.calls[0]
    a = alphas_cumprod[t].view(-1, 1, 1, 1)
    x_t = a.sqrt() * x0 + (1 - a).sqrt() * eps
    expect(
        not same(seen[0], x0),
        "the denoiser gets the clean image",
        cause="at time t the network sees an image with noise",
        hint="x_t = add_noise(x0, eps, alphas_cumprod[t])",
    )
    expect(
        same(seen[0], x_t),
        "the denoiser does not get the noisy image of time t",
        cause="which alpha_bar belongs to each time, and which noise was handed in?",
        hint="x_t = add_noise(x0, eps, alphas_cumprod[t])",
    )
    expect(
        same(seen[1].float().view(-1), t.float()) and same(seen[2], z),
        "the denoiser gets another time or another code",
        cause="the order of its arguments is: noisy image, time, code",
        hint="denoiser(x_t, t, z)",
    )
    predicted = _Denoiser()(x_t, t, z)
    wrong = {
        "the prediction is compared with the image": (
            (predicted - x0).square().mean(),
            "what does this network predict?",
        ),
        "the prediction is compared with the noisy image": (
            (predicted - x_t).square().mean(),
            "what does this network predict?",
        ),
        "the errors are not squared": (
            (predicted - eps).abs().mean(),
            "which loss has the mean as its best prediction?",
        ),
        "the errors are added up, not averaged": (
            (predicted - eps).square().sum(),
            "should the loss grow with the number of pixels and images?",
        ),
        "the error is that of the summed pixels, with its sign": (
            (predicted - eps).mean().square(),
            "which comes first, the square or the mean?",
        ),
        "the square root is taken": (
            (predicted - eps).square().mean().sqrt(),
            "is it the mean squared error?",
        ),
    }
    hint = "(denoiser(x_t, t, z) - eps).square().mean()"
    expect_none_of(wrong, lambda w: near(float(got.detach()), float(w.detach())), hint=hint)
    exact = float((predicted - eps).square().mean().detach())
    expect(
        math.isclose(float(got.detach()), exact, rel_tol=1e-4),
        f"expected a loss of {exact:.3f}, got {float(got.detach()):.3f}",
        cause="what is compared with the prediction, and how is the mean taken?",
        hint=hint,
    )


@exercise("What the denoiser sees")
def network_input(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    g = Generator().manual_seed(13)
    x, z, t = torch.randn(3, 1, 8, 8, generator=g), torch.randn(3, 16, generator=g), [0, 40, 999]
    got = answer(x, torch.tensor(t), z)
    expect_tensor(
        got,
        (3, 112),
        "are pixels, sines, cosines and code put side by side, in one row per image?",
        "torch.cat([x.flatten(1), sines, cosines, z], 1)",
        "one row of 64 + 16 + 16 + 16 numbers per image, shape (3, 112)",
    )
    angle = torch.tensor(t)[:, None] * torch.logspace(0, -4, 16)
    sines, cosines = got[:, 64:80], got[:, 80:96]
    expect(
        same(got[:, :64], x.flatten(1)),
        "the first 64 numbers are not the pixels",
        cause="in which order are the parts put together?",
        hint="torch.cat([x.flatten(1), sines, cosines, z], 1)",
    )
    expect(
        same(got[:, 96:], z),
        "the last 16 numbers are not the code",
        cause="in which order are the parts put together?",
        hint="torch.cat([x.flatten(1), sines, cosines, z], 1)",
    )
    wrong = {
        "sines and cosines are exchanged": (
            (angle.cos(), angle.sin()),
            "in which order are the parts put together?",
        ),
        "the frequencies rise": (
            (angle.flip(1).sin(), angle.flip(1).cos()),
            "which frequency comes first?",
        ),
        "the frequencies fall evenly, not on a logarithmic scale": (
            tuple(
                f(torch.tensor(t)[:, None] * torch.linspace(1, 1e-4, 16))
                for f in (torch.sin, torch.cos)
            ),
            "what is the quotient of two neighbouring frequencies?",
        ),
        "the time is divided by the frequencies": (
            tuple(
                f(torch.tensor(t)[:, None] / torch.logspace(0, -4, 16))
                for f in (torch.sin, torch.cos)
            ),
            "a high frequency means that the sine changes quickly. Is that a product?",
        ),
    }
    hint = "angle = t[:, None] * torch.logspace(0, -4, 16), then angle.sin() and angle.cos()"
    expect_none_of(wrong, lambda w: same(sines, w[0]) and same(cosines, w[1]), hint=hint)
    expect(
        same(sines, angle.sin(), atol=1e-3) and same(cosines, angle.cos(), atol=1e-3),
        "the sines and cosines are not those of frequency times t",
        cause="is there one row per time and one column per frequency?",
        hint=hint,
    )


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        g = Generator().manual_seed(7)
        self.weight = nn.Parameter(torch.randn(32, 3, generator=g) / 6)
        self.calls: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(x.detach().clone())
        return x.flatten(1) @ self.weight


@exercise("Training")
def train(answer: Callable[..., list[float]]) -> None:
    images, alphas_cumprod = _images(8, n=40), ddim.linear_alphas_cumprod().float()

    def run(steps: int, seed: int = 0) -> tuple[Any, _Encoder, _Denoiser]:
        encoder, denoiser = _Encoder(), _Denoiser(1)
        return (
            answer(encoder, denoiser, images, alphas_cumprod, steps, 16, 0.01, seed),
            encoder,
            (denoiser),
        )

    losses, encoder, denoiser = run(60)
    expect(
        isinstance(losses, list | tuple) and len(losses) == 60,
        f"expected a list with one loss per step, got {type(losses).__name__}"
        + (f" of length {len(losses)}" if isinstance(losses, list | tuple) else ""),
        cause="is the loss of each step appended to a list, and the list returned?",
        hint="losses.append(loss.item())",
    )
    expect(
        all(isinstance(loss, float) for loss in losses),
        "the losses are not plain numbers",
        cause="a list of tensors keeps the graphs of all steps in memory",
        hint="loss.item()",
    )
    expect(
        not same(denoiser.weight, _Denoiser(1).weight),
        "the denoiser has not changed",
        cause="does the optimiser hold its weights, and does it take a step after backward?",
        hint="optimiser.zero_grad(), loss.backward(), optimiser.step()",
    )
    expect(
        not same(encoder.weight, _Encoder().weight),
        "the encoder has not changed",
        cause="whose parameters does the optimiser hold, and does the loss depend on the encoder?",
        hint="Adam([*encoder.parameters(), *denoiser.parameters()], lr=lr), and z = encoder(x0)",
    )
    sizes = {len(x) for x, _, _ in denoiser.calls}
    expect(
        sizes == {16},
        f"expected batches of 16 images, got {sorted(sizes)}",
        cause="is the loss computed on a random batch of `batch_size` images?",
        hint="rows = torch.randint(len(images), (batch_size,), generator=g)",
    )
    shapes = {tuple(torch.as_tensor(t).shape) for _, t, _ in denoiser.calls}
    expect(
        shapes == {(16,)},
        f"expected one time per image, shape (16,), got {sorted(shapes)}",
        cause="each image of a batch gets its own random time",
        hint="t = torch.randint(len(alphas_cumprod), (batch_size,), generator=g)",
    )
    times = torch.stack([torch.as_tensor(t) for _, t, _ in denoiser.calls]).float()
    expect(
        float(times.min()) < 60 and float(times.max()) > 940 and 400 < float(times.mean()) < 600,
        f"the times lie between {times.min():.0f} and {times.max():.0f}, with mean "
        f"{times.mean():.0f}",
        cause="is every time from 0 to 999 equally likely?",
        hint="t = torch.randint(len(alphas_cumprod), (batch_size,), generator=g)",
    )
    expect(
        not same(encoder.calls[0], encoder.calls[1]),
        "two steps use the same images",
        cause="is a new batch drawn in every step?",
        hint="draw the rows inside the loop",
    )
    last = [x for x, t, _ in denoiser.calls for x in x[torch.as_tensor(t) > 900]]
    noise = torch.stack(last)
    expect(
        bool(noise.std(0).mean() > 0.5) and abs(float(noise.mean())) < 0.2,
        "the noise is not new normal noise in each step",
        cause="is the noise drawn from the normal distribution, inside the loop?",
        hint="eps = torch.randn(x0.shape, generator=g)",
    )
    early, late = (sum(part) / len(part) for part in (losses[:15], losses[-15:]))
    expect(
        late < 0.8 * early,
        f"the loss does not fall: {early:.2f} in the first 15 steps, {late:.2f} in the last 15",
        cause="are old gradients deleted before each backward, and is lr used?",
        hint="optimiser.zero_grad(), loss.backward(), optimiser.step(), in this order",
    )
    expect(
        [round(v, 5) for v in losses[:3]] == [round(v, 5) for v in run(3)[0]],
        "the same seed gives other losses",
        cause="does every random number come from one generator with this seed?",
        hint="g = torch.Generator().manual_seed(seed), and generator=g in each call",
    )


@exercise("The predicted image")
def predict_x0(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    x0, eps = _images(9, low=-0.9), torch.randn(3, 2, 4, 4, generator=Generator().manual_seed(10))
    x = 0.5 * x0 + 0.75**0.5 * eps
    kept = x.clone()
    got = answer(x, eps, 0.25)
    expect_tensor(got, (3, 2, 4, 4), "is one image returned per row?", "return one tensor")
    expect(
        torch.equal(x, kept),
        "an argument has been changed",
        cause="does an operation work in place, such as clamp_ or -=?",
        hint="use clamp, and store results under new names",
    )
    wrong = {
        "variances are used as factors": (
            ((x - 0.75 * eps) / 0.25).clamp(-1, 1),
            "which factors do image and noise have in x_t?",
        ),
        "the noise is removed, but the image is still faint": (
            (x - 0.75**0.5 * eps).clamp(-1, 1),
            "which factor does the image have in x_t?",
        ),
        "the noise is removed in full strength": (
            ((x - eps) / 0.5).clamp(-1, 1),
            "which factor does the noise have in x_t?",
        ),
        "noise is added": (
            ((x + 0.75**0.5 * eps) / 0.5).clamp(-1, 1),
            "which sign does the noise have after the formula is solved?",
        ),
    }
    hint = "((x - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5).clamp(-1, 1)"
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    expect(
        same(got, x0),
        "the image that was mixed with the noise is not found again",
        cause="put your result back into the first formula. Do you get x_t?",
        hint=hint,
    )
    bright = answer(3 * x, eps, 0.25)
    expect(
        float(bright.abs().max()) <= 1.0001,
        "the predicted image leaves [-1, 1]",
        cause="pixels of real images lie in [-1, 1]. Is the result limited to this interval?",
        hint="clamp(-1, 1) at the end",
    )
    exact = ((3 * x - 0.75**0.5 * eps) / 0.5).clamp(-1, 1)
    expect(
        same(bright, exact),
        "the limit changes the image too much",
        cause="is the interval [-1, 1], and is it applied once, at the end?",
        hint=hint,
    )


@exercise("Errors of the predicted image")
def image_errors(answer: Callable[..., list[float]]) -> None:
    g = Generator().manual_seed(14)
    x0, eps = _images(15), torch.randn(3, 2, 4, 4, generator=g)
    alphas_cumprod, times = ddim.linear_alphas_cumprod(), [50, 500, 900]
    seen: list[tuple[Tensor, int]] = []

    def predict(x: Tensor, t: int) -> Tensor:
        seen.append((x.clone(), int(t)))
        return 0.9 * eps + 0.05 * x

    got = answer(predict, x0.clone(), eps.clone(), alphas_cumprod, times)
    expect(
        isinstance(got, list | tuple) and len(got) == 3,
        f"expected a list with one number per time, got {type(got).__name__}"
        + (f" of length {len(got)}" if isinstance(got, list | tuple) else ""),
        cause="is one error appended in every turn of the loop?",
        hint="errors.append(...) inside the loop, return errors after it",
    )
    expect(
        [t for _, t in seen] == times,
        f"the network was evaluated at times {[t for _, t in seen]}, expected {times}",
        cause="is there one prediction per time?",
        hint="predict(x, t), once in each turn of the loop",
    )
    noisy, exact, of_noise, as_is = [], [], [], []
    for t in times:
        a = float(alphas_cumprod[t])
        x = a**0.5 * x0 + (1 - a) ** 0.5 * eps
        image = ddim.predict_x0(x, 0.9 * eps + 0.05 * x, a).clamp(-1, 1)
        noisy.append(x)
        exact.append((image - x0).square().mean())
        of_noise.append((0.9 * eps + 0.05 * x - eps).square().mean())
        as_is.append((x - x0).square().mean())
    expect(
        not any(same(x, x0) for x, _ in seen),
        "the network gets the clean images",
        cause="at time t the network sees images with noise",
        hint="x = add_noise(x0, eps, alpha_bar of t for each image)",
    )
    expect(
        all(same(x, y) for (x, _), y in zip(seen, noisy, strict=True)),
        "the network does not get the noisy images of each time",
        cause="which alpha_bar belongs to t, and is noise added to the clean images each time?",
        hint="x = add_noise(x0, eps, alphas_cumprod[t].float().expand(len(x0)))",
    )
    hint = "(predict_x0(x, predict(x, t), float(alphas_cumprod[t])) - x0).square().mean()"
    values = torch.tensor([float(v) for v in got])
    wrong = {
        "these are errors of the predicted noise": (of_noise, "what is compared with what?"),
        "these are errors of the noisy image": (as_is, "is the predicted image compared?"),
        "the square root is taken": (
            [v.sqrt() for v in exact],
            "is it the mean squared error?",
        ),
    }
    expect_none_of(wrong, lambda w: same(values, torch.stack(list(w))), hint=hint)
    expect(
        same(values, torch.stack(exact)),
        f"at time 500 expected {float(exact[1]):.3f}, got {float(values[1]):.3f}",
        cause="is the predicted image compared with the clean one, over all pixels and images?",
        hint=hint,
    )


@exercise("A step of DDIM")
def ddim_step(answer: Callable[[Tensor, Tensor, float, float], Tensor]) -> None:
    g = Generator().manual_seed(6)
    noisy, eps = (torch.randn(2, 3, 4, 4, generator=g) for _ in range(2))
    alphas_cumprod = torch.tensor([0.64, 0.25])

    def right(x: Tensor, to: int, clip: float | None = 1.0, start: int = 1) -> Tensor:
        return ddim.step(lambda *_: eps, x, alphas_cumprod, start, to, clip)

    # The predicted image is 0.2 noisy: almost nothing is clamped.
    small = 0.1 * noisy + 0.75**0.5 * eps
    kept = (noisy.clone(), eps.clone())
    got = answer(noisy, eps, 0.25, 0.64)
    expect_tensor(got, (2, 3, 4, 4), "is the mixture returned, as one tensor?", "return one tensor")
    expect(
        torch.equal(noisy, kept[0]) and torch.equal(eps, kept[1]),
        "an argument has been changed",
        cause="does an operation work in place, such as clamp_ or -=?",
        hint="use clamp, and store results under new names",
    )
    expect(
        same(got, answer(noisy, eps, 0.25, 0.64)),
        "the same step gives another result when repeated",
        cause="is new noise drawn? DDIM draws none",
        hint="use the noise that follows from x and the predicted image",
    )
    expect(
        same(answer(small, eps, 0.25, 1.0), right(small, -1)),
        "with alpha_bar_next = 1 the result must be the predicted image",
        cause="does the last mixture use alpha_bar_next, and the predicted image?",
        hint="x0 = predict_x0(x, eps, alpha_bar) is the image part of the mixture",
    )
    expect(
        float(answer(noisy, eps, 0.25, 1.0).abs().max()) <= 1.0001,
        "the predicted image leaves [-1, 1]",
        cause="is the image limited before the noise is computed?",
        hint="predict_x0 limits the image: use its result for both parts",
    )
    expect(
        same(answer(small, eps, 0.25, 0.64), right(small, 0)),
        "at alpha_bar_next = 0.64, the mixture of image and noise is wrong",
        cause="which two factors does the first formula have, and at which of the two times?",
        hint="alpha_bar_next**0.5 * x0 + (1 - alpha_bar_next) ** 0.5 * implied",
    )
    expect(
        not same(answer(noisy, eps, 0.25, 0.64), 0.8 * right(noisy, -1) + 0.6 * eps),
        "where the image was limited, the noise no longer fits the image",
        cause="x is image and noise. If the image changes, must the noise not change, too?",
        hint="implied = (x - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5",
    )
    expect(
        same(got, right(noisy, 0)),
        "where the image was limited, the step is wrong",
        cause="is the noise computed from x and the limited image, at the present time?",
        hint="implied = (x - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5",
    )


class _Recorder:
    """A network that remembers at which times it was evaluated."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def __call__(self, x: Tensor, t: int) -> Tensor:
        self.times.append(int(t))
        return (2 * x + int(t) / 300).sin()


def _chain(x: Tensor, alphas_cumprod: Tensor, pairs: list[tuple[int, float]]) -> Tensor:
    """Take DDIM steps along pairs of a time and the next alpha_bar."""
    net = _Recorder()
    for t, alpha_bar_next in pairs:
        x = ddim.ddim_step(x, net(x, t), float(alphas_cumprod[t]), alpha_bar_next, 1.0)
    return x


@exercise("The sampler")
def render(answer: Callable[[Any, Tensor, Tensor, list[int]], Tensor]) -> None:
    noise = torch.randn(2, 1, 4, 4, generator=Generator().manual_seed(7))
    alphas_cumprod, times = ddim.linear_alphas_cumprod(), [0, 250, 500, 750]
    net, given = _Recorder(), list(times)
    got = answer(net, noise.clone(), alphas_cumprod, given)
    expect_tensor(got, (2, 1, 4, 4), "is the last image returned, and nothing else?", "return x")
    expect(
        given == times,
        "the list of times has been changed",
        cause="pop, reverse and append change the argument itself",
        hint="times[::-1] and times[1:] make new lists",
    )
    expect(
        net.times != times,
        "the network is evaluated at rising times",
        cause="at which end of the list does pure noise stand?",
        hint="go through the list from its end",
    )
    expect(
        net.times == times[::-1],
        f"the network was evaluated at times {net.times}, expected {times[::-1]}",
        cause="is there exactly one step per time, evaluated at the time of x?",
        hint="one step per time: from each time to the one before, and one last step",
    )
    a = [float(v) for v in alphas_cumprod[times]]
    chain = functools.partial(_chain, noise, alphas_cumprod)
    wrong = {
        "the last step does not lead to the clean image": (
            chain([(750, a[2]), (500, a[1]), (250, a[0]), (0, a[0])]),
            "how much noise has the clean image, and which alpha_bar is that?",
        ),
        "the last step leads back to noise": (
            chain([(750, a[2]), (500, a[1]), (250, a[0]), (0, a[3])]),
            "how much noise has the clean image, and which alpha_bar is that?",
        ),
        "each step ends at the clean image": (
            chain([(750, 1.0), (500, 1.0), (250, 1.0), (0, 1.0)]),
            "each step but the last one leads to the next time only",
        ),
    }
    hint = "the alpha_bar after each step is that of the next time, and 1 after the last step"
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    expect(
        same(got, ddim.render(_Recorder(), noise, alphas_cumprod, times)),
        "the image differs from the library's",
        cause="does each step begin where the last one ended, and go to the next time?",
        hint=hint,
    )


@exercise("Inversion")
def ddim_inversion(answer: Callable[[Any, Tensor, Tensor, list[int]], Tensor]) -> None:
    images = torch.rand(2, 1, 4, 4, generator=Generator().manual_seed(7)) * 1.6 - 0.8
    alphas_cumprod, times = ddim.linear_alphas_cumprod(), [0, 250, 500, 750]
    net, given = _Recorder(), list(times)
    got = answer(net, images.clone(), alphas_cumprod, given)
    expect_tensor(got, (2, 1, 4, 4), "is the last x returned, and nothing else?", "return x")
    expect(
        given == times,
        "the list of times has been changed",
        cause="pop, reverse and append change the argument itself",
        hint="times[1:] makes a new list",
    )
    expect(
        net.times != times[::-1],
        "the network is evaluated at falling times",
        cause="at which end of the list does the image stand?",
        hint="go through the list from its beginning",
    )
    expect(
        net.times == times,
        f"the network was evaluated at times {net.times}, expected {times}",
        cause="is there exactly one step per time, evaluated at the earlier time of each step?",
        hint="one step per time: from each time to the next, and one last step",
    )
    a = [float(v) for v in alphas_cumprod[times]]
    chain = functools.partial(_chain, images, alphas_cumprod)
    wrong = {
        "the result is an image, not noise": (
            chain([(0, a[1]), (250, a[2]), (500, a[3]), (750, 1.0)]),
            "which alpha_bar has pure noise?",
        ),
        "the last step stays at the last time": (
            chain([(0, a[1]), (250, a[2]), (500, a[3]), (750, a[3])]),
            "which alpha_bar has pure noise?",
        ),
        "each step leads to pure noise": (
            chain([(0, 0.0), (250, 0.0), (500, 0.0), (750, 0.0)]),
            "each step but the last one leads to the next time only",
        ),
    }
    hint = "the alpha_bar after each step is that of the next time, and 0 after the last step"
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    expect(
        same(got, ddim.invert(_Recorder(), images, alphas_cumprod, times)),
        "the noise differs from the library's",
        cause="does each step begin where the last one ended, and go to the next time?",
        hint=hint,
    )


@exercise("Noise from velocity")
def noise_from_velocity(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    x0, eps = _images(11), torch.randn(3, 2, 4, 4, generator=Generator().manual_seed(12))
    x, v = 0.6 * x0 + 0.8 * eps, 0.6 * eps - 0.8 * x0
    got = answer(x.clone(), v.clone(), 0.36)
    expect_tensor(got, (3, 2, 4, 4), "is the noise returned, as one tensor?", "return one tensor")
    wrong = {
        "this is the image, not the noise": (
            x0,
            "both unknowns can be found. Which one did you solve for?",
        ),
        "the two factors are exchanged": (
            0.8 * v + 0.6 * x,
            "multiply each equation by the factor that the noise has in it, then add",
        ),
        "variances are used as factors": (
            0.36 * v + 0.64 * x,
            "the factors in both equations are roots",
        ),
        "one sign is wrong": (
            0.6 * v - 0.8 * x,
            "after both equations are added, does the image cancel?",
        ),
        "the velocity itself is returned": (v, "the velocity contains the image, too"),
    }
    hint = "the sum of both equations, each times its factor of eps, contains no x_0"
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    expect(
        same(got, eps),
        "the noise that x and v were made of is not found again",
        cause="put your noise back into both equations. Which one does not hold?",
        hint=hint,
    )


_known: dict[str, Any] = {}


def _digits() -> dict[str, Any]:
    """Return the shipped space, four digits, their codes, and the library's reconstructions."""
    if not _known:
        space = weights.load("digits/diffae", device="cpu").with_steps(10)
        images = data.digits("test").images[:4]
        code = space.encode(images)
        other = noise_like(code.aux, 3)
        drawn = space.decode(Code(code.z.roll(1, 0), other))
        _known.update(space=space, images=images, code=code, other=other, drawn=drawn)
    return _known


@exercise("Your diffusion autoencoder")
def my_diffae(answer: Callable[..., Any]) -> None:
    digits = _digits()
    space, images, code = digits["space"], digits["images"], digits["code"]
    alphas_cumprod = ddim.linear_alphas_cumprod()
    what = "two functions, encode and decode"
    encode, decode = expect_pair(answer(space, alphas_cumprod), what, "return encode, decode")
    expect(
        callable(encode) and callable(decode),
        f"expected {what}, got {type(encode).__name__} and {type(decode).__name__}",
        cause="are the functions returned, or their results?",
        hint="return encode, decode",
    )
    # The shipped weights are frozen. Others may not be, so the answer has to cut the graph itself.
    space.net.requires_grad_(True)
    try:
        code_parts = encode(images)
    finally:
        space.net.requires_grad_(False)
    z, noise = expect_pair(code_parts, "semantic codes and noise, from encode")
    shape = tuple(code.z.shape)
    expect_tensor(z, shape, "is z the first part of the code?", "space.net.encoder(x)", "codes z")
    expect_tensor(
        noise,
        tuple(code.aux.shape),
        "is the noise the second part of the code, as the codec sees it?",
        "ddim_inversion(predict, x, alphas_cumprod, space.inversion_times)",
        "noise of the shape of x",
    )
    expect(
        not (z.requires_grad or noise.requires_grad),
        "the codes carry the graphs of all steps",
        cause="encoding needs no gradients, and they take much memory",
        hint="put @torch.no_grad() above both functions",
    )
    apart = float(((z - code.z) / space.std).abs().max())
    expect(
        apart <= TOLERANCE["z"],
        f"a semantic code is {apart:.2g} standard deviations away from the library's",
        cause="which interval do the pixels have that the encoder sees?",
        hint="x = space.codec.encode(images * 2 - 1), and z = space.net.encoder(x)",
    )
    apart = float((noise - code.aux).abs().max())
    expect(
        apart <= TOLERANCE["x_T"],
        f"the noise differs by {apart:.2g} from the library's",
        cause="is the output of the network turned into noise, with the alpha_bar of its time? "
        "Which code conditions it, and which times are used?",
        hint="noise_from_velocity(x, space.net(x, torch.tensor([t]), z), float(alphas_cumprod[t]))",
    )
    drawn = decode(code.z.roll(1, 0), digits["other"])
    expect_tensor(
        drawn, tuple(images.shape), "is the codec undone?", "space.codec.decode", "images"
    )
    expect(
        float(drawn.min()) >= 0 and float(drawn.max()) <= 1 and float(drawn.mean()) > 0,
        "the images leave [0, 1]",
        cause="the network works in [-1, 1]. Which interval do images have?",
        hint="((x + 1) / 2).clamp(0, 1)",
    )
    apart = float((drawn - digits["drawn"]).abs().max())
    expect(
        apart <= TOLERANCE["pixels"],
        f"a pixel differs by {apart:.2g} from the library's",
        cause="does decode use the code and the noise that it is given, and space.times?",
        hint="render(predict, noise, alphas_cumprod, space.times), then codec and interval",
    )


@exercise("Errors by number of steps")
def errors_by_steps(answer: Callable[..., Any]) -> None:
    digits = _digits()
    space, images, alphas_cumprod = digits["space"], digits["images"], ddim.linear_alphas_cumprod()
    what = "two lists, for noise found and for noise drawn"
    found, drawn = expect_pair(answer(space, images, alphas_cumprod, [2, 5], 4), what)
    for part in (found, drawn):
        expect(
            isinstance(part, list | tuple) and len(part) == 2,
            f"expected {what}, each with one number per entry of steps",
            cause="is one error of each kind appended in every turn of the loop?",
            hint="found.append(...) and drawn.append(...) inside the loop, return found, drawn",
        )
    exact: dict[str, list[float]] = {"found": [], "drawn": [], "other": []}
    for n in (2, 5):
        other = space.with_steps(n)
        code = other.encode(images)
        noises = {"found": code.aux, "drawn": noise_like(code.aux, 4)}
        for kind, noise in {**noises, "other": noise_like(code.aux, 0)}.items():
            error = (other.decode(Code(code.z, noise)) - images).square().mean()
            exact[kind].append(float(error))

    def close(a: Any, b: list[float]) -> bool:
        return all(math.isclose(float(x), y, rel_tol=1e-2) for x, y in zip(a, b, strict=True))

    hint = "encode once with space.with_steps(n), decode with the noise found and with noise_like"
    expect(
        not (close(found, exact["drawn"]) and close(drawn, exact["found"])),
        "the two lists are exchanged",
        cause="which list comes first?",
        hint="return found, drawn",
    )
    expect(
        not math.isclose(float(found[0]), float(found[1]), rel_tol=1e-3),
        "the number of steps has no effect",
        cause="which space does your autoencoder use?",
        hint="my_diffae(space.with_steps(n), alphas_cumprod)",
    )
    expect(
        close(found, exact["found"]),
        f"with 2 steps and noise found expected an error of {exact['found'][0]:.4f}, "
        f"got {float(found[0]):.4f}",
        cause="are images compared with their reconstructions, by the mean of the squares?",
        hint=hint,
    )
    expect(
        not close(drawn, exact["found"]),
        "the second list belongs to the noise found, too",
        cause="which noise does the second reconstruction start with?",
        hint=hint,
    )
    expect(
        not close(drawn, exact["other"]),
        "the noise does not depend on the seed",
        cause="is the argument `seed` used?",
        hint="noise_like(noise, seed)",
    )
    expect(
        close(drawn, exact["drawn"]),
        f"with 2 steps and noise drawn expected an error of {exact['drawn'][0]:.4f}, "
        f"got {float(drawn[0]):.4f}",
        cause="is the noise drawn with the given seed, and the semantic code kept?",
        hint=hint,
    )


@exercise("Code or noise?")
def code_or_noise(answer: Callable[[Tensor, Tensor, Tensor], tuple[float, float]]) -> None:
    of_z = torch.tensor([1, 1, 2, 2, 3, 3, 4, 5, 5, 6])
    of_noise = torch.tensor([2, 3, 2, 1, 4, 1, 4, 5, 1, 2])  # 7 of 10 differ
    read = torch.tensor([1, 3, 2, 2, 3, 7, 4, 5, 5, 6])
    got = answer(read, of_z, of_noise)
    one, two = map(float, expect_pair(got, "two fractions", "return semantic, stochastic"))
    expect(
        not (one > 1 or two > 1),
        f"a fraction is at most 1, got {one:.3g} and {two:.3g}",
        cause="are matches counted instead of averaged, or given as a percentage?",
        hint=".double().mean() of the mask of matches",
    )
    wrong = {
        "the two fractions are exchanged": ((1 / 7, 5 / 7), "which donor comes first?"),
        "pairs with donors of the same class are included": (
            (0.8, 0.4),
            "such a pair says nothing. Is it left out?",
        ),
        "hits are divided by the number of all pairs": (
            (0.5, 0.1),
            "by how many pairs is the number of hits divided?",
        ),
    }
    hint = "select with of_z != of_noise, then average; return the semantic donor first"
    expect_none_of(wrong, lambda w: near(one, w[0]) and near(two, w[1]), hint=hint)
    expect(
        near(one, 5 / 7) and near(two, 1 / 7),
        f"expected {5 / 7:.3f} and {1 / 7:.3f}, got {one:.3f} and {two:.3f}",
        cause="which pairs are selected, and with which classes is `read` compared?",
        hint="for pairs whose donors differ, compare read with each donor",
    )
    none = answer(read[2:3], of_z[2:3], of_noise[2:3])
    expect(
        all(math.isnan(float(fraction)) for fraction in none),
        "without any pair of different classes, expected NaN twice",
        cause="what is the mean of no numbers?",
        hint="the mean of an empty tensor is NaN: return it",
    )


@exercise("Spherical interpolation")
def slerp(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    g = Generator().manual_seed(8)
    a, b = (torch.randn(3, 2, 4, 4, generator=g) for _ in range(2))
    b = b * torch.tensor([1.0, 2.0, 0.5]).view(3, 1, 1, 1) + 0.6 * a
    b[2] = 0.3 * b[2] - a[2]
    got = answer(a, b, 0.25)
    expect_tensor(
        got,
        (3, 2, 4, 4),
        "does each angle multiply one image?",
        ".view(-1, 1, 1, 1)",
        "images of the shape of a",
    )
    expect(
        not bool(got.isnan().any()),
        "the result contains NaN",
        cause="acos needs numbers in [-1, 1]. Is the product divided by both lengths?",
        hint="torch.cosine_similarity of the flattened images",
    )
    expect(
        not same(got, torch.lerp(a, b, 0.25)),
        "this is linear interpolation",
        cause="where does the angle enter?",
        hint="the weights are sines: sin((1 - w) θ) / sin θ and sin(w θ) / sin θ",
    )
    expect(
        not same(got, spherical_interpolation(a, b, 0.75)),
        "the interpolation goes from b to a",
        cause="what must the result be at w = 0?",
        hint="exchange w and 1 - w",
    )
    for w, end in ((0.0, a), (1.0, b)):
        expect(
            same(answer(a, b, w), end),
            f"at w = {w:.0f} the result isn't {'ab'[int(w)]}",
            cause="do the two weights become 1 and 0 there? Are a and b used as they are?",
            hint="sin((1 - w) θ) / sin θ is 1 at w = 0",
        )
    alone = torch.cat([answer(a[i : i + 1], b[i : i + 1], 0.25) for i in range(3)])
    expect(
        same(got, alone),
        "the result of an image depends on the other images of the batch",
        cause="is there one angle per image?",
        hint="flatten(1), and the similarity along dim=1",
    )
    expect(
        same(got, spherical_interpolation(a, b, 0.25)),
        "the result is not on the arc between a and b",
        cause="between what is the angle, in which unit, and which function makes the weights?",
        hint="one angle per image, in radians, and sines",
    )


@exercise("A random direction of equal length")
def matched_random_direction(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    g = Generator().manual_seed(9)
    direction, draw = torch.randn(5, generator=g), torch.randn(5, generator=g)
    std = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0])
    got = answer(draw.clone(), direction.clone(), std.clone())
    expect_tensor(
        got,
        (5,),
        "is a direction returned, or its length?",
        "return one number per coordinate",
        "one number per coordinate, shape (5,)",
    )
    got = got.to(draw.dtype)
    standardised = got / std
    length, found = float((direction / std).norm()), float(standardised.norm())

    def parallel(a: Tensor, b: Tensor) -> float:
        return float(torch.cosine_similarity(a, b, dim=0))

    expect(
        not parallel(got, draw) > 0.9999,
        "the direction favours coordinates with a small standard deviation",
        cause="in which unit is the draw, and in which unit are codes?",
        hint="multiply by std at the end",
    )
    expect(
        parallel(standardised, draw) > 0.9999,
        "in units of std the direction isn't parallel to the draw",
        cause="between the draw and the result, how often is the unit changed?",
        hint="draw * one number * std",
    )
    expect(
        math.isclose(found, length, rel_tol=1e-4),
        f"expected length {length:.3f} in units of std, got {found:.3f}",
        cause="in which unit are the two lengths compared?",
        hint="draw / draw.norm() * (direction / std).norm() * std",
    )


@exercise("Flips along a direction")
def flip_fractions(answer: Callable[..., list[float]]) -> None:
    g = Generator().manual_seed(16)
    z, noise = torch.randn(50, 3, generator=g), torch.randn(50, 1, 2, 2, generator=g)
    direction, amounts = torch.tensor([1.0, -0.5, 2.0]), [0.2, 0.5, 0.4]

    def decode(z: Tensor, noise: Tensor) -> Tensor:
        return (z.sum(1).view(-1, 1, 1, 1) + 2 * noise).sigmoid()

    def network(x: Tensor) -> Tensor:
        score = 8 * x.mean((1, 2, 3)) - 4
        return torch.stack([-score, 0.5 * score, score - 0.4], 1)

    kept = z.clone()
    got = answer(decode, z, noise, direction, network, amounts, 2)
    expect(
        isinstance(got, list | tuple) and len(got) == 3,
        f"expected a list with one number per amount, got {type(got).__name__}"
        + (f" of length {len(got)}" if isinstance(got, list | tuple) else ""),
        cause="is one fraction appended in every turn of the loop?",
        hint="fractions.append(...) inside the loop, return fractions after it",
    )
    expect(
        torch.equal(z, kept),
        "the codes that were handed in have changed",
        cause="does an operation work in place, such as z += ...?",
        hint="z + amount * direction makes a new tensor",
    )

    def fractions(codes: list[Tensor], noise: Tensor = noise, target: int = 2) -> list[float]:
        reads = [network(decode(code, noise)).argmax(1) for code in codes]
        return [float((read == target).double().mean()) for read in reads]

    edits = [z + amount * direction for amount in amounts]
    walked = [z + sum(amounts[: k + 1]) * direction for k in range(3)]
    wrong = {
        "the direction is subtracted": (
            fractions([z - amount * direction for amount in amounts]),
            "which sign has an edit?",
        ),
        "the amounts add up": (
            fractions(walked),
            "does each edit start at the original code?",
        ),
        "the codes are replaced by the direction": (
            fractions([(amount * direction).expand_as(z) for amount in amounts]),
            "is the edit added to the code of the image?",
        ),
        "the noise is not used": (
            fractions(edits, torch.zeros_like(noise)),
            "decode needs both parts of the code",
        ),
        "these are fractions of images that are not read as the target": (
            [1 - f for f in fractions(edits)],
            "which images are counted?",
        ),
        "images are counted, not averaged": (
            [50 * f for f in fractions(edits)],
            "a fraction is at most 1",
        ),
    }
    values = [float(v) for v in got]
    hint = "decode(z + amount * direction, noise), then the mean of predicted class == target"

    def equal(w: list[float]) -> bool:
        return all(near(a, b) for a, b in zip(values, w, strict=True))

    expect_none_of(wrong, equal, hint=hint)
    exact = fractions(edits)
    expect(
        equal(exact),
        f"expected {[round(v, 2) for v in exact]}, got {[round(v, 2) for v in values]}",
        cause="is the class of each edited image compared with the target?",
        hint=hint,
    )
