"""Cards of networks trained on the images of others, and the measured quality of spaces."""

from typing import Any

import torch
from torch import Tensor

import cfxnb
from cfxnb import weights
from cfxnb.core.modes import standard_modes
from cfxnb.core.prediction import predict_logits
from cfxnb.core.types import Classifier
from cfxnb.metrics import fid, perceptual_distance
from cfxnb.nets.squeezenet import SMALLEST
from cfxnb.train.task import Task
from cfxnb.train.training_data import TrainingData

MEASURED = 500  # held-out images on which a space is measured, and samples
SURVIVE = "fraction of decisions that survive reconstruction"


def own_card(
    kind: str, net: str, config: dict[str, Any], summary: str, task: Task, data: TrainingData
) -> dict[str, Any]:
    """Return the fields that all cards have.

    Args:
        kind, net, config: Kind, class and arguments of the network, from which it is built again.
        summary: Description of the network, in a few words.
        task: Settings of the training.
        data: All images of the training.
    """
    shape = "x".join(map(str, data.shape))
    return {
        "kind": kind,
        "net": net,
        "config": config,
        "summary": f"{summary}, images {shape}",
        "data": data.source or "images of the user",
        "data id": data.id,
        "images": {
            "trained on": len(task.parts.train),
            "stopped by": 0 if task.parts.stop is None else len(task.parts.stop),
            "measured on": len(task.parts.test),
        },
        "classes": list(data.class_names),
        "training": task.log,
        "minutes": task.minutes,
        "recipe": "cfxnb.train",
        "version": cfxnb.__version__,
        "seed": task.seed,
        "licence": "as its images",
    }


@standard_modes
@torch.no_grad()
def measure(
    space: Any,
    images: Tensor,
    classifier: Classifier | None,
    judge: Classifier | None,
    samples: Tensor | None,
    distances: dict[str, Any],
) -> tuple[dict[str, float], Tensor]:
    """Return the quality of a space on held-out images, and their reconstructions.

    Args:
        space: The space.
        images: Held-out images, (n, c, h, w).
        classifier, judge: Classifiers whose decisions should survive reconstruction, or None.
        samples: Images of codes from the prior, or None.
        distances: Further distances of images and reconstructions, by name, such as LPIPS.
    """
    rebuilt = torch.cat([space.decode(space.encode(part)) for part in images.split(100)])
    found: dict[str, float] = {}
    for name, network in (("", classifier), ("judge's ", judge)):
        if network is not None:
            text = SURVIVE.replace("decisions", f"the {name}decisions" if name else "decisions")
            same = predict_logits(network, images).argmax(1) == predict_logits(
                network, rebuilt
            ).argmax(1)
            found[text] = same.double().mean().item()
    found[weights.ERROR] = max((rebuilt - images).square().mean().item(), 1e-12)
    found |= {name: float(d(images, rebuilt).mean()) for name, d in distances.items()}
    features = _features_of(judge) or _features_of(classifier)
    if images.shape[1] in (1, 3) and min(images.shape[2:]) >= SMALLEST:
        squeeze = weights.load("faces/features", "cpu")
        name = (
            "distance of reconstructions in SqueezeNet features (like LPIPS, without its weights)"
        )
        pairs = zip(images.split(100), rebuilt.split(100), strict=True)
        parts = [perceptual_distance(squeeze, a.cpu(), b.cpu()) for a, b in pairs]
        found[name] = torch.cat(parts).mean().item()
    if features is not None:
        near, real = features(rebuilt), features(images)
        error = (near - real).square().mean() / real.var(0).mean().clamp_min(1e-12)
        found["squared error of reconstructions in a classifier's features, relative"] = float(
            error
        )
        half = len(images) // 2
        others = {"reconstructions": near[:half], "other real images": real[half : 2 * half]}
        if samples is not None:
            others["samples"] = features(samples[:half])
        for name, other in others.items():
            found[f"Frechet distance in a classifier's features, {name}"] = fid(
                other, real[:half], allow_few=True
            )
    if samples is not None and classifier is not None:
        for name, batch in (("samples", samples), ("held-out images", images)):
            confidence = predict_logits(classifier, batch).softmax(1).amax(1).mean()
            found[f"classifier's mean confidence on {name}"] = confidence.item()
    return {name: round(float(value), 6) for name, value in found.items()}, rebuilt


def _features_of(classifier: Any) -> Any:
    """Return a function images -> features (n, d) before the last layer, or None."""
    module: Any = getattr(classifier, "module", None)
    if not hasattr(module, "features"):
        return None

    def features(images: Tensor) -> Tensor:
        device = next(module.parameters()).device
        return torch.cat([module.features(part.to(device)).cpu() for part in images.split(250)])

    return features
