"""Batch mates never matter."""

import pytest
import torch
from cases import METHODS, each_method, each_search
from worlds import other_class

from cfxnb.core.types import FLIPPED


def close(a, b):
    assert a.status == b.status
    torch.testing.assert_close(a.image, b.image, rtol=0, atol=1e-4)
    torch.testing.assert_close(a.logits_after, b.logits_after, rtol=1e-3, atol=1e-3)
    if a.code_after is not None:
        torch.testing.assert_close(a.code_after.z, b.code_after.z, rtol=0, atol=1e-4)
    for name in a.cost:
        assert torch.equal(a.cost[name], b.cost[name])


@each_method
@pytest.mark.parametrize("batch_size", [1, 4])
def test_batch_size_changes_nothing(world, method, batch_size):
    space, f, x = world
    target = other_class(f, x)
    close(method.run(space, f, x, target), method.run(space, f, x, target, batch_size=batch_size))


@each_method
def test_alone_as_among_others(world, method):
    space, f, x = world
    target = other_class(f, x)
    many = method.run(space, f, x, target)
    for i in [0] if method.row_bound else [0, 3, 6]:
        close(many[i], method.run(space, f, x[i : i + 1], target[i : i + 1]))


@each_method
def test_another_mate_changes_nothing(world, method):
    """Holds for noise too, which is bound to the row and not to what lies beside it."""
    space, f, x = world
    target = other_class(f, x)
    swapped = x.clone()
    swapped[0] = x[-1].flip(-1)
    close(method.run(space, f, x, target)[1:], method.run(space, f, swapped, target)[1:])


@pytest.mark.parametrize("method", [m for m in METHODS if not m.row_bound], ids=lambda m: m.name)
def test_order_goes_through(world, method):
    space, f, x = world
    target = other_class(f, x)
    order = torch.tensor([4, 0, 2, 6, 1, 3, 5])
    close(method.run(space, f, x, target)[order], method.run(space, f, x[order], target[order]))


@each_method
def test_seed_decides(world, method):
    space, f, x = world
    target = other_class(f, x)
    if not method.seeded:
        pytest.skip("takes no seed")
    first, again, other = (method.run(space, f, x, target, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.image, other.image) != method.row_bound


@each_search
def test_finished_samples_are_frozen(world, method):
    """Who is done leaves the search, and stays where it was however long the others go on."""
    space, f, x = world
    target = other_class(f, x)
    left, seen = {}, []

    def watch(step):
        for row, active in zip(step.rows.tolist(), step.active.tolist(), strict=True):
            assert row not in left, "worked on after it was done"
            if not active:
                left[row] = step.number
        seen.append(step)

    result = method.run(space, f, x, target, on_step=watch)
    winners = [i for i, s in enumerate(result.status) if s == FLIPPED]
    assert set(winners) <= set(left)
    earliest = min(left[i] for i in winners)
    short = method.run(space, f, x, target, on_step=lambda step: step.number == earliest)
    first = [i for i in winners if left[i] == earliest]
    close(short[first], result[first])
    numbers = [s.number for s in seen]
    assert numbers == sorted(set(numbers))
    assert all(s.total % method.looks == 0 for s in seen)
    assert numbers[-1] <= seen[0].total <= 22


@each_search
def test_a_winner_ends_where_it_was_seen_to_pass(world, method):
    """Without a step back the result is the very point that passed, not one step beyond."""
    space, f, x = world
    target = other_class(f, x)
    last = {}

    def watch(step):
        for row, code, active in zip(step.rows.tolist(), step.code, step.active, strict=True):
            if not active and method.settles:
                last[row] = code.clone()

    result = method.run(space, f, x, target, binary_search_steps=0, on_step=watch)
    ends = result.code_after.z if method.codes else result.image
    for row in result.flipped.nonzero()[:, 0].tolist() if method.settles else ():
        torch.testing.assert_close(ends[row], last[row], rtol=0, atol=1e-5)
