"""Folders of results: written in shards, continued, refused where they must be, opened lazily."""

import json
import shutil

import pandas as pd
import pytest
import torch
from kept_scenes import Worker
from methods_here import SPACE, net
from stream_scenes import (
    IMAGES,
    OPTIONS,
    SHARD,
    TARGET,
    F,
    Pairs,
    attack,
    killed_within,
    loader,
    slowly,
)

import cfxnb as cfx
from cfxnb.core import streamed

COUNT = len(IMAGES)


@pytest.fixture(scope="module")
def whole():
    return attack(IMAGES, batch_size=64)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A finished folder, which no test changes."""
    place = tmp_path_factory.mktemp("written") / "results"
    attack(Pairs(), output_dir=place)
    return place


@pytest.fixture
def folder(written, tmp_path):
    """A copy of it."""
    return shutil.copytree(written, tmp_path / "results")


def without(folder, *shards):
    """Forget some shards, as if they had never been finished."""
    for number in shards:
        (folder / "shards" / f"{number:06d}.json").unlink()
    (folder / "complete.json").unlink()
    return folder


def test_the_folder_holds_the_answers_of_one_call(written, whole):
    found = cfx.open(written)
    assert found.complete
    assert len(found) == COUNT
    everything = found[:]
    assert everything.status == whole.status == found.status
    torch.testing.assert_close(everything.image, whole.image)
    torch.testing.assert_close(everything.code_after.z, whole.code_after.z)
    for rows in ([21, 0, 5, 5], slice(2, 9), -1, torch.arange(COUNT) % 3 == 0, []):
        torch.testing.assert_close(found[rows].image, whole[rows].image)
    assert [len(part) for part in found] == [SHARD] * 5 + [2]
    ours, theirs = dict(found.made_by), dict(whole.made_by)
    assert ours.pop("seconds") > 0
    theirs.pop("seconds")
    assert ours == theirs
    with pytest.raises(IndexError, match="row 22 of a folder with 22 results"):
        found[COUNT]


def test_the_table_has_one_row_per_image(written, whole, tmp_path):
    table = cfx.open(written).to_frame()
    assert table["row"].tolist() == list(range(COUNT))
    assert table["digest"].nunique() == COUNT
    assert tuple(table["status"]) == whole.status
    assert table["target"].tolist() == TARGET.tolist()
    assert table["class after"].tolist() == whole.logits_after.argmax(1).tolist()
    pd.testing.assert_frame_equal(table.drop(columns=["row", "digest"]), whole.to_frame())
    pd.testing.assert_frame_equal(pd.read_parquet(written / "table"), table.rename_axis(None))
    again = pd.read_csv(cfx.open(written).to_csv(tmp_path / "table"), index_col=0)
    assert again["L2"].to_numpy() == pytest.approx(table["L2"].to_numpy())


def test_it_shows_itself(written):
    found = cfx.open(written)
    assert repr(found).startswith("ResultFolder(22 by latent_attack: ")
    assert "<img" in found._repr_html_()


def test_what_is_finished_is_not_computed_again(folder, whole):
    data = Pairs()
    found = attack(data, output_dir=without(folder, 1, 5))
    assert found.complete
    torch.testing.assert_close(found[:].image, whole.image)

    def never(x):
        raise AssertionError

    plain, calls = streamed._Call._result, []
    try:
        streamed._Call._result = never
        attack(Pairs(), output_dir=folder)
    finally:
        streamed._Call._result = plain
    assert not calls


def test_an_unfinished_folder_can_be_opened(folder, whole):
    found = cfx.open(without(folder, 1, 5))
    assert not found.complete
    assert len(found) == 4 * SHARD
    assert found.to_frame()["row"].tolist() == [0, 1, 2, 3, *range(8, 20)]
    torch.testing.assert_close(found[SHARD].image, whole[2 * SHARD].image)
    assert "not complete" in repr(found)


def test_batch_size_may_change_and_shards_do_not(folder, whole):
    found = attack(Pairs(), output_dir=without(folder, 2), batch_size=3)
    assert [len(part) for part in found] == [SHARD] * 5 + [2]
    torch.testing.assert_close(found[:].image, whole.image)


def test_loaders_and_iterators_go_on_too(folder, whole):
    found = attack(loader(), cfx.from_item(1), output_dir=folder.parent / "other")
    torch.testing.assert_close(found[:].image, whole.image)
    found = attack(iter(IMAGES), output_dir=without(folder, 3))
    torch.testing.assert_close(found[:].image, whole.image)


def test_images_in_memory(tmp_path, whole):
    found = attack(IMAGES, output_dir=tmp_path)
    torch.testing.assert_close(found[:].image, whole.image)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"steps": 5}, r"output_dir: .* another steps \(4 before, 5 now\)"),
        ({"target": 1 - TARGET}, "output_dir: .* another target"),
        ({"classifier": net(4)}, r"output_dir: .* another weights \(classifier\)"),
        ({"classifier": lambda x: F(x) + 1}, "output_dir: .* another weights|classifier: expected"),
        ({"images": Pairs(IMAGES.flip(0))}, "images: expected the same|classifier|space"),
        ({"images": Pairs(IMAGES[:20])}, "images: expected the data set with which .* fewer"),
        ({"first_row": 1}, r"output_dir: .* another first_row \(0 before, 1 now\)"),
        ({"images": loader(shuffle=True)}, "images: expected the same order .* shuffle=False"),
    ],
)
def test_other_work_is_refused(folder, change, match):
    usual = {"space": SPACE, "classifier": F, "images": Pairs(), "target": TARGET} | OPTIONS
    if "images" in change and len(change["images"].__dict__.get("images", IMAGES)) < COUNT:
        usual["target"] = cfx.from_item(1)
        folder = folder.parent / "other"
        cfx.latent_attack(**usual, batch_size=SHARD, output_dir=folder)
    with pytest.raises(ValueError, match=match):
        cfx.latent_attack(**usual | change, batch_size=SHARD, output_dir=folder)
    assert cfx.open(folder).complete


def test_an_image_in_the_middle_that_changed_is_noticed(folder):
    changed = IMAGES.clone()
    changed[9] = 1 - changed[9]
    with pytest.raises(ValueError, match=r"images: expected the data set .* in rows 8 to 11"):
        attack(Pairs(changed), output_dir=folder)


def test_functions_without_weights_are_recognised_by_their_answers(tmp_path):
    gain = [1.0]

    def f(x):
        return gain[0] * x.flatten(1)[:, :2]

    def call():
        return cfx.pixel_attack(f, IMAGES, 1, steps=2, batch_size=8, output_dir=tmp_path / "out")

    call()
    call()
    gain[0] = 2.0
    with pytest.raises(ValueError, match="classifier: expected the same one as when the folder"):
        call()


@pytest.mark.parametrize("name", ["safetensors", "parquet", "json"])
def test_altered_files_are_noticed(folder, name):
    place = folder / ("table" if name == "parquet" else "shards") / f"000002.{name}"
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)
    with pytest.raises(ValueError, match=rf"expected complete files .*000002.{name}.* delete"):
        cfx.open(folder)[:] if name != "parquet" else cfx.open(folder).to_frame()
    (folder / "shards" / "000002.json").unlink()
    attack(Pairs(), output_dir=folder)
    assert len(cfx.open(folder)[:]) == len(cfx.open(folder).to_frame()) == COUNT


def test_files_of_another_folder_are_noticed(folder, tmp_path):
    attack(Pairs(), output_dir=tmp_path / "other")
    for name in ("shards/000002.safetensors", "table/000002.parquet", "shards/000002.json"):
        shutil.copy(tmp_path / "other" / name, folder / name)
    with pytest.raises(ValueError, match=r"000002.json.* of another folder"):
        cfx.open(folder)


def test_what_is_no_folder_of_results_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "nothing", tmp_path / "file"):
        with pytest.raises(ValueError, match="path: expected a folder that a call with output_dir"):
            cfx.open(place)
    with pytest.raises(ValueError, match="output_dir: expected an empty folder, or one with"):
        attack(Pairs(), output_dir=tmp_path)
    with pytest.raises(ValueError, match="output_dir: expected a folder, got the file"):
        attack(Pairs(), output_dir=tmp_path / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_refused_call_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="steps: expected"):
        attack(Pairs(), output_dir=tmp_path / "a", steps=0)
    with pytest.raises(ValueError, match="target: expected classes from 0 to 1"):
        attack(Pairs(), 2, output_dir=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_stopped_call_goes_on(tmp_path, whole):
    def stop(step):
        return int(step.rows.min()) >= 2 * SHARD

    found = attack(Pairs(), output_dir=tmp_path, on_step=stop)
    assert not found.complete
    assert len(found) == 2 * SHARD
    assert attack(Pairs(), output_dir=tmp_path).complete
    torch.testing.assert_close(cfx.open(tmp_path)[:].image, whole.image)


def test_ctrl_c_goes_on(tmp_path, whole):
    class Pressed(Pairs):
        def __getitem__(self, row):
            if row == 13:
                raise KeyboardInterrupt
            return super().__getitem__(row)

    with pytest.warns(UserWarning, match="interrupted: 12 of 22 images are finished"):
        found = attack(Pressed(), output_dir=tmp_path)
    assert len(found) == 3 * SHARD
    torch.testing.assert_close(attack(Pairs(), output_dir=tmp_path)[:].image, whole.image)


def test_killed_twice_and_nothing_is_lost(tmp_path, whole):
    folder, log = tmp_path / "out", tmp_path / "log"
    for fatal in (2, 4):
        died = Worker(killed_within, folder, log, fatal)
        assert died.result() is None
        assert died.process.exitcode == -9
        assert len(cfx.open(folder)) == fatal * SHARD
    count, complete, status, image = Worker(slowly, folder, log).result()
    assert (count, complete, status) == (COUNT, True, whole.status)
    torch.testing.assert_close(image, whole.image)
    assert not [*folder.glob("*/.*"), *folder.glob("*/*.lock")]


def test_two_processes_share_the_work(tmp_path, whole):
    """Each shard is computed once; both processes return everything."""
    folder, log = tmp_path / "out", tmp_path / "log"
    both = [Worker(slowly, folder, log, 0.3, rank, 2) for rank in range(2)]
    for worker in both:
        count, complete, status, image = worker.result()
        assert (count, complete, status) == (COUNT, True, whole.status)
        torch.testing.assert_close(image, whole.image)
    begun = [int(row) for row in log.read_text().split()]
    assert sorted(begun)[-5:] == [4, 8, 12, 16, 20]
    assert len(begun) <= 6 + 2 * 2  # each process reads the first shard twice


def test_one_of_two_processes_is_killed_and_the_other_one_finishes(tmp_path, whole):
    folder, log = tmp_path / "out", tmp_path / "log"
    log.touch()
    lost = Worker(killed_within, folder, log, 1)
    kept = Worker(slowly, folder, log, 0.2, 1, 2)
    assert lost.result() is None or lost.process.exitcode == 0  # the other one may have been first
    count, _, status, image = kept.result()
    assert (count, status) == (COUNT, whole.status)
    torch.testing.assert_close(image, whole.image)
    assert attack(Pairs(), cfx.from_item(1), output_dir=folder).complete


def test_loaders_that_give_each_process_another_part_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    sampler = torch.utils.data.DistributedSampler(Pairs(), num_replicas=2, rank=0, shuffle=False)
    with pytest.raises(ValueError, match="images: expected the whole data set in each process"):
        attack(loader(sampler=sampler), 1, output_dir=tmp_path / "a")


def test_two_processes_without_a_folder_are_warned(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.warns(UserWarning, match="each of the 2 processes works on the whole data set"):
        attack(Pairs(), steps=1)


def test_the_record_can_be_read(written):
    record = json.loads((written / "results.json").read_text())
    assert record["config"]["function"] == "latent_attack"
    assert record["config"]["steps"] == OPTIONS["steps"]
    assert record["notes"]["shard_size"] == SHARD


def test_a_goal_for_a_model_of_outcomes(tmp_path):
    model = cfx.wrap_regression(lambda x: x.flatten(1).mean(1, keepdim=True))
    options = {"steps": 3, "restarts": 0, "batch_size": SHARD}
    goal = cfx.raise_by(0.01)
    whole = cfx.latent_attack(SPACE, model, IMAGES, goal, **options)
    for _ in range(2):
        found = cfx.latent_attack(SPACE, model, Pairs(), goal, **options, output_dir=tmp_path)
    torch.testing.assert_close(found[:].image, whole.image)
    torch.testing.assert_close(found[:].trace["outcome_after"], whole.trace["outcome_after"])
    with pytest.raises(ValueError, match=r"output_dir: .* another values .* \(target\)"):
        cfx.latent_attack(SPACE, model, Pairs(), cfx.raise_by(1.0), **options, output_dir=tmp_path)


def test_a_report_of_a_folder_is_that_of_all_images(folder, whole):
    def report(results, **more):
        options = {"judge": net(4), "classifier": F, "code_std": SPACE.std}
        table = cfx.report({"a": results}, **options, **more)
        return table.drop(columns=[name for name in table if "seconds" in name])

    pd.testing.assert_frame_equal(report(cfx.open(folder)), report(whole), rtol=1e-5)
    ours, theirs = (report(x, confidence_level=0.9) for x in (cfx.open(folder), whole))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-5)
    with pytest.raises(ValueError, match="features: expected None with a folder"):
        report(cfx.open(folder), features={"means": lambda x: x.mean((2, 3))})
    with pytest.warns(UserWarning, match="not complete, so the table is about its 20 finished"):
        report(cfx.open(without(folder, 5)))


def test_changes_are_described_from_the_codes(folder, tmp_path):
    options = {"proximity": 0.0, "prior": 0.0}
    whole = attack(IMAGES, **options)
    found = attack(Pairs(), **options, output_dir=tmp_path / "found")
    images = SPACE.sample(400, 3)
    factors = pd.DataFrame({"c": (SPACE.encode(images).z[:, 0].numpy() > 0).astype(int)})
    descriptors = cfx.fit_descriptors(SPACE, images, factors)
    ours, theirs = (cfx.describe_change(cf, descriptors, n_resamples=3) for cf in (found, whole))
    pd.testing.assert_frame_equal(ours.local, theirs.local)
    pd.testing.assert_frame_equal(ours.global_, theirs.global_)
    both = [
        cfx.describe_change(cf, descriptors, n_resamples=3, space=SPACE, classifier=F).ablation
        for cf in (found, whole)
    ]
    pd.testing.assert_frame_equal(*both)


def test_a_random_change_of_the_same_lengths_follows_a_folder(folder, tmp_path, whole):
    found = cfx.random_change(SPACE, F, cfx.open(folder), batch_size=5, output_dir=tmp_path / "r")
    torch.testing.assert_close(found[:].image, cfx.random_change(SPACE, F, whole).image)
    with pytest.raises(ValueError, match="like: expected a complete folder of results"):
        cfx.random_change(SPACE, F, cfx.open(without(folder, 2)))


def test_a_folder_of_attributions(tmp_path):
    whole = cfx.captum_attribution("input_x_gradient", F, IMAGES, TARGET)
    for _ in range(2):
        found = cfx.captum_attribution(
            "input_x_gradient", F, Pairs(), TARGET, batch_size=SHARD, output_dir=tmp_path
        )
    assert found.kind is cfx.Attribution
    assert len(found) == COUNT
    torch.testing.assert_close(found[:].attributions, whole.attributions)
    assert found.to_frame()["status"].tolist() == list(whole.status)
    assert "ResultFolder(22 by captum_attribution" in repr(cfx.open(tmp_path))
    with pytest.raises(ValueError, match="expected a folder of Counterfactuals, got 22 results"):
        cfx.report({"a": found})
    with pytest.raises(ValueError, match="counterfactuals: expected a folder of Counterfactuals"):
        cfx.describe_change(found, None)
