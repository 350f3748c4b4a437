"""Explanations in shards: after kills, in several processes, and of many images."""

import re

import pandas as pd
import pytest
import torch
from explain_scene import COUNT, METHODS, explained, explained_here, scene
from kept_scenes import FORKS

import cfxnb as cfx
from cfxnb.explanation import kept
from cfxnb.explanation.result import briefly

SHARDS = len(METHODS) * -(-COUNT // 5)


def start(*args, **kwargs):
    """Start an explanation in another process."""
    process = FORKS.Process(target=explained_here, args=args, kwargs=kwargs)
    process.start()
    return process


def finished(process):
    process.join(120)
    return process.exitcode


def page_without_times(folder):
    """The page without the seconds of the methods, which stand in the last column, and its own."""
    text = (folder / "index.html").read_text()
    text = re.sub(r"<dt>time</dt><dd>.*?</dd>", "", text)
    return re.sub(r'<td class="number">[^<]*(<small>[^<]*</small>)?</td></tr>', "</tr>", text)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The page of one process that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    return explained(folder), folder


def same_numbers(one, other):
    """Whether two folders have the same tables, but for seconds."""
    tables = [pd.read_csv(f / "methods.csv", index_col="method") for f in (one, other)]
    tables = [t.drop(columns=[c for c in t if "seconds" in c]) for t in tables]
    pd.testing.assert_frame_equal(*tables)
    images = [pd.read_csv(f / "images.csv") for f in (one, other)]
    pd.testing.assert_frame_equal(*images)
    assert page_without_times(one) == page_without_times(other)


def test_a_killed_call_goes_on(whole, tmp_path):
    """Two kills amid the methods; every shard is written once, and the page is the same."""
    folder, log = tmp_path / "out", tmp_path / "log"
    for killed in (3, 6):
        assert finished(start(folder, log, killed=killed)) == -9
        assert not (folder / "index.html").exists()
    kept_files = {p: p.stat().st_mtime_ns for p in folder.glob("results/*/shards/*.json")}
    fitted = {p: p.stat().st_mtime_ns for p in folder.glob("work/*.safetensors")}
    assert len(kept_files) == 2 + 5
    assert len(fitted) == 1  # a direction
    assert finished(start(folder, log)) == 0
    lines = log.read_text().split()
    assert len(lines) == len(set(lines)) == SHARDS
    assert {p: p.stat().st_mtime_ns for p in (*kept_files, *fitted)} == kept_files | fitted
    same_numbers(folder, whole[1])


def test_a_repeated_call_computes_nothing(whole):
    shards = {p: p.stat().st_mtime_ns for p in whole[1].glob("results/*/shards/*")}
    again = explained(whole[1])
    assert {p: p.stat().st_mtime_ns for p in whole[1].glob("results/*/shards/*")} == shards
    pd.testing.assert_frame_equal(again.table, whole[0].table)


def test_two_processes_make_the_page_of_one(whole, tmp_path):
    folder, log = tmp_path / "out", tmp_path / "log"
    both = [start(folder, log, rank, 2) for rank in range(2)]
    assert [finished(process) for process in both] == [0, 0]
    lines = log.read_text().split()
    assert len(lines) == len(set(lines)) == SHARDS
    same_numbers(folder, whole[1])


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_loses_nothing(whole, tmp_path, victim):
    """If a worker dies, the main process ends the page; if the main process dies, the next does."""
    folder, log = tmp_path / "out", tmp_path / "log"
    both = [start(folder, log, rank, 2, killed=3 * (rank == victim)) for rank in range(2)]
    codes = [finished(process) for process in both]
    assert codes[victim] == -9
    assert codes[1 - victim] == 0
    assert (folder / "index.html").exists() == (victim == 1)
    lines = log.read_text().split()
    assert len(lines) == len(set(lines)) == SHARDS
    if victim == 0:
        assert finished(start(folder, log)) == 0
        assert log.read_text().split() == lines
    same_numbers(folder, whole[1])


def test_other_questions_share_nothing(tmp_path):
    """Another option computes its method again, and leaves the others."""
    methods = {"pixel_attack": {"steps": 2}, "reconstruct": {}}
    first = explained(tmp_path, methods)
    times = {n: r.path.stat().st_ino for n, r in first.results.items()}
    seals = {n: (r.path / "shards" / "000000.json").read_text() for n, r in first.results.items()}
    second = explained(tmp_path, {**methods, "pixel_attack": {"steps": 40}})
    now = {n: (r.path / "shards" / "000000.json").read_text() for n, r in second.results.items()}
    assert now["reconstruction"] == seals["reconstruction"]
    assert now["pixel attack"] != seals["pixel attack"]
    assert times["reconstruction"] == second.results["reconstruction"].path.stat().st_ino
    third = explained(tmp_path, "reconstruct")
    assert list(third.results) == ["reconstruction"]
    assert [p.name for p in (tmp_path / "results").iterdir()] == ["reconstruction"]


def test_damaged_work_is_done_again(tmp_path):
    methods = {"follow_direction": {}}
    first = explained(tmp_path, methods)
    place = kept.place_of(tmp_path, "direction", "space")
    place.write_bytes(place.read_bytes()[:100])
    second = explained(tmp_path, methods)
    images = [each.results["one direction"][:].image for each in (first, second)]
    torch.testing.assert_close(*images)
    assert place.stat().st_size > 100


def test_flows_are_fitted_once(tmp_path, monkeypatch):
    fitted = []

    def fit_flow(*args, **kwargs):
        fitted.append(kwargs["checkpoint_dir"])
        return cfx.fit_flow(*args, **{**kwargs, "steps": 20})

    monkeypatch.setattr("cfxnb.explanation.methods.fit_flow", fit_flow)
    methods = {"flow_counterfactual": {"rounds": 2}}
    first = explained(tmp_path, methods)
    assert fitted == [tmp_path / "work" / "flow_space"]
    again = explained(tmp_path, {"flow_counterfactual": {"rounds": 3}})
    assert len(fitted) == 1
    assert first.results["flow walk"].made_by != again.results["flow walk"].made_by
    assert not (tmp_path / "work" / "flow_space").exists()


def test_in_memory_and_in_shards_are_the_same(whole):
    data, classifier, space = scene()
    memory = cfx.explain(data, classifier, space, judge=classifier, methods=METHODS, n_images=COUNT)
    for name, folder in whole[0].results.items():
        torch.testing.assert_close(memory.results[name].image, folder[:].image)
        assert memory.results[name].status == folder.status
        slim = briefly(folder)
        assert slim.status == folder.status
        assert slim.original.untyped_storage().nbytes() <= 4 * COUNT
        assert torch.equal(slim.confidence, folder[:].confidence)


def test_the_page_shows_a_sample_and_its_numbers_are_over_all(tmp_path):
    data, classifier, space = scene()
    many = cfx.explain(
        data, classifier, space, methods={"latent_attack": {"restarts": 0}}, n_images="all",
        output_dir=tmp_path / "out",
    )  # fmt: skip
    assert many.table["images"].tolist() == [260]
    assert len(many.shown) == 24
    assert (many.shown[0], many.shown[-1]) == (0, 259)
    text = many.html()
    assert text.count('<div class="card">') == 24
    assert "The page shows 24 of 260 images, evenly spread." in text
    assert len(list((tmp_path / "out" / "images" / "latent_attack").iterdir())) == 24
    assert len(pd.read_csv(tmp_path / "out" / "images.csv")) == 260
    assert len(many.heat_maps) == 24
    copied = many.save(tmp_path / "copy").parent
    assert len(cfx.open(copied / "results" / "latent_attack")) == 260


def test_data_sets_without_a_length_are_refused():
    data, classifier, _ = scene()
    with pytest.raises(TypeError, match="data: expected a data set with a length"):
        cfx.explain(iter(data.images), classifier)
