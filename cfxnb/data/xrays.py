"""The chest data set: X-rays of children with and without pneumonia, 64x64 gray.

Source: D. Kermany, K. Zhang, M. Goldbaum, Mendeley Data, v2, doi 10.17632/rscbjbr9sj.2 (Kermany
et al., Cell 172, 2018); CC BY 4.0. The X-rays are not for diagnosis; see the cautions in
``data/README.md``.
"""

import torch

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.data.files import reading, verified_path
from cfxnb.data.image_folder import read_folder
from cfxnb.data.imageset import ImageSet

FILE = "chest/chest64.zip"
SPLITS = ("train", "validation", "test")
NAMES = ("normal", "pneumonia")
FACTORS = ["kind", "patient"]
SOURCE = "chest X-rays of children, D. Kermany, K. Zhang, M. Goldbaum, CC BY 4.0; not for diagnosis"


@standard_modes
def chest(split: str = "test") -> ImageSet:
    """Load the X-rays of one split, with the labels 0 (normal) and 1 (pneumonia).

    No patient is in both "train" and "validation". Some values of the factor ``patient`` occur in
    both "train" and "test". Equal values in "train" and "test" probably belong to different people,
    because the numbering of patients seems to start again in "test".

    Args:
        split: ``"train"`` (4,695 images), ``"validation"`` (521) or ``"test"`` (624).

    Returns:
        ImageSet with images of shape (n, 1, 64, 64). The columns of ``factors`` are ``kind``
        ("normal", "bacteria" or "virus") and ``patient`` (part of the name of the original
        file).

    Raises:
        ValueError, TypeError: If ``split`` is unknown.
        DamagedFileError: If the data file is missing, truncated or altered. DamagedFileError is a
            ValueError.
    """
    validate.choice(split, "split", SPLITS)
    table, pictures = read_folder(verified_path(FILE), split, "L", ["label"])
    with reading(f"data/{FILE}"):
        factors = table[FACTORS]
    return ImageSet(
        images=torch.from_numpy(pictures).unsqueeze(1).float() / 255,
        labels=torch.tensor(table["label"].to_numpy(), dtype=torch.int64),
        class_names=NAMES,
        factors=factors,
        source=SOURCE,
    )
