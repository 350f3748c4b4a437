"""The shipped diffusion autoencoders: data, measures and cards."""

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
from cfxnb.train.diffae import FOLDS, LATENT, STEPS, autoencoder, config, drawer
from cfxnb.train.sprites import as_bytes, figures, sprite_card, test_figures

COUNTS = {"digits": 10, "sprites": 10, "chest": 20}  # steps, there and back


@dataclasses.dataclass(frozen=True)
class World:
    """What a space of one world is trained on and measured with.

    Attributes:
        train, test: images; ``train`` may be bytes.
        explained: names of the classifiers whose decisions should survive.
        card: makes the frame of a card.
    """

    train: Callable[[], Tensor]
    test: Callable[[], Tensor]
    explained: tuple[str, ...]
    card: Callable[..., dict[str, Any]]


WORLDS = {
    "digits": World(
        lambda: digits("train").images,
        lambda: digits("test").images[:500],
        ("classifier",),
        partial(card_of, source=DIGITS, files="digits/"),
    ),
    "sprites": World(
        lambda: as_bytes(figures(seed=1).images),
        lambda: test_figures("pairs").images[:500],
        ("honest", "shortcut", "majority", "conjunction", "unknown"),
        sprite_card,
    ),
    "chest": World(
        lambda: chest("train").images,
        lambda: chest("test").images,
        ("classifier",),
        partial(card_of, source=XRAYS, files="chest/chest64"),
    ),
}


def make(world: str, folder: Path, device: str) -> None:
    """Train the autoencoder, then what draws codes, and ship them together."""
    train = WORLDS[world].train()
    net = autoencoder(world, train, folder, steps=STEPS[world], device=device).cpu()
    ship(world, net, train, folder, device)


def ship(world: str, net: DiffAE, train: Tensor, folder: Path, device: str) -> None:
    """Fit what draws codes, measure both on held-out images, and write weights and card."""
    options: dict[str, Any] = {
        "codec": FOLDS[world],
        "steps": COUNTS[world],
        "inversion_steps": COUNTS[world],
    }
    space = DiffusionAutoencoder(net, *2 * [torch.zeros(net.dims)], **options)
    sight = train if train.is_floating_point() else train[:10_000].float() / 255
    space.fit(sight.split(500))
    codes = torch.cat([space.encode_semantic(part) for part in sight.split(500)])
    standardised = ((codes - space.mean) / space.std.clamp_min(1e-8)).detach()
    net.latent_net = drawer(standardised, folder / "latent", device=device).cpu()
    card = WORLDS[world].card(
        "space",
        "DiffAE",
        {**config(world), "latent": LATENT},
        f"diffusion autoencoder, semantic codes (b, {net.dims}) and noise",
    )
    card |= {
        "adapter": "DiffusionAutoencoder",
        "space": options,
        "quality": measure(world, space),
    }
    weights.save(f"{world}/diffae", net, card, mean=space.mean, std=space.std)


@torch.no_grad()
def measure(world: str, space: DiffusionAutoencoder) -> dict[str, float]:
    """Quality on held-out images, as the card states it."""
    images = WORLDS[world].test()
    code = space.encode(images)
    noise = noise_like(code.aux, seed=5)  # type: ignore[arg-type]
    rebuilt, fresh = space.decode(code), space.decode(Code(code.z, noise))
    drawn = space.decode(space.sample(len(images), shape=tuple(images.shape[1:])))
    judge = weights.load(f"{world}/judge", "cpu")
    features = getattr(judge, "module", judge).features
    kept: dict[str, list[float]] = {"inverted": [], "random": []}
    for name in WORLDS[world].explained:
        classifier = weights.load(f"{world}/{name}", "cpu")
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


RECIPES: dict[str, Recipe] = {f"{world}/diffae": partial(make, world) for world in WORLDS}
