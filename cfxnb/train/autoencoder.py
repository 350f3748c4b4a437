"""Training of an autoencoder with spatial latents, in which a latent diffusion model can work."""

import copy
from typing import Any

import torch
from torch import Generator, Tensor, nn

from cfxnb import weights
from cfxnb.core.training import autocast
from cfxnb.nets.squeezenet import SMALLEST, SqueezeNet, perceptual_distance
from cfxnb.nets.tiny_autoencoder import TinyAutoencoder
from cfxnb.spaces import Autoencoder
from cfxnb.train.losses import as_unit, mirrored
from cfxnb.train.task import Settings, Task, epochs, frozen, halvings
from cfxnb.train.training_data import TrainingData

LATENT_NOISE = 0.1  # noise on latents in training, in standard deviations of the latents
PERCEPTUAL = 0.1  # default weight of the perceptual distance
LAYERS = ("conv1", "fire3", "fire5")
STATISTICS_IMAGES = 10_000  # images on which mean and std of the latents are measured


def train(task: Task, stage: str = "", share: float = 1.0) -> tuple[Autoencoder, dict[str, Any]]:
    """Train an autoencoder, and return it as a space, with the fields of its card.

    Args:
        task: The training.
        stage, share: Name of this stage and its fraction of the time budget, if the autoencoder is
            a part of a larger training.
    """
    data, stop = task.parts.train, task.parts.stop
    channels = data.shape[0]
    halvings(data.shape, 2, 2)
    config: dict[str, Any] = {"channels": channels, "width": 32 if channels == 1 else 64}
    config |= {} if stage else task.options["net"]
    task.start()
    net = TinyAutoencoder(**config)
    weight = task.options["perceptual"]
    fits = channels in (1, 3) and min(data.shape[1:]) >= SMALLEST
    if weight is None:
        weight = PERCEPTUAL if fits else 0.0
    features = weights.load("faces/features", task.device) if weight else None
    loss = (None if stage else task.options["loss"]) or ReconstructionLoss(
        features, weight, task.options["mirror"]
    )
    default = Settings(epochs(len(data), 32, 150, 3000, 100_000), 32, 1e-3)
    held_out = None if stop is None else (stop.images,)
    preview = Preview(task.parts.test.floats(10))
    net = task.fit(
        net, loss, (data.images,), held_out, default, stage=stage, share=share, preview=preview
    )
    space, units = space_of(net, data)
    fields = {"net": "TinyAutoencoder", "config": config, "adapter": "Autoencoder", "space": units}
    return space, fields


def space_of(net: TinyAutoencoder, data: TrainingData) -> tuple[Autoencoder, dict[str, Any]]:
    """Return a trained autoencoder as a space, and its arguments ``shift_factor`` and so on.

    Each channel of the latents gets mean 0 and standard deviation 1.
    """
    channels = net.inner.config.latent_channels
    plain = Autoencoder(frozen(net), torch.zeros(channels, 1, 1), torch.ones(channels, 1, 1))
    images = data[torch.arange(min(len(data), STATISTICS_IMAGES))]
    z = latents(plain, images)
    units: dict[str, Any] = {
        "shift_factor": _each(z.mean((0, 2, 3))),
        "scaling_factor": _each(1 / z.std((0, 2, 3))),
    }
    space = Autoencoder(net, z.mean(0), z.std(0), **units)
    rows = torch.arange(len(images)).split(500)
    space.fit(images[part].floats() for part in rows)
    return space, units


def _each(values: Tensor) -> list[float]:
    return [round(value, 5) for value in values.tolist()]


@torch.no_grad()
def latents(space: Autoencoder, data: TrainingData) -> Tensor:
    """Return the latents of all images."""
    rows = torch.arange(len(data)).split(500)
    return torch.cat([space.encode(data[part].floats()).z for part in rows])


class ReconstructionLoss:
    """The loss of an autoencoder: absolute error of the pixels plus perceptual distance.

    In training, noise is added to the latents, because the latents that a diffusion model makes are
    not exact. Latents close to the latents of an image should decode to similar images.

    Args:
        features: Network whose features give the perceptual distance, or None.
        perceptual: Weight of the perceptual distance.
        mirror: Whether to mirror half of the images.
    """

    def __init__(
        self, features: SqueezeNet | None, perceptual: float = PERCEPTUAL, mirror: bool = False
    ) -> None:
        self.features, self.perceptual, self.mirror = features, perceptual, mirror

    def __call__(
        self, model: TinyAutoencoder, batch: tuple[Tensor, ...], generator: Generator
    ) -> Tensor:
        clean = as_unit(batch[0])
        if self.mirror:
            clean = mirrored(clean, generator)
        with autocast(clean.device):
            z = model.encode(clean * 2 - 1)
            noise = torch.randn(z.shape, generator=generator, device=z.device)
            std = z.detach().float().std((0, 2, 3), keepdim=True)
            drawn = (model.decode(z + LATENT_NOISE * std * noise) + 1) / 2
            value = (drawn.float() - clean).abs().mean()
            if self.features is not None:
                apart = perceptual_distance(self.features, drawn, clean, layers=LAYERS)
                value = value + self.perceptual * apart.mean()
        return value


class Preview:
    """Show images and their reconstructions."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __call__(self, net: nn.Module) -> list[Tensor]:
        model: Any = net
        images = self.images.to(next(net.parameters()).device)
        return [images, (model.decode(model.encode(images * 2 - 1)) + 1) / 2]


def copied(space: Autoencoder, device: torch.device) -> Autoencoder:
    """Return a copy of a space on another device."""
    return copy.deepcopy(space).to(device)
