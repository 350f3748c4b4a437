"""Measure how many held-out images the directions of ``search_globally`` flip.

An image that is not classified as the target is moved towards the target. An image classified as
the target is moved towards the contrast class, or away from the target if there is no contrast
class. A random direction within the active axes is measured for comparison, because long enough
steps along any direction flip some images.
"""

import warnings

import pandas as pd
import torch
from torch import Tensor

from cfxnb.core.code_covariance import CodeCovariance
from cfxnb.core.tensors import noise_like, predicted, unit
from cfxnb.core.types import Code
from cfxnb.directions.direction_trial import AXES_PER_KEPT, as_code_changes
from cfxnb.directions.probing import BlackBoxProbe
from cfxnb.directions.proxies import MIN_PROBES, ProxyFit

STEPS = torch.tensor([0.5, -0.5, 1.0, -1.0])  # as fractions of max_step
PER_IMAGE = 1 + 2 * len(STEPS)  # queries: without a step, along g, and along a random direction


class HeldOut:
    """Moves images along directions by half of ``max_step`` and by ``max_step``, with both signs.

    A quarter of all queries is reserved for held-out images. Half of the reserved queries test g
    and a random direction, and half of them test h-directions (eigenvectors of the Hessian). If the
    reserved queries do not suffice for all held-out images, only the first images are used.

    Args:
        images: images that are not among those of the search, (m, c, h, w). If m is 0, the images
            of the search are used.
    """

    def __init__(self, probe: BlackBoxProbe, images: Tensor) -> None:
        self.probe, self.is_held_out = probe, len(images) > 0
        self.images = images if len(images) else probe.images
        limit = probe.config.max_queries
        self.budget = min(limit // 4, limit - 1 - MIN_PROBES)
        share = 2 if probe.config.n_curvature and self.budget >= 2 * PER_IMAGE else 1
        self.images = self.images[: self.budget // share // PER_IMAGE]
        if not len(self.images):
            needed = 1 + MIN_PROBES + PER_IMAGE
            warnings.warn(
                f"max_queries: testing directions needs at least {needed} queries, got {limit}. "
                "The directions are returned untested: flip rates are NaN. Increase max_queries.",
                stacklevel=4,
            )
        self.flips: dict[str, list[list[float]]] = {}  # per direction, one row per image
        self.random = torch.zeros(probe.space.std.numel())

    def n_axes(self, n_curvature: int, dims: int) -> int:
        """Return the number of h-directions that the queries suffice to test on one image."""
        left = self.budget - PER_IMAGE * len(self.images)
        return max(0, min(AXES_PER_KEPT * n_curvature, dims, left // len(STEPS)))

    def run(
        self, directions: dict[str, Tensor], towards: Tensor, covariance: CodeCovariance
    ) -> None:
        """Move all images along g and a random direction, and the first images along h1, h2, ...

        Args:
            directions: unit vectors (d,) in std.
            towards: one unit vector per class, (k, d).
        """
        config, axes = self.probe.config, covariance.axes
        noise = noise_like(torch.zeros(1, len(axes)), config.seed, torch.tensor([2**31]))
        self.random = unit(noise @ axes)[0]
        ways = directions | {"random": self.random}
        self.flips = {name: [] for name in ways}
        h = [name for name in directions if name != "g"]
        left = self.budget - PER_IMAGE * len(self.images)
        n_curved = left // (len(STEPS) * len(h)) if h else 0
        for number, image in enumerate(self.images):
            here = ways if number < n_curved else {n: ways[n] for n in ("g", "random")}
            self._run_image(image[None], here, towards)

    def _run_image(self, image: Tensor, ways: dict[str, Tensor], towards: Tensor) -> None:
        """Query one image without a step, and after 4 steps along each direction."""
        probe, config = self.probe, self.probe.config
        code = probe.encode(image.to(probe.image.device))
        before = self._decisions(image, code, torch.zeros_like(code.z))[0]
        is_target = float("nan") if before < 0 else float(before == config.target)
        goal = config.target if not is_target else config.contrast_class
        if is_target and goal is None and len(towards) == 2:
            goal = 1 - config.target
        if is_target == 1 and goal is not None and config.contrast_class is None:
            ways = ways | {"g": towards[goal]}
        vectors = as_code_changes(ways, probe.space.std)
        factors = (config.max_step * STEPS).to(vectors)
        steps = factors.view(-1, *[1] * (vectors.ndim - 1)) * vectors[:, None]
        after = self._decisions(image, code, steps.flatten(0, 1))
        reached = after != config.target if goal is None else after == goal
        flips = torch.where(after < 0, torch.nan, reached.float()).view(len(ways), -1)
        for name, row in zip(ways, flips.tolist(), strict=True):
            self.flips[name].append([is_target, *row])

    def _decisions(self, image: Tensor, code: Code, changes: Tensor) -> Tensor:
        """Return the predicted class after n changes of the code, (n,), -1 for lost answers."""
        probe, parts = self.probe, []
        for some in changes.split(probe.config.batch_size):
            batch = probe.batch("trial", image, code, code.z + some)
            answers = None
            if probe.log.can_afford(batch) and not probe.stop.interrupted:
                with probe.on_interrupt():
                    answers = probe.query(batch, code)
            lost = torch.full((len(some),), -1)
            parts.append(lost if answers is None else predicted(answers["logits"]))
        return torch.cat(parts)

    def table(self, directions: dict[str, Tensor], fit: ProxyFit) -> pd.DataFrame:
        """Return one row per direction, best first, and a last row for the random direction.

        ``flip rate`` is the fraction of images that flip within ``max_step``, and ``within half``
        is the fraction that flips within half of ``max_step``. ``towards`` is the flip rate of
        images that were not classified as the target, and ``away`` is the flip rate of images that
        were classified as the target. ``length`` is the mean length of the steps that flip.
        ``curvature`` is the second derivative of the score along the direction. ``images`` is the
        number of images.
        """
        rows = {}
        for name, u in (directions | {"random": self.random}).items():
            found = torch.tensor(self.flips.get(name, [])).view(-1, 1 + len(STEPS)).double()
            found = found[found.isfinite().all(1)]
            is_target, half = found[:, 0] == 1, found[:, 1:3].amax(1)
            whole = found[:, 1:].amax(1)
            length = self.probe.config.max_step * torch.where(half > 0, 0.5, 1.0)[whole > 0]
            rows[name] = {
                "flip rate": _mean(whole),
                "within half": _mean(half),
                "towards": _mean(whole[~is_target]),
                "away": _mean(whole[is_target]),
                "length": _mean(length),
                "curvature": (u @ fit.hessian @ u).item(),
                "images": len(found),
            }
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.index.name = "direction"
        order = table.drop(index="random").sort_values(
            ["flip rate", "within half"], ascending=False, kind="stable"
        )
        return pd.concat([order, table.loc[["random"]]])


def _mean(values: Tensor) -> float:
    return values.double().mean().item() if len(values) else float("nan")
