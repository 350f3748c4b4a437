"""Edits of a code along one component of a dictionary, in closed form.

The edit is that of DiDAE (arXiv 2601.21851). A linear probe w gives the score z . w of a code z.
The edit changes the score by moving the code along one component u of the dictionary:

    z' = z - factor * (z . w) / (u . w) * u,   so that   z' . w = (1 - factor) * z . w

The boundary of the probe is z . w = 0, without a bias. Codes should therefore be centred at a point
where the classifier is undecided. This module has only the closed-form parts of DiDAE.
"""

import torch
from torch import Tensor

MIN_COSINE = 1e-3  # a component with a smaller |cosine| to the probe cannot change the score


def principal_components(codes: Tensor, count: int) -> Tensor:
    """Return the unit vectors with the largest variance of codes (n, d), as columns (d, count)."""
    return torch.linalg.svd(codes - codes.mean(0), full_matrices=False).Vh[:count].T


def edit_along_components(
    z: Tensor, probe: Tensor, components: Tensor, factor: float = 2.0
) -> Tensor:
    """Return codes edited along each component, (b, k, d).

    Difference from the official code: a component that is almost orthogonal to the probe would need
    an arbitrarily long step. Edits along an almost orthogonal component are NaN here, while the
    official code returns edits of the size 1e6.

    Args:
        z: codes, (b, d).
        probe: weights w of the score, (d,).
        components: unit vectors, as columns (d, k).
        factor: 1 moves codes to the probe's boundary, and 2 mirrors the score.
    """
    slope = probe @ components
    cosine = slope / (probe.norm() * components.norm(dim=0))
    slope = torch.where(cosine.abs() >= MIN_COSINE, slope, torch.nan)
    step = factor * (z @ probe)[:, None] / slope
    return z[:, None] - step[..., None] * components.T
