"""Descriptor-based feature attribution: which named properties changed in a counterfactual?

Goldwasser & Hooker, arXiv 2504.15479, predict named properties from the code before and after the
change. Differences from the paper:

- The score of a property is the difference of its log odds before and after the change. The paper
  uses the difference of the property's probabilities. The log odds of a logistic regression are
  linear in the code and do not saturate.
- The scores come with measurements that can show that a score means little. The measurements are
  the quality of each descriptor (a linear model of a property), the fraction of the change that no
  descriptor explains, the decisions after an ablation of descriptors, confidence intervals, and a
  permutation null distribution.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from cfxnb.attacks.ablate import ablate, span
from cfxnb.attacks.descriptors import Descriptors
from cfxnb.core import validate, validate_results
from cfxnb.core.modes import standard_modes
from cfxnb.core.result_folder import ResultFolder
from cfxnb.core.results import Counterfactuals
from cfxnb.core.saved import Result
from cfxnb.core.types import Classifier, Code, LatentSpace

MAX_RESAMPLES = 10**6  # more would take days
LARGEST = 1e100  # largest log odds whose squares do not overflow
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureAttribution(Result):
    """How much each named property changed in each counterfactual, and on average.

    Attributes:
        local: Change of the log odds of each property (only those that the codes predict well),
            with one row per flipped image and one column per property. The index of the table holds
            the positions of the images in the counterfactuals.
        transition: Class of each flipped image before and after the change, such as ``"4 to 9"``.
        unexplained: Fraction of the squared change of each flipped code that lies outside the span
            of the weights of all readable descriptors, in [0, 1].
        groups: Groups of strongly correlated descriptors. Scores of strongly correlated descriptors
            cannot be separated, so interpret each group as a whole.
        global_: Mean change of the log odds (``mean``) for each transition and descriptor, with a
            95 % bootstrap interval (``low``, ``high``) and the number of images (``n``).
        null: Permutation test of each transition and descriptor, see ``permutation_null``. The
            column ``p`` is a p-value for the question whether the score depends on which original
            belongs to which counterfactual. ``p`` does not say whether the mean change differs from
            0, but the interval in ``global_`` does.
        ablation: Table of ``cfxnb.ablate``, or None if ``space`` and ``classifier`` were not given.
        unreadable: Names of the descriptors without a score, because the codes do not predict their
            properties well.
    """

    local: pd.DataFrame
    transition: pd.Series
    unexplained: pd.Series
    groups: tuple[tuple[str, ...], ...]
    global_: pd.DataFrame
    null: pd.DataFrame
    ablation: pd.DataFrame | None
    unreadable: tuple[str, ...]

    def __post_init__(self) -> None:
        validate.fields(self)

    def _check_saved(self) -> None:
        for name in ("transition", "unexplained"):
            if not getattr(self, name).index.equals(self.local.index):
                raise ValueError(f"{name}: expected the images of local, got other ones")
        if not self.global_.index.equals(self.null.index):
            raise ValueError("null: expected the rows of global_, got other ones")

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per flipped image.

        The index is the position in the counterfactuals. The columns are ``transition``,
        ``unexplained``, and the change of the log odds of each property, as in ``local``.
        """
        columns = {"transition": self.transition, "unexplained": self.unexplained}
        return pd.DataFrame(columns).join(self.local).rename_axis("image")

    def _repr_html_(self) -> str:
        joined = self.global_.join(self.null[["p"]]).rename(columns={"p": "p (pairing)"})
        note = f"; unreadable: {', '.join(self.unreadable)}" if self.unreadable else ""
        text = f"<p>{len(self.local)} flips; {self.unexplained.mean():.0%} unexplained{note}</p>"
        return text + joined.round(2).to_html()


@standard_modes
def describe_change(
    counterfactuals: Counterfactuals | ResultFolder,
    descriptors: Descriptors,
    *,
    space: LatentSpace | None = None,
    classifier: Classifier | None = None,
    min_correlation: float = 0.7,
    n_resamples: int = 1000,
    seed: int = 0,
) -> FeatureAttribution:
    """Score how much each named property changed, per counterfactual and per transition.

    A transition is the pair of classes before and after the change, such as "4 to 9".

    Args:
        counterfactuals: A result with codes, or a folder of results (see ``cfx.open``). Only the
            flipped images are used. With ``space`` and ``classifier``, all images of a folder are
            read into memory.
        descriptors: Linear models of named properties, from ``fit_descriptors`` for the space of
            the codes.
        space, classifier: If both are given, the result also has the table of ``ablate``.
        min_correlation: Descriptors whose log odds on real images have at least this absolute
            correlation form one group. In [0, 1]. Default: 0.7.
        n_resamples: Number of bootstrap samples, and of permutations. Default: 1000.
        seed: Seed of the bootstrap, the permutations and the ablation. Default: 0.

    Returns:
        A FeatureAttribution.

    Raises:
        TypeError: If the counterfactuals have no codes, as those of ``pixel_attack``.
        ValueError: If no image is flipped, or no descriptor predicts its property well.
    """
    whole: Any = counterfactuals
    if isinstance(whole, ResultFolder):
        whole = whole[:] if space is not None else whole.without_images()
    flipped, start, code = _flipped(whole)
    validate.instance(descriptors, Descriptors, "descriptors", "Descriptors of fit_descriptors")
    validate.optional(validate.space, space, "space")
    validate.optional(validate.function, classifier, "classifier")
    if (space is None) != (classifier is None):
        given = "space" if classifier is None else "classifier"
        raise ValueError(f"space, classifier: expected both or neither, got only {given}")
    dims, own = start.z.flatten(1).shape[1], descriptors.weights.shape[1]
    if dims != own or start.z.shape[1:] != descriptors.mean.shape:
        raise ValueError(
            f"descriptors: expected those of the same space, for codes of {dims} numbers, "
            f"got those for {own}"
        )
    min_correlation = validate.number(min_correlation, "min_correlation", 0.0, 1.0)
    n_resamples = validate.count(n_resamples, "n_resamples", 1, MAX_RESAMPLES)
    seed = validate.seed(seed)
    names = descriptors.readable
    if not names:
        raise ValueError("descriptors: expected at least one that is readable, got none")
    columns = [descriptors.names.index(name) for name in names]
    with validate.part_of("descriptors"):
        before, after = (
            descriptors.log_odds(c.z.cpu())[:, columns].double().numpy() for c in (start, code)
        )
    rows = whole.flipped.nonzero().squeeze(1).tolist()
    local = pd.DataFrame(after - before, index=rows, columns=list(names))
    transition = _transitions(flipped, rows)
    groups = correlated_groups(
        descriptors.correlation.loc[list(names), list(names)], min_correlation
    )
    rng = np.random.default_rng(seed)
    ablation = None
    if space is not None and classifier is not None:
        ablation = ablate(space, classifier, flipped, descriptors, groups, seed=seed)
    return FeatureAttribution(
        local=local,
        transition=transition,
        unexplained=pd.Series(_unexplained(code.z - start.z, descriptors, columns), index=rows),
        groups=groups,
        global_=_by_transition(transition, lambda here: _bootstrap(local[here], n_resamples, rng)),
        null=_by_transition(
            transition,
            lambda here: permutation_null(
                paired_t, before[here], after[here], names=names, n_resamples=n_resamples, seed=seed
            ),
        ),
        ablation=ablation,
        unreadable=tuple(n for n in descriptors.names if n not in names),
    )


def paired_t(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the mean of each column of ``after - before``, divided by its standard error, (d,).

    The mean change is the same for every pairing of originals and counterfactuals, so a permutation
    test of the mean alone would be useless. The standard error of the change depends on the
    pairing, because a counterfactual is close to its own original.
    """
    change = after - before
    error = change.std(0, ddof=1) / np.sqrt(len(change))
    return change.mean(0) / np.maximum(error, 1e-12)


def permutation_null(
    score: Score,
    before: np.ndarray,
    after: np.ndarray,
    *,
    names: tuple[str, ...] | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Test whether a score depends on which original belongs to which counterfactual.

    The function shuffles the originals (the rows of ``before``) many times, and computes the score
    each time. The scores with shuffled originals form the null distribution. A score in the middle
    of the null distribution does not measure changes of images. For example, the code published
    with arXiv 2504.15479 subtracts one fixed original from all counterfactuals, because of an index
    error. The global scores of the published code lie in the middle of the null distribution.

    Args:
        score: Function (before, after) -> scores (d,), where ``before`` and ``after`` are arrays
            (n, d).
        before, after: Log odds of d descriptors for n originals and their counterfactuals, (n, d).
            Row i of ``before`` and row i of ``after`` belong to the same image.
        names: Names of the d columns. Default: their numbers.
        n_resamples: Number of shuffles. Default: 1000.
        seed: Seed of the shuffles. Default: 0.

    Returns:
        A DataFrame with one row per descriptor. The columns are ``score`` (without shuffling),
        ``null`` (mean of the shuffled scores), ``low`` and ``high`` (the range of 95 % of the
        shuffled scores), and ``p``. ``p`` is the fraction of shuffled scores that are at least as
        far from ``null`` as ``score`` is. If there is only one image, all values are NaN.

    Raises:
        ValueError, TypeError: If an argument is wrong, if the log odds are not finite, or if
            ``score`` does not return d finite numbers.
    """
    validate.function(score, "score")
    n_resamples = validate.count(n_resamples, "n_resamples", 1, MAX_RESAMPLES)
    before, after = _readings(before, "before"), _readings(after, "after")
    validate.shape(after.shape, before.shape, "after", "the shape of before,")
    d = before.shape[1]
    index = None if names is None else validate.texts(names, "names", d)
    rng = np.random.default_rng(validate.seed(seed))
    if len(before) < 2:  # one pair can't be shuffled
        nothing = {c: np.full(d, np.nan) for c in ("score", "null", "low", "high", "p")}
        return pd.DataFrame(nothing, index=index)
    # Copies: a score may change what it is given.
    observed = _scored(score(before.copy(), after.copy()), d)
    draws = np.stack(
        [_scored(score(rng.permutation(before), after.copy()), d) for _ in range(n_resamples)]
    )
    mean = draws.mean(0)
    # Rounding must not make a score that never changes under shuffling look extreme.
    slack = 1e-9 * (1 + np.abs(mean))
    as_far = np.abs(draws - mean) >= np.abs(observed - mean) - slack
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    columns = {"score": observed, "null": mean, "low": low, "high": high}
    columns["p"] = (1 + as_far.sum(0)) / (1 + n_resamples)
    return pd.DataFrame(columns, index=index)


def _scored(value: Any, dims: int) -> np.ndarray:
    """Return the output of a score function, after checking that it holds ``dims`` numbers."""
    found = validate.array(value, "score")
    validate.shape(found.shape, (dims,), "score", "it to return shape")
    return found


def _readings(value: Any, name: str) -> np.ndarray:
    array = validate.array(value, name)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name}: expected shape (n, d), got {array.shape}")
    if (np.abs(array) > LARGEST).any():
        raise ValueError(f"{name}: expected numbers up to {LARGEST:g}, got larger ones")
    return array


def correlated_groups(
    correlation: pd.DataFrame, min_correlation: float
) -> tuple[tuple[str, ...], ...]:
    """Group the descriptors that are linked by correlations of at least ``min_correlation``.

    Each name is in exactly one group. The groups are the connected components of a graph that links
    strongly correlated descriptors.
    """
    linked = (correlation.abs() >= min_correlation).to_numpy()
    count, group = connected_components(linked, directed=False)
    rows = sorted((np.flatnonzero(group == g) for g in range(count)), key=max)
    return tuple(tuple(correlation.index[r]) for r in rows)


def _flipped(cf: Counterfactuals) -> tuple[Counterfactuals, Code, Code]:
    validate_results.result(cf, "counterfactuals")
    start, code = validate_results.codes(cf, "counterfactuals")
    rows = cf.flipped.nonzero().squeeze(1)
    flipped = cf[rows]
    if len(flipped) == 0:
        raise ValueError("counterfactuals: expected at least one flipped image, got none")
    return flipped, start[rows], code[rows]


def _transitions(flipped: Counterfactuals, rows: list[int]) -> pd.Series:
    pairs = zip(flipped.logits_before.argmax(1).tolist(), flipped.target.tolist(), strict=True)
    return pd.Series([f"{a} to {b}" for a, b in pairs], index=rows)


def _by_transition(
    transition: pd.Series, table: Callable[[np.ndarray], pd.DataFrame]
) -> pd.DataFrame:
    parts = {name: table((transition == name).to_numpy()) for name in sorted(transition.unique())}
    return pd.concat(parts, names=["flip", "descriptor"])


def _bootstrap(local: pd.DataFrame, n_resamples: int, rng: np.random.Generator) -> pd.DataFrame:
    n = len(local)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples) / n
    low, high = np.quantile(weights @ local.to_numpy(), [0.025, 0.975], axis=0)
    if n == 1:  # one image has no standard error
        low = high = np.full(local.shape[1], np.nan)
    columns = {"mean": local.mean(), "low": low, "high": high, "n": n}
    return pd.DataFrame(columns, index=local.columns)


def _unexplained(change: Tensor, descriptors: Descriptors, columns: list[int]) -> np.ndarray:
    change = descriptors.standardise(change).cpu()
    basis = span(descriptors.weights[columns])
    described = (change @ basis.T).square().sum(1)
    return (1 - described / change.square().sum(1).clamp_min(1e-12)).clamp(0, 1).numpy()
