"""Goals for models of outcomes: bounds, log odds, records, and what is refused."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from torch import nn
from worlds import LinearNet, LinearSpace

import cfxnb as cfx
from cfxnb.core import goals
from cfxnb.core.types import ALREADY_TARGET, FLIPPED, NOT_FINITE

SPACE = LinearSpace()
X = SPACE.sample(7, 5)


def model(directions=((1.0, -0.5, 0.7, 0.2),), bias=40.0, **more):
    """An outcome that is linear in the code: 40 + 4 * direction @ z."""
    weight = 4.0 / SPACE.scale * torch.tensor(directions) @ SPACE.basis
    net = LinearNet(weight, torch.full((len(weight),), bias))
    return cfx.wrap_regression(net, **{"units": ["years"] * len(weight), "names": ["age"]} | more)


def test_outcomes_of_every_kind_of_model():
    f = model()
    assert f(X).shape == (7, 1)
    flat = X.flatten(1).numpy()
    ridge = LinearRegression().fit(flat, f(X).detach().numpy()[:, 0])
    functions = (
        f.module,
        lambda x: f.module(x)[:, 0],
        ridge,
        lambda x: f.module(x).detach().numpy(),
    )
    for each in functions:
        torch.testing.assert_close(cfx.wrap_regression(each)(X), f(X), rtol=1e-3, atol=1e-3)
    two = LinearRegression().fit(flat, np.stack([flat[:, 0], flat[:, 1]], 1))
    assert cfx.wrap_regression(two, names=["a", "b"])(X).shape == (7, 2)


@pytest.mark.parametrize(
    ("goal", "low", "high"),
    [
        (cfx.raise_to(50), [50, 50], [math.inf] * 2),
        (cfx.lower_to(30), [-math.inf] * 2, [30, 30]),
        (cfx.raise_by(2), [42, 62], [math.inf] * 2),
        (cfx.lower_by(2.5), [-math.inf] * 2, [37.5, 57.5]),
        (cfx.between(20, 30), [20, 20], [30, 30]),
    ],
)
def test_bounds_and_log_odds(goal, low, high):
    start = torch.tensor([40.0, 60.0])
    found = goals.bounds_of(goal, start)
    assert torch.equal(torch.stack(found), torch.tensor([low, high], dtype=torch.float))
    classifier = goals.goal_classifier(model(), goal)
    classifier.placed = classifier.place(start)
    away = classifier.log_odds(start)
    inside = torch.minimum(start - found[0], found[1] - start) >= 0
    assert torch.allclose(away[~inside], torch.tensor(-10.0))
    # Certain as soon as the goal is reached, and not before.
    edge = torch.where(found[0].isfinite(), found[0], found[1])
    assert (classifier.log_odds(edge).sigmoid() >= 1 - 1e-6).all()
    out = edge + torch.where(found[0].isfinite(), -0.01, 0.01)
    assert (classifier.log_odds(out) < 0).all()


def test_the_search_goes_as_far_as_the_goal_and_no_further():
    """The outcome is linear in the code, so the shortest way is along its weights."""
    f = model()
    cf = cfx.latent_attack(
        SPACE, f, X, cfx.lower_by(5.0), prior=0.0, proximity=0.0, binary_search_steps=12
    )
    assert set(cf.status) == {FLIPPED}
    table = cf.outcomes
    assert (table["after"] <= table["before"] - 5).all()
    assert (table["after"] >= table["before"] - 5.05).all()
    assert (table["distance"] == 0).all()
    assert table.attrs == {"goal": "age lowered by 5 years", "units": "years"}


def test_minimal_norm_is_the_closed_form():
    f = model()
    cf = cfx.pixel_attack(f, X, cfx.raise_by(3.0), minimal_norm=True, steps=150)
    shortest = 3.0 / f.module.weight.detach().norm()
    length = (cf.image - cf.original).flatten(1).norm(dim=1)
    assert set(cf.status) == {FLIPPED}
    assert (length / shortest).max() < 1.03
    assert (length / shortest).min() > 0.999


def test_the_answer_depends_on_no_other_image():
    f = model()
    every = cfx.latent_attack(SPACE, f, X, cfx.raise_by(3.0))
    one = cfx.latent_attack(SPACE, f, X[2:3], cfx.raise_by(3.0), first_row=2)
    torch.testing.assert_close(every.image[2], one.image[0])
    assert (every.outcomes.loc[2] == one.outcomes.loc[0]).drop("after").all()


def test_statuses():
    f = model()
    high = f(X).max().item() + 1
    assert set(cfx.latent_attack(SPACE, f, X, cfx.lower_to(high)).status) == {ALREADY_TARGET}
    strange = cfx.wrap_regression(
        lambda x: torch.where(x[:, 0, 0, 0] > X[:, 0, 0, 0].median(), torch.nan, f(x)[:, 0])
    )
    status = cfx.latent_attack(SPACE, strange, X, cfx.raise_by(1.0)).status
    assert NOT_FINITE in status
    assert FLIPPED in status


def test_several_outcomes_and_scores():
    f = model(
        ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0)), names=["age", "smile"], units=["years", ""]
    )
    cf = cfx.latent_attack(SPACE, f, X, cfx.raise_by(3.0, output="smile"), prior=0.0)
    after, before = f(cf.image), f(X)
    assert ((after - before)[:, 1] >= 3 - 1e-3).all()
    assert (after - before)[:, 0].abs().max() < 1
    gap = cfx.score(lambda y: y[:, 0] - y[:, 1], at_least=10.0)
    cf = cfx.latent_attack(SPACE, f, X, gap)
    assert (cf.outcomes["after"] >= 10).all()
    assert torch.allclose(
        torch.tensor(cf.outcomes["after"].to_numpy()).float(),
        (f(cf.image)[:, 0] - f(cf.image)[:, 1]).detach(),
        atol=1e-3,
    )


def test_a_score_of_a_classifier():
    f = cfx.wrap(LinearNet(torch.randn(3, 48, generator=torch.Generator().manual_seed(0))))
    cf = cfx.pixel_attack(f, X, cfx.score(lambda logits: logits[:, 2], at_least=1.0))
    assert set(cf.status) <= {FLIPPED, ALREADY_TARGET}


def test_saved_joined_and_shown(tmp_path):
    f = model()
    cf = cfx.latent_attack(SPACE, f, X, cfx.lower_by(2.0))
    again = cfx.Counterfactuals.load(cf.save(tmp_path / "cf"))
    assert again.outcomes.equals(cf.outcomes)
    assert again.outcomes.attrs == cf.outcomes.attrs
    assert (cf[:2] + cf[2:]).outcomes.equals(cf.outcomes)
    assert "years" in cfx.show(cf).alt
    back = cfx.random_change(SPACE, f, again)
    assert back.made_by["goal"] == cf.made_by["goal"]
    assert torch.equal(back.trace["goal"], cf.trace["goal"])


def test_report_in_the_units_of_the_outcome():
    f, judge = model(), model(((0.9, -0.5, 0.7, 0.3),), bias=38.0)
    cf = cfx.latent_attack(SPACE, f, X, cfx.lower_by(5.0))
    table = cfx.report(
        {"latent": cf, "none": cfx.reconstruct(SPACE, f, X, cfx.lower_by(5.0))}, judge=judge
    )
    assert table["outcome change"]["latent"] <= -5
    assert table["distance to goal"].round(2).tolist() == [0.0, 5.0]
    assert table["flip rate"].tolist() == [1, 0]
    # The judge has its own bound for each image: its own outcome minus 5.
    agrees = (judge(cf.image) <= judge(X) - 5).float().mean().item()
    assert table["judge agrees"]["latent"] == pytest.approx(agrees)


def test_a_classifier_of_a_goal():
    f = model()
    g = cfx.select_goal(f, cfx.raise_to(41.0), scale=2.0)
    torch.testing.assert_close(g(X)[:, 1] - g(X)[:, 0], (f(X)[:, 0] - 41) / 2)
    maps = cfx.integrated_gradients(g, cfx.straight_path(X), 1).attributions
    total = (f(X)[:, 0] - f(torch.zeros_like(X))[:, 0]) / 2
    torch.testing.assert_close(maps.flatten(1).sum(1), total.detach(), rtol=1e-3, atol=1e-3)


def test_a_black_box_gives_no_gradients():
    box = cfx.BlackBox(model())
    assert torch.equal(box(X), model()(X))
    with pytest.raises(TypeError, match="BlackBox"):
        cfx.latent_attack(SPACE, box, X, cfx.raise_by(1.0))
    with pytest.raises(TypeError, match="gradients"):
        cfx.pixel_attack(cfx.select_goal(box, cfx.raise_to(90.0), scale=1.0), X, 1)


def test_directions_of_an_outcome():
    """The direction of a linear outcome is known, whatever the bound of the goal."""
    box, images = cfx.BlackBox(model()), SPACE.sample(16, 3)
    truth = torch.tensor([1.0, -0.5, 0.7, 0.2])
    for goal, sign in ((cfx.raise_to(45.0), 1), (cfx.lower_to(35.0), -1)):
        found = cfx.find_directions(SPACE, box, images, goal, max_queries=400, n_curvature=0)
        cosine = torch.cosine_similarity(found.g, sign * truth, dim=0)
        assert cosine > 0.999
        assert found.made_by["goal"]["kind"] == goal.kind
        moved = cfx.follow_direction(SPACE, box, X, found, cfx.lower_by(4.0))
        assert set(moved.status) == {FLIPPED}
        assert (moved.outcomes["after"] <= moved.outcomes["before"] - 4).all()


def both(**more):
    return model(((1.0, 0.0, 0.0, 0.0),) * 2, names=["a", "b"], **more)


def attack(f, goal):
    return cfx.latent_attack(SPACE, f, X, goal)


def classes_and_judge():
    g = cfx.select_goal(model(), cfx.raise_to(1), scale=1.0)
    return cfx.report({"a": cfx.reconstruct(SPACE, g, X, 1)}, judge=model())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attack(model(), 1), "classifier.*cfx.raise_to"),
        (lambda: attack(cfx.wrap(nn.Flatten()), cfx.raise_to(1)), "target.*wrap_regression"),
        (lambda: attack(model(), cfx.raise_to(1, output="smile")), "output.*age.*smile"),
        (lambda: attack(model(), cfx.raise_to(1, output=1)), "output.*below 1"),
        (lambda: attack(both(), cfx.raise_to(1)), "output.*2 outcomes"),
        (lambda: attack(both(), cfx.score(lambda y: y)), "fn.*one per image"),
        (lambda: model(names=["a", "b"], units=None)(X), "names.*1 names"),
        (lambda: cfx.between(3, 3), "high"),
        (lambda: cfx.lower_by(0), "amount"),
        (lambda: cfx.raise_to("much"), "value"),
        (lambda: cfx.score(3), "fn"),
        (lambda: cfx.select_goal(model(), cfx.lower_by(2), scale=1.0), "goal.*lower_by"),
        (lambda: cfx.select_goal(model(), 3, scale=1.0), "goal"),
        (lambda: cfx.find_directions(SPACE, model(), X, cfx.lower_by(2)), "target.*lower_to"),
        (lambda: cfx.wrap_regression(LinearRegression()), "module.*fitted"),
        (lambda: cfx.wrap_regression(3), "module"),
        (classes_and_judge, "judge.*classes"),
    ],
)
def test_refused_in_words(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


class Unsteady(nn.Module):
    """An outcome that a random number changes."""

    def forward(self, images):
        return images.mean((1, 2, 3)) * (1 + 0.5 * torch.rand(()))


def test_random_outcomes_are_noticed():
    with pytest.warns(UserWarning, match="classifier: two calls"):
        cfx.reconstruct(SPACE, cfx.wrap_regression(Unsteady()), X, cfx.raise_by(0.1))


def test_rows_decide_which_bound_counts():
    classifier = goals.goal_classifier(model(), cfx.raise_by(2.0))
    classifier.placed = classifier.place(torch.tensor([10.0, 20.0, 30.0]))
    with pytest.raises(RuntimeError, match="row of each image"):
        classifier.log_odds(torch.tensor([12.0, 22.0]))
    classifier.rows = torch.tensor([2, 0, 0])
    odds = classifier.log_odds(torch.tensor([31.0, 12.5, 11.0]))
    torch.testing.assert_close(odds, torch.tensor([-5.0, 2.5 + goals.CERTAIN, -5.0]))
