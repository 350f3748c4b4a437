"""The shipped latent diffusion models and their autoencoders: data, measures and cards."""

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
from cfxnb.metrics import fid
from cfxnb.nets.conditional_unet import ConditionalUNet
from cfxnb.nets.tiny_autoencoder import TinyAutoencoder
from cfxnb.spaces import Autoencoder, Diffusion
from cfxnb.train import autoencoder as first
from cfxnb.train import ldm
from cfxnb.train.cards import card_of
from cfxnb.train.sprites import as_bytes, figures, sprite_card

MEASURED = 1000  # held-out images, and samples, for distances between sets


@dataclasses.dataclass(frozen=True)
class World:
    """What a diffusion model of one world is trained on and measured with.

    Attributes:
        train, test: image sets.
        told: number of each image's option of each attribute, int64 (n, attributes).
        explained: the classifier whose decisions should survive the autoencoder.
        features: what distances between sets are measured in: a network with ``features``.
        read: images -> number of the option of each attribute that a judge can read, by name.
        card: makes the frame of a card.
        mirrored: whether the mirror images are trained on, too.
    """

    train: Callable[[], ImageSet]
    test: Callable[[], ImageSet]
    told: Callable[[ImageSet], Tensor]
    explained: str
    features: str
    read: Callable[[Tensor], dict[str, Tensor]]
    card: Callable[..., dict[str, Any]]
    mirrored: bool = False


def _perceived(part: ImageSet) -> Tensor:
    """Smile, gender and age group of faces."""
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


WORLDS = {
    "digits": World(
        train=lambda: digits("train"),
        test=digits,
        told=lambda part: part.labels[:, None],
        explained="digits/classifier",
        features="digits/judge",
        read=_judged(digit="digits/judge"),
        card=partial(card_of, source=DIGITS, files="digits/train-"),
    ),
    "sprites": World(
        train=lambda: figures(seed=1),
        test=lambda: sprites("independent", 3000, split="test", seed=11),
        told=lambda part: torch.stack(
            [torch.as_tensor(v) for v in as_indices(part.factors).values()], 1
        ),
        explained="sprites/honest",
        features="sprites/judge",
        read=_factors,
        card=sprite_card,
    ),
    "faces": World(
        train=lambda: faces("train"),
        test=faces,
        told=_perceived,
        explained="faces/smile",
        features="faces/features",
        read=_people,
        card=partial(card_of, source=FAIRFACE, files=FACES),
        mirrored=True,
    ),
}


def make_autoencoder(world: str, folder: Path, device: str) -> None:
    """Train it, measure its latents, and ship it as a space."""
    train = as_bytes(WORLDS[world].train().images)
    seen = weights.load("faces/features", "cpu") if world == "faces" else None
    kwargs: dict[str, Any] = {"steps": first.STEPS[world], "features": seen, "device": device}
    ship_autoencoder(world, first.autoencoder(world, train, folder, **kwargs).cpu(), train)


@torch.no_grad()
def ship_autoencoder(world: str, net: TinyAutoencoder, train: Tensor) -> None:
    """Shift and scale each channel to mean 0 and spread 1, and write weights and card."""
    plain = Autoencoder(net, *2 * [torch.zeros(4, 1, 1)])
    z = latents(plain, train[:10_000])
    told: dict[str, Any] = {
        "shift_factor": _each(z.mean((0, 2, 3))),
        "scaling_factor": _each(1 / z.std((0, 2, 3))),
    }
    space = Autoencoder(net, z.mean(0), z.std(0), **told)
    space.fit(part.float() / 255 for part in train[:10_000].split(500))
    shape = "x".join(map(str, space.mean.shape))
    summary = f"autoencoder, latents {shape}, for diffusion"
    card = WORLDS[world].card("space", "TinyAutoencoder", first.NETS[world], summary)
    card |= {"adapter": "Autoencoder", "space": told, "quality": measure_autoencoder(world, space)}
    weights.save(f"{world}/autoencoder", net, card, mean=space.mean, std=space.std)


def _each(values: Tensor) -> list[float]:
    return [round(value, 5) for value in values.tolist()]


@torch.no_grad()
def latents(space: Autoencoder, images: Tensor) -> Tensor:
    """Codes of many images in bytes."""
    return torch.cat([space.encode(part.float() / 255).z for part in images.split(500)])


@torch.no_grad()
def measure_autoencoder(world: str, space: Autoencoder) -> dict[str, float]:
    """Quality on held-out images, as the card states it."""
    images = WORLDS[world].test().images[:MEASURED]
    rebuilt = torch.cat([space.decode(space.encode(part)) for part in images.split(250)])
    classifier = weights.load(WORLDS[world].explained, "cpu")
    same = predict_logits(classifier, rebuilt).argmax(1) == predict_logits(
        classifier, images
    ).argmax(1)
    found = {
        "mean squared error of reconstructions": (rebuilt - images).square().mean().item(),
        "fraction of decisions that survive reconstruction": same.double().mean().item(),
        **_distances(world, images, {"reconstructions": rebuilt}),
    }
    return {name: round(value, 4) for name, value in found.items()}


def make_ldm(world: str, folder: Path, device: str) -> None:
    """Train the denoiser on the latents of the shipped autoencoder, and ship it."""
    space = weights.load(f"{world}/autoencoder", "cpu")
    z, told = training(world, space)
    net = ldm.denoiser(world, z, told, folder, steps=ldm.STEPS[world], device=device)
    ship_ldm(world, net.cpu())


def training(world: str, space: Autoencoder) -> tuple[Tensor, Tensor]:
    """Latents in half precision and what is told of them; mirror images come after the others."""
    part = WORLDS[world].train()
    images, told = as_bytes(part.images), WORLDS[world].told(part)
    if WORLDS[world].mirrored:
        images, told = torch.cat([images, images.flip(3)]), torch.cat([told, told])
    return latents(space, images).half(), told


def ship_ldm(world: str, net: ConditionalUNet) -> None:
    space = Diffusion(net, weights.load(f"{world}/autoencoder", "cpu"))
    config = {"attributes": {k: list(v) for k, v in net.attributes.items()}, **ldm.NETS[world]}
    summary = f"latent diffusion, told {', '.join(net.attributes)}, any of them or none"
    card = WORLDS[world].card("space", "ConditionalUNet", config, summary)
    card |= {
        "adapter": "Diffusion",
        "autoencoder": f"{world}/autoencoder",
        "quality": measure_ldm(world, space),
    }
    weights.save(f"{world}/ldm", net, card)


@torch.no_grad()
def measure_ldm(world: str, space: Diffusion) -> dict[str, float]:
    """Samples beside held-out images: distance, and what judges read in what was asked for."""
    told = WORLDS[world].told(WORLDS[world].test())[:MEASURED]
    options = list(space.net.attributes.items())
    asked = [{n: o[i] for (n, o), i in zip(options, row, strict=True)} for row in told.tolist()]
    drawn = samples(space, asked)
    found: dict[str, float] = {}
    for name, read in WORLDS[world].read(drawn).items():
        column = list(space.net.attributes).index(name)
        right = (read == told[:, column]).double().mean().item()
        found[f"samples in which a judge reads the {name} asked for"] = right
    free = samples(space, [None] * len(asked))
    images = WORLDS[world].test().images
    found |= _distances(world, images[:MEASURED], {"samples": drawn, "samples, nothing told": free})
    found |= _distances(
        world, images[:MEASURED], {"other real images": images[MEASURED : 2 * MEASURED]}
    )
    return {name: round(value, 4) for name, value in found.items()}


def samples(space: Diffusion, asked: list[Any]) -> Tensor:
    """Images in [0, 1] as asked for, with the defaults of ``Diffusion.sample``."""
    parts = [
        space.decode(space.sample(asked[i : i + 250], seed=1000 + i))
        for i in range(0, len(asked), 250)
    ]
    return torch.cat(parts)


def _distances(world: str, images: Tensor, others: dict[str, Tensor]) -> dict[str, float]:
    net: Any = weights.load(WORLDS[world].features, "cpu")
    features = getattr(net, "module", net).features

    def seen(batch: Tensor) -> Tensor:
        return torch.cat([features(part) for part in batch.split(250)])

    where = f"in the features of {WORLDS[world].features}"
    return {
        f"Frechet distance {where}, {name}": fid(seen(other), seen(images))
        for name, other in others.items()
    }


RECIPES: dict[str, Recipe] = {
    **{f"{world}/autoencoder": partial(make_autoencoder, world) for world in WORLDS},
    **{f"{world}/ldm": partial(make_ldm, world) for world in WORLDS},
}
