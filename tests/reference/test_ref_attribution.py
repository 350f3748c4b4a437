"""Maps along stored paths against the official formulas, and against the corrected ones."""

import pytest
import torch
import torch.nn.functional as F
from stored import SmallNet, stored
from torch import nn

import cfxnb as cfx
from cfxnb.attribution.integrated_gradients import integrated_gradients
from cfxnb.attribution.latent_integrated_gradients import latent_integrated_gradients
from cfxnb.attribution.paths import piecewise_linear_path
from cfxnb.attribution.result import NO_BASELINE

T, FACTS = stored("gcd_lig_rgb")
M = FACTS["path_length"]
FACTS_OF = {run["key"]: run for run in FACTS["runs"]}


class TanhNet(SmallNet):
    def forward(self, x):
        for name in ("c1", "c2"):
            x = torch.tanh(F.conv2d(x, self.t[f"{name}.weight"], self.t[f"{name}.bias"], 2, 1))
        return F.linear(x.mean((2, 3)), self.t["l.weight"], self.t["l.bias"])


NET = cfx.wrap(TanhNet(T, "net"))


def maps(kind, method):
    # Stored from the reconstruction to the baseline; ours begin at the baseline.
    path = piecewise_linear_path(T[f"path_{kind}"].unflatten(0, (-1, M)).flip(1))
    f = cfx.BlackBox(NET) if method in ("proportional", "secant") else NET
    return integrated_gradients(
        f, path, FACTS["target_logit"], method=method, n_points=M, max_points=M
    )


kinds = pytest.mark.parametrize("kind", ["float", "quantised"])


def within(ours, stored_map, tolerance):
    torch.testing.assert_close(ours.double(), stored_map.double(), rtol=0, atol=tolerance)


@kinds
def test_logits_along_the_path(kind):
    within(NET(T[f"path_{kind}"])[:, FACTS["target_logit"]], T.wanted(f"{kind}/logit"), 1e-6)


def test_quantised_paths_are_bytes():
    assert torch.equal((T["path_float"] * 255.999).floor().byte(), T.wanted("path_uint8"))
    assert torch.equal(T["path_uint8"] / 255, T.wanted("path_quantised"))


@kinds
def test_official_white_box(kind):
    found = maps(kind, "mean_gradient")
    within(found.heat_map, T.wanted(f"{kind}/white_box/map"), 1e-6)
    facts = FACTS_OF[f"{kind}/white_box"]
    within(found.heat_map.sum((1, 2)), torch.tensor(facts["official_sum"]), 1e-5)
    within(found.output_change, torch.tensor(facts["true_difference"]), 1e-6)


@kinds
def test_corrected_white_box(kind):
    found = maps(kind, "trapezoid")
    within(found.heat_map, T.wanted(f"{kind}/white_box/corrected_map"), 1e-6)
    error = found.relative_delta * found.output_change.abs()
    within(error, T.wanted(f"{kind}/white_box/corrected_completeness_error"), 1e-5)
    within(found.heat_map.sum((1, 2)) - found.output_change, error, 1e-6)


def test_official_black_box_of_quantised_paths():
    found = maps("quantised", "secant")
    within(found.heat_map, T.wanted("quantised/black_box/map"), 1e-4)
    within(
        found.heat_map.sum((1, 2)),
        torch.tensor(FACTS_OF["quantised/black_box"]["official_sum"]),
        1e-3,
    )


@kinds
@pytest.mark.parametrize(
    ("box", "method"), [("white_box", "mean_gradient"), ("black_box", "secant")]
)
def test_official_error_is_that_of_the_whole_batch(kind, box, method):
    """It compares each map with the first logit of the first path and the last of the last."""
    logit = NET(T[f"path_{kind}"])[:, FACTS["target_logit"]]
    error = maps(kind, method).heat_map.sum((1, 2)) - (logit[0] - logit[-1])
    wanted = T.wanted(f"{kind}/{box}/completeness_error")
    # The black-box map of float paths is known to one part in a thousand only.
    loose = 1e-3 if (kind, box) == ("float", "black_box") else 1e-5
    torch.testing.assert_close(error, wanted, rtol=loose, atol=1e-5)


def test_official_black_box_of_float_paths():
    """Divides by differences of a few units in the last place: known to one part in a thousand."""
    ours, theirs = maps("float", "secant").heat_map, T.wanted("float/black_box/map")
    assert (ours - theirs).norm() / theirs.norm() < 1e-3


@kinds
def test_corrected_black_box(kind):
    found = maps(kind, "proportional")
    within(found.heat_map, T.wanted(f"{kind}/black_box/corrected_map"), 1e-6)
    error = found.heat_map.sum((1, 2)) - found.output_change
    within(error, T.wanted(f"{kind}/black_box/corrected_completeness_error"), 1e-6)
    assert found.relative_delta.abs().max() < 1e-5


@kinds
def test_the_official_defects_are_measured_as_such(kind):
    """The published sums are off by at least half the change, ours by two percent at most."""
    assert (maps(kind, "mean_gradient").relative_delta.abs() > 0.5).all()
    assert (maps(kind, "secant").relative_delta.abs() > 100).all()
    assert (maps(kind, "trapezoid").relative_delta.abs() < 0.02).all()


def test_official_black_box_on_a_straight_path():
    """Every element gets the whole change: the channel sum is three times that, everywhere."""
    path = piecewise_linear_path(T["straight/path"].flip(0)[None])
    found = integrated_gradients(
        cfx.BlackBox(NET),
        path,
        FACTS["target_logit"],
        method="secant",
        n_points=len(T["straight/path"]),
    )
    within(NET(T["straight/path"])[:, FACTS["target_logit"]], T.wanted("straight/logit"), 1e-6)
    within(found.heat_map, T.wanted("straight/black_box/map"), 1e-4)
    whole = FACTS["straight"]["true_difference"]
    within(found.attributions, torch.full_like(found.attributions, whole), 1e-4)
    error = found.heat_map.sum((1, 2)) - found.output_change
    wanted = T.wanted("straight/black_box/completeness_error")
    torch.testing.assert_close(error, wanted, rtol=1e-5, atol=0)
    # Of three channels and 256 pixels each gets the whole: 768 times too much.
    within(wanted, torch.full((1,), (found.attributions.numel() - 1) * whole), 1e-2)


class Table(nn.Module):
    """One coordinate, the step along the stored logits; the rest says whose."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("std", torch.ones(1))

    def encode(self, images):
        return cfx.Code(torch.zeros(len(images), 1), images[:, 0, 0, 1:])

    def decode(self, code):
        # Walks are stored in one sense only; in the other one nothing changes.
        return torch.cat([code.z.clamp_min(0) / 3, code.aux], 1)[:, None, None]


def test_baseline_is_the_first_below_the_threshold():
    stored_logits = T["baseline/logits"]

    def look_up(images):
        step, whose = (15 * images[:, 0, 0, 0]).round().long(), images[:, 0, 0, 1].long()
        return cfx.two_logits(stored_logits[whose, step])

    x = torch.tensor([[0.0, 0.0], [0.0, 1.0]])[:, None, None]
    label = (stored_logits[:, 0] > 0).long()
    found = latent_integrated_gradients(
        Table(),
        look_up,
        x,
        torch.ones(1),
        label,
        max_step=3.0,
        grid_steps=15,
        binary_search_steps=0,
        method="proportional",
    )
    index = T.wanted("baseline/index").tolist()
    assert index == FACTS["baseline"]["index_within_image"]
    for i, there in enumerate(FACTS["baseline"]["found"]):
        if there:
            assert round(found.baseline_step[i].item() * 5) == index[i]
        # The official rule returns the start and a map of zeros where there is none.
        assert (found.status[i] == NO_BASELINE) == (not there)
        assert found.baseline_step[i] != 0
