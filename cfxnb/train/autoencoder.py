"""Recipes of the autoencoders whose latents the diffusion models work on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb.core.training import autocast, fit
from cfxnb.nets.squeezenet import SqueezeNet, perceptual_distance
from cfxnb.nets.tiny_autoencoder import TinyAutoencoder
from cfxnb.train.diffae import as_unit

NETS: dict[str, dict[str, Any]] = {
    "digits": {"channels": 1, "width": 32},
    "sprites": {"channels": 3, "width": 64},
    "faces": {"channels": 3, "width": 64},
}
STEPS = {"digits": 3000, "sprites": 4000, "faces": 4500}
BLUR = 0.1  # standard deviation of the noise on latents, in their own spread
PERCEPTUAL = 0.1  # weight of the distance in SqueezeNet features, with faces


def autoencoder(
    world: str,
    images: Tensor,
    folder: Path | None,
    *,
    steps: int,
    features: SqueezeNet | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> TinyAutoencoder:
    """Trained to draw images again out of blurred latents.

    Args:
        images: (n, c, h, w), float in [0, 1] or bytes.
        features: in which what is drawn should look alike, too; None compares pixels alone.
    """
    torch.manual_seed(seed)
    net = TinyAutoencoder(**NETS[world])
    loss = redrawing(None if features is None else features.to(device))
    kwargs = {"batch_size": 32, "lr": 1e-3, "ema": 0.999, "seed": seed, "device": device}
    return fit(net, loss, (images,), steps=steps, checkpoint_dir=folder, **kwargs)  # type: ignore[arg-type]


def redrawing(features: SqueezeNet | None) -> Callable[..., Tensor]:
    """Absolute error of the pixels, and the distance in features.

    Latents are blurred on the way: a diffusion model is never quite right, and what lies near to
    the latents of an image should look like it.
    """

    def loss(model: TinyAutoencoder, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
        clean = _turned(as_unit(batch[0]), generator) if features is not None else as_unit(batch[0])
        with autocast(clean.device):
            z = model.encode(clean * 2 - 1)
            noise = torch.randn(z.shape, generator=generator, device=z.device)
            std = z.detach().float().std((0, 2, 3), keepdim=True)
            drawn = (model.decode(z + BLUR * std * noise) + 1) / 2
            value = (drawn.float() - clean).abs().mean()
            if features is not None:
                layers = ("conv1", "fire3", "fire5")
                apart = perceptual_distance(features, drawn, clean, layers=layers)
                value = value + PERCEPTUAL * apart.mean()
        return value

    return loss


def _turned(images: Tensor, generator: Generator) -> Tensor:
    """Half of them mirrored: a face may look either way."""
    turn = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    return torch.where(turn, images.flip(3), images)
