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
from torch import Tensor, nn

from cfxnb import validate
from cfxnb.spaces.autoencoder import Autoencoder
from cfxnb.spaces.conditions import Classes, Conditions, Prompts, Vectors, checked_template
from cfxnb.spaces.diffusion import Diffusion
from cfxnb.spaces.folders import Unfit, config_of, folder, network, pretrained, tensors, told_of
from cfxnb.spaces.precision import checked_precision

WANTED = "a latent diffusion model in a folder of diffusers, or owner/name on the hub"
AUTOENCODERS = ("AutoencoderKL", "VQModel", "AutoencoderTiny")
PREDICTIONS = {"epsilon": "noise", "v_prediction": "velocity", "sample": "image"}
SCHEDULE = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas",
    "rescale_betas_zero_snr",
)  # fmt: skip
OTHERS = ("addition_embed_type", "encoder_hid_dim_type", "class_embed_type", "num_class_embeds")


def load_ldm(
    path: str | os.PathLike,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    conditions: Conditions | None = None,
    precision: str | None = None,
) -> Diffusion:
    """A latent diffusion model that is told classes, from a folder of diffusers, as a space.

    Its net is a ``UNet2DModel`` with an embedding for each class, or a ``UNet2DConditionModel``
    that looks at a vector for each class; in both the last one stands for none. Its autoencoder is
    an ``AutoencoderKL``, ``VQModel`` or ``AutoencoderTiny``. The space has center 0 and spread 1
    until ``space.autoencoder.fit(images)`` measures both.

    Args:
        path: a folder, or ``owner/name`` on the hub.
        revision: of the hub's files, the 40 digits of a commit: what branches and tags name can
            change. None for a folder.
        device: where it shall run; by default CUDA or MPS when there is one.
        conditions: what the net can be told, such as ``Vectors(table)``; by default what is found.
        precision: ``"float32"`` or ``"bfloat16"``; None takes the latter where it is faster.

    Raises:
        ValueError, TypeError: for a wrong argument, and for a model that is incomplete, damaged or
            of another kind; the message names ``path``, and the file.
    """
    checked_precision(precision)
    where = validate.device(device)
    if conditions is not None and not all(hasattr(conditions, a) for a in ("tell", "ask")):
        raise TypeError(
            f"conditions: expected one such as Vectors, got {type(conditions).__name__}"
        )
    parts = ("vae", "vqvae", "unet", "scheduler", "class_embedder")
    found = folder(path, revision, WANTED, parts)
    with told_of(path, WANTED):
        config_of(found, "model_index.json")
        net = network(found, "unet", ("UNet2DModel", "UNet2DConditionModel"))
        told = _classes(found, net) if conditions is None else conditions
        if wrong := _mismatch(told, net):
            raise Unfit(wrong) if conditions is None else ValueError(f"conditions: {wrong}")
        return _space(found, net, told, precision).to(where)


def load_stable_diffusion(
    path: str | os.PathLike,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    template: str = "a photo of a {}.",
    precision: str | None = None,
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
    with told_of(path, WANTED):
        config_of(found, "model_index.json")
        net = network(found, "unet", ("UNet2DConditionModel",))
        if others := [name for name in OTHERS if net.config.get(name) is not None]:
            raise Unfit(f"unet has {others[0]}, unlike Stable Diffusion 1 and 2")
        told = _texts(found, transformers, template)
        if wrong := _mismatch(told, net):
            raise Unfit(wrong)
        return _space(found, net, told, precision).to(where)


def _space(found: Path, net: Any, told: Conditions, precision: str | None) -> Diffusion:
    """The parts put together, frozen."""
    codec = network(found, "vqvae" if (found / "vqvae").is_dir() else "vae", AUTOENCODERS)
    channels = codec.config["latent_channels"]
    for name in ("in_channels", "out_channels"):
        if net.config[name] != channels:
            raise Unfit(f"unet has {net.config[name]} {name} for codes of {channels} channels")
    size = net.config["sample_size"]
    sides = (size, size) if isinstance(size, int) else tuple(size or ())
    if len(sides) != 2:
        raise Unfit(f"unet/config.json has sample_size {size!r:.40}; write the side of codes there")
    shape = (channels, *sides)
    shift, scale = _units(codec.config)
    autoencoder = Autoencoder(
        codec, torch.zeros(shape), torch.ones(shape), shift=shift, scale=scale, precision=precision
    )
    alphas, predicts = _schedule(config_of(found, "scheduler/scheduler_config.json"))
    space = Diffusion(net, autoencoder, conditions=told, alphas=alphas, predicts=predicts)
    return space.eval().requires_grad_(False)


def _units(config: Any) -> tuple[Any, Any]:
    """What is taken off latents, and what they are then multiplied by, as diffusers does it."""
    scale, shift = config.get("scaling_factor") or 1.0, config.get("shift_factor") or 0.0
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None or std is None:
        return shift, scale
    return mean, [scale / each for each in std]


def _schedule(config: dict[str, Any]) -> tuple[Tensor, str]:
    """Share of the variance left at each time of training, and what the net predicts.

    Samplers differ in how they go through the times, and agree on these.
    """
    from diffusers import DDPMScheduler  # here, since importing it takes seconds

    kind, guess = config.get("_class_name"), config.get("prediction_type", "epsilon")
    if "beta_schedule" not in config:
        raise Unfit(f"scheduler is a {kind!r:.60} without beta_schedule")
    if guess not in PREDICTIONS:
        raise Unfit(f"scheduler has prediction_type {guess!r:.40}, not {' or '.join(PREDICTIONS)}")
    try:
        trained: Any = DDPMScheduler(**{k: config[k] for k in SCHEDULE if k in config})
    except Exception as error:  # whatever a wrong number leads to
        raise Unfit(f"scheduler can't be built ({type(error).__name__}: {error})") from None
    alphas = (1 - trained.betas.double()).cumprod(0)
    if len(alphas) > 1 and alphas[-1] == 0:  # of nothing but noise no clean code can be guessed
        alphas[-1] = alphas[-2] / 2
    if len(alphas) < 2 or not bool((alphas.diff() < 0).all() & (alphas[0] < 1)):
        raise Unfit("scheduler has betas that don't make variance fall from time to time")
    return alphas, PREDICTIONS[guess]


def _classes(found: Path, net: Any) -> Conditions:
    """What a net that is told classes can be told."""
    if "cross_attention_dim" not in net.config:
        table = getattr(net, "class_embedding", None)
        if not isinstance(table, nn.Embedding):
            raise Unfit("unet can't be told classes: its config has no num_class_embeds")
        return Classes(table.num_embeddings)
    if not (found / "class_embedder").is_dir():
        raise Unfit("no class_embedder in it, for classes; conditions=Vectors(table) gives one")
    table = tensors(found, "class_embedder").get("embedding.weight")
    if table is None or table.ndim != 2 or len(table) < 2 or not table.isfinite().all():
        raise Unfit("class_embedder has no embedding.weight of shape (classes + 1, dims)")
    return Vectors(table)


def _texts(found: Path, transformers: Any, template: str) -> Prompts:
    kinds = config_of(found, "text_encoder/config.json").get("architectures")
    if kinds != ["CLIPTextModel"]:
        raise Unfit(f"text_encoder is a {kinds!r:.60}, not CLIPTextModel")
    encoder = pretrained(transformers.CLIPTextModel, found, "text_encoder", "model")
    files = {file.name for file in (found / "tokenizer").glob("*")}
    if not files:
        raise Unfit("no tokenizer in it")
    if "tokenizer.json" not in files and not files >= {"vocab.json", "merges.txt"}:
        raise Unfit("tokenizer has neither tokenizer.json nor vocab.json and merges.txt")
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(
            str(found / "tokenizer"), local_files_only=True
        )
        size = len(tokenizer)
    except Exception as error:  # many kinds, for files that are missing or damaged
        reason = " ".join(str(error).split())[:160]
        raise Unfit(f"tokenizer can't be built ({type(error).__name__}: {reason})") from None
    if size > encoder.config.vocab_size:
        raise Unfit(f"tokenizer has {size} words, text_encoder {encoder.config.vocab_size}")
    longest = encoder.config.max_position_embeddings
    tokenizer.model_max_length = min(tokenizer.model_max_length, longest)
    return Prompts(tokenizer, encoder, template)


def _mismatch(told: Conditions, net: Any) -> str | None:
    """What is expected of conditions and came instead, where the net can't be told them."""
    dims = net.config.get("cross_attention_dim")
    wanted = set(dims) if isinstance(dims, list | tuple) else {dims}
    if isinstance(told, Vectors | Prompts):
        encoder: Any = getattr(told, "encoder", None)
        width = told.table.shape[1] if isinstance(told, Vectors) else encoder.config.hidden_size
        if wanted != {width}:
            return f"expected vectors of {dims} numbers as unet looks at, got {width}"
    elif isinstance(told, Classes):
        count = getattr(getattr(net, "class_embedding", None), "num_embeddings", 0)
        if dims is not None or count != told.count:
            return f"expected what unet can be told, {count} classes, got {told.count}"
    return None
