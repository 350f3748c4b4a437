"""Necessity and sufficiency of named attributes for a classifier's outcome, image by image.

The module edits images in the latent space of a generator (Alipour et al., arXiv 2206.05257) and
computes the scores of LEWIS (Galhotra et al., 2021; Pearl, 2009, chapter 9). Read first
``necessity_and_sufficiency``, and ``tally`` in ``tally.py``, which hold the algorithm.

Differences from the paper and LEWIS: the edited image is compared with the unedited reconstruction.
The true factors of an image decide whether the image counts for necessity or for sufficiency. Of
the two values of an attribute, the one with which the outcome is more frequent is called value, and
the other one baseline. The images from which the scores are computed also decide which value is the
baseline, which makes the score PNS a little too large on few images.

Each image is classified before and after the edit of an attribute, so violations of monotonicity
(edits that have the opposite effect) can be counted and need not be excluded by assumption. If an
edit changes no other factor, no adjustment for other factors is needed. An independent judge
measures how often edits change other factors.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cfxnb.contrastive.attribute_edits import (
    AttributeEdits,
    check_reader,
    checked_edits,
    fit_attribute_edits,
)
from cfxnb.contrastive.contrasts import contrast_indices
from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.contrastive.scores import UNITS, ContrastiveScores
from cfxnb.contrastive.tally import leakage_of, tally
from cfxnb.core import one_shard, validate
from cfxnb.core.border import CheckedClassifier, CheckedSpace
from cfxnb.core.decisions import class_number
from cfxnb.core.driver import Stop, reconstruct_batch
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.space_fit import SpaceFit
from cfxnb.core.streamed import streamed
from cfxnb.core.tensors import predicted
from cfxnb.core.types import Classifier, Code, Images, LatentSpace
from cfxnb.core.weights_hash import weights_hash

COUNTED = {"clean": "clean", "effective": "took effect", "all": "reconstruction agrees"}
"""edit_filter -> column of ``units`` that must be True"""


def necessity_and_sufficiency(
    images: Tensor,
    values: Mapping[str, np.ndarray],
    edits: AttributeEdits,
    networks: "_Networks",
    in_batches: Callable[[Callable[[np.ndarray], pd.DataFrame]], pd.DataFrame],
    edit_filter: str,
    confidence_level: float,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Switch each attribute of each image to the other value, classify, and count the outcomes.

    Args:
        images: Images, (n, c, h, w).
        values: dict attribute -> one number per image: 1 (the image has the value of the contrast),
            0 (the baseline) or -1 (neither, so the image is skipped).
        edits: Edits of the attributes.
        networks: Space, classifier and judge.
        in_batches: Function ``in_batches(work)`` that calls ``work`` with the image positions of
            each batch, and joins the tables that ``work`` returns.
        edit_filter, confidence_level: As in ``contrastive_scores``.

    Returns:
        The tables ``units`` and ``table`` of ``ContrastiveScores``.
    """

    def edit_units(rows: np.ndarray) -> pd.DataFrame:
        # Abduction: the code of each image.
        code, original, before = networks.reconstruct(images[torch.from_numpy(rows)])
        parts = []
        for attribute, pair in edits.contrasts.items():
            unit = np.flatnonzero(values[attribute][rows] >= 0)
            if not len(unit):
                continue
            has = values[attribute][rows[unit]]
            other = [pair[1 - x] for x in has]
            # Action: set the attribute to its other value.
            edited = edits.edit(networks.take(code, unit), attribute, other)
            # Prediction: the class of the decoded edit.
            after = networks.observe(edited)
            part = {
                "row": rows[unit],
                "factor": attribute,
                "value": [pair[x] for x in has],
                "before": before.has_outcome[unit],
                "reconstruction agrees": (original.has_outcome == before.has_outcome)[unit],
                "after": after.has_outcome,
                **networks.changed_factors(before, after, unit, attribute, other),
            }
            parts.append(pd.DataFrame(part))
        return pd.concat(parts)

    units = in_batches(edit_units)
    if len(units):
        units["used"] = units["reconstruction agrees"] & units[COUNTED[edit_filter]]
    return units, tally(units, edits.contrasts, confidence_level)


@streamed
@standard_modes
def contrastive_scores(
    space: LatentSpace,
    classifier: Classifier,
    images: Images,
    factors: pd.DataFrame,
    outcome: int | str = 1,
    *,
    contrasts: Mapping[str, Any] | None = None,
    edits: AttributeEdits | None = None,
    judge: FactorReader | None = None,
    context: Any = None,
    edit_filter: str = "clean",
    confidence_level: float = 0.95,
    batch_size: int = 256,
    first_row: int = 0,
) -> ContrastiveScores:
    """Score how necessary and how sufficient each attribute is for an outcome of the classifier.

    Let x be the value of an attribute that favours the outcome o, and x' the other value (the
    baseline). The function estimates four fractions of images for each attribute:

    - necessity (PN): of the images with value x and outcome o, the fraction that loses o if the
      attribute is set to the baseline x'
    - sufficiency (PS): of the images with baseline x' and without outcome o, the fraction that gets
      o if the attribute is set to the value x
    - pns: of all images, the fraction that has outcome o with value x, but not with baseline x'
    - monotonicity_violation (P(harm)): of all images, the fraction that has outcome o with baseline
      x', but not with value x. ``monotonicity_violation`` is 0 if setting an attribute to x never
      removes the outcome.

    ``contrastive_scores`` works in any space and needs only the outputs of the classifier, no
    gradients. Images may be a data set of any size. The scores are about all images together, and
    their table of outcomes is small. So the function returns them, and writes no folder of results.

    Differences from the paper: the scores come with Wilson intervals, violations of monotonicity
    are measured, and an independent judge (a network that reads the factors of images) measures
    whether the edits worked.

    Args:
        space: Space in which the images are edited.
        classifier: Classifier to explain: images -> logits (b, k), k >= 2.
        images: Images in [0, 1], (n, c, h, w), or a data set (see ``cfx.open``). A data set needs
            ``edits``.
        factors: True attributes of each image: one row per image, in the order of ``images``. A set
            of ``cfx.data.folder`` has them as ``data.factors``.
        outcome: Class whose causes are scored, by index or by name. Default: 1.
        contrasts: dict attribute -> (baseline, value): the two compared values of each attribute,
            needed for attributes with more than two values. Only allowed without ``edits``.
            Default: the two values of each column of ``factors``.
        edits: Edits from ``fit_attribute_edits``. Default: linear edits, fitted on ``images``.
        judge: Independent factor reader (a network that predicts the factors of an image), which
            was not used to train the edits or the classifier. The judge decides which edits took
            effect, and which other factors the edits changed (leakage).
        context: Mask of the images to use, bool (n,), such as ``factors["top"] == "metal"``.
            Default: all images.
        edit_filter: Which edits count, according to the judge: "clean" (the attribute changed and
            no other factor did), "effective" (the attribute changed), or "all". If ``judge`` is
            None, all edits count.
        confidence_level: Confidence level of the intervals, in (0, 1).
        batch_size: Images per batch. A larger batch is faster and needs more memory.
        first_row: Position of the first image in its data set, added to ``units["row"]``.

    Returns:
        ContrastiveScores. A score that no image can contribute to is NaN, with n = 0. An image is
        left out if original and reconstruction disagree on whether the class is the outcome.
        ``reconstruction_agreement`` is the fraction of images whose original and reconstruction
        agree on the outcome. If Ctrl-C ends the call, the scores use only the finished images, and
        a warning gives the number of finished images.

    Raises:
        ValueError, TypeError: For a wrong argument.
    """
    began = time.perf_counter()
    validate.space(space)
    images = validate.images(images)
    edit_filter = validate.choice(edit_filter, "edit_filter", COUNTED)
    edit_filter = "all" if judge is None else edit_filter
    validate.number(confidence_level, "confidence_level", 1e-6, 1 - 1e-6)
    batch_size = validate.count(batch_size, "batch_size", 1)
    in_shard = one_shard.current() is not None  # other shards may have what this one lacks
    if edits is None and in_shard:
        raise ValueError(
            "edits: expected edits from cfx.fit_attribute_edits, because images are a data set, "
            "got None"
        )
    if edits is None:
        edits = fit_attribute_edits(space, images, factors, contrasts=contrasts)
    elif contrasts is not None:
        raise ValueError(
            f"contrasts: expected None if edits are given, got {validate.describe(contrasts)}"
        )
    checked_edits(edits, space)
    values = contrast_indices(factors, edits.contrasts, len(images))
    editable = np.any([index >= 0 for index in values.values()], axis=0)
    mask = context_mask(context, len(images), factors, may_be_empty=in_shard)
    rows = np.flatnonzero(editable & mask)
    if not len(rows) and not in_shard:
        raise ValueError(f"factors: expected some with the values of {edits.contrasts}, got none")
    if judge is not None:
        check_reader(judge, edits.contrasts, "judge")
    first_row = validate.count(first_row, "first_row")
    networks, stop = _Networks(space, classifier, judge, outcome), Stop(None)
    batches = [rows[rows // batch_size == i] for i in np.unique(rows // batch_size)]

    def in_batches(work: Callable[[np.ndarray], pd.DataFrame]) -> pd.DataFrame:
        def attempt(rows: np.ndarray) -> pd.DataFrame:
            with networks.fit.kept_if_finished():
                return work(rows)

        if not batches:
            columns = [*UNITS, "reconstruction agrees"]
            return pd.DataFrame({name: [] for name in columns}).astype({"used": bool})
        with eval_frozen(networks.space, networks.classifier, edits, judge), torch.no_grad():
            pairs = stop.each(batches, attempt, "contrastive_scores")
        parts = [part for _, part in pairs if part is not None]
        units = pd.concat(parts).sort_values("row", kind="stable", ignore_index=True)
        return units.assign(row=units["row"] + first_row)

    units, table = necessity_and_sufficiency(
        images, values, edits, networks, in_batches, edit_filter, confidence_level
    )
    stop.warn(units["row"].nunique(), len(rows), "and only these are used in the scores")
    networks.fit.warn()
    agreement = units.drop_duplicates("row")["reconstruction agrees"].mean()
    weights = {name: weights_hash(getattr(networks, name)) for name in ("space", "classifier")}
    return ContrastiveScores(
        outcome=networks.outcome,
        table=table,
        units=units,
        leakage=leakage_of(units, list(edits.names)),
        reconstruction_agreement=float(agreement),
        made_by={
            "function": "contrastive_scores",
            "edit_filter": edit_filter,
            "confidence_level": confidence_level,
            "preserve_others": edits.preserve_others,
            "contrasts": {name: list(map(_plain, p)) for name, p in edits.contrasts.items()},
            "weights": weights,
            "seconds": round(time.perf_counter() - began, 3),
        },
    )


@dataclasses.dataclass(frozen=True)
class _Observation:
    """Whether the class of each image is the outcome, and which options the judge reads."""

    has_outcome: np.ndarray
    factors: np.ndarray | None


class _Networks:
    """Checked space, classifier and judge, applied to batches of images."""

    def __init__(
        self, space: Any, classifier: Any, judge: FactorReader | None, outcome: Any
    ) -> None:
        self.space, self.classifier = CheckedSpace(space), CheckedClassifier(classifier)
        self.judge = judge
        self.outcome = class_number(outcome, "outcome", self.classifier.class_names)
        self.fit = SpaceFit(self.space)

    def reconstruct(self, images: Tensor) -> tuple[Code, _Observation, _Observation]:
        """Return the codes of images, and the observations of the images and their reconstructions.

        The judge reads only the reconstructions.
        """
        images = images.to(self.space.mean.device)
        code, reconstruction = reconstruct_batch(self.space, images)
        original, rebuilt = self._logits(images), self._logits(reconstruction)
        self.fit.add_images(images, reconstruction)
        self.fit.add_decisions(original, rebuilt)
        seen = _Observation(self._has_outcome(original), None)
        return code, seen, _Observation(self._has_outcome(rebuilt), self._read(reconstruction))

    def take(self, code: Code, unit: np.ndarray) -> Code:
        """Return the codes of the images at the positions ``unit`` of the batch."""
        return code[torch.from_numpy(unit).to(self.space.mean.device)]

    def observe(self, code: Code) -> _Observation:
        """Decode codes, classify the decoded images, and read the factors of the images."""
        images = validate.images(self.space.decode(code), "space.decode")
        factors = self._read(images)
        return _Observation(self._has_outcome(self._logits(images)), factors)

    def _logits(self, images: Tensor) -> Tensor:
        """Return the logits, or raise an error if a logit is not finite."""
        return validate.finite_logits(self.classifier(images))

    def _has_outcome(self, logits: Tensor) -> np.ndarray:
        names = self.classifier.class_names
        outcome = validate.labels(self.outcome, len(logits), logits.shape[1], "outcome", names)
        return (predicted(logits) == outcome.to(logits.device)).cpu().numpy()

    def _read(self, images: Tensor) -> np.ndarray | None:
        """Return the index of the option that the judge reads for each factor, (n, factors)."""
        if self.judge is None:
            return None
        try:
            return self.judge.indices(images).cpu().numpy()
        except ValueError as error:
            raise ValueError(f"judge: expected a reader for images of this kind. {error}") from None

    def changed_factors(
        self, before: _Observation, after: _Observation, unit: np.ndarray, name: str, wanted: list
    ) -> dict[str, np.ndarray]:
        """Return the columns of ``units`` that say which factors changed according to the judge.

        The column ``took effect`` says whether the attribute got the wanted option, and the columns
        ``changed ...`` say which other factors changed.
        """
        if self.judge is None or before.factors is None or after.factors is None:
            return {}
        known, options = list(self.judge.options), self.judge.options[name]
        changed, own = before.factors[unit] != after.factors, known.index(name)
        took = changed[:, own] & (after.factors[:, own] == [options.index(v) for v in wanted])
        changed[:, own] = False
        columns = {f"changed {n}": changed[:, j] for j, n in enumerate(known)}
        return {"took effect": took, "clean": took & ~changed.any(1), **columns}


def _plain(value: Any) -> Any:
    """Return a value of an attribute as a number or a text of Python."""
    return value.item() if isinstance(value, np.generic) else value


def context_mask(
    context: Any, rows: int, table: pd.DataFrame | None = None, may_be_empty: bool = False
) -> np.ndarray:
    """Return the context as a bool array (rows,). All entries are True if ``context`` is None.

    Args:
        context: Mask with one entry per image, or None.
        rows: Number of images.
        table: Table of factors. If ``context`` is a Series, ``table`` must have the same index as
            ``context``.
        may_be_empty: Whether a mask without any image is accepted.
    """
    if context is None:
        return np.ones(rows, bool)
    series = isinstance(context, pd.Series) and len(context) == rows
    if series and table is not None and not context.index.equals(table.index):
        raise ValueError(
            "context: expected a mask with the index of factors, got another index. "
            "Use context.to_numpy() to match rows by position."
        )
    mask = validate.mask(context, "context", rows)
    if not mask.any() and not may_be_empty:
        raise ValueError("context: expected at least one image, got none")
    return mask
