"""Own methods are scored as they deserve, and a wrong one does not spoil the others."""

import dataclasses
import functools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from worlds import LinearSpace, code_classifier

import cfxnb as cfx
from cfxnb.core.intervals import wilson_interval
from cfxnb.evaluation import evaluate as module
from cfxnb.evaluation import measure
from cfxnb.evaluation.tasks import Task, tasks

SPACE = LinearSpace()
DIRECTION = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
F = code_classifier(SPACE, DIRECTION, 4.0)


def tiny(worlds, n, seeds):
    """Tasks of a world in which the classifier is its own judge, and one with another judge."""
    other = code_classifier(SPACE, torch.tensor([[0.0, 1.0, 0.0, 0.0]]), 4.0)
    for world in worlds:
        for seed in seeds:
            images = SPACE.sample(n)
            target = 1 - cfx.predict_logits(F, images).argmax(1)
            judge = F if world == "digits" else other
            train = functools.partial(SPACE.sample, 60)
            yield Task(world, f"images {seed}", F, SPACE, None, train, images, target, judge,
                       seed=seed)  # fmt: skip


@pytest.fixture(autouse=True)
def tiny_worlds(monkeypatch):
    monkeypatch.setattr(module, "tasks", tiny)


def own(space, classifier, images, target, *, seed=0):
    return cfx.latent_attack(space, classifier, images, target, seed=seed)


def mirrored(space, classifier, images, target):
    """Flips all: the code is reflected. It returns images only."""
    code = space.encode(images)
    return space.decode(code.with_z(-code.z)).clamp(0, 1)


def run(method, worlds=("digits",), baselines=(), n_images=6, seeds=1):
    return cfx.evaluate(method, worlds=worlds, baselines=baselines, n_images=n_images, seeds=seeds)


def test_a_method_of_the_package_gets_the_numbers_of_the_report():
    found = run(own, baselines=["latent attack", "pixel attack"], seeds=2)
    assert list(found.table.index) == [
        ("digits", "own"), ("digits", "latent attack"), ("digits", "pixel attack"),
    ]  # fmt: skip
    ours, theirs = found.table.loc[("digits", "own")], found.table.loc[("digits", "latent attack")]
    assert ours["images"] == 12
    assert ours["tasks"] == 2
    assert ours["failed"] == 0
    quality = [c for c in found.table if "seconds" not in c]
    assert ours["judge agrees"] == 1.0, "the judge is the classifier"
    pd.testing.assert_series_equal(ours[quality], theirs[quality], check_names=False, rtol=0.2)
    low, high = wilson_interval(12, 12)
    assert (ours["flip rate low"], ours["flip rate high"]) == pytest.approx((low, high))


def test_images_are_enough():
    found = run({"mirror": mirrored}).table.loc[("digits", "mirror")]
    assert found["flip rate"] == 1
    assert math.isnan(found["network passes per flip"]), "unknown, and not 0"
    assert found["seconds per flip"] > 0


def test_a_judge_that_does_not_agree_is_counted():
    found = run({"mirror": mirrored, "own": own}, worlds=["digits", "sprites"]).table
    assert found.loc[("digits", "mirror"), "judge agrees"] == 1
    assert found.loc[("sprites", "own"), "judge agrees"] < 1


def fails(space, classifier, images, target):
    raise RuntimeError("no such layer")


def claims(space, classifier, images, target):
    """Says that everything flipped, and changes nothing."""
    found = cfx.pixel_attack(classifier, images, target)
    return dataclasses.replace(found, image=images, status=("flipped",) * len(images))


def spoils(space, classifier, images, target):
    images.zero_()
    target.zero_()
    return images


WRONG = {
    "raises": (fails, "RuntimeError: no such layer"),
    "fewer images": (lambda s, f, x, t: x[:2], "images of shape"),
    "another shape": (lambda s, f, x, t: x[..., :2], "images of shape"),
    "NaN": (lambda s, f, x, t: x * torch.nan, "NaN"),
    "out of range": (lambda s, f, x, t: 9 * x + 3.5, "result: expected"),
    "nothing": (lambda s, f, x, t: None, "result: expected Counterfactuals, or edited images"),
    "numbers": (lambda s, f, x, t: 3, "result: expected Counterfactuals, or edited images"),
    "other images": (
        lambda s, f, x, t: cfx.pixel_attack(f, x.flip(0), t.flip(0)), "the images of the task"
    ),
    "other targets": (lambda s, f, x, t: cfx.pixel_attack(f, x, 1 - t), "the targets of the task"),
    "claims": (claims, "'flipped' only where the classifier sees the target"),
    "one argument": (lambda x: x, "TypeError"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_method_is_told_in_words_and_the_others_go_on(name):
    method, told = WRONG[name]
    with pytest.warns(UserWarning, match="1 of 3 runs failed.*wrong on digits, images 0"):
        found = run({"wrong": method, "own": own}, baselines=["pixel attack"])
    assert len(found.failures) == 1
    problem = found.failures.iloc[0]
    assert told in problem["problem"]
    assert (problem["world"], problem["method"]) == ("digits", "wrong")
    assert told.split(":")[-1].strip() in repr(found)
    assert found.table.loc[("digits", "wrong"), "failed"] == 1
    assert found.table.loc[("digits", "own"), "flip rate"] == 1
    assert found.table.loc[("digits", "pixel attack"), "flip rate"] == 1


def test_a_method_that_flips_nothing_has_no_cost_per_flip():
    found = run({"still": lambda s, f, x, t: x, "own": own})
    row = found.table.loc[("digits", "still")]
    assert row["flip rate"] == 0
    assert math.isnan(row["judge agrees"])
    assert math.isnan(row["seconds per flip"])
    assert "–" in repr(found)
    assert "–" in found._repr_html_()


def test_a_method_cannot_change_the_task_of_the_next():
    found = run({"spoils": spoils, "own": own})
    assert found.table.loc[("digits", "own"), "flip rate"] == 1
    assert found.table.loc[("digits", "spoils"), "L2"] > 0


@pytest.mark.filterwarnings("ignore:.*runs failed")
def test_when_all_fail_there_still_is_an_answer(tmp_path):
    found = run({"wrong": fails}, worlds=["digits", "sprites"])
    assert len(found.table) == len(found.failures) == 2
    again = cfx.Evaluation.load(found.save(tmp_path / "found"))
    pd.testing.assert_frame_equal(again.failures, found.failures)


@pytest.mark.filterwarnings("ignore:.*runs failed")
def test_an_evaluation_is_kept(tmp_path):
    found = run({"own": own, "wrong": fails}, baselines=["pixel attack"])
    again = cfx.Evaluation.load(found.save(tmp_path / "found"))
    pd.testing.assert_frame_equal(again.table, found.table)
    pd.testing.assert_frame_equal(again.tasks, found.tasks)
    assert repr(again) == repr(found)
    assert len(pd.read_csv(found.to_csv(tmp_path / "found"))) == len(found.to_frame()) == 3


def test_costs_count_tasks_without_flips():
    rows = pd.DataFrame({
        "flip rate": [1.0, 0.0], "flip rate n": [2, 2], "L2": [1.0, 3.0], "L2 n": [2, 2],
        "L2 low": [0.5, 2.0], "L2 high": [1.5, 4.0], "flips": [2, 0], "passes": [10.0, 30.0],
        "seconds": [1.0, 5.0],
    })  # fmt: skip
    found = measure.pool(rows)
    assert found["network passes per flip"] == 20
    assert found["seconds per flip"] == 3
    assert found["flip rate"] == 0.5
    assert found["L2"] == 2
    # Half widths of independent strata: sqrt((2 * 0.5)^2 + (2 * 1)^2) / 4.
    assert found["L2 high"] - 2 == pytest.approx(math.sqrt(5) / 4)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"method": 3}, TypeError, "method"),
        ({"method": {}}, ValueError, "method: expected a function"),
        ({"worlds": ["mars"]}, ValueError, "worlds: expected some of"),
        ({"worlds": []}, ValueError, "worlds"),
        ({"baselines": ["best"]}, ValueError, "baselines"),
        ({"n_images": 0}, ValueError, "n_images"),
        ({"seeds": []}, ValueError, "seeds"),
        ({"seeds": [1, 1]}, ValueError, "seeds"),
        ({"method": {"pixel attack": own}, "baselines": ["pixel attack"]}, ValueError, "method"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(change, error, match):
    with pytest.raises(error, match=match):
        run(**{"method": own, **change})


def test_the_command_names_what_it_cannot_import(tmp_path, monkeypatch, capsys):
    from cfxnb import cli

    (tmp_path / "mine.py").write_text(
        "def flip(space, classifier, images, target):\n    return 1\n"
    )
    monkeypatch.chdir(tmp_path)
    for text in ("nothing", "no_module:flip", "mine:flop"):
        assert cli.main(["evaluate", text]) == 2
        assert "method: expected" in capsys.readouterr().err
    assert cli.main(["evaluate", "mine:flip", "--worlds", "digits", "--baselines"]) == 1
    out = capsys.readouterr().out
    assert "flip on digits, images 0: TypeError: result: expected Counterfactuals" in out


def test_seeds_reach_the_method():
    seen = []

    def method(space, classifier, images, target, seed):
        seen.append(seed)
        return images

    run(method, seeds=[3, 5])
    assert seen == [3, 5]
    assert np.isfinite(run(method).table["flip rate"]).all()


def test_training_images_are_read_only_when_a_method_needs_them(monkeypatch):
    from cfxnb import data

    read, plain = [], data.digits
    monkeypatch.setattr(data, "digits", lambda split: read.append(split) or plain(split))
    task = next(iter(tasks(["digits"], 2, [0])))
    assert read == ["test"]
    assert task.train.shape == (3000, 1, 32, 32)
    assert torch.equal(task.first(1).train, task.train)
    assert read == ["test", "train"]
