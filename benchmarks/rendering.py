"""Seconds of rendering: the reference design run plainly, beside the space of this package."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.cases import Case
from benchmarks.rows import Rows
from cfxnb.core import ddim


def rendering(rows: Rows, case: Case) -> None:
    """Same weights, same codes, in turns; the first turn warms up."""
    space, net = case.space, case.space.net
    with torch.no_grad():
        code = space.encode(case.images[:64])
        z, noise = code.z.to(space.std), code.aux.to(space.std)

        def plain() -> Tensor:
            """One loop in float32, in torch's usual layout, all rows together."""
            net.to(memory_format=torch.contiguous_format)

            def predict_noise(x: Tensor, t: int) -> Tensor:
                found = net(x, torch.full((len(x),), t, device=x.device), z)
                if net.prediction_type == "epsilon":
                    return found
                alpha_bar = float(space.alphas_cumprod[t])
                return alpha_bar**0.5 * found + (1 - alpha_bar) ** 0.5 * x

            x = ddim.render(predict_noise, noise, space.alphas_cumprod, space.times)
            net.to(memory_format=torch.channels_last)
            return ((space.codec.decode(x) + 1) / 2).clamp(0, 1).cpu()

        slow, first = timed(plain)
        quick, second = timed(lambda: space.decode(code))
    same = (first - second).abs()
    rows.say("rendering 64 digits plainly, seconds", slow)
    rows.say("rendering them with the space, seconds", quick)
    rows.add("difference of the images, mean", same.mean().item(), 1 / 255, at_most=True)
    decided = [case.classifier(image).argmax(1) for image in (first, second)]
    rows.add("fraction of equal decisions", (decided[0] == decided[1]).double().mean().item(), 0.99)
    rows.add("rendering: times as fast at equal steps", slow / quick, 1.5)


def timed(run: Callable[[], Tensor], turns: int = 4) -> tuple[float, Tensor]:
    seconds = []
    for _ in range(turns):
        began = time.perf_counter()
        out = run()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:]), out
