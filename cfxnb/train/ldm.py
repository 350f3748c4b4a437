"""Training of the conditional latent diffusion models."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb.core.training import autocast, fit
from cfxnb.data.fairface import AGE_GROUPS, GENDERS
from cfxnb.data.fairface import NAMES as SMILES
from cfxnb.data.lpc import SPRITE_OPTIONS
from cfxnb.nets.conditional_unet import ConditionalUNet
from cfxnb.train.losses import noised

ATTRIBUTES: dict[str, Mapping[str, Sequence[str]]] = {
    "digits": {"digit": [str(d) for d in range(10)]},
    "sprites": SPRITE_OPTIONS,
    "faces": {"smile": SMILES, "gender": GENDERS, "age_group": list(AGE_GROUPS)},
}
NETS: dict[str, dict[str, Any]] = {
    "digits": {"widths": [64, 128], "attention": [False, True]},
    "sprites": {"widths": [64, 128], "attention": [False, True]},
    "faces": {"widths": [64, 128, 128], "attention": [False, True, True]},
}
STEPS = {"digits": 2000, "sprites": 1600, "faces": 2800}
BATCH = 128
OPEN = 0.3  # fraction of attributes that are left open in training
UNCONDITIONAL = 0.15  # fraction of images with all attributes left open


def denoiser(
    dataset: str,
    latents: Tensor,
    options: Tensor,
    folder: Path | None,
    *,
    steps: int,
    seed: int = 0,
    device: str = "cpu",
) -> ConditionalUNet:
    """Train a network to predict the velocity of noisy latents, given some attributes of the image.

    Args:
        latents: latents of n images, (n, c, h, w), with standard deviation about 1.
        options: index of the option of each attribute, int64 (n, attributes).
    """
    torch.manual_seed(seed)
    net = ConditionalUNet(ATTRIBUTES[dataset], latents.shape[1], **NETS[dataset])
    kwargs: Any = {"batch_size": BATCH, "lr": 1e-3, "ema": 0.999, "seed": seed, "device": device}
    data = (latents, options)
    return fit(net, velocity, data, steps=steps, checkpoint_dir=folder, **kwargs)


def velocity(model: ConditionalUNet, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
    """Return the squared error of the velocity that the network predicts (Salimans & Ho, 2022)."""
    clean, condition = batch[0].float(), left_open(model, batch[1], generator)
    t, noisy, target = noised(clean, generator)
    with autocast(clean.device):
        predicted = model(noisy, t, condition)
    return (predicted.float() - target).square().mean()


def left_open(model: ConditionalUNet, condition: Tensor, generator: Generator) -> Tensor:
    """Replace single attributes, or all attributes of an image, by "unspecified" at random.

    Guidance needs a network that was trained with some attributes unspecified, and with all
    unspecified.
    """
    sizes = torch.tensor([len(o) for o in model.attributes.values()], device=condition.device)
    single = torch.rand(condition.shape, generator=generator, device=condition.device) < OPEN
    all_open = (
        torch.rand(len(condition), 1, generator=generator, device=condition.device) < UNCONDITIONAL
    )
    return torch.where(single | all_open, sizes, condition)
