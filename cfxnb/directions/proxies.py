"""The proxy "ridge": ridge regression on a black box's answers around one code.

All changes of a code are in standard deviations (std): the change ``delta`` (d,) moves the code by
``std * delta``.
"""

import dataclasses

import numpy as np
import torch
from sklearn.linear_model import Ridge, RidgeCV
from torch import Tensor

from cfxnb.core.saved import Saved

PENALTIES = np.logspace(-3, 5, 25)
MAX_CURVATURE_PAIRS = 4096  # the cost of fitting the curvature grows with the cube of this number
MIN_PROBES = 32  # a proxy is not fitted to fewer probes


@dataclasses.dataclass(frozen=True, eq=False)
class Probes:
    """Changes of one code and the answers to these changes. Opposite changes are neighbours.

    Attributes:
        delta: changes in std, (2 m, d), with delta[2 i + 1] = -delta[2 i].
        score: log odds of the target, (2 m,).
        logits: logits of all classes, (2 m, k).
        distance: distance of the rendered image from the original image, (2 m,).
        score_at_start: score of the unchanged code.
    """

    delta: Tensor
    score: Tensor
    logits: Tensor
    distance: Tensor
    score_at_start: float

    def first(self, count: int) -> "Probes":
        """Return the probes of the first ``count`` queries, without splitting a pair."""
        keep = count - count % 2
        tensors = {n: getattr(self, n)[:keep] for n in ("delta", "score", "logits", "distance")}
        return dataclasses.replace(self, **tensors)

    def saturated(self, saturation: float) -> "Probes":
        """Return the probes with each score s replaced by saturation * tanh(s / saturation).

        The decision changes at a score of 0. Scores far from 0 can be arbitrarily large. In least
        squares a few large scores would outweigh all scores near the decision.
        """
        # float32 as for the other scores, so that a constant score stays exactly constant.
        start = saturate(self.score.new_tensor(self.score_at_start), saturation)
        score = saturate(self.score, saturation)
        return dataclasses.replace(self, score=score, score_at_start=start.item())


@dataclasses.dataclass(frozen=True, eq=False)
class ProxyFit(Saved):
    """A proxy's derivatives at the image's code, in standard deviations of the code (std).

    Attributes:
        gradient, hessian: derivatives of the score, (d,) and (d, d).
        distance: gradient of the distance from the original image, (d,).
        r2: fraction of the variance of held-out scores that the proxy explains.
        split_half_cosine: cosine between the gradients fitted to two halves of the probes. NaN if
            unknown.
        n_queries: number of probes used for the fit.
    """

    gradient: Tensor
    hessian: Tensor
    distance: Tensor
    r2: float
    split_half_cosine: float
    n_queries: int

    @property
    def expected_cosine(self) -> float:
        """Expected cosine between ``gradient`` and the gradient that unlimited queries would give.

        If gradients fitted to two halves of the data have the cosine c, the expected cosine of the
        gradient fitted to all data is sqrt(2 c / (1 + c)) (Spearman-Brown). Values below about 0.5
        can arise by chance.
        """
        c = max(self.split_half_cosine, 0.0)
        return float(np.sqrt(2 * c / (1 + c)))


def ridge(probes: Probes) -> ProxyFit:
    """Fit a quadratic function of the change by ridge regression.

    Pairs of opposite changes split the score into two parts. Half the score difference of a pair is
    the odd part, which determines the gradient. The mean score of a pair minus the score of the
    unchanged code is the even part, which determines the Hessian. Gradient and Hessian are fitted
    separately. Penalties are chosen by leave-one-out cross-validation. The Hessian uses at most
    4,096 pairs.
    """
    delta = probes.delta[::2].double().numpy()
    odd, even = _odd_even(probes.score)
    even = even - probes.score_at_start
    held_out = np.arange(len(delta)) % 5 == 4
    gradient = ridge_coefficients(delta, odd)
    # r2: fit without every fifth pair, and predict these pairs.
    slope_part = delta[held_out] @ ridge_coefficients(delta[~held_out], odd[~held_out])
    known, weight = _fit_quadratic(delta[~held_out], even[~held_out])
    curvature_part = 0.5 * (delta[held_out] @ known.T) ** 2 @ weight
    observed = np.concatenate([odd[held_out] + even[held_out], even[held_out] - odd[held_out]])
    residual = observed - np.concatenate([slope_part + curvature_part, curvature_part - slope_part])
    halves = [ridge_coefficients(delta[k::2], odd[k::2]) for k in (0, 1)]
    known, weight = _fit_quadratic(delta, even)
    distance = ridge_coefficients(delta, _odd_even(probes.distance)[0])
    return ProxyFit(
        gradient=torch.from_numpy(gradient).float(),
        hessian=torch.from_numpy(known.T * weight @ known).float(),
        distance=torch.from_numpy(distance).float(),
        r2=float(1 - (residual**2).mean() / max(observed.var(), 1e-30)),
        split_half_cosine=cosine(*halves),
        n_queries=len(probes.delta),
    )


def saturate(score: Tensor, saturation: float) -> Tensor:
    """Return saturation * tanh(score / saturation), which limits the score to ±saturation."""
    return saturation * (score / saturation).tanh()


def _odd_even(values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return half the difference and half the sum of each of m pairs of values, (m,) each."""
    forward, backward = values.double().numpy().reshape(-1, 2).T
    return (forward - backward) / 2, (forward + backward) / 2


def ridge_coefficients(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Return ridge coefficients without an intercept, since outputs are 0 at a change of 0."""
    if len(inputs) < 10:
        return Ridge(1.0, fit_intercept=False).fit(inputs, outputs).coef_
    return RidgeCV(PENALTIES, fit_intercept=False).fit(inputs, outputs).coef_


def fit_hessian(change: Tensor, even: Tensor) -> Tensor:
    """Return the Hessian (d, d) of a score from the even parts (m,) of m pairs of changes."""
    known, weight = _fit_quadratic(change.double().numpy(), even.double().numpy())
    return torch.from_numpy(known.T * weight @ known).float()


def _fit_quadratic(delta: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit 1/2 delta H delta by kernel ridge regression, where H = known.T * weight @ known.

    Ridge regression on all d (d + 1) / 2 products of two dimensions would need too much memory.
    Each change has a vector of all products of two of its dimensions. With suitable scaling, the
    vectors of two changes a and b have the inner product 1/2 (a . b)^2. Ridge regression needs only
    the inner products.

    Returns:
        known: the changes used, (n, d).
        weight: weight of each used change, (n,).
    """
    known, outputs = delta[:MAX_CURVATURE_PAIRS], outputs[:MAX_CURVATURE_PAIRS]
    values, axes = np.linalg.eigh(0.5 * (known @ known.T) ** 2)
    values, along = values.clip(0), axes.T @ outputs
    best, weight = np.inf, np.zeros(len(known))
    for penalty in PENALTIES if len(known) >= 10 else [1.0]:
        candidate = axes @ (along / (values + penalty))
        # Leave-one-out residuals in closed form.
        residual = candidate / (axes**2 @ (1 / (values + penalty)))
        if (error := (residual**2).mean()) < best:
            best, weight = error, candidate
    return known, weight


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths else 0.0
