"""Directions: what a search in a black box's answers has found."""

import dataclasses
from numbers import Integral
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cfxnb.core import validate


@dataclasses.dataclass(frozen=True, eq=False)
class Directions:
    """Changes of a code that move a classifier's decision, best first.

    Attributes:
        vectors: (m, *code), each one spread long; adding one raises the label's log odds as far
            as the proxy tells; for a corrected g, as far as the trial tells.
        names: one a direction: "g", "g with distance", "h1", "h5", ...: the first and the fifth of
            the axes by the strength of the proxy's curvature; with other images in the trial, "g"
            is the gradient that they corrected, and "g uncorrected" what it was before; or,
            if that flips more of them, "g" is what it was before, and "g corrected" the other one.
        table: one row a direction, best first: its measured ``flip rate`` and the mean ``length``
            of the steps that flipped, in spreads, on the validation images (the source image if
            there are none); the ``curvature`` of the score along it.
        proxy_fit: what the proxy says of the one image, with its ``r2``, ``split_half_cosine`` and
            ``confidence``; no correction is in it.
        target, contrast_class: the class that adding a direction favours, and the other one, or None.
        n_queries: images that the classifier was asked about, in all.
        made_by: method, arguments, seed, weights, seconds.
    """

    vectors: Tensor
    names: tuple[str, ...]
    table: pd.DataFrame
    proxy_fit: Any
    target: int
    contrast_class: int | None
    n_queries: int
    made_by: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        validate.fields(self)
        if self.vectors.ndim < 2 or len(self.vectors) != len(self.names):
            raise ValueError(
                f"vectors: expected shape ({len(self.names)}, ...), one for each of names, got "
                f"{tuple(self.vectors.shape)}"
            )

    @property
    def g(self) -> Tensor:
        """The gradient's direction, shaped like a code; corrected if that does no worse."""
        return self["g"]

    @property
    def h(self) -> Tensor:
        """Directions of curvature, best first, (n, *code)."""
        chosen = [v for v, n in zip(self.vectors, self.names, strict=True) if n.startswith("h")]
        return torch.stack(chosen) if chosen else self.vectors[:0]

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, key: str | int) -> Tensor:
        """A direction by name or by rank.

        Raises:
            KeyError: for a name that is not there.
            IndexError: for a rank that is not there.
            TypeError: for anything else.
        """
        if isinstance(key, str):
            if key not in self.names:
                raise KeyError(f"expected one of {list(self.names)}, got {key[:80]!r}")
            return self.vectors[self.names.index(key)]
        if isinstance(key, bool) or not isinstance(key, Integral):
            raise TypeError(f"key: expected a name or a rank, got {validate.describe(key)}")
        if not -len(self) <= key < len(self):
            raise IndexError(f"key: expected a rank from 0 to {len(self) - 1}, got {key}"[:200])
        return self.vectors[int(key)]

    def __repr__(self) -> str:
        return (
            f"Directions({', '.join(self.names)}; {self.n_queries} queries, "
            f"r2 {self.proxy_fit.r2:.2f}, confidence {self.proxy_fit.expected_cosine:.2f})"
        )

    def _repr_html_(self) -> str:
        shown = self.table.round(3).to_html()
        return f"<p>{self!r}</p>{shown}"
