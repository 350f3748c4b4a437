"""Codecs turn images into the input of a diffusion autoencoder, and back."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cfxnb.core import validate
from cfxnb.core.memory import is_out_of_memory


class PixelUnshuffleCodec(nn.Module):
    """Turn squares of downscale_factor x downscale_factor pixels into channels, and back.

    No information is lost. A small network spends most of its time at full resolution, so the
    network runs faster on the smaller rearranged images. Rearranged Gaussian noise is still
    independent Gaussian noise. A diffusion model of the rearranged images is therefore also a
    diffusion model of the images.
    """

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = validate.count(downscale_factor, "downscale_factor", 1, 1024)

    def encode(self, images: Tensor) -> Tensor:
        """Turn images (b, c, h, w) into (b, c f^2, h / f, w / f), where f = downscale_factor."""
        validate.floats(images, "images")
        if any(side % self.downscale_factor for side in images.shape[2:]) or 0 in images.shape:
            raise ValueError(
                f"images: expected sides divisible by {self.downscale_factor}, "
                f"got {tuple(images.shape)}"
            )
        return F.pixel_unshuffle(images, self.downscale_factor)

    def decode(self, folded: Tensor) -> Tensor:
        """Turn (b, c f^2, h, w) back into images (b, c, h f, w f), where f = downscale_factor."""
        validate.floats(folded, "folded")
        if folded.shape[1] % self.downscale_factor**2 or 0 in folded.shape:
            raise ValueError(
                f"folded: expected channels divisible by {self.downscale_factor**2}, "
                f"got {tuple(folded.shape)}"
            )
        return F.pixel_shuffle(folded, self.downscale_factor)


class LatentCodec(nn.Module):
    """Turn images into latents of an autoencoder, and back.

    Latents are used for images that are too large for a diffusion model of pixels.

    Args:
        autoencoder: network with ``encode`` and ``decode`` for images in [-1, 1], such as
            ``AutoencoderKL`` or ``AutoencoderTiny`` of diffusers. If ``encode`` returns a
            distribution of latents, the codec uses the mode of this distribution.
        scaling_factor: factor for the latents, chosen so that their standard deviation is about 1.
    """

    def __init__(self, autoencoder: Any, scaling_factor: float = 1.0) -> None:
        super().__init__()
        validate.having(autoencoder, ("encode", "decode"), "autoencoder", "encode and decode")
        self.autoencoder: Any = validate.instance(autoencoder, nn.Module, "autoencoder")
        self.scaling_factor = validate.number(scaling_factor, "scaling_factor", 0.0, open_low=True)

    def encode(self, images: Tensor) -> Tensor:
        """Return the scaled latents of images (b, c, h, w)."""
        out: Any = self._pass("encode", validate.floats(images, "images"), "images")
        if hasattr(out, "latent_dist"):
            out = out.latent_dist.mode()
        for name in ("latents", "latent"):  # AutoencoderTiny and VQModel, AutoencoderDC
            out = getattr(out, name, out)
        return out * self.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Return the images (b, c, h, w) of scaled latents."""
        scaled = validate.floats(latents, "latents") / self.scaling_factor
        out: Any = self._pass("decode", scaled, "latents")
        return getattr(out, "sample", out)

    def _pass(self, way: str, x: Tensor, name: str) -> Any:
        """Run ``encode`` or ``decode`` of the autoencoder.

        If the autoencoder fails, the error message has the shape of the input.
        """
        try:
            return getattr(self.autoencoder, way)(x.float())
        except RuntimeError as error:
            if is_out_of_memory(error) or type(error) is not RuntimeError:
                raise
            raise ValueError(
                f"{name}: expected a shape that the net takes, got {tuple(x.shape)}: {error}"
            ) from error
