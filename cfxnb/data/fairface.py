"""The world of faces: near-frontal photographs, 64x64 in colour, smiling or not.

Source: K. Kärkkäinen, J. Joo, "FairFace" (WACV 2021), CC BY 4.0, near-frontal part, reduced. The
people are real: no identification, no statement about a single person. Cautions in
``data/README.md``.
"""

import numpy as np
import pandas as pd
import torch

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.data.files import checked, whole
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
HELD_OUT = 924  # of FairFace's training part, for choices
# Pictures of the training part that have a near-identical twin in the test part.
TWINS = ("11711.jpg", "9828.jpg", "7873.jpg", "34501.jpg", "30213.jpg", "12016.jpg")
SOURCE = "FairFace, K. Kärkkäinen, J. Joo, CC BY 4.0, modified; labels are perceived, not facts"


@standard_modes
def faces(split: str = "test") -> ImageSet:
    """Faces with perceived labels, and whether a network sees a smile.

    ``smile_score``, which the label comes from, is the opinion of a network ("happy") on the
    picture at 224x224; gender, age and race are impressions of crowd workers, in FairFace's words.

    Args:
        split: ``"train"`` (9,994 images), ``"validation"`` (924, held out of FairFace's training
            part) or ``"test"`` (3,380, which FairFace calls validation). Six pictures with a twin
            in "test" are in no split.

    Returns:
        ImageSet with images of shape (n, 3, 64, 64), labels 0 no smile and 1 smile
        (``smile_score`` above 0.5); factors ``gender``, ``age``, ``age_group``, ``race``,
        ``smile_score``, ``yaw`` (negative: nose to the left) and the landmarks' positions in
        pixels, ``lefteye_x`` and so on.

    Raises:
        ValueError, TypeError: if ``split`` is none of these.
        DamagedFileError: (a ValueError) if the file is missing, truncated or altered.
    """
    validate.choice(split, "split", SPLITS)
    table, pictures = read_folder(
        checked(FILE), "validation" if split == "test" else "train", "RGB", ["smile_score", "male"]
    )
    if split != "test":
        rows = np.flatnonzero(~table["file_name"].isin(TWINS))
        rows = rows[-HELD_OUT:] if split == "validation" else rows[:-HELD_OUT]
        table, pictures = table.iloc[rows].reset_index(drop=True), pictures[rows]
    with whole(f"data/{FILE}"):
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
    told = {
        "gender": table["male"].map(dict(enumerate(GENDERS))),
        "age": table["age"],
        "age_group": table["age"].map(group),
    }
    return pd.DataFrame(told).join(table.drop(columns=["file_name", "male", "age"]))
