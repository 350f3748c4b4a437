"""A training goes on where it was, and is never taken for another one."""

import pytest
import torch
from kept_scenes import OPTIONS, SPACE, Reading, edits, read_by, training
from torch import nn
from worlds import LinearSpace

import cfxnb as cfx
from cfxnb.core import training as engine
from cfxnb.train import chest

IMAGES = SPACE.sample(60, 1)
FACTORS = read_by().read(IMAGES)


class Drawing:
    """The space, drawing or encoding otherwise without other weights."""

    def __init__(self, bright=0.0, offset=0.0, only=slice(None)):
        self.mean, self.std = SPACE.mean, SPACE.std
        self.bright, self.offset, self.only = bright, offset, only

    def encode(self, images):
        z = SPACE.encode(images).z
        z[self.only] += self.offset
        return cfx.Code(z)

    def decode(self, code):
        return SPACE.decode(code) + self.bright


def one_changed(table):
    table = table.copy()
    table.loc[7, "a"] = {"n": "y", "y": "n"}[table.loc[7, "a"]]
    return table


def one_pixel(images):
    images = images.clone()
    images[5, 0, 1, 1] += 0.01
    return images


ANOTHER = {
    "images": {"images": SPACE.sample(60, 2)},
    "one pixel": {"images": one_pixel(IMAGES)},
    "images in another order": {"images": IMAGES.flip(0)},
    "one factor of one image": {"factors": one_changed(FACTORS)},
    "factors in another order": {"factors": FACTORS.iloc[::-1].reset_index(drop=True)},
    "contrasts": {"contrasts": {"a": ("n", "y")}},
    "contrasts turned round": {"contrasts": {"a": ("y", "n"), "b": ("n", "y")}},
    "contrasts in another order": {"contrasts": {"b": ("n", "y"), "a": ("n", "y")}},
    "weights of the reader": {"reader": read_by(lean=0.4)},
    "a reader's use of its weights": {"reader": read_by(gain=1.05)},
    "options in another order": {
        "reader": cfx.FactorReader(Reading().eval(), OPTIONS | {"a": ("y", "n")})
    },
    "preserve_others": {"preserve_others": False},
    "l2_penalty": {"l2_penalty": 2.0},
    "linear_init": {"linear_init": False},
    "hidden_dim": {"hidden_dim": 9},
    "steps": {"steps": 11},
    "batch_size": {"batch_size": 15},
    "lr": {"lr": 2e-3},
    "length_weight": {"length_weight": 0.06},
    "code_noise": {"code_noise": 0.2},
    "seed": {"seed": 1},
    "weights of the space": {"space": LinearSpace(4, seed=1)},
    "a space that draws otherwise": {"space": Drawing(bright=0.01)},
    "a space that encodes otherwise": {"space": Drawing(offset=0.05)},
    "a space that encodes one image otherwise": {"space": Drawing(offset=0.05, only=31)},
}
#: What no argument tells apart, but the answers do.
REFUSED = {
    "a reader's use of its weights": "reader",
    "a space that draws otherwise": "space",
    "a space that encodes otherwise": "space",
    "a space that encodes one image otherwise": "space",
}


@pytest.mark.parametrize("other", ANOTHER)
def test_other_edits_are_learnt_anew_or_refused(tmp_path, other):
    """Also when the first ones are finished; and those are still found."""
    first = {"space": Drawing()} if "a space that" in other else {}
    weights = edits(checkpoint_dir=tmp_path, **first)
    if other in REFUSED:
        with pytest.raises(ValueError, match=f"{REFUSED[other]}: .*when the folder .* was begun"):
            edits(checkpoint_dir=tmp_path, **first | ANOTHER[other])
    else:
        found = edits(checkpoint_dir=tmp_path, **first | ANOTHER[other])
        assert torch.equal(found, edits(**first | ANOTHER[other]))
        assert not torch.equal(found, weights)
    assert torch.equal(edits(checkpoint_dir=tmp_path, **first), weights)


@pytest.mark.parametrize("change", ["seed", "lr", "steps", "batch_size", "ema"])
def test_another_number_is_refused(tmp_path, change):
    weights = training(tmp_path, 0.0)
    other = {"seed": 4, "lr": 0.02, "steps": 80, "batch_size": 8, "ema": 0.9}[change]
    with pytest.raises(ValueError, match=rf"checkpoint_dir: expected .* another {change} \("):
        training(tmp_path, 0.0, **{change: other})
    assert torch.equal(training(tmp_path, 0.0), weights)


def net(seed=0, kind=nn.ReLU):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 8), kind(), nn.Dropout(0.5), nn.Linear(8, 2))


class Twice(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


def squared(power=2.0, weight=1.0):
    def loss(model, rows, _):
        return weight * (model(rows[0]) - rows[1]).abs().pow(power).mean()

    return loss


def other_loss(model, rows, _):
    return squared()(model, rows, _)


DATA = torch.randn(64, 5, generator=torch.Generator().manual_seed(0)), torch.ones(64, 2)


def one_row(data):
    first = data[0].clone()
    first[40] += 1e-4
    return first, data[1]


OTHER_PARTS = {
    "initial weights": (net(1), squared(), DATA, "model"),
    "another activation": (net(0, nn.Tanh), squared(), DATA, "loss"),
    "a net of another kind": (Twice(*net()), squared(), DATA, "model"),
    "a layer more": (nn.Sequential(*net(), nn.Linear(2, 2)), squared(), DATA, "model"),
    "another loss": (net(), other_loss, DATA, "loss"),
    "another number in the loss": (net(), squared(3.0), DATA, "loss"),
    "a heavier loss": (net(), squared(2.0, 1.1), DATA, "loss"),
    "one row of the data": (net(), squared(), one_row(DATA), "data"),
    "more data": (net(), squared(), tuple(torch.cat([d, d]) for d in DATA), "data"),
    "other labels": (net(), squared(), (DATA[0], -DATA[1]), "data"),
}


def fitted(folder, model, loss, data):
    knobs = {"steps": 5, "batch_size": 16, "lr": 0.01}
    return engine.fit(model, loss, data, checkpoint_dir=folder, **knobs)[0].weight.detach()


@pytest.mark.parametrize("part", OTHER_PARTS)
def test_another_part_is_refused(tmp_path, part):
    model, loss, data, name = OTHER_PARTS[part]
    weights = fitted(tmp_path, net(), squared(), DATA)
    with pytest.raises(ValueError, match=rf"_dir: expected .*\b{name}\b|{name}: expected"):
        fitted(tmp_path, model, loss, data)
    assert torch.equal(fitted(tmp_path, net(), squared(), DATA), weights)


def test_global_random_numbers_are_as_before(tmp_path):
    """Looking at the first loss draws nothing that a training without a folder doesn't draw."""
    after = []
    for folder in (None, tmp_path):
        torch.manual_seed(5)
        fitted(folder, net(), squared(), DATA)
        after.append(torch.rand(3))
    assert torch.equal(*after)


def test_another_recipe_is_refused(tmp_path):
    net = chest.classifier(tmp_path, steps=1)
    with pytest.raises(ValueError, match=r"checkpoint_dir: expected .* another .*loss"):
        chest.judge(tmp_path, steps=1)
    again = chest.classifier(tmp_path, steps=1)
    for a, b in zip(net.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(a, b)
