"""Training of the diffusion autoencoders and of their latent DDIMs, one per data set."""

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

CODE_NOISE = 0.2  # noise on codes in training, in standard deviations of the codes
NETS = {
    "digits": {"channels": 4, "size": 16, "base": 32, "mult": [1, 2], "sketch": [8, 8]},
    "sprites": {"channels": 48, "size": 14, "base": 64, "mult": [1, 2], "sketch": [7, 4]},
    "chest": {"channels": 16, "size": 16, "base": 32, "mult": [1, 2, 4], "sketch": [8, 8]},
}
FOLDS = {"digits": 2, "sprites": 4, "chest": 4}
STEPS = {"digits": 3500, "sprites": 4000, "chest": 2600}
LATENT = {"hidden_dim": 256, "layers": 6, "time_channels": 64}


def config(dataset: str) -> dict:
    """Return the arguments of ``DiffAE`` for a data set, except those of the latent DDIM."""
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
    """Convert uint8 images to floats in [0, 1]. Float images stay unchanged."""
    return images if images.is_floating_point() else images.float() / 255


@torch.no_grad()
def whiten(net: DiffAE, clean: Tensor) -> None:
    """Rescale the output of the untrained encoder to mean 0 and standard deviation 1.

    Without rescaling, the U-Net ignores the codes, because their variance is small.
    """
    codes = net.encoder(clean)
    last: Any = net.encoder.out[3]
    last.weight /= codes.std(0).view(-1, 1, 1, 1)
    last.bias.copy_((last.bias - codes.mean(0)) / codes.std(0))


class Denoising:
    """The training loss: squared error of the predicted velocity.

    The network of the paper predicts the noise instead. In very noisy images, the noise can be
    predicted without the code, and small networks then hardly use the code. The velocity is close
    to the noise for nearly clean images, and close to the negative image for nearly pure noise.

    In training we add noise to the codes, so that similar images get similar codes. Codes between
    those of two images then decode to images, too.
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
            noisy_codes = codes + CODE_NOISE * codes.detach().std(0) * draw(codes.shape)
            predicted = model(noisy.contiguous(memory_format=torch.channels_last), t, noisy_codes)
        velocity = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * clean
        return (predicted.float() - velocity).square().mean()


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
