"""Integrated gradients along any path of images, and two methods without gradients.

Sundararajan et al. (2017) integrate the gradient along a straight line of pixels. Latent
integrated gradients (GCD, arXiv 2404.12488) integrate along a line in a generator's latent space,
which is a curve in pixels. The published GCD code treats the curve in pixels as a straight line, so
the maps of the GCD code do not sum to the change of the output. The formulas of the GCD code are
kept for study as the methods "mean_gradient" and "secant". The methods "trapezoid" and
"proportional" follow a curved path.

Read first ``integrated_gradients`` (the formulas), then ``_map`` and ``_explain_group``.
"""

import dataclasses
import os
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfxnb.attribution.batches import explain_batches, with_record
from cfxnb.attribution.explained_output import ExplainedOutput
from cfxnb.attribution.paths import Path, straight_path
from cfxnb.attribution.result import COMPLETE, INCOMPLETE, Attribution, relative_delta
from cfxnb.core import validate
from cfxnb.core.classifiers import as_classifier
from cfxnb.core.driver import Stop
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.streamed import streamed
from cfxnb.core.target import Label
from cfxnb.core.tensors import per_sample
from cfxnb.core.types import NO_GRADIENT, Classifier, Images
from cfxnb.core.weights_hash import weights_hash

WHITE_BOX = ("trapezoid", "gausslegendre", "mean_gradient")
BLACK_BOX = ("proportional", "secant")
METHODS = (*WHITE_BOX, *BLACK_BOX)


def _from_black(images: Tensor) -> Path:
    return straight_path(images, 0.0)


@streamed(of="path", made=_from_black)
@standard_modes
def integrated_gradients(
    classifier: Classifier,
    path: Path | Images,
    label: Label,
    *,
    contrast_class: Label | None = None,
    method: str = "trapezoid",
    n_points: int = 17,
    tolerance: float = 0.01,
    max_points: int = 257,
    batch_size: int = 128,
    output_dir: str | os.PathLike | None = None,
) -> Attribution:
    """Compute how much each pixel contributed to f(image) - f(baseline) along a path.

    The explained function f is the logit of ``label``, minus the logit of ``contrast_class`` if
    there is one. A map is called complete if the sum of its values is f(image) - f(baseline). Let
    x_0, ..., x_m be points on the path from the baseline to the image, f_i = f(x_i), and G_i the
    gradient of f at x_i. All products are elementwise::

        trapezoid:     sum_i (G_i + G_{i+1}) / 2 * (x_{i+1} - x_i)
        gausslegendre: (x_m - x_0) * weighted mean of G at the Gauss-Legendre nodes
        mean_gradient: (x_m - x_0) * mean_i G_i
        proportional:  sum_i (f_{i+1} - f_i) * |x_{i+1} - x_i| / sum_pixels |x_{i+1} - x_i|
        secant:        (x_m - x_0) * mean_i (f_{i+1} - f_i) / (x_{i+1} - x_i)

    - "trapezoid" approximates the line integral on any path. For "trapezoid", the intervals in
      which the sum of the attributions differs most from f_{i+1} - f_i are halved, until the error
      of the map is within ``tolerance``.
    - "gausslegendre" is for straight paths only.
    - "proportional" needs no gradients, and gives a map that always sums to f(image) - f(baseline).
      The method "proportional" cannot separate pixels that change together.
    - "mean_gradient" (published GCD code) gives a map that sums to f(image) - f(baseline) on
      straight paths only.
    - "secant" (published GCD code) needs no gradients. On a straight path "secant" assigns the
      whole change f(image) - f(baseline) to every pixel.

    Args:
        classifier: Images -> logits (b, k). "proportional" and "secant" accept a BlackBox.
        path: Path of b images, from ``straight_path``, ``latent_path``, ``direction_path`` or
            ``piecewise_linear_path``. A data set of images (see ``cfx.open``) stands for straight
            paths from black to its images.
        label: The class that is explained, one for all images or (b,). Captum calls it target.
        contrast_class: The class with which the label is compared, one for all images or (b,). By
            default, the label is compared with the other class if the classifier has two classes,
            and with no class if the classifier has more than two. With ``contrast_class="none"``,
            the logit of the label alone is explained.
        method: "trapezoid", "gausslegendre", "mean_gradient", "proportional" or "secant".
            Default: "trapezoid".
        n_points: Number of points on the path, ends included. On a path with corners, more points
            may be used, so that every corner of the path is among the points. "trapezoid" starts
            with ``n_points`` points, and adds points where the map is not accurate enough.
        tolerance: A map has the status "complete" if the sum of the map differs from f(image) -
            f(baseline) by at most ``tolerance`` times |f(image) - f(baseline)|. Greater than 0.
        max_points: Largest number of points per image that "trapezoid" may use. If ``max_points``
            is at most ``n_points``, "trapezoid" adds no points.
        batch_size: Images per batch. A larger batch is faster and needs more memory.
        output_dir: Folder to which the results are written in shards, for any number of images. The
            images are then passed as ``path``. After a crash, the same call goes on. ``cfx.open``
            opens the folder. Default: None.

    Returns:
        An Attribution on the device of the path. The status of an image is "complete", or
        "incomplete" if the sum of the map is wrong by more than ``tolerance``. The status is
        "no_gradient" if the explained output f changed although all gradients are zero, or if a
        gradient is not finite. The status is "stopped" if the image was not finished when Ctrl-C
        was pressed.

    Raises:
        ValueError, TypeError: If an argument is wrong. A
            BlackBox is refused by the methods that need gradients.
    """
    began = time.perf_counter()
    validate.instance(path, Path, "path", "a path, such as cfx.straight_path(images)")
    check_method(classifier, method, path.straight)
    options = Integration.checked(method, n_points, tolerance, max_points)
    batch_size = validate.count(batch_size, "batch_size", 1)
    stop = Stop(None)
    with eval_frozen(classifier, getattr(path, "space", None)):
        result = integrate(classifier, path, label, contrast_class, options, batch_size, stop)
    record = {"function": "integrated_gradients", **dataclasses.asdict(options)}
    return with_record(result, stop, began, lambda: weights_hash(classifier), **record)


@dataclasses.dataclass(frozen=True)
class Integration:
    """Options of ``integrated_gradients`` that decide how the integral is computed."""

    method: str
    n_points: int
    tolerance: float
    max_points: int

    @classmethod
    def checked(cls, method: str, n_points: Any, tolerance: Any, max_points: Any) -> "Integration":
        """Return the options, all checked except ``method``, which ``check_method`` checks."""
        return cls(
            method,
            validate.count(n_points, "n_points", 1 if method == "gausslegendre" else 2),
            validate.number(tolerance, "tolerance", 0.0, open_low=True),
            validate.count(max_points, "max_points", 1),
        )


def check_method(classifier: Any, method: Any, straight: bool = False) -> None:
    """Raise an error if a method is unknown, or does not suit the classifier or the path.

    Args:
        straight: Whether the path is a straight line of pixels.
    """
    validate.choice(method, "method", METHODS)
    as_classifier(classifier)
    if method in WHITE_BOX and isinstance(classifier, validate.BlackBoxed):
        raise TypeError(
            f"classifier: expected one with gradients for method={method!r}, got a BlackBox; "
            "method='proportional' needs no gradients"
        )
    if method == "gausslegendre" and not straight:
        raise ValueError(
            "method: expected one for curved paths, such as 'trapezoid', got 'gausslegendre'"
        )


def integrate(
    classifier: Any,
    path: Path,
    label: Any,
    contrast_class: Any,
    options: Integration,
    batch_size: int,
    stop: Stop,
) -> Attribution:
    """Explain all images of a path, in groups whose points on the paths fit into one batch."""
    output = ExplainedOutput(
        classifier, label, contrast_class, len(path), batch_size, options.method in WHITE_BOX
    )

    def explain(rows: Tensor) -> Attribution:
        return _explain_group(output, path, rows, options)

    positions = torch.arange(len(path), device=path.device)
    return explain_batches(stop, output, explain, positions, n_points=options.n_points)


@dataclasses.dataclass
class Curve:
    """The m evaluated points of one image's path.

    The fields are the positions t (m,) on the path, the images x (m, c, h, w), the explained
    outputs f (m,), and the gradients g of f, (m, c, h, w).
    """

    t: Tensor
    x: Tensor
    f: Tensor
    g: Tensor

    def merged(self, other: "Curve") -> "Curve":
        """Return a Curve with the points of two curves, sorted by the position t."""
        order = torch.cat([self.t, other.t]).argsort()
        both = zip(vars(self).values(), vars(other).values(), strict=True)
        return Curve(*(torch.cat(pair)[order] for pair in both))


def _explain_group(
    output: ExplainedOutput, path: Path, rows: Tensor, options: Integration
) -> Attribution:
    """Return the Attribution of the images at the positions ``rows``.

    The explained output f is evaluated at points on the path of each image. The method "trapezoid"
    adds more points where the map is not accurate enough.
    """
    t, weights = (part.to(path.device) for part in _nodes(path, options))
    curves = _evaluate(output, path, rows, [t] * len(rows))
    if options.method == "trapezoid":
        _refine(output, path, rows, curves, options)
    pairs = zip(rows.split(1), curves, strict=True)
    return Attribution.concatenate(
        [_attribution(output, path, row, curve, weights, options) for row, curve in pairs]
    )


def _nodes(path: Path, options: Integration) -> tuple[Tensor, Tensor]:
    """Return the positions t of the first points of a path, and weights of the gradients at t."""
    if options.method == "gausslegendre":
        t, weights = np.polynomial.legendre.leggauss(options.n_points)
        # The ends have weight 0; they are needed for f(image) - f(baseline).
        return (
            torch.tensor([0.0, *(t + 1) / 2, 1.0], dtype=torch.float64),
            torch.tensor([0.0, *weights / 2, 0.0], dtype=torch.float64),
        )
    nodes = path.nodes(options.n_points)
    return nodes, torch.full_like(nodes, 1 / len(nodes))


def _evaluate(
    output: ExplainedOutput, path: Path, rows: Tensor, positions: list[Tensor]
) -> list[Curve]:
    """Evaluate the explained output on the path of each image, several images in one batch.

    Args:
        rows: Positions of the images in the call.
        positions: For each image, the values of t at which f is evaluated.
    """
    counts = [len(t) for t in positions]
    repeated = rows.repeat_interleave(torch.tensor(counts, device=rows.device))
    values = output.along(path, repeated, torch.cat(positions))
    split = zip(positions, *(value.split(counts) for value in values), strict=True)
    return [Curve(*parts) for parts in split]


def _refine(
    output: ExplainedOutput, path: Path, rows: Tensor, curves: list[Curve], options: Integration
) -> None:
    """Add points to each curve until the map is accurate or the curve has ``max_points`` points."""
    active = list(range(len(curves)))
    while active:
        new = {i: _midpoints(curves[i], options) for i in active}
        active = [i for i in active if len(new[i])]
        if active:
            added = _evaluate(output, path, rows[active], [new[i] for i in active])
            for i, more in zip(active, added, strict=True):
                curves[i] = curves[i].merged(more)


def _midpoints(curve: Curve, options: Integration) -> Tensor:
    """Return the midpoints of the intervals to be halved, an empty tensor for an accurate map."""
    sums = _trapezoids(curve.g, curve.x).flatten(1).sum(1, dtype=torch.float64)
    error = (sums - curve.f.diff()).abs()
    allowed = options.tolerance * (curve.f[-1] - curve.f[0]).abs()
    room = options.max_points - len(curve.t)
    # The sum of all errors must be small, not only the error of the sum: errors of opposite
    # signs cancel in the sum, and not in the map.
    if room <= 0 or error.isnan().any() or error.sum() <= allowed:
        return curve.t[:0]
    worst = (error > allowed / len(error)).nonzero()[:, 0]
    worst = worst[error[worst].argsort(descending=True)][:room]
    return (curve.t[worst] + curve.t[worst + 1]) / 2


def _attribution(
    output: ExplainedOutput,
    path: Path,
    row: Tensor,
    curve: Curve,
    weights: Tensor,
    options: Integration,
) -> Attribution:
    """Return the Attribution of one image, computed from the points of a path."""
    full = _map(options.method, curve.x, curve.f, curve.g, weights)
    change = curve.f[-1] - curve.f[0]
    delta = relative_delta(full.sum(), change)
    status = COMPLETE if delta.abs() <= options.tolerance else INCOMPLETE
    # The change of f is exact. If f changed, gradients that are zero everywhere are wrong.
    useless = not full.isfinite().all() or bool(change != 0 and not curve.g.any())
    if options.method in WHITE_BOX and useless:
        status = NO_GRADIENT
    label, contrast_class = output.classes_of(row)
    n_points = torch.tensor([len(curve.t)], device=path.device)
    renders = path.passes(curve.t).sum()[None].to(path.device)
    return Attribution(
        image=curve.x[-1:],
        baseline=curve.x[:1],
        attributions=full[None].float(),
        output_change=change[None].float(),
        relative_delta=delta[None].float(),
        n_points=n_points,
        label=label,
        contrast_class=contrast_class,
        status=(status,),
        cost={"generator": renders, "classifier": n_points.clone()},
    )


def _map(method: str, x: Tensor, f: Tensor, g: Tensor, weights: Tensor) -> Tensor:
    """Return the attributions (c, h, w) of one image in float64.

    The formulas are in ``integrated_gradients``.
    """
    dx, df = x[1:] - x[:-1], f.diff()
    if method == "trapezoid":
        return _trapezoids(g, x).sum(0, dtype=torch.float64)
    if method == "proportional":
        size = dx.abs().double()
        total = size.sum((1, 2, 3)).clamp_min(1e-300)
        return (per_sample(df / total, size) * size).sum(0)
    if method == "secant":
        dx = dx.double()
        slopes = torch.where(dx == 0, 0.0, per_sample(df, dx) / torch.where(dx == 0, 1.0, dx))
        return (x[-1] - x[0]).double() * slopes.mean(0)
    weights = per_sample(weights, x)
    weighted = torch.where(weights == 0, 0.0, g * weights)
    return ((x[-1] - x[0]) * weighted).sum(0, dtype=torch.float64)


def _trapezoids(g: Tensor, x: Tensor) -> Tensor:
    """Return the integrals of the gradient between neighbours of m points, (m - 1, c, h, w).

    The trapezoid rule takes the mean of the gradients at the two ends of an interval. The gradient
    at one end may be infinite, for example if f contains a square root of 0. If the gradient at one
    end is infinite, only the gradient at the other end is used.
    """
    first, last = g[:-1], g[1:]
    start = torch.where(first.isfinite(), first, last)
    end = torch.where(last.isfinite(), last, first)
    return 0.5 * (start + end) * (x[1:] - x[:-1])
