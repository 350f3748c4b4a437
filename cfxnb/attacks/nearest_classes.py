"""Which other class to ask for, where there are many."""

from collections.abc import Callable

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier, CheckedFunction
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.prediction import predict_logits
from cfxnb.core.types import Classifier


@standard_modes
def nearest_classes(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    features: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 512,
) -> Tensor:
    """The class nearest to each class: ``nearest[predicted]`` are targets that are near at hand.

    Far classes, such as those that a word net calls similar, can make implausible targets.

    Args:
        images, labels: held-out images of every class, (n, c, h, w) in [0, 1] and (n,).
        features: images -> (b, d). Nearest is then the class whose mean is nearest in these,
            by Euclidean distance; by default the class with which the classifier confuses it
            most, by mean probability.

    Returns:
        int64 (k,): never the class itself.

    Raises:
        ValueError, TypeError: for a wrong argument, or a class without images.
    """
    images = validate.images(images)
    logits = predict_logits(classifier, images, batch_size)
    classes = logits.shape[1]
    names = CheckedClassifier(classifier).class_names
    labels = validate.labels(labels, len(images), classes, "labels", names).to(logits.device)
    missing = sorted(set(range(classes)) - set(labels.tolist()))
    if missing:
        raise ValueError(f"labels: expected images of every class, got none of {missing}")
    if features is None:
        near = _means(logits.softmax(1).double(), labels, classes)
    else:
        read = CheckedFunction(features, "features", dims=2)
        with torch.no_grad(), eval_frozen(read):
            seen = torch.cat([read(part) for part in images.split(batch_size)])
        middle = _means(seen.to(labels.device).double(), labels, classes)
        near = -torch.cdist(middle, middle)
    return near.fill_diagonal_(-torch.inf).argmax(1)


def _means(rows: Tensor, labels: Tensor, classes: int) -> Tensor:
    return torch.stack([rows[labels == c].mean(0) for c in range(classes)])
