"""Stopping, black boxes, and the bill."""

import pytest
import torch
from cases import METHODS, each_method, each_search
from torch import nn
from worlds import linear_world, other_class

import cfxnb as cfx


class Counting(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.rows = inner, 0

    def forward(self, images):
        self.rows += len(images)
        return self.inner(images)


@each_search
def test_true_from_on_step_stops(world, method):
    space, f, x = world
    told = []

    def stop(step):
        told.append(step.number)
        return step.number == 2

    method.run(space, f, x, other_class(f, x), on_step=stop)
    assert told == [1, 2]


@each_search
@pytest.mark.parametrize("answer", [None, False])
def test_anything_else_goes_on(world, method, answer):
    space, f, x = world
    told = []

    def watch(step):
        told.append(step.number)
        return answer

    watched = method.run(space, f, x, other_class(f, x), on_step=watch)
    assert len(told) >= 2
    assert torch.equal(watched.image, method.run(space, f, x, other_class(f, x)).image)


@each_search
def test_steps_tell_the_truth(world, method):
    """Probability and place as told are those of the code that was told."""
    space, f, x = world
    target = other_class(f, x)

    def check(step):
        images = space.decode(cfx.Code(step.code)) if method.codes else step.code
        with torch.no_grad():
            p = f(images).softmax(1).gather(1, target[step.rows][:, None])[:, 0]
        torch.testing.assert_close(step.probability, p, rtol=1e-3, atol=1e-4)
        done = (step.probability >= method.confidence) & method.settles
        last = step.number == step.total  # after the last step nobody moves
        assert torch.equal(step.active, torch.zeros_like(done) if last else ~done)

    method.run(space, f, x, target, on_step=check, batch_size=4)


@each_search
def test_black_box_is_refused(world, method):
    space, f, x = world
    box = cfx.BlackBox(f)
    with pytest.raises(TypeError, match=r"classifier.*BlackBox"):
        method.run(space, box, x, other_class(f, x))
    assert box.n_queries == 0


@each_search
def test_a_classifier_without_gradients_is_refused(world, method):
    space, f, x = world
    with pytest.raises(TypeError, match=r"classifier: expected.*gradients"):
        method.run(space, torch.no_grad()(f.__call__), x, other_class(f, x))


@pytest.mark.parametrize("method", [m for m in METHODS if not m.gradient], ids=lambda m: m.name)
def test_black_box_counts_and_costs_agree(world, method):
    space, f, x = world
    box = cfx.BlackBox(f)
    open_answer = method.run(space, f, x, other_class(f, x))
    result = method.run(space, box, x, other_class(f, x), batch_size=4)
    assert box.n_queries == spent(result)
    torch.testing.assert_close(result.image, open_answer.image)
    assert not box(x).requires_grad
    assert box.n_queries == spent(result) + len(x)


def spent(result):
    """Evaluations of the classifier: those of each image, and those that serve all."""
    return result.cost["classifier"].sum() + result.made_by.get("shared", {}).get("classifier", 0)


@each_method
def test_costs_are_what_was_spent(world, method):
    """Forward passes are counted in the net; a sample that goes on has a backward pass besides.

    Not in the bill: the first image is asked for once more, alone, and once again after some calls,
    to notice random answers.
    """
    if method.name == "random_change":
        pytest.skip("the search it is compared with asks the same net")
    space, f, x = world
    counting, backward = cfx.wrap(Counting(f.module)), []
    decoded = []
    plain = space.decode
    space.decode = lambda code: decoded.append(len(code)) or plain(code)
    target = other_class(f, x)

    def count(step):
        if step.number % method.looks:  # the last look of an attempt asks for no gradient
            backward.append(int(step.active.sum()))

    kwargs = {"on_step": count}
    kwargs = kwargs if method.steps else {}
    result = method.run(space, counting, x, target, **kwargs)
    asked = spent(result) - sum(backward)
    extra = (0,) if method.name == "query_attack" else (1, 2)  # its queries have a budget
    assert counting.module.rows - asked in extra
    if method.codes:
        rendered = result.cost["generator"].sum() - sum(backward)
        assert sum(decoded) - rendered in (0, 1, 2)
    else:
        assert result.cost["generator"].sum() == 0


@each_search
def test_a_flat_classifier_gives_no_gradient(world, method):
    space, _, x = world

    class Flat(nn.Module):
        def forward(self, images):
            return torch.tensor([[2.0, 0.0, 0.0]]) + 0 * images.flatten(1)[:, :3]

    result = method.run(space, cfx.wrap(Flat()), x, 2)
    # The proximity terms have a slope of their own away from the start, the paper's have none.
    if "paper" in method.name or not method.codes:
        assert set(result.status) == {"no_gradient"}
    assert not result.flipped.any()


@each_search
def test_a_classifier_gone_nan_is_data_not_an_exception(world, method):
    space, _, x = world

    class Nan(nn.Module):
        def forward(self, images):
            logits = torch.stack([images.sum((1, 2, 3)), -images.sum((1, 2, 3))], 1)
            return logits if not images.requires_grad else logits * torch.nan

    result = method.run(space, cfx.wrap(Nan()), x, 1)
    assert set(result.status) == {"no_gradient"}
    torch.testing.assert_close(result.image.isfinite().all(), torch.tensor(True))


@each_search
def test_a_low_confidence_still_means_predicted(method):
    """Three classes: p(target) >= 0.2 alone does not make the target the prediction."""
    space, f, x = linear_world(3)
    result = method.run(space, f, x, other_class(f, x), confidence=0.2)
    assert result.flipped.any()
    assert torch.equal(result.logits_after[result.flipped].argmax(1), result.target[result.flipped])


@each_search
def test_the_last_step_counts(method):
    """One long step from the start passes the boundary: that is a flip, not exhaustion."""
    space, f, x = linear_world(2)
    target = other_class(f, x)
    rate = "step_size" if "pixel_attack" in method.name else "lr"
    result = method.run(space, f, x, target, steps=1, confidence=0.6, **{rate: 2.0})
    reached = (result.logits_after.argmax(1) == target) & (result.confidence > 0.6)
    assert reached[:-1].any()
    assert torch.equal(result.flipped[:-1], reached[:-1])
