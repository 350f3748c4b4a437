"""Goals in place of classes: on the page, and in the file of settings."""

import pandas as pd
import pytest
import torch
import yaml
from explain_scene import scene
from worlds import LinearNet

import cfxnb as cfx
from cfxnb.cli import main
from cfxnb.explanation import config, parts

METHODS = {
    "latent_attack": {"restarts": 0},
    "follow_direction": {},
    "nearest_neighbour": {},
    "pixel_attack": {},
    "random_change": {},
    "reconstruct": {},
}
GOALS = {
    "raise_to": (cfx.raise_to(41.0), "age at least 41 years"),
    "lower_by": (cfx.lower_by(2.0, output="age"), "age lowered by 2 years"),
    "between": (cfx.between(45.0, 60.0), "age between 45 and 60 years"),
    "score": (cfx.score(lambda y: y[:, 0], at_least=45.0), "score at least 45"),
}


def model(space):
    """An age that is 40 + 4 z, for the first number z of the code."""
    return cfx.wrap_regression(
        LinearNet(4.0 / space.scale * space.basis[:1], torch.tensor([40.0])),
        names="age", units="years",
    )  # fmt: skip


@pytest.mark.parametrize("kind", GOALS)
def test_goals_are_reached_and_shown(kind, tmp_path):
    data, _, space = scene()
    goal, words = GOALS[kind]
    found = cfx.explain(
        data, model(space), space, target=goal, judge=model(space), methods=METHODS, n_images=6,
        output_dir=tmp_path / "out",
    )  # fmt: skip
    assert set(found.results) >= {"latent attack", "one direction", "pixel attack"}
    assert ("random change" in found.results) == (kind != "score")
    assert found.class_names == ("not reached", words)
    cf = found.results["latent attack"][:]
    outcome = model(space)(cf.image)[:, 0]
    torch.testing.assert_close(
        torch.tensor(cf.outcomes["after"].to_numpy()).float(), outcome, atol=1e-2, rtol=1e-4
    )
    reached = torch.tensor((cf.outcomes["distance"] == 0).to_numpy())
    assert reached.all()
    assert torch.equal(found.judged["latent attack"], reached)  # the judge is the same model
    assert found.table.loc["latent attack", "judge agrees"] == 1
    assert found.table.loc["latent attack", "outcome change"] != 0
    heat = found.heat_maps
    assert heat is not None
    changed = (outcome - model(space)(cf.original)[:, 0]).abs() > 1e-3
    assert (heat.relative_delta[changed].abs() < 0.02).all()
    text = found.html()
    assert "change of the outcome" in text
    assert f"{cf.outcomes['after'][0]:.4g}" in text
    assert "with any confidence" not in text.split("In short")[1].split("<h2>")[0]
    rows = pd.read_csv(tmp_path / "out" / "images.csv")
    assert rows["outcome after"].notna().all()


def test_a_score_of_a_classifier(tmp_path):
    data, classifier, space = scene()
    goal = cfx.score(lambda logits: logits[:, 1] - logits[:, 0], at_least=3.0)
    found = cfx.explain(
        data, classifier, space, target=goal, judge=classifier, n_images=4,
        methods={"latent_attack": {}, "reconstruct": {}},
    )  # fmt: skip
    cf = found.results["latent attack"]
    logits = classifier(cf.image)
    assert ((logits[:, 1] - logits[:, 0]) >= 2.99).all()
    assert found.judged["latent attack"].all()


def test_models_and_targets_must_fit():
    data, classifier, space = scene()
    with pytest.raises(TypeError, match=r"target: expected a goal .* regression model, got"):
        cfx.explain(data, model(space), space)
    with pytest.raises(TypeError, match=r"target: expected a class, .* got the goal 'raise_to'"):
        cfx.explain(data, classifier, space, target=cfx.raise_to(1.0))


NETS = """
import torch

def age(images):
    return 40 + 100 * (images.mean((1, 2, 3)) - 0.5)

def darker(outcomes):
    return -outcomes[:, 0]
"""
GOOD = {
    "data": "digits",
    "classifier": {
        "load": "nets_with_age:age", "regression": True, "names": "age", "units": "years",
    },
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets_with_age.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("target", "goal"),
    [
        ({"raise_to": 0.8}, cfx.raise_to(0.8)),
        ({"lower_to": 0.8}, cfx.lower_to(0.8)),
        ({"raise_by": 2}, cfx.raise_by(2)),
        ({"lower_by": 2, "output": "age"}, cfx.lower_by(2, output="age")),
        ({"between": [1, 2], "output": 0}, cfx.between(1, 2, output=0)),
    ],
)
def test_goals_of_settings(target, goal, here):
    assert parts.check_target(target) == goal
    config.checked({**GOOD, "target": target})


def test_a_score_is_named(here):
    found = parts.check_target({"score": "nets_with_age:darker", "at_least": -30})
    assert found.kind == "score"
    assert found.values == (-30.0,)
    assert found.function(torch.tensor([[2.0], [3.0]])).tolist() == [-2.0, -3.0]
    assert parts.check_target({0: 1}) == {0: 1}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"target": "second"}, r"target: expected a goal such as \{raise_to: 0.8\}"),
        ({"target": {"lower_by": -2}}, "target.lower_by: amount: expected"),
        ({"target": {"lower_by": 2, "outptu": 0}}, "target.lower_by: .*'outptu'; did you mean"),
        ({"target": {"lower_by": 2, "raise_by": 2}}, "target: expected one goal, got"),
        ({"target": {"between": 3}}, r"target.between: expected \[low, high\], got 3"),
        ({"target": {"between": [3, 1]}}, "target.between: high: expected a number above low"),
        ({"target": {"score": 3}}, "target.score: expected 'package.module:function'"),
        ({"target": {"score": "nets_with_age:drker"}}, "target.score: .* did you mean 'darker'"),
        ({"classifier": "digits/classifier"}, "target: expected a class, got the goal raise_by"),
        (
            {"classifier": {"load": "nets_with_age:age", "regression": "yes"}},
            "classifier.regression: expected true or false",
        ),
        (
            {"classifier": {"load": "nets_with_age:age", "regression": True, "unit": "m"}},
            "classifier: .*'unit'; did you mean 'units'",
        ),
    ],
)
def test_goals_of_settings_are_checked_in_words(change, told, here):
    with pytest.raises((ValueError, TypeError), match=told):
        config.checked({**GOOD, "target": {"raise_by": 2}, **change})


def test_a_command_with_a_regression_model(here, capsys):
    settings = {
        **GOOD,
        "target": {"lower_by": 1, "output": "age"},
        "methods": {"pixel_attack": {"steps": 20}},
        "n_images": 3,
    }
    (here / "e.yaml").write_text(yaml.safe_dump(settings))
    assert main(["explain", "e.yaml"]) == 0
    told = capsys.readouterr()
    assert "3 images, 1 methods and baselines: about" in told.err
    page = (here / "explanation" / "index.html").read_text()
    assert "age lowered by 1 years" in page
    rows = pd.read_csv(here / "explanation" / "images.csv")
    assert (rows["outcome after"] <= rows["outcome before"] - 0.99).all()
