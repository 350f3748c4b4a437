"""Time of rendering with a diffusion autoencoder: ``python -m benchmarks.rendering``.

The yardstick is the network run plainly: the published sequence of operations, in float32, in
torch's usual layout, with all samples in one batch. Yardstick and space have the same weights and
the same codes. They run in alternation, with one thread, and each row is the median of the ratios.
Exits 1 if a row falls short.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import cfxnb as cfx
from benchmarks.cases import CASES, Case
from benchmarks.rows import Rows, arguments
from cfxnb.core import ddim
from cfxnb.nets import DiffAE
from cfxnb.nets.diffae_blocks import Attention, ConditionedBlock
from cfxnb.spaces import DiffusionAutoencoder

#: Arguments of ``DiffAE`` for the published networks of ffhq64 and celeba64, 91 million weights.
OFFICIAL: dict[str, Any] = {
    "size": 64,
    "base": 64,
    "mult": (1, 2, 4, 8),
    "dims": 512,
    "attention": (16,),
    "encoder_mult": (1, 2, 4, 8, 8),
}
TURNS = 5
#: Fraction of the saved multiplications that must show in the time. The published network must be
#: 1.11 times as fast as the yardstick, and the yardstick has 1.38 times as many multiplications.
SHARE = 0.11 / 0.38


def main() -> int:
    chosen = arguments("rendering", __doc__).parse_args()
    rows = Rows(
        "rendering", "The same weights and codes, one thread, in alternation.", chosen.write
    )
    rendering(rows)
    return rows.close()


def rendering(rows: Rows) -> None:
    """Compare spaces with the yardstick: shipped digits, and a network of the published size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            digits(rows, CASES["digits"](64))
            official(rows)
    finally:
        torch.set_num_threads(threads)


def digits(rows: Rows, case: Case) -> None:
    code = case.space.encode(case.images[:64])
    saved = saved_multiplications(case.space, code[:1])
    rows.say("digits: multiplications of the yardstick, per multiplication of the space", saved)
    ratio, (first, second) = compared(case.space, code)
    rows.add("64 digits: times as fast", ratio, 1 + SHARE * (saved - 1))
    rows.add(
        "64 digits: largest difference", (first - second).abs().max().item(), 1e-4, at_most=True
    )
    decided = [case.classifier(image).argmax(1) for image in (first, second)]
    rows.add("fraction of equal decisions", (decided[0] == decided[1]).double().mean().item(), 0.99)


def official(rows: Rows) -> None:
    """The published network was 1.08 times slower than this yardstick, so 1.11 is 1.2 times."""
    torch.manual_seed(0)
    net = DiffAE(**OFFICIAL).eval().requires_grad_(False)
    for weights in net.parameters():  # those that start at 0 would hide differences
        if not weights.any():
            weights.normal_(std=0.02)
    space = DiffusionAutoencoder(net, torch.zeros(512), torch.ones(512), steps=10)
    code = cfx.Code(torch.randn(4, 512), torch.randn(4, 3, 64, 64))
    saved = saved_multiplications(space, code[:1])
    rows.say("published size: multiplications of the yardstick, per one of the space", saved)
    ratio, (first, second) = compared(space, code)
    rows.add("published size, 64 pixels, 4 images: times as fast", ratio, 1.11)
    largest = (first - second).abs().max().item()
    rows.add("published size: largest difference", largest, 1e-4, at_most=True)


def saved_multiplications(space: Any, code: cfx.Code) -> float:
    """Return how many times fewer multiplications the space needs than the yardstick."""
    counts = []
    for way in (plainly, lambda space, code: space.decode(code)):
        with FlopCounterMode(display=False) as counter:
            way(space, code)
        counts.append(counter.get_total_flops())
    return counts[0] / counts[1]


def compared(space: Any, code: cfx.Code) -> tuple[float, list[Tensor]]:
    """Return how many times faster the space is than the yardstick, and the images of both."""
    seconds: list[list[float]] = [[], []]
    ways: list[Callable[[], Tensor]] = [lambda: plainly(space, code), lambda: space.decode(code)]
    for turn in range(TURNS + 1):
        images = []
        for way, taken in zip(ways, seconds, strict=True):
            began = time.process_time()  # of this process alone, whatever else runs
            images.append(way())
            if turn:  # the first turn warms up
                taken.append(time.process_time() - began)
    return statistics.median(a / b for a, b in zip(*seconds, strict=True)), images


def plainly(space: Any, code: cfx.Code) -> Tensor:
    """Render codes with the yardstick."""

    def predict_noise(x: Tensor, t: int) -> Tensor:
        found = plain_forward(space.net, x, torch.full((len(x),), t), code.z)
        if space.net.prediction_type == "epsilon":
            return found
        alpha_bar = float(space.alphas_cumprod[t])
        return alpha_bar**0.5 * found + (1 - alpha_bar) ** 0.5 * x

    noise: Any = code.aux
    x = ddim.render(predict_noise, noise, space.alphas_cumprod, space.times)
    return ((space.codec.decode(x) + 1) / 2).clamp(0, 1)


def plain_forward(net: Any, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
    """Return ``net(x, t, z)``, one published operation after the other."""
    modulations = iter(net.condition(t, z))

    def run(parts: Any, h: Tensor) -> Tensor:
        for part in parts:
            if isinstance(part, ConditionedBlock):
                h = plain_block(part, h, *next(modulations))
            else:
                h = part(h) if isinstance(part, Attention) else convolved(part, h)
        return h

    passed: list[Tensor] = []
    for parts in net.input_blocks:
        x = run(parts, x)
        if not passed and hasattr(net, "sketch"):
            x = x + net.sketch(z, x.shape[2:])
        passed.append(x)
    x = run(net.middle_block, x)
    for parts in net.output_blocks:
        x = run(parts, torch.cat([x, passed.pop()], 1))
    return convolved(net.out[2], F.silu(normalised(net.out[0], x)))


def plain_block(part: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    h, around = F.silu(normalised(part.in_layers[0], x)), x
    if part.resize == "down":
        h, around = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
    elif part.resize == "up":
        h, around = (F.interpolate(y, scale_factor=2, mode="nearest") for y in (h, x))
    if hasattr(part, "skip_connection"):
        around = convolved(part.skip_connection, around)
    h = normalised(part.out_layers[0], convolved(part.in_layers[2], h)) * scale + shift
    return around + convolved(part.out_layers[3], F.silu(h))


def normalised(norm: Any, x: Tensor) -> Tensor:
    return F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)


def convolved(conv: Any, x: Tensor) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, padding=conv.padding)


if __name__ == "__main__":
    sys.exit(main())
