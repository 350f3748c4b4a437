"""Explain a classifier's decisions on a data set: all methods that apply, and one page."""

import dataclasses
import logging
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfxnb.attacks.describe_change import FeatureAttribution, describe_change
from cfxnb.attacks.descriptors import fit_descriptors
from cfxnb.attribution.integrated_gradients import integrated_gradients
from cfxnb.attribution.paths import straight_path
from cfxnb.attribution.result import Attribution
from cfxnb.core import processes, validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.disk import cause
from cfxnb.core.goals import Goal, reached_by, select_goal
from cfxnb.core.kept_work import digest
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.outcomes import outcomes_of
from cfxnb.core.prediction import finite_predict_logits
from cfxnb.core.question import described
from cfxnb.core.result_folder import ResultFolder
from cfxnb.core.tensors import predicted
from cfxnb.core.types import Classifier, LatentSpace
from cfxnb.data.imageset import ImageSet
from cfxnb.data.lazy_imageset import LazyImageSet
from cfxnb.explanation import costs, files, kept
from cfxnb.explanation import findings as say
from cfxnb.explanation.findings import Finding
from cfxnb.explanation.methods import (
    MOST_REFERENCES,
    Job,
    Scene,
    check_methods,
    is_denoiser,
    passes_gradients,
    plan,
)
from cfxnb.explanation.result import Explanation, parts_of
from cfxnb.explanation.run_jobs import run_all
from cfxnb.explanation.selection import Aim, Selection, aim, labels_of, select, spread
from cfxnb.metrics.report import report

Data = ImageSet | LazyImageSet | Tensor | torch.utils.data.Dataset
CONFIDENCE_LEVEL = 0.95
SHOWN = 24  # images on the page
LEAST_DESCRIBED = 200  # images from which descriptors are fitted
DESCRIBED_SECONDS = 60.0  # for encoding these images
log = logging.getLogger("cfxnb")


@standard_modes
def explain(
    data: Data,
    classifier: Classifier,
    space: LatentSpace | Mapping[str, LatentSpace] | None = None,
    *,
    target: str | int | Sequence[int | str] | Mapping[Any, Any] | Tensor | Goal = "second",
    judge: Classifier | None = None,
    methods: str | Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    reference: Data | None = None,
    n_images: int | str | None = "auto",
    max_minutes: float = 10.0,
    output_dir: str | os.PathLike[str] | None = None,
    title: str = "Why does the classifier decide like this?",
    seed: int = 0,
) -> Explanation:
    """Explain decisions by all methods that apply, and compare the methods with baselines.

    The function explains images that are evenly spread over the data set. The function runs each
    method, measures how many decisions survive reconstruction by the space, makes heat maps, and
    collects warnings for the reader. If a method cannot be used or fails, it is left out, and the
    findings say why.

    Before the work, the function measures how long the generator and the classifier take, and
    estimates the time of the page. By default it explains 24 images, or fewer if they would take
    longer than ``max_minutes``. Methods that would take longer even for 4 images are left out. The
    page says so.

    With ``output_dir``, any number of images can be explained with constant memory: images are read
    when they are used, results are written in shards, and the page shows a sample of 24 images,
    while its numbers are over all. If a call is interrupted or killed, the same call goes on, and
    computes no finished shard again. If a script was started in several processes by ``accelerate
    launch``, the processes share the images, and the main process writes the page.

    Args:
        data: The images: an ImageSet, a LazyImageSet of ``cfx.data.folder``, a torch Dataset with a
            length, or a tensor (n, c, h, w) in [0, 1].
        classifier: Maps images to logits (b, k). A classifier without gradients is accepted; the
            methods that need gradients are then left out. If the target is a goal: a regression
            model, see ``cfx.wrap_regression``.
        space: A generator with ``encode`` and ``decode``, or a dict of several from name to space.
            Default: None, which leaves only methods without a generator.
        target: Class to reach. ``"second"`` stands for the most probable other class of each image,
            and ``"next"`` for the next class number. You can also pass a class number or name for
            all images, one per explained image, or a dict from predicted class to target. For a
            regression model or your own score, pass a goal, such as ``cfx.lower_by(5)`` or
            ``cfx.score(fn)``.
        judge: Independent classifier with the same classes in the same order. The judge tells
            whether a counterfactual really shows the target. With a goal, the judge is another
            regression model.
        methods: Names of the methods to run, or a dict from name to options. Default: all that
            apply. A name is that of a function of ``cfx``, such as ``"latent_attack"``. Methods
            that you name are never left out because of the time.
        reference: Images that are not explained, with which flows are fitted and directions are
            found. Default: images of ``data`` that are not explained.
        n_images: Number of images to explain, or None or ``"all"`` for all. Default: ``"auto"``,
            which means 24, or fewer if time does not suffice.
        max_minutes: Minutes on this machine that the page may take, according to the estimate. It
            has no effect on methods and numbers of images that you name. Default: 10.
        output_dir: Folder for the page and all data, see ``Explanation.save``. Default: None, which
            writes nothing, and holds all results in memory.
        title: Heading of the page.
        seed: Seed of all methods.

    Returns:
        An Explanation. In a notebook it shows its summary.

    Raises:
        ValueError, TypeError: If an argument is wrong, or if no method can be used.
    """
    return explain_named(
        Question(
            data, classifier, space, target=target, judge=judge, methods=methods,
            reference=reference, n_images=n_images, max_minutes=max_minutes, output_dir=output_dir,
            title=title, seed=seed,
        )
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """The arguments of ``explain``, checked.

    Attributes:
        named_as: What settings call the networks: the keys "classifier", "judge" and "space NAME".
        tell: Function that gets the estimate of the time as a text, before the work.
    """

    data: Any
    classifier: Any
    space: Any = None
    target: Any = "second"
    judge: Any = None
    methods: Any = None
    reference: Any = None
    n_images: Any = "auto"
    max_minutes: float = 10.0
    output_dir: Any = None
    title: str = "Why does the classifier decide like this?"
    seed: int = 0
    named_as: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tell: Callable[[str], Any] = log.info

    def __post_init__(self) -> None:
        validate.text(self.title, "title")
        named = check_methods(self.methods)
        place = None if self.output_dir is None else files.checked_place(self.output_dir)
        changed = {
            "methods": named,
            "output_dir": place,
            "seed": validate.seed(self.seed),
            "space": _spaces(self.space),
            "n_images": _number_of_images(self.n_images),
            "max_minutes": validate.number(self.max_minutes, "max_minutes", 0.0, open_low=True),
        }
        validate.function(self.classifier, "classifier")
        validate.optional(validate.function, self.judge, "judge")
        for name, value in changed.items():
            object.__setattr__(self, name, value)

    @property
    def networks(self) -> tuple[Any, ...]:
        return self.classifier, self.judge, *self.space.values()


@standard_modes
def explain_named(question: Question) -> Explanation:
    """Do the work of ``explain``, with names of the networks for the page."""
    began = time.perf_counter()
    with eval_frozen(*question.networks):
        selection, goal, scene, jobs, choice = _begin(question)
        estimate = choice.restored()
        estimate.n_images = len(selection)
        expected = sum(estimate.seconds(job) for job in jobs)
        question.tell(
            f"{len(selection)} images, {len(jobs)} methods and baselines: about "
            f"{costs.in_words(expected)} on this machine"
        )
        found, messages = run_all(jobs, scene, selection, estimate, goal.images)
        if not scene.made:
            reasons = "; ".join(each.text for each in found)
            raise ValueError(
                f"methods: expected at least one that can be used, got none: {reasons}"
            )
        found = [*choice.findings(), *found]
        explanation = _explanation(question, selection, goal, scene, estimate, found, messages)
    spent = (
        f"{costs.in_words(time.perf_counter() - began)} for this call; the methods were estimated "
        f"to take {costs.in_words(expected)}"
    )
    about = (*explanation.about, ("time", spent))
    explanation = dataclasses.replace(explanation, about=about)
    if question.output_dir is not None and processes.is_main():
        files.save(explanation, question.output_dir, selection.skipped)
    return explanation


def _begin(question: Question) -> tuple[Selection, Aim, Scene, list[Job], costs.Choice]:
    """Choose the images and methods, and prepare what all methods share."""
    wanted = costs.MOST if question.n_images == "auto" else question.n_images
    selection, goal, scene, seconds = _scene(question, wanted)
    jobs = plan(scene, question.methods)

    def choose() -> costs.Choice:
        estimate = costs.Estimate(
            n_images=len(selection),
            classifier=seconds / len(selection),
            speeds=costs.measured(scene, selection.images[:1].images),
            n_reference=len(scene.reference),
            queries={},
        )
        auto = question.n_images == "auto"
        number, free = None if auto else len(selection), question.methods is None
        return costs.choose(jobs, estimate, number, free, question.max_minutes)

    place = None
    if question.output_dir is not None:
        place = question.output_dir / kept.WORK / "choice.json"
    key = digest(*(str(described(part)) for part in _identity(question, selection)))
    choice: costs.Choice = kept.once(place, key, costs.Choice, choose)
    if choice.n_images < len(selection):
        selection, goal, scene, _ = _scene(question, choice.n_images)
        jobs = plan(scene, question.methods)
    scene.queries = choice.restored().queries
    return selection, goal, scene, [j for j in jobs if j.name not in choice.left_out], choice


def _identity(question: Question, selection: Selection) -> list[Any]:
    """Return what the choice of images and methods depends on."""
    own = ("classifier", "space", "target", "methods", "n_images", "max_minutes", "seed")
    return [selection.n_all, *(getattr(question, name) for name in own)]


def _scene(question: Question, n_images: int | None) -> tuple[Selection, Aim, Scene, float]:
    """Return the explained images, their targets, the scene, and the seconds of classifying."""
    selection = select(question.data, question.reference, n_images)
    began = time.perf_counter()
    goal = aim(question.target, question.classifier, selection)
    seconds = time.perf_counter() - began
    scene = Scene(
        classifier=question.classifier,
        spaces=question.space,
        target=goal.target,
        goal=goal.goal,
        reference=selection.reference,
        seed=question.seed,
        gradients=passes_gradients(question.classifier, selection.images[:1].images),
        n_classes=goal.logits.shape[1],
        place=question.output_dir,
    )
    return selection, goal, scene, seconds


def _explanation(
    question: Question,
    selection: Selection,
    goal: Aim,
    scene: Scene,
    estimate: costs.Estimate,
    found: list[Finding],
    messages: dict[str, str],
) -> Explanation:
    """Compare the results, and collect what a reader should be careful about."""
    judge = question.judge
    if judge is not None and goal.goal is not None and goal.goal.kind == "score":
        judge = select_goal(judge, goal.goal, scale=1.0)  # the function is not in the record
    judged = {} if judge is None else _judged(judge, scene)
    shown = spread(len(selection), SHOWN)
    explanation = Explanation(
        title=question.title,
        images=selection.images,
        rows=selection.rows,
        target=goal.target,
        results=scene.made,
        table=report(scene.made, judge=judge, confidence_level=CONFIDENCE_LEVEL),
        findings=(),
        shown=shown,
        heat_maps=_heat_maps(scene, shown, messages),
        changes=_changes(scene, selection, estimate, messages),
        judged=judged,
        class_names=goal.class_names,
        about=_about(question, selection, scene, goal),
        jobs=scene.jobs,
    )
    brief = explanation.brief
    labels = None if goal.goal is not None else labels_of(selection.images, goal.class_names)
    survival = {
        str(job.space): brief[n] for n, job in scene.jobs.items() if job.method == "reconstruct"
    }
    lost, _ = say.of_spaces(survival)
    every = [
        *say.of_classifier(goal.logits, labels, goal.target),
        *lost,
        *(say.of_methods(scene.jobs) if question.methods is None and question.space else []),
        *say.of_results(scene.jobs, brief, judged),
        *found,
        *say.of_data(selection.skipped, len(selection), selection.n_all),
        *say.of_messages(messages),
    ]
    ordered = tuple(sorted(every, key=lambda each: each.kind != say.WARNING))
    return dataclasses.replace(explanation, findings=ordered)


def _number_of_images(value: Any) -> int | str | None:
    if isinstance(value, str):
        validate.choice(value, "n_images", ("auto", "all"))
        return value if value == "auto" else None
    return None if value is None else validate.count(value, "n_images", 1)


def _spaces(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        for name in value:
            validate.text(name, "space")
        return {name: validate.space(each, f"space[{name!r:.40}]") for name, each in value.items()}
    return {"space": validate.space(value)}


def _judged(judge: Any, scene: Scene) -> dict[str, Tensor]:
    """Return for each result whether the judge sees the target in each image, bool (n,)."""
    checked: Any = None
    if outcomes_of(judge) is None:
        checked = CheckedClassifier(judge, "judge")
        checked.classes = scene.n_classes

    def sees(part: Any) -> Tensor:
        if checked is None:
            return reached_by(judge, part, "judge").cpu()
        logits = finite_predict_logits(checked, part.image, name="judge")
        return say.judge_sees(logits.cpu(), part.target)

    return {n: torch.cat([sees(p) for p in parts_of(made)]) for n, made in scene.made.items()}


def _heat_maps(scene: Scene, shown: np.ndarray, messages: dict[str, str]) -> Attribution | None:
    """Return heat maps of the changes by the first method that flipped an image."""
    name = next((n for n, j in scene.jobs.items() if not j.baseline and _flips(scene, n)), None)
    if name is None:
        return None
    cf = scene.made[name][shown]
    label = predicted(cf.logits_before).clamp(min=0)
    # An image that already is the target has no change, and an empty map.
    other = (cf.target + 1) % scene.n_classes
    label = torch.where(label == cf.target.to(label), other.to(label), label)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            path = straight_path(cf.original, cf.image)
            method = "trapezoid" if scene.gradients else "secant"
            found = integrated_gradients(
                scene.fixed(), path, label, contrast_class=cf.target, method=method
            )
        except (ValueError, TypeError, RuntimeError) as error:
            messages.setdefault(cause(error, 300), "heat maps")
            return None
    for each in heard:
        messages.setdefault(str(each.message).rstrip("."), "heat maps")
    return found


def _flips(scene: Scene, name: str) -> bool:
    made = scene.made[name]
    if isinstance(made, ResultFolder):
        return any("flipped" in seal.status for seal in made.seals)
    return bool(made.flipped.any())


def _changes(
    scene: Scene, selection: Selection, estimate: costs.Estimate, messages: dict[str, str]
) -> FeatureAttribution | None:
    """Return how much each factor changed, if the data has factors that are numbers."""
    source = selection.source
    job = next(
        (
            n
            for n, j in scene.jobs.items()
            if not j.baseline
            and j.space is not None
            and not is_denoiser(scene.spaces[j.space])
            and scene.made[n][:1].code_after is not None
            and _flips(scene, n)
        ),
        None,
    )
    if job is None:
        return None
    usable = source.factors.select_dtypes(["number", "bool"]).dropna(axis=1)
    usable = usable.loc[:, usable.nunique() > 1]
    if usable.empty or len(source) < LEAST_DESCRIBED:
        return None
    slow = estimate.speeds.get(str(scene.jobs[job].space), costs.Speed()).generator
    count = int(min(MOST_REFERENCES, DESCRIBED_SECONDS / max(slow, 1e-9)))
    if count < LEAST_DESCRIBED:
        return None  # encoding the images takes too long
    rows = spread(len(source), count)
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
    question: Question, selection: Selection, scene: Scene, goal: Aim
) -> tuple[tuple[str, str], ...]:
    """Return pairs (name, text) that describe the data and the networks."""
    shape = " x ".join(map(str, selection.images[:1].images.shape[1:]))
    judge, named_as = question.judge, question.named_as

    def named(key: str, thing: Any) -> str:
        return f"{named_as[key]} ({_named(thing)})" if key in named_as else _named(thing)

    pairs = [
        (
            "images",
            f"{len(selection):,} of {selection.n_all:,}, {shape} (channels x height x width)",
        ),
        ("source", selection.images.source or "not stated"),
        ("classifier", named("classifier", question.classifier)),
        ("passes gradients", "yes" if scene.gradients else "no"),
        ("judge", "none" if judge is None else named("judge", judge)),
        ("target", _target_in_words(question.target, goal)),
        ("seed", str(scene.seed)),
    ]
    pairs += [(f"space {name}", named(f"space {name}", x)) for name, x in scene.spaces.items()]
    return tuple(pairs)


def _target_in_words(target: Any, goal: Aim) -> str:
    if goal.goal is not None:
        return goal.class_names[1]
    words = {
        "second": "the most probable other class of each image",
        "next": "the next class number",
    }
    if isinstance(target, str):
        return words.get(target, f"the class {target}")
    classes = goal.target.unique()
    return f"class number {int(classes[0])}" if len(classes) == 1 else "chosen for each image"


def _named(thing: Any) -> str:
    """Return the type of a classifier or space, and of the network inside."""
    inner = getattr(thing, "module", None)
    kind = getattr(thing, "__name__", type(thing).__name__)
    return f"{kind} of {type(inner).__name__}" if inner is not None else str(kind)
