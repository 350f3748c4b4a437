"""Data, measured quality and cards of the shipped latent diffusion models and autoencoders."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfxnb import weights
from cfxnb.core.prediction import predict_logits
from cfxnb.core.training import Recipe
from cfxnb.data import ImageSet, digits, faces, sprites
from cfxnb.data.fairface import AGE_GROUPS, GENDERS
from cfxnb.data.fairface import FILE as FACES
from cfxnb.data.fairface import NAMES as SMILES
from cfxnb.data.fairface import SOURCE as FAIRFACE
from cfxnb.data.lpc import SPRITE_OPTIONS, as_indices
from cfxnb.data.mnist import SOURCE as DIGITS
from cfxnb.spaces import Autoencoder, Diffusion
from cfxnb.train.cards import card_of, frechet_distances, rounded, same_decisions, ship
from cfxnb.train.sprites import rounded_figures, sprite_card
from cfxnb.train.train_space import space as train_space

MEASURED = 1000  # number of held-out images, and of samples, for distances between sets
AUTOENCODER_STEPS = {"digits": 3000, "sprites": 4000, "faces": 4500}
LDM_STEPS = {"digits": 2000, "sprites": 1600, "faces": 2800}
PERCEPTUAL = {"digits": 0.0, "sprites": 0.0, "faces": 0.1}
#: Attributes that the diffusion models are conditioned on; "digit" and "smile" are the labels.
ATTRIBUTES: dict[str, Mapping[str, Sequence[str]]] = {
    "digits": {"digit": [str(d) for d in range(10)]},
    "sprites": SPRITE_OPTIONS,
    "faces": {"smile": SMILES, "gender": GENDERS, "age_group": list(AGE_GROUPS)},
}


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
    columns = {n: o for n, o in ATTRIBUTES["faces"].items() if n != "smile"}
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
        train=lambda: rounded_figures(seed=1),
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
    """Train an autoencoder, measure it, and save the autoencoder as a shipped space."""
    data = DATASETS[dataset]
    made = train_space(
        data.train(),
        "autoencoder",
        perceptual=PERCEPTUAL[dataset],
        mirror=data.mirrored,
        held_out=data.test(),
        early_stopping=False,
        quality=False,  # measured below
        steps=AUTOENCODER_STEPS[dataset],
        batch_size=32,
        lr=1e-3,
        checkpoint_dir=folder,
        device=device,
    ).cpu()
    shape = "x".join(map(str, made.mean.shape))
    card = data.card("space", f"autoencoder, latents {shape}, for diffusion")
    card["quality"] = measure_autoencoder(dataset, made)
    ship(f"{dataset}/autoencoder", made, card)


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
    data = DATASETS[dataset]
    made = train_space(
        data.train(),
        "ldm",
        autoencoder=weights.load(f"{dataset}/autoencoder", "cpu"),
        attributes=ATTRIBUTES[dataset],
        mirror=data.mirrored,
        held_out=data.test(),
        early_stopping=False,
        quality=False,  # measured below
        steps=LDM_STEPS[dataset],
        batch_size=128,
        lr=1e-3,
        checkpoint_dir=folder,
        device=device,
    ).cpu()
    names = ", ".join(ATTRIBUTES[dataset])
    card = data.card("space", f"latent diffusion, conditioned on {names}, any of them or none")
    card |= {"autoencoder": f"{dataset}/autoencoder", "quality": measure_ldm(dataset, made)}
    ship(f"{dataset}/ldm", made, card)


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
