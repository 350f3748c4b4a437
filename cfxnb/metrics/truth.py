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

from cfxnb import validate
from cfxnb.classify import predict
from cfxnb.data.imageset import ImageSet
from cfxnb.data.lpc import OPTIONS
from cfxnb.data.sprites_world import intervene
from cfxnb.methods.contrastive import rows_of
from cfxnb.methods.scores import Scores, tally
from cfxnb.readers import FactorReader
from cfxnb.results import Counterfactuals
from cfxnb.tensors import undisturbed
from cfxnb.types import Classifier

KINDS = ("causal", "trivial", "non-causal", "adversarial")


def true_scores(
    figures: ImageSet,
    classifier: Classifier,
    contrasts: Mapping[str, tuple[str, str]],
    outcome: int = 1,
    *,
    context: Any = None,
    confidence: float = 0.95,
) -> Scores:
    """Necessity and sufficiency by re-rendering: each figure with one layer swapped.

    Args:
        figures: from ``cfxnb.data.sprites``.
        contrasts: factor -> (instead, value).
        outcome, context, confidence: as for ``cfxnb.contrastive_scores``. The intervals cover the
            draw of the figures; nothing else is uncertain here.
    """
    validate.instance(figures, ImageSet, "figures", "an ImageSet of sprites")
    validate.function(classifier, "classifier")
    outcome = validate.count(outcome, "outcome")
    _check_contrasts(contrasts)
    positions = np.flatnonzero(rows_of(context, len(figures)))
    figures = figures[positions]
    with undisturbed(classifier):
        logits = predict(classifier, figures.images)
        validate.labels(outcome, len(figures), logits.shape[1], "outcome")
        before = (logits.argmax(1) == outcome).numpy()
        parts = []
        for name, pair in contrasts.items():
            under = {
                value: (
                    predict(classifier, intervene(figures, **{name: value}).images).argmax(1)
                    == outcome
                ).numpy()
                for value in pair
            }
            column = figures.factors[name].to_numpy()
            part = np.isin(column, pair)
            after = np.where(column == pair[1], under[pair[0]], under[pair[1]])
            rows = {
                "row": positions, "factor": name, "value": column,
                "before": before, "after": after, "agrees": True, "used": True,
            }  # fmt: skip
            parts.append(pd.DataFrame(rows)[part])
    units = pd.concat(parts, ignore_index=True)
    table = tally(units, dict(contrasts), confidence)
    return Scores(outcome, table, units, pd.DataFrame(), 1.0, {"method": "true_scores"})


def _check_contrasts(contrasts: Any) -> None:
    validate.instance(contrasts, Mapping, "contrasts", "a dict: factor -> (instead, value)")
    if not contrasts:
        raise ValueError("contrasts: expected at least one factor, got none")
    for name, pair in contrasts.items():
        options = OPTIONS[validate.choice(name, "contrasts", OPTIONS)]
        values = tuple(pair) if isinstance(pair, tuple | list) else (pair,)
        if len(values) != 2 or values[0] == values[1] or not set(values) <= set(options):
            raise ValueError(
                f"contrasts[{name!r}]: expected two different options out of {options}, "
                f"got {validate.told(pair)}"
            )


def score_errors(scores: Scores, truth: Scores) -> pd.DataFrame:
    """How far scores are from the truth.

    Returns:
        One row a score ("necessity", "sufficiency", "both") and attribute, as two levels of the
        index: ``score``, ``truth``, ``error`` (absolute), ``inside`` (the truth lies in the
        score's interval). The truth is taken for the contrast in which ``scores`` gives it: same
        value, same value instead. Rows where either is NaN are left out.

    Raises:
        ValueError, TypeError: if these are no scores, or the truth lacks an attribute.
    """
    validate.instance(scores, Scores, "scores", "Scores")
    validate.instance(truth, Scores, "truth", "Scores")
    rows = {}
    for name, pair in scores.contrasts.items():
        own, real = scores.table.loc[name], same_contrast(truth, name, pair)
        for kind in ("necessity", "sufficiency", "both"):
            if not (np.isnan(own[kind]) or np.isnan(real[kind])):
                inside = own[f"{kind} low"] <= real[kind] <= own[f"{kind} high"]
                rows[kind, name] = (own[kind], real[kind], abs(own[kind] - real[kind]), inside)
    columns = ["score", "truth", "error", "inside"]
    index = pd.MultiIndex.from_tuples(list(rows), names=("kind", "attribute"))
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)


def same_contrast(truth: Scores, name: str, pair: tuple[Any, Any]) -> dict[Any, Any]:
    """The row of ``truth`` for this attribute, counted anew if it favours the other value."""
    if name not in truth.table.index:
        raise ValueError(f"truth: expected the attribute {name!r}, got {truth!r}")
    if truth.contrasts[name] == pair:
        return truth.table.loc[name].to_dict()
    if truth.contrasts[name] != pair[::-1]:
        raise ValueError(f"truth: expected {name} between {pair}, got {truth!r}")
    mine = truth.units[truth.units["factor"] == name]
    return tally(mine, {name: pair}, 0.95, orient=False).loc[name].to_dict()


def changed_factors(counterfactuals: Counterfactuals, judge: FactorReader) -> pd.DataFrame:
    """Which factors the judge reads otherwise than in the original: bool, one row an image.

    Where the reconstruction alone changes a factor, it is the reconstruction that counts as
    "before": what the space can't draw was not changed by the search.
    """
    cf = validate.instance(counterfactuals, Counterfactuals, "counterfactuals")
    validate.instance(judge, FactorReader, "judge", "a cfx.FactorReader")
    with undisturbed(judge):
        before, after = (judge.numbers(images) for images in (cf.reconstruction, cf.image))
    return pd.DataFrame((before != after).cpu().numpy(), columns=list(judge.options))


def flip_kinds(
    counterfactuals: Counterfactuals,
    judge: FactorReader,
    causes: Sequence[str],
    meaning: str,
) -> pd.DataFrame:
    """What each flip changed: a cause, the class's own meaning, bystanders, or nothing readable.

    Args:
        counterfactuals: of any method; only its flipped rows are judged.
        judge: an independent reader of factors.
        causes: the factors that the classifier really uses.
        meaning: the factor that the class is named after.

    Returns:
        One row a flip (its index is the row in the counterfactuals): bool ``cause`` (some cause
        changed), ``meaning``, ``bystander`` (some other factor changed); ``changed`` (their
        names), and ``kind``: "trivial" if the meaning changed, else "causal" if a cause did, else
        "non-causal" if a bystander did, else "adversarial". A classifier that uses nothing but
        the meaning has no causal flips other than trivial ones.

    Raises:
        ValueError, TypeError: for a factor that the judge doesn't read.
    """
    validate.instance(judge, FactorReader, "judge", "a cfx.FactorReader")
    causes = [validate.choice(c, "causes", judge.options) for c in validate.names(causes, "causes")]
    validate.choice(meaning, "meaning", judge.options)
    changed = changed_factors(counterfactuals, judge)[counterfactuals.flipped.cpu().numpy()]
    others = [n for n in changed if n not in causes and n != meaning]
    table = pd.DataFrame(
        {
            "cause": changed[causes].any(axis=1),
            "meaning": changed[meaning],
            "bystander": changed[others].any(axis=1),
        }
    )
    asked = [table["meaning"], table["cause"], table["bystander"]]
    table["kind"] = np.select(asked, ["trivial", "causal", "non-causal"], "adversarial")
    table["changed"] = [tuple(changed.columns[row]) for row in changed.to_numpy()]
    return table


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
        for name in (judge.options if causes is None else validate.names(causes, "causes"))
    ]
    if isinstance(results, Counterfactuals) or not isinstance(results, Sequence):
        raise TypeError(f"results: expected a list of results, got {type(results).__name__}")
    for result in results:
        validate.instance(result, Counterfactuals, "results", "a list of Counterfactuals")
    if not results or any(not torch.equal(r.original, results[0].original) for r in results):
        raise ValueError(
            "results: expected results of the same images, at least one, got "
            f"{[len(r) for r in results]} images each"
        )
    found: list[set[tuple[str, ...]]] = [set() for _ in range(len(results[0]))]
    for result in results:
        changed = changed_factors(result, judge)[counted]
        for i, (flipped, row) in enumerate(
            zip(result.flipped.tolist(), changed.to_numpy(), strict=True)
        ):
            if flipped and row.any():
                found[i].add(tuple(changed.columns[row]))
    return pd.Series([len(sets) for sets in found])


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
    if missing := set(truth.index) - set(importance.index):
        raise ValueError(f"importance: expected every factor of truth, got none for {missing}")
    for series, name in ((importance, "importance"), (truth, "truth")):
        if not np.isfinite(series.to_numpy(float)).all():
            got = validate.told(series.tolist())
            raise ValueError(f"{name}: expected finite numbers, got {got}")
    known = validate.names(causes, "causes")
    size = importance[truth.index].abs()
    flat = size.nunique() == 1 or truth.abs().nunique() == 1
    return {
        "rank correlation": np.nan if flat else float(spearmanr(size, truth.abs()).statistic),
        "first": float(size.index[size == size.max()].isin(known).mean()),
    }
