"""Every kind of result is written and read again, becomes a table, and refuses other files."""

import dataclasses
import importlib
import json
import pkgutil
import subprocess
import sys

import good
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import cfxnb as cfx
from cfxnb.core import saved
from cfxnb.core.results_file import digest

for part in (
    "attacks",
    "attribution",
    "contrastive",
    "directions",
    "flows",
    "repair",
    "metrics",
    "evaluation",
):
    room = importlib.import_module(f"cfxnb.{part}")
    for module in pkgutil.iter_modules(room.__path__):
        importlib.import_module(f"cfxnb.{part}.{module.name}")

SAVED = {name: kind for name, kind in saved.KINDS.items() if issubclass(kind, saved.Result)}
KINDS = {name: kind for name, kind in SAVED.items() if kind is not saved.Result}
#: How many rows the table of a result has.
ROWS = {
    "AttributeEdits": lambda r: len(r.names),
    "ClassMeans": lambda r: r.n_classes,
    "ContrastiveScores": lambda r: len(r.ranking),
    "Descriptors": lambda r: len(r.names),
    "Directions": lambda r: len(r.table),
    "ErrorExplanation": lambda r: len(r.counterfactuals),
    "Evaluation": lambda r: len(r.table),
    "FeatureAttribution": lambda r: len(r.local),
    "FittedFlow": lambda r: r.n_classes,
    "InsertionDeletion": lambda r: len(r.insertion),
    "ObservedScores": lambda r: 3,
    "ScoreBounds": lambda r: 3,
}
each_kind = pytest.mark.parametrize("name", sorted(KINDS))


def same(a, b, where=""):
    """Equal to the last bit, whatever it is made of."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        torch.testing.assert_close(b, a.cpu(), rtol=0, atol=0, equal_nan=True, msg=where)
    elif isinstance(a, pd.DataFrame):
        pd.testing.assert_frame_equal(a, b, check_exact=True, obj=where)
    elif isinstance(a, pd.Series):
        pd.testing.assert_series_equal(a, b, check_exact=True, obj=where)
    elif isinstance(a, nn.Module):
        same(dict(a.state_dict()), dict(b.state_dict()), where)
    elif isinstance(a, dict):
        unordered = where.endswith((".cost", ".trace"))
        assert list(a) == list(b) or (unordered and set(a) == set(b)), where
        for key in a:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, pair in enumerate(zip(a, b, strict=True)):
            same(*pair, f"{where}[{i}]")
    elif isinstance(a, saved.Saved):
        for field in a._saved_fields():
            same(getattr(a, field), getattr(b, field), f"{where}.{field}")
    elif isinstance(a, cfx.Code):
        same((a.z, a.aux), (b.z, b.aux), where)
    else:
        assert a == b or a != a, where


@each_kind
def test_what_is_saved_comes_back(name, tmp_path):
    result = good.OBJECTS[name]()
    path = result.save(tmp_path / "new" / "one")
    assert path == tmp_path / "new" / "one.safetensors"
    same(KINDS[name].load(path), result)
    same(KINDS[name].load(tmp_path / "new" / "one"), result)
    same(cfx.load(path), result)


@each_kind
def test_tables_have_a_row_for_each(name, tmp_path):
    result = good.OBJECTS[name]()
    table = result.to_frame()
    assert isinstance(table, pd.DataFrame)
    rows = ROWS.get(name, len)(result)
    assert len(table) == rows
    assert all(table.index.names)
    assert (KINDS[name].to_frame.__doc__ or "").startswith("Return a table with one row per")
    path = result.to_csv(tmp_path / "table")
    assert path.name == "table.csv"
    read = pd.read_csv(path, index_col=list(range(table.index.nlevels)))
    assert len(read) == rows
    assert list(read.columns) == [str(c) for c in table.columns]


@each_kind
def test_files_of_another_kind_are_refused(name, tmp_path):
    other = "Descriptors" if name != "Descriptors" else "Directions"
    path = good.OBJECTS[other]().save(tmp_path / "other")
    with pytest.raises(ValueError, match=r"^path: expected .*saved") as caught:
        KINDS[name].load(path)
    assert f"a saved {other}" in str(caught.value)
    save_file({"x": torch.ones(2)}, tmp_path / "foreign.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    (tmp_path / "empty.safetensors").write_text("")
    for wrong in ("foreign", "text", "empty", "missing"):
        with pytest.raises(ValueError, match=r"^path: expected .*saved"):
            KINDS[name].load(tmp_path / wrong)


@each_kind
def test_damaged_files_are_refused(name, tmp_path):
    whole = good.OBJECTS[name]().save(tmp_path / "one").read_bytes()
    for i, damaged in enumerate((whole[:-3], whole[: len(whole) // 2], whole + b"\0", flip(whole))):
        path = tmp_path / f"{i}.safetensors"
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"^path: expected .*saved"):
            KINDS[name].load(path)


def flip(data):
    """One bit of the content is another: of the last tensor, or of the text."""
    length = 8 + int.from_bytes(data[:8], "little")
    place = len(data) - 1 if len(data) > length else data.index(b"content") + 20
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def rewritten(path, change):
    """The same file with another content, and the digest that fits."""
    tensors = load_file(path)
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]
    header.pop("sha256")
    content = json.loads(header["content"])
    change(content, tensors)
    header["content"] = json.dumps(content)
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    save_file(tensors, path, metadata=header | {"sha256": digest(tensors, header)})


def fields_of(content):
    return content["kind"][1]


CONTRADICTIONS = {
    "a status is missing": ("Attribution", lambda c, t: fields_of(c)["status"]["tuple"].pop()),
    "an unknown status": (
        "Attribution", lambda c, t: fields_of(c)["status"]["tuple"].__setitem__(0, "perhaps")
    ),
    "fewer maps": ("Attribution", lambda c, t: t.update(attributions=t["attributions"][:1])),
    "maps of NaN": ("Attribution", lambda c, t: t["attributions"].fill_(torch.nan)),
    "a tensor that is not used": ("Directions", lambda c, t: t.update(more=torch.ones(1))),
    "a tensor that is missing": ("Directions", lambda c, t: t.pop("vectors")),
    "more names": ("Directions", lambda c, t: fields_of(c)["names"]["tuple"].append("h9")),
    "a field that is no field": ("Directions", lambda c, t: fields_of(c).update(run="rm")),
    "another class inside": ("Directions", lambda c, t: c["kind"].__setitem__(0, "ScoreBounds")),
    "a class of somebody else": ("Directions", lambda c, t: c["kind"].__setitem__(0, "Popen")),
    "an unknown network": (
        "AttributeEdits",
        lambda c, t: fields_of(c)["step_model"]["module"].__setitem__(0, "Linear"),
    ),
    "weights of another size": (
        "AttributeEdits", lambda c, t: t.update({k: v[:, :1] for k, v in t.items() if v.ndim == 2})
    ),
    "a column is shorter": (
        "ContrastiveScores",
        lambda c, t: fields_of(c)["table"]["table"][2][0]["series"][2][1].pop(),
    ),
    "a text for numbers": ("InsertionDeletion", lambda c, t: fields_of(c).update(fraction="0.5")),
    "other positions": ("ErrorExplanation", lambda c, t: t.update(rows=t["rows"].repeat(2))),
    "bounds without an end": (
        "ScoreBounds", lambda c, t: fields_of(c).update(pns={"list": [0.0, 1.0]})
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_contradictions_are_refused(what, tmp_path):
    """Also in a file that somebody has made with care."""
    name, change = CONTRADICTIONS[what]
    path = good.OBJECTS[name]().save(tmp_path / "one")
    rewritten(path, lambda c, t: None)
    same(KINDS[name].load(path), good.OBJECTS[name]())
    rewritten(path, change)
    with pytest.raises(ValueError, match=rf"^path: expected a saved {name}, got '"):
        KINDS[name].load(path)


def test_load_reads_results_in_a_new_process(tmp_path):
    """Their classes are imported when they are needed."""
    paths = [good.OBJECTS[name]().save(tmp_path / name) for name in sorted(KINDS)]
    code = "import sys, cfxnb as cfx; print(*(type(cfx.load(p)).__name__ for p in sys.argv[1:]))"
    run = [sys.executable, "-c", code, *map(str, paths)]
    found = subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()
    assert found == sorted(KINDS)


def test_load_refuses_other_files(tmp_path):
    save_file({"x": torch.ones(2)}, tmp_path / "foreign.safetensors")
    for name in ("foreign", "missing"):
        with pytest.raises(ValueError, match="name: expected a file with a result"):
            cfx.load(tmp_path / f"{name}.safetensors")


def test_deep_nesting_is_refused(tmp_path):
    path = good.OBJECTS["ScoreBounds"]().save(tmp_path / "one")

    def nest(content, tensors):
        deep: dict = {"list": []}
        for _ in range(220):
            deep = {"list": [deep]}
        fields_of(content)["pns"] = deep

    rewritten(path, nest)
    with pytest.raises(ValueError, match="nested"):
        cfx.ScoreBounds.load(path)


def test_own_networks_are_refused_in_words(tmp_path):
    class Mine(nn.Module):
        def forward(self, u, target):
            return torch.zeros_like(u)

    edits = cfx.AttributeEdits({"a": (0, 1)}, Mine(), torch.zeros(2), torch.ones(2), True)
    with pytest.raises(TypeError, match=r"step_model: expected one of the networks .* got Mine"):
        edits.save(tmp_path / "edits")
    assert not list(tmp_path.iterdir())


def test_a_trained_edit_network_comes_back(tmp_path):
    edits = cfx.fit_attribute_edits(
        good.space(), good.images(), good.factors(), reader=good.reader(), steps=2, hidden_dim=8
    )
    found = cfx.AttributeEdits.load(edits.save(tmp_path / "edits"))
    moved, again = (e.edit(good.codes(), "up", "yes").z for e in (edits, found))
    assert torch.equal(moved, again)


def test_tables_of_all_kinds_come_back(tmp_path):
    """Columns of every type, missing values, and labels of several levels."""
    scores = good.OBJECTS["ContrastiveScores"]()
    units = scores.units.assign(
        small=np.float32(0.1), flag=True, text="a", mixed=[1, "b", None] * (len(scores.units) // 3),
        nullable=pd.array([None] * len(scores.units), dtype="Int64"), number=np.int16(3),
        infinite=np.inf, missing=np.nan,
    )  # fmt: skip
    changed = dataclasses.replace(scores, units=units)
    same(cfx.ContrastiveScores.load(changed.save(tmp_path / "scores")), changed)


def test_images_are_written_and_not_replaced(tmp_path):
    cf = good.OBJECTS["Counterfactuals"]()
    paths = cf.save_images(tmp_path / "images")
    kinds = ("original", "reconstruction", "counterfactual", "difference")
    if torch.equal(cf.original, cf.reconstruction):
        kinds = ("original", "counterfactual", "difference")
    assert len(paths) == len(kinds) * len(cf)
    assert sorted(paths)[0].name == "000000_counterfactual.png"
    assert not [p for p in (tmp_path / "images").iterdir() if p not in paths], "no leftovers"
    for i in range(len(cf)):
        shown = np.asarray(Image.open(tmp_path / "images" / f"{i:06d}_original.png"))
        assert (
            np.abs(shown / 255 - cf.original[i].permute(1, 2, 0).squeeze(-1).numpy()).max() < 0.003
        )
    before = paths[0].read_bytes()
    with pytest.raises(ValueError, match="output_dir: expected one without these images"):
        cf.save_images(tmp_path / "images")
    assert paths[0].read_bytes() == before
    cf[list(range(len(cf)))[::-1]].save_images(tmp_path / "images", overwrite=True)
    assert paths[0].read_bytes() != before


def test_colours_of_changes():
    """White where nothing changed, purple for more, orange for less, gray for what is unknown."""
    from cfxnb.core.image_files import signed_map

    values = torch.tensor([[0.0, 1.0, -1.0, torch.nan, 2.0]])
    zero, more, less, unknown, beyond = signed_map(values, 1.0)[0].tolist()
    assert min(zero) > 240
    assert more[2] > more[1]
    assert less[0] > less[2]
    assert unknown == [128, 128, 128]
    assert beyond == more


def test_heat_maps_are_written(tmp_path):
    found = good.OBJECTS["Attribution"]().save_images(tmp_path)
    assert {p.name.split("_", 1)[1] for p in found} == {"image.png", "baseline.png", "heat_map.png"}


def test_images_need_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    cf = good.OBJECTS["Counterfactuals"]()
    with pytest.raises(ValueError, match="output_dir: expected a folder, got a file"):
        cf.save_images(tmp_path / "file")


def test_the_table_of_counterfactuals_says_what_happened():
    cf = good.OBJECTS["Counterfactuals"]()
    table = cf.to_frame()
    assert table["status"].tolist() == list(cf.status)
    assert table["flipped"].sum() == cf.flipped.sum()
    l2 = (cf.image - cf.original).flatten(1).norm(dim=1)
    np.testing.assert_allclose(table["L2"], l2)
    assert table["classifier passes"].tolist() == cf.cost["classifier"].tolist()
    named = dataclasses.replace(cf, made_by={**cf.made_by, "class_names": ["no", "yes"]})
    assert set(named.to_frame()["target name"]) == {"yes"}
