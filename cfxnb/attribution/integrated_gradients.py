"""Integrated gradients along any path of images, and what can be had without gradients.

Sundararajan et al., 2017, integrate along a straight line in pixels; latent integrated gradients
(GCD, arXiv 2404.12488) along a walk in a generator's latent space. The latter's published sums
take the curve for a straight line, so that the map doesn't add up to what it explains (rules
"average" and "secant", for study). The rules "line" and "shares" follow the actual curve.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfxnb.attribution.explained_output import Looks
from cfxnb.attribution.paths import Path
from cfxnb.attribution.result import (
    COMPLETE,
    INCOMPLETE,
    Attribution,
    relative_gap,
    unfinished,
)
from cfxnb.core import validate
from cfxnb.core.classifiers import as_classifier
from cfxnb.core.driver import Stop
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.tensors import per_sample
from cfxnb.core.types import NO_GRADIENT, STOPPED, Classifier
from cfxnb.core.weights_hash import weights_hash

WHITE_BOX = ("trapezoid", "gausslegendre", "mean_gradient")
BLACK_BOX = ("proportional", "secant")
RULES = (*WHITE_BOX, *BLACK_BOX)


@standard_modes
def integrated_gradients(
    classifier: Classifier,
    path: Path,
    label: int | str | Tensor,
    *,
    contrast_class: int | str | Tensor | None = None,
    method: str = "trapezoid",
    n_points: int = 17,
    tolerance: float = 0.01,
    max_points: int = 257,
    batch_size: int = 128,
) -> Attribution:
    """How much each pixel contributed to f(end) - f(baseline) along a path.

    f is logit[label], or logit[label] - logit[against]; of two classes, the other one is
    ``contrast_class`` unless that is "none". With points x_0 ... x_m on the path and
    gradients G_i, all products elementwise:

    - "line": sum_i (G_i + G_{i+1}) / 2 * (x_{i+1} - x_i), the trapezoid rule for the line
      integral. Each piece of the path should add up to f_{i+1} - f_i; those that are farthest
      from it are halved, until the whole map is within ``tolerance``.
    - "gauss": (x_m - x_0) * weighted mean of G at Gauss-Legendre nodes; straight paths only.
    - "shares", without gradients: f_{i+1} - f_i is shared out by |x_{i+1} - x_i|. Complete
      by construction; what moves together is not told apart.
    - "average" (published): (x_m - x_0) * mean of G. Complete on straight paths only.
    - "secant" (published, without gradients): "average" with G_i = (f_{i+1} - f_i) /
      (x_{i+1} - x_i). On a straight path every pixel gets the whole change.

    Args:
        classifier: images -> logits (b, k); a BlackBox for "shares" and "secant" will do.
        path: from ``straight_path``, ``latent_path``, ``direction_path`` or ``piecewise_linear_path``.
        label: the class explained, one or (b,).
        contrast_class: another class, one or (b,); "none" for the logit of the label alone.
        n_points: on the path at first (all, except for "line"); corners of the path are added.
        tolerance: of |gap|, see ``Attribution.relative_delta``; > 0.
        max_points: points for each sample at most; up to ``n_points``, there is no halving.
        batch_size: images rendered and classified at once; bounds the memory, never changes a result.

    Returns:
        Attribution, where the path is. Status "incomplete" where |gap| > tolerance;
        "no_gradient" where f changed and all gradients vanished, or one was not finite. Ctrl-C
        ends the call: what is finished is kept, the other samples get the status "stopped".

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them a BlackBox with a
            rule that needs gradients.
    """
    began = time.perf_counter()
    validate.instance(path, Path, "path", "a path, such as cfx.straight_path(images)")
    check_rule(classifier, method)
    if method == "gausslegendre" and not path.straight:
        raise ValueError(
            "method: expected another one than 'gauss' on a curved path, such as 'line'"
        )
    knobs = rule_knobs(method, n_points, tolerance, max_points)
    batch_size = validate.count(batch_size, "batch_size", 1)
    stop = Stop(None)
    with eval_frozen(classifier, getattr(path, "space", None)):
        whole = integrate(classifier, path, label, contrast_class, knobs, batch_size, stop)
    return recorded(
        whole,
        stop,
        began,
        lambda: weights_hash(classifier),
        function="integrated_gradients",
        **knobs,
    )


def recorded(
    whole: Attribution, stop: Stop, began: float, weights: Callable[[], Any], **record: Any
) -> Attribution:
    """The same with the record of the call; a warning if it was interrupted."""
    done = sum(status != STOPPED for status in whole.status)
    stop.warn(done, len(whole), "the others have the status 'stopped'")
    seconds = round(time.perf_counter() - began, 3)
    record |= {"weights": stop.finish(weights), "seconds": seconds}
    return dataclasses.replace(whole, made_by=record)


def rule_knobs(method: str, n_points: Any, tolerance: Any, max_points: Any) -> dict[str, Any]:
    """The checked arguments of a rule."""
    return {
        "method": method,
        "n_points": validate.count(n_points, "n_points", 1 if method == "gausslegendre" else 2),
        "tolerance": validate.number(tolerance, "tolerance", 0.0, open_low=True),
        "max_points": validate.count(max_points, "max_points", 1),
    }


def integrate(
    classifier: Any,
    path: Path,
    label: Any,
    contrast_class: Any,
    knobs: dict,
    batch_size: int,
    stop: Stop,
) -> Attribution:
    """Maps of all samples of a path; those that a stop left out have the status "stopped"."""
    looks = Looks(
        classifier, label, contrast_class, len(path), batch_size, knobs["method"] in WHITE_BOX
    )
    groups = torch.arange(len(path), device=path.device).split(
        max(1, batch_size // knobs["n_points"])
    )
    found = stop.each(
        groups, lambda rows: Attribution.concatenate(_group(looks, path, rows, knobs))
    )
    like = next(part for _, part in found if part is not None)
    parts = []
    for rows, part in found:
        if part is None:  # an image that was not rendered is not known
            image = torch.full_like(like.image[:1], torch.nan).repeat(len(rows), 1, 1, 1)
            part = unfinished(image, *looks.of(rows), like)
        parts.append(part)
    return Attribution.concatenate(parts)


def check_rule(classifier: Any, method: Any) -> None:
    """The rule is known, and the classifier can do what it needs."""
    validate.choice(method, "method", RULES)
    as_classifier(classifier)
    if method in WHITE_BOX and isinstance(classifier, validate.BlackBoxed):
        raise TypeError(
            f"classifier: expected one that passes gradients for rule={method!r}, got a BlackBox; "
            "rule='shares' works without"
        )


def _group(looks: Looks, path: Path, rows: Tensor, knobs: dict) -> list[Attribution]:
    """Some samples together: all their points are looked at in common batches."""
    if knobs["method"] == "gausslegendre":
        places, weights = np.polynomial.legendre.leggauss(knobs["n_points"])
        # The ends have no weight; they tell the change.
        t = torch.tensor([0.0, *(places + 1) / 2, 1.0], dtype=torch.float64)
        share = torch.tensor([0.0, *weights / 2, 0.0], dtype=torch.float64)
    else:
        t = path.nodes(knobs["n_points"])
        share = torch.full_like(t, 1 / len(t))
    t, share = t.to(path.device), share.to(path.device)
    seen = looks.at(path, rows.repeat_interleave(len(t)), t.repeat(len(rows)))
    x, f, g = (part.unflatten(0, (len(rows), len(t))) for part in seen)
    curves = [[t, x[i], f[i], g[i]] for i in range(len(rows))]
    if knobs["method"] == "trapezoid":
        _halve(looks, path, rows, curves, knobs)
    return [
        _finish(looks, path, row, curve, share, knobs)
        for row, curve in zip(rows.split(1), curves, strict=True)
    ]


def _halve(looks: Looks, path: Path, rows: Tensor, curves: list[list], knobs: dict) -> None:
    """Add points to each curve where its pieces miss the change of f, until it is complete."""
    active = list(range(len(curves)))
    while active:
        chosen, places = [], []
        for i in active:
            new = _worst(curves[i], knobs["tolerance"], knobs["max_points"])
            if len(new):
                chosen.append(i)
                places.append(new)
        active = chosen
        if not active:
            return
        counts = [len(p) for p in places]
        each = torch.tensor(active, device=path.device).repeat_interleave(
            torch.tensor(counts, device=path.device)
        )
        seen = looks.at(path, rows[each], torch.cat(places))
        for i, new, *found in zip(active, places, *(s.split(counts) for s in seen), strict=True):
            longer = [torch.cat([a, b]) for a, b in zip(curves[i], (new, *found), strict=True)]
            order = longer[0].argsort()
            curves[i] = [part[order] for part in longer]


def _worst(curve: list[Tensor], tolerance: float, max_points: int) -> Tensor:
    """Midpoints of the pieces that are to be halved; none if the map is complete."""
    t, x, f, g = curve
    pieces = _trapezoids(g, x).flatten(1).sum(1, dtype=torch.float64)
    off = (pieces - f.diff()).abs()
    allowed = tolerance * (f[-1] - f[0]).abs()
    room = max_points - len(t)
    # More than the whole gap: pieces that miss in opposite directions don't make a good map.
    if room <= 0 or off.isnan().any() or off.sum() <= allowed:
        return t[:0]
    bad = (off > allowed / len(off)).nonzero()[:, 0]
    bad = bad[off[bad].argsort(descending=True)][:room]
    return (t[bad] + t[bad + 1]) / 2


def _finish(
    looks: Looks, path: Path, row: Tensor, curve: list, share: Tensor, knobs: dict
) -> Attribution:
    t, x, f, g = curve
    full = _map(knobs["method"], x, f, g, share)
    change = f[-1] - f[0]
    gap = relative_gap(full.sum(), change)
    # The change is exact, so that a vanishing gradient under it can't be the truth.
    lost = knobs["method"] in WHITE_BOX and (
        not full.isfinite().all() or bool(change != 0 and not g.any())
    )
    status = COMPLETE if gap.abs() <= knobs["tolerance"] else INCOMPLETE
    label, contrast_class = looks.of(row)
    return Attribution(
        image=x[-1:],
        baseline=x[:1],
        attributions=full[None].float(),
        output_change=change[None].float(),
        relative_delta=gap[None].float(),
        n_points=torch.tensor([len(t)], device=path.device),
        label=label,
        contrast_class=contrast_class,
        status=(NO_GRADIENT if lost else status,),
        cost={
            "generator": path.passes(t).sum()[None].to(path.device),
            "classifier": torch.tensor([len(t)], device=path.device),
        },
    )


def _map(method: str, x: Tensor, f: Tensor, g: Tensor, share: Tensor) -> Tensor:
    """The map (c, h, w), float64; see ``integrated_gradients`` for the rules."""
    steps = x[1:] - x[:-1]
    if method == "trapezoid":
        return _trapezoids(g, x).sum(0, dtype=torch.float64)
    if method == "proportional":
        size = steps.abs().double()
        whole = size.sum((1, 2, 3)).clamp_min(1e-300)
        return (per_sample(f.diff() / whole, size) * size).sum(0)
    if method == "secant":
        moved = steps.double()
        rise = per_sample(f.diff(), moved)
        slopes = torch.where(moved == 0, 0.0, rise / torch.where(moved == 0, 1.0, moved))
        return (x[-1] - x[0]).double() * slopes.mean(0)
    weighted = torch.where(per_sample(share, x) == 0, 0.0, g * per_sample(share, x))
    return ((x[-1] - x[0]) * weighted).sum(0, dtype=torch.float64)


def _trapezoids(g: Tensor, x: Tensor) -> Tensor:
    """The integral over each piece of a curve, (m - 1, c, h, w), from the points x (m, c, h, w).

    Where the slope at one end is infinite, as that of a square root at 0, the other end stands for
    pns: the integral is finite all the same, and halving the piece comes near to it.
    """
    first, last = g[:-1], g[1:]
    start = torch.where(first.isfinite(), first, last)
    end = torch.where(last.isfinite(), last, first)
    return 0.5 * (start + end) * (x[1:] - x[:-1])
