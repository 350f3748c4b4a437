"""Damaged files are told from sound ones, with the file's name and what to do."""

import json
import shutil

import pytest

import cfxnb as cfx
from cfxnb import paths, weights
from cfxnb.data import files
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
    assert cfx.load("digits/classifier", "cpu").labels == tuple("0123456789")


@each_damage
@pytest.mark.parametrize("name", [IMAGES, LABELS, FACTORS])
def test_damaged_digits(home, damage, name):
    damage(home / name)
    with pytest.raises(cfx.data.DamagedFile, match=name) as caught:
        cfx.data.digits("test")
    assert "CFXNB_HOME" in str(caught.value)
    assert "git checkout" in str(caught.value)


@each_damage
@pytest.mark.parametrize("name", ["digits/classifier", "digits/vae", "digits/judge"])
def test_damaged_weights(home, damage, name):
    file = weights.cards()[name]["file"]
    damage(home / file)
    with pytest.raises(cfx.data.DamagedFile, match=file) as caught:
        cfx.load(name, "cpu")
    assert "CFXNB_HOME" in str(caught.value)


def test_damage_after_a_sound_reading_is_seen(home):
    """The memory of a checked file is bound to its size and time, not only to its name."""
    cfx.data.digits("test")
    truncated(home / IMAGES)
    with pytest.raises(cfx.data.DamagedFile, match=IMAGES):
        cfx.data.digits("test")


def test_damage_is_seen_again_and_again(home):
    altered(home / LABELS)
    for _ in range(2):
        with pytest.raises(cfx.data.DamagedFile, match="checksum"):
            cfx.data.digits("test")


def test_a_repaired_file_is_taken(home):
    sound = (home / LABELS).read_bytes()
    truncated(home / LABELS)
    with pytest.raises(cfx.data.DamagedFile):
        cfx.data.digits("test")
    (home / LABELS).write_bytes(sound)
    assert len(cfx.data.digits("test")) == 10_000


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"entries": 3}', '{"entries": [{}]}', '{"files": []}']
)
def test_damaged_manifest(home, text):
    (home / "MANIFEST.json").write_text(text)
    for call in (cfx.data.digits, lambda: cfx.load("digits/classifier", "cpu")):
        with pytest.raises(cfx.data.DamagedFile, match=r"MANIFEST\.json") as caught:
            call()
        assert "CFXNB_HOME" in str(caught.value)


def test_missing_manifest(home):
    (home / "MANIFEST.json").unlink()
    with pytest.raises(cfx.data.DamagedFile, match=r"MANIFEST\.json.*missing"):
        cfx.data.digits()


def test_unlisted_file(home):
    listed = json.loads((home / "MANIFEST.json").read_text())
    listed["entries"] = [e for e in listed["entries"] if e["path"] != IMAGES]
    (home / "MANIFEST.json").write_text(json.dumps(listed))
    with pytest.raises(cfx.data.DamagedFile, match=f"{IMAGES}.*MANIFEST"):
        cfx.data.digits()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "classifier"}'])
def test_damaged_card(home, text):
    (home / "weights" / "digits" / "classifier.json").write_text(text)
    for call in (lambda: cfx.load("digits/classifier", "cpu"), cfx.available):
        with pytest.raises(cfx.data.DamagedFile, match=r"classifier\.json"):
            call()


def test_missing_card(home):
    (home / "weights" / "digits" / "classifier.json").unlink()
    for call in (lambda: cfx.load("digits/classifier", "cpu"), cfx.available):
        with pytest.raises(cfx.data.DamagedFile, match=r"classifier\.json is missing") as caught:
            call()
        assert "git checkout" in str(caught.value)


def test_a_damaged_card_stops_only_its_own_network(home):
    truncated(home / "weights" / "digits" / "classifier.json")
    assert cfx.load("digits/vae", "cpu").center.isfinite().all()


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
    files.record("weights/digits/classifier.json")
    with pytest.raises(cfx.data.DamagedFile, match="does not fit its card"):
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
    with pytest.raises(cfx.data.DamagedFile, match=r"x\.gz is damaged"):
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
    import gzip

    (tmp_path / "x.gz").write_bytes(gzip.compress(raw))
    with pytest.raises(cfx.data.DamagedFile, match=r"x\.gz is damaged"):
        read_idx(tmp_path / "x.gz")


def test_doctor_names_the_damaged_file(home):
    altered(home / LABELS)
    diagnosis = cfx.doctor()
    assert not diagnosis.ok
    assert LABELS in repr(diagnosis)
    assert "git checkout" in repr(diagnosis)
