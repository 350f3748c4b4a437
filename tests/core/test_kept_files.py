"""Kept files that were altered, cut, swapped, moved or deleted, and folders that can't be used."""

import errno
import json
import os
import re
import shutil
from pathlib import Path
from unittest import mock

import pytest
import torch
from kept_scenes import F, edits, same, search, training

import cfxnb as cfx
from cfxnb.core.kept_work import PARTIAL, ROOM, CheckpointDir, digest


def cut(file, _):
    file.write_bytes(file.read_bytes()[:-7])


def halved(file, _):
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def emptied(file, _):
    file.write_bytes(b"")


def zeros(file, _):
    file.write_bytes(bytes(file.stat().st_size))


def one_bit(place):
    def alter(file, _):
        data = bytearray(file.read_bytes())
        data[int(place * (len(data) - 1))] ^= 4
        file.write_bytes(bytes(data))

    alter.__name__ = f"a bit at {place}"
    return alter


def one_number(file, _):
    """Written by the same library, with one number changed, and the old seal."""
    if file.suffix == ".pt":
        state = torch.load(file, weights_only=True)
        next(iter(state["average"].values())).view(-1)[0] += 1e-3
        torch.save(state, file)
        return
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(file, "pt") as opened:
        seal = opened.metadata()
    tensors = load_file(file)
    name = max(tensors, key=lambda n: tensors[n].is_floating_point())
    tensors[name].view(-1)[0] += 1e-3
    save_file(tensors, file, seal)


def longer(file, _):
    file.write_bytes(file.read_bytes() + b"\0" * 8)


def of_another_folder(file, other):
    """A file of the same name and question, from a folder in which somebody else answered."""
    shutil.copy(other / file.name, file)


def swapped(file, _):
    other = next(f for f in sorted(file.parent.glob(f"*{file.suffix}")) if f != file)
    kept = file.read_bytes()
    file.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def text(file, _):
    file.write_text("a note of mine")


ALTERED = [cut, halved, emptied, zeros, one_bit(0.02), one_bit(0.5), one_bit(0.99), one_number]
ALTERED += [longer, of_another_folder, swapped, text]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A search that is finished but for one question that was lost, and one of another function."""
    first, second = (tmp_path_factory.mktemp(name) for name in ("first", "second"))
    calls = []

    def dying(images):
        calls.append(len(images))
        if sum(count > 1 for count in calls) == 3:  # single images are looked at twice
            raise KeyboardInterrupt
        return F(images)

    with pytest.raises(KeyboardInterrupt):
        search(dying, checkpoint_dir=first)
    whole = search(lambda images: F(images), checkpoint_dir=first)
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        search(lambda images: dying(images) * -0.5, checkpoint_dir=second)
    search(lambda images: F(images) * -0.5, checkpoint_dir=second)
    return first, second, whole


def again(folder):
    return search(lambda images: F(images), checkpoint_dir=folder)


KINDS = ["start", "probes", "trial", "pending"]
#: There is one lost question alone; and the trial of another function is about other codes.
NONE = [(swapped, "pending"), (of_another_folder, "trial")]
CASES = [(alter, kind) for alter in ALTERED for kind in KINDS if (alter, kind) not in NONE]


@pytest.mark.parametrize(("alter", "kind"), CASES, ids=lambda v: getattr(v, "__name__", v))
def test_an_altered_file_of_a_search(tmp_path, folders, alter, kind):
    """It is named, with the remedy, and nothing is touched; after the remedy it is asked anew."""
    first, second, whole = folders
    folder = shutil.copytree(first, tmp_path / "search")
    pattern = "*.pending" if kind == "pending" else f"{kind}-*.safetensors"
    file = sorted(folder.glob(pattern))[0]
    alter(file, second)
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    with pytest.raises(ValueError, match=r"_dir: expected complete files .*run again") as told:
        again(folder)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before
    if alter is swapped:
        assert "which was written as" in str(told.value)
        alter(file, second)
    else:
        assert f"got {file.name} in {folder}" in str(told.value)
        file.unlink()
    found = again(folder)
    if kind == "pending":  # what was lost is known now
        assert found.proxy_fit.n_queries == whole.proxy_fit.n_queries + 20
    else:
        assert same(found, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_under_another_name(tmp_path, folders, kind):
    folder = shutil.copytree(folders[0], tmp_path / "search")
    pattern = "*.pending" if kind == "pending" else f"{kind}-*.safetensors"
    file = sorted(folder.glob(pattern))[0]
    file.rename(file.with_stem("probes-0123456789abcdef-20"))
    with pytest.raises(ValueError, match=rf"got probes-0123456789abcdef-20\S* in .*{file.name}"):
        again(folder)


@pytest.mark.parametrize("alter", [a for a in ALTERED if a not in (swapped, one_number)])
def test_an_altered_record(tmp_path, folders, alter):
    """Without it nothing tells what was asked. A copy of another one doesn't fit the answers."""
    folder = shutil.copytree(folders[0], tmp_path / "search")
    alter(folder / "search.json", folders[1])
    with pytest.raises(ValueError, match=r"_dir: expected .*(search.json|another folder)"):
        again(folder)


def test_an_altered_number_in_the_record(tmp_path):
    """Not even one that makes it the record of what is asked now."""
    search(checkpoint_dir=tmp_path)
    record = tmp_path / "search.json"
    record.write_text(record.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ValueError, match=r"search\.json, which is damaged, altered"):
        search(checkpoint_dir=tmp_path, seed=1)


def test_the_folder_of_an_older_version_is_refused(tmp_path):
    """Its record is intact, and says so."""
    search(checkpoint_dir=tmp_path)
    record = json.loads((tmp_path / "search.json").read_text())
    del record["digest"]
    record["format"] -= 1
    (tmp_path / "search.json").write_text(json.dumps(record | {"digest": digest(record)}))
    with pytest.raises(ValueError, match=r"checkpoint_dir: .*from an older version of cfxnb"):
        search(checkpoint_dir=tmp_path)


def test_deleted_files(tmp_path, folders):
    """Deleted answers are asked for anew; without its record a folder is none of ours."""
    folder = shutil.copytree(folders[0], tmp_path / "search")
    for file in sorted(folder.glob("*.safetensors"))[::2]:
        file.unlink()
    assert same(again(folder), folders[2])
    (folder / "search.json").unlink()
    with pytest.raises(ValueError, match=r"checkpoint_dir: .*search\.json, got .*with other files"):
        again(folder)


def test_a_moved_folder_is_the_same(tmp_path, folders):
    folder = shutil.copytree(folders[0], tmp_path / "elsewhere" / "ü")
    assert same(again(folder), folders[2])


@pytest.mark.parametrize("name", ["checkpoint.pt", "begun.safetensors"])
@pytest.mark.parametrize(
    "alter", [a for a in ALTERED if a is not swapped], ids=lambda f: f.__name__
)
def test_an_altered_file_of_a_training(tmp_path, name, alter):
    weights = training(tmp_path / "1", 0.0)
    training(tmp_path / "2", 0.0, seed=4)
    alter(tmp_path / "1" / name, tmp_path / "2")
    with pytest.raises(ValueError, match=rf"checkpoint_dir: expected .*{name}.*run again"):
        training(tmp_path / "1", 0.0)
    (tmp_path / "1" / "checkpoint.pt").unlink()
    (tmp_path / "1" / name).unlink(missing_ok=True)
    assert torch.equal(training(tmp_path / "1", 0.0), weights)


def test_deleted_files_of_a_training(tmp_path):
    weights = training(tmp_path, 0.0)
    (tmp_path / "checkpoint.pt").unlink()
    assert torch.equal(training(tmp_path, 0.0), weights)
    (tmp_path / "begun.safetensors").unlink()
    with pytest.raises(ValueError, match=r"checkpoint_dir: expected begun.*delete checkpoint\.pt"):
        training(tmp_path, 0.0)
    (tmp_path / "checkpoint.pt").unlink()
    assert torch.equal(training(tmp_path, 0.0), weights)


def test_leftovers_of_a_process_that_died_are_removed(tmp_path):
    (tmp_path / f"search.json{PARTIAL}").write_text("{")
    (tmp_path / ROOM).write_bytes(bytes(9))
    first = search(checkpoint_dir=tmp_path)
    (tmp_path / f"probes-1-20.pending{PARTIAL}").touch()
    assert same(search(checkpoint_dir=tmp_path), first)
    assert not [*tmp_path.glob(f"*{PARTIAL}")]


@pytest.mark.parametrize("name", ["download.partial", "search.json.partial", "room.partial"])
def test_unfinished_files_of_others_are_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=rf"checkpoint_dir: expected an empty folder, .*{name}"):
        search(checkpoint_dir=tmp_path)
    (tmp_path / name).rename(tmp_path.parent / name)
    search(checkpoint_dir=tmp_path)
    (tmp_path.parent / name).rename(tmp_path / name)
    search(checkpoint_dir=tmp_path)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", [".DS_Store", ".gitkeep", "Thumbs.db", "desktop.ini"])
def test_what_systems_put_into_folders_is_no_work_of_others(tmp_path, name):
    (tmp_path / name).write_text("theirs")
    search(checkpoint_dir=tmp_path)
    assert (tmp_path / name).read_text() == "theirs"


@pytest.mark.parametrize("name", ["probes", "search.json", "checkpoint.pt"])
def test_a_file_that_grew_is_not_read(tmp_path, name, monkeypatch):
    """Its size is compared with what it tells itself; two GB of nothing take no memory."""
    work = training if name == "checkpoint.pt" else search
    run = (
        (lambda: training(tmp_path, 0.0))
        if work is training
        else (lambda: search(checkpoint_dir=tmp_path))
    )
    run()
    file = next(tmp_path.glob(f"{name}*"))
    os.truncate(file, 2 * 2**30)
    plain = Path.read_bytes

    def read(self):
        assert self.stat().st_size < 2**30, "read as a whole"
        return plain(self)

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(ValueError, match=rf"checkpoint_dir: expected .*{file.name}.* damaged"):
        run()


def test_a_closed_folder_is_free(tmp_path):
    with CheckpointDir(tmp_path, "record.json", {}) as first:
        with pytest.raises(ValueError, match="in use by another process or thread"):
            CheckpointDir(tmp_path, "record.json", {})
        assert first.number
    second = CheckpointDir(tmp_path, "record.json", {})
    first.close()  # once more, which frees nothing
    with pytest.raises(ValueError, match="in use by another process or thread"):
        CheckpointDir(tmp_path, "record.json", {})
    second.close()


WRONG = {
    "a file": lambda p: p / "file",
    "below a file": lambda p: p / "file" / "below",
    "a null byte": lambda p: f"{p}/a\0b",
    "too long a name": lambda p: p / ("x" * 300),
    "nothing": lambda p: "",
    "a link to nothing": lambda p: p / "link",
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("work", [search, edits])
def test_folders_that_are_none(tmp_path, wrong, work):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "away")
    with pytest.raises(ValueError, match="checkpoint_dir: expected "):
        work(checkpoint_dir=WRONG[wrong](tmp_path))
    assert (tmp_path / "file").read_text() == "mine"


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    search(checkpoint_dir="~/mine")
    assert (tmp_path / "mine" / "search.json").is_file()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("what", ["mkdir", "write_bytes", "replace", "read_bytes", "unlink"])
def test_errors_of_the_system(tmp_path, code, what):
    """Folder and cause are named, and what was answered stays."""
    folder = tmp_path / "search"
    if what == "read_bytes":
        search(checkpoint_dir=folder)

    def fail(self, *_, **__):
        raise OSError(code, os.strerror(code), str(self))

    with (
        mock.patch.object(Path, what, fail),
        pytest.raises(
            ValueError, match=rf"checkpoint_dir: .*{re.escape(str(folder))}.*{os.strerror(code)}"
        ),
    ):
        search(checkpoint_dir=folder)
    assert same(search(checkpoint_dir=folder), search())


def test_a_full_disk_loses_nothing(tmp_path):
    """Room for the answers is taken up before they are asked for."""
    asked, plain, room, refused = cfx.BlackBox(F), Path.write_bytes, 10_000, 0

    def full(self, data):
        if len(data) + sum(file.stat().st_size for file in tmp_path.iterdir()) > room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(self, data)

    found = None
    with mock.patch.object(Path, "write_bytes", full):
        while found is None:
            try:
                found = search(asked, checkpoint_dir=tmp_path)
            except ValueError as error:
                refused += (
                    re.match(f"checkpoint_dir: .*{tmp_path}.*No space left", str(error)) is not None
                )
                room += 10_000
    assert refused > 5
    assert same(found, search())
    assert found.made_by["lost"] == 0
