"""Build a diffusion space from the parts of a model folder of diffusers."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

from cfxnb.spaces.autoencoder import Autoencoder
from cfxnb.spaces.checkpoints import diffusers_files, ldm_parts, schedulers
from cfxnb.spaces.checkpoints.diffusers_files import HERE, InvalidPart
from cfxnb.spaces.checkpoints.lora import LoRA
from cfxnb.spaces.checkpoints.refusals import of_channels
from cfxnb.spaces.codecs import PixelUnshuffleCodec
from cfxnb.spaces.conditions import Conditions
from cfxnb.spaces.diffusion import Diffusion

AUTOENCODERS = ("AutoencoderKL", "VQModel", "AutoencoderTiny", "AutoencoderDC")


def diffusion_space(
    found: Path,
    kinds: Collection[str],
    known: Callable[[Any], Conditions],
    precision: str,
    *,
    part: str = "unet",
    latent: bool = True,
    given: bool = False,
    added: LoRA | None = None,
) -> Diffusion:
    """Load the model in a folder as a space on the CPU.

    Everything that the configs and the headers of the files tell is checked before the first
    network is loaded.

    Args:
        found: the folder of the model.
        kinds: classes of diffusers that the denoising network may have.
        known: returns the conditions that the network takes.
        precision: ``"float32"`` or ``"bfloat16"``.
        part: subfolder of the denoising network, or ``HERE``.
        latent: whether the model has an autoencoder. Models of pixels have none.
        given: whether the user passed the conditions. If ``given`` is True, messages on wrong
            conditions begin with "conditions:".
        added: a LoRA to merge into the weights.

    Raises:
        InvalidPart: if a part of the model can't be used.
    """
    file = "scheduler_config.json" if part == HERE else schedulers.SCHEDULER
    parametrisation = schedulers.parametrisation(found, file)
    codec_part = "vqvae" if (found / "vqvae").is_dir() else "vae"
    denoiser = diffusers_files.network(found, part, kinds)
    codec = diffusers_files.network(found, codec_part, AUTOENCODERS) if latent else None
    config = diffusers_files.with_defaults(found, part)
    if codec is None:
        channels, shift_factor, scaling_factor = config["in_channels"], 0.0, 1.0
    else:
        codec_config = diffusers_files.with_defaults(found, codec_part)
        channels = codec_config["latent_channels"]
        shift_factor, scaling_factor = ldm_parts.units(codec_config, channels, codec_part)
    _check_channels(config, channels, part)
    shape = ldm_parts.code_shape(config["sample_size"], channels, part)
    if added is not None:
        added.check(found, part)
    net = denoiser()
    conditions = known(net)
    if wrong := ldm_parts.mismatch(conditions, net):
        raise (ValueError(f"conditions: {wrong}") if given else InvalidPart(wrong))
    if added is not None:
        added.merge({part: net, "text_encoder": getattr(conditions, "encoder", None)})
    autoencoder = Autoencoder(
        PixelUnshuffleCodec(1) if codec is None else codec(),
        torch.zeros(shape),
        torch.ones(shape),
        shift_factor=shift_factor,
        scaling_factor=scaling_factor,
        precision=precision,
    )
    space = Diffusion(net, autoencoder, conditions=conditions, parametrisation=parametrisation)
    if codec is None:
        space.clip_sample_range = schedulers.clip_sample_range(found, file)
    space.eval().requires_grad_(False)
    ldm_parts.try_out(space, given)
    return space


def _check_channels(config: dict[str, Any], channels: int, part: str) -> None:
    """Check that a network gets codes, and returns a prediction and at most a variance."""
    into, out = config["in_channels"], config["out_channels"]
    out, name = into if out is None else out, "the network" if part == HERE else part
    if into != channels:
        text = f"{name} has {into} in_channels for codes of {channels} channels"
        raise InvalidPart(text + of_channels(into, channels))
    if out not in (channels, 2 * channels):
        raise InvalidPart(f"{name} has {out} out_channels for codes of {channels} channels")
