"""Configs of models that ask for too much, or hold what is no such number: refused at once.

Each is a few lines of text; what is asked for would take gigabytes, or never end.
"""

import json
import math
import resource
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_ldm import KINDS, TEXT, looking, stable_diffusion, table, tiny, write
from torch import nn

from cfxnb.spaces import load_ldm, load_stable_diffusion
from cfxnb.spaces.checkpoints.configs import at_most, check_fit, declared, fits
from cfxnb.spaces.checkpoints.schedulers import TIMES

pytestmark = pytest.mark.filterwarnings("ignore:null_class. the last of")

UNET, VAE, VQ = "unet/config.json", "vae/config.json", "vqvae/config.json"
TIMED, WORDS = "scheduler/scheduler_config.json", "text_encoder/config.json"
TOKENS = "tokenizer/tokenizer_config.json"
NAN, INF = math.nan, math.inf
HUGE = 10**400  # no float can hold it
DEEP = b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
MOST = 300  # MiB


def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders by kind, in which one file at a time is changed."""
    makers = {**KINDS, "texts": stable_diffusion}
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = makers[kind](tmp_path_factory.mktemp("ldm"))
            load(kind)(made[kind], device="cpu")
        return made[kind]

    return get


def load(kind):
    return load_stable_diffusion if kind == "texts" else load_ldm


@pytest.fixture
def refused(folders):
    """Asserts that a folder in which one file was changed is refused, soon and in little memory."""

    def check(kind, file, change, *told):
        place = folders(kind)
        sound = (place / file).read_bytes()
        (place / file).write_bytes(change(sound))
        began, before = time.process_time(), memory()
        try:
            with pytest.raises(ValueError, match=r"^path: expected a latent diffusion") as caught:
                load(kind)(place, device="cpu")
        except pytest.fail.Exception:
            pytest.fail(f"{file} was read with {change(sound)[:2000]}")
        finally:
            (place / file).write_bytes(sound)
        message = str(caught.value)
        assert [part for part in (file.split("/")[0], *told) if part not in message] == [], message
        assert len(message) < 800
        assert time.process_time() - began < 10
        assert memory() - before < MOST

    return check


def field(name, value):
    return lambda raw: json.dumps(json.loads(raw) | {name: value}).encode()


ODD = (NAN, INF, -INF, HUGE, 10**30, True, "8", [], {}, [[1]], [None])
SIZES = (*ODD, 10**9, 10**6, -1, 0)
FACTORS = (*ODD, 10**9, -1, 0, -0.5)
CASES = {
    ("labelled, kl", UNET): {
        "sample_size": [
            *ODD,
            30_000,
            [30_000, 30_000],
            [8, 8, 8],
            [8],
            0,
            -8,
            8.5,
            [8, "8"],
            10**9,
        ],
        "block_out_channels": [*ODD, 16, [10**9] * 2, [8, 10**5], [10**6] * 2, [-8, 16], [8, NAN]],
        "layers_per_block": [*SIZES, 10**5],
        "in_channels": SIZES,
        "out_channels": SIZES,
        "num_class_embeds": SIZES,
        "norm_num_groups": SIZES,
        "attention_head_dim": SIZES,
        "time_embedding_dim": SIZES,
        "norm_eps": [*FACTORS, 2],
        "mid_block_scale_factor": FACTORS,
        "dropout": [*ODD, 10**9, -1],
        "downsample_padding": [*ODD, 10**6, 100, -1],
        "freq_shift": [*ODD, 10**9, 0.5, 4],  # of 4, a division by 0
        "flip_sin_to_cos": ["false", 0, 1, None, [], NAN],
        "add_attention": ["false", 0, 1, None, [], NAN],
        "down_block_types": [*ODD, ["No", "No"], ["DownBlock2D"] * 10_000, "DownBlock2D"],
        "time_embedding_type": [None, 3, True, [], "unheard-of", "learned", "fourier"],
        "act_fn": [None, 3, True, [], "unheard-of"],
        "quantization_config": [{"quant_method": "bitsandbytes"}, 3],
        "_class_name": [None, 3, [], {}, "UNet3DConditionModel", "x" * 10_000],
    },
    ("labelled, kl", VAE): {
        "block_out_channels": [*ODD, 16, [10**9] * 2, [8, 10**5], [10**6] * 2, [8, 16, 16]],
        "layers_per_block": [*SIZES, 10**5],
        "latent_channels": SIZES,
        "in_channels": SIZES,
        "out_channels": SIZES,
        "norm_num_groups": SIZES,
        "scaling_factor": FACTORS,
        "shift_factor": [NAN, INF, HUGE, True, "0", []],
        "latents_mean": [*ODD, [0.1] * 3, [0.1] * 4, [NAN] * 4],
        "latents_std": [*ODD, [0.1] * 3, [0.1] * 4, [0.0] * 4],
        "sample_size": [NAN, HUGE, 10**9, True, "8", 0],
        "use_quant_conv": ["false", 0, 1, None, []],
    },
    ("labelled, vq", VQ): {
        "num_vq_embeddings": SIZES,
        "vq_embed_dim": SIZES,
        "mid_block_add_attention": ["false", 0, None],  # declared without a type
        "norm_type": [3, None, []],
    },
    ("labelled, tiny", VAE): {
        "encoder_block_out_channels": [*ODD, [10**9] * 2, [8, 10**6]],
        "num_encoder_blocks": [*ODD, [10**9, 1], [10**6, 1], [1, 10**5]],
        "out_channels": [*SIZES, 10**5],  # diffusers raises 2 to this power
        "upsampling_scaling_factor": [*SIZES, 3, 100],
    },
    ("vectors, kl", UNET): {
        "cross_attention_dim": [*SIZES, [TEXT, TEXT + 1]],
        "transformer_layers_per_block": [NAN, HUGE, 10**9, 10**6, True, "1", [[10**6]]],
        "conv_in_kernel": SIZES,
        "resnet_out_scale_factor": FACTORS,
        "num_class_embeds": [4, 10**6],  # classes would be told twice
    },
    ("labelled, kl", TIMED): {
        "num_train_timesteps": [*ODD, 5e8, 5 * 10**8, TIMES + 1, 1, 0, -1, None],
        "beta_start": [*FACTORS, 1, 1.5, None],
        "beta_end": [*FACTORS, 1, 1.5, None],
        "trained_betas": ["x", 5, True, {}, [[0.1]], ["a"], [NAN] * 1000, [0.1] * (TIMES + 1)],
        "beta_schedule": [None, 3, [], {}, "unheard-of"],
        "prediction_type": [None, 3, [], {}, "unheard-of"],
        "rescale_betas_zero_snr": ["false", 0, 1, None, []],
    },
    ("texts", WORDS): {
        "vocab_size": SIZES,
        "hidden_size": SIZES,
        "intermediate_size": SIZES,
        "num_hidden_layers": [*SIZES, 10**5],
        "num_attention_heads": [*SIZES, 5],
        "max_position_embeddings": SIZES,
        "hidden_act": [None, 3, [], "unheard-of"],
        "layer_norm_eps": FACTORS,
        "architectures": [None, 3, {}, "CLIPTextModel", ["CLIPTextModel"] * 2],
    },
    ("texts", TOKENS): {"model_max_length": [NAN, True, "8", [], {}, 0, -1, 0.5]},
}


@pytest.mark.parametrize("place", CASES, ids=" ".join)
def test_wrong_numbers_are_refused(refused, place):
    quiet = {"_class_name", "architectures", "quantization_config"}  # named in other words
    for name, values in CASES[place].items():
        for value in values:
            odd = type(value) in (float, bool) or value in (10**30, HUGE, 10**9, "8", None)
            told = [name] if odd and name not in quiet else []
            refused(*place, field(name, value), *told)


@pytest.mark.parametrize(
    ("kind", "file", "name", "value"),
    [
        ("labelled, kl", TIMED, "num_train_timesteps", 500_000_000),
        ("labelled, kl", UNET, "sample_size", 30_000),
        ("labelled, kl", UNET, "block_out_channels", [10**9, 10**9]),
        ("labelled, kl", UNET, "layers_per_block", 100_000),
        ("labelled, kl", TIMED, "beta_start", NAN),
        ("labelled, kl", TIMED, "beta_end", -0.1),
        ("labelled, kl", TIMED, "num_train_timesteps", True),
        ("texts", WORDS, "vocab_size", 10**6),
        ("texts", WORDS, "num_hidden_layers", 10**6),
        ("vectors, kl", UNET, "cross_attention_dim", 10**6),
        ("labelled, vq", VQ, "num_vq_embeddings", 10**6),
        ("labelled, kl", UNET, "act_fn", "unheard-of"),
        ("labelled, kl", VAE, "quantization_config", {"quant_method": "gguf"}),
    ],
)
def test_the_field_is_named(refused, kind, file, name, value):
    refused(kind, file, field(name, value), file, name)


FILES = {
    "labelled, kl": ["model_index.json", UNET, VAE, TIMED],
    "texts": [WORDS, TOKENS, "tokenizer/tokenizer.json"],
}
CONTENT = {
    "deep": (DEEP, "nested"),
    "less deep": (DEEP[:306] + b"]" * 300 + b"}", "nested deeper"),
    "a long number": (b'{"a": ' + b"9" * 10_000 + b"}", "digits"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    "Latin-1": (b'{"a": "\xe4"}', "not UTF-8"),
    "empty": (b"", "Expecting"),
    "cut": (b'{"a": ', "Expecting"),
    "a list": (b"[]", "a list"),
    "null": (b"null", "NoneType"),
}


@pytest.mark.parametrize("content", CONTENT)
@pytest.mark.parametrize(
    ("kind", "file"), [(kind, file) for kind, files in FILES.items() for file in files]
)
def test_files_that_are_no_config(refused, kind, file, content):
    raw, told = CONTENT[content]
    refused(kind, file, lambda _: raw, f"{file} is damaged", told)


@pytest.mark.parametrize("kind", ["labelled, kl", "texts"])
def test_what_does_no_harm(folders, kind):
    """Names that come twice, a mark of the byte order, letters of all languages, unknown fields."""
    place = folders(kind)
    file = place / UNET
    sound = file.read_bytes()
    more = b'{"_name_or_path": "M\xc3\xbcller \xe6\xa8\xa1", "unknown": 1e999, "sample_size": 3, '
    file.write_bytes(more + sound.lstrip()[1:])
    try:
        assert load(kind)(place, device="cpu").mean.shape == (4, 8, 8)
    finally:
        file.write_bytes(sound)


def test_words_beyond_those_of_the_encoder(folders):
    """Their numbers, not only how many they are: rows of a table that is not that long."""
    place = folders("texts")
    file = place / "tokenizer" / "tokenizer.json"
    sound = file.read_text(encoding="utf-8")
    for number in (195, 10**6, 2**31):
        whole = json.loads(sound)
        vocab = whole["model"]["vocab"]
        vocab[max(vocab, key=vocab.get)] = number
        whole["added_tokens"] = []
        file.write_text(json.dumps(whole), encoding="utf-8")
        with pytest.raises(ValueError, match=r"^path: expected .*tokenizer"):
            load_stable_diffusion(place, device="cpu")
    file.write_text(sound, encoding="utf-8")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.int64])
def test_weights_that_are_no_floats(folders, dtype):
    """Quantised weights without their scales would be taken for weights."""
    place = folders("labelled, kl") / "unet" / "diffusion_pytorch_model.safetensors"
    sound = place.read_bytes()
    state = load_file(place)
    state["conv_in.weight"] = state["conv_in.weight"].to(dtype)
    save_file(state, place)
    with pytest.raises(ValueError, match=r"^path: .*conv_in\.weight holds .* instead of floats"):
        load_ldm(place.parents[1], device="cpu")
    place.write_bytes(sound)


def test_half_precision_is_read(tmp_path):
    place = write(tmp_path, looking(4), tiny(), vectors=table().half())
    file = place / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({key: value.half() for key, value in load_file(file).items()}, file)
    space = load_ldm(place, device="cpu")
    assert {p.dtype for p in space.parameters()} == {torch.float32}
    assert space.conditions.table.dtype == torch.float32


def test_a_table_of_no_floats(tmp_path):
    place = write(tmp_path, looking(4), tiny(), vectors=table().long())
    with pytest.raises(ValueError, match=r"class_embedder.* holds I64 instead of floats"):
        load_ldm(place, device="cpu")


def test_random_numbers_are_left_alone(folders):
    for kind in ("labelled, kl", "texts"):
        place, before = folders(kind), torch.get_rng_state()
        load(kind)(place, device="cpu")
        assert torch.equal(torch.get_rng_state(), before)


# -- the parts


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (int, [0, -3, 7, 10**6], [True, 1.0, "1", None, [1], 10**6 + 1, NAN]),
        (float, [0, 1.5, -2], [True, "1", None, NAN, INF, HUGE, 1e7]),
        (bool, [True, False], [0, 1, "true", None]),
        (str, ["", "a"], [0, None, ["a"]]),
        (int | None, [None, 3], [True, 1.5, "3"]),
        (tuple[int, ...], [[], [1, 2]], [1, [1.5], [True], [[1]], None]),
        (tuple[tuple], [[], [[1], [2, 3]]], [[1], 1, [[NAN]]]),
        (list[float] | None, [None, [0.5, 1]], [["a"], [NAN], 0.5]),
        (bool | tuple[bool], [True, [True, False]], [1, [1], "yes"]),
        (object, [], [1, "a", None]),
    ],
)
def test_types_of_fields(kind, good, bad):
    assert [value for value in good if not fits(value, kind)] == []
    assert [value for value in bad if fits(value, kind)] == []


class Thing(nn.Module):
    def __init__(self, width: int = 3, flag=True, name: str = "a", **others):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(others.get("n", 1)))
        self.register_buffer("more", torch.zeros(others.get("more", 0)), persistent=False)


def test_declared_types():
    assert declared(Thing) == {"width": int, "flag": bool, "name": str}


def shapes(**knobs):
    return {name: tuple(value.shape) for name, value in Thing(**knobs).state_dict().items()}


def test_networks_are_compared_with_their_files():
    check_fit(lambda: Thing(width=4), shapes(width=4))
    before = memory()
    for knobs, told in (
        ({"width": 100_000}, r"layers\.0\.weight has shape \(3, 3\) in the file, \(100000, 1000"),
        ({"n": 10**9}, "far more parts than the 2 tensors"),
        ({"more": 10**12}, "asks for 1000000000012 numbers, and the files hold 12"),
    ):
        with pytest.raises(ValueError, match=told):
            check_fit(lambda knobs=knobs: Thing(**knobs), shapes())
    assert memory() - before < MOST
    assert nn.Linear(2, 2).weight.device.type == "cpu"  # nothing is left behind


def test_networks_of_other_threads_are_not_counted():
    import threading

    failed = []

    def build():
        try:
            Thing(n=2000)
        except ValueError as error:
            failed.append(error)

    with at_most(1):
        other = threading.Thread(target=build)
        other.start()
        other.join()
    assert not failed
