"""The frame of every method: chunks of checked input on one side, a result on the other."""

import dataclasses
import hashlib
import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from cfxnb import validate
from cfxnb.results import Counterfactuals
from cfxnb.types import (
    ALREADY_TARGET,
    EXHAUSTED,
    FLIPPED,
    NO_GRADIENT,
    RECONSTRUCTION_FLIPS,
    Classifier,
    Code,
    LatentSpace,
)


@dataclasses.dataclass
class Task:
    """One chunk of samples being worked on; every tensor has one row a sample."""

    rows: Tensor  # positions in the whole input
    images: Tensor
    target: Tensor
    before: Tensor  # logits of the originals


def tasks(
    classifier: Classifier, images: Any, target: Any, batch: int, device: torch.device | None = None
) -> Iterator[Task]:
    """The input, checked, in chunks of at most ``batch`` samples, on the ``device`` of the work."""
    images = validate.images(images)
    validate.function(classifier, "classifier")
    validate.count(batch, "batch", 1)
    device = device or images.device
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch].to(device)
        with torch.no_grad():
            before = validate.logits(classifier(chunk), len(chunk))
        if (before >= 0).all() and torch.allclose(before.sum(1), torch.ones_like(before[:, 0])):
            warnings.warn(
                "classifier: its outputs look like probabilities, and logits are expected; "
                "leave out the softmax, or return the logarithm",
                stacklevel=3,
            )
        everyone = validate.labels(target, len(images), before.shape[1])
        yield Task(
            rows=torch.arange(start, start + len(chunk), device=device),
            images=chunk,
            target=everyone[start : start + len(chunk)].to(device),
            before=before,
        )


def rebuild(space: LatentSpace, images: Tensor) -> tuple[Code, Tensor]:
    """Codes and reconstructions, checked: a space of one's own is easily wrong here."""
    start = validate.instance(space.encode(images), Code, "space.encode", "a cfx.Code")
    return start, validate.images(space.decode(start), "space.decode")


def is_predicted(logits: Tensor, target: Tensor) -> Tensor:
    return logits.argmax(1) == target


def statuses(
    task: Task, passed: Tensor, *, lost: Tensor | None = None, reconstruction: Tensor | None = None
) -> tuple[str, ...]:
    """One status a sample; what makes the question moot comes before success and failure.

    Args:
        passed, lost: bool (b,): reached the target; had no gradient.
        reconstruction: logits of the reconstructions.
    """
    already = is_predicted(task.before, task.target)
    none = torch.zeros_like(already)
    gone = none if reconstruction is None else is_predicted(reconstruction, task.target)
    lost = none if lost is None else lost
    # Later lines overwrite earlier ones.
    status = [EXHAUSTED] * len(already)
    for found, name in (
        (lost, NO_GRADIENT),
        (passed, FLIPPED),
        (gone, RECONSTRUCTION_FLIPS),
        (already, ALREADY_TARGET),
    ):
        status = [name if yes else old for yes, old in zip(found.tolist(), status, strict=True)]
    return tuple(status)


def finish(
    parts: list[Counterfactuals], home: torch.device, began: float, **made_by: Any
) -> Counterfactuals:
    """Chunks joined in order, where the images were, with the record of how they were made."""
    whole = Counterfactuals.concatenate([part.to(home) for part in parts])
    record = {**made_by, "seconds": round(time.perf_counter() - began, 3)}
    return dataclasses.replace(whole, made_by=record)


def fingerprint(part: Any) -> str:
    """Short hash of the weights of a space or classifier; "" for one without a module."""
    module = part if isinstance(part, nn.Module) else getattr(part, "module", None)
    if not isinstance(module, nn.Module):
        return ""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
