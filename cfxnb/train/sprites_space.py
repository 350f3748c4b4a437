"""Recipes for sprites: the VAE, and the learned edits of single factors."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from cfxnb import weights
from cfxnb.contrastive.attribute_edits import AttributeEdits, fit_attribute_edits
from cfxnb.contrastive.contrastive_scores import contrastive_scores
from cfxnb.core.training import Recipe, autocast, fit
from cfxnb.data.lpc import LAYERS, render_sprites, top_layers
from cfxnb.data.sprite_classifiers import SPRITE_CLASSIFIERS, SPRITE_CONTRASTS
from cfxnb.data.sprite_figures import sprites
from cfxnb.nets import ConvVAE
from cfxnb.spaces.vae import VAE, measure_code_statistics
from cfxnb.train.cards import rounded, same_decisions, ship
from cfxnb.train.losses import as_bytes, as_unit, kl_term
from cfxnb.train.sprites import (
    figures,
    reading_accuracy,
    rounded_figures,
    sprite_card,
    test_figures,
)
from cfxnb.train.train_space import space

EDIT_STEPS = 4000
ERROR_WEIGHT = 1.25  # nats in the loss of the VAE per unit of squared error


def vae_loss(model: ConvVAE, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
    """Return the loss of the VAE: squared error plus rate (the KL term), in nats per image.

    In the squared error, all layers of a figure have the same weight, no matter how many pixels of
    a layer are visible. If all pixels had the same weight, the five pixels of the eyes would hardly
    count beside hundreds of pixels of hair. The squared error has a small weight relative to the
    rate, which corresponds to a decoder with a standard deviation of 0.6 per pixel. Because the
    error has a small weight, the codes of all figures fill the prior, and samples from the prior
    are figures as well.
    """
    images, top = as_unit(batch[0]), batch[1].flatten(1).long()
    with autocast(images.device):
        mean, log_variance = (t.float() for t in model.posterior(images))
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        drawn = model.decode(mean + noise * (0.5 * log_variance).exp())
    rate = kl_term(mean, log_variance).sum()
    return (ERROR_WEIGHT * _error(drawn, images, top, even=0.0) + rate) / len(images)


def _error(drawn: Tensor, images: Tensor, top: Tensor, even: float) -> Tensor:
    """Return the weighted squared error, summed over all images.

    Args:
        drawn: Decoded images, (b, c, h, w).
        images: Original images, (b, c, h, w).
        top: Index of the top layer at each pixel, (b, pixels).
        even: Fraction of the total weight that is divided equally between all pixels. The rest of
            the weight is divided equally between the layers; the share of a layer is divided
            equally between its visible pixels.
    """
    error = (drawn.float() - images).square().sum(1).flatten(1)
    kinds = len(LAYERS) + 1
    area = torch.zeros(len(top), kinds, device=top.device)
    area.scatter_add_(1, top, error.new_ones(top.shape))
    weight = even + (1 - even) * top.shape[1] / kinds / area.gather(1, top)
    return (weight * error).sum()


def sharpen(net: ConvVAE, folder: Path, *, steps: int = 3000, device: str = "cpu") -> ConvVAE:
    """Train the decoder while the encoder is fixed, which takes five minutes on two cores.

    After training with ``vae_loss`` alone, the background is grainy, because the background has
    most of the pixels but only the weight of one layer of seven.
    """
    train = figures(seed=1)
    with torch.no_grad():
        parts = [net.posterior(chunk) for chunk in train.images.split(512)]
    mean, log_variance = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    fit(
        net.decoder,
        decoder_loss,
        (as_bytes(train.images), top_layers(train.factors), mean, log_variance),
        steps=steps,
        batch_size=128,
        lr=1e-3,
        checkpoint_dir=folder,
        device=device,
    )
    return net


def decoder_loss(decoder: nn.Module, batch: tuple[Tensor, ...], generator: Generator) -> Tensor:
    """Return the squared error, with half of the weight divided equally between all pixels."""
    images, top = batch[0].float() / 255, batch[1].flatten(1).long()
    mean, log_variance = batch[2:]
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    with autocast(images.device):
        drawn = torch.sigmoid(decoder(mean + noise * (0.5 * log_variance).exp()))
    return _error(drawn, images, top, even=0.5) / len(images)


def make_vae(folder: Path, device: str) -> None:
    """Train the VAE for 25 epochs, which takes about twenty minutes on two cores, and save it."""
    train = rounded_figures(seed=1)
    made = space(
        train,
        "vae",
        net={"dims": 20, "depth": 2},
        loss=vae_loss,
        extra=(top_layers(train.factors),),
        held_out=sprites(n_samples=20, split="test", seed=3),
        early_stopping=False,
        quality=False,
        steps=12000,
        batch_size=128,
        lr=2e-3,
        checkpoint_dir=folder,
        device=device,
    ).cpu()
    net = sharpen(made.net.train().requires_grad_(True), folder / "decoder", device=device).cpu()
    images = sprites(n_samples=10_000, split="train", seed=3).images
    statistics: Any = measure_code_statistics(net, images)
    sharp = VAE(net.requires_grad_(False), **statistics)
    sharp.card = made.card
    card = sprite_card("space", f"variational autoencoder, codes (b, {net.dims})")
    ship("sprites/vae", sharp, card | {"quality": measure_vae(sharp)})


@torch.no_grad()
def measure_vae(space: VAE) -> dict[str, float]:
    """Return how well the VAE reconstructs held-out figures and samples new figures."""
    test = test_figures("independent")
    judge = weights.load("sprites/judge", "cpu")
    chunks = test.images.split(500)
    rebuilt = torch.cat([space.decode(space.encode(chunk)) for chunk in chunks])
    drawn = space.decode(space.sample(2000))
    mean, log_variance = (torch.cat(t) for t in zip(*map(space.net.posterior, chunks), strict=True))
    read = reading_accuracy(judge, test, rebuilt)
    eyes = read.pop("eyes")

    def confidence(images: Tensor) -> float:
        logits = judge(images)
        return float(torch.stack([head.softmax(1).amax(1) for head in logits.values()]).mean())

    twins = render_sprites(judge.read(drawn))
    pairs = test_figures("pairs").images
    again = space.decode(space.encode(pairs))
    decided = [
        same_decisions(weights.load(f"sprites/{name}", "cpu"), pairs, again)
        for name in SPRITE_CLASSIFIERS
    ]
    measured = {
        "fraction of factors (without eyes) read as they are after reconstruction": sum(
            read.values()
        )
        / len(read),
        "the worst of them": min(read.values()),
        "fraction of eyes read as they are after reconstruction": eyes,
        "fraction of the planted classifiers' decisions that survive reconstruction": sum(decided)
        / len(decided),
        "mean squared error of reconstructions": (rebuilt - test.images).square().mean().item(),
        "KL term, nats": kl_term(mean, log_variance).mean().item(),
        "judge's mean confidence on samples from the prior": confidence(drawn),
        "judge's mean confidence on held-out figures": confidence(test.images),
        "mean squared error between samples and the figures they are read as": (drawn - twins)
        .square()
        .mean()
        .item(),
        "the same with the figures shuffled": (drawn - twins.roll(1, 0)).square().mean().item(),
    }
    return rounded(measured)


def make_edits(preserve_others: bool, folder: Path, device: str) -> None:
    """Train attribute edits, measure their quality with the judge, and save them."""
    vae = weights.load("sprites/vae", device)
    train = sprites("pairs", 6000, split="train", seed=21)
    edits = fit_attribute_edits(
        vae,
        train.images,
        train.factors,
        contrasts=SPRITE_CONTRASTS,
        reader=weights.load("sprites/reader", device),
        preserve_others=preserve_others,
        steps=EDIT_STEPS,
        checkpoint_dir=folder,
    )
    config = {"dims": vae.mean.numel(), "attributes": len(SPRITE_CONTRASTS), "hidden_dim": 512}
    kept = "others preserved" if preserve_others else "others free"
    card = sprite_card("edits", f"edits of single factors ({kept})")
    card |= {
        "net": "EditNetwork",
        "config": config,
        "space": "sprites/vae",
        "contrasts": {name: list(pair) for name, pair in SPRITE_CONTRASTS.items()},
        "preserve_others": preserve_others,
        "quality": measure_edits(edits),
    }
    place = {"mean": edits.mean, "std": edits.std}
    name = "sprites/edits_preserve" if preserve_others else "sprites/edits_free"
    weights.save(name, edits.step_model.cpu(), card, **place)


def measure_edits(edits: AttributeEdits) -> dict[str, float]:
    """Measure how often attribute edits work, and how often they change another factor."""
    test = test_figures("pairs")
    space, honest, judge = (weights.load(f"sprites/{n}", "cpu") for n in ("vae", "honest", "judge"))
    scores = contrastive_scores(space, honest, test.images, test.factors, edits=edits, judge=judge)
    return rounded(
        {
            "fraction of edits that took effect, worst factor": scores.table["took effect"].min(),
            "leakage, mean": np.nanmean(scores.leakage),
            "leakage, worst pair": np.nanmax(scores.leakage),
        }
    )


RECIPES: dict[str, Recipe] = {
    "sprites/vae": make_vae,
    "sprites/edits_preserve": partial(make_edits, True),
    "sprites/edits_free": partial(make_edits, False),
}
