"""Attribution: the result of every method that explains a decision by a map of pixels."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cfxnb.core import image_files, validate
from cfxnb.core.saved import Result, cost_columns, image_index
from cfxnb.core.tensors import positions
from cfxnb.core.types import NO_GRADIENT, STOPPED

COMPLETE = "complete"  # the map sums to the change of f, within the tolerance
INCOMPLETE = "incomplete"  # it does not
NO_BASELINE = "no_baseline"  # the label stays above the threshold all along the direction
ALREADY_BELOW = "already_below_threshold"  # the reconstruction is below the threshold
ATTRIBUTION_STATUSES = (COMPLETE, INCOMPLETE, NO_GRADIENT, NO_BASELINE, ALREADY_BELOW, STOPPED)
NO_MAP = (NO_GRADIENT, STOPPED)  # with these a map may hold NaN

_IMAGES = ("image", "baseline", "attributions")
_TENSORS = (*_IMAGES, "output_change", "relative_delta", "n_points", "label")
_OPTIONAL = ("contrast_class", "baseline_step")


@dataclasses.dataclass(frozen=True, eq=False)
class Attribution(Result):
    """How much each pixel contributed to f(image) - f(baseline), for n images.

    The explained output f is the logit of ``label``, minus the logit of ``contrast_class`` if there
    is one.

    Attributes:
        image, baseline: The explained images and the baselines, which are the two ends of the path,
            (n, c, h, w) in [0, 1].
        attributions: Signed contribution of each pixel and channel, (n, c, h, w).
        output_change: f(image) - f(baseline), (n,).
        relative_delta: Relative error of the sum of each map: (sum of the map - output_change) /
            |output_change|, (n,). ``relative_delta`` is 0 if the map sums exactly to f(image) -
            f(baseline). In contrast, the ``convergence_delta`` of captum is not divided by
            |output_change|.
        n_points: Number of points on the path that were evaluated, int64 (n,).
        label: The explained class, int64 (n,).
        contrast_class: The class with which the label is compared, int64 (n,), or None.
        status: One of ``cfxnb.attribution.result.ATTRIBUTION_STATUSES`` per image. The status
            "stopped" means that Ctrl-C was pressed before the image was finished; the map of the
            image is NaN.
        baseline_step: Signed step along the direction at which the baseline lies, in standard
            deviations of the code, (n,). ``baseline_step`` is None for methods without a
            direction.
        cost: Dict with the number of images rendered (``generator``) and classified
            (``classifier``), int64 (n,) each.
        made_by: Name of the function, options of the call, hashes of the weights, and seconds.
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
        """Sum of the signed attributions over the channels, (n, h, w)."""
        return self.attributions.sum(1)

    @property
    def negative_fraction(self) -> Tensor:
        """Share of the negative values in the sum of |heat_map|, (n,); NaN for a map of zeros."""
        mass = self.heat_map.flatten(1)
        return mass.clamp_max(0).abs().sum(1) / mass.abs().sum(1)

    @property
    def n_queries(self) -> Tensor:
        """Number of classifier queries for each of n images, int64 (n,)."""
        return self.cost["classifier"]

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray | Tensor) -> "Attribution":
        """Return an Attribution of the images at the positions ``rows`` (an int for one image)."""
        index = positions(rows, len(self), f"a result with {len(self)} maps")
        return dataclasses.replace(
            self._each(lambda t: t[index.to(t.device)]),
            status=tuple(self.status[i] for i in index.tolist()),
        )

    def to(self, device: torch.device | str) -> "Attribution":
        """Return the Attribution with all tensors on ``device``."""
        if device is None:
            raise TypeError("device: expected a device such as 'cpu', got None")
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
        """Join Attributions of one method; ``made_by`` is taken from the first Attribution."""
        if isinstance(parts, Attribution) or not isinstance(parts, Sequence):
            raise TypeError(
                f"parts: expected a list of attributions, got {validate.describe(parts)}"
            )
        if not parts:
            raise ValueError("parts: expected at least one result, got none")
        for i, part in enumerate(parts):
            checked_attribution(part, f"parts[{i}]")
            shape = parts[0].image.shape[1:]
            validate.shape(part.image.shape[1:], shape, f"parts[{i}].image", "images of")
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

    def _check_saved(self) -> None:
        checked_attribution(self, "attribution")

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per image, whose index is the position in the result.

        The columns ``status``, ``label``, ``output_change``, ``relative_delta``, ``n_points`` and
        ``negative_fraction`` are those of the attributes. ``contrast_class`` and ``baseline_step``
        are left out if they are None. ``... passes`` counts evaluations of each network.
        """
        columns: dict[str, Any] = {"status": list(self.status)}
        names = ("label", "contrast_class", "output_change", "relative_delta", "n_points")
        for name in (*names, "baseline_step", "negative_fraction"):
            if (value := getattr(self, name)) is not None:
                columns[name] = value.detach().cpu().numpy()
        return pd.DataFrame(columns | cost_columns(self.cost), index=image_index(len(self)))

    def save_images(self, output_dir: str | os.PathLike, *, overwrite: bool = False) -> list[Path]:
        """Write the images as PNG files with 8 bits per value, and return the paths of the files.

        For image 12 the names are ``000012_image.png``, ``000012_baseline.png`` and
        ``000012_heat_map.png``. The number is the position in the result. Purple pixels of a heat
        map raise the explained output, and orange pixels lower it. The colours of each map end at
        the 99th percentile of its absolute values, as in ``cfx.heat_maps``.

        Args:
            output_dir: Folder of the files, which is created if it does not exist.
            overwrite: If True, existing files of these names are replaced. Default: False.

        Raises:
            ValueError, TypeError: If ``output_dir`` cannot be written to, or already has a file of
                one of the names.
        """
        maps = self.heat_map.detach().cpu().float()
        tops = [m.abs().nan_to_num().flatten().quantile(0.99).item() or 1.0 for m in maps]
        drawn = {
            "image": lambda i: image_files.pixels(self.image[i]),
            "baseline": lambda i: image_files.pixels(self.baseline[i]),
            "heat_map": lambda i: image_files.signed_map(maps[i], tops[i]),
        }
        return image_files.save_images(output_dir, drawn, len(self), overwrite=overwrite)

    def __repr__(self) -> str:
        counts = {s: self.status.count(s) for s in ATTRIBUTION_STATUSES if s in self.status}
        text = ", ".join(f"{n} {s}" for s, n in counts.items())
        return f"Attribution({len(self)} by {self.made_by.get('function', '?')}: {text})"

    def _repr_html_(self) -> str:
        from cfxnb.plots.attribution import html_maps  # results show themselves; plots read results

        return html_maps(self)


def checked_attribution(value: Any, name: str) -> Attribution:
    """Return an attribution, after checking that its fields fit and its numbers are finite.

    Images whose status is in ``NO_MAP`` may hold NaN.

    Raises:
        ValueError, TypeError: If a field is wrong. The error message names the field.
    """
    a: Attribution = validate.instance(value, Attribution, name, "an Attribution")
    rows = len(a.status) if isinstance(a.status, tuple) else -1
    if rows < 0 or any(s not in ATTRIBUTION_STATUSES for s in a.status):
        got = validate.describe(a.status)
        raise ValueError(
            f"{name}.status: expected a tuple of {list(ATTRIBUTION_STATUSES)}, got {got}"
        )
    for field in (*_TENSORS, *_OPTIONAL):
        tensor = getattr(a, field)
        if tensor is None and field in _OPTIONAL:
            continue
        validate.instance(tensor, Tensor, f"{name}.{field}", "a torch tensor")
        if tensor.is_complex() or tensor.is_meta:
            raise TypeError(f"{name}.{field}: expected real numbers, got {tensor.dtype}")
        dims, shape = (4, f"({rows}, c, h, w)") if field in _IMAGES else (1, f"({rows},)")
        if tensor.ndim != dims or len(tensor) != rows:
            raise ValueError(f"{name}.{field}: expected shape {shape}, got {tuple(tensor.shape)}")
    has_map = torch.tensor([s not in NO_MAP for s in a.status], dtype=torch.bool)
    for field in _IMAGES:
        tensor = getattr(a, field)
        validate.shape(tensor.shape[2:], a.image.shape[2:], f"{name}.{field}", "images of size")
        if not tensor.detach()[has_map.to(tensor.device)].isfinite().all():
            raise ValueError(f"{name}.{field}: expected finite numbers, got NaN or infinity")
    for field in ("n_points", "label", "contrast_class"):
        tensor = getattr(a, field)
        if tensor is not None and (tensor.is_floating_point() or (rows and tensor.min() < 0)):
            raise ValueError(f"{name}.{field}: expected integers >= 0, got {tensor.dtype}")
    if not a.output_change[has_map.to(a.output_change.device)].isfinite().all():
        raise ValueError(f"{name}.output_change: expected finite numbers, got NaN or infinity")
    for key, tensor in a.cost.items():
        if not isinstance(tensor, Tensor) or tensor.shape != (rows,):
            raise ValueError(
                f"{name}.cost[{key!r}]: expected a tensor of shape ({rows},), got another value"
            )
    return a


def relative_delta(total: Tensor, output_change: Tensor) -> Tensor:
    """Return (total - output_change) / |output_change|, and 0 if total equals output_change.

    Args:
        total: Sum of the attributions of each image, (n,).
        output_change: f(image) - f(baseline) of each image, (n,).
    """
    error = total - output_change
    return torch.where(error == 0, 0.0, error / output_change.abs())
