"""Checks of 09_diffusion_counterfactuals."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb.checks.core import exercise, expect, expect_tensor, same
from cfxnb.diffusion.consensus import apply_mask, consensus, match_norm

Eps = Callable[[Tensor, Tensor, Tensor], Tensor]
_same = functools.partial(same, rtol=1e-4, atol=1e-5)


def classifier_free_denoiser(
    eps: Eps, cond: Tensor, uncond: Tensor, scale: float
) -> Callable[..., Tensor]:
    """Return a denoiser with classifier-free guidance, a function (z, t, ...) -> predicted noise.

    Args:
        eps: function (z, t, condition) -> predicted noise.
        cond, uncond: conditions of the target, and conditions that leave everything open, one row
            per sample.
        scale: 0 gives the noise predicted without the condition, 1 the noise predicted with the
            condition. A ``scale`` above 1 exaggerates the condition.
    """

    def denoiser(z: Tensor, t: Tensor, *_: Any) -> Tensor:
        eps_uncond = eps(z, t, uncond)
        return eps_uncond + scale * (eps(z, t, cond) - eps_uncond)

    return denoiser


@exercise("Classifier-free guidance")
def classifier_free_guidance(answer: Callable[[Eps, Tensor, Tensor, float], Any]) -> None:
    g = Generator().manual_seed(9)
    z, other = (torch.randn(2, 3, 4, 4, generator=g) for _ in range(2))
    t, later = torch.tensor([400, 100]), torch.tensor([900, 30])
    cond, uncond = torch.tensor([[3], [7]]), torch.tensor([[10], [10]])
    calls: list[bool] = []

    def eps(z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        calls.append(True)
        shift = (condition[:, 0] * t).view(-1, 1, 1, 1) / 1000
        return (z + shift).sin() + 0.1 * shift

    guided = answer(eps, cond, uncond, 3.0)
    expect(
        callable(guided),
        f"expected a function, got {type(guided).__name__}",
        cause="the noise is computed immediately, or the inner function is called",
        hint="def denoiser(z, t) inside, and return denoiser without brackets",
    )
    expect(
        not calls,
        "the network is evaluated before z and t are given",
        cause="eps is called outside of the inner function",
        hint="both calls belong inside: z and t change from step to step",
    )
    eps_uncond, eps_cond = eps(z, t, uncond), eps(z, t, cond)
    for scale, wanted, name in (
        (0.0, eps_uncond, "unconditional"),
        (1.0, eps_cond, "conditional"),
    ):
        found = answer(eps, cond, uncond, scale)(z, t)
        expect(
            _same(found, wanted),
            f"at scale {scale:.0f} it isn't the {name} noise",
            cause="cond and uncond are exchanged, the unconditional noise is not added, or the "
            "scale is off by 1",
            hint="start at the unconditional noise and add scale times the difference",
        )
    expect(
        _same(guided(z, t), eps_uncond + 3 * (eps_cond - eps_uncond)),
        "at scale 3 it isn't three times as far from the unconditional noise as at scale 1",
        cause="the scale is clipped or squared, or the two predictions are averaged",
        hint="eps_uncond + scale * (difference)",
    )
    expect(
        _same(guided(other, later), classifier_free_denoiser(eps, cond, uncond, 3.0)(other, later)),
        "the noise is wrong for other z and t",
        cause="a result of an earlier call is used again",
        hint="call eps in the inner function, with its z and t",
    )


@exercise("The cone")
def cone_mask(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    g = Generator().manual_seed(10)
    a, b = (torch.randn(2, 4, 3, 5, generator=g) for _ in range(2))
    b = (a + 1.4 * b) * torch.rand(2, 1, 3, 5, generator=g) * 3
    mask = answer(a.clone(), b.clone(), 60.0)
    expect_tensor(
        mask, (2, 3, 5), "the sum is over another dimension than channels", "sum(1), norm(dim=1)"
    )
    expect(
        mask.dtype == torch.bool,
        f"expected bools, got {mask.dtype}",
        cause="angles or numbers are returned",
        hint="compare the angle with cone_angle, and return the result",
    )
    angle = torch.tensor([30.0, 80.0]).deg2rad()
    east = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    turned = torch.stack([angle.cos(), angle.sin()]).view(1, 2, 1, 2)
    expect(
        answer(east, turned, 45.0).flatten().tolist() == [True, False],
        "of two vectors, turned by 30° and 80°, a cone of 45° must keep the first",
        cause="radians, a cosine in place of an angle, or a reversed comparison",
        hint="torch.rad2deg((...).acos()) <= cone_angle",
    )
    expect(
        not bool(answer(a, -b, 60.0)[consensus(a, b, 60.0)[1]].any()),
        "vectors with opposite directions agree",
        cause="the sign of the cosine is lost: abs, or squares",
        hint="opposite vectors have an angle of 180°",
    )
    expect(
        bool(answer(a, 3 * a, 1.0).all()) and bool(answer(a, -a, 180.0).all()),
        "parallel vectors don't agree within 1°, or opposite ones within 180°",
        cause="products aren't divided by lengths, or rounding takes cosines beyond 1: acos is NaN",
        hint="divide by both lengths, then clamp(-1, 1) before acos",
    )
    zero = a.clone()
    zero[:, :, 1] = 0
    for cone_angle in (60.0, 180.0):
        for one, two in ((zero, b), (b, zero)):
            expect(
                not bool(answer(one, two, cone_angle)[:, 1].any()),
                f"a vector of zeros agrees within {cone_angle:.0f}°",
                cause="its cosine is set to 0, or its angle, NaN, counts as 'not above'",
                hint="leave 0 / 0 as NaN, and compare with <=",
            )
    for cone_angle in (20.0, 60.0, 120.0):
        expect(
            torch.equal(answer(a, b, cone_angle), consensus(a, b, cone_angle)[1]),
            f"at {cone_angle:.0f}° other positions are kept than those within the cone",
            cause="lengths play a role, or the vectors are not the channels of one position",
            hint="the cosine: the product summed over channels, divided by both lengths",
        )


@exercise("Keep, and re-normalise")
def mask_and_rescale(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    g = Generator().manual_seed(11)
    direction, like = (torch.randn(3, 4, 3, 5, generator=g) for _ in range(2))
    like = like * torch.tensor([2.0, 0.3, 1.0]).view(3, 1, 1, 1)
    keep = torch.rand(3, 3, 5, generator=g) < 0.4
    copies = direction.clone(), keep.clone()
    field = answer(direction, keep, like)
    expect_tensor(
        field, (3, 4, 3, 5), "only the kept vectors, or a norm, are returned", "a whole field"
    )
    expect(
        torch.equal(direction, copies[0]) and torch.equal(keep, copies[1]),
        "an input tensor has changed",
        cause="an operation in place, such as direction[...] = 0 or *=",
        hint="torch.where makes a new field",
    )
    dropped = ~keep[:, None].expand_as(direction)
    expect(
        bool((field[dropped] == 0).all()),
        "the field isn't zero where keep is False",
        cause="the mask isn't applied, or it is inverted",
        hint="torch.where(keep[:, None], direction, 0.0)",
    )
    kept, original = field[~dropped], direction[~dropped]
    expect(
        bool((kept != 0).any()) and bool((kept * original >= 0).all()),
        "kept vectors have another direction than in the input",
        cause="like is returned in place of direction, or a sign is lost",
        hint="the kept vectors of direction, times one positive number per image",
    )
    norms, wanted = field.flatten(1).norm(dim=1), like.flatten(1).norm(dim=1)
    rescaled_first = match_norm(direction, like)
    expect(
        not _same(field, apply_mask(rescaled_first, keep)),
        "the norm is smaller than that of like, by what the mask removed",
        cause="it is divided by the norm of all of direction, before the mask",
        hint="divide by the norm after the mask",
    )
    parts = [answer(direction[i : i + 1], keep[i : i + 1], like[i : i + 1]) for i in range(3)]
    expect(
        _same(field, torch.cat(parts)),
        "the field of an image depends on the other images of the batch",
        cause="one norm for the whole batch",
        hint=".flatten(1).norm(dim=1) is one number per image",
    )
    expect(
        torch.allclose(norms, wanted, rtol=1e-4),
        f"expected norms {[round(v, 2) for v in wanted.tolist()]}, got "
        f"{[round(v, 2) for v in norms.tolist()]}",
        cause="the norm of like is missing, or the division is inverted",
        hint="times the norm of like, divided by the norm after the mask",
    )
    expect(
        _same(field, match_norm(apply_mask(direction, keep), like)),
        "the norms are right, but the relative lengths of vectors have changed",
        cause="each position is normalised separately",
        hint="one factor per image keeps the relative lengths",
    )
    empty = answer(direction, torch.zeros_like(keep), like)
    expect(
        bool((empty == 0).all()),
        "where nothing is kept, the field isn't zero",
        cause="0 / 0 is NaN",
        hint=".clamp_min(1e-22) for the norm in the denominator",
    )


@exercise("Bisection")
def min_strength(answer: Callable[[Callable[[float], bool], float, int], float]) -> None:
    def run(edge: float, first: float, max_attempts: int) -> tuple[list[float], float]:
        tried: list[float] = []

        def flips(strength: float) -> bool:
            expect(
                len(tried) < max_attempts,
                f"flips is called more than {max_attempts} times",
                cause="it is called twice for one strength, or once more at the end",
                hint="one call in each round of the loop: it is the expensive part",
            )
            tried.append(float(strength))
            return strength >= edge

        found = answer(flips, first, max_attempts)
        expect(
            isinstance(found, int | float),
            f"expected a number, got {type(found).__name__}",
            cause="nothing is returned, or a list",
            hint="return the lowest success",
        )
        return tried, float(found)

    def shown(strengths: list[float]) -> str:
        return ", ".join(f"{s:.4g}" for s in strengths)

    for edge, wanted, rule in (
        (0.0, [0.5, 0.25, 0.125, 0.0625], "after a success half of the way down"),
        (2.0, [0.5, 0.75, 0.875, 0.9375], "after a failure half of the way up, to 1 at most"),
        (0.3, [0.5, 0.25, 0.375, 0.3125], "between the highest failure and the lowest success"),
        (0.8, [0.5, 0.75, 0.875, 0.8125], "between the highest failure and the lowest success"),
        (0.2, [0.6, 0.3], "it begins at first"),
    ):
        tried, _ = run(edge, wanted[0], len(wanted))
        expect(
            tried == wanted,
            f"expected the strengths {shown(wanted)}, tried {shown(tried)}: {rule}",
            cause="success and failure are exchanged, or only the last result is used",
            hint="low is the highest failure, high the lowest success, the next is their mean",
        )
    for edge, max_attempts, right in (
        (0.3, 4, 0.3125),
        (0.3, 2, 0.5),
        (0.0, 3, 0.125),
        (0.8, 3, 0.875),
    ):
        tried, found = run(edge, 0.5, max_attempts)
        expect(
            math.isclose(found, right),
            f"after {shown(tried)}, flips from {edge} on: expected {right}, got {found:.4g}",
            cause="the last strength is returned, or the next one, or the highest failure",
            hint="only a strength that was seen to flip",
        )
    expect(
        run(2.0, 0.5, 4)[1] == math.inf,
        "where nothing flips, the answer isn't infinity",
        cause="1, or the last strength tried, is returned although it did not flip",
        hint='high begins at float("inf"); only in the mean it is replaced by 1',
    )
