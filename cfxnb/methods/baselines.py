"""What every counterfactual is to be compared with: chance, and doing nothing."""

import time

import torch
from torch import Tensor

from cfxnb import validate
from cfxnb.methods.tasks import fingerprint, finish, is_predicted, rebuild, statuses, tasks
from cfxnb.results import Counterfactuals
from cfxnb.tensors import alive, in_spreads, noise_like, norms, per_sample, undisturbed, unit
from cfxnb.types import Classifier, LatentSpace


def reconstruct(
    space: LatentSpace,
    classifier: Classifier,
    images: Tensor,
    target: int | Tensor,
    *,
    batch: int = 256,
) -> Counterfactuals:
    """Encode and decode, change nothing: the floor of every distance.

    Nothing can be ``flipped`` here; ``reconstruction_flips`` counts the decisions that the
    space changes by itself.
    """
    began = time.perf_counter()
    validate.space(space)
    parts = []
    with undisturbed(space, classifier), torch.no_grad():
        for task in tasks(classifier, images, target, batch, space.center.device):
            start, image = rebuild(space, task.images)
            after = classifier(image)
            ones = torch.ones(len(image), dtype=torch.int64)
            none = torch.zeros_like(task.target, dtype=torch.bool)
            parts.append(
                Counterfactuals(
                    original=task.images,
                    image=image,
                    reconstruction=image,
                    before=task.before,
                    after=after,
                    target=task.target,
                    status=statuses(task, none, reconstruction=after),
                    start=start,
                    code=start,
                    cost={"generator": ones, "classifier": 2 * ones},
                )
            )
    weights = {"space": fingerprint(space), "classifier": fingerprint(classifier)}
    return finish(parts, images.device, began, method="reconstruct", weights=weights)


def random_change(
    space: LatentSpace,
    classifier: Classifier,
    like: Counterfactuals,
    *,
    batch: int = 256,
    seed: int = 0,
) -> Counterfactuals:
    """Chance level: a random direction, as long as the change that ``like`` made to each image.

    Args:
        like: a result with codes; its originals, targets and code distances (in units of
            ``space.spread``) are taken over.
        seed: of the directions, drawn per sample from (seed, row).

    Returns:
        Counterfactuals in which ``flipped`` means that the target became the prediction.
    """
    began = time.perf_counter()
    validate.space(space)
    device = space.center.device
    begin, end = (code.to(device) for code in validate.codes(like, "like"))
    home, reconstruction = like.original.device, like.reconstruction.to(device)
    spread = space.spread.to(end.z)
    if begin.z.shape[1:] != spread.shape:
        raise ValueError(
            f"like: expected codes of this space, {tuple(spread.shape)}, "
            f"got {tuple(begin.z.shape[1:])}"
        )
    change = in_spreads(end.z - begin.z, spread)
    heading = unit(noise_like(change, validate.count(seed, "seed")) * alive(spread))
    moved = begin.z + spread * heading * per_sample(norms(change), change)
    parts = []
    with undisturbed(space, classifier), torch.no_grad():
        for task in tasks(classifier, like.original, like.target, batch, device):
            start = begin[task.rows]
            code = start.at(moved[task.rows])
            image = space.decode(code)
            after = classifier(image)
            rebuilt = reconstruction[task.rows]
            ones = torch.ones(len(image), dtype=torch.int64)
            hit = is_predicted(after, task.target)
            parts.append(
                Counterfactuals(
                    original=task.images,
                    image=image,
                    reconstruction=rebuilt,
                    before=task.before,
                    after=after,
                    target=task.target,
                    status=statuses(task, hit, reconstruction=classifier(rebuilt)),
                    start=start,
                    code=code,
                    cost={"generator": ones, "classifier": 3 * ones},
                )
            )
    weights = {"space": fingerprint(space), "classifier": fingerprint(classifier)}
    return finish(parts, home, began, method="random_change", seed=seed, weights=weights)
