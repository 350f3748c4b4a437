"""Necessity and sufficiency of named attributes for a classifier's outcome, unit by unit.

Contrastive counterfactuals in a generator's latent space (Alipour et al., arXiv 2206.05257), with
the scores of LEWIS (Galhotra et al., 2021; Pearl, 2009, chapter 9). Abduction: the code of each
image, its stochastic part fixed. Action: the code with one attribute edited. Prediction: what the
classifier says of the decoded edit. So each image's own counterfactual is seen, monotonicity is
measured instead of assumed, and no adjustment is needed as long as the edit changes nothing else:
how far that holds is measured by an independent reader.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cfxnb.contrastive.attribute_edits import fit_attribute_edits
from cfxnb.contrastive.edits import AttributeEdits, checked_edits, checked_factors
from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.contrastive.scores import ContrastiveScores, tally
from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier, CheckedSpace
from cfxnb.core.decisions import class_number
from cfxnb.core.driver import Stop, reconstruct_batch
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.space_fit import SpaceFit
from cfxnb.core.tensors import predicted
from cfxnb.core.types import Classifier, Code, LatentSpace
from cfxnb.core.weights_hash import weights_hash

ONLY = ("clean", "effective", "all")


@standard_modes
def contrastive_scores(
    space: LatentSpace,
    classifier: Classifier,
    images: Tensor,
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
    """For each attribute: was it necessary for the outcome, would it have been sufficient?

    With x the value of an attribute that favours outcome o, and x' the other one:

    - necessity: among images with x and o, the share that loses o when the attribute is set to x'
    - sufficiency: among images with x' and not o, the share that gets o when it is set to x
    - both: among all images, the share with o under x and not o under x'
    - harm: the share with o under x' and not o under x; 0 if the effect is monotone

    Works in any space; the classifier is only asked, never differentiated.

    Args:
        images: (n, c, h, w) in [0, 1].
        factors: one row an image, by position: what each attribute really is.
        outcome: the class whose reasons are asked for: its number, or its name.
        contrasts: factor -> (instead, value), for factors with more than two values; see
            ``fit_attribute_edits``. Edits that are given have their own.
        edits: edits from ``fit_attribute_edits``; by default linear ones are fitted on
            these images and factors.
        judge: an independent reader of factors, which neither directions nor classifier were
            trained with. It adds the share of edits that took effect and the leakage.
        context: restricts the question, such as ``factors["top"] == "metal"``: bool, one a row.
        edit_filter: which edits count, as the judge sees them: "clean" (took effect, and nothing else
            changed), "effective" (took effect), or "all". Without a judge all count.
        confidence_level: of the intervals, in (0, 1).
        first_row: position of the first image in its data set, from which ``units["row"]`` counts.

    Returns:
        Scores. A score without a single image to ask is NaN, with n = 0. Images whose
        reconstruction is classified otherwise than the original are not asked; ``reconstruction_agreement``
        tells how many are left. Ctrl-C ends the call: the scores are then about the images that
        are finished, and a warning tells how many these are.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    began = time.perf_counter()
    validate.space(space)
    images = validate.images(images)
    edit_filter = validate.choice(edit_filter, "only", ONLY)
    edit_filter = "all" if judge is None else edit_filter
    validate.number(confidence_level, "confidence_level", 1e-6, 1 - 1e-6)
    batch_size = validate.count(batch_size, "batch_size", 1)
    if edits is None:
        edits = fit_attribute_edits(space, images, factors, contrasts=contrasts)
    elif contrasts is not None:
        raise ValueError(
            f"contrasts: expected none beside directions, got {validate.describe(contrasts)}"
        )
    checked_edits(edits, space)
    values = attribute_values(factors, edits, len(images))
    asked = rows_of(context, len(images), factors)
    if not any((has[asked] >= 0).any() for has in values.values()):
        raise ValueError(f"factors: expected some with the values of {edits.contrasts}, got none")
    _check_judge(judge, edits)
    first_row = validate.count(first_row, "first_row")
    space, classifier = CheckedSpace(space), CheckedClassifier(classifier)
    outcome = class_number(outcome, "outcome", classifier.class_names)
    ask, stop = _Units(space, classifier, edits, judge, outcome), Stop(None)
    every = np.flatnonzero(asked)
    chunks = [every[every // batch_size == number] for number in np.unique(every // batch_size)]
    with eval_frozen(space, classifier, edits, judge), torch.no_grad():
        parts = stop.each(
            chunks, lambda rows: ask.table(rows, images[torch.from_numpy(rows)], values)
        )
    done = [part for _, part in parts if part is not None]
    if not any(map(len, done)):
        raise KeyboardInterrupt  # what was finished has none of the values asked about
    units = pd.concat([part for part in done if len(part)])
    finished = sum(len(rows) for rows, part in parts if part is not None)
    stop.warn(finished, len(every), "and the scores are about these alone")
    units = units.sort_values("row", kind="stable", ignore_index=True)
    units["row"] += first_row
    ask.fit.warn()
    units["used"] = units["reconstruction agrees"] & (
        True if edit_filter == "all" else units[_COUNTS[edit_filter]]
    )
    return ContrastiveScores(
        outcome=outcome,
        table=tally(units, edits.contrasts, confidence_level),
        units=units,
        leakage=pd.DataFrame() if judge is None else _leakage(units, edits, judge),
        reconstruction_agreement=float(
            units.drop_duplicates("row")["reconstruction agrees"].mean()
        ),
        made_by={
            "function": "contrastive_scores",
            "only": edit_filter,
            "confidence_level": confidence_level,
            "preserve_others": edits.preserve_others,
            "weights": {"space": weights_hash(space), "classifier": weights_hash(classifier)},
            "seconds": round(time.perf_counter() - began, 3),
        },
    )


_COUNTS = {"clean": "clean", "effective": "took effect"}


class _Units:
    """Asks images chunk by chunk, each edited once for every attribute of which it has a value."""

    def __init__(
        self,
        space: CheckedSpace,
        classifier: CheckedClassifier,
        edits: AttributeEdits,
        judge: FactorReader | None,
        outcome: int,
    ) -> None:
        self.space, self.classifier, self.edits = space, classifier, edits
        self.judge, self.outcome = judge, outcome
        self.fit = SpaceFit(space)

    def table(self, rows: np.ndarray, images: Tensor, values: Mapping[str, Any]) -> pd.DataFrame:
        """One row an image and attribute: see ``ContrastiveScores.units``."""
        work = images.to(self.space.mean.device)
        code, rebuilt = reconstruct_batch(self.space, work)
        originals, rebuilds = self._logits(work), self._logits(rebuilt)
        self.fit.add_images(work, rebuilt)
        self.fit.add_decisions(originals, rebuilds)
        seen, before = self._is_outcome(originals), self._is_outcome(rebuilds)
        read = None if self.judge is None else self._read(rebuilt)
        parts = []
        for name, pair in self.edits.contrasts.items():
            has = values[name][rows]
            part = np.flatnonzero(has >= 0)  # images with a third value are not asked
            if not len(part):
                continue
            told = {
                "row": rows[part],
                "factor": name,
                "value": [pair[has[i]] for i in part],
                "before": before[part],
                "reconstruction agrees": (seen == before)[part],
            }
            wanted = [pair[1 - has[i]] for i in part]
            after, judged = self._edited(code[torch.from_numpy(part).to(work.device)], name, wanted)
            told["after"] = after
            if read is not None:
                told |= self._changes(read[part], judged, name, wanted)
            parts.append(pd.DataFrame(told))
        return pd.concat(parts) if parts else pd.DataFrame()

    def _read(self, images: Tensor) -> np.ndarray:
        """What the judge reads, (n, factors)."""
        try:
            return self.judge.indices(images).cpu().numpy()  # type: ignore[union-attr]
        except ValueError as error:
            raise ValueError(f"judge: expected one that reads these images: {error}") from None

    def _logits(self, images: Tensor) -> Tensor:
        """All finite: an image without a decision belongs to no rate."""
        return validate.finite_logits(self.classifier(images))

    def _is_outcome(self, logits: Tensor) -> np.ndarray:
        names = self.classifier.class_names
        outcome = validate.labels(self.outcome, len(logits), logits.shape[1], "outcome", names)
        return (predicted(logits) == outcome.to(logits.device)).cpu().numpy()

    def _edited(self, code: Code, name: str, wanted: list) -> tuple[np.ndarray, np.ndarray | None]:
        edited = self.edits.edit(code, name, wanted)
        image = validate.images(self.space.decode(edited), "space.decode")
        read = None if self.judge is None else self._read(image)
        return self._is_outcome(self._logits(image)), read

    def _changes(
        self, before: np.ndarray, after: Any, name: str, wanted: list
    ) -> dict[str, np.ndarray]:
        """What the judge sees of an edit: whether it took effect, and what else changed."""
        known = list(self.judge.options)  # type: ignore[union-attr]
        options = self.judge.options[name]  # type: ignore[union-attr]
        changed, own = before != after, known.index(name)
        took = changed[:, own] & (after[:, own] == [options.index(v) for v in wanted])
        changed[:, own] = False
        told = {f"changed {n}": changed[:, j] for j, n in enumerate(known)}
        return {"took effect": took, "clean": took & ~changed.any(1), **told}


def _leakage(units: pd.DataFrame, edits: AttributeEdits, judge: FactorReader) -> pd.DataFrame:
    """Edited attribute (rows) by factor that changed though it should not have (columns)."""
    columns = {f"changed {n}": n for n in judge.options}
    shares = units.groupby("factor")[list(columns)].mean().rename(columns=columns)
    shares = shares.reindex(list(edits.names)).astype(float)
    for name in edits.names:
        shares.loc[name, name] = np.nan  # the edited one is meant to change
    return shares


def attribute_values(factors: Any, edits: AttributeEdits, rows: int) -> dict[str, np.ndarray]:
    """Per attribute and image: 1 with the value, 0 with what is instead of it, -1 with neither."""
    checked_factors(factors, rows)
    if missing := [n for n in edits.names if n not in factors]:
        raise ValueError(f"factors: expected columns {missing}, got {list(factors.columns)}")
    try:
        return {
            name: pd.Index(pair).get_indexer(pd.Index(factors[name]))
            for name, pair in edits.contrasts.items()
        }
    except TypeError:  # lists and arrays in a column
        raise TypeError(
            f"factors: expected the values of {edits.contrasts}, got lists in a column"
        ) from None


def rows_of(context: Any, rows: int, table: pd.DataFrame | None = None) -> np.ndarray:
    """The context as a bool array, not without any image; everything by default.

    Args:
        table: of the factors; a Series must have its index.
    """
    if context is None:
        return np.ones(rows, bool)
    series = isinstance(context, pd.Series) and len(context) == rows
    if series and table is not None and not context.index.equals(table.index):
        raise ValueError(
            "context: expected a mask with the index of factors, got another index; rows are taken "
            "by position with context.to_numpy()"
        )
    mask = validate.mask(context, "context", rows)
    if not mask.any():
        raise ValueError("context: expected at least one image, got none")
    return mask


def _check_judge(judge: Any, edits: AttributeEdits) -> None:
    if judge is None:
        return
    validate.instance(judge, FactorReader, "judge", "a cfx.FactorReader")
    for name, pair in edits.contrasts.items():
        if not set(pair) <= set(judge.options.get(name, ())):
            raise ValueError(
                f"judge: expected one that reads {name} as {pair[0]!r} or {pair[1]!r}, "
                f"got {judge!r}"
            )
