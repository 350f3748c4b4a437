"""The world where the truth is known: figures sampled from a causal model, and their twins."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.data.causal import World, given
from cfxnb.data.imageset import ImageSet
from cfxnb.data.lpc import HEIGHT, SOURCE, SPRITE_OPTIONS, WIDTH, as_indices, render_sprites

EVERYTHING = {name: list(options) for name, options in SPRITE_OPTIONS.items()}
_PAIRS = EVERYTHING | {
    "hair": ["gray", "red"],
    "top": ["white", "metal"],
    "shoes": ["brown", "metal"],
}
_ARMOUR = {"white": 0.1, "metal": 0.9}
_CLOTH = {"white": 0.9, "metal": 0.1}

#: Ready-made worlds. "independent" has everything; in the others hair, top and shoes have two
#: options each. In "confounded" a hidden trade decides both hair and top: they go together though
#: neither causes the other. In "mediated" hair decides the top, and the top the shoes.
SPRITE_WORLDS: dict[str, World] = {
    "independent": World(**EVERYTHING),
    "pairs": World(**_PAIRS),
    "confounded": World(
        _trade=["knight", "clerk"],
        **_PAIRS
        | {
            "hair": given(
                "_trade",
                knight={"gray": 0.2, "red": 0.8},
                clerk={"gray": 0.8, "red": 0.2},
            ),
            "top": given("_trade", knight=_ARMOUR, clerk=_CLOTH),
        },
    ),
    "mediated": World(
        hair=["gray", "red"],
        top=given("hair", gray=_CLOTH, red=_ARMOUR),
        shoes=given("top", white={"brown": 0.9, "metal": 0.1}, metal={"brown": 0.1, "metal": 0.9}),
        **{n: o for n, o in _PAIRS.items() if n not in ("hair", "top", "shoes")},
    ),
}
SPLITS = ("all", "train", "test")
MOST = 10**7  # figures: what fits no memory is no count


@standard_modes
def sprites(
    world: str | World = "independent",
    n_samples: int = 1000,
    *,
    class_factor: str = "hair",
    split: str = "all",
    seed: int = 0,
) -> ImageSet:
    """Figures with known factors.

    Args:
        world: "independent", "pairs", "confounded" or "mediated" (``SPRITE_WORLDS``), or your own
            ``World`` over the factors of ``SPRITE_OPTIONS``; what it doesn't mention is drawn uniformly.
        n_samples: number of figures.
        class_factor: the factor that is the class.
        split: "test" gives figures whose combination of factors no shipped network has been
            trained on, a fifth of all; "train" the others; "all" both, in the order of
            ``World.sample``.
        seed: the same seed gives the same figures.

    Returns:
        ImageSet with images (count, 3, 56, 32) and one column a factor, hidden causes included.

    Raises:
        ValueError, TypeError: for an unknown world, factor, option or split, or if the world has
            (next to) no figures of this split.
        DamagedFileError: (a ValueError) if a sheet is missing, truncated or altered.
    """
    if not isinstance(world, World):
        world = SPRITE_WORLDS[validate.choice(world, "world", SPRITE_WORLDS)]
    for name in world.factors:
        if not name.startswith("_"):
            validate.choice(name, "world", SPRITE_OPTIONS)
    validate.choice(class_factor, "class_factor", SPRITE_OPTIONS)
    validate.choice(split, "split", SPLITS)
    n_samples, seed = validate.count(n_samples, "n_samples", 0, MOST), validate.seed(seed)
    drawn = n_samples
    while len(chosen := _of_split(_draw(world, drawn, seed), split)) < n_samples:
        if drawn > 100 * n_samples + 1000:
            raise ValueError(
                f"split: expected one with figures in this world, got {split!r}, which has "
                f"{len(chosen)} among {drawn}"
            )
        drawn = 2 * drawn + 10
    return _as_set(chosen[:n_samples].reset_index(drop=True), class_factor)


def _draw(world: World, count: int, seed: int) -> pd.DataFrame:
    unmentioned = {n: o for n, o in EVERYTHING.items() if n not in world.factors}
    rest = World(**unmentioned).sample(count, seed=seed + 10**6)
    return pd.concat([world.sample(count, seed=seed), rest], axis=1)


def _of_split(factors: pd.DataFrame, split: str) -> pd.DataFrame:
    """The numbers of the options, added up, decide: nothing short of all factors tells."""
    held_out = sum(as_indices(factors).values()) % 5 == 0
    rows = {"all": held_out | True, "train": ~held_out, "test": held_out}[split]
    return factors.iloc[np.flatnonzero(rows)]


@standard_modes
def intervene(figures: ImageSet, **changes: str) -> ImageSet:
    """The exact counterfactual of each figure: the named factors set, everything else equal.

    Nothing follows from the change here, not even what the world's arrows say; for effects
    downstream draw the same seed again with ``World.sample(..., do=...)``.

    Args:
        figures: from ``sprites``.
        changes: factor = option, such as ``hair="red"``.

    Returns:
        ImageSet of the same length; labels follow the factor that is the class.
    """
    class_factor = label_of(figures)
    if not changes:
        raise ValueError("changes: expected at least one, such as hair='red', got none")
    for name, option in changes.items():
        validate.choice(name, "changes", SPRITE_OPTIONS)
        validate.choice(option, name, SPRITE_OPTIONS[name])
    return _as_set(figures.factors.assign(**changes), class_factor)


def label_of(figures: Any) -> str:
    """The factor that is the class of an image set, if it is one of sprites.

    Raises:
        ValueError, TypeError: if it is none, naming ``figures``.
    """
    checked: ImageSet = validate.instance(figures, ImageSet, "figures", "an ImageSet of sprites")
    class_factor = next((n for n, o in SPRITE_OPTIONS.items() if o == checked.class_names), None)
    if class_factor is None:
        raise ValueError(f"figures: expected a set made by sprites, got {checked!r}")
    with validate.part_of("figures"):
        as_indices(checked.factors)
    if checked.images.shape[1:] != (3, HEIGHT, WIDTH):
        raise ValueError(
            f"figures: expected images (n, 3, {HEIGHT}, {WIDTH}), got {tuple(checked.images.shape)}"
        )
    return class_factor


def _as_set(factors: pd.DataFrame, class_factor: str) -> ImageSet:
    labels = as_indices(factors)[class_factor]
    return ImageSet(
        images=render_sprites(factors),
        labels=torch.as_tensor(labels, dtype=torch.int64),
        class_names=SPRITE_OPTIONS[class_factor],
        factors=factors,
        source=SOURCE,
    )
