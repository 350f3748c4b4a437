"""An autoencoder with spatial latents as a space."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cfxnb.core import validate, validate_results
from cfxnb.core.model_folder import STATISTICS, Carded
from cfxnb.core.modes import standard_numbers
from cfxnb.core.types import Code
from cfxnb.spaces.codecs import LatentCodec, PixelUnshuffleCodec
from cfxnb.spaces.precision import autocast, checked_precision


class Autoencoder(Carded, nn.Module):
    """Space whose codes are the latents (b, c, h, w) of an autoencoder, such as one of diffusers.

    Codes are ``z = (latents - shift_factor) * scaling_factor``. Encoding is deterministic. If the
    autoencoder predicts a distribution of latents, the space uses the mode of this distribution. If
    the autoencoder has a codebook, the space uses the latents before quantisation.

    Args:
        net: network with ``encode`` and ``decode`` for images in [-1, 1]. The space runs on the
            device of ``net``.
        mean, std: mean and standard deviation of the codes of real images, (c, h, w). ``fit``
            measures them.
        shift_factor, scaling_factor: one number for all channels of the latents, or one number per
            channel.
        precision: ``"float32"``, or ``"bfloat16"``, which is faster on some processors and GPUs.

    Raises:
        ValueError, TypeError: if an argument is wrong.
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
        validate.having(net, ("encode", "decode"), "net", "encode and decode")
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

    def _stored(self) -> tuple[nn.Module, dict[str, Tensor | None], dict[str, Carded]]:
        extra = {name: getattr(self, name, None) for name in STATISTICS}
        return self.codec.autoencoder, extra, {}

    @property
    def downsample_factor(self) -> int:
        """Height of an image divided by the height of its latents."""
        net = self.codec.autoencoder
        if isinstance(net, PixelUnshuffleCodec):
            return net.downscale_factor
        return getattr(net, "downsample_factor", None) or downsample_factor_of(net)

    def check_images(self, images: Tensor, side: int) -> None:
        """Raise ValueError if the images don't fit the autoencoder.

        Images must have the right number of channels, and a height and a width that are divisible
        by ``side``.
        """
        validate.instance(images, Tensor, "images", "a torch tensor")
        validate.count(side, "side", 1)
        net = self.codec.autoencoder
        config = getattr(net, "config", {})
        channels = getattr(net, "channels", None) or config.get("in_channels")
        if isinstance(net, PixelUnshuffleCodec):
            channels = len(self.mean) // net.downscale_factor**2
        fits = images.ndim == 4 and channels in (None, images.shape[1])
        if not fits or any(length % side for length in images.shape[2:]):
            raise ValueError(
                f"images: expected shape (b, {channels or 'c'}, h, w) in this space, sides "
                f"divisible by {side}, got {tuple(images.shape)}"
            )

    @standard_numbers
    def encode(self, images: Tensor) -> Code:
        """Return the codes of images.

        Args:
            images: (b, c, h, w) in [0, 1].

        Returns:
            A Code with z of shape (b, c', h', w'), on the device of ``images``.

        Raises:
            ValueError: if the images have the wrong number of channels, or a height or width that
                is not divisible by ``downsample_factor``.
        """
        images = validate.pixels(images)
        self.check_images(images, self.downsample_factor)
        with autocast(self.mean.device, self.precision):
            latents = self.codec.encode(images.to(self.mean.device) * 2 - 1)
        return Code(((latents.float() - self.shift_factor) * self.scaling_factor).to(images.device))

    @standard_numbers
    def decode(self, code: Code, clamp: bool = True) -> Tensor:
        """Return the images of codes, on the device of the code. Differentiable in ``code.z``.

        Args:
            clamp: whether to clamp the images to [0, 1]. Clamped pixels have no gradient.

        Raises:
            ValueError: if the code has the wrong number of channels.
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
        """Measure ``mean`` and ``std`` on real images, and return the space.

        Args:
            images: n images (n, c, h, w) in [0, 1], or an iterator of such image batches.
        """
        whole = isinstance(images, Tensor)
        batches = validate.pixels(images).split(256) if whole else validate.batches(images)
        z = torch.cat([self.encode(batch).z for batch in batches])
        device = self.mean.device
        self.mean, self.std = z.mean(0).to(device), z.std(0).to(device)
        return self


def _each(value: Any, name: str, channels: int) -> Tensor:
    """Return a number, or a list of one number per channel, as a tensor (channels, 1, 1)."""
    numbers = list(value) if isinstance(value, list | tuple) else [value] * channels
    if len(numbers) != channels:
        raise ValueError(f"{name}: expected one number, or {channels}, got {len(numbers)}")
    checked = [validate.number(number, name, -torch.inf) for number in numbers]
    return torch.tensor(checked, dtype=torch.float32).view(-1, 1, 1)


def downsample_factor_of(net: Any) -> int:
    """Return the factor by which a network of diffusers reduces height and width.

    For a transformer this is the side of its patches.
    """
    config = getattr(net, "config", {})
    if isinstance(patch := config.get("patch_size"), int):
        return patch
    widths = config.get("encoder_block_out_channels") or config.get("block_out_channels") or [0]
    return int(2 ** (len(widths) - 1))
