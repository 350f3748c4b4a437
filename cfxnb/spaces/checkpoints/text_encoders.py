"""Read tokenizers and text encoders of transformers from a model folder of diffusers.

The config of an encoder is checked against its weight files before any memory is allocated. Weights
are read only from safetensors. No code in a folder is executed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cfxnb.core.disk import cause
from cfxnb.spaces.checkpoints import diffusers_files
from cfxnb.spaces.checkpoints.diffusers_files import InvalidPart
from cfxnb.spaces.checkpoints.safe_loading import plain_name

_SPECIAL = {
    **dict.fromkeys(("pad_token_id", "bos_token_id"), int | None),
    "eos_token_id": int | list[int] | None,
}
_CLIP = {
    **dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"), int),
    **dict.fromkeys(("num_attention_heads", "max_position_embeddings"), int),
    **dict.fromkeys(("layer_norm_eps", "attention_dropout"), float),
    **dict.fromkeys(("initializer_range", "initializer_factor"), float),
    "projection_dim": int | None,
    "hidden_act": str,
    **_SPECIAL,
}
_T5 = {
    **dict.fromkeys(("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads"), int),
    "num_decoder_layers": int | None,
    "relative_attention_num_buckets": int,
    "relative_attention_max_distance": int,
    **dict.fromkeys(("dropout_rate", "initializer_factor", "layer_norm_epsilon"), float),
    "feed_forward_proj": str,
    **{name: kind for name, kind in _SPECIAL.items() if name != "bos_token_id"},
}
_GEMMA2 = {
    **dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"), int),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "head_dim"), int),
    **dict.fromkeys(("max_position_embeddings", "query_pre_attn_scalar"), int),
    **dict.fromkeys(("initializer_range", "rms_norm_eps", "rope_theta"), float),
    "sliding_window": int | None,
    "layer_types": list[str] | None,
    "attention_bias": bool,
    "attention_dropout": float,
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping"), float | None),
    "use_bidirectional_attention": bool | None,
    "hidden_activation": str,
    **_SPECIAL,
}
#: For each class of encoders: its config class, the fields that affect its output, its tokenizer,
#: and the files of which the tokenizer needs one set.
KINDS: dict[str, tuple[str, dict[str, Any], str, tuple[set[str], ...]]] = {
    **dict.fromkeys(
        ("CLIPTextModel", "CLIPTextModelWithProjection"),
        ("CLIPTextConfig", _CLIP, "CLIPTokenizer",
         ({"tokenizer.json"}, {"vocab.json", "merges.txt"})),
    ),
    "T5EncoderModel": (
        "T5Config", _T5, "T5Tokenizer", ({"tokenizer.json"}, {"spiece.model"})
    ),
    "Gemma2Model": (
        "Gemma2Config", _GEMMA2, "GemmaTokenizer", ({"tokenizer.json"}, {"tokenizer.model"})
    ),
}  # fmt: skip
#: Classes that contain one of the above, and of which only this part is read.
SAME = {
    "T5ForConditionalGeneration": "T5EncoderModel",
    "Gemma2ForCausalLM": "Gemma2Model",
    "CLIPModel": "CLIPTextModel",
}


def required(caller: str = "load_diffusers") -> Any:
    """Return the package transformers, which reads texts. ``caller`` is named in the error."""
    try:
        import transformers
    except ImportError:
        raise ImportError(
            f"{caller}: expected the package transformers, which reads texts; "
            "pip install transformers"
        ) from None
    return transformers


def settings(found: Path, part: str, kind: str) -> Any:
    """Check the config of a text encoder, and return it as a config of transformers.

    Args:
        found: the folder of the model.
        part: name of the encoder's subfolder, such as "text_encoder_2".
        kind: class of the encoder.
    """
    transformers = required()
    config = diffusers_files.config_of(found, f"{part}/config.json", plain=True)
    stated = config.get("architectures")
    if not isinstance(stated, list) or [SAME.get(str(s), s) for s in stated] != [kind]:
        raise InvalidPart(f"{part} is a {stated!r:.60}, not {kind}")
    if config.get("quantization_config") is not None:
        raise InvalidPart(
            f"{part}/config.json has a quantization_config; save it in bfloat16 or float32"
        )
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        config["rope_theta"] = rope["rope_theta"]
    made, fields, _, _ = KINDS[kind]
    known = {name: config[name] for name in fields if name in config}
    diffusers_files.checked_fields(config, fields, part)
    try:
        return getattr(transformers, made)(**known)
    except Exception as error:  # of many kinds, for values that don't fit together
        text = f"{type(error).__name__}: {cause(error)}"
        raise InvalidPart(f"{part} can't be built from {part}/config.json ({text})") from None


def encoder(
    found: Path, part: str, kind: str, dtype: torch.dtype = torch.float32
) -> Callable[[], Any]:
    """Check that a text encoder fits its weight files, and return a function that loads it.

    The arguments are those of ``settings``. ``dtype`` is the type of its weights.
    """
    made = getattr(required(), kind)
    fields = KINDS[kind][1]
    options = settings(found, part, kind)
    config = diffusers_files.config_of(found, f"{part}/config.json", plain=True)
    files = diffusers_files.weight_files(found, part, "model")
    names = diffusers_files.fitted(lambda: made(options), config, fields, files, part)
    wrapped = any(plain_name(name) != name for name in names)

    def load() -> Any:
        weights = diffusers_files.unwrapped(files) if wrapped else None
        net = diffusers_files.pretrained(made, found, part, weights, config=options, dtype=dtype)
        return net.float() if dtype == torch.float32 else net

    return load


def tokenizer(found: Path, part: str, kind: str, setting: Any) -> Any:
    """Return the tokenizer of an encoder.

    Args:
        found: the folder of the model.
        part: name of the tokenizer's subfolder, such as "tokenizer_2".
        kind: class of the encoder.
        setting: config of the encoder, from ``settings``.
    """
    transformers = required()
    files = {file.name for file in (found / part).glob("*")}
    if not files:
        raise InvalidPart(f"no {part} in it")
    _, _, made, needed = KINDS[kind]
    if not any(files >= each for each in needed):
        texts = " nor ".join(" and ".join(sorted(each, reverse=True)) for each in needed)
        raise InvalidPart(f"{part} has neither {texts}")
    for name in sorted(files):
        if name.endswith(".json"):
            diffusers_files.config_of(found, f"{part}/{name}", plain=True)
    try:
        words = getattr(transformers, made).from_pretrained(
            str(found / part), local_files_only=True
        )
    except Exception as error:  # many kinds, for files that are missing or damaged
        text = f"{type(error).__name__}: {cause(error)}"
        if "tokenizer.json" not in files and kind != "CLIPTextModel":
            text += "; the package sentencepiece reads its *.model file: pip install sentencepiece"
        raise InvalidPart(f"{part} can't be built ({text})") from None
    count = max(len(words), 1 + max(words.get_vocab().values(), default=0))
    if count > setting.vocab_size:
        encoder_part = part.replace("tokenizer", "text_encoder")
        raise InvalidPart(f"{part} has {count} words, {encoder_part} {setting.vocab_size}")
    stated = words.model_max_length
    if type(stated) not in (int, float) or not stated >= 1:
        text = f"{stated!r:.40}, not a number of words"
        raise InvalidPart(f"{part}/tokenizer_config.json has model_max_length {text}")
    longest = getattr(setting, "max_position_embeddings", None)  # a T5 has no limit
    if longest is not None:
        words.model_max_length = int(min(stated, longest))
    return words
