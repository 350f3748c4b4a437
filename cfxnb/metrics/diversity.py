"""How different several counterfactuals of the same image are."""

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedFunction
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import norms


@standard_modes
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
        ValueError, TypeError: for a wrong argument, fewer than two results, results of other
            images, or features that are not finite.
    """
    results = validate_results.results(results, "results", 2)
    if len({cf.image.shape for cf in results}) > 1:
        raise ValueError(
            f"results: expected images of one shape, got {[tuple(r.image.shape) for r in results]}"
        )
    validate_results.same_images(results, "results")
    seen = [cf.image for cf in results]
    if features is not None:
        validate.function(features, "features")
        function = CheckedFunction(features, "features", 2)
        with eval_frozen(features), torch.no_grad():
            # What no network has looked at has no features: images of searches that failed.
            seen = [function(x.nan_to_num()) if len(x) else x for x in seen]
        if len({x.shape for x in seen}) > 1:
            raise ValueError(
                f"features: expected one shape for all images, got {[tuple(x.shape) for x in seen]}"
            )
    total = torch.zeros(len(results[0]), dtype=torch.float64)
    pairs = torch.zeros_like(total)
    for i, j in combinations(range(len(results)), 2):
        both = (results[i].flipped & results[j].flipped).double()
        apart = norms((seen[i].double() - seen[j].double()).cpu())
        total += torch.where(both > 0, apart, 0.0)
        pairs += both
    return total / torch.where(pairs > 0, pairs, torch.nan)
