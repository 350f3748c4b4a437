"""Files of results: what is wrong with them is found when they are read, and named."""

import contextlib
import dataclasses
import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import cfxnb as cfx
from cfxnb.core import disk, results_file
from cfxnb.core.types import ALREADY_TARGET, FLIPPED, NOT_FINITE, NOT_FOUND, STATUSES, STOPPED

ROWS, CLASSES = 4, 3
TEXTS = {"status": json.dumps([FLIPPED] * ROWS), "made_by": '{"function": "made"}'}


def result(**changes):
    torch.manual_seed(0)
    images, target = torch.rand(ROWS, 1, 5, 6), torch.tensor([0, 1, 2, 0])
    logits = torch.randn(ROWS, CLASSES)
    rows = torch.arange(ROWS)
    logits_before, logits_after = logits.clone(), logits.flip(0)
    logits_before[rows, target] = -9.0  # so that every status of "flipped" is true
    logits_after[rows, target] = 9.0
    fields = {
        "original": images,
        "image": images.flip(0),
        "reconstruction": images,
        "logits_before": logits_before,
        "logits_after": logits_after,
        "target": target,
        "status": (FLIPPED,) * ROWS,
        "code_before": cfx.Code(torch.randn(ROWS, 7), torch.randn(ROWS, 2, 2)),
        "code_after": cfx.Code(torch.randn(ROWS, 7), torch.randn(ROWS, 2, 2)),
        "cost": {"generator": torch.arange(ROWS)},
        "made_by": {"function": "made", "seed": 0},
        "trace": {"steps": torch.full((ROWS, 2), torch.nan)},
    }
    return cfx.Counterfactuals(**fields | changes)


def same(a, b):
    for field in dataclasses.fields(a):
        p, q = getattr(a, field.name), getattr(b, field.name)
        pairs = {"": (p, q)} if not isinstance(p, dict) else {k: (p[k], q[k]) for k in p}
        if isinstance(p, cfx.Code):
            pairs = {"z": (p.z, q.z), "aux": (p.aux, q.aux)}
        for x, y in pairs.values():
            if isinstance(x, torch.Tensor):
                torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)
            else:
                assert x == y, field.name


@pytest.fixture
def path(tmp_path):
    return result().save(tmp_path / "cf")


def rewritten(path, change=None, **texts):
    """The same file with other tensors or texts, as safetensors would write it, undigested."""
    tensors = load_file(path)
    if change:
        change(tensors)
    texts = {k: v for k, v in {**TEXTS, **texts}.items() if v is not None}
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=texts)


def refused(path, *told):
    with pytest.raises(ValueError, match=r"^path: expected saved counterfactuals, got '") as caught:
        cfx.Counterfactuals.load(path)
    message = str(caught.value)
    assert "cf.safetensors'" in message
    assert [part for part in told if part not in message] == [], message
    assert len(message) < 700


def test_the_sound_file_is_read(path):
    same(cfx.Counterfactuals.load(path), result())
    rewritten(path)  # as an earlier version wrote it, without a digest
    assert len(cfx.Counterfactuals.load(path)) == ROWS


# -- tensors and texts that do not fit


def put(name, value):
    return lambda tensors: tensors.update({name: value(tensors.get(name))})


def one(value):
    def change(tensor):
        changed = tensor.clone()
        changed.view(-1)[1] = value
        return changed

    return change


IMAGES = ("original", "image", "reconstruction")
CHANGES = {
    **{
        f"{name} {kind}": (put(name, change), name)
        for name in IMAGES
        for kind, change in {
            "with NaN": one(torch.nan),
            "with infinity": one(torch.inf),
            "above 1": one(1.5),
            "below 0": one(-0.1),
            "in bytes": lambda t: (255 * t).to(torch.uint8),
            "complex": lambda t: t.to(torch.complex64),
            "without an axis": lambda t: t[:, 0],
            "with a row less": lambda t: t[1:],
            "with a row more": lambda t: torch.cat([t, t[:1]]),
            "without rows": lambda t: t[:0],
            "of no pixels": lambda t: t[..., :0],
            "a number": lambda t: torch.tensor(0.5),
        }.items()
    },
    **{
        f"{name} of other {what}": (put(name, change), name)
        for name in IMAGES[1:]
        for what, change in {
            "height": lambda t: t[:, :, 1:],
            "channels": lambda t: t.expand(-1, 3, -1, -1),
        }.items()
    },
    **{
        f"{name} {kind}": (put(name, change), name)
        for name in ("logits_before", "logits_after")
        for kind, change in {
            "with NaN": one(torch.nan),
            "with infinity": one(torch.inf),
            "whole": lambda t: t.long(),
            "of one class": lambda t: t[:, :1],
            "flat": lambda t: t[:, 0],
            "with a row less": lambda t: t[1:],
        }.items()
    },
    "after of other classes": (put("logits_after", lambda t: torch.cat([t, t], 1)), "logits_after"),
    "target of floats": (put("target", lambda t: t.float()), "target"),
    "target of bools": (put("target", lambda t: t > 0), "target"),
    "target of short numbers": (put("target", lambda t: t.to(torch.int16)), "target"),
    "target too large": (put("target", lambda t: t + 1), "target"),
    "target negative": (put("target", lambda t: t - 1), "target"),
    "target with an axis": (put("target", lambda t: t[:, None]), "target"),
    "target with a row less": (put("target", lambda t: t[1:]), "target"),
    "start with a row less": (put("code_before.z", lambda t: t[1:]), "code_before.aux"),
    "code whole": (put("code_after.z", lambda t: t.long()), "code_after.z"),
    "code's rest with a row more": (
        put("code_after.aux", lambda t: torch.cat([t, t])),
        "code_after.aux",
    ),
    "code a number": (put("code_after.z", lambda t: torch.tensor(1.0)), "code_after.z"),
    "cost with a row less": (put("cost.generator", lambda t: t[1:]), "cost.generator"),
    "cost negative": (put("cost.generator", lambda t: t - 1), "cost.generator"),
    "cost of NaN": (put("cost.generator", lambda t: t * torch.nan), "cost.generator"),
    "cost with an axis": (put("cost.generator", lambda t: t[:, None]), "cost.generator"),
    "cost of bools": (put("cost.generator", lambda t: t > 0), "cost.generator"),
    "trace with a row more": (put("trace.steps", lambda t: torch.cat([t, t])), "trace.steps"),
    "another tensor": (put("more", lambda t: torch.zeros(ROWS)), "more"),
    "rest without a code": (lambda tensors: tensors.pop("code_after.z"), "code_after.z"),
    **{
        f"no {name}": (lambda tensors, name=name: tensors.pop(name), name)
        for name in (*IMAGES, "logits_before", "logits_after", "target")
    },
}


@pytest.mark.parametrize("kind", CHANGES)
def test_tensors_that_do_not_fit(path, kind):
    change, field = CHANGES[kind]
    rewritten(path, change)
    refused(path, f"{field}: expected" if field != "more" else "'more': expected nothing")


DEEP = "[" * 100_000 + "]" * 100_000
STATUS = {
    "missing": None,
    "empty": "",
    "no JSON": "[",
    "a number": "3",
    "a text": json.dumps(FLIPPED),
    "a dict": json.dumps({"0": FLIPPED}),
    "null": "null",
    "unknown": json.dumps([FLIPPED] * (ROWS - 1) + ["won"]),
    "of numbers": json.dumps([1] * ROWS),
    "nested": json.dumps([[FLIPPED]] * ROWS),
    "one too few": json.dumps([FLIPPED] * (ROWS - 1)),
    "one too many": json.dumps([FLIPPED] * (ROWS + 1)),
    "deep": DEEP,
    "of a huge number": "9" * 10_000,
}
MADE_BY = {
    "missing": None,
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "a number": "NaN",
    "null": "null",
    "deep": '{"a": ' + DEEP + "}",
    "with a huge number": '{"seed": ' + "9" * 10_000 + "}",
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("status", kind) for kind in STATUS] + [("made_by", kind) for kind in MADE_BY],
)
def test_texts_that_do_not_fit(path, name, kind):
    rewritten(path, **{name: {"status": STATUS, "made_by": MADE_BY}[name][kind]})
    field = "original" if kind.startswith("one too") else name
    refused(path, f"{field}: expected")


@pytest.mark.parametrize("status", STATUSES)
def test_numbers_that_a_status_allows(tmp_path, status):
    """What was never finished, or broke down, may hold NaN; a decision may not."""
    broken = one(torch.nan)(result().logits_before)
    cf = result(logits_before=broken, status=(status, *(FLIPPED,) * (ROWS - 1)))
    undecided = status in (NOT_FINITE, STOPPED, "not_found", "no_gradient")
    if not undecided:
        with pytest.raises(ValueError, match="logits_before: expected numbers where the status is"):
            cf.save(tmp_path / "cf")
        return
    same(cfx.Counterfactuals.load(cf.save(tmp_path / "cf")), cf)


def test_images_may_be_broken_where_the_status_says_so(tmp_path):
    image = one(torch.nan)(result().image)
    cf = result(image=image, status=(NOT_FINITE, *(FLIPPED,) * (ROWS - 1)))
    same(cfx.Counterfactuals.load(cf.save(tmp_path / "cf")), cf)
    with pytest.raises(ValueError, match=r"^image: expected values in \[0, 1\], got NaN"):
        result(image=image).save(tmp_path / "cf")


def test_minus_infinity_is_a_probability_of_0(tmp_path):
    cf = result(logits_before=one(-torch.inf)(result().logits_before))
    same(cfx.Counterfactuals.load(cf.save(tmp_path / "cf")), cf)


def contradicting():
    """Statuses that the logits contradict, by what the message must say."""
    cf, rows = result(), torch.arange(ROWS)
    other = (cf.target + 1) % CLASSES
    missed, won = cf.logits_after.clone(), cf.logits_before.clone()
    missed[rows, other] = 20.0
    won[rows, cf.target] = 20.0
    return {
        "flipped' only where logits_after": {"logits_after": missed},
        "already_target' only where logits_before": {"status": (ALREADY_TARGET,) * ROWS},
        "already_target' where logits_before": {"logits_before": won},
        "where logits_before predicts the target, got 'not_found' in row 3": {
            "logits_before": torch.cat([cf.logits_before[:3], won[3:]]),
            "status": (FLIPPED,) * 3 + (NOT_FOUND,),
        },
    }


@pytest.mark.parametrize("told", contradicting())
def test_statuses_that_the_logits_contradict(path, told):
    """Neither written nor read: they would be counted in rates."""
    changes = contradicting()[told]
    with pytest.raises(ValueError, match=f"^status: expected .*{told}"):
        result(**changes).save(path)
    texts = {"status": json.dumps(changes["status"])} if "status" in changes else {}
    logits = {name: value for name, value in changes.items() if name != "status"}
    rewritten(path, lambda tensors: tensors.update(logits), **texts)
    refused(path, "status: expected", told)


def test_what_was_not_finished_is_not_contradicted(tmp_path):
    won = contradicting()["already_target' where logits_before"]["logits_before"]
    for status in (ALREADY_TARGET, STOPPED, NOT_FINITE):
        cf = result(logits_before=won, status=(status,) * ROWS)
        same(cfx.Counterfactuals.load(cf.save(tmp_path / status)), cf)
    tied = result(logits_before=torch.zeros(ROWS, CLASSES), logits_after=torch.zeros(ROWS, CLASSES))
    same(cfx.Counterfactuals.load(tied.save(tmp_path / "tied")), tied)


def test_a_file_of_the_first_version_is_read():
    """Its tensors and statuses have older names, and its digest is of those."""
    cf = cfx.Counterfactuals.load(Path(__file__).with_name("results_of_0_1.safetensors"))
    assert cf.status == (NOT_FOUND, "reconstruction_is_target", FLIPPED, FLIPPED)
    same(cf, result(status=cf.status))


RECORDS = {
    "seconds": ["x", None, [], -1, math.nan, math.inf, True],
    "first_row": ["x", None, -1],
    "function": [5, None, ["a"]],
    "parts": [5, "ab", {"a": 1}, [1], [{"seconds": "x"}]],
}


@pytest.mark.parametrize(
    ("entry", "value"), [(entry, value) for entry in RECORDS for value in RECORDS[entry]], ids=repr
)
def test_records_that_can_not_be_added_up(path, entry, value):
    rewritten(path, made_by=json.dumps({"function": "made", entry: value}))
    refused(path, f"made_by, {entry}")
    with pytest.raises(ValueError, match=f"^made_by, {entry}"):
        result(made_by={entry: value})


def test_sums_of_results_are_results():
    a, b = (result(made_by={"function": name, "seconds": np.float32(1)}) for name in "ab")
    whole = a + b + result(made_by={"function": "c", "seconds": 2, "first_row": 8})
    assert [part["function"] for part in whole.made_by["parts"]] == ["a", "b", "c"]
    assert (a + a).made_by["seconds"] == 2


TRACES = {
    "sparse": lambda: torch.ones(ROWS, 2).to_sparse(),
    "compressed": lambda: torch.ones(ROWS, 2).to_sparse_csr(),
    "without numbers": lambda: torch.ones(ROWS, 2, device="meta"),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(ROWS, 2), 0.1, 0, torch.qint8),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor")
@pytest.mark.parametrize("kind", TRACES)
def test_traces_that_no_file_holds(tmp_path, kind):
    with pytest.raises(ValueError, match=r"^trace\.steps: expected a plain tensor with numbers"):
        result(trace={"steps": TRACES[kind]()}).save(tmp_path / "cf")


def test_views_are_written_as_their_numbers(tmp_path):
    whole = torch.randn(ROWS, 2, dtype=torch.complex64).conj()
    cf = result(trace={"conjugate": whole, "negative": whole.imag})
    assert whole.is_conj()
    assert whole.imag.is_neg()
    same(cfx.Counterfactuals.load(cf.save(tmp_path / "cf")), cf)


# -- files that are damaged, altered or none


def test_every_altered_byte_is_seen(path):
    """Of the tensors and of the header: nothing comes back that was not saved."""
    sound, unseen = path.read_bytes(), 0
    generator = torch.Generator().manual_seed(0)
    for at in torch.randint(len(sound), (150,), generator=generator).tolist():
        raw = bytearray(sound)
        raw[at] ^= 1 << at % 8
        path.write_bytes(raw)
        with contextlib.suppress(ValueError):
            same(cfx.Counterfactuals.load(path), result())
            unseen += 1
    assert unseen < 10  # what fills up the header means nothing


def test_an_altered_number_is_told(path):
    raw = bytearray(path.read_bytes())
    pixel = raw.rindex(result().image[0, 0, 0, 0].numpy().tobytes())
    raw[pixel] ^= 1  # the last bit of a pixel: still a number between 0 and 1
    path.write_bytes(raw)
    refused(path, "altered after it was saved")


@pytest.mark.parametrize("length", [0, 1, 7, 8, 20, 200, -1, -40])
def test_truncated_files(path, length):
    path.write_bytes(path.read_bytes()[:length])
    refused(path, "an empty file" if length == 0 else "")


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 100,
        b"PK\x03\x04" + b"\0" * 100,
        (2**62).to_bytes(8, "little") + b"{}",
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
        (10).to_bytes(8, "little") + b'{"a":"\xff"}',
        (2).to_bytes(8, "little") + b"{}",
    ],
    ids=["garbage", "zip", "huge header", "deep header", "not UTF-8", "no tensors"],
)
def test_other_files(path, content):
    path.write_bytes(content)
    refused(path)


def test_sizes_are_those_of_the_file(path):
    """A header that states terabytes is refused before anything is allocated."""
    sizes = {"dtype": "F32", "shape": [4, 1, 10**6, 10**6], "data_offsets": [0, 16 * 10**12]}
    header = json.dumps(dict.fromkeys(("original", "image"), sizes)).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    refused(path)


def test_what_is_no_file(path, tmp_path):
    path.unlink()
    refused(path, ": nothing there")
    path.mkdir()
    refused(path, ": a folder")
    path.rmdir()
    path.symlink_to(tmp_path / "nowhere")
    refused(path, ": a link to nothing")
    path.unlink()
    os.mkfifo(path)
    refused(path, ": a device, pipe or socket")
    path.unlink()
    path.symlink_to("/dev/null")
    refused(path, ": a device, pipe or socket")
    (tmp_path / "file").touch()
    refused(tmp_path / "file" / "cf", "Not a directory")
    path.unlink()
    path.symlink_to(path)
    refused(path, "symbolic links")


def test_permission_denied(path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(results_file, "safe_open", denied)
    refused(path, ": Permission denied")
    monkeypatch.undo()
    monkeypatch.setattr(Path, "open", denied)
    refused(path, ": Permission denied")
    monkeypatch.undo()
    monkeypatch.setattr(Path, "stat", denied)
    refused(path, ": Permission denied")


@pytest.mark.parametrize("call", ["save", "load"])
@pytest.mark.parametrize("value", [None, 3, 1.5, [], b"cf", b"", Path])
def test_what_is_no_path(call, value):
    call = result().save if call == "save" else cfx.Counterfactuals.load
    with pytest.raises(TypeError, match=r"^path: expected a str or os.PathLike, got "):
        call(value)


class Named:
    """As open files and temporary folders of other libraries are."""

    def __init__(self, value):
        self.value = value

    def __fspath__(self):
        return self.value


def test_path_likes(tmp_path):
    path = result().save(Named(str(tmp_path / "cf")))
    same(cfx.Counterfactuals.load(Named(str(path))), result())
    with pytest.raises(TypeError, match=r"path: expected .* got a path of bytes"):
        cfx.Counterfactuals.load(Named(b"cf"))


@pytest.mark.parametrize("call", ["save", "load"])
@pytest.mark.parametrize("value", ["", ".", "..", "/", "a/..", "a/", "/tmp/"])
def test_paths_without_a_name(call, value):
    call = result().save if call == "save" else cfx.Counterfactuals.load
    with pytest.raises(ValueError, match=r"^path: expected "):
        call(value)


# -- writing


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path = result().save("~/kept/cf")
    assert path == tmp_path / "kept" / "cf.safetensors"
    assert path.is_file()
    assert not (tmp_path / "~").exists()
    same(cfx.Counterfactuals.load("~/kept/cf"), result())
    same(cfx.Counterfactuals.load(Path("~") / "kept" / "cf.safetensors"), result())
    assert result().save("~nobody-of-this-name").name == "~nobody-of-this-name.safetensors"
    assert cfx.Counterfactuals.load("~nobody-of-this-name")


def unwritable(call, told, path, old=None):
    """It fails with the path and the cause; what was there is there, and nothing else."""
    before = {p: p.read_bytes() if p.is_file() else None for p in path.parent.glob("*")}
    with pytest.raises(ValueError, match=r"^path: expected a file") as caught:
        call()
    assert str(path)[:-4] in str(caught.value)
    assert told in str(caught.value), caught.value
    after = {p: p.read_bytes() if p.is_file() else None for p in path.parent.glob("*")}
    assert after == before


def test_folders_in_the_place_of_files(tmp_path):
    place = tmp_path / "cf.safetensors"
    place.mkdir()
    unwritable(lambda: result().save(place), "a folder", place)
    (tmp_path / "runs").mkdir()
    told = "got the folder"
    unwritable(lambda: result().save(tmp_path / "runs"), told, tmp_path / "runs")
    (tmp_path / "file").touch()
    inside = tmp_path / "file" / "cf.safetensors"
    unwritable(lambda: result().save(inside), "Not a directory", inside)
    unwritable(lambda: result().save(inside / "deeper"), "Not a directory", inside)


@pytest.mark.parametrize("name", ["a" * 300, "no\0file", "\ud800"])
def test_names_that_no_file_can_have(tmp_path, name):
    with pytest.raises(ValueError, match=r"^path: expected a file") as caught:
        result().save(tmp_path / name)
    assert not list(tmp_path.iterdir())
    assert "null byte" in str(caught.value) or "\0" not in name
    with pytest.raises(ValueError, match=r"^path: expected saved counterfactuals"):
        cfx.Counterfactuals.load(tmp_path / name)


def test_pipes_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "cf.safetensors")
    place = tmp_path / "cf.safetensors"
    unwritable(lambda: result().save(place), "a device, pipe or socket", place)


@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk(tmp_path, there):
    """The system refuses to write more than a few bytes of any file."""
    place = tmp_path / "cf.safetensors"
    if there:
        result().save(place)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        unwritable(lambda: result().save(place), "too large", place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    if there:
        same(cfx.Counterfactuals.load(place), result())


@pytest.mark.parametrize("step", ["save_file", "fsync", "replace", "mkdir"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_whatever_fails_leaves_the_old_file(tmp_path, monkeypatch, step, error):
    place = result().save(tmp_path / "cf")
    changed = result(made_by={"function": "another"})

    def fail(*_, **__):
        raise error

    def half(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise error

    where = {"save_file": results_file, "fsync": os}.get(step, Path)
    monkeypatch.setattr(where, step, half if step == "save_file" else fail)
    if isinstance(error, OSError):
        unwritable(lambda: changed.save(place), "No space left on device", place)
    else:
        with pytest.raises(KeyboardInterrupt):
            changed.save(place)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["cf.safetensors"]
    same(cfx.Counterfactuals.load(place), result())


WRONG = {
    "image": (torch.zeros(ROWS, 1, 5, 7), "shape"),
    "original": (None, "a torch tensor"),
    "logits_after": (torch.zeros(ROWS, CLASSES + 1), "shape"),
    "target": (torch.zeros(ROWS), "int64"),
    "status": (("won",) * ROWS, "some of"),
    "code_before": (torch.zeros(ROWS, 7), "Code"),
    "cost": ({"generator": torch.zeros(ROWS - 1)}, "rows"),
    "trace": ({3: torch.zeros(ROWS)}, "texts as names"),
    "made_by": ([], "dict"),
}


@pytest.mark.parametrize("name", WRONG)
def test_no_file_is_written_that_could_not_be_read(tmp_path, name):
    value, told = WRONG[name]
    with pytest.raises((ValueError, TypeError), match=rf"^{name}.*: expected .*{told}"):
        result(**{name: value}).save(tmp_path / "cf")
    assert not list(tmp_path.iterdir())


def nested(depth):
    record = {}
    for _ in range(depth):
        record = {"parts": [record]}
    return record


def test_records_that_json_can_not_hold(tmp_path):
    with pytest.raises(TypeError, match=r"^made_by: expected what JSON can hold"):
        result(made_by={"seed": {1}}).save(tmp_path / "cf")
    with pytest.raises(ValueError, match=r"^made_by: expected what JSON can hold"):
        result(made_by=nested(5000)).save(tmp_path / "cf")
    assert not list(tmp_path.iterdir())


def test_what_is_written_can_be_read(tmp_path):
    """Adding up results makes deep records: what can't be read again is not written."""
    refused = 0
    for depth in range(100, 400, 10):
        deep = result(made_by=nested(depth))
        try:
            place = deep.save(tmp_path / "cf")
        except ValueError:
            refused += 1
        else:
            assert cfx.Counterfactuals.load(place).made_by.keys() == {"parts"}
    assert 0 < refused < 30


def test_texts_in_any_language(tmp_path):
    made = {"function": "größer 模型 🙂", "labels": ["ä", "\ud800"], "nan": None}
    cf = result(made_by=made)
    same(cfx.Counterfactuals.load(cf.save(tmp_path / "Übung 模型")), cf)


def test_tensors_that_share_memory(tmp_path):
    """Views of one tensor, some of them overlapping."""
    whole = torch.rand(ROWS + 1, 1, 5, 6)
    cf = result(original=whole[1:], image=whole[:-1], reconstruction=whole[1:])
    same(cfx.Counterfactuals.load(cf.save(tmp_path / "cf")), cf)


@pytest.mark.parametrize(
    "mode",
    [torch.inference_mode, torch.no_grad, lambda: torch.device("meta")],
    ids=["inference", "no gradient", "another device"],
)
def test_modes_of_torch_do_not_matter(path, tmp_path, mode):
    with mode():
        found = cfx.Counterfactuals.load(path)
        found.save(tmp_path / "again")
    same(found, result())
    assert not found.image.is_inference()
    assert found.image.device.type == "cpu"
    same(cfx.Counterfactuals.load(tmp_path / "again"), result())


def test_another_locale(tmp_path):
    """With a locale that has nothing but ASCII."""
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]; import test_results_file as t; import cfxnb;"
        "path = t.result(made_by={'method': chr(252)}).save(sys.argv[1]);"
        "assert cfxnb.Counterfactuals.load(path).made_by['method'] == chr(252)"
    )
    here = Path(__file__).parent
    paths = [str(here), str(here.parent / "helpers"), str(Path(cfx.__file__).parents[1])]
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "cf"), *paths],
        env={**os.environ, "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        check=True,
    )


@pytest.mark.parametrize(
    "raw", [b"\xff{}", b'{"a": "\xe4"}', b"{", b"", DEEP.encode(), b"1" * 9999]
)
def test_json_that_is_none(raw):
    with pytest.raises(ValueError, match=r"UTF-8|nested|Expecting|digits"):
        disk.parsed(raw)


def test_json_that_is_deep_but_read_by_python():
    text = b"[" * 100 + b"]" * 100
    with pytest.raises(ValueError, match="nested deeper than 64"):
        disk.parsed(text)
    assert disk.parsed(text, depth=100)
    assert disk.parsed("\ufeff{}".encode()) == {}
    assert disk.parsed(b'{"a": 1, "a": 2}') == {"a": 2}
