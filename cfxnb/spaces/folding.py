"""What a diffusion model works on in place of pixels: folds of them, or latents."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class Fold(nn.Module):
    """The cheapest autoencoder, and exact: squares of ``side``^2 pixels become channels, and back.

    Most of the cost of a small network is at full size, and noise that is independent in every
    pixel is so in every fold: a diffusion model of folded images is one of images.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def encode(self, images: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c side^2, h / side, w / side)."""
        return F.pixel_unshuffle(images, self.side)

    def decode(self, folded: Tensor) -> Tensor:
        """(b, c side^2, h, w) -> (b, c, h side, w side)."""
        return F.pixel_shuffle(folded, self.side)


class Latents(nn.Module):
    """Latents of an autoencoder, for images too large for a diffusion of pixels.

    Args:
        autoencoder: with ``encode`` and ``decode`` for images in [-1, 1], such as diffusers'
            ``AutoencoderKL`` (its distribution's mode is taken) or ``AutoencoderTiny``.
        scale: what latents are multiplied by, so that their spread is about 1.
    """

    def __init__(self, autoencoder: Any, scale: float = 1.0) -> None:
        super().__init__()
        self.autoencoder: Any = autoencoder
        self.scale = scale

    def encode(self, images: Tensor) -> Tensor:
        """(b, c, h, w) -> latents."""
        out: Any = self.autoencoder.encode(images)
        if hasattr(out, "latent_dist"):
            out = out.latent_dist.mode()
        return getattr(out, "latents", out) * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> (b, c, h, w)."""
        out: Any = self.autoencoder.decode(latents / self.scale)
        return getattr(out, "sample", out)
