"""The sprites data set: figures sampled from a causal model, and their exact counterfactuals."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.data.causal import World, given
from cfxnb.data.imageset import ImageSet
from cfxnb.data.lpc import HEIGHT, SOURCE, SPRITE_OPTIONS, WIDTH, as_indices, render_sprites

_ALL_OPTIONS = {name: list(options) for name, options in SPRITE_OPTIONS.items()}
_PAIRS = _ALL_OPTIONS | {
    "hair": ["gray", "red"],
    "top": ["white", "metal"],
    "shoes": ["brown", "metal"],
}
_ARMOUR = {"white": 0.1, "metal": 0.9}
_CLOTH = {"white": 0.9, "metal": 0.1}

SPRITE_WORLDS: dict[str, World] = {
    "independent": World(**_ALL_OPTIONS),
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
"""Ready-made worlds: name -> World.

"independent" has all options of all factors. In the others hair, top and shoes have two options
each. In "confounded" a hidden trade causes both hair and top, so they are correlated although
neither causes the other. In "mediated" hair causes the top, and the top causes the shoes.
"""

SPLITS = ("all", "train", "test")
MAX_SAMPLES = 10**7  # more would not fit into memory


@standard_modes
def sprites(
    world: str | World = "independent",
    n_samples: int = 1000,
    *,
    class_factor: str = "hair",
    split: str = "all",
    seed: int = 0,
) -> ImageSet:
    """Sample pixel-art figures from a causal model, with all factors known.

    Args:
        world: Name of a world in ``SPRITE_WORLDS``, or your own ``World`` of factors and options in
            ``SPRITE_OPTIONS``. If the world does not mention a factor, all options of the factor
            are equally likely.
        n_samples: Number of figures.
        class_factor: Factor that gives the labels. The classes are the options of ``class_factor``.
        split: "test" gives figures with held-out combinations of factors (a fifth of all
            combinations), on which no shipped network was trained. "train" gives figures with
            combinations that are not held out. "all" gives figures with any combination, in the
            order of ``World.sample``.
        seed: Seed of the exogenous noise (the random numbers that decide the factors). Equal seeds
            give equal figures.

    Returns:
        ImageSet with images (n_samples, 3, 56, 32) and one column per factor, including hidden
        causes.

    Raises:
        ValueError, TypeError: For an unknown world, factor, option or split, or if the world has
            almost no figures in the split.
        DamagedFileError: If a sheet of sprites is missing, truncated or altered. DamagedFileError
            is a ValueError.
    """
    if not isinstance(world, World):
        world = SPRITE_WORLDS[validate.choice(world, "world", SPRITE_WORLDS)]
    for name in world.factors:
        if not name.startswith("_"):
            validate.choice(name, "world", SPRITE_OPTIONS)
    validate.choice(class_factor, "class_factor", SPRITE_OPTIONS)
    validate.choice(split, "split", SPLITS)
    n_samples, seed = validate.count(n_samples, "n_samples", 0, MAX_SAMPLES), validate.seed(seed)
    drawn = n_samples
    while len(chosen := _of_split(_sample(world, drawn, seed), split)) < n_samples:
        if drawn > 100 * n_samples + 1000:
            raise ValueError(
                f"split: expected one with figures in this world, got {split!r}, which has "
                f"{len(chosen)} among {drawn}"
            )
        drawn = 2 * drawn + 10
    return _as_set(chosen[:n_samples].reset_index(drop=True), class_factor)


def _sample(world: World, n_samples: int, seed: int) -> pd.DataFrame:
    """Sample all factors; the options of factors not in the world are equally likely."""
    unmentioned = {n: o for n, o in _ALL_OPTIONS.items() if n not in world.factors}
    rest = World(**unmentioned).sample(n_samples, seed=seed + 10**6)
    return pd.concat([world.sample(n_samples, seed=seed), rest], axis=1)


def _of_split(factors: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the rows of a table of factors that belong to a split.

    A combination of options is held out if the sum of the indices of the options is divisible by 5.
    Because of the sum rule, every option of a factor is held out about equally often.
    """
    held_out = sum(as_indices(factors).values()) % 5 == 0
    rows = {"all": held_out | True, "train": ~held_out, "test": held_out}[split]
    return factors.iloc[np.flatnonzero(rows)]


@standard_modes
def intervene(figures: ImageSet, **changes: str) -> ImageSet:
    """Set some factors of each figure to given options, and render the figures again.

    All other factors keep their options, even the effects that a changed factor has in the causal
    model. To include downstream effects of a change, call ``World.sample(..., do=...)`` with the
    seed of the figures.

    Args:
        figures: Figures from ``sprites``.
        changes: One keyword argument per changed factor, such as ``hair="red"``.

    Returns:
        ImageSet with one changed figure for each figure of ``figures``. The labels of the ImageSet
        follow the factors after the change.

    Raises:
        ValueError, TypeError: For an unknown factor or option, or images that are not sprites.
    """
    class_factor = class_factor_of(figures)
    if not changes:
        raise ValueError("changes: expected at least one, such as hair='red', got none")
    for name, option in changes.items():
        validate.choice(name, "changes", SPRITE_OPTIONS)
        validate.choice(option, name, SPRITE_OPTIONS[name])
    return _as_set(figures.factors.assign(**changes), class_factor)


def class_factor_of(figures: Any) -> str:
    """Return the name of the factor that gives the labels of a set of sprites.

    Raises:
        ValueError, TypeError: If ``figures`` is not a set of sprites.
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
