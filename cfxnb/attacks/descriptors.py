"""Descriptors: one regularised regression each, from codes to a named property."""

import dataclasses
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.border import CheckedSpace
from cfxnb.core.modes import standard_modes, standard_numbers
from cfxnb.core.modules import eval_frozen
from cfxnb.core.tensors import standardise
from cfxnb.core.types import LatentSpace

PENALTIES = (1e-12, 1e12)  # beyond these the regression has no numbers left
LEAST_HELD_OUT = 20  # images held out on either side of the cut; fewer prove nothing


@dataclasses.dataclass(frozen=True, eq=False)
class Descriptors:
    """Linear readers of named properties, on codes measured in units of their spread.

    Attributes:
        names: the properties, (d,).
        weights, bias: log odds of property j at code z are
            ``weights[j] @ ((z - center) / spread) + bias[j]``; (d, dims) and (d,).
        mean, std: of the space.
        quality: one row a property: ``AUC`` on images held out with its 95 % interval
            (``low``, ``high``), ``calibration error``, ``cut`` (a measured property is read as
            "above ``cut``"), and ``readable``.
        correlation: of the readings on real codes, (d, d).
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
            tensor = getattr(self, name)
            if tensor.shape != shape or not tensor.isfinite().all():
                raise ValueError(
                    f"{name}: expected finite numbers of shape {shape}, got others, of shape "
                    f"{tuple(tensor.shape)}"
                )
        if list(self.quality.index) != list(self.names) or "readable" not in self.quality:
            raise ValueError("quality: expected a row for each of names, and a column 'readable'")
        if self.quality["readable"].dtype != bool:
            raise TypeError("quality: expected bools in 'readable', got others")
        if self.correlation.shape != (count, count):
            raise ValueError(
                f"correlation: expected shape {(count, count)}, got {self.correlation.shape}"
            )

    @standard_numbers
    def log_odds(self, z: Tensor) -> Tensor:
        """Log odds of each property, (n, d).

        Raises:
            ValueError, TypeError: for anything but finite codes of this space, (n, ...).
        """
        validate.code_like(z, "z", tuple(self.mean.shape))
        odds = self.standardise(z - self.mean.to(z)) @ self.weights.to(z).T + self.bias.to(z)
        if not odds.isfinite().all():
            raise ValueError("z: expected codes of ordinary size, got log odds that are infinite")
        return odds

    @standard_numbers
    def standardise(self, change: Tensor) -> Tensor:
        """A difference of codes in units of the spread, flattened to (n, dims).

        Raises:
            ValueError, TypeError: for anything but finite changes of codes of this space, (n, ...).
        """
        validate.code_like(change, "change", tuple(self.mean.shape))
        return standardise(change, self.std).flatten(1)

    @property
    def readable(self) -> tuple[str, ...]:
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
    """Learn to read properties off codes (arXiv 2504.15479: L2 logistic regression each).

    A column with more than two values is read as "above its median", so that all scores are log
    odds and can be compared. Part of the images is held out: a property whose AUC there, at the
    lower end of its interval, is below ``min_auc``, or with fewer than 20 such images on either
    side, can't be read from the code. It is marked unreadable and gets no score later.

    Args:
        space: whose codes are read.
        images: (n, c, h, w) in [0, 1].
        factors: one row an image, by position (the index is ignored), columns of numbers or
            bools, perhaps of nullable types; rows with a missing value are left out for that
            column.
        l2_penalty: strength of the L2 penalty on the weights, from 1e-12 to 1e12.
        test_size: share of images held out, in (0, 1).
        min_auc: in [0.5, 1].
        seed: of the split and of the interval's bootstrap.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them a column that is not
            numeric or constant.
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
        z = torch.cat([space.encode(chunk).z for chunk in images.split(batch_size)])
    mean, std = space.mean.to(z), space.std.to(z)
    u = standardise(z - mean, std).flatten(1).double().cpu().numpy()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(u))
    kept_out = np.zeros(len(u), bool)
    kept_out[order[: round(test_size * len(u))]] = True

    models, rows = [], {}
    for name, values in columns.items():
        model, quality = _fit_one(u, values, name, kept_out, l2_penalty, rng)
        models.append(model)
        enough = quality.pop("held out") >= LEAST_HELD_OUT
        rows[name] = {**quality, "readable": enough and quality["low"] >= min_auc}
    w = np.stack([model.coef_[0] for model in models])
    names = list(rows)
    readings = w @ u.T
    if not readings.std(1).all():
        raise ValueError("images: expected codes that differ, got equal ones, or equal readings")
    correlation = np.atleast_2d(np.corrcoef(readings))
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
    kept_out: np.ndarray,
    l2_penalty: float,
    rng: np.random.Generator,
) -> tuple[LogisticRegression, dict[str, float]]:
    """The reader of one property, and how well it reads the images that were kept out."""
    cut = _cut(values)
    present, truth = np.isfinite(values), values > cut
    train, test = present & ~kept_out, present & kept_out
    if len(set(truth[train])) < 2 or len(set(truth[test])) < 2:
        raise ValueError(
            f"factors: expected both sides of the cut at {cut:.4g} in column {name!r}, among "
            "the images to fit and among those held out, got one"
        )
    model = LogisticRegression(C=1 / l2_penalty, max_iter=1000).fit(u[train], truth[train])
    score = model.decision_function(u[test])
    auc, low, high = _auc_interval(truth[test], score, rng)
    error = _calibration_error(truth[test], score)
    fewer = min(truth[test].sum(), (~truth[test]).sum())
    found = {"AUC": auc, "low": low, "high": high, "calibration error": error, "threshold": cut}
    return model, found | {"held out": fewer}


def _columns(factors: pd.DataFrame, rows: int) -> dict[str, np.ndarray]:
    """The columns as numbers, each with at least two values."""
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
    """Numbers and bools as floats; NaN where a value is missing."""
    present = column.dropna()
    if len(present) and not all(isinstance(v, Real | bool | np.bool_) for v in present.head(1)):
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


def _cut(values: np.ndarray) -> float:
    """Between the two values of a binary column; else the split nearest to half and half."""
    known = np.unique(values[np.isfinite(values)])
    if len(known) == 2:
        return float(known.mean())
    median = float(np.nanmedian(values))
    below = known[known < median].max(initial=known[0])
    shares = {cut: np.nanmean(values[np.isfinite(values)] > cut) for cut in (below, median)}
    return float(min(shares, key=lambda cut: abs(shares[cut] - 0.5)))


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
    """Share of pairs in the right order, ties counting half (Mann & Whitney)."""
    above, below = int(truth.sum()), int((~truth).sum())
    ranks = rankdata(score)[truth].sum()
    return float((ranks - above * (above + 1) / 2) / (above * below))


def _calibration_error(truth: np.ndarray, score: np.ndarray, bins: int = 10) -> float:
    """Mean distance of stated probability and observed frequency over ``bins`` equal bins."""
    p = 1 / (1 + np.exp(-score))
    place = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [
        abs(p[place == b].mean() - truth[place == b].mean()) * (place == b).mean()
        for b in range(bins)
        if (place == b).any()
    ]
    return float(sum(gaps))
