"""A LoRA merged into the weights: W + scale * alpha / rank * up @ down, however it is named."""

import json

import pytest
import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from safetensors.torch import save_file
from tiny_ldm import CLASSES, stable_diffusion
from tiny_pipelines import pixels, plain, transformer

from cfxnb.spaces import load_diffusers

pytestmark = pytest.mark.filterwarnings("ignore:null_class. the last of")

RANK = 2
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
MODULES = (f"{ATTENTION}.to_q", f"{ATTENTION}.to_out.0", "down_blocks.0.attentions.0.proj_in",
           "down_blocks.0.resnets.0.conv1")  # fmt: skip
WORDS = "encoder.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return stable_diffusion(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def before(folder):
    return load_diffusers(folder, device="cpu")


def factors(weight, seed=0):
    """Random factors for a weight, of a linear layer or a convolution."""
    draw = torch.Generator().manual_seed(seed)
    down = torch.randn(RANK, *weight.shape[1:], generator=draw)
    up = torch.randn(len(weight), RANK, *[1] * (weight.ndim - 2), generator=draw)
    return down, up


def change(down, up):
    return torch.einsum("or,r...->o...", up.flatten(1), down)


def texts(space):
    """The names of the text encoder's modules differ between versions of transformers."""
    names = dict(space.conditions.encoder.named_parameters())
    return next(name.removesuffix(".weight") for name in names if WORDS in name)


def peft(module, down, up):
    return {f"unet.{module}.lora_A.weight": down, f"unet.{module}.lora_B.weight": up}


def bare_peft(module, down, up):
    start = f"base_model.model.{module}"
    return {f"{start}.lora_A.weight": down, f"{start}.lora_B.weight": up}


def older(module, down, up):
    if ".attn" in module:  # the layers were in a processor
        start, end = module.removesuffix(".0").rsplit(".", 1)
        start = f"unet.{start}.processor.{end}_lora"
    else:
        start = f"unet.{module}.lora"
    return {f"{start}.down.weight": down, f"{start}.up.weight": up}


def kohya(module, down, up):
    start = f"lora_unet_{module.replace('.', '_')}"
    alpha = torch.tensor(float(RANK))
    return {
        f"{start}.lora_down.weight": down,
        f"{start}.lora_up.weight": up,
        f"{start}.alpha": alpha,
    }


@pytest.mark.parametrize("named", [peft, bare_peft, older, kohya])
def test_weights_change_by_the_product_of_the_factors(folder, before, tmp_path, named):
    tensors, wanted = {}, {}
    for i, module in enumerate(MODULES):
        weight = before.net.get_parameter(f"{module}.weight")
        down, up = factors(weight, i)
        tensors |= named(module, down, up)
        wanted[f"{module}.weight"] = weight + 0.5 * change(down, up)
    save_file(tensors, tmp_path / "some.safetensors")
    space = load_diffusers(folder, device="cpu", lora=tmp_path / "some.safetensors", lora_scale=0.5)
    for name, value in before.net.named_parameters():
        found = space.net.get_parameter(name)
        torch.testing.assert_close(found, wanted.get(name, value), rtol=1e-5, atol=1e-6)
    z, t = torch.ones(1, 4, 8, 8), torch.tensor([500])
    own = [s.predict_noise(z, t, s.encode_condition(["red"])) for s in (before, space)]
    assert (own[0] - own[1]).abs().max() > 1e-3
    assert not space.training
    assert not any(p.requires_grad for p in space.parameters())


def test_as_diffusers_saves_it(folder, before, tmp_path):
    """With the text encoder, and with alpha in the header of the file."""
    weight = before.net.get_parameter(f"{MODULES[0]}.weight")
    word = before.conditions.encoder.get_parameter(f"{texts(before)}.weight")
    (down, up), (down_word, up_word) = factors(weight), factors(word, 1)
    StableDiffusionLoraLoaderMixin.save_lora_weights(
        tmp_path,
        unet_lora_layers={
            f"{MODULES[0]}.lora_A.weight": down,
            f"{MODULES[0]}.lora_B.weight": up,
        },
        text_encoder_lora_layers={
            f"{texts(before)}.lora_A.weight": down_word,
            f"{texts(before)}.lora_B.weight": up_word,
        },
        unet_lora_adapter_metadata={"r": RANK, "lora_alpha": 8},
    )
    space = load_diffusers(folder, device="cpu", lora=tmp_path)  # the folder of the file
    found = space.net.get_parameter(f"{MODULES[0]}.weight")
    torch.testing.assert_close(found, weight + 8 / RANK * change(down, up))
    found = space.conditions.encoder.get_parameter(f"{texts(before)}.weight")
    torch.testing.assert_close(found, word + change(down_word, up_word))


def test_alpha_beside_the_file_or_in_it(folder, before, tmp_path):
    weight = before.net.get_parameter(f"{MODULES[0]}.weight")
    down, up = factors(weight)
    save_file(bare_peft(MODULES[0], down, up), tmp_path / "adapter_model.safetensors")
    for config, factor in (
        ({"lora_alpha": 6}, 6 / RANK),
        ({"lora_alpha": 6, "use_rslora": True}, 6 / RANK**0.5),
    ):
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        space = load_diffusers(folder, device="cpu", lora=tmp_path)
        found = space.net.get_parameter(f"{MODULES[0]}.weight")
        torch.testing.assert_close(found, weight + factor * change(down, up))
    alpha = {f"unet.{MODULES[0]}.alpha": torch.tensor(3.0)}
    save_file(peft(MODULES[0], down, up) | alpha, tmp_path / "one.safetensors")
    space = load_diffusers(folder, device="cpu", lora=tmp_path / "one.safetensors")
    found = space.net.get_parameter(f"{MODULES[0]}.weight")
    torch.testing.assert_close(found, weight + 3 / RANK * change(down, up))
    none = load_diffusers(folder, device="cpu", lora=tmp_path / "one.safetensors", lora_scale=0.0)
    assert torch.equal(none.net.get_parameter(f"{MODULES[0]}.weight"), weight)


@pytest.mark.parametrize(
    ("build", "module"),
    [
        (transformer, "transformer.transformer_blocks.0.attn1.to_q"),
        (lambda f: plain(f, pixels(CLASSES + 1)), "unet.mid_block.attentions.0.to_q"),
    ],
)
def test_other_kinds_take_a_lora_too(tmp_path, build, module):
    place = build(tmp_path / "model")
    plainly = load_diffusers(place, device="cpu")
    name = f"{module.partition('.')[2]}.weight"
    weight = plainly.net.get_parameter(name)
    down, up = factors(weight)
    save_file(
        {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up},
        tmp_path / "lora.safetensors",
    )
    space = load_diffusers(place, device="cpu", lora=tmp_path / "lora.safetensors")
    torch.testing.assert_close(space.net.get_parameter(name), weight + change(down, up))


A, B = f"unet.{MODULES[0]}.lora_A.weight", f"unet.{MODULES[0]}.lora_B.weight"
WRONG = {
    "another model": (
        {"unet.elsewhere.lora_A.weight": (2, 8), "unet.elsewhere.lora_B.weight": (8, 2)},
        r"changes elsewhere, which unet of this model doesn't have",
    ),
    "one factor": ({A: (2, 8)}, "lacks a factor of down_blocks"),
    "rank": ({A: (2, 8), B: (8, 3)}, r"shapes \(2, 8\) and \(8, 3\), which don't fit the weight"),
    "width": ({A: (2, 9), B: (8, 2)}, "which don't fit the weight"),
    "no rank": ({A: (0, 8), B: (8, 0)}, "which don't fit the weight"),
    "LoHa": ({f"lora_unet_{MODULES[0]}.hada_w1_a": (2, 8)}, "no factor of a LoRA"),
    "DoRA": (
        {A: (2, 8), B: (8, 2), f"unet.{MODULES[0]}.lora_magnitude_vector": (8,)},
        "no factor of a LoRA",
    ),
    "a whole model": ({"conv_in.weight": (8, 4, 3, 3)}, "no factor of a LoRA"),
    "nothing": ({}, "holds no tensors"),
    "another encoder": (
        {"text_encoder_2.a.lora_A.weight": (2, 8), "text_encoder_2.a.lora_B.weight": (8, 2)},
        "changes text_encoder_2, which this model doesn't have",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_named(folder, tmp_path, kind):
    shapes, message = WRONG[kind]
    file = tmp_path / "lora.safetensors"
    save_file({name: torch.ones(shape) for name, shape in shapes.items()}, file)
    with pytest.raises(ValueError, match=rf"lora: expected a LoRA .*{message}"):
        load_diffusers(folder, device="cpu", lora=file)


def test_files_that_can_not_be_read(folder, tmp_path):
    (tmp_path / "lora.bin").write_bytes(b"1")
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 20)
    down, up = torch.full((2, 8), torch.nan), torch.ones(8, 2)
    save_file({A: down, B: up}, tmp_path / "nan.safetensors")
    for path, message in (
        (tmp_path / "none", "nothing there"),
        (tmp_path / "lora.bin", "no safetensors file"),
        (tmp_path / "cut.safetensors", "is damaged"),
        (tmp_path / "nan.safetensors", "NaN or infinity in unet"),
        (tmp_path, "a folder with 2 safetensors files"),
    ):
        with pytest.raises(ValueError, match=f"lora: expected a LoRA .*{message}"):
            load_diffusers(folder, device="cpu", lora=path)
    with pytest.raises(TypeError, match="lora: expected a LoRA"):
        load_diffusers(folder, device="cpu", lora=3)
