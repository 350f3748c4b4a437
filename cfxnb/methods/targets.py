"""Which other class to ask for, where there are many."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfxnb import validate
from cfxnb.classify import predict
from cfxnb.tensors import undisturbed
from cfxnb.types import Classifier


def nearest_classes(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    features: Callable[[Tensor], Tensor] | None = None,
    batch: int = 512,
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
    logits = predict(classifier, images, batch)
    classes = logits.shape[1]
    labels = validate.labels(labels, len(images), classes, "labels").to(logits.device)
    missing = sorted(set(range(classes)) - set(labels.tolist()))
    if missing:
        raise ValueError(f"labels: expected images of every class, got none of {missing}")
    if features is None:
        near = _means(logits.softmax(1).double(), labels, classes)
    else:
        validate.function(features, "features")
        with torch.no_grad(), undisturbed(features):
            seen = torch.cat([_rows(features(part), len(part)) for part in images.split(batch)])
        middle = _means(seen.to(labels.device).double(), labels, classes)
        near = -torch.cdist(middle, middle)
    return near.fill_diagonal_(-torch.inf).argmax(1)


def _rows(value: Any, count: int) -> Tensor:
    seen = validate.instance(value, Tensor, "features", "a torch tensor")
    if seen.ndim != 2 or len(seen) != count:
        raise ValueError(f"features: expected shape ({count}, d), got {tuple(seen.shape)}")
    if not seen.isfinite().all():
        raise ValueError("features: expected finite numbers, got NaN or infinity")
    return seen


def _means(rows: Tensor, labels: Tensor, classes: int) -> Tensor:
    return torch.stack([rows[labels == c].mean(0) for c in range(classes)])
