"""What every method returns, whatever the space and the classifier."""

import torch
from cases import each_method, each_search
from worlds import other_class

from cfxnb.core.types import ALREADY_TARGET, FLIPPED, NOT_FOUND, RECONSTRUCTION_IS_TARGET, STATUSES


@each_method
def test_shapes_types_and_range(world, method):
    space, f, x = world
    result = method.run(space, f, x, other_class(f, x))
    n, k = len(x), f(x).shape[1]
    assert len(result) == n
    for name in ("original", "image", "reconstruction"):
        images = getattr(result, name)
        assert images.shape == x.shape, name
        assert images.dtype == torch.float32, name
        assert images.min() >= 0, name
        assert images.max() <= 1, name
        assert not images.requires_grad, name
    for logits in (result.logits_before, result.logits_after):
        assert logits.shape == (n, k)
        assert not logits.requires_grad
    assert result.target.shape == (n,)
    assert result.flipped.dtype == torch.bool
    assert len(result.status) == n
    assert set(result.status) <= set(STATUSES)
    assert all(count.shape == (n,) for count in result.cost.values())
    assert {"function", "seconds", "weights"} <= set(result.made_by)


@each_method
def test_fields_are_what_they_say(world, method):
    """Logits belong to images, images to codes: nothing is stale."""
    space, f, x = world
    result = method.run(space, f, x, other_class(f, x))
    with torch.no_grad():
        torch.testing.assert_close(result.logits_before, f(result.original))
        torch.testing.assert_close(result.logits_after, f(result.image), rtol=1e-4, atol=1e-4)
        if method.codes:
            torch.testing.assert_close(result.image, space.decode(result.code_after))
            torch.testing.assert_close(result.reconstruction, space.decode(result.code_before))
            torch.testing.assert_close(result.code_before.z, space.encode(x).z)
    torch.testing.assert_close(result.original, x)
    assert method.codes == (result.code_after is not None)


@each_method
def test_flipped_agrees_with_the_logits(world, method):
    space, f, x = world
    target = other_class(f, x)
    result = method.run(space, f, x, target)
    reached = result.logits_after.argmax(1) == target
    before = result.logits_before.argmax(1) == target
    rebuilt = f(result.reconstruction).argmax(1) == target
    for i, status in enumerate(result.status):
        assert (status == ALREADY_TARGET) == bool(before[i])
        assert (status == RECONSTRUCTION_IS_TARGET) == bool(rebuilt[i] and not before[i])
        if status == FLIPPED:
            assert reached[i]
            assert result.confidence[i] >= (method.confidence or 0) - 1e-4
        if status == NOT_FOUND and method.confidence:
            assert result.confidence[i] < method.confidence + 1e-4
    assert result.flipped.tolist() == [s == FLIPPED for s in result.status]
    assert result.eligible.tolist() == [s != ALREADY_TARGET for s in result.status]


@each_search
def test_searches_do_flip(world, method):
    """Without this the tests above could pass on a method that never does anything."""
    space, f, x = world
    result = method.run(space, f, x, other_class(f, x))
    open_rows = [s in (FLIPPED, NOT_FOUND) for s in result.status]
    assert sum(open_rows) >= 3
    assert result.flipped.sum() >= 0.5 * sum(open_rows)


@each_method
def test_moot_samples_stay_where_they_are(world, method):
    space, f, x = world
    result = method.run(space, f, x, other_class(f, x))
    moot = [s in (ALREADY_TARGET, RECONSTRUCTION_IS_TARGET) for s in result.status]
    assert any(moot)
    if method.name != "random_change":  # its length is taken over, and is 0 for these anyway
        assert torch.equal(result.image[moot], result.reconstruction[moot])
    torch.testing.assert_close(result.image[moot], result.reconstruction[moot])


@each_method
def test_inputs_are_not_touched(world, method):
    space, f, x = world
    target = other_class(f, x)
    kept_x, kept_target = x.clone(), target.clone()
    result = method.run(space, f, x, target)
    result.image.add_(1)  # a result that shares memory with the input would change it
    assert torch.equal(x, kept_x)
    assert torch.equal(target, kept_target)


@each_method
def test_one_target_for_all_is_that_target_for_each(world, method):
    space, f, x = world
    one = method.run(space, f, x, 1)
    each = method.run(space, f, x, torch.ones(len(x), dtype=torch.int64))
    assert torch.equal(one.image, each.image)
    assert one.status == each.status
