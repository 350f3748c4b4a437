"""Read one image file that nobody has checked: any mode, any size, perhaps broken or hostile.

The size in the header is checked before anything is decoded. Nothing is ever executed.
"""

import dataclasses
import functools
import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cfxnb.core.disk import cause, kind_of

MAX_BYTES = 2**28  # of one file on the disk
#: Formats that are read. Others are left out, such as EPS, for which PIL starts a program.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
GRAY = ("1", "L", "LA", "La", "I", "F")  # modes of gray images, and I;16 in its variants
TRANSPARENT = ("RGBA", "RGBa", "LA", "La", "PA")
RESIZE = ("crop", "pad", "stretch")
WHITE = {"I;16": 65535.0, "F": 1.0}  # value of white in modes of more than 8 bits
#: EXIF orientation -> how the pixels are turned.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPPED = (5, 6, 7, 8)  # orientations that exchange height and width


@dataclasses.dataclass(frozen=True)
class Header:
    """What is known of an image before its pixels are decoded.

    Attributes:
        height, width: Size in pixels, after the EXIF orientation is applied.
        mode: The mode in PIL's words, such as ``"RGB"``, ``"P"`` or ``"I;16"``.
    """

    height: int
    width: int
    mode: str

    @property
    def gray(self) -> bool:
        """Whether the image is stored without colour. A palette counts as colour."""
        return self.mode in GRAY or self.mode.startswith("I;")


@dataclasses.dataclass(frozen=True)
class ImageFormat:
    """How every image of a set becomes a tensor.

    Attributes:
        size: Height and width in pixels, or None for the size in the file.
        channels: 1 (gray) or 3 (colour).
        resize: ``"crop"``, ``"pad"`` or ``"stretch"``, see ``cfxnb.data.folder``.
        white_value: Value of white in images of more than 8 bits per channel, or None for that of
            the mode.
        max_pixels: Largest number of pixels in a file.
    """

    size: tuple[int, int] | None
    channels: int
    resize: str
    white_value: float | None
    max_pixels: int


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        ValueError: If the path is no readable file, or a file larger than ``MAX_BYTES``.
    """
    if (kind := kind_of(path)) != "a file":
        raise ValueError({"nothing there": "missing"}.get(kind, kind))
    try:
        # A pipe or a device in the place of the file would block: this one is never waited for.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        number = os.open(path, flags)
        with os.fdopen(number, "rb") as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise ValueError("a device, pipe or socket")
            if state.st_size > MAX_BYTES:
                raise ValueError(f"{state.st_size:,} bytes, more than {MAX_BYTES:,}")
            return file.read(MAX_BYTES)
    except OSError as error:
        raise ValueError(cause(error)) from None


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this build of PIL reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def looks_like_image(name: str) -> bool:
    """Return whether a file name has the ending of an image format."""
    known = _formats()
    return Image.registered_extensions().get(os.path.splitext(name)[1].lower()) in known


@contextmanager
def opened(content: bytes, max_pixels: int) -> Iterator[tuple[Image.Image, Header]]:
    """Open an image without decoding its pixels, and give it with its header.

    Raises:
        ValueError: If the content is no image, or if the header states more than ``max_pixels``
            pixels, or more than one image.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn about files that are merely odd
        try:
            picture: Any = Image.open(io.BytesIO(content), formats=_formats())
        except Image.DecompressionBombError:
            raise ValueError("the header states too many pixels (a decompression bomb)") from None
        except Image.UnidentifiedImageError:
            raise ValueError("not an image that can be read") from None
        except MemoryError:
            raise
        except Exception as error:  # a hostile header can raise any error
            raise ValueError(f"damaged: {cause(error)}") from None
        with picture:
            yield picture, header(picture, max_pixels)


def header(picture: Image.Image, max_pixels: int) -> Header:
    """Return the header of an image that was opened, and refuse sizes out of bounds."""
    width, height = picture.size
    if width * height > max_pixels:
        raise ValueError(
            f"the header states {width:,} x {height:,} pixels, more than max_pixels={max_pixels:,}"
        )
    if width < 1 or height < 1:
        raise ValueError(f"the header states {width} x {height} pixels")
    try:
        frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    except Exception as error:
        raise ValueError(f"damaged: {cause(error)}") from None
    if frames > 1:
        raise ValueError(f"{frames} images in one file; save the right one as its own file")
    if orientation(picture) in SWAPPED:
        height, width = width, height
    return Header(height, width, picture.mode)


def orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8. Damaged EXIF data count as 1, which turns nothing."""
    try:
        found = picture.getexif().get(0x0112, 1)
    except Exception:
        return 1
    return found if found in TURNS else 1


def to_tensor(picture: Image.Image, how: ImageFormat) -> Tensor:
    """Decode an image and return it as float32 (c, h, w) in [0, 1].

    Raises:
        ValueError: If the pixels cannot be decoded, or if it is not known which value is white.
    """
    try:
        turn = TURNS.get(orientation(picture))
        picture.load()
        picture = picture if turn is None else picture.transpose(turn)
        flat = _flat(picture, how)
        shaped = flat if how.size is None else resized(flat, how.size, how.resize)
        pixels = np.asarray(shaped, np.float32)
    except (MemoryError, ValueError) as error:
        if isinstance(error, MemoryError) or str(error).startswith("white"):
            raise
        raise ValueError(f"damaged: {cause(error)}") from None
    except Exception as error:  # truncated and damaged files raise many kinds of errors
        raise ValueError(f"damaged: {cause(error)}") from None
    deep = shaped.mode == "F"
    tensor = torch.from_numpy(pixels.copy() if deep else pixels / np.float32(255))
    if deep:
        tensor = tensor.clamp(0, 1)
    tensor = tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)
    return tensor.expand(how.channels, -1, -1).contiguous()


def _flat(picture: Image.Image, how: ImageFormat) -> Image.Image:
    """Return a picture in mode L or RGB, or F in [0, 1] for more than 8 bits. White is put below
    transparent parts."""
    if _deep_mode(picture.mode):
        return _deep(picture, how.white_value)
    if picture.mode in TRANSPARENT or "transparency" in picture.info:
        above = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    return picture.convert("L" if how.channels == 1 else "RGB")


def _deep(picture: Image.Image, white_value: float | None) -> Image.Image:
    """Return a gray image of more than 8 bits per pixel as mode F with values in [0, 1]."""
    values = np.asarray(picture).astype(np.float32)
    white = white_value or WHITE.get(picture.mode[:4])
    if white is None and picture.format == "PNG":  # older versions of PIL: 16 bits in mode I
        white = WHITE["I;16"]
    if not np.isfinite(values).all():
        raise ValueError("NaN or infinity in the pixels")
    low, high = float(values.min()), float(values.max())
    if white is None or low < 0 or high > white * 1.0001:
        known = "is not known" if white is None else f"would be {white:g}"
        raise ValueError(
            f"white {known} in this file of mode {picture.mode}, with values from {low:g} to "
            f"{high:g}; pass white_value="
        )
    return Image.fromarray(values / np.float32(white))


def resized(picture: Image.Image, size: tuple[int, int], rule: str) -> Image.Image:
    """Return a picture resized to (height, width), antialiased (bicubic)."""
    height, width = size
    if picture.size == (width, height):
        return picture
    bicubic = Image.Resampling.BICUBIC
    if rule == "stretch":
        return picture.resize((width, height), bicubic)
    across, down = width / picture.width, height / picture.height
    if rule == "crop":
        # The largest part in the middle that has the proportions of the result.
        scale = max(across, down)
        w, h = width / scale, height / scale
        left, top = (picture.width - w) / 2, (picture.height - h) / 2
        # Rounding must not move the box out of the image.
        box = (max(left, 0.0), max(top, 0.0))
        right, bottom = min(box[0] + w, picture.width), min(box[1] + h, picture.height)
        return picture.resize((width, height), bicubic, box=(*box, right, bottom))
    scale = min(across, down)
    w, h = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    white: Any = {"L": 255, "RGB": (255, 255, 255), "F": 1.0}[picture.mode]
    page = Image.new(picture.mode, (width, height), white)
    page.paste(picture.resize((w, h), bicubic), ((width - w) // 2, (height - h) // 2))
    return page


def check_pixels(picture: Image.Image, white_value: float | None, *, shrink: bool = True) -> None:
    """Decode an image that ``opened`` has given, and raise ValueError if that fails.

    With ``shrink=True`` the decoded pixels cannot be used for anything else.
    """
    try:
        if shrink and not _deep_mode(picture.mode):
            picture.draft("L", (1, 1))  # decodes a JPEG with less work, but reads all of it
        picture.load()
    except MemoryError:
        raise
    except Exception as error:  # truncated and damaged files raise many kinds of errors
        raise ValueError(f"damaged: {cause(error)}") from None
    if _deep_mode(picture.mode):
        _deep(picture, white_value)


def _deep_mode(mode: str) -> bool:
    """Return whether a mode has more than 8 bits per pixel and channel."""
    return mode.startswith("I") or mode == "F"
