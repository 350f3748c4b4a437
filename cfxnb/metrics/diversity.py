"""Differences between several counterfactuals of the same image."""

import dataclasses
from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedFunction
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import norms
from cfxnb.metrics.ground_truth import read_indices


@standard_modes
def diversity(
    results: Sequence[Counterfactuals], features: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Return the mean distance between the counterfactuals of each image (Jeanneret et al., 2022).

    Args:
        results: At least two results for the same images in the same order, for example with
            different seeds, directions or methods.
        features: Images -> features (b, d). The distance is Euclidean in the space of the features.
            Default: pixels.

    Returns:
        One value per image, float64 (n,): the mean distance over the pairs of results in which
        both counterfactuals flipped. Higher is more diverse. The value of an image is NaN if fewer
        than two of its counterfactuals flipped.

    Raises:
        ValueError, TypeError: If an argument is wrong, or features are not finite.
    """
    results = validate_results.results(results, "results", 2)
    if len({cf.image.shape for cf in results}) > 1:
        raise ValueError(
            f"results: expected images of one shape, got {[tuple(r.image.shape) for r in results]}"
        )
    validate_results.same_images(results, "results")
    vectors = [cf.image for cf in results]
    if features is not None:
        validate.function(features, "features")
        function = CheckedFunction(features, "features", 2)
        with eval_frozen(features), torch.no_grad():
            # Images of searches that failed may hold NaN; they are not used.
            vectors = [function(x.nan_to_num()) if len(x) else x for x in vectors]
        if len({x.shape for x in vectors}) > 1:
            raise ValueError(
                f"features: expected one shape for all images, "
                f"got {[tuple(x.shape) for x in vectors]}"
            )
    return _mean_over_pairs(
        results, lambda i, j: norms((vectors[i].double() - vectors[j].double()).cpu())
    )


@standard_modes
def factor_diversity(results: Sequence[Counterfactuals], judge: FactorReader) -> Tensor:
    """Return in how many factors the counterfactuals of each image differ, according to a judge.

    Args:
        results: At least two results for the same images in the same order, for example with
            different seeds or methods.
        judge: Independent factor reader (a network that predicts the factors of an image), which no
            method has seen.

    Returns:
        One value per image, float64 (n,): the mean number of factors that the judge reads
        differently, over the pairs of results in which both counterfactuals flipped. The values lie
        between 0 and the number of factors; higher is more diverse. The value of an image is NaN if
        fewer than two of its counterfactuals flipped.

    Raises:
        ValueError, TypeError: If an argument is wrong. The error message names the argument.
    """
    validate.instance(judge, FactorReader, "judge", "a cfx.FactorReader")
    results = validate_results.results(results, "results", 2)
    validate_results.same_images(results, "results")
    factors = [
        read_indices(judge, dataclasses.replace(r, image=r.image.nan_to_num()), "image").cpu()
        for r in results
    ]
    return _mean_over_pairs(results, lambda i, j: (factors[i] != factors[j]).double().sum(1))


def _mean_over_pairs(
    results: Sequence[Counterfactuals], distance: Callable[[int, int], Tensor]
) -> Tensor:
    """Return the mean of ``distance(i, j)`` over pairs of flipped counterfactuals, float64 (n,)."""
    total = torch.zeros(len(results[0]), dtype=torch.float64)
    pairs = torch.zeros_like(total)
    for i, j in combinations(range(len(results)), 2):
        both = (results[i].flipped & results[j].flipped).double()
        total += torch.where(both > 0, distance(i, j), 0.0)
        pairs += both
    return total / torch.where(pairs > 0, pairs, torch.nan)
