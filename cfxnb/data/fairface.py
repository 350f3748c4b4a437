"""The faces data set: near-frontal photographs, 64x64 in colour, smiling or not.

Source: K. Kärkkäinen, J. Joo, "FairFace" (WACV 2021), CC BY 4.0, near-frontal part, reduced. The
people are real. Do not identify anybody, and make no statement about a single person; see the
cautions in ``data/README.md``.
"""

import numpy as np
import pandas as pd
import torch

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.data.files import reading, verified_path
from cfxnb.data.image_folder import read_folder
from cfxnb.data.imageset import ImageSet

FILE = "faces/faces64.zip"
SPLITS = ("train", "validation", "test")
NAMES = ("no smile", "smile")
GENDERS = ("female", "male")
AGE_GROUPS = {
    "child": ("0-2", "3-9"),
    "young": ("10-19", "20-29"),
    "adult": ("30-39", "40-49"),
    "older": ("50-59", "60-69", "more than 70"),
}
N_VALIDATION = 924  # images of FairFace's training part that form the validation split
# Images of the training part that are nearly identical to one of the test part.
NEAR_DUPLICATES = ("11711.jpg", "9828.jpg", "7873.jpg", "34501.jpg", "30213.jpg", "12016.jpg")
SOURCE = "FairFace, K. Kärkkäinen, J. Joo, CC BY 4.0, modified; labels are perceived, not facts"


@standard_modes
def faces(split: str = "test") -> ImageSet:
    """Load faces with the labels 0 (no smile) and 1 (smile).

    The label is 1 if ``smile_score`` is above 0.5. ``smile_score`` is the output "happy" of an
    expression network for the image at 224x224. The labels for gender, age and race are what crowd
    workers perceived in the photographs, in the words of FairFace.

    Args:
        split: ``"train"`` (9,994 images), ``"validation"`` (924 images held out of FairFace's
            training part) or ``"test"`` (3,380 images, FairFace's validation part). Six training
            images that are nearly identical to an image in "test" were left out of all splits.

    Returns:
        ImageSet with images of shape (n, 3, 64, 64). The columns of ``factors`` are ``gender``,
        ``age``, ``age_group``, ``race``, ``smile_score``, ``yaw`` (negative if the nose points to
        the left), and the positions of landmarks in pixels (``lefteye_x`` and so on).

    Raises:
        ValueError, TypeError: If ``split`` is unknown.
        DamagedFileError: If the data file is missing, truncated or altered. DamagedFileError is a
            ValueError.
    """
    validate.choice(split, "split", SPLITS)
    part = "validation" if split == "test" else "train"
    table, pictures = read_folder(verified_path(FILE), part, "RGB", ["smile_score", "male"])
    if split != "test":
        rows = np.flatnonzero(~table["file_name"].isin(NEAR_DUPLICATES))
        rows = rows[-N_VALIDATION:] if split == "validation" else rows[:-N_VALIDATION]
        table, pictures = table.iloc[rows].reset_index(drop=True), pictures[rows]
    with reading(f"data/{FILE}"):
        factors = _factors(table)
    return ImageSet(
        images=torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().float() / 255,
        labels=torch.from_numpy((table["smile_score"].to_numpy() > 0.5).astype(np.int64)),
        class_names=NAMES,
        factors=factors,
        source=SOURCE,
    )


def _factors(table: pd.DataFrame) -> pd.DataFrame:
    group = {age: name for name, ages in AGE_GROUPS.items() for age in ages}
    columns = {
        "gender": table["male"].map(dict(enumerate(GENDERS))),
        "age": table["age"],
        "age_group": table["age"].map(group),
    }
    return pd.DataFrame(columns).join(table.drop(columns=["file_name", "male", "age"]))
