"""Solutions of 06_diffusion_autoencoders, written by ``python -m cfxnb.build learner``."""

# ruff: noqa: I001
import torch
import cfxnb as cfx
from cfxnb.core.progress import each
from cfxnb.core.tensors import noise_like


def noise_schedule(first: float, last: float, steps: int) -> torch.Tensor:
    """Return alpha_bar at each time, float64 (steps,)."""
    beta = torch.linspace(first, last, steps, dtype=torch.float64)
    return (1 - beta).cumprod(0)


def add_noise(x0: torch.Tensor, eps: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """Return noisy images x_t, (b, c, h, w), with one alpha_bar per image, (b,)."""
    alpha_bar = alpha_bar.view(-1, 1, 1, 1)
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps


def diffusion_loss(denoiser, x0, z, t, eps, alphas_cumprod) -> torch.Tensor:
    """Return the mean squared error of the predicted noise, one number."""
    noisy = add_noise(x0, eps, alphas_cumprod[t])
    predicted = denoiser(noisy, t, z)
    return (predicted - eps).square().mean()


def network_input(x: torch.Tensor, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return one row of numbers per image: pixels, sines, cosines, code, (b, 112)."""
    frequencies = torch.logspace(0, -4, 16)
    angle = t[:, None] * frequencies
    parts = [x.flatten(1), angle.sin(), angle.cos(), z]
    return torch.cat(parts, 1)


def train(encoder, denoiser, images, alphas_cumprod, steps, batch_size=128, lr=3e-3, seed=0):
    """Train encoder and denoiser together, and return the loss of each step."""
    g = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam([*encoder.parameters(), *denoiser.parameters()], lr=lr)
    losses = []
    for _ in each(range(steps), "training"):
        x0 = images[torch.randint(len(images), (batch_size,), generator=g)]
        t = torch.randint(len(alphas_cumprod), (batch_size,), generator=g)
        eps = torch.randn(x0.shape, generator=g)
        loss = diffusion_loss(denoiser, x0, encoder(x0), t, eps, alphas_cumprod)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return losses


def predict_x0(x: torch.Tensor, eps: torch.Tensor, alpha_bar: float) -> torch.Tensor:
    """Return the predicted images in [-1, 1], (b, c, h, w)."""
    image = (x - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5
    return image.clamp(-1, 1)


def image_errors(predict, x0, eps, alphas_cumprod, times: list[int]) -> list[float]:
    """Return the squared error of the predicted image at each time."""
    errors = []
    for t in times:
        alpha_bar = alphas_cumprod[t]
        x = add_noise(x0, eps, alpha_bar.float().expand(len(x0)))
        image = predict_x0(x, predict(x, t), float(alpha_bar))
        errors.append((image - x0).square().mean().item())
    return errors


def ddim_step(
    x: torch.Tensor, eps: torch.Tensor, alpha_bar: float, alpha_bar_next: float
) -> torch.Tensor:
    """Return the images at the next time, (b, c, h, w)."""
    image = predict_x0(x, eps, alpha_bar)
    implied = (x - alpha_bar**0.5 * image) / (1 - alpha_bar) ** 0.5
    return alpha_bar_next**0.5 * image + (1 - alpha_bar_next) ** 0.5 * implied


def render(predict, x: torch.Tensor, alphas_cumprod: torch.Tensor, times: list[int]):
    """Return the images in [-1, 1] to which the chain of steps leads, (b, c, h, w)."""
    down = times[::-1]
    following = [float(alphas_cumprod[t]) for t in down[1:]] + [1.0]
    for t, alpha_bar_next in zip(down, following, strict=True):
        x = ddim_step(x, predict(x, t), float(alphas_cumprod[t]), alpha_bar_next)
    return x


def ddim_inversion(predict, x: torch.Tensor, alphas_cumprod: torch.Tensor, times: list[int]):
    """Return the noise that the sampler turns into the images x, (b, c, h, w)."""
    following = [float(alphas_cumprod[t]) for t in times[1:]] + [0.0]
    for t, alpha_bar_next in zip(times, following, strict=True):
        x = ddim_step(x, predict(x, t), float(alphas_cumprod[t]), alpha_bar_next)
    return x


def noise_from_velocity(x: torch.Tensor, v: torch.Tensor, alpha_bar: float) -> torch.Tensor:
    """Return the noise in x, (b, c, h, w)."""
    return alpha_bar**0.5 * v + (1 - alpha_bar) ** 0.5 * x


def my_diffae(space, alphas_cumprod: torch.Tensor):
    """Return the functions encode(images) -> (z, noise) and decode(z, noise) -> images."""

    def conditioned(z):
        def predict(x, t):
            v = space.net(x, torch.tensor([t]), z)
            return noise_from_velocity(x, v, float(alphas_cumprod[t]))

        return predict

    @torch.no_grad()
    def encode(images):
        x = space.codec.encode(images * 2 - 1)
        z = space.net.encoder(x)
        return z, ddim_inversion(conditioned(z), x, alphas_cumprod, space.inversion_times)

    @torch.no_grad()
    def decode(z, noise):
        x = render(conditioned(z), noise, alphas_cumprod, space.times)
        return ((space.codec.decode(x) + 1) / 2).clamp(0, 1)

    return encode, decode


def errors_by_steps(space, images, alphas_cumprod, steps: list[int], seed: int):
    """Return the squared errors with noise found, and with noise drawn: two lists."""
    found, drawn = [], []
    for n in steps:
        encode, decode = my_diffae(space.with_steps(n), alphas_cumprod)
        z, noise = encode(images)
        found.append((decode(z, noise) - images).square().mean().item())
        noise = noise_like(noise, seed)
        drawn.append((decode(z, noise) - images).square().mean().item())
    return found, drawn


def code_or_noise(read, of_z, of_noise) -> tuple[float, float]:
    """Return the fractions of pairs that are read as the donor of the code, and of the noise."""
    differ = of_z != of_noise
    semantic = float((read == of_z)[differ].double().mean())
    stochastic = float((read == of_noise)[differ].double().mean())
    return semantic, stochastic


def slerp(a: torch.Tensor, b: torch.Tensor, w: float) -> torch.Tensor:
    """Return the spherical interpolation, (b, c, h, w): a at w = 0, and b at w = 1."""
    angle = torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).acos()
    angle = angle.view(-1, 1, 1, 1)
    first = ((1 - w) * angle).sin() * a
    return (first + (w * angle).sin() * b) / angle.sin()


def matched_random_direction(draw, direction, std) -> torch.Tensor:
    """Return a random direction that is as long as ``direction`` in units of std, (d,)."""
    length = (direction / std).norm()
    return draw / draw.norm() * length * std


def flip_fractions(decode, z, noise, direction, network, amounts, target=9) -> list[float]:
    """Return the fraction of images that are read as the target, for each amount."""
    fractions = []
    for amount in amounts:
        edited = decode(z + amount * direction, noise)
        read = cfx.predict_logits(network, edited).argmax(1)
        fractions.append((read == target).double().mean().item())
    return fractions
