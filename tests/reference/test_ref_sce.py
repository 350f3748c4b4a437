"""SCE against the official search, step by step, on tiny random nets with stored noise."""

import pytest
import torch
import torch.nn.functional as F
from stored import SmallNet, stored
from torch import nn

import cfxnb as cfx
from cfxnb.diffusion import sce_as_published
from cfxnb.diffusion.sce_as_published import PublishedSearch, blurred_difference
from cfxnb.diffusion.smooth_relu import leaky_softplus
from cfxnb.directions.dictionary_edit import edit_along_components, principal_components
from cfxnb.spaces import Autoencoder, Diffusion, PixelUnshuffleCodec, Unconditional


def close(a, b, tolerance=1e-4):
    torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=tolerance)


class UNet(nn.Module):
    """The stored network: noise and variance, as the official U-Net returns them."""

    def __init__(self, t):
        super().__init__()
        self.t = {k[8:]: v for k, v in t.items() if k.startswith("net/eps.")}
        self.one = nn.Parameter(torch.ones(1))  # every module has a device

    def conv(self, name, x):
        return F.conv2d(x, self.t[f"{name}.weight"], self.t[f"{name}.bias"], padding=1)

    def forward(self, z, times):
        time = F.linear(times.view(-1, 1).float() / 1000, self.t["lt.weight"], self.t["lt.bias"])
        hidden = F.silu(self.conv("c1", z) + time[:, :, None, None])
        return self.conv("c3", F.silu(self.conv("c2", hidden)))


class Recorded(PublishedSearch):
    """Compares each step with the stored one."""

    def _probability(self, images):
        found = super()._probability(images)
        if not hasattr(self, "goal"):
            self.goal = 1 - found
        return found

    def _step(self, z, slope, optimiser, fresh):
        close(self.goal, self.at("goal"), 1e-6)
        close(self.allowed.expand_as(z), self.at("boolmask_in"), 0)
        wanted = self.at("grad")
        close(slope, wanted, 1e-3 * wanted.abs().max().clamp_min(1e-12).item())
        super()._step(z, slope, optimiser, fresh)

    def at(self, key):
        return self.stored.wanted(f"step/{key}")[self.number]


@pytest.mark.parametrize("name", ["sgd", "clip", "rmsprop"])
def test_every_step_of_both_attempts(name, monkeypatch):
    t, facts = stored(f"sce_search_{name}")
    shape = t["image"].shape[1:]
    alphas = cfx.core.ddim.linear_alphas_cumprod()
    pixels = Autoencoder(PixelUnshuffleCodec(1), torch.zeros(shape), torch.ones(shape))
    space = Diffusion(UNet(t), pixels, conditions=Unconditional(), alphas_cumprod=alphas)
    schedule = cfx.core.ddpm.respaced_schedule(alphas, torch.full((1,), 0.3), facts["respacing"])
    assert len(schedule.times) == facts["respaced_steps"]
    close(schedule.times[:, 0], t.wanted("timestep_map")[: len(schedule.times)].flip(0), 0)
    close(schedule.alpha_bar[:, 0].flip(0), t.wanted("alphas_cumprod")[: len(schedule.times)], 1e-7)
    f = SmallNet(t, "net/classifier")
    close(f(t["image"]), t.wanted("logits"), 1e-5)
    drawn, number = iter(t["noise"]), 0

    searches = []

    def new_search(*args):
        search = Recorded(*args)
        search.stored, search.number = t, number
        searches.append(search)
        return search

    def after_step(step):
        nonlocal number
        search = searches[-1]
        close(step.code, search.at("z"))
        close(search.best, search.at("best_score"), 1e-5)
        close(search.kept.expand_as(step.code), search.at("best_mask"), 0)
        close(step.active, search.at("active"), 0)
        number += 1
        search.number = number

    monkeypatch.setattr(sce_as_published, "PublishedSearch", new_search)
    monkeypatch.setattr(sce_as_published, "noise_like", lambda *_: next(drawn))
    allowed = torch.ones_like(t["image"][:, 0], dtype=torch.bool)
    results = []
    for attempt in range(facts["num_attempts"]):
        found = cfx.sce_as_published(
            space,
            f,
            t["image"],
            t["target"],
            allowed=allowed,
            optimizer=facts["optimizer_used"],
            lr=facts["learning_rate"],
            momentum=facts["momentum"],
            gradient_clip=facts["gradient_clipping"],
            l1_scale=facts["dist_l1"] * 0.5**attempt,
            mask_threshold=facts["inpaint"] * 0.5**attempt,
            blur_size=facts["dilation"],
            temperature=facts["temperature"],
            steps=facts["gradient_steps"],
            denoising_steps=facts["respacing"],
            strength=facts["sampling_time_fraction"],
            on_step=after_step,
        )
        results.insert(0, found)  # the official code returns the last attempt first
        allowed = allowed & ~found.trace["changed"]
    assert number == facts["steps_run"]
    assert next(drawn, None) is None
    close(torch.cat([r.image for r in results]), t.wanted("counterfactuals"))
    close(
        torch.cat([s.best for s in reversed(searches)]).where(
            torch.cat([r.flipped for r in results]), torch.tensor(0.0)
        ),
        t.wanted("target_confidence").where(
            torch.cat([r.flipped for r in results]), torch.tensor(0.0)
        ),
        1e-5,
    )
    close(allowed[:, None].expand_as(t["image"]), t.wanted("final_allowed_mask"), 0)
    share = allowed.float().mean().item()
    assert share == pytest.approx(facts["share_allowed_after"], abs=1e-6)


def test_activation_and_mask():
    t, _ = stored("sce_didae_parts")
    close(leaky_softplus(t["leaky_softplus/x"]), t.wanted("leaky_softplus/y"), 1e-6)
    both = t["smooth_mask/a"], t["smooth_mask/b"]
    close((both[0] - both[1]).abs().sum(1, keepdim=True), t.wanted("smooth_mask/difference"), 1e-6)
    for size in (3, 13):
        close(blurred_difference(*both, size), t.wanted(f"smooth_mask/k{size}"), 1e-5)


def test_edits_along_a_dictionary():
    t, facts = stored("sce_didae_parts")
    codes, z, w = t["didae/codes_for_dictionary"], t["didae/z"], t["didae/w"]
    close(codes.mean(0), t.wanted("didae/mean"), 1e-6)
    components = t.wanted("didae/components")
    ours = principal_components(codes, facts["components"])
    close(ours * (ours * components).sum(0).sign(), components, 1e-5)
    close((codes - codes.mean(0)).mm(ours).norm(dim=0), t.wanted("didae/singular_values"), 1e-4)
    for number, factor in enumerate(facts["linesearch_factors"]):
        edited = edit_along_components(z, w, ours, factor)
        wanted = t.wanted("didae/z_edited")[:, :, number]
        torch.testing.assert_close(edited, wanted, rtol=1e-4, atol=1e-4)
        score = edited.double() @ w.double()
        close(score, t.wanted("didae/score_after")[:, :, number], 1e-4)
        close(score, (1 - factor) * t.wanted("didae/score_before")[:, None].expand_as(score), 1e-4)
        length = (edited - z[:, None]).norm(dim=2)
        torch.testing.assert_close(
            length, t.wanted("didae/distance")[:, :, number], rtol=1e-4, atol=1e-4
        )
    mirrored = edit_along_components(z, w, (w / w.norm())[:, None])[:, 0]
    close(mirrored, t.wanted("didae/reflected_along_w"), 1e-5)


def test_a_component_that_says_nothing_is_refused():
    """The official code divides by 1e-6, which gives codes of this size."""
    t, facts = stored("sce_didae_parts")
    edited = edit_along_components(t["didae/z"], t["didae/orthogonal/w"], t["didae/components"])
    assert facts["didae_orthogonal_max_abs_code"] > 1e6
    assert edited[:, 0].isnan().all()
    assert edited[:, 1:].abs().max() < 1e3
