"""The world of handwritten digits: MNIST, zero-padded from 28x28 to 32x32.

Source: Y. LeCun, C. Cortes, C. J. C. Burges; CC BY-SA 3.0.
"""

import gzip
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor

from cfxnb import validate
from cfxnb.data.files import REMEDY, DamagedFile, checked
from cfxnb.data.imageset import ImageSet
from cfxnb.data.morphology import COLUMNS

SPLITS = {"train": "train", "test": "t10k"}
FACTORS = "digits/factors.safetensors"
SOURCE = "MNIST, Y. LeCun, C. Cortes, C. J. C. Burges, CC BY-SA 3.0"
PAD = 2  # 28 + 2 + 2 = 32, a size that halves five times


def digits(split: str = "test") -> ImageSet:
    """All images of one split of MNIST, with seven measured factors each.

    Args:
        split: ``"train"`` (60,000 images) or ``"test"`` (10,000 images).

    Returns:
        ImageSet with images of shape (n, 1, 32, 32), white on black; factors as measured by
        ``cfxnb.data.measure``.

    Raises:
        ValueError, TypeError: if ``split`` is neither.
        DamagedFile: (a ValueError) if a file is missing, truncated or altered.
    """
    validate.choice(split, "split", SPLITS)
    labels = read_idx(checked(f"digits/{SPLITS[split]}-labels-idx1-ubyte.gz"))
    factors = load_file(checked(FACTORS))[split].double().numpy()
    return ImageSet(
        images=images_of(split),
        labels=torch.from_numpy(labels.astype(np.int64)),
        names=tuple("0123456789"),
        factors=pd.DataFrame(factors, columns=list(COLUMNS)),
        source=SOURCE,
    )


def images_of(split: str) -> Tensor:
    """Only the images of a split, (n, 1, 32, 32)."""
    images = read_idx(checked(f"digits/{SPLITS[split]}-images-idx3-ubyte.gz"))
    padded = np.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD)))
    return torch.from_numpy(padded).unsqueeze(1).float() / 255


def read_idx(path: Path) -> np.ndarray:
    """The array in a gzipped IDX file of unsigned bytes (the format of MNIST)."""
    try:
        raw = gzip.decompress(path.read_bytes())
        zeros, kind, dimensions = struct.unpack(">HBB", raw[:4])
        shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])
        if zeros != 0 or kind != 8:
            raise ValueError(f"header {raw[:4].hex()} is not that of unsigned bytes")
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (EOFError, OSError, ValueError, struct.error) as error:
        raise DamagedFile(f"{path.name} is damaged: {error}. {REMEDY}") from None
