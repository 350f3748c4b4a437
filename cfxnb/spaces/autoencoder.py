"""An autoencoder with spatial latents as a space."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cfxnb.core import validate, validate_results
from cfxnb.core.modes import standard_numbers
from cfxnb.core.types import Code
from cfxnb.spaces.codecs import LatentCodec
from cfxnb.spaces.precision import autocast, checked_precision


class Autoencoder(nn.Module):
    """Latents (b, c, h, w) of any autoencoder for images in [-1, 1], such as those of diffusers.

    Encoding is deterministic: of a distribution the mode is taken, of a codebook what comes before
    it. ``z = (latents - shift_factor) * scaling_factor``.

    Args:
        net: with ``encode`` and ``decode``; its weights decide where the work runs.
        mean, std: mean and standard deviation of the codes of real images, (c, h, w);
            ``fit`` measures them.
        shift_factor, scaling_factor: numbers, or one a channel.
        precision: ``"float32"``, or ``"bfloat16"``, which is faster on some processors and GPUs.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """

    mean: Tensor
    std: Tensor
    shift_factor: Tensor
    scaling_factor: Tensor

    def __init__(
        self,
        net: Any,
        mean: Tensor,
        std: Tensor,
        *,
        shift_factor: float | Sequence[float] = 0.0,
        scaling_factor: float | Sequence[float] = 1.0,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        validate.instance(net, nn.Module, "net", "a torch.nn.Module")
        if missing := [a for a in ("encode", "decode") if not hasattr(net, a)]:
            raise TypeError(
                f"net: expected encode and decode, got {type(net).__name__} without "
                f"{', '.join(missing)}"
            )
        self.codec = LatentCodec(net)
        for value, name in ((mean, "mean"), (std, "std")):
            if validate.instance(value, Tensor, name, "a torch tensor").ndim != 3:
                raise ValueError(f"{name}: expected shape (c, h, w), got {tuple(value.shape)}")
        mean, std = validate.place(mean, std)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        for number, name in ((shift_factor, "shift_factor"), (scaling_factor, "scaling_factor")):
            self.register_buffer(name, _each(number, name, len(mean)), persistent=False)
        if not self.scaling_factor.all():
            raise ValueError(f"scaling_factor: expected numbers other than 0, got {scaling_factor}")
        self.precision = checked_precision(precision)

    @property
    def downsample_factor(self) -> int:
        """Pixels in a row that become one position of the latents."""
        net = self.codec.autoencoder
        return getattr(net, "downsample_factor", None) or downsample_factor_of(net)

    def check_images(self, images: Tensor, side: int) -> None:
        """Refuse images of another number of colours, or with sides not divisible by ``side``."""
        validate.instance(images, Tensor, "images", "a torch tensor")
        validate.count(side, "side", 1)
        net = self.codec.autoencoder
        config = getattr(net, "config", {})
        colours = getattr(net, "channels", None) or config.get("in_channels")
        fits = images.ndim == 4 and colours in (None, images.shape[1])
        if not fits or any(length % side for length in images.shape[2:]):
            raise ValueError(
                f"images: expected shape (b, {colours or 'c'}, h, w) in this space, sides "
                f"divisible by {side}, got {tuple(images.shape)}"
            )

    @standard_numbers
    def encode(self, images: Tensor) -> Code:
        """(b, c, h, w) in [0, 1] -> Code with z (b, c', h', w'), where the images are.

        Raises:
            ValueError: if the images have another number of channels or sides that don't fit.
        """
        images = validate.pixels(images)
        self.check_images(images, self.downsample_factor)
        with autocast(self.mean.device, self.precision):
            latents = self.codec.encode(images.to(self.mean.device) * 2 - 1)
        return Code(((latents.float() - self.shift_factor) * self.scaling_factor).to(images.device))

    @standard_numbers
    def decode(self, code: Code, clamp: bool = True) -> Tensor:
        """Images in [0, 1], where the code is; differentiable in ``code.z``.

        Args:
            clamp: False leaves what is out of range, where clamping would end the gradient.

        Raises:
            ValueError: if the code has another number of channels.
        """
        z = validate_results.code(code, "code").z.to(self.mean)
        validate.flag(clamp, "clamp")
        if z.ndim != 4 or z.shape[1] != len(self.mean):
            raise ValueError(
                f"code: expected z of shape (b, {len(self.mean)}, h, w), got {tuple(z.shape)}"
            )
        with autocast(self.mean.device, self.precision):
            images = self.codec.decode(z / self.scaling_factor + self.shift_factor)
        images = ((images.float() + 1) / 2).to(code.z.device)
        return images.clamp(0, 1) if clamp else images

    @standard_numbers
    @torch.no_grad()
    def fit(self, images: Tensor | Iterator[Tensor]) -> "Autoencoder":
        """Measure ``mean`` and ``std`` on images of the world, and return the space."""
        batches = (
            validate.pixels(images).split(256)
            if isinstance(images, Tensor)
            else validate.batches(images)
        )
        z = torch.cat([self.encode(batch).z for batch in batches])
        here = self.mean.device  # wherever the images are
        self.mean, self.std = z.mean(0).to(here), z.std(0).to(here)
        return self


def _each(value: Any, name: str, channels: int) -> Tensor:
    """A number, or one a channel, as (channels, 1, 1)."""
    numbers = list(value) if isinstance(value, list | tuple) else [value] * channels
    if len(numbers) != channels:
        raise ValueError(f"{name}: expected one number, or {channels}, got {len(numbers)}")
    checked = [validate.number(number, name, -torch.inf) for number in numbers]
    return torch.tensor(checked, dtype=torch.float32).view(-1, 1, 1)


def downsample_factor_of(net: Any) -> int:
    """By what a network of diffusers divides the sides of what it looks at, as its config tells."""
    config = getattr(net, "config", {})
    widths = config.get("encoder_block_out_channels") or config.get("block_out_channels") or [0]
    return int(2 ** (len(widths) - 1))
