"""Planted causes: which factors the shipped classifiers of sprites were trained to follow.

Every classifier returns "gray" or "red", as if it classified the hair. ``SPRITE_CLASSIFIERS``
names, for each classifier, the factors by which the training figures were labelled. In the training
figures of a classifier, no other factor predicted the labels as well as the causes.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from cfxnb.core import validate
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
        causes: Factors that decide the labels.
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

#: rule -> how many causes it has, and the label (True for "red") from their values (False, True)
_RULES: dict[str, tuple[int, Callable[..., pd.Series]]] = {
    "{0}": (1, lambda a: a),
    "{0} and {1}": (2, lambda a, b: a & b),
    "{0} or {1}": (2, lambda a, b: a | b),
    "{0} and not {1}": (2, lambda a, b: a & ~b),
    "exactly one of {0} and {1}": (2, lambda a, b: a ^ b),
    "at least two of {0}, {1} and {2}": (3, lambda a, b, c: a.astype(int) + b + c >= 2),
}
#: Factors that a space keeps well enough to be planted. The eyes have two pixels.
_PLANTABLE = tuple(name for name in SPRITE_CONTRASTS if name != "eyes")
_CONFOUNDING = 0.8  # how often two factors agree, in every other random world


def random_planted_classifier(seed: int) -> PlantedClassifier:
    """Draw a random rule for the labels of a classifier's training figures, and a training world.

    The causes are drawn at random among six factors, and the rule that joins them among six rules.
    In half of all worlds, on average, a hidden cause correlates one of the causes with a factor
    that the labels do not depend on. ``cfxnb.train.sprites.train_planted`` trains a classifier with
    the drawn rule.

    Args:
        seed: Seed of the random draw. Equal seeds give equal rules and worlds.

    Raises:
        ValueError, TypeError: If ``seed`` is not a seed.
    """
    draw = np.random.default_rng(validate.seed(seed))
    text = list(_RULES)[draw.integers(len(_RULES))]
    n_causes, rule = _RULES[text]
    drawn = [str(name) for name in draw.permutation(_PLANTABLE)]
    causes = tuple(drawn[:n_causes])
    options: dict[str, Any] = {name: list(SPRITE_CONTRASTS[name]) for name in _PLANTABLE}
    description = f"The label is red if {text.format(*map(_value_of, causes))}."
    if draw.integers(2):
        bystander = drawn[n_causes]
        for name in (causes[0], bystander):
            usual, rare = SPRITE_CONTRASTS[name]
            options[name] = given(
                "_hidden",
                a={usual: _CONFOUNDING, rare: 1 - _CONFOUNDING},
                b={usual: 1 - _CONFOUNDING, rare: _CONFOUNDING},
            )
        options = {"_hidden": ["a", "b"], **options}
        description += f" A hidden cause correlates {causes[0]} with {bystander}."

    def label(factors: pd.DataFrame) -> pd.Series:
        return rule(*(_has_value(factors, name) for name in causes))

    return PlantedClassifier(causes, label, World(**options), description)


def _value_of(name: str) -> str:
    return f"{name} = {SPRITE_CONTRASTS[name][1]}"
