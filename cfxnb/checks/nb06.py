"""Checks of 06_diffusion_autoencoders."""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from cfxnb.checks.core import exercise, expect, expect_pair, expect_tensor, near, same
from cfxnb.core import ddim


def spherical_interpolation(a: Tensor, b: Tensor, w: float) -> Tensor:
    """Interpolate each sample on the arc from ``a`` (weight w = 0) to ``b`` (w = 1)."""
    x, y = (v.flatten(1) / v.flatten(1).norm(dim=1, keepdim=True) for v in (a, b))
    # Unlike acos, atan2 is also exact for small angles.
    angle = 2 * torch.atan2((x - y).norm(dim=1), (x + y).norm(dim=1))
    angle = angle.view(-1, *[1] * (a.ndim - 1))
    return (((1 - w) * angle).sin() * a + (w * angle).sin() * b) / angle.sin()


@exercise("A step of DDIM")
def ddim_step(answer: Callable[[Tensor, Tensor, float, float], Tensor]) -> None:
    g = Generator().manual_seed(6)
    noisy, eps = (torch.randn(2, 3, 4, 4, generator=g) for _ in range(2))
    alphas_cumprod = torch.tensor([0.64, 0.25])

    def right(x: Tensor, to: int, clip: float | None = 1.0, start: int = 1) -> Tensor:
        return ddim.step(lambda *_: eps, x, alphas_cumprod, start, to, clip)

    # The predicted image is 0.2 noisy: almost nothing is clamped.
    small = 0.1 * noisy + 0.75**0.5 * eps
    kept = (noisy.clone(), eps.clone())
    got = answer(noisy, eps, 0.25, 0.64)
    expect_tensor(
        got, (2, 3, 4, 4), "images are averaged, or both parts are returned", "return one tensor"
    )
    expect(
        torch.equal(noisy, kept[0]) and torch.equal(eps, kept[1]),
        "an argument has been changed",
        cause="an in-place operation, such as clamp_ or -=",
        hint="use clamp, and store results under new names",
    )
    expect(
        same(got, answer(noisy, eps, 0.25, 0.64)),
        "the same step gives another result when repeated",
        cause="new noise is drawn; DDIM draws none",
        hint="use the noise that follows from noisy and the predicted image",
    )
    expect(
        same(answer(small, eps, 0.25, 1.0), right(small, -1)),
        "with alpha_bar_next = 1 the result must be the predicted image, and it isn't",
        cause="a wrong sign, a missing root or division; or alpha_bar_next isn't used",
        hint="image = (noisy - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5, then clamp",
    )
    expect(
        float(answer(noisy, eps, 0.25, 1.0).abs().max()) <= 1.0001,
        "the predicted image leaves [-1, 1]",
        cause="it isn't clamped, or only after the noise was added",
        hint="clamp the image before you compute the noise",
    )
    expect(
        same(answer(small, eps, 0.25, 0.64), right(small, 0)),
        "at alpha_bar_next = 0.64, the mixture of image and noise is wrong",
        cause="a root is missing, the mixture is clamped, or alpha_bar_next isn't used",
        hint="alpha_bar_next**0.5 * image + (1 - alpha_bar_next) ** 0.5 * noise",
    )
    expect(
        same(got, right(noisy, 0)),
        "where the image was clamped, the noise no longer fits the clamped image",
        cause="the predicted eps is used, not the noise that the clamped image implies",
        hint="noise = (noisy - alpha_bar**0.5 * image) / (1 - alpha_bar) ** 0.5",
    )


@exercise("Inversion")
def ddim_inversion(answer: Callable[[ddim.Predict, Tensor, Tensor, list[int]], Tensor]) -> None:
    g = Generator().manual_seed(7)
    images = torch.rand(2, 1, 4, 4, generator=g) * 1.6 - 0.8
    alphas_cumprod, times = ddim.linear_alphas_cumprod(), [0, 250, 500, 750]
    evaluated: list[int] = []

    def predict(x: Tensor, t: int) -> Tensor:
        evaluated.append(int(t))
        return (2 * x + t / 300).sin()

    kept = list(times)
    got = answer(predict, images.clone(), alphas_cumprod, times)
    seen = list(evaluated)
    expect_tensor(got, (2, 1, 4, 4), "a list of all steps, or nothing, is returned", "return x")
    expect(
        times == kept,
        "the list of times has been changed",
        cause="pop, reverse and append change the argument itself",
        hint="[*times[1:], None] makes a new list",
    )
    expect(
        seen == kept,
        f"the network was evaluated at times {seen}, expected {kept}",
        cause="a step is missing or repeated, or the times go down, as in rendering",
        hint="take one step per time, from each time to the next",
    )
    wanted = ddim.invert(predict, images, alphas_cumprod, times)
    x = images
    for t, to in zip(times, [*times[1:], -1], strict=True):
        x = ddim.step(predict, x, alphas_cumprod, t, to)
    expect(
        not same(got, x),
        "the result is an image, not noise",
        cause="the last step goes to -1, which means the clean image",
        hint="None means pure noise",
    )
    expect(
        same(got, wanted),
        "the noise differs from that of ddim.invert",
        cause="a step starts at the image again, stays at its time, or the last step is wrong",
        hint="x = ddim.step(predict, x, alphas_cumprod, t, to); the last step goes to None",
    )


@exercise("Code or noise?")
def code_or_noise(answer: Callable[[Tensor, Tensor, Tensor], tuple[float, float]]) -> None:
    of_z = torch.tensor([1, 1, 2, 2, 3, 3, 4, 5, 5, 6])
    of_aux = torch.tensor([2, 3, 2, 1, 4, 1, 4, 5, 1, 2])  # 7 of 10 differ
    read = torch.tensor([1, 3, 2, 2, 3, 7, 4, 5, 5, 6])
    got = answer(read, of_z, of_aux)
    one, two = map(float, expect_pair(got, "two fractions", "return semantic, stochastic"))
    expect(
        not (one > 1 or two > 1),
        f"a fraction is at most 1, got {one:.3g} and {two:.3g}",
        cause="matches are counted instead of averaged, or given as a percentage",
        hint=".double().mean() of the mask of matches",
    )
    for wrong, problem, cause in (
        ((1 / 7, 5 / 7), "the two fractions are exchanged", "the stochastic donor comes first"),
        ((0.8, 0.4), "pairs with donors of the same class are included", "there is no mask"),
        ((0.5, 0.1), "hits are divided by the number of all pairs", "mean of masks joined by &"),
    ):
        expect(
            not (near(one, wrong[0]) and near(two, wrong[1])),
            f"{problem}: {one:.3f} and {two:.3f}",
            cause=cause,
            hint="select with of_z != of_aux, then average; return the semantic donor first",
        )
    expect(
        near(one, 5 / 7) and near(two, 1 / 7),
        f"expected {5 / 7:.3f} and {1 / 7:.3f}, got {one:.3f} and {two:.3f}",
        cause="other pairs are selected, or other classes are compared",
        hint="for pairs whose donors differ, compare read with each donor",
    )
    none = answer(read[2:3], of_z[2:3], of_aux[2:3])
    expect(
        all(math.isnan(float(fraction)) for fraction in none),
        "without any pair of different classes, expected NaN twice",
        cause="the mean over no pairs is reported as a number",
        hint="the mean of an empty tensor is NaN: return it",
    )


@exercise("Spherical interpolation")
def slerp(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    g = Generator().manual_seed(8)
    a, b = (torch.randn(3, 2, 4, 4, generator=g) for _ in range(2))
    b = b * torch.tensor([1.0, 2.0, 0.5]).view(3, 1, 1, 1) + 0.6 * a
    b[2] = 0.3 * b[2] - a[2]
    got = answer(a, b, 0.25)
    expect_tensor(
        got, (3, 2, 4, 4), "an angle isn't broadcast over its image", ".view(-1, 1, 1, 1)"
    )
    expect(
        not bool(got.isnan().any()),
        "the result contains NaN",
        cause="acos of a product of unnormalised tensors, which can leave [-1, 1]",
        hint="torch.cosine_similarity of the flattened images",
    )
    expect(
        not same(got, torch.lerp(a, b, 0.25)),
        "this is linear interpolation",
        cause="no angle is used",
        hint="the weights are sines: sin((1 - w) θ) / sin θ and sin(w θ) / sin θ",
    )
    expect(
        not same(got, spherical_interpolation(a, b, 0.75)),
        "the interpolation goes from b to a",
        cause="w and 1 - w are exchanged",
        hint="at w = 0 the result must be a",
    )
    for w, end in ((0.0, a), (1.0, b)):
        expect(
            same(answer(a, b, w), end),
            f"at w = {w:.0f} it isn't {'ab'[int(w)]}",
            cause="the weights aren't divided by sin θ, or a and b are normalised",
            hint="sin((1 - w) θ) / sin θ is 1 at w = 0",
        )
    alone = torch.cat([answer(a[i : i + 1], b[i : i + 1], 0.25) for i in range(3)])
    expect(
        same(got, alone),
        "the result of an image depends on the other images of the batch",
        cause="one angle is computed for the whole batch",
        hint="flatten(1), and the similarity along dim=1",
    )
    expect(
        same(got, spherical_interpolation(a, b, 0.25)),
        "the result is not on the arc between a and b",
        cause="angles of rows or pixels instead of images, degrees, or cosines instead of sines",
        hint="one angle per image, in radians",
    )


@exercise("A random direction of equal length")
def matched_random_direction(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    g = Generator().manual_seed(9)
    direction, draw = torch.randn(5, generator=g), torch.randn(5, generator=g)
    std = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0])
    got = answer(draw.clone(), direction.clone(), std.clone())
    expect_tensor(
        got, (5,), "a length is returned instead of a direction", "return one number per coordinate"
    )
    got = got.to(draw.dtype)
    standardised = got / std
    length, found = float((direction / std).norm()), float(standardised.norm())

    def parallel(a: Tensor, b: Tensor) -> float:
        return float(torch.cosine_similarity(a, b, dim=0))

    expect(
        not parallel(got, draw) > 0.9999,
        "it favours coordinates with a small standard deviation",
        cause="the draw is in units of std, and isn't converted to units of the code",
        hint="multiply by std at the end",
    )
    expect(
        parallel(standardised, draw) > 0.9999,
        "in units of std it isn't parallel to the draw",
        cause="another vector, division by std, multiplication by std twice, or a minus sign",
        hint="draw * one number * std",
    )
    expect(
        math.isclose(found, length, rel_tol=1e-4),
        f"expected length {length:.3f} in units of std, got {found:.3f}",
        cause="lengths are compared in units of the code, or the draw keeps its own length",
        hint="draw / draw.norm() * (direction / std).norm() * std",
    )
