"""The directions of a proxy: its gradient (g), and the eigenvectors of its Hessian (h)."""

import numpy as np
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor

from cfxnb.directions.proxies import ProxyFit

WEIGHTS = (0.05, 1.0)  # of score and distance in the second g-direction (official configuration)
DUPLICATE_COSINE = 0.99  # two directions with a larger |cosine| count as one
MAX_DENSE_DIMS = 1024  # up to this size all eigenvectors are computed


def direction_candidates(
    fit: ProxyFit, sign: float, n_axes: int, active: Tensor
) -> dict[str, Tensor]:
    """Return the paper's directions of a proxy: unit vectors (d,), without duplicates.

    "g" is the gradient of the score. "g with distance" is the gradient of the paper's loss, which
    adds the distance from the image. "h1", "h2", ... are the eigenvectors of the Hessian, sorted
    by the absolute value of their eigenvalues.

    Difference from the paper: we choose the sign so that adding a direction raises the score to
    first order. In the paper an eigenvector keeps the arbitrary sign that the library returns.

    Args:
        sign: 1 if the image is classified as the target, -1 if not (s in the paper).
        n_axes: largest number of eigenvectors (h1, h2, ...).
        active: dimensions of the code that vary among real images, bool (d,). In all other
            dimensions, the directions are 0.
    """
    active = active.to(fit.gradient)
    gradient, distance = fit.gradient * active, fit.distance * active
    found = {"g": gradient}
    if gradient.any():  # otherwise the distance alone would pass for a direction of the score
        found["g with distance"] = WEIGHTS[0] * gradient + sign * WEIGHTS[1] * distance
    axes = top_eigenvectors(fit.hessian * active * active[:, None], n_axes)
    found |= {f"h{number + 1}": axis.to(gradient) * active for number, axis in enumerate(axes)}
    kept: dict[str, Tensor] = {}
    for name, direction in found.items():
        if not direction.isfinite().all() or not direction.any():
            continue
        u = direction / direction.norm()
        if all(abs(u @ k) <= DUPLICATE_COSINE for k in kept.values()):
            kept[name] = u if u @ gradient >= 0 else -u
    return kept


def top_eigenvectors(hessian: Tensor, count: int) -> Tensor:
    """Return the unit eigenvectors with the largest absolute eigenvalues, (at most count, d)."""
    matrix = hessian.double().numpy()
    count = min(count, len(matrix))
    if not count or not matrix.any() or not np.isfinite(matrix).all():
        return torch.zeros(0, len(matrix), dtype=torch.float64)
    if len(matrix) <= MAX_DENSE_DIMS:
        values, axes = np.linalg.eigh(matrix)
    else:
        start = np.ones(len(matrix))  # the default is random, and so would be the signs
        values, axes = eigsh(matrix, k=count, which="LM", v0=start)
    order = np.argsort(-np.abs(values), kind="stable")[:count]
    order = order[np.abs(values[order]) > 1e-6 * np.abs(values).max()]  # the others are rounding
    return torch.from_numpy(np.ascontiguousarray(axes[:, order].T))
