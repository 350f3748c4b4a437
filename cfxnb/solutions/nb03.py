"""Solutions of 03_what_changed, written by ``python -m cfxnb.build learner``."""

# ruff: noqa: I001
import numpy as np
import pandas as pd
import torch
import cfxnb as cfx
from cfxnb.core.tensors import standardise


def loss_gradient(w: torch.Tensor, x: torch.Tensor, y: torch.Tensor, l2: float) -> torch.Tensor:
    """Return the gradient of the loss with respect to the weights, (k,)."""
    p = (x @ w).sigmoid()
    shrink = l2 * w
    shrink[-1] = 0
    return x.T @ (p - y) + shrink


def fit_descriptor(u: torch.Tensor, y: torch.Tensor, l2: float = 1.0, steps: int = 10):
    """Return weights (d,) and bias () of a logistic regression on codes, (n, d), (n,)."""
    x = torch.cat([u, torch.ones_like(u[:, :1])], dim=1)
    y = y.to(u)
    w = torch.zeros_like(x[0])
    penalty = torch.full_like(w, l2)
    penalty[-1] = 0
    for _ in range(steps):
        p = (x @ w).sigmoid()
        curvature = (x * (p * (1 - p))[:, None]).T @ x + torch.diag(penalty)
        w = w - torch.linalg.solve(curvature, loss_gradient(w, x, y, l2))
    return w[:-1], w[-1]


def auc(scores: torch.Tensor, y: torch.Tensor) -> float:
    """Return the probability that a score with y = 1 is larger than one with y = 0."""
    above, below = scores[y][:, None], scores[~y]
    wins = (above > below).double() + 0.5 * (above == below).double()
    return float(wins.mean())


def contribution(
    weights: torch.Tensor, start: torch.Tensor, end: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """Return the change of the log odds of one property, (n,)."""
    change = standardise(end - start, std)
    return change @ weights


def project(change: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the part of each change in the span of the weights, (n, d), (m, d) -> (n, d)."""
    c = torch.linalg.solve(weights @ weights.T, weights @ change.T)
    return (weights.T @ c).T


def my_describe_change(space, s, labels, held_out, z0, z, min_auc: float = 0.75):
    """Return contributions (table), unexplained fractions (b,), and weights (m, d)."""
    found, weights = {}, []
    for name in labels:
        y = torch.tensor(labels[name].to_numpy())
        w, b = fit_descriptor(s[~held_out], y[~held_out])
        if auc(s[held_out] @ w + b, y[held_out]) >= min_auc:
            found[name] = contribution(w, z0, z, space.std).numpy()
            weights.append(w)
    weights = torch.stack(weights)
    change = standardise(z - z0, space.std)
    rest = change - project(change, weights)
    unexplained = rest.square().sum(1) / change.square().sum(1)
    return pd.DataFrame(found), unexplained, weights


def random_axes(used: torch.Tensor, seed: int) -> torch.Tensor:
    """Return random orthonormal axes of the used coordinates, (d,) -> (d, d)."""
    g = torch.Generator().manual_seed(seed)
    n = int(used.sum())
    block = torch.linalg.qr(torch.randn(n, n, generator=g)).Q
    places = used.nonzero()
    axes = torch.eye(len(used))
    axes[places, places.T] = block
    return axes


def ablate_part(space, classifier, z0, change, part, target) -> tuple[float, float]:
    """Return the fractions of flips without the part, and with the part alone."""

    def flips(u):
        image = space.decode(cfx.Code(z0 + space.std * u)).detach()
        read = cfx.predict_logits(classifier, image).argmax(1)
        return float((read == target).double().mean())

    return flips(change - part), flips(part)


def prune(reaches, u: torch.Tensor) -> torch.Tensor:
    """Return 1-minimal changes: each entry of u is kept or 0, (b, m) -> (b, m)."""
    kept = u.clone()
    rows = torch.arange(len(u))
    order = u.abs().argsort(1)
    while True:
        before = kept
        for column in order.T:
            trial = kept.clone()
            trial[rows, column] = 0
            kept = torch.where(reaches(trial)[:, None], trial, kept)
        if torch.equal(kept, before):
            return kept


def sparse_counterfactual(space, classifier, z0, change, target, axes, confidence: float = 0.5):
    """Return pruned changes (b, d), and the number of their parts (b,)."""

    def reaches(parts):
        image = space.decode(cfx.Code(z0 + space.std * (parts @ axes.T))).detach()
        p = cfx.predict_logits(classifier, image).softmax(1)
        return p.gather(1, target[:, None]).squeeze(1) >= confidence

    parts = prune(reaches, change @ axes)
    return parts @ axes.T, (parts != 0).sum(1)


def paired_t(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the mean change divided by its standard error, (n, d), (n, d) -> (d,)."""
    change = after - before
    error = change.std(0, ddof=1) / np.sqrt(len(change))
    return change.mean(0) / error


def p_values(score, before, after, n_resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Return the p-value of each property, with shuffled originals, (d,)."""
    rng = np.random.default_rng(seed)
    draws = [score(rng.permutation(before), after) for _ in range(n_resamples)]
    draws = np.stack(draws)
    middle = draws.mean(0)
    as_far = np.abs(draws - middle) >= np.abs(score(before, after) - middle)
    return (1 + as_far.sum(0)) / (1 + n_resamples)
