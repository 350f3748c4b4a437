"""Read the noise schedule of a model folder of diffusers: what its network gets and predicts.

A scheduler of diffusers is three things: the noise levels of training, the kind of prediction, and
a way to sample. We read the first two, as a ``Parametrisation``, and ignore the third.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.disk import cause
from cfxnb.spaces.checkpoints import diffusers_files
from cfxnb.spaces.checkpoints.configs import check_fields, declared_defaults
from cfxnb.spaces.checkpoints.diffusers_files import InvalidPart
from cfxnb.spaces.parametrisation import PREDICTION_TYPES, Parametrisation, shifted

SCHEDULER = "scheduler/scheduler_config.json"
BETAS = {
    "num_train_timesteps": int,
    "beta_start": float,
    "beta_end": float,
    "beta_schedule": str,
    "trained_betas": list[float] | None,
    "rescale_betas_zero_snr": bool,
}
#: Schedulers for models trained as a DDPM. Their betas are those of training.
SCHEDULERS = tuple(
    f"{name}Scheduler"
    for name in (
        "DDPM", "DDPMParallel", "DDIM", "DDIMParallel", "DDIMInverse", "PNDM", "LMSDiscrete",
        "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "KDPM2Discrete",
        "KDPM2AncestralDiscrete", "DPMSolverMultistep", "DPMSolverMultistepInverse",
        "DPMSolverSinglestep", "DPMSolverSDE", "DEISMultistep", "UniPCMultistep", "SASolver", "LCM",
        "TCD", "RePaint",
    )
)  # fmt: skip
#: Schedulers for models trained by flow matching.
FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler",
         "FlowMatchLCMScheduler")  # fmt: skip
FLOW = {
    "num_train_timesteps": int,
    "shift": float,
    "flow_shift": float | None,
    "use_dynamic_shifting": bool,
    "base_shift": float | None,
    "max_shift": float | None,
    "base_image_seq_len": int | None,
    "max_image_seq_len": int | None,
    "time_shift_type": str,
}
#: Schedulers for models with the preconditioning of Karras et al. (2022).
EDMS = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
EDM = {
    "num_train_timesteps": int,
    "sigma_min": float,
    "sigma_max": float,
    "sigma_data": float,
    "rho": float,
    "sigma_schedule": str,
}
KNOWN = "DDPMScheduler, FlowMatchEulerDiscreteScheduler, EDMEulerScheduler or the like"
TIMES = 100_000  # largest number of training times; known models have at most 4,000


def parametrisation(
    found: Path, file: str = SCHEDULER, tokens: int | None = None
) -> Parametrisation:
    """Return what the network of a model gets and predicts, from the config of its scheduler.

    Args:
        found: the folder of the model.
        file: the config of the scheduler in it.
        tokens: number of tokens of an image in the network. Some flows shift their times towards
            more noise for larger images (``use_dynamic_shifting``). Default: the number for which
            their shift is smallest.

    Raises:
        InvalidPart: if the scheduler is of an unsupported kind, or has a wrong number.
    """
    config = diffusers_files.config_of(found, file)
    kind = config.get("_class_name")
    if kind in FLOWS:
        return _flow(config, file, config.get("shift", 1.0), tokens)
    if kind in EDMS:
        return _edm(config, file)
    if not isinstance(kind, str) or kind not in SCHEDULERS:
        raise InvalidPart(f"scheduler is a {kind!r:.60}, not {KNOWN}")
    if config.get("use_flow_sigmas"):
        if config.get("prediction_type") != "flow_prediction":
            raise InvalidPart(f"{file} has use_flow_sigmas without the prediction of a flow")
        return _flow(config, file, config.get("flow_shift") or 1.0, tokens)
    if config.get("timestep_type", "discrete") != "discrete":
        raise InvalidPart(f"{file} has timestep_type {config['timestep_type']!r:.40}, not discrete")
    if config.get("variance_type") == "learned":
        raise InvalidPart(f"{file} has variance_type 'learned', not 'learned_range' or fixed")
    return _ddpm(config, file, kind)


def clip_sample_range(found: Path, file: str = SCHEDULER) -> float | None:
    """Return the largest absolute value of clean codes when the scheduler samples, or None."""
    config = diffusers_files.config_of(found, file)
    kind = config.get("_class_name")
    clipped = kind in ("DDPMScheduler", "DDIMScheduler", "DDIMParallelScheduler")
    if not clipped or not config.get("clip_sample", True):
        return None
    value = config.get("clip_sample_range", 1.0)
    return float(value) if type(value) in (int, float) and value > 0 else None


def _ddpm(config: dict[str, Any], file: str, kind: str) -> Parametrisation:
    """Return the parametrisation of a model that was trained as a DDPM."""
    prediction_type = config.get("prediction_type", "epsilon")
    if "beta_schedule" not in config:
        raise InvalidPart(f"scheduler is a {kind!r:.60} without beta_schedule")
    if not isinstance(prediction_type, str) or prediction_type not in PREDICTION_TYPES:
        known = " or ".join(PREDICTION_TYPES)
        raise InvalidPart(f"scheduler has prediction_type {prediction_type!r:.40}, not {known}")
    alphas_cumprod = _alphas_cumprod(config, file, kind)
    return Parametrisation.ddpm(alphas_cumprod, prediction_type=prediction_type)


def _alphas_cumprod(config: dict[str, Any], file: str, kind: str) -> Tensor:
    """Return alpha_bar of a scheduler's betas, float64 (times,).

    alpha_bar does not depend on the class of the scheduler, which only decides how to sample.
    """
    import diffusers  # not at the top, because the import takes seconds

    _check(config, BETAS, file)
    betas, stated = config.get("trained_betas"), config.get("num_train_timesteps")
    own = declared_defaults(getattr(diffusers, kind))  # they differ between schedulers
    config = {name: own[name] for name in BETAS if name in own} | config
    times = config.get("num_train_timesteps", 1000)
    for name in ("beta_start", "beta_end"):
        if not 0 < config.get(name, 0.1) < 1:
            raise InvalidPart(f"{file} has {name} {config[name]!r:.40}, not between 0 and 1")
    try:
        trained: Any = diffusers.DDPMScheduler(**{k: config[k] for k in BETAS if k in config})
    except Exception as error:  # of any kind, for a wrong number
        text = f"{type(error).__name__}: {cause(error)}"
        raise InvalidPart(
            f"scheduler can't be built with beta_schedule {config['beta_schedule']!r:.40} ({text})"
        ) from None
    alphas_cumprod = (1 - trained.betas.double()).cumprod(0)
    if len(alphas_cumprod) > 1 and alphas_cumprod[-1] == 0:  # pure noise contains no code
        alphas_cumprod[-1] = alphas_cumprod[-2] / 2
    if not validate.is_falling(alphas_cumprod):
        raise InvalidPart("scheduler has betas with which alphas_cumprod doesn't decrease")
    if betas is not None and len(betas) != (len(betas) if stated is None else stated):
        raise InvalidPart(f"{file} has {len(betas)} trained_betas for num_train_timesteps {times}")
    return alphas_cumprod


def _flow(config: dict[str, Any], file: str, shift: float, tokens: int | None) -> Parametrisation:
    """Return the parametrisation of a model that was trained by flow matching."""
    _check(config, FLOW, file)
    if config.get("invert_sigmas"):
        raise InvalidPart(f"{file} has invert_sigmas, with which times run backwards")
    times = config.get("num_train_timesteps", 1000)
    if config.get("use_dynamic_shifting"):
        shift = _dynamic_shift(config, tokens)
    if not shift > 0:
        raise InvalidPart(f"{file} has shift {shift!r:.40}, not above 0")
    sigmas = shifted(torch.arange(1, times + 1, dtype=torch.float64) / times, shift)
    return _checked(file, lambda: Parametrisation.flow_matching(sigmas, time_scale=float(times)))


def _dynamic_shift(config: dict[str, Any], tokens: int | None) -> float:
    """Return the shift for images of ``tokens`` tokens, as in the pipelines of diffusers."""
    defaults = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256,
                "max_image_seq_len": 4096}  # fmt: skip
    low, high, few, many = (
        default if config.get(name) is None else config[name] for name, default in defaults.items()
    )
    slope = (high - low) / max(many - few, 1)
    mu = low + slope * ((few if tokens is None else tokens) - few)
    linear = config.get("time_shift_type", "exponential") == "linear"
    return float(mu if linear else torch.tensor(mu, dtype=torch.float64).exp())


def _edm(config: dict[str, Any], file: str) -> Parametrisation:
    """Return the parametrisation of a model with the preconditioning of Karras et al. (2022)."""
    _check(config, EDM, file)
    times, rho = config.get("num_train_timesteps", 1000), config.get("rho", 7.0)
    low, high = config.get("sigma_min", 0.002), config.get("sigma_max", 80.0)
    if not 0 < low < high or not rho > 0:
        text = f"sigma_min {low!r:.40}, sigma_max {high!r:.40} and rho {rho!r:.40}"
        raise InvalidPart(f"{file} has {text}, not 0 < sigma_min < sigma_max and rho above 0")
    place = torch.linspace(0, 1, times, dtype=torch.float64)
    if config.get("sigma_schedule", "karras") == "exponential":
        sigmas = low * (high / low) ** place
    else:
        sigmas = (low ** (1 / rho) + place * (high ** (1 / rho) - low ** (1 / rho))) ** rho
    kind = config.get("prediction_type", "epsilon")
    if kind not in PREDICTION_TYPES[:2]:
        raise InvalidPart(f"{file} has prediction_type {kind!r:.40}, not epsilon or v_prediction")
    data = config.get("sigma_data", 0.5)
    return _checked(
        file, lambda: Parametrisation.edm(sigmas, sigma_data=data, prediction_type=kind)
    )


def _check(config: dict[str, Any], fields: dict[str, Any], file: str) -> None:
    """Check the types of a scheduler's fields, and the number of its times."""
    try:
        check_fields(config, fields, file)
    except ValueError as error:
        raise InvalidPart(f"scheduler can't be built: {error}") from None
    times = config.get("num_train_timesteps", 1000)
    if not 2 <= times <= TIMES:
        raise InvalidPart(f"{file} has num_train_timesteps {times}, not 2 to {TIMES}")


def _checked(file: str, build: Any) -> Parametrisation:
    try:
        return build()
    except ValueError as error:
        raise InvalidPart(f"{file} can't be used ({cause(error)})") from None
