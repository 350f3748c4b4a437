"""The digits data set: MNIST, zero-padded from 28x28 to 32x32.

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
from cfxnb.data.files import reading, verified_path
from cfxnb.data.imageset import ImageSet
from cfxnb.data.morphology import COLUMNS

SPLITS = {"train": "train", "test": "t10k"}
FACTORS = "digits/factors.safetensors"
SOURCE = "MNIST, Y. LeCun, C. Cortes, C. J. C. Burges, CC BY-SA 3.0"
MAX_BYTES = 2**30  # of an unpacked file; the largest of MNIST has 47 million
PAD = 2  # 28 + 2 + 2 = 32, which is divisible by 2 five times


@standard_modes
def digits(split: str = "test") -> ImageSet:
    """Load one split of MNIST, with seven measured factors per image.

    Args:
        split: ``"train"`` (60,000 images) or ``"test"`` (10,000 images).

    Returns:
        ImageSet with images of shape (n, 1, 32, 32), white on black. The columns of ``factors`` are
        the columns that ``cfxnb.data.measure_digits`` returns.

    Raises:
        ValueError, TypeError: If ``split`` is unknown.
        DamagedFileError: If a data file is missing, truncated or altered. DamagedFileError is a
            ValueError.
    """
    validate.choice(split, "split", SPLITS)
    labels = read_idx(verified_path(f"digits/{SPLITS[split]}-labels-idx1-ubyte.gz"))
    path = verified_path(FACTORS)
    with reading(f"data/{FACTORS}"):
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
    """Load only the images of a split, (n, 1, 32, 32)."""
    images = read_idx(verified_path(f"digits/{SPLITS[split]}-images-idx3-ubyte.gz"))
    padded = np.pad(images, ((0, 0), (PAD, PAD), (PAD, PAD)))
    return torch.from_numpy(padded).unsqueeze(1).float() / 255


def read_idx(path: Path) -> np.ndarray:
    """Read the array in a gzipped IDX file of unsigned bytes (the format of MNIST).

    The function unpacks no more bytes than the header of the file states, and at most 1 GiB.
    """
    with reading(path.name), gzip.open(path) as file:
        zeros, kind, dimensions = struct.unpack(">HBB", file.read(4))
        shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
        if zeros != 0 or kind != 8:
            raise ValueError("the header does not announce unsigned bytes")
        size = math.prod(shape)
        if size > MAX_BYTES:
            raise ValueError(f"{size} bytes, more than {MAX_BYTES}")
        raw = file.read(size + 1)  # one more byte, to see whether the file ends here
        if len(raw) != size:
            raise ValueError(f"not the {size} bytes that its header states")
        return np.frombuffer(raw, np.uint8).reshape(shape)
