"""A diffusion autoencoder as a space.

An image has a semantic code, which methods edit, and a stochastic code, which methods don't change.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cfxnb.core import ddim, validate, validate_results
from cfxnb.core.code_covariance import principal_axes
from cfxnb.core.constant_weights import constant_weights
from cfxnb.core.model_folder import STATISTICS, Carded
from cfxnb.core.modes import standard_numbers
from cfxnb.core.tensors import noise_like
from cfxnb.core.types import Code
from cfxnb.nets.diffae import DiffAE
from cfxnb.spaces.codecs import PixelUnshuffleCodec
from cfxnb.spaces.precision import autocast, checked_precision

LATENT_BETA = 0.008  # beta of every step of the latent DDIM (Preechakul et al., appendix)
LIVE = 16  # approximate number of full-size activations in memory at the same time


class DiffusionAutoencoder(Carded, nn.Module):
    """Space of the "Diffusion Autoencoders" of Preechakul et al. (CVPR 2022).

    A code has two parts. ``z``, (b, dims), is the semantic code from the encoder. ``aux`` is the
    noise x_T from which DDIM, conditioned on ``z``, renders the image. Methods edit only ``z``.
    Encoding and decoding are deterministic.

    Args:
        net: semantic encoder and denoising network. The space runs on the device of ``net``.
        mean, std: mean and standard deviation of the semantic codes of real images, (dims,).
            ``fit`` measures them.
        axes, variances: active axes of the standardised semantic codes, (k, dims), and the variance
            along each axis, (k,). ``fit`` measures them. ``find_directions`` uses these axes.
            Default: unknown.
        latent_mean: point around which the codes were standardised when the latent DDIM was
            trained, (dims,). Only ``sample`` uses it, and ``fit`` doesn't change it. The shipped
            latent DDIMs of digits, sprites and chest X-rays were trained around another point than
            the mean. Default: ``mean``.
        codec: turns images in [-1, 1] into the input of ``net`` and back. The codec is a module
            with ``encode`` and ``decode``, such as ``LatentCodec``, or the factor of a
            ``PixelUnshuffleCodec``. If codec is 1, ``net`` works on pixels.
        steps: number of DDIM steps in ``decode``. With few steps images are slightly blurred.
        inversion_steps: number of steps of the DDIM inversion that finds ``aux``. With
            ``inversion_steps=0``, ``aux`` is the same random noise for all images.
        seed: seed of the random noise ``aux`` if ``inversion_steps`` is 0.
        max_memory_gib: approximate memory limit in GiB, from which the batch size follows. A higher
            limit allows larger batches, which are faster. The memory limit does not change the
            results.
        precision: ``"float32"``, or ``"bfloat16"`` for ``net``. bfloat16 is faster on CUDA and on
            processors with bfloat16 products (AMX, AVX-512 BF16). Compared with float32, bfloat16
            changes images by about 0.001, semantic codes by 0.1 and stochastic codes by 0.6.
        compiled: whether to compile ``net`` with torch.compile. Compiling takes one or two minutes
            at the first call. On CUDA the compiled network is 2.7 times as fast, for eight images
            of 256 x 256 and a network of the official size.

    Raises:
        ValueError, TypeError: if an argument is wrong.
    """

    mean: Tensor
    std: Tensor
    axes: Tensor | None
    variances: Tensor | None
    latent_mean: Tensor | None

    def __init__(
        self,
        net: DiffAE,
        mean: Tensor,
        std: Tensor,
        *,
        axes: Tensor | None = None,
        variances: Tensor | None = None,
        latent_mean: Tensor | None = None,
        codec: Any = 1,
        steps: int = 20,
        inversion_steps: int = 20,
        seed: int = 0,
        max_memory_gib: float = 1.0,
        precision: str = "float32",
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.net: DiffAE = validate.instance(net, DiffAE, "net", "a DiffAE")
        known = {"mean": mean, "std": std}
        if latent_mean is not None:
            known["latent_mean"] = latent_mean
        for name, value in known.items():
            found = validate.instance(value, Tensor, name, "a torch tensor").shape
            validate.shape(found, (net.dims,), name, "shape")
        mean, std = validate.place(mean, std)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        axes, variances = validate.place_axes(axes, variances, mean)
        self.register_buffer("axes", axes)
        self.register_buffer("variances", variances)
        if latent_mean is not None:
            latent_mean, _ = validate.place(latent_mean, std, "latent_")
        self.register_buffer("latent_mean", latent_mean)
        # No buffer, because not every device has float64.
        self.alphas_cumprod = ddim.linear_alphas_cumprod()
        self.codec = codec
        if isinstance(codec, int):
            self.codec = PixelUnshuffleCodec(validate.count(codec, "codec", 1))
        if not isinstance(self.codec, nn.Module) or not hasattr(self.codec, "decode"):
            raise TypeError(
                f"codec: expected a whole number, or a module with encode and decode, got "
                f"{validate.describe(codec)}"
            )
        self.times, self.inversion_times = _times(steps, inversion_steps)
        self.seed = validate.seed(seed)
        self.max_memory_gib = validate.number(max_memory_gib, "max_memory_gib", 0.0, open_low=True)
        self.precision = checked_precision(precision)
        # In float32 on the CPU, no layout is faster in convolutions, and the normalisation is slow
        # in channels_last.
        plain = self.precision == "float32" and self.mean.device.type == "cpu"
        self._layout = torch.contiguous_format if plain else torch.channels_last
        self.net.to(memory_format=self._layout)
        self._net = torch.compile(net) if validate.flag(compiled, "compiled") else net

    def _stored(self) -> tuple[nn.Module, dict[str, Tensor | None], dict[str, Carded]]:
        return self.net, {name: getattr(self, name, None) for name in STATISTICS}, {}

    def with_steps(self, steps: int, inversion_steps: int | None = None) -> "DiffusionAutoencoder":
        """Return a space with the same weights and other numbers of steps.

        Args:
            steps: number of DDIM steps in ``decode``.
            inversion_steps: number of steps of the DDIM inversion. Default: ``steps``.
        """
        other = copy.copy(self)
        back = steps if inversion_steps is None else inversion_steps
        other.times, other.inversion_times = _times(steps, back)
        return other

    def predict_noise(self, x: Tensor, t: int, z: Tensor) -> Tensor:
        """Return the predicted noise in noisy images.

        Args:
            x: noisy images, as encoded by the codec, (b, c, h, w).
            t: time, 0 to 999.
            z: semantic codes, (b, dims).
        """
        time = torch.tensor([t], device=x.device)
        with autocast(self.mean.device, self.precision):
            x = x.contiguous(memory_format=self._layout)
            found = self._net(x, time, z).float()
        if self.net.prediction_type == "epsilon":
            return found
        alpha_bar = float(self.alphas_cumprod[t])
        return alpha_bar**0.5 * found + (1 - alpha_bar) ** 0.5 * x

    @standard_numbers
    @constant_weights()
    def encode_semantic(self, images: Tensor) -> Tensor:
        """Return only the semantic codes of images, (b, dims), without DDIM inversion."""
        clean = self.codec.encode(self._checked(images) * 2 - 1)
        parts = [self._encode(part) for part in clean.split(self._chunk(clean))]
        return torch.cat(parts).to(validate.pixels(images).device)

    def _encode(self, clean: Tensor) -> Tensor:
        with autocast(self.mean.device, self.precision):
            clean = clean.contiguous(memory_format=self._layout)
            return self.net.encoder(clean).float()

    @standard_numbers
    @constant_weights()
    @torch.no_grad()
    def encode(self, images: Tensor) -> Code:
        """Return the semantic and the stochastic codes of images.

        Args:
            images: (b, c, h, w) in [0, 1].

        Returns:
            A Code with z of shape (b, dims) and the noise as aux, on the device of ``images``.

        Raises:
            ValueError: if the network was made for images of another shape.
        """
        clean = self.codec.encode(self._checked(images) * 2 - 1)
        codes, noise = [], []
        clip, times = self.clip_sample_range, self.inversion_times
        for part in clean.split(self._chunk(clean)):
            z = self._encode(part)
            codes.append(z)
            if times:
                predict = self._conditioned(z)
                noise.append(ddim.invert(predict, part, self.alphas_cumprod, times, clip))
        aux = torch.cat(noise) if noise else self.default_noise(clean.shape)
        return Code(torch.cat(codes), aux).to(validate.pixels(images).device)

    @standard_numbers
    def default_noise(self, shape: torch.Size | tuple[int, ...]) -> Tensor:
        """Return random stochastic codes of shape ``shape``, with the same noise for each image."""
        one = noise_like(self.mean.new_empty(1, *shape[1:]), self.seed)
        return one.expand(shape).clone()

    @standard_numbers
    @constant_weights()
    def decode(self, code: Code) -> Tensor:
        """Return the images of codes, in [0, 1], on the device of the code.

        Differentiable in ``code.z``. To save memory, the backward pass computes the activations of
        each step again.

        Raises:
            ValueError: if the code has no ``aux``, or doesn't have the shape of this space.
        """
        validate_results.code(code, "code")
        z, x = code.z.to(self.mean), code.aux
        if z.shape[1:] != self.mean.shape or x is None or not len(z):
            got = None if x is None else tuple(x.shape)
            raise ValueError(
                f"code: expected z of shape (b, {len(self.mean)}) and aux with as many rows, "
                f"as encode returns, got {tuple(z.shape)} and {got}"
            )
        x = x.to(z)
        sides = self.net.sides
        if x.ndim != 4 or x.shape[1] != self.net.channels or any(n % sides for n in x.shape[2:]):
            raise ValueError(
                f"code: expected aux of shape (b, {self.net.channels}, h, w), sides divisible by "
                f"{sides}, got {tuple(x.shape)}"
            )
        rows = self._chunk(x)
        pairs = zip(z.split(rows), x.split(rows), strict=True)
        clip, alphas_cumprod = self.clip_sample_range, self.alphas_cumprod
        parts = [
            self.codec.decode(
                ddim.render(self._conditioned(z), x, alphas_cumprod, self.times, clip)
            )
            for z, x in pairs
        ]
        return ((torch.cat(parts) + 1) / 2).clamp(0, 1).to(code.z.device)

    def _conditioned(self, z: Tensor) -> ddim.Predict:
        if torch.is_grad_enabled() and z.requires_grad:
            return lambda x, t: checkpoint(self.predict_noise, x, t, z, use_reentrant=False)
        return lambda x, t: self.predict_noise(x, t, z)

    @property
    def clip_sample_range(self) -> float | None:
        """Largest absolute value of predicted clean images: 1 for pixels, None for latents."""
        return 1.0 if isinstance(self.codec, PixelUnshuffleCodec) else None

    @property
    def _fold(self) -> int:
        """Side of the squares of pixels that the codec turns into channels, or 1."""
        return self.codec.downscale_factor if isinstance(self.codec, PixelUnshuffleCodec) else 1

    def _checked(self, images: Tensor) -> Tensor:
        images = validate.pixels(images)
        fold = self._fold
        colours, sides = self.net.channels // fold**2, self.net.sides * fold
        fits = images.ndim == 4 and not any(side % sides for side in images.shape[2:])
        if not fits or (isinstance(self.codec, PixelUnshuffleCodec) and images.shape[1] != colours):
            raise ValueError(
                f"images: expected shape (b, {colours}, h, w) in this space, sides divisible by "
                f"{sides}, got {tuple(images.shape)}"
            )
        return images.to(self.mean.device)

    def _chunk(self, x: Tensor) -> int:
        """Return the number of images per batch that ``max_memory_gib`` allows."""
        width = self.net.base
        each = 4 * LIVE * width * x.shape[2] * x.shape[3]
        return max(1, min(len(x), int(self.max_memory_gib * 2**30 / each)))

    @standard_numbers
    @torch.no_grad()
    def fit(self, images: Tensor | Iterator[Tensor]) -> "DiffusionAutoencoder":
        """Measure ``mean``, ``std``, ``axes`` and ``variances``, and return the space.

        Args:
            images: n images (n, c, h, w) in [0, 1], or an iterator of such image batches.
        """
        batches = [images] if isinstance(images, Tensor) else validate.batches(images)
        z = torch.cat([self.encode_semantic(batch) for batch in batches])
        self.mean.copy_(z.mean(0))
        self.std.copy_(z.std(0))
        self.axes, self.variances = principal_axes(z, z.std(0))
        return self

    @standard_numbers
    @torch.no_grad()
    def sample(
        self, n_samples: int, seed: int = 0, *, shape: tuple[int, ...], steps: int = 100
    ) -> Code:
        """Sample codes of new images with the latent DDIM. Sample i depends only on (seed, i).

        Args:
            shape: shape of one image, (c, h, w).
            steps: number of steps of the latent DDIM, which is fast.

        Raises:
            ValueError, TypeError: if an argument is wrong, or if ``net`` has no latent DDIM.
        """
        latent_net: Callable | None = getattr(self.net, "latent_net", None)
        if latent_net is None:
            raise ValueError(
                "space: expected a net with a latent_net, which samples codes, got one without"
            )
        rows, seed = validate.count(n_samples, "n_samples"), validate.seed(seed)
        z = noise_like(self.mean.new_empty(rows, *self.mean.shape), 2 * seed)
        times = ddim.timesteps(validate.count(steps, "steps", 2))
        shape = validate.sizes(shape, "shape", "(c, h, w)")
        if any(size % self._fold for size in shape[1:]):
            raise ValueError(f"shape: expected sides divisible by {self._fold}, got {shape}")

        def predict(x: Tensor, t: int) -> Tensor:
            return latent_net(x, torch.tensor([t], device=x.device))

        z = ddim.render(predict, z, latent_alphas_cumprod(), times, None)
        clean = self.codec.encode(self.mean.new_zeros(1, *shape))
        aux = noise_like(self.mean.new_empty(rows, *clean.shape[1:]), 2 * seed + 1)
        mean = self.mean if self.latent_mean is None else self.latent_mean
        return Code(mean + self.std * z, aux)


def _times(steps: Any, inversion_steps: Any) -> tuple[list[int], list[int]]:
    """Return the times of the DDIM steps in ``decode``, and of the inversion (perhaps none)."""
    times = ddim.timesteps(validate.count(steps, "steps", 2))
    back = validate.count(inversion_steps, "inversion_steps")
    return times, ddim.timesteps(back, name="inversion_steps") if back else []


def latent_alphas_cumprod() -> Tensor:
    """Return alpha_bar at each time of the latent DDIM, float64 (1000,)."""
    return torch.full((ddim.TRAIN_STEPS,), 1 - LATENT_BETA, dtype=torch.float64).cumprod(0)
