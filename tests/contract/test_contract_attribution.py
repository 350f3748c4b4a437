"""Attributions keep the contract of all methods: batches, traces, results as values."""

import dataclasses

import numpy as np
import pytest
import torch
from test_contract_trace import state, unusual
from worlds import WORLDS, Faulty

import cfxnb as cfx
from cfxnb.attribution.captum_attribution import captum_attribution
from cfxnb.attribution.integrated_gradients import integrated_gradients
from cfxnb.attribution.latent_integrated_gradients import latent_integrated_gradients
from cfxnb.attribution.paths import straight_path
from cfxnb.attribution.result import ATTRIBUTION_STATUSES, Attribution
from cfxnb.plots.attribution import heat_maps


def seen_class(f, x):
    module = f.module
    with torch.no_grad(), cfx.core.modules.eval_frozen(module):
        return f(x).argmax(1)


def latent(method):
    def run(space, f, x, label, **kwargs):
        direction = torch.tensor([1.0, -0.5, 0.7, 0.2])
        kwargs = {"max_step": 4.0, "threshold": 0.3, "n_points": 5, "tolerance": 0.003} | kwargs
        return latent_integrated_gradients(space, f, x, direction, label, method=method, **kwargs)

    return run


def straight(method):
    def run(space, f, x, label, **kwargs):
        return integrated_gradients(f, straight_path(x, 0.3), label, method=method, **kwargs)

    return run


def captum(algorithm):
    return lambda s, f, x, label, **kwargs: captum_attribution(
        algorithm, f, x, label, window=3, **kwargs
    )


METHODS = {
    "latent trapezoid": latent("trapezoid"),
    "latent proportional": latent("proportional"),
    "trapezoid": straight("trapezoid"),
    "gausslegendre": straight("gausslegendre"),
    "proportional": straight("proportional"),
    "input_x_gradient": captum("input_x_gradient"),
    "captum": captum("integrated_gradients"),
    "occlusion": captum("occlusion"),
}
each = pytest.mark.parametrize("method", METHODS)


def same(a, b):
    for field in ("image", "baseline"):
        torch.testing.assert_close(getattr(a, field), getattr(b, field), rtol=0, atol=1e-5)
    for field in (
        "attributions",
        "output_change",
    ):  # of log odds up to 40, summed in an order that batches change
        torch.testing.assert_close(getattr(a, field), getattr(b, field), rtol=0, atol=5e-5)
    assert a.status == b.status
    assert torch.equal(a.n_points, b.n_points)
    assert torch.equal(a.n_queries, b.n_queries)
    if a.baseline_step is not None:
        torch.testing.assert_close(a.baseline_step, b.baseline_step)


@each
def test_batch_mates_never_matter(world, method):
    space, f, x = world
    label, run = seen_class(f, x), METHODS[method]
    whole = run(space, f, x, label)
    assert len(whole) == 7
    for batch in (1, 3, 500):
        same(run(space, f, x, label, batch_size=batch), whole)
    order = [6, 2, 0, 5, 1, 4, 3]
    same(run(space, f, x[order], label[order]), whole[order])
    same(run(space, f, x[4:5], label[4:5]), whole[4])


@each
def test_no_trace(world, method):
    space, f, x = world
    label, run = seen_class(f, x), METHODS[method]
    clean = run(space, f, x, label)
    unusual(space, f)
    before = state(space, f.module)
    again = run(space, f, x, label)
    assert state(space, f.module) == before
    assert torch.equal(again.attributions, clean.attributions)
    assert not again.attributions.requires_grad


@each
@pytest.mark.parametrize("fatal", [1, 2, 3])
def test_no_trace_after_an_exception(method, fatal):
    space, f, x = WORLDS["vae, three classes"]()
    label = seen_class(f, x)
    broken = cfx.wrap(Faulty(f.module, fatal))
    unusual(space, broken)
    before = state(space, broken.module)
    with pytest.raises(OSError, match="the net is gone"):
        METHODS[method](space, broken, x, label, batch_size=4)
    assert state(space, broken.module) == before


@each
def test_every_image_asked_is_counted(world, method):
    space, f, x = world
    asked = []

    def counting(images):
        asked.append(len(images))
        return f(images)

    found = METHODS[method](space, counting, x, seen_class(f, x))
    # A second look, at one image at a time, is no cost.
    assert 0 <= sum(asked) - int(found.n_queries.sum()) <= 3


@each
def test_result_is_what_it_says(world, method):
    space, f, x = world
    label = seen_class(f, x)
    found = METHODS[method](space, f, x, label)
    with torch.no_grad():
        f_at = []
        for images in (found.image, found.baseline):
            logits = f(images)
            own = logits.gather(1, label[:, None])[:, 0]
            other = (
                0
                if found.contrast_class is None
                else logits.gather(1, found.contrast_class[:, None])[:, 0]
            )
            f_at.append(own - other)
    torch.testing.assert_close(found.output_change, f_at[0] - f_at[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.heat_map, found.attributions.sum(1))
    total = found.attributions.sum((1, 2, 3))
    expected = (total - found.output_change) / found.output_change.abs()
    torch.testing.assert_close(found.relative_delta, expected, rtol=1e-2, atol=1e-3)
    assert torch.equal(found.label, label)
    assert set(found.status) <= set(ATTRIBUTION_STATUSES)
    assert torch.equal(found.image, x)
    assert (found.contrast_class is None) == (f(x).shape[1] > 2)


@pytest.fixture
def maps():
    space, f, x = WORLDS["vae, three classes"]()
    return latent("trapezoid")(space, f, x, seen_class(f, x), contrast_class=None)


def test_rows(maps):
    assert len(maps) == 7
    for rows in ([2, 0], slice(1, 6, 2), np.array([True] * 6 + [False]), torch.tensor([-1])):
        part = maps[rows]
        index = torch.arange(7)[rows if not isinstance(rows, np.ndarray) else rows.tolist()]
        assert torch.equal(part.attributions, maps.attributions[index])
        assert torch.equal(part.baseline_step, maps.baseline_step[index])
        assert torch.equal(part.n_queries, maps.n_queries[index])
        assert part.status == tuple(maps.status[i] for i in index)
    assert len(maps[3]) == 1


def test_joined(maps):
    again = Attribution.concatenate([maps[:3], maps[3:]])
    same(again, maps)
    assert again.made_by == maps.made_by


def test_frozen(maps):
    with pytest.raises(dataclasses.FrozenInstanceError):
        maps.status = ()


def test_shows_itself(maps):
    shown = maps._repr_html_()
    assert shown.count("<img alt=") == 1
    assert "7 by latent_integrated_gradients" in shown
    named = heat_maps(maps, class_names=["cat", "dog", "owl"], max_images=2)
    labels = [["cat", "dog", "owl"][c] for c in maps.label.tolist()]
    assert f"{labels[0]} ({maps.status[0].replace('_', ' ')}" in named.alt
    assert named.alt.count("delta") == 2
    assert "0 by" not in heat_maps(maps[:0]).alt
    assert maps[:0]._repr_html_().startswith("<p>Attribution(0 by")


def test_record(maps):
    record = maps.made_by
    assert record["function"] == "latent_integrated_gradients"
    assert record["n_points"] == 5
    assert record["weights"]["space"]
    assert record["seconds"] >= 0
