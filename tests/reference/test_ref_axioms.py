"""Composition, reversibility, effectiveness and minimality against the official values."""

import pytest
import torch
import torch.nn.functional as F
from stored import stored

import cfxnb as cfx
from cfxnb.core.types import FLIPPED
from cfxnb.metrics import composition, cycle_distances, effectiveness, minimality
from cfxnb.metrics.minimality import _distance, _official_kl, divergence, gaussian_kl

IMAGES, FACTS = stored("axioms_images")
T, MINIMAL = stored("axioms_minimality")
N = FACTS["images"]
X = IMAGES["image"]


class Mechanism:
    """The counterfactual function of the reference, as a method on images in [0, 1].

    It needs the class before the edit, too: the target of the last call.
    """

    def __init__(self):
        self.label = IMAGES["label"]
        self.made = []

    def __call__(self, images, target, seed):
        names = ("E1", "Ek", "D1", "Dk")
        e1, ek, d1, dk = (IMAGES[f"net/{name}"].double() for name in names)
        before, after = (F.one_hot(c, FACTS["classes"]).double() for c in (self.label, target))
        x = 2 * images.double().flatten(1) - 1
        u = (x @ e1.T + before @ ek.T).tanh()
        edited = 0.55 * (u @ d1.T / FACTS["latent"] ** 0.5 + after @ dk.T).tanh() + 0.45 * x
        self.label = target
        self.made.append(edited.view_as(images))
        image = (self.made[-1] + 1) / 2
        logits = F.one_hot(target, FACTS["classes"]).float()
        return cfx.Counterfactuals(
            images, image, images, logits, logits, target, (FLIPPED,) * len(images)
        )


@pytest.fixture(scope="module")
def unit():
    """The images are in [-1, 1], those of the package in [0, 1]."""
    assert X.abs().max() <= 1
    return (X.double() + 1) / 2


def test_composition(unit):
    method = Mechanism()
    cycles = FACTS["composition_cycles"]
    table = composition(method, unit.float(), IMAGES["label"], cycles)
    for cycle in cycles:
        ours = torch.tensor(table[cycle])
        wanted = IMAGES.wanted(f"composition/l1_cycle{cycle}")
        # Images of the package are float32.
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-4)
    for made, wanted in zip(method.made, IMAGES.wanted("composition/images"), strict=False):
        assert (made - wanted).abs().max() < 1e-6


def test_composition_in_grey_levels(unit):
    horizon = FACTS["horizon_255"]
    ours = cycle_distances(Mechanism(), unit.float(), IMAGES["label"][None], horizon)
    wanted = IMAGES.wanted("composition_255/distances")
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-4)


def test_reversibility(unit):
    targets = torch.cat([IMAGES["reversibility/do"], IMAGES["label"][None]])
    assert len(targets) == FACTS["reversibility_cycle_length"]
    method = Mechanism()
    cycles = FACTS["reversibility_cycles"]
    ours = cycle_distances(method, unit.float(), targets, cycles)
    wanted = IMAGES.wanted("reversibility/distances")
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-4)
    assert FACTS["reversibility_rows_back_at_the_start_label"] == [2, 4, 6]
    final = IMAGES.wanted("reversibility/final_image")
    assert (method.made[-1] - final).abs().max() < 1e-6


def read(name):
    x = IMAGES["effectiveness/image"].double().flatten(1)
    return x @ IMAGES[f"predictor/{name}"].double().T


def test_effectiveness():
    right = effectiveness(read("digit").argmax(1), IMAGES["effectiveness/target_digit"])
    assert right.mean().item() == pytest.approx(FACTS["effectiveness"]["digit"], abs=1e-9)
    binary = IMAGES["effectiveness/target_binary"][:, 0] > 0.5
    accuracy = effectiveness(read("binary")[:, 0] > 0, binary).mean().item()
    assert accuracy == pytest.approx(FACTS["effectiveness_binary_accuracy"], abs=1e-9)


def test_effectiveness_of_continuous_properties():
    """The official intensity passes a sigmoid, and so misses half of its range.

    The thickness is predicted from the image and from the intensity that was asked for.
    """
    intensity = read("continuous")
    thickness = read("thickness") + IMAGES["effectiveness/target_intensity"]
    for name, raw, value in (
        ("intensity", intensity.sigmoid(), FACTS["effectiveness"]["intensity"]),
        ("intensity", intensity, FACTS["effectiveness_corrected_intensity_without_sigmoid"]),
        ("thickness", thickness, FACTS["effectiveness"]["thickness"]),
    ):
        low, high = FACTS["min_max"][name]
        asked = IMAGES[f"effectiveness/target_{name}"]
        units = [((v + 1) / 2 * (high - low) + low)[:, 0] for v in (raw, asked)]
        assert effectiveness(*units).mean().item() == pytest.approx(value, abs=1e-9), name


COLUMNS = {"CLD": "cld", "target nearer": "prob_cf", "source farther": "prob_f"}
each = pytest.mark.parametrize(("kind", "distance"), [("l1", "l1"), ("vae", "kl")])


def compare(table, prefix):
    for column, name in COLUMNS.items():
        ours = torch.tensor(table[column])
        wanted = T.wanted(f"{prefix}_{name}")
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-9, equal_nan=True)


@each
def test_minimality(kind, distance):
    pair = T[f"{kind}/real"], T[f"{kind}/counterfactual"]
    classes = T["label"], T["cf_label"]
    for paper, name in ((True, "official"), (False, "corrected")):
        table = minimality(*pair, *classes, distance=distance, paper=paper)
        compare(table, f"{kind}/same_attribute/{name}")
        mean = MINIMAL[f"{kind}/same_attribute/{name}_mean"]
        assert table["CLD"].mean() == pytest.approx(mean, abs=1e-9)
        assert MINIMAL["range_of_cld"][0] <= table["CLD"].min() <= table["CLD"].max() <= 1


def bin_of(attribute, value):
    """The group of a value: the class, or the bin of a continuous value."""
    bins = {1: T["bins/thickness"], 2: T["bins/intensity"]}
    return value if attribute == 0 else torch.searchsorted(bins[attribute], value)


@each
@pytest.mark.parametrize("official", [True, False])
def test_minimality_of_mixed_attributes(kind, distance, official):
    """The official code compares a thickness with a digit. The right one never does."""
    x, y = (T[f"{kind}/{part}"].double() for part in ("real", "counterfactual"))
    attribute = T[f"{kind}/mixed/attribute"]
    before, after = T[f"{kind}/mixed/real_value"], T[f"{kind}/mixed/cf_value"]
    groups = []
    for value in (before, after):
        rows = [
            bin_of(a, before) == bin_of(a, value[i : i + 1])
            for i, a in enumerate(attribute.tolist())
        ]
        groups.append(torch.stack(rows))
    if not official:
        groups = [group & (attribute[:, None] == attribute) for group in groups]
        groups[0].fill_diagonal_(False)
    measure = _distance(distance, x, official)
    delta = torch.stack([measure(b[None], a)[0] for a, b in zip(x, y, strict=True)])
    table = divergence(delta, torch.stack([measure(x, a) for a in x]), *groups)
    name = "official" if official else "corrected"
    compare(table, f"{kind}/mixed_attributes/{name}")
    if not official:
        undefined = MINIMAL[f"{kind}/mixed_attributes/corrected_undefined"]
        assert table["CLD"].isna().sum() == undefined > 0


def test_distances():
    x, y = T["l1/real"].double(), T["l1/counterfactual"].double()
    ours = torch.stack(
        [_distance("l1", x, False)(b[None], a)[0] for a, b in zip(x, y, strict=True)]
    )
    torch.testing.assert_close(ours, T.wanted("l1/distance").double(), rtol=1e-6, atol=1e-6)
    x, y = T["vae/real"].double(), T["vae/counterfactual"].double()
    for function, name in ((gaussian_kl, "corrected"), (_official_kl, "official")):
        ours = torch.stack([function(b[None], a)[0] for a, b in zip(x, y, strict=True)])
        wanted = T.wanted(f"vae/{name}_kl").double()
        torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-6)
