"""An autoencoder with spatial latents as a space."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cfxnb.core import validate, validate_results
from cfxnb.core.modes import standard_numbers
from cfxnb.core.types import Code
from cfxnb.spaces.codecs import Latents
from cfxnb.spaces.precision import autocast, checked_precision


class Autoencoder(nn.Module):
    """Latents (b, c, h, w) of any autoencoder for images in [-1, 1], such as those of diffusers.

    Encoding is deterministic: of a distribution the mode is taken, of a codebook what comes before
    it. ``z = (latents - shift) * scale``.

    Args:
        net: with ``encode`` and ``decode``; its weights decide where the work runs.
        center, spread: mean and standard deviation of the codes of real images, (c, h, w);
            ``fit`` measures them.
        shift, scale: numbers, or one a channel.
        precision: ``"float32"``, or ``"bfloat16"``, which is faster on some processors and GPUs.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """

    center: Tensor
    spread: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        net: Any,
        center: Tensor,
        spread: Tensor,
        *,
        shift: float | Sequence[float] = 0.0,
        scale: float | Sequence[float] = 1.0,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        validate.instance(net, nn.Module, "net", "a torch.nn.Module")
        if missing := [a for a in ("encode", "decode") if not hasattr(net, a)]:
            raise TypeError(
                f"net: expected encode and decode, got {type(net).__name__} without "
                f"{', '.join(missing)}"
            )
        self.codec = Latents(net)
        for value, name in ((center, "center"), (spread, "spread")):
            if validate.instance(value, Tensor, name, "a torch tensor").ndim != 3:
                raise ValueError(f"{name}: expected shape (c, h, w), got {tuple(value.shape)}")
        center, spread = validate.place(center, spread)
        self.register_buffer("center", center)
        self.register_buffer("spread", spread)
        for number, name in ((shift, "shift"), (scale, "scale")):
            self.register_buffer(name, _each(number, name, len(center)), persistent=False)
        if not self.scale.all():
            raise ValueError(f"scale: expected numbers other than 0, got {scale}")
        self.precision = checked_precision(precision)

    @property
    def side(self) -> int:
        """Pixels in a row that become one position of the latents."""
        net = self.codec.autoencoder
        return getattr(net, "side", None) or halvings(net)

    def check(self, images: Tensor, side: int) -> None:
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
        self.check(images, self.side)
        with autocast(self.center.device, self.precision):
            latents = self.codec.encode(images.to(self.center.device) * 2 - 1)
        return Code(((latents.float() - self.shift) * self.scale).to(images.device))

    @standard_numbers
    def decode(self, code: Code, clamp: bool = True) -> Tensor:
        """Images in [0, 1], where the code is; differentiable in ``code.z``.

        Args:
            clamp: False leaves what is out of range, where clamping would end the gradient.

        Raises:
            ValueError: if the code has another number of channels.
        """
        z = validate_results.code(code, "code").z.to(self.center)
        validate.flag(clamp, "clamp")
        if z.ndim != 4 or z.shape[1] != len(self.center):
            raise ValueError(
                f"code: expected z of shape (b, {len(self.center)}, h, w), got {tuple(z.shape)}"
            )
        with autocast(self.center.device, self.precision):
            images = self.codec.decode(z / self.scale + self.shift)
        images = ((images.float() + 1) / 2).to(code.z.device)
        return images.clamp(0, 1) if clamp else images

    @standard_numbers
    @torch.no_grad()
    def fit(self, images: Tensor | Iterator[Tensor]) -> "Autoencoder":
        """Measure ``center`` and ``spread`` on images of the world, and return the space."""
        batches = (
            validate.pixels(images).split(256)
            if isinstance(images, Tensor)
            else validate.batches(images)
        )
        z = torch.cat([self.encode(batch).z for batch in batches])
        here = self.center.device  # wherever the images are
        self.center, self.spread = z.mean(0).to(here), z.std(0).to(here)
        return self


def _each(value: Any, name: str, channels: int) -> Tensor:
    """A number, or one a channel, as (channels, 1, 1)."""
    numbers = list(value) if isinstance(value, list | tuple) else [value] * channels
    if len(numbers) != channels:
        raise ValueError(f"{name}: expected one number, or {channels}, got {len(numbers)}")
    checked = [validate.number(number, name, -torch.inf) for number in numbers]
    return torch.tensor(checked, dtype=torch.float32).view(-1, 1, 1)


def halvings(net: Any) -> int:
    """By what a network of diffusers divides the sides of what it looks at, as its config tells."""
    config = getattr(net, "config", {})
    widths = config.get("encoder_block_out_channels") or config.get("block_out_channels") or [0]
    return int(2 ** (len(widths) - 1))
