"""Convert images from common formats to float32 (b, c, h, w) in [0, 1]."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

BRIGHT = 127  # integers above this can only be bytes
SLACK = 1e-4  # how far rounding may move values out of [0, 1]
OVERSHOOT = 0.25  # how far outputs of a generator without clamping may be out of [0, 1]
COLOURS = (1, 3)
PLANES = (2, 4)  # channels of images with transparency, which are refused
MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}  # PIL modes, and the mode they become
DEEP = ("I", "F")  # PIL modes with more than 8 bits per value (also I;16 and others)


def as_images(value: Any, name: str = "images", *, live: bool = False) -> Tensor:
    """Return a batch of images as float32 (b, c, h, w) in [0, 1], on the device of ``value``.

    Other formats are accepted if only one interpretation is possible: numpy arrays, PIL images,
    lists of images, one image without the batch axis, channels last, and bytes (0 to 255). Whole
    numbers of another dtype than uint8 are accepted if each image has values from 0 to 255, with
    some above 127. All other values are refused. How an image is interpreted never depends on other
    images.

    Args:
        value: The images.
        name: Name of the argument, for messages.
        live: If True, gradients pass and values are not clamped. If ``live`` is True, a tensor that
            was computed with a gradient may leave [0, 1] by up to ``OVERSHOOT``.

    Raises:
        ValueError, TypeError: If the value is not a batch of images, or is ambiguous.
    """
    first = value[0] if isinstance(value, list | tuple) and value else value
    x = _tensor(value, name)
    x = _ordered(x, name, torch_order=isinstance(first, Tensor | Image.Image))
    if 0 in x.shape:
        raise ValueError(f"{name}: expected shape (b, c, h, w), got {tuple(x.shape)}, an empty one")
    computed = live and isinstance(value, Tensor) and value.grad_fn is not None
    x = _unit_range(x, name, isinstance(first, Image.Image), OVERSHOOT if computed else SLACK)
    if live:
        return x
    x = x.detach().clamp(0, 1)
    return x.contiguous() if x.is_contiguous() else x.clone(memory_format=torch.contiguous_format)


def native(value: np.ndarray) -> np.ndarray:
    """Return a copy of an array that torch accepts: contiguous, and in native byte order.

    Floats of more than 8 bytes become float64.
    """
    if value.dtype.kind == "f" and value.dtype.itemsize > 8:
        value = value.astype(np.float64)
    return value.astype(value.dtype.newbyteorder("="), order="C", copy=True)


def _tensor(value: Any, name: str) -> Tensor:
    """Return the images as a tensor with unchanged values.

    The tensors of PIL images have the channels first.
    """
    wrong = f"{name}: expected images as a torch tensor, a numpy array or PIL images, got "
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_quantized or value.is_nested:
            kind = "nested" if value.is_nested else f"{value.dtype} with layout {value.layout}"
            raise TypeError(f"{name}: expected a plain tensor, got {kind}")
        if value.is_meta:
            raise ValueError(f"{name}: expected numbers, got a tensor on the meta device")
        return value
    if isinstance(value, Image.Image):
        picture = torch.from_numpy(_picture(value, name))
        return picture[None] if picture.ndim == 2 else picture.permute(2, 0, 1)
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{wrong}a masked array; fill it first")
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "fiub":
            raise TypeError(f"{wrong}an array of {value.dtype}")
        return torch.from_numpy(native(value))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value):
        if not isinstance(value[0], Tensor | np.ndarray | Image.Image):
            raise TypeError(f"{wrong}a {type(value).__name__} of {type(value[0]).__name__}")
        parts = [_tensor(each, f"{name}[{i}]") for i, each in enumerate(value)]
        shape = tuple(parts[0].shape)
        if len({(part.shape, part.dtype, part.device) for part in parts}) > 1:
            shapes = sorted({tuple(part.shape) for part in parts})[:4]
            raise ValueError(
                f"{name}: expected images of one shape and type, got {shapes}; resize them first"
            )
        if len(shape) not in (2, 3):
            kind = type(value).__name__
            raise ValueError(f"{name}: expected images (c, h, w) in the {kind}, got shape {shape}")
        stacked = torch.stack(parts)
        return stacked[:, None] if len(shape) == 2 else stacked  # (h, w) are gray pictures
    raise TypeError(f"{wrong}{type(value).__name__}")


def _picture(value: Image.Image, name: str) -> np.ndarray:
    if value.mode not in MODES:
        remedy = "convert them, for example by picture.convert('RGB')"
        if value.mode.startswith(DEEP):  # PIL would clip these at 255
            remedy = (
                "pass np.asarray(picture) divided by its largest possible value, such as 65535 "
                "for 16 bits"
            )
        raise ValueError(f"{name}: expected pictures in mode L or RGB, got {value.mode}; {remedy}")
    try:
        return np.array(value.convert(MODES[value.mode]))
    except MemoryError:
        raise
    except Exception as error:  # a closed, truncated or damaged file can raise any error
        raise ValueError(
            f"{name}: expected pictures that can be read, got {type(value).__name__} that fails "
            f"with {type(error).__name__}: {error}"
        ) from error


def _ordered(x: Tensor, name: str, torch_order: bool) -> Tensor:
    """Return images as (b, c, h, w), with the channels taken from an axis of length 1 or 3."""
    if x.ndim == 2:
        x = x[None]
    if x.ndim == 3:
        first, last = x.shape[0] in COLOURS, x.shape[2] in COLOURS
        # An array of three gray images looks like a colour image with the channels first.
        three_gray = x.shape[0] == 3 and not torch_order
        if three_gray or (first == last and not (first and torch_order)):
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
    if x.shape[3] in PLANES and (x.shape[1] > max(PLANES) and x.shape[2] > max(PLANES)):
        raise ValueError(
            f"{name}: expected shape (b, c, h, w), got {tuple(x.shape)}, whose last axis may be "
            "the channels; leave out transparency, for example by images[..., :3], or put the "
            "channels second"
        )
    return x.permute(0, 3, 1, 2) if last and not first else x


def _unit_range(x: Tensor, name: str, pictures: bool, slack: float) -> Tensor:
    """Convert floats in [0, 1] (exceeded by at most ``slack``) or bytes to float32 in [0, 1]."""
    if x.dtype == torch.bool or x.is_complex():
        raise TypeError(f"{name}: expected float32 in [0, 1], got {x.dtype}")
    floats = x.is_floating_point()
    if floats and x.element_size() == 1:
        x = x.float()  # torch has few operations for float8 and for unsigned integers
    if not floats and x.dtype != torch.uint8:
        x = x.to(torch.int64)
    numbers = x.detach()
    low, high = numbers.min().item(), numbers.max().item()
    if not (math.isfinite(low) and math.isfinite(high)):
        count = int((~numbers.isfinite().flatten(1).all(1)).sum())
        raise ValueError(
            f"{name}: expected finite numbers, got NaN or infinity in {count} of {len(x)} images"
        )
    if floats and low >= -slack and high <= 1 + slack:
        return x.float()
    if x.dtype == torch.uint8 and (pictures or high != 1):
        return x.float() / 255
    if not floats and (low < 0 or high > 255):
        raise ValueError(f"{name}: expected whole numbers from 0 to 255, got {low} to {high}")
    if low >= 0 and high <= 255 and _are_bytes(numbers):
        return x.float() / 255
    if not floats:
        raise ValueError(
            f"{name}: expected values in [0, 1], got {x.dtype} from {low} to {high}, with images "
            "that may be a mask or nearly black; pass floats, divided by the largest possible value"
        )
    hint = "undo any normalisation (cfx.wrap applies it before the network)"
    if low >= 0 and high <= 255:
        hint = "divide by the largest possible value, 255 for bytes"
    elif -1.001 <= low < 0 and high <= 1.001:
        hint += "; (x + 1) / 2 turns [-1, 1] into [0, 1]"
    raise ValueError(f"{name}: expected values in [0, 1], got {low:.4g} to {high:.4g}; {hint}")


def _are_bytes(numbers: Tensor) -> bool:
    """Return whether the numbers can only be bytes: each image has a number above 127, or only
    zeros."""
    if numbers.is_floating_point() and not (numbers == numbers.round()).all():
        return False
    top = numbers.flatten(1).amax(1)
    return bool(((top > BRIGHT) | (top == 0)).all())
