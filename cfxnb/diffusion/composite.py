"""Compositing: restore the original pixels where an edit changed little."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from cfxnb.core import validate

DILATION = 3  # side of the square, in pixels, with which the mask of an edit is dilated


def edit_mask(before: Tensor, after: Tensor, threshold: float) -> Tensor:
    """Return a mask of the pixels that an edit changed.

    A pixel belongs to the edit if its change, summed over the channels, exceeds ``threshold`` times
    the largest change of the image. The mask is dilated by one pixel. ACE (Jeanneret et al., CVPR
    2023) uses a similar mask, but fills the pixels outside of the mask by inpainting.

    Args:
        before, after: reconstruction and counterfactual, (b, c, h, w) in [0, 1]. With
            the original as ``before``, errors of the autoencoder would count as edits.
        threshold: fraction of the largest change, 0 to 1.

    Returns:
        The mask, bool (b, 1, h, w).

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
    """Return the original images with the edited regions pasted in.

    Pixels outside the edited regions are exactly those of the original.

    Args:
        original, reconstruction, edited: (b, c, h, w) in [0, 1].
        threshold: passed to ``edit_mask``, which decides which pixels belong to the edit.
    """
    return torch.where(edit_mask(reconstruction, edited, threshold), edited, original)
