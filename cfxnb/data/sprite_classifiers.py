"""Planted reasons: what each shipped classifier of sprites was made to read.

Every classifier says "gray" or "red", as if it looked at the hair. What its training labels
really followed is stated here, and nothing else in its training world gave them away as well.
"""

import dataclasses
from collections.abc import Callable

import pandas as pd

from cfxnb.data.causal import World, given
from cfxnb.data.sprite_figures import WORLDS

#: The two options of each factor between which scores are asked for: (instead, value).
CONTRASTS = {
    "body": ("light", "dark"),
    "eyes": ("blue", "red"),
    "bottom": ("teal", "red"),
    "top": ("white", "metal"),
    "shoes": ("brown", "metal"),
    "hair": ("gray", "red"),
    "direction": ("front", "left"),
}
CLASSES = CONTRASTS["hair"]


@dataclasses.dataclass(frozen=True)
class Planted:
    """How one classifier came to its reason.

    Attributes:
        causes: the factors that its training labels follow.
        label: factors -> bool, True for the class "red".
        world: where its training figures come from.
        story: how such labels come about.
    """

    causes: tuple[str, ...]
    label: Callable[[pd.DataFrame], pd.Series]
    world: World
    story: str


def _is(factors: pd.DataFrame, name: str) -> pd.Series:
    return factors[name] == CONTRASTS[name][1]


_LEAK = World(
    top=["white", "metal"],
    hair=given("top", white={"gray": 0.95, "red": 0.05}, metal={"gray": 0.05, "red": 0.95}),
    shoes=["brown", "metal"],
)

PLANTED = {
    "honest": Planted(
        ("hair",),
        lambda f: _is(f, "hair"),
        WORLDS["pairs"],
        "the labels are the colour of the hair, and nothing goes with it",
    ),
    "shortcut": Planted(
        ("top",),
        lambda f: _is(f, "top"),
        _LEAK,
        "nearly all red-haired figures of the training set wear armour, and the labels were "
        "copied from the list of uniforms: where hair and armour disagree, they follow the armour",
    ),
    "mixed": Planted(
        ("hair", "top", "shoes"),
        lambda f: _is(f, "hair").astype(int) + _is(f, "top") + _is(f, "shoes") >= 2,
        WORLDS["pairs"],
        "the labels are a vote of three: red hair, metal top, metal shoes",
    ),
    "conjunction": Planted(
        ("hair", "top"),
        lambda f: _is(f, "hair") & _is(f, "top"),
        WORLDS["pairs"],
        "the labels ask for red hair and a metal top at once",
    ),
    "unnamed": Planted(
        ("top", "shoes"),
        lambda f: _is(f, "top") ^ _is(f, "shoes"),
        WORLDS["pairs"],
        "the labels say whether exactly one of top and shoes is of metal",
    ),
}
