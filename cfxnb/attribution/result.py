"""Attribution: the frozen result of every method that explains a decision by a map of pixels."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.tensors import positions
from cfxnb.core.types import NO_GRADIENT, STOPPED

COMPLETE = "complete"  # the map adds up to the change, within the tolerance
INCOMPLETE = "incomplete"  # it doesn't
NO_BASELINE = "no_baseline"  # the label stayed likely all along the walk
ALREADY_BELOW = "already_below_threshold"  # the label was unlikely without any walk
ATTRIBUTION_STATUSES = (COMPLETE, INCOMPLETE, NO_GRADIENT, NO_BASELINE, ALREADY_BELOW, STOPPED)
NO_MAP = (NO_GRADIENT, STOPPED)  # of these a map need not be finite

_TENSORS = (
    "image",
    "baseline",
    "attributions",
    "output_change",
    "relative_delta",
    "n_points",
    "label",
)
_OPTIONAL = ("contrast_class", "baseline_step")


@dataclasses.dataclass(frozen=True, eq=False)
class Attribution:
    """Which pixels made the explained number f differ between an image and its baseline.

    f is the logit of ``label``, or its lead over the logit of ``contrast_class`` (always, if there are
    only two classes).

    Attributes:
        image, baseline: both ends of the path, (n, c, h, w) in [0, 1].
        attributions: share of each pixel and channel in the change of f, (n, c, h, w), signed.
        output_change: f(image) - f(baseline), (n,).
        relative_delta: (sum of the map - change) / |change|, (n,); 0 for a complete map.
        n_points: on the path at the end, int64 (n,).
        label: the explained class, int64 (n,).
        contrast_class: the class it is compared with, int64 (n,), or None.
        status: one of ``cfxnb.attribution.result.ATTRIBUTION_STATUSES`` a sample. "stopped": Ctrl-C was
            pressed before this sample was finished, and what was not computed is NaN.
        baseline_step: where the baseline lies along the direction, signed, in spreads, (n,); None
            for methods without a direction.
        cost: images rendered (``generator``) and classified (``classifier``), int64 (n,) each.
        made_by: method, arguments, weights, seconds.
    """

    image: Tensor
    baseline: Tensor
    attributions: Tensor
    output_change: Tensor
    relative_delta: Tensor
    n_points: Tensor
    label: Tensor
    contrast_class: Tensor | None
    status: tuple[str, ...]
    baseline_step: Tensor | None = None
    cost: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    made_by: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        validate.fields(self)

    @property
    def heat_map(self) -> Tensor:
        """The map: the sum over the channels, signed, (n, h, w)."""
        return self.attributions.sum(1)

    @property
    def negative_fraction(self) -> Tensor:
        """Share of negative mass in the map, (n,) in [0, 1]; NaN for a map of zeros."""
        mass = self.heat_map.flatten(1)
        return mass.clamp_max(0).abs().sum(1) / mass.abs().sum(1)

    @property
    def n_queries(self) -> Tensor:
        """Images that the classifier was asked about, int64 (n,)."""
        return self.cost["classifier"]

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray | Tensor) -> "Attribution":
        """The chosen rows, in that order (an int gives a result of length one)."""
        index = positions(rows, len(self), f"a result with {len(self)} maps")
        return dataclasses.replace(
            self._each(lambda t: t[index.to(t.device)]),
            status=tuple(self.status[i] for i in index.tolist()),
        )

    def to(self, device: torch.device | str) -> "Attribution":
        """The same on another device."""
        if device is None:
            raise TypeError("device: expected one such as 'cpu', got None")
        place = validate.device(device)
        return self._each(lambda t: t.to(place))

    def _each(self, work: Any) -> "Attribution":
        return dataclasses.replace(
            self,
            **{name: work(getattr(self, name)) for name in _TENSORS},
            contrast_class=None if self.contrast_class is None else work(self.contrast_class),
            baseline_step=None if self.baseline_step is None else work(self.baseline_step),
            cost={k: work(v) for k, v in self.cost.items()},
        )

    @staticmethod
    def concatenate(parts: "Sequence[Attribution]") -> "Attribution":
        """One result out of several of the same kind, in their order; the first one's record."""
        if isinstance(parts, Attribution) or not isinstance(parts, Sequence):
            raise TypeError(f"parts: expected a list of attributions, got {validate.describe(parts)}")
        if not parts:
            raise ValueError("parts: expected at least one result, got none")
        for i, part in enumerate(parts):
            checked_attribution(part, f"parts[{i}]")
            if part.image.shape[1:] != parts[0].image.shape[1:]:
                raise ValueError(
                    f"parts[{i}].image: expected images of {tuple(parts[0].image.shape[1:])}, "
                    f"got {tuple(part.image.shape[1:])}"
                )
            if set(part.cost) != set(parts[0].cost):
                raise ValueError(
                    f"parts[{i}].cost: expected {sorted(parts[0].cost)}, got {sorted(part.cost)}"
                )
        first = parts[0]

        def joined(name: str) -> Any:
            values = [getattr(p, name) for p in parts]
            return None if any(v is None for v in values) else torch.cat(values)

        tensors: dict[str, Any] = {n: joined(n) for n in (*_TENSORS, *_OPTIONAL)}
        return dataclasses.replace(
            first,
            **tensors,
            status=sum((p.status for p in parts), ()),
            cost={k: torch.cat([p.cost[k] for p in parts]) for k in first.cost},
        )

    def __repr__(self) -> str:
        counts = {s: self.status.count(s) for s in ATTRIBUTION_STATUSES if s in self.status}
        told = ", ".join(f"{n} {s}" for s, n in counts.items())
        return f"Attribution({len(self)} by {self.made_by.get('function', '?')}: {told})"

    def _repr_html_(self) -> str:
        from cfxnb.plots.attribution import html_heat  # results show themselves; plots read results

        return html_heat(self)


def checked_attribution(value: Any, name: str) -> Attribution:
    """An attribution whose fields fit each other; images are finite, maps where there is one.

    Raises:
        ValueError, TypeError: naming the field.
    """
    a: Attribution = validate.instance(value, Attribution, name, "an Attribution")
    rows = len(a.status) if isinstance(a.status, tuple) else -1
    if rows < 0 or any(s not in ATTRIBUTION_STATUSES for s in a.status):
        came = validate.describe(a.status)
        raise ValueError(
            f"{name}.status: expected a tuple of {list(ATTRIBUTION_STATUSES)}, got {came}"
        )
    for field in (*_TENSORS, *_OPTIONAL):
        tensor = getattr(a, field)
        if tensor is None and field in _OPTIONAL:
            continue
        validate.instance(tensor, Tensor, f"{name}.{field}", "a torch tensor")
        if tensor.is_complex() or tensor.is_meta:
            raise TypeError(f"{name}.{field}: expected numbers, got {tensor.dtype}")
        images = field in ("image", "baseline", "attributions")
        if len(tensor.shape) != (4 if images else 1) or len(tensor) != rows:
            shape = f"({rows}, c, h, w)" if images else f"({rows},)"
            raise ValueError(f"{name}.{field}: expected shape {shape}, got {tuple(tensor.shape)}")
    told = torch.tensor([s not in NO_MAP for s in a.status], dtype=torch.bool)
    for field in ("image", "baseline", "attributions"):
        tensor = getattr(a, field)
        if tensor.shape[2:] != a.image.shape[2:]:
            raise ValueError(
                f"{name}.{field}: expected images of {tuple(a.image.shape[2:])} pixels, "
                f"got {tuple(tensor.shape[2:])}"
            )
        if not tensor.detach()[told.to(tensor.device)].isfinite().all():
            raise ValueError(f"{name}.{field}: expected finite numbers, got NaN or infinity")
    for field in ("n_points", "label", "contrast_class"):
        tensor = getattr(a, field)
        if tensor is not None and (tensor.is_floating_point() or (rows and tensor.min() < 0)):
            raise ValueError(f"{name}.{field}: expected whole numbers >= 0, got {tensor.dtype}")
    if not a.output_change[told.to(a.output_change.device)].isfinite().all():
        raise ValueError(f"{name}.output_change: expected finite numbers, got NaN or infinity")
    for key, tensor in a.cost.items():
        if not isinstance(tensor, Tensor) or tensor.shape != (rows,):
            raise ValueError(f"{name}.cost[{key!r}]: expected shape ({rows},), got another")
    return a


def unfinished(
    image: Tensor, label: Tensor, contrast_class: Tensor | None, like: Attribution
) -> Attribution:
    """Samples that a stop left out: what would have been computed is NaN.

    Args:
        like: a finished part of the same call.
    """
    count = len(image)
    nothing, none = image.new_full((count,), torch.nan), torch.zeros_like(label)
    return Attribution(
        image=image,
        baseline=torch.full_like(image, torch.nan),
        attributions=torch.full_like(image, torch.nan),
        output_change=nothing,
        relative_delta=nothing,
        n_points=none,
        label=label,
        contrast_class=contrast_class,
        status=(STOPPED,) * count,
        baseline_step=None if like.baseline_step is None else nothing,
        cost=dict.fromkeys(like.cost, none),
    )


def relative_gap(total: Tensor, output_change: Tensor) -> Tensor:
    """(total - change) / |change|; 0 where both are 0."""
    off = total - output_change
    return torch.where(off == 0, 0.0, off / output_change.abs())
