"""Distances between two sets of feature vectors.

They take features, not images, so that they say nothing about where the features come from:
name the features whenever you report one. "FID" without a word stands for Inception features.
"""

import torch
from torch import Generator, Tensor

from cfxnb import validate


def fid(a: Tensor, b: Tensor, *, few: bool = False) -> float:
    """Frechet distance of two Gaussians fitted to features (Heusel et al., 2017).

    Args:
        a, b: (n, d) and (m, d).
        few: allow fewer than d samples, where the estimate is biased upwards most strongly.

    Computed in float64; tr sqrt(S1 S2) as the nuclear norm of the product of the centred data,
    which stays exact where the covariances are singular.
    """
    a, b = _pair(a, b)
    d = a.shape[1]
    least = 2 if few else max(2, d)
    for name, x in (("a", a), ("b", b)):
        if len(x) < least:
            raise ValueError(
                f"{name}: expected at least {least} rows for {d} features, got {len(x)}"
            )
    left, right = _root(a), _root(b)
    cross = torch.linalg.svdvals(left @ right.T).sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return float(apart + left.square().sum() + right.square().sum() - 2 * cross)


def _root(x: Tensor) -> Tensor:
    """A matrix r with at most d rows and r.T @ r = cov(x), for x of shape (n, d)."""
    centred = (x - x.mean(0)) / (len(x) - 1) ** 0.5
    tall = len(centred) > centred.shape[1]
    # Orthonormal columns on the left change neither lengths nor singular values of products.
    return torch.linalg.qr(centred, mode="r").R if tall else centred


def mmd2(a: Tensor, b: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3."""
    a, b = _pair(a, b)
    n, m, d = len(a), len(b), a.shape[1]
    if min(n, m) < 2:
        raise ValueError(f"a, b: expected at least 2 rows each, got {n} and {m}")

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / d + 1) ** 3

    within_a = (kernel(a, a).sum() - kernel(a, a).trace()) / (n * (n - 1))
    within_b = (kernel(b, b).sum() - kernel(b, b).trace()) / (m * (m - 1))
    return float(within_a + within_b - 2 * kernel(a, b).mean())


def kid(
    a: Tensor,
    b: Tensor,
    *,
    subset: int = 100,
    repeats: int = 50,
    seed: int = 0,
    subsets: tuple[Tensor, Tensor] | None = None,
) -> tuple[float, float]:
    """Kernel inception distance (Binkowski et al., 2018): mean and spread of mmd2 over subsets.

    Args:
        subset: rows drawn from each set, each time.
        repeats: how often.
        subsets: fixed row indices (repeats, subset) for a and b, instead of drawing them.
    """
    a, b = _pair(a, b)
    validate.count(repeats, "repeats", 1)
    validate.count(seed, "seed")
    if subsets is None:
        largest = min(len(a), len(b))
        if validate.count(subset, "subset", 2) > largest:
            raise ValueError(f"subset: expected at most {largest} rows, got {subset}")
        g = Generator().manual_seed(seed)
        draws = [
            torch.stack([torch.randperm(len(x), generator=g)[:subset] for _ in range(repeats)])
            for x in (a, b)
        ]
        subsets = (draws[0], draws[1])
    values = torch.tensor(
        [mmd2(a[i], b[j]) for i, j in zip(*subsets, strict=True)], dtype=torch.float64
    )
    return float(values.mean()), float(values.std(correction=0))


def sfid(
    real: Tensor, counterfactual: Tensor, success: Tensor, *, seed: int = 0, few: bool = False
) -> float:
    """Split FID (Jeanneret et al., 2023): a counterfactual is never compared with its original.

    The rows are split at random; FID is taken between one half's originals and the other half's
    successful counterfactuals, both ways, and averaged.
    """
    order = torch.randperm(len(real), generator=Generator().manual_seed(seed))
    return sfid_of_split(real, counterfactual, success, order, few=few)


def sfid_of_split(
    real: Tensor, counterfactual: Tensor, success: Tensor, order: Tensor, *, few: bool = False
) -> float:
    """``sfid`` for a given order of the rows; with an odd number the middle one is left out."""
    half = len(order) // 2
    one, two = order[-half:], order[:half]
    return 0.5 * sum(
        fid(real[x], counterfactual[y[success[y]]], few=few) for x, y in ((one, two), (two, one))
    )


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    a, b = _features(a, "a"), _features(b, "b")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"b: expected {a.shape[1]} features a row as in a, got {b.shape[1]}")
    return a, b


def _features(x: Tensor, name: str) -> Tensor:
    if not isinstance(x, Tensor) or x.ndim != 2:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name}: expected features of shape (n, d), got {got}")
    if not x.isfinite().all():
        raise ValueError(f"{name}: expected finite features, got NaN or infinity")
    return x.detach().double()
