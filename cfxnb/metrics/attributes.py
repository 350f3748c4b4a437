"""What an attribute oracle sees in counterfactuals: decisions before and after, bool (n, a)."""

from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes


@standard_modes
def flip_rate(before: Tensor, after: Tensor, correct: Tensor | None = None) -> float:
    """Share of images whose decision changed; NaN of no images.

    Args:
        before, after: decisions, bools or numbers of classes, (n,) each.
        correct: count only these, for example the correctly classified, bool (n,).

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
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
    """MNAC: mean number of the oracle's decisions that an edit changed; NaN of no images.

    Args:
        before, after: the oracle's decisions for the flipped images, bool (n, a).

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    before = _oracle(before, "before")
    after = validate.decisions(after, "after", before.shape)
    return float((before != after).sum(1).double().mean())


@standard_modes
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

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    before = _oracle(before, "before")
    after = validate.decisions(after, "after", before.shape)
    labels = _oracle(labels, "labels")
    if labels.shape[1] != before.shape[1]:
        raise ValueError(
            f"labels: expected {before.shape[1]} attributes as in before, got {labels.shape[1]}"
        )
    if validate.count(query, "query") >= before.shape[1]:
        raise ValueError(f"query: expected a column from 0 to {before.shape[1] - 1}, got {query}")
    change = after.double() - before.double()
    seen = _correlations(change, query)
    return float((seen - _correlations(labels.double(), query)).abs().sum()), seen


def _oracle(value: Any, name: str) -> Tensor:
    found = validate.decisions(value, name)
    if found.ndim != 2:
        raise ValueError(f"{name}: expected shape (n, attributes), got {tuple(found.shape)}")
    return found


def _correlations(x: Tensor, query: int) -> Tensor:
    centred = x - x.mean(0)
    covariance = centred.T @ centred[:, query]
    scale = centred.square().sum(0).sqrt()
    return torch.nan_to_num(covariance / (scale * scale[query]), 0.0, 0.0, 0.0)
