"""Read how images are prepared for a network from the image processor of a transformers model.

An image processor states how pictures are resized, cropped and normalised. It works on bytes and
without gradients, so it is read here, and never called.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cfxnb.core import validate

#: Numbers of the filters of PIL, and what torch calls them.
FILTERS = {2: "bilinear", 3: "bicubic"}
LARGEST = 8192  # pixels


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How images in [0, 1] are prepared for a network: resized, cropped, shifted and scaled.

    Attributes:
        height, width: Size to which images are resized, or None.
        shortest: Length to which the shorter side is resized, or None.
        crop: Height and width that are cut out of the middle, or None.
        mode: "bilinear" or "bicubic".
        mean, std: Numbers per channel, in units of [0, 1].
    """

    height: int | None
    width: int | None
    shortest: int | None
    crop: tuple[int, int] | None
    mode: str
    mean: list[float]
    std: list[float]

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images resized and cropped, (b, c, h, w) in [0, 1]. Gradients pass."""
        height, width = images.shape[-2:]
        size = (self.height or height, self.width or width)
        if self.shortest is not None:
            ratio = self.shortest / min(height, width)
            low = min(height, width)
            size = (
                self.shortest if height == low else int(ratio * height),
                self.shortest if width == low else int(ratio * width),
            )
        if size != (height, width):
            images = F.interpolate(images, size=size, mode=self.mode, antialias=True).clamp(0, 1)
        return images if self.crop is None else _cropped(images, *self.crop)


def _cropped(images: Tensor, height: int, width: int) -> Tensor:
    """Cut the middle out of images. Images that are too small get a black border."""
    missing = [max(0, want - have) for want, have in
               zip((height, width), images.shape[-2:], strict=True)]  # fmt: skip
    if any(missing):
        top, left = ((m + 1) // 2 for m in missing)
        images = F.pad(images, (left, missing[1] - left, top, missing[0] - top))
    top, left = ((have - want) // 2 for want, have in
                 zip((height, width), images.shape[-2:], strict=True))  # fmt: skip
    return images[..., top : top + height, left : left + width]


def read_processor(processor: Any) -> Preparation:
    """Read an image processor of transformers, such as ``AutoImageProcessor`` loads.

    Raises:
        ValueError, TypeError: If the object is no image processor, or prepares images in a way that
            cannot be expressed.
    """
    processor = getattr(processor, "image_processor", None) or processor
    own = processor if isinstance(processor, Mapping) else None

    def setting(name: str, default: Any = None) -> Any:
        value = own.get(name, default) if own is not None else getattr(processor, name, default)
        return default if value is None else value

    if setting("image_mean") is None and setting("size") is None:
        raise TypeError(
            "processor: expected an image processor of transformers, with image_mean and size, "
            f"got {validate.describe(processor)}"
        )
    size, crop = setting("size", {}), setting("crop_size", {})
    size = size if _sides(size) else {"shortest_edge": size}
    crop = crop if _sides(crop) else {"height": crop, "width": crop}
    if not setting("do_resize", bool(setting("size"))):
        size = {}
    if not setting("do_center_crop", False):
        crop = {}
    known = {"height", "width", "shortest_edge"}
    if unknown := {k for k in _keys(size) | _keys(crop) if k not in known}:
        raise ValueError(
            f"processor: expected a size with height and width, or a shortest_edge, got "
            f"{sorted(unknown)}; resize the images yourself, by transform="
        )
    filter_number = int(setting("resample", 2))
    if size and filter_number not in FILTERS:
        raise ValueError(
            f"processor: expected a bilinear or bicubic filter, got resample={filter_number}; "
            "resize the images yourself, by transform="
        )
    # A network sees (scale * x - offset - mean) / std of images x in [0, 1].
    scale = 255 * float(setting("rescale_factor", 1 / 255)) if setting("do_rescale", True) else 255
    offset = 1.0 if setting("rescale_offset", False) and setting("do_rescale", True) else 0.0
    mean, std = [0.0], [1.0]
    if setting("do_normalize", setting("image_mean") is not None):
        mean, std = _numbers(setting("image_mean")), _numbers(setting("image_std"))
    return Preparation(
        height=_side(size, "height"),
        width=_side(size, "width"),
        shortest=_side(size, "shortest_edge"),
        crop=(_side(crop, "height") or 1, _side(crop, "width") or 1) if crop else None,
        mode=FILTERS.get(filter_number, "bilinear"),
        mean=[(m + offset) / scale for m in mean],
        std=[s / scale for s in std],
    )


def _sides(value: Any) -> bool:
    return isinstance(value, Mapping) or hasattr(value, "keys") or hasattr(value, "height")


def _keys(value: Any) -> set[str]:
    return {str(k) for k, v in _pairs(value).items() if v is not None}


def _pairs(value: Any) -> dict[str, Any]:
    """Return the entries of a size, which is a dict or an object with fields."""
    if hasattr(value, "keys"):
        return {key: value[key] for key in value.keys()}  # noqa: SIM118
    return dict(vars(value))


def _side(value: Any, name: str) -> int | None:
    side = _pairs(value).get(name)
    return None if side is None else validate.count(side, f"processor, {name}", 1, LARGEST)


def _numbers(value: Any) -> list[float]:
    listed = torch.as_tensor(value, dtype=torch.float64).reshape(-1)
    return [float(number) for number in listed]
