"""Counterfactual Attacks: gradient search in the latent space of a generator.

Goldwasser & Hooker, "Counterfactual Attacks", arXiv 2504.15479. Differences from the paper:

- The paper minimises the negative probability of the target. Probabilities saturate, so the default
  loss here is the negative log odds.
- The paper has no distance term in its loss. Here the distances to the original code and to the
  mean code are parts of the loss. In codes of many dimensions, restarts count them less.
- A bisection shrinks the change of each sample that reached the target, to the smallest fraction
  that still reaches the target. The bisection finds the smallest fraction if the target's
  probability rises along the change.
- Steps are measured in standard deviations of the code, and codes move only along the active axes
  of the space, along which the codes of real images vary. Coordinates that do not vary among real
  images are never changed, not even with ``PAPER_ATTACK``.
- A sample whose search fails is restarted. Images already classified as the target are skipped.
- The decoder's output is clamped to [0, 1] before it is classified.

``PAPER_ATTACK`` has the settings of the paper.
"""

import dataclasses
import os
from typing import Any

import torch
from torch import Tensor

from cfxnb.attacks.gradient_search import SearchOptions, search
from cfxnb.core import validate
from cfxnb.core.code_covariance import along_active_axes
from cfxnb.core.decisions import still_reached
from cfxnb.core.driver import Edit, EncodedBatch, Run
from cfxnb.core.modes import standard_modes
from cfxnb.core.results import Counterfactuals
from cfxnb.core.streamed import streamed
from cfxnb.core.target import Target
from cfxnb.core.tensors import active_dims, distance_weight, noise_like, standardise
from cfxnb.core.types import Classifier, Images, LatentSpace, OnStep

#: Settings of the paper's official code for changing one MNIST digit into another.
PAPER_ATTACK: dict[str, Any] = {
    "loss": "probability",
    "units": "code",
    "lr": 0.1,
    "steps": 5000,
    "confidence": 0.5,
    "proximity": 0.0,
    "prior": 0.0,
    "binary_search_steps": 0,
    "restarts": 0,
}


@dataclasses.dataclass(frozen=True)
class LatentOptions(SearchOptions):
    """The options of one call of ``latent_attack``, checked. ``latent_attack`` explains them."""

    restarts: int
    lr: float
    loss: str
    proximity: float
    prior: float
    units: str
    init_noise: float


@streamed
@standard_modes
def latent_attack(
    space: LatentSpace,
    classifier: Classifier,
    images: Images,
    target: Target,
    *,
    confidence: float = 0.995,
    steps: int = 25,
    restarts: int = 5,
    lr: float = 0.3,
    loss: str = "margin",
    proximity: float = 0.1,
    prior: float = 0.3,
    units: str = "std",
    binary_search_steps: int = 5,
    init_noise: float = 0.0,
    batch_size: int = 256,
    seed: int = 0,
    first_row: int = 0,
    on_step: OnStep | None = None,
    output_dir: str | os.PathLike | None = None,
) -> Counterfactuals:
    """Change the code of each image until the classifier predicts the target.

    The search starts at the code z0 of the image. For a code z = z0 + std * u, the search minimises
    the following loss over u::

        -log_odds(target) + proximity * |u|^2 + prior * |(z - mean) / std|^2

    With loss="probability" the first term of the loss is -p(target), as in the paper. The paper's
    loss does not have the two distance terms. Both are sums over the coordinates of the code. In a
    code of many active dimensions d they can outweigh the log odds, and the search then ends near
    the mean code. So further attempts multiply both terms by min(1, 20 / d).

    Args:
        space: Generator whose codes are changed. ``space.mean`` and ``space.std`` are the mean and
            the standard deviation of the codes.
        classifier: Maps images to logits (b, k). Must be differentiable.
        images: Images (b, c, h, w) in [0, 1], or a data set (see ``cfx.open``).
        target: Class to reach, by number or name: one for all images, or one per image (b,). With
            a regression model: a goal, such as ``cfx.raise_to(0.8)``. With a data set also an entry
            of each item, such as ``cfx.from_item("label")``.
        confidence: Probability of the target at which the search for an image ends, in (0, 1).
            Default: 0.995.
        steps: Largest number of gradient steps per attempt. Default: 25.
        restarts: Number of further attempts for images that have not reached the target. Each
            attempt starts at the original code plus random noise, and the noise (its standard
            deviation) grows by 0.5 ``units`` per attempt. In codes of more than 20 active
            dimensions, they also count the two distances less, see above. Default: 5.
        lr: Learning rate of Adam, in ``units``. Default: 0.3.
        loss: ``"margin"`` (default) maximises the log odds of the target. ``"probability"``
            maximises the probability of the target, as the paper does.
        proximity: Weight of the squared distance to the original code. Default: 0.1.
        prior: Weight of the squared distance to the mean code. Default: 0.3.
        units: ``"std"`` (default) measures each coordinate in standard deviations of the code.
            ``"code"`` measures each coordinate as it is, without scaling.
        binary_search_steps: Number of bisection steps that shrink each successful change. Each step
            decodes one image. If ``binary_search_steps`` is 0, the change is not shrunk. Default:
            5.
        init_noise: Standard deviation, in ``units``, of random noise added to the first code.
            Values above 0 make the results of different seeds differ. Default: 0.
        batch_size: Images per batch. A larger batch is faster and needs more memory.
        seed: Seed of the random starts. The noise of an image depends only on (seed, row).
        first_row: Row of the first image in its data set. If you process a data set in parts and
            set ``first_row``, the results are those of a single call.
        on_step: Called with a Step after each evaluation of the classifier. Return True to stop.
            After a stop, images without a result get the status "stopped".
        output_dir: Folder to which the results are written in shards, for any number of images.
            After a crash, the same call goes on. ``cfx.open`` opens the folder. Default: None.

    Returns:
        Counterfactuals with codes. The status is "reconstruction_is_target" if the unchanged
        reconstruction is already classified as the target.

    Raises:
        ValueError, TypeError: If an argument is wrong. A BlackBox
            is refused, because it has no gradients.
    """
    validate.white_box(classifier)
    options = LatentOptions(
        confidence=validate.number(confidence, "confidence", 0.0, 1 - 1e-6, open_low=True),
        steps=validate.count(steps, "steps", 1),
        restarts=validate.count(restarts, "restarts"),
        lr=validate.number(lr, "lr", 0.0, open_low=True),
        loss=validate.choice(loss, "loss", ("margin", "probability")),
        proximity=validate.number(proximity, "proximity", 0.0),
        prior=validate.number(prior, "prior", 0.0),
        units=validate.choice(units, "units", ("std", "code")),
        binary_search_steps=validate.count(binary_search_steps, "binary_search_steps"),
        init_noise=validate.number(init_noise, "init_noise", 0.0),
        seed=validate.seed(seed),
    )
    run = Run(
        classifier, images, target, space=validate.space(space), batch_size=batch_size,
        first_row=first_row,
        on_step=on_step, by_row=True,
    )  # fmt: skip

    def edit(batch: EncodedBatch) -> Edit:
        moves = CodeParametrisation(run.space, batch, options)
        found = search(run.classify, batch, moves, run.stop, options, options.restarts)
        every = torch.arange(len(batch.rows), device=batch.rows.device)
        code = batch.code_before.with_z(moves.code(every, found.change))
        return found.edit(code=code, generator=found.evaluations)

    need = still_reached(options.confidence)
    record = dataclasses.asdict(options)
    return run.counterfactuals(edit, need, function="latent_attack", **record)


class CodeParametrisation:
    """Changes of an original code z0, optimised by Adam: z = z0 + std * change.

    With ``units="std"``, only the part of the change along the active axes of the space counts.
    With ``units="code"``, z = z0 + change in all active coordinates, as in the paper.
    """

    def __init__(self, space: Any, batch: EncodedBatch, options: LatentOptions) -> None:
        self.space, self.options = space, options
        self.start, self.rows = batch.code_before, batch.rows
        self.mean, self.std = space.mean.to(self.start.z), space.std.to(self.start.z)
        self.weight = 1.0
        self.adam = Adam(self.start.z, options.lr)

    def initial(self, rows: Tensor, attempt: int) -> Tensor:
        """Return the random change of the codes at the start of an attempt.

        The standard deviation of the random change grows by 0.5 ``units`` per attempt. If
        ``init_noise`` is 0, attempt 0 starts with no change. Attempt 0 counts the distances in
        full, because edits near the mean code are more realistic.
        """
        self.adam.reset(rows)
        self.weight = distance_weight(self.std) if attempt else 1.0
        length = self.options.init_noise + 0.5 * attempt
        seed = self.options.seed + 7919 * attempt
        return length * noise_like(self.start.z[rows], seed, self.rows[rows])

    def code(self, rows: Tensor, change: Tensor) -> Tensor:
        if self.options.units == "code":
            return self.start.z[rows] + active_dims(self.std) * change
        return self.start.z[rows] + self.std * along_active_axes(self.space, change)

    def render(self, rows: Tensor, change: Tensor) -> Tensor:
        return self.space.decode(self.start[rows].with_z(self.code(rows, change)))

    def loss(self, rows: Tensor, change: Tensor, odds: Tensor) -> Tensor:
        from_mean = standardise(self.code(rows, change) - self.mean, self.std)
        distance = self.options.proximity * change.flatten(1).square().sum(1)
        distance = distance + self.options.prior * from_mean.flatten(1).square().sum(1)
        return self.weight * distance - (odds if self.options.loss == "margin" else odds.sigmoid())

    def step(self, rows: Tensor, change: Tensor, slope: Tensor) -> Tensor:
        return change - self.adam.step(rows, slope)


class Adam:
    """Adam (Kingma & Ba, 2015) on a subset of the rows. The moments of all other rows stay as they
    are.

    Because of its momentum, ``torch.optim.Adam`` would move a finished sample as long as other
    samples are searched. With ``torch.optim.Adam``, the result of a sample would depend on the
    other samples of its batch.
    """

    def __init__(self, like: Tensor, lr: float) -> None:
        self.lr = lr
        self.mean, self.square, self.count = (torch.zeros_like(like) for _ in range(3))

    def reset(self, rows: Tensor) -> None:
        for moment in (self.mean, self.square, self.count):
            moment[rows] = 0

    def step(self, rows: Tensor, slope: Tensor) -> Tensor:
        """Return the update to subtract from ``rows``, given their gradients ``slope``."""
        self.count[rows] += 1
        self.mean[rows] = 0.9 * self.mean[rows] + 0.1 * slope
        self.square[rows] = 0.999 * self.square[rows] + 0.001 * slope**2
        mean = self.mean[rows] / (1 - 0.9 ** self.count[rows])
        square = self.square[rows] / (1 - 0.999 ** self.count[rows])
        return self.lr * mean / (square.sqrt() + 1e-8)
