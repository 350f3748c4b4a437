"""Training of a variational autoencoder on any images."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from cfxnb.core.training import autocast
from cfxnb.nets import ConvVAE
from cfxnb.spaces.vae import VAE, measure_code_statistics
from cfxnb.train.losses import as_unit, kl_term, mirrored
from cfxnb.train.task import Settings, Task, epochs, frozen, halvings

WIDTHS = (32, 64, 128, 128, 128)  # feature maps at each resolution, largest first
DIMS_PER_CELL = 8  # coordinates of the code for each position of the smallest feature maps
LEAST_ERROR = 4e-4  # squared error per pixel below which errors don't count more: 5 of 255 levels
STATISTICS_IMAGES = 60_000  # images on which mean and std of the codes are measured


def train(task: Task) -> tuple[VAE, dict[str, Any]]:
    """Train a VAE, and return it as a space, with the fields of its card."""
    data, options = task.parts.train, task.options
    channels, height, width = data.shape
    widths = options["net"].get("widths") or list(WIDTHS[: halvings(data.shape, 5, 2)])
    cells = (height >> len(widths)) * (width >> len(widths))
    config: dict[str, Any] = {
        "dims": DIMS_PER_CELL * cells,
        "channels": channels,
        "size": [height, width],
    }
    # Codes with a place in the image are learned from far fewer images.
    config |= {"widths": widths, "spatial": "dims" not in options["net"], **options["net"]}
    task.start()
    net = ConvVAE(**config)
    loss = options["loss"] or VAELoss(mirror=options["mirror"])
    extra = options["extra"]
    default = Settings(epochs(len(data), 64, 300, 6000, 200_000), 64, 2e-3)
    stop = None if task.parts.stop is None else (task.parts.stop.images,)
    shown = task.parts.test.floats(10)
    net = task.fit(net, loss, (data.images, *extra), stop, default, preview=Preview(shown))
    fields: dict[str, Any] = {"net": "ConvVAE", "config": config, "adapter": "VAE"}
    if config["spatial"]:
        fields["space"] = {"prior": "codes"}
    statistics: dict[str, Any] = measure_code_statistics(
        frozen(net), data.floats(STATISTICS_IMAGES)
    )
    return VAE(net, **statistics, **fields.get("space", {})), fields


class VAELoss:
    """The loss of a VAE: reconstruction error plus ``beta`` times the KL term, in nats per image.

    Args:
        beta: Weight of the KL term. 1 gives the evidence lower bound, less gives sharper images.
        likelihood: ``"gaussian"`` measures squared errors in units of their own mean over the batch
            (the sigma-VAE of Rybkin et al., 2021), so that no weight must be tuned for a data set.
            ``"bernoulli"`` is the cross-entropy of pixels, for black and white images.
        mirror: Whether to mirror half of the images.
    """

    def __init__(
        self, beta: float = 1.0, likelihood: str = "gaussian", mirror: bool = False
    ) -> None:
        self.beta, self.likelihood, self.mirror = beta, likelihood, mirror

    def __call__(self, model: ConvVAE, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
        images = as_unit(batch[0])
        if self.mirror:
            images = mirrored(images, generator)
        with autocast(images.device):
            mean, log_variance = (t.float() for t in model.posterior(images))
            noise = torch.randn(mean.shape, generator=generator, device=mean.device)
            logits = model.decode_logits(mean + noise * (0.5 * log_variance).exp())
        if self.likelihood == "bernoulli":
            error = F.binary_cross_entropy_with_logits(logits.float(), images, reduction="sum")
        else:
            squared = (torch.sigmoid(logits.float()) - images).square()
            variance = squared.mean().detach().clamp_min(LEAST_ERROR)
            error = 0.5 * (squared.sum() / variance + images.numel() * variance.log())
        return (error + self.beta * kl_term(mean, log_variance).sum()) / len(images)


class Preview:
    """Show images, their reconstructions, and samples from the prior."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __call__(self, net: nn.Module) -> list[Tensor]:
        model: Any = net
        images = self.images.to(next(net.parameters()).device)
        mean, _ = model.posterior(images)
        noise = torch.randn(mean.shape, generator=Generator().manual_seed(0)).to(mean)
        return [images, model.decode(mean), model.decode(noise)]
