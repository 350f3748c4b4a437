"""Noise levels and times that are read from the configs of schedulers, against the schedulers."""

import json

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

from cfxnb.spaces.checkpoints.diffusers_files import InvalidPart
from cfxnb.spaces.checkpoints.schedulers import clip_sample_range, parametrisation

SOLVER = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
FLOWS = {
    "Euler": (FlowMatchEulerDiscreteScheduler(), {}, None),
    "shifted": (FlowMatchEulerDiscreteScheduler(shift=3.0), {}, None),
    "Heun": (FlowMatchHeunDiscreteScheduler(shift=2.0), {}, None),
    "solver": (DPMSolverMultistepScheduler(**SOLVER, flow_shift=3.0), {}, None),
    "UniPC": (UniPCMultistepScheduler(**SOLVER, flow_shift=2.0), {}, None),
    "dynamic": (FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), {"mu": 1.15}, 4096),
    "dynamic, half": (
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        {"mu": (0.5 + 1.15) / 2},
        (256 + 4096) // 2,
    ),
    "dynamic, linear": (
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type="linear"),
        {"mu": 0.5},
        256,
    ),
    "fewer times": (FlowMatchEulerDiscreteScheduler(num_train_timesteps=50), {}, None),
}
EDMS = {
    "Karras": EDMEulerScheduler(),
    "exponential": EDMEulerScheduler(sigma_schedule="exponential", sigma_min=0.01, sigma_max=20.0),
    "other rho": EDMDPMSolverMultistepScheduler(rho=3.0, sigma_data=1.0),
}


def sigmas_of(made):
    """The sigmas of a flow with these noise levels."""
    signal, noise = made.alphas_cumprod.sqrt(), (1 - made.alphas_cumprod).sqrt()
    return noise / (signal + noise)


@pytest.mark.parametrize("kind", FLOWS)
def test_sigmas_of_flows(tmp_path, kind):
    """Each sigma that a scheduler samples at lies in the table, with the scheduler's time."""
    scheduler, kwargs, tokens = FLOWS[kind]
    scheduler.save_pretrained(tmp_path / "scheduler")
    made = parametrisation(tmp_path, tokens=tokens)
    times = scheduler.config.num_train_timesteps
    scheduler.set_timesteps(20, **kwargs)
    own = sigmas_of(made)
    assert len(own) == times
    torch.testing.assert_close(made.times.double(), times * own, rtol=1e-5, atol=1e-3)
    sigmas = scheduler.sigmas[: len(scheduler.timesteps)].double()
    inside = (sigmas < own[-1]) & (sigmas > own[0])
    assert inside.float().mean() > 0.8
    torch.testing.assert_close(
        scheduler.timesteps.double()[inside], times * sigmas[inside], rtol=1e-2, atol=1.0
    )
    # An even step through our table is an even step of the scheduler: the shift is the same.
    middle = sigmas[len(sigmas) // 2]
    place = int((own < middle).sum()) / times
    assert place == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("kind", EDMS)
def test_sigmas_of_edm(tmp_path, kind):
    scheduler = EDMS[kind]
    scheduler.save_pretrained(tmp_path / "scheduler")
    made = parametrisation(tmp_path)
    scheduler.set_timesteps(1000)
    sigmas = scheduler.sigmas[:-1].flip(0).double()
    torch.testing.assert_close(made.alphas_cumprod, 1 / (1 + sigmas**2), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(made.times, scheduler.timesteps.flip(0), rtol=1e-4, atol=1e-4)


def test_larger_images_get_more_noise(tmp_path):
    FLOWS["dynamic"][0].save_pretrained(tmp_path / "scheduler")
    small, large = (parametrisation(tmp_path, tokens=n).alphas_cumprod for n in (256, 4096))
    assert (large[:-1] < small[:-1]).all()


WRONG = {
    "times": ({"num_train_timesteps": 10**9}, "num_train_timesteps"),
    "one time": ({"num_train_timesteps": 1}, "num_train_timesteps 1, not 2"),
    "text": ({"shift": "large"}, "shift 'large'"),
    "backwards": ({"invert_sigmas": True}, "invert_sigmas, with which times run backwards"),
    "no shift": ({"shift": 0.0}, r"shift 0\.0, not above 0"),
    "huge": ({"use_dynamic_shifting": True, "base_shift": 10.0**6}, "can't be used"),
    "linear": (
        {"use_dynamic_shifting": True, "base_shift": -1.0, "time_shift_type": "linear"},
        "not above 0",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_numbers_of_flows_are_named(tmp_path, kind):
    fields, message = WRONG[kind]
    FlowMatchEulerDiscreteScheduler().save_pretrained(tmp_path / "scheduler")
    file = tmp_path / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    with pytest.raises(InvalidPart, match=message):
        parametrisation(tmp_path)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"_class_name": "DDPMScheduler"}, 1.0),
        ({"_class_name": "DDPMScheduler", "clip_sample_range": 2.0}, 2.0),
        ({"_class_name": "DDIMScheduler", "clip_sample": False}, None),
        ({"_class_name": "PNDMScheduler"}, None),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, None),
    ],
)
def test_the_range_of_clean_codes(tmp_path, fields, wanted):
    (tmp_path / "scheduler_config.json").write_text(json.dumps(fields))
    assert clip_sample_range(tmp_path, "scheduler_config.json") == wanted
