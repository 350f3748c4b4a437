"""A table that compares counterfactual methods, one row per method."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.core import progress, validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.goals import reached_by
from cfxnb.core.intervals import checked_confidence_level
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.outcomes import OUTCOMES, outcomes_of
from cfxnb.core.prediction import finite_predict_logits
from cfxnb.core.result_folder import ResultFolder
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
from cfxnb.metrics.report_arguments import (
    Distance,
    Features,
    ReportArguments,
    Results,
    by_method,
    check_attributes,
    check_code_std,
    check_factors,
    check_features,
    check_no_sets,
    check_repaired,
    check_results,
    first_part,
    real_classes,
)
from cfxnb.metrics.stability import compare_runs, further_results
from cfxnb.metrics.transfer import accuracy_gain, checked_classifiers, transfer

INPUT_NOISE = 0.01  # std of the noise on pixels with which stability is measured
CYCLES = (1, 10)  # null edits after which composition is measured


@standard_modes
def report(
    results: Mapping[str, Results],
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

    Each optional argument adds columns to the table. Only the argument ``methods`` is slow, because
    each method is called 15 times.

    Args:
        results: Dict from the name of each method to its counterfactuals. A folder of results (see
            ``cfx.open``) is read shard by shard. It cannot be combined with the arguments
            ``features``, ``attribute_labels``, ``methods``, ``null_edits`` and ``repaired``.
        classifier: The explained classifier. If a classifier is passed, the table has the column
            ``COUT``.
        judge: Independent classifier with the same classes in the same order. If a judge is passed,
            the table has the columns ``judge agrees`` and ``effectiveness``. If the targets are
            goals, such as ``cfx.raise_to(0.8)``, the judge is a regression model with the same
            outcomes. It agrees if the goal is reached by its own outcomes.
        features: Dict from names to functions that map images to features, such as ``{"LeNet-5":
            net.features}``. Each feature function adds the columns ``FID``, ``sFID`` and ``KID``,
            with the name of the function in parentheses. FID and sFID are NaN if there are fewer
            images than features.
        real: Real images with which FID and KID compare the counterfactuals, (m, c, h, w). Default:
            all originals.
        real_labels: Classes of ``real``, (m,). If ``real_labels`` is passed, each feature function
            also adds the columns of ``cfx.metrics.minimality``. For minimality, images of ``real``
            that are explained are left out.
        code_std: Standard deviation of the codes of real images, with the shape of one code. If
            ``code_std`` is passed, the table has the column ``code distance``, in standard
            deviations.
        distances: Dict from names to functions that map two batches of images to distances (n,),
            such as ``{"LPIPS": cfx.metrics.LPIPS(state_dict)}``. Each distance function adds one
            column.
        retrained: Classifiers trained with other seeds, from ``cfx.load_retrained``. Retrained
            classifiers add the column ``transfer``.
        reader: Independent factor reader, a network that predicts the factors of an image. If a
            reader is passed, the table has the column ``changed factors``.
        causes: Factors that the classifier uses. If ``causes`` is passed, the table has the columns
            ``cause changed`` and ``only causes changed``.
        named_factor: Factor that the class is named after. If ``named_factor`` is passed, the table
            has one column for each kind of flip of ``cfx.metrics.classify_flips``.
        attributes: Function that maps n images to the logits of a binary attributes, (n, a). An
            attribute is present if its logit is above 0. If ``attributes`` is passed, the table has
            the column ``MNAC``.
        attribute_labels: True attributes of training images, bool (m, a). If ``attribute_labels``
            is passed, the table has the column ``CD``.
        query: Index of the attribute that the counterfactuals were to change, for the column
            ``CD``.
        methods: Dict from the names in ``results`` to the methods that made the results. A method
            is called as ``method(images, target, seed=seed)`` and returns Counterfactuals. An
            example of a method is ``functools.partial(cfx.latent_attack, space, classifier)``.
            If ``methods`` is passed, the table has the columns of composition, reversibility and
            stability; if ``reader`` is passed, too, the table has the column ``factor diversity``.
        null_edits: Dict like ``methods``, with functions that run an edit without any push towards
            a class, for the columns of composition.
            Default: ``methods``, called with the class that is already predicted as target.
        repaired: Dict from the names in ``results`` to the classifier after repair with the
            counterfactuals of that name. If ``repaired`` is passed, the table has the column
            ``accuracy gain``.
        held_out: Images and labels on which ``accuracy gain`` is measured.
        confidence_level: Confidence level of intervals, in (0, 1). If ``confidence_level`` is
            passed, each column is followed by three columns with ``low``, ``high`` or ``n`` after
            the name. The column with ``n`` holds the number of images from which the value is
            computed. Columns that are fractions of images get a Wilson interval. Columns that are
            means or ratios get a bootstrap interval over the images. FID, sFID, KID and seconds
            have no interval.
            Default: None, without intervals.

    Returns:
        DataFrame with one row per method. Eligible images are all images that were not classified
        as the target before the edit. Columns:

        - ``images``: number of images in the counterfactuals of the method.
        - ``flip rate``: fraction of the eligible images that flipped. Higher is better.
        - ``judge agrees``: fraction of the flipped images in which the judge sees the target.
          Higher is better.
        - ``effectiveness``: fraction of the eligible images in whose counterfactual the judge sees
          the target. Higher is better.
        - ``transfer``: fraction of the retrained classifiers that a flip changes to the target,
          too. The column holds the mean over flipped images. Higher is better.
        - ``L1``, ``L2``: mean distance from the original to the counterfactual, over eligible
          images.
        - ``L2 reconstruction``: mean L2 distance from the original to the reconstruction.
        - ``L2 edit``: mean L2 distance from the reconstruction to the counterfactual.
        - ``sparsity``: mean fraction of the pixels that did not change. Higher is sparser.
        - ``code distance``, ``COUT``, and the columns of ``distances``: means over eligible images.
        - ``FID (...)``, ``KID (...)``: distance between the counterfactuals of the eligible images
          and the images ``real``. ``sFID (...)``: distance between the flipped counterfactuals and
          originals of other images. Lower is better.
        - ``CLD (...)``, ``target nearer (...)``, ``source farther (...)``: minimality of the
          flipped counterfactuals. Lower is better.
        - ``changed factors``: mean number of factors that changed in a flip. ``cause changed`` is
          the fraction of the flips in which a cause changed. ``only causes changed`` is the
          fraction of the flips in which a cause changed and no other factor. ``causal``,
          ``trivial``, ``non-causal`` and ``adversarial`` are the fractions of the flips of each
          kind.
        - ``outcome change``, ``distance to goal``: for goals as targets, means over eligible
          images, in the units of the outcome. The distance is 0 where the goal is reached.
        - ``MNAC``: mean number of attributes that changed in a flip. ``CD``: correlation
          difference. Lower is better.
        - ``composition 1``, ``composition 10``: mean absolute difference to the original, in grey
          levels, after 1 and after 10 null edits (edits to the class that the image already has).
          Lower is better.
        - ``flipped back``: fraction of the flips that the method can flip back to the class of the
          original.
          ``return distance``: mean absolute difference, in grey levels, between the original and
          the image that was flipped back. ``return / one way``: the return distance divided by the
          distance between original and counterfactual. ``return distance`` and ``return / one way``
          count only images that flipped to the target and back.
        - ``flips again (seed)``, ``similarity (seed)``: stability with two other seeds. ``flips
          again (noise)``, ``similarity (noise)``: stability if noise with standard deviation 0.01
          is added to the pixels. Higher is more stable.
        - ``factor diversity``: mean number of factors in which the counterfactuals of two seeds
          differ.
        - ``accuracy gain``: accuracy of the classifier after repair minus accuracy before repair.
          Higher is better.
        - ``generator passes per flip``, ``classifier passes per flip``, ``seconds per flip``: total
          cost divided by the number of flipped images. Passes of other networks have a column, too.
          The cost of images that did not flip, and evaluations that all images share, are included.
          The cost of the calls that ``report`` makes is not included.

        An undefined value in the table is NaN, never 0.

    Raises:
        ValueError, TypeError: If an argument is wrong. The error message names the argument.
    """
    results = check_results(results)
    if any(isinstance(each, ResultFolder) for each in results.values()):
        check_no_sets(features, attribute_labels, methods, null_edits, repaired)
    firsts = {name: first_part(each) for name, each in results.items()}
    judge_model, judge = (judge, None) if outcomes_of(judge) is not None else (None, judge)
    if judge_model is not None and (wrong := [n for n, cf in firsts.items() if not _has_goal(cf)]):
        raise ValueError(
            "judge: expected a classifier, because the targets of "
            f"{str(wrong)[:200]} are classes, got a regression model"
        )
    networks = {
        name: None if other is None else CheckedClassifier(other, name)
        for name, other in (("classifier", classifier), ("judge", judge))
    }
    functions = validate.optional(check_features, features, "features") or {}
    real = validate.optional(validate.images, real, "real")
    if code_std is not None:
        check_code_std(code_std, firsts)
    level = None if confidence_level is None else checked_confidence_level(confidence_level)
    args = ReportArguments(
        networks["classifier"],
        networks["judge"],
        functions,
        real,
        real_classes(real_labels, real, firsts, networks["classifier"]),
        code_std,
        validate.optional(partial(check_features, dims=1), distances, "distances") or {},
        [] if retrained is None else checked_classifiers(retrained, "retrained"),
        *check_factors(reader, causes, named_factor),
        *check_attributes(attributes, attribute_labels, query),
        by_method(methods, "methods", results),
        by_method(null_edits, "null_edits", results),
        *check_repaired(repaired, held_out, results, networks["classifier"]),
        sorted({part for cf in firsts.values() for part in cf.cost} - {"generator", "classifier"}),
        judge_model,
        goals=any(map(_has_goal, firsts.values())),
    )
    networks_of = (classifier, judge, judge_model, features, distances, attributes)
    with eval_frozen(*networks_of), torch.no_grad():
        for name, network in networks.items():
            for cf in firsts.values() if network is not None else ():
                names: Any = validate.recorded_names(cf.made_by)
                if names is None and networks["classifier"] is not None:
                    names = networks["classifier"].class_names
                if len(image := cf.image[finite_rows(cf.image)][:1]):
                    validate.same_classes(network, image, cf.logits_before.shape[1], name, names)
        pairs = progress.each(results.items(), "report")
        rows = {name: _row(name, cf, args, level) for name, cf in pairs}
    return pd.DataFrame.from_dict(rows, orient="index")


def _has_goal(cf: Counterfactuals) -> bool:
    return set(OUTCOMES) <= cf.trace.keys()


def _row(
    name: str, results: Results, args: ReportArguments, level: float | None
) -> dict[str, float]:
    """Return the cells of one method. The results of a folder are read shard by shard."""
    add = Columns(level)
    for part in results if isinstance(results, ResultFolder) else [results]:
        _add_images(name, part, args, add)
    return add.row()


def _add_images(name: str, cf: Counterfactuals, args: ReportArguments, add: Columns) -> None:
    """Add the values of some images to all columns."""
    flipped = cf[cf.flipped.nonzero().squeeze(1)]
    eligible = cf[cf.eligible.nonzero().squeeze(1)]
    add.count("images", len(cf))
    add.rate("flip rate", eligible.flipped)
    _judged(flipped, eligible, args, add)
    _changes(eligible, args, add)
    for label, function in args.features.items():
        _realism(label, function, cf, eligible, args, add)
    _factors(flipped, args, add)
    _attributes(flipped, args, add)
    if args.methods or args.null_edits:
        with torch.enable_grad():  # the methods may need gradients
            _called_again(name, cf, args, add)
    if args.held_out is not None:
        _repair(name, args, add)
    _costs(cf, args.parts, add)


def _judged(
    flipped: Counterfactuals, eligible: Counterfactuals, args: ReportArguments, add: Columns
) -> None:
    if args.judge is not None or args.judge_model is not None:
        for name, part in (("judge agrees", flipped), ("effectiveness", eligible)):
            seen = None
            if len(part) and args.judge_model is not None:
                seen = reached_by(args.judge_model, part, "judge")
            elif len(part):
                logits = finite_predict_logits(args.judge, part.image, name="judge")
                seen = effectiveness(logits.argmax(1), part.target.to(logits.device)) > 0
            add.rate(name, seen)
    if args.retrained:
        add.fraction("transfer", transfer(flipped, args.retrained) if len(flipped) else None)


def _changes(eligible: Counterfactuals, args: ReportArguments, add: Columns) -> None:
    original, image = eligible.original, eligible.image
    add.mean("L1", l1(image, original))
    add.mean("L2", l2(image, original))
    add.mean("L2 reconstruction", l2(eligible.reconstruction, original))
    add.mean("L2 edit", l2(image, eligible.reconstruction))
    add.mean("sparsity", sparsity(image, original))
    for name, function in args.distances.items():
        add.mean(name, function(image, original) if len(eligible) else None)
    if args.goals:
        table = eligible.outcomes if _has_goal(eligible) else None
        change = None if table is None else (table["after"] - table["before"]).to_numpy()
        add.mean("outcome change", change)
        add.mean("distance to goal", None if table is None else table["distance"].to_numpy())
    if args.code_std is not None:
        lengths = None
        if eligible.code_after is not None and eligible.code_before is not None:
            moved = eligible.code_after.z - eligible.code_before.z
            lengths = norms(standardise(moved, args.code_std))
        add.mean("code distance", lengths)
    if (f := args.classifier) is not None:
        add.mean("COUT", cout(f, original, image, eligible.target) if len(eligible) else None)


def _realism(
    name: str,
    function: Features,
    cf: Counterfactuals,
    eligible: Counterfactuals,
    args: ReportArguments,
    add: Columns,
) -> None:
    """Add FID, sFID, KID and minimality in one space of features."""
    real = cf.original if args.real is None else args.real
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
    if args.real_labels is None:
        return
    table, unseen = None, _unseen(real, cf.original)
    if flipped.any() and unseen.any():
        part = eligible[flipped]
        table = minimality(
            own[flipped], ours[flipped], source_classes(part, "results"), part.target,
            reference=theirs[unseen], reference_labels=args.real_labels[unseen],
        )  # fmt: skip
    for column in MINIMALITY:
        values = None if table is None else table[column].to_numpy()
        add.mean(f"{column} ({name} features)", values)


def _split_fid(originals: Tensor, images: Tensor, flipped: Tensor) -> float:
    """Return the split FID, or NaN if one half of the split has fewer images than features."""
    half = len(flipped) // 2
    order = torch.randperm(len(flipped), generator=torch.Generator().manual_seed(0))
    smallest = min(int(flipped[rows].sum()) for rows in (order[:half], order[len(order) - half :]))
    if smallest < max(2, images.shape[1]):
        return math.nan
    return sfid_of_split(originals, images, flipped, order)


def _unseen(real: Tensor, originals: Tensor) -> Tensor:
    """Return, for each of m real images, whether it is not among the originals, bool (m,)."""
    known = {image.tobytes() for image in originals.detach().cpu().numpy()}
    return torch.tensor([image.tobytes() not in known for image in real.detach().cpu().numpy()])


def _factors(flipped: Counterfactuals, args: ReportArguments, add: Columns) -> None:
    if args.reader is None:
        return
    changed = changed_factors(flipped, args.reader)
    add.mean("changed factors", changed.sum(axis=1).to_numpy(float))
    if args.causes is not None:
        cause = changed[args.causes].any(axis=1).to_numpy(bool)
        other = changed.drop(columns=args.causes).any(axis=1).to_numpy(bool)
        add.rate("cause changed", torch.tensor(cause))
        add.rate("only causes changed", torch.tensor(cause & ~other))
    if args.named_factor is not None and args.causes is not None:
        kinds = classify_flips(flipped, args.reader, args.causes, args.named_factor)["kind"]
        for kind in FLIP_KINDS:
            add.rate(kind, torch.tensor((kinds == kind).to_numpy(bool)))


def _attributes(flipped: Counterfactuals, args: ReportArguments, add: Columns) -> None:
    if (function := args.attributes) is None:
        return
    n, labels, query = len(flipped), args.attribute_labels, args.query
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


def _called_again(name: str, cf: Counterfactuals, args: ReportArguments, add: Columns) -> None:
    """Add composition, reversibility, stability and factor diversity."""
    method = args.methods.get(name)
    null_edit, eligible = args.null_edits.get(name, method), cf[cf.eligible]
    unmoved = None
    if null_edit is not None and len(eligible):
        source = source_classes(eligible, "results")
        unmoved = composition(null_edit, eligible.original, source, CYCLES)
    for number in CYCLES:
        moved = None if unmoved is None else unmoved[number].to_numpy()
        add.mean(f"composition {number}", moved)
    back: Any = {} if method is None else reversibility(method, cf)
    add.fraction("flipped back", back.get("flipped back"))
    add.mean("return distance", back.get("return"))
    add.mean("return / one way", back.get("ratio"))
    for label, noise in (("seed", 0.0), ("noise", INPUT_NOISE)):
        again = [] if method is None else further_results(method, cf, input_noise=noise)
        runs = [run[cf.flipped] for run in (cf, *again)]
        same = compare_runs(runs).T if again else (None, None)
        add.fraction(f"flips again ({label})", same[0])
        add.mean(f"similarity ({label})", same[1])
        if args.reader is not None and label == "seed":
            values = factor_diversity(runs, args.reader) if again else None
            add.mean("factor diversity", values)


def _repair(name: str, args: ReportArguments, add: Columns) -> None:
    gain = None
    if name in args.repaired and args.held_out is not None and args.classifier is not None:
        gain = accuracy_gain(args.classifier, args.repaired[name], *args.held_out)
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
    add.quotient("seconds per flip", cf.made_by.get("seconds", math.nan), n)


def _shared(made_by: Mapping[str, Any], part: str) -> float:
    """Return the passes of a network that all images of a call share, such as those of a search."""
    records = made_by.get("parts")
    total = 0.0
    for record in records if isinstance(records, list) else [made_by]:
        shared = record.get("shared", {}) if isinstance(record, Mapping) else {}
        count = shared.get(part, 0) if isinstance(shared, Mapping) else 0
        total += validate.number(count, f"results: made_by['shared'][{part!r}]", 0.0)
    return total
