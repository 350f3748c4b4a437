"""Call the method of a user, and check that its result fits the task."""

import dataclasses
import inspect
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import types, validate, validate_results
from cfxnb.core.decisions import is_predicted
from cfxnb.core.prediction import predict_logits
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import predicted
from cfxnb.evaluation.tasks import Task

Method = Callable[..., Any]


def run_method(method: Method, task: Task, space: Any, name: str) -> Counterfactuals:
    """Call ``method(space, classifier, images, target)`` and return its answer, checked.

    Args:
        method: Returns Counterfactuals, or edited images (n, c, h, w). If it has an argument
            ``seed``, it gets the seed of the task.
        task: The task.
        space: The space that the method gets.
        name: Name of the method.

    Raises:
        ValueError, TypeError: If the result does not fit the task, or if a status contradicts the
            classifier.
    """
    options = {"seed": task.seed} if _takes_seed(method) else {}
    began = time.perf_counter()
    # The method gets copies, so that it cannot change the task of the next method.
    answer = method(space, task.classifier, task.images.clone(), task.target.clone(), **options)
    seconds = round(time.perf_counter() - began, 6)
    if not isinstance(answer, Counterfactuals):
        return _from_images(answer, task, name, seconds)
    validate_results.result(answer, "result")
    validate.shape(answer.original.shape, task.images.shape, "result.original", "images of shape")
    if not torch.equal(answer.original.cpu(), task.images.cpu()):
        raise ValueError("result.original: expected the images of the task in their order")
    if not torch.equal(answer.target.cpu(), task.target.cpu()):
        raise ValueError("result.target: expected the targets of the task")
    seen = predicted(predict_logits(task.classifier, answer.image)).cpu()
    wrong = answer.flipped & (seen != task.target.cpu())
    if wrong.any():
        raise ValueError(
            f"result.status: expected 'flipped' only where the classifier sees the target, got "
            f"{int(wrong.sum())} of {int(answer.flipped.sum())} that are seen as another class"
        )
    record = {"function": name, "seconds": seconds, **answer.made_by}
    return dataclasses.replace(answer, made_by=record)


def _takes_seed(method: Method) -> bool:
    try:
        return "seed" in inspect.signature(method).parameters
    except (TypeError, ValueError):  # some callables written in C
        return False


def _from_images(answer: Any, task: Task, name: str, seconds: float) -> Counterfactuals:
    """Return the result of a method that returns edited images only. Its costs are unknown."""
    if not isinstance(answer, Tensor):
        raise TypeError(
            "result: expected Counterfactuals, or edited images as a tensor (n, c, h, w), got "
            f"{validate.describe(answer)}"
        )
    validate.shape(answer.shape, task.images.shape, "result", "images of shape")
    image = validate.images(answer, "result").to(task.images.device)
    before, after = (predict_logits(task.classifier, x) for x in (task.images, image))
    already, flipped = (is_predicted(x, task.target.to(x.device)) for x in (before, after))
    pairs = zip(already.tolist(), flipped.tolist(), strict=True)
    status = tuple(
        types.ALREADY_TARGET if a else types.FLIPPED if f else types.NOT_FOUND for a, f in pairs
    )
    return Counterfactuals(
        original=task.images,
        image=image,
        reconstruction=task.images,
        logits_before=before,
        logits_after=after,
        target=task.target,
        status=status,
        made_by={"function": name, "seconds": seconds},
    )
