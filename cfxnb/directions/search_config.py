"""The options of a search for directions, checked."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

from cfxnb.core import validate
from cfxnb.core.decisions import class_number
from cfxnb.core.tensors import typical_distance
from cfxnb.core.types import LatentSpace
from cfxnb.directions.proxies import MIN_PROBES

GLOBAL = "global_ridge"  # the search with one or several images; the others use one image
PROXIES = (GLOBAL, "ridge", "mlp", "mlp_paper")


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """Options of ``find_directions``, whose docstring explains each. Lengths are in std."""

    target: int
    contrast_class: int | None
    radius: float
    max_step: float
    max_queries: int = 2048
    proxy: str = GLOBAL
    saturation: float | None = 5.0
    n_curvature: int = 6
    batch_size: int = 64
    seed: int = 0

    @classmethod
    def checked(
        cls,
        space: LatentSpace,
        class_names: Sequence[str] | None,
        *,
        target: Any,
        contrast_class: Any,
        radius: Any,
        max_step: Any,
        max_queries: Any,
        proxy: Any,
        saturation: Any,
        n_curvature: Any,
        batch_size: Any,
        seed: Any,
    ) -> Self:
        """Check the arguments of ``find_directions``, and fill in the default lengths.

        Raises:
            ValueError, TypeError: if an argument is wrong.
        """
        max_step = validate.optional(_positive, max_step, "max_step")
        max_step = typical_distance(space.std) if max_step is None else max_step
        radius = validate.optional(_positive, radius, "radius")
        if contrast_class is not None:
            contrast_class = class_number(contrast_class, "contrast_class", class_names)
        return cls(
            target=class_number(target, "target", class_names),
            contrast_class=contrast_class,
            radius=max_step if radius is None else radius,
            max_step=max_step,
            max_queries=validate.count(max_queries, "max_queries", MIN_PROBES + 4),
            proxy=validate.choice(proxy, "proxy", PROXIES),
            saturation=validate.optional(_positive, saturation, "saturation"),
            n_curvature=validate.count(n_curvature, "n_curvature"),
            batch_size=validate.count(batch_size, "batch_size", 2),
            seed=validate.seed(seed),
        )


def _positive(value: Any, name: str) -> float:
    return validate.number(value, name, 0.0, open_low=True)
