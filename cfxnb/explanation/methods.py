"""Which methods apply to a classifier and its spaces, and how each of them is called."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfxnb.attacks.baselines import random_change, reconstruct
from cfxnb.attacks.latent_attack import latent_attack
from cfxnb.attacks.nearest_neighbour import nearest_neighbour
from cfxnb.attacks.pixel_attack import pixel_attack
from cfxnb.attacks.query_attack import query_attack
from cfxnb.core import validate
from cfxnb.core.conditions import conditions_per_class
from cfxnb.core.disk import cause
from cfxnb.core.goals import STEEPNESS, Goal, goal_classifier
from cfxnb.core.kept_work import digest
from cfxnb.core.question import described
from cfxnb.diffusion.diffusion_counterfactual import diffusion_counterfactual
from cfxnb.diffusion.dime import dime
from cfxnb.diffusion.fastdime import fastdime
from cfxnb.diffusion.maskdime import maskdime
from cfxnb.diffusion.sce import sce
from cfxnb.directions.find_directions import find_directions
from cfxnb.directions.follow_direction import follow_direction
from cfxnb.directions.result import Directions
from cfxnb.explanation import kept
from cfxnb.flows.flow_counterfactual import flow_counterfactual
from cfxnb.flows.velocity import FittedFlow, fit_flow

#: Name of each method, its function, its name on the page, and what it does in one sentence.
METHODS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "latent_attack": (
        latent_attack,
        "latent attack",
        "changes the code of the image by gradients of the classifier",
    ),
    "query_attack": (
        query_attack,
        "query attack",
        "searches the code by queries of the classifier alone",
    ),
    "flow_counterfactual": (
        flow_counterfactual,
        "flow walk",
        "walks from the code towards the target, without gradients of the classifier",
    ),
    "follow_direction": (
        follow_direction,
        "one direction",
        "moves the code along one direction that is the same for all images",
    ),
    "diffusion_counterfactual": (
        diffusion_counterfactual,
        "diffusion",
        "adds noise and denoises, guided where classifier and diffusion model agree",
    ),
    "sce": (sce, "SCE", "moves the code along gradients at denoised images"),
    "maskdime": (
        maskdime,
        "MaskDiME",
        "adds noise and denoises, guided by gradients of the classifier inside a mask",
    ),
    "fastdime": (
        fastdime,
        "FastDiME",
        "adds noise and denoises, guided by gradients at predicted clean images",
    ),
    "dime": (dime, "DiME", "adds noise and denoises, guided by gradients at fully denoised images"),
    "nearest_neighbour": (
        nearest_neighbour,
        "nearest neighbour",
        "shows the nearest real image of the target class",
    ),
    "pixel_attack": (
        pixel_attack,
        "pixel attack",
        "changes pixels by gradients of the classifier, without a generator",
    ),
    "random_change": (
        random_change,
        "random change",
        "changes the code in a random direction, by as much as the first method",
    ),
    "reconstruct": (reconstruct, "reconstruction", "encodes and decodes, and changes nothing"),
}
BASELINES = ("nearest_neighbour", "pixel_attack", "random_change", "reconstruct")
CONDITIONED = ("diffusion_counterfactual", "flow_counterfactual")  # with a diffusion model
DENOISER = ("diffusion_counterfactual", "sce", "maskdime", "fastdime", "dime")
WITHOUT_GRADIENT = (
    "query_attack", "flow_counterfactual", "follow_direction", "nearest_neighbour", "random_change",
    "reconstruct",
)  # fmt: skip
MOST_REFERENCES = 1000  # images from which a flow is fitted
LEAST_REFERENCES = 64
SEARCHED = 32  # images in which a direction is searched
QUERIES = 1024  # of a search for a direction
FEW_QUERIES = 256  # with fewer, the search is left out
AT_ONCE = 256  # images that are read and classified together
#: Arguments that ``explain`` sets itself.
OWN = ("space", "classifier", "images", "target", "like", "pool", "direction", "output_dir", "seed")


class NotApplicable(ValueError):
    """Raised if a method cannot be used here. The message says why."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One method with one space.

    Attributes:
        method: Key of ``METHODS``.
        name: Name on the page.
        space: Name of the space, or None.
        options: Options of the call.
        chosen: Whether the caller has named the method.
    """

    method: str
    name: str
    space: str | None
    options: dict[str, Any]
    chosen: bool

    @property
    def baseline(self) -> bool:
        return self.method in BASELINES

    @property
    def words(self) -> str:
        """What the method does, in one sentence."""
        return METHODS[self.method][2]


@dataclasses.dataclass
class Scene:
    """Images, networks and results that all methods of one call use.

    Attributes:
        classifier: The explained classifier, or a regression model if the target is a goal.
        spaces: The spaces by name.
        target: Class to reach, (n,).
        goal: The goal that stands for the target, or None.
        reference: Images that are not explained, with which flows are fitted and directions found.
        seed: Seed of all methods.
        gradients: Whether the classifier passes gradients.
        n_classes: Number of classes.
        place: Folder in which results and unfinished work are kept, or None.
        queries: How many images a search for a direction may classify, by the name of the space.
        made: The results so far, by the name of the job.
        keys: What these results depend on, as keys of ``kept``.
        jobs: The jobs of these results.
    """

    classifier: Any
    spaces: dict[str, Any]
    target: Tensor
    goal: Goal | None
    reference: Tensor
    seed: int
    gradients: bool
    n_classes: int
    place: Path | None = None
    queries: dict[str | None, int] = dataclasses.field(default_factory=dict)
    made: dict[str, Any] = dataclasses.field(default_factory=dict)
    keys: dict[str, str] = dataclasses.field(default_factory=dict)
    jobs: dict[str, Job] = dataclasses.field(default_factory=dict)

    @property
    def asked(self) -> Goal | Tensor:
        """What methods get as ``target``."""
        return self.target if self.goal is None else self.goal

    def fixed(self) -> Any:
        """Return a classifier with the same classes for all images: that of the goal, if any.

        A goal such as "lower by 2" has another bound for each image. In its place stands the goal
        of the same direction whose bound is the median outcome of the reference images.
        """
        if self.goal is None:
            return self.classifier
        goal, values = self.goal, torch.zeros(1)
        if len(self.reference):
            with torch.no_grad():
                read = goal_classifier(self.classifier, goal).read
                values = torch.cat([read(part).cpu() for part in self.reference.split(AT_ONCE)])
        if goal.is_relative:
            kind = "raise_to" if goal.kind == "raise_by" else "lower_to"
            goal = dataclasses.replace(goal, kind=kind, values=(float(values.median()),))
        scale = float(values.std()) / STEEPNESS if len(values) > 1 else 1.0
        return goal_classifier(self.classifier, goal, scale=scale if scale > 0 else 1.0)


def is_denoiser(space: Any) -> bool:
    """Return whether a space is a diffusion model with conditions."""
    return all(hasattr(space, a) for a in ("alphas_cumprod", "predict_noise", "conditions"))


def slow_gradient(space: Any) -> bool:
    """Return whether ``decode`` is a whole diffusion process: slow, and slower with gradients."""
    return type(space).__name__ == "DiffusionAutoencoder"


def passes_gradients(classifier: Any, images: Tensor) -> bool:
    """Return whether the gradient of the classifier's output reaches the image."""
    try:
        with torch.enable_grad():
            out = classifier(images[:1].clone().requires_grad_(True))
            return isinstance(out, Tensor) and out.requires_grad
    except Exception:  # such as a session of ONNX, or a network that was made for inference only
        return False


def check_methods(value: Any) -> dict[str, dict[str, Any]] | None:
    """Return the named methods with their options, or None for those that apply."""
    if value is None or (isinstance(value, str) and value == "auto"):
        return None
    if isinstance(value, str):
        value = [value]
    if isinstance(value, Mapping):
        for name, options in value.items():
            if options is not None and not isinstance(options, Mapping):
                raise TypeError(
                    f"methods: expected a dict of options for {name!r:.40}, got "
                    f"{validate.describe(options)}"
                )
        named = {name: dict(options or {}) for name, options in value.items()}
    elif isinstance(value, Sequence):
        named = {name: {} for name in validate.texts(value, "methods")}
    else:
        raise TypeError(f"methods: expected names, got {validate.describe(value)}")
    if not named:
        raise ValueError(
            "methods: expected at least one, got none; leave it out for all that apply"
        )
    for name, options in named.items():
        if name not in METHODS:
            raise ValueError(
                f"methods: expected some of {', '.join(METHODS)}, got {name!r:.80}"
                f"{nearest(name, METHODS)}"
            )
        known = [
            key
            for key in inspect.signature(METHODS[name][0]).parameters
            if key not in OWN and key not in ("on_step", "first_row")
        ]
        for key in options:
            if key not in known:
                raise ValueError(
                    f"methods.{name}: expected options out of {', '.join(known)}, got "
                    f"{key!r:.80}{nearest(key, known)}"
                )
    return named


def nearest(word: Any, known: Any) -> str:
    """Return "; did you mean ...?" for the most similar known word, or an empty text."""
    found = get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""


def plan(scene: Scene, named: dict[str, dict[str, Any]] | None) -> list[Job]:
    """Return the jobs to do, in the order of the page: methods first, then baselines."""
    jobs = []
    for method, (_, name, _) in METHODS.items():
        if named is not None and method not in named:
            continue
        options = {} if named is None else named[method]
        spaces: list[str | None] = list(scene.spaces)
        if method in ("pixel_attack", "nearest_neighbour"):
            spaces = [None]
        usual = [s for s in spaces if _usual(method, scene, s)]
        # A method that the caller names is tried, even if it does not usually apply.
        spaces = usual if named is None else usual or spaces
        for space in spaces:
            several = space is not None and len(scene.spaces) > 1
            shown = f"{name} ({space})" if several else name
            jobs.append(Job(method, shown, space, options, named is not None))
    return jobs


def _usual(method: str, scene: Scene, space: str | None) -> bool:
    """Return whether a method is used if the caller names none."""
    adapter: Any = None if space is None else scene.spaces[space]
    if method not in WITHOUT_GRADIENT and not scene.gradients:
        return False
    if scene.goal is not None and is_denoiser(adapter) and method in CONDITIONED:
        return False  # the conditions of the model are classes
    if method == "latent_attack":
        return not is_denoiser(adapter) and not slow_gradient(adapter)
    if method == "query_attack":
        return not scene.gradients and not is_denoiser(adapter)
    if method == "follow_direction":
        return not is_denoiser(adapter) and _one_target(scene) is not None
    if method == "diffusion_counterfactual":
        return is_denoiser(adapter) and not getattr(adapter.conditions, "unconditional", False)
    if method == "sce":
        return is_denoiser(adapter) and not _has_conditions(adapter, scene)
    if method == "flow_counterfactual" and slow_gradient(adapter):
        return False  # to fit a flow, a thousand images are rendered
    if method == "flow_counterfactual":
        return not is_denoiser(adapter) or not getattr(adapter.conditions, "unconditional", False)
    return method in ("pixel_attack", "reconstruct", "random_change")


def _one_target(scene: Scene) -> int | None:
    """Return the class whose direction serves all images, or None."""
    if scene.n_classes == 2:  # as with a goal
        return 1
    classes = scene.target.unique().tolist()
    return int(classes[0]) if len(classes) == 1 else None


def prepare(job: Job, scene: Scene) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Return the function of a job, the arguments before the images, and its options.

    Raises:
        NotApplicable: If the method cannot be used with this classifier and space.
    """
    function, options = METHODS[job.method][0], dict(job.options)
    space: Any = None if job.space is None else scene.spaces[job.space]
    if job.method not in WITHOUT_GRADIENT and not scene.gradients:
        raise NotApplicable("the method needs gradients, but the classifier passes none")
    if job.method in DENOISER and not is_denoiser(space):
        raise NotApplicable("the method needs a space that is a diffusion model")
    if "seed" in inspect.signature(function).parameters:
        options.setdefault("seed", scene.seed)
    if job.method == "pixel_attack":
        return function, (scene.classifier,), options
    if job.method == "nearest_neighbour":
        _require_references(scene, 1)
        return function, (scene.classifier,), {"pool": scene.reference, **options}
    if job.method in CONDITIONED and is_denoiser(space):
        options["conditions"] = _conditions(space, scene, options.get("conditions"))
    if job.method == "flow_counterfactual":
        if is_denoiser(space):
            options.pop("flow", None)  # a conditional diffusion model contains a flow
        elif "flow" not in options:
            options["flow"] = _flow(job, space, scene)
    if job.method == "follow_direction" and "direction" not in options:
        options["direction"] = _direction(job, space, scene)
    return function, (space, scene.classifier), options


def key_of(scene: Scene, *parts: Any) -> str:
    """Return 16 letters that depend on the images, networks, targets and options of a call.

    So a call never continues the unfinished work of another call.
    """
    shared = (scene.classifier, scene.asked, scene.reference, scene.seed)
    return digest(*(str(described(part)) for part in (*shared, *parts)))


def _conditions(space: Any, scene: Scene, given: Any) -> list[Any]:
    if given is None and scene.goal is not None:
        raise NotApplicable(
            "the target is a goal, and the conditions of the space are classes; pass conditions, "
            "one for 'not reached' and one for 'reached'"
        )
    try:
        return conditions_per_class(space, scene.classifier, given, scene.n_classes)
    except (ValueError, TypeError) as error:
        raise NotApplicable(
            "the conditions of the space do not fit the classes; pass conditions, one per class, "
            f"as an option of the method ({cause(error, 400).partition(';')[0]})"
        ) from None


def _has_conditions(space: Any, scene: Scene) -> bool:
    """Return whether a diffusion model has a condition for each class of the classifier."""
    if getattr(space.conditions, "unconditional", False):
        return False
    try:
        return bool(_conditions(space, scene, None))
    except NotApplicable:
        return False


def _flow(job: Job, space: Any, scene: Scene) -> Any:
    """Return a flow of the answers of the classifier."""
    _require_references(scene, LEAST_REFERENCES)
    place = None if scene.place is None else kept.place_of(scene.place, "flow", job.space)

    def fit() -> Any:
        return fit_flow(
            space,
            scene.fixed(),
            scene.reference,
            seed=scene.seed,
            checkpoint_dir=None if place is None else place.with_suffix(""),
        )

    return kept.once(place, key_of(scene, space), FittedFlow, fit)


def _direction(job: Job, space: Any, scene: Scene) -> Any:
    """Return directions that change the decision."""
    target = _one_target(scene)
    if target is None:
        raise NotApplicable("a direction leads to one target class, but the images have several")
    _require_references(scene, 4)
    queries = scene.queries.get(job.space, QUERIES)
    place = None if scene.place is None else kept.place_of(scene.place, "direction", job.space)

    def find() -> Any:
        return find_directions(
            space,
            scene.fixed(),
            scene.reference[:SEARCHED],
            target,
            max_queries=queries,
            validation_images=scene.reference[SEARCHED : 2 * SEARCHED]
            if len(scene.reference) >= 2 * SEARCHED
            else None,
            checkpoint_dir=None if place is None else place.with_suffix(""),
            seed=scene.seed,
        )

    return kept.once(place, key_of(scene, space, target, queries), Directions, find)


def _require_references(scene: Scene, least: int) -> None:
    if len(scene.reference) < least:
        raise NotApplicable(
            f"the method needs at least {least} further images, and {len(scene.reference)} are left"
        )
