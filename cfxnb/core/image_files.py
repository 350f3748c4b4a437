"""Write images of results as PNG files."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.disk import NOTHING, given_path, kind_of, shown, writing

DIGITS = 6  # of the number in a file name, so that names sort like the images
COLOURS = "PuOr"  # purple: more, orange: less, white: no change


def signed_map(values: Tensor, top: float) -> np.ndarray:
    """Return colours (h, w, 3) of signed numbers (h, w): purple for +top, orange for -top.

    The colours are those of ``cfx.show`` and ``cfx.heat_maps``. Numbers that are not finite are
    gray.
    """
    from matplotlib import colormaps

    numbers = values.detach().cpu().double().numpy()
    colours = colormaps[COLOURS].with_extremes(bad="gray")
    place = np.ma.masked_invalid(0.5 + 0.5 * numbers / max(top, 1e-12))
    return np.asarray(colours(place.clip(0, 1), bytes=True)[..., :3])


def pixels(image: Tensor) -> np.ndarray:
    """Return an image (c, h, w) in [0, 1] as bytes, (h, w) or (h, w, 3)."""
    numbers = image.detach().cpu().double().nan_to_num(0.5).clamp(0, 1).numpy()
    array = (numbers * 255).round().astype(np.uint8)
    return array[0] if len(array) == 1 else array.transpose(1, 2, 0)


def save_images(
    output_dir: str | os.PathLike,
    draw: Mapping[str, Callable[[int], np.ndarray]],
    count: int,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write images as PNG files, and return the paths of the files.

    The names, such as ``000012_original.png``, sort like the numbers. All names are checked before
    the first file is written. Each file appears as a whole or not at all.

    Args:
        output_dir: Folder of the files, which is created if it does not exist.
        draw: Dict from each kind of image to a function that draws the image of a number: bytes of
            shape (h, w) or (h, w, 3).
        count: The images have the numbers 0 to ``count`` - 1.
        overwrite: If True, existing files of these names are replaced.

    Raises:
        ValueError, TypeError: If ``output_dir`` is no folder, cannot be written to, or already has
            a file of one of the names.
    """
    place = given_path(output_dir, "a folder", "output_dir")
    if (kind := kind_of(place)) not in ("a folder", *NOTHING):
        raise ValueError(f"output_dir: expected a folder, got {kind} at {shown(output_dir)}")
    overwrite = validate.flag(overwrite, "overwrite")
    paths = {(i, k): place / f"{i:0{DIGITS}d}_{k}.png" for i in range(count) for k in draw}
    there = [path.name for path in paths.values() if kind_of(path) not in NOTHING]
    if there and not overwrite:
        raise ValueError(
            f"output_dir: expected one without these images, got {shown(output_dir)} with "
            f"{len(there)} of them, such as {there[0]}; pass another folder, or overwrite=True"
        )
    for (i, k), path in paths.items():
        with writing(path, "output_dir") as partial:
            Image.fromarray(draw[k](i)).save(partial, format="png")
    return list(paths.values())
