"""What searches share: targets, statuses, the margin, the step back."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator
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
)


def log_odds(logits: Tensor, target: Tensor) -> Tensor:
    """log p(target) / (1 - p(target)), (b,): linear in the logits, so it cannot saturate."""
    chosen = logits.gather(1, target[:, None]).squeeze(1)
    others = logits.scatter(1, target[:, None], -torch.inf).logsumexp(1)
    return chosen - others


def threshold(confidence: float) -> float:
    """The log odds at which p(target) = confidence."""
    return float(torch.logit(torch.tensor(confidence, dtype=torch.float64)))


def is_predicted(logits: Tensor, target: Tensor) -> Tensor:
    return logits.argmax(1) == target


@dataclasses.dataclass
class Task:
    """One chunk of samples being worked on; every tensor has one row a sample."""

    rows: Tensor  # positions in the whole input
    images: Tensor
    target: Tensor
    before: Tensor  # logits of the originals


def tasks(classifier: Classifier, images: Any, target: Any, batch: int) -> Iterator[Task]:
    """The input, checked, in chunks of at most ``batch`` samples."""
    images = validate.images(images)
    validate.function(classifier, "classifier")
    validate.count(batch, "batch", 1)
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch]
        with torch.no_grad():
            before = validate.logits(classifier(chunk), len(chunk))
        everyone = validate.labels(target, len(images), before.shape[1])
        yield Task(
            rows=torch.arange(start, start + len(chunk)),
            images=chunk,
            target=everyone[start : start + len(chunk)].to(images.device),
            before=before,
        )


def step_back(passes: Callable[[Tensor, Tensor], Tensor], rows: Tensor, halvings: int) -> Tensor:
    """The smallest share of each sample's change that still passes, by bisection.

    Args:
        passes: ``passes(share, rows) -> bool`` for the samples in ``rows``; known to be true at
            share 1 and false at 0.
        rows: samples to work on.
        halvings: the answer is exact to 2**-halvings.

    Returns:
        A share in (0, 1] for each of ``rows``, at which ``passes`` was seen true.
    """
    good = torch.ones(len(rows), device=rows.device)
    bad = torch.zeros_like(good)
    for _ in range(halvings if len(rows) else 0):
        middle = (good + bad) / 2
        ok = passes(middle, rows)
        good = torch.where(ok, middle, good)
        bad = torch.where(ok, bad, middle)
    return good


def statuses(
    task: Task, passed: Tensor, *, lost: Tensor | None = None, reconstruction: Tensor | None = None
) -> tuple[str, ...]:
    """One status a sample; what makes the question moot comes before success and failure."""
    already = is_predicted(task.before, task.target)
    none = torch.zeros_like(already)
    gone = none if reconstruction is None else is_predicted(reconstruction, task.target)
    lost = none if lost is None else lost
    columns = zip(already.tolist(), gone.tolist(), passed.tolist(), lost.tolist(), strict=True)
    return tuple(
        ALREADY_TARGET
        if a
        else RECONSTRUCTION_FLIPS
        if g
        else FLIPPED
        if p
        else NO_GRADIENT
        if x
        else EXHAUSTED
        for a, g, p, x in columns
    )


def finish(parts: list[Counterfactuals], began: float, **made_by: Any) -> Counterfactuals:
    """Chunks joined in order, with the record of how they were made."""
    whole = Counterfactuals.concatenate(parts)
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
