"""A slope at one image's code, corrected by what other images answered in the trial.

Where a score bends, its slope is another one at another code, most along the axes of curvature:
just those along which the trial walks every image.
"""

import numpy as np
import torch
from torch import Tensor

from cfxnb.directions.proxies import least_squares, saturated


def corrected(
    gradient: Tensor, units: Tensor, home: Tensor, score: Tensor, step: float, most: float | None
) -> Tensor:
    """The mean of the image's own slope and those of the others, (d,), in spreads.

    A step along any direction is partly one along g. What this part does each image has answered
    itself, by its looks along g; only the rest is laid to the coordinates across g, by least
    squares. Without that, a score that saturates along g, and not along others, would turn the
    direction of a score that is linear.

    Args:
        gradient: of the one image, (d,).
        units: directions that were tried, each of length 1, (n, d); the first is g, along the
            gradient.
        home: the others' scores without a move, (images,).
        score: after steps of 1, -1, 2 and -2 times ``step`` along each, (images, n, 4). What is
            not finite is left out.
        most: where scores saturate; None leaves them as they are.
    """
    g, part = units[0], (units @ units[0]).double().numpy()
    places = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    along = torch.stack([score[:, 0, 3], score[:, 0, 1], home, score[:, 0, 0], score[:, 0, 2]], 1)
    told = _odd(_between(part, places, along), _between(-part, places, along), most)
    odd = _odd(score[..., 0].double(), score[..., 1].double(), most)
    across = step * (units - torch.from_numpy(part).to(g)[:, None] * g).double()
    left = odd - told
    known = left.isfinite()
    others = int(known.any(1).sum())
    if not others:
        return gradient
    slope = odd[:, 0][known[:, 0]].sum().to(g) / step * g
    rows = across.expand(len(score), -1, -1)[known]
    rest = torch.from_numpy(least_squares(rows.numpy(), left[known].numpy())).to(g)
    return (gradient + slope + others * rest) / (1 + others)


def _between(part: np.ndarray, places: np.ndarray, along: Tensor) -> Tensor:
    """Scores of each image at a part of the step along g, (images, n), between its looks."""
    rows = [np.interp(part, places, row) for row in along.double().numpy()]
    return torch.from_numpy(np.stack(rows)) if rows else along.new_zeros(0, len(part)).double()


def _odd(there: Tensor, back: Tensor, most: float | None) -> Tensor:
    """Half the difference of scores in opposite senses."""
    if most is not None:
        there, back = saturated(there, most), saturated(back, most)
    return (there - back) / 2
