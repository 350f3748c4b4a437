"""Learnt edits in a linear space with a linear reader, where good edits are known to exist."""

import numpy as np
import pytest
import torch
from torch import nn
from worlds import LinearSpace

import cfxnb as cfx
from cfxnb.core import training as engine

OPTIONS = {"a": ("n", "y"), "b": ("n", "y"), "c": ("x", "y", "z")}
LONG = {"hidden_dim": 32, "steps": 250, "lr": 5e-3}
SHORT = {"hidden_dim": 8, "steps": 30}
SPACE = LinearSpace()


class Reading(nn.Module):
    """Two oblique bits and one of three, linear in the code; dropout unless in evaluation mode."""

    def __init__(self):
        super().__init__()
        mix = [[-1, -0.5, 0, 0], [1, 0.5, 0, 0], [-0.5, -1, 0, 0], [0.5, 1, 0, 0]]
        mix += [[0, 0, 2, 0], [0, 0, -1, 1.5], [0, 0, -1, -1.5]]
        self.mix = nn.Parameter(4 * torch.tensor(mix))
        self.drop = nn.Dropout(0.5)

    def forward(self, images):
        return self.drop(SPACE.encode(images).z @ self.mix.T)


def make_reader():
    return cfx.FactorReader(Reading().eval(), OPTIONS)


@pytest.fixture(scope="module")
def world():
    reader, images = make_reader(), SPACE.sample(200, 1)
    return images, reader.read(images)


@pytest.fixture(scope="module")
def learnt(world):
    images, factors = world
    contrasts = {"a": ("n", "y"), "b": ("n", "y")}
    return {
        others: cfx.fit_attribute_edits(
            SPACE,
            images,
            factors,
            contrasts=contrasts,
            reader=make_reader(),
            preserve_others=others,
            **LONG,
        )
        for others in (True, False)
    }


def outcome(edits):
    """Share of edits of new images that took effect, and that changed another factor."""
    reader, code = make_reader(), SPACE.encode(SPACE.sample(300, 9))
    before, took, leaked = reader.read(SPACE.decode(code)), [], []
    for name in ("a", "b"):
        wanted = np.where(before[name] == "y", "n", "y")
        after = reader.read(SPACE.decode(edits.edit(code, name, wanted)))
        took.append((after[name] == wanted).mean())
        others = [n for n in OPTIONS if n != name]
        leaked.append((after[others] != before[others]).any(axis=1).mean())
    return min(took), max(leaked)


def test_learnt_edits_take_effect_and_keep_what_they_are_asked_to(learnt):
    for others, edits in learnt.items():
        took, leaked = outcome(edits)
        assert took > 0.95, others
        assert (leaked < 0.15) if others else (leaked > 0.5), leaked
        assert edits.preserve_others is others


def test_steps_depend_on_the_code_and_end_within_reach(learnt):
    """Not one vector for all, and not as far as it goes: the length is penalised."""
    code = SPACE.encode(SPACE.sample(100, 4))
    step = learnt[True].edit(code, "a", "y").z - code.z
    assert step.std(0).max() > 0.1
    assert step.norm(dim=1).max() < 6


def test_a_heavier_price_makes_shorter_steps(world):
    images, factors = world
    kwargs = {"contrasts": {"a": ("n", "y")}, "reader": make_reader(), "linear_init": False, **LONG}
    code, lengths = SPACE.encode(images), []
    for price in (0.05, 3.0):
        edits = cfx.fit_attribute_edits(SPACE, images, factors, length_weight=price, **kwargs)
        lengths.append((edits.edit(code, "a", "y").z - code.z).norm(dim=1).mean())
    assert lengths[1] < 0.5 * lengths[0]


def short(world, **kwargs):
    images, factors = world
    kwargs = {"contrasts": {"a": ("n", "y")}, "reader": make_reader(), **SHORT, **kwargs}
    return cfx.fit_attribute_edits(SPACE, images, factors, **kwargs)


def weights(edits):
    return torch.cat([p.flatten() for p in edits.step_model.parameters()])


def test_the_seed_decides(world):
    first = weights(short(world, seed=1))
    torch.rand(3)
    assert torch.equal(first, weights(short(world, seed=1)))
    assert not torch.equal(first, weights(short(world, seed=2)))


def test_training_leaves_no_trace(world):
    space, reader = LinearSpace(), make_reader()
    space.register_parameter("spare", nn.Parameter(torch.zeros(1)))
    space.train()
    reader.module.train()
    before, random = reader.module.mix.detach().clone(), torch.get_rng_state()
    images, factors = world
    pair = {"b": ("n", "y")}
    edits = cfx.fit_attribute_edits(space, images, factors, contrasts=pair, reader=reader, **SHORT)
    assert torch.equal(torch.get_rng_state(), random)
    assert space.training
    assert reader.module.training
    assert reader.module.drop.training
    assert space.spare.requires_grad
    assert reader.module.mix.requires_grad
    assert reader.module.mix.grad is None
    assert torch.equal(reader.module.mix, before)
    assert not edits.step_model.training
    assert not any(p.requires_grad for p in edits.step_model.parameters())
    # Inside, the reader's dropout was off: in evaluation mode the same comes out.
    assert torch.equal(weights(edits), weights(short(world, contrasts=pair)))


class Gone(Exception):
    pass


def test_a_stopped_run_goes_on_as_if_it_had_not_been(world, tmp_path, monkeypatch):
    """Dropout included: a step's random numbers depend on the step, not on when the run began."""
    whole = weights(short(world))
    monkeypatch.setattr(engine, "SAVE_EVERY_SECONDS", -1.0)
    fit, asked = SPACE.decode, []

    def failing(code):
        asked.append(len(code))
        if len(asked) == 20:
            raise Gone
        return fit(code)

    with monkeypatch.context() as patch:
        patch.setattr(SPACE, "decode", failing, raising=True)
        with pytest.raises(Gone):
            short(world, checkpoint_dir=tmp_path)
    (checkpoint,) = tmp_path.rglob("checkpoint.pt")
    reached = torch.load(checkpoint, weights_only=True)["step"]
    assert 10 < reached < 25
    assert torch.equal(weights(short(world, checkpoint_dir=str(tmp_path))), whole)


def test_another_question_in_the_same_folder_is_asked_anew(world, tmp_path):
    """Not answered with the network that is already there."""
    short(world, checkpoint_dir=tmp_path)
    changes = (
        {"preserve_others": False},
        {"contrasts": {"b": ("n", "y")}},
        {"seed": 3},
        {"linear_init": False},
    )
    for change in changes:
        found = weights(short(world, checkpoint_dir=tmp_path, **change))
        assert torch.equal(found, weights(short(world, **change))), change


def test_a_network_begins_at_the_linear_edits_or_at_nothing(world):
    """Untrained, its edits are the linear ones of the same images, or change nothing at all."""
    images, factors = world
    code = SPACE.encode(images)
    for others in (True, False):
        kwargs = {"contrasts": dict.fromkeys("ab", ("n", "y")), "preserve_others": others}
        linear = cfx.fit_attribute_edits(SPACE, images, factors, **kwargs)
        wanted = linear.edit(code, "b", "y").z
        for linear_init, expected in ((True, wanted), (False, code.z)):
            edits = short(world, **kwargs, linear_init=linear_init, steps=1, lr=1e-9)
            torch.testing.assert_close(
                edits.edit(code, "b", "y").z,
                expected,
                rtol=0,
                atol=1e-4,
                msg=f"{others}, {linear_init}",
            )


def test_options_in_any_order_and_any_two_of_three(world):
    """The contrast is by name: which logits it means is the reader's business."""
    edits = short(world, contrasts={"c": ("z", "x")}, steps=250, hidden_dim=32, lr=5e-3)
    code = SPACE.encode(world[0])
    reader = make_reader()
    for value in ("x", "z"):
        read = reader.read(SPACE.decode(edits.edit(code, "c", value)))
        assert (read["c"] == value).mean() > 0.95
