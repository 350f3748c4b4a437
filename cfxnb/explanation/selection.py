"""Which images are explained, which others help, and what each image's target is."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.goals import Goal, goal_classifier
from cfxnb.core.modules import eval_frozen
from cfxnb.core.outcomes import outcomes_of
from cfxnb.core.prediction import finite_predict_logits
from cfxnb.core.streams import is_data_set
from cfxnb.core.tensors import predicted
from cfxnb.data.from_dataset import from_dataset
from cfxnb.data.imageset import ImageSet
from cfxnb.data.lazy_imageset import LazyImageSet
from cfxnb.explanation.methods import AT_ONCE, MOST_REFERENCES, nearest

TARGETS = ("second", "next")


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """Images of a data set, chosen to be explained, and others.

    Attributes:
        images: The explained images. Those of a folder are read when they are used.
        rows: Their rows in the data set, int64 (n,).
        reference: Further images, with which flows are fitted and directions are found.
        source: The set of these further images, which may name factors.
        n_all: Size of the data set.
        skipped: Files of the data set that cannot be used.
    """

    images: ImageSet | LazyImageSet
    rows: np.ndarray
    reference: Tensor
    source: ImageSet | LazyImageSet
    n_all: int
    skipped: pd.DataFrame

    def __len__(self) -> int:
        return len(self.rows)

    def parts(self) -> Iterator[ImageSet]:
        """Read the explained images, some at a time."""
        for first in range(0, len(self), AT_ONCE):
            yield self.images[first : first + AT_ONCE]


def select(data: Any, reference: Any, n_images: int | None) -> Selection:
    """Choose images that are evenly spread over a data set.

    Args:
        data: The data set.
        reference: Data set of further images, or None for those of ``data`` that are left.
        n_images: Number of images to explain, or None for all.
    """
    whole = as_set(data, "data")
    count = len(whole)
    if not count:
        raise ValueError("data: expected at least one image, got none")
    rows = spread(count, count if n_images is None else n_images)
    others = whole if reference is None else as_set(reference, "reference")
    free = np.setdiff1d(np.arange(count), rows) if reference is None else np.arange(len(others))
    picked = free[spread(len(free), MOST_REFERENCES)]
    images = whole.subset(rows) if isinstance(whole, LazyImageSet) else whole[rows]
    shape = tuple(images[:1].images.shape[1:])
    rest = others[picked].images if len(picked) else torch.zeros(0, *shape)
    if tuple(rest.shape[1:]) != shape:
        raise ValueError(
            f"reference: expected images of shape {shape}, got {tuple(rest.shape[1:])}"
        )
    skipped = getattr(whole, "skipped", pd.DataFrame({"file": [], "reason": []}))
    return Selection(images, rows, rest, others, count, skipped)


def spread(count: int, wanted: int) -> np.ndarray:
    """Return at most ``wanted`` of the numbers below ``count``, evenly spread, int64."""
    ends = np.linspace(0, max(count - 1, 0), min(wanted, count))
    return np.unique(ends.round().astype(np.int64))


def as_set(value: Any, name: str) -> ImageSet | LazyImageSet:
    """Return an ImageSet or a LazyImageSet. Plain images get no labels."""
    if isinstance(value, ImageSet | LazyImageSet):
        return value
    if isinstance(value, Dataset) and not isinstance(value, IterableDataset):
        return from_dataset(value)
    if is_data_set(value):
        raise TypeError(
            f"{name}: expected a data set with a length, because it is read several times, got "
            f"{validate.describe(value)}; pass an ImageSet, the set of cfx.data.folder, or a torch "
            "Dataset"
        )
    images = validate.images(value, name)
    return ImageSet(
        images=images,
        labels=torch.zeros(len(images), dtype=torch.int64),
        class_names=("unlabelled",),
        factors=pd.DataFrame(index=range(len(images))),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Aim:
    """What the explained images are classified as, and what they have to become.

    Attributes:
        logits: Logits of the explained images, (n, k). With a goal: of the classes "not reached"
            and "reached".
        class_names: Names of these classes.
        target: Class to reach, (n,).
        goal: The goal, or None if the targets are classes.
        images: Digest of the explained images and of their predicted classes.
    """

    logits: Tensor
    class_names: tuple[str, ...]
    target: Tensor
    goal: Goal | None
    images: str

    @property
    def asked(self) -> Goal | Tensor:
        """What methods get as ``target``."""
        return self.target if self.goal is None else self.goal


def aim(target: Any, classifier: Any, selection: Selection) -> Aim:
    """Classify the explained images, and choose the target of each one."""
    goal = target if isinstance(target, Goal) else None
    if goal is None and outcomes_of(classifier) is not None:
        raise TypeError(
            "target: expected a goal such as cfx.raise_to(0.8), or {raise_to: 0.8} in settings, "
            f"because the classifier is a regression model, got {validate.describe(target)}"
        )
    network = classifier if goal is None else goal_classifier(classifier, goal)
    logits, sha = [], hashlib.sha256()
    with eval_frozen(classifier), torch.no_grad():
        for part in selection.parts():
            if goal is not None:
                network.begin()
            logits.append(finite_predict_logits(network, part.images, AT_ONCE).cpu())
            sha.update(part.images.contiguous().numpy().tobytes())
    joined = torch.cat(logits)
    sha.update(predicted(joined).numpy().tobytes())
    names = class_names_of(network, selection.images, joined.shape[1])
    classes = torch.ones(len(joined), dtype=torch.int64)
    if goal is None:
        classes = targets(target, joined, names)
    return Aim(joined, names, classes, goal, sha.hexdigest()[:16])


def class_names_of(classifier: Any, images: ImageSet | LazyImageSet, count: int) -> tuple[str, ...]:
    """Return the names of the classes: those of the classifier, of the data, or numbers."""
    own = CheckedClassifier(classifier).class_names
    if own is not None and len(own) == count:
        return tuple(map(str, own))
    if len(images.class_names) == count:
        return images.class_names
    return tuple(map(str, range(count)))


def labels_of(images: ImageSet | LazyImageSet, names: tuple[str, ...]) -> Tensor | None:
    """Return the labels as class numbers of the classifier, or None if they do not fit.

    Classes with the same name are the same class, in whatever order the two lists have them.
    Without a common name, the order decides.
    """
    if set(images.class_names) <= set(names):
        return torch.tensor([names.index(images.class_names[i]) for i in images.labels.tolist()])
    if len(images.class_names) == len(names) and not set(images.class_names) & set(names):
        return images.labels
    return None


def targets(value: Any, logits: Tensor, names: tuple[str, ...]) -> Tensor:
    """Return the class to reach for each image, int64 (n,)."""
    decided, k = predicted(logits).clamp(min=0), logits.shape[1]
    if isinstance(value, str) and value in TARGETS and value not in names:
        if value == "next":
            return (decided + 1) % k
        others = logits.nan_to_num(-torch.inf).scatter(1, decided[:, None], -torch.inf)
        return others.argmax(1)
    if isinstance(value, Mapping):
        pairs = [(int(validate.labels(a, 1, k, "target", names)), b) for a, b in value.items()]
        goals = {a: int(validate.labels(b, 1, k, "target", names)) for a, b in pairs}
        if missing := sorted(set(decided.tolist()) - set(goals)):
            raise ValueError(
                f"target: expected a target for each predicted class, got none for "
                f"{names[missing[0]]!r}"
            )
        return torch.tensor([goals[c] for c in decided.tolist()])
    try:
        return validate.labels(value, len(logits), k, "target", names).cpu().clone()
    except ValueError as error:
        if isinstance(value, str):
            known = [*TARGETS, *names]
            raise ValueError(
                f"target: expected 'second', 'next', or a class out of {str(list(names))[:200]}, "
                f"got {value!r:.80}{nearest(value, known)}"
            ) from error
        raise
