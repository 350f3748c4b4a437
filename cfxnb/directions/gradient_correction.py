"""Correct g, the gradient at one image's code, with answers about other images.

Where the score is curved, the gradient differs from code to code. The gradients differ most along
the eigenvectors of the Hessian, along which ``Trial`` moves every image. The paper does not correct
g.
"""

import numpy as np
import torch
from torch import Tensor

from cfxnb.directions.proxies import ridge_coefficients, saturate


def correct_gradient(
    gradient: Tensor,
    units: Tensor,
    score_before: Tensor,
    score: Tensor,
    step: float,
    saturation: float | None,
) -> Tensor:
    """Return the mean of the gradients at one image and at other images, (d,), in std.

    A step along any direction is partly a step along g. For each image, the scores along g show the
    effect of the part along g, and this effect is subtracted. Only the remaining effect of a step
    is attributed to the dimensions orthogonal to g, by ridge regression. If the effect along g were
    not subtracted, scores that saturate along g would turn the gradient, even if the unsaturated
    score is linear.

    Args:
        gradient: gradient at the code of one image, (d,).
        units: tested directions, unit vectors (n, d). The first unit vector is g.
        score_before: scores of the other images without a step, (images,).
        score: scores after steps of 1, -1, 2 and -2 times ``step`` along each direction,
            (images, n, 4). Scores that are not finite are ignored.
        step: length of the shorter step, in standard deviations of the code (std).
        saturation: each score s is replaced by saturation * tanh(s / saturation). If ``saturation``
            is None, the scores stay unchanged.
    """
    g, cosine = units[0], (units @ units[0]).double().numpy()
    along_g = torch.stack(
        [score[:, 0, 3], score[:, 0, 1], score_before, score[:, 0, 0], score[:, 0, 2]], 1
    )
    predicted = _odd_part(_interpolate(cosine, along_g), _interpolate(-cosine, along_g), saturation)
    odd = _odd_part(score[..., 0].double(), score[..., 1].double(), saturation)
    across = step * (units - torch.from_numpy(cosine).to(g)[:, None] * g).double()
    residual = odd - predicted
    known = residual.isfinite()
    n_others = int(known.any(1).sum())
    if not n_others:
        return gradient
    slope_sum = odd[:, 0][known[:, 0]].sum().to(g) / step * g
    rows = across.expand(len(score), -1, -1)[known]
    orthogonal = torch.from_numpy(ridge_coefficients(rows.numpy(), residual[known].numpy())).to(g)
    return (gradient + slope_sum + n_others * orthogonal) / (1 + n_others)


def _interpolate(positions: np.ndarray, scores: Tensor) -> Tensor:
    """Interpolate each image's scores at 5 steps along g (-2 to 2) to n positions, (images, n)."""
    found = np.zeros((len(scores), len(positions)))
    for row, known in zip(found, scores.double().numpy(), strict=True):
        row[:] = np.interp(positions, np.arange(-2.0, 3.0), known)
    return torch.from_numpy(found)


def _odd_part(forward: Tensor, backward: Tensor, saturation: float | None) -> Tensor:
    """Return half the difference of the scores after opposite steps."""
    if saturation is not None:
        forward, backward = saturate(forward, saturation), saturate(backward, saturation)
    return (forward - backward) / 2
