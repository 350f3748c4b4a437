"""Training of the diffusion autoencoders and of their latent DDIMs, one per data set."""

from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb.core.ddim import TRAIN_STEPS
from cfxnb.core.training import autocast, fit
from cfxnb.nets import DiffAE
from cfxnb.nets.latent_net import LatentNet
from cfxnb.spaces.codecs import PixelUnshuffleCodec
from cfxnb.spaces.diffae import latent_alphas_cumprod
from cfxnb.train.losses import as_unit, noised

CODE_NOISE = 0.2  # noise on codes in training, in standard deviations of the codes
NETS = {
    "digits": {"channels": 4, "size": 16, "base": 32, "mult": [1, 2], "sketch": [8, 8]},
    "sprites": {"channels": 48, "size": 14, "base": 64, "mult": [1, 2], "sketch": [7, 4]},
    "chest": {"channels": 16, "size": 16, "base": 32, "mult": [1, 2, 4], "sketch": [8, 8]},
    "faces": {"channels": 48, "size": 16, "base": 64, "mult": [1, 2, 2], "sketch": [8, 8]},
}
FOLDS = {"digits": 2, "sprites": 4, "chest": 4, "faces": 4}
STEPS = {"digits": 3500, "sprites": 4000, "chest": 2600, "faces": 5165}
BATCH_SIZES = {"digits": 64, "sprites": 64, "chest": 64, "faces": 256}
CORRELATION_WEIGHTS = {"digits": 0.0, "sprites": 0.0, "chest": 0.0, "faces": 0.02}
LATENT = {"hidden_dim": 256, "layers": 6, "time_channels": 64}


def config(dataset: str) -> dict:
    """Return the arguments of ``DiffAE`` for a data set, without those for the latent DDIM."""
    net = NETS[dataset]
    shared = {
        "dims": 64,
        "prediction_type": "v_prediction",
        "blocks": 1,
        "encoder_blocks": 1,
        "dropout": 0.0,
    }
    return {**net, "encoder_mult": net["mult"], **shared}


def autoencoder(
    dataset: str,
    images: Tensor,
    folder: Path | None,
    *,
    steps: int,
    seed: int = 0,
    device: str = "cpu",
) -> DiffAE:
    """Train a diffusion autoencoder."""
    torch.manual_seed(seed)
    fold = PixelUnshuffleCodec(FOLDS[dataset])
    net = DiffAE(**config(dataset))
    whiten(net, fold.encode(as_unit(images[:512]) * 2 - 1))
    return fit(
        net,
        Denoising(fold, CORRELATION_WEIGHTS[dataset]),
        (images,),
        steps=steps,
        batch_size=BATCH_SIZES[dataset],
        lr=1e-3,
        checkpoint_dir=folder,
        ema=0.9995,
        seed=seed,
        device=device,
    )


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


def latent_ddim(
    codes: Tensor, folder: Path | None, *, steps: int = 6000, device: str = "cpu"
) -> LatentNet:
    """Train the latent DDIM on standardised codes (n, dims)."""
    torch.manual_seed(0)
    net = LatentNet(codes.shape[1], **LATENT)
    return fit(
        net,
        latent_loss,
        (codes,),
        steps=steps,
        batch_size=256,
        lr=1e-3,
        checkpoint_dir=folder,
        device=device,
    )


def latent_loss(model: LatentNet, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
    """Return the absolute error of the predicted noise in codes (Preechakul et al., appendix)."""
    (codes,) = batch
    t = torch.randint(TRAIN_STEPS, (len(codes),), generator=generator, device=codes.device)
    alpha_bar = latent_alphas_cumprod().to(codes)[t][:, None]
    noise = torch.randn(codes.shape, generator=generator, device=codes.device)
    return (
        (model(alpha_bar.sqrt() * codes + (1 - alpha_bar).sqrt() * noise, t) - noise).abs().mean()
    )
