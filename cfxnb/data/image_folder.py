"""Pictures with a table, kept in a zip as the ``imagefolder`` convention has it."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cfxnb.data.files import whole

LARGEST = 2**26  # bytes of one file in the archive, unpacked
SIDE = 4096  # pixels


def read_folder(
    path: Path, split: str, mode: str = "L", numbers: Sequence[str] = ()
) -> tuple[pd.DataFrame, np.ndarray]:
    """The table ``metadata.csv`` of one folder of a zip, and its pictures in bytes.

    Args:
        mode: ``"L"`` for gray pictures (n, h, w), ``"RGB"`` for coloured ones (n, h, w, 3).
        numbers: columns that hold a finite number for each picture.

    Raises:
        DamagedFileError: if the archive, the table or a picture cannot be read.
    """
    with whole(path.name), zipfile.ZipFile(path) as archive:
        table = pd.read_csv(io.BytesIO(_content(archive, f"{split}/metadata.csv")))
        class_names = [f"{split}/{name}" for name in table["file_name"]]
        for column in numbers:
            if not np.isfinite(table[column].to_numpy(np.float64)).all():
                raise ValueError(f"metadata.csv without a finite {column} for each picture")
        return table, np.stack([_picture(_content(archive, name), mode) for name in class_names])


def _content(archive: zipfile.ZipFile, name: str) -> bytes:
    """One file of an archive, unless it would unpack to far more than any that is known."""
    size = archive.getinfo(name).file_size
    if size > LARGEST:
        raise ValueError(f"{name[:60]} has {size} bytes, more than {LARGEST}")
    return archive.read(name)


def _picture(content: bytes, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as picture:
        if max(picture.size) > SIDE:
            raise ValueError(f"a picture of {picture.size} pixels, more than {SIDE} in a row")
        return np.asarray(picture.convert(mode))
