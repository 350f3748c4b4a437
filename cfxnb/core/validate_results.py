"""Check codes and results that a caller passes."""

import dataclasses
from typing import Any

import torch

from cfxnb.core import results_file
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import finite_rows
from cfxnb.core.types import STOPPED, Code
from cfxnb.core.validate import code_like, describe, float_tensor, instance, part_of


def codes(value: Any, name: str) -> tuple[Code, Code]:
    """Return the codes before and after the change, and refuse a result without codes."""
    cf: Counterfactuals = instance(value, Counterfactuals, name)
    if cf.code_before is None or cf.code_after is None:
        raise TypeError(
            f"{name}: expected a result with codes, as latent_attack returns, got a result "
            "without codes, such as that of pixel_attack"
        )
    return cf.code_before, cf.code_after


def result(value: Any, name: str) -> Counterfactuals:
    """Return the value if it is a result with consistent fields and finite codes."""
    cf: Counterfactuals = instance(value, Counterfactuals, name)
    with part_of(name):
        results_file.check({f.name: getattr(cf, f.name) for f in dataclasses.fields(cf)})
    decided = torch.tensor([s in results_file.DECIDED for s in cf.status], dtype=torch.bool)
    for part, code in (("code_before", cf.code_before), ("code_after", cf.code_after)):
        if code is not None and not code.z[decided.to(code.z.device)].isfinite().all():
            raise ValueError(f"{name}.{part}: expected finite codes, got NaN or infinity")
    return cf


def all_started(cf: Counterfactuals, name: str) -> None:
    """Refuse the result of a stopped call that did not start all images."""
    left = torch.tensor([s == STOPPED for s in cf.status], dtype=torch.bool)
    left &= ~cf.logits_after.detach().isfinite().all(1).cpu()
    if cf.code_after is not None:
        left |= ~finite_rows(cf.code_after.z.detach()).cpu()
    if left.any():
        raise ValueError(
            f"{name}: expected a finished result, got {int(left.sum())} of {len(cf)} rows that "
            f"were not started; leave them out, for example by {name}[{name}.eligible]"
        )


def results(value: Any, name: str, min_count: int = 1) -> list[Counterfactuals]:
    """Return a list of at least ``min_count`` results of equal length."""
    if isinstance(value, Counterfactuals) or not isinstance(value, list | tuple):
        raise TypeError(f"{name}: expected a list of results, got {describe(value)}")
    listed = [result(each, f"{name}[{i}]") for i, each in enumerate(value)]
    if len(listed) < min_count or len({len(each) for each in listed}) > 1:
        lengths = [len(each) for each in listed[:20]]
        raise ValueError(f"{name}: expected {min_count} or more of equal length, got {lengths}")
    return listed


def same_images(results: list[Counterfactuals], name: str) -> None:
    """Refuse results that do not have the same original images in the same order."""
    first = results[0].original.detach().cpu()
    for i, each in enumerate(results[1:], 1):
        other = each.original.detach().cpu()
        if other.shape != first.shape or not torch.equal(other, first):
            raise ValueError(
                f"{name}: expected results of the same images, row by row, got other originals in "
                f"{name}[{i}]"
            )


def code(value: Any, name: str, shape: tuple[int, ...] | None = None) -> Code:
    """Return the value if it is a Code with finite numbers. ``shape`` is the shape of one ``z``, if
    known."""
    found: Code = instance(value, Code, name, "a cfx.Code")
    code_like(found.z, f"{name}.z", shape)
    if found.aux is not None and not float_tensor(found.aux, f"{name}.aux").isfinite().all():
        raise ValueError(f"{name}.aux: expected finite numbers, got NaN or infinity")
    return found
