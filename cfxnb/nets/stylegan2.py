"""The StyleGAN2 generator (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN",
CVPR 2020, arXiv 1912.04958), skip architecture, in pure torch.

The steps are z -> ``mapping`` -> w -> ``styles`` -> s -> ``render`` -> image. A caller can start
with z, w or s. The weights have the names of NVIDIA's checkpoints.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfxnb.core import validate

NOISES = ("fixed", "zero")
Noise = str | Sequence[Tensor]


def activated(x: Tensor) -> Tensor:
    """Apply leaky ReLU with a gain that approximately preserves the norm of ``x``."""
    return F.leaky_relu(x, 0.2) * 2**0.5


class Dense(nn.Module):
    """A linear layer whose weights are scaled at run time (appendix B of the paper)."""

    def __init__(self, inside: int, outside: int, rate: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.scale, self.rate = rate / inside**0.5, rate
        self.weight = nn.Parameter(torch.randn(outside, inside) / rate)
        self.bias = nn.Parameter(torch.full((outside,), bias / rate))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class Mapping(nn.Module):
    """The mapping network, z (b, z_dim) -> w (b, w_dim). ``w_avg`` is the mean of w."""

    w_avg: Tensor

    def __init__(self, z_dim: int, w_dim: int, layers: int) -> None:
        super().__init__()
        self.layers = layers
        for i in range(layers):
            self.add_module(f"fc{i}", Dense(w_dim if i else z_dim, w_dim, rate=0.01))
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor) -> Tensor:
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for i in range(self.layers):
            x = activated(self.get_submodule(f"fc{i}")(x))
        return x


class Blur(nn.Module):
    """The filter [1, 3, 3, 1] x [1, 3, 3, 1], which smooths upsampled images."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor([1.0, 3.0, 3.0, 1.0])
        # The gain is 4, because three of four upsampled pixels are 0.
        self.register_buffer("kernel", line.outer(line)[None, None] / 16, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Smooth upsampled features of side 2n + 1, and return features (b, c, 2n, 2n)."""
        c = x.shape[1]
        return F.conv2d(x, self.kernel.expand(c, 1, 4, 4), padding=1, groups=c)

    def enlarge(self, x: Tensor) -> Tensor:
        """Upsample images (b, c, n, n) to (b, c, 2n, 2n)."""
        c = x.shape[1]
        kernel = self.kernel.expand(c, 1, 4, 4)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=c)


class Layer(nn.Module):
    """A modulated 3x3 convolution, noise, bias and activation (figure 2 d of the paper).

    In the paper, each sample gets its own copy of the convolution weights, scaled by its style. In
    this class the style scales the input channels, and the demodulation scales the output channels.
    Scaling the channels gives the same result as in the paper, and all samples share the weights.
    """

    noise_const: Tensor

    def __init__(self, inside: int, outside: int, side: int, w_dim: int, up: bool) -> None:
        super().__init__()
        self.scale, self.up = 1 / (9 * inside) ** 0.5, up
        self.affine = Dense(w_dim, inside, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outside, inside, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outside))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(side, side))
        self.blur = Blur() if up else nn.Identity()

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        weight = self.weight * self.scale
        square = style.square() @ weight.square().sum((2, 3)).T
        x = x * style[:, :, None, None]
        if self.up:
            x = self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        else:
            x = F.conv2d(x, weight, padding=1)
        x = x * (square + 1e-8).rsqrt()[:, :, None, None]
        if noise is not None:
            x = x + self.noise_strength * noise
        return activated(x + self.bias[:, None, None])


class ToRGB(nn.Module):
    """A modulated 1x1 convolution to colours, whose output is added to the upsampled image.

    The convolution of ``ToRGB`` is not demodulated, unlike that of ``Layer``.
    """

    def __init__(self, inside: int, colours: int, w_dim: int) -> None:
        super().__init__()
        self.scale = 1 / inside**0.5
        self.affine = Dense(w_dim, inside, bias=1.0)
        self.weight = nn.Parameter(torch.randn(colours, inside, 1, 1))
        self.bias = nn.Parameter(torch.zeros(colours))
        self.blur = Blur()

    def forward(self, x: Tensor, style: Tensor, smaller: Tensor | None) -> Tensor:
        image = F.conv2d(x * style[:, :, None, None], self.weight * self.scale, self.bias)
        return image if smaller is None else image + self.blur.enlarge(smaller)


class Block(nn.Module):
    """The part of the generator for one resolution: two layers and a ``ToRGB``.

    At 4x4 pixels, a learned constant replaces the first layer.
    """

    def __init__(self, inside: int, outside: int, side: int, colours: int, w_dim: int) -> None:
        super().__init__()
        self.first = side == 4
        if self.first:
            self.const = nn.Parameter(torch.randn(outside, 4, 4))
        else:
            self.conv0 = Layer(inside, outside, side, w_dim, up=True)
        self.conv1 = Layer(outside, outside, side, w_dim, up=False)
        self.torgb = ToRGB(outside, colours, w_dim)

    def layers(self) -> list[Layer]:
        return [self.conv1] if self.first else [self.conv0, self.conv1]


class Generator(nn.Module):
    """The StyleGAN2 generator. Images have height and width ``resolution``: 4, 8, 16, ... pixels.

    Args:
        channels: number of feature maps at each resolution, from 4x4 pixels up.
        z_dim, w_dim: dimensions of z and w.
        mapping_layers: number of linear layers from z to w.
        colours: number of channels of the images.

    Attributes:
        num_ws: number of vectors in W+, which is 2 log2(resolution) - 2, because the ``ToRGB`` of
            a block and the first layer of the next block share a vector.
        style_sizes: output dimension of each affine layer, in the order of the network.
        in_rgb: which coordinates of StyleSpace belong to a ``ToRGB``, bool (style_dim,).
    """

    in_rgb: Tensor

    def __init__(
        self,
        channels: Sequence[int],
        z_dim: int = 512,
        w_dim: int = 512,
        mapping_layers: int = 8,
        colours: int = 3,
    ) -> None:
        super().__init__()
        self.z_dim, self.w_dim, self.colours = z_dim, w_dim, colours
        self.resolution = 4 * 2 ** (len(channels) - 1)
        self.num_ws = 2 * len(channels)
        self.mapping = Mapping(z_dim, w_dim, mapping_layers)
        self.synthesis = nn.ModuleDict()
        for i, (inside, outside) in enumerate(pairwise([channels[0], *channels])):
            self.synthesis[f"b{4 * 2**i}"] = Block(inside, outside, 4 * 2**i, colours, w_dim)
        self.style_sizes = [len(affine.bias) for affine, _, _ in self._affines()]
        parts = [torch.full((len(affine.bias),), rgb) for affine, _, rgb in self._affines()]
        self.register_buffer("in_rgb", torch.cat(parts), persistent=False)

    @property
    def blocks(self) -> list[Block]:
        """Return the blocks of the generator, from 4x4 pixels up."""
        return [block for block in self.synthesis.values() if isinstance(block, Block)]

    def _affines(self) -> list[tuple[Dense, int, bool]]:
        """Return all affine layers, each with its index in W+ and whether a ``ToRGB`` uses it."""
        found: list[tuple[Dense, int, bool]] = []
        position = 0
        for block in self.blocks:
            for layer in block.layers():
                found.append((layer.affine, position, False))
                position += 1
            found.append((block.torgb.affine, position, True))
        return found

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """Return w_avg + psi (w - w_avg), the truncation trick of StyleGAN."""
        return self.mapping.w_avg + psi * (w - self.mapping.w_avg)

    def spread_out(self, w: Tensor) -> Tensor:
        """Repeat w (b, w_dim) for all layers, and return the code in W+, (b, num_ws, w_dim)."""
        return w[:, None].expand(-1, self.num_ws, -1)

    def styles(self, w_plus: Tensor) -> Tensor:
        """Return codes in StyleSpace (b, style_dim): the concatenated outputs of all affine layers.

        StyleSpace was introduced by Wu, Lischinski & Shechtman, arXiv 2011.12799, section 3.
        """
        return torch.cat([affine(w_plus[:, i]) for affine, i, _ in self._affines()], 1)

    def render(self, styles: Tensor, noise: Noise = "fixed") -> Tensor:
        """Return images (b, colours, height, width), approximately in [-1, 1] and not clamped.

        Args:
            styles: codes in StyleSpace, (b, style_dim).
            noise: ``"fixed"`` (the stored noise maps), ``"zero"`` (no noise), or one noise map per
                layer, from 4x4 pixels up. Each noise map must broadcast to (b, 1, height, width).

        Raises:
            ValueError, TypeError: if ``noise`` is neither ``"fixed"``, ``"zero"`` nor maps of the
                right sizes.
        """
        maps, style = iter(self._maps(noise)), iter(styles.split(self.style_sizes, 1))
        image: Any = None
        x = self.blocks[0].const.expand(len(styles), -1, -1, -1)
        for block in self.blocks:
            for layer in block.layers():
                x = layer(x, next(style), next(maps))
            image = block.torgb(x, next(style), image)
        return image

    def forward(self, z: Tensor, psi: float = 1.0, noise: Noise = "fixed") -> Tensor:
        """Return images for z (b, z_dim), truncated with ``psi``. See ``render`` for the output."""
        w = self.truncate(self.mapping(z), psi)
        return self.render(self.styles(self.spread_out(w)), noise)

    def _maps(self, noise: Noise) -> Sequence[Tensor | None]:
        fixed = [layer.noise_const for block in self.blocks for layer in block.layers()]
        if isinstance(noise, str):
            chosen = validate.choice(noise, "noise", NOISES)
            return fixed if chosen == "fixed" else [None] * len(fixed)
        maps = list(validate.instance(noise, Sequence, "noise", f"one of {NOISES} or maps"))
        expected, got = ([tuple(m.shape[-2:]) for m in given] for given in (fixed, maps))
        if got != expected:
            raise ValueError(f"noise: expected maps of sides {expected}, got {got}")
        return maps
