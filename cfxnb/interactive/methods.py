"""The methods of the workbench, and the options of each method."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from cfxnb.attacks.latent_attack import latent_attack
from cfxnb.attacks.pixel_attack import pixel_attack
from cfxnb.attacks.query_attack import query_attack
from cfxnb.core import validate
from cfxnb.core.results import Counterfactuals
from cfxnb.diffusion.diffusion_counterfactual import diffusion_counterfactual
from cfxnb.diffusion.maskdime import maskdime
from cfxnb.diffusion.sce import sce
from cfxnb.directions.follow_direction import follow_direction
from cfxnb.flows.flow_counterfactual import flow_counterfactual

#: Options that the panel offers, at most ten per method. The others keep their defaults.
OPTIONS: dict[str, tuple[str, ...]] = {
    "latent_attack": (
        "confidence", "steps", "restarts", "lr", "loss", "proximity", "prior", "units",
        "binary_search_steps", "seed",
    ),
    "flow_counterfactual": (
        "confidence", "gamma", "growth", "rounds", "restarts", "binary_search_steps", "update",
        "seed",
    ),
    "query_attack": (
        "confidence", "max_queries", "population", "sigma", "proximity", "prior",
        "binary_search_steps", "refinements", "seed",
    ),
    "follow_direction": ("confidence", "max_step", "grid_steps", "binary_search_steps"),
    "diffusion_counterfactual": (
        "strength", "steps", "confidence", "guidance", "classifier_scale", "distance_scale",
        "cone_angle", "max_attempts", "composite_threshold", "seed",
    ),
    "maskdime": ("strength", "steps", "mask_fraction", "inner_fraction", "confidence", "seed"),
    "sce": (
        "strength", "denoising_steps", "steps", "lr", "momentum", "l1_scale", "mask_threshold",
        "confidence", "smooth", "seed",
    ),
    "pixel_attack": (
        "confidence", "minimal_norm", "epsilon", "steps", "step_size", "binary_search_steps",
        "seed",
    ),
}  # fmt: skip
#: Values of the options that are texts.
CHOICES: dict[str, tuple[str, ...]] = {
    "loss": ("margin", "probability"),
    "units": ("std", "code"),
    "update": ("difference", "leap"),
    "guidance": ("consensus", "classifier", "classifier_free", "random_mask", "none"),
}
MAX_OPTIONS = 10
NOT_OPTIONS = ("batch_size", "first_row", "on_step")  # the panel sets these itself
SOLE = (int, float, str, bool, type(None))  # defaults that a control can show


@dataclasses.dataclass(frozen=True)
class Method:
    """A method that the panel can run.

    Attributes:
        name: Name of the method, as the panel shows it.
        call: Maps (classifier, images, target, options) to Counterfactuals.
        defaults: Dict from the name of each option that the panel offers to its default.
        code: Python code of a call without its options, with ``x``, ``{model}`` and ``{target}``.
        takes_on_step: Whether the method reports its steps, so that it can be stopped.
    """

    name: str
    call: Callable[..., Counterfactuals]
    defaults: Mapping[str, Any]
    code: str
    takes_on_step: bool = True


def methods_for(
    space: Any,
    classifier: Any,
    flow: Any = None,
    direction: Any = None,
    own: Mapping[str, Callable[..., Counterfactuals]] | None = None,
) -> dict[str, Method]:
    """Return the methods that can run on a space and a classifier, a dict from names to Methods.

    A method that needs gradients of the classifier is left out for a BlackBox. A method that needs
    a denoiser is left out for a space without one.

    Args:
        space, classifier: Space and classifier, checked.
        flow: Conditional flow for ``flow_counterfactual``, or None.
        direction: Result of ``find_directions`` for ``follow_direction``, or None.
        own: Dict from the names of further methods to functions (space, classifier, images, target,
            **options) -> Counterfactuals.

    Raises:
        ValueError, TypeError: If an own method is not such a function.
    """
    gradients, denoiser = _passes_gradients(classifier), hasattr(space, "predict_noise")
    in_space = "space, {model}, x, {target}"
    found: dict[str, Method] = {}

    def add(
        method: Callable[..., Any], first: tuple[Any, ...], code: str, call: Any = None
    ) -> None:
        name = method.__name__
        defaults = _defaults(method, OPTIONS[name])
        found[name] = Method(name, _bound(call or method, first), defaults, f"cfx.{name}({code}")

    if gradients:
        add(latent_attack, (space,), in_space)
    if flow is not None:

        def walk(*given: Any, **options: Any) -> Counterfactuals:
            return flow_counterfactual(*given, flow=flow, **options)

        add(flow_counterfactual, (space,), f"{in_space}, flow=flow", walk)
    elif denoiser:
        add(flow_counterfactual, (space,), in_space)
    add(query_attack, (space,), in_space)
    if direction is not None:

        def follow(
            space: Any, classifier: Any, images: Any, target: Any, **options: Any
        ) -> Counterfactuals:
            return follow_direction(space, classifier, images, direction, target, **options)

        add(follow_direction, (space,), "space, {model}, x, direction, {target}", follow)
    if gradients and denoiser:
        for function in (diffusion_counterfactual, maskdime, sce):
            add(function, (space,), in_space)
    if gradients:
        add(pixel_attack, (), "{model}, x, {target}")
    return found | {
        name: _own(name, function, space) for name, function in _named(own, found).items()
    }


def _passes_gradients(classifier: Any) -> bool:
    try:
        validate.white_box(classifier)
    except TypeError:
        return False
    return True


def _bound(function: Callable[..., Any], first: tuple[Any, ...]) -> Callable[..., Counterfactuals]:
    return lambda *given, **options: function(*first, *given, **options)


def _defaults(function: Callable[..., Any], names: tuple[str, ...]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    return {name: parameters[name].default for name in names}


def _named(own: Any, found: Mapping[str, Method]) -> dict[str, Callable[..., Any]]:
    named = validate.instance({} if own is None else own, Mapping, "methods", "a dict")
    for name, function in named.items():
        validate.text(name, "methods")
        validate.function(function, f"methods[{name!r}]")
        if name in found:
            raise ValueError(f"methods: expected other names than {list(found)}, got {name!r}")
    return dict(named)


def _own(name: str, function: Callable[..., Any], space: Any) -> Method:
    """Return a user's function as a Method. The options are its arguments with simple defaults."""
    parameters = inspect.signature(function).parameters
    defaults = {
        key: each.default
        for key, each in parameters.items()
        if isinstance(each.default, SOLE) and each.default is not None and key not in NOT_OPTIONS
    }
    return Method(
        name,
        _bound(function, (space,)),
        dict(list(defaults.items())[:MAX_OPTIONS]),
        f"methods[{name!r}](space, {{model}}, x, {{target}}",
        takes_on_step="on_step" in parameters,
    )
