"""Checks of 09_diffusion_counterfactuals."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb.checks.core import exercise, expect
from cfxnb.diffusion.consensus import apply_mask, consensus, match_norm

Eps = Callable[[Tensor, Tensor, Tensor], Tensor]


def louder(eps: Eps, told: Tensor, nothing: Tensor, scale: float) -> Callable[..., Tensor]:
    """Classifier-free guidance: a denoiser (z, t, ...) -> noise, made of eps(z, t, condition)."""

    def denoiser(z: Tensor, t: Tensor, *_: Any) -> Tensor:
        free = eps(z, t, nothing)
        return free + scale * (eps(z, t, told) - free)

    return denoiser


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-5)


def _tensor(got: Any, shape: tuple[int, ...], cause: str, hint: str) -> None:
    expect(
        isinstance(got, Tensor) and got.shape == shape,
        f"expected a tensor of shape {shape}, got {getattr(got, 'shape', type(got).__name__)}",
        cause=cause,
        hint=hint,
    )


@exercise("Classifier-free guidance")
def told_louder(answer: Callable[[Eps, Tensor, Tensor, float], Any]) -> None:
    g = Generator().manual_seed(9)
    z, other = (torch.randn(2, 3, 4, 4, generator=g) for _ in range(2))
    t, later = torch.tensor([400, 100]), torch.tensor([900, 30])
    told, nothing = torch.tensor([[3], [7]]), torch.tensor([[10], [10]])
    asked: list[bool] = []

    def eps(z: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        asked.append(True)
        lift = (condition[:, 0] * t).view(-1, 1, 1, 1) / 1000
        return (z + lift).sin() + 0.1 * lift

    guided = answer(eps, told, nothing, 3.0)
    expect(
        callable(guided),
        f"expected a function, got {type(guided).__name__}",
        cause="the noise is worked out at once, or the inner function is called",
        hint="def denoiser(z, t) inside, and return denoiser without brackets",
    )
    expect(
        not asked,
        "the network is asked before anybody has given z and t",
        cause="eps is called outside of the inner function",
        hint="both questions belong inside: z and t change from step to step",
    )
    free, loud = eps(z, t, nothing), eps(z, t, told)
    for scale, wanted, name in ((0.0, free, "told nothing"), (1.0, loud, "told the class")):
        found = answer(eps, told, nothing, scale)(z, t)
        expect(
            _same(found, wanted),
            f"at scale {scale:.0f} it isn't the noise when {name}",
            cause="the two answers are exchanged, the start is missing, or the scale is off by 1",
            hint="start at the noise when told nothing; scale times the difference is added",
        )
    expect(
        _same(guided(z, t), free + 3 * (loud - free)),
        "at scale 3 it isn't three times as far from nothing told as at scale 1",
        cause="the scale is capped, squared, or both answers are mixed with shares",
        hint="free + scale * (difference)",
    )
    expect(
        _same(guided(other, later), louder(eps, told, nothing, 3.0)(other, later)),
        "for other z and t the answer is another one than it should be",
        cause="something is remembered from an earlier call",
        hint="ask eps anew, with the z and t that the inner function gets",
    )


@exercise("The cone")
def agree(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    g = Generator().manual_seed(10)
    a, b = (torch.randn(2, 4, 3, 5, generator=g) for _ in range(2))
    b = (a + 1.4 * b) * torch.rand(2, 1, 3, 5, generator=g) * 3
    got = answer(a.clone(), b.clone(), 60.0)
    _tensor(got, (2, 3, 5), "sums run over another dimension than channels", "sum(1), norm(dim=1)")
    expect(
        got.dtype == torch.bool,
        f"expected bools, got {got.dtype}",
        cause="angles or numbers are returned",
        hint="compare the angle with degrees, and return that",
    )
    flat = torch.tensor([30.0, 80.0]).deg2rad()
    east = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    turned = torch.stack([flat.cos(), flat.sin()]).view(1, 2, 1, 2)
    expect(
        answer(east, turned, 45.0).flatten().tolist() == [True, False],
        "of two vectors, turned by 30° and 80°, a cone of 45° must keep the first",
        cause="radians, a cosine in the place of an angle, or a comparison upside down",
        hint="torch.rad2deg((...).acos()) <= degrees",
    )
    expect(
        not bool(answer(a, -b, 60.0)[consensus(a, b, 60.0)[1]].any()),
        "vectors that point the opposite way agree",
        cause="the sign of the cosine gets lost: abs, or squares",
        hint="opposite vectors are 180° apart",
    )
    expect(
        bool(answer(a, 3 * a, 1.0).all()) and bool(answer(a, -a, 180.0).all()),
        "parallel vectors don't agree within 1°, or opposite ones within 180°",
        cause="products aren't divided by lengths, or rounding takes cosines beyond 1: acos is NaN",
        hint="divide by both lengths, then clamp(-1, 1) before acos",
    )
    zero = a.clone()
    zero[:, :, 1] = 0
    for degrees in (60.0, 180.0):
        for one, two in ((zero, b), (b, zero)):
            expect(
                not bool(answer(one, two, degrees)[:, 1].any()),
                f"a vector of zeros agrees within {degrees:.0f}°",
                cause="its cosine is taken for 0, or its angle, NaN, for 'not above'",
                hint="leave 0 / 0 as NaN, and ask for <=",
            )
    for degrees in (20.0, 60.0, 120.0):
        expect(
            torch.equal(answer(a, b, degrees), consensus(a, b, degrees)[1]),
            f"at {degrees:.0f}° other positions are kept than those within the cone",
            cause="lengths play a role, or the vectors are not the channels of one position",
            hint="the cosine: product over channels, divided by both lengths",
        )


@exercise("Keep, and re-normalise")
def concentrate(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    g = Generator().manual_seed(11)
    wish, like = (torch.randn(3, 4, 3, 5, generator=g) for _ in range(2))
    like = like * torch.tensor([2.0, 0.3, 1.0]).view(3, 1, 1, 1)
    keep = torch.rand(3, 3, 5, generator=g) < 0.4
    given = wish.clone(), keep.clone()
    got = answer(wish, keep, like)
    _tensor(got, (3, 4, 3, 5), "only the kept vectors, or a norm, are returned", "a whole field")
    expect(
        torch.equal(wish, given[0]) and torch.equal(keep, given[1]),
        "a tensor that was handed in has changed",
        cause="an operation in place, such as wish[...] = 0 or *=",
        hint="torch.where makes a new field",
    )
    out = ~keep[:, None].expand_as(wish)
    expect(
        bool((got[out] == 0).all()),
        "there is something left where keep is False",
        cause="the mask isn't applied, or upside down",
        hint="torch.where(keep[:, None], wish, 0.0)",
    )
    expect(
        bool((got[~out] != 0).any()) and bool((got[~out] * wish[~out] >= 0).all()),
        "what is kept doesn't point the way of wish",
        cause="like is returned in its place, or a sign is lost",
        hint="the kept vectors of wish, times one positive number an image",
    )
    lengths, aim = got.flatten(1).norm(dim=1), like.flatten(1).norm(dim=1)
    early = match_norm(wish, like)
    expect(
        not _same(got, apply_mask(early, keep)),
        "the field is quieter than like: what the mask took away is missing",
        cause="it is divided by the norm of all of wish, before the mask",
        hint="the norm of what is left goes into the division",
    )
    alone = torch.cat([answer(wish[i : i + 1], keep[i : i + 1], like[i : i + 1]) for i in range(3)])
    expect(
        _same(got, alone),
        "an image's field depends on the others of its batch",
        cause="one norm for the whole batch",
        hint=".flatten(1).norm(dim=1) has one number an image",
    )
    expect(
        torch.allclose(lengths, aim, rtol=1e-4),
        f"expected norms {[round(v, 2) for v in aim.tolist()]}, got "
        f"{[round(v, 2) for v in lengths.tolist()]}",
        cause="the norm of like is missing, or the division is upside down",
        hint="times the norm of like, divided by that of what is left",
    )
    expect(
        _same(got, match_norm(apply_mask(wish, keep), like)),
        "the norms are right, but vectors have changed their share of the field",
        cause="each position is normalised for itself",
        hint="one factor an image keeps long vectors long",
    )
    nothing = answer(wish, torch.zeros_like(keep), like)
    expect(
        bool((nothing == 0).all()),
        "where nothing is kept, the field isn't zero",
        cause="0 / 0 is NaN",
        hint=".clamp_min(1e-22) for the norm that is divided by",
    )


@exercise("Bisection")
def least(answer: Callable[[Callable[[float], bool], float, int], float]) -> None:
    def run(edge: float, first: float, max_attempts: int) -> tuple[list[float], float]:
        asked: list[float] = []

        def flips(strength: float) -> bool:
            expect(
                len(asked) < max_attempts,
                f"flips is called more than {max_attempts} times",
                cause="it is asked twice about one strength, or once more at the end",
                hint="one call in each round of the loop: it is the expensive part",
            )
            asked.append(float(strength))
            return strength >= edge

        found = answer(flips, first, max_attempts)
        expect(
            isinstance(found, int | float),
            f"expected a number, got {type(found).__name__}",
            cause="nothing is returned, or a list",
            hint="return the lowest success",
        )
        return asked, float(found)

    def told(asked: list[float]) -> str:
        return ", ".join(f"{s:.4g}" for s in asked)

    for edge, way, rule in (
        (0.0, [0.5, 0.25, 0.125, 0.0625], "after a success half of the way down"),
        (2.0, [0.5, 0.75, 0.875, 0.9375], "after a failure half of the way up, to 1 at most"),
        (0.3, [0.5, 0.25, 0.375, 0.3125], "between the highest failure and the lowest success"),
        (0.8, [0.5, 0.75, 0.875, 0.8125], "between the highest failure and the lowest success"),
        (0.2, [0.6, 0.3], "it begins at first"),
    ):
        asked, _ = run(edge, way[0], len(way))
        expect(
            asked == way,
            f"expected the strengths {told(way)}, tried {told(asked)}: {rule}",
            cause="a success or a failure is forgotten, exchanged, or ends with its own round",
            hint="low is the highest failure, high the lowest success, the next is their mean",
        )
    for edge, max_attempts, right in (
        (0.3, 4, 0.3125),
        (0.3, 2, 0.5),
        (0.0, 3, 0.125),
        (0.8, 3, 0.875),
    ):
        asked, found = run(edge, 0.5, max_attempts)
        expect(
            math.isclose(found, right),
            f"after {told(asked)}, flips from {edge} on: expected {right}, got {found:.4g}",
            cause="the last strength is returned, or the next one, or the highest failure",
            hint="only a strength that was seen to flip",
        )
    expect(
        run(2.0, 0.5, 4)[1] == math.inf,
        "where nothing flips, the answer isn't infinity",
        cause="1, or the last strength tried, stands for a success that never was",
        hint='high begins at float("inf"), and only its stand-in in the mean is 1',
    )
