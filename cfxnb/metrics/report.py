"""A table that compares counterfactual methods, one row per method."""

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
    """Return a table that compares counterfactual methods on the same images.

    Args:
        results: Dict from the name of each method to its counterfactuals.
        classifier: The explained classifier. A classifier adds the column ``COUT``.
        judge: Independent classifier with the same classes in the same order. A judge adds the
            column ``judge agrees``.
        features: Names -> feature functions, such as ``{"LeNet-5": net.features}``. Each function
            adds a column such as ``FID (LeNet-5 features)``. FID is NaN if there are fewer images
            than features.
        real: Real images with which FID compares the counterfactuals, (m, c, h, w). Default: all
            originals.
        code_std: Standard deviation of the codes of real images, with the shape of one code. If
            ``code_std`` is given, the table has the column ``code distance``, in this unit.

    Returns:
        DataFrame with one row per method. All means except ``judge agrees`` are over the eligible
        images: those that did not have the target class before, flipped or not. The eligible
        images are the same for every method. Columns:

        - ``images``: number of images in the result.
        - ``flip rate``: fraction of the eligible images that flipped. Higher is better.
        - ``judge agrees``: fraction of the flipped images in which the judge sees the target.
          Higher is better.
        - ``L1``, ``L2``: distance from the original to the counterfactual.
        - ``L2 reconstruction``: distance from the original to the reconstruction.
        - ``L2 edit``: distance from the reconstruction to the counterfactual.
        - ``code distance``, ``COUT``, ``FID (...)``: only if ``code_std``, ``classifier`` or
          ``features`` is given.
        - ``generator passes per flip``, ``seconds per flip``: total cost, failures included,
          divided by the number of flipped images.

        An undefined value in the table is NaN, never 0.

    Raises:
        ValueError, TypeError: If an argument is wrong. The error message names the argument.
    """
    results = _check_results(results)
    networks = {
        name: None if other is None else CheckedClassifier(other, name)
        for name, other in (("classifier", classifier), ("judge", judge))
    }
    functions = validate.optional(_check_features, features, "features") or {}
    real = validate.optional(validate.images, real, "real")
    if code_std is not None:
        _check_code_std(code_std, results)
    with eval_frozen(classifier, judge, features), torch.no_grad():
        for name, network in networks.items():
            for cf in results.values() if network is not None else ():
                names: Any = validate.recorded_names(cf.made_by)
                if names is None and networks["classifier"] is not None:
                    names = networks["classifier"].class_names
                if len(image := cf.image[finite_rows(cf.image)][:1]):
                    validate.same_classes(network, image, cf.logits_before.shape[1], name, names)
        rows = {
            name: _row(cf, networks["classifier"], networks["judge"], functions, real, code_std)
            for name, cf in results.items()
        }
    return pd.DataFrame.from_dict(rows, orient="index")


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
    """Warn if a result has other originals than the first result, and as many."""
    (first_name, first), *others = results.items()
    for name, cf in others:
        if len(cf) != len(first):
            continue  # a subset of the images, such as those that flipped
        same = cf.original.shape == first.original.shape
        if not same or not torch.allclose(
            cf.original.to(first.original), first.original, atol=1e-4
        ):
            warnings.warn(
                f"results: {str(name)[:60]!r} has other images than {str(first_name)[:60]!r}, or "
                "the same images in another order; these rows of the table are not comparable: "
                "pass results for the same images",
                stacklevel=4,
            )


def _check_features(features: Any, name: str) -> dict[str, Features]:
    validate.instance(features, Mapping, name, "a dict of name -> function")
    return {
        str(key): CheckedFunction(value, f"{name}[{str(key)[:60]!r}]", 2)
        for key, value in features.items()
    }


def _check_code_std(code_std: Any, results: Mapping[str, Counterfactuals]) -> None:
    """Raise an error if ``code_std`` is not a finite, non-negative tensor shaped like the codes."""
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
            "code_std: expected finite numbers >= 0, at least one of them positive, got others"
        )
    for cf in results.values():
        if cf.code_after is not None and cf.code_after.z.shape[1:] != code_std.shape:
            raise ValueError(
                f"code_std: expected shape {tuple(cf.code_after.z.shape[1:])}, that of a code, "
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
    flipped = cf[cf.flipped.nonzero().squeeze(1)]
    eligible = cf[cf.eligible.nonzero().squeeze(1)]
    row: dict[str, float] = {"images": len(cf), "flip rate": _ratio(len(flipped), len(eligible))}
    if judge is not None:
        agrees = None
        if len(flipped):
            agrees = (
                finite_predict_logits(judge, flipped.image, name="judge").argmax(1)
                == flipped.target
            )
        row["judge agrees"] = _mean(agrees)
    row |= {
        "L1": _mean(l1(eligible.image, eligible.original)),
        "L2": _mean(l2(eligible.image, eligible.original)),
        "L2 reconstruction": _mean(l2(eligible.reconstruction, eligible.original)),
        "L2 edit": _mean(l2(eligible.image, eligible.reconstruction)),
    }
    if code_std is not None:
        row["code distance"] = math.nan
        if eligible.code_after is not None and eligible.code_before is not None:
            row["code distance"] = _mean(
                norms(standardise(eligible.code_after.z - eligible.code_before.z, code_std))
            )
    if classifier is not None:
        ready = len(eligible) > 0
        row["COUT"] = _mean(
            cout(classifier, eligible.original, eligible.image, eligible.target) if ready else None
        )
    for name, function in features.items():
        row[f"FID ({name} features)"] = _distance(
            function, eligible, cf.original if real is None else real
        )
    spent = cf.cost.get("generator")
    row["generator passes per flip"] = (
        math.nan if spent is None else _ratio(int(spent.sum()), len(flipped))
    )
    row["seconds per flip"] = _ratio(cf.made_by.get("seconds", math.nan), len(flipped))
    return row


def _distance(function: Features, eligible: Counterfactuals, real: Tensor) -> float:
    if len(eligible) == 0:
        return math.nan
    ours, theirs = (
        torch.cat([function(chunk) for chunk in x.split(512)]) for x in (eligible.image, real)
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
