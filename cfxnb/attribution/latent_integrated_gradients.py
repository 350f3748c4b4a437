"""Latent integrated gradients: integrate along a direction of the code, from a baseline.

The method is from Global Counterfactual Directions (GCD, arXiv 2404.12488), section on latent
integrated gradients. ``LatentExplanation.explain`` reconstructs the image, finds the baseline along
the direction, builds the path from the baseline to the image, and integrates.

Differences from the paper: the published code renders 128 steps up to a fixed length, in one
direction that is chosen by a sign rule. If no step along the direction gives a baseline, the
published code returns a map of zeros. Our code tries the direction and the opposite direction, and
refines the step by bisection. If no step along the direction gives a baseline, our code gives the
image the status "no_baseline".
"""

import dataclasses
import math
import os
import time
from typing import Any

import torch
from torch import Tensor

from cfxnb.attribution.batches import explain_batches, with_record
from cfxnb.attribution.explained_output import ExplainedOutput
from cfxnb.attribution.integrated_gradients import Integration, check_method, integrate
from cfxnb.attribution.paths import JoinedPath, Path, direction_path, straight_path
from cfxnb.attribution.result import ALREADY_BELOW, NO_BASELINE, NO_MAP, Attribution
from cfxnb.core import validate
from cfxnb.core.bisection import bisect
from cfxnb.core.border import CheckedSpace
from cfxnb.core.decisions import log_odds
from cfxnb.core.directions import checked_direction, directions_of
from cfxnb.core.driver import Stop, reconstruct_batch
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.space_fit import SpaceFit
from cfxnb.core.streamed import streamed
from cfxnb.core.target import Label
from cfxnb.core.tensors import per_sample, typical_distance
from cfxnb.core.types import Classifier, Code, Images, LatentSpace
from cfxnb.core.weights_hash import weights_hash


@streamed
@standard_modes
def latent_integrated_gradients(
    space: LatentSpace,
    classifier: Classifier,
    images: Images,
    direction: Any,
    label: Label,
    *,
    contrast_class: Label | None = None,
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
    output_dir: str | os.PathLike | None = None,
) -> Attribution:
    """Compute how much each pixel contributes to the change that a direction of the code makes.

    For each image the function moves the code along the direction until the probability of the
    label is below ``threshold``. The image of the moved code is the baseline. The first part of the
    path of integration leads from the baseline along the direction back to the reconstruction. The
    second part of the path is a straight line of pixels from the reconstruction to the image.

    Args:
        space: Generator with ``encode`` and ``decode``.
        classifier: Images -> logits (b, k). A BlackBox needs method="proportional" or "secant".
        images: Images to explain, (b, c, h, w) in [0, 1], or a data set (see ``cfx.open``).
        direction: Direction in the space of codes, like ``space.mean``, or one per image. The
            sign and the length of the direction have no effect. If ``direction`` is the result of
            ``find_directions``, each image follows the direction of its contrast class if there is
            one, and otherwise the direction of its label.
        label, contrast_class: The explained class, and the class with which the explained class is
            compared, see ``integrated_gradients``. If there is a contrast class, the probability of
            the label is computed from the logits of the label and the contrast class alone.
        max_step: Longest step along the direction, in standard deviations of the code. Default:
            sqrt(2 d), where d is the number of dimensions of the code whose standard deviation is
            above 2 % of the largest standard deviation. The default of ``max_step`` is the typical
            distance between the codes of two images.
        threshold: Probability in (0, 1). An image can be the baseline if the classifier gives the
            label a probability below ``threshold``.
        grid_steps: Number of evenly spaced steps up to ``max_step`` that are tested. The function
            first tests the direction or the opposite direction, whichever lowers the probability of
            the label more in the first step. If no step in the direction tested first gives a
            baseline, the function tests the other direction.
        binary_search_steps: Number of bisection steps that refine the length of the first step at
            which the probability of the label is below ``threshold``. Each bisection step renders
            one image.
        extend_to_image: If False, the path ends at the reconstruction.
        method: As in ``integrated_gradients``, except "gausslegendre".
        n_points, tolerance, max_points: See ``integrated_gradients``.
        batch_size: Images per batch. A larger batch is faster and needs more memory.
        output_dir: Folder to which the results are written in shards, for any number of images.
            After a crash, the same call goes on. ``cfx.open`` opens the folder. Default: None.

    Returns:
        An Attribution on the device of ``images``. The status of an image is a status of
        ``integrated_gradients``, "no_baseline" or "already_below_threshold". The status
        "no_baseline" means that the probability of the label stays above the threshold in the
        direction and in the opposite direction. The baseline of an image with the status
        "no_baseline" is the image at the step with the lowest probability of the label. The status
        "already_below_threshold" means that the probability of the label is below the threshold in
        the reconstruction. The baseline of an image with the status "already_below_threshold" is
        the reconstruction.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    began = time.perf_counter()
    validate.space(space)
    check_method(classifier, method)
    images = validate.images(images)
    longest = typical_distance(space.std) if max_step is None else max_step
    search = BaselineSearch(
        max_step=validate.number(longest, "max_step", 0.0, open_low=True),
        threshold=validate.number(threshold, "threshold", 1e-6, 1 - 1e-6),
        grid_steps=validate.count(grid_steps, "grid_steps", 1),
        binary_search_steps=validate.count(binary_search_steps, "binary_search_steps"),
    )
    batch_size = validate.count(batch_size, "batch_size", 1)
    validate.flag(extend_to_image, "extend_to_image")
    integration = Integration.checked(method, n_points, tolerance, max_points)
    output = ExplainedOutput(classifier, label, contrast_class, len(images), batch_size)
    space, classifier, stop = CheckedSpace(space), output.classifier, Stop(None)
    direction = checked_direction(space, direction, len(images))
    task = LatentExplanation(
        space, images, direction, output, search, integration, extend_to_image, stop
    )
    with eval_frozen(space, classifier):
        positions = torch.arange(len(images), device=images.device)
        result = explain_batches(stop, output, task.explain, positions, images)
    task.fit.warn()
    options = {**vars(search), **vars(integration), "extend_to_image": extend_to_image}
    parts = {"space": space, "classifier": classifier}
    return with_record(
        result,
        stop,
        began,
        lambda: {name: weights_hash(part) for name, part in parts.items()},
        function="latent_integrated_gradients",
        **options,
    )


@dataclasses.dataclass(frozen=True)
class BaselineSearch:
    """Options of ``latent_integrated_gradients`` that decide how the baseline is searched."""

    max_step: float
    threshold: float
    grid_steps: int
    binary_search_steps: int


@dataclasses.dataclass
class LatentExplanation:
    """The checked arguments of one call of ``latent_integrated_gradients``."""

    space: CheckedSpace
    images: Tensor
    direction: Any  # like codes (b, ...), one standard deviation long, or Directions
    output: ExplainedOutput
    search: BaselineSearch
    integration: Integration
    extend_to_image: bool
    stop: Stop

    def __post_init__(self) -> None:
        self.fit = SpaceFit(self.space)

    def explain(self, rows: Tensor) -> Attribution:
        """Explain the images at the positions ``rows``, from encoding to integration."""
        x = self.images[rows].to(self.space.mean.device)
        classifier, batch_size = self.output.classifier, self.output.batch_size
        with torch.no_grad():
            # 1. Encode the images and reconstruct them.
            code, reconstruction = reconstruct_batch(self.space, x)
            logits = classifier(reconstruction)
            self.fit.add_images(x, reconstruction)
            self.fit.add_decisions(classifier(x), logits)
            label, contrast_class = self.output.classes_of(rows, logits.shape[1])
            # 2. Find the baseline along the direction.
            goal = label if contrast_class is None else contrast_class
            direction = directions_of(self.space, self.direction, rows, goal).to(code.z)
            classes = label, contrast_class
            walk = BaselineWalk(self.space, classifier, code, direction, *classes, batch_size)
            found = find_baseline(walk, log_odds(logits, *classes), self.search)
        # 3. The path: from the baseline along the direction to the reconstruction, then straight.
        path: Path = direction_path(self.space, code, direction, found.step)
        if self.extend_to_image:
            path = JoinedPath(path, straight_path(x, reconstruction))
        # 4. Integrate. With two classes, None would stand for the other class.
        other = "none" if contrast_class is None and logits.shape[1] == 2 else contrast_class
        part = integrate(classifier, path, label, other, self.integration, batch_size, self.stop)
        part = found.added_to(part, x if self.extend_to_image else reconstruction)
        return part.to(self.images.device)


@dataclasses.dataclass
class BaselineWalk:
    """A batch of n codes, each with a direction and a label.

    The method ``log_odds`` gives the log odds of the label after a step along the direction.
    """

    space: LatentSpace
    classifier: Classifier
    code: Code
    direction: Tensor  # like code.z
    label: Tensor
    contrast_class: Tensor | None
    batch_size: int

    def __post_init__(self) -> None:
        #: Images rendered and classified for each code so far, int64 (n,).
        self.n_evaluations = torch.zeros_like(self.code.z.flatten(1)[:, 0], dtype=torch.int64)

    def log_odds(self, rows: Tensor, step: Tensor) -> Tensor:
        """Return the log odds (m,) of the label after signed steps (m,) along the direction.

        ``rows`` holds the positions of the m codes in the batch, int64 (m,).
        """
        if not len(rows):
            return step
        self.n_evaluations[rows] += 1
        parts = []
        for some, at in zip(rows.split(self.batch_size), step.split(self.batch_size), strict=True):
            code, direction = self.code[some], self.direction[some]
            z = code.z + per_sample(at.to(direction), direction) * direction
            image = validate.images(self.space.decode(code.with_z(z)), "space.decode")
            index, other = some.to(self.label.device), self.contrast_class
            classes = self.label[index], None if other is None else other[index]
            parts.append(log_odds(self.classifier(image), *classes).to(at))
        return torch.cat(parts)


@dataclasses.dataclass
class BaselineResult:
    """The result of ``find_baseline`` for a batch of n images."""

    step: Tensor  # (n,), signed, in standard deviations of the code
    n_evaluations: Tensor  # int64 (n,), images rendered and classified
    missing: Tensor  # bool (n,), the probability stays above the threshold
    already_below: Tensor  # bool (n,), the reconstruction is below the threshold

    def added_to(self, part: Attribution, end: Tensor) -> Attribution:
        """Return the Attribution with step, status and cost of the baseline search added.

        Args:
            part: Attribution of the images of the batch.
            end: Images at the ends of the paths. An image of ``part`` that is NaN because Ctrl-C
                was pressed is replaced by the image in ``end``.
        """
        status = tuple(
            s if s in NO_MAP else ALREADY_BELOW if below else NO_BASELINE if missing else s
            for s, below, missing in zip(
                part.status, self.already_below.tolist(), self.missing.tolist(), strict=True
            )
        )
        n_evaluations = self.n_evaluations.to(part.n_points.device)
        return dataclasses.replace(
            part,
            image=torch.where(part.image.isnan(), end, part.image),
            status=status,
            baseline_step=self.step.to(part.n_points.device),
            cost={
                "generator": part.cost["generator"] + n_evaluations,
                "classifier": part.cost["classifier"] + n_evaluations + 1,  # the original image
            },
        )


def find_baseline(
    walk: BaselineWalk, log_odds_at_start: Tensor, options: BaselineSearch
) -> BaselineResult:
    """Find the first step along the direction that lowers the label's probability enough.

    Args:
        walk: BaselineWalk, which computes the log odds of the label at any step along the
            direction.
        log_odds_at_start: Log odds of the label in the n reconstructions, (n,).
        options: Options of the baseline search, for example the threshold and the number of
            bisection steps.
    """
    device, grid_steps = walk.direction.device, options.grid_steps
    limit = math.log(options.threshold / (1 - options.threshold))
    already_below = log_odds_at_start.to(device) < limit
    grid = options.max_step * torch.arange(1, grid_steps + 1, device=device) / grid_steps
    signs = torch.tensor([1.0, -1.0], device=device)
    # odds[i, s, k]: code i at step signs[s] * grid[k]; infinite where it was not evaluated.
    odds = torch.full((len(already_below), 2, grid_steps), torch.inf, device=device)
    # The first step in both directions tells which one lowers the log odds more.
    rows = (~already_below).nonzero()[:, 0]
    for side in (0, 1):
        odds[rows, side, 0] = walk.log_odds(rows, (signs[side] * grid[0]).expand(len(rows)))
    better = odds[:, :, 0].argmin(1)
    # Go on in this direction until the log odds are below the limit, then try the opposite one.
    for direction in (better, 1 - better):
        for k in range(1, grid_steps):
            rows = (~already_below & ~(odds < limit).flatten(1).any(1)).nonzero()[:, 0]
            s = direction[rows]
            odds[rows, s, k] = walk.log_odds(rows, signs[s] * grid[k])
    # Once a code is below the limit it is not evaluated further: its lowest value is this step.
    lowest = odds.flatten(1).argmin(1)
    sign, length = signs[lowest // grid_steps], grid[lowest % grid_steps]
    reached = (odds < limit).flatten(1).any(1)
    rows = reached.nonzero()[:, 0]
    length[rows] = bisect(
        lambda middle: walk.log_odds(rows, sign[rows] * middle) < limit,
        (length - grid[0])[rows],
        length[rows],
        options.binary_search_steps,
    )
    return BaselineResult(
        step=torch.where(already_below, 0.0, sign * length),
        n_evaluations=walk.n_evaluations + 1,  # the reconstruction
        missing=~reached & ~already_below,
        already_below=already_below,
    )
