"""Pictures with a table, kept in a zip as the ``imagefolder`` convention has it."""

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cfxnb.data.files import REMEDY, DamagedFile


def read_folder(path: Path, split: str, mode: str = "L") -> tuple[pd.DataFrame, np.ndarray]:
    """The table ``metadata.csv`` of one folder of a zip, and its pictures in bytes.

    Args:
        mode: ``"L"`` for gray pictures (n, h, w), ``"RGB"`` for coloured ones (n, h, w, 3).

    Raises:
        DamagedFile: if the archive, the table or a picture cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            with archive.open(f"{split}/metadata.csv") as file:
                table = pd.read_csv(file)
            pictures = [_picture(archive, f"{split}/{n}", mode) for n in table["file_name"]]
        return table, np.stack(pictures)
    # KeyError: no such entry or column; ValueError: no table, or pictures of several sizes.
    except (zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        raise DamagedFile(f"{path.name} is damaged: {error}. {REMEDY}") from None


def _picture(archive: zipfile.ZipFile, name: str, mode: str) -> np.ndarray:
    with archive.open(name) as file, Image.open(file) as picture:
        return np.asarray(picture.convert(mode))
