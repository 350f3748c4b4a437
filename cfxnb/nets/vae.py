"""A small convolutional variational autoencoder (Kingma & Welling, 2014)."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn


def _block(inside: int, outside: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inside, outside, 3, padding=1),
        nn.BatchNorm2d(outside),
        nn.SiLU(),
    ]


class ConvVAE(nn.Module):
    """A VAE that maps images (b, channels, *size) in [0, 1] to codes (b, dims), and back.

    A small network spends most of its time at full resolution. To save time, we turn squares of
    2x2 pixels into channels before the first convolution, and back into pixels after the last.

    Args:
        dims: dimension of the codes.
        channels: number of channels of the images.
        size: (height, width) of the images, or one number for square images.
        widths: number of feature maps at each resolution, largest resolution first.
        depth: number of hidden layers between code and feature maps. With more layers, the decoder
            can separate different kinds of images more sharply.
        spatial: whether each part of the code belongs to one position of the smallest feature maps.
            ``dims`` must then be divisible by the number of these positions. Such a network learns
            from fewer images and steps. Without it, every coordinate acts on the whole image.
    """

    def __init__(
        self,
        dims: int = 16,
        channels: int = 1,
        size: int | tuple[int, int] = 32,
        widths: tuple[int, ...] = (32, 64, 128),
        depth: int = 1,
        spatial: bool = False,
    ) -> None:
        super().__init__()
        self.dims = dims
        self.channels = channels
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        top = widths[-1], *(side // 2 ** len(widths) for side in self.size)
        flat = math.prod(top)

        down: list[nn.Module] = [nn.PixelUnshuffle(2), *_block(4 * channels, widths[0])]
        for inside, outside in pairwise(widths):
            down += [nn.AvgPool2d(2), *_block(inside, outside)]
        up: list[nn.Module]
        self.mean: nn.Module
        self.log_variance: nn.Module
        if spatial:
            cells = top[1] * top[2]
            if dims % cells:
                raise ValueError(f"dims: expected a multiple of {cells}, got {dims}")
            self.encoder = nn.Sequential(*down, *_block(top[0], top[0]))
            self.mean, self.log_variance = (
                nn.Sequential(nn.Conv2d(top[0], dims // cells, 1), nn.Flatten()) for _ in range(2)
            )
            up = [nn.Unflatten(1, (dims // cells, *top[1:])), *_block(dims // cells, top[0])]
            up += [layer for _ in range(depth) for layer in _block(top[0], top[0])]
        else:
            self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(flat, 256), nn.SiLU())
            self.mean, self.log_variance = nn.Linear(256, dims), nn.Linear(256, dims)
            up = [
                nn.Linear(dims, 256),
                nn.SiLU(),
                *[layer for _ in range(depth - 1) for layer in (nn.Linear(256, 256), nn.SiLU())],
                nn.Linear(256, flat),
                nn.SiLU(),
                nn.Unflatten(1, top),
            ]
        for inside, outside in pairwise(widths[::-1]):
            up += [*_block(inside, outside), nn.Upsample(scale_factor=2)]
        up += [*_block(widths[0], widths[0]), nn.Conv2d(widths[0], 4 * channels, 3, padding=1)]
        self.decoder = nn.Sequential(*up, nn.PixelShuffle(2))

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of q(z | image), each (b, dims)."""
        hidden = self.encoder(images)
        return self.mean(hidden), self.log_variance(hidden)

    def decode_logits(self, z: Tensor) -> Tensor:
        """Return the logits of the pixels, (b, channels, *size), for codes (b, dims)."""
        return self.decoder(z)

    def decode(self, z: Tensor) -> Tensor:
        """Return images (b, channels, *size) in [0, 1] for codes (b, dims)."""
        return torch.sigmoid(self.decode_logits(z))
