"""Consensus guidance against the official sampler, step by step, and against its defects."""

import pytest
import torch
import torch.nn.functional as F
from stored import stored

import cfxnb as cfx
from cfxnb.methods.consensus import consensus, rescaled
from cfxnb.methods.denoising import denoise, noised, published
from cfxnb.methods.guidance import Asked, Guided
from cfxnb.methods.ldce import PAPER

NAMES = ("c3", "c4")


def close(a, b, tolerance):
    torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=tolerance)


class StoredSpace:
    """The tiny networks that the official sampler was run with."""

    def __init__(self, tensors, classes):
        self.net = {k[4:]: v for k, v in tensors.items() if k.startswith("net/")}
        self.z0, self.classes = tensors["z0"], classes
        self.alphas = tensors["alphas_cumprod"].double()
        self.center = torch.zeros_like(self.z0[0])
        self.spread = torch.ones_like(self.z0[0])
        self.conditions = self

    def default(self, classes, labels):
        return list(range(classes))

    def tell(self, asked):
        return torch.tensor([self.classes if each is None else each for each in asked])

    def _conv(self, name, x, **knobs):
        return F.conv2d(x, self.net[f"{name}.weight"], self.net[f"{name}.bias"], padding=1, **knobs)

    def _linear(self, name, x):
        return F.linear(x, self.net[f"{name}.weight"], self.net[f"{name}.bias"])

    def encode(self, images):
        return cfx.Code(self.z0[: len(images)])

    def decode(self, code, clamp=True):
        wide = F.interpolate(code.z, scale_factor=2)
        images = (self._conv("decoder.c2", F.silu(self._conv("decoder.c1", wide))) + 1) / 2
        return images.clamp(0, 1) if clamp else images

    def eps(self, z, t, condition):
        told = self._linear("eps.lc", self.net["eps.emb.weight"][condition])
        told = told + self._linear("eps.lt", t.view(-1, 1).float() / 1000)
        hidden = F.silu(self._conv("eps.c1", z) + told[:, :, None, None])
        return self._conv("eps.c3", F.silu(self._conv("eps.c2", hidden)))

    def classify(self, images):
        hidden = F.silu(self._conv("classifier.c1", images, stride=2))
        hidden = F.silu(self._conv("classifier.c2", hidden, stride=2))
        return self._linear("classifier.l", hidden.mean((2, 3)))


class Recorded(Guided):
    """Keeps what happens inside, and goes on from the stored codes."""

    def __call__(self, z, times, left):
        self.number = getattr(self, "number", -1) + 1
        close(z, self.stored["step/z"][self.number], 1e-3)  # differences add up
        self.times, self.left = times, left
        eps = super().__call__(self.stored["step/z"][self.number], times, left)
        # Up to 75: a part of a million is allowed beside the tolerance of numbers around 1.
        torch.testing.assert_close(eps, self.stored["step/eps"][self.number], rtol=1e-6, atol=5e-5)
        return eps

    def _filtered(self, implicit, direction):
        n = self.number
        close(implicit, self.stored["step/implicit"][n], 5e-5)
        like = self.stored["step/classifier_direction"][n]
        # Log odds have the slope of log p, but longer: they do not saturate.
        close(rescaled(direction, implicit), rescaled(like, implicit), 1e-4)
        filtered, keep = super()._filtered(implicit, direction)
        assert torch.equal(keep, self.stored["step/keep"][n])
        close(rescaled(filtered, implicit), self.stored["step/classifier_scaled"][n], 1e-4)
        return filtered, keep


@pytest.fixture(params=NAMES)
def case(request):
    t, facts = stored(f"ldce_trajectory_{request.param}")
    return t, facts, StoredSpace(t, facts["classes"])


def knobs_of(facts):
    weight = facts["guidance_scale_w"]
    return PAPER | {
        "guide": "consensus",
        "steps": facts["steps_total"],
        "strength": facts["strength"],
        "degrees": facts["degrees"],
        "pull": weight * facts["classifier_lambda"],
        "stay": weight * facts["distance_lambda"],
        "patch": 1,
        "seed": 0,
    }


def test_every_step(case):
    t, facts, space = case
    schedule = published(space.alphas, torch.full((2,), facts["strength"]), facts["steps_total"])
    assert schedule.times[:, 0].tolist() == t["step/t"].tolist()
    close(schedule.left[:, 0], t["step/alpha_bar"], 1e-6)
    close(schedule.ahead[:, 0], t["step/alpha_bar_prev"], 1e-6)
    start = noised(t["z0"], t["noise"], schedule.start)
    close(start, t["z_start"], 1e-6)
    told, nothing = space.tell(t["target"].tolist()), space.tell([None, None])
    asked = Asked(torch.arange(2), t["image"], t["z0"], t["target"], told, nothing)
    guided = Recorded(space, space.classify, asked, knobs_of(facts))
    guided.stored = t
    with torch.no_grad():
        found = denoise(guided, start, schedule)
    close(found, t["z_final"], 1e-3)
    close(guided.steps(len(schedule.times))["kept"].T, t["kept_share"], 1e-6)


def test_whole_method(case, monkeypatch):
    """Through the public function, with the stored noise: the final codes, images and p."""
    t, facts, space = case
    monkeypatch.setattr("cfxnb.methods.levels.noise_like", lambda *_: t["noise"])
    knobs = knobs_of(facts)
    cf = cfx.diffusion_counterfactual(space, space.classify, t["image"], t["target"], **knobs)
    moved = torch.tensor([s in ("flipped", "exhausted") for s in cf.status])
    assert moved.any()
    close(cf.code.z[moved], t["z_final"][moved], 1e-3)
    close(cf.image[moved], t["image_final"].clamp(0, 1)[moved], 1e-3)
    close(cf.after.softmax(1)[moved], t["prob_final"][moved], 1e-3)
    assert (cf.cost["unet"][moved] == facts["t_enc"] * (2 + 2)).all()


def test_masks_of_all_cones_and_patches():
    t, facts = stored("ldce_consensus")
    for case in facts["cases"]:
        key, at = case["key"], case["key"].rsplit("/", 1)[0]
        both = t[f"{at}/implicit"] if f"{at}/implicit" in t else t[f"{at[:-3]}/p1/implicit"]
        other = t[f"{at}/classifier"] if f"{at}/classifier" in t else t[f"{at[:-3]}/p1/classifier"]
        filtered, keep = consensus(both, other, case["degrees"], case["patch"])
        assert torch.equal(keep, t[f"{key}/keep"]), key
        assert torch.equal(filtered, t[f"{key}/filtered"]), key


def test_what_has_no_angle_disagrees():
    t, _ = stored("ldce_consensus")
    filtered, keep = consensus(t["degenerate/implicit"], t["degenerate/classifier"], 45.0)
    assert torch.equal(keep, t["degenerate/corrected_keep"])
    assert torch.equal(filtered, t["degenerate/corrected_filtered"])
    assert not torch.equal(keep, t["degenerate/official_keep"])


def test_rescaling():
    t, _ = stored("ldce_consensus")
    close(rescaled(t["renorm/grad"], t["renorm/reference"]), t["renorm/result"], 1e-6)
