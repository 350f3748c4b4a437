"""No reference tensor is left out: each is compared with what the package gives, or goes into it.

The other tests of this folder note what they compare. Where not all of them have run before, in
this process, they run again in one of their own.
"""

import json
import os
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from safetensors import safe_open
from stored import COMPARED

HERE = Path(__file__).parent

#: What goes in, and why it needs no comparison; everything else does. "*" stands for any part.
GIVEN = {
    "axioms_images/net/*": "weights",
    "axioms_images/predictor/*": "weights",
    "axioms_images/image": "images",
    "axioms_images/label": "their classes",
    "axioms_images/reversibility/do": "classes asked for",
    "axioms_images/effectiveness/*": "images, and what was asked for",
    "axioms_minimality/*/real": "features",
    "axioms_minimality/*/counterfactual": "features",
    "axioms_minimality/*label": "classes",
    "axioms_minimality/*/mixed/*": "attributes asked for, and their values",
    "axioms_minimality/bins/*": "edges of the bins",
    "diffae_*_weights/*": "weights; that a checkpoint holds the same is tested bit for bit",
    "stylegan2_*_weights/*": "weights, likewise",
    "diffae_*/x": "images",
    "diffae_*/noise": "what is added to them, and rendered",
    "diffae_*/act_t": "time asked about",
    "diffae_*/eps_*t": "times asked about",
    "diffae_*/q_t": "times asked about",
    "diffae_*/edit/T": "number of steps",
    "diffae_*/edit/alphas": "lengths of the edits",
    "diffae_*/edit/direction": "along which they go",
    "diffae_*_latent/z": "codes",
    "diffae_*_latent/t": "times asked about",
    "gcd_directions_*/proxy.*": "weights",
    "gcd_directions_*/test_delta": "changes asked about",
    "gcd_directions_*/train_target_*": "answers to learn",
    "gcd_directions_*/z_source": "the code that is changed",
    "gcd_lig_rgb/net.*": "weights",
    "gcd_lig_rgb/path_float": "images on the paths",
    "gcd_lig_rgb/straight/path": "images on a straight one",
    "gcd_lig_rgb/baseline/logits": "answers along the walks to a baseline",
    "ldce_consensus/*/implicit": "directions to filter by",
    "ldce_consensus/*/classifier": "directions to filter",
    "ldce_consensus/renorm/grad": "what is scaled",
    "ldce_consensus/renorm/reference": "what it is scaled to",
    "ldce_trajectory_*/net/*": "weights",
    "ldce_trajectory_*/image": "images",
    "ldce_trajectory_*/z0": "their codes",
    "ldce_trajectory_*/noise": "what is added to them",
    "ldce_trajectory_*/target": "classes to reach",
    "leapfactual_*/net/*": "weights",
    "leapfactual_*/code": "codes to start from",
    "leapfactual_*/target": "classes to reach",
    "leapfactual_*/loss/code": "codes to learn",
    "leapfactual_*/loss/condition": "classes to learn them for",
    "leapfactual_*/loss/noise": "what is added to them",
    "leapfactual_*/loss/t": "times asked about",
    "*dime_trajectory*/net/*": "weights",
    "*dime_trajectory*/image": "images",
    "*dime_trajectory*/noise*": "what is added to them, and at each step",
    "*dime_trajectory*/target": "classes to reach",
    "maskdime_masks/*/grad": "gradients that masks are made of",
    "metrics_attributes/oracle.*": "weights",
    "metrics_attributes/*_uint8": "images",
    "metrics_attributes/label": "true values of the attribute asked about",
    "metrics_attributes/train_*": "labels of training images, and which these are",
    "metrics_cout/*.c1.*": "weights",
    "metrics_cout/*.c2.*": "weights",
    "metrics_cout/*.l.*": "weights",
    "metrics_cout/*/image": "images",
    "metrics_cout/*/counterfactual": "images",
    "metrics_cout/*/label": "classes of the originals",
    "metrics_cout/*/target": "classes of the counterfactuals",
    "metrics_features/n*/[ab]": "features",
    "metrics_features/*/kid_subsets_*": "rows drawn",
    "metrics_features/sfid/real": "features",
    "metrics_features/sfid/counterfactual": "features",
    "metrics_features/sfid/success": "which counterfactuals count",
    "metrics_features/sfid/permutation": "the order that was drawn",
    "metrics_lpips_*/image_[ab]": "images",
    "metrics_lpips_*/net.*": "weights",
    "metrics_lpips_*/lin*.model.1.weight": "weights",
    "metrics_lpips_*/scaling_layer.*": "weights",
    "sce_search_*/net/*": "weights",
    "sce_search_*/image": "images",
    "sce_search_*/target": "classes to reach",
    "sce_search_*/noise": "what is added, draw by draw",
    "sce_search_*/step/[in]": "number of the step and of the attempt",
    "sce_search_*/step/draws": "draws so far; that all are used is tested",
    "sce_didae_parts/leaky_softplus/x": "where the activation is asked for",
    "sce_didae_parts/smooth_mask/[ab]": "images",
    "sce_didae_parts/didae/z": "codes",
    "sce_didae_parts/didae/w": "a probe",
    "sce_didae_parts/didae/orthogonal/w": "a probe that one component says nothing about",
    "sce_didae_parts/didae/codes_for_dictionary": "codes",
    "scores_*/*": "tables; the scores are in the facts",
    "stylegan2_r32/z": "codes",
    "stylegan2_r32/z2": "codes",
    "stylegan2_r32/w_plus": "codes, one for each layer",
    "stylegan2_r32/noise/*": "noise maps",
}

COUNT = """
import json, pathlib, sys
import pytest
code = pytest.main(sys.argv[2:])
from stored import COMPARED
pathlib.Path(sys.argv[1]).write_text(json.dumps(sorted(COMPARED)))
sys.exit(code)
"""


def every():
    """The names of all tensors, as file/tensor."""
    names = set()
    for path in HERE.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            names |= {f"{path.stem}/{key}" for key in file.keys()}  # noqa: SIM118
    return names


def given(name):
    return any(fnmatchcase(name, pattern) for pattern in GIVEN)


def left_out(compared):
    return sorted(name for name in every() - compared if not given(name))


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    if not left_out(COMPARED):
        return COMPARED
    tests = sorted(p for p in HERE.glob("test_ref_*.py") if ".wanted(" in p.read_text())
    told = tmp_path_factory.mktemp("inventory") / "compared.json"
    options = ["-q", "-p", "no:cacheprovider", "-o", "addopts="]
    command = [sys.executable, "-c", COUNT, told, *options, *tests]
    places = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=HERE, check=False, env=places
    )
    # 1: some test has failed, which is told elsewhere.
    assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]
    return set(json.loads(told.read_text()))


def test_every_tensor_is_compared_or_given(compared):
    names = left_out(compared)
    assert not names, f"compare these, or tell in GIVEN why not: {names}"


def test_what_is_given_is_not_compared(compared):
    """Or a comparison that is lost later would not be missed."""
    assert not sorted(name for name in compared if given(name))
    unknown = compared - every()
    assert not unknown, f"compared, but in no file: {sorted(unknown)}"


def test_every_reason_has_its_tensors():
    names = every()
    idle = [p for p in GIVEN if not any(fnmatchcase(name, p) for name in names)]
    assert not idle, f"patterns that match nothing: {idle}"


def test_every_file_has_its_facts():
    for path in HERE.glob("*.safetensors"):
        if not path.stem.endswith("_weights"):
            facts = json.loads(path.with_suffix(".json").read_text())
            assert facts, path.stem
