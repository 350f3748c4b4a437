"""Accuracy of a classifier in groups of images."""

from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.intervals import wilson_interval
from cfxnb.core.modes import standard_modes
from cfxnb.core.prediction import predict_logits
from cfxnb.core.types import Classifier


@standard_modes
def accuracy_by_group(
    classifier: Classifier, images: Tensor, labels: Tensor, groups: Any
) -> pd.DataFrame:
    """Return the accuracy of a classifier in each group of images and in all images.

    A classifier that uses a shortcut can have a high accuracy over all images, and a low accuracy
    in the group in which the shortcut points to the wrong class. A low accuracy in the worst group
    can reveal a shortcut (Sagawa et al., ICLR 2020).

    Args:
        classifier: Images -> logits (b, k).
        images: Images, (n, c, h, w) in [0, 1].
        labels: True classes, as indices or names, (n,).
        groups: Group of each image, as numbers or names, (n,).

    Returns:
        DataFrame with one row per group, worst first, and a last row "all" for all images. Columns:
        ``n`` (number of images), ``accuracy``, and ``low`` and ``high``, the ends of the 95 %
        Wilson interval of the accuracy.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    images = validate.images(images)
    names = np.array(validate.groups(groups, "groups", len(images)))
    logits = predict_logits(classifier, images)
    class_names = CheckedClassifier(classifier).class_names
    labels = validate.labels(labels, len(images), logits.shape[1], "labels", class_names).cpu()
    correct = (logits.argmax(1).cpu() == labels).numpy()
    rows = {name: _row(correct[names == name]) for name in sorted(set(names.tolist()))}
    table = pd.DataFrame.from_dict(rows, orient="index").sort_values("accuracy", kind="stable")
    return pd.concat([table, pd.DataFrame({"all": _row(correct)}).T]).astype({"n": int})


def _row(correct: np.ndarray) -> dict[str, float]:
    low, high = wilson_interval(int(correct.sum()), len(correct))
    return {
        "n": len(correct),
        "accuracy": float(correct.mean()),
        "low": float(low),
        "high": float(high),
    }
