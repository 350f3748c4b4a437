"""StyleGAN2 against rosinality's implementation, level by level, and its file formats."""

import argparse
from pathlib import Path

import pytest
import stylegans
import torch
from safetensors.torch import load_file, save_file
from stored import stored

import cfxnb as cfx
from cfxnb.nets.stylegan2 import Generator
from cfxnb.spaces import load_stylegan2
from cfxnb.spaces.checkpoints.stylegan2_files import architecture, read_checkpoint

FILE = Path(__file__).parent / "stylegan2_r32.pt"


def near(ours, theirs, atol=1e-4):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@pytest.fixture(scope="module")
def state():
    return read_checkpoint(FILE)


@pytest.fixture(scope="module")
def net(state):
    net = Generator(**architecture(state))
    net.load_state_dict(state)
    return net.requires_grad_(False)


@pytest.fixture(scope="module")
def case():
    tensors, facts = stored("stylegan2_r32")
    return tensors, facts, [tensors[f"noise/{i}"] for i in range(facts["noise_maps"])]


def test_architecture(state, net, case):
    _, facts, noise = case
    assert architecture(state) == {
        "channels": list(facts["channels_by_resolution"].values()),
        "z_dim": facts["style_dim"],
        "w_dim": facts["style_dim"],
        "mapping_layers": facts["mapping_layers"],
        "colours": 3,
    }
    assert (net.resolution, net.num_ws) == (facts["size"], facts["n_latent"])
    assert net.style_sizes == list(facts["style_lengths"].values())
    assert list(facts["style_lengths"]) == facts["layer_order"]
    rgb = [name.startswith("to_rgb") for name in facts["layer_order"]]
    assert [part.all().item() for part in net.in_rgb.split(net.style_sizes)] == rgb
    assert len(noise) == 7


@pytest.mark.parametrize(
    ("resolution", "codes", "rgb", "all_styles"),
    [(256, 14, 2944, 8704), (512, 16, 3008, 8960), (1024, 18, 3040, 9088)],
)
def test_sizes_of_the_paper(resolution, codes, rgb, all_styles):
    """Configuration F: min(32768 / side, 512) channels. Counts: Wu et al., arXiv 2011.12799."""
    sides = [4 * 2**i for i in range(9) if 4 * 2**i <= resolution]
    with torch.device("meta"):
        net = Generator([min(32768 // side, 512) for side in sides])
    assert (net.resolution, net.num_ws, sum(net.style_sizes)) == (resolution, codes, all_styles)
    assert sum(len(block.torgb.affine.bias) for block in net.blocks) == rgb


def test_mapping(net, case):
    t, *_ = case
    near(net.mapping(t["z"]), t.wanted("w"), 1e-5)
    near(net.mapping(t["z2"]), t.wanted("w2"), 1e-5)
    near(net.mapping.w_avg, t.wanted("latent_avg")[0], 0)


@pytest.mark.parametrize("psi", [0.7, 0.3])
def test_truncation(net, case, psi):
    t, _, noise = case
    near(net.truncate(t["w"], psi), t.wanted(f"w_truncated_{psi}"), 1e-5)
    near(net(t["z"], psi, noise), t.wanted(f"image_truncated_{psi}"))


def test_styles(net, case):
    t, facts, _ = case
    ours = net.styles(net.spread_out(t["w"])).split(net.style_sizes, 1)
    for name, part in zip(facts["layer_order"], ours, strict=True):
        near(part, t.wanted(f"style/{name}"), 1e-5)


def test_layers(net, case):
    t, facts, noise = case
    modules = [m for block in net.blocks for m in (*block.layers(), block.torgb)]
    seen = []
    hooks = [m.register_forward_hook(lambda _m, _i, out: seen.append(out)) for m in modules]
    try:
        image = net(t["z"], noise=noise)
    finally:
        for hook in hooks:
            hook.remove()
    for name, ours in zip(facts["layer_order"], seen, strict=True):
        near(ours, t.wanted(f"layer/{name}"))
    near(image, t["image"])


def test_noise(net, case):
    t, _, noise = case
    near(net(t["z"], noise=noise), t.wanted("image"))
    near(net(t["z"]), t.wanted("image_from_w_stored_noise"))
    near(net(t["z"], noise="zero"), t.wanted("image_zero_noise"))
    near(net(t["z"], noise=[torch.zeros_like(n) for n in noise]), t["image_zero_noise"])
    assert (t["image"] - t["image_zero_noise"]).abs().max() > 0.1


def test_w_plus(net, case):
    t, facts, noise = case
    near(net.render(net.styles(t["w_plus"]), noise), t.wanted("image_from_w_plus"))
    mixed = net.spread_out(t["w"]).clone()
    mixed[:, facts["inject_index"] :] = t["w2"][:, None]
    near(net.render(net.styles(mixed), noise), t.wanted("image_mixed"))


def test_every_position_of_w_plus_goes_where_the_reference_has_it(net, case):
    """A change at one position reaches exactly the affines that are listed for it."""
    _, facts, _ = case
    w_plus = torch.zeros(1, net.num_ws, net.w_dim)
    before = net.styles(w_plus)
    for position in range(net.num_ws):
        moved = w_plus.clone()
        moved[:, position] += 1
        parts = (net.styles(moved) - before).split(net.style_sizes, 1)
        changed = {n for n, p in zip(facts["layer_order"], parts, strict=True) if p.any()}
        listed = facts["w_plus_index_of_each_layer"]
        assert changed == {n for n in listed if listed[n] == position}


def test_style_edit(net, case):
    t, facts, noise = case
    edit = facts["style_edit"]
    before = sum(net.style_sizes[: facts["layer_order"].index(edit["layer"])])
    styles = net.styles(net.spread_out(t["w"]))
    styles[:, before + edit["channel"]] += edit["delta"]
    near(net.render(styles, noise), t.wanted("image_style_edit"))
    assert (t["image_style_edit"] - t["image"]).abs().max() > 0.1


def test_official_weights(tmp_path, state, case):
    """A checkpoint made of the stored weights is read as the stored checkpoint."""
    weights = load_file(FILE.with_name("stylegan2_r32_weights.safetensors"))
    torch.save({"g_ema": weights, "latent_avg": case[0]["latent_avg"]}, tmp_path / "again.pt")
    read = read_checkpoint(tmp_path / "again.pt")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], value) for key, value in state.items())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nvidia_files(tmp_path, state, protocol):
    """The same weights in NVIDIA's format: equal tensors, and the source in it never runs."""
    trap = tmp_path / "executed"
    source = f"open({str(trap)!r}, 'w').close()"
    (tmp_path / "net.pkl").write_bytes(stylegans.dumps(state, source, protocol))
    read = read_checkpoint(tmp_path / "net.pkl")
    assert not trap.exists()
    assert read.keys() == state.keys()
    for key, value in read.items():
        near(value, state[key], 0)


def test_every_format_gives_the_same_images(tmp_path, state, case):
    t, *_ = case
    (tmp_path / "nvidia").write_bytes(stylegans.dumps(state))
    save_file(state, tmp_path / "ours")
    held = torch.load(FILE, weights_only=True)
    torch.save(held, tmp_path / "old", _use_new_zipfile_serialization=False)
    for name in (FILE, *(tmp_path / n for n in ("nvidia", "ours", "old"))):
        space = load_stylegan2(name, device="cpu")
        image = space.net.render(space.net.styles(space.net.spread_out(t["w"])))
        near(image, t["image_from_w_stored_noise"])
        near(space.decode(cfx.Code(t["w"])), ((t["image_from_w_stored_noise"] + 1) / 2).clamp(0, 1))


def test_safetensors_that_begin_like_a_pickle(tmp_path, state):
    """Their first byte is part of a length, and may be that of a pickle."""
    path, pad = tmp_path / "x.safetensors", 0
    while pad == 0 or path.read_bytes()[0] != 0x80:
        pad += 4
        save_file(state, path, {"pad": "x" * pad})
    assert read_checkpoint(path).keys() == state.keys()


def test_training_files(tmp_path, state):
    """Without an average of w, with optimisers, and with a command line that is an object."""
    held = torch.load(FILE, weights_only=True)
    average = held.pop("latent_avg")
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    held |= {"g": held["g_ema"], "d": {}, "g_optim": optimiser.state_dict()}
    torch.save({**held, "args": argparse.Namespace(size=32)}, tmp_path / "train.pt")
    read = read_checkpoint(tmp_path / "train.pt")
    assert set(state) - set(read) == {"mapping.w_avg"}
    space = load_stylegan2(tmp_path / "train.pt", device="cpu")
    assert (space.net.mapping.w_avg - space.mean).abs().max() < 1e-6
    # The reference's own average is that of few draws.
    assert (space.net.mapping.w_avg - average).abs().max() < 0.2


def test_reading_leaves_no_trace(state):
    before, allowed = torch.get_rng_state(), set(torch.serialization.get_safe_globals())
    load_stylegan2(FILE, device="cpu")
    assert torch.equal(before, torch.get_rng_state())
    assert set(torch.serialization.get_safe_globals()) == allowed
