"""Simple models of how a black box answers around one code.

Everything is in spreads: a change ``delta`` (d,) moves the code by ``spread * delta``.
"""

import dataclasses

import numpy as np
import torch
from sklearn.linear_model import Ridge, RidgeCV
from torch import Tensor

PENALTIES = np.logspace(-3, 5, 25)
MOST_BENT = 4096  # pairs for the curvature: its cost grows with their cube


@dataclasses.dataclass(frozen=True, eq=False)
class Probes:
    """Changes of one code, and what came of them; pairs of opposite changes lie side by side.

    Attributes:
        delta: (2 m, d): delta[2 i + 1] = -delta[2 i].
        score: log odds of the label, (2 m,).
        logits: all of them, (2 m, k).
        distance: of the picture from the original image, (2 m,).
        home: score without any change.
    """

    delta: Tensor
    score: Tensor
    logits: Tensor
    distance: Tensor
    home: float

    def first(self, count: int) -> "Probes":
        """Those that the first ``count`` queries tell."""
        keep = count - count % 2
        tensors = {n: getattr(self, n)[:keep] for n in ("delta", "score", "logits", "distance")}
        return dataclasses.replace(self, **tensors)

    def saturated(self, most: float) -> "Probes":
        """The same answers, whose log odds count up to about ``most``.

        A decision turns at 0. Far on either side log odds grow without end, and a few such answers
        would outweigh, in least squares, all those that tell where it turns.
        """
        # At home in the same precision as elsewhere: a constant answer must stay one.
        home = saturated(self.score.new_tensor(self.home), most)
        score = saturated(self.score, most)
        return dataclasses.replace(self, score=score, home=home.item())


@dataclasses.dataclass(frozen=True, eq=False)
class Fit:
    """What a proxy says about a score near the code, in spreads.

    Attributes:
        gradient, hessian: of the score at no change, (d,) and (d, d).
        distance: gradient of the distance from the original image, (d,).
        r2: share of the variance of scores that it predicts for changes it has not seen.
        split_half_cosine: cosine of the gradients that two halves of the probes give; NaN if unknown.
        n_queries: probes that it rests on.
    """

    gradient: Tensor
    hessian: Tensor
    distance: Tensor
    r2: float
    split_half_cosine: float
    queries: int

    @property
    def expected_cosine(self) -> float:
        """Cosine with the gradient that endless queries would give, as the halves tell.

        Two halves with independent errors agree by c; then all of them agree with the truth by
        sqrt(2 c / (1 + c)) (Spearman-Brown). Below about 0.5 it is little more than chance.
        """
        c = max(self.split_half_cosine, 0.0)
        return float(np.sqrt(2 * c / (1 + c)))


def ridge(probes: Probes) -> Fit:
    """Least squares with a quadratic penalty, found by leave-one-out cross-validation.

    Pairs of opposite changes take the score apart: half their difference is odd in the change,
    and tells the gradient; what their mean has over the score at home is even, and tells the
    curvature. Neither disturbs the other. Curvature rests on 4,096 pairs at most.
    """
    delta = probes.delta[::2].double().numpy()
    odd, even = _parts(probes.score)
    even = even - probes.home
    held = np.arange(len(delta)) % 5 == 4
    slope = least_squares(delta, odd)
    # Learnt without every fifth pair, and tried on those.
    told = delta[held] @ least_squares(delta[~held], odd[~held])
    known, weight = _bend(delta[~held], even[~held])
    bent = 0.5 * (delta[held] @ known.T) ** 2 @ weight
    seen = np.concatenate([odd[held] + even[held], even[held] - odd[held]])
    left = seen - np.concatenate([told + bent, bent - told])
    halves = [least_squares(delta[k::2], odd[k::2]) for k in (0, 1)]
    known, weight = _bend(delta, even)
    return Fit(
        gradient=torch.from_numpy(slope).float(),
        hessian=torch.from_numpy(known.T * weight @ known).float(),
        distance=torch.from_numpy(least_squares(delta, _parts(probes.distance)[0])).float(),
        r2=float(1 - (left**2).mean() / max(seen.var(), 1e-30)),
        split_half_cosine=_cosine(*halves),
        queries=len(probes.delta),
    )


def saturated(score: Tensor, most: float) -> Tensor:
    """most tanh(score / most): as it is near 0, and never beyond ``most``."""
    return most * (score / most).tanh()


def _parts(values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Odd and even part of what pairs of opposite changes gave."""
    there, back = values.double().numpy().reshape(-1, 2).T
    return (there - back) / 2, (there + back) / 2


def least_squares(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Coefficients without an intercept: without a change there is none of the score."""
    if len(inputs) < 10:
        return Ridge(1.0, fit_intercept=False).fit(inputs, outputs).coef_
    return RidgeCV(PENALTIES, fit_intercept=False).fit(inputs, outputs).coef_


def _bend(delta: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge on all products of two coordinates: 1/2 delta H delta, H = known.T * weight @ known.

    A change has d (d + 1) / 2 products, too many to write down. But those of two changes a and b,
    scaled to the length |a|^2 / sqrt(2), have the inner product 1/2 (a . b)^2, and ridge needs
    no more: its coefficients are sums of the products that it has seen.

    Returns:
        known: changes that were used, (n, d); weight: one number each.
    """
    known, outputs = delta[:MOST_BENT], outputs[:MOST_BENT]
    values, axes = np.linalg.eigh(0.5 * (known @ known.T) ** 2)
    values, along = values.clip(0), axes.T @ outputs
    best, weight = np.inf, np.zeros(len(known))
    for penalty in PENALTIES if len(known) >= 10 else [1.0]:
        tried = axes @ (along / (values + penalty))
        # What each pair's own prediction misses when it is left out.
        missed = tried / (axes**2 @ (1 / (values + penalty)))
        if (error := (missed**2).mean()) < best:
            best, weight = error, tried
    return known, weight


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths else 0.0
