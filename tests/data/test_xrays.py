"""The X-rays: how many of which kind, no patient in two parts, and the very pixels of the file."""

import io
import re
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

import cfxnb as cfx
from cfxnb.core import locations as paths
from cfxnb.data.files import manifest
from cfxnb.data.image_folder import read_folder
from cfxnb.data.xrays import FILE

COUNTS = {  # split -> normal, bacteria, virus, and stems of patients, as data/README.md says
    "train": (1207, 2277, 1211, 2567),
    "validation": (134, 253, 134, 279),
    "test": (234, 242, 148, 427),
}


@pytest.fixture(scope="module")
def parts():
    return {split: cfx.data.chest(split) for split in COUNTS}


@pytest.mark.parametrize("split", COUNTS)
def test_counts(parts, split):
    part = parts[split]
    *kinds, patients = COUNTS[split]
    counts = part.factors["kind"].value_counts()
    assert [counts[kind] for kind in ("normal", "bacteria", "virus")] == kinds
    assert len(part) == sum(kinds)
    assert part.labels.bincount().tolist() == [kinds[0], kinds[1] + kinds[2]]
    assert part.factors["patient"].nunique() == patients


def test_the_counts_are_those_of_the_readme():
    text = (paths.data() / "README.md").read_text()
    for split, (normal, bacteria, virus, patients) in COUNTS.items():
        row = f"| {split} | {normal} | {bacteria} | {virus} | {patients} |"
        assert row in text.replace(",", "")


@pytest.mark.parametrize("split", COUNTS)
def test_what_an_image_is(parts, split):
    part = parts[split]
    assert part.images.shape == (len(part), 1, 64, 64)
    assert part.images.dtype == torch.float32
    assert part.images.min() >= 0
    assert 0.9 < part.images.max() <= 1
    assert part.labels.dtype == torch.int64
    assert part.class_names == ("normal", "pneumonia")
    assert list(part.factors) == ["kind", "patient"]
    assert part.factors.index.tolist() == list(range(len(part)))
    assert (part.labels.numpy() == (part.factors["kind"] != "normal")).all()
    assert "CC BY 4.0" in part.source


def stems(part, prefix):
    return part.factors["patient"].str.removeprefix(prefix)


def test_no_patient_and_no_picture_is_in_train_and_validation(parts):
    for prefix in ("", "NORMAL2-"):
        train, validation = (stems(parts[s], prefix) for s in ("train", "validation"))
        assert not set(train) & set(validation)
    pictures = {s: {i.numpy().tobytes() for i in part.images} for s, part in parts.items()}
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not pictures[a] & pictures[b]


@pytest.mark.parametrize(("prefix", "people", "images"), [("", 170, 320), ("NORMAL2-", 264, 416)])
def test_stems_of_test_images_occur_elsewhere_as_the_readme_warns(parts, prefix, people, images):
    other = {*stems(parts["train"], prefix), *stems(parts["validation"], prefix)}
    shared = stems(parts["test"], prefix)[lambda stem: stem.isin(other)]
    assert (shared.nunique(), len(shared)) == (people, images)


def test_pixels_and_labels_are_those_of_the_file(parts):
    """By hand, image after image in the order of the archive, without the table."""
    part = parts["test"]
    with zipfile.ZipFile(paths.data() / FILE) as archive:
        names = [n for n in archive.namelist() if re.fullmatch(r"test/.*\.png", n)]
        assert len(names) == len(part)
        for row in range(0, len(part), 40):
            with Image.open(io.BytesIO(archive.read(names[row]))) as picture:
                assert (np.asarray(picture) == part.images[row, 0].numpy() * 255).all()
            patient = part.factors["patient"][row]
            assert names[row].removeprefix("test/").startswith(f"{patient}")
            assert ("person" in names[row]) == bool(part.labels[row])


def test_test_is_the_default_and_every_reading_is_a_fresh_one(parts):
    mine = cfx.data.chest()
    assert torch.equal(mine.images, parts["test"].images)
    mine.images.zero_()
    assert torch.equal(cfx.data.chest().images, parts["test"].images)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A copy of the X-rays alone, which a test may damage."""
    (tmp_path / "data" / "chest").mkdir(parents=True)
    for name in ("MANIFEST.json", FILE):
        shutil.copy(paths.data() / name, tmp_path / "data" / name)
    monkeypatch.setenv("CFXNB_HOME", str(tmp_path))
    return tmp_path / "data" / FILE


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def altered(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def removed(path):
    path.unlink()


def test_the_copy_is_sound(home):
    assert len(cfx.data.chest()) == 624


@pytest.mark.parametrize("damage", [truncated, altered, removed])
def test_damage_is_refused(home, damage):
    damage(home)
    with pytest.raises(cfx.data.DamagedFileError, match=FILE) as caught:
        cfx.data.chest()
    assert "CFXNB_HOME" in str(caught.value)


def archive_of(path, **entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"test/{name.replace('_', '.')}", content)


def png(size):
    stream = io.BytesIO()
    Image.new("L", (size, size)).save(stream, "PNG")
    return stream.getvalue()


TABLE = "file_name,label,kind,patient\na.png,0,normal,a\nb.png,1,virus,b\n"
WRONG = {
    "no table": {"a_png": png(4)},
    "empty table": {"metadata_csv": ""},
    "table without rows": {"metadata_csv": TABLE.split("\n")[0]},
    "table without names": {"metadata_csv": "label\n1\n"},
    "missing picture": {"metadata_csv": TABLE, "a_png": png(4)},
    "no picture": {"metadata_csv": TABLE, "a_png": png(4), "b_png": b"text"},
    "half a picture": {"metadata_csv": TABLE, "a_png": png(4), "b_png": png(4)[:45]},
    "two sizes": {"metadata_csv": TABLE, "a_png": png(4), "b_png": png(5)},
}


@pytest.mark.parametrize("entries", WRONG.values(), ids=list(WRONG))
def test_an_archive_that_holds_something_else_is_refused(tmp_path, entries):
    archive_of(tmp_path / "x.zip", **entries)
    with pytest.raises(cfx.data.DamagedFileError, match=r"x\.zip is damaged"):
        read_folder(tmp_path / "x.zip", "test")


def test_no_archive_is_refused(tmp_path):
    (tmp_path / "x.zip").write_text("text")
    with pytest.raises(cfx.data.DamagedFileError, match=r"x\.zip is damaged"):
        read_folder(tmp_path / "x.zip", "test")


def test_a_small_archive_is_read(tmp_path):
    """Or the tests above could pass for a reason of their own."""
    archive_of(tmp_path / "x.zip", metadata_csv=TABLE, a_png=png(4), b_png=png(4))
    table, pictures = read_folder(tmp_path / "x.zip", "test")
    assert table["kind"].tolist() == ["normal", "virus"]
    assert pictures.shape == (2, 4, 4)


def test_the_manifest_says_where_from():
    entry = manifest()[FILE]
    assert entry["licence"] == "CC-BY-4.0"
    assert "@" in entry["source"][0]
