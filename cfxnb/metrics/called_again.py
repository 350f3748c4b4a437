"""Functions that several measures share, for example to call a method again."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.results import Counterfactuals

Method = Callable[..., Counterfactuals]
"""Called as ``method(images, target, seed=seed)``, it returns the Counterfactuals of these images.

``functools.partial(cfx.latent_attack, space, classifier)`` is such a method.
"""


def call_again(
    method: Method, images: Tensor, target: Tensor, seed: int, name: str = "method"
) -> Counterfactuals:
    """Call a method for other images or another seed, check the counterfactuals, and return them.

    Args:
        method: See ``Method``.
        images: Images (n, c, h, w) in [0, 1].
        target: Class of each image, (n,).
        name: Name of the argument, for error messages.

    Raises:
        TypeError, ValueError: If the method returns something else than finished counterfactuals of
            ``images``.
    """
    with validate.part_of(name):
        found = method(images, target, seed=seed)
    validate.instance(found, Counterfactuals, name, "a function that returns Counterfactuals")
    if found.image.shape != images.shape:
        raise ValueError(
            f"{name}: expected counterfactuals of shape {tuple(images.shape)}, "
            f"got {tuple(found.image.shape)}"
        )
    cf = validate_results.result(found, name)
    validate_results.all_started(cf, name)
    if not cf.image.isfinite().all():
        raise ValueError(f"{name}: expected finite counterfactuals, got NaN or infinity")
    return cf


def some(value: Any, name: str, what: str) -> list[Any]:
    """Return the entries of a list, tuple or range as a list; at least one entry is required."""
    if not isinstance(value, list | tuple | range):
        raise TypeError(f"{name}: expected a list of {what}, got {validate.describe(value)}")
    if not value:
        raise ValueError(f"{name}: expected at least one of {what}, got none")
    return list(value)


def source_classes(cf: Counterfactuals, name: str) -> Tensor:
    """Return the class that the explained classifier predicts for each original, (n,)."""
    if not cf.logits_before.isfinite().all():
        raise ValueError(
            f"{name}: expected finite logits of the originals, got NaN or infinity; leave out the "
            "rows with the status 'not_finite'"
        )
    return cf.logits_before.argmax(1)


def recorded_seed(cf: Counterfactuals) -> int:
    """Return the seed with which a result was made, or 0 if the result records no seed."""
    seed = cf.made_by.get("seed", 0)
    return seed if isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 else 0


def grey_levels(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean absolute difference of images in grey levels from 0 to 255, float64 (n,)."""
    return 255 * (a.double() - b.to(a.device).double()).abs().flatten(1).mean(1)


def nan_where(undefined: Tensor, values: Tensor) -> Tensor:
    """Return ``values`` (n,) in float64, with NaN where ``undefined`` (n,) is True."""
    return values.double().masked_fill(undefined.to(values.device), torch.nan)
