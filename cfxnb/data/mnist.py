"""The world of handwritten digits: MNIST, zero-padded from 28x28 to 32x32.

Source: Y. LeCun, C. Cortes, C. J. C. Burges; CC BY-SA 3.0.
"""

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.data.files import checked, whole
from cfxnb.data.imageset import ImageSet
from cfxnb.data.morphology import COLUMNS

SPLITS = {"train": "train", "test": "t10k"}
FACTORS = "digits/factors.safetensors"
SOURCE = "MNIST, Y. LeCun, C. Cortes, C. J. C. Burges, CC BY-SA 3.0"
LARGEST = 2**30  # bytes of an unpacked file; MNIST has 47 million
PAD = 2  # 28 + 2 + 2 = 32, a size that halves five times


@standard_modes
def digits(split: str = "test") -> ImageSet:
    """All images of one split of MNIST, with seven measured factors each.

    Args:
        split: ``"train"`` (60,000 images) or ``"test"`` (10,000 images).

    Returns:
        ImageSet with images of shape (n, 1, 32, 32), white on black; factors as measured by
        ``cfxnb.data.measure``.

    Raises:
        ValueError, TypeError: if ``split`` is neither.
        DamagedFileError: (a ValueError) if a file is missing, truncated or altered.
    """
    validate.choice(split, "split", SPLITS)
    labels = read_idx(checked(f"digits/{SPLITS[split]}-labels-idx1-ubyte.gz"))
    path = checked(FACTORS)
    with whole(f"data/{FACTORS}"):
        measured = load_file(path)[split].double().numpy()
        factors = pd.DataFrame(measured, columns=list(COLUMNS))
    return ImageSet(
        images=images_of(split),
        labels=torch.from_numpy(labels.astype(np.int64)),
        class_names=tuple("0123456789"),
        factors=factors,
        source=SOURCE,
    )


def images_of(split: str) -> Tensor:
    """Only the images of a split, (n, 1, 32, 32)."""
    images = read_idx(checked(f"digits/{SPLITS[split]}-images-idx3-ubyte.gz"))
    padded = np.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD)))
    return torch.from_numpy(padded).unsqueeze(1).float() / 255


def read_idx(path: Path) -> np.ndarray:
    """The array in a gzipped IDX file of unsigned bytes (the format of MNIST).

    No more is unpacked than its header says, and at most 1 GiB.
    """
    with whole(path.name), gzip.open(path) as file:
        zeros, kind, dimensions = struct.unpack(">HBB", file.read(4))
        shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
        if zeros != 0 or kind != 8:
            raise ValueError("a header that is not that of unsigned bytes")
        size = math.prod(shape)
        if size > LARGEST:
            raise ValueError(f"{size} bytes, more than {LARGEST}")
        raw = file.read(size + 1)  # one more, to see whether it ends there
        if len(raw) != size:
            raise ValueError(f"not the {size} bytes that its header states")
        return np.frombuffer(raw, np.uint8).reshape(shape)
