"""Two baselines for every counterfactual method: a random change, and no change."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.driver import Batch, Edit, EncodedBatch, Run
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.core.space_fit import check_codes
from cfxnb.core.tensors import active_dims, noise_like, norms, per_sample, standardise, unit
from cfxnb.core.types import Classifier, Code, LatentSpace


@standard_modes
@torch.no_grad()
def reconstruct(
    space: LatentSpace,
    classifier: Classifier,
    images: Tensor,
    target: int | str | Sequence[int | str] | Tensor,
    *,
    batch_size: int = 256,
    first_row: int = 0,
) -> Counterfactuals:
    """Encode and decode the images without any change.

    The distances of reconstructions are the smallest that a method in this space can have. No
    image gets the status "flipped". The status "reconstruction_is_target" counts images whose
    class the space changes on its own.

    Args:
        space: Space that encodes and decodes.
        classifier: Maps images to logits (b, k).
        images: Images (b, c, h, w) in [0, 1].
        target: Class to reach: one for all images, or one per image (b,).
        batch_size: Images per batch. Affects memory and speed, not results.
        first_row: Row of the first image in its data set. Only recorded.

    Returns:
        Counterfactuals with codes.
    """
    run = Run(
        classifier, images, target, space=validate.space(space), batch_size=batch_size,
        first_row=first_row,
        any_size=True,
    )  # fmt: skip
    return run.counterfactuals(lambda batch: Edit(), function="reconstruct")


@standard_modes
@torch.no_grad()
def random_change(
    space: LatentSpace,
    classifier: Classifier,
    like: Counterfactuals,
    *,
    batch_size: int = 256,
    seed: int = 0,
    first_row: int = 0,
) -> Counterfactuals:
    """Change each code in a random direction, by the length of another method's change.

    This is the chance level: it shows how often a change of this length flips the class.

    Args:
        space: The space of the codes.
        classifier: Maps images to logits (b, k).
        like: A result with codes. Its originals and targets are used, and the length of each of its
            changes, in standard deviations of the code.
        batch_size: Images per batch. Affects memory and speed, not results.
        seed: Seed of the directions. The direction of an image depends only on (seed, row).
        first_row: Row of the first image in its data set. Set it to process a data set in parts and
            still get the results of a single call.

    Returns:
        Counterfactuals with codes. "flipped" means that the target is the predicted class.
    """
    validate.space(space)
    begin, end = (code.to(space.mean.device) for code in validate_results.codes(like, "like"))
    for name in ("original", "reconstruction"):
        validate.images(getattr(like, name), f"like.{name}")
    if like.target.is_floating_point() or like.target.is_complex():
        raise TypeError(f"like.target: expected integer classes, got {like.target.dtype}")
    if like.original.shape != like.reconstruction.shape:
        raise ValueError(
            "like: expected original and reconstruction of one shape, got "
            f"{tuple(like.original.shape)} and {tuple(like.reconstruction.shape)}"
        )
    run = Run(
        classifier, like.original, like.target, space=space, batch_size=batch_size,
        first_row=first_row, encode=lambda batch: known(batch),
    )  # fmt: skip
    std = run.space.std.to(end.z)
    if begin.z.shape[1:] != std.shape:
        raise ValueError(
            f"like: expected codes of this space, {tuple(std.shape)}, "
            f"got {tuple(begin.z.shape[1:])}"
        )
    validate_results.all_started(like, "like")
    check_codes(run.space, begin, like.reconstruction, "like")
    row_positions = run.row_positions.to(end.z.device)
    change = standardise(end.z - begin.z, std)
    direction = unit(noise_like(change, validate.seed(seed), row_positions) * active_dims(std))
    moved = begin.z + std * direction * per_sample(norms(change), change)

    def known(batch: Batch) -> tuple[Code, Tensor, int]:
        here = batch.index.to(end.z.device)
        reconstruction = like.reconstruction.to(batch.images.device)[here]
        run.fit.add_images(batch.images, reconstruction)
        return begin[here], reconstruction, 0

    def edit(batch: EncodedBatch) -> Edit:
        return Edit(code=batch.code_before.with_z(moved[batch.index.to(end.z.device)]))

    return run.counterfactuals(edit, function="random_change", seed=seed)
