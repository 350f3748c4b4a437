"""Training of a diffusion autoencoder, and of its latent DDIM."""

from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb.core.ddim import TRAIN_STEPS
from cfxnb.core.training import autocast
from cfxnb.nets import DiffAE
from cfxnb.nets.latent_net import LatentNet
from cfxnb.spaces.codecs import PixelUnshuffleCodec
from cfxnb.spaces.diffae import DiffusionAutoencoder, latent_alphas_cumprod
from cfxnb.train.losses import as_unit, noised
from cfxnb.train.task import Settings, Task, epochs, frozen, halvings
from cfxnb.train.training_data import TrainingData

CODE_NOISE = 0.2  # noise on codes in training, in standard deviations of the codes
LATENT = {"hidden_dim": 256, "layers": 6, "time_channels": 64}
LATENT_SHARE = 0.1  # of the time budget, for the latent DDIM
DDIM_STEPS = 20
STATISTICS_IMAGES = 10_000  # images on which mean and std of the codes are measured


def train(task: Task) -> tuple[DiffusionAutoencoder, dict[str, Any]]:
    """Train a diffusion autoencoder and its latent DDIM.

    Returns the space, and the fields of its card.
    """
    data, stop, options = task.parts.train, task.parts.stop, task.options
    if options["mirror"]:
        data = _with_mirrored(data)
    fold = options["fold"] or default_fold(data.shape)
    config = _config(data.shape, fold) | options["net"]
    task.start()
    codec = PixelUnshuffleCodec(fold)
    net: Any = DiffAE(**config)
    whiten(net, codec.encode(data.floats(512) * 2 - 1))
    loss = options["loss"] or Denoising(codec)
    default = Settings(epochs(len(data), 64, 100, 2500, 100_000), 64, 1e-3, 0.9995)
    held_out = None if stop is None else (stop.images,)
    net = task.fit(net, loss, (data.images,), held_out, default, share=1 - LATENT_SHARE)
    count = options["ddim_steps"] or DDIM_STEPS
    arguments: dict[str, Any] = {"codec": fold, "steps": count, "inversion_steps": count}
    trained: Any = frozen(net)
    space = DiffusionAutoencoder(trained, torch.zeros(net.dims), torch.ones(net.dims), **arguments)
    rows = torch.arange(min(len(data), options["statistics_images"] or STATISTICS_IMAGES))
    space.fit(data[part].floats() for part in rows.split(500))
    codes = torch.cat([space.encode_semantic(data[part].floats()) for part in rows.split(500)])
    standardised = ((codes - space.mean) / space.std.clamp_min(1e-8)).detach()
    torch.manual_seed(0)
    latent_net: Any = LatentNet(codes.shape[1], **LATENT)
    latent_net = task.fit(
        latent_net,
        latent_loss,
        (standardised,),
        None,
        Settings(6000, 256, 1e-3),
        stage="latent",
        share=LATENT_SHARE,
    )
    net.latent_net = frozen(latent_net)
    fields = {"net": "DiffAE", "config": {**config, "latent": LATENT}}
    return space, {**fields, "adapter": "DiffusionAutoencoder", "space": arguments}


def default_fold(shape: tuple[int, ...]) -> int:
    """Return the side of the squares of pixels that become channels, for images (c, h, w)."""
    return 2 if max(shape[1:]) <= 32 else 4


def check_size(shape: tuple[int, ...], fold: int) -> None:
    """Raise ValueError if images of a shape (c, h, w) can't be halved as often as needed."""
    halvings(shape, 4, {1: 1, 2: 2, 4: 3, 8: 4}.get(fold, 1))


def _config(shape: tuple[int, ...], fold: int) -> dict[str, Any]:
    """Return the arguments of ``DiffAE`` for images of a shape, without ``latent``."""
    check_size(shape, fold)
    channels, height, width = shape
    mult = [1, 2] if max(height, width) // fold <= 16 else [1, 2, 2]
    return {
        "channels": channels * fold**2,
        "size": height // fold,
        "base": 32 if channels == 1 else 64,
        "mult": mult,
        "sketch": [height // fold // 2, width // fold // 2],
        "encoder_mult": mult,
        **SHARED,
    }


SHARED: dict[str, Any] = {
    "dims": 64,
    "prediction_type": "v_prediction",
    "blocks": 1,
    "encoder_blocks": 1,
    "dropout": 0.0,
}


def _with_mirrored(data: TrainingData) -> TrainingData:
    """Return the images, followed by their mirror images."""
    return TrainingData(torch.cat([data.images, data.images.flip(3)]), source=data.source)


@torch.no_grad()
def whiten(net: DiffAE, clean: Tensor) -> None:
    """Rescale the output of the untrained encoder to mean 0 and standard deviation 1.

    Without rescaling, the U-Net ignores the codes, because the codes of an untrained encoder have a
    small variance.
    """
    codes = net.encoder(clean)
    last: Any = net.encoder.out[3]
    last.weight /= codes.std(0).view(-1, 1, 1, 1)
    last.bias.copy_((last.bias - codes.mean(0)) / codes.std(0))


class Denoising:
    """The training loss of a diffusion autoencoder: squared error of the predicted velocity.

    In the paper, the network predicts the noise, not the velocity. In very noisy images, the noise
    can be predicted without the code, so small networks that predict the noise hardly use the code.
    The velocity is close to the noise for nearly clean images, and close to the negative image for
    nearly pure noise.

    In training, noise is added to the codes, so that similar images get similar codes. Because of
    the noise, codes between the codes of two images decode to images, too.

    Args:
        fold: codec that turns images into the input of the network.
        correlation_weight: weight of ``correlation`` in the loss. If the weight is 0, coordinates
            of the codes can be correlated, and codes can change along fewer independent axes.
    """

    def __init__(self, fold: PixelUnshuffleCodec, correlation_weight: float = 0.0) -> None:
        self.fold = fold
        self.correlation_weight = correlation_weight

    def __call__(self, model: DiffAE, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
        clean = self.fold.encode(as_unit(batch[0]) * 2 - 1)
        t, noisy, velocity = noised(clean, generator)
        with autocast(clean.device):
            codes = model.encoder(clean.contiguous(memory_format=torch.channels_last)).float()
            noise = torch.randn(codes.shape, generator=generator, device=codes.device)
            noisy_codes = codes + CODE_NOISE * codes.detach().std(0) * noise
            predicted = model(noisy.contiguous(memory_format=torch.channels_last), t, noisy_codes)
        loss = (predicted.float() - velocity).square().mean()
        if self.correlation_weight:
            loss = loss + self.correlation_weight * correlation(codes)
        return loss


def correlation(codes: Tensor) -> Tensor:
    """Return, as a mean over coordinates, the sum of squared correlations with all others.

    The correlation loss is 0 if the coordinates of the codes (b, dims) are uncorrelated.
    """
    standardised = (codes - codes.mean(0)) / codes.std(0).clamp_min(1e-4)
    squared = (standardised.T @ standardised / len(codes)).square()
    return (squared.sum() - squared.diagonal().sum()) / len(squared)


def latent_loss(model: LatentNet, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
    """Return the absolute error of the predicted noise in codes (Preechakul et al., appendix)."""
    (codes,) = batch
    t = torch.randint(TRAIN_STEPS, (len(codes),), generator=generator, device=codes.device)
    alpha_bar = latent_alphas_cumprod().to(codes)[t][:, None]
    noise = torch.randn(codes.shape, generator=generator, device=codes.device)
    return (
        (model(alpha_bar.sqrt() * codes + (1 - alpha_bar).sqrt() * noise, t) - noise).abs().mean()
    )
