"""Predict the logits of many images."""

from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.types import Classifier


@standard_modes
@torch.no_grad()
def predict_logits(classifier: Classifier, images: Tensor, batch_size: int = 512) -> Tensor:
    """Return the logits (n, k) of many images, computed in batches and in evaluation mode.

    Ctrl-C raises KeyboardInterrupt, and no logits are kept.

    Args:
        classifier: Maps images to logits (b, k).
        images: Images (n, c, h, w) in [0, 1].
        batch_size: Images per batch. A larger batch needs more memory and is faster. The batch size
            does not change the logits.

    Raises:
        ValueError, TypeError: If an argument is wrong, or if logits are not finite.
    """
    return finite_predict_logits(classifier, images, batch_size)


def finite_predict_logits(
    classifier: Any, images: Any, batch_size: int = 512, name: str = "classifier"
) -> Tensor:
    """Return logits as ``predict_logits`` does. Messages call the classifier ``name``."""
    checked = CheckedClassifier(classifier, name)
    images = validate.images(images)
    chunks = images.split(validate.count(batch_size, "batch_size", 1))
    with eval_frozen(checked):
        logits = torch.cat([checked(c) for c in chunks])
    return validate.finite_logits(logits, name)
