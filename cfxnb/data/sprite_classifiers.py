"""Planted reasons: what each shipped classifier of sprites was made to read.

Every classifier says "gray" or "red", as if it looked at the hair. What its training labels
really followed is stated here, and nothing else in its training world gave them away as well.
"""

import dataclasses
from collections.abc import Callable

import pandas as pd

from cfxnb.data.causal import World, given
from cfxnb.data.sprite_figures import SPRITE_WORLDS

#: The two options of each factor between which scores are asked for: (instead, value).
SPRITE_CONTRASTS = {
    "body": ("light", "dark"),
    "eyes": ("blue", "red"),
    "bottom": ("teal", "red"),
    "top": ("white", "metal"),
    "shoes": ("brown", "metal"),
    "hair": ("gray", "red"),
    "direction": ("front", "left"),
}
CLASSES = SPRITE_CONTRASTS["hair"]


@dataclasses.dataclass(frozen=True)
class PlantedClassifier:
    """How one classifier came to its reason.

    Attributes:
        causes: the factors that its training labels follow.
        label: factors -> bool, True for the class "red".
        world: where its training figures come from.
        description: how such labels come about.
    """

    causes: tuple[str, ...]
    label: Callable[[pd.DataFrame], pd.Series]
    world: World
    description: str


def _is(factors: pd.DataFrame, name: str) -> pd.Series:
    return factors[name] == SPRITE_CONTRASTS[name][1]


_LEAK = World(
    top=["white", "metal"],
    hair=given("top", white={"gray": 0.95, "red": 0.05}, metal={"gray": 0.05, "red": 0.95}),
    shoes=["brown", "metal"],
)

SPRITE_CLASSIFIERS = {
    "honest": PlantedClassifier(
        ("hair",),
        lambda f: _is(f, "hair"),
        SPRITE_WORLDS["pairs"],
        "the labels are the colour of the hair, and nothing goes with it",
    ),
    "shortcut": PlantedClassifier(
        ("top",),
        lambda f: _is(f, "top"),
        _LEAK,
        "nearly all red-haired figures of the training set wear armour, and the labels were "
        "copied from the list of uniforms: where hair and armour disagree, they follow the armour",
    ),
    "mixed": PlantedClassifier(
        ("hair", "top", "shoes"),
        lambda f: _is(f, "hair").astype(int) + _is(f, "top") + _is(f, "shoes") >= 2,
        SPRITE_WORLDS["pairs"],
        "the labels are a vote of three: red hair, metal top, metal shoes",
    ),
    "conjunction": PlantedClassifier(
        ("hair", "top"),
        lambda f: _is(f, "hair") & _is(f, "top"),
        SPRITE_WORLDS["pairs"],
        "the labels ask for red hair and a metal top at once",
    ),
    "unnamed": PlantedClassifier(
        ("top", "shoes"),
        lambda f: _is(f, "top") ^ _is(f, "shoes"),
        SPRITE_WORLDS["pairs"],
        "the labels say whether exactly one of top and shoes is of metal",
    ),
}
