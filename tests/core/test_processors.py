"""The same numbers on processors with other instructions.

Torch and its libraries choose their kernels once, when they are loaded, by what the processor
can do. So each choice is a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import methods_here
import pytest
import torch
from safetensors.torch import load_file, save_file

import cfxnb as cfx

#: What a processor of 2008, one of 2013 and this one are taken for.
PROCESSORS = {
    "sse": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "this": {},
}


def numbers() -> dict[str, torch.Tensor]:
    """What every method says about the tiny world, and shipped networks about two digits."""
    found = {}
    f = methods_here.net()
    for name, run in methods_here.METHODS.items():
        if name == "directions":  # a tiny network hardly bends: its curvature is rounding error
            continue
        for place, value in enumerate(run(f, methods_here.X, methods_here.other(f))):
            value = value if isinstance(value, torch.Tensor) else torch.tensor(value)
            found[f"{name} {place}"] = value
    x = cfx.data.digits("test").images[:2]
    f, target = cfx.load("digits/classifier", device="cpu"), torch.tensor([3, 8])
    space = cfx.load("digits/diffae", device="cpu")
    code = space.encode(x)
    found |= {"codes": code.z, "noise": code.aux, "images": space.decode(code).detach()}
    space = cfx.load("digits/vae", device="cpu")
    ways = cfx.find_directions(space, f, x[0], 7, max_queries=600, n_curvature=2, max_step=6.0)
    found["directions"] = ways.vectors
    ldm = cfx.load("digits/ldm", device="cpu")
    moved = cfx.diffusion_counterfactual(ldm, f, x, target, steps=8, max_attempts=1)
    found |= {"diffusion": moved.image, "logits": moved.logits_after}
    return {name: value.double().contiguous() for name, value in found.items()}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processors")
    for name, settings in PROCESSORS.items():
        done = subprocess.run(
            [sys.executable, __file__, str(folder / name)],
            env={**os.environ, **settings, "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return {name: load_file(folder / name) for name in PROCESSORS}


@pytest.mark.parametrize("name", [name for name in PROCESSORS if name != "this"])
def test_the_same_numbers_on_another_processor(answers, name):
    assert answers[name].keys() == answers["this"].keys()
    for what, here in answers["this"].items():
        torch.testing.assert_close(
            answers[name][what],
            here,
            atol=1e-4,
            rtol=1e-4,
            equal_nan=True,
            msg=lambda text, what=what: f"{what}: {text}",
        )


if __name__ == "__main__":
    save_file(numbers(), sys.argv[1])
