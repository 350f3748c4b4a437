"""Checkpoints of diffusion autoencoders: what is read, what is told, and what is refused."""

import io
import os
import pickle
import sys
import types
import zipfile
from unittest import mock

import pytest
import torch
from hostile import BOMBS, Evil, listening, new_torch, old_torch, refuser, repacked
from safetensors.torch import save_file
from torch import nn

from cfxnb.nets import DiffAE
from cfxnb.spaces import load_diffae
from cfxnb.spaces.checkpoints.diffae_files import LARGEST, architecture, read_checkpoint
from cfxnb.spaces.checkpoints.safe_loading import LEGACY

CONFIG = {
    "size": 16,
    "channels": 1,
    "base": 8,
    "mult": [1, 2],
    "dims": 12,
    "attention": [8],
    "blocks": 1,
    "encoder_mult": [1, 2, 2],
    "encoder_blocks": 1,
    "latent": {"hidden_dim": 20, "layers": 3, "time_channels": 6},
}
LIBRARIES = ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")


def weights(seed, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = DiffAE(**CONFIG | changes).state_dict()
        return {key: torch.randn_like(value) for key, value in state.items()}


def tied(state):
    """The layers with two names have one content."""
    pairs = {k: k.replace(".cond_layers.1.", ".linear_emb.") for k in state}
    return {key: state[pairs[key]] for key in state}


@pytest.fixture(scope="module")
def averaged():
    return tied(weights(0))


@pytest.fixture(scope="module")
def beside():
    return {
        "x_T": torch.randn(3, 1, 16, 16),
        "conds_mean": torch.arange(12.0)[None],
        "conds_std": torch.arange(1.0, 13)[None],
    }


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


class ModelCheckpoint:
    """The trainer's class of callbacks: the class itself is a key."""

    def __init__(self):
        self.state = {"set": "by BUILD"}


def packages(path):
    """Empty modules of this name, and of those around it."""
    parts = path.split(".")
    names = [".".join(parts[: n + 1]) for n in range(len(parts))]
    return {name: types.ModuleType(name) for name in names}


def trained(state_dict, library="pytorch_lightning", writer=new_torch, **others):
    """A training file, as if the trainer were installed."""
    ModelCheckpoint.__module__ = path = f"{library}.callbacks.model_checkpoint"
    modules = packages(path)
    modules[path].ModelCheckpoint = ModelCheckpoint
    whole = {
        "epoch": 3,
        "state_dict": state_dict,
        "callbacks": {ModelCheckpoint: {"best_model_path": "x"}, "other": ModelCheckpoint()},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(4)}}}],
        "hyper_parameters": {"img_size": 999},
        **others,
    }
    with mock.patch.dict(sys.modules, modules):
        return writer(whole)


def same(read, wanted):
    assert read.keys() == wanted.keys()
    assert all(torch.equal(read[key], value) for key, value in wanted.items())


def split(state):
    """The autoencoder's weights, and those of the net of codes without their prefix."""
    codes = {k.removeprefix("latent_net."): v for k, v in state.items() if k.startswith("latent_")}
    return {k: v for k, v in state.items() if not k.startswith("latent_")}, codes


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("writer", [new_torch, old_torch])
def test_training_files(tmp_path, averaged, beside, library, writer):
    held = prefixed(weights(1), "model.") | prefixed(averaged, "ema_model.") | beside
    # Neither of these may be taken for a prefix, nor anything else be minded.
    held |= {"my_ema_model.out.2.bias": torch.zeros(9), "ema_model_2": torch.zeros(1), "k": None}
    (tmp_path / "x.ckpt").write_bytes(trained(held, library, writer))
    before = set(torch.serialization.get_safe_globals())
    rng = torch.get_rng_state()
    with listening() as heard:
        state, extra = read_checkpoint(tmp_path / "x.ckpt")
        space = load_diffae(tmp_path / "x.ckpt", device="cpu", steps=5)
    assert not heard
    assert library.split(".")[0] not in sys.modules
    assert set(torch.serialization.get_safe_globals()) == before
    assert torch.equal(torch.get_rng_state(), rng)
    parts, codes = split(averaged)
    same(state, parts)
    same(extra.latent, codes)
    assert (extra.source, extra.size) == ("ema_model", 16)
    assert architecture(state, extra.size, extra.latent) == CONFIG
    same(space.net.state_dict(), averaged)
    assert torch.equal(space.mean, torch.arange(12.0))
    assert torch.equal(space.std, torch.arange(1.0, 13))
    assert len(space.times) == 5
    assert not space.training
    assert not any(p.requires_grad for p in space.parameters())


def test_without_averages(tmp_path, averaged):
    """The last weights are taken, and this is told."""
    (tmp_path / "x.ckpt").write_bytes(trained(prefixed(averaged, "model.")))
    state, extra = read_checkpoint(tmp_path / "x.ckpt")
    assert extra.source == "model"
    same(state, split(averaged)[0])
    with pytest.warns(UserWarning, match=r"path: x\.ckpt has no averaged weights"):
        space = load_diffae(tmp_path / "x.ckpt", device="cpu")
    assert torch.equal(space.mean, torch.zeros(12))
    assert torch.equal(space.std, torch.ones(12))


@pytest.mark.parametrize("half", [False, True])
def test_plain_files(tmp_path, averaged, beside, half):
    """As ``state_dict()`` gives it; safetensors can have a tensor only once."""
    state = {k: v.half() if half else v for k, v in averaged.items()}
    once = {key: value for key, value in state.items() if ".cond_layers." not in key}
    torch.save(DiffAE(**CONFIG).state_dict(), tmp_path / "fresh.pt")
    torch.save(state | beside, tmp_path / "x.pt")
    save_file(once | beside, tmp_path / "x.safetensors")
    for name in ("x.pt", "x.safetensors"):
        space = load_diffae(tmp_path / name, device="cpu")
        same(space.net.state_dict(), {key: value.float() for key, value in state.items()})
        assert torch.equal(space.mean, torch.arange(12.0))
        assert read_checkpoint(tmp_path / name)[1].source == ""
    assert load_diffae(tmp_path / "fresh.pt", device="cpu").net.latent_net.time_channels == 6


def test_what_was_read_is_the_readers_own(tmp_path, averaged):
    """The file may go, or be written again, while the weights are in use."""
    path = tmp_path / "x.pt"
    torch.save(averaged, path)
    state, _ = read_checkpoint(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    same(state, split(averaged)[0])


def test_sides(tmp_path, averaged):
    """Where the file doesn't tell the side of its images, any that can be halved will do."""
    (tmp_path / "x").write_bytes(new_torch(averaged))
    state, extra = read_checkpoint(tmp_path / "x")
    assert extra.size is None
    got = architecture(state, None, extra.latent)
    assert got == CONFIG | {"size": 256, "attention": [128]}
    for size in (4, 6, 16, 20, 224):
        assert architecture(state, size)["attention"] == [size // 2]
        load_diffae(tmp_path / "x", device="cpu", image_size=size)


# From the paper and the official code: (arguments, millions of parameters, of the encoder's)
OFFICIAL = {
    "ffhq64": (64, 3, 64, [1, 2, 4, 8], [1, 2, 4, 8, 8], [16], 90.84, None),
    "ffhq128": (128, 3, 128, [1, 1, 2, 3, 4], [1, 1, 2, 3, 4, 4], [16], 128.55, None),
    "ffhq256": (256, 3, 128, [1, 1, 2, 2, 4, 4], [1, 1, 2, 2, 4, 4, 4], [16], 168.49, 30.15),
    "chexpert224": (224, 1, 128, [1, 1, 2, 2, 4, 4], [1, 1, 2, 2, 4, 4, 4], [], 161.12, None),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_sizes(name):
    size, channels, base, mult, within, attention, millions, encoder = OFFICIAL[name]
    wanted = {
        "size": size, "channels": channels, "base": base, "mult": mult, "dims": 512,
        "attention": attention, "blocks": 2, "encoder_mult": within, "encoder_blocks": 2,
        "latent": {"hidden_dim": 2048, "layers": 10, "time_channels": 64},
    }  # fmt: skip
    with torch.device("meta"):
        net = DiffAE(**wanted)
        state, codes = split(net.state_dict())
    assert architecture(state, size, codes) == wanted
    other = architecture(state, None, codes)
    assert [other["size"] // side for side in other["attention"]] == [
        size // side for side in attention
    ]
    names = {"size": 0, "attention": 0}
    assert other | names == wanted | names
    total = sum(p.numel() for p in net.parameters())
    total -= sum(p.numel() for p in net.latent_net.parameters())
    assert round(total / 1e6, 2) == millions
    if encoder is not None:
        assert round(sum(p.numel() for p in net.encoder.parameters()) / 1e6, 2) == encoder
        assert len(state) == 706
        attends = {key.removesuffix(".qkv.weight") for key in state if "qkv.weight" in key}
        down = {f"{part}input_blocks.{n}.1" for part in ("", "encoder.") for n in (13, 14)}
        middle = {"middle_block.1", "encoder.middle_block.1"}
        assert attends == down | middle | {f"output_blocks.{n}.1" for n in (3, 4, 5)}


@pytest.mark.parametrize(
    ("blocks", "encoder_blocks", "mult"),
    [(1, 2, [1, 2, 3]), (2, 1, [1, 2, 3]), (3, 1, [2, 1, 2]), (1, 1, [1]), (2, 2, [1, 1, 1])],
)
def test_other_layouts(blocks, encoder_blocks, mult):
    """Down-blocks look like others: levels are told by the way up and by where widths change."""
    wanted = CONFIG | {"base": 32, "blocks": blocks, "encoder_blocks": encoder_blocks}
    wanted |= {"mult": mult, "encoder_mult": [*mult, 3], "attention": [8] * (len(mult) > 1)}
    with torch.device("meta"):
        state, codes = split(DiffAE(**wanted).state_dict())
    assert architecture(state, 16, codes) == wanted


def test_what_shapes_cannot_tell():
    """One level of five blocks, two of two, three of one: an encoder of equal widths."""
    with torch.device("meta"):
        state, _ = split(
            DiffAE(
                **CONFIG
                | {"blocks": 4, "encoder_blocks": 1, "encoder_mult": [1, 1, 1], "attention": []}
            ).state_dict()
        )
    with pytest.raises(
        ValueError, match=r"an encoder whose blocks per level may be any of \[1, 2, 5"
    ):
        architecture(state)


def without(state, *parts):
    return {key: value for key, value in state.items() if not any(part in key for part in parts)}


def test_attention_that_is_not_shared():
    with torch.device("meta"):
        state, _ = split(DiffAE(**CONFIG).state_dict())
        one = without(state, "encoder.input_blocks.3.1")
        up = without(state, "output_blocks.0.1.q")
    with pytest.raises(ValueError, match="a net in which only the U-Net has attention at side 8"):
        architecture(one, 16)
    other = {k: v for k, v in state.items() if not k.startswith("input_blocks.3.1")}
    with pytest.raises(ValueError, match="a net in which only the encoder has attention at side 8"):
        architecture(other, 16)
    assert architecture(up, 16) == CONFIG | {"latent": None}  # and loading tells what is missing


@pytest.fixture
def refused(tmp_path):
    return refuser(load_diffae, tmp_path / "evil.ckpt", most=900)


def edited(state, **changes):
    """A copy; None removes a tensor."""
    copy = dict(state)
    for key, change in changes.items():
        copy.pop(key.replace("__", "."), None)
        if change is not None:
            copy[key.replace("__", ".")] = change
    return copy


OTHERS = {
    "missing": (
        {"out__2__bias": None, "encoder__out__3__bias": None},
        "it lacks 2 (such as encoder.out.3.bias, out.2.bias)",
    ),
    "unknown": ({"middle_block__3__weight": torch.zeros(2)}, "has unknown 1 (such as middle_block"),
    "misshapen": (
        {"out__2__bias": torch.zeros(2), "encoder__out__3__bias": torch.zeros(12, 1)},
        "has misshapen 2 (such as encoder.out.3.bias (12, 1), not (12,), out.2.bias (2,), not (1,)",
    ),
    "all three": (
        {"out__2__bias": torch.zeros(2), "out__2__weight": None, "more": torch.zeros(1)},
        "lacks 1 (such as out.2.weight); it has unknown 1 (such as more); it has misshapen 1 (",
    ),
    "gap": ({"input_blocks__1__0__in_layers__2__weight": None}, "another network, with parts"),
    "no start": ({"input_blocks__0__0__weight": None}, "another network, with parts"),
    "scalar": ({"time_embed__time_embed__2__weight": torch.tensor(1.0)}, "another network"),
    "scalars": (
        {"encoder__input_blocks__1__0__in_layers__2__weight": torch.tensor(1.0)},
        "another",
    ),
    "encoder": (
        {"encoder__input_blocks__2__0__in_layers__2__weight": torch.zeros(9, 8, 3, 3)},
        "an encoder whose levels are irregular",
    ),
    "shallow": (
        {"encoder__input_blocks__2__0__in_layers__2__weight": None},
        "it has unknown 23 (such as encoder.input_blocks.2.0.in_layers.0.bias",
    ),
    "code width": ({"encoder__out__3__weight": torch.zeros(9, 16, 1, 1)}, "not (12, 16, 1, 1)"),
    "uneven": (
        {"input_blocks__3__0__in_layers__2__weight": torch.zeros(12, 8, 3, 3)},
        "widths [8, 12]",
    ),
    "latent": ({"latent_net__layers__0__linear__weight": None}, "another latent_net, with parts"),
    "skips": (
        {"latent_net__layers__1__linear__weight": torch.zeros(20, 20)},
        "latent_net.layers.1.linear.weight (20, 20), not (20, 32)",
    ),
    "twins": (
        {"latent_net__layers__0__cond_layers__1__bias": torch.zeros(20)},
        "latent_net.layers.0.linear_emb.bias and its second name",
    ),
    "NaN": ({"out__2__bias": torch.tensor([torch.nan])}, "out.2.bias has NaN or infinity"),
    "whole": ({"out__2__bias": torch.zeros(1, dtype=torch.int64)}, "of type torch.int64"),
    "empty": ({"input_blocks__0__0__weight": torch.zeros(0, 1, 3, 3)}, "weight is empty"),
    "list": ({"out__2__bias": [1.0]}, "out.2.bias is a list instead of a plain tensor"),
    "stretched": ({"out__2__bias": torch.zeros(1).expand(10**9)}, "larger than its storage"),
    "elsewhere": ({"out__2__bias": torch.zeros(1, device="meta")}, "a tensor on meta"),
    "mean": ({"conds_mean": torch.zeros(1, 9)}, "conds_mean has 9 numbers, not 12"),
    "half": ({"conds_mean": torch.zeros(1, 12)}, "only one of conds_mean and conds_std"),
    "std": ({"conds_mean": torch.zeros(12), "conds_std": -torch.ones(12)}, "is negative"),
    "images": ({"x_T": torch.zeros(1, 1, 16, 8)}, "x_T has shape (1, 1, 16, 8)"),
    "odd": ({"x_T": torch.zeros(1, 1, 17, 17)}, "size: expected a multiple of 2"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("kind", ["trained", "plain"])
def test_other_networks_are_told(refused, averaged, name, kind):
    changes, told = OTHERS[name]
    state = edited(averaged, **changes)
    if kind == "trained":
        away = {k: state.pop(k) for k in ("x_T", "conds_mean", "conds_std") if k in state}
        refused(trained(prefixed(state, "ema_model.") | away), told)
    else:
        refused(new_torch(state), told)


def test_files_of_another_family_are_told(refused, averaged):
    refused(new_torch([1]), "a list instead of a dict of tensors")
    refused(new_torch({}), "another network, with parts []")
    refused(new_torch(nn.Linear(2, 2).state_dict()), "parts ['bias', 'weight']")
    heads = {"ema_classifier.weight": torch.zeros(40, 512), "conds_mean": torch.zeros(1, 512)}
    refused(trained(heads), "another network, with parts ['ema_classifier']")
    refused(trained(prefixed(averaged, "ema_model")), "another network, with parts")
    big = torch.zeros(2**20)  # one storage under so many names that they are more than memory
    refused(new_torch({f"a{i}": big for i in range(1025)}), "tensors of more than 4 GiB together")


@pytest.fixture
def mark(tmp_path):
    """Source code that leaves a mark."""
    return f"__import__('pathlib').Path({str(tmp_path / 'mark')!r}).touch()"


@pytest.mark.parametrize("kind", [old_torch, new_torch])
@pytest.mark.parametrize("where", ["top", "beside", "weight", "callback"])
def test_hostile_files_are_refused(refused, averaged, mark, kind, where):
    for function, told in ((eval, "eval"), (os.system, "system"), (getattr, "getattr")):
        evil = Evil(function, mark)
        held = prefixed(averaged, "ema_model.")
        if where == "top":
            content = kind(evil)
        elif where == "weight":
            content = trained(held | {"ema_model.out.2.bias": evil}, writer=kind)
        elif where == "callback":
            content = trained(held, writer=kind, callbacks={"x": {"y": [evil]}})
        else:
            content = trained(held, writer=kind, args=evil)
        refused(content, "refused to import", told)


@pytest.mark.parametrize("kind", [old_torch, new_torch])
def test_only_trainers_are_tolerated(refused, averaged, kind):
    """A name that only begins like a trainer's is refused, and so is any other library's."""
    held = prefixed(averaged, "ema_model.")
    for library in ("pytorch_lightning_evil", "lightningx", "choices", "os.pytorch_lightning"):
        refused(trained(held, library, kind), "refused to import", library)


def test_trainers_classes_do_nothing(refused, averaged, tmp_path, mark):
    """Called with anything, given any state: nothing comes of it, and nobody asks for it."""

    def called(*args):
        raise AssertionError("called while reading")

    path = "pytorch_lightning.utilities.cli"
    modules = packages(path)
    called.__module__, called.__qualname__, called.__name__ = path, "called", "called"
    modules[path].called = called
    with mock.patch.dict(sys.modules, modules):
        evil = Evil(called, mark, {"a": 1}, state={"__setstate__": mark, "__class__": mark})
        content = trained(prefixed(averaged, "ema_model."), args=evil)
        weight = trained({**prefixed(averaged, "ema_model."), "ema_model.out.2.bias": evil})
    (tmp_path / "x").write_bytes(content)
    with listening() as heard:
        state, _ = read_checkpoint(tmp_path / "x")
    assert not heard
    same(state, split(averaged)[0])
    refused(weight, "out.2.bias is a InertClass instead of a plain tensor")


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("kind", ["old", "new"])
def test_tuples_that_crash_torch_are_refused(refused, name, kind):
    bomb = b"\x80\x02" + BOMBS[name]
    if kind == "new":
        content = repacked(new_torch({}), {"data.pkl": bomb})
    else:
        content = LEGACY + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + bomb
    refused(content, "refused tuples within tuples")


def test_archives_that_lie_are_refused(refused):
    content = new_torch({"a": torch.zeros(1000)})
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(archive.namelist()[0].upper(), b"\x80\x02}.")
    refused(buffer.getvalue(), "two entries of one name")
    refused(repacked(content, {}, zipfile.ZIP_DEFLATED), "a compressed archive")
    # A tensor of which the archive has less than it says: the rest is not there to be read.
    pickled = zipfile.ZipFile(io.BytesIO(content)).read("archive/data.pkl")
    for claimed in (2**20, 2**31 - 1):
        more = pickled.replace(b"M\xe8\x03", b"J" + claimed.to_bytes(4, "little"))
        assert more.count(claimed.to_bytes(4, "little")) == 2  # of the storage, and of the tensor
        refused(repacked(content, {"data.pkl": more}), "torch fails")


def test_too_large_a_file_is_refused(refused, tmp_path):
    with (tmp_path / "evil.ckpt").open("wb") as file:
        file.truncate(LARGEST + 1)  # takes no room on disk
    refused(None, "at most 8 GiB", "8.0 GiB")


@pytest.mark.parametrize("kind", ["new", "old", "safetensors"])
def test_damaged_files(refused, averaged, tmp_path, kind):
    save_file(without(averaged, ".cond_layers."), tmp_path / "x")
    whole = {
        "new": trained(prefixed(averaged, "ema_model.")),
        "old": trained(prefixed(averaged, "ema_model."), writer=old_torch),
        "safetensors": (tmp_path / "x").read_bytes(),
    }[kind]
    for length in (0, 1, 3, 9, 17, 100, len(whole) // 2, len(whole) - 1):
        refused(whole[:length])
    refused(b"\x00" * len(whole))


@pytest.mark.parametrize("content", [b"", b"hello, world", b"\x89PNG\r\n\x1a\n", b"\x80\x04}."])
def test_files_of_another_kind(refused, content):
    refused(content, "a file that begins with" if content else "an empty file")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("encoder.input_blocks.0.0.weight", "encoder"),
        ("encoder.out.3.weight", "encoder"),
        ("input_blocks.0.0.weight", "U-Net"),
        ("out.2.weight", "U-Net"),
        ("latent_net.layers.0.linear.weight", "latent_net"),
    ],
)
def test_weights_that_are_too_large(tmp_path, averaged, name, part):
    """All of them are finite, and what the net makes of an image is not."""
    state = {key: 0.1 * value for key, value in averaged.items()}
    torch.save(state, tmp_path / "x.pt")
    load_diffae(tmp_path / "x.pt", device="cpu")
    state = tied({**state, name: 1e38 * averaged[name].sign()})
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=f"^path: .* come out of its {part}: its w"):
        load_diffae(tmp_path / "x.pt", device="cpu")
