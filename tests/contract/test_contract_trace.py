"""Methods leave no trace, also when the classifier raises in the middle."""

import random

import numpy as np
import pytest
import torch
from cases import each_method, each_search
from worlds import Faulty, other_class

import cfxnb as cfx


def hooks(module):
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [len(getattr(module, name)) for name in names]


def state(*tops):
    modules = [m for top in tops for m in top.modules()]
    parameters = [p for m in modules for p in m.parameters(recurse=False)]
    return {
        "training": [m.training for m in modules],
        "requires_grad": [p.requires_grad for p in parameters],
        "grad": [p.grad for p in parameters],
        "hooks": [hooks(m) for m in modules],
        "values": [t.sum().item() for m in modules for t in m.state_dict().values()],
        "attributes": [sorted(vars(m)) for m in modules],
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002 (the global one is watched)
        "python": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
        "determinism": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
    }


def unusual(space, classifier):
    """Flags in which a method that simply switches to evaluation mode would be seen."""
    space.train()
    classifier.module.train()
    first = next(classifier.module.parameters())
    first.requires_grad_(False)
    return space, classifier


@each_method
def test_no_trace(world, method):
    space, f, x = world
    target = other_class(f, x)
    clean = method.run(space, f, x, target)
    unusual(space, f)
    before = state(space, f.module)
    again = method.run(space, f, x, target)
    assert state(space, f.module) == before
    # Dropout and batch statistics were off inside, so the answer is the same.
    assert torch.equal(again.image, clean.image)


@each_method
@pytest.mark.parametrize("fatal", [1, 2, 3])
def test_no_trace_after_an_exception(world, method, fatal):
    space, f, x = world
    target = other_class(f, x)
    if method.name == "random_change":
        like = cfx.latent_attack(space, f, x, target, steps=2)
        run = lambda s, g, x, t: cfx.random_change(s, g, like)  # noqa: E731
    elif method.name == "reconstruct" and fatal == 3:
        pytest.skip("asks only twice")
    else:
        run = method.run
    broken = cfx.wrap(Faulty(f.module, fatal))
    unusual(space, broken)
    before = state(space, broken.module)
    with pytest.raises(OSError, match="the net is gone"):
        run(space, broken, x, target)
    assert state(space, broken.module) == before


@each_search
def test_no_trace_after_an_exception_in_on_step(world, method):
    space, f, x = world

    def fail(step):
        raise OSError("stop button is gone")

    target = other_class(f, x)
    unusual(space, f)
    before = state(space, f.module)
    with pytest.raises(OSError, match="stop button"):
        method.run(space, f, x, target, on_step=fail)
    assert state(space, f.module) == before


def test_the_watch_sees_traces(world):
    """A planted bug each: without them an empty ``state`` would pass everything above."""
    space, f, x = world
    first = next(f.module.parameters())

    def train():
        f.module.train(not f.module.training)

    def leave_grad():
        f(x).sum().backward()

    plants = [
        train,
        leave_grad,
        lambda: first.requires_grad_(False),
        lambda: torch.rand(1),
        lambda: np.random.rand(),  # noqa: NPY002
        lambda: f.module.register_forward_hook(lambda *a: None),
    ]
    for plant in plants:
        before = state(space, f.module)
        plant()
        assert state(space, f.module) != before
