"""``Directions``, the result of ``find_directions``."""

import dataclasses
from numbers import Integral
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.saved import Result
from cfxnb.directions.proxies import ProxyFit


@dataclasses.dataclass(frozen=True, eq=False)
class Directions(Result):
    """Directions in code space that change a classifier's decision, best first.

    "g" is the gradient of the score, and "h1", "h2", ... are eigenvectors of its Hessian. The
    number in the name of an eigenvector is its rank by absolute eigenvalue. With the proxy "ridge"
    and validation images there can be two gradients, named "g" and "g uncorrected", or "g
    corrected" and "g" if the correction flips fewer images.

    Attributes:
        vectors: changes of a code, (m, *code), each with length 1 in standard deviations of the
            code (std). Adding a direction raises the log odds of ``target``, according to the
            proxy. A corrected gradient g raises the log odds according to the answers about
            validation images.
        names: one name per direction.
        table: one row per direction. ``flip rate`` is the measured fraction of validation images
            whose decision flips within ``max_step``. Without validation images, the flip rate is
            measured on the images of the search. ``length`` is the mean length of the steps that
            flip, in std. ``curvature`` is the second derivative of the score along the direction.
            With "global_ridge" a last row "random" has a random direction within the active axes,
            and there are four more columns. ``within half`` is the fraction of images that flip
            within half of ``max_step``. ``towards`` is the flip rate of images that were not
            classified as the target, and ``away`` is the flip rate of images that were classified
            as the target. ``images`` is the number of images.
        proxy_fit: the fit that gives "g" before any correction, with the fields ``gradient``,
            ``hessian``, ``distance``, ``r2``, ``split_half_cosine``, ``expected_cosine``. With
            "global_ridge", the field ``distance`` is NaN.
        target: class that adding a direction favours.
        contrast_class: class that adding a direction disfavours, or None for all other classes.
        n_queries: number of images that the classifier classified.
        made_by: function, options of the call, hashes of the weights, seconds. ``lost``: queries
            whose answers are lost. ``compared``: number of stored images
            that were queried again, to check that the classifier still gives the stored answers.
            ``tried``: images used for the ranking. ``held_out``: whether the ranking used
            validation images (not images of the search). ``covariance``: where the covariance of
            codes is from, "space", "images" or "none".
        class_vectors: with "global_ridge" one direction per class, (k, *code), else None. Adding
            direction c raises the log odds of class c against all other classes.
    """

    vectors: Tensor
    names: tuple[str, ...]
    table: pd.DataFrame
    proxy_fit: ProxyFit
    target: int
    contrast_class: int | None
    n_queries: int
    made_by: dict[str, Any] = dataclasses.field(default_factory=dict)
    class_vectors: Tensor | None = None

    def __post_init__(self) -> None:
        validate.fields(self)
        if self.vectors.ndim < 2 or len(self.vectors) != len(self.names):
            raise ValueError(
                f"vectors: expected shape ({len(self.names)}, ...), one row per name, got "
                f"{tuple(self.vectors.shape)}"
            )

    @property
    def g(self) -> Tensor:
        """The direction "g", shaped like a code."""
        return self["g"]

    @property
    def h(self) -> Tensor:
        """The eigenvectors "h1", "h2", ... of the Hessian, best first, (n, *code)."""
        chosen = [v for v, n in zip(self.vectors, self.names, strict=True) if n.startswith("h")]
        return torch.stack(chosen) if chosen else self.vectors[:0]

    def towards(self, target: int | Tensor) -> Tensor:
        """Return the direction towards a class, shaped like a code, or one per target (n, *code).

        If the search found directions only for its own target, the result is "g". The direction "g"
        leads to the target with one sign, and away from the target with the other.

        Args:
            target: number of a class, or one per image (n,).

        Raises:
            ValueError, TypeError: if a number is no class.
        """
        if isinstance(target, Tensor) and target.ndim:
            labels = validate.labels(target, len(target), self._n_classes(), "target")
        else:
            labels = validate.labels(target, 1, self._n_classes(), "target")[0]
        if self.class_vectors is None:
            return self.g.expand(*labels.shape, *self.g.shape)
        return self.class_vectors[labels.to(self.class_vectors.device)]

    def _n_classes(self) -> int:
        return 2**31 if self.class_vectors is None else len(self.class_vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, key: str | int) -> Tensor:
        """Return a direction by name or by rank, shaped like a code.

        Raises:
            KeyError: if no direction has this name.
            IndexError: if the rank is too large.
            TypeError: if the key is neither a name nor a rank.
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

    def _check_saved(self) -> None:
        if missing := [name for name in self.names if name not in self.table.index]:
            raise ValueError(f"table: expected a row for each direction, got none for {missing}")

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per direction: ``table``, with the index "direction".

        With "global_ridge" a last row "random" has the flip rate of a random direction.
        """
        return self.table.rename_axis("direction")

    def __repr__(self) -> str:
        return (
            f"Directions({', '.join(self.names)}; {self.n_queries} queries, "
            f"r2 {self.proxy_fit.r2:.2f}, expected cosine {self.proxy_fit.expected_cosine:.2f})"
        )

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>{self.table.round(3).to_html()}"
