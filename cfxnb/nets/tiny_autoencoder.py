"""A small autoencoder for latent diffusion."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


class TinyAutoencoder(nn.Module):
    """Encode images (b, channels, h, w) in [-1, 1] as latents, and decode latents.

    Latents have shape (b, latents, h / f, w / f), where f is ``downsample_factor``. The network is
    ``AutoencoderTiny`` of diffusers. A small network spends most of its time at full resolution. To
    save time, we turn squares of 2x2 pixels into channels before the first convolution.

    Args:
        channels: number of channels of the images.
        latents: number of channels of the latents.
        width: number of feature maps at each resolution.
        blocks: number of blocks of the encoder at each resolution, largest first.
        up: number of blocks of the decoder at each resolution, smallest first.
    """

    def __init__(
        self,
        channels: int = 3,
        latents: int = 4,
        width: int = 64,
        blocks: Sequence[int] = (1, 2),
        up: Sequence[int] = (3, 2),
    ) -> None:
        super().__init__()
        from diffusers import AutoencoderTiny  # not at the top, because the import takes seconds

        self.channels = channels
        self.downsample_factor = 2 ** len(blocks)
        self.inner: Any = AutoencoderTiny(
            in_channels=4 * channels,
            out_channels=4 * channels,
            encoder_block_out_channels=(width,) * len(blocks),
            decoder_block_out_channels=(width,) * len(blocks),
            num_encoder_blocks=tuple(blocks),
            num_decoder_blocks=tuple(up),
            latent_channels=latents,
            act_fn="silu",  # smooth, because guidance needs gradients of the decoder
        )

    def encode(self, images: Tensor) -> Tensor:
        return self.inner.encode(pixel_unshuffle(images, 2)).latents

    def decode(self, latents: Tensor) -> Tensor:
        return pixel_shuffle(self.inner.decode(latents).sample, 2)
