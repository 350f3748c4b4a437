"""The methods and baselines of the bake-off, each as a function of a task.

To add a method, add one line to ``METHODS``.
"""

from collections.abc import Callable
from typing import Any

import torch

from cfxnb.attacks.baselines import random_change, reconstruct
from cfxnb.attacks.latent_attack import latent_attack
from cfxnb.attacks.nearest_neighbour import nearest_neighbour
from cfxnb.attacks.pixel_attack import pixel_attack
from cfxnb.attacks.query_attack import query_attack
from cfxnb.core.results import Counterfactuals
from cfxnb.diffusion.diffusion_counterfactual import diffusion_counterfactual
from cfxnb.diffusion.fastdime import fastdime
from cfxnb.diffusion.maskdime import maskdime
from cfxnb.diffusion.sce import sce
from cfxnb.directions.follow_direction import follow_direction
from cfxnb.evaluation.tasks import Task
from cfxnb.flows.flow_counterfactual import PAPER_FLOW, flow_counterfactual

Run = Callable[[Task], Counterfactuals]


def _follow(task: Task) -> Counterfactuals:
    """Group the images by target, and follow for each group the direction to its target."""
    parts, rows = [], []
    for target in task.target.unique().tolist():
        own = (task.target == target).nonzero()[:, 0]
        found = follow_direction(
            task.space, task.classifier, task.images[own], task.direction(target), target
        )
        parts.append(found)
        rows.append(own)
    return Counterfactuals.concatenate(parts)[torch.cat(rows).argsort()]


def _random(task: Task) -> Counterfactuals:
    like = latent_attack(task.space, task.classifier, task.images, task.target, seed=task.seed)
    return random_change(task.space, task.classifier, like)


def _latent(method: Callable[..., Any], **options: Any) -> Run:
    return lambda t: method(t.space, t.classifier, t.images, t.target, **options)


def _denoising(method: Callable[..., Any], **options: Any) -> Run:
    return lambda t: method(t.diffusion, t.classifier, t.images, t.target, **options)


def _told(method: Callable[..., Any]) -> Run:
    return lambda t: method(t.diffusion, t.classifier, t.images, t.target, conditions=t.conditions)


def _pixels(**options: Any) -> Run:
    return lambda t: pixel_attack(t.classifier, t.images, t.target, **options)


def _flow(flow: str, **options: Any) -> Run:
    def run(t: Task) -> Counterfactuals:
        own = {"flow": getattr(t, flow), **options}
        return flow_counterfactual(t.space, t.classifier, t.images, t.target, **own)

    return run


CLASS_SWAP = {"update": "leap", "gamma": 1.0, "rounds": 1, "confidence": 0.5}

#: name -> (where it was published, what it changes, how it runs). Methods that change codes need a
#: space whose decoder is fast.
METHODS: dict[str, tuple[str, str, Run]] = {
    "reconstruction": ("baseline", "codes", _latent(reconstruct)),
    "random change": ("baseline", "codes", _random),
    "nearest real image": (
        "baseline",
        "pixels",
        lambda t: nearest_neighbour(t.classifier, t.images, t.target, pool=t.train),
    ),
    "pixel attack": ("baseline", "pixels", _pixels()),
    "line of class means": ("baseline", "codes", _flow("class_means")),
    "class swap": ("baseline", "codes", _flow("flow", **CLASS_SWAP)),
    "latent attack": ("2504.15479", "codes", _latent(latent_attack)),
    "query attack": ("this package", "codes", _latent(query_attack)),
    "global direction": ("2404.12488", "codes", _follow),
    "LeapFactual": ("2510.14623", "codes", _flow("flow", **PAPER_FLOW)),
    "flow walk": ("this package", "codes", _flow("flow")),
    "flow walk of the denoiser": ("this package", "denoised", _told(flow_counterfactual)),
    "consensus": ("2310.06668", "denoised", _told(diffusion_counterfactual)),
    "FastDiME": ("FastDiME", "denoised", _denoising(fastdime)),
    "SCE": ("2506.14698", "denoised", _denoising(sce)),
    "MaskDiME": ("2602.18792", "denoised", _denoising(maskdime)),
}
