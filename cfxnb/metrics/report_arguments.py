"""The checked arguments of ``report``."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedClassifier, CheckedFunction
from cfxnb.core.result_folder import ResultFolder, check_counterfactuals
from cfxnb.core.results import Counterfactuals
from cfxnb.metrics.called_again import Method

Results = Counterfactuals | ResultFolder
Features = Callable[[Tensor], Tensor]
Distance = Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass(frozen=True)
class ReportArguments:
    """The checked arguments of the function ``report``."""

    classifier: CheckedClassifier | None
    judge: CheckedClassifier | None
    features: Mapping[str, Features]
    real: Tensor | None
    real_labels: Tensor | None
    code_std: Tensor | None
    distances: Mapping[str, Distance]
    retrained: Sequence[CheckedClassifier]
    reader: FactorReader | None
    causes: Sequence[str] | None
    named_factor: str | None
    attributes: Features | None
    attribute_labels: Tensor | None
    query: int | None
    methods: Mapping[str, Method]
    null_edits: Mapping[str, Method]
    repaired: Mapping[str, Any]
    held_out: tuple[Tensor, Any] | None
    parts: Sequence[str]  # names of the networks whose passes are counted
    judge_model: Any = None  # a regression model as judge
    goals: bool = False  # whether some targets are goals


def check_results(results: Mapping[str, Results]) -> dict[str, Any]:
    what = "a non-empty dict of name -> Counterfactuals"
    validate.instance(results, Mapping, "results", what)
    if not results:
        raise ValueError(f"results: expected {what}, got {results!r}")
    checked: dict[str, Any] = {}
    for name, value in results.items():
        place = f"results[{str(name)[:60]!r}]"
        if isinstance(value, ResultFolder):
            checked[name] = _folder(value, place)
        else:
            checked[name] = validate_results.result(value, place)
        seconds = value.made_by.get("seconds", 0.0)
        validate.number(seconds, f"{place}.made_by['seconds']", 0.0)
    _warn_of_other_images(checked)
    return checked


def _folder(value: ResultFolder, place: str) -> ResultFolder:
    """Return a folder that holds Counterfactuals, and warn if it is not complete."""
    check_counterfactuals(value, place)
    if not value.complete:
        warnings.warn(
            f"results: {place} is not complete, so the table is about its {len(value):,} finished "
            "images; repeat the call that writes the folder to finish it",
            stacklevel=4,
        )
    return value


def first_part(results: Results) -> Counterfactuals:
    """Return the results, or the first shard of a folder of results."""
    if isinstance(results, ResultFolder):
        part: Counterfactuals = next(iter(results))
        return part
    return results


def check_no_sets(
    features: Any, attribute_labels: Any, methods: Any, null_edits: Any, repaired: Any
) -> None:
    """Refuse what needs all images at the same time, because a folder is read shard by shard."""
    given = {
        "features": features,
        "attribute_labels": attribute_labels,
        "methods": methods,
        "null_edits": null_edits,
        "repaired": repaired,
    }
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"{name}: expected None with a folder of results, which is read shard by shard, "
                f"got {validate.describe(value)}; pass a part of the results, such as "
                "folder[:10000]"
            )


def _warn_of_other_images(results: Mapping[str, Results]) -> None:
    """Warn if results have other originals, unless those of one are a part of the other's."""
    (first_name, first), *others = results.items()
    for name, cf in others:
        # A part is right: such as the images that flipped.
        alike = _have_same_images if len(cf) == len(first) else _is_part
        if not alike(first, cf):
            warnings.warn(
                f"results: {str(name)[:60]!r} has other images than {str(first_name)[:60]!r}, or "
                "the same images in another order; these rows of the table are not comparable: "
                "pass results for the same images",
                stacklevel=4,
            )


def _have_same_images(a: Results, b: Results) -> bool:
    """Return whether two results have the same originals. Folders are compared by digests."""
    if isinstance(a, ResultFolder) and isinstance(b, ResultFolder):
        return a.to_frame()["digest"].equals(b.to_frame()["digest"])
    one, other = first_part(a).original, first_part(b).original
    n = min(len(one), len(other))
    one, other = one[:n], other[:n]
    return one.shape == other.shape and torch.allclose(other.to(one), one, atol=1e-4)


def _is_part(a: Results, b: Results) -> bool:
    """Return whether the originals of the shorter result are among those of the longer one."""
    if isinstance(a, ResultFolder) or isinstance(b, ResultFolder):
        return True  # not compared: a folder is not read as a whole
    one, other = ({row.tobytes() for row in cf.original.detach().cpu().numpy()} for cf in (a, b))
    return one <= other or other <= one


def check_features(features: Any, name: str, dims: int = 2) -> dict[str, CheckedFunction]:
    validate.instance(features, Mapping, name, "a dict of name -> function")
    return {
        str(key): CheckedFunction(value, f"{name}[{str(key)[:60]!r}]", dims)
        for key, value in features.items()
    }


def check_code_std(code_std: Any, results: Mapping[str, Counterfactuals]) -> None:
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


def real_classes(
    value: Any,
    real: Tensor | None,
    results: Mapping[str, Counterfactuals],
    classifier: CheckedClassifier | None,
) -> Tensor | None:
    if value is None:
        return None
    if real is None:
        raise ValueError("real_labels: expected None without real images, got labels")
    first = next(iter(results.values()))
    names: Any = validate.recorded_names(first.made_by)
    if names is None and classifier is not None:
        names = classifier.class_names
    classes = first.logits_before.shape[1]
    return validate.labels(value, len(real), classes, "real_labels", names).cpu()


def check_factors(
    reader: Any, causes: Any, named_factor: Any
) -> tuple[FactorReader | None, list[str] | None, str | None]:
    if reader is not None:
        validate.instance(reader, FactorReader, "reader", "a cfx.FactorReader")
    elif causes is not None or named_factor is not None:
        given = "causes" if causes is not None else "named_factor"
        raise ValueError(f"{given}: expected None without a reader, got a value")
    if causes is not None:
        listed = validate.listed(causes, "causes", "factors")
        causes = [validate.choice(name, "causes", reader.options) for name in listed]
    if named_factor is not None:
        validate.choice(named_factor, "named_factor", reader.options)
        if causes is None:
            raise ValueError("named_factor: expected None without causes, got a factor")
    return reader, causes, named_factor


def check_attributes(
    attributes: Any, labels: Any, query: Any
) -> tuple[Features | None, Tensor | None, int | None]:
    if attributes is None:
        for value, name in ((labels, "attribute_labels"), (query, "query")):
            if value is not None:
                raise ValueError(f"{name}: expected None without attributes, got a value")
        return None, None, None
    if (labels is None) != (query is None):
        raise ValueError(
            "attribute_labels, query: expected both or neither, got only "
            + ("query" if labels is None else "attribute_labels")
        )
    read = CheckedFunction(attributes, "attributes", 2)
    if labels is None:
        return read, None, None
    labels = validate.decisions(labels, "attribute_labels")
    if labels.ndim != 2 or not len(labels):
        raise ValueError(f"attribute_labels: expected shape (m, a), got {tuple(labels.shape)}")
    if validate.count(query, "query") >= labels.shape[1]:
        raise ValueError(f"query: expected a column from 0 to {labels.shape[1] - 1}, got {query}")
    return read, labels, query


def by_method(value: Any, name: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dict of functions whose keys are names of results."""
    if value is None:
        return {}
    validate.instance(value, Mapping, name, "a dict: name as in results -> function")
    for key, function in value.items():
        if key not in results:
            raise ValueError(f"{name}: expected names of results, got {str(key)[:60]!r}")
        validate.function(function, f"{name}[{str(key)[:60]!r}]")
    return dict(value)


def check_repaired(
    repaired: Any, held_out: Any, results: Mapping[str, Any], classifier: Any
) -> tuple[dict[str, Any], tuple[Tensor, Any] | None]:
    nets = by_method(repaired, "repaired", results)
    if (repaired is None) != (held_out is None) or (repaired is not None and classifier is None):
        missing = (
            "classifier"
            if repaired is not None and held_out is not None
            else ("held_out" if held_out is None else "repaired")
        )
        raise ValueError(
            f"{missing}: expected a value, because accuracy gain needs classifier, repaired and "
            "held_out, got None"
        )
    if held_out is None:
        return nets, None
    if not isinstance(held_out, tuple | list) or len(held_out) != 2:
        raise TypeError(
            f"held_out: expected a pair (images, labels), got {validate.describe(held_out)}"
        )
    with validate.part_of("held_out"):
        return nets, (validate.images(held_out[0]), held_out[1])
