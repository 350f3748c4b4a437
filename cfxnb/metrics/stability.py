"""Differences between counterfactuals of one image after small changes of seed or image."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import noise_like, norms, unit
from cfxnb.metrics.called_again import Method, call_again, recorded_seed, some


@standard_modes
def stability(
    method: Method,
    counterfactuals: Counterfactuals,
    *,
    seeds: Sequence[int] | None = None,
    input_noise: float = 0.0,
) -> pd.DataFrame:
    """Explain the same images again with the same method, and compare the explanations.

    If ``input_noise`` is 0, the method is called again with other seeds. If ``input_noise`` is
    above 0, the method is called again with its own seed and with noisy images.

    Args:
        method: Called as ``method(images, target, seed=seed)``, returns Counterfactuals. The method
            must be the one that made ``counterfactuals``.
        counterfactuals: The first explanations. Pass all counterfactuals of a call, not a part of
            them, because the noise of an image depends on its row.
        seeds: Seeds of the further calls if ``input_noise`` is 0, otherwise seeds of the noise.
            Default: the two numbers after the seed that ``counterfactuals`` records.
        input_noise: Standard deviation of Gaussian noise that is added to the pixels, in [0, 1].
            Default: 0. Noise of 0.01 is two to three grey levels.

    Returns:
        DataFrame with one row per image, and two columns:

        - ``flips again``: fraction of the further calls that flipped the image. A call is left out
          if the noise alone makes the classifier predict the target. Higher is better.
        - ``similarity``: mean cosine, in [-1, 1], between the changes that two calls make, over the
          pairs of calls that both flipped the image. The change is counterfactual minus
          reconstruction. A similarity of 1 means that all calls make the same change. A higher
          similarity means a more stable and less diverse method.

        The row of an image that did not flip in ``counterfactuals`` is NaN. ``similarity`` is also
        NaN if the image flipped in no pair of calls, or if nothing changed.

    Raises:
        ValueError, TypeError: If an argument is wrong. The error message names the argument.
    """
    cf = validate_results.result(counterfactuals, "counterfactuals")
    again = further_results(method, cf, seeds=seeds, input_noise=input_noise)
    table = np.full((len(cf), 2), np.nan)
    rows = cf.flipped.nonzero()[:, 0]
    if len(rows):
        table[rows.numpy()] = compare_runs([cf[rows], *(run[rows] for run in again)]).numpy()
    return pd.DataFrame(table, columns=["flips again", "similarity"])


def further_results(
    method: Method,
    cf: Counterfactuals,
    *,
    seeds: Sequence[int] | None = None,
    input_noise: float = 0.0,
) -> list[Counterfactuals]:
    """Explain the images of a result again; ``stability`` explains the arguments.

    Returns:
        One result per seed, for the same images in the same order. The list is empty if no image
        of ``cf`` flipped.
    """
    validate.function(method, "method")
    input_noise = validate.number(input_noise, "input_noise", 0.0, 1.0)
    own = recorded_seed(cf)
    listed = [own + 1, own + 2] if seeds is None else some(seeds, "seeds", "seeds")
    checked = [validate.seed(seed, "seeds") for seed in listed]
    if not cf.flipped.any():
        return []
    images, target, results = cf.original, cf.target, []
    for seed in checked:
        if input_noise:
            noisy = (images + input_noise * noise_like(images, seed)).clamp(0, 1)
            results.append(call_again(method, noisy, target, own))
        else:
            results.append(call_again(method, images, target, seed))
    return results


def compare_runs(results: Sequence[Counterfactuals]) -> Tensor:
    """Return the columns ``flips again`` and ``similarity`` for n images, float64 (n, 2)."""
    first, *others = results
    changes = [unit((r.image - r.reconstruction).double().cpu()).flatten(1) for r in results]
    total, pairs = torch.zeros(2, len(first), dtype=torch.float64)
    for i, j in combinations(range(len(results)), 2):
        moved = (norms(changes[i]) > 0) & (norms(changes[j]) > 0)
        both = results[i].flipped & results[j].flipped & moved
        total += torch.where(both, (changes[i] * changes[j]).sum(1), 0.0)
        pairs += both
    possible = torch.stack([r.eligible for r in others]).double().sum(0)
    flips = torch.stack([r.flipped for r in others]).double().sum(0)
    return torch.stack([flips / possible, total / pairs], 1)
