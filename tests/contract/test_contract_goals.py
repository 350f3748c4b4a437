"""Every method takes a goal for a model of outcomes, and keeps it."""

import functools

import pytest
import torch
from cases import each_method
from gaussians import gaussian_world
from worlds import LinearNet, LinearSpace

import cfxnb as cfx
from cfxnb.core.types import FLIPPED, NOT_FOUND, RECONSTRUCTION_IS_TARGET

GOALS = {
    "raise_to": cfx.raise_to(44.0),
    "lower_by": cfx.lower_by(2.0, output="age"),
    "between": cfx.between(30.0, 36.0, output=0),
    "score": cfx.score(lambda y: -y[:, 0], at_least=-34.0),
}
each_goal = pytest.mark.parametrize("goal", GOALS.values(), ids=GOALS)


def world(space, images, gain):
    """An outcome of about 40 with a standard deviation of about 4, linear in the image."""
    weight = torch.randn(1, images[0].numel(), generator=torch.Generator().manual_seed(2))
    if isinstance(space, LinearSpace):  # what the space cannot draw must not count
        weight = weight @ space.basis.T @ space.basis
    spread = ((images.flatten(1) - 0.5) @ weight.T).std()
    net = LinearNet(gain * weight / spread, torch.tensor([40.0]))
    return cfx.wrap_regression(net, names="age", units="years")


def check(cf, f):
    """Each status says what the outcomes say."""
    table = cf.outcomes
    with torch.no_grad():
        after = f(cf.image)[:, 0]
    sign = -1 if "score" in table.attrs["goal"] else 1
    torch.testing.assert_close(
        torch.tensor(table["after"].to_numpy()).float(), sign * after, rtol=1e-4, atol=1e-3
    )
    inside = (table["distance"] == 0).to_numpy()
    for status, yes in zip(cf.status, inside, strict=True):
        if status in (FLIPPED, RECONSTRUCTION_IS_TARGET):
            assert yes
        if status == NOT_FOUND:
            assert not yes
    assert cf.made_by["goal"]["text"] == table.attrs["goal"]


@each_method
@each_goal
def test_every_method_reaches_goals(method, goal):
    space = LinearSpace()
    images = space.sample(5, 5)
    f = world(space, space.sample(50, 1), 4.0)
    if method.name == "random_change" and goal.function is not None:
        with pytest.raises(ValueError, match=r"target.*score"):
            method.run(space, f, images, goal)
        return
    cf = method.run(space, f, images, goal)
    check(cf, f)
    if method.gradient:
        assert FLIPPED in cf.status
        if goal.kind == "lower_by":  # other goals may be farther than these few steps lead
            assert NOT_FOUND not in cf.status


@pytest.mark.parametrize(
    "kwargs",
    [
        {"method": cfx.diffusion_counterfactual, "conditions": [0, 1]},
        {"method": cfx.diffusion_counterfactual, "guidance": "classifier", "conditions": [0, 1]},
        {"method": cfx.maskdime},
        {"method": cfx.fastdime},
        {"method": cfx.dime, "steps": 4},
        {"method": cfx.sce, "lr": 1.0, "momentum": 0.0},
        {"method": cfx.sce_as_published, "blur_size": 3},
        {"method": cfx.flow_counterfactual, "conditions": [0, 1]},
    ],
    ids=lambda kwargs: kwargs["method"].__name__,
)
def test_diffusion_methods_reach_goals(kwargs):
    space, _, images, _ = gaussian_world(2, 3)
    f, more = world(space, space.sample(torch.arange(50) % 2), 4.0), dict(kwargs)
    cf = more.pop("method")(space, f, images, cfx.raise_by(1.0), **more)
    check(cf, f)


def test_several_counterfactuals_per_image_reach_goals():
    space = LinearSpace()
    f = world(space, space.sample(50, 1), 4.0)
    method = functools.partial(cfx.latent_attack, space)
    found = cfx.diverse_counterfactuals(method, f, space.sample(3, 5), cfx.raise_by(1.0))
    for cf in found:
        check(cf, f)
    assert FLIPPED in found[0].status


def test_a_data_set_is_written_in_shards(tmp_path):
    """Every image has its own bound, also in shards, and a later call asks nothing again."""
    space = LinearSpace()
    images = space.sample(7, 5)
    f, goal = cfx.BlackBox(world(space, space.sample(50, 1), 4.0)), cfx.lower_by(2.0)
    folders = {"output_dir": tmp_path / "results", "checkpoint_dir": tmp_path / "answers"}
    found = cfx.query_attack(space, f, images, goal, batch_size=3, **folders)
    whole = cfx.query_attack(space, f, images, goal)
    torch.testing.assert_close(found[0:7].image, whole.image)
    assert found[0:7].status == whole.status
    assert len(list((tmp_path / "answers").iterdir())) == 3
