"""Checks of 03_what_changed."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor

from cfxnb.checks.core import exercise, expect

Array = np.ndarray


@exercise("Contribution of a descriptor")
def contribution(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    g = Generator().manual_seed(7)
    start, end = 9 * torch.randn(3, 4, generator=g), 9 * torch.randn(3, 4, generator=g)
    weights, std = torch.randn(4, generator=g), torch.tensor([1.0, 2.0, 0.5, 1.5])
    got = answer(weights, start, end, std)
    wanted = ((end - start) / std) @ weights
    expect(
        isinstance(got, Tensor) and got.shape == (3,),
        f"expected one number per image, shape (3,), got {getattr(got, 'shape', type(got))}",
        cause="coordinates are not summed up",
        hint="change @ weights",
    )
    expect(
        not torch.allclose(got, -wanted, atol=1e-5),
        "the sign is reversed",
        cause="start minus end",
        hint="what changed is end minus start",
    )
    expect(
        bool(got.abs().max() > 1) or bool(wanted.abs().max() <= 1),
        "no value exceeds 1: these look like differences of probabilities",
        cause="the sigmoid saturates, and its differences do not add up along a path",
        hint="use log odds, without a sigmoid",
    )
    expect(
        torch.allclose(got, wanted, atol=1e-4),
        "the values are not weights @ (change in standard deviations)",
        cause="the weights belong to codes divided by std, but the change was not divided",
        hint="((end - start) / std) @ weights",
    )
    middle = (start + end) / 2
    pieces = answer(weights, start, middle, std) + answer(weights, middle, end, std)
    expect(
        torch.allclose(pieces, got, atol=1e-4),
        "the contributions of both halves of the path do not add up",
        cause="a part of the computation is not linear",
        hint="((end - start) / std) @ weights",
    )


@exercise("What no descriptor explains")
def unexplained_fraction(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    weights = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.1, 0.0]])
    inside, outside = torch.tensor([[3.0, -2.0, 0.0]]), torch.tensor([[0.0, 0.0, 5.0]])
    both = answer(torch.cat([outside, inside]), weights)
    expect(
        isinstance(both, Tensor) and both.shape == (2,),
        f"expected one fraction per image, shape (2,), got {getattr(both, 'shape', type(both))}",
        cause="the squares are summed over the batch too",
        hint=".square().sum(1), of the projection and of the change",
    )
    got_out, got_in = both.tolist()
    expect(
        got_out < 1.01,
        f"a fraction cannot exceed 1: got {got_out:.3f}",
        cause="the squared length of the remaining part is not divided by that of the change",
        hint="1 - |projection|^2 / |change|^2",
    )
    expect(
        got_out > 0.99,
        f"a change at right angles to all weights is unexplained: expected 1, got {got_out:.3f}",
        cause="the explained fraction is returned, or a projection on the wrong space",
        hint="1 - |projection|^2 / |change|^2",
    )
    expect(
        abs(got_in) < 1e-3,
        f"a change inside the span of the weights is explained: expected 0, got {got_in:.3f}",
        cause="the two weights are not orthogonal, so the sum of two projections counts twice",
        hint="torch.linalg.qr(weights.T) gives an orthonormal basis of the span",
    )
    half = float(answer(torch.tensor([[1.0, 0.0, 1.0]]), weights))
    expect(
        abs(half - 0.5) < 1e-3,
        f"half of the squared length lies in the span: expected 0.5, got {half:.3f}",
        cause="lengths are compared, not squared lengths",
        hint="fractions of squared lengths add up to 1 (Pythagoras)",
    )


@exercise("Remove a component")
def remove_component(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    change = torch.tensor([[3.0, 4.0], [1.0, 0.0], [-4.0, 3.0]])
    direction = torch.tensor([1.2, 1.6])
    kept = change.clone()
    got = answer(change, direction)
    expect(
        torch.equal(change, kept),
        "the change that was handed in was written to",
        cause="an operation in place, such as -=",
        hint="return change - ...",
    )
    expect(
        isinstance(got, Tensor) and got.shape == change.shape,
        f"expected the shape of the change, (3, 2), got {getattr(got, 'shape', type(got))}",
        cause="the product with the direction sums over the batch",
        hint="(change @ d)[:, None] * d has the shape of the change",
    )
    expect(
        bool((got @ direction).abs().max() < 1e-5),
        f"something is left along the direction: {float((got @ direction).abs().max()):.2f}",
        cause="the direction is not divided by its length, or the component is kept, not removed",
        hint="d = direction / direction.norm(); change - (change @ d)[:, None] * d",
    )
    expect(
        torch.allclose(got, torch.tensor([[0.0, 0.0], [0.64, -0.48], [-4.0, 3.0]]), atol=1e-5),
        "the part orthogonal to the direction has changed too",
        cause="coordinates or the full change are set to zero",
        hint="subtract only the component along the direction",
    )


@exercise("A global score that uses each original")
def global_score(answer: Callable[[Array, Array], Array]) -> None:
    rng = np.random.default_rng(8)
    before = rng.normal(size=(40, 3)) + np.array([0.0, 5.0, -3.0])
    after = before + np.array([1.0, 0.0, -2.0]) + 0.1 * rng.normal(size=(40, 3))
    got = np.asarray(answer(before, after))
    expect(
        got.shape == (3,),
        f"expected one score per descriptor, shape (3,), got {got.shape}",
        cause="the mean runs over descriptors",
        hint="mean over axis 0, the images",
    )
    expect(
        abs(got[1]) < 0.5,
        f"the second descriptor never changes, but scores {got[1]:.2f}",
        cause="the counterfactuals alone are averaged, or one fixed original is subtracted",
        hint="subtract each image's own original: after - before, row by row",
    )
    expect(
        abs(got[0] - 1) < 0.2 and abs(got[2] + 2) < 0.2,
        f"the changes are 1 and -2; got {got[0]:.2f} and {got[2]:.2f}",
        cause="the sign is reversed, or absolute values are averaged",
        hint="(after - before).mean(0)",
    )


@exercise("A permutation null")
def shuffled_scores(answer: Callable[..., Array]) -> None:
    rng = np.random.default_rng(9)
    before, after = rng.normal(size=(30, 2)), rng.normal(size=(30, 2))
    kept = before.copy()

    def std(b: Array, a: Array) -> Array:
        return (a - b).std(0)

    got = np.asarray(answer(std, before, after, 200, 0))
    expect(
        np.array_equal(before, kept),
        "the originals that were handed in are now shuffled",
        cause="rng.shuffle works in place",
        hint="rng.permutation(before) returns a shuffled copy",
    )
    expect(
        got.shape == (200, 2),
        f"expected 200 shuffles of two scores, shape (200, 2), got {got.shape}",
        cause="only one shuffle, or its mean, is returned",
        hint="np.stack([... for _ in range(n_resamples)])",
    )
    expect(
        got.std(0).min() > 1e-3,
        "all shuffles give the same score",
        cause="both are shuffled together, or neither, or each round makes a new generator",
        hint="make one generator before the loop, and shuffle only the originals in it",
    )
    column = np.asarray(answer(lambda b, a: np.array([np.ptp(b @ [1, 2])]), before, after, 20, 0))
    expect(
        np.allclose(column, np.ptp(before @ [1, 2])),
        "complete rows must be shuffled, not single values",
        cause="values are shuffled within columns or rows, or rows are drawn with replacement",
        hint="rng.permutation(before) shuffles complete rows",
    )
    again = np.asarray(answer(std, before, after, 200, 0))
    expect(
        np.array_equal(got, again),
        "the same seed gives other shuffles",
        cause="the generator is not made from the seed",
        hint="rng = np.random.default_rng(seed)",
    )
