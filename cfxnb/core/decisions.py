"""What logits decide: the predicted class, log odds, and whether a target is reached."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.tensors import predicted


def log_odds(logits: Tensor, label: Tensor, contrast_class: Tensor | None = None) -> Tensor:
    """log p / (1 - p) of a class among all classes, or among the two, (b,).

    It is linear in the logits, so it cannot saturate.
    """
    if contrast_class is not None:
        return explained_logit(logits, label, contrast_class)
    label = label.to(logits.device)[:, None]
    others = logits.scatter(1, label, -torch.inf).logsumexp(1)
    return logits.gather(1, label).squeeze(1) - others


def explained_logit(logits: Tensor, label: Tensor, contrast_class: Tensor | None) -> Tensor:
    """The explained number: logit[label], or its lead over logit[against], (b,)."""
    own = logits.gather(1, label.to(logits.device)[:, None])[:, 0]
    if contrast_class is None:
        return own
    return own - logits.gather(1, contrast_class.to(logits.device)[:, None])[:, 0]


def is_predicted(logits: Tensor, target: Tensor) -> Tensor:
    """Whether the target has the largest logit, bool (b,); never where one is not finite."""
    return predicted(logits) == target


def is_reached(logits: Tensor, target: Tensor, confidence: float, slack: float = 0.0) -> Tensor:
    """Whether the target is predicted with at least ``confidence``, bool (b,).

    With three classes or more, a low confidence alone doesn't make the target the winner.

    Args:
        slack: log odds by which rounding may miss.
    """
    need = torch.logit(torch.tensor(confidence, dtype=torch.float64)).to(logits) - slack
    return (log_odds(logits, target) >= need) & is_predicted(logits, target)


def still_reached(confidence: float) -> Callable[[Tensor, Tensor], Tensor]:
    """``is_reached``, with room for the rounding of another batch size."""
    return lambda logits, target: is_reached(logits, target, confidence, slack=1e-3)


def class_number(value: Any, name: str, names: Sequence[str] | None) -> int:
    """The number of one class, given by its number or by its name.

    Whether the classifier has as many classes is known once it has answered.
    """
    if isinstance(value, str):
        return int(validate.labels(value, 1, len(names or ()), name, names)[0])
    return validate.count(value, name)


def check_labels(
    label: Any, contrast_class: Any, rows: int, classes: int, names: Any = None
) -> tuple[Tensor, Tensor | None]:
    """Both classes of each sample, checked; they must differ.

    Of two classes only the difference decides: a widened single logit leaves that of class 0 at
    0, whose map would be empty. So the other one is ``contrast_class`` by default. "none" asks about the
    one logit alone.
    """
    own = validate.labels(label, rows, classes, "label", names)
    if contrast_class is None:
        return own, 1 - own if classes == 2 else None
    if isinstance(contrast_class, str) and contrast_class == "none" and "none" not in (names or ()):
        return own, None
    other = validate.labels(contrast_class, rows, classes, "contrast_class", names).to(own.device)
    if (own == other).any():
        raise ValueError(
            f"contrast_class: expected another class than label, got {own[own == other][0]}"
        )
    return own, other
