"""One table, one row a method."""

import math
from collections.abc import Callable, Mapping

import pandas as pd
import torch
from torch import Tensor

from cfxnb import validate
from cfxnb.classify import predict
from cfxnb.metrics.pairs import cout, l1, l2
from cfxnb.metrics.sets import fid
from cfxnb.results import Counterfactuals
from cfxnb.tensors import in_spreads, norms, undisturbed
from cfxnb.types import Classifier

Features = Callable[[Tensor], Tensor]


def report(
    results: Mapping[str, Counterfactuals],
    *,
    classifier: Classifier | None = None,
    judge: Classifier | None = None,
    features: Mapping[str, Features] | None = None,
    real: Tensor | None = None,
    spread: Tensor | None = None,
) -> pd.DataFrame:
    """Compare methods on the same images.

    Args:
        results: counterfactuals by the name of their method.
        classifier: adds ``COUT``.
        judge: an independent classifier; adds ``judge agrees``.
        features: named feature functions, such as ``{"LeNet-5": net.features}``; adds a column
            ``FID (LeNet-5 features)`` each. NaN where there are fewer images than features.
        real: images for that distance (default: the originals).
        spread: standard deviation of codes; adds ``code distance`` in that unit.

    Returns:
        DataFrame with one row a method and the columns

        - ``images``, ``flip rate`` (of the images that were not yet the target),
        - ``judge agrees``: share of the flipped that the judge reads as the target,
        - ``L1``, ``L2`` to the original, ``L2 floor`` (reconstruction to original) and
          ``L2 change`` (counterfactual to reconstruction),
        - ``code distance``, ``COUT``, and the set distance,
        - ``evaluations``: generator passes, of failures too, for each flipped image,
        - ``seconds`` for each flipped image.

        Distances, COUT and the set distance are taken over all images that were not yet the
        target, flipped or not: the same images for every method. What cannot be said is NaN,
        never 0.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    _check_results(results)
    validate.optional(validate.function, classifier, "classifier")
    validate.optional(validate.function, judge, "judge")
    validate.optional(_check_features, features, "features")
    validate.optional(validate.images, real, "real")
    if spread is not None:
        validate.instance(spread, Tensor, "spread", "a torch tensor")
    with undisturbed(classifier, judge), torch.no_grad():
        for name, other in (("classifier", classifier), ("judge", judge)):
            for cf in results.values() if other is not None else ():
                validate.same_classes(other, cf.image[:1], cf.before.shape[1], name)
        rows = {
            name: _row(cf, classifier, judge, features or {}, real, spread)
            for name, cf in results.items()
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _check_results(results: Mapping[str, Counterfactuals]) -> None:
    what = "a non-empty dict of name -> Counterfactuals"
    validate.instance(results, Mapping, "results", what)
    if not results:
        raise ValueError(f"results: expected {what}, got {results!r}")
    for name, value in results.items():
        validate.instance(value, Counterfactuals, f"results[{name!r}]")


def _check_features(features: Mapping[str, Features], name: str) -> None:
    validate.instance(features, Mapping, name, "a dict of name -> function")
    for key, value in features.items():
        validate.function(value, f"{name}[{key!r}]")


def _row(
    cf: Counterfactuals,
    classifier: Classifier | None,
    judge: Classifier | None,
    features: Mapping[str, Features],
    real: Tensor | None,
    spread: Tensor | None,
) -> dict[str, float]:
    wins = cf[cf.flipped.nonzero().squeeze(1)]
    tried = cf[cf.eligible.nonzero().squeeze(1)]
    row: dict[str, float] = {
        "images": len(cf),
        "flip rate": _ratio(len(wins), len(tried)),
    }
    if judge is not None:
        agrees = predict(judge, wins.image).argmax(1) == wins.target if len(wins) else None
        row["judge agrees"] = _mean(agrees)
    row |= {
        "L1": _mean(l1(tried.image, tried.original)),
        "L2": _mean(l2(tried.image, tried.original)),
        "L2 floor": _mean(l2(tried.reconstruction, tried.original)),
        "L2 change": _mean(l2(tried.image, tried.reconstruction)),
    }
    if spread is not None:
        row["code distance"] = math.nan
        if tried.code is not None and tried.start is not None:
            row["code distance"] = _mean(norms(in_spreads(tried.code.z - tried.start.z, spread)))
    if classifier is not None:
        ready = len(tried) > 0
        row["COUT"] = _mean(
            cout(classifier, tried.original, tried.image, tried.target) if ready else None
        )
    for name, function in features.items():
        row[f"FID ({name} features)"] = _distance(
            function, tried, cf.original if real is None else real
        )
    spent = cf.cost.get("generator")
    row["evaluations"] = math.nan if spent is None else _ratio(int(spent.sum()), len(wins))
    row["seconds"] = _ratio(cf.made_by.get("seconds", math.nan), len(wins))
    return row


def _distance(function: Features, tried: Counterfactuals, real: Tensor) -> float:
    if len(tried) == 0:
        return math.nan
    ours, theirs = (
        torch.cat([function(chunk) for chunk in x.split(512)]) for x in (tried.image, real)
    )
    if min(len(ours), len(theirs)) < ours.shape[1]:
        return math.nan
    return fid(ours, theirs)


def _mean(values: Tensor | None) -> float:
    return math.nan if values is None or len(values) == 0 else float(values.double().mean())


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom else math.nan
