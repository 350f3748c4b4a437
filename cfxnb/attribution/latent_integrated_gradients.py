"""Latent integrated gradients: the path leaves an image along a direction of its code.

GCD (arXiv 2404.12488), section on latent integrated gradients. Published: 128 renders up to a
fixed length, in the direction that a sign convention says; without a baseline among them, a map
of zeros. Here: both senses are tried, the nearest baseline is bisected, and where there is none
the status says so.
"""

import dataclasses
import math
import time
from typing import Any

import torch
from torch import Tensor

from cfxnb.attribution.integrated_gradients import (
    check_rule,
    integrate,
    recorded,
    rule_knobs,
)
from cfxnb.attribution.paths import JoinedPath, Path, direction_path, straight_path
from cfxnb.attribution.result import ALREADY_BELOW, NO_BASELINE, NO_MAP, Attribution, unfinished
from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier, CheckedSpace
from cfxnb.core.decisions import check_labels, log_odds
from cfxnb.core.directions import heading
from cfxnb.core.driver import Stop, reconstruct_batch
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.space_fit import SpaceFit
from cfxnb.core.tensors import per_sample, typical_distance
from cfxnb.core.types import Classifier, Code, LatentSpace
from cfxnb.core.weights_hash import weights_hash


@standard_modes
def latent_integrated_gradients(
    space: LatentSpace,
    classifier: Classifier,
    images: Tensor,
    direction: Tensor,
    label: int | str | Tensor,
    *,
    contrast_class: int | str | Tensor | None = None,
    max_step: float | None = None,
    threshold: float = 0.01,
    grid_steps: int = 16,
    binary_search_steps: int = 4,
    extend_to_image: bool = True,
    method: str = "trapezoid",
    n_points: int = 17,
    tolerance: float = 0.01,
    max_points: int = 257,
    batch_size: int = 128,
) -> Attribution:
    """Which pixels carry the change that a direction of the code makes to a decision?

    Each code is moved along the direction, in the sense that lowers the label's probability,
    to the first place where that is below ``threshold``. The image there is the baseline; the
    path goes from it back to the reconstruction, and on in a straight line to the image.

    Args:
        direction: like ``space.mean``, or one a sample; neither sign nor length matter.
        label, contrast_class: what is explained, see ``integrated_gradients``. With ``contrast_class`` the
            probability is that of the label among these two.
        max_step: how far to walk at most, in spreads. By default sqrt(2 d) with d coordinates
            that carry anything, the typical distance between the codes of two images.
        threshold: of the label's probability at the baseline, in (0, 1).
        grid_steps: renders along the reach, evenly spaced, in each sense that is walked: first the
            one that lowers the probability more at the first look; the other one if that fails.
        binary_search_steps: of the stretch in which the probability falls below, one render each.
        extend_to_image: False: the path ends at the reconstruction.
        method, n_points, tolerance, max_points: see ``integrated_gradients``.
        batch_size: images rendered and classified at once; bounds the memory, never changes a result.

    Returns:
        Attribution, where the images are. Status "no_baseline": the probability stays above
        the threshold in both senses; the lowest place of the walk is the baseline.
        "already_below": the reconstruction is below it, and there is no walk to explain.
        "no_gradient": see ``integrated_gradients``. Ctrl-C ends the call: what is finished is kept,
        the other samples get the status "stopped".

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    began = time.perf_counter()
    validate.space(space)
    check_rule(classifier, method)
    images = validate.images(images)
    if method == "gausslegendre":
        raise ValueError("method: expected one for curved paths, such as 'line', got 'gauss'")
    if max_step is None:
        max_step = typical_distance(space.std)
    search: dict[str, Any] = {
        "max_step": validate.number(max_step, "max_step", 0.0, open_low=True),
        "threshold": validate.number(threshold, "threshold", 1e-6, 1 - 1e-6),
        "grid_steps": validate.count(grid_steps, "grid_steps", 1),
        "binary_search_steps": validate.count(binary_search_steps, "binary_search_steps"),
    }
    batch_size = validate.count(batch_size, "batch_size", 1)
    validate.instance(extend_to_image, bool, "extend_to_image", "True or False")
    rules = rule_knobs(method, n_points, tolerance, max_points)
    space, classifier = CheckedSpace(space), CheckedClassifier(classifier)
    step = heading(space, direction, len(images))
    fit, stop = SpaceFit(space), Stop(None)
    home, device = images.device, space.mean.device

    def classes(rows: Tensor, count: int | None) -> tuple[Tensor, Tensor | None]:
        """Label and against of some samples, out of ``count`` classes."""
        own, other = check_labels(
            label, contrast_class, len(images), count or 2, classifier.class_names
        )
        here = rows.to(own.device)
        return own[here].to(home), None if other is None else other[here].to(home)

    def explained(rows: Tensor) -> Attribution:
        chunk = images[rows.to(home)].to(device)
        with torch.no_grad():
            code, rebuilt = reconstruct_batch(space, chunk)
            here = classifier(rebuilt)
            fit.see(chunk, rebuilt)
            fit.decided(classifier(chunk), here)
            own, other = classes(rows, here.shape[1])
            walk = Walk(space, classifier, code, step[rows.to(step.device)], own, other, batch_size)
            baseline_step = walk.search(log_odds(here, own, other), **search)
        path: Path = direction_path(space, code, walk.step, baseline_step.length)
        if extend_to_image:
            path = JoinedPath(path, straight_path(chunk, rebuilt))
        # Of two classes None would mean the other one.
        lone = "none" if other is None and here.shape[1] == 2 else other
        part = integrate(classifier, path, own, lone, rules, batch_size, stop)
        part.cost["classifier"] += 1  # the originals
        end = chunk if extend_to_image else rebuilt
        known = dataclasses.replace(part, image=torch.where(part.image.isnan(), end, part.image))
        return _told(known, baseline_step, home)

    with eval_frozen(space, classifier):
        chunks = torch.arange(len(images)).split(batch_size)
        found = stop.each(chunks, explained)
    like = next(part for _, part in found if part is not None)
    parts = []
    for rows, part in found:
        if part is None:
            own, other = classes(rows, classifier.classes)
            part = unfinished(images[rows.to(home)], own, other, like)
        parts.append(part)
    fit.warn()
    return recorded(
        Attribution.concatenate(parts),
        stop,
        began,
        lambda: {"space": weights_hash(space), "classifier": weights_hash(classifier)},
        function="latent_integrated_gradients",
        **search,
        **rules,
        extend_to_image=extend_to_image,
    )


@dataclasses.dataclass
class Found:
    """Where the baselines lie, one row a sample; ``seen``: places rendered and classified."""

    length: Tensor  # signed, in spreads
    seen: Tensor
    missing: Tensor  # bool: the label stays likely all along
    below: Tensor  # bool: it is unlikely from the start


class Walk:
    """Codes seen from places along a direction, by the log odds of their labels."""

    def __init__(
        self,
        space: LatentSpace,
        classifier: Classifier,
        code: Code,
        step: Tensor,
        label: Tensor,
        contrast_class: Tensor | None,
        batch_size: int,
    ) -> None:
        self.space, self.classifier, self.batch_size = space, classifier, batch_size
        self.code, self.step = code, step.to(code.z)
        self.label, self.contrast_class = label, contrast_class
        self.seen = torch.zeros(len(code), dtype=torch.int64, device=code.z.device)

    def odds(self, rows: Tensor, length: Tensor) -> Tensor:
        """Log odds of the samples ``rows`` at signed lengths (n,)."""
        if not len(rows):
            return length
        self.seen[rows] += 1
        found = []
        for some, far in zip(
            rows.split(self.batch_size), length.split(self.batch_size), strict=True
        ):
            code, step = self.code[some], self.step[some]
            image = self.space.decode(code.with_z(code.z + per_sample(far.to(step), step) * step))
            logits = self.classifier(validate.images(image, "space.decode"))
            classes = (
                None if c is None else c[some.to(c.device)]
                for c in (self.label, self.contrast_class)
            )
            found.append(log_odds(logits, *classes).to(far))  # type: ignore[arg-type]
        return torch.cat(found)

    def search(
        self,
        start: Tensor,
        max_step: float,
        threshold: float,
        grid_steps: int,
        binary_search_steps: int,
    ) -> Found:
        """The first place below the threshold, from the log odds ``start`` of the codes on."""
        limit, far = math.log(threshold / (1 - threshold)), self.step.device
        below = start.to(far) < limit
        grid = max_step * torch.arange(1, grid_steps + 1, device=far) / grid_steps
        signs = torch.tensor([1.0, -1.0], device=far)
        # odds[i, s, k]: sample i, sense s, at grid[k]; infinite where nobody has looked.
        odds = torch.full((len(below), 2, grid_steps), torch.inf, device=far)
        rows = (~below).nonzero()[:, 0]
        for side in (0, 1):
            odds[rows, side, 0] = self.odds(rows, (signs[side] * grid[0]).expand(len(rows)))
        better = odds[:, :, 0].argmin(1)
        for senses in (better, 1 - better):
            for k in range(1, grid_steps):
                rows = (~below & ~(odds < limit).flatten(1).any(1)).nonzero()[:, 0]
                sense = senses[rows]
                odds[rows, sense, k] = self.odds(rows, signs[sense] * grid[k])
        hit = (odds < limit).flatten(1)
        missing = ~hit.any(1) & ~below
        # Who has hit looks no further, so the lowest place is the hit; or it stands in for one.
        place = odds.flatten(1).argmin(1)
        sign, high = signs[place // grid_steps], grid[place % grid_steps]
        low, rows = high - grid[0], hit.any(1).nonzero()[:, 0]
        for _ in range(binary_search_steps):
            middle = (low + high) / 2
            fell = torch.zeros_like(below)
            fell[rows] = self.odds(rows, (sign * middle)[rows]) < limit
            high, low = torch.where(fell, middle, high), torch.where(fell, low, middle)
        length = torch.where(below, 0.0, sign * high)
        return Found(length, self.seen + 1, missing, below)


def _told(part: Attribution, found: Found, home: torch.device) -> Attribution:
    """The result with what the search cost and how it ended."""
    status = [
        told if told in NO_MAP else ALREADY_BELOW if below else NO_BASELINE if missing else told
        for told, below, missing in zip(
            part.status, found.below.tolist(), found.missing.tolist(), strict=True
        )
    ]
    seen = found.seen.to(part.n_points.device)
    cost = {name: spent + seen for name, spent in part.cost.items()}
    return dataclasses.replace(
        part, status=tuple(status), baseline_step=found.length.to(seen.device), cost=cost
    ).to(home)
