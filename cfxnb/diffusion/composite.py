"""Compositing: restore the pixels that an edit did not need."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from cfxnb.core import validate

DILATION = 3  # side of the square, in pixels, with which the mask of an edit is dilated


def edit_mask(before: Tensor, after: Tensor, threshold: float) -> Tensor:
    """Return where an image was changed.

    A pixel belongs to the edit if its change, summed over the channels, exceeds ``threshold`` times
    the largest change of the image. The mask is then dilated by one pixel. ACE uses such a mask
    (Jeanneret et al., CVPR 2023), but fills the rest by inpainting.

    Args:
        before, after: reconstruction and counterfactual, (b, c, h, w) in [0, 1]. Use the
            reconstruction, not the original: then errors of the autoencoder are no edit.
        threshold: fraction of the largest change, 0 to 1.

    Returns:
        bool (b, 1, h, w).

    Raises:
        ValueError, TypeError: if the images have different shapes, or if ``threshold`` is out of
            range.
    """
    first, second = validate.images(before, "before"), validate.images(after, "after")
    if first.shape != second.shape:
        raise ValueError(f"after: expected shape {tuple(first.shape)}, got {tuple(second.shape)}")
    change = (first - second).abs().sum(1, keepdim=True)
    largest = change.amax((2, 3), keepdim=True)
    changed = change > validate.number(threshold, "threshold", 0.0, 1.0) * largest
    return max_pool2d(changed.float(), DILATION, stride=1, padding=DILATION // 2) > 0


def composite_edit(
    original: Tensor, reconstruction: Tensor, edited: Tensor, threshold: float
) -> Tensor:
    """Return the originals with the edits pasted in. Outside the edits every pixel is unchanged.

    Args:
        original, reconstruction, edited: (b, c, h, w) in [0, 1].
        threshold: see ``edit_mask``, which decides what belongs to the edit.
    """
    return torch.where(edit_mask(reconstruction, edited, threshold), edited, original)
