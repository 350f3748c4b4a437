"""Nearest neighbour: the nearest real image of the target class, as a baseline."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.driver import Edit, EncodedBatch, Run
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.one_shard import once
from cfxnb.core.prediction import finite_predict_logits
from cfxnb.core.results import Counterfactuals
from cfxnb.core.streamed import streamed
from cfxnb.core.target import Target
from cfxnb.core.types import Classifier, Images, OnStep


@streamed
@standard_modes
@torch.no_grad()
def nearest_neighbour(
    classifier: Classifier,
    images: Images,
    target: Target,
    *,
    pool: Tensor,
    batch_size: int = 256,
    first_row: int = 0,
    on_step: OnStep | None = None,
    output_dir: str | os.PathLike | None = None,
) -> Counterfactuals:
    """Replace each image by the nearest real image that is classified as its target.

    The result is always realistic, because no image is generated. Usually the real image differs
    from the original by more than a flip needs.

    Args:
        classifier: Maps images to logits (b, k).
        images: Images (b, c, h, w) in [0, 1], or a data set (see ``cfx.open``).
        target: Class to reach, by number or name: one for all images, or one per image (b,). With
            a regression model: a goal, such as ``cfx.raise_to(0.8)``. With a data set also an entry
            of each item, such as ``cfx.from_item("label")``.
        pool: Real images to choose from, (m, c, h, w) in [0, 1]. Each image of the pool is
            classified once.
        batch_size: Images per batch. A larger batch is faster and needs more memory.
        first_row: Row of the first image in its data set. Only recorded.
        on_step: Never called, because this method has no steps.
        output_dir: Folder to which the results are written in shards, for any number of images.
            After a crash, the same call goes on. ``cfx.open`` opens the folder. Default: None.

    Returns:
        Counterfactuals without codes. The nearest image is the one with the smallest L2 distance of
        pixels. If no image of the pool has the target class, the original is kept, with the status
        "not_found". ``made_by["shared"]`` counts the evaluations of the classifier on the pool,
        which serve all images together.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    given, pool = pool, validate.images(pool, "pool")
    run = Run(
        classifier, images, target, batch_size=batch_size, first_row=first_row, on_step=on_step
    )
    validate.shape(pool.shape[1:], run.images.shape[1:], "pool", "images of shape")
    seen_as = classes_of_pool(run, pool, (given, classifier))

    def edit(batch: EncodedBatch) -> Edit:
        others = pool.to(batch.images)
        # The faster mode of cdist rounds differently for different batch sizes.
        exact = "donot_use_mm_for_euclid_dist"
        distance = torch.cdist(batch.images.flatten(1), others.flatten(1), compute_mode=exact)
        distance[seen_as() != batch.target[:, None]] = torch.inf
        found = distance.isfinite().any(1)
        image = torch.where(found.view(-1, 1, 1, 1), others[distance.argmin(1)], batch.images)
        return Edit(image=image, reached=found)

    shared = {"classifier": len(pool)}
    return run.counterfactuals(edit, function="nearest_neighbour", shared=shared)


def classes_of_pool(run: Run, pool: Tensor, owners: tuple[Any, ...]) -> Callable[[], Tensor]:
    """Classify the pool once, and return a function for its classes, (m,).

    If the target is a goal, the classes are those for the goal of the present batch.
    """
    if run.goal is None:
        # All shards of a data set share the answers for the pool.
        logits = once("pool", owners, lambda: finite_predict_logits(run.classifier, pool))
        classes = logits.argmax(1).to(run.device)
        return lambda: classes
    goal = run.goal
    with eval_frozen(run.classifier):
        values = torch.cat([goal.read(chunk.to(run.device)) for chunk in pool.split(512)])
    return lambda: (goal.log_odds(values) > 0).long()
