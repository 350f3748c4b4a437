"""Checks of codes and of results that callers hand in."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import results_file
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import finite_rows
from cfxnb.core.types import STOPPED, Code
from cfxnb.core.validate import code_like, describe, instance, part_of


def codes(value: Any, name: str) -> tuple[Code, Code]:
    """Where a result's changes begin and where they end."""
    cf: Counterfactuals = instance(value, Counterfactuals, name)
    if cf.code_before is None or cf.code_after is None:
        raise TypeError(
            f"{name}: expected a result with codes, as latent_attack returns, got a result "
            "without codes, such as that of pixel_attack"
        )
    return cf.code_before, cf.code_after


def result(value: Any, name: str) -> Counterfactuals:
    """A result whose fields fit each other, with finite numbers wherever something was decided."""
    cf: Counterfactuals = instance(value, Counterfactuals, name)
    with part_of(name):
        results_file.check({f.name: getattr(cf, f.name) for f in dataclasses.fields(cf)})
    decided = torch.tensor([s in results_file.DECIDED for s in cf.status], dtype=torch.bool)
    for part, code in (("code_before", cf.code_before), ("code", cf.code_after)):
        if code is not None and not code.z[decided.to(code.z.device)].isfinite().all():
            raise ValueError(f"{name}.{part}: expected finite codes, got NaN or infinity")
    return cf


def begun(cf: Counterfactuals, name: str) -> None:
    """Refuse a result with rows that a stop left out: nothing is known of them."""
    left = torch.tensor([s == STOPPED for s in cf.status], dtype=torch.bool)
    left &= ~cf.logits_after.detach().isfinite().all(1).cpu()
    if cf.code_after is not None:
        left |= ~finite_rows(cf.code_after.z.detach()).cpu()
    if left.any():
        raise ValueError(
            f"{name}: expected a result that was finished, got {int(left.sum())} of {len(cf)} "
            f"rows that were never begun; leave them out, for example by {name}[{name}.eligible]"
        )


def results(value: Any, name: str, least: int = 1) -> list[Counterfactuals]:
    """A sequence of results of equal length."""
    if isinstance(value, Counterfactuals) or not isinstance(value, list | tuple):
        raise TypeError(f"{name}: expected a list of results, got {describe(value)}")
    listed = [result(each, f"{name}[{i}]") for i, each in enumerate(value)]
    if len(listed) < least or len({len(each) for each in listed}) > 1:
        lengths = [len(each) for each in listed[:20]]
        raise ValueError(f"{name}: expected {least} or more of equal length, got {lengths}")
    return listed


def same_images(results: list[Counterfactuals], name: str) -> None:
    """Refuse results that are not about the same images, row by row."""
    first = results[0].original.detach().cpu()
    for i, each in enumerate(results[1:], 1):
        other = each.original.detach().cpu()
        if other.shape != first.shape or not torch.equal(other, first):
            raise ValueError(
                f"{name}: expected results of the same images, row by row, got other originals in "
                f"{name}[{i}]"
            )


def code(value: Any, name: str, shape: tuple[int, ...] | None = None) -> Code:
    """A code with finite numbers, perhaps of a known shape."""
    found: Code = instance(value, Code, name, "a cfx.Code")
    code_like(found.z, f"{name}.z", shape)
    if found.aux is not None:
        rest = instance(found.aux, Tensor, f"{name}.rest", "a torch tensor or None")
        if rest.is_meta or rest.is_complex() or not rest.ndim or len(rest) != len(found.z):
            raise ValueError(
                f"{name}.aux: expected {len(found.z)} rows of numbers, got {rest.dtype} of shape "
                f"{tuple(rest.shape)}"
            )
        if not rest.isfinite().all():
            raise ValueError(f"{name}.aux: expected finite numbers, got NaN or infinity")
    return found
