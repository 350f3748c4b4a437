"""The options of ``diffusion_counterfactual``, checked in one place."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from cfxnb.core import validate

GUIDANCES = ("consensus", "classifier", "random_mask", "classifier_free", "none")

_number, _choice = validate.number, validate.choice
_scale = partial(_number, low=0.0)
_fraction = partial(_number, low=0.0, high=1.0)
_at_least_one = partial(validate.count, low=1)
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "cone_angle": partial(_number, low=0.0, high=180.0),
    "guidance": partial(_choice, allowed=GUIDANCES),
    "classifier_scale": _scale,
    "distance_scale": _scale,
    "guidance_scale": _scale,
    "strength": partial(_number, low=0.0, high=0.999, open_low=True),
    "steps": _at_least_one,
    "max_attempts": _at_least_one,
    "min_strength": partial(_number, low=0.0, high=0.999),
    "noise": partial(_choice, allowed=("ddim_inversion", "random")),
    "confidence": partial(_number, low=0.0, high=1 - 1e-6, open_low=True),
    "timestep_spacing": partial(_choice, allowed=("even", "paper")),
    "distance_space": partial(_choice, allowed=("code", "image")),
    "backprop_diffusion": validate.flag,
    "pause_when_reached": validate.flag,
    "patch_size": _at_least_one,
    "composite_threshold": partial(validate.optional, _fraction),
    "seed": validate.seed,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionOptions:
    """Options of ``diffusion_counterfactual``, whose docstring explains each option.

    Raises:
        ValueError, TypeError: if an option is wrong.
    """

    cone_angle: float
    guidance: str
    classifier_scale: float
    distance_scale: float
    guidance_scale: float
    strength: float
    steps: int
    max_attempts: int
    min_strength: float
    noise: str
    confidence: float
    timestep_spacing: str
    distance_space: str
    backprop_diffusion: bool
    pause_when_reached: bool
    patch_size: int
    composite_threshold: float | None
    seed: int

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            object.__setattr__(self, name, check(getattr(self, name), name))
