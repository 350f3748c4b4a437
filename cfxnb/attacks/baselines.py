"""Two baselines for counterfactual methods: a random change of the code, and no change."""

import os

import torch
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.code_covariance import along_active_axes
from cfxnb.core.driver import Batch, Edit, EncodedBatch, Run
from cfxnb.core.goals import recorded_goal
from cfxnb.core.modes import standard_modes
from cfxnb.core.outcomes import outcomes_of
from cfxnb.core.result_folder import ResultFolder
from cfxnb.core.results import Counterfactuals
from cfxnb.core.space_fit import check_codes
from cfxnb.core.streamed import streamed
from cfxnb.core.target import Target
from cfxnb.core.tensors import noise_like, norms, per_sample, standardise, unit
from cfxnb.core.types import Classifier, Code, Images, LatentSpace


@streamed
@standard_modes
@torch.no_grad()
def reconstruct(
    space: LatentSpace,
    classifier: Classifier,
    images: Images,
    target: Target,
    *,
    batch_size: int = 256,
    first_row: int = 0,
    output_dir: str | os.PathLike | None = None,
) -> Counterfactuals:
    """Encode and decode the images without any change of the code.

    A method that edits codes can hardly come closer to the originals than plain reconstructions. No
    image gets the status "flipped", because no code changes. An image whose reconstruction is
    classified as the target gets the status "reconstruction_is_target".

    Args:
        space: Space that encodes and decodes the images.
        classifier: Maps images to logits (b, k).
        images: Images (b, c, h, w) in [0, 1], or a data set (see ``cfx.open``).
        target: Class to reach, by number or name: one for all images, or one per image (b,). With
            a regression model: a goal, such as ``cfx.raise_to(0.8)``. With a data set also an entry
            of each item, such as ``cfx.from_item("label")``.
        batch_size: Images per batch. A larger batch is faster and needs more memory.
        first_row: Row of the first image in its data set. Only recorded.
        output_dir: Folder to which the results are written in shards, for any number of images.
            After a crash, the same call goes on. ``cfx.open`` opens the folder. Default: None.

    Returns:
        Counterfactuals with codes.
    """
    run = Run(
        classifier, images, target, space=validate.space(space), batch_size=batch_size,
        first_row=first_row,
        any_size=True, by_row=True,
    )  # fmt: skip
    return run.counterfactuals(lambda batch: Edit(), function="reconstruct")


@streamed(of="like")
@standard_modes
@torch.no_grad()
def random_change(
    space: LatentSpace,
    classifier: Classifier,
    like: Counterfactuals | ResultFolder,
    *,
    batch_size: int = 256,
    seed: int = 0,
    first_row: int = 0,
    output_dir: str | os.PathLike | None = None,
) -> Counterfactuals:
    """Change each code in a random direction, by as much as another method changed the code.

    The result shows the chance level of the other method: how often a random change of equal length
    flips the class. Random directions lie in the span of the active axes of the space, along which
    the codes of real images vary.

    Args:
        space: The space of the codes.
        classifier: Maps images to logits (b, k).
        like: The result of the other method, with codes, or a folder of it (see ``cfx.open``). The
            function uses the originals and the targets of ``like``, and the lengths of the changes
            in standard deviations of the code.
        batch_size: Images per batch. A larger batch is faster and needs more memory.
        seed: Seed of the directions. The direction of an image depends only on (seed, row).
        first_row: Row of the first image in its data set. If you process a data set in parts and
            set ``first_row``, the results are those of a single call.
        output_dir: Folder to which the results are written in shards, for any number of images.
            After a crash, the same call goes on. ``cfx.open`` opens the folder. Default: None.

    Returns:
        Counterfactuals with codes. The status "flipped" means that the target is the predicted
        class.
    """
    validate.space(space)
    given: Counterfactuals = validate_results.result(like, "like")
    if not len(given):
        raise ValueError("like: expected counterfactuals of at least one image, got none")
    begin, end = (code.to(space.mean.device) for code in validate_results.codes(given, "like"))
    goal = None if outcomes_of(classifier) is None else recorded_goal(given.made_by)
    run = Run(
        classifier, given.original, goal or given.target, space=space, batch_size=batch_size,
        first_row=first_row, encode=lambda batch: known(batch), by_row=True,
    )  # fmt: skip
    std = run.space.std.to(end.z)
    validate.shape(begin.z.shape[1:], std.shape, "like", "codes of this space,")
    validate_results.all_started(given, "like")
    check_codes(run.space, begin, given.reconstruction, "like")
    row_positions = run.row_positions.to(end.z.device)
    change = standardise(end.z - begin.z, std)
    noise = noise_like(change, validate.seed(seed), row_positions)
    direction = unit(along_active_axes(run.space, noise))
    moved = begin.z + std * direction * per_sample(norms(change), change)

    def known(batch: Batch) -> tuple[Code, Tensor, int]:
        here = batch.index.to(end.z.device)
        reconstruction = given.reconstruction.to(batch.images.device)[here]
        run.fit.add_images(batch.images, reconstruction)
        return begin[here], reconstruction, 0

    def edit(batch: EncodedBatch) -> Edit:
        return Edit(code=batch.code_before.with_z(moved[batch.index.to(end.z.device)]))

    return run.counterfactuals(edit, function="random_change", seed=seed)
