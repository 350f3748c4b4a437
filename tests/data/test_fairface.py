"""The faces: how many of which kind, no twin in two parts, and the very pixels of the file."""

import io
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import cfxnb as cfx
from cfxnb.core import locations as paths
from cfxnb.data.fairface import AGE_GROUPS, FILE, NEAR_DUPLICATES

COUNTS = {"train": (9994, 4467), "validation": (924, 441), "test": (3380, 1530)}  # all, smiling


@pytest.fixture(scope="module")
def parts():
    return {split: cfx.data.faces(split) for split in COUNTS}


@pytest.fixture(scope="module")
def archive():
    with zipfile.ZipFile(paths.data() / FILE) as opened:
        yield opened


def table(archive, folder):
    return pd.read_csv(io.BytesIO(archive.read(f"{folder}/metadata.csv")))


@pytest.mark.parametrize("split", COUNTS)
def test_counts_and_what_an_image_is(parts, split):
    part = parts[split]
    assert (len(part), int(part.labels.sum())) == COUNTS[split]
    assert part.images.shape == (len(part), 3, 64, 64)
    assert part.images.dtype == torch.float32
    assert 0 <= part.images.min() < part.images.max() <= 1
    assert (part.labels.numpy() == (part.factors["smile_score"] > 0.5)).all()
    assert part.factors.index.tolist() == list(range(len(part)))
    assert part.factors["yaw"].abs().max() <= 0.22
    text = (paths.data() / "README.md").read_text().replace(",", "")
    assert f"| {split} | {COUNTS[split][0]} | {COUNTS[split][1]} |" in text


def test_the_parts_are_those_of_the_file_without_the_twins(parts, archive):
    ours = pd.concat([parts["train"].factors, parts["validation"].factors], ignore_index=True)
    theirs = table(archive, "train")
    theirs = theirs[~theirs["file_name"].isin(NEAR_DUPLICATES)].reset_index(drop=True)
    assert len(theirs) == 10924 - len(NEAR_DUPLICATES)
    assert (ours["smile_score"] == theirs["smile_score"]).all()
    assert ((ours["gender"] == "male") == (theirs["male"] == 1)).all()


def test_the_twins_left_out_have_their_likeness_in_the_test_part(parts, archive):
    near = parts["test"].images.flatten(1)
    near = near - near.mean(1, keepdim=True)
    near = near / near.norm(dim=1, keepdim=True)
    for name in NEAR_DUPLICATES:
        with Image.open(io.BytesIO(archive.read(f"train/{name}"))) as picture:
            pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
        one = torch.from_numpy(pixels).permute(2, 0, 1).flatten()
        one = one - one.mean()
        assert (near @ (one / one.norm())).max() > 0.95


def test_pixels_are_those_of_the_file(parts, archive):
    names = table(archive, "validation")["file_name"]
    for row in (0, 17, len(names) - 1):
        with Image.open(io.BytesIO(archive.read(f"validation/{names[row]}"))) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        ours = (parts["test"].images[row] * 255).round().byte().permute(1, 2, 0).numpy()
        assert (ours == pixels).all()


def test_age_groups_hold_every_age_once(parts):
    ages = [age for group in AGE_GROUPS.values() for age in group]
    assert sorted(ages) == sorted(parts["test"].factors["age"].unique())
    group = {age: name for name, ages in AGE_GROUPS.items() for age in ages}
    assert (parts["test"].factors["age"].map(group) == parts["test"].factors["age_group"]).all()
