"""The blocks of the encoder and the U-Net of a diffusion autoencoder."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfxnb.nets.convolutions import Conv3x3, upsample, upsampled_conv


def zero(layer: nn.Module) -> None:
    """Set all parameters of a layer to 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def silu(x: Tensor) -> Tensor:
    """Return ``F.silu(x)``. If gradients are off, the result is written to ``x``, to save time."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class Norm(nn.GroupNorm):
    """Group normalisation that is also fast on the CPU in the memory format channels_last.

    On the CPU and in channels_last, ``nn.GroupNorm`` itself is twenty times slower.
    """

    def __init__(self, width: int) -> None:
        super().__init__(min(32, width), width)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cpu and x.is_contiguous(memory_format=torch.channels_last):
            y = super().forward(x.contiguous())
            return y.contiguous(memory_format=torch.channels_last)
        return super().forward(x)


class Attention(nn.Module):
    """Self-attention with one head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = Norm(width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)
        zero(self.proj_out)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x).flatten(2)).mT.chunk(3, dim=2)
        attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(attended.mT).reshape(x.shape)


class Block(nn.Module):
    """A residual block. ``resize`` is "down" or "up" to halve or double height and width."""

    def __init__(self, inside: int, outside: int, resize: str | None = None) -> None:
        super().__init__()
        self.resize = resize
        self.in_layers = nn.Sequential(Norm(inside), nn.SiLU(), Conv3x3(inside, outside))
        if inside != outside:
            self.skip_connection = nn.Conv2d(inside, outside, 1)

    def _around(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output of the first convolution, and the output of the skip connection."""
        layers: Any = self.in_layers
        before, _, convolve = layers
        inner = silu(before(x))
        if self.resize == "up":
            inner, around = upsampled_conv(convolve, inner), upsample(x)
        elif self.resize == "down":
            inner, around = convolve(F.avg_pool2d(inner, 2)), F.avg_pool2d(x, 2)
        else:
            inner, around = convolve(inner), x
        return inner, self.skip_connection(around) if hasattr(self, "skip_connection") else around

    def forward(self, x: Tensor) -> Tensor:
        inner, around = self._around(x)
        return inner.add_(around)


class ConditionedBlock(Block):
    """A residual block in which time and code scale the normalised features."""

    def __init__(
        self, inside: int, outside: int, dims: int, dropout: float, resize: str | None = None
    ) -> None:
        super().__init__(inside, outside, resize)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(dims, 2 * outside))
        self.cond_emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(dims, outside))
        last = Conv3x3(outside, outside)
        zero(last)  # so that an untrained block is the identity
        self.out_layers = nn.Sequential(Norm(outside), nn.SiLU(), nn.Dropout(dropout), last)

    def condition(self, time: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and shift of the normalised features, (b, c, 1, 1) each.

        The block computes (h (1 + time_scale) + time_shift) (1 + code_scale) for features h.
        """
        scale, shift = self.emb_layers(time)[..., None, None].chunk(2, dim=1)
        again = 1 + self.cond_emb_layers(code)[..., None, None]
        return (1 + scale) * again, shift * again

    def forward(  # type: ignore[override]
        self, x: Tensor, modulation: tuple[Tensor, Tensor]
    ) -> Tensor:
        inner, around = self._around(x)
        scale, shift = modulation
        norm, _, dropout, convolve = self.out_layers
        h = torch.addcmul(shift.to(inner.dtype), norm(inner), scale.to(inner.dtype))
        return convolve(dropout(silu(h))).add_(around)


class Sketch(nn.Module):
    """Turn a code into a feature map (b, width, h, w), added to the features of the noisy image.

    The network of the paper has no ``Sketch``: the code only scales whole channels. Without a
    ``Sketch``, the network knows positions only through the zero padding at the borders. The
    network of the paper was trained on a hundred million images.
    """

    def __init__(self, dims: int, width: int, sides: Sequence[int]) -> None:
        super().__init__()
        self.coarse = nn.Sequential(
            nn.Linear(dims, 2 * width * sides[0] * sides[1]),
            nn.Unflatten(1, (2 * width, *sides)),
            Norm(2 * width),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        )
        self.fine = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(2 * width, width, 3, padding=1),
            Norm(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, z: Tensor, size: Sequence[int]) -> Tensor:
        return self.fine(F.interpolate(self.coarse(z), size=tuple(size), mode="nearest"))
