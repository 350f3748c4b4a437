"""Convolutions of 3x3 pixels with the usual results, but fewer multiplications.

A denoising network spends most of its time in 3x3 convolutions, which run at the peak speed of the
processor. We therefore reduce the number of multiplications, in two cases:

- After upsampling, all pixels of a 2x2 square have the same value. ``upsampled_conv`` first adds up
  the weights of equal pixels, so that 4 of the 9 multiplications per output pixel are left.
- With many channels and constant weights, ``Conv3x3`` uses Winograd's algorithm (Lavin & Gray, CVPR
  2016), which needs 16 instead of 36 multiplications for 2x2 output pixels.

``upsampled_conv`` and ``Conv3x3`` save multiplications only on the CPU. The libraries for GPUs
choose fast algorithms themselves.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfxnb.core.constant_weights import are_constant, derived

LEAST_CHANNELS = 256  # with fewer channels, Winograd's transforms cost more time than they save
WORKSPACE = 2**22  # numbers that Winograd's algorithm stores at a time


def _in_both_axes(rows: list[list[float]]) -> Tensor:
    """Return the matrix (16, 9) that transforms rows and columns of 3x3 weights."""
    one = torch.tensor(rows, dtype=torch.float32, device="cpu")
    return torch.kron(one, one)


#: The transform of the weights in F(2x2, 3x3) of Lavin & Gray.
WINOGRAD = _in_both_axes([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]])
#: Sums of the weights that meet equal pixels, in the order that a transposed convolution needs.
EQUAL_PIXELS = _in_both_axes([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def upsample(x: Tensor) -> Tensor:
    """Return images with twice the height and width, in which each pixel is a square of 2x2."""
    if x.is_cpu and x.is_contiguous():  # F.interpolate is slower in this layout
        return x.repeat_interleave(2, 3).repeat_interleave(2, 2)
    return F.interpolate(x, scale_factor=2, mode="nearest")


def upsampled_conv(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return ``conv(upsample(x))`` for a 3x3 convolution with padding 1.

    In float32 on the CPU, the function computes a transposed convolution with 4x4 weights.
    """
    if not _float32_on_cpu(x):
        return conv(upsample(x))
    return F.conv_transpose2d(x, derived(conv.weight, _spread), conv.bias, stride=2, padding=1)


def _spread(weight: Tensor) -> Tensor:
    """Return the weights of the transposed convolution: (o, c, 3, 3) -> (c, o, 4, 4)."""
    summed = weight.flatten(2) @ EQUAL_PIXELS.T
    return summed.unflatten(2, (4, 4)).transpose(0, 1).contiguous()


def _float32_on_cpu(x: Tensor) -> bool:
    return x.is_cpu and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def _bfloat16(device: str) -> bool:
    on = torch.is_autocast_enabled(device)
    return on and torch.get_autocast_dtype(device) is torch.bfloat16


class Conv3x3(nn.Conv2d):
    """A convolution of 3x3 pixels with padding 1, which is faster without gradients.

    ``Conv3x3`` uses Winograd's algorithm in float32 on the CPU, in a ``constant_weights`` block
    without gradients, if there are enough channels and the sides of the images are even. If
    torch.autocast is on, the weights are cast only once in a ``constant_weights`` block.
    """

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(inside, outside, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if not self._pays(x):
            if _bfloat16(x.device.type) and are_constant() and not torch.is_grad_enabled():
                return self._conv_forward(x, derived(self.weight, Tensor.bfloat16), self.bias)
            return super().forward(x)
        transformed = derived(self.weight, _transform)
        parts = x.split(max(1, WORKSPACE // (4 * x[0, 0].numel() * sum(self.weight.shape[:2]))))
        return torch.cat([_winograd(part, transformed, self.bias) for part in parts])

    def _pays(self, x: Tensor) -> bool:
        return (
            min(self.weight.shape[:2]) >= LEAST_CHANNELS
            and are_constant()
            and _float32_on_cpu(x)
            and not x.shape[2] % 2
            and not x.shape[3] % 2
            and not torch.is_grad_enabled()
        )


def _transform(weight: Tensor) -> Tensor:
    """Return the transformed weights: (o, c, 3, 3) -> (16, c, o)."""
    outside, inside = weight.shape[:2]
    return (WINOGRAD @ weight.reshape(-1, 9).T).view(16, outside, inside).mT


def _winograd(x: Tensor, transformed: Tensor, bias: Tensor | None) -> Tensor:
    """Return a 3x3 convolution with padding 1 of x (b, c, h, w), computed in squares of 2x2 pixels.

    Each square depends on 4x4 pixels of ``x``. In transformed coordinates, the convolution is one
    product of matrices for each of the 16 positions.
    """
    b, c, h, w = x.shape
    outside, tall, wide = transformed.shape[2], h // 2, w // 2
    padded = x.new_zeros(b, h + 2, w + 2, c)
    padded[:, 1:-1, 1:-1] = x.permute(0, 2, 3, 1)
    rows = x.new_empty(4, b, tall, w + 2, c)
    _transform_input(padded[:, ::2], padded[:, 1::2], rows, 1)
    squares = x.new_empty(4, 4, b, tall, wide, c)
    _transform_input(rows[:, :, :, ::2], rows[:, :, :, 1::2], squares.transpose(0, 1), 3)
    products = torch.bmm(squares.view(16, -1, c), transformed).view(4, 4, b, tall, wide, outside)
    y = x.new_empty(b, tall, 2, wide, 2, outside)
    for i, row in enumerate(_transform_output(products)):
        for j, pixels in enumerate(_transform_output(row)):
            y[:, :, i, :, j] = pixels if bias is None else pixels.add_(bias)
    return y.view(b, h, w, outside).permute(0, 3, 1, 2).contiguous()


def _transform_input(even: Tensor, odd: Tensor, out: Tensor, axis: int) -> None:
    """Write four linear combinations of each window of four rows to ``out[0]``, ..., ``out[3]``.

    Args:
        even, odd: the rows with even and with odd positions along ``axis``. The window of square i
            consists of the rows 2i to 2i + 3, so that neighbouring windows share two rows.
    """
    count = even.shape[axis] - 1
    first, third = even.narrow(axis, 0, count), even.narrow(axis, 1, count)
    second, fourth = odd.narrow(axis, 0, count), odd.narrow(axis, 1, count)
    torch.sub(first, third, out=out[0])
    torch.add(second, third, out=out[1])
    torch.sub(third, second, out=out[2])
    torch.sub(second, fourth, out=out[3])


def _transform_output(four: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the two output rows of each square from four linear combinations of rows."""
    return (four[1] + four[2]).add_(four[0]), (four[1] - four[2]).sub_(four[3])
