"""Descriptors: one regularised logistic regression from codes to each named property."""

import dataclasses
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from cfxnb.core import progress, validate
from cfxnb.core.border import CheckedSpace
from cfxnb.core.modes import standard_modes, standard_numbers
from cfxnb.core.modules import eval_frozen
from cfxnb.core.saved import Result
from cfxnb.core.tensors import standardise
from cfxnb.core.types import LatentSpace

PENALTIES = (1e-12, 1e12)  # outside this range the regression overflows
MIN_HELD_OUT = 20  # images held out on either side of the threshold; fewer prove nothing


@dataclasses.dataclass(frozen=True, eq=False)
class Descriptors(Result):
    """Linear models that predict named properties from codes.

    Attributes:
        names: Names of the d properties.
        weights, bias: Coefficients, (d, dims) and (d,). The log odds of property j at code z are
            ``weights[j] @ ((z - mean) / std) + bias[j]``.
        mean, std: Mean and standard deviation of the codes, copied from the space.
        quality: One row per property. The columns are ``AUC`` on held-out images, its 95 % interval
            (``low``, ``high``), ``calibration error``, ``threshold`` and ``readable`` (bool). Each
            model predicts whether its property is above ``threshold``.
        correlation: Correlations between the properties' log odds on real codes, (d, d).
    """

    names: tuple[str, ...]
    weights: Tensor
    bias: Tensor
    mean: Tensor
    std: Tensor
    quality: pd.DataFrame
    correlation: pd.DataFrame

    def __post_init__(self) -> None:
        validate.fields(self)
        validate.place(self.mean, self.std)
        count, dims = len(self.names), self.mean.numel()
        if not count or len(set(self.names)) < count:
            raise ValueError(f"names: expected each property once, got {self.names[:20]}")
        for name, shape in (("weights", (count, dims)), ("bias", (count,))):
            validate.shape(validate.array(getattr(self, name), name).shape, shape, name)
        if list(self.quality.index) != list(self.names) or "readable" not in self.quality:
            raise ValueError("quality: expected a row for each of names, and a column 'readable'")
        if self.quality["readable"].dtype != bool:
            raise TypeError("quality: expected bools in 'readable', got others")
        validate.shape(self.correlation.shape, (count, count), "correlation")

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per property: ``quality``, with the index "descriptor"."""
        return self.quality.rename_axis("descriptor")

    @standard_numbers
    def log_odds(self, z: Tensor) -> Tensor:
        """Return the log odds of each property, (n, d).

        Args:
            z: Codes of the space for which the descriptors were fitted, (n, ...).

        Raises:
            ValueError, TypeError: If ``z`` does not hold finite codes of the descriptors' space.
        """
        validate.code_like(z, "z", tuple(self.mean.shape))
        odds = self.standardise(z - self.mean.to(z)) @ self.weights.to(z).T + self.bias.to(z)
        if not odds.isfinite().all():
            raise ValueError("z: expected codes of ordinary size, got log odds that are infinite")
        return odds

    @standard_numbers
    def standardise(self, change: Tensor) -> Tensor:
        """Return a difference of codes in standard deviations, flattened to (n, dims).

        Args:
            change: Differences of codes of the descriptors' space, (n, ...).

        Raises:
            ValueError, TypeError: If ``change`` does not hold finite changes of codes of the
                descriptors' space.
        """
        validate.code_like(change, "change", tuple(self.mean.shape))
        return standardise(change, self.std).flatten(1)

    @property
    def readable(self) -> tuple[str, ...]:
        """Names of the properties that can be predicted from the code."""
        return tuple(self.quality.index[self.quality["readable"]])


@standard_modes
def fit_descriptors(
    space: LatentSpace,
    images: Tensor,
    factors: pd.DataFrame,
    *,
    l2_penalty: float = 1.0,
    test_size: float = 0.3,
    min_auc: float = 0.75,
    batch_size: int = 512,
    seed: int = 0,
) -> Descriptors:
    """Fit one L2-regularised logistic regression per property (arXiv 2504.15479).

    If a column has more than two values, the model predicts whether the value is above the median
    of the column. Every model answers a yes-no question, so the scores of all properties are log
    odds and can be compared. Part of the images is held out to test each fit. A property is
    readable if the lower end of its AUC interval is at least ``min_auc``, and if at least 20
    held-out images lie on each side of the threshold. ``describe_change`` gives scores only to
    readable properties.

    Args:
        space: Space whose codes are used.
        images: Images (n, c, h, w) in [0, 1].
        factors: Properties of the images: one row per image, in the order of ``images``, and one
            column of numbers or bools per property. The index of the table is ignored. An image
            with a missing value in a column is left out of the fit for that column.
        l2_penalty: Strength of the L2 penalty on the weights, from 1e-12 to 1e12. Default: 1.
        test_size: Fraction of images held out, from 0.05 to 0.95. Default: 0.3.
        min_auc: Smallest AUC of a readable property, in [0.5, 1]. Default: 0.75.
        batch_size: Images per batch. A larger batch is faster and needs more memory.
        seed: Seed of the random split and of the bootstrap interval of the AUC. Default: 0.

    Returns:
        The fitted Descriptors.

    Raises:
        ValueError, TypeError: If an argument is wrong, for example a column that is constant or not
            numeric.
    """
    validate.space(space)
    images = validate.images(images)
    columns = _columns(factors, len(images))
    batch_size = validate.count(batch_size, "batch_size", 1)
    l2_penalty = validate.number(l2_penalty, "l2_penalty", *PENALTIES)
    test_size = validate.number(test_size, "test_size", 0.05, 0.95)
    min_auc = validate.number(min_auc, "min_auc", 0.5, 1.0)
    seed = validate.seed(seed)
    space = CheckedSpace(space)
    with eval_frozen(space), torch.no_grad():
        batches = progress.each(images.split(batch_size), "fit_descriptors")
        z = torch.cat([space.encode(chunk).z for chunk in batches])
    mean, std = space.mean.to(z), space.std.to(z)
    u = standardise(z - mean, std).flatten(1).double().cpu().numpy()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(u))
    held_out = np.zeros(len(u), bool)
    held_out[order[: round(test_size * len(u))]] = True

    models, rows = [], {}
    for name, values in columns.items():
        model, quality = _fit_one(u, values, name, held_out, l2_penalty, rng)
        models.append(model)
        enough = quality.pop("held out") >= MIN_HELD_OUT
        rows[name] = {**quality, "readable": enough and quality["low"] >= min_auc}
    w = np.stack([model.coef_[0] for model in models])
    names = list(rows)
    scores = w @ u.T
    if not scores.std(1).all():
        raise ValueError("images: expected codes that differ, got equal codes or equal log odds")
    correlation = np.atleast_2d(np.corrcoef(scores))
    return Descriptors(
        names=tuple(names),
        weights=torch.tensor(w, dtype=torch.float32),
        bias=torch.tensor([float(model.intercept_[0]) for model in models]),
        mean=mean.cpu(),
        std=std.cpu(),
        quality=pd.DataFrame.from_dict(rows, orient="index"),
        correlation=pd.DataFrame(correlation, index=names, columns=names),
    )


def _fit_one(
    u: np.ndarray,
    values: np.ndarray,
    name: str,
    held_out: np.ndarray,
    l2_penalty: float,
    rng: np.random.Generator,
) -> tuple[LogisticRegression, dict[str, float]]:
    """Fit the model of one property, and return it with its quality on the held-out images."""
    threshold = _threshold(values)
    present, truth = np.isfinite(values), values > threshold
    train, test = present & ~held_out, present & held_out
    if len(set(truth[train])) < 2 or len(set(truth[test])) < 2:
        raise ValueError(
            f"factors: expected values on both sides of {threshold:.4g} in column {name!r}, "
            "among the images to fit and among those held out, got one side only"
        )
    model = LogisticRegression(C=1 / l2_penalty, max_iter=1000).fit(u[train], truth[train])
    score = model.decision_function(u[test])
    auc, low, high = _auc_interval(truth[test], score, rng)
    error = _calibration_error(truth[test], score)
    fewer = min(truth[test].sum(), (~truth[test]).sum())
    found = {"AUC": auc, "low": low, "high": high, "calibration error": error}
    return model, found | {"threshold": threshold, "held out": fewer}


def _columns(factors: pd.DataFrame, rows: int) -> dict[str, np.ndarray]:
    """Return a dict of columns as floats. A column with fewer than two different values is
    refused."""
    factors = validate.table(factors, "factors", rows)
    if not len(factors.columns):
        raise ValueError("factors: expected at least one column, got no column")
    columns: dict[str, np.ndarray] = {}
    for name, column in factors.items():
        if str(name) in columns:
            raise ValueError(f"factors: expected each column once, got {str(name)!r} twice")
        values = _as_floats(column, name)
        known = np.unique(values[np.isfinite(values)])
        if len(known) < 2:
            got = f"only {known[0]}" if len(known) else "none"
            raise ValueError(f"factors: expected two values or more in column {name!r}, got {got}")
        columns[str(name)] = values
    return columns


def _as_floats(column: pd.Series, name: Any) -> np.ndarray:
    """Return a column of numbers or bools as floats, with missing values as NaN."""
    present = column.dropna()
    if len(present) and not isinstance(present.iloc[0], Real | bool | np.bool_):
        raise TypeError(
            f"factors: expected numbers in column {name!r}, got {column.dtype}, such as "
            f"{validate.describe(present.iloc[0])}"
        )
    try:
        values = column.to_numpy(float, na_value=np.nan)
    except (TypeError, ValueError):
        raise TypeError(
            f"factors: expected numbers in column {name!r}, got {column.dtype}"
        ) from None
    if np.isinf(values).any():
        raise ValueError(f"factors: expected finite numbers in column {name!r}, got infinity")
    return values


def _threshold(values: np.ndarray) -> float:
    """Return the threshold of a column.

    For a binary column, the threshold is the middle of the two values. For other columns, the
    threshold is the split near the median that comes closest to two equal halves.
    """
    known = np.unique(values[np.isfinite(values)])
    if len(known) == 2:
        return float(known.mean())
    median = float(np.nanmedian(values))
    below = known[known < median].max(initial=known[0])
    above = {split: np.nanmean(values[np.isfinite(values)] > split) for split in (below, median)}
    return float(min(above, key=lambda split: abs(above[split] - 0.5)))


def _auc_interval(
    truth: np.ndarray, score: np.ndarray, rng: np.random.Generator, n_resamples: int = 200
) -> tuple[float, float, float]:
    draws = []
    for _ in range(n_resamples):
        rows = rng.integers(0, len(truth), len(truth))
        if len(set(truth[rows])) == 2:
            draws.append(_auc(truth[rows], score[rows]))
    low, high = np.quantile(draws, [0.025, 0.975]) if draws else (np.nan, np.nan)
    return _auc(truth, score), float(low), float(high)


def _auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Return the area under the ROC curve, computed from ranks (Mann & Whitney).

    The result equals that of ``sklearn.metrics.roc_auc_score``. ``_auc`` is about 15 times as fast
    as ``roc_auc_score``, which saves time in a bootstrap.
    """
    above, below = int(truth.sum()), int((~truth).sum())
    ranks = rankdata(score)[truth].sum()
    return float((ranks - above * (above + 1) / 2) / (above * below))


def _calibration_error(truth: np.ndarray, score: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error, with ``bins`` bins of equal width in probability."""
    p = expit(score)
    place = np.minimum((p * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, p - truth)).sum() / len(p))
