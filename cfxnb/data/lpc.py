"""Render pixel-art figures from layers, such as body, hair and top.

Each layer of a figure is a factor of the figure. Because the layers are known, every factor of an
image is known, and one layer can be replaced exactly.

The layers come from sheets of the Liberated Pixel Cup, CC BY-SA 3.0 or GPL 3.0. The artists are
listed in ``data/sprites``.
"""

import functools

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.data.files import reading, verified_path

SOURCE = (
    "sprites of the Liberated Pixel Cup, CC BY-SA 3.0 / GPL 3.0; "
    "artists: data/sprites/LPC-AUTHORS.txt and ATTRIBUTION.md"
)
HEIGHT, WIDTH = 56, 32  # crop that contains all standing figures; both are divisible by 8
BACKGROUND = 0.7  # gray
CELL = 64  # side of one pose in a sheet, in pixels
MAX_SIDE = 4096  # of a sheet, in pixels

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
"""factor -> its options, in the order of the sheets; layers are drawn in this order"""

FOLDERS = {
    "body": "body", "eyes": "eyes", "bottom": "bottomwear", "top": "topwear", "shoes": "shoes",
    "hair": "hair",
}  # fmt: skip
LAYERS = tuple(FOLDERS)
ROWS = {"front": 10, "left": 9, "right": 11}  # of the standing pose, column 0 of the sheets


@functools.cache
def _layer(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the colours of a layer, (k, 3, h, w, 3), and the opacity of the layer, (k, 3, h, w).

    The first axis of both arrays is the option (k options), the second axis the direction in which
    the figure faces.
    """
    sheets = [
        _sheet(f"sprites/{FOLDERS[name]}/{option}.png")
        for option in range(len(SPRITE_OPTIONS[name]))
    ]
    stacked = np.stack(sheets).astype(np.float32) / 255
    return stacked[..., :3], stacked[..., 3]


def _sheet(name: str) -> np.ndarray:
    """Return the standing pose of a sheet of sprites in three directions, uint8 (3, h, w, 4)."""
    path = verified_path(name)
    with reading(f"data/{name}"), Image.open(path) as sheet:
        if max(sheet.size) > MAX_SIDE or min(sheet.size) < (max(ROWS.values()) + 1) * CELL:
            raise ValueError(f"a sheet of {sheet.size} pixels")
        pixels = np.asarray(sheet.convert("RGBA"))
    top, left = CELL - HEIGHT, (CELL - WIDTH) // 2
    cells = [
        pixels[ROWS[d] * CELL : (ROWS[d] + 1) * CELL, :CELL] for d in SPRITE_OPTIONS["direction"]
    ]
    return np.stack([cell[top:, left : left + WIDTH] for cell in cells])


def as_indices(factors: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the options of n figures as indices, a dict: factor -> int array (n,).

    Raises:
        ValueError, TypeError: If a column is missing or holds an unknown option.
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
                f"factors: expected {name} to be one of {list(options)}, got values of type "
                f"{factors[name].dtype} that are not names"
            ) from None
        if (numbers < 0).any():
            got = factors[name].to_numpy()[numbers < 0][0]
            raise ValueError(f"factors: expected {name} to be one of {list(options)}, got {got!r}")
        indices[name] = numbers
    return indices


@standard_modes
def render_sprites(factors: pd.DataFrame) -> Tensor:
    """Render one figure per row of factors.

    Args:
        factors: One column per factor of ``SPRITE_OPTIONS``, with names of options.

    Returns:
        Images in [0, 1], (n, 3, 56, 32). Equal factors always give exactly equal pixels.

    Raises:
        ValueError, TypeError: If a column is missing or holds an unknown option.
    """
    indices = as_indices(factors)
    canvas = np.full((len(factors), HEIGHT, WIDTH, 3), BACKGROUND, np.float32)
    for name in LAYERS:
        colours, opacity = _layer(name)
        option = indices[name], indices["direction"]
        alpha = opacity[option][..., None]
        canvas = alpha * colours[option] + (1 - alpha) * canvas
    return torch.from_numpy(canvas).permute(0, 3, 1, 2).contiguous()


@standard_modes
def layer_mask(factors: pd.DataFrame, layer: str) -> Tensor:
    """Return the pixels at which a layer is visible, bool (n, 56, 32).

    A layer is visible where the layer is not transparent and no layer above it is fully opaque.

    Args:
        factors: One column per factor of ``SPRITE_OPTIONS``, with names of options.
        layer: Name of the layer, such as "hair". The factor "direction" is not a layer.

    Raises:
        ValueError, TypeError: For an unknown layer, or factors that ``render_sprites`` refuses.
    """
    validate.choice(layer, "layer", LAYERS)
    indices = as_indices(factors)
    visible = np.zeros((len(factors), HEIGHT, WIDTH), bool)
    for name in LAYERS[LAYERS.index(layer) :]:
        opacity = _layer(name)[1][indices[name], indices["direction"]]
        visible = opacity > 0 if name == layer else visible & (opacity < 1)
    return torch.from_numpy(visible)


def top_layers(factors: pd.DataFrame) -> Tensor:
    """Return the number of the top layer at each pixel, uint8 (n, 56, 32).

    Layers of a figure are numbered from 1, and 0 stands for the background.
    """
    indices = as_indices(factors)
    top = np.zeros((len(factors), HEIGHT, WIDTH), np.uint8)
    for index, name in enumerate(LAYERS, 1):
        top[_layer(name)[1][indices[name], indices["direction"]] > 0.5] = index
    return torch.from_numpy(top)
