"""Counterfactuals as a value: rows, joining, files."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from worlds import linear_world, other_class

import cfxnb as cfx

TENSORS = ("original", "image", "reconstruction", "logits_before", "logits_after", "target")


@pytest.fixture(scope="module")
def results():
    space, f, x = linear_world(3)
    target = other_class(f, x)
    latent = cfx.latent_attack(space, f, x, target, steps=5, restarts=0, binary_search_steps=1)
    return {"with codes": latent, "without": cfx.pixel_attack(f, x, target, steps=3)}


@pytest.fixture(params=["with codes", "without"])
def cf(request, results):
    return results[request.param]


def same(a, b):
    for name in TENSORS:
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert a.status == b.status
    assert a.cost.keys() == b.cost.keys()
    assert all(torch.equal(a.cost[k], b.cost[k]) for k in a.cost)
    for name in ("code_before", "code_after"):
        p, q = getattr(a, name), getattr(b, name)
        assert (p is None) == (q is None)
        if p is not None:
            assert torch.equal(p.z, q.z)
            assert (p.aux is None) == (q.aux is None)
            assert p.aux is None or torch.equal(p.aux, q.aux)


ROWS = {
    "slice": (slice(1, 4), [1, 2, 3]),
    "steps": (slice(None, None, 3), [0, 3, 6]),
    "backwards": (slice(None, None, -2), [6, 4, 2, 0]),
    "nothing": (slice(3, 3), []),
    "list": ([4, 0, 4], [4, 0, 4]),
    "empty list": ([], []),
    "negative list": ([-1, 0], [6, 0]),
    "tensor": (torch.tensor([2, 5]), [2, 5]),
    "mask": (torch.tensor([0, 1, 0, 0, 1, 0, 1], dtype=torch.bool), [1, 4, 6]),
    "list of bool": ([False, True, False, False, True, False, True], [1, 4, 6]),
    "array": (np.array([2, 5]), [2, 5]),
    "int": (3, [3]),
    "last": (-1, [6]),
    "first from behind": (-7, [0]),
    "numpy int": (np.int64(3), [3]),
    "tensor of one number": (torch.tensor(3), [3]),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows(cf, name):
    rows, expected = ROWS[name]
    part = cf[rows]
    assert len(part) == len(expected)
    for field in TENSORS:
        assert torch.equal(getattr(part, field), getattr(cf, field)[expected]), field
    assert part.status == tuple(cf.status[i] for i in expected)
    assert torch.equal(part.flipped, cf.flipped[expected])
    for k in cf.cost:
        assert torch.equal(part.cost[k], cf.cost[k][expected])
    if cf.code_after is not None:
        assert torch.equal(part.code_after.z, cf.code_after.z[expected])
        assert torch.equal(part.code_before.z, cf.code_before.z[expected])
    assert part.made_by == cf.made_by


@pytest.mark.parametrize("row", [7, -8, 1000])
def test_rows_that_do_not_exist(cf, row):
    with pytest.raises(IndexError, match=f"row {row} of a result with 7"):
        cf[row]


def test_iteration_ends(cf):
    assert [r.status for r in cf] == [(s,) for s in cf.status]


def test_rows_of_rows(cf):
    same(cf[[5, 3, 1]][1:], cf[[3, 1]])


def test_to_another_device_goes_everything(cf):
    same(cf.to("cpu"), cf)
    moved = cf.to("meta")
    tensors = [getattr(moved, name) for name in TENSORS] + list(moved.cost.values())
    tensors += [] if cf.code_after is None else [moved.code_before.z, moved.code_after.z]
    assert {t.device.type for t in tensors} == {"meta"}
    assert moved.status == cf.status


def test_concatenation_undoes_slicing(cf):
    same(cf[:2] + cf[2:5] + cf[5:], cf)
    same(cfx.Counterfactuals.concatenate([cf]), cf)
    same(cfx.Counterfactuals.concatenate(list(cf)), cf)


def test_seconds_add_up():
    space, f, x = linear_world(2)
    a = cfx.reconstruct(space, f, x, 1)
    a = dataclasses.replace(a, made_by=a.made_by | {"seconds": 1.5})
    b = dataclasses.replace(a, made_by=a.made_by | {"seconds": 2.0})
    joined = a + b
    assert joined.made_by["seconds"] == 3.5
    assert joined.made_by["function"] == "reconstruct"


def test_what_made_the_parts_is_kept(results):
    a, b = results["with codes"], results["without"]
    joined = a + b
    assert joined.made_by["function"] == "latent_attack + pixel_attack"
    assert joined.made_by["parts"] == [a.made_by, b.made_by]
    assert joined.code_after is None  # a half of the codes would be worse than none
    assert len(joined) == 14


def test_unlike_results_do_not_join(cf):
    _, f, x = linear_world(2)
    with pytest.raises(ValueError, match="parts: expected results of one shape"):
        cf + cfx.pixel_attack(f, x, 1, steps=1)
    with pytest.raises(ValueError, match="parts: expected at least one"):
        cfx.Counterfactuals.concatenate([])


def test_frozen(cf):
    with pytest.raises(dataclasses.FrozenInstanceError):
        cf.image = cf.original


@pytest.mark.parametrize("rows", [slice(None), slice(2, 5), slice(0, 0)])
def test_file_round_trip(cf, tmp_path, rows):
    part = cf[rows]
    path = part.save(tmp_path / "cf")
    assert path == tmp_path / "cf.safetensors"
    loaded = cfx.Counterfactuals.load(tmp_path / "cf")
    same(loaded, part)
    assert loaded.made_by == part.made_by
    assert [p.name for p in tmp_path.iterdir()] == ["cf.safetensors"]


def test_file_round_trip_with_a_rest(results, tmp_path):
    cf = results["with codes"]
    rest = torch.randn(7, 1, 2, 2)
    code_before = dataclasses.replace(cf.code_before, aux=rest)
    cf = dataclasses.replace(
        cf, code_before=code_before, code_after=code_before.with_z(cf.code_after.z)
    )
    same(cfx.Counterfactuals.load(cf.save(tmp_path / "cf")), cf)


def test_names_with_a_dot_are_kept_apart(cf, tmp_path):
    """``cf_0.5`` and ``cf_0.9`` are two results, not one file written twice."""
    half, most = cf[:3].save(tmp_path / "cf_0.5"), cf[:4].save(tmp_path / "cf_0.9")
    assert [p.name for p in (half, most)] == ["cf_0.5.safetensors", "cf_0.9.safetensors"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [half.name, most.name]
    assert len(cfx.Counterfactuals.load(tmp_path / "cf_0.5")) == 3


def test_a_failed_save_leaves_the_old_file(cf, tmp_path):
    cf.save(tmp_path / "cf")
    broken = dataclasses.replace(cf, made_by={"seed": {1, 2}})  # a set has no JSON
    with pytest.raises(TypeError):
        broken.save(tmp_path / "cf")
    same(cfx.Counterfactuals.load(tmp_path / "cf"), cf)


def no_metadata(path):
    from safetensors.torch import load_file, save_file

    save_file(load_file(path), path)


def another_file(path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, path)


def bad_text(status):
    from safetensors.torch import load_file, save_file

    text = {"status": status, "made_by": "{}"}
    return lambda path: save_file(load_file(path), path, metadata=text)


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        no_metadata,
        another_file,
        bad_text("["),
        bad_text("3"),
        lambda p: p.write_bytes(b""),
        lambda p: p.unlink(),
    ],
    ids=["cut", "no metadata", "another file", "bad text", "number", "empty", "missing"],
)
def test_damaged_files(cf, tmp_path, damage):
    path = cf.save(tmp_path / "cf")
    damage(path)
    with pytest.raises((ValueError, FileNotFoundError), match=r"cf\.safetensors"):
        cfx.Counterfactuals.load(path)


@pytest.mark.parametrize("path", [None, 3, 1.5, []])
def test_wrong_paths(cf, path):
    with pytest.raises(TypeError, match=r"str.*PathLike"):
        cfx.Counterfactuals.load(path)


def test_repr_counts(cf):
    for status in set(cf.status):
        assert f"{cf.status.count(status)} {status}" in repr(cf)
    assert cf.made_by["function"] in repr(cf)


@pytest.mark.parametrize("rows", [slice(None), slice(0, 1), slice(0, 0)])
def test_shows_itself(cf, rows):
    html = cf[rows]._repr_html_()
    assert "Counterfactuals(" in html
    assert ("<img alt=" in html) == (len(cf[rows]) > 0)


def test_records_are_json(cf):
    assert json.loads(json.dumps(cf.made_by)) == cf.made_by
    assert cf.made_by["weights"]["classifier"]


def test_weights_are_told_apart(cf):
    space, f, x = linear_world(3)
    logits_before = cfx.reconstruct(space, f, x, 1).made_by["weights"]
    with torch.no_grad():
        f.module.bias[0] += 1e-3
    logits_after = cfx.reconstruct(space, f, x, 1).made_by["weights"]
    assert logits_before["space"] == logits_after["space"]
    assert logits_before["classifier"] != logits_after["classifier"]
