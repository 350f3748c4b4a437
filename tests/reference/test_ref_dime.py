"""MaskDiME, DiME and FastDiME against the official code, step by step, on tiny random nets."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from stored import stored
from torch import nn

import cfxnb as cfx
from cfxnb.core.ddpm import respaced_schedule
from cfxnb.diffusion import guided_ddpm
from cfxnb.diffusion.maskdime import largest_gradients
from cfxnb.spaces import Autoencoder, Diffusion, PixelUnshuffleCodec, Unconditional


def close(a, b, tolerance=2e-5):
    torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=tolerance)


class Nets(nn.Module):
    """The stored networks."""

    def __init__(self, t):
        super().__init__()
        self.t = {k[4:]: v for k, v in t.items() if k.startswith("net/")}
        self.one = nn.Parameter(torch.ones(1))  # every module has a device

    def conv(self, name, x, **options):
        return F.conv2d(x, self.t[f"{name}.weight"], self.t[f"{name}.bias"], padding=1, **options)

    def linear(self, name, x):
        return F.linear(x, self.t[f"{name}.weight"], self.t[f"{name}.bias"])

    def forward(self, z, times):
        """Noise and variance, as the official U-Net returns them."""
        told = self.linear("eps.lt", times.view(-1, 1).float() / 1000)
        hidden = F.silu(self.conv("eps.c1", z) + told[:, :, None, None])
        return self.conv("eps.c3", F.silu(self.conv("eps.c2", hidden)))

    def official_logits(self, x):
        hidden = F.silu(self.conv("classifier.c1", x, stride=2))
        hidden = F.silu(self.conv("classifier.c2", hidden, stride=2))
        return self.linear("classifier.l", hidden.mean((2, 3)))

    def classify(self, images):
        """Images in [0, 1] -> at least two logits."""
        found = self.official_logits(2 * images - 1)
        return torch.cat([torch.zeros_like(found), found], 1) if found.shape[1] == 1 else found

    def features(self, images):
        middle, width = (
            torch.tensor(x).view(1, 3, 1, 1) for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        )
        hidden = F.relu(self.conv("perceptual.p1", (images - middle) / width))
        return F.relu(self.conv("perceptual.p2", hidden, stride=2))


class Stored:
    """One reference file, with a pixel diffusion space around its networks."""

    def __init__(self, name):
        self.t, self.facts = stored(name)
        self.nets = Nets(self.t)
        total = self.facts["diffusion_steps"]
        first, last = (1000 / total * beta for beta in (1e-4, 0.02))
        alphas = (1 - torch.linspace(first, last, total, dtype=torch.float64)).cumprod(0)
        shape = self.t["image"].shape[1:]
        pixels = Autoencoder(PixelUnshuffleCodec(1), torch.zeros(shape), torch.ones(shape))
        self.space = Diffusion(self.nets, pixels, conditions=Unconditional(), alphas_cumprod=alphas)
        self.images = (self.t["image"] + 1) / 2
        self.options = {
            "as_published": True,
            "steps": self.facts["respacing"],
            "strength": self.facts["tau"] / self.facts["respacing"],
            "perceptual_scale": self.facts["perceptual_weight"],
            "l1_scale": self.facts["l1"],
            "confidence": 1e-6,  # the target need only be predicted
            "clip_sample_range": 1.0,
            "features": self.nets.features,
        }

    def record(self, monkeypatch, noise):
        """Use the stored noise, and return the lists that the steps are recorded in."""
        names = ("z", "x_0", "mean", "variance", "x_c", "z_at_step", "class", "distance")
        seen = {name: [] for name in (*names, "mask_1", "mask_2")}
        official = guided_ddpm.GuidedDDPM
        posterior, gradients = official.posterior, official.gradients

        def recorded_posterior(self, z, level):
            found = posterior(self, z, level)
            for name, value in zip(("z", "x_0", "mean", "variance"), (z, *found), strict=True):
                seen[name].append(value)
            return found

        def recorded_gradients(self, clean, z, level, mask=None):
            found = gradients(self, clean, z, level, mask)
            values = (clean, z, *found)
            for name, value in zip(("x_c", "z_at_step", "class", "distance"), values, strict=True):
                seen[name].append(value)
            return found

        def recorded_masks(gradient, o, dilation):
            found = largest_gradients(gradient, o, dilation)
            for name, value in zip(("mask_1", "mask_2"), found, strict=True):
                seen[name].append(value)
            return found

        def drawn(like, seed, rows):
            assert seed % 7919 == 0
            return noise[seed // 7919][rows]

        monkeypatch.setattr(official, "posterior", recorded_posterior)
        monkeypatch.setattr(official, "gradients", recorded_gradients)
        monkeypatch.setattr(guided_ddpm, "noise_like", drawn)
        monkeypatch.setattr("cfxnb.diffusion.maskdime.largest_gradients", recorded_masks)
        return seen

    def run(self, method, **options):
        return method(self.space, self.nets.classify, self.images, self.t["target"], **options)


def maskdime_options(case):
    facts = case.facts
    more = facts["grad_scale"]
    return case.options | {
        "scales": [more * s for s in facts["classifier_scales"]],
        "l1_scale": more * facts["l1"],
        "perceptual_scale": more * facts["perceptual_weight"],
        "mask_fraction": facts["topk_ratio1"],
        "inner_fraction": facts["topk_ratio2"],
        "dilation": facts["blur_kernel"],
        "per_channel": facts["per_channel"],
        "loss": "log_odds" if facts["use_logits"] else "log_probability",
        "gradient_clip": "batch" if facts["grads_clip"] else "none",
    }


@pytest.mark.parametrize("name", ["binary", "multi"])
def test_maskdime_steps(name, monkeypatch):
    case = Stored(f"maskdime_trajectory_{name}")
    t, facts = case.t, case.facts
    # The official float32 run itself is this far from one in float64.
    rounding = {key: max(2e-5, 1.1 * v) for key, v in facts["verification_max_abs_diff"].items()}
    seen = case.record(monkeypatch, [t["noise_start"], *t["noise_step"]])
    options = maskdime_options(case)
    for number, scale in enumerate(options["scales"]):
        cf = case.run(cfx.maskdime, **options | {"scales": [scale]})
        # With larger scales, images that differ by 1e-7 get codes that differ by 3e-3.
        tolerance = 4e-3 if number else rounding["z_final"]
        close(cf.code_after.z, t.wanted("z_final_per_scale")[number], tolerance)
        logits = case.nets.official_logits(cf.code_after.z)
        wanted = t.wanted("logits_final")[number]
        close(logits.view(wanted.shape), wanted, 1e-3)
    count = len(t["step/z"])
    steps = {key: torch.stack(values[:count]) for key, values in seen.items()}
    close(steps["z"][0], t.wanted("z_start"))
    for ours, theirs in (("z", "z"), ("x_0", "pred_x0"), ("mean", "mean"), ("x_c", "x_clean")):
        close(steps[ours], t.wanted(f"step/{theirs}"), rounding["z"])
    variance = t.wanted("step/variance")
    torch.testing.assert_close(steps["variance"], variance, rtol=2e-4, atol=0)
    scaled = facts["grad_scale"] * t.wanted("step/grad_class")
    if facts["grads_clip"]:  # what is stored is not yet clipped
        middle, width = scaled.mean((1, 2, 3, 4)), scaled.std((1, 2, 3, 4))
        low, high = (x.view(-1, 1, 1, 1, 1) for x in (middle - 3 * width, middle + 3 * width))
        scaled = scaled.clamp(low, high)
    tolerance = facts["grad_scale"] * max(2e-5, rounding["grad_class"])
    close(steps["class"], scaled, tolerance)
    distance = facts["grad_scale"] * t.wanted("step/grad_distance")
    close(steps["distance"], distance, facts["grad_scale"] * rounding["grad_distance"])
    for ours, theirs in (("mask_1", "mask1"), ("mask_2", "mask2")):
        assert torch.equal(steps[ours], t.wanted(f"step/{theirs}").bool()), theirs
    close(t.wanted("z_final"), t["z_final_per_scale"][0], 0)


@pytest.mark.parametrize("name", ["binary", "multi"])
def test_maskdime_ladder(name, monkeypatch):
    """Each image keeps the result of the first scale that flips it, or of the last one."""
    case = Stored(f"maskdime_trajectory_{name}")
    t = case.t
    case.record(monkeypatch, [t["noise_start"], *t["noise_step"]])
    cf = case.run(cfx.maskdime, **maskdime_options(case))
    close(cf.code_after.z, t.wanted("ladder/z"), 1e-4)
    scales = torch.tensor(maskdime_options(case)["scales"])
    assert torch.equal(cf.trace["scale"], scales[t.wanted("ladder/index_of_scale")])
    flipped = torch.tensor([status == "flipped" for status in cf.status])
    assert torch.equal(flipped, t.wanted("ladder/flipped").bool())
    logits = case.nets.official_logits(t["image"])
    close(logits.view(t["logits_image"].shape), t.wanted("logits_image"))


def test_maskdime_masks():
    t, facts = stored("maskdime_masks")
    for key in facts["cases"]:
        shape, first, second, size, kind = key.split("/")
        o = SimpleNamespace(
            mask_fraction=float(first[3:]),
            inner_fraction=float(second[3:]),
            per_channel=kind == "channel",
            as_published=True,
        )
        masks = largest_gradients(t[f"{shape}/grad"], o, int(size[1:]))
        for number, mask in enumerate(masks, 1):
            assert torch.equal(mask, t.wanted(f"{key}/mask{number}").bool()), key


@pytest.mark.parametrize(
    "name",
    [
        "maskdime_trajectory_binary",
        "maskdime_trajectory_multi",
        "dime_trajectory",
        "fastdime_trajectory",
    ],
)
def test_schedule(name):
    """The times of the official code, and noise one step beyond the first denoising step."""
    case = Stored(name)
    t, steps = case.t, case.facts["respacing"]
    tau = case.facts["tau"]
    strength = torch.full((2,), (steps - 1) / steps)
    schedule = respaced_schedule(case.space.alphas_cumprod, strength, steps)
    times = t.wanted("timestep_map")
    assert torch.equal(schedule.times.flip(0), times[:-1, None].expand(-1, 2))
    alphas = t.wanted("alphas_cumprod")
    close(schedule.alpha_bar.flip(0)[:, 0], alphas[:-1], 1e-12)
    short = respaced_schedule(case.space.alphas_cumprod, torch.full((1,), tau / steps), steps)
    assert len(short.times) == tau
    close(short.start, alphas[tau : tau + 1], 1e-12)
    close(short.alpha_bar_prev[:, 0].flip(0), torch.cat([torch.ones(1), alphas[: tau - 1]]), 1e-12)


@pytest.mark.parametrize("name", ["dime", "fastdime"])
def test_dime_steps(name, monkeypatch):
    case = Stored(f"{name}_trajectory")
    t, facts = case.t, case.facts
    seen = case.record(monkeypatch, [t["noise_start"], *t["noise"]])
    options = case.options | {"scales": [facts["classifier_scale"]]}
    if name == "dime":
        options |= {"inner_noise": facts["inner_noise"]}
    else:
        options |= {
            "warmup": facts["warmup"],
            "masking_threshold": facts["masking_threshold"],
            "dilation": facts["dilation"],
        }
    cf = case.run(getattr(cfx, name), **options)
    steps = {key: torch.stack(values) for key, values in seen.items() if values}
    close(steps["z"][0], t.wanted("z_start"))
    if name == "fastdime":
        close(steps["z"], t.wanted("step/z"))
    else:
        at_step = torch.stack(seen["z_at_step"])
        close(at_step, t.wanted("step/z"))
    close(steps["x_c"], t.wanted("step/x_clean"))
    scaled = t.wanted("step/grad_class_unscaled")
    if name == "dime":
        roots = t["alphas_cumprod"][: facts["tau"]].flip(0).sqrt().view(-1, 1, 1, 1, 1)
        scaled = scaled / roots
    close(steps["class"], scaled)
    close(steps["distance"], t.wanted("step/grad_distance"), 1e-4)
    close(cf.code_after.z, t.wanted("z_final"))
    assert (cf.cost["unet"] == facts["unet_forwards"]).all()
    close(case.nets.official_logits(cf.code_after.z)[:, 0], t.wanted("logits_final"))
    close(case.nets.official_logits(t["image"])[:, 0], t.wanted("logits_image"))
    flipped = [status == "flipped" for status in cf.status]
    assert flipped == facts["flipped"]
    if name == "fastdime":
        same = (cf.code_after.z == cf.code_before.z).all(1)
        assert same.float().mean().item() == pytest.approx(facts["share_kept_exactly"], abs=1e-6)
