"""A table that compares counterfactual methods, one row per method."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedClassifier, CheckedFunction
from cfxnb.core.intervals import checked_confidence_level
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.prediction import finite_predict_logits
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import finite_rows, norms, standardise
from cfxnb.core.types import Classifier
from cfxnb.metrics.attributes import correlation_difference
from cfxnb.metrics.axioms import composition, effectiveness, reversibility
from cfxnb.metrics.called_again import Method, source_classes
from cfxnb.metrics.columns import Columns
from cfxnb.metrics.distributions import fid, kid, sfid_of_split
from cfxnb.metrics.diversity import factor_diversity
from cfxnb.metrics.ground_truth import FLIP_KINDS, changed_factors, classify_flips
from cfxnb.metrics.minimality import COLUMNS as MINIMALITY
from cfxnb.metrics.minimality import minimality
from cfxnb.metrics.pairwise import cout, l1, l2, sparsity
from cfxnb.metrics.stability import compare_runs, further_results
from cfxnb.metrics.transfer import accuracy_gain, checked_classifiers, transfer

Features = Callable[[Tensor], Tensor]
Distance = Callable[[Tensor, Tensor], Tensor]
INPUT_NOISE = 0.01  # std of the noise on pixels with which stability is measured
CYCLES = (1, 10)  # null edits after which composition is measured


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """The checked arguments of ``report``, which explains them."""

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


@standard_modes
def report(
    results: Mapping[str, Counterfactuals],
    *,
    classifier: Classifier | None = None,
    judge: Classifier | None = None,
    features: Mapping[str, Features] | None = None,
    real: Tensor | None = None,
    real_labels: Any = None,
    code_std: Tensor | None = None,
    distances: Mapping[str, Distance] | None = None,
    retrained: Sequence[Classifier] | None = None,
    reader: FactorReader | None = None,
    causes: Sequence[str] | None = None,
    named_factor: str | None = None,
    attributes: Features | None = None,
    attribute_labels: Tensor | None = None,
    query: int | None = None,
    methods: Mapping[str, Method] | None = None,
    null_edits: Mapping[str, Method] | None = None,
    repaired: Mapping[str, Classifier] | None = None,
    held_out: tuple[Tensor, Any] | None = None,
    confidence_level: float | None = None,
) -> pd.DataFrame:
    """Return a table that compares counterfactual methods on the same images.

    Each further argument adds columns. Only ``methods`` is slow: it calls each method 15 times.

    Args:
        results: Dict from the name of each method to its counterfactuals.
        classifier: The explained classifier. A classifier adds the column ``COUT``.
        judge: Independent classifier with the same classes in the same order. A judge adds the
            columns ``judge agrees`` and ``effectiveness``.
        features: Names -> feature functions, such as ``{"LeNet-5": net.features}``. Each function
            adds the columns ``FID``, ``sFID`` and ``KID``, with the name of the function in
            parentheses. FID and sFID are NaN if there are fewer images than features.
        real: Real images with which FID and KID compare the counterfactuals, (m, c, h, w). Default:
            all originals.
        real_labels: Classes of ``real``, (m,). With these, each feature function adds the columns
            of ``cfx.metrics.minimality``. Explained images among ``real`` are left out.
        code_std: Standard deviation of the codes of real images, with the shape of one code. If
            ``code_std`` is given, the table has the column ``code distance``, in this unit.
        distances: Names -> functions (images, images) -> distances (n,), such as
            ``{"LPIPS": cfx.metrics.LPIPS(state_dict)}``. Each function adds a column.
        retrained: Classifiers trained with other seeds, from ``cfx.load_retrained``. They add the
            column ``transfer``.
        reader: Independent factor reader. A reader adds the column ``changed factors``.
        causes: Factors that the classifier uses. They add the columns ``cause changed`` and ``only
            causes changed``.
        named_factor: Factor that the class is named after. It adds one column for each kind of
            ``cfx.metrics.classify_flips``.
        attributes: Images -> logits of a binary attributes, (n, a). An attribute is present if its
            logit is above 0. The function adds the column ``MNAC``.
        attribute_labels: True attributes of training images, bool (m, a). They add the column
            ``CD``.
        query: Column of the attribute that the counterfactuals were to change, for ``CD``.
        methods: The methods that made the results, under the same names. Each is called as
            ``method(images, target, seed=seed)`` and returns Counterfactuals. An example is
            ``functools.partial(cfx.latent_attack, space, classifier)``. Methods add the columns of
            composition, reversibility and stability, and with ``reader`` also ``factor diversity``.
        null_edits: Functions like ``methods`` that run an edit without any push, for composition.
            Default: ``methods``, asked for the class that is already predicted.
        repaired: Names as in ``results`` -> the classifier after repair with these counterfactuals.
            They add the column ``accuracy gain``.
        held_out: Images and labels on which ``accuracy gain`` is measured.
        confidence_level: Confidence level of intervals, in (0, 1). If given, each column is
            followed by three more: its name with ``low``, ``high`` and ``n``. Here n is the number
            of images that count. Fractions of images get a Wilson interval. Means and ratios get a
            bootstrap interval over the images. FID, sFID, KID and seconds have no interval.
            Default: None, without intervals.

    Returns:
        DataFrame with one row per method. The eligible images are those that did not have the
        target class before, flipped or not. They are the same for every method. Columns:

        - ``images``: number of images in the result.
        - ``flip rate``: fraction of the eligible images that flipped. Higher is better.
        - ``judge agrees``: fraction of the flipped images in which the judge sees the target.
          Higher is better.
        - ``effectiveness``: fraction of the eligible images in which the judge sees the target
          afterwards. Higher is better.
        - ``transfer``: fraction of the retrained classifiers that a flip changes to the target,
          too. Mean over flipped images. Higher is better.
        - ``L1``, ``L2``: distance from the original to the counterfactual, over eligible images.
        - ``L2 reconstruction``: distance from the original to the reconstruction.
        - ``L2 edit``: distance from the reconstruction to the counterfactual.
        - ``sparsity``: fraction of pixels that did not change. Higher is sparser.
        - ``code distance``, ``COUT``, and the columns of ``distances``: means over eligible images.
        - ``FID (...)``, ``KID (...)``: distance of the eligible images to ``real``. ``sFID (...)``:
          distance of the flipped images to other originals. Lower is better.
        - ``CLD (...)``, ``target nearer (...)``, ``source farther (...)``: minimality of the
          flipped images. Lower is better.
        - ``changed factors``: number of factors that changed in a flip. ``cause changed`` and
          ``only causes changed``: fraction of the flips in which a cause changed, and in which no
          other factor changed besides. ``causal``, ``trivial``, ``non-causal``, ``adversarial``:
          fraction of the flips of each kind.
        - ``MNAC``: number of attributes that changed in a flip. ``CD``: correlation difference.
          Lower is better.
        - ``composition 1``, ``composition 10``: mean absolute difference, in grey levels, after 1
          and 10 null edits. Lower is better.
        - ``flipped back``: fraction of the flips that the method reverses. ``return distance``:
          mean absolute difference to the original afterwards, in grey levels. ``return / one way``:
          that distance divided by the one before the way back. The two distances count only images
          that flipped both ways.
        - ``flips again (seed)``, ``similarity (seed)``: stability with two other seeds. ``flips
          again (noise)``, ``similarity (noise)``: stability with a little noise on the pixels, std
          0.01. Higher is more stable.
        - ``factor diversity``: number of factors in which the flips of two seeds differ.
        - ``accuracy gain``: accuracy after repair minus accuracy before. Higher is better.
        - ``generator passes per flip``, ``classifier passes per flip`` and those of further
          networks, ``seconds per flip``: total cost divided by the number of flipped images.
          Failures and evaluations that all images share are included. The cost of further calls
          for this table is not.

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
    level = None if confidence_level is None else checked_confidence_level(confidence_level)
    inputs = _Inputs(
        networks["classifier"],
        networks["judge"],
        functions,
        real,
        _real_labels(real_labels, real, results, networks["classifier"]),
        code_std,
        validate.optional(partial(_check_features, dims=1), distances, "distances") or {},
        [] if retrained is None else checked_classifiers(retrained, "retrained"),
        *_check_factors(reader, causes, named_factor),
        *_check_attributes(attributes, attribute_labels, query),
        _by_method(methods, "methods", results),
        _by_method(null_edits, "null_edits", results),
        *_check_repaired(repaired, held_out, results, networks["classifier"]),
        sorted({part for cf in results.values() for part in cf.cost} - {"generator", "classifier"}),
    )
    with eval_frozen(classifier, judge, features), torch.no_grad():
        for name, network in networks.items():
            for cf in results.values() if network is not None else ():
                names: Any = validate.recorded_names(cf.made_by)
                if names is None and networks["classifier"] is not None:
                    names = networks["classifier"].class_names
                if len(image := cf.image[finite_rows(cf.image)][:1]):
                    validate.same_classes(network, image, cf.logits_before.shape[1], name, names)
        rows = {name: _row(name, cf, inputs, Columns(level)) for name, cf in results.items()}
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


def _check_features(features: Any, name: str, dims: int = 2) -> dict[str, CheckedFunction]:
    validate.instance(features, Mapping, name, "a dict of name -> function")
    return {
        str(key): CheckedFunction(value, f"{name}[{str(key)[:60]!r}]", dims)
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


def _real_labels(
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


def _check_factors(
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


def _check_attributes(
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


def _by_method(value: Any, name: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dict of functions whose keys are names of results."""
    if value is None:
        return {}
    validate.instance(value, Mapping, name, "a dict: name as in results -> function")
    for key, function in value.items():
        if key not in results:
            raise ValueError(f"{name}: expected names of results, got {str(key)[:60]!r}")
        validate.function(function, f"{name}[{str(key)[:60]!r}]")
    return dict(value)


def _check_repaired(
    repaired: Any, held_out: Any, results: Mapping[str, Any], classifier: Any
) -> tuple[dict[str, Any], tuple[Tensor, Any] | None]:
    nets = _by_method(repaired, "repaired", results)
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


def _row(name: str, cf: Counterfactuals, inputs: _Inputs, add: Columns) -> dict[str, float]:
    flipped = cf[cf.flipped.nonzero().squeeze(1)]
    eligible = cf[cf.eligible.nonzero().squeeze(1)]
    add.row["images"] = len(cf)
    add.rate("flip rate", eligible.flipped)
    _judged(flipped, eligible, inputs, add)
    _changes(eligible, inputs, add)
    for label, function in inputs.features.items():
        _realism(label, function, cf, eligible, inputs, add)
    _factors(flipped, inputs, add)
    _attributes(flipped, inputs, add)
    if inputs.methods or inputs.null_edits:
        with torch.enable_grad():  # the methods may need gradients
            _called_again(name, flipped, eligible, inputs, add)
    if inputs.held_out is not None:
        _repair(name, inputs, add)
    _costs(cf, inputs.parts, add)
    return add.row


def _judged(
    flipped: Counterfactuals, eligible: Counterfactuals, inputs: _Inputs, add: Columns
) -> None:
    if inputs.judge is not None:
        for name, part in (("judge agrees", flipped), ("effectiveness", eligible)):
            seen = None
            if len(part):
                logits = finite_predict_logits(inputs.judge, part.image, name="judge")
                seen = effectiveness(logits.argmax(1), part.target.to(logits.device)) > 0
            add.rate(name, seen)
    if inputs.retrained:
        add.fraction("transfer", transfer(flipped, inputs.retrained) if len(flipped) else None)


def _changes(eligible: Counterfactuals, inputs: _Inputs, add: Columns) -> None:
    original, image = eligible.original, eligible.image
    add.mean("L1", l1(image, original))
    add.mean("L2", l2(image, original))
    add.mean("L2 reconstruction", l2(eligible.reconstruction, original))
    add.mean("L2 edit", l2(image, eligible.reconstruction))
    add.mean("sparsity", sparsity(image, original))
    for name, function in inputs.distances.items():
        add.mean(name, function(image, original) if len(eligible) else None)
    if inputs.code_std is not None:
        lengths = None
        if eligible.code_after is not None and eligible.code_before is not None:
            change = eligible.code_after.z - eligible.code_before.z
            lengths = norms(standardise(change, inputs.code_std))
        add.mean("code distance", lengths)
    if (f := inputs.classifier) is not None:
        add.mean("COUT", cout(f, original, image, eligible.target) if len(eligible) else None)


def _realism(
    name: str,
    function: Features,
    cf: Counterfactuals,
    eligible: Counterfactuals,
    inputs: _Inputs,
    add: Columns,
) -> None:
    """Add FID, sFID, KID and minimality in one space of features."""
    real = cf.original if inputs.real is None else inputs.real
    n, flipped = len(eligible), eligible.flipped
    ours, own, theirs = torch.zeros(3, 0, 1)
    if n:
        ours, own, theirs = (
            torch.cat([function(chunk) for chunk in x.split(512)])
            for x in (eligible.image, eligible.original, real)
        )
    d, few = ours.shape[1], min(n, len(theirs))
    if theirs.shape[1] != d:
        raise ValueError(
            f"features: expected one number of features, got {d} and {theirs.shape[1]}"
        )
    distance = fid(ours, theirs) if few >= max(2, d) else math.nan
    add.value(f"FID ({name} features)", distance, n)
    add.value(f"sFID ({name} features)", _split_fid(own, ours, flipped), int(flipped.sum()))
    distance = kid(ours, theirs, subset_size=min(100, few))[0] if few > 1 else math.nan
    add.value(f"KID ({name} features)", distance, n)
    if inputs.real_labels is None:
        return
    table, unseen = None, _unseen(real, cf.original)
    if flipped.any() and unseen.any():
        part = eligible[flipped]
        table = minimality(
            own[flipped], ours[flipped], source_classes(part, "results"), part.target,
            reference=theirs[unseen], reference_labels=inputs.real_labels[unseen],
        )  # fmt: skip
    for column in MINIMALITY:
        values = None if table is None else table[column].to_numpy()
        add.mean(f"{column} ({name} features)", values)


def _split_fid(originals: Tensor, images: Tensor, flipped: Tensor) -> float:
    """Return the split FID, or NaN if a half has fewer images than features."""
    half = len(flipped) // 2
    order = torch.randperm(len(flipped), generator=torch.Generator().manual_seed(0))
    smallest = min(int(flipped[rows].sum()) for rows in (order[:half], order[len(order) - half :]))
    if smallest < max(2, images.shape[1]):
        return math.nan
    return sfid_of_split(originals, images, flipped, order)


def _unseen(real: Tensor, originals: Tensor) -> Tensor:
    """Return which real images are not among the originals, bool (m,)."""
    known = {image.tobytes() for image in originals.detach().cpu().numpy()}
    return torch.tensor([image.tobytes() not in known for image in real.detach().cpu().numpy()])


def _factors(flipped: Counterfactuals, inputs: _Inputs, add: Columns) -> None:
    if inputs.reader is None:
        return
    changed = changed_factors(flipped, inputs.reader)
    add.mean("changed factors", changed.sum(axis=1).to_numpy(float))
    if inputs.causes is not None:
        cause = changed[inputs.causes].any(axis=1).to_numpy(bool)
        other = changed.drop(columns=inputs.causes).any(axis=1).to_numpy(bool)
        add.rate("cause changed", torch.tensor(cause))
        add.rate("only causes changed", torch.tensor(cause & ~other))
    if inputs.named_factor is not None and inputs.causes is not None:
        kinds = classify_flips(flipped, inputs.reader, inputs.causes, inputs.named_factor)["kind"]
        for kind in FLIP_KINDS:
            add.rate(kind, torch.tensor((kinds == kind).to_numpy(bool)))


def _attributes(flipped: Counterfactuals, inputs: _Inputs, add: Columns) -> None:
    if (function := inputs.attributes) is None:
        return
    n, labels, query = len(flipped), inputs.attribute_labels, inputs.query
    changed = None
    if n:
        before, after = (
            torch.cat([function(chunk) for chunk in x.split(512)]).cpu() > 0
            for x in (flipped.original, flipped.image)
        )
        changed = (before != after).sum(1)
    add.mean("MNAC", changed)
    if labels is None or query is None:
        return
    if n and before.shape[1] != labels.shape[1]:
        raise ValueError(
            f"attribute_labels: expected {before.shape[1]} attributes, got {labels.shape[1]}"
        )
    add.statistic(
        "CD", n, lambda rows: correlation_difference(before[rows], after[rows], labels, query)[0]
    )


def _called_again(
    name: str, flipped: Counterfactuals, eligible: Counterfactuals, inputs: _Inputs, add: Columns
) -> None:
    """Add composition, reversibility, stability and factor diversity."""
    method = inputs.methods.get(name)
    null_edit = inputs.null_edits.get(name, method)
    ready = method is not None and len(flipped) > 0
    unmoved = None
    if null_edit is not None and len(eligible):
        unmoved = composition(
            null_edit, eligible.original, source_classes(eligible, "results"), CYCLES
        )
    for number in CYCLES:
        moved = None if unmoved is None else unmoved[number].to_numpy()
        add.mean(f"composition {number}", moved)
    back: Any = reversibility(method, flipped) if method is not None and ready else {}
    add.fraction("flipped back", back.get("flipped back"))
    add.mean("return distance", back.get("return"))
    add.mean("return / one way", back.get("ratio"))
    for label, noise in (("seed", 0.0), ("noise", INPUT_NOISE)):
        runs = [flipped]
        if method is not None and ready:
            runs += further_results(method, flipped, input_noise=noise)
        same = compare_runs(runs).T if ready else (None, None)
        add.fraction(f"flips again ({label})", same[0])
        add.mean(f"similarity ({label})", same[1])
        if inputs.reader is not None and label == "seed":
            values = factor_diversity(runs, inputs.reader) if ready else None
            add.mean("factor diversity", values)


def _repair(name: str, inputs: _Inputs, add: Columns) -> None:
    gain = None
    if name in inputs.repaired and inputs.held_out is not None and inputs.classifier is not None:
        gain = accuracy_gain(inputs.classifier, inputs.repaired[name], *inputs.held_out)
    add.mean("accuracy gain", gain)


def _costs(cf: Counterfactuals, parts: Sequence[str], add: Columns) -> None:
    for part in ("generator", "classifier", *parts):
        name = f"{part} passes per flip"
        spent = cf.cost.get(part)
        if spent is None:
            add.value(name, math.nan, 0)
        else:
            add.ratio(name, spent, cf.flipped, _shared(cf.made_by, part))
    n = int(cf.flipped.sum())
    seconds = cf.made_by.get("seconds", math.nan)
    add.value("seconds per flip", seconds / n if n else math.nan, n)


def _shared(made_by: Mapping[str, Any], part: str) -> float:
    """Return the passes of a network that all images of a call share, such as those of a search."""
    records = made_by.get("parts")
    total = 0.0
    for record in records if isinstance(records, list) else [made_by]:
        shared = record.get("shared", {}) if isinstance(record, Mapping) else {}
        count = shared.get(part, 0) if isinstance(shared, Mapping) else 0
        total += validate.number(count, f"results: made_by['shared'][{part!r}]", 0.0)
    return total
