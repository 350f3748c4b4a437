"""Measure factors of handwritten digits, such as slant and thickness of the stroke.

The definitions follow Morpho-MNIST (Castro et al., 2019, section 3): the image is enlarged,
binarised and skeletonised, and then measured. All lengths, such as thickness and width, are in
pixels of the original image.
"""

import numpy as np
import pandas as pd
import torch.nn.functional as F
from scipy import ndimage
from skimage.morphology import skeletonize
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes

ZOOM = 4  # strokes are only two or three pixels wide, so they are measured on a finer grid
MIN_LOOP_AREA = 1.0  # pixels^2; smaller holes are gaps in a rough stroke
COLUMNS = {
    "area": "area of the stroke, pixels^2",
    "length": "length of the skeleton, pixels",
    "thickness": "twice the mean distance of the skeleton from the border, pixels",
    "slant": "angle of the vertical axis, degrees; positive leans to the right",
    "width": "horizontal extent after the slant is undone, pixels",
    "height": "vertical extent, pixels",
    "loops": "closed loops: holes of at least one pixel",
}


@standard_modes
def measure_digits(images: Tensor) -> pd.DataFrame:
    """Measure area, length, thickness, slant, width, height and loops of each digit.

    Args:
        images: Bright digits on a dark ground, in [0, 1], (n, 1, h, w).

    Returns:
        DataFrame with one row per image and one column per factor. The dict ``COLUMNS`` describes
        the factors and their units. An image with all pixels below 0.1 has no stroke, and the row
        of such an image is NaN.

    Raises:
        ValueError, TypeError: If ``images`` are not images in [0, 1] with one channel.
    """
    images = validate.images(images)
    if images.shape[1] != 1:
        raise ValueError(f"images: expected shape (n, 1, h, w), got {tuple(images.shape)}")
    rows = []
    for chunk in images.cpu().split(256):
        fine = F.interpolate(chunk, scale_factor=ZOOM, mode="bicubic", align_corners=False)
        # Enlarging overshoots at edges, so the maximum is taken from the original image.
        peaks = chunk.amax(dim=(1, 2, 3)).tolist()
        pairs = zip(fine[:, 0].numpy(), peaks, strict=True)
        rows += [_measure_one(picture, peak) for picture, peak in pairs]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=np.float64)


def _measure_one(picture: np.ndarray, peak: float) -> tuple[float, ...]:
    if peak < 0.1:
        return (np.nan,) * len(COLUMNS)
    ink = picture >= peak / 2
    skeleton = skeletonize(ink)
    depth = ndimage.distance_transform_edt(ink)
    slant, width, height = _frame(ink)
    return (
        ink.sum() / ZOOM**2,
        _curve_length(skeleton) / ZOOM,
        2 * depth[skeleton].mean() / ZOOM,
        slant,
        width / ZOOM,
        height / ZOOM,
        float(_count_loops(ink)),
    )


def _curve_length(skeleton: np.ndarray) -> float:
    """Return the length of a skeleton in pixels of the enlarged image.

    A straight step between two pixels of the skeleton counts 1, and a diagonal step counts sqrt(2).
    A diagonal step between two pixels is not counted if straight steps also link the two pixels.
    """
    s = np.pad(skeleton, 1)
    straight = (s[1:] & s[:-1]).sum() + (s[:, 1:] & s[:, :-1]).sum()
    falling = s[1:, 1:] & s[:-1, :-1] & ~s[1:, :-1] & ~s[:-1, 1:]
    rising = s[1:, :-1] & s[:-1, 1:] & ~s[1:, 1:] & ~s[:-1, :-1]
    return float(straight + np.sqrt(2) * (falling.sum() + rising.sum()))


def _frame(ink: np.ndarray) -> tuple[float, float, float]:
    """Return slant, width and height of the parallelogram that bounds the stroke.

    The slant of the parallelogram is in degrees.
    """
    y, x = np.nonzero(ink)
    dy, dx = y - y.mean(), x - x.mean()
    shear = (dx * dy).mean() / max((dy**2).mean(), 1e-12)
    upright = dx - shear * dy
    # Rows count downwards, so x decreases with y in a stroke that leans to the right.
    return float(np.degrees(np.arctan(-shear))), np.ptp(upright) + 1.0, np.ptp(dy) + 1.0


def _count_loops(ink: np.ndarray) -> int:
    """Return the number of holes in the stroke.

    A hole is a 4-connected component of the background that does not reach the border of the image.
    """
    components, _ = ndimage.label(~np.pad(ink, 1))
    sizes = np.bincount(components.ravel())[1:]
    outside = components[0, 0] - 1
    sizes[outside] = 0
    return int((sizes >= MIN_LOOP_AREA * ZOOM**2).sum())
