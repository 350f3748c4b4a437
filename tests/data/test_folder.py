"""Folders of images as people have them: many modes, sizes and layouts, broken and hostile."""

import os
import struct
import sys
import types
import typing
import warnings
import zlib

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

import cfxnb as cfx
from cfxnb.cli import main

RNG = np.random.default_rng(0)


def colours(height=8, width=8):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(path, **options)
    return path


def quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cfx.data.folder(*arguments, **options)


def reasons(data):
    return dict(zip(data.skipped["file"], data.skipped["reason"], strict=True))


@pytest.fixture
def animals(tmp_path):
    """Sixty images of two classes."""
    for i in range(30):
        save(tmp_path / "cat" / f"{i}.png", colours())
        save(tmp_path / "dog" / "deeper" / f"{i}.png", colours())
    return tmp_path


def only(path, **options):
    """The one image of a folder."""
    data = cfx.data.folder(path, **options)
    assert len(data) == 1
    return data.images[0]


# --- what comes out -------------------------------------------------------------------------------


def test_class_folders(animals):
    data = cfx.data.folder(animals)
    assert len(data) == 60
    assert data.class_names == ("cat", "dog")
    assert data.shape == (3, 8, 8)
    assert data.labels.tolist() == [name.startswith("dog") for name in data.files]
    part = data[5:8]
    assert isinstance(part, cfx.data.ImageSet)
    for name, image in zip(part.factors.index, part.images, strict=True):
        with Image.open(animals / name) as picture:
            assert torch.equal(image, torch.tensor(np.asarray(picture)).permute(2, 0, 1) / 255)


def test_nothing_is_read_before_it_is_used(animals):
    data = cfx.data.folder(animals)
    (animals / data.files[0]).unlink()
    assert len(data[1:].images) == 59
    with pytest.raises(ValueError, match=r"cat/0\.png.*missing"):
        data[0]


def test_parts_batches_and_loaders_give_the_same_images(animals):
    data = cfx.data.folder(animals)
    whole = data.images
    assert torch.equal(torch.cat([part.images for part in data.batches(7)]), whole)
    loaded = list(DataLoader(data, batch_size=7))
    assert torch.equal(torch.cat([images for images, _ in loaded]), whole)
    assert torch.equal(torch.cat([labels for _, labels in loaded]), data.labels)
    dogs = data.select(1)
    assert dogs.labels.unique().tolist() == [1]
    assert torch.equal(dogs.images, whole[data.labels == 1])
    assert torch.equal(data.subset([3, 1])[1].images[0], whole[1])


def test_too_much_for_the_memory_is_refused_before_reading(animals, monkeypatch):
    data = cfx.data.folder(animals)
    for name in data.files:
        (animals / name).unlink()
    little = types.SimpleNamespace(available=10_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(ValueError, match=r"60 images that need .*batches"):
        _ = data.images


# --- modes ----------------------------------------------------------------------------------------


def test_sixteen_bits_keep_their_precision(tmp_path):
    values = np.array([[0, 1, 32768, 65535]], np.uint16)
    save(tmp_path / "a.png", values)
    assert torch.allclose(only(tmp_path)[0], torch.tensor(values / 65535).float(), atol=1e-7)
    save(tmp_path / "a.png", values // 16)
    assert torch.allclose(only(tmp_path, white_value=4095)[0, 0, 3], torch.tensor(1.0))


def test_sixteen_bits_that_are_whiter_than_white_are_named(tmp_path):
    save(tmp_path / "a.png", np.full((2, 2), 5000, np.uint16))
    with pytest.raises(ValueError, match=r"white would be 4095.*values from 5000"):
        quietly(tmp_path, white_value=4095)


def test_floats_need_a_known_white(tmp_path):
    save(tmp_path / "a.tiff", np.array([[0.0, 0.25, 1.0]], np.float32))
    assert only(tmp_path)[0, 0].tolist() == [0.0, 0.25, 1.0]
    save(tmp_path / "b.tiff", np.array([[0.0, 7.0, 1.0]], np.float32))
    save(tmp_path / "c.tiff", np.array([[0.0, np.nan, 1.0]], np.float32))
    found = reasons(quietly(tmp_path))
    assert "white would be 1" in found["b.tiff"]
    assert "NaN" in found["c.tiff"]


def test_transparency_is_put_on_white(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (255, 0, 0, 255)
    pixels[0, 1] = (255, 0, 0, 51)  # a fifth of red
    save(tmp_path / "a.png", pixels)
    image = only(tmp_path)
    assert image[:, 0, 0].tolist() == [1, 0, 0]
    assert torch.allclose(image[:, 0, 1], torch.tensor([1, 0.8, 0.8]), atol=0.005)
    assert image[:, 1].eq(1).all()


def test_a_palette_with_a_transparent_colour(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    picture.putpalette([255, 0, 0, 0, 0, 255])
    save(tmp_path / "a.png", picture, transparency=1)
    assert only(tmp_path)[:, 0].T.tolist() == [[1, 0, 0], [1, 1, 1]]


def test_cmyk_one_bit_and_gray(tmp_path):
    save(tmp_path / "a.tiff", Image.new("CMYK", (2, 2), (0, 255, 255, 0)))
    assert only(tmp_path)[:, 0, 0].tolist() == [1, 0, 0]
    for mode in ("1", "L"):
        (tmp_path / "a.tiff").unlink(missing_ok=True)
        save(tmp_path / "a.png", Image.new(mode, (2, 2), 255))
        assert only(tmp_path).shape == (1, 2, 2)
        assert only(tmp_path, channels=3).eq(1).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    """Pillow's own function turns the pixels, here as the reference."""
    from PIL import ImageOps

    pixels = np.kron(RNG.integers(0, 256, (2, 3)), np.ones((8, 8))).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "a.jpg", pixels, exif=exif, quality=95)
    with Image.open(tmp_path / "a.jpg") as picture:
        right = torch.tensor(np.asarray(ImageOps.exif_transpose(picture))) / 255
    assert torch.equal(only(tmp_path)[0], right)


# --- sizes ----------------------------------------------------------------------------------------


def test_crop_pad_and_stretch(tmp_path):
    pixels = np.zeros((8, 16), np.uint8)
    pixels[:, 4:12] = 128  # the middle
    save(tmp_path / "a.png", pixels)
    gray = torch.tensor(128 / 255)
    assert only(tmp_path, size=8).allclose(gray)
    padded = only(tmp_path, size=16, resize="pad")[0]
    assert padded[:4].eq(1).all()
    assert padded[12:].eq(1).all()
    assert torch.equal(padded[4:12], torch.tensor(pixels) / 255)
    stretched = only(tmp_path, size=8, resize="stretch")[0]
    assert stretched[:, 0].eq(0).all()
    assert stretched[:, 4].allclose(gray, atol=0.02)
    assert only(tmp_path, size=(4, 10)).shape == (1, 4, 10)


def test_shrinking_is_antialiased(tmp_path):
    """A checkerboard becomes gray; taking every fourth pixel would make it white."""
    board = np.indices((64, 64)).sum(0) % 2 * 255
    for values in (board.astype(np.uint8), (board * 257).astype(np.uint16)):
        save(tmp_path / "a.png", values)
        assert (only(tmp_path, size=8) - 0.5).abs().max() < 0.05


def test_several_sizes_are_refused_in_words(tmp_path):
    save(tmp_path / "a.png", colours(8, 8))
    save(tmp_path / "b.png", colours(9, 30))
    with pytest.raises(ValueError, match=r"2 sizes .*8x8 to 9x30.* size=64"):
        cfx.data.folder(tmp_path)
    assert cfx.data.folder(tmp_path, size=4).images.shape == (2, 3, 4, 4)


# --- hostile files --------------------------------------------------------------------------------


def png_of_size(width, height):
    """A PNG of a few bytes whose header states any size."""

    def chunk(name, content):
        sum_ = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", sum_)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")


@pytest.fixture
def hostile(animals, tmp_path_factory):
    """Files that must not stop anything, and the reason that must be told for each."""
    outside = save(tmp_path_factory.mktemp("outside") / "secret.png", colours())
    whole = save(animals / "cat" / "whole.png", colours(64, 64)).read_bytes()
    (animals / "cat" / "short.png").write_bytes(whole[: len(whole) // 2])
    jpeg = save(animals / "cat" / "whole.jpg", colours(64, 64), quality=95).read_bytes()
    (animals / "cat" / "short.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    for name in ("whole.png", "whole.jpg"):
        (animals / "cat" / name).unlink()
    (animals / "cat" / "bomb.png").write_bytes(png_of_size(10**5, 10**5))
    (animals / "cat" / "large.png").write_bytes(png_of_size(8200, 8200))
    (animals / "cat" / "widest.png").write_bytes(png_of_size(2**31 - 1, 1))
    (animals / "cat" / "empty.png").write_bytes(b"")
    (animals / "cat" / "text.png").write_text("no image")
    (animals / "cat" / "program.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n(x) show\n")
    (animals / "cat" / "notes.txt").write_text("no image")
    (animals / "cat" / "away.png").symlink_to(outside)
    (animals / "away").symlink_to(outside.parent)
    (animals / "cat" / "circle").symlink_to(animals)
    (animals / "cat" / "nothing.png").symlink_to("/nowhere/at/all.png")
    frames = [Image.fromarray(colours()) for _ in range(3)]
    frames[0].save(animals / "cat" / "film.gif", save_all=True, append_images=frames[1:])
    save(animals / "alone.png", colours())
    if hasattr(os, "mkfifo"):
        os.mkfifo(animals / "cat" / "pipe.png")
    return animals


REASONS = {
    "cat/short.png": "damaged",
    "cat/short.jpg": "damaged",
    "cat/bomb.png": "decompression bomb",
    "cat/large.png": "8,200 x 8,200 pixels",
    "cat/widest.png": "too many pixels|2,147,483,647 x 1 pixels",
    "cat/empty.png": "not an image",
    "cat/text.png": "not an image",
    "cat/program.png": "not an image",
    "cat/notes.txt": "ending",
    "cat/away.png": "leaves the folder",
    "away": "leaves the folder",
    "cat/circle": "a link to a folder",
    "cat/nothing.png": "leaves the folder",
    "cat/film.gif": "3 images in one file",
    "alone.png": "in no class folder",
    "cat/pipe.png": "pipe",
}


def test_hostile_files_are_skipped_with_their_reason(hostile):
    with pytest.warns(UserWarning, match=r"of \d+ files were skipped") as told:
        data = cfx.data.folder(hostile)
    assert len(told) == 1
    assert len(data) == 60
    found = reasons(data)
    assert found.keys() == {name for name in REASONS if os.path.lexists(hostile / name)}
    for name, reason in found.items():
        assert any(part in reason for part in REASONS[name].split("|")), (name, reason)
    assert data.images.shape == (60, 3, 8, 8)


def test_hostile_files_are_refused_on_request(hostile):
    with pytest.raises(ValueError, match=r"of \d+ that cannot"):
        cfx.data.folder(hostile, errors="raise")


def test_links_are_followed_on_request_and_circles_end(hostile):
    data = quietly(hostile, follow_links=True)
    assert {"cat/away.png", "away/secret.png"} <= set(data.files)
    assert "already listed" in reasons(data)["cat/circle"]


def test_nothing_usable_is_an_error(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(ValueError, match=r"expected images that can be used.*a\.png"):
        quietly(tmp_path)
    with pytest.raises(ValueError, match="nothing there"):
        cfx.data.folder(tmp_path / "other")


def test_a_file_that_only_its_pixels_betray(hostile):
    """Without verify, a truncated file is found when it is used, and named."""
    data = quietly(hostile, verify=False, size=8)
    row = data.files.index("cat/short.png")
    with pytest.raises(ValueError, match=r"cat/short\.png.*damaged.*verify=True"):
        data[row]


# --- splits ---------------------------------------------------------------------------------------


def split_files(path, **options):
    return {s: set(cfx.data.folder(path, s, **options).files) for s in SPLITS}


SPLITS = ("train", "validation", "test")
EVEN = {"fractions": (0.4, 0.3, 0.3)}


def test_splits_are_disjoint_and_complete(animals):
    parts = split_files(animals, **EVEN)
    assert sorted(f for part in parts.values() for f in part) == sorted(
        cfx.data.folder(animals).files
    )
    whole = cfx.data.folder(animals)
    assert all(cfx.data.folder(animals, s).class_names == whole.class_names for s in parts if s)


def test_adding_images_moves_none(animals):
    before = split_files(animals, **EVEN)
    for i in range(30):
        save(animals / "ape" / f"{i}.png", colours())
    after = split_files(animals, **EVEN)
    assert all(before[s] <= after[s] for s in SPLITS)
    by_name = split_files(animals, split_by="name", **EVEN)
    (animals / "ape" / "1.png").unlink()
    fewer = split_files(animals, split_by="name", **EVEN)
    assert all(fewer[s] == by_name[s] - {"ape/1.png"} for s in SPLITS)


def test_copies_are_in_one_split(animals):
    for i in range(30):
        (animals / "dog" / f"copy{i}.png").write_bytes((animals / "cat" / f"{i}.png").read_bytes())
    parts = split_files(animals, **EVEN)
    for part in parts.values():
        originals = {f"dog/copy{name[4:]}" for name in part if name.startswith("cat/")}
        assert {name for name in part if "copy" in name} == originals


def test_splits_by_a_column_keep_patients_together(animals):
    names = [f"cat/{i}.png" for i in range(30)]
    table = pd.DataFrame({"file_name": names, "patient": [i // 3 for i in range(30)]})
    table.to_csv(animals / "metadata.csv", index=False)
    parts = [cfx.data.folder(animals, s, split_by="patient", **EVEN) for s in SPLITS]
    patients = [set(part.factors["patient"]) for part in parts]
    assert sum(map(len, patients)) == 10
    assert not set.intersection(*patients)


def test_splits_that_the_folder_states(tmp_path):
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        for i in range(count):
            save(tmp_path / part / "abc"[i % 2] / f"{i}.png", colours())
    assert [len(cfx.data.folder(tmp_path, s)) for s in SPLITS] == [4, 2, 3]
    assert cfx.data.folder(tmp_path).class_names == ("a", "b")


def test_an_empty_split_is_refused(tmp_path):
    save(tmp_path / "a.png", colours())
    with pytest.raises(ValueError, match=r"split: .*train 1.*'test'"):
        cfx.data.folder(tmp_path, "test", fractions=(1, 0, 0))


# --- tables ---------------------------------------------------------------------------------------


def test_a_table_with_labels_and_factors(animals):
    names = [f"cat/{i}.png" for i in range(12)]
    labels = [10 if i % 2 else 9 for i in range(12)]
    table = pd.DataFrame(
        {"file_name": names, "label": labels, "age": range(12), "sex": ["f", "m"] * 6}
    )
    table.to_csv(animals / "metadata.csv", index=False)
    table.to_parquet(animals / "other.parquet")
    table.to_json(animals / "lines.jsonl", lines=True, orient="records")
    for path in (animals, animals / "other.parquet", animals / "lines.jsonl"):
        data = cfx.data.folder(path)
        assert data.class_names == ("9", "10")  # by size, not as texts
        assert data.labels.tolist() == [0, 1] * 6
        assert data.factors["age"].tolist() == list(range(12))
        assert data.factors["sex"].tolist() == ["f", "m"] * 6
        assert data[2:4].factors["age"].tolist() == [2, 3]


def test_hostile_tables(animals, tmp_path_factory):
    outside = save(tmp_path_factory.mktemp("outside") / "secret.png", colours())
    rows = [
        ("cat/0.png", "a", 1.0),
        ("./cat/1.png", "b", 2.0),
        ("cat\\2.png", "b", 3.0),
        ("cat/3.png", "a", 1.0),
        ("cat/3.png", "b", 1.0),  # another label
        ("cat/4.png", "a", 1.0),
        ("cat/../cat/4.png", "a", 1.0),  # the same again
        ("cat/5.png", None, 1.0),
        ("cat/6.png", "a", None),
        ("cat/7.png", "a", np.inf),
        ("cat/none.png", "a", 1.0),
        (str(outside), "a", 1.0),
        (f"../{outside.parent.name}/secret.png", "a", 1.0),
        ("", "a", 1.0),
    ]
    table = pd.DataFrame(rows, columns=["file_name", "label", "age"])
    table.to_csv(animals / "metadata.csv", index=False)
    data = quietly(animals, factors=["age"])
    assert data.files == [f"cat/{i}.png" for i in (0, 1, 2, 4)]
    found = list(zip(data.skipped["file"], data.skipped["reason"], strict=True))
    for name, reason in (
        ("cat/3.png", "listed 2 times with different values"),
        ("cat/4.png", "listed again"),
        ("cat/5.png", "no label"),
        ("cat/6.png", "no value for 'age'"),
        ("cat/7.png", "no value for 'age'"),
        ("cat/none.png", "missing"),
        (str(outside), "outside of the folder"),
        ("nan", "no file name"),
    ):
        assert any(f == name and reason in r for f, r in found), (name, found)
    assert sum("outside" in r for _, r in found) == 2
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        kept = cfx.data.folder(animals)  # all columns: gaps are told, and stay NaN
    assert [("2 in 'age'" in str(each.message)) for each in told] == [False, True]
    assert kept.factors["age"].isna().sum() == 2


def test_names_that_look_like_numbers(tmp_path):
    for name in ("007", "7"):
        save(tmp_path / name, Image.fromarray(colours()), format="PNG")
    (tmp_path / "t.csv").write_text("file,label\n007,01\n7,02\n")
    data = cfx.data.folder(tmp_path / "t.csv")
    assert data.files == ["007", "7"]
    assert data.class_names == ("01", "02")


def test_numbers_are_no_classes(animals):
    table = pd.DataFrame({"file_name": ["cat/0.png", "cat/1.png"], "label": [0.25, 1.5]})
    table.to_csv(animals / "metadata.csv", index=False)
    data = cfx.data.folder(animals)
    assert data.class_names == ("unlabelled",)
    assert data.factors["label"].astype(float).tolist() == [0.25, 1.5]
    with pytest.raises(ValueError, match=r"label_column: expected classes.*0\.25"):
        cfx.data.folder(animals, label_column="label")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n", r"file_column: expected a column of file names, out of \['a', 'b'\]"),
        ("file,file\nx,y\n", r"distinct columns|file_column|missing|none"),
        ("", "expected a table"),
        ("\0\1\2", "file_column|expected a table"),
    ],
)
def test_tables_that_are_none(animals, text, told):
    (animals / "metadata.csv").write_text(text)
    with pytest.raises(ValueError, match=told):
        quietly(animals)


def test_class_names_have_the_order_of_the_classifier(animals):
    data = cfx.data.folder(animals, class_names={0: "dog", 1: "bird", 2: "cat"})
    assert data.class_names == ("dog", "bird", "cat")
    assert set(data.labels.tolist()) == {0, 2}
    with pytest.raises(ValueError, match=r"class_names: expected all classes.*'dog'"):
        cfx.data.folder(animals, class_names=["cat", "bird"])


# --- data sets of others --------------------------------------------------------------------------


class Pairs(Dataset):
    """As torchvision's ImageFolder without a transform: PIL images and class numbers."""

    classes = ("cat", "dog")

    def __init__(self, count=40):
        self.pictures = [Image.fromarray(colours()) for _ in range(count)]

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, row):
        return self.pictures[row], row % 2


def test_a_torch_data_set():
    pairs = Pairs()
    pairs.classes = list(pairs.classes)
    data = cfx.data.from_dataset(pairs)
    assert data.class_names == ("cat", "dog")
    assert data.labels.tolist() == [0, 1] * 20
    right = [torch.tensor(np.asarray(p)).permute(2, 0, 1) / 255 for p in pairs.pictures]
    assert torch.equal(data.images, torch.stack(right))
    part = cfx.data.from_dataset(Subset(pairs, [1, 3]), size=4, channels=1)
    assert part.class_names == ("cat", "dog")
    assert part.images.shape == (2, 1, 4, 4)
    parts = [cfx.data.from_dataset(pairs, s, fractions=(0.4, 0.3, 0.3)) for s in SPLITS]
    assert sorted(f for p in parts for f in p.files) == sorted(map(str, range(40)))


def test_tensors_and_bare_images():
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6)
    data = cfx.data.from_dataset(TensorDataset(images, labels))
    assert torch.equal(data.images, images)
    assert data.class_names == tuple("012345")
    bare = cfx.data.from_dataset(list(images))
    assert bare.class_names == ("unlabelled",)
    gray = cfx.data.from_dataset(list(images), channels=1).images
    luma = (images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    assert torch.allclose(gray, luma)


class Hugging(list):
    """As a data set of Hugging Face: dicts, and features that name the classes."""

    features: typing.ClassVar = {"image": None, "label": types.SimpleNamespace(names=["no", "yes"])}


def test_a_data_set_of_hugging_face():
    items = [
        {"image": Image.fromarray(colours()), "label": i % 2, "age": i, "box": [1, 2]}
        for i in range(6)
    ]
    data = cfx.data.from_dataset(Hugging(items))
    assert data.class_names == ("no", "yes")
    assert list(data.factors) == ["age"]
    parts = {"train": Hugging(items[:4]), "test": Hugging(items[4:])}
    assert len(cfx.data.from_dataset(parts, "test")) == 2
    with pytest.raises(ValueError, match=r"split: expected a split out of \['train', 'test'\]"):
        cfx.data.from_dataset(parts)


def test_broken_items_are_skipped():
    class Broken(Pairs):
        def __getitem__(self, row):
            if row == 3:
                raise OSError("disk on fire")
            if row == 5:
                return torch.full((3, 8, 8), float("nan")), 0
            return super().__getitem__(row)[0], None if row == 7 else 1

    with pytest.warns(UserWarning, match="3 of 10 files were skipped"):
        data = cfx.data.from_dataset(Broken(10))
    assert data.files == ["0", "1", "2", "4", "6", "8", "9"]
    found = reasons(data)
    assert "disk on fire" in found["3"]
    assert "NaN" in found["5"]
    assert found["7"] == "no label"
    for wrong in (5, "text", iter([]), torch.rand(2, 3, 8, 8)):
        with pytest.raises(TypeError, match="dataset: expected"):
            cfx.data.from_dataset(wrong)


# --- the command ----------------------------------------------------------------------------------


def test_the_command_checks_a_folder(hostile, capsys):
    assert main(["data", str(hostile), "--all"]) == 1
    told = capsys.readouterr().out
    for part in ("60 of", "30  cat", "30  dog", "8 x 8 pixels", "RGB 60", "train", *REASONS):
        if part != "cat/pipe.png" or sys.platform != "win32":
            assert part in told, part


def test_the_command_asks_for_a_size(tmp_path, capsys):
    save(tmp_path / "a.png", colours(40, 50))
    save(tmp_path / "b.png", colours(70, 80))
    assert main(["data", str(tmp_path)]) == 0
    assert "size=32)" in capsys.readouterr().out
    assert main(["data", str(tmp_path / "c")]) == 2
    assert "nothing there" in capsys.readouterr().err


def test_the_list_of_models_fits_the_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "90")
    assert main(["data"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 90
    assert any(line.split()[:2] == ["digits/vae", "space"] for line in lines)
