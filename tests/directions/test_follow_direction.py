"""One direction, walked to the first flip: worlds in which that place is known."""

import math
from functools import partial

import pytest
import torch
from worlds import LinearSpace, code_classifier, vae_world

import cfxnb as cfx
from cfxnb.core.types import ALREADY_TARGET, FLIPPED, NOT_FOUND, RECONSTRUCTION_IS_TARGET

SPREAD = torch.tensor([0.5, 1.0, 2.0, 1.5])
SPACE = LinearSpace(4, std=SPREAD)
W = torch.tensor([1.0, -2.0, 0.5, 0.3])
F = code_classifier(SPACE, W[None])
X = SPACE.sample(30, 5)

#: To the boundary, whose place is known.
follow = partial(cfx.follow_direction, confidence=0.0)
D = torch.tensor([0.3, -0.8, 0.4, 0.1])


def exact(images=X, direction=D):
    """Signed spreads along the direction to the boundary W z = 0."""
    step = direction / (direction / SPREAD).norm()
    return -(SPACE.encode(images).z @ W) / (step @ W)


def baseline_step(found, direction=D):
    """Signed spreads that were gone; nothing else has changed."""
    step = direction / (direction / SPREAD).norm()
    change = found.code_after.z - found.code_before.z
    length = (change / SPREAD) @ (step / SPREAD)
    torch.testing.assert_close(change, length[:, None] * step, rtol=0, atol=1e-5)
    return length


@pytest.mark.parametrize(("grid_steps", "binary_search_steps"), [(8, 4), (1, 0), (3, 10), (5, 1)])
def test_smallest_step(grid_steps, binary_search_steps):
    max_step = 4.0
    found = follow(
        SPACE,
        F,
        X,
        D,
        max_step=max_step,
        grid_steps=grid_steps,
        binary_search_steps=binary_search_steps,
    )
    truth, gone = exact(), baseline_step(found)
    near = truth.abs() < max_step
    assert near.any()
    assert torch.equal(found.flipped, near)
    over = gone.abs() - truth.abs()
    assert (over[near] >= -1e-4).all()
    assert (over[near] <= max_step / grid_steps / 2**binary_search_steps + 1e-4).all()
    assert torch.equal(gone[near].sign(), truth[near].sign())
    assert not gone[~near].any()  # what is not found returns the original code
    assert {s for s, n in zip(found.status, near, strict=True) if not n} <= {NOT_FOUND}


def test_default_reach_is_half_the_distance_between_two_codes():
    found = follow(SPACE, F, X, D)
    assert found.made_by["max_step"] == math.sqrt(8) / 2


@pytest.mark.parametrize("factor", [-1.0, 1e-3, -1e4])
def test_neither_sign_nor_length_matter(factor):
    a, b = follow(SPACE, F, X, D), follow(SPACE, F, X, factor * D)
    assert a.status == b.status
    torch.testing.assert_close(a.code_after.z, b.code_after.z, rtol=0, atol=1e-4)


def test_sign_does_not_matter_where_both_senses_look_alike():
    """A box that says nothing but its decision: flips on either side of a strip."""

    def strip(images):
        return cfx.two_logits((SPACE.encode(images).z[:, 0].abs() > 1).float() * 2 - 1)

    x = SPACE.decode(cfx.Code(torch.tensor([[0.1, 0.0, 0.0, 0.0], [-0.2, 0.0, 0.0, 0.0]])))
    axis = torch.tensor([1.0, 0.0, 0.0, 0.0])
    a, b = (follow(SPACE, strip, x, s * axis, 1, max_step=4.0) for s in (1, -1))
    assert a.flipped.all()
    assert torch.equal(a.code_after.z, b.code_after.z)


def test_the_other_sense_is_walked_where_the_better_one_fails():
    """The slope leads the wrong way: there is no class 1 up there, but one far behind."""

    def score(images):
        z = SPACE.encode(images).z[:, 1]
        return cfx.two_logits(torch.where(z < -2.5, 1.0, 0.1 * z.clamp(-1, 1) - 0.5))

    x = SPACE.decode(cfx.Code(torch.zeros(1, 4)))
    axis = torch.tensor([0.0, 1.0, 0.0, 0.0])
    found = follow(SPACE, score, x, axis, max_step=4.0, grid_steps=4, binary_search_steps=12)
    assert found.status == (FLIPPED,)
    torch.testing.assert_close(found.code_after.z[0, 1], torch.tensor(-2.5), rtol=0, atol=2e-3)
    # Reconstruction, both first looks, three more ahead, two behind, halvings, final image.
    assert found.cost["generator"].tolist() == [1 + 2 + 3 + 2 + 12 + 1]
    assert found.cost["classifier"].tolist() == [found.cost["generator"][0] + 1]


def test_one_direction_a_sample():
    each = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
    found = follow(SPACE, F, X, each)
    for i in (0, 7, 29):
        alone = follow(SPACE, F, X[i : i + 1], each[i])
        torch.testing.assert_close(alone.code_after.z[0], found.code_after.z[i], rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:space. it does not know these images")
def test_statuses():
    seen = F(X).argmax(1)
    found = follow(SPACE, F, X, D, 1, max_step=1.0)
    assert all((s == ALREADY_TARGET) == (c == 1) for s, c in zip(found.status, seen, strict=True))
    assert {ALREADY_TARGET, FLIPPED, NOT_FOUND} == set(found.status)
    blind = LinearSpace(4)
    far = torch.tensor([5.0, -5.0, 5.0, 5.0])
    blind.encode = lambda images: cfx.Code(far.repeat(len(images), 1))
    found = follow(blind, F, X[seen == 0], D, 1)
    assert set(found.status) == {RECONSTRUCTION_IS_TARGET}
    assert torch.equal(found.code_after.z, found.code_before.z)
    assert found.cost["generator"].unique().tolist() == [2]


def test_no_target_is_the_other_of_two():
    seen = F(X).argmax(1)
    free, told = (
        follow(SPACE, F, X, D),
        follow(SPACE, F, X, D, 1 - seen),
    )
    assert torch.equal(free.target, 1 - seen)
    assert torch.equal(free.image, told.image)
    three = code_classifier(SPACE, torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match="target: expected a class out of 3, got None"):
        follow(SPACE, three, X, D)
    assert follow(SPACE, three, X, D, 2).flipped.any()


class Restless(LinearSpace):
    """Half of the pixels' own noise is kept beside the code, and decides a little."""

    def encode(self, images):
        inside = super().encode(images)
        rest = images - super().decode(inside)
        return cfx.Code(inside.z, rest)

    def decode(self, code):
        return super().decode(cfx.Code(code.z)) + 0.01 * code.aux.view(-1, *self.shape)


def test_noise_takes_the_place_of_the_rest():
    space = Restless(4, std=SPREAD)
    f = cfx.BlackBox(F)
    own = follow(space, f, X, D)
    runs = [follow(space, f, X, D, noise_seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(runs[0].image, runs[1].image)
    rests = [own.code_before.aux, runs[0].code_before.aux, runs[2].code_before.aux]
    assert (rests[0] - rests[1]).abs().max() > 0.1
    assert (rests[1] - rests[2]).abs().max() > 0.1
    assert not torch.equal(runs[0].image, runs[2].image)
    for run in runs:
        assert torch.equal(run.code_after.aux, run.code_before.aux)
        torch.testing.assert_close(run.reconstruction, space.decode(run.code_before))
        assert abs(run.code_before.aux.std() - 1) < 0.1
    # Noise is bound to the row, whatever the batch; every image asked about is counted.
    f.n_queries = 0
    small = follow(space, f, X, D, noise_seed=1, batch_size=4)
    torch.testing.assert_close(small.image, runs[2].image)
    assert f.n_queries == small.cost["classifier"].sum()
    decoded, plain = [], space.decode
    space.decode = lambda code: decoded.append(len(code)) or plain(code)
    again = follow(space, f, X, D, noise_seed=1)
    # The second look, at one image once or twice, is no cost.
    assert 0 <= sum(decoded) - again.cost["generator"].sum() <= 2


def test_steps_tell_the_truth():
    told = []

    def watch(step):
        p = F(SPACE.decode(cfx.Code(step.code))).softmax(1)
        target = 1 - F(X).argmax(1)[step.rows]
        torch.testing.assert_close(step.probability, p.gather(1, target[:, None])[:, 0])
        assert torch.equal(step.active, step.probability < 0.5)
        told.append((step.number, step.total))

    follow(SPACE, F, X, D, grid_steps=4, max_step=1.0, on_step=watch)
    assert told == [(n, 8) for n in range(1, 9)]


@pytest.mark.parametrize("number", [1, 3, 6])
def test_on_step_stops(number):
    told = []
    found = follow(
        SPACE, F, X, D, grid_steps=4, max_step=1.0,
        on_step=lambda step: told.append(step.number) or step.number == number,
    )  # fmt: skip
    assert told == list(range(1, number + 1))
    truth = exact().abs()
    assert torch.equal(found.flipped, truth < min(number, 4) / 4)
    assert torch.equal(found.flipped, found.logits_after.argmax(1) == found.target)


def test_directions_that_were_found_flip():
    space, f, x = vae_world(2)
    found = cfx.find_directions(space, f, x[0], 1, max_queries=500)
    walk = follow(space, f, x, found.g)
    rest = walk[[s in (FLIPPED, NOT_FOUND) for s in walk.status]]
    assert rest.flipped.any()
    assert torch.equal(rest.flipped, rest.logits_after.argmax(1) == rest.target)


WRONG = ["no bisection", "one sense", "code units", "keeps the near end"]


@pytest.mark.filterwarnings("ignore:classifier. two calls on the same images")
@pytest.mark.parametrize("wrong", WRONG)
def test_planted_errors_are_caught(monkeypatch, wrong):
    if wrong == "no bisection":
        monkeypatch.setattr(module_of().DirectionWalk, "_binary_search", lambda self, steps: None)
    if wrong == "one sense":
        plain = module_of().DirectionWalk._along
        monkeypatch.setattr(
            module_of().DirectionWalk, "_along",
            lambda self, rows, sign, first, done: plain(self, rows, sign.abs(), first, done),
        )  # fmt: skip
    if wrong == "code units":
        monkeypatch.setattr(
            module_of(), "checked_direction", lambda s, d, n: (d / d.norm()).expand(n, *d.shape)
        )
    if wrong == "keeps the near end":
        plain_search = module_of().DirectionWalk._binary_search

        def short(self, steps):
            plain_search(self, steps)
            self.position *= 0.9

        monkeypatch.setattr(module_of().DirectionWalk, "_binary_search", short)
    with pytest.raises(AssertionError):
        test_smallest_step(8, 4)


def module_of():
    import sys

    return sys.modules["cfxnb.directions.follow_direction"]
