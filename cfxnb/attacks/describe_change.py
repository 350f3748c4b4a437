"""What changed? Descriptor-based feature attribution of counterfactuals.

Goldwasser & Hooker, arXiv 2504.15479: read named properties off the code before and after. Here
a score is a difference of log odds, which adds up along a path and doesn't saturate (the paper's
differences of probabilities do). And a score alone proves little, so it comes with what can
refute it: readability on held-out images, the share of the change that nothing describes, an
ablation through the classifier, intervals, and a permutation null.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from cfxnb.attacks.ablate import ablate, span
from cfxnb.attacks.descriptors import Descriptors
from cfxnb.core import validate, validate_results
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import Classifier, Code, LatentSpace

MOST_REPEATS = 10**6  # more would take days
LARGEST = 1e100  # of a reading: squares of larger ones overflow
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureAttribution:
    """What changed, for each counterfactual and on the whole.

    Attributes:
        local: one row a flipped image (its index is the row in the counterfactuals), one column
            a readable descriptor: change of its log odds. Additive along any path.
        transition: what flip each row of ``local`` is, such as ``"4 to 9"``.
        unexplained: share of each code's squared change that lies outside the span of all
            readable descriptors, in [0, 1].
        groups: descriptors whose readings correlate strongly share the credit arbitrarily among
            each other: read these jointly.
        global_: one row a flip and descriptor: ``mean`` over its ``n`` images with a 95 %
            bootstrap interval (``low``, ``high``).
        null: one row a flip and descriptor: does the score rest on each image's own original?
            See ``permutation_null``. Whether it differs from 0 is told by the interval in
            ``global_``, not by this ``p``.
        ablation: what the classifier does when a component of the change is removed, or applied
            alone; see ``cfxnb.ablate``. None unless space and classifier were given.
        unreadable: descriptors that can't be read from the code, and so have no score.
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

    def _repr_html_(self) -> str:
        joined = self.global_.join(self.null[["p"]]).rename(columns={"p": "p (pairing)"})
        note = f"; unreadable: {', '.join(self.unreadable)}" if self.unreadable else ""
        told = f"<p>{len(self.local)} flips; {self.unexplained.mean():.0%} unexplained{note}</p>"
        return told + joined.round(2).to_html()


@standard_modes
def describe_change(
    counterfactuals: Counterfactuals,
    descriptors: Descriptors,
    *,
    space: LatentSpace | None = None,
    classifier: Classifier | None = None,
    min_correlation: float = 0.7,
    n_resamples: int = 1000,
    seed: int = 0,
) -> FeatureAttribution:
    """Attribute each counterfactual's change to named properties, and sum up over flips.

    Args:
        counterfactuals: a result with codes; only its flipped rows are described.
        descriptors: from ``fit_descriptors`` in the same space.
        space, classifier: for the ablation test, which is run if they are given.
        min_correlation: descriptors whose readings correlate at least this strongly are one group.
        n_resamples: of bootstrap and permutation.

    Raises:
        TypeError: if the counterfactuals have no codes (a pixel attack).
        ValueError: if nothing flipped, or no descriptor is readable.
    """
    wins, start, code = _wins(counterfactuals)
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
    min_correlation = validate.number(min_correlation, "together", 0.0, 1.0)
    n_resamples = validate.count(n_resamples, "n_resamples", 1, MOST_REPEATS)
    seed = validate.seed(seed)
    names = descriptors.readable
    if not names:
        raise ValueError("descriptors: expected at least one that is readable, got none")
    columns = [descriptors.names.index(name) for name in names]
    with validate.part_of("descriptors"):
        before, after = (
            descriptors.log_odds(c.z.cpu())[:, columns].double().numpy() for c in (start, code)
        )
    rows = counterfactuals.flipped.nonzero().squeeze(1).tolist()
    local = pd.DataFrame(after - before, index=rows, columns=list(names))
    transition = _flips(wins, rows)
    groups = correlated_groups(
        descriptors.correlation.loc[list(names), list(names)], min_correlation
    )
    rng = np.random.default_rng(seed)
    ablation = None
    if space is not None and classifier is not None:
        ablation = ablate(space, classifier, wins, descriptors, groups, seed=seed)
    return FeatureAttribution(
        local=local,
        transition=transition,
        unexplained=pd.Series(_unexplained(code.z - start.z, descriptors, columns), index=rows),
        groups=groups,
        global_=_by_flip(transition, lambda here: _bootstrap(local[here], n_resamples, rng)),
        null=_by_flip(
            transition,
            lambda here: permutation_null(
                paired_t, before[here], after[here], names=names, n_resamples=n_resamples, seed=seed
            ),
        ),
        ablation=ablation,
        unreadable=tuple(n for n in descriptors.names if n not in names),
    )


def paired_t(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mean change over its standard error, (n, d), (n, d) -> (d,).

    The mean alone would not notice wrong pairs: it is the same in whatever order the originals
    stand. Its standard error is not: a counterfactual lies near its own original.
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
    """Would the score come out the same if every counterfactual had somebody else's original?

    The rows of ``before`` are shuffled and the score is taken again. A score of *changes* must
    differ from these; one that doesn't measures something else. The global figures published
    with arXiv 2504.15479 subtract one fixed original from all counterfactuals, by a slip in an
    index: they lie in the middle of this null.

    Args:
        score: (before, after), each (n, d) -> (d,). Any global score, not only ours.
        before, after: readings of the originals and of the counterfactuals, row by row.
        names: of the d columns.
        n_resamples: shuffles.

    Returns:
        One row a descriptor: ``score``, 95 % range (``low``, ``high``) and mean (``null``) of
        the shuffled scores, and ``p``, the two-sided share of shuffles as far from their mean.
        NaN throughout for a single pair.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them readings that are not
            finite, and a score of another shape.
    """
    validate.function(score, "score")
    n_resamples = validate.count(n_resamples, "n_resamples", 1, MOST_REPEATS)
    before, after = _readings(before, "before"), _readings(after, "after")
    if before.shape != after.shape:
        raise ValueError(
            f"before, after: expected equal shapes (n, d), got {before.shape} and {after.shape}"
        )
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
    """What a score returns: one finite number a column."""
    found = validate.array(value, "score")
    if found.shape != (dims,):
        raise ValueError(f"score: expected it to return shape ({dims},), got {found.shape}")
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
    """Chains of descriptors with |correlation| >= ``min_correlation``; every name is in one group."""
    groups: list[list[str]] = []
    for name in correlation.index:
        near = [
            g for g in groups if any(abs(correlation.loc[name, n]) >= min_correlation for n in g)
        ]
        merged = [*(n for g in near for n in g), name]
        groups = [g for g in groups if g not in near] + [merged]
    return tuple(tuple(g) for g in groups)


def _wins(cf: Counterfactuals) -> tuple[Counterfactuals, Code, Code]:
    validate_results.result(cf, "counterfactuals")
    start, code = validate_results.codes(cf, "counterfactuals")
    rows = cf.flipped.nonzero().squeeze(1)
    wins = cf[rows]
    if len(wins) == 0:
        raise ValueError("counterfactuals: expected at least one flipped image, got none")
    return wins, start[rows], code[rows]


def _flips(wins: Counterfactuals, rows: list[int]) -> pd.Series:
    pairs = zip(wins.logits_before.argmax(1).tolist(), wins.target.tolist(), strict=True)
    return pd.Series([f"{a} to {b}" for a, b in pairs], index=rows)


def _by_flip(transition: pd.Series, table: Callable[[np.ndarray], pd.DataFrame]) -> pd.DataFrame:
    parts = {name: table((transition == name).to_numpy()) for name in sorted(transition.unique())}
    return pd.concat(parts, names=["flip", "descriptor"])


def _bootstrap(local: pd.DataFrame, n_resamples: int, rng: np.random.Generator) -> pd.DataFrame:
    n = len(local)
    shares = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples) / n
    low, high = np.quantile(shares @ local.to_numpy(), [0.025, 0.975], axis=0)
    if n == 1:  # one image says nothing about the spread
        low = high = np.full(local.shape[1], np.nan)
    columns = {"mean": local.mean(), "low": low, "high": high, "n": n}
    return pd.DataFrame(columns, index=local.columns)


def _unexplained(change: Tensor, descriptors: Descriptors, columns: list[int]) -> np.ndarray:
    change = descriptors.standardise(change).cpu()
    basis = span(descriptors.weights[columns])
    described = (change @ basis.T).square().sum(1)
    return (1 - described / change.square().sum(1).clamp_min(1e-12)).clamp(0, 1).numpy()
