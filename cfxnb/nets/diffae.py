"""Diffusion autoencoder (Preechakul et al., CVPR 2022): a U-Net conditioned on a semantic code.

The names of the weights are those of the official checkpoints, which can therefore be loaded
without changes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cfxnb.nets.diffae_blocks import Attention, Block, ConditionedBlock, Norm, Sketch, zero
from cfxnb.nets.latent_net import LatentNet
from cfxnb.nets.timestep_embedding import timestep_embedding


class Embedding(nn.Module):
    """Embed times from 0 to 999 as vectors (b, width)."""

    def __init__(self, base: int, width: int) -> None:
        super().__init__()
        self.base = base
        self.time_embed = nn.Sequential(nn.Linear(base, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        return self.time_embed(timestep_embedding(t, self.base))


class Stage(NamedTuple):
    """The arguments that build one block.

    Attributes:
        inside, outside: number of input and output channels of the block.
        resize: "down" or "up" to halve or double height and width, or None.
        attends: whether self-attention follows the block.
    """

    inside: int
    outside: int
    resize: str | None
    attends: bool


def descent(
    size: int, base: int, mult: Sequence[int], blocks: int, attention: Sequence[int]
) -> list[Stage]:
    """Return one ``Stage`` per block of the contracting path, without the first convolution."""
    stages, width = [], base
    for level, factor in enumerate(mult):
        if level:
            stages.append(Stage(width, width, "down", False))
            size //= 2
        for _ in range(blocks):
            stages.append(Stage(width, base * factor, None, size in attention))
            width = base * factor
    return stages


class Encoder(nn.Module):
    """The semantic encoder: images (b, c, h, w) in [-1, 1] -> semantic codes (b, dims)."""

    def __init__(
        self, channels: int, base: int, dims: int, stages: Sequence[Stage], top: int
    ) -> None:
        super().__init__()
        self.input_blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(channels, base, 3, padding=1))])
        for s in stages:
            layers: list[nn.Module] = [Block(s.inside, s.outside, s.resize)]
            self.input_blocks.append(nn.Sequential(*layers, *[Attention(s.outside)] * s.attends))
        self.middle_block = nn.Sequential(Block(top, top), Attention(top), Block(top, top))
        self.out = nn.Sequential(
            Norm(top), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(top, dims, 1), nn.Flatten()
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.input_blocks:
            x = block(x)
        return self.out(self.middle_block(x))


class DiffAE(nn.Module):
    """A semantic encoder, and a U-Net that predicts the noise given the semantic code.

    Args:
        size: height of the images in pixels. ``size`` is only used to find the levels whose heights
            ``attention`` lists. The network takes images of other sizes, too.
        channels: number of channels of the images.
        base: number of feature maps at the first level.
        mult: number of feature maps at each level, as a multiple of ``base``. Each level has half
            the height of the level before.
        dims: dimension of the semantic code and of the timestep embedding.
        attention: heights, in pixels, of the levels with self-attention. The middle block
            always has self-attention.
        blocks: number of blocks per level on the contracting path. The expanding path has one more
            block per level.
        encoder_mult, encoder_blocks: ``mult`` and ``blocks`` of the semantic encoder.
        dropout: fraction of features dropped in training.
        sketch: (height, width) of the coarse feature map that ``Sketch`` makes from the code. With
            ``sketch=None``, the network is the published one, which has no ``Sketch``.
        prediction_type: ``"epsilon"``, as published, or ``"v_prediction"`` (the velocity of
            Salimans & Ho, 2022). In an image that is almost pure noise, the noise can be
            predicted without the code. The velocity cannot be predicted without the code.
        latent: arguments of the ``LatentNet`` of the latent DDIM. None builds no ``LatentNet``.
    """

    def __init__(
        self,
        size: int = 16,
        channels: int = 3,
        base: int = 64,
        mult: Sequence[int] = (1, 2),
        dims: int = 64,
        attention: Sequence[int] = (),
        blocks: int = 2,
        encoder_mult: Sequence[int] = (1, 2, 2),
        encoder_blocks: int = 2,
        dropout: float = 0.1,
        sketch: Sequence[int] | None = None,
        prediction_type: str = "epsilon",
        latent: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.base, self.dims = channels, base, dims
        self.prediction_type = prediction_type
        self.sides = 2 ** (len(mult) - 1)  # the height of images must be divisible by it
        down = descent(size, base, mult, blocks, attention)
        self.time_embed = Embedding(base, dims)
        self.input_blocks = nn.ModuleList(
            [nn.ModuleList([nn.Conv2d(channels, base, 3, padding=1)])]
        )
        for s in down:
            block: list[nn.Module] = [
                ConditionedBlock(s.inside, s.outside, dims, dropout, s.resize)
            ]
            self.input_blocks.append(nn.ModuleList([*block, *[Attention(s.outside)] * s.attends]))

        width = base * mult[-1]
        self.middle_block = nn.ModuleList(
            [
                ConditionedBlock(width, width, dims, dropout),
                Attention(width),
                ConditionedBlock(width, width, dims, dropout),
            ]
        )
        skips = [base, *[s.outside for s in down]]
        self.output_blocks = nn.ModuleList()
        for level, factor in reversed(list(enumerate(mult))):
            outside, side = base * factor, size // 2**level
            for last in [False] * blocks + [True]:
                parts: list[nn.Module] = [
                    ConditionedBlock(width + skips.pop(), outside, dims, dropout)
                ]
                parts += [Attention(outside)] * (side in attention)
                if last and level:
                    parts.append(ConditionedBlock(outside, outside, dims, dropout, "up"))
                self.output_blocks.append(nn.ModuleList(parts))
                width = outside
        self.out = nn.Sequential(Norm(base), nn.SiLU(), nn.Conv2d(base, channels, 3, padding=1))
        zero(self.out[2])

        within = descent(size, base, encoder_mult, encoder_blocks, attention)
        self.encoder = Encoder(channels, base, dims, within, base * encoder_mult[-1])
        if sketch is not None:
            self.sketch = Sketch(dims, base, sketch)
        if latent is not None:
            self.latent_net = LatentNet(dims, **latent)

    def condition(self, t: Tensor, z: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return a pair (scale, shift) per conditioned block, in the order of the forward pass.

        Args:
            t: times from 0 to 999, (b,), or (1,) if all samples have the same time.
            z: semantic codes, (b, dims).
        """
        time = self.time_embed(t)
        blocks: Any = [*self.input_blocks, self.middle_block, *self.output_blocks]
        parts = [part for block in blocks for part in block]
        return [p.condition(time, z) for p in parts if isinstance(p, ConditionedBlock)]

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Return the predicted noise or velocity (see ``prediction_type``) of noisy images.

        Args:
            x: noisy images, (b, c, h, w).
            t: times from 0 to 999, (b,), or (1,) if all samples have the same time.
            z: semantic codes, (b, dims).
        """
        modulations = iter(self.condition(t, z))

        def run(parts: Any, h: Tensor) -> Tensor:
            for part in parts:
                h = part(h, next(modulations)) if isinstance(part, ConditionedBlock) else part(h)
            return h

        passed: list[Tensor] = []
        for parts in self.input_blocks:
            x = run(parts, x)
            if not passed and hasattr(self, "sketch"):
                x = x + self.sketch(z, x.shape[2:])
            passed.append(x)
        x = run(self.middle_block, x)
        for parts in self.output_blocks:
            x = run(parts, torch.cat([x, passed.pop()], 1))
        return self.out(x)
