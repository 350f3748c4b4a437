"""A small autoencoder whose latents a diffusion model works on."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle


class TinyAutoencoder(nn.Module):
    """Images (b, channels, h, w) in [-1, 1] <-> latents (b, latents, h / side, w / side).

    diffusers' ``AutoencoderTiny`` on folded images: most of the cost of a small net is at full
    size, so that 2x2 pixels become channels before its first convolution.

    Args:
        channels: colours.
        latents: channels of the latents.
        width: feature maps.
        blocks: of the encoder at each of its sizes, largest first; the decoder's are ``up``.
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
        from diffusers import AutoencoderTiny  # here, since importing it takes seconds

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
            act_fn="silu",  # guidance takes slopes through the decoder
        )

    def encode(self, images: Tensor) -> Tensor:
        return self.inner.encode(pixel_unshuffle(images, 2)).latents

    def decode(self, latents: Tensor) -> Tensor:
        return pixel_shuffle(self.inner.decode(latents).sample, 2)
