"""Distances between two sets of feature vectors: FID, KID, sFID, MMD.

The functions take features, not images. Name the network that gives the features whenever you
report a distance, because "FID" alone stands for Inception features.
"""

from typing import Any

import torch
from torch import Generator, Tensor

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes

MAX_SUBSETS = 10**6  # more would take days


@standard_modes
def fid(a: Tensor, b: Tensor, *, allow_few: bool = False) -> float:
    """Return the Frechet distance of two Gaussians fitted to features (Heusel et al., 2017).

    The computation is in float64. For the covariances S1 and S2 of the two sets, tr sqrt(S1 S2) is
    computed as the nuclear norm of the product of two matrices of centred features. The nuclear
    norm is exact for singular covariances too. The distance has the unit of squared features. A
    lower distance is better. The distance 0 means equal means and covariances.

    Args:
        a, b: Two sets of features, (n, d) and (m, d).
        allow_few: If True, n and m may be smaller than d. If a set has fewer rows than features,
            the distance is much too large on average.

    Raises:
        ValueError, TypeError: If an argument is wrong, or there are too few rows.
    """
    a, b = _pair(a, b)
    validate.flag(allow_few, "allow_few")
    d = a.shape[1]
    min_rows = 2 if allow_few else max(2, d)
    for name, x in (("a", a), ("b", b)):
        if len(x) < min_rows:
            raise ValueError(
                f"{name}: expected at least {min_rows} rows for {d} features, got {len(x)}"
            )
    root_a, root_b = _root(a), _root(b)
    cross = torch.linalg.svdvals(root_a @ root_b.T).sum()
    means = (a.mean(0) - b.mean(0)).square().sum()
    return _number(means + root_a.square().sum() + root_b.square().sum() - 2 * cross)


def _root(x: Tensor) -> Tensor:
    """Return a matrix r with at most d rows and r.T @ r = cov(x), for x of shape (n, d)."""
    centred = (x - x.mean(0)) / (len(x) - 1) ** 0.5
    tall = len(centred) > centred.shape[1]
    # An orthonormal factor on the left changes neither norms nor singular values of products.
    return torch.linalg.qr(centred, mode="r").R if tall else centred


@standard_modes
def mmd2(a: Tensor, b: Tensor) -> float:
    """Return the unbiased squared maximum mean discrepancy with the kernel (x.y / d + 1)^3.

    Lower is better. The expected value for two samples of one distribution is 0, so single values
    can be negative.

    Args:
        a, b: Two sets of features, (n, d) and (m, d), with at least 2 rows each.
    """
    a, b = _pair(a, b)
    n, m, d = len(a), len(b), a.shape[1]
    if min(n, m) < 2:
        raise ValueError(f"a, b: expected at least 2 rows each, got {n} and {m}")

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / d + 1) ** 3

    within_a = (kernel(a, a).sum() - kernel(a, a).trace()) / (n * (n - 1))
    within_b = (kernel(b, b).sum() - kernel(b, b).trace()) / (m * (m - 1))
    return _number(within_a + within_b - 2 * kernel(a, b).mean())


@standard_modes
def kid(
    a: Tensor,
    b: Tensor,
    *,
    subset_size: int = 100,
    n_subsets: int = 50,
    seed: int = 0,
    subset_indices: tuple[Tensor, Tensor] | None = None,
) -> tuple[float, float]:
    """Return the kernel inception distance (KID, Binkowski et al., 2018) over random subsets.

    Args:
        a, b: Two sets of features, (n, d) and (m, d).
        subset_size: Number of rows per subset, drawn from each set without replacement.
        n_subsets: Number of subsets.
        seed: Seed of the random subsets.
        subset_indices: Row indices for a and for b, int64 (n_subsets, subset_size) each, which
            replace the random subsets.

    Returns:
        Mean and standard deviation of the values of ``mmd2`` for the subsets. A lower mean is
        better.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    a, b = _pair(a, b)
    n_subsets = validate.count(n_subsets, "n_subsets", 1, MAX_SUBSETS)
    seed, subset_size = validate.seed(seed), validate.count(subset_size, "subset_size", 2)
    if subset_indices is not None:
        subset_indices = _subsets(subset_indices, len(a), len(b))
    else:
        smaller = min(len(a), len(b))
        if subset_size > smaller:
            raise ValueError(f"subset_size: expected at most {smaller} rows, got {subset_size}")
        g = Generator().manual_seed(seed)
        draws = [
            torch.stack(
                [torch.randperm(len(x), generator=g)[:subset_size] for _ in range(n_subsets)]
            )
            for x in (a, b)
        ]
        subset_indices = (draws[0], draws[1])
    values = torch.tensor(
        [mmd2(a[i], b[j]) for i, j in zip(*subset_indices, strict=True)], dtype=torch.float64
    )
    return float(values.mean()), float(values.std(correction=0))


def _subsets(value: Any, first: int, second: int) -> tuple[Tensor, Tensor]:
    """Return the checked row indices for a and b, int64 (n_subsets, subset_size) each."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(
            f"subset_indices: expected two tensors of rows, got {validate.describe(value)}"
        )
    found = []
    for rows, length, name in zip(value, (first, second), ("a", "b"), strict=True):
        kind = validate.instance(rows, Tensor, "subset_indices", "two tensors of rows").dtype
        if rows.ndim != 2 or rows.shape[1] < 2 or not len(rows) or kind != torch.int64:
            raise ValueError(
                f"subset_indices: expected int64 rows of {name} of shape "
                f"(n_subsets, subset_size), subset_size >= 2, "
                f"got {kind} of shape {tuple(rows.shape)}"
            )
        if rows.is_meta or rows.layout != torch.strided or rows.min() < 0 or rows.max() >= length:
            raise ValueError(
                f"subset_indices: expected rows of {name} from 0 to {length - 1}, got others"
            )
        found.append(rows)
    if len(found[0]) != len(found[1]):
        raise ValueError(
            f"subset_indices: expected as many subsets for b as for a, "
            f"got {len(found[1])} and {len(found[0])}"
        )
    return found[0], found[1]


@standard_modes
def sfid(
    real: Tensor, counterfactual: Tensor, success: Tensor, *, seed: int = 0, allow_few: bool = False
) -> float:
    """Return the split FID (sFID, Jeanneret et al., 2023).

    The images are split at random into two halves. sFID is the mean of two distances. Each
    distance is the FID between the originals of one half and the successful counterfactuals of the
    other half. Because of the split, no counterfactual is compared with its own original. Lower is
    better.

    Args:
        real, counterfactual: Features of originals and counterfactuals, in the same order, (n, d).
        success: Which counterfactuals are used, bool (n,).
        seed: Seed of the random split.
        allow_few: See ``fid``.

    Raises:
        ValueError, TypeError: If an argument is wrong, or there are too few rows.
    """
    real = _features(real, "real")
    counterfactual = _features(counterfactual, "counterfactual")
    if counterfactual.shape != real.shape:
        raise ValueError(
            f"counterfactual: expected the shape of real, {tuple(real.shape)}, "
            f"got {tuple(counterfactual.shape)}"
        )
    success = validate.decisions(success, "success", (len(real),))
    if success.dtype != torch.bool:
        raise TypeError(f"success: expected bools, got {success.dtype}")
    order = torch.randperm(len(real), generator=Generator().manual_seed(validate.seed(seed)))
    return sfid_of_split(real, counterfactual, success, order, allow_few=allow_few)


def sfid_of_split(
    real: Tensor, counterfactual: Tensor, success: Tensor, order: Tensor, *, allow_few: bool = False
) -> float:
    """Return the sFID for the two halves of the images that ``order`` defines.

    Args:
        real, counterfactual, success, allow_few: As in ``sfid``.
        order: Permutation of the rows, int64 (n,). The first and the second half of ``order`` are
            the two halves of the split. If n is odd, the middle row of ``order`` is ignored.
    """
    half = len(order) // 2
    one, two = order[-half:], order[:half]
    halves = [(real[x], counterfactual[y[success[y]]]) for x, y in ((one, two), (two, one))]
    d = real.shape[1]
    min_rows = 2 if validate.flag(allow_few, "allow_few") else max(2, d)
    for name, sizes in (("real", [len(r) for r, _ in halves]),
                        ("success", [len(c) for _, c in halves])):  # fmt: skip
        if min(sizes) < min_rows:
            raise ValueError(
                f"{name}: expected at least {min_rows} rows in each half for {d} features, "
                f"got {min(sizes)}"
            )
    return 0.5 * sum(fid(r, c, allow_few=allow_few) for r, c in halves)


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    a, b = _features(a, "a"), _features(b, "b")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"b: expected {a.shape[1]} features per row as in a, got {b.shape[1]}")
    return a, b


def _features(x: Tensor, name: str) -> Tensor:
    if not isinstance(x, Tensor) or x.ndim != 2 or 0 in x.shape:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name}: expected features of shape (n, d), got {got}")
    if not x.is_floating_point() or x.is_meta or x.layout != torch.strided:
        raise TypeError(f"{name}: expected floats, got {x.dtype} {x.layout} on {x.device}")
    if not x.isfinite().all():
        raise ValueError(f"{name}: expected finite features, got NaN or infinity")
    return x.detach().double()


def _number(value: Tensor) -> float:
    """Return the distance as a float, or raise ValueError if it is NaN or infinite."""
    if not value.isfinite():
        raise ValueError("a, b: expected features whose distance is finite, got too large ones")
    return float(value)
