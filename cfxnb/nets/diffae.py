"""Diffusion autoencoder (Preechakul et al., CVPR 2022): a U-Net told about an image by a code.

The names of the weights are those of the official checkpoints, so that these load as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cfxnb.nets.diffae_blocks import Attention, Block, ConditionedBlock, Norm, Sketch, zero
from cfxnb.nets.latent_net import LatentNet
from cfxnb.nets.timestep_embedding import timestep_embedding


class Embedding(nn.Module):
    """Time on the scale 0 to 999 -> (b, width), by cosines and sines (Vaswani et al., 2017)."""

    def __init__(self, base: int, width: int) -> None:
        super().__init__()
        self.base = base
        self.time_embed = nn.Sequential(nn.Linear(base, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        return self.time_embed(timestep_embedding(t, self.base))


class Stage(NamedTuple):
    """Where a block stands: its widths, whether it changes the sides, whether it attends."""

    inside: int
    outside: int
    resize: str | None
    attends: bool


def descent(
    size: int, base: int, mult: Sequence[int], blocks: int, attention: Sequence[int]
) -> list[Stage]:
    """The blocks after the first convolution, from the full size down."""
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
    """Images (b, c, h, w) in [-1, 1] -> semantic codes (b, dims)."""

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
    """The noise in a noisy image, told the image's semantic code; and the encoder of that code.

    Args:
        size: side of the images; only says where ``attention`` lies. Images may be oblong.
        channels: of the images.
        base: width of the first level; ``mult`` times it on each level, half the sides each.
        dims: width of the semantic code and of the time embedding.
        attention: sides at which places look at each other; the middle always does.
        blocks: on each level down (one more up); ``encoder_mult``, ``encoder_blocks``: the
            encoder's.
        dropout: share of features dropped in training.
        sketch: sides (h, w) of the map that a code is drawn on, coarser than the images; None for
            the published network, which has none.
        prediction_type: "noise", as published, or "velocity" (v of Salimans & Ho, 2022), of which noise
            and image follow: where an image is nearly all noise, its noise tells nothing of it.
        latent: arguments of the ``LatentNet`` that draws new codes; None for no such net.
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
        self.channels, self.base, self.dims, self.prediction_type = (
            channels,
            base,
            dims,
            prediction_type,
        )
        self.sides = 2 ** (len(mult) - 1)  # must divide the images' sides; the encoder rounds down
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
        """What time and code say to every block, in the order of the forward pass.

        Args:
            t: time on the scale 0 to 999, (b,), or (1,) if all have the same.
            z: semantic codes, (b, dims).
        """
        time = self.time_embed(t)
        blocks: Any = [*self.input_blocks, self.middle_block, *self.output_blocks]
        parts = [part for block in blocks for part in block]
        return [p.condition(time, z) for p in parts if isinstance(p, ConditionedBlock)]

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """What is predicted of noisy images (b, c, h, w) at times t, (b,) or (1,), told codes z."""
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
