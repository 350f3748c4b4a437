"""Structural causal models of named factors.

    world = World(
        hair=["red", "gray"],                                  # a root, uniform
        top={"leather": 0.8, "white": 0.2},                    # a root with probabilities
        shoes=given("top", leather="brown", white=["golden", "metal"]),   # an effect
    )

Each figure has one random number per factor (the exogenous noise of Pearl, 2009, chapter 7). If a
figure is sampled again with the same random numbers and an intervention, the result is the exact
counterfactual of the figure, including all downstream effects of the intervention.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cfxnb.core import validate

MAX_SAMPLES = 10**8  # more would not fit into memory
Distribution = str | Sequence[str] | Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Given:
    """Dependence of a factor on one parent: a distribution for each option of the parent."""

    parent: str
    cases: dict[str, dict[str, float]]


def given(parent: str, **cases: Distribution) -> Given:
    """Describe a factor of a ``World`` that depends on another factor, its parent.

    In figures in which the parent has the option ``a``, the factor follows the distribution
    ``cases["a"]``.

    Args:
        parent: Name of the factor on which the described factor depends.
        cases: One distribution per option of the parent. A distribution is an option, a list of
            equally likely options, or a dict of probabilities.

    Raises:
        ValueError, TypeError: If a distribution is wrong, or if no distribution is given.
    """
    validate.text(parent, "parent")
    if not cases:
        raise ValueError("cases: expected at least one option of the parent, got none")
    return Given(parent, {option: _distribution(case, option) for option, case in cases.items()})


def _distribution(value: Any, name: str) -> dict[str, float]:
    """Check a distribution and return the probability of each option."""
    if isinstance(value, str):
        return {value: 1.0}
    if isinstance(value, Mapping):
        options = [validate.text(option, name) for option in value]
        probabilities = {o: validate.number(value[o], name, 0.0, 1.0) for o in options}
    elif isinstance(value, Sequence):
        listed = [validate.text(option, name) for option in value]
        if len(set(listed)) < len(listed):
            raise ValueError(f"{name}: expected each option once, got {validate.describe(value)}")
        probabilities = {option: 1 / len(listed) for option in listed}
    else:
        raise TypeError(
            f"{name}: expected an option, a list of options or a dict of probabilities, "
            f"got {validate.describe(value)}"
        )
    total = sum(probabilities.values())
    if not probabilities or abs(total - 1) > 1e-6:
        raise ValueError(f"{name}: expected probabilities that add up to 1, got {total:.4g}")
    return probabilities


class World:
    """A structural causal model of factors, from which figures are sampled.

    Args:
        factors: One keyword argument per factor: a list of equally likely options, a dict of
            probabilities, or ``given(...)``. Factors that are causes must be listed before their
            effects. A factor whose name begins with an underscore is a hidden cause.

    Raises:
        ValueError, TypeError: If a cause is unknown or listed after its effect, if ``given`` has no
            distribution for an option of the cause, or if probabilities do not add up to 1.
    """

    def __init__(self, **factors: Distribution | Given) -> None:
        self.factors: dict[str, dict[str, float] | Given] = {}
        for name, rule in factors.items():
            if isinstance(rule, Given):
                self._check_parent(name, rule)
                self.factors[name] = rule
            else:
                self.factors[name] = _distribution(rule, name)

    def _check_parent(self, name: str, rule: Given) -> None:
        if rule.parent not in self.factors:
            raise ValueError(
                f"{name}: expected a cause that is listed before it, one of {list(self.factors)}, "
                f"got {rule.parent!r}"
            )
        if missing := set(self.options(rule.parent)) - set(rule.cases):
            raise ValueError(
                f"{name}: expected a case for every option of {rule.parent}, got none for "
                f"{sorted(missing)}"
            )
        if extra := set(rule.cases) - set(self.options(rule.parent)):
            raise ValueError(
                f"{name}: expected cases for the options of {rule.parent}, "
                f"{self.options(rule.parent)}, got {sorted(extra)}"
            )

    def options(self, name: str) -> list[str]:
        """Return the options of a factor, in the order in which they were listed."""
        rule = self.factors[validate.choice(name, "name", self.factors)]
        cases = rule.cases.values() if isinstance(rule, Given) else [rule]
        return list(dict.fromkeys(option for case in cases for option in case))

    def edges(self) -> list[tuple[str, str]]:
        """Return the edges of the world's causal graph as pairs (cause, effect)."""
        return [(r.parent, name) for name, r in self.factors.items() if isinstance(r, Given)]

    def sample(
        self, n_samples: int, *, seed: int = 0, do: Mapping[str, str] | None = None
    ) -> pd.DataFrame:
        """Sample figures, and return a DataFrame with one row per figure and one column per factor.

        The DataFrame of figures has columns for hidden causes, too.

        Args:
            n_samples: Number of figures.
            The first figures do not depend on ``n_samples``: figure i
                is always the same.
            seed: Seed of the exogenous noise (the random numbers that decide the factors). If you
                repeat a call with the same seed and another ``do``, the result holds the
                counterfactuals of the same figures.
            do: Intervention, a dict from factors to options. Each factor in ``do`` gets the option
                given in ``do`` in all figures, regardless of the causes of the factor. Default:
                none.
        """
        n_samples = validate.count(n_samples, "n_samples", 0, MAX_SAMPLES)
        noise = self._noise(n_samples, validate.seed(seed))
        do = {} if do is None else validate.instance(do, Mapping, "do", "a dict: factor -> option")
        for name, option in do.items():
            validate.choice(name, "do", self.factors)
            validate.choice(option, f"do[{name!r}]", self.options(name))
        columns: dict[str, np.ndarray] = {}
        for name, rule in self.factors.items():
            if name in do:
                columns[name] = np.full(n_samples, do[name], dtype=object)
            elif isinstance(rule, Given):
                column = np.empty(n_samples, dtype=object)
                for option, case in rule.cases.items():
                    rows = columns[rule.parent] == option
                    column[rows] = _draw(case, noise[name][rows])
                columns[name] = column
            else:
                columns[name] = _draw(rule, noise[name])
        return pd.DataFrame(columns)

    def _noise(self, n_samples: int, seed: int) -> dict[str, np.ndarray]:
        """Draw one uniform number per figure and factor, as a dict: factor -> (n_samples,).

        The random numbers of figure i do not depend on ``n_samples``.
        """
        streams = np.random.SeedSequence(seed).spawn(len(self.factors))
        return {
            name: np.random.default_rng(stream).random(n_samples)
            for name, stream in zip(self.factors, streams, strict=True)
        }

    def __repr__(self) -> str:
        edges = ", ".join(f"{a} -> {b}" for a, b in self.edges()) or "all independent"
        return f"World({', '.join(self.factors)}; {edges})"


def _draw(probabilities: dict[str, float], noise: np.ndarray) -> np.ndarray:
    """Turn each number in [0, 1) into an option, by the inverse of the cumulative distribution."""
    cumulative = np.cumsum(list(probabilities.values()))
    indices = np.searchsorted(cumulative, noise, side="right").clip(max=len(cumulative) - 1)
    return np.array(list(probabilities), dtype=object)[indices]
