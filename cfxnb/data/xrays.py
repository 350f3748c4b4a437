"""The world of chest X-rays: children with and without pneumonia, 64x64 gray.

Source: D. Kermany, K. Zhang, M. Goldbaum, Mendeley Data, v2, doi 10.17632/rscbjbr9sj.2 (Kermany
et al., Cell 172, 2018); CC BY 4.0. Not for diagnosis; cautions in ``data/README.md``.
"""

import torch

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.data.files import checked, whole
from cfxnb.data.image_folder import read_folder
from cfxnb.data.imageset import ImageSet

FILE = "chest/chest64.zip"
SPLITS = ("train", "validation", "test")
NAMES = ("normal", "pneumonia")
FACTORS = ["kind", "patient"]
SOURCE = "chest X-rays of children, D. Kermany, K. Zhang, M. Goldbaum, CC BY 4.0; not for diagnosis"


@standard_modes
def chest(split: str = "test") -> ImageSet:
    """All X-rays of one split.

    Images of one patient never lie in both "train" and "validation". Stems of file names in "test"
    occur in "train" too, probably of other people: their numbers seem to start anew.

    Args:
        split: ``"train"`` (4,695 images), ``"validation"`` (521) or ``"test"`` (624).

    Returns:
        ImageSet with images of shape (n, 1, 64, 64), labels 0 normal and 1 pneumonia; factors
        ``kind`` ("normal", "bacteria" or "virus") and ``patient`` (stem of the original name).

    Raises:
        ValueError, TypeError: if ``split`` is none of these.
        DamagedFileError: (a ValueError) if the file is missing, truncated or altered.
    """
    validate.choice(split, "split", SPLITS)
    table, pictures = read_folder(checked(FILE), split, "L", ["label"])
    with whole(f"data/{FILE}"):
        factors = table[FACTORS]
    return ImageSet(
        images=torch.from_numpy(pictures).unsqueeze(1).float() / 255,
        labels=torch.tensor(table["label"].to_numpy(), dtype=torch.int64),
        class_names=NAMES,
        factors=factors,
        source=SOURCE,
    )
