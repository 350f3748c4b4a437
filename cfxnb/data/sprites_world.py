"""The world where the truth is known: figures sampled from a causal model, and their twins."""

import pandas as pd
import torch

from cfxnb import validate
from cfxnb.data.causal import World, given
from cfxnb.data.imageset import ImageSet
from cfxnb.data.lpc import OPTIONS, SOURCE, as_indices, render

EVERYTHING = {name: list(options) for name, options in OPTIONS.items()}
_ARMOUR = {"metal": 0.45, "chain": 0.45, "white": 0.05, "maroon": 0.05}
_CLOTH = {"metal": 0.05, "chain": 0.05, "white": 0.45, "maroon": 0.45}

#: Ready-made worlds. In "confounded" a hidden trade decides both hair and top: they go together
#: though neither causes the other. In "mediated" hair decides the top, and the top the shoes.
WORLDS: dict[str, World] = {
    "independent": World(**EVERYTHING),
    "confounded": World(
        _trade=["knight", "clerk"],
        **EVERYTHING
        | {
            "hair": given(
                "_trade",
                knight={"red": 0.8, "gray": 0.2},
                clerk={"red": 0.2, "gray": 0.8},
            ),
            "top": given("_trade", knight=_ARMOUR, clerk=_CLOTH),
        },
    ),
    "mediated": World(
        hair=["red", "gray"],
        top=given("hair", red=_ARMOUR, gray=_CLOTH),
        shoes=given(
            "top",
            metal={"metal": 0.9, "brown": 0.1},
            chain={"metal": 0.9, "brown": 0.1},
            white={"metal": 0.1, "brown": 0.9},
            maroon={"metal": 0.1, "brown": 0.9},
        ),
        **{n: o for n, o in EVERYTHING.items() if n not in ("hair", "top", "shoes")},
    ),
}


def sprites(
    world: str | World = "independent", count: int = 1000, *, label: str = "hair", seed: int = 0
) -> ImageSet:
    """Figures with known factors.

    Args:
        world: one of ``WORLDS`` by name, or your own ``World`` over the factors of ``OPTIONS``;
            a factor that it doesn't mention is drawn uniformly.
        count: number of figures.
        label: the factor that is the class.
        seed: the same seed gives the same figures.

    Returns:
        ImageSet with images (count, 3, 56, 32) and one column a factor, hidden causes included.

    Raises:
        ValueError, TypeError: for an unknown world, factor or option.
        DamagedFile: (a ValueError) if a sheet is missing, truncated or altered.
    """
    if not isinstance(world, World):
        world = WORLDS[validate.choice(world, "world", WORLDS)]
    validate.choice(label, "label", OPTIONS)
    unmentioned = {n: o for n, o in EVERYTHING.items() if n not in world.factors}
    factors = pd.concat(
        [
            world.sample(count, seed=seed),
            World(**unmentioned).sample(count, seed=seed + 10**6),
        ],
        axis=1,
    )
    return _as_set(factors, label)


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
    validate.instance(figures, ImageSet, "figures", "an ImageSet of sprites")
    if not changes:
        raise ValueError("changes: expected at least one, such as hair='red', got none")
    for name, option in changes.items():
        validate.choice(name, "changes", OPTIONS)
        validate.choice(option, name, OPTIONS[name])
    label = next((n for n, o in OPTIONS.items() if o == figures.names), None)
    if label is None:
        raise ValueError(f"figures: expected a set made by sprites, got {figures!r}")
    return _as_set(figures.factors.assign(**changes), label)


def _as_set(factors: pd.DataFrame, label: str) -> ImageSet:
    labels = as_indices(factors)[label]
    return ImageSet(
        images=render(factors),
        labels=torch.as_tensor(labels, dtype=torch.int64),
        names=OPTIONS[label],
        factors=factors,
        source=SOURCE,
    )
