"""Every method, once. A new method is found by its signature, and needs no line here."""

import dataclasses
import functools
import inspect
from collections.abc import Callable

import pytest
import torch

import cfxnb as cfx
from cfxnb.flows.velocity import ClassMeans


@dataclasses.dataclass(frozen=True)
class Case:
    """A method as ``run(space, classifier, images, target, **knobs)``, and what it is like.

    Attributes:
        confidence: what ``flipped`` promises; None if nothing can be flipped.
        gradient: needs gradients of the classifier.
        row_bound: draws noise by row, so that a sample's place in the input matters.
        steps: takes ``steps`` and ``on_step``.
        looks: in one attempt: one before each step, one after the last.
        seeded: takes a seed.
        settles: a sample leaves the search at the first point that reaches the target.
    """

    name: str
    run: Callable
    confidence: float | None = None
    gradient: bool = False
    row_bound: bool = False
    codes: bool = True
    looks: int = 21
    seeded: bool = True
    settles: bool = True

    @property
    def steps(self) -> bool:
        return self.gradient


def _random_change(space, classifier, images, target, **kwargs):
    module = classifier.classifier if isinstance(classifier, cfx.BlackBox) else classifier
    like = cfx.latent_attack(space, module, images, target, steps=4, restarts=0)
    return cfx.random_change(space, classifier, like, **kwargs)


def _pixel(space, classifier, images, target, **kwargs):
    return cfx.pixel_attack(
        classifier, images, target, **{"steps": 20, "step_size": 0.1, "confidence": 0.9} | kwargs
    )


def _latent(**own):
    def run(space, classifier, images, target, **kwargs):
        return cfx.latent_attack(space, classifier, images, target, **own | kwargs)

    return run


def _follow(space, classifier, images, target, *, seed=None, **kwargs):
    direction = torch.tensor([1.0, -0.5, 0.7, 0.2])
    return cfx.follow_direction(
        space, classifier, images, direction, target, noise_seed=seed, **kwargs
    )


METHODS = [
    Case("latent_attack", _latent(steps=20, restarts=0, confidence=0.9), 0.9, gradient=True),
    Case(
        "latent_attack, random starts",
        _latent(steps=10, restarts=1, init_noise=0.3, confidence=0.9),
        0.9,
        gradient=True,
        row_bound=True,
        looks=11,
    ),
    Case(
        "latent_attack, paper",
        _latent(**{**cfx.PAPER_ATTACK, "steps": 20, "lr": 0.3}),
        0.5,
        gradient=True,
    ),
    Case("pixel_attack", _pixel, 0.9, gradient=True, codes=False),
    Case(
        "pixel_attack, minimal norm",
        lambda *a, **k: _pixel(*a, **{"minimal_norm": True} | k),
        0.9,
        gradient=True,
        codes=False,
        settles=False,
    ),
    Case("reconstruct", lambda s, f, x, t, **k: cfx.reconstruct(s, f, x, t, **k), seeded=False),
    Case("random_change", _random_change, 0.0, row_bound=True),
    Case("query_attack", cfx.query_attack, 0.995, row_bound=True),
    Case("follow_direction", _follow, 0.0),
]


def _pool(shape):
    """Images to choose from; they never depend on the batch."""
    return torch.rand(40, *shape, generator=torch.Generator().manual_seed(3))


@functools.cache
def _class_flow(space, n_classes):
    """A flow between random class means; it never depends on the batch."""
    means = torch.randn(n_classes, *space.mean.shape, generator=torch.Generator().manual_seed(4))
    return ClassMeans(0.5 * means, space.mean, space.std)


def _flow(space, classifier):
    """A flow for the classes of a classifier, which is not asked for them."""
    while not hasattr(classifier, "module"):
        classifier = classifier.classifier  # a BlackBox
    return _class_flow(space, max(2, len(list(classifier.module.parameters())[-1])))


def _found() -> list[Case]:
    """Further public functions (..., classifier, images, target, ...) -> Counterfactuals.

    They are called with their defaults.
    """
    # What needs a diffusion model has its own tests.
    diffusion = {"diffusion_counterfactual", "maskdime", "fastdime", "dime"}
    diffusion |= {"sce", "sce_as_published"}
    known = {case.name for case in METHODS} | diffusion
    cases = []
    for name in cfx.__all__:
        function = getattr(cfx, name)
        if name in known or not inspect.isfunction(function):
            continue
        signature = inspect.signature(function)
        takes = set(signature.parameters)
        if signature.return_annotation is not cfx.Counterfactuals:
            continue
        if {"classifier", "images", "target"} <= takes:
            run = _called(function, takes)
            cases.append(Case(name, run, 0.0, codes="space" in takes, seeded="seed" in takes))
    return cases


def _called(function, takes):
    """The function with those of the usual arguments that it takes."""

    def run(space, classifier, images, target, **kwargs):
        usual = {"space": space, "pool": _pool(images.shape[1:])}
        if "flow" in takes:
            usual["flow"] = _flow(space, classifier)
        chosen = {name: value for name, value in usual.items() if name in takes}
        return function(classifier=classifier, images=images, target=target, **chosen | kwargs)

    return run


METHODS += _found()

each_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
each_search = pytest.mark.parametrize(
    "method", [m for m in METHODS if m.gradient], ids=lambda m: m.name
)
