"""Load large models that are conditioned on texts: SDXL, SD3, Flux, PixArt and Sana.

``FAMILIES`` lists them. All parts are checked by their configs and the headers of their files
before the first network is loaded.
"""

import dataclasses
import inspect
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cfxnb.spaces.autoencoder import Autoencoder, downsample_factor_of
from cfxnb.spaces.checkpoints import diffusers_files, ldm_parts, schedulers, text_encoders
from cfxnb.spaces.checkpoints.diffusers_files import InvalidPart
from cfxnb.spaces.checkpoints.lora import LoRA
from cfxnb.spaces.checkpoints.refusals import of_channels
from cfxnb.spaces.diffusion import Diffusion
from cfxnb.spaces.texts.flux import PATCH, FluxConditions
from cfxnb.spaces.texts.pixart import PixArtConditions
from cfxnb.spaces.texts.sana import SanaConditions
from cfxnb.spaces.texts.sd3 import T5_LENGTH, SD3Conditions
from cfxnb.spaces.texts.sdxl import SDXLConditions
from cfxnb.spaces.texts.text_conditions import TextConditions, TextEncoder

KL, DC = ("AutoencoderKL", "AutoencoderTiny"), ("AutoencoderDC",)
CLIP, CLIP_PROJECTED = "CLIPTextModel", "CLIPTextModelWithProjection"
T5, GEMMA = "T5EncoderModel", "Gemma2Model"
FLUX_SIDE = 128  # height of codes of Flux, if no config states the size of its images
#: Words in the name of a model that was distilled to need few steps and no guidance.
DISTILLED = re.compile(r"turbo|lightning|schnell|hyper|lcm|distill|flash|sprint|dmd", re.I)


@dataclasses.dataclass(frozen=True)
class Reader:
    """A text encoder of a family.

    Attributes:
        part: its subfolder.
        kind: its class in transformers.
        length: number of tokens. None stands for the number that the tokenizer states.
        optional: whether it may be missing.
    """

    part: str
    kind: str
    length: int | None = None
    optional: bool = False

    @property
    def tokenizer(self) -> str:
        """The subfolder of its tokenizer."""
        return self.part.replace("text_encoder", "tokenizer")


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        title: its name in messages.
        pipelines: pipelines of diffusers in ``model_index.json``.
        part: subfolder of the denoising network.
        kinds: classes of the denoising network.
        autoencoders: classes of the autoencoder.
        readers: the text encoders.
        conditions: returns the conditions, for a ``Loaded`` model and the common options.
        width: returns how many numbers per token the network takes, and how many it would get.
        patch: side of the squares of a code that become channels before the network.
        options: more things to check in the config of the network: name -> the values that are
            supported.
    """

    title: str
    pipelines: tuple[str, ...]
    part: str
    kinds: tuple[str, ...]
    autoencoders: tuple[str, ...]
    readers: tuple[Reader, ...]
    conditions: Callable[["Loaded", dict[str, Any]], TextConditions]
    widths: Callable[[Mapping[str, Any], Sequence[Any]], Sequence[tuple[str, Any, Any]]]
    patch: int = 1
    options: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        """The subfolders to download."""
        texts = [name for reader in self.readers for name in (reader.part, reader.tokenizer)]
        return (self.part, "vae", "scheduler", *texts)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """The loaded parts of a model, from which its conditions are made."""

    net: Any
    encoders: list[TextEncoder]
    factor: int
    index: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class TextOptions:
    """The checked options of ``load_diffusers`` for these families, which explains them."""

    template: str
    negative_prompt: str | None
    guidance_distilled: bool | None
    offload_text: bool
    image_size: int | None
    precision: str


def load(
    found: Path,
    index: Mapping[str, Any],
    family: Family,
    options: TextOptions,
    name: str = "",
    added: LoRA | None = None,
) -> Diffusion:
    """Load a model of a family as a space on the CPU. It is not tried out yet.

    Args:
        found: the folder of the model.
        index: the content of its ``model_index.json``.
        options: how to load it.
        name: what the user called the model. Names such as "sdxl-turbo" tell that a model was
            distilled.
        added: a LoRA to merge into the weights.

    Raises:
        InvalidPart: if a part of the model can't be used.
    """
    dtype = torch.bfloat16 if options.precision == "bfloat16" else torch.float32
    config = diffusers_files.config_of(found, f"{family.part}/config.json", plain=True)
    codec_config = diffusers_files.config_of(found, "vae/config.json", plain=True)
    if index.get("requires_aesthetics_score"):
        raise InvalidPart(
            f"a refiner of {family.title}, which only improves images of another model"
        )
    check_network(family, config, codec_config)
    shape = code_shape(family, config, codec_config, options.image_size)
    patch = _patch(family, config)
    parametrisation = schedulers.parametrisation(found, tokens=math.prod(shape[1:]) // patch**2)
    readers = [each for each in family.readers if not _left_out(found, index, each)]
    settings = [text_encoders.settings(found, each.part, each.kind) for each in readers]
    for what, takes, gets in family.widths(config, settings):
        if takes != gets:
            raise InvalidPart(f"{family.part} takes {takes!r:.40} {what}, its texts have {gets}")
    tokenizers = [
        text_encoders.tokenizer(found, each.tokenizer, each.kind, setting)
        for each, setting in zip(readers, settings, strict=True)
    ]
    denoiser = diffusers_files.network(found, family.part, family.kinds, dtype)
    codec = diffusers_files.network(found, "vae", family.autoencoders)
    texts = [text_encoders.encoder(found, each.part, each.kind, dtype) for each in readers]
    if added is not None:
        added.check(found, family.part)
    net = denoiser()
    encoders = [
        TextEncoder(tokenizer, text(), reader.length or tokenizer.model_max_length)
        for tokenizer, text, reader in zip(tokenizers, texts, readers, strict=True)
    ]
    if added is not None:
        nets = {reader.part: each.net for reader, each in zip(readers, encoders, strict=True)}
        nets.pop("text_encoder_3", None)
        added.merge({family.part: net, **nets})
    autoencoder = _autoencoder(codec(), shape, options.precision)
    loaded = Loaded(net, encoders, autoencoder.downsample_factor, index)
    common = {
        "template": options.template,
        "negative_prompt": options.negative_prompt,
        "offload": options.offload_text,
        "distilled": _distilled(found, family, options, name, index),
    }
    conditions = family.conditions(loaded, common)
    space = Diffusion(net, autoencoder, conditions=conditions, parametrisation=parametrisation)
    return space.eval().requires_grad_(False)


def try_out(space: Diffusion) -> None:
    """Run all networks of a space once on a small code, to find wrong configs early."""
    conditions: Any = space.conditions
    reason, conditions.distilled = conditions.distilled, None  # no method needs the condition None
    try:
        ldm_parts.try_out(space, False, side=_patch_of(space))
    finally:
        conditions.distilled = reason


def family_of(pipeline: str | None) -> Family | None:
    """Return the family of a pipeline of diffusers, or None."""
    return next((each for each in FAMILIES if pipeline in each.pipelines), None)


def check_network(family: Family, config: dict[str, Any], codec: dict[str, Any]) -> None:
    """Check that a denoising network is one that only takes noisy codes and texts."""
    channels = codec.get("latent_channels")
    if type(channels) is not int or not 1 <= channels <= 4096:
        raise InvalidPart(f"vae/config.json has latent_channels {channels!r:.40}, not a number")
    into, wanted = config.get("in_channels"), channels * family.patch**2
    if into != wanted:
        text = f"{into!r:.40} in_channels for codes of {channels} channels (expected {wanted})"
        raise InvalidPart(f"{family.part} has {text}{of_channels(into, wanted)}")
    out = config.get("out_channels")
    if out is not None and out not in (wanted, 2 * wanted):
        raise InvalidPart(f"{family.part} has {out!r:.40} out_channels, not {wanted}")
    for name, allowed in family.options.items():
        value = config.get(name)
        if value not in allowed:
            known = " or ".join(repr(each) for each in allowed)
            raise InvalidPart(
                f"{family.part}/config.json has {name} {value!r:.40}, not {known}, unlike "
                f"{family.title}; such models are not supported"
            )


def code_shape(
    family: Family, config: dict[str, Any], codec: dict[str, Any], image_size: int | None
) -> tuple[int, ...]:
    """Return the shape of codes, (c, h, w), by default for the images of training."""
    factor = downsample_factor_of(types.SimpleNamespace(config=codec))
    unit = factor * _patch(family, config)
    size = config.get("sample_size")
    if family.patch > 1:  # the config of Flux does not state it
        whole = codec.get("sample_size")
        size = whole // factor if type(whole) is int and whole > 0 else FLUX_SIDE
    if image_size is not None:
        if image_size % unit:
            raise ValueError(
                f"image_size: expected a height in pixels, divisible by {unit}, got {image_size}"
            )
        size = image_size // factor
    shape = ldm_parts.code_shape(size, codec["latent_channels"], family.part)
    if any(side % _patch(family, config) for side in shape[1:]):
        text = f"sample_size {size!r:.40}, not divisible by {_patch(family, config)}"
        raise InvalidPart(f"{family.part}/config.json has {text}")
    return shape


def _patch(family: Family, config: Mapping[str, Any]) -> int:
    """Return the side of the squares of a code that become one token."""
    own = config.get("patch_size", 1)
    if type(own) is not int or not 1 <= own <= 64:
        raise InvalidPart(f"{family.part}/config.json has patch_size {own!r:.40}, not a number")
    return own * family.patch


def _patch_of(space: Diffusion) -> int:
    return downsample_factor_of(space.net) * getattr(space.conditions, "patch", 1)


def _left_out(found: Path, index: Mapping[str, Any], reader: Reader) -> bool:
    """Return whether an optional text encoder is not in the folder, as the index says."""
    stated = index.get(reader.part)
    named = isinstance(stated, list) and any(stated)
    if reader.optional and not named and not (found / reader.part).is_dir():
        return True
    if not (found / reader.part).is_dir():
        raise InvalidPart(f"no {reader.part} in it, which reads texts")
    return False


def _autoencoder(codec: Any, shape: tuple[int, ...], precision: str) -> Autoencoder:
    shift_factor, scaling_factor = ldm_parts.units(codec.config, shape[0], "vae")
    return Autoencoder(
        codec,
        torch.zeros(shape),
        torch.ones(shape),
        shift_factor=shift_factor,
        scaling_factor=scaling_factor,
        precision=precision,
    )


def _distilled(
    found: Path, family: Family, options: TextOptions, name: str, index: Mapping[str, Any]
) -> str | None:
    """Return why a model has no real unconditional prediction, or None."""
    if options.guidance_distilled is False:
        return None
    if options.guidance_distilled:
        return "the model was distilled to need no classifier-free guidance (guidance_distilled)"
    if family.title == FLUX:
        return "Flux.1 was distilled to need no classifier-free guidance"
    names = (name, found.name, str(index.get("_name_or_path", "")))
    if any(told := [each for each in names if DISTILLED.search(Path(each).name)]):
        return (
            f"the name {Path(told[0]).name!r:.60} tells that the model was distilled to need no "
            "classifier-free guidance (pass guidance_distilled=False if it was not)"
        )
    return None


# -- The families


def _sdxl(loaded: Loaded, common: dict[str, Any]) -> TextConditions:
    zeros = loaded.index.get("force_zeros_for_empty_prompt", True) is not False
    return SDXLConditions(
        loaded.encoders, downsample_factor=loaded.factor, zeros_for_nothing=zeros, **common
    )


def _sdxl_widths(config: Mapping[str, Any], texts: Sequence[Any]) -> list[tuple[str, Any, Any]]:
    first, second = texts
    dims = config.get("cross_attention_dim")
    dims = dims[0] if isinstance(dims, list) and len(set(dims)) == 1 else dims
    time = config.get("addition_time_embed_dim")
    added = config.get("projection_class_embeddings_input_dim")
    sizes = 6 * time if type(time) is int else 0
    return [
        ("numbers per token (cross_attention_dim)", dims, first.hidden_size + second.hidden_size),
        ("numbers beside the tokens (projection_class_embeddings_input_dim)", added,
         second.projection_dim + sizes),
    ]  # fmt: skip


def _sd3(loaded: Loaded, common: dict[str, Any]) -> TextConditions:
    return SD3Conditions(
        loaded.encoders, joint_dims=loaded.net.config.joint_attention_dim, **common
    )


def _sd3_widths(config: Mapping[str, Any], texts: Sequence[Any]) -> list[tuple[str, Any, Any]]:
    first, second, *rest = texts
    joint = config.get("joint_attention_dim")
    clip = first.hidden_size + second.hidden_size
    fits = type(joint) is int and joint >= clip
    widest = rest[0].hidden_size if rest else joint if fits else clip
    return [
        ("numbers per token (joint_attention_dim)", joint, widest if fits else clip),
        ("numbers per text (pooled_projection_dim)", config.get("pooled_projection_dim"),
         first.projection_dim + second.projection_dim),
    ]  # fmt: skip


def _flux(loaded: Loaded, common: dict[str, Any]) -> TextConditions:
    if not loaded.net.config.guidance_embeds:  # Flux.1-schnell was trained with half of the tokens
        loaded.encoders[1].length = 256
    return FluxConditions(loaded.encoders, **common)


def _flux_widths(config: Mapping[str, Any], texts: Sequence[Any]) -> list[tuple[str, Any, Any]]:
    clip, t5 = texts
    return [
        ("numbers per token (joint_attention_dim)", config.get("joint_attention_dim"),
         t5.hidden_size),
        ("numbers per text (pooled_projection_dim)", config.get("pooled_projection_dim"),
         clip.hidden_size),
    ]  # fmt: skip


def _pixart(loaded: Loaded, common: dict[str, Any]) -> TextConditions:
    return PixArtConditions(loaded.encoders, downsample_factor=loaded.factor, **common)


def _sana(loaded: Loaded, common: dict[str, Any]) -> TextConditions:
    import diffusers  # not at the top, because the import takes seconds

    call = inspect.signature(diffusers.SanaPipeline.__call__)
    lines = call.parameters["complex_human_instruction"].default
    return SanaConditions(loaded.encoders, instruction="\n".join(lines or ()), **common)


def _caption_widths(config: Mapping[str, Any], texts: Sequence[Any]) -> list[tuple[str, Any, Any]]:
    width = config.get("caption_channels")
    return [("numbers per token (caption_channels)", width, texts[0].hidden_size)]


FLUX = "Flux.1"
FAMILIES = [
    Family(
        "Stable Diffusion XL",
        ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline",
         "StableDiffusionXLPAGPipeline"),
        "unet",
        ("UNet2DConditionModel",),
        KL,
        (Reader("text_encoder", CLIP), Reader("text_encoder_2", CLIP_PROJECTED)),
        _sdxl,
        _sdxl_widths,
        options={"addition_embed_type": ("text_time",), "time_cond_proj_dim": (None,),
                 "encoder_hid_dim_type": (None,), "class_embed_type": (None,)},
    ),
    Family(
        "Stable Diffusion 3",
        ("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline",
         "StableDiffusion3PAGPipeline"),
        "transformer",
        ("SD3Transformer2DModel",),
        KL,
        (Reader("text_encoder", CLIP_PROJECTED), Reader("text_encoder_2", CLIP_PROJECTED),
         Reader("text_encoder_3", T5, T5_LENGTH, optional=True)),
        _sd3,
        _sd3_widths,
    ),
    Family(
        FLUX,
        ("FluxPipeline", "FluxImg2ImgPipeline"),
        "transformer",
        ("FluxTransformer2DModel",),
        KL,
        (Reader("text_encoder", CLIP), Reader("text_encoder_2", T5, 512)),
        _flux,
        _flux_widths,
        patch=PATCH,
    ),
    Family(
        "PixArt-alpha",
        ("PixArtAlphaPipeline", "PixArtAlphaPAGPipeline"),
        "transformer",
        ("PixArtTransformer2DModel", "Transformer2DModel"),
        KL,
        (Reader("text_encoder", T5, 120),),
        _pixart,
        _caption_widths,
    ),
    Family(
        "PixArt-Sigma",
        ("PixArtSigmaPipeline", "PixArtSigmaPAGPipeline"),
        "transformer",
        ("PixArtTransformer2DModel", "Transformer2DModel"),
        KL,
        (Reader("text_encoder", T5, 300),),
        _pixart,
        _caption_widths,
    ),
    Family(
        "Sana",
        ("SanaPipeline", "SanaPAGPipeline"),
        "transformer",
        ("SanaTransformer2DModel",),
        DC,
        (Reader("text_encoder", GEMMA, 300),),
        _sana,
        _caption_widths,
        options={"guidance_embeds": (None, False)},
    ),
]  # fmt: skip
