"""Recipes of the diffusion autoencoders, one of each world, and of what draws new codes."""

from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb.core.ddim import TRAIN_STEPS, linear_alphas_cumprod
from cfxnb.core.training import autocast, fit
from cfxnb.nets import DiffAE
from cfxnb.nets.latent_net import LatentNet
from cfxnb.spaces.codecs import PixelUnshuffleCodec
from cfxnb.spaces.diffae import latent_alphas_cumprod

BLUR = 0.2  # standard deviation of the noise on codes, in their own spreads
NETS = {
    "digits": {"channels": 4, "size": 16, "base": 32, "mult": [1, 2], "sketch": [8, 8]},
    "sprites": {"channels": 48, "size": 14, "base": 64, "mult": [1, 2], "sketch": [7, 4]},
    "chest": {"channels": 16, "size": 16, "base": 32, "mult": [1, 2, 4], "sketch": [8, 8]},
}
FOLDS = {"digits": 2, "sprites": 4, "chest": 4}
STEPS = {"digits": 3500, "sprites": 4000, "chest": 2600}
LATENT = {"hidden_dim": 256, "layers": 6, "time_channels": 64}


def config(world: str) -> dict:
    """Arguments of the world's network, without what draws codes."""
    net = NETS[world]
    shared = {
        "dims": 64,
        "prediction_type": "v_prediction",
        "blocks": 1,
        "encoder_blocks": 1,
        "dropout": 0.0,
    }
    return {**net, "encoder_mult": net["mult"], **shared}


def autoencoder(
    world: str,
    images: Tensor,
    folder: Path | None,
    *,
    steps: int,
    seed: int = 0,
    device: str = "cpu",
) -> DiffAE:
    """Trained on the noise in noisy images, of which the code is all it is told."""
    torch.manual_seed(seed)
    fold = PixelUnshuffleCodec(FOLDS[world])
    net = DiffAE(**config(world))
    whiten(net, fold.encode(as_unit(images[:512]) * 2 - 1))
    return fit(
        net,
        Denoising(fold),
        (images,),
        steps=steps,
        batch_size=64,
        lr=1e-3,
        checkpoint_dir=folder,
        ema=0.9995,
        seed=seed,
        device=device,
    )


def as_unit(images: Tensor) -> Tensor:
    """Images in [0, 1], which may come as bytes."""
    return images if images.is_floating_point() else images.float() / 255


@torch.no_grad()
def whiten(net: DiffAE, clean: Tensor) -> None:
    """Let fresh codes have mean 0 and spread 1: a whisper is not listened to."""
    codes = net.encoder(clean)
    last: Any = net.encoder.out[3]
    last.weight /= codes.std(0).view(-1, 1, 1, 1)
    last.bias.copy_((last.bias - codes.mean(0)) / codes.std(0))


class Denoising:
    """Squared error of the velocity.

    Where little of an image is alpha_bar, its noise is easy to tell and the image hard; small networks
    that learn the noise, as published, hardly listen to the code. The velocity is the noise of
    what is nearly an image, and the image of what is nearly noise.

    Codes are blurred before they are told: those of similar images must lie close together, and
    what lies between two codes must mean something, too.
    """

    def __init__(self, fold: PixelUnshuffleCodec) -> None:
        self.fold = fold
        self.alphas_cumprod = linear_alphas_cumprod().float()

    def __call__(self, model: DiffAE, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
        clean = self.fold.encode(as_unit(batch[0]) * 2 - 1)

        def draw(shape: torch.Size) -> Tensor:
            return torch.randn(shape, generator=generator, device=clean.device)

        t = torch.randint(TRAIN_STEPS, (len(clean),), generator=generator, device=clean.device)
        alpha_bar = self.alphas_cumprod.to(clean.device)[t].view(-1, 1, 1, 1)
        noise = draw(clean.shape)
        noisy = alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise
        with autocast(clean.device):
            codes = model.encoder(clean.contiguous(memory_format=torch.channels_last)).float()
            blurred = codes + BLUR * codes.detach().std(0) * draw(codes.shape)
            guess = model(noisy.contiguous(memory_format=torch.channels_last), t, blurred)
        velocity = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * clean
        return (guess.float() - velocity).square().mean()


def drawer(
    codes: Tensor, folder: Path | None, *, steps: int = 6000, device: str = "cpu"
) -> LatentNet:
    """What draws new codes: a diffusion model of the codes (n, dims), in their spreads."""
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
    """Absolute error of the noise in noisy codes (Preechakul et al., appendix)."""
    (codes,) = batch
    t = torch.randint(TRAIN_STEPS, (len(codes),), generator=generator, device=codes.device)
    alpha_bar = latent_alphas_cumprod().to(codes)[t][:, None]
    noise = torch.randn(codes.shape, generator=generator, device=codes.device)
    return (
        (model(alpha_bar.sqrt() * codes + (1 - alpha_bar).sqrt() * noise, t) - noise).abs().mean()
    )
