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
from cfxnb.nets import DiffAE
from cfxnb.spaces.diffae import DiffusionAutoencoder
from cfxnb.train.cards import card_of, frechet_distances, rounded, same_decisions
from cfxnb.train.diffae import FOLDS, LATENT, STEPS, autoencoder, config, latent_ddim
from cfxnb.train.losses import as_bytes
from cfxnb.train.sprites import figures, sprite_card, test_figures

COUNTS = {"digits": 10, "sprites": 10, "chest": 20, "faces": 20}  # steps, and inversion steps
AXES = "principal axes of the standardised codes that hold 99.5 % of the variance"


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What a data set's diffusion autoencoder is trained and measured with: data, classifiers.

    Attributes:
        train, test: functions that return images. The training images may be uint8.
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


def mirrored_faces() -> Tensor:
    """Return the training faces, followed by their mirror images, uint8."""
    images = as_bytes(faces("train").images)
    return torch.cat([images, images.flip(3)])


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
    "faces": Dataset(
        mirrored_faces,
        lambda: faces("test").images[:500],
        ("smile",),
        partial(card_of, source=FAIRFACE, files=FACES),
        judged=True,
    ),
}


def make(dataset: str, folder: Path, device: str) -> None:
    """Train a diffusion autoencoder and its latent DDIM, and save them as one shipped network."""
    train = DATASETS[dataset].train()
    net = autoencoder(dataset, train, folder, steps=STEPS[dataset], device=device).cpu()
    ship(dataset, net, train, folder, device)


def ship(dataset: str, net: DiffAE, train: Tensor, folder: Path, device: str) -> None:
    """Train the latent DDIM, measure the network on held-out images, and write weights and card."""
    options: dict[str, Any] = {
        "codec": FOLDS[dataset],
        "steps": COUNTS[dataset],
        "inversion_steps": COUNTS[dataset],
    }
    space = DiffusionAutoencoder(net, torch.zeros(net.dims), torch.ones(net.dims), **options)
    images = train if train.is_floating_point() else train[:10_000].float() / 255
    space.fit(images.split(500))
    stated = {n: v for n in weights.STATISTICS if (v := getattr(space, n)) is not None}
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
        "quality": {**measure(dataset, space), AXES: len(stated["axes"])},
    }
    weights.save(f"{dataset}/diffae", net, card, **stated)


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
