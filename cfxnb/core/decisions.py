"""Decisions from logits: the predicted class, log odds, and whether a target is reached."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.tensors import predicted


def log_odds(logits: Tensor, label: Tensor, contrast_class: Tensor | None = None) -> Tensor:
    """Return the log odds of a class, log(p / (1 - p)), (b,).

    Log odds do not saturate: for large values they grow linearly with the logit of the class.

    Args:
        logits: Logits (b, k).
        label: Class of each sample, (b,).
        contrast_class: Class to compare with, (b,). If ``contrast_class`` is None, ``label`` is
            compared with all other classes.
    """
    if contrast_class is not None:
        return explained_logit(logits, label, contrast_class)
    label = label.to(logits.device)[:, None]
    others = logits.scatter(1, label, -torch.inf).logsumexp(1)
    return logits.gather(1, label).squeeze(1) - others


def explained_logit(logits: Tensor, label: Tensor, contrast_class: Tensor | None) -> Tensor:
    """Return logit[label], or logit[label] - logit[contrast_class] if ``contrast_class`` is
    given."""
    own = logits.gather(1, label.to(logits.device)[:, None])[:, 0]
    if contrast_class is None:
        return own
    return own - logits.gather(1, contrast_class.to(logits.device)[:, None])[:, 0]


def is_predicted(logits: Tensor, target: Tensor) -> Tensor:
    """Return whether the target has the largest logit and all logits are finite, bool (b,)."""
    return predicted(logits) == target


def is_reached(logits: Tensor, target: Tensor, confidence: float, slack: float = 0.0) -> Tensor:
    """Return whether the target is predicted with at least ``confidence``, bool (b,).

    With three or more classes, a probability above a low ``confidence`` is not enough: the target
    must also have the largest logit.

    Args:
        slack: Tolerance for rounding, in log odds.
    """
    need = torch.logit(torch.tensor(confidence, dtype=torch.float64)).to(logits) - slack
    return (log_odds(logits, target) >= need) & is_predicted(logits, target)


def still_reached(confidence: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the test ``is_reached`` as a function (logits, target), with slack for rounding.

    Rounding errors change when images are classified in batches of another size.
    """
    return lambda logits, target: is_reached(logits, target, confidence, slack=1e-3)


def class_number(value: Any, name: str, names: Sequence[str] | None) -> int:
    """Return the number of a class, given as a number or as a name.

    The function does not check whether the classifier has a class of this number.
    """
    if isinstance(value, str):
        return int(validate.labels(value, 1, len(names or ()), name, names)[0])
    return validate.count(value, name)


def check_labels(
    label: Any,
    contrast_class: Any,
    rows: int,
    classes: int,
    names: Any = None,
    argument: str = "label",
) -> tuple[Tensor, Tensor | None]:
    """Return the explained class and the contrast class of each sample, which must differ.

    With two classes, the other class is the contrast class by default. A network with a single
    logit gives class 0 the constant logit 0, so that without a contrast class the attribution map
    of class 0 would be empty.

    Args:
        label: Explained class: one for all images, or one per image.
        contrast_class: Class to compare with. With ``"none"`` the logit of ``label`` alone is
            explained.
        rows, classes: Number of images and of classes.
        names: Names of the classes, if known.
        argument: Name of the argument ``label`` in messages.
    """
    own = validate.labels(label, rows, classes, argument, names)
    if contrast_class is None:
        return own, 1 - own if classes == 2 else None
    if isinstance(contrast_class, str) and contrast_class == "none" and "none" not in (names or ()):
        return own, None
    other = validate.labels(contrast_class, rows, classes, "contrast_class", names).to(own.device)
    if (own == other).any():
        raise ValueError(
            f"contrast_class: expected another class than {argument}, got {own[own == other][0]}"
        )
    return own, other
