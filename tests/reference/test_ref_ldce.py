"""Consensus guidance against the official sampler, step by step, and against its defects."""

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from stored import stored

import cfxnb as cfx
from cfxnb.core.ddim import add_noise, denoise, paper_schedule, predict_x0
from cfxnb.core.tensors import per_sample
from cfxnb.diffusion.consensus import angles, apply_mask, consensus, match_norm
from cfxnb.diffusion.diffusion_counterfactual import PAPER_DIFFUSION
from cfxnb.diffusion.guidance import GuidanceTask, GuidedDenoiser
from cfxnb.diffusion.options import DiffusionOptions

NAMES = ("c3", "c4")


def close(a, b, tolerance):
    torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=tolerance)


def near(a, b, atol=5e-5):
    """Numbers of up to 75: a part of a million is allowed beside the tolerance for those near 1."""
    torch.testing.assert_close(a, b, rtol=1e-6, atol=atol)


def alike(a, b):
    """Slopes may be tiny: all within 2 parts in 100,000 of the largest."""
    close(a, b, 2e-5 * b.abs().max().item())


class StoredSpace:
    """The tiny networks that the official sampler was run with; it remembers what they said."""

    def __init__(self, tensors, classes):
        self.net = {k[4:]: v for k, v in tensors.items() if k.startswith("net/")}
        self.z0, self.classes = tensors["z0"], classes
        self.alphas_cumprod = tensors["alphas_cumprod"].double()
        self.mean = torch.zeros_like(self.z0[0])
        self.std = torch.ones_like(self.z0[0])
        self.conditions = self
        self.said = []
        self.known = None  # the images whose codes are z0, in this order

    def defaults(self, n_classes, class_names):
        return list(range(n_classes))

    def encode_condition(self, conditions):
        return torch.tensor([self.classes if c is None else c for c in conditions])

    def _conv(self, name, x, **options):
        return F.conv2d(
            x, self.net[f"{name}.weight"], self.net[f"{name}.bias"], padding=1, **options
        )

    def _linear(self, name, x):
        return F.linear(x, self.net[f"{name}.weight"], self.net[f"{name}.bias"])

    def encode(self, images):
        """The stored codes, found by the stored images."""
        if self.known is None:
            self.known = images.clone()
        rows = [int((self.known == x).flatten(1).all(1).nonzero()[0, 0]) for x in images]
        return cfx.Code(self.z0[rows])

    def decode(self, code, clamp=True):
        wide = F.interpolate(code.z, scale_factor=2)
        drawn = self._conv("decoder.c2", F.silu(self._conv("decoder.c1", wide)))
        self.said.append(drawn.detach())
        images = (drawn + 1) / 2
        return images.clamp(0, 1) if clamp else images

    def predict_noise(self, z, t, condition):
        embedding = self._linear("eps.lc", self.net["eps.emb.weight"][condition])
        embedding = embedding + self._linear("eps.lt", t.view(-1, 1).float() / 1000)
        hidden = F.silu(self._conv("eps.c1", z) + embedding[:, :, None, None])
        found = self._conv("eps.c3", F.silu(self._conv("eps.c2", hidden)))
        self.said.append(found.detach())
        if z.requires_grad:
            self.point = z
        return found

    def classify(self, images):
        hidden = F.silu(self._conv("classifier.c1", images, stride=2))
        hidden = F.silu(self._conv("classifier.c2", hidden, stride=2))
        return self._linear("classifier.l", hidden.mean((2, 3)))


class Recorded(GuidedDenoiser):
    """Compares each step from the stored codes with the stored one, and goes on from these."""

    def __call__(self, z, times, alpha_bar):
        self.number = getattr(self, "number", -1) + 1
        close(z, self.at("z"), 1e-3)  # one step from the stored code before
        close(times, self.at("t").expand(len(z)), 0)
        self.alpha_bar = alpha_bar
        self.networks.space.said = []
        eps = super().__call__(self.at("z"), times, alpha_bar)
        near(eps, self.at("eps"))
        eps_uncond, decoded, eps_cond = self.networks.space.said
        close(eps_uncond, self.at("eps_uncond"), 5e-5)
        close(eps_cond, self.at("eps_cond"), 5e-5)
        close(decoded, self.at("decoded"), 1e-4)
        # The stored guess is made from the guided noise, and so is the next code.
        clean = predict_x0(self.at("z"), eps, alpha_bar)
        near(clean, self.at("pred_z0"), atol=1e-4)
        near(add_noise(clean, eps, self.ahead[self.number]), self.at("z_prev"))
        return eps

    def at(self, key):
        return self.stored.wanted(f"step/{key}")[self.number]

    def consensus(self, implicit, direction, *cone):
        """In place of the package's, which it calls."""
        close(implicit, self.at("implicit"), 5e-5)
        # Ours follows the log odds, whose slope is that of log p divided by 1 - p.
        rest = per_sample(1 - self.probability[-1], direction)
        sigma = per_sample((1 - self.alpha_bar).sqrt().to(direction), direction)
        alike(-rest * direction / sigma, self.at("grad_classifier"))
        alike(rest * direction, self.at("classifier_direction"))
        filtered, keep = consensus(implicit, direction, *cone)
        assert torch.equal(keep, self.at("keep"))
        alike(rest * filtered, self.at("filtered"))
        near(match_norm(filtered, implicit), self.at("classifier_scaled"))
        return filtered, keep

    def _image_distance(self, images, originals):
        """Its slope, with the graph that the package has built."""
        far = super()._image_distance(images, originals)
        away = torch.autograd.grad(far.sum(), self.networks.space.point, retain_graph=True)[0]
        alike(away, self.at("grad_distance"))
        sigma = per_sample((1 - self.alpha_bar).sqrt().to(away), away)
        near(match_norm(sigma * away, self.at("implicit")), self.at("distance_scaled"))
        return far


@pytest.fixture(params=NAMES)
def case(request):
    t, facts = stored(f"ldce_trajectory_{request.param}")
    return t, facts, StoredSpace(t, facts["classes"])


def options_of(facts):
    weight = facts["guidance_scale_w"]
    return PAPER_DIFFUSION | {
        "min_strength": 0.3,
        "composite_threshold": None,
        "guidance": "consensus",
        "steps": facts["steps_total"],
        "strength": facts["strength"],
        "cone_angle": facts["degrees"],
        "classifier_scale": weight * facts["classifier_lambda"],
        "distance_scale": weight * facts["distance_lambda"],
        "patch_size": 1,
        "seed": 0,
    }


def test_schedule(case):
    """The whole grid, which the official code makes at once."""
    t, facts, space = case
    steps = facts["steps_total"]
    most = paper_schedule(space.alphas_cumprod, torch.full((1,), (steps - 1) / steps), steps)
    times = t.wanted("ddim_timesteps")
    close(most.times[:, 0].flip(0), times[:-1], 0)
    grid = torch.cat(
        [most.alpha_bar.flip(0)[:, 0], most.start]
    )  # noise is added one stride farther
    close(grid, t.wanted("ddim_alphas"), 1e-7)
    assert space.alphas_cumprod[times[-1]] == most.start[0]
    before = torch.cat([most.alpha_bar_prev.flip(0)[:, 0], most.alpha_bar[:1, 0]])
    close(before, t.wanted("ddim_alphas_prev"), 1e-7)
    beta = facts["beta_schedule"]
    roots = torch.linspace(beta["start"] ** 0.5, beta["end"] ** 0.5, beta["steps"]).double()
    # What diffusers, through which the package reads schedules, calls "scaled_linear".
    scheduler = DDIMScheduler(
        beta["steps"], beta["start"], beta["end"], beta_schedule="scaled_linear"
    )
    close(scheduler.alphas_cumprod, t.wanted("alphas_cumprod"), 1e-6)
    close((1 - roots**2).cumprod(0), t["alphas_cumprod"], 1e-6)


def test_every_step(case, monkeypatch):
    t, facts, space = case
    schedule = paper_schedule(
        space.alphas_cumprod, torch.full((2,), facts["strength"]), facts["steps_total"]
    )
    assert len(schedule.times) == facts["t_enc"]
    assert schedule.times[:, 0].tolist() == t.wanted("step/t").tolist()
    close(schedule.alpha_bar[:, 0], t.wanted("step/alpha_bar"), 1e-6)
    close(schedule.alpha_bar_prev[:, 0], t.wanted("step/alpha_bar_prev"), 1e-6)
    start = add_noise(t["z0"], t["noise"], schedule.start)
    close(start, t.wanted("z_start"), 1e-6)
    cond, uncond = (
        space.encode_condition(t["target"].tolist()),
        space.encode_condition([None, None]),
    )
    task = GuidanceTask(torch.arange(2), t["image"], t["z0"], t["target"], cond, uncond)
    guided = Recorded(space, space.classify, task, DiffusionOptions(**options_of(facts)))
    guided.stored, guided.ahead = t, schedule.alpha_bar_prev
    monkeypatch.setattr("cfxnb.diffusion.guidance.consensus", guided.consensus)
    with torch.no_grad():
        found = denoise(guided, start, schedule)
    assert guided.number + 1 == len(schedule.times)
    close(found, t.wanted("z_final"), 1e-3)
    kept = guided.trace(len(schedule.times))["kept_fraction"].T
    close(kept, t.wanted("kept_share"), 1e-6)
    close(kept.mean(1), torch.tensor(facts["kept_share_per_step"]), 1e-4)
    assert int((kept == 0).sum()) == facts["sample_steps_with_empty_mask"]


def test_whole_method(case, monkeypatch):
    """Through the public function, with the stored noise: all codes on the way, and the ends."""
    t, facts, space = case
    monkeypatch.setattr("cfxnb.diffusion.strength_search.noise_like", lambda *_: t["noise"])
    options, seen = options_of(facts), []
    close(space.classify(t["image"]).softmax(1), t.wanted("prob_before"), 1e-5)
    cf = cfx.diffusion_counterfactual(
        space, space.classify, t["image"], t["target"], **options, on_step=seen.append
    )
    moved = torch.tensor([s in ("flipped", "not_found") for s in cf.status])
    assert moved.any()
    rows = moved.nonzero()[:, 0]
    for step, code in zip(seen, t.wanted("step/z"), strict=True):
        assert step.rows.tolist() == rows.tolist()
        close(step.code, code[rows], 1e-3)
    close(cf.logits_before.softmax(1), t["prob_before"], 1e-5)
    close(cf.code_after.z[moved], t.wanted("z_final")[moved], 1e-3)
    close(space.decode(cfx.Code(t["z_final"])), t.wanted("image_final"), 1e-5)
    close(cf.image[moved], t["image_final"][moved], 1e-3)
    close(space.classify(t["image_final"]).softmax(1), t.wanted("prob_final"), 1e-5)
    close(cf.logits_after.softmax(1)[moved], t["prob_final"][moved], 1e-3)
    assert (cf.cost["unet"][moved] == facts["t_enc"] * (2 + 2)).all()


def test_masks_of_all_cones_and_patches():
    t, facts = stored("ldce_consensus")
    for case in facts["cases"]:
        key, at = case["key"], case["key"].rsplit("/", 1)[0]
        both = t[f"{at}/implicit"], t[f"{at}/classifier"]
        filtered, keep = consensus(*both, case["degrees"], case["patch"])
        assert torch.equal(keep, t.wanted(f"{key}/keep")), key
        assert torch.equal(filtered, t.wanted(f"{key}/filtered")), key
        assert keep.double().mean().item() == pytest.approx(case["kept_share"], abs=1e-12)
        close(angles(*both, case["patch"]), t.wanted(f"{at}/angle_degrees"), 1e-5)


def test_what_has_no_angle_disagrees():
    """The official code keeps it; so it does vectors whose cosine is rounded beyond 1 or -1."""
    t, facts = stored("ldce_consensus")
    both = t["degenerate/implicit"], t["degenerate/classifier"]
    filtered, keep = consensus(*both, facts["degenerate"]["degrees"])
    assert torch.equal(keep, t.wanted("degenerate/corrected_keep"))
    assert torch.equal(filtered, t.wanted("degenerate/corrected_filtered"))
    angle, official = angles(*both)[0, 0], t.wanted("degenerate/official_keep")
    for case in facts["degenerate"]["cases"]:
        at = case["index"]
        assert keep[0, 0, at] == case["corrected_keep"], case["name"]
        assert official[0, 0, at] == case["official_keep"], case["name"]
        odd = any(word in case["name"] for word in ("zero", "nan", "inf"))
        assert bool(angle[at].isnan()) == odd, case["name"]
        if "parallel" in case["name"]:
            assert angle[at] == pytest.approx(180 if "anti" in case["name"] else 0, abs=1e-3)
    theirs = apply_mask(t["degenerate/classifier"], official)
    torch.testing.assert_close(
        theirs, t.wanted("degenerate/official_filtered"), rtol=0, atol=0, equal_nan=True
    )


def test_rescaling():
    t, _ = stored("ldce_consensus")
    close(match_norm(t["renorm/grad"], t["renorm/reference"]), t.wanted("renorm/result"), 1e-6)
