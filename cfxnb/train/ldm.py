"""Training of a conditional latent diffusion model on the latents of an autoencoder."""

import copy
from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb.core.training import autocast
from cfxnb.nets.conditional_unet import ConditionalUNet
from cfxnb.spaces import Autoencoder, Diffusion
from cfxnb.train import autoencoder as first
from cfxnb.train.losses import noised
from cfxnb.train.task import Settings, Task, epochs, frozen, levels_of
from cfxnb.train.training_data import TrainingData, class_indices

OPEN = 0.3  # fraction of attributes that are left open in training
UNCONDITIONAL = 0.15  # fraction of images with all attributes left open
AUTOENCODER_SHARE = 0.4  # of the time budget


def train(task: Task) -> tuple[Diffusion, dict[str, Any]]:
    """Train an autoencoder if none is given, and a denoiser of its latents.

    Returns the space, and the fields of its card.
    """
    space, share = task.options["autoencoder"], 1.0
    if space is None:
        space, fields = first.train(task, "autoencoder", AUTOENCODER_SHARE)
        space.card, share = fields, 1 - AUTOENCODER_SHARE
    attributes = task.options["attributes"]
    if attributes is None:
        if task.parts.train.labels is None:
            raise ValueError("data: expected labels for kind='ldm', got images without labels")
        attributes = {"class": list(task.parts.train.class_names)}
    space = copy.deepcopy(space).to(task.device)
    z, options = conditioned(space, task.parts.train, attributes, task.options["mirror"])
    stop = task.parts.stop
    held_out = None if stop is None else conditioned(space, stop, attributes, False)
    halved = min(levels_of(side, 2) for side in z.shape[2:])
    config = {
        "widths": [64, 128, 128][: halved + 1],
        "attention": [False, True, True][: halved + 1],
        **task.options["net"],
    }
    task.start()
    net = ConditionalUNet(attributes, z.shape[1], **config)
    loss = task.options["loss"] or velocity
    default = Settings(epochs(len(z), 128, 150, 2000, 100_000), 128, 1e-3)
    net = task.fit(net, loss, (z, options), held_out, default, share=share)
    listed = {"attributes": {name: list(values) for name, values in attributes.items()}}
    fields = {"net": "ConditionalUNet", "config": {**listed, **config}, "adapter": "Diffusion"}
    if z.shape[1] != 4:
        fields["config"]["channels"] = z.shape[1]
    return Diffusion(frozen(net), space.cpu()), fields


def conditioned(
    space: Autoencoder, data: TrainingData, attributes: dict[str, Any], mirror: bool
) -> tuple[Tensor, Tensor]:
    """Return the latents of images in half precision, and the options of each image.

    With ``mirror``, the latents of the mirrored images come last.
    """
    options = class_indices(data, attributes)
    z = [first.latents(space, data)]
    if mirror:
        rows = torch.arange(len(data)).split(500)
        flipped = (data[part].floats().flip(3) for part in rows)
        with torch.no_grad():
            z.append(torch.cat([space.encode(part).z for part in flipped]))
    return torch.cat(z).half(), torch.cat([options] * len(z))


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
