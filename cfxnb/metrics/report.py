"""One table, one row a method."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedClassifier, CheckedFunction
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.prediction import finite_predict_logits
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import finite_rows, norms, standardise
from cfxnb.core.types import Classifier
from cfxnb.metrics.distributions import fid
from cfxnb.metrics.pairwise import cout, l1, l2

Features = Callable[[Tensor], Tensor]


@standard_modes
def report(
    results: Mapping[str, Counterfactuals],
    *,
    classifier: Classifier | None = None,
    judge: Classifier | None = None,
    features: Mapping[str, Features] | None = None,
    real: Tensor | None = None,
    code_std: Tensor | None = None,
) -> pd.DataFrame:
    """Compare methods on the same images.

    Args:
        results: counterfactuals by the name of their method.
        classifier: adds ``COUT``.
        judge: an independent classifier with the same classes in the same order; adds
            ``judge agrees``.
        features: named feature functions, such as ``{"LeNet-5": net.features}``; adds a column
            ``FID (LeNet-5 features)`` each. NaN where there are fewer images than features.
        real: images for that distance (default: the originals).
        code_std: standard deviation of codes; adds ``code distance`` in that unit.

    Returns:
        DataFrame with one row a method and the columns

        - ``images``, ``flip rate`` (of the images that were not yet the target),
        - ``judge agrees``: share of the flipped that the judge reads as the target,
        - ``L1``, ``L2`` to the original, ``L2 reconstruction`` (reconstruction to original) and
          ``L2 edit`` (counterfactual to reconstruction),
        - ``code distance``, ``COUT``, and the set distance,
        - ``evaluations``: generator passes, of failures too, for each flipped image,
        - ``seconds`` for each flipped image.

        Distances, COUT and the set distance are taken over all images that were not yet the
        target, flipped or not: the same images for every method. What cannot be said is NaN,
        never 0.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    results = _check_results(results)
    asked = {
        name: None if other is None else CheckedClassifier(other, name)
        for name, other in (("classifier", classifier), ("judge", judge))
    }
    functions = validate.optional(_check_features, features, "features") or {}
    real = validate.optional(validate.images, real, "real")
    if code_std is not None:
        _check_spread(code_std, results)
    with eval_frozen(classifier, judge, features), torch.no_grad():
        for name, other in asked.items():
            for cf in results.values() if other is not None else ():
                names: Any = validate.recorded_names(cf.made_by)
                if names is None and asked["classifier"] is not None:
                    names = asked["classifier"].class_names
                if len(sound := cf.image[_sound(cf)][:1]):
                    validate.same_classes(other, sound, cf.logits_before.shape[1], name, names)
        rows = {
            name: _row(cf, asked["classifier"], asked["judge"], functions, real, code_std)
            for name, cf in results.items()
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _sound(cf: Counterfactuals) -> Tensor:
    """Rows with images that can be looked at."""
    return finite_rows(cf.image)


def _check_results(results: Mapping[str, Counterfactuals]) -> dict[str, Counterfactuals]:
    what = "a non-empty dict of name -> Counterfactuals"
    validate.instance(results, Mapping, "results", what)
    if not results:
        raise ValueError(f"results: expected {what}, got {results!r}")
    checked = {}
    for name, value in results.items():
        checked[name] = validate_results.result(value, f"results[{str(name)[:60]!r}]")
        seconds = value.made_by.get("seconds", 0.0)
        validate.number(seconds, f"results[{str(name)[:60]!r}].made_by['seconds']", 0.0)
    _warn_of_other_images(checked)
    return checked


def _warn_of_other_images(results: Mapping[str, Counterfactuals]) -> None:
    """Rows of the table can be compared only if they are about the same images."""
    (first, one), *others = results.items()
    for name, cf in others:
        if len(cf) != len(one):
            continue  # a part of the images, such as those that flipped
        same = cf.original.shape == one.original.shape
        if not same or not torch.allclose(cf.original.to(one.original), one.original, atol=1e-4):
            warnings.warn(
                f"results: {str(name)[:60]!r} is about other images than {str(first)[:60]!r}, or "
                "has them in another order; their rows can't be compared image by image",
                stacklevel=4,
            )


def _check_features(features: Any, name: str) -> dict[str, Features]:
    validate.instance(features, Mapping, name, "a dict of name -> function")
    return {
        str(key): CheckedFunction(value, f"{name}[{str(key)[:60]!r}]", 2)
        for key, value in features.items()
    }


def _check_spread(code_std: Any, results: Mapping[str, Counterfactuals]) -> None:
    """The unit of a distance: like one code of every result that has codes."""
    validate.instance(code_std, Tensor, "code_std", "a torch tensor")
    if not code_std.is_floating_point() or code_std.is_meta or code_std.layout != torch.strided:
        raise TypeError(f"code_std: expected floats, got {code_std.dtype} on {code_std.device}")
    if (
        not code_std.numel()
        or not code_std.isfinite().all()
        or code_std.min() < 0
        or code_std.max() == 0
    ):
        raise ValueError(
            "code_std: expected finite numbers >= 0, some of them positive, got others"
        )
    for cf in results.values():
        if cf.code_after is not None and cf.code_after.z.shape[1:] != code_std.shape:
            raise ValueError(
                f"code_std: expected shape {tuple(cf.code.z.shape[1:])}, that of a code, "
                f"got {tuple(code_std.shape)}"
            )


def _row(
    cf: Counterfactuals,
    classifier: Classifier | None,
    judge: Classifier | None,
    features: Mapping[str, Features],
    real: Tensor | None,
    code_std: Tensor | None,
) -> dict[str, float]:
    wins = cf[cf.flipped.nonzero().squeeze(1)]
    tried = cf[cf.eligible.nonzero().squeeze(1)]
    row: dict[str, float] = {
        "images": len(cf),
        "flip rate": _ratio(len(wins), len(tried)),
    }
    if judge is not None:
        agrees = None
        if len(wins):
            agrees = finite_predict_logits(judge, wins.image, name="judge").argmax(1) == wins.target
        row["judge agrees"] = _mean(agrees)
    row |= {
        "L1": _mean(l1(tried.image, tried.original)),
        "L2": _mean(l2(tried.image, tried.original)),
        "L2 reconstruction": _mean(l2(tried.reconstruction, tried.original)),
        "L2 edit": _mean(l2(tried.image, tried.reconstruction)),
    }
    if code_std is not None:
        row["code distance"] = math.nan
        if tried.code_after is not None and tried.code_before is not None:
            row["code distance"] = _mean(
                norms(standardise(tried.code_after.z - tried.code_before.z, code_std))
            )
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
    row["generator passes per flip"] = (
        math.nan if spent is None else _ratio(int(spent.sum()), len(wins))
    )
    row["seconds per flip"] = _ratio(cf.made_by.get("seconds", math.nan), len(wins))
    return row


def _distance(function: Features, tried: Counterfactuals, real: Tensor) -> float:
    if len(tried) == 0:
        return math.nan
    ours, theirs = (
        torch.cat([function(chunk) for chunk in x.split(512)]) for x in (tried.image, real)
    )
    if min(len(ours), len(theirs)) < ours.shape[1]:
        return math.nan
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(
            f"features: expected one number of features, got {ours.shape[1]} and {theirs.shape[1]}"
        )
    return fid(ours, theirs)


def _mean(values: Tensor | None) -> float:
    return math.nan if values is None or len(values) == 0 else float(values.double().mean())


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom else math.nan
