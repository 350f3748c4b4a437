"""Repair: train a classifier a little further, on counterfactuals or otherwise."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from cfxnb import validate
from cfxnb.classify import predict
from cfxnb.tensors import hash_seed


def fine_tune(
    classifier: Any,
    images: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    steps: int = 300,
    batch: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
) -> Any:
    """A copy of a classifier, trained further; the original stays as it is.

    Counterfactuals whose cause is unchanged, with their old labels, tell a classifier that what it
    went by is not what counts.

    Args:
        classifier: made by ``wrap``, or a torch module that gives logits.
        images, labels: (n, c, h, w) in [0, 1] and (n,).
        weights: of each image in the loss, (n,), such as ``group_weights``; equal by default.
        steps: of AdamW; the rate falls from ``lr`` to 0 as a cosine.
        seed: of the order of the images.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    tuned = copy.deepcopy(validate.white_box(classifier))
    module = tuned if isinstance(tuned, nn.Module) else getattr(tuned, "module", None)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"classifier: expected a torch module or a wrapped one, got {type(classifier).__name__}"
        )
    images = validate.images(images)
    classes = predict(tuned, images[:1]).shape[1]
    labels = validate.labels(labels, len(images), classes, "labels").cpu()
    each = _weights(weights, len(images))
    steps, size = validate.count(steps, "steps", 1), validate.count(batch, "batch", 1)
    peak = validate.number(lr, "lr", 0.0, open_low=True)
    draw = Generator().manual_seed(hash_seed(validate.count(seed, "seed"), 0))
    trained = module.training
    module.train().requires_grad_(True)
    optimiser = torch.optim.AdamW(module.parameters(), lr=peak, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    with torch.enable_grad():
        for _ in range(steps):
            rows = torch.randint(len(images), (size,), generator=draw)
            logits = tuned(images[rows])
            loss = F.cross_entropy(logits, labels[rows].to(logits.device), reduction="none")
            optimiser.zero_grad()
            (loss * each[rows].to(loss)).mean().backward()
            optimiser.step()
            schedule.step()
    module.train(trained).requires_grad_(False)
    return tuned


def group_weights(groups: Any) -> Tensor:
    """Weights (n,) with mean 1 under which every group counts alike.

    Args:
        groups: the group of each image, (n,): numbers or names.

    Raises:
        ValueError, TypeError: if there are none, or it is no sequence.
    """
    listed = groups.tolist() if hasattr(groups, "tolist") else groups
    names = validate.names(listed, "groups")
    if not names:
        raise ValueError("groups: expected the group of each image, got none")
    counts = {name: names.count(name) for name in set(names)}
    return torch.tensor([len(names) / (len(counts) * counts[name]) for name in names])


def _weights(value: Any, count: int) -> Tensor:
    if value is None:
        return torch.ones(count)
    each = validate.instance(value, Tensor, "weights", "a torch tensor").cpu().float()
    if each.shape != (count,) or not each.isfinite().all() or each.min() < 0:
        raise ValueError(
            f"weights: expected {count} finite numbers >= 0, got shape {tuple(each.shape)}"
        )
    return each
