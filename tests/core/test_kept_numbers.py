"""What kept work is recognised by: digests, sketches, and when two answers are the same."""

import pytest
import torch

from cfxnb.core.kept_work import SUMS, TOLERANCE, differ, digest, sketch


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_digests_tell_types_and_places_apart():
    values = [1, 1.0, True, "1", None, [1], [[1]], {"a": 1}, {"b": 1}, [1, 1], [], {}, "", ["", ""]]
    values += [torch.ones(1), torch.ones(1).double(), torch.ones(1, 1), torch.ones(1).int()]
    values += [torch.ones(()), torch.ones(1).bfloat16(), torch.zeros(0), torch.zeros(0, 1)]
    assert len({digest(value) for value in values}) == len(values)
    assert digest([1, 2], 3) != digest([1], [2, 3])
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest((1, 2)) == digest([1, 2])  # as JSON has it
    turned = normal(3, 4).T
    assert digest(turned) == digest(turned.contiguous()) != digest(normal(3, 4))


@pytest.mark.parametrize("size", [1, 15, 16, 17, 1000])
def test_sketches_lie_as_far_apart_as_the_rows(size):
    """On the average over many rows: the root of the mean squared difference."""
    a, b = normal(400, size), normal(400, size, seed=1)
    far = (sketch(a) - sketch(b)).square().sum(1)
    assert sketch(a).shape == (400, SUMS)
    torch.testing.assert_close(far.mean(), (a - b).square().mean(), rtol=0.1, atol=0)
    change = torch.zeros_like(a)
    change[:, size // 2] = 0.01  # in one number alone
    torch.testing.assert_close(
        (sketch(a + change) - sketch(a)).norm(dim=1),
        torch.full((400,), 0.01 / size**0.5),
        rtol=0.02,
        atol=0,
    )


def test_a_sketch_of_nothing():
    assert torch.equal(sketch(torch.zeros(2, 0)), torch.zeros(2, SUMS))


def test_when_answers_differ():
    kept = normal(50, 3)
    for scale in (1e-6, 1.0, 1e6):
        for shift in (0.0, 10.0):
            old = scale * (kept + shift)
            assert not differ(old + 0.3 * TOLERANCE * scale, old)
            assert differ(old + 3 * TOLERANCE * scale, old)
    one = kept.clone()
    one[7, 1] += 0.01
    assert differ(one, kept)
    one[7, 1] = torch.nan
    assert differ(one, kept)
    assert differ(kept[:, :2], kept)
    assert not differ(kept[:1], kept[:1])
    assert differ(kept[:1] * 1.01, kept[:1])
    # Answers that are all the same may differ by rounding alone.
    assert not differ(torch.full((5, 1), 3.00001), torch.full((5, 1), 3.0))
    assert differ(torch.full((5, 1), 3.001), torch.full((5, 1), 3.0))
    assert not differ(torch.zeros(5, 1), torch.zeros(5, 1))
    assert differ(torch.full((5, 1), 1e-9), torch.zeros(5, 1))
