"""Composition, reversibility and effectiveness of a counterfactual method.

Monteiro et al., "Measuring axiomatic soundness of counterfactual image models" (ICLR 2023, arXiv
2303.01274). Composition, reversibility and effectiveness can be measured without true
counterfactuals. A null edit, which asks for the class that an image already has, must change
nothing (composition). An edit to another class and back must restore the image (reversibility).
After an edit, the image must have the asked value (effectiveness).

Distances are mean absolute differences over pixels and channels, in grey levels from 0 to 255.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.metrics.called_again import (
    Method,
    call_again,
    grey_levels,
    nan_where,
    recorded_seed,
    some,
    source_classes,
)

MAX_CLASSES = 10**6


@standard_modes
def cycle_distances(
    method: Method, images: Tensor, targets: Any, n_cycles: int = 1, *, seed: int = 0
) -> Tensor:
    """Return how far images are from their originals after each edit of a repeated cycle of edits.

    The first edit goes to ``targets[0]``, the next one to ``targets[1]``, and so on. Each edit
    starts from the result of the edit before. If the last target is the original class, a perfect
    method restores the images with each whole cycle. The distances after whole cycles measure
    reversibility. The distances within a cycle measure the size of the edits. If the original class
    is the only target, no edit should change anything (null edits), and the distances measure
    composition.

    Args:
        method: Called as ``method(images, target, seed=seed)``, returns Counterfactuals.
        images: Images, (n, c, h, w) in [0, 1].
        targets: Class of each image at each of m edits, (m, n).
        n_cycles: How often the whole cycle of m edits is made. Default: 1.
        seed: Seed that every call of the method gets, so that the noise of an image is the same in
            all edits.

    Returns:
        Distances in grey levels, float64 (m * n_cycles + 1, n). Row k is measured after k edits,
        and row 0 is 0. Lower distances are better for null edits and after whole cycles.

    Raises:
        ValueError, TypeError: If an argument is wrong. The error message names the argument.
    """
    validate.function(method, "method")
    images = validate.images(images)
    steps = validate.decisions(targets, "targets")
    if steps.ndim != 2 or not len(steps) or steps.shape[1] != len(images) or steps.min() < 0:
        raise ValueError(
            f"targets: expected classes of shape (m, {len(images)}), one row per edit, got shape "
            f"{tuple(steps.shape)}"
        )
    n_cycles, seed = validate.count(n_cycles, "n_cycles", 1), validate.seed(seed)
    edited, distances = images, [torch.zeros(len(images), dtype=torch.float64)]
    for _ in range(n_cycles):
        for target in steps.long():
            edited = call_again(method, edited, target, seed).image.to(images.device)
            distances.append(grey_levels(images, edited).cpu())
    return torch.stack(distances)


@standard_modes
def composition(
    method: Method, images: Tensor, labels: Any, cycles: Any = (1, 10), *, seed: int = 0
) -> pd.DataFrame:
    """Return how far a method moves images when it is asked for the class that they already have.

    Most methods return the reconstruction of an image that already has the target class.
    For methods that return the reconstruction, composition measures the error of the
    reconstruction, which adds up over the edits. For a method that adds noise, pass a function that
    runs the whole edit without any push towards a class. For a diffusion method, pass a function
    that calls ``diffusion_counterfactual`` with ``guidance="none"``.

    Args:
        method: Called as ``method(images, target, seed=seed)``, returns Counterfactuals.
        images: Images, (n, c, h, w) in [0, 1].
        labels: Class that the explained classifier predicts for each image, (n,).
        cycles: Numbers of null edits (edits to the class that an image already has) after which the
            distance is measured.
            Default: 1 and 10.
        seed: Seed that every call of the method gets.

    Returns:
        DataFrame with one row per image and one column per entry of ``cycles``: the mean absolute
        difference to the original in grey levels from 0 to 255. Lower is better.

    Raises:
        ValueError, TypeError: If an argument is wrong. The error message names the argument.
    """
    images = validate.images(images)
    labels = validate.labels(labels, len(images), MAX_CLASSES, "labels")
    listed = some(cycles, "cycles", "numbers of null edits")
    wanted = [validate.count(number, "cycles", 1) for number in listed]
    distances = cycle_distances(method, images, labels[None], max(wanted), seed=seed)
    return pd.DataFrame({number: distances[number].numpy().copy() for number in wanted})


@standard_modes
def reversibility(
    method: Method, counterfactuals: Counterfactuals, *, seed: int | None = None
) -> pd.DataFrame:
    """Explain each counterfactual back to the original class, and compare with the original.

    Args:
        method: Called as ``method(images, target, seed=seed)``, returns Counterfactuals. The method
            must be the one that made ``counterfactuals``.
        counterfactuals: Counterfactuals towards the target, made by ``method``. Only images that
            flipped are explained back.
        seed: Seed of the calls that explain back to the original class. Default: the seed that
            ``counterfactuals`` records.

    Returns:
        DataFrame with one row per image, and four columns:

        - ``flipped back``: 1 if the second call reached the class that was predicted for the
          original, otherwise 0. ``flipped back`` is NaN if the image did not flip to the target.
          Higher is better.
        - ``one way``: distance from the original to the counterfactual, in grey levels.
        - ``return``: distance from the original to the image that was explained back. Lower is
          better.
        - ``ratio``: the column ``return`` divided by the column ``one way``. A ratio below 1 means
          that the image moves back towards the original. Lower is better.

        The columns ``one way``, ``return`` and ``ratio`` are NaN if the image did not flip to the
        target and back. Report ``one way``, ``return`` and ``ratio`` together with the mean of
        ``flipped back``, because the three columns count only images that flipped back.

    Raises:
        ValueError, TypeError: If an argument is wrong. The error message names the argument.
    """
    validate.function(method, "method")
    cf = validate_results.result(counterfactuals, "counterfactuals")
    seed = recorded_seed(cf) if seed is None else validate.seed(seed)
    table = np.full((len(cf), 4), np.nan)
    rows = cf.flipped.nonzero()[:, 0]
    if len(rows):
        there = cf[rows]
        source = source_classes(there, "counterfactuals")
        back = call_again(method, there.image, source, seed)
        failed = ~back.flipped
        away = nan_where(failed, grey_levels(there.original, there.image).cpu())
        returned = nan_where(failed, grey_levels(there.original, back.image).cpu())
        ratio = returned / away.masked_fill(away == 0, torch.nan)
        table[rows.numpy()] = torch.stack([back.flipped.double(), away, returned, ratio], 1)
    return pd.DataFrame(table, columns=["flipped back", "one way", "return", "ratio"])


@standard_modes
def effectiveness(predicted: Any, wanted: Any) -> Tensor:
    """Return how well an independent predictor reads the asked value in each counterfactual.

    Report all properties of the images: the changed property must have the asked value, and all
    other properties must keep their values. The predictor must not be the explained classifier.

    Args:
        predicted: The value that the predictor reads in each of n counterfactuals, (n,). Integers
            or bools in ``predicted`` are classes. Floats in ``predicted`` are continuous
            properties.
        wanted: The value that each counterfactual should have, (n,), a class or a float like
            ``predicted``.

    Returns:
        float64 (n,). For classes, an entry is 1 if the predicted class is the wanted one, otherwise
        0. The mean of the entries is the accuracy, and higher is better. For continuous properties,
        an entry is the absolute error, and lower is better.

    Raises:
        ValueError, TypeError: If an argument is wrong. The error message names the argument.
    """
    if isinstance(predicted, Tensor) and predicted.is_floating_point():
        read, asked = (
            validate.array(x, name, 1) for x, name in ((predicted, "predicted"), (wanted, "wanted"))
        )
        if read.shape != asked.shape:
            raise ValueError(f"wanted: expected shape {read.shape}, got {asked.shape}")
        return torch.from_numpy(np.abs(read - asked).astype(float))
    found = validate.decisions(predicted, "predicted")
    if found.ndim != 1:
        raise ValueError(f"predicted: expected shape (n,), got {tuple(found.shape)}")
    return (found == validate.decisions(wanted, "wanted", found.shape).to(found.device)).double()
