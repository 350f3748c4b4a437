"""Warnings about classifiers whose answers are probably not what the caller thinks."""

import warnings

import torch
from torch import Tensor

RANDOM = 0.02  # difference of two probabilities of one image that no rounding makes
REMEDY = "cfx.wrap(..., probabilities=True) takes their logarithm"


def warn_of_probabilities(values: Tensor, name: str) -> bool:
    """Warn if outputs (b, k) look like probabilities, and say so.

    So they do if torch itself says that a sigmoid or softmax made them, if each row adds up to 1,
    or if eight rows or more lie within [0, 1] and come near to both ends.
    """
    made_by = values.grad_fn.name() if values.grad_fn is not None else ""
    values = values.detach()
    if not len(values) or not ((values >= 0) & (values <= 1)).all():
        return False
    inside = bool(((values > 0) & (values < 1)).any())
    total = values.sum(1)
    adds_up = values.shape[1] > 1 and torch.allclose(total, torch.ones_like(total), atol=1e-3)
    # A few rows of 0 and 1, or the same ones again and again, may be anything.
    adds_up &= inside or (len(values) >= 4 and bool((values.amax(0) > values.amin(0)).any()))
    vary = inside and bool((values.amax(0) > values.amin(0)).all())
    to_both_ends = len(values) >= 8 and vary and values.min() < 0.1 and values.max() > 0.9
    if not (adds_up or to_both_ends or made_by.startswith(("Sigmoid", "Softmax"))):
        return False
    warnings.warn(
        f"{name}: its outputs look like probabilities, and logits are expected; leave out the "
        f"last softmax or sigmoid, or {REMEDY}",
        stacklevel=4,
    )
    return True


def warn_of_randomness(first: Tensor, second: Tensor, name: str = "classifier") -> None:
    """Warn if the logits of two calls on the same images differ by more than rounding."""
    if not len(first):
        return
    apart = (first.softmax(1) - second.to(first).softmax(1)).abs().nan_to_num().max().item()
    if apart > RANDOM:
        warnings.warn(
            f"{name}: two calls on the same images gave probabilities that differ by "
            f"{apart:.2g}; is a network in training mode, or something random, inside?",
            stacklevel=4,
        )
