"""What a classifier gets wrong: what would have to look different for it to be right?"""

import dataclasses
import math
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cfxnb.attacks.describe_change import FeatureAttribution, describe_change
from cfxnb.attacks.descriptors import Descriptors
from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.modes import standard_modes
from cfxnb.core.prediction import predict_logits
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import predicted
from cfxnb.core.types import STOPPED, Classifier
from cfxnb.diffusion.diffusion_counterfactual import diffusion_counterfactual


@dataclasses.dataclass(frozen=True, eq=False)
class ErrorExplanation:
    """Misclassified images, and how each would have been classified right.

    Attributes:
        rows: positions of the misclassified images in the data set, int64 (n,): those that were
            chosen to be explained.
        counterfactuals: of those, towards their true classes.
        table: one row a kind of error (true and predicted class): how many of how many images of
            the true class, how many were explained, and the share of those that flipped (NaN if
            none were explained). What a stop left unfinished was not explained.
        change_maps: kind of error -> where images were changed: mean absolute change against the
            reconstruction over what flipped, (h, w).
        feature_attribution: what changed, by ``describe_change``; None without descriptors or flips.
    """

    rows: Tensor
    counterfactuals: Counterfactuals
    table: pd.DataFrame
    change_maps: dict[str, Tensor]
    feature_attribution: FeatureAttribution | None

    def __post_init__(self) -> None:
        validate.fields(self)

    def _repr_html_(self) -> str:
        table = self.table.round(3).to_html()
        return table + self.counterfactuals._repr_html_()


@standard_modes
def explain_errors(
    space: Any,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    descriptors: Descriptors | None = None,
    max_images: int = 100,
    seed: int = 0,
    first_row: int = 0,
    **kwargs: Any,
) -> ErrorExplanation:
    """Counterfactuals of misclassified images towards their true class (arXiv 2310.06668).

    The difference shows what this classifier missed, or took for what it is not, as far as the
    diffusion model can draw it. It is a statement about the classifier, not about what is shown.

    Args:
        images, labels: (n, c, h, w) in [0, 1], and their true classes (n,), by number or name.
        descriptors: to name what changed, in the codes of ``space``.
        max_images: images explained; if there are more errors, a random choice of them.
        seed: of that choice, and of the noise.
        first_row: position of the first image in its data set: noise belongs to an image's place
            there. ``max_images`` counts, and chooses, in each call.
        kwargs: of ``diffusion_counterfactual``.

    Raises:
        ValueError, TypeError: for a wrong argument, or if nothing is misclassified.
    """
    images = validate.images(images)
    validate.diffusion(space)
    validate.white_box(classifier)
    validate.optional(_descriptors, descriptors, "descriptors")
    logits = predict_logits(classifier, images)
    known = CheckedClassifier(classifier).class_names
    labels = validate.labels(labels, len(images), logits.shape[1], "labels", known).cpu()
    first_row = validate.count(first_row, "first_row")
    said = predicted(logits).cpu()
    wrong = (said != labels).nonzero()[:, 0]
    if not len(wrong):
        raise ValueError("images: expected some that are misclassified, got none")
    max_images, seed = validate.count(max_images, "max_images", 1), validate.seed(seed)
    draw = torch.Generator().manual_seed(seed)
    rows = wrong[torch.randperm(len(wrong), generator=draw)[:max_images]].sort().values
    found = diffusion_counterfactual(
        space,
        classifier,
        images[rows],
        labels[rows],
        seed=seed,
        first_row=rows + first_row,
        **kwargs,
    )
    names = known or [str(c) for c in range(logits.shape[1])]
    kinds = [f"{names[t]} seen as {names[s]}" for t, s in _pairs(labels, said)]
    table, change_maps = _by_kind(kinds, labels, said, rows, found)
    able = descriptors is not None and bool(found.flipped.any())
    feature_attribution = describe_change(found, descriptors) if able else None  # type: ignore[arg-type]
    return ErrorExplanation(rows + first_row, found, table, change_maps, feature_attribution)


def _descriptors(value: Any, name: str) -> Any:
    return validate.instance(value, Descriptors, name, "Descriptors of fit_descriptors")


def _pairs(labels: Tensor, said: Tensor) -> list[tuple[int, int]]:
    return list(zip(labels.tolist(), said.tolist(), strict=True))


def _by_kind(
    kinds: list[str], labels: Tensor, said: Tensor, rows: Tensor, found: Counterfactuals
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    every = pd.Series(kinds)[(labels != said).numpy()]
    explained = pd.Series([kinds[i] for i in rows.tolist()])
    feature_attribution = (found.image - found.reconstruction).abs().mean(1)
    table, change_maps = {}, {}
    finished = torch.tensor([status != STOPPED for status in found.status])
    for kind, count in every.value_counts().items():
        mine = torch.tensor((explained == kind).tolist()) & finished
        true = int(labels[every.index[every == kind][0]])
        flipped = mine & found.flipped
        table[kind] = {
            "images": int((labels == true).sum()),
            "errors": int(count),
            "explained": int(mine.sum()),
            "flipped": flipped.sum().item() / int(mine.sum()) if mine.any() else math.nan,
        }
        if flipped.any():
            change_maps[str(kind)] = feature_attribution[flipped].mean(0)
    return pd.DataFrame.from_dict(table, orient="index"), change_maps
