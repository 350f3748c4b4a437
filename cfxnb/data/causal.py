"""Structural causal models of named factors, stated in a few lines.

    world = World(
        hair=["red", "gray"],                                  # a root, uniform
        top={"leather": 0.8, "white": 0.2},                    # a root with probabilities
        shoes=given("top", leather="brown", white=["golden", "metal"]),   # an effect
    )

Every figure has one random number a factor (the exogenous noise of Pearl, 2009, chapter 7). The
same numbers under an intervention give the exact counterfactual of that very figure, with all that
follows from the change.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cfxnb.core import validate

MOST = 10**8  # figures: what fits no memory is no count
Distribution = str | Sequence[str] | Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Given:
    """How a factor depends on one other: a distribution for each of its options."""

    parent: str
    cases: dict[str, dict[str, float]]


def given(parent: str, **cases: Distribution) -> Given:
    """The factor follows ``cases[option]`` where ``parent`` has that option.

    Each case is an option, a list of equally likely options, or a dict of probabilities.

    Raises:
        ValueError, TypeError: for a wrong case, naming it, or without any.
    """
    validate.text(parent, "parent")
    if not cases:
        raise ValueError("cases: expected at least one option of the parent, got none")
    return Given(parent, {option: _spread(case, option) for option, case in cases.items()})


def _spread(value: Any, name: str) -> dict[str, float]:
    """A distribution over options that adds up to 1."""
    if isinstance(value, str):
        return {value: 1.0}
    if isinstance(value, Mapping):
        options = [validate.text(option, name) for option in value]
        shares = {o: validate.number(value[o], name, 0.0, 1.0) for o in options}
    elif isinstance(value, Sequence):
        listed = [validate.text(option, name) for option in value]
        if len(set(listed)) < len(listed):
            raise ValueError(f"{name}: expected each option once, got {validate.describe(value)}")
        shares = {option: 1 / len(listed) for option in listed}
    else:
        raise TypeError(
            f"{name}: expected an option, a list of options or a dict of probabilities, "
            f"got {validate.describe(value)}"
        )
    if not shares or abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(
            f"{name}: expected probabilities that add up to 1, got {sum(shares.values()):.4g}"
        )
    return shares


class World:
    """A structural causal model; see this module's beginning.

    Args:
        factors: name -> list (uniform), dict (probabilities) or ``given(...)``. Causes come
            before their effects. A name that begins with an underscore is a hidden cause.

    Raises:
        ValueError, TypeError: if a cause is unknown or comes later, a case is missing, or
            probabilities don't add up to 1.
    """

    def __init__(self, **factors: Distribution | Given) -> None:
        self.factors: dict[str, dict[str, float] | Given] = {}
        for name, rule in factors.items():
            if isinstance(rule, Given):
                self._check_parent(name, rule)
                self.factors[name] = rule
            else:
                self.factors[name] = _spread(rule, name)

    def _check_parent(self, name: str, rule: Given) -> None:
        if rule.parent not in self.factors:
            raise ValueError(
                f"{name}: expected a cause stated before it, out of {list(self.factors)}, "
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
        """What a factor can be, in the order stated."""
        rule = self.factors[validate.choice(name, "name", self.factors)]
        cases = rule.cases.values() if isinstance(rule, Given) else [rule]
        return list(dict.fromkeys(option for case in cases for option in case))

    def edges(self) -> list[tuple[str, str]]:
        """The arrows of the graph, as (cause, effect)."""
        return [(r.parent, name) for name, r in self.factors.items() if isinstance(r, Given)]

    def sample(
        self, n_samples: int, *, seed: int = 0, do: Mapping[str, str] | None = None
    ) -> pd.DataFrame:
        """Figures, hidden causes included, one row each.

        Args:
            n_samples: how many. Row i is the same however many are drawn.
            seed: of the random numbers. The same seed with another ``do`` gives the same figures
                in another world: their counterfactuals.
            do: factors that are set, whatever their causes say.
        """
        n_samples = validate.count(n_samples, "n_samples", 0, MOST)
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
        """One uniform number a figure and factor; a longer sample begins like a shorter one."""
        streams = np.random.SeedSequence(seed).spawn(len(self.factors))
        return {
            name: np.random.default_rng(stream).random(n_samples)
            for name, stream in zip(self.factors, streams, strict=True)
        }

    def __repr__(self) -> str:
        arrows = ", ".join(f"{a} -> {b}" for a, b in self.edges()) or "all independent"
        return f"World({', '.join(self.factors)}; {arrows})"


def _draw(shares: dict[str, float], noise: np.ndarray) -> np.ndarray:
    """The option in whose interval of the cumulated probabilities each number lies."""
    edges = np.cumsum(list(shares.values()))
    places = np.searchsorted(edges, noise, side="right").clip(max=len(edges) - 1)
    return np.array(list(shares), dtype=object)[places]
