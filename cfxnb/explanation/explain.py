"""Explain a classifier's decisions on a data set: all methods that apply, and one page."""

import dataclasses
import inspect
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cfxnb.attacks.describe_change import FeatureAttribution, describe_change
from cfxnb.attacks.descriptors import fit_descriptors
from cfxnb.attribution.integrated_gradients import integrated_gradients
from cfxnb.attribution.paths import straight_path
from cfxnb.attribution.result import Attribution
from cfxnb.core import processes, progress, validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.disk import cause, given_path, kind_of, shown
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.prediction import predict_logits
from cfxnb.core.result_folder import ResultFolder
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import predicted
from cfxnb.core.types import Classifier, LatentSpace
from cfxnb.data.imageset import ImageSet
from cfxnb.data.lazy_imageset import LazyImageSet
from cfxnb.explanation import files
from cfxnb.explanation import findings as say
from cfxnb.explanation.findings import Finding
from cfxnb.explanation.methods import (
    METHODS,
    MOST_REFERENCES,
    Job,
    NotApplicable,
    Scene,
    check_methods,
    is_denoiser,
    key_of,
    nearest,
    passes_gradients,
    plan,
    prepare,
)
from cfxnb.metrics.report import report

Data = ImageSet | LazyImageSet | Tensor
TARGETS = ("second", "next")
CONFIDENCE_LEVEL = 0.95
WORK = "work"  # folder of unfinished work inside of output_dir
LEAST_DESCRIBED = 200  # images from which descriptors are fitted


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """Counterfactuals by several methods, their comparison, and warnings for the reader.

    Attributes:
        title: The question.
        images: The explained images, with labels and factors.
        rows: Row of each explained image in the data set, int64 (n,).
        target: Class to reach, (n,).
        results: Counterfactuals by the name of the method.
        table: The table of ``cfx.report`` with 95 % intervals, one row per method.
        findings: What a reader should know, each a Finding with ``kind`` ("warning" or "note") and
            ``text``.
        heat_maps: Contribution of each pixel to the change of the decision, for the images that the
            first method flipped; None if no image was flipped.
        changes: How much each factor changed, from ``cfx.describe_change``; None without factors.
        judged: For each method, whether the judge sees the target, bool (n,). Empty without a
            judge.
        class_names: Names of the classes.
        about: Pairs (name, text) that describe the data and the networks.
        jobs: Dict from the name of each method to its Job, which describes it.
    """

    title: str
    images: ImageSet
    rows: np.ndarray
    target: Tensor
    results: dict[str, Counterfactuals]
    table: pd.DataFrame
    findings: tuple[Finding, ...]
    heat_maps: Attribution | None
    changes: FeatureAttribution | None
    judged: dict[str, Tensor]
    class_names: tuple[str, ...]
    about: tuple[tuple[str, str], ...]
    jobs: dict[str, Job]

    def __post_init__(self) -> None:
        validate.fields(self)

    @property
    def warnings(self) -> list[str]:
        """The texts of all findings that are warnings."""
        return [each.text for each in self.findings if each.kind == say.WARNING]

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per image and method: classes, status, probability, judge."""
        return files.per_image(self)

    def html(self) -> str:
        """Return the page as one HTML text that needs no other file."""
        from cfxnb.explanation.page import page  # drawing is needed only here

        return page(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page and all data to a folder, and return the path of the page.

        The folder gets ``index.html``, the tables ``methods.csv``, ``images.csv`` and
        ``findings.csv``, all results in ``results`` (``cfx.Counterfactuals.load`` reads them), and
        all images as PNG files in ``images``.

        Args:
            path: The folder, which is made if it is missing. The folder must be empty, or hold an
                earlier page, whose files are replaced.

        Raises:
            ValueError, TypeError: If the folder cannot be written.
        """
        return files.save(self, checked_place(path, "path"), name="path")

    def __repr__(self) -> str:
        count = sum(each.kind == say.WARNING for each in self.findings)
        return (
            f"Explanation({len(self.images)} images, {len(self.results)} methods, {count} warnings)"
        )

    def _repr_html_(self) -> str:
        from cfxnb.explanation.page import summary

        return summary(self)


@standard_modes
def explain(
    data: Data,
    classifier: Classifier,
    space: LatentSpace | Mapping[str, LatentSpace] | None = None,
    *,
    target: str | int | Sequence[int | str] | Mapping[Any, Any] | Tensor = "second",
    judge: Classifier | None = None,
    methods: str | Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    reference: Data | None = None,
    n_images: int | None = 24,
    output_dir: str | os.PathLike[str] | None = None,
    title: str = "Why does the classifier decide like this?",
    seed: int = 0,
) -> Explanation:
    """Explain decisions by all methods that apply, and compare the methods with baselines.

    The function explains ``n_images`` images, evenly spread over the data set. The function runs
    each method, measures how many decisions survive reconstruction by the space, makes heat maps,
    and collects warnings for the reader. If a method cannot be used or fails, it is left out, and
    the findings say why.

    With ``output_dir``, finished work is kept in the folder ``work`` inside of it until the page is
    written. If a call is interrupted, the same call continues from this work. If a script was
    started in several processes by ``accelerate launch``, the processes share the images, and the
    main process writes the page. The explained images are held in memory.

    Args:
        data: The images: an ImageSet, a LazyImageSet of ``cfx.data.folder``, or a tensor
            (n, c, h, w) in [0, 1].
        classifier: Maps images to logits (b, k). A classifier without gradients is accepted; the
            methods that need gradients are then left out.
        space: A generator with ``encode`` and ``decode``, or a dict of several from name to space.
            Default: None, which leaves only methods without a generator.
        target: Class to reach. ``"second"`` stands for the most probable other class of each image,
            and ``"next"`` for the next class number. You can also pass a class number or name for
            all images, one per explained image, or a dict from predicted class to target.
        judge: Independent classifier with the same classes in the same order. The judge tells
            whether a counterfactual really shows the target.
        methods: Names of the methods to run, or a dict from name to options. Default: all that
            apply. A name is that of a function of ``cfx``, such as ``"latent_attack"``.
        reference: Images that are not explained, with which flows are fitted and directions are
            found. Default: images of ``data`` that are not explained.
        n_images: Number of images to explain, or None for all. Default: 24.
        output_dir: Folder for the page and all data, see ``Explanation.save``. Default: None, which
            writes nothing.
        title: Heading of the page.
        seed: Seed of all methods.

    Returns:
        An Explanation. In a notebook it shows its summary.

    Raises:
        ValueError, TypeError: If an argument is wrong, or if no method can be used.
    """
    return explain_named(
        data, classifier, space, target=target, judge=judge, methods=methods, reference=reference,
        n_images=n_images, output_dir=output_dir, title=title, seed=seed, named_as={},
    )  # fmt: skip


@standard_modes
def explain_named(
    data: Data,
    classifier: Classifier,
    space: LatentSpace | Mapping[str, LatentSpace] | None = None,
    *,
    target: Any,
    judge: Classifier | None,
    methods: Any,
    reference: Data | None,
    n_images: int | None,
    output_dir: str | os.PathLike[str] | None,
    title: str,
    seed: int,
    named_as: Mapping[str, str],
) -> Explanation:
    """Do the work of ``explain``, with names of the networks for the page.

    Args:
        named_as: Names of the networks in the settings, with the keys "classifier", "judge" and
            "space NAME".
    """
    validate.text(title, "title")
    named = check_methods(methods)
    where = None if output_dir is None else checked_place(output_dir)
    seed = validate.seed(seed)
    spaces = _spaces(space)
    validate.function(classifier, "classifier")
    validate.optional(validate.function, judge, "judge")
    chosen, rest, rows, n_all, skipped = _chosen(data, n_images, reference)
    images = chosen.images
    checked = CheckedClassifier(classifier)
    with eval_frozen(classifier, judge, *spaces.values()):
        logits = predict_logits(checked, images)
        names = _class_names(checked, chosen, logits.shape[1])
        goal = _target(target, logits, names)
        scene = Scene(
            classifier=classifier,
            spaces=spaces,
            target=goal,
            reference=rest,
            seed=seed,
            gradients=passes_gradients(classifier, images),
            n_classes=logits.shape[1],
            work=None if where is None else where / WORK,
        )
        jobs = plan(scene, named)
        found, messages = _run_all(jobs, scene, images)
        if not scene.made:
            reasons = "; ".join(each.text for each in found)
            raise ValueError(
                f"methods: expected at least one that can be used, got none: {reasons}"
            )
        judged = {} if judge is None else _judged(judge, scene.made, goal, logits.shape[1])
        heat_maps = _heat_maps(scene, messages)
        changes = _changes(scene, data, rest, reference, messages)
        table = report(scene.made, classifier=None, judge=judge, confidence_level=CONFIDENCE_LEVEL)
    labels = _labels(chosen, names)
    lost, _ = say.of_spaces(_reconstructions(scene))
    every = [
        *say.of_classifier(logits, labels, goal),
        *lost,
        *say.of_results(scene.jobs, scene.made, judged),
        *found,
        *say.of_data(skipped, len(images), n_all),
        *say.of_messages(messages),
    ]
    explanation = Explanation(
        title=title,
        images=chosen,
        rows=rows,
        target=goal,
        results=scene.made,
        table=table,
        findings=tuple(sorted(every, key=lambda each: each.kind != say.WARNING)),
        heat_maps=heat_maps,
        changes=changes,
        judged=judged,
        class_names=names,
        about=_about(chosen, n_all, classifier, judge, spaces, target, scene, named_as),
        jobs=scene.jobs,
    )
    if where is not None and processes.is_main():
        files.save(explanation, where, skipped)
        if processes.count() == 1:  # other processes may still read their parts
            shutil.rmtree(where / WORK, ignore_errors=True)
    return explanation


def checked_place(output_dir: Any, name: str = "output_dir") -> Path:
    """Return the folder after checking that it is new, empty, or holds an earlier page."""
    place = given_path(output_dir, name=name)
    kind = kind_of(place)
    if kind == "nothing there":
        return place
    if kind != "a folder":
        raise ValueError(f"{name}: expected a folder, got {shown(place)}: {kind}")
    own = kind_of(place / files.PAGE) == "a file" or kind_of(place / WORK) == "a folder"
    if any(place.iterdir()) and not own:
        raise ValueError(
            f"{name}: expected a new or empty folder, or one with an earlier {files.PAGE}, got "
            f"{shown(place)}, which holds other files"
        )
    return place


def _spaces(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        for name in value:
            validate.text(name, "space")
        return {name: validate.space(each, f"space[{name!r:.40}]") for name, each in value.items()}
    return {"space": validate.space(value)}


def _chosen(
    data: Any, n_images: int | None, reference: Any
) -> tuple[ImageSet, Tensor, np.ndarray, int, pd.DataFrame]:
    """Return the explained images, other images, the rows, the size of the data, and what was
    skipped."""
    whole = _as_set(data, "data")
    count = len(whole)
    if not count:
        raise ValueError("data: expected at least one image, got none")
    wanted = count if n_images is None else min(validate.count(n_images, "n_images", 1), count)
    rows = np.unique(np.linspace(0, count - 1, wanted).round().astype(np.int64))
    others = whole
    if reference is not None:
        others, free = _as_set(reference, "reference"), np.arange(len(_as_set(reference, "")))
    else:
        free = np.setdiff1d(np.arange(count), rows)
    picked = (
        free[np.unique(np.linspace(0, len(free) - 1, min(len(free), MOST_REFERENCES)).astype(int))]
        if len(free)
        else free
    )
    chosen = whole[rows]
    rest = others[picked].images if len(picked) else chosen.images[:0]
    if rest.shape[1:] != chosen.images.shape[1:]:
        raise ValueError(
            f"reference: expected images of shape {tuple(chosen.images.shape[1:])}, got "
            f"{tuple(rest.shape[1:])}"
        )
    skipped = getattr(whole, "skipped", pd.DataFrame({"file": [], "reason": []}))
    return chosen, rest, rows, count, skipped


def _as_set(value: Any, name: str) -> Any:
    """Return an ImageSet or a LazyImageSet. Plain images get no labels."""
    if isinstance(value, ImageSet | LazyImageSet):
        return value
    images = validate.images(value, name)
    return ImageSet(
        images=images,
        labels=torch.zeros(len(images), dtype=torch.int64),
        class_names=("unlabelled",),
        factors=pd.DataFrame(index=range(len(images))),
    )


def _class_names(classifier: CheckedClassifier, chosen: ImageSet, count: int) -> tuple[str, ...]:
    if classifier.class_names is not None and len(classifier.class_names) == count:
        return tuple(map(str, classifier.class_names))
    if len(chosen.class_names) == count:
        return chosen.class_names
    return tuple(map(str, range(count)))


def _labels(chosen: ImageSet, names: tuple[str, ...]) -> Tensor | None:
    """Return the labels as class numbers of the classifier, or None if they do not fit."""
    if tuple(chosen.class_names) == names or len(chosen.class_names) == len(names):
        return chosen.labels
    if set(chosen.class_names) <= set(names):
        return torch.tensor([names.index(chosen.class_names[i]) for i in chosen.labels.tolist()])
    return None


def _target(value: Any, logits: Tensor, names: tuple[str, ...]) -> Tensor:
    """Return the class to reach for each image, int64 (n,)."""
    decided, k = predicted(logits).clamp(min=0), logits.shape[1]
    if isinstance(value, str) and value in TARGETS and value not in names:
        if value == "next":
            return (decided + 1) % k
        others = logits.nan_to_num(-torch.inf).scatter(1, decided[:, None], -torch.inf)
        return others.argmax(1)
    if isinstance(value, Mapping):
        pairs = [(int(validate.labels(a, 1, k, "target", names)), b) for a, b in value.items()]
        goals = {a: int(validate.labels(b, 1, k, "target", names)) for a, b in pairs}
        if missing := sorted(set(decided.tolist()) - set(goals)):
            raise ValueError(
                f"target: expected a target for each predicted class, got none for "
                f"{names[missing[0]]!r}"
            )
        return torch.tensor([goals[c] for c in decided.tolist()])
    try:
        return validate.labels(value, len(logits), k, "target", names).cpu().clone()
    except ValueError as error:
        if isinstance(value, str):
            known = [*TARGETS, *names]
            raise ValueError(
                f"target: expected 'second', 'next', or a class out of {str(list(names))[:200]}, "
                f"got {value!r:.80}{nearest(value, known)}"
            ) from error
        raise


def _run_all(jobs: list[Job], scene: Scene, images: Tensor) -> tuple[list[Finding], dict[str, str]]:
    """Run all jobs, and return why some were left out, and the warnings that were given."""
    found: list[Finding] = []
    messages: dict[str, str] = {}
    for job in progress.each(jobs, "explain"):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                scene.made[job.name] = _run(job, scene, images)
                scene.jobs[job.name] = job
            except NotApplicable as error:
                found.append(Finding(say.NOTE, f"{job.name} was left out: {error}."))
            except (ValueError, TypeError, RuntimeError) as error:
                found.append(
                    Finding(say.WARNING, f"{job.name} failed and is left out: {cause(error, 400)}")
                )
        for each in heard:
            if issubclass(each.category, UserWarning):
                messages.setdefault(str(each.message).rstrip("."), job.name)
    return found, messages


def _run(job: Job, scene: Scene, images: Tensor) -> Counterfactuals:
    """Return the counterfactuals of one job."""
    if job.method == "random_change":
        like = next(
            (
                scene.made[n]
                for n, j in scene.jobs.items()
                if j.space == job.space and not j.baseline and scene.made[n].code_after is not None
            ),
            None,
        )
        if like is None:
            raise NotApplicable("no method has changed codes of this space")
        function = METHODS[job.method][0]
        space = scene.spaces[str(job.space)]
        return function(space, scene.classifier, like, seed=scene.seed, **job.options)
    function, before, options = prepare(job, scene)
    known = inspect.signature(function).parameters
    if scene.work is not None and "output_dir" in known:
        question = key_of(job.method, images, job.options, job.space, before[0], scene)
        options["output_dir"] = scene.work / f"{files.file_name(job.name)}-{question}"
        if processes.count() > 1:  # several processes share the images in parts of this size
            part = max(1, len(images) // (2 * processes.count()))
            options["batch_size"] = min(part, options.get("batch_size", part))
    result = function(*before, images, target=scene.target, **options)
    return result[:] if isinstance(result, ResultFolder) else result


def _reconstructions(scene: Scene) -> dict[str, Counterfactuals]:
    return {
        str(job.space): scene.made[name]
        for name, job in scene.jobs.items()
        if job.method == "reconstruct"
    }


def _judged(
    judge: Any, made: Mapping[str, Counterfactuals], target: Tensor, classes: int
) -> dict[str, Tensor]:
    checked = CheckedClassifier(judge, "judge")
    checked.classes = classes
    return {
        name: say.judge_sees(predict_logits(checked, cf.image).cpu(), target)
        for name, cf in made.items()
    }


def _heat_maps(scene: Scene, messages: dict[str, str]) -> Attribution | None:
    """Return heat maps of the changes by the first method that flipped an image."""
    name = next(
        (n for n, j in scene.jobs.items() if not j.baseline and scene.made[n].flipped.any()), None
    )
    if name is None:
        return None
    cf = scene.made[name]
    label = predicted(cf.logits_before).clamp(min=0)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            path = straight_path(cf.original, cf.image)
            method = "trapezoid" if scene.gradients else "secant"
            found = integrated_gradients(
                scene.classifier, path, label, contrast_class=scene.target, method=method
            )
        except (ValueError, TypeError, RuntimeError) as error:
            messages.setdefault(cause(error, 300), "heat maps")
            return None
    for each in heard:
        messages.setdefault(str(each.message).rstrip("."), "heat maps")
    return found


def _changes(
    scene: Scene, data: Any, rest: Tensor, reference: Any, messages: dict[str, str]
) -> FeatureAttribution | None:
    """Return how much each factor changed, if the data has factors that are numbers."""
    source = data if reference is None else reference
    factors = getattr(source, "factors", None)
    job = next(
        (
            n
            for n, j in scene.jobs.items()
            if not j.baseline
            and scene.made[n].code_after is not None
            and j.space is not None
            and not is_denoiser(scene.spaces[j.space])
            and scene.made[n].flipped.any()
        ),
        None,
    )
    if factors is None or job is None:
        return None
    usable = factors.select_dtypes(["number", "bool"]).dropna(axis=1)
    usable = usable.loc[:, usable.nunique() > 1]
    if usable.empty or len(source) < LEAST_DESCRIBED:
        return None
    rows = np.unique(np.linspace(0, len(source) - 1, min(len(source), MOST_REFERENCES)).astype(int))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            space = scene.spaces[str(scene.jobs[job].space)]
            descriptors = fit_descriptors(space, source[rows].images, usable.iloc[rows])
            found = describe_change(scene.made[job], descriptors)
        except (ValueError, TypeError, RuntimeError) as error:
            messages.setdefault(cause(error, 300), "the description of changes")
            return None
    for each in heard:
        messages.setdefault(str(each.message).rstrip("."), "the description of changes")
    return found


def _about(
    chosen: ImageSet,
    n_all: int,
    classifier: Any,
    judge: Any,
    spaces: dict[str, Any],
    target: Any,
    scene: Scene,
    named_as: Mapping[str, str],
) -> tuple[tuple[str, str], ...]:
    """Return pairs (name, text) that describe the data and the networks."""
    shape = " x ".join(map(str, chosen.images.shape[1:]))
    words = {
        "second": "the most probable other class of each image",
        "next": "the next class number",
    }
    goal = words.get(target, f"the class {target}") if isinstance(target, str) else None
    if goal is None:
        classes = scene.target.unique()
        goal = f"class number {int(classes[0])}" if len(classes) == 1 else "chosen for each image"

    def named(key: str, thing: Any) -> str:
        return f"{named_as[key]} ({_named(thing)})" if key in named_as else _named(thing)

    pairs = [
        ("images", f"{len(chosen)} of {n_all:,}, {shape} (channels x height x width)"),
        ("source", chosen.source or "not stated"),
        ("classifier", named("classifier", classifier)),
        ("passes gradients", "yes" if scene.gradients else "no"),
        ("judge", "none" if judge is None else named("judge", judge)),
        ("target", goal),
        ("seed", str(scene.seed)),
    ]
    pairs += [(f"space {name}", named(f"space {name}", each)) for name, each in spaces.items()]
    return tuple(pairs)


def _named(thing: Any) -> str:
    """Return the type of a classifier or space, and of the network inside."""
    inner = getattr(thing, "module", None)
    kind = getattr(thing, "__name__", type(thing).__name__)
    return f"{kind} of {type(inner).__name__}" if inner is not None else str(kind)
