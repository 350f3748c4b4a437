"""An adversarial attack on pixels, the baseline without a generator."""

import dataclasses
import os

import torch
from torch import Tensor

from cfxnb.attacks.gradient_search import SearchOptions, search
from cfxnb.attacks.minimal_norm import search_minimal_norm
from cfxnb.core import validate
from cfxnb.core.decisions import still_reached
from cfxnb.core.driver import Edit, EncodedBatch, Run
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.core.streamed import streamed
from cfxnb.core.target import Target
from cfxnb.core.tensors import norms, per_sample, unit
from cfxnb.core.types import Classifier, Images, OnStep


@dataclasses.dataclass(frozen=True)
class PixelOptions(SearchOptions):
    """The options of one call of ``pixel_attack``, checked. ``pixel_attack`` explains them."""

    epsilon: float
    step_size: float
    minimal_norm: bool


@streamed
@standard_modes
def pixel_attack(
    classifier: Classifier,
    images: Images,
    target: Target,
    *,
    confidence: float | None = None,
    minimal_norm: bool = False,
    epsilon: float = 6.0,
    steps: int = 100,
    step_size: float | None = None,
    binary_search_steps: int = 5,
    batch_size: int = 256,
    seed: int = 0,
    first_row: int = 0,
    on_step: OnStep | None = None,
    output_dir: str | os.PathLike | None = None,
) -> Counterfactuals:
    """Change the pixels of each image by L2 projected gradient descent (PGD).

    PGD is described by Madry et al., 2018, section 2.1. Each step follows the gradient of the
    target's log odds. The result of a step is projected to the ball of radius ``epsilon`` around
    the image, and clamped to [0, 1]. At the end, a bisection finds the smallest fraction of the
    change that still reaches the target. The resulting images are usually adversarial examples,
    because only the classifier decides what changes.

    With ``minimal_norm`` the function searches for the change with the smallest L2 norm that
    reaches the target. The radius of the ball starts with ``epsilon`` and adapts to each image, as
    in DDN (Rony et al., 2019). The radius shrinks while the target is reached, and grows while the
    target is not reached. Two details follow FMN (Pintor et al., 2021) instead of DDN. The radius
    depends on an estimate of the distance to the decision boundary, and it changes less and less
    during the search. With ``minimal_norm``, each step follows the gradient of the target's logit
    minus the largest other logit. If ``confidence`` is harder to reach than the largest logit, the
    step follows the gradient of the target's log odds instead.

    Args:
        classifier: Maps images to logits (b, k). Must be differentiable.
        images: Images (b, c, h, w) in [0, 1], or a data set (see ``cfx.open``).
        target: Class to reach, by number or name: one for all images, or one per image (b,). With
            a regression model: a goal, such as ``cfx.raise_to(0.8)``. With a data set also an entry
            of each item, such as ``cfx.from_item("label")``.
        confidence: Probability at which the target counts as reached, in (0, 1). The default of
            ``confidence`` is 0.995, or 1e-6 with ``minimal_norm``. With a confidence of 1e-6, an
            image only needs to be classified as the target.
        minimal_norm: Search for the smallest change. With ``minimal_norm``, all ``steps`` are taken
            for each image.
        epsilon: Largest L2 norm of the change, over all pixel values of an image. Default: 6.
        steps: Largest number of gradient steps. Default: 100.
        step_size: L2 norm of one step. Default: 0.2. With ``minimal_norm``, ``step_size`` is the
            norm of the first step (default: 1), and the last step has 1 % of this norm.
        binary_search_steps: Number of bisection steps that shrink each successful change. If
            ``binary_search_steps`` is 0, the change is not shrunk. With ``minimal_norm`` no
            bisection is needed, because the search itself finds the smallest change. Default: 5.
        batch_size: Images per batch. A larger batch is faster and needs more memory.
        seed: Only recorded. ``pixel_attack`` uses no random numbers.
        first_row: Row of the first image in its data set, used in the rows that ``on_step`` gets.
        on_step: Called with a Step after each evaluation of the classifier. Return True to stop.
            After a stop, images without a result get the status "stopped".
        output_dir: Folder to which the results are written in shards, for any number of images.
            After a crash, the same call goes on. ``cfx.open`` opens the folder. Default: None.

    Returns:
        Counterfactuals without codes. ``reconstruction`` is the original.

    Raises:
        ValueError, TypeError: If an argument is wrong. A BlackBox
            is refused, because it has no gradients.
    """
    validate.white_box(classifier)
    minimal_norm = validate.flag(minimal_norm, "minimal_norm")
    if confidence is None:
        confidence = 1e-6 if minimal_norm else 0.995
    if step_size is None:
        step_size = 1.0 if minimal_norm else 0.2
    options = PixelOptions(
        confidence=validate.number(confidence, "confidence", 0.0, 1 - 1e-6, open_low=True),
        epsilon=validate.number(epsilon, "epsilon", 0.0, open_low=True),
        steps=validate.count(steps, "steps", 1),
        step_size=validate.number(step_size, "step_size", 0.0, open_low=True),
        binary_search_steps=validate.count(binary_search_steps, "binary_search_steps"),
        seed=validate.seed(seed),
        minimal_norm=minimal_norm,
    )
    run = Run(
        classifier, images, target, batch_size=batch_size, first_row=first_row, on_step=on_step,
        by_row=True,
    )  # fmt: skip

    ball = {"epsilon": options.epsilon, "step_size": options.step_size}

    def edit(batch: EncodedBatch) -> Edit:
        moves = PixelParametrisation(batch.images, options)
        if options.minimal_norm:
            found = search_minimal_norm(run.classify, batch, moves, run.stop, options, **ball)
        else:
            found = search(run.classify, batch, moves, run.stop, options)
        return found.edit(image=(batch.images + found.change).clamp(0, 1))

    need = still_reached(options.confidence)
    record = dataclasses.asdict(options)
    return run.counterfactuals(edit, need, function="pixel_attack", **record)


class PixelParametrisation:
    """Changes of pixels, within a ball around the image and within [0, 1]."""

    def __init__(self, images: Tensor, options: PixelOptions) -> None:
        self.images, self.options = images, options

    def initial(self, rows: Tensor, attempt: int) -> Tensor:
        return torch.zeros_like(self.images[rows])

    def render(self, rows: Tensor, change: Tensor) -> Tensor:
        return self.images[rows] + change

    code = render

    def loss(self, rows: Tensor, change: Tensor, odds: Tensor) -> Tensor:
        return -odds

    def step(self, rows: Tensor, change: Tensor, slope: Tensor) -> Tensor:
        return self.project(
            rows, change - self.options.step_size * unit(slope), self.options.epsilon
        )

    def project(self, rows: Tensor, change: Tensor, radius: Tensor | float) -> Tensor:
        images = self.images[rows]
        return project(images + change, images, radius) - images


def project(x: Tensor, center: Tensor, epsilon: Tensor | float) -> Tensor:
    """Project ``x`` to the ball of radius ``epsilon`` around ``center``, then clamp it to [0, 1].

    Clamping does not leave the ball, because ``center`` lies in [0, 1].
    """
    change = x - center
    shrink = (epsilon / norms(change).clamp_min(1e-12)).clamp(max=1.0)
    return (center + per_sample(shrink, x) * change).clamp(0, 1)
