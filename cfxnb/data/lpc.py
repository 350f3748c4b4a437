"""Pixel-art figures composited from layers: every factor is known, every edit is exact.

Liberated Pixel Cup sheets, CC BY-SA 3.0 or GPL 3.0; artists in ``data/sprites``.
"""

import functools

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.data.files import checked, whole

SOURCE = (
    "sprites of the Liberated Pixel Cup, CC BY-SA 3.0 / GPL 3.0; "
    "artists: data/sprites/LPC-AUTHORS.txt and ATTRIBUTION.md"
)
HEIGHT, WIDTH = 56, 32  # what all standing figures fill; both halve three times
BACKGROUND = 0.7
CELL = 64
SIDE = 4096  # pixels of a sheet at most

#: Options of each factor, in the order of the sheets; layers are drawn in this order.
SPRITE_OPTIONS: dict[str, tuple[str, ...]] = {
    "body": ("light", "tanned", "darkelf", "darkelf2", "dark", "dark2", "orc"),
    "eyes": ("blue", "gray", "red", "green", "yellow"),
    "bottom": ("white", "golden", "red", "metal", "teal", "formal", "robe"),
    "top": ("maroon", "teal", "white", "metal", "leather", "formal", "chain"),
    "shoes": ("brown", "golden", "metal"),
    "hair": (
        "green",
        "blue",
        "blonde",
        "white",
        "red",
        "purple",
        "gray",
        "redhead",
        "pink",
        "afro",
    ),
    "direction": ("front", "left", "right"),
}
FOLDERS = {
    "body": "body", "eyes": "eyes", "bottom": "bottomwear", "top": "topwear", "shoes": "shoes",
    "hair": "hair",
}  # fmt: skip
LAYERS = tuple(FOLDERS)
ROWS = {"front": 10, "left": 9, "right": 11}  # of the standing pose, column 0 of the sheets


@functools.cache
def _layer(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Colours (options, directions, h, w, 3) and opacity (options, directions, h, w) of a layer."""
    pictures = [
        _sheet(f"sprites/{FOLDERS[name]}/{number}.png")
        for number in range(len(SPRITE_OPTIONS[name]))
    ]
    stacked = np.stack(pictures).astype(np.float32) / 255
    return stacked[..., :3], stacked[..., 3]


def _sheet(name: str) -> np.ndarray:
    """The standing pose in each direction, (directions, h, w, 4) bytes."""
    path = checked(name)
    with whole(f"data/{name}"), Image.open(path) as sheet:
        if max(sheet.size) > SIDE or min(sheet.size) < (max(ROWS.values()) + 1) * CELL:
            raise ValueError(f"a sheet of {sheet.size} pixels")
        pixels = np.asarray(sheet.convert("RGBA"))
    top, left = CELL - HEIGHT, (CELL - WIDTH) // 2
    cells = [
        pixels[ROWS[d] * CELL : (ROWS[d] + 1) * CELL, :CELL] for d in SPRITE_OPTIONS["direction"]
    ]
    return np.stack([cell[top:, left : left + WIDTH] for cell in cells])


def as_indices(factors: pd.DataFrame) -> dict[str, np.ndarray]:
    """Each factor of each figure as the number of its option.

    Raises:
        ValueError, TypeError: if a column is missing or holds an unknown option.
    """
    validate.instance(factors, pd.DataFrame, "factors", "a DataFrame")
    indices = {}
    for name, options in SPRITE_OPTIONS.items():
        if name not in factors:
            raise ValueError(f"factors: expected a column {name!r}, got {list(factors.columns)}")
        try:
            numbers = pd.Index(options).get_indexer(pd.Index(factors[name]))
        except TypeError:  # lists and arrays in the column
            raise TypeError(
                f"factors: expected {name} out of {list(options)}, got {factors[name].dtype} with "
                "values that are no names"
            ) from None
        if (numbers < 0).any():
            got = factors[name].to_numpy()[numbers < 0][0]
            raise ValueError(f"factors: expected {name} out of {list(options)}, got {got!r}")
        indices[name] = numbers
    return indices


@standard_modes
def render_sprites(factors: pd.DataFrame) -> Tensor:
    """Draw one figure a row.

    Args:
        factors: columns ``SPRITE_OPTIONS``, each an option by name.

    Returns:
        (n, 3, 56, 32) float32 in [0, 1]; the same factors give the same pixels, exactly.
    """
    indices = as_indices(factors)
    canvas = np.full((len(factors), HEIGHT, WIDTH, 3), BACKGROUND, np.float32)
    for name in LAYERS:
        colours, opacity = _layer(name)
        where = indices[name], indices["direction"]
        alpha = opacity[where][..., None]
        canvas = alpha * colours[where] + (1 - alpha) * canvas
    return torch.from_numpy(canvas).permute(0, 3, 1, 2).contiguous()


@standard_modes
def layer_mask(factors: pd.DataFrame, layer: str) -> Tensor:
    """Where a layer shows, at least through half-transparent pixels: bool (n, 56, 32)."""
    validate.choice(layer, "layer", LAYERS)
    indices = as_indices(factors)
    seen = np.zeros((len(factors), HEIGHT, WIDTH), bool)
    for name in LAYERS[LAYERS.index(layer) :]:
        opacity = _layer(name)[1][indices[name], indices["direction"]]
        seen = opacity > 0 if name == layer else seen & (opacity < 1)
    return torch.from_numpy(seen)


def top_layers(factors: pd.DataFrame) -> Tensor:
    """The number of the layer that is seen at each pixel, (n, 56, 32): 0 is the background."""
    indices = as_indices(factors)
    top = np.zeros((len(factors), HEIGHT, WIDTH), np.uint8)
    for number, name in enumerate(LAYERS, 1):
        top[_layer(name)[1][indices[name], indices["direction"]] > 0.5] = number
    return torch.from_numpy(top)
