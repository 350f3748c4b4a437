"""Explain misclassified images by counterfactuals towards their true class."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cfxnb.attacks.describe_change import FeatureAttribution, describe_change
from cfxnb.attacks.descriptors import Descriptors
from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.conditions import require_conditional
from cfxnb.core.modes import standard_modes
from cfxnb.core.prediction import predict_logits
from cfxnb.core.results import Counterfactuals
from cfxnb.core.saved import Result
from cfxnb.core.tensors import predicted
from cfxnb.core.types import STOPPED, Classifier
from cfxnb.diffusion.diffusion_counterfactual import diffusion_counterfactual


@dataclasses.dataclass(frozen=True, eq=False)
class ErrorExplanation(Result):
    """Misclassified images, and counterfactuals that are classified correctly.

    Attributes:
        rows: positions of the explained images in the data set, int64 (n,).
        counterfactuals: counterfactuals of the explained images towards their true classes.
        table: DataFrame with one row per kind of error, a pair of true class and predicted class.
            The column ``images`` is the number of images of the true class, ``errors`` the number
            of errors of the kind, and ``explained`` the number of errors of the kind whose search
            was finished. ``flipped`` is the fraction of explained errors whose counterfactual
            flipped, and NaN if no error was explained.
        change_maps: for each kind of error the mean absolute difference between counterfactual and
            reconstruction over the flipped images, (h, w).
        feature_attribution: result of ``describe_change``, or None if no descriptors were passed or
            no image flipped.
    """

    rows: Tensor
    counterfactuals: Counterfactuals
    table: pd.DataFrame
    change_maps: dict[str, Tensor]
    feature_attribution: FeatureAttribution | None

    def __post_init__(self) -> None:
        validate.fields(self)

    def _check_saved(self) -> None:
        validate_results.result(self.counterfactuals, "counterfactuals")
        if self.rows.shape != (len(self.counterfactuals),):
            raise ValueError(
                f"rows: expected {len(self.counterfactuals)} positions, one per image, got shape "
                f"{tuple(self.rows.shape)}"
            )

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per explained image.

        The column ``row`` is the position of the image in the data set. The other columns are those
        of ``Counterfactuals.to_frame``.
        """
        found = self.counterfactuals.to_frame()
        found.insert(0, "row", self.rows.cpu().numpy())
        return found

    def save_images(self, output_dir: str | os.PathLike, *, overwrite: bool = False) -> list[Path]:
        """Write the images of the counterfactuals, see ``Counterfactuals.save_images``."""
        return self.counterfactuals.save_images(output_dir, overwrite=overwrite)

    def _repr_html_(self) -> str:
        return self.table.round(3).to_html() + self.counterfactuals._repr_html_()


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
    """Find counterfactuals of misclassified images towards their true class (arXiv 2310.06668).

    The difference between image and counterfactual shows what the classifier missed or misread, if
    the diffusion model can generate what is missing. The difference between image and
    counterfactual tells something about the classifier, not about what the image really shows.

    Args:
        space: a ``Diffusion`` space.
        classifier: images (b, c, h, w) -> logits (b, k), with gradients.
        images: images (n, c, h, w) in [0, 1], which may be misclassified or correctly classified.
        labels: true class of each image, (n,), by number or name.
        descriptors: Descriptors that name what changed, fitted with the codes of ``space``.
        max_images: largest number of images to explain. If there are more errors than
            ``max_images``, ``max_images`` random errors are explained.
        seed: seed of the random choice of errors and of the noise.
        first_row: position of the first image in its data set. The noise of an image depends on the
            position of the image. ``max_images`` applies to each call, not to the whole data set.
        kwargs: passed to ``diffusion_counterfactual``.

    Raises:
        ValueError, TypeError: if an argument is wrong, or if no image is misclassified.
    """
    images = validate.images(images)
    require_conditional(validate.diffusion(space))
    validate.white_box(classifier)
    validate.optional(_descriptors, descriptors, "descriptors")
    logits = predict_logits(classifier, images)
    class_names = CheckedClassifier(classifier).class_names
    labels = validate.labels(labels, len(images), logits.shape[1], "labels", class_names).cpu()
    first_row = validate.count(first_row, "first_row")
    answers = predicted(logits).cpu()
    errors = (answers != labels).nonzero()[:, 0]
    if not len(errors):
        raise ValueError("images: expected some that are misclassified, got none")
    max_images, seed = validate.count(max_images, "max_images", 1), validate.seed(seed)
    draw = torch.Generator().manual_seed(seed)
    rows = errors[torch.randperm(len(errors), generator=draw)[:max_images]].sort().values
    found = diffusion_counterfactual(
        space,
        classifier,
        images[rows],
        labels[rows],
        seed=seed,
        first_row=rows + first_row,
        **kwargs,
    )
    names = class_names or [str(c) for c in range(logits.shape[1])]
    pairs = zip(labels.tolist(), answers.tolist(), strict=True)
    kinds = pd.Series([f"{names[true]} seen as {names[answer]}" for true, answer in pairs])
    table, change_maps = _by_kind(kinds, labels, errors, rows, found)
    named = None
    if descriptors is not None and found.flipped.any():
        named = describe_change(found, descriptors)
    return ErrorExplanation(rows + first_row, found, table, change_maps, named)


def _descriptors(value: Any, name: str) -> Any:
    return validate.instance(value, Descriptors, name, "Descriptors of fit_descriptors")


def _by_kind(
    kinds: pd.Series, labels: Tensor, errors: Tensor, rows: Tensor, found: Counterfactuals
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Return ``table`` and ``change_maps`` of an ``ErrorExplanation``.

    Args:
        kinds: kind of error of each image: the true class and the predicted class. The kinds of
            correctly classified images are not used.
        labels: true class of each image.
        errors, rows: positions of all errors, and positions of the explained errors.
        found: counterfactuals of the images at the positions ``rows``.
    """
    change = (found.image - found.reconstruction).abs().mean(1)
    finished = torch.tensor([status != STOPPED for status in found.status])
    explained, all_kinds = kinds[rows.tolist()], kinds[errors.tolist()]
    table, change_maps = {}, {}
    for kind, n_errors in all_kinds.value_counts().items():
        of_kind = torch.tensor((explained == kind).tolist()) & finished
        flipped = of_kind & found.flipped
        true = labels[all_kinds.index[all_kinds == kind][0]]
        table[kind] = {
            "images": int((labels == true).sum()),
            "errors": int(n_errors),
            "explained": int(of_kind.sum()),
            "flipped": flipped.sum().item() / int(of_kind.sum()) if of_kind.any() else math.nan,
        }
        if flipped.any():
            change_maps[str(kind)] = change[flipped].mean(0)
    return pd.DataFrame.from_dict(table, orient="index"), change_maps
