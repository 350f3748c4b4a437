"""What an attribute oracle sees in counterfactuals: decisions before and after, bool (n, a)."""

import torch
from torch import Tensor


def flip_rate(before: Tensor, after: Tensor, correct: Tensor | None = None) -> float:
    """Share of images whose decision changed, bool (n,) each; NaN of no images.

    Args:
        correct: count only these, for example the correctly classified.
    """
    changed = before != after
    chosen = changed if correct is None else changed[correct]
    return float(chosen.double().mean())


def mean_changed(before: Tensor, after: Tensor) -> float:
    """MNAC: mean number of the oracle's decisions that an edit changed (over flipped images)."""
    return float((before != after).sum(1).double().mean())


def correlation_difference(
    before: Tensor, after: Tensor, labels: Tensor, query: int
) -> tuple[float, Tensor]:
    """CD (Jeanneret et al., 2022): do attributes change together as they occur together?

    Args:
        before, after: the oracle's decisions for the flipped images, bool (n, a).
        labels: true attributes of the training images, bool (m, a).
        query: column of the attribute that was asked to change.

    Returns:
        Sum over attributes of the absolute difference of the two correlations with the query,
        and the correlations among the changes, (a,). An undefined correlation counts as 0.
    """
    change = after.double() - before.double()
    seen = _correlations(change, query)
    return float((seen - _correlations(labels.double(), query)).abs().sum()), seen


def _correlations(x: Tensor, query: int) -> Tensor:
    centred = x - x.mean(0)
    covariance = centred.T @ centred[:, query]
    scale = centred.square().sum(0).sqrt()
    return torch.nan_to_num(covariance / (scale * scale[query]), 0.0, 0.0, 0.0)
