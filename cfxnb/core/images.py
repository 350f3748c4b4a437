"""Images as people have them, turned into what the package works on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

DARK = 16  # whole numbers from 0 to less than this may be anything but bytes of an image
SLACK = 1e-4  # how far rounding may take values out of [0, 1]
COLOURS = (1, 3)
MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}  # of PIL, and what they are read as
REMEDY = "pass float values in [0, 1], shape (b, c, h, w)"


def as_images(value: Any, name: str = "images") -> Tensor:
    """Read a batch of images: float32 (b, c, h, w) in [0, 1], b >= 1, on the device of ``value``.

    Taken as well, since only one reading is possible: numpy arrays, PIL images, lists of images,
    one image without the batch axis, channels last, bytes (0 to 255), and floats that are whole
    numbers from 0 to 255. Anything else is refused.

    Raises:
        ValueError, TypeError: if the value is not an image batch, or can be read in two ways.
    """
    first = value[0] if isinstance(value, list | tuple) and value else value
    x = _ordered(_tensor(value, name), name, torch_order=isinstance(first, Tensor))
    if 0 in x.shape:
        raise ValueError(f"{name}: expected shape (b, c, h, w), got {tuple(x.shape)}, an empty one")
    return _unit_range(x, name)


def _tensor(value: Any, name: str) -> Tensor:
    """The numbers, in the order and the units in which they came."""
    wrong = f"{name}: expected images as a torch tensor, a numpy array or PIL images, got "
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_quantized:
            raise TypeError(f"{name}: expected a plain tensor, got one with layout {value.layout}")
        if value.is_meta:
            raise ValueError(f"{name}: expected numbers, got a tensor on the meta device")
        return value.detach()
    if isinstance(value, Image.Image):
        return torch.from_numpy(_picture(value, name))
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{wrong}a masked array; fill it first")
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub":
            raise TypeError(f"{wrong}an array of {value.dtype}")
        if value.dtype.kind == "f" and value.dtype.itemsize > 8:
            value = value.astype(np.float64)
        # A copy in native byte order: torch takes neither negative strides nor foreign bytes.
        return torch.from_numpy(value.astype(value.dtype.newbyteorder("="), order="C", copy=True))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value):
        if not isinstance(value[0], Tensor | np.ndarray | Image.Image):
            raise TypeError(f"{wrong}a {type(value).__name__} of {type(value[0]).__name__}")
        parts = [_tensor(each, f"{name}[{i}]") for i, each in enumerate(value)]
        shapes = {tuple(part.shape) for part in parts}
        kinds = {(part.dtype, part.device) for part in parts}
        if len(shapes) > 1 or len(kinds) > 1:
            raise ValueError(
                f"{name}: expected images of one shape and type, got {sorted(shapes)[:4]}; "
                "resize them first"
            )
        if parts[0].ndim == 2:  # gray pictures
            return torch.stack(parts)[:, None]
        if parts[0].ndim == 3:
            return torch.stack(parts)
        raise ValueError(
            f"{name}: expected images (c, h, w) in the {type(value).__name__}, got shape "
            f"{tuple(parts[0].shape)}"
        )
    raise TypeError(f"{wrong}{type(value).__name__}")


def _picture(value: Image.Image, name: str) -> np.ndarray:
    if value.mode not in MODES:
        raise ValueError(
            f"{name}: expected pictures in mode L or RGB, got {value.mode}; "
            "convert them, for example by picture.convert('RGB')"
        )
    return np.array(value.convert(MODES[value.mode]))


def _ordered(x: Tensor, name: str, torch_order: bool) -> Tensor:
    """(b, c, h, w). The channels are the axis of length 1 or 3 that stands in a usual place."""
    if x.ndim == 2:
        x = x[None]
    if x.ndim == 3:
        first, last = x.shape[0] in COLOURS, x.shape[2] in COLOURS
        if first == last and not (first and torch_order):
            raise ValueError(
                f"{name}: expected shape (b, c, h, w), got {tuple(x.shape)}, which may be one "
                "image or several gray ones; add the missing axis"
            )
        x = x[None] if first else x.permute(2, 0, 1)[None]
    if x.ndim != 4:
        raise ValueError(f"{name}: expected shape (b, c, h, w), got {tuple(x.shape)}")
    first, last = x.shape[1] in COLOURS, x.shape[3] in COLOURS
    if first and last and not torch_order and x[0].numel() > 1:
        raise ValueError(
            f"{name}: expected shape (b, c, h, w), got an array of shape {tuple(x.shape)}, whose "
            "channels may be the second axis or the last; pass a torch tensor (b, c, h, w)"
        )
    return x.permute(0, 3, 1, 2) if last and not first else x


def _unit_range(x: Tensor, name: str) -> Tensor:
    if x.dtype == torch.bool or x.is_complex():
        raise TypeError(f"{name}: expected float32 in [0, 1], got {x.dtype}")
    whole = not x.is_floating_point()
    if not whole and not x.isfinite().all():
        count = int((~x.isfinite().flatten(1).all(1)).sum())
        raise ValueError(
            f"{name}: expected finite numbers, got NaN or infinity in {count} of {len(x)} images"
        )
    low, high = x.min().item(), x.max().item()
    if whole and (low < 0 or high > 255):
        raise ValueError(f"{name}: expected whole numbers from 0 to 255, got {low} to {high}")
    if whole and 0 < high < (2 if x.dtype == torch.uint8 else DARK):
        raise ValueError(
            f"{name}: expected values in [0, 1], got {x.dtype} from {low} to {high}, which may be "
            "a mask or nearly black; pass floats"
        )
    if whole or (low >= 0 and DARK <= high <= 255 and bool((x == x.round()).all())):
        return (x.float() / 255).contiguous()
    if low < -SLACK or high > 1 + SLACK:
        hint = "; (x + 1) / 2 turns [-1, 1] into [0, 1]" if -1.001 <= low < 0 else ""
        raise ValueError(
            f"{name}: expected values in [0, 1], got {low:.4g} to {high:.4g}; undo any "
            f"normalisation (cfx.wrap applies it before the network){hint}"
        )
    x = x.float().clamp(0, 1)
    return x.contiguous() if x.is_contiguous() else x.clone(memory_format=torch.contiguous_format)
