"""What a diffusion model works on in place of pixels: folds of them, or latents."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cfxnb.core import validate


class PixelUnshuffleCodec(nn.Module):
    """The cheapest autoencoder, and exact: squares of ``downscale_factor``^2 pixels become channels, and back.

    Most of the cost of a small network is at full size, and noise that is independent in every
    pixel is so in every fold: a diffusion model of folded images is one of images.
    """

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = validate.count(downscale_factor, "downscale_factor", 1, 1024)

    def encode(self, images: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c side^2, h / side, w / side)."""
        validate.floats(images, "images")
        if any(side % self.downscale_factor for side in images.shape[2:]) or 0 in images.shape:
            raise ValueError(
                f"images: expected sides divisible by {self.downscale_factor}, got {tuple(images.shape)}"
            )
        return F.pixel_unshuffle(images, self.downscale_factor)

    def decode(self, folded: Tensor) -> Tensor:
        """(b, c side^2, h, w) -> (b, c, h side, w side)."""
        validate.floats(folded, "folded")
        if folded.shape[1] % self.downscale_factor**2 or 0 in folded.shape:
            raise ValueError(
                f"folded: expected channels divisible by {self.downscale_factor**2}, got {tuple(folded.shape)}"
            )
        return F.pixel_shuffle(folded, self.downscale_factor)


class LatentCodec(nn.Module):
    """Latents of an autoencoder, for images too large for a diffusion of pixels.

    Args:
        autoencoder: with ``encode`` and ``decode`` for images in [-1, 1], such as diffusers'
            ``AutoencoderKL`` (its distribution's mode is taken) or ``AutoencoderTiny``.
        scaling_factor: what latents are multiplied by, so that their spread is about 1.
    """

    def __init__(self, autoencoder: Any, scaling_factor: float = 1.0) -> None:
        super().__init__()
        if missing := [a for a in ("encode", "decode") if not hasattr(autoencoder, a)]:
            raise TypeError(
                f"autoencoder: expected encode and decode, got {type(autoencoder).__name__} "
                f"without {', '.join(missing)}"
            )
        self.autoencoder: Any = validate.instance(autoencoder, nn.Module, "autoencoder")
        self.scaling_factor = validate.number(scaling_factor, "scaling_factor", 0.0, open_low=True)

    def encode(self, images: Tensor) -> Tensor:
        """(b, c, h, w) -> latents."""
        out: Any = self._pass("encode", validate.floats(images, "images"), "images")
        if hasattr(out, "latent_dist"):
            out = out.latent_dist.mode()
        return getattr(out, "latents", out) * self.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> (b, c, h, w)."""
        scaled = validate.floats(latents, "latents") / self.scaling_factor
        out: Any = self._pass("decode", scaled, "latents")
        return getattr(out, "sample", out)

    def _pass(self, way: str, x: Tensor, name: str) -> Any:
        """One pass of the autoencoder; what it can't take is named with its shape."""
        try:
            return getattr(self.autoencoder, way)(x.float())
        except RuntimeError as error:
            if type(error) is not RuntimeError:
                raise  # out of memory, or a fault of the device
            raise ValueError(
                f"{name}: expected such as the autoencoder takes, got {tuple(x.shape)}: {error}"
            ) from error
