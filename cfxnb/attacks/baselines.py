"""What every counterfactual is to be compared with: chance, and doing nothing."""

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
    """Encode and decode, change nothing: the floor of every distance.

    Nothing can be ``flipped`` here; ``reconstruction_is_target`` counts the decisions that the
    space changes by itself.

    Args:
        images: (b, c, h, w) in [0, 1].
        target: class to reach, one for all or one a sample (b,).
        first_row: position of the first image in its data set; it changes nothing here.
    """
    run = Run(
        classifier, images, target, space=validate.space(space), batch_size=batch_size,
        first_row=first_row,
        any_size=True,
    )  # fmt: skip
    return run.counterfactuals(lambda task: Edit(), function="reconstruct")


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
    """Chance level: random direction, as long as the change that ``like`` made to each image.

    Args:
        like: a result with codes; its originals, targets and code distances (in units of
            ``space.std``) are taken over.
        seed: of the directions, drawn per sample from (seed, row).
        first_row: position of the first row of ``like`` in its data set: a data set that is worked
            on in shards gets the answers of one call.

    Returns:
        Counterfactuals in which ``flipped`` means that the target became the prediction.
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
        classifier, like.original, like.target, space=space, batch_size=batch_size, first_row=first_row,
        encode=lambda task: known(task),
    )  # fmt: skip
    std = run.space.std.to(end.z)
    if begin.z.shape[1:] != std.shape:
        raise ValueError(
            f"like: expected codes of this space, {tuple(std.shape)}, "
            f"got {tuple(begin.z.shape[1:])}"
        )
    validate_results.begun(like, "like")
    check_codes(run.space, begin, like.reconstruction, "like")
    places = run.places.to(end.z.device)
    change = standardise(end.z - begin.z, std)
    heading = unit(noise_like(change, validate.seed(seed), places) * active_dims(std))
    moved = begin.z + std * heading * per_sample(norms(change), change)

    def known(task: Batch) -> tuple[Code, Tensor, int]:
        here = task.index.to(end.z.device)
        rebuilt = like.reconstruction.to(task.images.device)[here]
        run.fit.see(task.images, rebuilt)
        return begin[here], rebuilt, 0

    def edit(task: EncodedBatch) -> Edit:
        return Edit(code=task.code_before.with_z(moved[task.index.to(end.z.device)]))

    return run.counterfactuals(edit, function="random_change", seed=seed)
