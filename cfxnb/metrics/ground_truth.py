"""Measures that compare explanations with the known causes of decisions on sprites.

The kinds of flips follow the benchmark BEx ("Evaluating Visual Counterfactual Explainers", 2023,
github.com/dvd42/Bex). A causal flip changes a factor that the classifier uses. A trivial flip
changes the factor that the class is named after. A non-causal flip changes only other factors. An
adversarial flip changes no factor that a judge (a network that reads the factors of an image) can
see. The benchmark BEx also counts how many different successful explanations an image has.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor

from cfxnb.contrastive.contrastive_scores import context_mask
from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.contrastive.scores import ContrastiveScores, checked_scores
from cfxnb.contrastive.tally import tally
from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.decisions import class_number
from cfxnb.core.intervals import checked_confidence_level
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.prediction import predict_logits
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import Classifier
from cfxnb.data.imageset import ImageSet
from cfxnb.data.lpc import SPRITE_OPTIONS
from cfxnb.data.sprite_figures import class_factor_of, intervene

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
    """Return the true necessity and sufficiency of the factors of sprites for a class.

    Each figure is rendered again with the other value of one factor, and the new image is
    classified.

    Args:
        figures: Figures from ``cfxnb.data.sprites``.
        classifier: Images -> logits (b, k).
        contrasts: Dict from the name of a factor to its contrast, the pair (baseline, value) of
            compared options.
        outcome: The class that is explained, as index or name. Default: 1.
        context: Mask of the figures to use, see ``cfxnb.contrastive_scores``. Default: all.
        confidence_level: Confidence level of the intervals, in (0, 1). Default: 0.95. The
            intervals account only for the random choice of the figures.

    Raises:
        ValueError, TypeError: If an argument is wrong, or logits are not finite.
    """
    class_factor_of(figures)
    outcome = class_number(outcome, "outcome", CheckedClassifier(classifier).class_names)
    confidence_level = checked_confidence_level(confidence_level)
    _check_contrasts(contrasts)
    positions = np.flatnonzero(context_mask(context, len(figures), figures.factors))
    figures = figures[positions]
    with eval_frozen(classifier):
        logits = predict_logits(classifier, figures.images)
        validate.labels(outcome, len(figures), logits.shape[1], "outcome")
        before = (logits.argmax(1) == outcome).numpy()
        parts = []
        for name, pair in contrasts.items():
            predicted = {
                value: (
                    predict_logits(classifier, intervene(figures, **{name: value}).images).argmax(1)
                    == outcome
                ).numpy()
                for value in pair
            }
            column = figures.factors[name].to_numpy()
            used = np.isin(column, pair)
            after = np.where(column == pair[1], predicted[pair[0]], predicted[pair[1]])
            rows = {
                "row": positions, "factor": name, "value": column,
                "before": before, "after": after, "reconstruction agrees": True, "used": True,
            }  # fmt: skip
            parts.append(pd.DataFrame(rows)[used])
    units = pd.concat(parts, ignore_index=True)
    table = tally(units, dict(contrasts), confidence_level)
    return ContrastiveScores(
        outcome, table, units, pd.DataFrame(), 1.0, {"function": "true_scores"}
    )


def _check_contrasts(contrasts: Any) -> None:
    validate.instance(contrasts, Mapping, "contrasts", "a dict: factor -> (baseline, value)")
    if not contrasts:
        raise ValueError("contrasts: expected at least one factor, got none")
    for name, pair in contrasts.items():
        options = SPRITE_OPTIONS[validate.choice(name, "contrasts", SPRITE_OPTIONS)]
        values = list(pair) if isinstance(pair, tuple | list) else [pair]
        valid = all(isinstance(v, str) and v in options for v in values)
        if len(values) != 2 or not valid or values[0] == values[1]:
            raise ValueError(
                f"contrasts[{name!r}]: expected two different options of {options}, "
                f"got {validate.describe(pair)}"
            )


def score_errors(scores: ContrastiveScores, truth: ContrastiveScores) -> pd.DataFrame:
    """Return a table that compares estimated scores with the true scores.

    The true scores are computed for the contrasts (baseline, value) of ``scores``.

    Args:
        scores: Scores to compare, from ``cfxnb.contrastive_scores``.
        truth: True scores of the same attributes, from ``true_scores``.

    Returns:
        DataFrame with one row per kind of score ("necessity", "sufficiency", "pns") and attribute.
        The columns are ``score``, ``truth`` (the true score), ``error`` (absolute difference), and
        ``covered`` (whether the true score lies in the interval of the estimated score). Rows in
        which the score or the true score is NaN are left out.

    Raises:
        ValueError, TypeError: If an argument is not a ContrastiveScores, or if ``truth`` lacks an
            attribute.
    """
    checked_scores(scores, "scores")
    checked_scores(truth, "truth")
    rows = {}
    for name, pair in scores.contrasts.items():
        own, real = scores.table.loc[name], same_contrast(truth, name, pair)
        for kind in ("necessity", "sufficiency", "pns"):
            if not (np.isnan(own[kind]) or np.isnan(real[kind])):
                covered = own[f"{kind} low"] <= real[kind] <= own[f"{kind} high"]
                rows[kind, name] = (own[kind], real[kind], abs(own[kind] - real[kind]), covered)
    columns = ["score", "truth", "error", "covered"]
    index = pd.MultiIndex.from_tuples(list(rows), names=("kind", "attribute"))
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)


def same_contrast(truth: ContrastiveScores, name: str, pair: tuple[Any, Any]) -> dict[Any, Any]:
    """Return the true scores of an attribute for the contrast ``pair``.

    If ``truth`` has value and baseline of ``pair`` swapped, the true scores are computed again.
    """
    if name not in truth.table.index:
        raise ValueError(f"truth: expected the attribute {name!r}, got {truth!r}")
    if truth.contrasts[name] == pair:
        return truth.table.loc[name].to_dict()
    if truth.contrasts[name] != pair[::-1]:
        raise ValueError(f"truth: expected {name} between {pair}, got {truth!r}")
    units = truth.units[truth.units["factor"] == name]
    return tally(units, {name: pair}, 0.95, orient=False).loc[name].to_dict()


@standard_modes
def changed_factors(counterfactuals: Counterfactuals, judge: FactorReader) -> pd.DataFrame:
    """Return which factors each counterfactual changed according to the judge.

    Each counterfactual is compared with the reconstruction of its original, not with the original.
    A factor that differs from the original only because the space cannot reconstruct it does not
    count as changed.

    Args:
        counterfactuals: The counterfactuals. The search for counterfactuals must have begun for
            all images.
        judge: Independent factor reader.

    Returns:
        Boolean DataFrame with one row per image and one column per factor.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    cf = validate_results.result(counterfactuals, "counterfactuals")
    validate_results.all_started(cf, "counterfactuals")
    return _changed(cf, judge)


def _changed(cf: Counterfactuals, judge: FactorReader) -> pd.DataFrame:
    before, after = (read_indices(judge, cf, field) for field in ("reconstruction", "image"))
    return pd.DataFrame((before != after).cpu().numpy(), columns=list(judge.options))


def _changed_in_flips(counterfactuals: Counterfactuals, judge: FactorReader) -> pd.DataFrame:
    """Return the changed factors of flipped images, with the positions of the images as index."""
    cf = validate_results.result(counterfactuals, "counterfactuals")
    rows = cf.flipped.bool().cpu().nonzero()[:, 0]
    return _changed(cf[rows], judge).set_axis(rows.numpy(), axis=0)


def _factors(causes: Any) -> list[str]:
    """Return ``causes``, which can be any collection of names of factors, as a list."""
    return validate.texts(list(causes) if isinstance(causes, Mapping | set) else causes, "causes")


def read_indices(judge: Any, cf: Counterfactuals, field: str) -> Tensor:
    """Return the options that the judge predicts for each factor, as indices (n, factors).

    Args:
        cf: Counterfactuals of n images.
        field: Name of the field with the images, "image" or "reconstruction".
    """
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
    counterfactuals: Counterfactuals, judge: FactorReader, causes: Sequence[str], named_factor: str
) -> pd.DataFrame:
    """Classify each flip by the factors that it changed.

    Args:
        counterfactuals: Counterfactuals of any method. Only flipped images are classified.
        judge: Independent factor reader.
        causes: The factors that the classifier uses.
        named_factor: The factor that the class is named after.

    Returns:
        DataFrame with one row per flipped image, with the image's position in ``counterfactuals``
        as index. The boolean columns ``cause``, ``named_factor`` and ``side_effect`` say whether a
        cause, the named factor, or any other factor changed. The column ``changed`` holds the names
        of all changed factors. The column ``kind`` holds the first kind that fits the flip among
        "trivial" (the named factor changed), "causal" (a cause changed), "non-causal" (another
        factor changed), "adversarial" (no factor changed). Flips of a classifier that uses only the
        named factor are never "causal", because "trivial" comes first.

    Raises:
        ValueError, TypeError: If an argument is wrong, or if a factor in ``causes`` or
            ``named_factor`` is unknown to the judge.
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
    conditions = [table["named_factor"], table["cause"], table["side_effect"]]
    table["kind"] = np.select(conditions, ["trivial", "causal", "non-causal"], "adversarial")
    table["changed"] = [tuple(changed.columns[row]) for row in changed.to_numpy()]
    return table


@standard_modes
def distinct_explanations(
    results: Sequence[Counterfactuals], judge: FactorReader, causes: Sequence[str] | None = None
) -> pd.Series:
    """Count the different successful explanations of each image.

    An explanation is the set of factors that a flip changed.

    Args:
        results: Counterfactuals for the same images in the same order, for example with different
            seeds or methods.
        judge: Independent factor reader.
        causes: The factors that the classifier uses; changes of other factors are ignored.
            Default: all factors.

    Returns:
        Series with the number of different, non-empty explanations of each image.

    Raises:
        ValueError, TypeError: If the results have different images, or if a factor in ``causes``
            is unknown to the judge.
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
    """Compare the order of factors by estimated importance with the true order.

    Args:
        importance, truth: Estimated and true importance of each factor. The sign of importance and
            truth is ignored.
        causes: The factors that the classifier uses.

    Returns:
        Dict with the entries ``rank correlation`` and ``first``. ``rank correlation`` is Spearman's
        correlation, in [-1, 1], or NaN if all absolute values of one argument are equal. ``first``
        is 1 if the factor with the largest importance is a cause, else 0. If several factors share
        the largest importance, ``first`` is the fraction of causes among them.
    """
    validate.instance(importance, pd.Series, "importance", "a Series, one value per factor")
    validate.instance(truth, pd.Series, "truth", "a Series, one value per factor")
    for series, name in ((importance, "importance"), (truth, "truth")):
        if not len(series) or not series.index.is_unique:
            raise ValueError(
                f"{name}: expected each factor exactly once, got {list(series.index)[:20]}"
            )
    if missing := set(truth.index) - set(importance.index):
        raise ValueError(
            f"importance: expected every factor of truth, got none for {sorted(map(str, missing))}"
        )
    # validate.array accepts integers and pandas' nullable types.
    size, real = (
        pd.Series(validate.array(series, name), index=series.index)[truth.index].abs()
        for series, name in ((importance, "importance"), (truth, "truth"))
    )
    causes = _factors(causes)
    constant = size.nunique() == 1 or real.nunique() == 1
    return {
        "rank correlation": np.nan if constant else float(spearmanr(size, real).statistic),
        "first": float(size.index[size == size.max()].isin(causes).mean()),
    }
