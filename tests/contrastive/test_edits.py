"""Linear edits by closed form: where they end, what they hold, what they leave alone."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Generator, nn

import cfxnb as cfx
from cfxnb.contrastive.attribute_edits import AttributeEdits
from cfxnb.contrastive.linear_steps import LinearSteps, fit_linear_steps


class Stacked(nn.Module):
    """Codes of any shape and size, with a rest; images are all of the code, flat."""

    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def encode(self, images):
        z = 20 * (images.flatten(1) - 0.5)
        return cfx.Code(z.view(-1, *self.mean.shape), torch.arange(float(len(z))))

    def decode(self, code):
        return (0.5 + code.z.flatten(1) / 20)[:, None, None, :]


def stacked(shape=(5,)):
    size = torch.Size(shape).numel()
    return Stacked(
        torch.linspace(-0.5, 0.5, size).view(shape), torch.linspace(0.5, 1.5, size).view(shape)
    )


def world(space, count=400, seed=0):
    """Three attributes along oblique directions of the code: correlated, as real ones are."""
    noise = torch.randn(count, *space.mean.shape, generator=Generator().manual_seed(seed))
    images = space.decode(cfx.Code(space.mean + space.std * noise))
    u = noise.flatten(1)
    read = {
        "a": u[:, 0] + 0.5 * u[:, 1],
        "b": u[:, 1] + 0.3 * u[:, 2],
        "c": u[:, 2] - 0.4 * u[:, 0],
    }
    factors = pd.DataFrame({n: np.where(v > 0.2, "yes", "no") for n, v in read.items()})
    return images, factors


def units(space, code):
    return ((code.z - space.mean) / space.std).flatten(1)


@pytest.mark.parametrize("preserve_others", [True, False])
@pytest.mark.parametrize("value", ["no", "yes"])
def test_an_edit_ends_where_codes_with_that_value_lie_on_average(preserve_others, value):
    space = stacked()
    images, factors = world(space)
    edits = cfx.fit_attribute_edits(space, images, factors, preserve_others=preserve_others)
    code = space.encode(images)
    for j, name in enumerate("abc"):
        normal = edits.step_model.normals[j]
        assert normal.norm() == pytest.approx(1, abs=1e-5)
        had = torch.tensor((factors[name] == value).to_numpy())
        goal = (units(space, code) @ normal)[had].mean()
        after = units(space, edits.edit(code, name, value)) @ normal
        torch.testing.assert_close(after, goal.expand(len(after)), rtol=0, atol=1e-4)
    assert edits.contrasts == dict.fromkeys("abc", ("no", "yes"))


def test_held_attributes_are_read_as_before():
    """Keep: what each regression says of the others does not move. Free: it does."""
    space = stacked()
    images, factors = world(space)
    free = cfx.fit_attribute_edits(space, images, factors, preserve_others=False)
    keep = cfx.fit_attribute_edits(space, images, factors, preserve_others=True)
    alone = [cfx.fit_attribute_edits(space, images, factors[[n]]) for n in "abc"]
    normals = torch.cat([edits.step_model.normals for edits in alone])  # with nothing to hold
    code = space.encode(images)
    for j, name in enumerate("abc"):
        others = [i for i in range(3) if i != j]
        moved = {}
        for kind, edits in ((False, free), (True, keep)):
            change = units(space, edits.edit(code, name, "yes")) - units(space, code)
            moved[kind] = (change @ normals[others].T).abs().amax()
            assert (change @ normals[j]).abs().amax() > 0.5, "the edited one does move"
        assert moved[True] < 1e-4
        assert moved[False] > 0.1


def test_a_regression_alone_is_held_by_nothing():
    space = stacked()
    images, factors = world(space)
    free, keep = (
        cfx.fit_attribute_edits(space, images, factors[["a"]], preserve_others=o)
        for o in (False, True)
    )
    assert torch.equal(free.step_model.normals, keep.step_model.normals)


def test_the_normal_is_that_of_the_regression():
    """Of two classes that differ in their mean alone, the normal is along the difference."""
    mean = torch.tensor([1.0, -2.0, 0.0, 0.5])
    label = torch.arange(4000) % 2
    u = torch.randn(4000, 4, generator=Generator().manual_seed(1)) + label[:, None] * mean
    factors = pd.DataFrame({"x": label.numpy()})
    steps = fit_linear_steps(u, factors, {"x": (0, 1)}, False, 1.0)
    assert torch.cosine_similarity(steps.normals[0], mean, 0) > 0.99
    torch.testing.assert_close(
        steps.goals[0, 1] - steps.goals[0, 0], mean.norm(), rtol=0.05, atol=0
    )
    turned = fit_linear_steps(u, factors, {"x": (1, 0)}, False, 1.0)
    torch.testing.assert_close(turned.normals, -steps.normals)


def test_dead_coordinates_are_not_moved():
    """Of no spread, or next to none: nothing is read there, and nothing written."""
    space = stacked((6,))
    space.std[3], space.std[5] = 0.0, 1e-3
    noise = torch.randn(300, 6, generator=Generator().manual_seed(0))
    images = space.decode(cfx.Code(space.mean + space.std * noise))
    # Without the dead ones, the last coordinate alone would tell.
    factors = pd.DataFrame({"x": (noise[:, 5] + 0.5 * noise[:, 0] > 0).numpy()})
    code = space.encode(images)
    edits = cfx.fit_attribute_edits(space, images, factors)
    change = edits.edit(code, "x", True).z - code.z
    assert change[:, [3, 5]].abs().max() == 0
    assert change[:, 0].abs().min() > 0


class Everywhere(nn.Module):
    def forward(self, u, target):
        assert (u[:, 2] == 0).all(), "a dead coordinate says nothing"
        return torch.ones_like(u)


def test_a_careless_network_cannot_move_dead_coordinates_either():
    std = torch.tensor([1.0, 0.5, 0.01])  # the last one is dead: under 2 % of the first
    edits = AttributeEdits({"x": (0, 1)}, Everywhere(), torch.zeros(3), std, True)
    z = torch.randn(4, 3)
    assert torch.equal(edits.edit(cfx.Code(z), "x", 1).z, z + torch.tensor([1.0, 0.5, 0.0]))


def test_codes_may_have_any_shape_and_a_rest():
    """(b, c, h, w): the same edit as of the flat code, and the rest is left alone."""
    flat, deep = stacked((12,)), stacked((3, 2, 2))
    images, factors = world(flat, 200)
    a, b = (cfx.fit_attribute_edits(s, images, factors) for s in (flat, deep))
    code = deep.encode(images)
    edited = b.edit(code, "b", "no")
    assert edited.z.shape == (200, 3, 2, 2)
    assert edited.aux is code.aux
    torch.testing.assert_close(edited.z.flatten(1), a.edit(flat.encode(images), "b", "no").z)


def forms(values):
    yield from (values, tuple(values), np.array(values), pd.Series(values), pd.Index(values))
    yield pd.Series(values, index=range(len(values), 0, -1))
    yield torch.tensor(values)


def test_one_value_or_one_a_row():
    normals = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    steps = LinearSteps(normals, torch.tensor([[-1.0, 1.0], [-2.0, 2.0]]))
    place = torch.zeros(2), torch.ones(2)
    edits = AttributeEdits({"x": (0, 1), "y": (0, 1)}, steps, *place, False)
    code = cfx.Code(torch.randn(3, 2))
    up, down = (edits.edit(code, "x", v).z for v in (1, 0))
    torch.testing.assert_close(up @ normals[0], torch.ones(3))
    torch.testing.assert_close(down @ normals[0], -torch.ones(3))
    for values in forms([1, 0, 1]):
        mixed = edits.edit(code, "x", values).z
        assert torch.equal(mixed, torch.stack([up[0], down[1], up[2]])), type(values)
    assert torch.equal(edits.edit(code, "x", np.int64(1)).z, up)
    assert torch.equal(edits.edit(code, "x", torch.tensor(1)).z, up)
    again = edits.edit(cfx.Code(up), "x", 1).z
    torch.testing.assert_close(again, up)
    assert edits.edit(code[:0], "x", 1).z.shape == (0, 2)


def test_the_default_contrast_is_the_two_values_in_order():
    space = stacked()
    images, factors = world(space, 60)
    mixed = [2 if v == "yes" else 10 for v in factors["a"]]
    columns = {"n": mixed, "t": [v == 2 for v in mixed], "m": ["x" if v == 2 else 1 for v in mixed]}
    for name, expected in (("n", {2, 10}), ("t", {False, True}), ("m", {"x", 1})):
        table = pd.DataFrame({name: columns[name]})
        pair = cfx.fit_attribute_edits(space, images, table).contrasts[name]
        assert set(pair) == expected
        if name != "m":  # text beside a number has no order
            assert pair[0] < pair[1]


def test_only_rows_with_either_value_are_fitted():
    """Whatever lies far off with a third value, or none, changes nothing."""
    space = stacked()
    images, factors = world(space, 200)
    pair = {"a": ("no", "yes")}
    alone = cfx.fit_attribute_edits(space, images, factors, contrasts=pair)
    others = pd.concat([factors, pd.DataFrame({"a": ["maybe", math.nan] * 20})], ignore_index=True)
    more = torch.cat([images, images[:40].flip(-1)])
    both = cfx.fit_attribute_edits(space, more, others, contrasts=pair)
    torch.testing.assert_close(both.step_model.normals, alone.step_model.normals)
    torch.testing.assert_close(both.step_model.goals, alone.step_model.goals)
