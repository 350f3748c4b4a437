"""Data, measured quality and cards of the shipped latent diffusion models and autoencoders."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfxnb import weights
from cfxnb.core.prediction import predict_logits
from cfxnb.core.training import Recipe
from cfxnb.data import ImageSet, digits, faces, sprites
from cfxnb.data.fairface import FILE as FACES
from cfxnb.data.fairface import SOURCE as FAIRFACE
from cfxnb.data.lpc import as_indices
from cfxnb.data.mnist import SOURCE as DIGITS
from cfxnb.nets.conditional_unet import ConditionalUNet
from cfxnb.nets.tiny_autoencoder import TinyAutoencoder
from cfxnb.spaces import Autoencoder, Diffusion
from cfxnb.train import autoencoder as first
from cfxnb.train import ldm
from cfxnb.train.cards import card_of, frechet_distances, rounded, same_decisions
from cfxnb.train.losses import as_bytes
from cfxnb.train.sprites import figures, sprite_card

MEASURED = 1000  # number of held-out images, and of samples, for distances between sets


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Data and networks with which the diffusion model of one data set is trained and measured.

    Attributes:
        train, test: functions that return image sets.
        options: function that returns the index of the option of each attribute for the n images
            of a set, int64 (n, attributes).
        explained: name of a classifier whose decisions should not change if the autoencoder
            reconstructs an image.
        features: name of a network with a method ``features``, for distances between image sets.
        read: function that returns the options that judges predict for n images, as a dict: name of
            the attribute -> indices of the options (n,).
        card: function that returns the common fields of a card.
        mirrored: whether the diffusion model is also trained on mirrored images.
    """

    train: Callable[[], ImageSet]
    test: Callable[[], ImageSet]
    options: Callable[[ImageSet], Tensor]
    explained: str
    features: str
    read: Callable[[Tensor], dict[str, Tensor]]
    card: Callable[..., dict[str, Any]]
    mirrored: bool = False


def _perceived(part: ImageSet) -> Tensor:
    """Return the indices of smile, gender and age group of n faces, int64 (n, 3)."""
    columns = {n: o for n, o in ldm.ATTRIBUTES["faces"].items() if n != "smile"}
    known = [[list(o).index(value) for value in part.factors[n]] for n, o in columns.items()]
    return torch.cat([part.labels[:, None], torch.tensor(known).T], 1)


def _judged(**judges: str) -> Callable[[Tensor], dict[str, Tensor]]:
    def read(images: Tensor) -> dict[str, Tensor]:
        return {
            n: predict_logits(weights.load(j, "cpu"), images).argmax(1) for n, j in judges.items()
        }

    return read


def _factors(images: Tensor) -> dict[str, Tensor]:
    judge = weights.load("sprites/judge", "cpu")
    return dict(zip(judge.options, judge.indices(images).T, strict=True))


def _people(images: Tensor) -> dict[str, Tensor]:
    found = _judged(smile="faces/judge", gender="faces/gender")(images)
    return {**found, "gender": 1 - found["gender"]}  # the judge's first class is male


DATASETS = {
    "digits": Dataset(
        train=lambda: digits("train"),
        test=digits,
        options=lambda part: part.labels[:, None],
        explained="digits/classifier",
        features="digits/judge",
        read=_judged(digit="digits/judge"),
        card=partial(card_of, source=DIGITS, files="digits/train-"),
    ),
    "sprites": Dataset(
        train=lambda: figures(seed=1),
        test=lambda: sprites("independent", 3000, split="test", seed=11),
        options=lambda part: torch.stack(
            [torch.as_tensor(v) for v in as_indices(part.factors).values()], 1
        ),
        explained="sprites/honest",
        features="sprites/judge",
        read=_factors,
        card=sprite_card,
    ),
    "faces": Dataset(
        train=lambda: faces("train"),
        test=faces,
        options=_perceived,
        explained="faces/smile",
        features="faces/features",
        read=_people,
        card=partial(card_of, source=FAIRFACE, files=FACES),
        mirrored=True,
    ),
}


def make_autoencoder(dataset: str, folder: Path, device: str) -> None:
    """Train an autoencoder, measure its latents, and save the autoencoder as a shipped space."""
    train = as_bytes(DATASETS[dataset].train().images)
    features = weights.load("faces/features", "cpu") if dataset == "faces" else None
    kwargs: dict[str, Any] = {"steps": first.STEPS[dataset], "features": features, "device": device}
    ship_autoencoder(dataset, first.autoencoder(dataset, train, folder, **kwargs).cpu(), train)


@torch.no_grad()
def ship_autoencoder(dataset: str, net: TinyAutoencoder, train: Tensor) -> None:
    """Standardise each channel of the latents, and write weights and card of the autoencoder."""
    plain = Autoencoder(net, *2 * [torch.zeros(4, 1, 1)])
    z = latents(plain, train[:10_000])
    units: dict[str, Any] = {
        "shift_factor": _each(z.mean((0, 2, 3))),
        "scaling_factor": _each(1 / z.std((0, 2, 3))),
    }
    space = Autoencoder(net, z.mean(0), z.std(0), **units)
    space.fit(part.float() / 255 for part in train[:10_000].split(500))
    shape = "x".join(map(str, space.mean.shape))
    summary = f"autoencoder, latents {shape}, for diffusion"
    card = DATASETS[dataset].card("space", "TinyAutoencoder", first.NETS[dataset], summary)
    card |= {
        "adapter": "Autoencoder",
        "space": units,
        "quality": measure_autoencoder(dataset, space),
    }
    weights.save(f"{dataset}/autoencoder", net, card, mean=space.mean, std=space.std)


def _each(values: Tensor) -> list[float]:
    return [round(value, 5) for value in values.tolist()]


@torch.no_grad()
def latents(space: Autoencoder, images: Tensor) -> Tensor:
    """Return the latents that the autoencoder gives for uint8 images."""
    return torch.cat([space.encode(part.float() / 255).z for part in images.split(500)])


@torch.no_grad()
def measure_autoencoder(dataset: str, space: Autoencoder) -> dict[str, float]:
    """Return how well the autoencoder reconstructs held-out images."""
    images = DATASETS[dataset].test().images[:MEASURED]
    rebuilt = torch.cat([space.decode(space.encode(part)) for part in images.split(250)])
    classifier = weights.load(DATASETS[dataset].explained, "cpu")
    found = {
        "mean squared error of reconstructions": (rebuilt - images).square().mean().item(),
        "fraction of decisions that survive reconstruction": same_decisions(
            classifier, images, rebuilt
        ),
        **frechet_distances(DATASETS[dataset].features, images, {"reconstructions": rebuilt}),
    }
    return rounded(found)


def make_ldm(dataset: str, folder: Path, device: str) -> None:
    """Train the denoiser on the latents of the shipped autoencoder, and save the denoiser."""
    space = weights.load(f"{dataset}/autoencoder", "cpu")
    z, options = training(dataset, space)
    net = ldm.denoiser(dataset, z, options, folder, steps=ldm.STEPS[dataset], device=device)
    ship_ldm(dataset, net.cpu())


def training(dataset: str, space: Autoencoder) -> tuple[Tensor, Tensor]:
    """Return the latents of the training images in half precision, and the options of each image.

    If the data set is mirrored, the latents of the mirrored images come last.
    """
    part = DATASETS[dataset].train()
    images, options = as_bytes(part.images), DATASETS[dataset].options(part)
    if DATASETS[dataset].mirrored:
        images, options = torch.cat([images, images.flip(3)]), torch.cat([options, options])
    return latents(space, images).half(), options


def ship_ldm(dataset: str, net: ConditionalUNet) -> None:
    space = Diffusion(net, weights.load(f"{dataset}/autoencoder", "cpu"))
    config = {"attributes": {k: list(v) for k, v in net.attributes.items()}, **ldm.NETS[dataset]}
    summary = f"latent diffusion, conditioned on {', '.join(net.attributes)}, any of them or none"
    card = DATASETS[dataset].card("space", "ConditionalUNet", config, summary)
    card |= {
        "adapter": "Diffusion",
        "autoencoder": f"{dataset}/autoencoder",
        "quality": measure_ldm(dataset, space),
    }
    weights.save(f"{dataset}/ldm", net, card)


@torch.no_grad()
def measure_ldm(dataset: str, space: Diffusion) -> dict[str, float]:
    """Return how often judges recognise the condition in samples, and distances to real images."""
    wanted = DATASETS[dataset].options(DATASETS[dataset].test())[:MEASURED]
    attributes = list(space.net.attributes.items())
    conditions = [
        {n: o[i] for (n, o), i in zip(attributes, row, strict=True)} for row in wanted.tolist()
    ]
    drawn = samples(space, conditions)
    found: dict[str, float] = {}
    for name, read in DATASETS[dataset].read(drawn).items():
        column = list(space.net.attributes).index(name)
        right = (read == wanted[:, column]).double().mean().item()
        found[f"samples in which a judge reads the {name} asked for"] = right
    unconditional = samples(space, [None] * len(conditions))
    images = DATASETS[dataset].test().images
    others = {
        "samples": drawn,
        "samples, no condition": unconditional,
        "other real images": images[MEASURED : 2 * MEASURED],
    }
    found |= frechet_distances(DATASETS[dataset].features, images[:MEASURED], others)
    return rounded(found)


def samples(space: Diffusion, conditions: list[Any]) -> Tensor:
    """Sample one image per condition, with the default options of ``Diffusion.sample``."""
    parts = [
        space.decode(space.sample(conditions[i : i + 250], seed=1000 + i))
        for i in range(0, len(conditions), 250)
    ]
    return torch.cat(parts)


RECIPES: dict[str, Recipe] = {
    **{f"{dataset}/autoencoder": partial(make_autoencoder, dataset) for dataset in DATASETS},
    **{f"{dataset}/ldm": partial(make_ldm, dataset) for dataset in DATASETS},
}
