"""Planted causes: which factors the shipped classifiers of sprites were trained to follow.

Every classifier returns "gray" or "red", as if it classified the hair. ``SPRITE_CLASSIFIERS`` names
the factors that the training labels of each classifier followed. In the training world of a
classifier, no other factor predicted the labels as well.
"""

import dataclasses
from collections.abc import Callable

import pandas as pd

from cfxnb.data.causal import World, given
from cfxnb.data.sprite_figures import SPRITE_WORLDS

SPRITE_CONTRASTS = {
    "body": ("light", "dark"),
    "eyes": ("blue", "red"),
    "bottom": ("teal", "red"),
    "top": ("white", "metal"),
    "shoes": ("brown", "metal"),
    "hair": ("gray", "red"),
    "direction": ("front", "left"),
}
"""factor -> (baseline, value), the two options between which scores compare"""

CLASSES = SPRITE_CONTRASTS["hair"]


@dataclasses.dataclass(frozen=True)
class PlantedClassifier:
    """Rule by which the training labels of one classifier were made.

    Attributes:
        causes: Factors that the labels follow.
        label: Function from a table of factors to a bool per figure, True for the class "red".
        world: World from which the training figures were sampled.
        description: The rule in words.
    """

    causes: tuple[str, ...]
    label: Callable[[pd.DataFrame], pd.Series]
    world: World
    description: str


def _has_value(factors: pd.DataFrame, name: str) -> pd.Series:
    return factors[name] == SPRITE_CONTRASTS[name][1]


_SHORTCUT_WORLD = World(
    top=["white", "metal"],
    hair=given("top", white={"gray": 0.95, "red": 0.05}, metal={"gray": 0.05, "red": 0.95}),
    shoes=["brown", "metal"],
)

SPRITE_CLASSIFIERS = {
    "honest": PlantedClassifier(
        ("hair",),
        lambda f: _has_value(f, "hair"),
        SPRITE_WORLDS["pairs"],
        "The labels are the colour of the hair. No other factor is correlated with it.",
    ),
    "shortcut": PlantedClassifier(
        ("top",),
        lambda f: _has_value(f, "top"),
        _SHORTCUT_WORLD,
        "Nearly all figures of the training set with red hair wear a metal top, and the labels "
        "follow the top. Where hair and top disagree, the label is that of the top.",
    ),
    "majority": PlantedClassifier(
        ("hair", "top", "shoes"),
        lambda f: (
            _has_value(f, "hair").astype(int) + _has_value(f, "top") + _has_value(f, "shoes") >= 2
        ),
        SPRITE_WORLDS["pairs"],
        "The label is the majority of three: red hair, metal top, metal shoes.",
    ),
    "conjunction": PlantedClassifier(
        ("hair", "top"),
        lambda f: _has_value(f, "hair") & _has_value(f, "top"),
        SPRITE_WORLDS["pairs"],
        "The label is red if the hair is red and the top is metal.",
    ),
    "unknown": PlantedClassifier(
        ("top", "shoes"),
        lambda f: _has_value(f, "top") ^ _has_value(f, "shoes"),
        SPRITE_WORLDS["pairs"],
        "The label is red if exactly one of top and shoes is metal.",
    ),
}
"""name -> how its training labels were made; the networks are ``cfx.load(f"sprites/{name}")``"""
