"""Measures that compare the decisions of a classifier before and after an edit."""

from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes


@standard_modes
def flip_rate(before: Tensor, after: Tensor, correct: Tensor | None = None) -> float:
    """Return the fraction of images whose decision changed, or NaN if there are no images.

    Args:
        before, after: Decisions for n images, as booleans or class indices, (n,) each.
        correct: Which images are counted, for example those classified correctly, bool (n,).
            Default: all images.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    before = validate.decisions(before, "before")
    if before.ndim != 1:
        raise ValueError(f"before: expected shape (n,), got {tuple(before.shape)}")
    changed = before != validate.decisions(after, "after", before.shape)
    if correct is not None:
        correct = validate.decisions(correct, "correct", before.shape)
        if correct.dtype != torch.bool:
            raise TypeError(f"correct: expected bools, got {correct.dtype}")
        changed = changed[correct]
    return float(changed.double().mean())


@standard_modes
def mnac(before: Tensor, after: Tensor) -> float:
    """Return the mean number of attributes that changed (MNAC, Rodriguez et al., 2021).

    Args:
        before, after: Decisions of an attribute classifier about k attributes of n originals
            (``before``) and of their counterfactuals (``after``), bool (n, k).

    Returns:
        Mean number of changed attributes per image, in [0, k]. Lower is better. The result is NaN
        if there are no images.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    before = _attributes(before, "before")
    after = validate.decisions(after, "after", before.shape)
    return float((before != after).sum(1).double().mean())


@standard_modes
def correlation_difference(
    before: Tensor, after: Tensor, labels: Tensor, query: int
) -> tuple[float, Tensor]:
    """Compute the correlation difference (CD, Jeanneret et al., 2022).

    The correlation difference is small if attributes change together exactly when they are
    correlated in the training images. The correlation difference lies in [0, 2 k] for k attributes.
    Lower is better.

    Args:
        before, after: Decisions of an attribute classifier about k attributes of n originals
            (``before``) and of their counterfactuals (``after``), bool (n, k).
        labels: True attributes of m training images, bool (m, k).
        query: Column of the query attribute, which the counterfactuals should change.

    Returns:
        The correlation difference CD, and the correlations c, (k,). For each attribute, c is the
        correlation between the change of the attribute and the change of the query attribute, and d
        is the correlation of the attribute with the query attribute in the training images. CD is
        the sum over all attributes of |c - d|. An undefined correlation counts as 0.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    before = _attributes(before, "before")
    after = validate.decisions(after, "after", before.shape)
    labels = _attributes(labels, "labels")
    if labels.shape[1] != before.shape[1]:
        raise ValueError(
            f"labels: expected {before.shape[1]} attributes as in before, got {labels.shape[1]}"
        )
    if validate.count(query, "query") >= before.shape[1]:
        raise ValueError(f"query: expected a column from 0 to {before.shape[1] - 1}, got {query}")
    change = after.double() - before.double()
    found = _correlations(change, query)
    return float((found - _correlations(labels.double(), query)).abs().sum()), found


def _attributes(value: Any, name: str) -> Tensor:
    found = validate.decisions(value, name)
    if found.ndim != 2:
        raise ValueError(f"{name}: expected shape (n, attributes), got {tuple(found.shape)}")
    return found


def _correlations(x: Tensor, query: int) -> Tensor:
    centred = x - x.mean(0)
    covariance = centred.T @ centred[:, query]
    scale = centred.square().sum(0).sqrt()
    return torch.nan_to_num(covariance / (scale * scale[query]), 0.0, 0.0, 0.0)
