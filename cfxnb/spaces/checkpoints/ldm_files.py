"""Latent diffusion models in the folders that diffusers saves, from the disk or from the hub.

A folder has ``model_index.json`` and a subfolder for each part, each with its config: ``unet``,
``vae`` (or ``vqvae``), ``scheduler``, and for texts ``tokenizer`` and ``text_encoder``. A net that
looks at vectors of classes has them in ``class_embedder/diffusion_pytorch_model.safetensors``, as
``embedding.weight`` of shape (classes + 1, dims), whose last row stands for none.

Only the parts that are named here are built, and weights come from safetensors alone: nothing in
a folder is executed. The terms of a model's licence are its user's to read.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.spaces.autoencoder import Autoencoder
from cfxnb.spaces.checkpoints.diffusers_files import (
    InvalidPart,
    config_of,
    folder,
    naming_path,
    network,
)
from cfxnb.spaces.checkpoints.ldm_parts import (
    classes,
    code_shape,
    mismatch,
    schedule,
    texts,
    try_out,
    units,
)
from cfxnb.spaces.conditions import Conditions, checked_template
from cfxnb.spaces.diffusion import Diffusion
from cfxnb.spaces.precision import checked_precision

WANTED = "a latent diffusion model in a folder of diffusers, or owner/name on the hub"
AUTOENCODERS = ("AutoencoderKL", "VQModel", "AutoencoderTiny")
OTHERS = ("addition_embed_type", "encoder_hid_dim_type", "class_embed_type", "num_class_embeds")


@standard_modes
def load_ldm(
    path: str | os.PathLike,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    conditions: Conditions | None = None,
    null_class: bool | None = None,
    precision: str = "float32",
) -> Diffusion:
    """A latent diffusion model that is told classes, from a folder of diffusers, as a space.

    Its net is a ``UNet2DModel`` with an embedding for each class, or a ``UNet2DConditionModel``
    that looks at a vector for each class. Its autoencoder is an ``AutoencoderKL``, ``VQModel`` or
    ``AutoencoderTiny``. The space has center 0 and spread 1 until
    ``space.autoencoder.fit(images)`` measures both.

    Args:
        path: a folder, or ``owner/name`` on the hub.
        revision: of the hub's files, the 40 digits of a commit: what branches and tags name can
            change. None for a folder.
        device: where it shall run; by default CUDA or MPS when there is one.
        conditions: what the net can be told, such as ``EmbeddingConditions(table)``; by default what is found.
        null_class: whether the last embedding stands for "no class", with which guidance compares.
            The files don't tell. None takes it to be so, with a warning.
        precision: ``"float32"``, or ``"bfloat16"``, which is faster on some processors and GPUs.

    Warns:
        UserWarning: if nobody said what the last embedding stands for.

    Raises:
        ValueError, TypeError: for a wrong argument, and for a model that is incomplete, damaged or
            of another kind; the message names ``path``, and the file.
    """
    checked_precision(precision)
    where = validate.device(device)
    validate.optional(validate.flag, null_class, "null_class")
    if conditions is not None and null_class is not None:
        raise ValueError("null_class: expected None beside conditions, which tell it themselves")
    if conditions is not None and not all(
        hasattr(conditions, a) for a in ("encode", "predict_noise")
    ):
        raise TypeError(
            f"conditions: expected one such as EmbeddingConditions, got {type(conditions).__name__}"
        )
    parts = ("vae", "vqvae", "unet", "scheduler", "class_embedder")
    found = folder(path, revision, WANTED, parts)
    with naming_path(path, WANTED):
        config_of(found, "model_index.json")
        times = schedule(found)
        unet = network(found, "unet", ("UNet2DModel", "UNet2DConditionModel"))
        codec = network(found, _codec(found), AUTOENCODERS)
        net = unet()
        known = classes(found, net, null_class) if conditions is None else conditions
        if wrong := mismatch(known, net):
            raise InvalidPart(wrong) if conditions is None else ValueError(f"conditions: {wrong}")
        space = _space(net, codec(), _codec(found), known, times, precision)
        try_out(space, conditions is not None)
        return space.to(where)


@standard_modes
def load_stable_diffusion(
    path: str | os.PathLike,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    template: str = "a photo of a {}.",
    precision: str = "float32",
) -> Diffusion:
    """Stable Diffusion 1 or 2, or a model like it, from a folder of diffusers, as a space.

    It is told texts, by way of a ``CLIPTextModel``, and needs the package transformers for that. A
    safety checker is left alone: images are changed here, not invented.

    Args:
        path, revision, device, precision: as for ``load_ldm``.
        template: makes a text of a class's name, where methods are given no texts.

    Raises:
        ImportError: without transformers.
        ValueError, TypeError: as ``load_ldm``.
    """
    checked_precision(precision)
    checked_template(template)
    where = validate.device(device)
    try:
        import transformers
    except ImportError:
        raise ImportError(
            "load_stable_diffusion: expected the package transformers, which reads texts; "
            "pip install transformers"
        ) from None
    parts = ("vae", "unet", "scheduler", "tokenizer", "text_encoder")
    found = folder(path, revision, WANTED, parts)
    with naming_path(path, WANTED):
        config_of(found, "model_index.json")
        times = schedule(found)
        unet = network(found, "unet", ("UNet2DConditionModel",))
        codec = network(found, _codec(found), AUTOENCODERS)
        known = texts(found, transformers, template)
        net = unet()
        if others := [name for name in OTHERS if net.config.get(name) is not None]:
            raise InvalidPart(f"unet has {others[0]}, unlike Stable Diffusion 1 and 2")
        if wrong := mismatch(known, net):
            raise InvalidPart(wrong)
        space = _space(net, codec(), _codec(found), known, times, precision)
        try_out(space, False)
        return space.to(where)


def _codec(found: Path) -> str:
    """The name of the autoencoder's subfolder."""
    return "vqvae" if (found / "vqvae").is_dir() else "vae"


def _space(
    net: Any,
    codec: Any,
    part: str,
    conditions: Conditions,
    times: tuple[Tensor, str],
    precision: str,
) -> Diffusion:
    """The parts put together, frozen."""
    channels = codec.config["latent_channels"]
    for name in ("in_channels", "out_channels"):
        if net.config[name] != channels:
            raise InvalidPart(
                f"unet has {net.config[name]} {name} for codes of {channels} channels"
            )
    shape = code_shape(net.config["sample_size"], channels)
    shift_factor, scaling_factor = units(codec.config, channels, part)
    autoencoder = Autoencoder(
        codec,
        torch.zeros(shape),
        torch.ones(shape),
        shift_factor=shift_factor,
        scaling_factor=scaling_factor,
        precision=precision,
    )
    alphas_cumprod, prediction_type = times
    space = Diffusion(
        net,
        autoencoder,
        conditions=conditions,
        alphas_cumprod=alphas_cumprod,
        prediction_type=prediction_type,
    )
    return space.eval().requires_grad_(False)
