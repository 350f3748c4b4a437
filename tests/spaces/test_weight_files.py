"""Weights under the names that wrappers give them, and StyleGAN2 files without noise images."""

import copy
import io
import json
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import stylegans
import torch
from hostile import new_torch
from safetensors.torch import load_file, save_file
from tiny_ldm import KINDS, stable_diffusion

import cfxnb as cfx
from cfxnb.nets import DiffAE
from cfxnb.spaces import load_diffae, load_ldm, load_stable_diffusion, load_stylegan2
from cfxnb.spaces.checkpoints.safe_loading import plain_name, plain_names
from cfxnb.spaces.checkpoints.stylegan2_files import read_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:null_class. the last of")

REFERENCE = Path(__file__).parents[1] / "reference"
STEM = "diffusion_pytorch_model"

#: What names look like after DataParallel, torch.compile, both, and either of a part.
WRAPPED = {
    "parallel": lambda name: f"module.{name}",
    "compiled": lambda name: f"_orig_mod.{name}",
    "twice": lambda name: f"module.module.{name}",
    "pns": lambda name: f"module._orig_mod.{name}",
    "both, the other way": lambda name: f"_orig_mod.module.{name}",
    "many times": lambda name: "_orig_mod.module." * 5 + name,
    "a part": lambda name: name.replace(".", "._orig_mod.", 1),
    "every part": lambda name: name.replace(".", ".module._orig_mod."),
}
each_wrapper = pytest.mark.parametrize("wrapper", WRAPPED)


def renamed(state, wrapper):
    return {WRAPPED[wrapper](name): value for name, value in state.items()}


def test_plain_names():
    for wrapper in WRAPPED.values():
        assert plain_name(wrapper("input.0.weight")) == "input.0.weight"
    for name in ("modules.0.bias", "my_module.bias", "orig_mod.bias", "a._orig_module.bias"):
        assert plain_name(name) == name
    with pytest.raises(ValueError, match=r"two tensors that are called a\.b"):
        plain_names({"module.a.b": 1, "a.b": 2})


@pytest.fixture(scope="module")
def styles():
    """The state dict of rosinality's, as its training code writes it, without buffers of blurs."""
    read = torch.load(REFERENCE / "stylegan2_r32.pt", weights_only=True)
    return read["g_ema"], {k: v for k, v in read.items() if k != "g_ema"}


def images_of(space):
    return space.decode(space.sample(3))


@each_wrapper
def test_wrapped_stylegan2(tmp_path, styles, wrapper):
    state, others = styles
    torch.save({"g_ema": renamed(state, wrapper), **others}, tmp_path / "x.pt")
    wanted = load_stylegan2(REFERENCE / "stylegan2_r32.pt", device="cpu")
    found = load_stylegan2(tmp_path / "x.pt", device="cpu")
    torch.testing.assert_close(images_of(found), images_of(wanted), rtol=0, atol=0)
    save_file(renamed(read_checkpoint(tmp_path / "x.pt"), wrapper), tmp_path / "x.safetensors")
    found = load_stylegan2(tmp_path / "x.safetensors", device="cpu")
    torch.testing.assert_close(images_of(found), images_of(wanted), rtol=0, atol=0)


def test_names_that_become_one(tmp_path, styles):
    state, others = styles
    torch.save({"g_ema": {**state, "module.input.input": torch.zeros(1, 24, 4, 4)}, **others},
               tmp_path / "x.pt")  # fmt: skip
    with pytest.raises(ValueError, match=r"^path: .* two tensors that are called synthesis\.b4\."):
        load_stylegan2(tmp_path / "x.pt", device="cpu")


DIFFAE = {"size": 16, "base": 8, "dims": 8, "blocks": 1, "encoder_blocks": 1}


@each_wrapper
def test_wrapped_diffae(tmp_path, wrapper):
    state = DiffAE(**DIFFAE).state_dict()
    torch.save(renamed(state, wrapper), tmp_path / "x.pt")
    save_file(renamed(state, wrapper), tmp_path / "x.safetensors")
    trained = {f"model.{k}": torch.zeros(1) for k in state} | {
        f"ema_model.{k}": v for k, v in state.items()
    }
    torch.save({"state_dict": renamed(trained, wrapper)}, tmp_path / "x.ckpt")
    inner = {f"ema_model.{k}": v for k, v in renamed(state, wrapper).items()}
    torch.save({"state_dict": inner}, tmp_path / "inner.ckpt")
    for name in ("x.pt", "x.safetensors", "x.ckpt", "inner.ckpt"):
        net = load_diffae(tmp_path / name, device="cpu").net
        assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items()), name


@pytest.mark.parametrize("wrapper", ["compiled", "pns", "every part"])
@pytest.mark.parametrize("kind", ["labelled, kl", "vectors, vq", "labelled, tiny"])
def test_wrapped_parts_of_a_folder(tmp_path, kind, wrapper):
    place = KINDS[kind](tmp_path)
    wanted = load_ldm(place, device="cpu").state_dict()
    for file in place.rglob(f"{STEM}.safetensors"):
        save_file(renamed(load_file(file), wrapper), file)
    before = torch.get_rng_state()
    found = load_ldm(place, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert {p.dtype for p in found.parameters()} == {torch.float32}
    found = found.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@each_wrapper
def test_wrapped_text_encoders(tmp_path, wrapper):
    place = stable_diffusion(tmp_path)
    wanted = load_stable_diffusion(place, device="cpu").encode_condition(["red", "blue"])
    file = place / "text_encoder" / "model.safetensors"
    save_file(renamed(load_file(file), wrapper), file, {"format": "pt"})
    found = load_stable_diffusion(place, device="cpu").encode_condition(["red", "blue"])
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    state = load_file(file)
    state.pop(max(state))
    save_file(state, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"^path: .* text_encoder has 1 missing tensors"):
        load_stable_diffusion(place, device="cpu")


BOM = "\ufeff".encode()


@pytest.mark.parametrize(
    "file", ["unet/config.json", "vae/config.json", "text_encoder/config.json",
             "tokenizer/tokenizer_config.json"]
)  # fmt: skip
def test_a_byte_order_mark_that_libraries_do_not_know(tmp_path, file):
    place = stable_diffusion(tmp_path)
    (place / file).write_bytes(BOM + (place / file).read_bytes())
    with pytest.raises(ValueError, match=rf"^path: .*{file} is damaged \(a byte order mark"):
        load_stable_diffusion(place, device="cpu")


@pytest.mark.parametrize("file", ["model_index.json", "scheduler/scheduler_config.json"])
def test_a_byte_order_mark_that_does_no_harm(tmp_path, file):
    place = stable_diffusion(tmp_path)
    (place / file).write_bytes(BOM + (place / file).read_bytes())
    load_stable_diffusion(place, device="cpu")


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_wrapped_parts_are_complete(tmp_path, change):
    place = KINDS["labelled, kl"](tmp_path)
    file = place / "unet" / f"{STEM}.safetensors"
    state = load_file(file)
    if change == "missing":
        state.pop("conv_in.bias")
    else:
        state["more"] = torch.zeros(1)
    save_file(renamed(state, "compiled"), file)
    with pytest.raises(ValueError, match=f"^path: .* unet has 1 {change} tensors"):
        load_ldm(place, device="cpu")


# -- StyleGAN2 without fixed noise images


def without_noise(state):
    return {k: v for k, v in state.items() if not k.startswith("noises.")}


def test_noise_images_are_drawn_where_there_are_none(tmp_path, styles):
    """As in training files: always the same, whatever torch's random numbers are."""
    state, others = styles
    torch.save({"g_ema": without_noise(state), **others}, tmp_path / "550000.pt")
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        with pytest.warns(UserWarning, match=r"^path: 550000\.pt has no fixed noise .*drew 7"):
            space = load_stylegan2(tmp_path / "550000.pt", device="cpu")
        assert torch.equal(torch.get_rng_state(), before)
        found.append(space)
    torch.testing.assert_close(images_of(found[0]), images_of(found[1]), rtol=0, atol=0)
    noises = [v for k, v in found[0].net.state_dict().items() if k.endswith("noise_const")]
    assert len(noises) == 7
    for noise in noises[1:]:
        assert 0.7 < noise.std() < 1.3
        assert abs(noise.mean()) < 0.3
    assert len({noise.flatten()[0].item() for noise in noises}) == 7
    whole = load_stylegan2(REFERENCE / "stylegan2_r32.pt", device="cpu")
    for name, value in whole.net.state_dict().items():
        if not name.endswith("noise_const"):
            assert torch.equal(found[0].net.state_dict()[name], value), name


@pytest.mark.filterwarnings("error")
def test_stored_noise_images_are_kept_without_a_word(tmp_path, styles):
    state, others = styles
    torch.save({"g_ema": state, **others}, tmp_path / "x.pt")
    net = load_stylegan2(tmp_path / "x.pt", device="cpu").net
    assert torch.equal(net.blocks[0].conv1.noise_const, state["noises.noise_0"][0, 0])


def test_some_noise_images_are_too_few(tmp_path, styles):
    state, others = styles
    some = {k: v for k, v in state.items() if k != "noises.noise_3"}
    torch.save({"g_ema": some, **others}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"^path: .* it lacks 1 .* such as synthesis\.b16\.conv0"):
        load_stylegan2(tmp_path / "x.pt", device="cpu")


@pytest.mark.parametrize("kind", ["safetensors", "pickle"])
def test_other_formats_without_noise_images(tmp_path, kind):
    state = {k: v for k, v in stylegans.generator().state_dict().items() if "noise_const" not in k}
    if kind == "pickle":
        (tmp_path / "x").write_bytes(stylegans.dumps(state))
    else:
        save_file(state, tmp_path / "x")
    with pytest.warns(UserWarning, match="no fixed noise images; drew 5"):
        space = load_stylegan2(tmp_path / "x", device="cpu")
    assert images_of(space).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.complex64])
def test_styles_of_no_floats(tmp_path, dtype):
    state = {k: v.clone() for k, v in stylegans.generator().state_dict().items()}
    state["mapping.fc0.weight"] = state["mapping.fc0.weight"].to(dtype)
    torch.save({"g_ema": {}}, tmp_path / "empty.pt")
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"^path: .* mapping\.fc0\.weight is of type torch"):
        load_stylegan2(tmp_path / "x.safetensors", device="cpu")


def test_a_latent_space_that_is_too_wide(tmp_path):
    """A few bytes each, but thousands of codes of it are drawn to measure the space."""
    state = {k: v.clone() for k, v in stylegans.generator().state_dict().items()}
    state["mapping.fc0.weight"] = torch.zeros(12, 100_000)
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"^path: .* latent spaces of 100000 and 12 numbers, more"):
        load_stylegan2(tmp_path / "x.safetensors", device="cpu")


# -- archives and headers


def test_entries_that_share_their_bytes(tmp_path):
    """A hundred names for the same numbers, which would be read a hundred times."""
    raw = io.BytesIO(new_torch({"g_ema": torch.zeros(1000)}))
    with zipfile.ZipFile(raw, "a") as archive:
        (numbers,) = (entry for entry in archive.filelist if entry.filename.endswith("data/0"))
        for n in range(1, 100):
            twin = copy.copy(numbers)
            twin.filename = twin.orig_filename = numbers.filename[:-1] + str(n)
            archive.filelist.append(twin)
        archive.writestr("archive/more", b"")  # so that the directory is written anew
    (tmp_path / "x.pt").write_bytes(raw.getvalue())
    for load in (load_stylegan2, load_diffae):
        with pytest.raises(ValueError, match=r"^path: expected .*entries are larger than the file"):
            load(tmp_path / "x.pt", device="cpu")


@pytest.mark.parametrize("load", [load_stylegan2, load_diffae])
def test_headers_that_are_too_large(tmp_path, load):
    """It would be read as a whole, before anything else is known."""
    length = 2**25
    (tmp_path / "x").write_bytes(length.to_bytes(8, "little") + b"{" + b" " * (length - 1))
    with pytest.raises(ValueError, match=r"^path: expected .*a header of more than 16 MiB"):
        load(tmp_path / "x", device="cpu")


# -- texts under another locale


def test_folders_under_another_locale(tmp_path):
    """Configs are UTF-8, whatever the locale is, and so are the words of a tokenizer."""
    place = stable_diffusion(tmp_path)
    for name in ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json"):
        config = json.loads((place / name).read_text())
        text = json.dumps({**config, "_name_or_path": "Müller/模型”"}, ensure_ascii=False)
        (place / name).write_text(text, encoding="utf-8")
    code = (
        "import sys; from cfxnb.spaces import load_stable_diffusion as load;"
        "print(tuple(load(sys.argv[1], device='cpu').mean.shape))"
    )
    root = str(Path(cfx.__file__).parents[1])
    locale = {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": root}
    told = subprocess.run(
        [sys.executable, "-c", code, str(place)], env=locale, capture_output=True, check=False
    )
    assert b"(4, 8, 8)" in told.stdout, told.stderr.decode()[-500:]


def test_no_text_is_read_or_written_in_the_encoding_of_the_locale():
    """Nowhere in the package is the encoding left out."""
    sources = Path(cfx.__file__).parent.rglob("*.py")
    calls = ("read_text(", "write_text(", "open(")
    for path in sources:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            text = any(call in line for call in calls[:2]) and "def " not in line
            assert not text or "encoding=" in line, f"{path}, line {number}"
            named = ' open("' in line or line.strip().startswith("open(")
            assert not named or "encoding=" in line or '"rb' in line, f"{path}, line {number}"


# -- what is where a folder or a file should be


LOADERS = [load_ldm, load_stable_diffusion, load_diffae, load_stylegan2]


@pytest.mark.parametrize("load", LOADERS)
def test_what_is_not_there(tmp_path, load, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "null").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "pipe")
    told = {
        "link": "a link to nothing",
        "loop": "symbolic links",
        "null": "a device, pipe or socket",
        "pipe": "a device, pipe or socket",
        "file/inside": "Not a directory",
        "nothing": "nothing there",
        "a" * 300: "File name too long",
    }
    for name, cause in told.items():
        for path in (tmp_path / name, f"~/{name}"):
            with pytest.raises(ValueError, match=rf"^path: expected .*: .*{cause}"):
                load(path, device="cpu")
    empty = "a file" if load in LOADERS[:2] else "an empty file"
    with pytest.raises(ValueError, match=f"^path: expected .*: {empty}"):
        load(tmp_path / "file", device="cpu")


@pytest.mark.parametrize("load", LOADERS)
def test_permission_denied(tmp_path, load, monkeypatch):
    (tmp_path / "there").write_bytes(b"PK\x03\x04")

    def denied(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", denied)
    with pytest.raises(ValueError, match=r"^path: expected .*there': Permission denied"):
        load(tmp_path / "there", device="cpu")
    monkeypatch.undo()
    if load in LOADERS[2:]:
        monkeypatch.setattr(Path, "open", denied)
        with pytest.raises(ValueError, match=r"^path: expected .*Permission denied"):
            load(tmp_path / "there", device="cpu")


@pytest.mark.parametrize("file", ["unet/config.json", f"unet/{STEM}.safetensors"])
@pytest.mark.parametrize("kind", ["folder", "link", "pipe", "null", "denied"])
def test_files_in_a_folder_that_are_none(tmp_path, monkeypatch, file, kind):
    place = KINDS["labelled, tiny"](tmp_path)
    (place / file).unlink()
    told = "a device, pipe or socket"
    if kind == "folder":
        (place / file).mkdir()
        told = "a folder"
    elif kind == "link":
        (place / file).symlink_to("nowhere")
        told = f"no {file} in it"
    elif kind == "pipe":
        os.mkfifo(place / file)
    elif kind == "null":
        (place / file).symlink_to("/dev/null")
    else:
        (place / file).write_bytes(b"{}")
        told = "Permission denied"
        right = Path.stat

        def stat(self, **knobs):
            if self == place / file:
                raise PermissionError(13, "Permission denied", str(self))
            return right(self, **knobs)

        monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(ValueError, match=rf"^path: expected .*{file}.*") as caught:
        load_ldm(place, device="cpu")
    assert told in str(caught.value)


def test_of_a_file_and_an_index_the_one_that_is_used_is_checked(tmp_path):
    """diffusers takes the index; it must not be one that leads out of the folder."""
    place = KINDS["labelled, tiny"](tmp_path)
    index = place / "unet" / f"{STEM}.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {"a": "../vae/diffusion_pytorch_model.safetensors"}})
    )
    with pytest.raises(ValueError, match=r"index\.json is damaged \(no names of files\)"):
        load_ldm(place, device="cpu")


@pytest.mark.parametrize("load", LOADERS[2:])
def test_the_home_folder(tmp_path, monkeypatch, styles, load):
    monkeypatch.setenv("HOME", str(tmp_path))
    if load is load_diffae:
        torch.save(DiffAE(**DIFFAE).state_dict(), tmp_path / "x.pt")
    else:
        torch.save({"g_ema": styles[0], **styles[1]}, tmp_path / "x.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load("~/x.pt", device="cpu").mean.isfinite().all()


def test_the_home_folder_with_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    KINDS["labelled, tiny"](tmp_path / "model")
    assert load_ldm("~/model", device="cpu").mean.shape == (4, 8, 8)
    assert load_ldm(Path("~") / "model", device="cpu").mean.shape == (4, 8, 8)
