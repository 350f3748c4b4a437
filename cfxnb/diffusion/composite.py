"""Pixels that an edit did not need, put back to exactly what they were."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from cfxnb.core import validate

GROWN = 3  # side of the square by which the edit's mask is grown


def edit_mask(before: Tensor, after: Tensor, share: float) -> Tensor:
    """Where an image was changed: by more than ``share`` of its largest change, grown a little.

    As ACE does (Jeanneret et al., CVPR 2023) before it fills in the rest.

    Args:
        before, after: (b, c, h, w) in [0, 1]; the reconstruction and the counterfactual, so that
            what the autoencoder loses does not count as an edit.
        share: 0 to 1.

    Returns:
        bool (b, 1, h, w).

    Raises:
        ValueError, TypeError: for images of unequal shapes, or a share out of range.
    """
    first, second = validate.images(before, "before"), validate.images(after, "after")
    if first.shape != second.shape:
        raise ValueError(f"after: expected shape {tuple(first.shape)}, got {tuple(second.shape)}")
    change = (first - second).abs().sum(1, keepdim=True)
    most = change.amax((2, 3), keepdim=True)
    wide = change > validate.number(share, "share", 0.0, 1.0) * most
    return max_pool2d(wide.float(), GROWN, stride=1, padding=GROWN // 2) > 0


def pasted(original: Tensor, reconstruction: Tensor, edited: Tensor, share: float) -> Tensor:
    """The edit alone on the original: outside of its mask every pixel is exactly as it was.

    Inside, the edit is what the counterfactual shows; see ``edit_mask`` for the arguments.
    """
    mask = edit_mask(reconstruction, edited, share)
    return torch.where(mask, edited, original)
