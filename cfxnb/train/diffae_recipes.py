"""Data, measured quality and cards of the shipped diffusion autoencoders."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfxnb import weights
from cfxnb.core.tensors import noise_like
from cfxnb.core.training import Recipe
from cfxnb.core.types import Code
from cfxnb.data import chest, digits, faces
from cfxnb.data.fairface import FILE as FACES
from cfxnb.data.fairface import SOURCE as FAIRFACE
from cfxnb.data.mnist import SOURCE as DIGITS
from cfxnb.data.xrays import SOURCE as XRAYS
from cfxnb.spaces.codecs import PixelUnshuffleCodec
from cfxnb.spaces.diffae import DiffusionAutoencoder
from cfxnb.train.cards import card_of, frechet_distances, rounded, same_decisions, ship
from cfxnb.train.diffae import Denoising
from cfxnb.train.sprites import rounded_figures, sprite_card, test_figures
from cfxnb.train.train_space import space as train_space

COUNTS = {"digits": 10, "sprites": 10, "chest": 20, "faces": 20}  # steps, and inversion steps
#: What differs between the data sets. Everything else follows from the size of the images.
SETTINGS: dict[str, dict[str, Any]] = {
    "digits": {"steps": 3500, "batch_size": 64, "statistics_images": 60_000},
    "sprites": {"steps": 4000, "batch_size": 64},
    "chest": {
        "steps": 2600,
        "batch_size": 64,
        "statistics_images": 60_000,
        "net": {"mult": [1, 2, 4], "encoder_mult": [1, 2, 4]},
    },
    "faces": {
        "steps": 5165,
        "batch_size": 256,
        "net": {"mult": [1, 2, 2], "encoder_mult": [1, 2, 2]},
        "loss": Denoising(PixelUnshuffleCodec(4), correlation_weight=0.02),
        "mirror": True,
    },
}
AXES = "principal axes of the standardised codes that hold 99.5 % of the variance"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What a data set's diffusion autoencoder is trained and measured with: data, classifiers.

    Attributes:
        train, test: functions that return images.
        explained: names of classifiers whose decisions should not change if an image is
            reconstructed.
        card: function that returns the common fields of a card.
        judged: True if the judge is a classifier whose decisions should not change either.
    """

    train: Callable[[], Tensor]
    test: Callable[[], Tensor]
    explained: tuple[str, ...]
    card: Callable[..., dict[str, Any]]
    judged: bool = False


DATASETS = {
    "digits": Dataset(
        lambda: digits("train").images,
        lambda: digits("test").images[:500],
        ("classifier",),
        partial(card_of, source=DIGITS, files="digits/"),
    ),
    "sprites": Dataset(
        lambda: rounded_figures(seed=1).images,
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
    "faces": Dataset(
        lambda: faces("train").images,
        lambda: faces("test").images[:500],
        ("smile",),
        partial(card_of, source=FAIRFACE, files=FACES),
        judged=True,
    ),
}


def make(dataset: str, folder: Path, device: str) -> None:
    """Train a diffusion autoencoder and its latent DDIM, and save them as one shipped network."""
    data = DATASETS[dataset]
    made = train_space(
        data.train(),
        "diffae",
        **SETTINGS[dataset],
        ddim_steps=COUNTS[dataset],
        lr=1e-3,
        ema=0.9995,
        held_out=data.test(),
        early_stopping=False,
        quality=False,  # measured below
        checkpoint_dir=folder,
        device=device,
    ).cpu()
    card = data.card(
        "space", f"diffusion autoencoder, semantic codes (b, {made.net.dims}) and noise"
    )
    card["quality"] = {**measure(dataset, made), AXES: len(made.axes)}
    ship(f"{dataset}/diffae", made, card)


@torch.no_grad()
def measure(dataset: str, space: DiffusionAutoencoder) -> dict[str, float]:
    """Return how well the autoencoder reconstructs held-out images and samples new images."""
    images = DATASETS[dataset].test()
    code = space.encode(images)
    noise = noise_like(code.aux, seed=5)  # type: ignore[arg-type]
    rebuilt, fresh = space.decode(code), space.decode(Code(code.z, noise))
    drawn = space.decode(space.sample(len(images), shape=tuple(images.shape[1:])))
    explained = [weights.load(f"{dataset}/{name}", "cpu") for name in DATASETS[dataset].explained]
    found = {
        "fraction of decisions that survive reconstruction": min(
            same_decisions(f, images, rebuilt) for f in explained
        ),
        "fraction of decisions that survive it with random noise": min(
            same_decisions(f, images, fresh) for f in explained
        ),
        "mean squared error of reconstructions": (rebuilt - images).square().mean().item(),
        "mean squared error of reconstructions with random noise": (fresh - images)
        .square()
        .mean()
        .item(),
        **frechet_distances(
            f"{dataset}/judge", images, {"reconstructions": rebuilt, "new samples": drawn}
        ),
        **frechet_distances(
            f"{dataset}/judge",
            images[::2],
            {"halves of the real images (half as many, so biased upwards)": images[1::2]},
        ),
    }
    if DATASETS[dataset].judged:
        judge = weights.load(f"{dataset}/judge", "cpu")
        name = "fraction of the judge's decisions that survive reconstruction"
        found[name] = same_decisions(judge, images, rebuilt)
    return rounded(found)


RECIPES: dict[str, Recipe] = {f"{dataset}/diffae": partial(make, dataset) for dataset in DATASETS}
