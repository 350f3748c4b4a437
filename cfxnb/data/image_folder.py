"""Read images, and a table that describes them, from a zip file.

The files in the zip file are laid out as in ``imagefolder`` of Hugging Face datasets.
"""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cfxnb.data.files import reading

MAX_BYTES = 2**26  # of one unpacked file
MAX_SIDE = 4096  # pixels


def read_folder(
    path: Path, split: str, mode: str = "L", numbers: Sequence[str] = ()
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the table ``metadata.csv`` of one folder in a zip file, and the folder's images.

    The returned images are a uint8 array.

    Args:
        path: The zip file.
        split: Name of the folder in the zip file.
        mode: ``"L"`` for gray images (n, h, w), ``"RGB"`` for colour (n, h, w, 3).
        numbers: Columns of the table that must hold a finite number for each image.

    Raises:
        DamagedFileError: If the archive, the table or an image cannot be read.
    """
    with reading(path.name), zipfile.ZipFile(path) as archive:
        table = pd.read_csv(io.BytesIO(_content(archive, f"{split}/metadata.csv")))
        names = [f"{split}/{name}" for name in table["file_name"]]
        for column in numbers:
            if not np.isfinite(table[column].to_numpy(np.float64)).all():
                raise ValueError(f"metadata.csv without a finite {column} for each picture")
        return table, np.stack([_picture(_content(archive, name), mode) for name in names])


def _content(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the bytes of one file of an archive. Files larger than ``MAX_BYTES`` are refused."""
    size = archive.getinfo(name).file_size
    if size > MAX_BYTES:
        raise ValueError(f"{name[:60]} has {size} bytes, more than {MAX_BYTES}")
    return archive.read(name)


def _picture(content: bytes, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        if max(picture.size) > MAX_SIDE:
            raise ValueError(f"a picture of {picture.size} pixels, more than {MAX_SIDE} per side")
        return np.asarray(picture.convert(mode))
