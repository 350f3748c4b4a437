"""The diffusion autoencoder against the official one: networks, sampler, edits, checkpoints.

The nets are random and don't contract, so that errors grow along a trajectory: each step is
compared from the stored step before it, and then the ends.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from stored import stored
from torch import nn

import cfxnb as cfx
from cfxnb.core import ddim
from cfxnb.spaces import DiffusionAutoencoder, load_diffae
from cfxnb.spaces.checkpoints.diffae_files import TRAINERS, architecture, read_checkpoint
from cfxnb.spaces.checkpoints.safe_loading import torch_load

HERE = Path(__file__).parent
NAMES = ("diffae_gray32", "diffae_rgb16")
INVERSIONS = [("diffae_gray32", 10), ("diffae_gray32", 20)]
INVERSIONS += [("diffae_rgb16", 10), ("diffae_rgb16", 25)]
RENDERS = [("diffae_gray32", 4), ("diffae_gray32", 8), ("diffae_rgb16", 5), ("diffae_rgb16", 10)]
CASES = {}


def near(ours, theirs, atol):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def case(name):
    """(space, tensors, facts) of one of the tiny networks."""
    if name not in CASES:
        space = load_diffae(HERE / f"{name}_weights.safetensors", device="cpu", precision="float32")
        CASES[name] = space, *stored(name)
    return CASES[name]


def predict_logits(name):
    """The noise that the net predicts, told the codes of the stored images."""
    space, t, _ = case(name)
    return lambda x, time: space.net(x, torch.tensor([time]), t["z_sem"])


@pytest.mark.parametrize("name", NAMES)
def test_architecture(name):
    space, _, facts = case(name)
    official = facts["official_config"]
    state, extra = read_checkpoint(HERE / f"{name}_weights.safetensors")
    assert architecture(state, official["image_size"]) == {
        "size": official["image_size"],
        "channels": official["in_channels"],
        "base": official["model_channels"],
        "mult": official["channel_mult"],
        "dims": official["embed_channels"],
        "attention": sorted(official["attention_resolutions"], reverse=True),
        "blocks": official["num_res_blocks"],
        "encoder_mult": official["enc_channel_mult"],
        "encoder_blocks": official["enc_num_res_block"],
        "latent": None,
    }
    assert sum(p.numel() for p in space.net.parameters()) == facts["parameters"]
    assert len(state) == facts["state_dict_tensors"]
    assert extra == ({}, None, None, None, "")


@pytest.mark.parametrize("name", NAMES)
def test_codes(name):
    space, t, _ = case(name)
    near(space.net.encoder(t["x"]), t.wanted("z_sem"), 1e-5)
    near(space.encode_semantic((t["x"] + 1) / 2), t["z_sem"], 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_noise(name):
    space, t, _ = case(name)
    for time, eps in zip(t["eps_t"].tolist(), t.wanted("eps"), strict=True):
        near(predict_logits(name)(t["noise"], time), eps, 5e-5)
        near(space.predict_noise(t["noise"], time, t["z_sem"]), eps, 5e-5)
    near(space.net(t["noise"], t["eps_mixed_t"], t["z_sem"]), t.wanted("eps_mixed"), 5e-5)


@pytest.mark.parametrize("name", NAMES)
def test_activations(name):
    space, t, _ = case(name)
    net, seen, hooks = space.net, {}, []
    wanted = {key.removeprefix("act/"): t.wanted(key) for key in t if key.startswith("act/")}
    for key in wanted:
        module = net.get_submodule(key)
        if isinstance(module, nn.ModuleList):
            module = module[-1]
        keep = lambda _module, _given, out, key=key: seen.update({key: out})  # noqa: E731
        hooks.append(module.register_forward_hook(keep))
    try:
        z = net.encoder(t["x"][:1])
        net(t["noise"][:1], t["act_t"], z)
    finally:
        for hook in hooks:
            hook.remove()
    assert seen.keys() == wanted.keys()
    for key, value in wanted.items():
        near(seen[key], value, 5e-5)


@pytest.mark.parametrize("name", NAMES)
def test_schedule(name):
    _, t, facts = case(name)
    near(ddim.linear_alphas_cumprod(), t.wanted("alphas_cumprod"), 1e-15)
    for count, times in facts["timestep_maps"].items():
        assert ddim.timesteps(int(count)) == times


@pytest.mark.parametrize("name", NAMES)
def test_noisy_images_and_loss(name):
    space, t, _ = case(name)
    left = ddim.linear_alphas_cumprod()[t["q_t"]].view(-1, 1, 1, 1)
    noisy = (left.sqrt() * t["x"] + (1 - left).sqrt() * t["noise"]).float()
    near(noisy, t.wanted("q_x_t"), 1e-5)
    error = space.net(noisy, t["q_t"], t["z_sem"]) - t["noise"]
    near(error.square().flatten(1).mean(1), t.wanted("q_loss"), 1e-5)


def follow_direction(name, begin, key, pairs, atol):
    """All steps from ``begin`` on, as (time, next time): each against the stored ones.

    Each is taken twice, from the stored step before it and from the own one. Without noise ahead
    a step ends with the guess of the image.
    """
    _, t, _ = case(name)
    own = stored_one = begin
    alphas, clamped = ddim.linear_alphas_cumprod(), []
    every = zip(pairs, t.wanted(f"{key}/steps"), t.wanted(f"{key}/pred_x0"), strict=True)
    for (time, to), after, guess in every:
        eps = predict_logits(name)(stored_one, time)
        here = ddim.step(lambda *_, eps=eps: eps, stored_one, alphas, time, -1)
        near(here, guess, atol)
        clamped.append((here.abs() == 1).double().mean())
        near(ddim.step(lambda *_, eps=eps: eps, stored_one, alphas, time, to), after, atol)
        own = ddim.step(predict_logits(name), own, alphas, time, to)
        near(own, after, atol)
        stored_one = after
    return own, sum(clamped) / len(clamped)


@pytest.mark.parametrize(("name", "count"), INVERSIONS)
def test_inversion(name, count):
    space, t, facts = case(name)
    times = ddim.timesteps(count)
    pairs = list(zip(times, [*times[1:], None], strict=True))
    own, clamped = follow_direction(name, t["x"], f"invert{count}", pairs, 1e-3)
    assert clamped == pytest.approx(facts["clamped_share_of_pred_x0"][f"invert{count}"], abs=1e-3)
    end = ddim.invert(predict_logits(name), t["x"], ddim.linear_alphas_cumprod(), times)
    assert torch.equal(end, own)
    near(end, t.wanted(f"invert{count}/x_T"), 1e-3)
    again = DiffusionAutoencoder(
        space.net, space.mean, space.std, inversion_steps=count, precision="float32"
    )
    code = again.encode((t["x"] + 1) / 2)
    near(code.z, t["z_sem"], 1e-5)
    near(code.aux, t[f"invert{count}/x_T"], 1e-3)


@pytest.mark.parametrize(("name", "count"), RENDERS)
def test_rendering(name, count):
    space, t, facts = case(name)
    times, start = ddim.timesteps(count), t[facts["render_starts_from"]]
    pairs = list(zip(times, [-1, *times[:-1]], strict=True))[::-1]
    own, _ = follow_direction(name, start, f"render{count}", pairs, 3e-3)
    for begin, key in ((start, "sample"), (t["noise"], "from_noise")):
        end = ddim.render(predict_logits(name), begin, ddim.linear_alphas_cumprod(), times)
        near(end, t.wanted(f"render{count}/{key}"), 3e-3)
        assert torch.equal(end, own) == (key == "sample")
    again = DiffusionAutoencoder(space.net, space.mean, space.std, steps=count, precision="float32")
    image = t.wanted(f"render{count}/image01")
    near((own + 1) / 2, image, 3e-3)
    near(again.decode(cfx.Code(t["z_sem"], start)), image.clamp(0, 1), 3e-3)


@pytest.mark.parametrize("name", NAMES)
def test_edits(name):
    space, t, facts = case(name)
    moved = t["z_sem"][:1] + t["edit/alphas"][:, None] * t["edit/direction"]
    rest = t[facts["render_starts_from"]][:1].expand(len(moved), -1, -1, -1)
    times = ddim.timesteps(int(t["edit/T"]))
    net = lambda x, time: space.net(x, torch.tensor([time]), moved)  # noqa: E731
    near(ddim.render(net, rest, ddim.linear_alphas_cumprod(), times), t.wanted("edit/sample"), 3e-3)
    again = DiffusionAutoencoder(
        space.net, space.mean, space.std, steps=len(times), precision="float32"
    )
    wanted = ((t["edit/sample"] + 1) / 2).clamp(0, 1)
    near(again.decode(cfx.Code(moved, rest)), wanted, 3e-3)
    assert (wanted[0] - wanted[-1]).abs().max() > 0.1


def test_net_of_codes():
    t, facts = stored("diffae_gray32_latent")
    space = load_diffae(HERE / "diffae_gray32_latent.ckpt", device="cpu", precision="float32")
    near(space.net.latent_net(t["z"], t["t"]), t.wanted("pred"), 1e-5)
    near((t["z"] - space.mean) / space.std, t.wanted("z_normalised"), 1e-5)
    near(t["z"] * space.std + space.mean, t.wanted("z_denormalised"), 1e-5)
    official = facts["latent_config"]
    assert architecture(*read_parts("latent"))["latent"] == {
        "hidden_dim": official["num_hid_channels"],
        "layers": official["num_layers"],
        "time_channels": official["num_time_emb_channels"],
    }
    assert space.sample(2, shape=(1, 32, 32), steps=4).z.shape == (2, 16)


def read_parts(kind):
    state, extra = read_checkpoint(HERE / f"diffae_gray32_{kind}.ckpt")
    return state, extra.size, extra.latent


@pytest.mark.parametrize("kind", ["last", "latent"])
def test_checkpoints(kind):
    """The averaged weights bit for bit, and not those beside them, which are others."""
    path = HERE / f"diffae_gray32_{kind}.ckpt"
    state, extra = read_checkpoint(path)
    wanted = load_file(HERE / "diffae_gray32_weights.safetensors")
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], value) for key, value in wanted.items())
    assert (extra.source, extra.size) == ("ema_model", 32)

    codes = {}
    if kind == "latent":
        codes = load_file(HERE / "diffae_gray32_latent_weights.safetensors")
        t, _ = stored("diffae_gray32_latent")
        assert torch.equal(extra.mean, t.wanted("conds_mean")[0])
        assert torch.equal(extra.std, t.wanted("conds_std")[0])
    else:
        assert extra.mean is None
        assert extra.std is None
    assert {f"latent_net.{key}" for key in extra.latent} == codes.keys()
    assert all(torch.equal(extra.latent[k[11:]], value) for k, value in codes.items())

    net = load_diffae(path, device="cpu").net.state_dict()
    assert net.keys() == wanted.keys() | codes.keys()
    assert all(torch.equal(net[key], value) for key, value in (wanted | codes).items())


def test_the_last_weights_are_others():
    """Or the test above would pass with either."""
    with (HERE / "diffae_gray32_last.ckpt").open("rb") as file:
        held = torch_load(file, TRAINERS)["state_dict"]
    wanted = load_file(HERE / "diffae_gray32_weights.safetensors")
    assert not any(torch.equal(held[f"model.{key}"], value) for key, value in wanted.items())
