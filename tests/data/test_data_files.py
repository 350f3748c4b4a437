"""Damaged files are told from sound ones, with the file's name and what to do."""

import gzip
import io
import json
import math
import os
import resource
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import cfxnb as cfx
from cfxnb import weights
from cfxnb.core import locations as paths
from cfxnb.data import files
from cfxnb.data.image_folder import read_folder
from cfxnb.data.mnist import read_idx

IMAGES = "digits/t10k-images-idx3-ubyte.gz"
LABELS = "digits/t10k-labels-idx1-ubyte.gz"
FACTORS = "digits/factors.safetensors"
LARGE = ("train-images*", "*.check.*", "*.zip")  # not copied


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A copy of the data that a test may damage; what others cached stays valid for them."""
    data = tmp_path / "data"
    shutil.copytree(paths.data(), data, ignore=shutil.ignore_patterns(*LARGE))
    monkeypatch.setenv("CFXNB_HOME", str(tmp_path))
    return data


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def altered(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def emptied(path):
    path.write_bytes(b"")


def removed(path):
    path.unlink()


each_damage = pytest.mark.parametrize("damage", [truncated, altered, emptied, removed])


def test_the_copy_is_sound(home):
    assert len(cfx.data.digits("test")) == 10_000
    assert cfx.load("digits/classifier", "cpu").class_names == tuple("0123456789")


@each_damage
@pytest.mark.parametrize("name", [IMAGES, LABELS, FACTORS])
def test_damaged_digits(home, damage, name):
    damage(home / name)
    with pytest.raises(cfx.data.DamagedFileError, match=name) as caught:
        cfx.data.digits("test")
    assert "CFXNB_HOME" in str(caught.value)
    assert "git checkout" in str(caught.value)


@each_damage
@pytest.mark.parametrize("name", ["digits/classifier", "digits/vae", "digits/judge"])
def test_damaged_weights(home, damage, name):
    file = weights.cards()[name]["file"]
    damage(home / file)
    with pytest.raises(cfx.data.DamagedFileError, match=file) as caught:
        cfx.load(name, "cpu")
    assert "CFXNB_HOME" in str(caught.value)


def test_damage_after_a_sound_reading_is_seen(home):
    """The memory of a checked file is bound to its size and time, not only to its name."""
    cfx.data.digits("test")
    truncated(home / IMAGES)
    with pytest.raises(cfx.data.DamagedFileError, match=IMAGES):
        cfx.data.digits("test")


def test_damage_is_seen_again_and_again(home):
    altered(home / LABELS)
    for _ in range(2):
        with pytest.raises(cfx.data.DamagedFileError, match="checksum"):
            cfx.data.digits("test")


def test_a_repaired_file_is_taken(home):
    sound = (home / LABELS).read_bytes()
    truncated(home / LABELS)
    with pytest.raises(cfx.data.DamagedFileError):
        cfx.data.digits("test")
    (home / LABELS).write_bytes(sound)
    assert len(cfx.data.digits("test")) == 10_000


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"entries": 3}', '{"entries": [{}]}', '{"files": []}']
)
def test_damaged_manifest(home, text):
    (home / "MANIFEST.json").write_text(text)
    for call in (cfx.data.digits, lambda: cfx.load("digits/classifier", "cpu")):
        with pytest.raises(cfx.data.DamagedFileError, match=r"MANIFEST\.json") as caught:
            call()
        assert "CFXNB_HOME" in str(caught.value)


def test_missing_manifest(home):
    (home / "MANIFEST.json").unlink()
    with pytest.raises(cfx.data.DamagedFileError, match=r"MANIFEST\.json.*missing"):
        cfx.data.digits()


def test_unlisted_file(home):
    listed = json.loads((home / "MANIFEST.json").read_text())
    listed["entries"] = [e for e in listed["entries"] if e["path"] != IMAGES]
    (home / "MANIFEST.json").write_text(json.dumps(listed))
    with pytest.raises(cfx.data.DamagedFileError, match=f"{IMAGES}.*MANIFEST"):
        cfx.data.digits()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "classifier"}'])
def test_damaged_card(home, text):
    (home / "weights" / "digits" / "classifier.json").write_text(text)
    for call in (lambda: cfx.load("digits/classifier", "cpu"), cfx.available):
        with pytest.raises(cfx.data.DamagedFileError, match=r"classifier\.json"):
            call()


def test_missing_card(home):
    (home / "weights" / "digits" / "classifier.json").unlink()
    for call in (lambda: cfx.load("digits/classifier", "cpu"), cfx.available):
        with pytest.raises(
            cfx.data.DamagedFileError, match=r"classifier\.json is missing"
        ) as caught:
            call()
        assert "git checkout" in str(caught.value)


def test_a_damaged_card_stops_only_its_own_network(home):
    truncated(home / "weights" / "digits" / "classifier.json")
    assert cfx.load("digits/vae", "cpu").mean.isfinite().all()


def test_a_card_nobody_listed_is_no_network(home):
    (home / "weights" / "digits" / "mine.json").write_text("{}")
    assert "digits/mine" not in cfx.available().index
    with pytest.raises(ValueError, match=r"cfx\.available\(\) lists, such as .*digits/vae"):
        cfx.load("digits/mine", "cpu")


def test_weights_of_another_network(home):
    """A card that names the wrong net is told, although both files are sound."""
    path = home / "weights" / "digits" / "classifier.json"
    card = json.loads(path.read_text()) | {"net": "LeNet5"}
    path.write_text(json.dumps(card))
    files.add_to_manifest("weights/digits/classifier.json")
    with pytest.raises(cfx.data.DamagedFileError, match="does not fit its card"):
        cfx.load("digits/classifier", "cpu")


def test_every_shipped_file_is_sound():
    assert [files.problem(name) for name in files.manifest()] == [None] * len(files.manifest())


def test_every_shipped_file_is_listed():
    """Except the manifest itself and texts for people."""
    present = {p.relative_to(paths.data()).as_posix() for p in paths.data().rglob("*.*")}
    unlisted = present - set(files.manifest()) - {"MANIFEST.json", "README.md"}
    assert not {name for name in unlisted if not name.endswith(".md")}


@pytest.mark.parametrize("raw", [b"", b"no gzip", b"\x1f\x8b\x08\x00"])
def test_idx_that_is_no_gzip(tmp_path, raw):
    (tmp_path / "x.gz").write_bytes(raw)
    with pytest.raises(cfx.data.DamagedFileError, match=r"x\.gz is damaged"):
        read_idx(tmp_path / "x.gz")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0\0",
        b"\0\0\x0d\1\0\0\0\1\0\0\0\0",
        b"\0\0\x08\2\0\0\0\3\0\0\0\2\1\2\3",
        b"\1\0\x08\1",
    ],
)
def test_idx_with_a_wrong_header(tmp_path, raw):
    """Empty, cut, of another type, of another size, with a wrong first byte."""
    (tmp_path / "x.gz").write_bytes(gzip.compress(raw))
    with pytest.raises(cfx.data.DamagedFileError, match=r"x\.gz is damaged"):
        read_idx(tmp_path / "x.gz")


def test_doctor_names_the_damaged_file(home):
    altered(home / LABELS)
    diagnosis = cfx.doctor()
    assert not diagnosis.ok
    assert LABELS in repr(diagnosis)
    assert "git checkout" in repr(diagnosis)


# -- cards and manifests that are sound files, and say what cannot be

DEEP = '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"
HUGE = 10**400
CLASSIFIER, VAE, LDM = "digits/classifier", "digits/vae", "digits/ldm"


def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def refused(name, told, file=None):
    before = memory()
    with pytest.raises(cfx.data.DamagedFileError, match=r"\. Restore it with") as caught:
        cfx.load(name, "cpu")
    assert (file or f"{name}.") in str(caught.value)
    assert told in str(caught.value), caught.value
    assert len(str(caught.value)) < 600
    assert memory() - before < 300


def listed(home, name, text):
    """Another card, as if it belonged there."""
    path = home / "weights" / f"{name}.json"
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    files.add_to_manifest(f"weights/{name}.json")


def card(home, name):
    return json.loads((home / "weights" / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        (CLASSIFIER, {"net": "Nothing"}, "Nothing"),
        (CLASSIFIER, {"net": 3}, "net 3 instead of a str"),
        (CLASSIFIER, {"config": []}, "config [] instead of a dict"),
        (CLASSIFIER, {"config": {"unknown": 1}}, "unknown"),
        (CLASSIFIER, {"class_names": "0123456789"}, "class_names '0123456789' instead of a list"),
        (CLASSIFIER, {"kind": "magic"}, "magic"),
        (CLASSIFIER, {"kind": []}, "list"),
        (CLASSIFIER, {"kind": "space"}, "adapter"),
        (CLASSIFIER, {"kind": "reader"}, "options"),
        (CLASSIFIER, {"kind": "edits"}, "contrasts"),
        (VAE, {"config": {"dims": 10**9}}, "1000000000"),
        (VAE, {"config": {"dims": 10**6}}, "has shape"),
        (VAE, {"config": {"dims": HUGE}}, "1000000"),
        (VAE, {"config": {"dims": math.nan}}, "nan"),
        (VAE, {"config": {"dims": -20}}, "config has dims -20, not numbers from 1"),
        (VAE, {"config": {"dims": "20"}}, "config has dims '20', not int"),
        (VAE, {"config": {"dims": 20, "depth": 10**5}}, ""),
        (VAE, {"config": {"dims": 20, "size": [10**6, 10**6]}}, "has shape"),
        (VAE, {"config": {"dims": 21}}, "has shape"),
        (VAE, {"adapter": "load_ldm"}, "adapter: expected one of"),
        (VAE, {"adapter": "__dict__"}, "adapter: expected one of"),
        (VAE, {"space": {"unknown": 1}}, "unknown"),
        (LDM, {"autoencoder": LDM}, "'digits/ldm' is no autoencoder"),
        (LDM, {"autoencoder": VAE}, "'digits/vae' is no autoencoder"),
        (LDM, {"autoencoder": "digits/nothing"}, "cfx.available() lists"),
        (LDM, {"config": {"attributes": {"digit": ["0"] * 10**5}}}, "has shape"),
        (LDM, {"config": {"attributes": {"digit": ["0"] * 10}, "blocks": 10**5}}, "far more parts"),
        (LDM, {"config": {"attributes": {"digit": ["0"] * 10}, "widths": [10**9] * 2}}, "10000000"),
    ],
)
def test_cards_that_do_not_fit_their_weights(home, name, changes, told):
    listed(home, name, card(home, name) | changes)
    refused(name, told)


QUALITY, READER, EDITS = (
    "mean squared error of reconstructions",
    "sprites/reader",
    "sprites/edits_preserve",
)
WRONG = {
    "an error that is none": (VAE, {"quality": {QUALITY: math.nan}}, f"quality, {QUALITY} nan"),
    "an endless error": (VAE, {"quality": {QUALITY: math.inf}}, f"quality, {QUALITY} inf"),
    "a negative error": (VAE, {"quality": {QUALITY: -1.0}}, f"quality, {QUALITY} -1.0"),
    "an error in words": (VAE, {"quality": {QUALITY: "0.1"}}, f"quality, {QUALITY} '0.1'"),
    "an error that is a truth": (VAE, {"quality": {QUALITY: True}}, f"quality, {QUALITY} True"),
    "another number": (VAE, {"more": {"deep": [1, math.nan]}}, "more, deep[1] nan"),
    "many parameters": (VAE, {"parameters": HUGE}, "parameters 1000000"),
    "a field that is too large": (VAE, {"config": {"dims": 10**9}}, "dims 1000000000"),
    "a field that fits no weight": (VAE, {"config": {"dims": 20, "depth": 4}}, "depth 4"),
    "a list in a config": (
        LDM,
        {"config": {"attributes": {"digit": ["0"] * 10}, "widths": [64, 10**9]}},
        "widths [64, 1000000000]",
    ),
    "no class names": (CLASSIFIER, {"class_names": []}, "0 class names for two or more"),
    "too few options": (READER, {"options": {"hair": ["red", "gray"]}}, "2 options for 42 outputs"),
    "too few contrasts": (EDITS, {"contrasts": {"hair": ["red", "gray"]}}, ""),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_a_card_says_wrongly_is_named(home, kind):
    name, changes, told = WRONG[kind]
    listed(home, name, card(home, name) | changes)
    refused(name, told)


OTHERS = {
    "a short mean": lambda s: {**s, "mean": s["mean"][:7], "std": s["std"][:7]},
    "no std": lambda s: {k: v for k, v in s.items() if k != "std"},
    "whole numbers": lambda s: {k: v.int() for k, v in s.items()},
    "truths": lambda s: {k: v > 0 for k, v in s.items()},
    "complex numbers": lambda s: {k: v.to(torch.complex64) for k, v in s.items()},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_weights_of_another_kind(home, kind):
    file = "weights/digits/vae.safetensors"
    save_file(OTHERS[kind](load_file(home / file)), home / file)
    files.add_to_manifest(file)
    refused(VAE, "")


@pytest.mark.parametrize(
    "file", ["/etc/passwd", "../secret.safetensors", "weights/nothing", 3, None]
)
def test_cards_lead_to_listed_files_only(home, file):
    listed(home, VAE, card(home, VAE) | {"file": file})
    refused(VAE, "", file="MANIFEST" if isinstance(file, str) else "file")


@pytest.mark.parametrize("key", ["kind", "net", "config", "file", "summary", "quality", "licence"])
def test_cards_that_lack_something(home, key):
    short = card(home, VAE)
    short.pop(key)
    listed(home, VAE, short)
    for call in (lambda: cfx.load(VAE, "cpu"), cfx.available):
        with pytest.raises(
            cfx.data.DamagedFileError, match=rf"digits/vae\.json is damaged .*{key}"
        ):
            call()


TEXTS = {
    "deep": (DEEP, "nested"),
    "cut": ("{", "Expecting"),
    "a long number": ('{"a": ' + "9" * 10_000 + "}", "digits"),
    "a list": ("[]", ""),
    "null": ("null", ""),
    "empty": ("", "Expecting"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_that_are_no_card(home, kind):
    text, told = TEXTS[kind]
    listed(home, VAE, text)
    refused(VAE, told, file="data/weights/digits/vae.json is damaged")
    assert cfx.load(CLASSIFIER, "cpu").class_names


def test_cards_in_any_language(home, monkeypatch):
    listed(home, VAE, card(home, VAE) | {"summary": "Müller 模型"})
    (home / "weights" / "digits" / "vae.json").write_text(
        json.dumps(card(home, VAE), ensure_ascii=False), encoding="utf-8"
    )
    files.add_to_manifest("weights/digits/vae.json")
    assert cfx.available().loc[VAE, "what"] == "Müller 模型"
    path = home / "weights" / "digits" / "vae.json"
    path.write_bytes(path.read_bytes().replace("ü".encode(), b"\xfc"))
    files.add_to_manifest("weights/digits/vae.json")
    refused(VAE, "not UTF-8", file="vae.json is damaged")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers(home, value):
    file = "weights/digits/vae.safetensors"
    state = load_file(home / file)
    name = max(state)
    state[name] = torch.full_like(state[name], value)
    save_file(state, home / file)
    files.add_to_manifest(file)
    refused(VAE, f"NaN or infinity in {name}")


def test_loading_leaves_random_numbers_alone():
    before = torch.get_rng_state()
    for name in (CLASSIFIER, VAE, LDM):
        cfx.load(name, "cpu")
    assert torch.equal(torch.get_rng_state(), before)


def entry(**changes):
    sound = {"path": "digits/x", "bytes": 1, "sha256": "0" * 64} | changes
    return json.dumps({"entries": [sound]})


@pytest.mark.parametrize(
    "text",
    [
        DEEP,
        '{"entries": ' + "9" * 10_000 + "}",
        '{"entries": [1]}',
        '{"entries": {"a": 1}}',
        entry(bytes="1"),
        entry(bytes=True),
        entry(bytes=1.0),
        entry(path=3),
        entry(path="/etc/passwd"),
        entry(path="digits/../../secret"),
        entry(sha256=None),
        '{"entries": [{"path": "a", "bytes": 1}]}',
    ],
)
def test_manifests_that_list_what_cannot_be(home, text):
    (home / "MANIFEST.json").write_text(text)
    for call in (cfx.data.digits, lambda: cfx.load(CLASSIFIER, "cpu"), cfx.available):
        with pytest.raises(cfx.data.DamagedFileError, match=r"MANIFEST\.json is damaged") as caught:
            call()
        assert len(str(caught.value)) < 600
    assert not cfx.doctor().ok


@pytest.mark.parametrize("kind", ["folder", "pipe", "null", "link", "denied"])
@pytest.mark.parametrize("name", ["MANIFEST.json", IMAGES, "weights/digits/vae.safetensors"])
def test_what_is_no_file_or_can_not_be_read(home, monkeypatch, name, kind):
    path = home / name
    path.unlink()
    told = {"folder": "a folder", "link": "missing", "denied": "Permission denied"}.get(
        kind, "a device, pipe or socket"
    )
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "null":
        path.symlink_to("/dev/null")
    elif kind == "link":
        path.symlink_to("nowhere")
    else:
        path.write_bytes(b"{}")
        right = Path.stat

        def stat(self, **knobs):
            if self == path:
                raise PermissionError(13, "Permission denied", str(self))
            return right(self, **knobs)

        monkeypatch.setattr(Path, "stat", stat)
    call = cfx.data.digits if name == IMAGES else lambda: cfx.load(VAE, "cpu")
    with pytest.raises(cfx.data.DamagedFileError, match=name.replace(".", r"\.")) as caught:
        call()
    assert told in str(caught.value)
    assert told in repr(cfx.doctor())


def test_the_home_folder(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home.parent))
    monkeypatch.setenv("CFXNB_HOME", "~")
    assert paths.data() == home
    monkeypatch.setenv("CFXNB_HOME", str(home / "MANIFEST.json"))  # a file in the place of a folder
    with pytest.raises(cfx.data.DamagedFileError, match=r"MANIFEST\.json.*Not a directory"):
        cfx.data.digits()


def test_a_manifest_that_can_not_be_written_stays(home, monkeypatch):
    before = (home / "MANIFEST.json").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ValueError, match=r"MANIFEST\.json.*No space left on device"):
        files.add_to_manifest(LABELS)
    monkeypatch.undo()
    assert (home / "MANIFEST.json").read_bytes() == before
    assert not list(home.glob(".*"))


# -- archives that unpack to more than they say, or than anybody has


def test_idx_files_are_not_unpacked_beyond_their_header(tmp_path):
    """Ten MiB of zeros that pack into a few bytes, for a picture of six."""
    head = b"\0\0\x08\2" + struct.pack(">II", 3, 2)
    for tail in (b"\0" * 10 * 2**20, b"\0" * 5):
        (tmp_path / "x.gz").write_bytes(gzip.compress(head + tail))
        with pytest.raises(cfx.data.DamagedFileError, match=r"x\.gz is damaged .*not the 6 bytes"):
            read_idx(tmp_path / "x.gz")
    (tmp_path / "x.gz").write_bytes(gzip.compress(head + b"\1\2\3\4\5\6"))
    assert read_idx(tmp_path / "x.gz").tolist() == [[1, 2], [3, 4], [5, 6]]
    before = memory()
    for sizes in ((2**31, 2**31), (2**32 - 1,) * 3):
        head = bytes((0, 0, 8, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes)
        (tmp_path / "x.gz").write_bytes(gzip.compress(head + b"\0" * 100))
        with pytest.raises(cfx.data.DamagedFileError, match=r"x\.gz is damaged .*bytes, more than"):
            read_idx(tmp_path / "x.gz")
    assert memory() - before < 100


@pytest.mark.parametrize("cut", [3, 12, 20, -9, -4, -1])
def test_idx_files_that_end_too_early(tmp_path, cut):
    raw = gzip.compress(b"\0\0\x08\1" + struct.pack(">I", 1000) + os.urandom(1000))
    (tmp_path / "x.gz").write_bytes(raw[:cut])
    with pytest.raises(cfx.data.DamagedFileError, match=r"x\.gz is damaged"):
        read_idx(tmp_path / "x.gz")


def picture(size=(4, 3), mode="L"):
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, "PNG")
    return stream.getvalue()


def archive(path, table, **entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("test/metadata.csv", table)
        for name, content in entries.items():
            archive.writestr(f"test/{name}.png", content)
    return path


HEAD = "file_name,label\n"
ARCHIVES = {
    "a bomb": (HEAD + "a.png,0\n", {"a": b"\0" * (2**26 + 1)}, "more than"),
    "a large picture": (HEAD + "a.png,0\n", {"a": picture((5000, 1))}, "more than 4096"),
    "no picture": (HEAD + "a.png,0\n", {"a": b"text"}, "UnidentifiedImageError"),
    "half a picture": (HEAD + "a.png,0\n", {"a": picture((64, 64))[:-30]}, "damaged"),
    "no such picture": (HEAD + "b.png,0\n", {"a": picture()}, "b.png"),
    "no name": (HEAD + ",0\n", {"a": picture()}, "nan"),
    "another folder": (HEAD + "../a.png,0\n", {"a": picture()}, "a.png"),
    "several sizes": (
        HEAD + "a.png,0\nb.png,1\n",
        {"a": picture(), "b": picture((3, 3))},
        "same shape",
    ),
    "no rows": (HEAD, {}, "damaged"),
    "no table": ("", {"a": picture()}, "EmptyDataError"),
    "no names": ("x,label\na.png,0\n", {"a": picture()}, "file_name"),
    "no label": ("file_name\na.png\n", {"a": picture()}, "label"),
    "an empty label": (HEAD + "a.png,\n", {"a": picture()}, "finite label"),
    "an infinite label": (HEAD + "a.png,inf\n", {"a": picture()}, "finite label"),
    "a label of letters": (HEAD + "a.png,x\n", {"a": picture()}, "damaged"),
    "not UTF-8": (b"file_name,label\n\xff.png,0\n", {"a": picture()}, "Unicode"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_folders_that_hold_something_else(tmp_path, kind):
    table, entries, told = ARCHIVES[kind]
    path = archive(tmp_path / "x.zip", table, **entries)
    with pytest.raises(cfx.data.DamagedFileError, match=r"^x\.zip is damaged") as caught:
        read_folder(path, "test", "L", ["label"])
    assert told in str(caught.value)


def test_folders_that_are_sound(tmp_path):
    table = HEAD + "a.png,0\nb.png,1\n"
    path = archive(tmp_path / "x.zip", table, a=picture(), b=picture())
    read, pixels = read_folder(path, "test", "L", ["label"])
    assert read["label"].tolist() == [0, 1]
    assert pixels.shape == (2, 3, 4)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("size", [(832, 100), (100, 1344), (5000, 5000)])
def test_sheets_of_another_size(home, size):
    from cfxnb.data import lpc

    name = "sprites/body/0.png"
    (home / name).write_bytes(picture(size, "RGBA"))
    files.add_to_manifest(name)
    with pytest.raises(cfx.data.DamagedFileError, match=rf"data/{name} is damaged .*sheet of"):
        lpc._sheet(name)
