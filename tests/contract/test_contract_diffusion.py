"""What is promised of every method, of the one that needs a diffusion model as its space."""

import pytest
import torch
from gaussians import gaussian_world
from test_contract_trace import state, unusual
from worlds import Faulty

import cfxnb as cfx
from cfxnb.core.types import ALREADY_TARGET, FLIPPED, NOT_FOUND, RECONSTRUCTION_IS_TARGET, STATUSES

METHODS = (cfx.diffusion_counterfactual, cfx.maskdime, cfx.fastdime, cfx.dime, cfx.sce)
KNOBS = [
    {},
    {"guidance": "classifier_free", "steps": 4, "max_attempts": 2},
    {**cfx.PAPER_DIFFUSION, "steps": 10, "cone_angle": 30.0},
    {"guidance": "random_mask", "steps": 3, "max_attempts": 2, "distance_space": "image"},
    {"method": cfx.maskdime},
    {"method": cfx.fastdime, "warmup": 2, "loss": "logit"},
    {"method": cfx.dime, "steps": 4},
    {"method": cfx.sce, "lr": 1.0, "momentum": 0.0},
]
each_way = pytest.mark.parametrize(
    "kwargs",
    KNOBS,
    ids=["short", "classifier_free", "paper", "random_mask", "maskdime", "fastdime", "dime", "sce"],
)


def world(classes=3, count=7):
    space, f, x, target = gaussian_world(classes, count)
    target[-1] = f(x[-1:]).argmax(1)
    return space, f, x, target


def run(space, f, x, target, method=cfx.diffusion_counterfactual, **kwargs):
    return method(space, f, x, target, **kwargs)


@each_way
def test_shapes_types_and_truth(kwargs):
    space, f, x, target = world()
    result = run(space, f, x, target, **kwargs)
    assert len(result) == len(x)
    for images in (result.original, result.image, result.reconstruction):
        assert images.shape == x.shape
        assert images.dtype == torch.float32
        assert images.min() >= 0
        assert images.max() <= 1
        assert not images.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(result.logits_before, f(x))
        torch.testing.assert_close(result.logits_after, f(result.image), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(result.image, space.decode(result.code_after))
        torch.testing.assert_close(result.reconstruction, space.decode(result.code_before))
    assert all(count.shape == (7,) for count in result.cost.values())
    method = kwargs.get("method", cfx.diffusion_counterfactual)
    told = set(kwargs) - {"method"}
    assert {"function", "seconds", "weights", "confidence", *told} <= set(result.made_by)
    assert result.made_by["function"] == method.__name__
    assert all(len(values) == 7 for values in result.trace.values())


@each_way
def test_statuses_agree_with_the_logits(kwargs):
    space, f, x, target = world()
    result = run(space, f, x, target, **kwargs)
    assert set(result.status) <= set(STATUSES)
    assert result.status[-1] == ALREADY_TARGET
    assert torch.equal(result.image[-1], result.reconstruction[-1])
    rebuilt = f(result.reconstruction).argmax(1) == target
    need = result.made_by["confidence"]
    for i, status in enumerate(result.status[:-1]):
        assert (status == RECONSTRUCTION_IS_TARGET) == bool(rebuilt[i])
        reached = bool(result.logits_after.argmax(1)[i] == target[i])
        if status == FLIPPED:
            assert reached
            assert result.confidence[i] >= need - 1e-4
        if status == NOT_FOUND:
            assert result.confidence[i] < need + 1e-4
    assert result.flipped.any()


@each_way
def test_leaves_no_trace(kwargs):
    space, f, x, target = world()
    clean = run(space, f, x, target, **kwargs)
    kept = x.clone(), target.clone()
    unusual(space, f)
    before = state(space, f.module)
    again = run(space, f, x, target, **kwargs)
    assert state(space, f.module) == before
    assert torch.equal(again.image, clean.image)
    again.image.add_(1)
    assert torch.equal(x, kept[0])
    assert torch.equal(target, kept[1])


@pytest.mark.parametrize("method", METHODS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("fatal", [1, 2, 3, 5])
def test_leaves_no_trace_after_an_exception(fatal, method):
    space, f, x, target = world()
    broken = cfx.wrap(Faulty(f.module, fatal))
    unusual(space, broken)
    before = state(space, broken.module)
    with pytest.raises(OSError, match="the net is gone"):
        run(space, broken, x, target, method)
    assert state(space, broken.module) == before


@pytest.mark.parametrize("method", METHODS, ids=lambda f: f.__name__)
def test_one_target_for_all(method):
    space, f, x, _ = world()
    one = run(space, f, x, 1, method)
    each = run(space, f, x, torch.ones(len(x), dtype=torch.int64), method)
    assert torch.equal(one.image, each.image)
    assert one.status == each.status
