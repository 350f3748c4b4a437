"""Checks of 03_what_changed."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch import Generator, Tensor

from cfxnb import data, weights
from cfxnb.attacks.describe_change import describe_change, permutation_null
from cfxnb.attacks.descriptors import fit_descriptors
from cfxnb.attacks.latent_attack import latent_attack
from cfxnb.checks.core import (
    exercise,
    expect,
    expect_none_of,
    expect_pair,
    expect_tensor,
    near,
    same,
)
from cfxnb.core.tensors import standardise
from cfxnb.core.types import Code

Array = np.ndarray
#: Largest difference of two contributions, and of two fractions, that count as the same.
TOLERANCE, FRACTION_TOLERANCE = 0.1, 0.01


def _sample(n: int = 120, d: int = 3) -> tuple[Tensor, Tensor]:
    """Return codes (n, d) and answers (n,) that follow a logistic model with a bias."""
    g = Generator().manual_seed(3)
    u = torch.randn(n, d, generator=g)
    odds = u @ torch.tensor([2.0, -1.0, 0.5]) + 1.0
    return u, torch.rand(n, generator=g) < odds.sigmoid()


@exercise("The gradient of the loss")
def loss_gradient(answer: Callable[..., Tensor]) -> None:
    u, labels = _sample(20)
    x, y = torch.cat([u, torch.ones(20, 1)], 1), labels.float()
    w = torch.tensor([0.5, -1.0, 2.0, 0.7])
    given = w.clone()
    got = answer(w, x, y, 3.0)
    expect(
        torch.equal(w, given),
        "the weights that were handed in have changed",
        cause="an entry of `w` itself was set to 0. Did you make a copy first?",
        hint="l2 * w is a new tensor, and its last entry can be set to 0",
    )
    expect_tensor(
        got,
        (4,),
        "is the result one number per weight, or one row per image?",
        "x.T @ (p - y) sums over the images",
        "one number per weight, shape (4,)",
    )
    p = (x @ w).sigmoid()
    fit, penalty = x.T @ (p - y), 3.0 * torch.tensor([0.5, -1.0, 2.0, 0.0])
    wrong = {
        "the sign is reversed: this is the gradient of the likelihood": (
            -fit + penalty,
            "which of the two comes first in the difference, probability or answer?",
        ),
        "all signs are reversed": (-fit - penalty, "is the loss minimised or maximised?"),
        "the bias is penalised": (
            fit + 3.0 * w,
            "the penalty in the formula ends with 0. Which entry of w is the bias?",
        ),
        "there is no penalty": (fit, "where is l2?"),
        "the fit is averaged over the images": (
            fit / 20 + penalty,
            "is the loss in the formula a sum or a mean?",
        ),
        "log odds are compared with the answers": (
            x.T @ (x @ w - y) + penalty,
            "which function turns log odds into probabilities?",
        ),
        "the penalty counts twice": (
            fit + 2 * penalty,
            "the loss has one half of the squares. What is its derivative?",
        ),
    }
    hint = "x.T @ (p - y), plus l2 * w without the bias"
    expect_none_of(wrong, lambda v: same(got, v), hint=hint)
    expect(
        same(got, fit + penalty),
        "the values are not the gradient of the loss",
        cause="compare each term with the last formula above the exercise",
        hint=hint,
    )


@exercise("Fit a descriptor")
def fit_descriptor(answer: Callable[..., tuple[Tensor, Tensor]]) -> None:
    u, y = _sample()
    got = expect_pair(answer(u, y), "weights and bias")
    expect_tensor(
        got[0],
        (3,),
        "are weights and bias separated?",
        "the last entry of w is the bias: w[:-1], w[-1]",
        "weights of shape (3,)",
    )
    bias = torch.as_tensor(got[1]).detach()
    expect(
        bias.numel() == 1,
        f"expected a bias with one number, got shape {tuple(bias.shape)}",
        cause="are weights and bias separated?",
        hint="the last entry of w is the bias: w[:-1], w[-1]",
    )
    expect(
        bool(got[0].isfinite().all()),
        "the weights are not finite",
        cause="is a step added instead of subtracted, or is the curvature computed at an old p?",
        hint="w = w - torch.linalg.solve(H, gradient), with p computed anew in each step",
    )

    def best(l2: float, intercept: bool = True) -> Tensor:
        model = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=5000, fit_intercept=intercept)
        model.fit(u.double().numpy(), y.numpy())
        return torch.tensor([*model.coef_[0], *np.atleast_1d(model.intercept_)])

    found = torch.cat([got[0].detach(), bias.reshape(1).to(got[0])]).double()

    def close(a: Tensor, b: Tensor) -> bool:
        return same(a, b, rtol=1e-3, atol=3e-3)

    first = expect_pair(answer(u, y, 1.0, 1), "weights and bias")
    once = torch.cat([first[0].detach(), torch.as_tensor(first[1]).detach().reshape(1)]).double()
    wrong = {
        "the weights point the other way": (-best(1.0), "which answers count as 1?"),
        "the weights have no penalty": (best(1e-9), "does H, does the gradient, know l2?"),
        "the bias is 0, as in a model without a bias": (
            best(1.0, intercept=False),
            "has each code a 1 as last entry?",
        ),
    }
    hint = "H = (x * (p * (1 - p))[:, None]).T @ x + the penalty on the diagonal"
    expect_none_of(wrong, lambda v: close(found, v), hint=hint)
    expect(
        not close(found, once) or close(found, best(1.0)),
        "the weights are those after a single step",
        cause="is w updated in each round of the loop, and the return outside of the loop?",
        hint="w = w - step, inside of the loop",
    )
    expect(
        close(found, best(1.0)),
        f"the minimum is at {_texts(best(1.0))}, but the weights and the bias are {_texts(found)}",
        cause="is the matrix of second derivatives as in the formula, and enough steps taken?",
        hint=hint,
    )
    strong = expect_pair(answer(u, y, 20.0), "weights and bias")
    expect(
        close(strong[0].detach().double(), best(20.0)[:-1]),
        "with l2 = 20 the weights are not those of the minimum",
        cause="is the number l2 used in the gradient and in H?",
        hint=hint,
    )


def _texts(values: Tensor) -> str:
    return ", ".join(f"{v:.2f}" for v in values.tolist())


@exercise("The AUC")
def auc(answer: Callable[[Tensor, Tensor], float]) -> None:
    scores = torch.tensor([0.1, 0.4, 0.4, 0.8, -3.0, 0.3, -1.0])
    y = torch.tensor([False, True, False, True, True, False, False])
    got = answer(scores, y)
    expect(
        isinstance(got, float) or getattr(got, "numel", lambda: 0)() == 1,
        f"expected one number, got {getattr(got, 'shape', type(got).__name__)}",
        cause="is the mean taken over all pairs?",
        hint="compare a column with a row, and take the mean of the matrix",
    )
    value = float(got)
    wrong = {
        "equal scores count as won": (8 / 12, "how much does a pair with equal scores count?"),
        "equal scores count as lost": (7 / 12, "how much does a pair with equal scores count?"),
        "the pairs are compared the other way round": (
            4.5 / 12,
            "which image should have the larger score?",
        ),
        "this is the fraction of correct answers": (
            float(((scores > 0) == y).double().mean()),
            "an AUC compares pairs of images, and needs no threshold",
        ),
        "the pairs are counted": (7.5, "by which number is the sum divided?"),
    }
    hint = "scores[y][:, None] > scores[~y], plus one half where both are equal"
    expect_none_of(wrong, lambda v: near(value, v), hint=hint)
    expect(
        near(value, 7.5 / 12),
        f"7.5 of 12 pairs are in the right order, expected {7.5 / 12:.3f}, got {value:.3f}",
        cause="which pairs are compared: all with one image above and one below?",
        hint=hint,
    )


@exercise("Contribution of a descriptor")
def contribution(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    g = Generator().manual_seed(7)
    start, end = 9 * torch.randn(3, 4, generator=g), 9 * torch.randn(3, 4, generator=g)
    w, std = torch.randn(4, generator=g), torch.tensor([1.0, 2.0, 0.5, 1.5])
    got = answer(w, start, end, std)
    exact = ((end - start) / std) @ w
    expect_tensor(
        got,
        (3,),
        "are the coordinates of each image summed up?",
        "change @ weights",
        "one number per image, shape (3,)",
    )
    hint = "the change in standard deviations, @ weights"
    wrong = {
        "the sign is reversed": (-exact, "which code is subtracted from which?"),
        "the change is not in standard deviations": (
            (end - start) @ w,
            "in which unit are the codes that the weights belong to?",
        ),
        "the change is multiplied by the standard deviations": (
            ((end - start) * std) @ w,
            "how many standard deviations is a change of 1, if the standard deviation is 2?",
        ),
        "this is the size of the contribution, without its sign": (
            exact.abs(),
            "a property can become larger or smaller. Which one is it?",
        ),
        "this is the reading after the change": (
            (end / std) @ w,
            "what was the reading before the change?",
        ),
    }
    expect_none_of(wrong, lambda v: same(got, v), hint=hint)
    expect(
        bool(got.abs().max() > 1),
        "no value exceeds 1: these look like differences of probabilities",
        cause="probabilities saturate, and their differences do not add up along a path",
        hint="use log odds, without a sigmoid",
    )
    expect(
        same(got, exact),
        "the values are not the changes of the log odds",
        cause="compare with the formula above the exercise: which symbol is missing?",
        hint=hint,
    )


@exercise("The part that has a name")
def project(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    w = torch.tensor([[2.0, 2.0, 0.0, 0.0], [1.0, 1.5, 0.0, 0.0]])
    change = torch.tensor([[0.0, 0.0, 5.0, 1.0], [3.0, -2.0, 0.0, 0.0], [1.0, 0.0, 1.0, 2.0]])
    given = change.clone()
    got = answer(change, w)
    expect(
        torch.equal(change, given),
        "the change that was handed in was written to",
        cause="an operation in place, such as -=",
        hint="compute a new tensor",
    )
    expect_tensor(
        got,
        (3, 4),
        "is the part returned as a change, or as coefficients of the weights?",
        "multiply the coefficients by the weights",
        "the shape of the change, (3, 4)",
    )
    exact = torch.tensor([[0.0, 0, 0, 0], [3, -2, 0, 0], [1, 0, 0, 0]])
    unit = w / w.norm(dim=1, keepdim=True)
    wrong = {
        "this is the rest, which has no name": (
            change - exact,
            "which part lies in the span of the weights?",
        ),
        "similar weights count twice": (
            change @ unit.T @ unit,
            "the components along weights that are not perpendicular cannot be added",
        ),
        "the weights are used as if they had length 1 and were perpendicular": (
            change @ w.T @ w,
            "which matrix corrects for lengths and angles of the weights?",
        ),
    }
    hint = "solve (W W^T) c = W u, and return W^T c; or use a basis from torch.linalg.qr"
    expect_none_of(wrong, lambda v: same(got, v, atol=1e-3), hint=hint)
    expect(
        bool(got[0].abs().max() < 1e-3),
        "a change perpendicular to all weights has no part in their span, but one is returned",
        cause="is the result in the span of the weights?",
        hint=hint,
    )
    expect(
        same(got[1], exact[1], atol=1e-3),
        "a change in the span of the weights is its own part, but another one is returned",
        cause="are all weights used, and are their lengths and angles taken into account?",
        hint=hint,
    )
    expect(
        same(got, exact, atol=1e-3),
        "the rest is not perpendicular to the weights",
        cause="compare with the formula of the part with a name",
        hint=hint,
    )


_known: dict[str, Any] = {}


def _digits() -> dict[str, Any]:
    """Return what the check of exercise 6 needs: codes, labels, and the library's answer."""
    if _known:
        return _known
    space, classifier = (weights.load(f"digits/{n}", device="cpu") for n in ("vae", "classifier"))
    train = data.digits("train")[:1500]
    fours = data.digits("test").select(4).images[:8]
    attack = latent_attack(space, classifier, fours, 9, restarts=0)
    attack = attack[attack.flipped]
    fitted = fit_descriptors(space, train.images, train.factors)
    codes = torch.cat([space.encode(part).z for part in train.images.split(500)])
    labels = train.factors > fitted.quality["threshold"]
    rng = np.random.default_rng(0)
    held_out = torch.zeros(len(codes), dtype=torch.bool)
    held_out[rng.permutation(len(codes))[: round(0.3 * len(codes))]] = True
    labels["coin"] = rng.random(len(labels)) > 0.5
    library = describe_change(attack, fitted, n_resamples=1)
    before, after = cast(Code, attack.code_before), cast(Code, attack.code_after)
    _known.update(
        space=space,
        s=standardise(codes - space.mean, space.std),
        labels=labels,
        held_out=held_out,
        z0=before.z,
        z=after.z,
        weights=fitted.weights[[fitted.names.index(n) for n in library.local]],
        library=library,
    )
    return _known


@exercise("Your description of a change")
def my_describe_change(answer: Callable[..., tuple[Any, Tensor, Tensor]]) -> None:
    known = _digits()
    library = known["library"]
    arguments = [known[k] for k in ("space", "s", "labels", "held_out", "z0", "z")]
    columns = list(library.local)
    got = answer(*arguments)
    expect(
        isinstance(got, tuple | list) and len(got) == 3,
        f"expected contributions, unexplained fractions and weights, got {type(got).__name__}",
        cause="are all three parts returned?",
        hint="return pd.DataFrame(found), unexplained, weights",
    )
    table, unexplained, w = got
    expect(
        isinstance(table, pd.DataFrame) and len(table) == len(library.local),
        f"expected a table with one row per changed image, {len(library.local)} rows, "
        f"got {getattr(table, 'shape', type(table).__name__)}",
        cause="is the first part a DataFrame with one column per property?",
        hint="found[name] = contribution(...), and pd.DataFrame(found)",
    )
    expect(
        "coin" not in table,
        "the coin has a column, although nobody can read it from the code",
        cause="are the AUC computed on held-out images and the limit min_auc used?",
        hint="fit on ~held_out, test on held_out, and keep a column only if auc(...) >= min_auc",
    )
    missing = [name for name in columns if name not in table]
    expect(
        not missing,
        f"readable properties are missing: {', '.join(missing)}",
        cause="is the AUC computed with scores and answers of the same images?",
        hint="auc(s[held_out] @ w + b, y[held_out])",
    )
    values = table[columns].to_numpy(dtype=float)
    exact = library.local.to_numpy()
    expect(
        np.abs(values + exact).max() > TOLERANCE,
        "the sign of all contributions is reversed",
        cause="which code is the start, and which is the end?",
        hint="contribution(w, z0, z, space.std)",
    )
    apart = np.abs(values - exact).max()
    expect(
        bool(apart <= TOLERANCE),
        f"a contribution differs from the library's by {apart:.2f} in log odds",
        cause="is the descriptor fitted only on images that are not held out, with its own labels?",
        hint="fit_descriptor(s[~held_out], y[~held_out]), then contribution(w, z0, z, space.std)",
    )
    expect_tensor(
        unexplained,
        (len(library.local),),
        "is there one fraction per image?",
        "sum squares over dimension 1",
        "one fraction per image",
    )
    fractions = torch.tensor(library.unexplained.to_numpy())
    far = float((unexplained.detach() - fractions).abs().max())
    flipped = float((1 - unexplained.detach() - fractions).abs().max())
    root = float((unexplained.detach() ** 2 - fractions).abs().max())
    hint = "project the change in standard deviations, and compare squared lengths"
    expect(
        flipped > FRACTION_TOLERANCE,
        "the second part is the explained fraction",
        cause="is it the part with a name, or the rest?",
        hint=hint,
    )
    expect(
        root > FRACTION_TOLERANCE or far <= FRACTION_TOLERANCE,
        "lengths are compared, not squared lengths",
        cause="which quantities add up to 1, by Pythagoras?",
        hint=hint,
    )
    expect(
        far <= FRACTION_TOLERANCE,
        f"an unexplained fraction differs from the library's by {far:.2f}",
        cause="is the change in standard deviations, and are only readable descriptors used?",
        hint=hint,
    )
    expect_tensor(
        w,
        (table.shape[1], known["s"].shape[1]),
        "is there one row of weights per column of the table?",
        "torch.stack(weights)",
        f"weights of shape {(table.shape[1], known['s'].shape[1])}",
    )


@exercise("Random axes")
def random_axes(answer: Callable[[Tensor, int], Tensor]) -> None:
    used = torch.tensor([True, False, True, True, False, True])
    got = answer(used, 0)
    expect_tensor(
        got,
        (6, 6),
        "are the unused coordinates left out, although the matrix has a row for each coordinate?",
        "start with torch.eye(len(used)), and fill in the block of the used coordinates",
        "a matrix of shape (6, 6)",
    )
    eye = torch.eye(6)
    lost = got[~used].norm() < 1e-6 or got[:, ~used].norm() < 1e-6
    expect(
        not bool(lost),
        "unused coordinates have no axis of their own",
        cause="what does the identity have at the place of an unused coordinate?",
        hint="start with torch.eye(len(used))",
    )
    expect(
        same(got[~used], eye[~used]) and same(got[:, ~used], eye[:, ~used]),
        "the axes mix used and unused coordinates",
        cause="are only the rows and columns of used coordinates random, in their own places?",
        hint="axes[places, places.T] = block, with places = used.nonzero()",
    )
    expect(
        not same(got, eye),
        "the axes are the coordinates themselves",
        cause="is the random block written to the places of the used coordinates?",
        hint="axes[places, places.T] = block",
    )
    expect(
        same(got.T @ got, eye),
        "the axes are not perpendicular to each other, or not of length 1",
        cause="is the block a matrix of random numbers, or an orthogonal one?",
        hint="torch.linalg.qr(...).Q",
    )
    expect(
        same(got, answer(used, 0)),
        "the same seed gives other axes",
        cause="is the generator made from the seed?",
        hint="torch.Generator().manual_seed(seed)",
    )
    expect(
        not same(got, answer(used, 1)),
        "another seed gives the same axes",
        cause="is the generator made from the seed?",
        hint="torch.Generator().manual_seed(seed)",
    )


class Bar:
    """A space whose images are codes between -10 and 10, and a classifier with two classes."""

    mean = torch.zeros(2)
    std = torch.tensor([2.0, 0.5])

    @staticmethod
    def decode(code: Code) -> Tensor:
        return (code.z.view(-1, 1, 1, 2) + 10) / 20

    @staticmethod
    def classify(image: Tensor) -> Tensor:
        """Class 1 if the first coordinate of the code is larger than 1."""
        odds = 4 * (20 * image.reshape(-1, 2)[:, 0] - 11)
        return torch.stack([torch.zeros_like(odds), odds], 1)


@exercise("Ablate a part")
def ablate_part(answer: Callable[..., tuple[float, float]]) -> None:
    z0 = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.5, 0.0], [0.0, 0.0], [-9.0, 0.0]])
    change = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.6, 0.3], [1.2, 0.0], [1.0, 0.0]])
    part = torch.tensor([[0.9, 1.0], [0.3, 0.0], [0.2, 0.0], [0.4, 0.0], [0.9, 0.0]])
    target = torch.ones(5, dtype=torch.long)
    got = expect_pair(answer(Bar, Bar.classify, z0, change, part, target), "two fractions")
    expect(
        all(torch.as_tensor(x).numel() == 1 for x in got),
        "expected two numbers, got one value per image",
        cause="is the mean over the images computed?",
        hint="(read == target).double().mean()",
    )
    without, alone = map(float, got)
    wrong = {
        "the two fractions are exchanged": ((0.2, 0.6), "which one is without the part?"),
        "the change of the code has the wrong unit": (
            (0.0, 0.0),
            "a change is in standard deviations. In which unit are codes?",
        ),
        "the original is forgotten": (
            (0.4, 0.4),
            "a change is added to which code?",
        ),
        "these are the fractions of the other images": (
            (0.4, 0.8),
            "does the classifier read the target, or not?",
        ),
    }
    hint = "decode z0 + space.std * (change - part), and z0 + space.std * part"
    expect_none_of(wrong, lambda v: near(without, v[0]) and near(alone, v[1]), hint=hint)
    expect(
        near(without, 0.6),
        f"without the part 3 of 5 images are read as the target, but the fraction is {without:.2f}",
        cause="which change is left if the part is taken out?",
        hint=hint,
    )
    expect(
        near(alone, 0.2),
        f"with the part alone 1 of 5 images is read as the target, but the fraction is {alone:.2f}",
        cause="is the part the only change?",
        hint=hint,
    )
    zeros = torch.zeros(5, dtype=torch.long)
    other = expect_pair(answer(Bar, Bar.classify, z0, change, part, zeros), "two fractions")
    expect(
        near(float(other[0]), 0.4),
        "the target of the images is not used",
        cause="with which class is the classifier's decision compared?",
        hint="compare the class with the largest logit with `target`",
    )


@exercise("Prune a change")
def prune(answer: Callable[..., Tensor]) -> None:
    u = torch.tensor(
        [
            [0.2, -0.5, 1.3, 0.0],  # part 1 works against the target: a second pass removes part 0
            [1.0, 0.9, 0.3, -0.2],  # the smallest parts go first
            [0.4, 0.3, 0.2, -0.1],  # nothing can be removed
            [0.6, 0.5, 0.3, -1.0],  # the largest part is negative
        ]
    )
    helps = torch.tensor([1.0, 1.0, 1.0, -1.0])
    given = u.clone()
    calls = []

    def reaches(parts: Tensor) -> Tensor:
        calls.append(parts.detach().clone())
        return (parts * helps).sum(1) >= 0.999

    got = answer(reaches, u)
    expect(
        torch.equal(u, given),
        "the changes that were handed in have been written to",
        cause="is `u` copied before parts are set to 0?",
        hint="kept = u.clone()",
    )
    expect_tensor(
        got,
        (4, 4),
        "are the changes returned, or the number of their parts?",
        "return kept",
        "pruned changes of shape (4, 4)",
    )
    expect(
        bool(((got == 0) | (got == u)).all()),
        "an entry is neither 0 nor the entry of u",
        cause="parts are removed completely, or kept as they are",
        hint="trial[rows, column] = 0",
    )
    expect(
        bool(((got * helps).sum(1) >= 0.999).all()),
        "a pruned change does not reach the target any more",
        cause="is a part taken back if the trial fails, for each image on its own?",
        hint="torch.where(reaches(trial)[:, None], trial, kept)",
    )
    expect(
        not same(got, u),
        "nothing was removed",
        cause="is the result of a successful trial kept?",
        hint="kept = torch.where(reaches(trial)[:, None], trial, kept)",
    )
    once = torch.tensor([[0.2, 0, 1.3, 0], [1.0, 0, 0, 0], [0.4, 0.3, 0.2, -0.1], [0, 0, 0, -1.0]])
    expect(
        not same(got, once),
        "in the first image another part can be removed",
        cause="after one pass, a part that was needed before may have become unnecessary",
        hint="repeat passes until a whole pass removes nothing",
    )
    exact = once.clone()
    exact[0, 0] = 0
    spare = any(
        bool(((got[i] != 0) & ((got[i] * helps).sum() - got[i] * helps >= 0.999)).any())
        for i in range(len(u))
    )
    expect(
        not spare,
        "a part is left that can be removed",
        cause="does each pass try all parts of each image?",
        hint="one trial per column of the order, and passes until nothing changes",
    )
    expect(
        same(got, exact),
        "the result is 1-minimal, but parts were not tried from the smallest to the largest",
        cause="is the order that of the absolute values, in each image?",
        hint="u.abs().argsort(1)",
    )
    expect(
        len(calls) <= 24,
        f"expected at most 24 calls of reaches for 4 parts, got {len(calls)}",
        cause="is each image handled in a loop, although one call takes all images?",
        hint="a trial removes one part of every image at the same time",
    )


@exercise("A sparse counterfactual")
def sparse_counterfactual(answer: Callable[..., tuple[Tensor, Tensor]]) -> None:
    z0 = torch.tensor([[0.0, 0.0], [0.8, 0.0], [0.0, 1.0]])
    change = torch.tensor([[1.0, 0.5], [0.9, -0.4], [0.65, 0.2]])
    target = torch.ones(3, dtype=torch.long)
    eye = torch.eye(2)
    plain = expect_pair(
        answer(Bar, Bar.classify, z0, change, target, eye), "changes and numbers of parts"
    )
    expect_tensor(
        plain[0],
        (3, 2),
        "is the first part the pruned change?",
        "return parts @ axes.T, and the number of parts",
        "changes of shape (3, 2)",
    )
    exact = change * torch.tensor([1.0, 0.0])
    hint = "prune change @ axes, with a function that moves the codes by parts @ axes.T"
    expect(
        not same(plain[0], exact * Bar.std),
        "the change is in units of the code",
        cause="in which unit is the result expected?",
        hint=hint,
    )
    expect(
        same(plain[0], exact),
        "along the coordinates, only the first part of each change is needed",
        cause="which codes does your `reaches` decode, and what does it compare?",
        hint=hint,
    )
    expect(
        isinstance(plain[1], Tensor) and plain[1].tolist() == [1, 1, 1],
        f"expected one part in each image, got {plain[1]}",
        cause="are the parts counted that are not 0, for each image?",
        hint="(parts != 0).sum(1)",
    )
    angle = torch.tensor(0.6)
    turned = torch.stack(
        [torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]
    )
    parts = change @ turned
    kept = parts.clone()
    kept[1, 1] = 0  # the only part that the target does not need along these axes
    got = expect_pair(
        answer(Bar, Bar.classify, z0, change, target, turned), "changes and numbers of parts"
    )
    best = _pruned(parts, z0, turned)
    wrong = {
        "the parts are returned, and not the change": (
            best,
            "parts belong to the axes. How do they become a change again?",
        ),
        "the axes are turned the wrong way": (
            _pruned(change @ turned.T, z0, turned.T) @ turned,
            "the columns of the matrix are the axes. Is the transposed matrix used where needed?",
        ),
        "the axes are ignored": (exact, "are parts computed with `axes`?"),
    }
    expect_none_of(wrong, lambda v: same(got[0], v), hint=hint)
    expect(
        same(got[0], best @ turned.T),
        "along turned axes the pruned changes are not as expected",
        cause="is the change turned into parts before pruning, and back afterwards?",
        hint=hint,
    )
    sure = expect_pair(
        answer(Bar, Bar.classify, z0[1:2], torch.tensor([[0.2, 0.0]]), target[:1], eye, 0.1),
        "changes and numbers of parts",
    )
    expect(
        same(sure[0], torch.zeros(1, 2)),
        "with a confidence of 0.1 the original reaches the target, so no part is needed",
        cause="is the probability of the target compared with `confidence`?",
        hint="p.gather(1, target[:, None]).squeeze(1) >= confidence",
    )


def _pruned(parts: Tensor, z0: Tensor, axes: Tensor) -> Tensor:
    """Return parts that are pruned for the classifier of ``Bar``, image by image."""
    kept = parts.clone()
    for i in range(len(parts)):
        for _ in range(len(parts)):
            for j in parts[i].abs().argsort():
                trial = kept[i].clone()
                trial[j] = 0
                if z0[i, 0] + Bar.std[0] * (axes @ trial)[0] >= 1:
                    kept[i] = trial
    return kept


def _readings() -> tuple[Array, Array]:
    rng = np.random.default_rng(8)
    before = rng.normal(size=(40, 3)) * np.array([1.0, 3.0, 1.0]) + np.array([0.0, 5.0, -3.0])
    noise = 0.5 * rng.normal(size=(40, 3))
    return before, before + np.array([1.0, 0.0, -2.0]) + noise


@exercise("A score that depends on the pairing")
def paired_t(answer: Callable[[Array, Array], Array]) -> None:
    before, after = _readings()
    got = np.asarray(answer(before, after))
    expect(
        got.shape == (3,),
        f"expected one score per property, shape (3,), got {got.shape}",
        cause="do mean and standard deviation run over the images?",
        hint="mean over axis 0",
    )
    d = after - before
    mean, sd = d.mean(0), d.std(0, ddof=1)
    wrong = {
        "the sign is reversed": (
            -mean / (sd / 40**0.5),
            "what changed is the reading after, compared with the reading before",
        ),
        "this is the mean change, without its standard error": (
            mean,
            "by what is the mean divided?",
        ),
        "the mean is divided by the standard deviation": (
            mean / sd,
            "the standard error of a mean falls with the number of images. How?",
        ),
        "the standard deviation is computed with n": (
            mean / (d.std(0) / 40**0.5),
            "which value of ddof belongs to n - 1?",
        ),
        "the pairing is not used": (
            mean / np.sqrt((before.var(0, ddof=1) + after.var(0, ddof=1)) / 40),
            "the standard deviation is that of the differences",
        ),
    }
    hint = "mean(0) of the differences, divided by std(0, ddof=1) / sqrt(n)"
    expect_none_of(wrong, lambda v: bool(np.allclose(got, v, rtol=1e-4)), hint=hint)
    expect(
        bool(np.allclose(got, mean / (sd / 40**0.5), rtol=1e-4)),
        "the values are not the mean change divided by its standard error",
        cause="compare with the formula: mean, standard deviation, number of images",
        hint=hint,
    )


@exercise("The permutation test")
def p_values(answer: Callable[..., Array]) -> None:
    rng = np.random.default_rng(9)
    before, after = rng.normal(size=(30, 2)), rng.normal(size=(30, 2))
    after[:, 1] = before[:, 1] + 0.2 * after[:, 1]  # only the second property has pairs
    kept = before.copy(), after.copy()
    shuffled = []

    def score(b: Array, a: Array) -> Array:
        shuffled.append(b.copy())
        return (a - b).std(0)

    got = np.asarray(answer(score, before, after, 200, 0))
    expect(
        np.array_equal(before, kept[0]) and np.array_equal(after, kept[1]),
        "the readings that were handed in are now shuffled",
        cause="which of the two methods of a generator works in place?",
        hint="rng.permutation(before) returns a shuffled copy",
    )
    expect(
        got.shape == (2,),
        f"expected one p-value per property, shape (2,), got {got.shape}",
        cause="is the number of shuffled scores counted for each property?",
        hint="sum over axis 0, the shuffles",
    )
    orders = {tuple(b[:, 0]) for b in shuffled}
    expect(
        len(orders) >= 150,
        f"200 shuffles gave only {len(orders)} different orders",
        cause="is the generator made anew in each round, or are the originals not shuffled?",
        hint="make one generator before the loop, and shuffle only the originals in it",
    )
    whole = {tuple(sorted(row)) for row in kept[0]}
    rows_kept = all({tuple(sorted(row)) for row in b} == whole for b in shuffled)
    expect(
        rows_kept,
        "complete rows must be shuffled, each exactly once",
        cause="are values shuffled within columns, or are rows drawn with replacement?",
        hint="rng.permutation(before) shuffles complete rows",
    )
    exact = permutation_null(score, before, after, n_resamples=200)["p"].to_numpy()
    expect(
        bool((got > 0).all()),
        "a p-value is 0, although the true order is one of the possible orders",
        cause="which 1 is missing in the numerator and in the denominator?",
        hint="(1 + count) / (1 + n_resamples)",
    )
    expect(
        bool((got <= 1).all()),
        "a p-value is larger than 1",
        cause="is the count divided by the number of shuffles?",
        hint="(1 + count) / (1 + n_resamples)",
    )
    expect(
        bool(got[1] < 0.05),
        "the second property depends on the pairing, but its p-value is large",
        cause="are the scores counted that are as far away as the true one, or those that are not?",
        hint="count the shuffled scores with a distance of at least that of the true score",
    )
    expect(
        bool(abs(got[0] - exact[0]) < 0.12),
        f"the first property has the p-value {exact[0]:.2f}, got {got[0]:.2f}",
        cause="is the distance from the mean of the shuffled scores used, on both sides?",
        hint="absolute distances from draws.mean(0)",
    )
    again = np.asarray(answer(score, before, after, 200, 0))
    expect(
        np.array_equal(got, again),
        "the same seed gives other p-values",
        cause="is the generator made from the seed?",
        hint="rng = np.random.default_rng(seed)",
    )
    expect(
        bool(
            np.isclose((got * 201) % 1, 0, atol=1e-6).all()
            | np.isclose((got * 201) % 1, 1, atol=1e-6).all()
        ),
        "the p-values are not multiples of 1 / 201",
        cause="how many orders are there in all, with the true one?",
        hint="(1 + count) / (1 + n_resamples)",
    )
