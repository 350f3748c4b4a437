"""Settings that carry a paper's name, run at their own numbers against the papers' rules.

The rules are written out here, one after the other, without the package's parts.
"""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from stored import stored
from test_ref_ldce import StoredSpace
from torch import Generator, nn
from worlds import LinearSpace, code_classifier

import cfxnb as cfx
from cfxnb.core.tensors import noise_like
from cfxnb.directions import mlp_proxy
from cfxnb.directions.direction_candidates import WEIGHTS
from cfxnb.directions.mlp_proxy import MLPProxy, train_proxy
from cfxnb.directions.proxies import Probes


def close(a, b, tolerance):
    torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=tolerance)


# -- Latent Diffusion Counterfactual Explanations: 191 of 500 steps


@pytest.fixture(scope="module")
def published_run():
    """The public function with the published settings, a thousand times and tiny networks."""
    t, facts = stored("ldce_trajectory_c3")
    space, seen = StoredSpace(t, facts["classes"]), []
    # A class that neither the images nor their reconstructions are seen as.
    shown = (t["image"], space.decode(cfx.Code(t["z0"])))
    target = sum(space.classify(x).softmax(1) for x in shown).argmin(1)
    cf = cfx.diffusion_counterfactual(
        space,
        space.classify,
        t["image"],
        target,
        **cfx.PAPER_DIFFUSION,
        seed=3,
        on_step=seen.append,
    )
    assert {*cf.status} <= {"flipped", "not_found"}
    return space, t["image"], target, cf, seen


def test_published_steps_and_noise(published_run):
    """S = 500 of T = 1000, strength 0.382: noise at time 383, steps from 381 down to 1."""
    space, _, _, cf, seen = published_run
    assert (len(space.alphas_cumprod), len(seen)) == (1000, 191)
    # Without and with the target told, and two slopes through the first of these.
    assert (cf.cost["unet"] == 191 * 4).all()
    left = space.alphas_cumprod[383]
    noise = noise_like(space.z0, 3)
    start = left.sqrt() * space.z0 + (1 - left).sqrt() * noise
    close(seen[0].code, start, 1e-6)


def test_published_guidance_at_every_step(published_run):
    """w = 3, lambda 2.3 and 0.3, 45 degrees; from the code before each step to that after it."""
    space, images, target, cf, seen = published_run
    null = torch.full_like(target, space.classes)
    codes = [step.code for step in seen] + [cf.code_after.z]
    for number, (before, after) in enumerate(pairwise(codes)):
        time = 381 - 2 * number
        left, ahead = (
            space.alphas_cumprod[time].float(),
            space.alphas_cumprod[max(time - 2, 0)].float(),
        )
        times = torch.full((2,), time)
        z = before.clone().requires_grad_()
        free = space.predict_noise(z, times, null)
        told = space.predict_noise(before, times, target).detach()
        drawn = space.decode(cfx.Code((z - (1 - left).sqrt() * free) / left.sqrt()), clamp=False)
        log_p = space.classify(drawn).log_softmax(1)[[0, 1], target].sum()
        far = (drawn.clamp(0, 1) - images).abs().sum()
        slope, away = (torch.autograd.grad(x, z, retain_graph=True)[0] for x in (log_p, far))
        implicit, k = told - free.detach(), -(1 - left).sqrt() * slope
        kept = F.cosine_similarity(implicit.double(), k.double(), dim=1)
        k = k * (kept >= torch.tensor(45.0).deg2rad().cos()).unsqueeze(1)

        def like(x, implicit=implicit):
            long = x.flatten(1).norm(dim=1).clamp_min(1e-22)
            return x * (implicit.flatten(1).norm(dim=1) / long).view(2, 1, 1, 1)

        eps = free.detach() + 3.0 * (2.3 * like(k) + 0.3 * like((1 - left).sqrt() * away))
        clean = (before - (1 - left).sqrt() * eps) / left.sqrt()
        close(after, ahead.sqrt() * clean + (1 - ahead).sqrt() * eps, 2e-4)
    assert time == 1  # whose step leads to alphas_cumprod[0], not to the clean code


# -- Counterfactual Attacks: Adam on the bare probability, one digit into another


def test_published_attack():
    """lr 0.1, the usual betas, no distance, no prior, no way back: stop where p passes 0.5."""
    space = LinearSpace(std=torch.tensor([0.5, 1.0, 2.0, 1.5]))  # which play no part
    directions = torch.randn(3, 4, generator=Generator().manual_seed(1))
    f = code_classifier(space, directions, gain=0.7)
    images = space.sample(6)
    target = f(images).argmin(1)
    cf = cfx.latent_attack(space, f, images, target, **cfx.PAPER_ATTACK)
    assert cf.status == ("flipped",) * 6
    steps = []
    for row in range(6):
        z = space.encode(images[row : row + 1]).z.clone().requires_grad_()
        adam = torch.optim.Adam([z], lr=0.1)
        number = 0
        while True:
            p = f(space.decode(cfx.Code(z))).softmax(1)[0, target[row]]
            if p > 0.5:
                break
            adam.zero_grad()
            (-p).backward()
            adam.step()
            number += 1
        close(cf.code_after.z[row], z[0].detach(), 1e-4)
        # Each step looks once and takes a slope; besides them the last look, and three at the ends.
        assert cf.cost["classifier"][row] == 2 * number + 1 + 3
        steps.append(number)
    assert max(steps) > 20


def test_published_attack_gives_up_after_5000_steps():
    """One look before each step, and one after the last; no second attempt."""
    space = LinearSpace()
    f = code_classifier(space, torch.randn(2, 4, generator=Generator().manual_seed(1)))
    images, seen = space.sample(2), []

    def stop(step):
        seen.append(step.total)
        return True

    cfx.latent_attack(space, f, images, f(images).argmin(1), **cfx.PAPER_ATTACK, on_step=stop)
    assert seen == [5001]


# -- Global Counterfactual Directions: the proxy with the published stop rule


def answers(count, seed):
    """Changes of a code of 512 numbers, of lengths up to 1, and what a made-up network says."""
    draw = Generator().manual_seed(seed)
    delta = torch.randn(count, 512, generator=draw)
    delta = torch.rand(count, 1, generator=draw) * delta / delta.norm(dim=1, keepdim=True)
    straight, bent = torch.randn(2, 512, 3, generator=draw)
    logits = delta @ straight + (delta @ bent).square()
    distance = delta.norm(dim=1) / 2
    return Probes(delta, logits[:, 0], logits, distance, score_at_start=0.0)


@pytest.mark.parametrize(("count", "seed"), [(1024, 6), (1152, 0)])
def test_published_proxy(count, seed):
    """Of 128 answers kept apart the loss is asked for after each pass through the others.

    Sigmoid layers of 256, 128 and 64; AdamW, rate 0.001, decay 0.01, batches of 128; three times
    the weight for distances; the end where the loss is above the mean of the last five, without
    going back.
    """
    probes = answers(count, seed)
    found = train_proxy(probes, stop="paper", seed=4)
    widths = [512, 256, 128, 64, 4]
    torch.manual_seed(4)
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]

    def loss(rows):
        x = probes.delta[rows]
        for layer in layers[:-1]:
            x = layer(x).sigmoid()
        x = layers[-1](x)
        error = (x[:, :3] - probes.logits[rows]).square().mean()
        return error + 3 * (x[:, 3].sigmoid() - probes.distance[rows]).square().mean()

    adam = torch.optim.AdamW(
        [p for layer in layers for p in layer.parameters()], lr=0.001, weight_decay=0.01
    )
    shuffle, history = Generator().manual_seed(4), []
    for _ in range(1024):
        for rows in torch.randperm(count - 128, generator=shuffle).split(128):
            adam.zero_grad()
            loss(rows).backward()
            adam.step()
        with torch.no_grad():
            value = loss(slice(-128, None)).item()
        last = history[-5:]
        if last and value > sum(last) / len(last):
            break
        history.append(value)
    assert len(history) > (5 if seed else 1)
    assert min(history) < value  # it doesn't go back to the best
    for ours, layer in zip(found.proxy[::2], layers, strict=True):
        close(ours.weight, layer.weight, 1e-5)
        close(ours.bias, layer.bias, 1e-5)


def test_the_published_rule_is_what_its_name_asks_for(monkeypatch):
    space, asked = LinearSpace(), []
    f = code_classifier(space, torch.randn(2, 4, generator=Generator().manual_seed(1)))

    def train(probes, *, stop, seed):
        asked.append(stop)
        return MLPProxy(probes.delta.shape[1], probes.logits.shape[1]).requires_grad_(False)

    monkeypatch.setattr(mlp_proxy, "train_proxy", train)
    for proxy in ("mlp_paper", "mlp", "ridge"):
        cfx.find_directions(
            space, cfx.BlackBox(f), space.sample(1), 1, max_queries=100, proxy=proxy
        )
    assert asked == ["paper", "best"]


def test_published_weights_of_the_second_direction():
    assert WEIGHTS == (0.05, 1.0)
