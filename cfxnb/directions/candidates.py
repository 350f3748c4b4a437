"""Directions that a proxy names: along its gradient (g), and where it bends most (h)."""

import numpy as np
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor

from cfxnb.directions.proxies import Fit

WEIGHTS = (0.05, 1.0)  # of score and distance in the second g-direction (official configuration)
SAME = 0.99  # cosine from which on two directions count as one
DENSE = 1024  # coordinates up to which all axes of the curvature are found


def candidates(fit: Fit, sign: float, n_curvature: int, used: Tensor) -> dict[str, Tensor]:
    """Unit directions (d,) in spreads by name, in the order of the paper; none twice.

    "g" is the gradient of the score, "g with distance" that of the loss which also counts the
    distance, "h1", "h2", ... the axes of the strongest curvature. An axis has no sign of its own
    (the paper's depends on the eigenvector that a library happens to return). Here adding any
    direction raises the score to first order.

    Args:
        sign: 1 if the source is seen as the label, -1 if not: the paper's s.
        n_curvature: h-directions at most.
        used: coordinates (d,) that carry anything, bool; the others stay 0.
    """
    used = used.to(fit.gradient)
    gradient, distance = fit.gradient * used, fit.distance * used
    found = {"g": gradient}
    if gradient.any():  # or the distance alone would pass for a direction of the score
        found["g with distance"] = WEIGHTS[0] * gradient + sign * WEIGHTS[1] * distance
    axes = strongest(fit.hessian * used * used[:, None], n_curvature)
    found |= {f"h{number + 1}": axis.to(gradient) * used for number, axis in enumerate(axes)}
    kept: dict[str, Tensor] = {}
    for name, direction in found.items():
        if not direction.isfinite().all() or not direction.any():
            continue
        u = direction / direction.norm()
        if all(abs(u @ k) <= SAME for k in kept.values()):
            kept[name] = u if u @ gradient >= 0 else -u
    return kept


def strongest(hessian: Tensor, count: int) -> Tensor:
    """Unit axes of the strongest curvatures of either sign, strongest first, (<= count, d)."""
    matrix = hessian.double().numpy()
    count = min(count, len(matrix))
    if not count or not matrix.any() or not np.isfinite(matrix).all():
        return torch.zeros(0, len(matrix), dtype=torch.float64)
    if len(matrix) <= DENSE:
        values, axes = np.linalg.eigh(matrix)
    else:
        begin = np.ones(len(matrix))  # a random one would give another sign each time
        values, axes = eigsh(matrix, k=count, which="LM", v0=begin)
    order = np.argsort(-np.abs(values), kind="stable")[:count]
    order = order[np.abs(values[order]) > 1e-6 * np.abs(values).max()]  # others are rounding
    return torch.from_numpy(np.ascontiguousarray(axes[:, order].T))
