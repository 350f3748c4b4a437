"""Scored against the truth: explanations of sprites, where every reason is known.

The kinds of flips follow the protocol of the BEx benchmark ("Evaluating Visual Counterfactual
Explainers", 2023, github.com/dvd42/Bex): a counterfactual should point at a factor that the
classifier uses (causal), and not only at the meaning of the class itself (trivial), at bystanders
(non-causal), or at nothing that can be read (adversarial); and an explainer earns more by several
distinct successful explanations of one image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor

from cfxnb.contrastive.contrastive_scores import context_mask, tally
from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.contrastive.scores import ContrastiveScores, checked_scores
from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.decisions import class_number
from cfxnb.core.intervals import checked_confidence
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.prediction import predict_logits
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import Classifier
from cfxnb.data.imageset import ImageSet
from cfxnb.data.lpc import SPRITE_OPTIONS
from cfxnb.data.sprite_figures import intervene, label_of

FLIP_KINDS = ("causal", "trivial", "non-causal", "adversarial")


@standard_modes
def true_scores(
    figures: ImageSet,
    classifier: Classifier,
    contrasts: Mapping[str, tuple[str, str]],
    outcome: int | str = 1,
    *,
    context: Any = None,
    confidence_level: float = 0.95,
) -> ContrastiveScores:
    """Necessity and sufficiency by re-rendering: each figure with one layer swapped.

    Args:
        figures: from ``cfxnb.data.sprites``.
        contrasts: factor -> (instead, value).
        outcome, context, confidence_level: as for ``cfxnb.contrastive_scores``. The intervals cover the
            draw of the figures; nothing else is uncertain here.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them a classifier whose
            logits are not finite.
    """
    label_of(figures)
    outcome = class_number(outcome, "outcome", CheckedClassifier(classifier).class_names)
    confidence_level = checked_confidence(confidence_level)
    _check_contrasts(contrasts)
    positions = np.flatnonzero(context_mask(context, len(figures), figures.factors))
    figures = figures[positions]
    with eval_frozen(classifier):
        logits = predict_logits(classifier, figures.images)
        validate.labels(outcome, len(figures), logits.shape[1], "outcome")
        before = (logits.argmax(1) == outcome).numpy()
        parts = []
        for name, pair in contrasts.items():
            under = {
                value: (
                    predict_logits(classifier, intervene(figures, **{name: value}).images).argmax(1)
                    == outcome
                ).numpy()
                for value in pair
            }
            column = figures.factors[name].to_numpy()
            part = np.isin(column, pair)
            after = np.where(column == pair[1], under[pair[0]], under[pair[1]])
            rows = {
                "row": positions, "factor": name, "value": column,
                "before": before, "after": after, "reconstruction agrees": True, "used": True,
            }  # fmt: skip
            parts.append(pd.DataFrame(rows)[part])
    units = pd.concat(parts, ignore_index=True)
    table = tally(units, dict(contrasts), confidence_level)
    return ContrastiveScores(
        outcome, table, units, pd.DataFrame(), 1.0, {"function": "true_scores"}
    )


def _check_contrasts(contrasts: Any) -> None:
    validate.instance(contrasts, Mapping, "contrasts", "a dict: factor -> (instead, value)")
    if not contrasts:
        raise ValueError("contrasts: expected at least one factor, got none")
    for name, pair in contrasts.items():
        options = SPRITE_OPTIONS[validate.choice(name, "contrasts", SPRITE_OPTIONS)]
        values = list(pair) if isinstance(pair, tuple | list) else [pair]
        known = all(isinstance(v, str) and v in options for v in values)
        if len(values) != 2 or not known or values[0] == values[1]:
            raise ValueError(
                f"contrasts[{name!r}]: expected two different options out of {options}, "
                f"got {validate.describe(pair)}"
            )


def score_errors(scores: ContrastiveScores, truth: ContrastiveScores) -> pd.DataFrame:
    """How far scores are from the truth.

    Returns:
        One row a score ("necessity", "sufficiency", "both") and attribute, as two levels of the
        index: ``score``, ``truth``, ``error`` (absolute), ``inside`` (the truth lies in the
        score's interval). The truth is taken for the contrast in which ``scores`` gives it: same
        value, same value instead. Rows where either is NaN are left out.

    Raises:
        ValueError, TypeError: if these are no scores, or the truth lacks an attribute.
    """
    checked_scores(scores, "scores")
    checked_scores(truth, "truth")
    rows = {}
    for name, pair in scores.contrasts.items():
        own, real = scores.table.loc[name], same_contrast(truth, name, pair)
        for kind in ("necessity", "sufficiency", "pns"):
            if not (np.isnan(own[kind]) or np.isnan(real[kind])):
                inside = own[f"{kind} low"] <= real[kind] <= own[f"{kind} high"]
                rows[kind, name] = (own[kind], real[kind], abs(own[kind] - real[kind]), inside)
    columns = ["score", "truth", "error", "covered"]
    index = pd.MultiIndex.from_tuples(list(rows), names=("kind", "attribute"))
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)


def same_contrast(truth: ContrastiveScores, name: str, pair: tuple[Any, Any]) -> dict[Any, Any]:
    """The row of ``truth`` for this attribute, counted anew if it favours the other value."""
    if name not in truth.table.index:
        raise ValueError(f"truth: expected the attribute {name!r}, got {truth!r}")
    if truth.contrasts[name] == pair:
        return truth.table.loc[name].to_dict()
    if truth.contrasts[name] != pair[::-1]:
        raise ValueError(f"truth: expected {name} between {pair}, got {truth!r}")
    mine = truth.units[truth.units["factor"] == name]
    return tally(mine, {name: pair}, 0.95, orient=False).loc[name].to_dict()


@standard_modes
def changed_factors(counterfactuals: Counterfactuals, judge: FactorReader) -> pd.DataFrame:
    """Which factors the judge reads otherwise than in the original: bool, one row an image.

    Where the reconstruction alone changes a factor, it is the reconstruction that counts as
    "before": what the space can't draw was not changed by the search.

    Raises:
        ValueError, TypeError: for a wrong argument; among them rows that were never begun, of
            which nothing is known.
    """
    cf = validate_results.result(counterfactuals, "counterfactuals")
    validate_results.begun(cf, "counterfactuals")
    return _changed(cf, judge)


def _changed(cf: Counterfactuals, judge: FactorReader) -> pd.DataFrame:
    before, after = (read_numbers(judge, cf, field) for field in ("reconstruction", "image"))
    return pd.DataFrame((before != after).cpu().numpy(), columns=list(judge.options))


def _changed_in_flips(counterfactuals: Counterfactuals, judge: FactorReader) -> pd.DataFrame:
    """``changed_factors`` of what flipped, by the positions of the images."""
    cf = validate_results.result(counterfactuals, "counterfactuals")
    rows = cf.flipped.bool().cpu().nonzero()[:, 0]
    return _changed(cf[rows], judge).set_axis(rows.numpy(), axis=0)


def _factors(causes: Any) -> list[str]:
    """Names of factors, in any collection."""
    return validate.texts(list(causes) if isinstance(causes, Mapping | set) else causes, "causes")


def read_numbers(judge: Any, cf: Counterfactuals, field: str) -> Tensor:
    """What a reader sees in the images of a result, (n, factors); nothing in a result of none."""
    reader: FactorReader = validate.instance(judge, FactorReader, "judge", "a cfx.FactorReader")
    images = getattr(cf, field)
    if not len(cf):
        return torch.zeros(0, len(reader.options), dtype=torch.int64)
    if not images.isfinite().all():
        raise ValueError(
            f"counterfactuals.{field}: expected finite images, got NaN or infinity; leave out the "
            "rows with the status 'not_finite'"
        )
    with validate.part_of("judge"):
        return reader.indices(images)


@standard_modes
def classify_flips(
    counterfactuals: Counterfactuals,
    judge: FactorReader,
    causes: Sequence[str],
    named_factor: str,
) -> pd.DataFrame:
    """What each flip changed: a cause, the class's own meaning, bystanders, or nothing readable.

    Args:
        counterfactuals: of any method; only its flipped rows are judged.
        judge: an independent reader of factors.
        causes: the factors that the classifier really uses.
        named_factor: the factor that the class is named after.

    Returns:
        One row a flip (its index is the row in the counterfactuals): bool ``cause`` (some cause
        changed), ``named_factor``, ``bystander`` (some other factor changed); ``changed`` (their
        names), and ``kind``: "trivial" if the meaning changed, else "causal" if a cause did, else
        "non-causal" if a bystander did, else "adversarial". A classifier that uses nothing but
        the meaning has no causal flips other than trivial ones.

    Raises:
        ValueError, TypeError: for a factor that the judge doesn't read.
    """
    validate.instance(judge, FactorReader, "judge", "a cfx.FactorReader")
    causes = [validate.choice(c, "causes", judge.options) for c in _factors(causes)]
    validate.choice(named_factor, "named_factor", judge.options)
    changed = _changed_in_flips(counterfactuals, judge)
    others = [n for n in changed if n not in causes and n != named_factor]
    table = pd.DataFrame(
        {
            "cause": changed[causes].any(axis=1),
            "named_factor": changed[named_factor],
            "side_effect": changed[others].any(axis=1),
        }
    )
    asked = [table["named_factor"], table["cause"], table["side_effect"]]
    table["kind"] = np.select(asked, ["trivial", "causal", "non-causal"], "adversarial")
    table["changed"] = [tuple(changed.columns[row]) for row in changed.to_numpy()]
    return table


@standard_modes
def distinct_explanations(
    results: Sequence[Counterfactuals], judge: FactorReader, causes: Sequence[str] | None = None
) -> pd.Series:
    """How many different successful explanations each image has got.

    Args:
        results: of the same images, row by row, by several searches (seeds, or methods).
        causes: the factors that the classifier really uses; what else changed makes no other
            explanation. By default every factor counts.

    Returns:
        int, one an image: the number of different, non-empty sets of these factors whose change
        flipped it.

    Raises:
        ValueError, TypeError: for results of different images, or a factor that isn't read.
    """
    validate.instance(judge, FactorReader, "judge", "a cfx.FactorReader")
    counted = [
        validate.choice(name, "causes", judge.options)
        for name in (judge.options if causes is None else _factors(causes))
    ]
    results = validate_results.results(results, "results")
    validate_results.same_images(results, "results")
    found: list[set[tuple[str, ...]]] = [set() for _ in range(len(results[0]))]
    for result in results:
        changed = _changed_in_flips(result, judge)[counted]
        for i, row in zip(changed.index, changed.to_numpy(), strict=True):
            if row.any():
                found[i].add(tuple(changed.columns[row]))
    return pd.Series([len(sets) for sets in found])


@standard_modes
def rank_agreement(
    importance: pd.Series, truth: pd.Series, causes: Sequence[str]
) -> dict[str, float]:
    """Does an attribution put the factors into the right order?

    Args:
        importance, truth: one number a factor; only the size counts, not the sign.
        causes: the factors that the classifier really uses.

    Returns:
        ``rank correlation`` (Spearman, in [-1, 1]; NaN if either has the same size for all), and
        ``first`` (1 if the factor named first is a cause, else 0; of several that are equally
        first, the share that are causes).
    """
    validate.instance(importance, pd.Series, "importance", "a Series, one number a factor")
    validate.instance(truth, pd.Series, "truth", "a Series, one number a factor")
    for series, name in ((importance, "importance"), (truth, "truth")):
        if not len(series) or not series.index.is_unique:
            raise ValueError(f"{name}: expected each factor once, got {list(series.index)[:20]}")
    if missing := set(truth.index) - set(importance.index):
        raise ValueError(
            f"importance: expected every factor of truth, got none for {sorted(map(str, missing))}"
        )
    # Types that know missing values, and whole numbers, are numbers here.
    size, real = (
        pd.Series(validate.array(series, name), index=series.index)[truth.index].abs()
        for series, name in ((importance, "importance"), (truth, "truth"))
    )
    known = _factors(causes)
    flat = size.nunique() == 1 or real.nunique() == 1
    return {
        "rank correlation": np.nan if flat else float(spearmanr(size, real).statistic),
        "first": float(size.index[size == size.max()].isin(known).mean()),
    }
