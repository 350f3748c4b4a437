"""How right a classifier is, group by group."""

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
    """Accuracy in each group, worst first, with the whole in the last row.

    A classifier that goes by a shortcut can be right nearly always, and nearly never in the group
    where the shortcut leads astray: the worst group tells (Sagawa et al., ICLR 2020).

    Args:
        images, labels: (n, c, h, w) in [0, 1], and their true classes (n,), by number or name.
        groups: the group of each image, (n,): numbers or names.

    Returns:
        One row a group: ``n``, ``accuracy``, and its 95 % interval ``low`` to ``high`` (Wilson).

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    images = validate.images(images)
    names = np.array(validate.groups(groups, "groups", len(images)))
    logits = predict_logits(classifier, images)
    known = CheckedClassifier(classifier).class_names
    labels = validate.labels(labels, len(images), logits.shape[1], "labels", known).cpu()
    right = (logits.argmax(1).cpu() == labels).numpy()
    rows = {name: _row(right[names == name]) for name in sorted(set(names.tolist()))}
    table = pd.DataFrame.from_dict(rows, orient="index").sort_values("accuracy", kind="stable")
    return pd.concat([table, pd.DataFrame({"all": _row(right)}).T]).astype({"n": int})


def _row(right: np.ndarray) -> dict[str, float]:
    low, high = wilson_interval(int(right.sum()), len(right))
    return {
        "n": len(right),
        "accuracy": float(right.mean()),
        "low": float(low),
        "high": float(high),
    }
