"""The logits of many images."""

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
    """Logits (n, k) for many images, a batch at a time, in evaluation mode.

    Ctrl-C passes, and nothing is kept: logits have no status that could tell which are missing.

    Raises:
        ValueError, TypeError: for a wrong argument, and for logits that are not finite.
    """
    return finite_predict_logits(classifier, images, batch_size)


def finite_predict_logits(
    classifier: Any, images: Any, batch_size: int = 512, name: str = "classifier"
) -> Tensor:
    """``predict_logits``, with the name that messages call the classifier."""
    checked = CheckedClassifier(classifier, name)
    images = validate.images(images)
    chunks = images.split(validate.count(batch_size, "batch_size", 1))
    with eval_frozen(checked):
        logits = torch.cat([checked(c) for c in chunks])
    return validate.finite_logits(logits, name)
