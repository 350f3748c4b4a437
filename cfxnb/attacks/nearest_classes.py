"""Propose a target class for each class."""

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
    """Return the nearest other class of each class, a plausible target for counterfactuals.

    If ``nearest`` is the result, then ``nearest[predicted]`` are targets for images with the
    predicted classes ``predicted``.

    Args:
        classifier: Maps images to logits (b, k).
        images: Held-out images of every class, (n, c, h, w) in [0, 1].
        labels: Classes of the images, (n,).
        features: Function from images to features (b, d). If ``features`` is given, the nearest
            class is the one whose mean features are nearest (Euclidean distance). If ``features``
            is None, the nearest class of class c is the one with the highest mean probability on
            the images of class c.
        batch_size: Images per batch. A larger batch is faster and needs more memory.

    Returns:
        The nearest class of each of the k classes, int64 (k,).

    Raises:
        ValueError, TypeError: If an argument is wrong, or if a class has no images.
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
