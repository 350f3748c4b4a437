"""Training of the autoencoders in whose latents the latent diffusion models work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb.core.training import autocast, fit
from cfxnb.nets.squeezenet import SqueezeNet, perceptual_distance
from cfxnb.nets.tiny_autoencoder import TinyAutoencoder
from cfxnb.train.losses import as_unit, mirrored

NETS: dict[str, dict[str, Any]] = {
    "digits": {"channels": 1, "width": 32},
    "sprites": {"channels": 3, "width": 64},
    "faces": {"channels": 3, "width": 64},
}
STEPS = {"digits": 3000, "sprites": 4000, "faces": 4500}
LATENT_NOISE = 0.1  # noise on latents in training, in standard deviations of the latents
PERCEPTUAL = 0.1  # weight of the perceptual distance (only for faces)


def autoencoder(
    dataset: str,
    images: Tensor,
    folder: Path | None,
    *,
    steps: int,
    features: SqueezeNet | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> TinyAutoencoder:
    """Train an autoencoder to reconstruct images from noisy latents.

    Args:
        images: (n, c, h, w), float in [0, 1] or uint8.
        features: network whose features give the perceptual distance between images. None compares
            only pixels.
    """
    torch.manual_seed(seed)
    net = TinyAutoencoder(**NETS[dataset])
    loss = reconstruction_loss(None if features is None else features.to(device))
    kwargs: Any = {"batch_size": 32, "lr": 1e-3, "ema": 0.999, "seed": seed, "device": device}
    return fit(net, loss, (images,), steps=steps, checkpoint_dir=folder, **kwargs)


def reconstruction_loss(features: SqueezeNet | None) -> Callable[..., Tensor]:
    """Return a loss function: absolute error of the pixels plus perceptual distance.

    In training, noise is added to the latents, because the latents that a diffusion model makes are
    not exact. Latents close to the latents of an image should decode to similar images.
    """

    def loss(model: TinyAutoencoder, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
        clean = (
            mirrored(as_unit(batch[0]), generator) if features is not None else as_unit(batch[0])
        )
        with autocast(clean.device):
            z = model.encode(clean * 2 - 1)
            noise = torch.randn(z.shape, generator=generator, device=z.device)
            std = z.detach().float().std((0, 2, 3), keepdim=True)
            drawn = (model.decode(z + LATENT_NOISE * std * noise) + 1) / 2
            value = (drawn.float() - clean).abs().mean()
            if features is not None:
                layers = ("conv1", "fire3", "fire5")
                apart = perceptual_distance(features, drawn, clean, layers=layers)
                value = value + PERCEPTUAL * apart.mean()
        return value

    return loss
