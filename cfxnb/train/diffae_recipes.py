"""Data, measured quality and cards of the shipped diffusion autoencoders."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfxnb import weights
from cfxnb.core.prediction import predict_logits
from cfxnb.core.tensors import noise_like
from cfxnb.core.training import Recipe
from cfxnb.core.types import Code
from cfxnb.data import chest, digits
from cfxnb.data.mnist import SOURCE as DIGITS
from cfxnb.data.xrays import SOURCE as XRAYS
from cfxnb.metrics import fid
from cfxnb.nets import DiffAE
from cfxnb.spaces.diffae import DiffusionAutoencoder
from cfxnb.train.cards import card_of
from cfxnb.train.diffae import FOLDS, LATENT, STEPS, autoencoder, config, latent_ddim
from cfxnb.train.sprites import as_bytes, figures, sprite_card, test_figures

COUNTS = {"digits": 10, "sprites": 10, "chest": 20}  # steps, and inversion steps


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Data and classifiers to train and measure the space of one data set.

    Attributes:
        train, test: functions that return images. The training images may be uint8.
        explained: names of classifiers whose decisions reconstruction should preserve.
        card: function that returns the common fields of a card.
    """

    train: Callable[[], Tensor]
    test: Callable[[], Tensor]
    explained: tuple[str, ...]
    card: Callable[..., dict[str, Any]]


DATASETS = {
    "digits": Dataset(
        lambda: digits("train").images,
        lambda: digits("test").images[:500],
        ("classifier",),
        partial(card_of, source=DIGITS, files="digits/"),
    ),
    "sprites": Dataset(
        lambda: as_bytes(figures(seed=1).images),
        lambda: test_figures("pairs").images[:500],
        ("honest", "shortcut", "majority", "conjunction", "unknown"),
        sprite_card,
    ),
    "chest": Dataset(
        lambda: chest("train").images,
        lambda: chest("test").images,
        ("classifier",),
        partial(card_of, source=XRAYS, files="chest/chest64"),
    ),
}


def make(dataset: str, folder: Path, device: str) -> None:
    """Train the autoencoder and its latent DDIM, and ship them together."""
    train = DATASETS[dataset].train()
    net = autoencoder(dataset, train, folder, steps=STEPS[dataset], device=device).cpu()
    ship(dataset, net, train, folder, device)


def ship(dataset: str, net: DiffAE, train: Tensor, folder: Path, device: str) -> None:
    """Train the latent DDIM, measure the space on held-out images, and write weights and card."""
    options: dict[str, Any] = {
        "codec": FOLDS[dataset],
        "steps": COUNTS[dataset],
        "inversion_steps": COUNTS[dataset],
    }
    space = DiffusionAutoencoder(net, torch.zeros(net.dims), torch.ones(net.dims), **options)
    images = train if train.is_floating_point() else train[:10_000].float() / 255
    space.fit(images.split(500))
    codes = torch.cat([space.encode_semantic(part) for part in images.split(500)])
    standardised = ((codes - space.mean) / space.std.clamp_min(1e-8)).detach()
    net.latent_net = latent_ddim(standardised, folder / "latent", device=device).cpu()
    card = DATASETS[dataset].card(
        "space",
        "DiffAE",
        {**config(dataset), "latent": LATENT},
        f"diffusion autoencoder, semantic codes (b, {net.dims}) and noise",
    )
    card |= {
        "adapter": "DiffusionAutoencoder",
        "space": options,
        "quality": measure(dataset, space),
    }
    weights.save(f"{dataset}/diffae", net, card, mean=space.mean, std=space.std)


@torch.no_grad()
def measure(dataset: str, space: DiffusionAutoencoder) -> dict[str, float]:
    """Return how well the space reconstructs held-out images and samples new ones."""
    images = DATASETS[dataset].test()
    code = space.encode(images)
    noise = noise_like(code.aux, seed=5)  # type: ignore[arg-type]
    rebuilt, fresh = space.decode(code), space.decode(Code(code.z, noise))
    drawn = space.decode(space.sample(len(images), shape=tuple(images.shape[1:])))
    judge = weights.load(f"{dataset}/judge", "cpu")
    features = getattr(judge, "module", judge).features
    kept: dict[str, list[float]] = {"inverted": [], "random": []}
    for name in DATASETS[dataset].explained:
        classifier = weights.load(f"{dataset}/{name}", "cpu")
        before = predict_logits(classifier, images).argmax(1)
        for kind, made in (("inverted", rebuilt), ("random", fresh)):
            same = predict_logits(classifier, made).argmax(1) == before
            kept[kind].append(same.double().mean().item())
    found = {
        "fraction of decisions that survive reconstruction": min(kept["inverted"]),
        "fraction of decisions that survive it with random noise": min(kept["random"]),
        "mean squared error of reconstructions": (rebuilt - images).square().mean().item(),
        "mean squared error of reconstructions with random noise": (fresh - images)
        .square()
        .mean()
        .item(),
        "set distance (FID in the judge's features) of reconstructions": fid(
            features(rebuilt), features(images)
        ),
        "of new samples": fid(features(drawn), features(images)),
        "of one half of the real images to the other (half as many, so biased upwards)": fid(
            features(images[::2]), features(images[1::2]), allow_few=True
        ),
    }
    return {name: round(value, 4) for name, value in found.items()}


RECIPES: dict[str, Recipe] = {f"{dataset}/diffae": partial(make, dataset) for dataset in DATASETS}
