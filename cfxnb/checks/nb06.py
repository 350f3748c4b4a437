"""Checks of 06_diffusion_autoencoders."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb.checks.core import exercise, expect
from cfxnb.core import ddim


def spherical(a: Tensor, b: Tensor, w: float) -> Tensor:
    """Spherical interpolation of each sample, (b, ...), a at w = 0 and b at w = 1."""
    x, y = (v.flatten(1) / v.flatten(1).norm(dim=1, keepdim=True) for v in (a, b))
    # Exact for small angles, too, where a cosine is nearly flat.
    angle = 2 * torch.atan2((x - y).norm(dim=1), (x + y).norm(dim=1))
    angle = angle.view(-1, *[1] * (a.ndim - 1))
    return (((1 - w) * angle).sin() * a + (w * angle).sin() * b) / angle.sin()


_near = functools.partial(math.isclose, abs_tol=1e-6)


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=1e-4)


def _tensor(got: Any, shape: tuple[int, ...], cause: str, hint: str) -> None:
    expect(
        isinstance(got, Tensor) and got.shape == shape,
        f"expected a tensor of shape {shape}, got {getattr(got, 'shape', type(got).__name__)}",
        cause=cause,
        hint=hint,
    )


@exercise("A step of DDIM")
def take_step(answer: Callable[[Tensor, Tensor, float, float], Tensor]) -> None:
    g = Generator().manual_seed(6)
    noisy, eps = (torch.randn(2, 3, 4, 4, generator=g) for _ in range(2))
    alphas = torch.tensor([0.64, 0.25])

    def right(x: Tensor, to: int, limit: float | None = 1.0, start: int = 1) -> Tensor:
        return ddim.step(lambda *_: eps, x, alphas, start, to, limit)

    small = 0.1 * noisy + 0.75**0.5 * eps  # its guess is 0.2 times noisy: hardly at the edge
    kept = (noisy.clone(), eps.clone())
    got = answer(noisy, eps, 0.25, 0.64)
    _tensor(got, (2, 3, 4, 4), "the images are reduced or both parts are returned", "one tensor")
    expect(
        torch.equal(noisy, kept[0]) and torch.equal(eps, kept[1]),
        "a tensor that was handed in has changed",
        cause="an operation in place, such as clamp_ or -=",
        hint="use clamp, and new names for results",
    )
    expect(
        _same(got, answer(noisy, eps, 0.25, 0.64)),
        "the same step gives another result the second time",
        cause="fresh noise is drawn: DDIM draws none",
        hint="the noise of the last line is the one implied by noisy and the image",
    )
    expect(
        _same(answer(small, eps, 0.25, 1.0), right(small, -1)),
        "with ahead = 1 the guessed image must come out, and it doesn't",
        cause="the guess has a wrong sign, lacks a root or the division; or ahead isn't used",
        hint="image = (noisy - (1 - left) ** 0.5 * eps) / left**0.5, then clamp",
    )
    expect(
        float(answer(noisy, eps, 0.25, 1.0).abs().max()) <= 1.0001,
        "the guessed image leaves [-1, 1]",
        cause="it isn't clamped, or after the noise was added",
        hint="clamp the image before the noise is worked out",
    )
    expect(
        _same(answer(small, eps, 0.25, 0.64), right(small, 0)),
        "on the way to ahead = 0.64, the mix of image and noise is another one",
        cause="a root is missing in the last line, the mix is clamped, or ahead isn't used",
        hint="ahead**0.5 times the image plus (1 - ahead) ** 0.5 times the noise",
    )
    expect(
        _same(got, right(noisy, 0)),
        "where the guess was clamped, the noise doesn't fit the image any more",
        cause="eps as predicted is mixed in, and not the noise that the clamped image implies",
        hint="work it out anew: (noisy - left**0.5 * image) / (1 - left) ** 0.5",
    )


@exercise("Inversion")
def find_noise(answer: Callable[[ddim.Predict, Tensor, Tensor, list[int]], Tensor]) -> None:
    g = Generator().manual_seed(7)
    images = torch.rand(2, 1, 4, 4, generator=g) * 1.6 - 0.8
    alphas, times = ddim.linear_alphas_cumprod(), [0, 250, 500, 750]
    asked: list[int] = []

    def predict(x: Tensor, t: int) -> Tensor:
        asked.append(int(t))
        return (2 * x + t / 300).sin()

    kept = list(times)
    got = answer(predict, images.clone(), alphas, times)
    seen = list(asked)
    _tensor(got, (2, 1, 4, 4), "a list of all steps, or nothing, is returned", "return x")
    expect(
        times == kept,
        "the list of times has changed",
        cause="pop, reverse or append work on the argument itself",
        hint="[*times[1:], None] makes a new list",
    )
    expect(
        seen == kept,
        f"the network was asked at times {seen}, expected {kept}",
        cause="a step is left out or doubled, or walked down, as images are rendered",
        hint="one step a time, each from t to the next one",
    )
    wanted = ddim.invert(predict, images, alphas, times)
    x = images
    for t, to in zip(times, [*times[1:], -1], strict=True):
        x = ddim.step(predict, x, alphas, t, to)
    expect(
        not _same(got, x),
        "what comes out is an image, not noise",
        cause="the last step goes to -1, which stands for the clean image",
        hint="None stands for nothing but noise",
    )
    expect(
        _same(got, wanted),
        "the noise is another one than ddim.invert finds",
        cause="each step begins at the image again, stays at its time, or the last is another one",
        hint="x = ddim.step(predict, x, alphas, t, to), and from the last time to None",
    )


@exercise("Who decides?")
def who_decides(answer: Callable[[Tensor, Tensor, Tensor], tuple[float, float]]) -> None:
    of_z = torch.tensor([1, 1, 2, 2, 3, 3, 4, 5, 5, 6])
    of_rest = torch.tensor([2, 3, 2, 1, 4, 1, 4, 5, 1, 2])  # 7 of 10 differ
    read = torch.tensor([1, 3, 2, 2, 3, 7, 4, 5, 5, 6])
    got = answer(read, of_z, of_rest)
    expect(
        isinstance(got, tuple | list) and len(got) == 2,
        f"expected two shares, got {type(got).__name__}",
        cause="only one is returned",
        hint="return semantic, stochastic",
    )
    one, two = (float(share) for share in got)
    expect(
        not (one > 1 or two > 1),
        f"a share is at most 1, got {one:.3g} and {two:.3g}",
        cause="hits are counted and not averaged, or percent",
        hint=".double().mean() of the mask of hits",
    )
    for wrong, told, cause in (
        ((1 / 7, 5 / 7), "the two shares are exchanged", "the stochastic donor's comes first"),
        ((0.8, 0.4), "pairs with donors of the same class are counted, too", "there is no mask"),
        ((0.5, 0.1), "hits are divided by the number of all pairs", "& joins masks, then a mean"),
    ):
        expect(
            not (_near(one, wrong[0]) and _near(two, wrong[1])),
            f"{told}: {one:.3f} and {two:.3f}",
            cause=cause,
            hint="select with of_z != of_rest, then average; the semantic donor's share first",
        )
    expect(
        _near(one, 5 / 7) and _near(two, 1 / 7),
        f"expected {5 / 7:.3f} and {1 / 7:.3f}, got {one:.3f} and {two:.3f}",
        cause="other pairs are selected, or other classes compared",
        hint="among pairs whose donors differ, compare read with each donor",
    )
    none = answer(read[2:3], of_z[2:3], of_rest[2:3])
    expect(
        all(math.isnan(float(share)) for share in none),
        "without any pair of different classes expected NaN twice",
        cause="an empty average is told as a share",
        hint="the mean of an empty tensor is NaN: leave it",
    )


@exercise("Along the arc")
def along_the_arc(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    g = Generator().manual_seed(8)
    a, b = (torch.randn(3, 2, 4, 4, generator=g) for _ in range(2))
    b = b * torch.tensor([1.0, 2.0, 0.5]).view(3, 1, 1, 1) + 0.6 * a
    b[2] = 0.3 * b[2] - a[2]
    got = answer(a, b, 0.25)
    _tensor(got, (3, 2, 4, 4), "an angle isn't spread over its image", ".view(-1, 1, 1, 1)")
    expect(
        not bool(got.isnan().any()),
        "there are NaN in it",
        cause="acos of a product of unnormalised tensors, which isn't in [-1, 1]",
        hint="torch.cosine_similarity of the flattened images",
    )
    expect(
        not _same(got, torch.lerp(a, b, 0.25)),
        "this is the straight mix",
        cause="no angle is used",
        hint="the weights are sines: sin((1 - w) θ) / sin θ and sin(w θ) / sin θ",
    )
    expect(
        not _same(got, spherical(a, b, 0.75)),
        "the way is walked from b to a",
        cause="w and 1 - w are exchanged",
        hint="at w = 0 it must be a",
    )
    for w, end in ((0.0, a), (1.0, b)):
        expect(
            _same(answer(a, b, w), end),
            f"at w = {w:.0f} it isn't {'ab'[int(w)]}",
            cause="the weights aren't divided by sin θ, or the ends are normalised",
            hint="sin((1 - w) θ) / sin θ is 1 at w = 0",
        )
    alone = torch.cat([answer(a[i : i + 1], b[i : i + 1], 0.25) for i in range(3)])
    expect(
        _same(got, alone),
        "an image's result depends on the others of its batch",
        cause="one angle for the whole batch",
        hint="flatten(1), and the similarity along dim=1",
    )
    expect(
        _same(got, spherical(a, b, 0.25)),
        "it is another way between a and b than the arc",
        cause="angles of rows or pixels and not of whole images, degrees, or cosines for sines",
        hint="one angle an image, in radians",
    )


@exercise("A fair random direction")
def fair_random(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    g = Generator().manual_seed(9)
    direction, draw = torch.randn(5, generator=g), torch.randn(5, generator=g)
    std = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0])
    got = answer(draw.clone(), direction.clone(), std.clone())
    _tensor(got, (5,), "a length is returned in the place of a direction", "as long as draw")
    got = got.to(draw.dtype)
    aim = (direction / std).norm()
    told = got / std

    def parallel(a: Tensor, b: Tensor) -> float:
        return float(torch.cosine_similarity(a, b, dim=0))

    expect(
        not parallel(got, draw) > 0.9999,
        "in units of the spread it favours coordinates with a small spread",
        cause="the draw is in units of the spread, and isn't brought to those of codes",
        hint="times spread at the end",
    )
    expect(
        parallel(told, draw) > 0.9999,
        "in units of the spread it isn't parallel to the draw",
        cause="another vector, divided by the spread, times it twice, or a minus sign",
        hint="draw times one number times spread",
    )
    expect(
        math.isclose(float(told.norm()), float(aim), rel_tol=1e-4),
        f"expected length {float(aim):.3f} in units of the spread, got {float(told.norm()):.3f}",
        cause="lengths are compared in units of codes, or the draw keeps its own",
        hint="draw / draw.norm() * (direction / spread).norm() * spread",
    )
