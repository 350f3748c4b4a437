"""The nearest real image that the classifier sees as the target: a baseline for every table."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.driver import Edit, EncodedBatch, Run
from cfxnb.core.modes import standard_modes
from cfxnb.core.prediction import finite_predict_logits
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import Classifier, OnStep


@standard_modes
@torch.no_grad()
def nearest_neighbour(
    classifier: Classifier,
    images: Tensor,
    target: int | str | Sequence[int | str] | Tensor,
    *,
    pool: Tensor,
    batch_size: int = 256,
    first_row: int = 0,
    on_step: OnStep | None = None,
) -> Counterfactuals:
    """Replace each image by the nearest real image that is classified as its target.

    Nothing is generated, so the answer is always realistic. It usually changes more than a
    counterfactual has to.

    Args:
        classifier: images -> logits (b, k).
        images: (b, c, h, w) in [0, 1].
        target: class to reach, one for all images or one for each (b,).
        pool: real images to choose from, (m, c, h, w) in [0, 1]. They are classified once.
        batch_size: images per batch. Affects memory and speed, not results.
        first_row: position of the first image in its data set; it changes nothing here.
        on_step: accepted as by all methods; there are no steps to report.

    Returns:
        Counterfactuals without codes. The distance is the L2 distance of pixels. Where no real
        image has the target class, the original stays, with the status "exhausted".
        ``made_by["shared"]`` counts the evaluations for ``pool``, which serve all images.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    pool = validate.images(pool, "pool")
    run = Run(
        classifier, images, target, batch_size=batch_size, first_row=first_row, on_step=on_step
    )
    if pool.shape[1:] != run.images.shape[1:]:
        raise ValueError(
            f"pool: expected images of shape {tuple(run.images.shape[1:])}, "
            f"got {tuple(pool.shape[1:])}"
        )
    classes = finite_predict_logits(run.classifier, pool).argmax(1).to(run.device)

    def edit(task: EncodedBatch) -> Edit:
        those = pool.to(task.images)
        # The quicker mode of cdist rounds, by how many images there are.
        exact = "donot_use_mm_for_euclid_dist"
        distance = torch.cdist(task.images.flatten(1), those.flatten(1), compute_mode=exact)
        distance[classes != task.target[:, None]] = torch.inf
        found = distance.isfinite().any(1)
        image = torch.where(found.view(-1, 1, 1, 1), those[distance.argmin(1)], task.images)
        return Edit(image=image, reached=found)

    shared = {"classifier": len(pool)}
    return run.counterfactuals(edit, function="nearest_neighbour", shared=shared)
