"""How different several counterfactuals of the same image are."""

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from cfxnb import validate
from cfxnb.results import Counterfactuals
from cfxnb.tensors import norms


def diversity(
    results: Sequence[Counterfactuals], features: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Mean distance of each image's counterfactuals from each other (Jeanneret et al., 2022).

    Args:
        results: of the same images, row by row: other seeds, directions or methods.
        features: images -> (b, d), in which distances are Euclidean; by default the pixels.

    Returns:
        float64 (n,): the mean over the pairs of results in which both flipped; NaN without any.

    Raises:
        ValueError, TypeError: for a wrong argument, fewer than two results, or unequal lengths.
    """
    if isinstance(results, Counterfactuals) or not isinstance(results, Sequence):
        raise TypeError(f"results: expected a sequence of results, got {validate.told(results)}")
    for cf in results:
        validate.instance(cf, Counterfactuals, "results")
    validate.optional(validate.function, features, "features")
    if len(results) < 2 or len({len(cf) for cf in results}) > 1:
        raise ValueError(
            f"results: expected two or more of equal length, got {[len(cf) for cf in results]}"
        )
    with torch.no_grad():
        seen = [cf.image if features is None else features(cf.image) for cf in results]
    total = torch.zeros(len(results[0]), dtype=torch.float64)
    pairs = torch.zeros_like(total)
    for i, j in combinations(range(len(results)), 2):
        both = (results[i].flipped & results[j].flipped).double()
        total += both * norms((seen[i] - seen[j]).double().cpu())
        pairs += both
    return total / torch.where(pairs > 0, pairs, torch.nan)
