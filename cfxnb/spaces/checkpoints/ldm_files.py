"""Load latent diffusion models from folders of diffusers, on disk or on the hub.

A model folder has ``model_index.json`` and one subfolder with a config per part: ``unet``, ``vae``
(or ``vqvae``), ``scheduler``, and for texts ``tokenizer`` and ``text_encoder``. The class
embeddings of a network with cross-attention are in
``class_embedder/diffusion_pytorch_model.safetensors``, as ``embedding.weight`` of shape (classes +
1, dims). The last row of the class embeddings stands for "no class".

Other parts of a model, such as a safety checker, are ignored. Weights are read only from
``.safetensors`` files. No code in a folder is executed. Check the licence of a model before you use
it.
"""

import os
from pathlib import Path
from typing import Any

import torch

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.spaces.checkpoints import diffusers_files, ldm_parts, text_encoders
from cfxnb.spaces.checkpoints.building import diffusion_space
from cfxnb.spaces.checkpoints.diffusers_files import InvalidPart
from cfxnb.spaces.checkpoints.lora import LoRA
from cfxnb.spaces.conditions import Conditions, checked_template
from cfxnb.spaces.diffusion import Diffusion
from cfxnb.spaces.precision import checked_precision

WANTED = "a latent diffusion model in a folder of diffusers, or owner/name on the hub"
OTHERS = ("addition_embed_type", "encoder_hid_dim_type", "class_embed_type", "num_class_embeds",
          "time_cond_proj_dim")  # fmt: skip


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
    """Load a class-conditional latent diffusion model from a folder of diffusers as a space.

    The network is a ``UNet2DModel`` with one embedding per class, or a ``UNet2DConditionModel``
    with cross-attention to one vector per class. The autoencoder is an ``AutoencoderKL``,
    ``VQModel``, ``AutoencoderTiny`` or ``AutoencoderDC``. ``load_diffusers`` loads these models,
    too, and many others. The space has mean 0 and std 1 until
    ``space.autoencoder.fit(images)`` measures mean and std.

    Args:
        path: a local folder, or the name of a model on the Hugging Face hub, ``owner/name``.
        revision: hash of a commit on the hub, 40 digits, or None if ``path`` is a folder. Branches
            and tags are not allowed, because they can point to other files later.
        device: device to run on. Default: CUDA or MPS if available, else the CPU.
        conditions: what the network can be conditioned on, such as ``EmbeddingConditions(table)``.
            Default: the class embeddings in the folder.
        null_class: whether the last class embedding stands for "no class", which classifier-free
            guidance needs. The files of a model don't say what the last class embedding stands for.
            If ``null_class`` is None, the function assumes that the last embedding stands for "no
            class", and warns.
        precision: ``"float32"``, or ``"bfloat16"``, which is faster on some processors and GPUs.

    Warns:
        UserWarning: if both ``null_class`` and ``conditions`` are None.

    Raises:
        ValueError, TypeError: if an argument is wrong, or if the model is incomplete, damaged or of
            an unsupported kind. For a wrong model, the error message names ``path`` and the file.
    """
    checked_precision(precision)
    where = validate.device(device)
    validate.optional(validate.flag, null_class, "null_class")
    if conditions is not None and null_class is not None:
        raise ValueError("null_class: expected None with conditions, which define it")
    if conditions is not None:
        wanted = "EmbeddingConditions or the like"
        validate.having(conditions, ("encode", "predict_noise"), "conditions", wanted)
    parts = ("vae", "vqvae", "unet", "scheduler", "class_embedder")
    found = diffusers_files.folder(path, revision, WANTED, parts)

    def known(net: Any) -> Conditions:
        return ldm_parts.classes(found, net, null_class) if conditions is None else conditions

    with diffusers_files.naming_path(path, WANTED):
        diffusers_files.config_of(found, "model_index.json")
        kinds, given = ("UNet2DModel", "UNet2DConditionModel"), conditions is not None
        return diffusion_space(found, kinds, known, precision, given=given).to(where)


@standard_modes
def load_stable_diffusion(
    path: str | os.PathLike,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    template: str = "a photo of a {}.",
    precision: str = "float32",
) -> Diffusion:
    """Load Stable Diffusion 1 or 2, or a similar model, from a folder of diffusers as a space.

    The model is conditioned on texts by a ``CLIPTextModel``, which needs the package transformers.
    A safety checker is not loaded, since we edit images and don't generate new ones.

    Args:
        path: a local folder, or the name of a model on the Hugging Face hub, ``owner/name``.
        revision: hash of a commit on the hub, 40 digits, or None if ``path`` is a folder.
        device: device to run on. Default: CUDA or MPS if available, else the CPU.
        template: text in which the name of a class replaces "{}". Methods use ``template`` for each
            class for which they get no other text.
        precision: ``"float32"``, or ``"bfloat16"``, which is faster on some processors and GPUs.

    Raises:
        ImportError: if transformers is not installed.
        ValueError, TypeError: if an argument is wrong, or if the model is incomplete, damaged or of
            an unsupported kind. For a wrong model, the error message names ``path`` and the file.
    """
    checked_precision(precision)
    checked_template(template)
    where = validate.device(device)
    text_encoders.required("load_stable_diffusion")
    parts = ("vae", "unet", "scheduler", "tokenizer", "text_encoder")
    found = diffusers_files.folder(path, revision, WANTED, parts)
    with diffusers_files.naming_path(path, WANTED):
        diffusers_files.config_of(found, "model_index.json")
        return stable_diffusion(found, template, precision).to(where)


def stable_diffusion(
    found: Path, template: str, precision: str, added: LoRA | None = None
) -> Diffusion:
    """Load Stable Diffusion 1 or 2 from a folder, with a LoRA merged into it or without."""
    text_encoders.required("load_diffusers")

    config = diffusers_files.config_of(found, "unet/config.json", plain=True)
    others = [name for name in OTHERS if config.get(name) is not None]
    if others and config.get("_class_name") == "UNet2DConditionModel":
        raise InvalidPart(f"unet has {others[0]}, unlike Stable Diffusion 1 and 2")

    def known(net: Any) -> Conditions:
        return ldm_parts.texts(found, template)

    return diffusion_space(found, ("UNet2DConditionModel",), known, precision, added=added)
