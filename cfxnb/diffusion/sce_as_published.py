"""SCE as its official code computes it (arXiv 2506.14698), for comparison with ``sce``."""

import contextlib
import dataclasses
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.ddim import add_noise, predict_x0
from cfxnb.core.ddpm import Level, levels, posterior_mean, posterior_variance, respaced_schedule
from cfxnb.core.driver import Edit, EncodedBatch, Run
from cfxnb.core.modes import standard_modes
from cfxnb.core.options import CheckedOptions
from cfxnb.core.results import Counterfactuals
from cfxnb.core.streamed import streamed
from cfxnb.core.target import Target
from cfxnb.core.tensors import gradient, noise_like, per_sample, require_gradient
from cfxnb.core.types import Classifier, Images, OnStep, Step
from cfxnb.diffusion.sce import prepare
from cfxnb.diffusion.smooth_relu import SmoothReLUs

_positive = partial(validate.number, low=0.0, open_low=True)
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "optimizer": partial(validate.choice, allowed=("SGD", "RMSprop")),
    "lr": _positive,
    "momentum": partial(validate.number, low=0.0, high=0.9999),
    "gradient_clip": _positive,
    "l1_scale": partial(validate.number, low=0.0),
    "mask_threshold": partial(validate.number, low=0.0, high=1.0),
    "blur_size": validate.odd,
    "temperature": _positive,
    "steps": partial(validate.count, low=1),
    "strength": partial(validate.number, low=0.0, high=0.999, open_low=True),
    "denoising_steps": partial(validate.count, low=2),
    "smooth": validate.flag,
    "seed": validate.seed,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedOptions(CheckedOptions):
    """The checked options of ``sce_as_published``, whose docstring explains each option."""

    checks = _CHECKS
    optimizer: str
    lr: float
    momentum: float
    gradient_clip: float
    l1_scale: float
    mask_threshold: float
    blur_size: int
    temperature: float
    steps: int
    strength: float
    denoising_steps: int
    smooth: bool
    seed: int


def blurred_difference(before: Tensor, after: Tensor, size: int, sigma: float = 2.0) -> Tensor:
    """Return the blurred change of images, (b, 1, h, w).

    The absolute difference is summed over the channels, blurred by a Gaussian, clamped to [0, 1],
    and divided by its largest value before the blur. If nothing changed, the result is 0, where the
    official code divides 0 by 0.
    """
    difference = (before - after).abs().sum(1, keepdim=True)
    place = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    kernel = (-place.square() / (2 * sigma**2)).exp().to(difference)
    kernel = kernel / kernel.sum()
    wide = F.pad(difference, [size // 2] * 4, mode="reflect")
    blurred = F.conv2d(F.conv2d(wide, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    largest = difference.amax((2, 3), keepdim=True)
    return torch.where(largest > 0, blurred.clamp(0, 1) / largest, 0.0)


class PublishedSearch:
    """The search of ``sce_as_published`` for one batch of images, as in the official code.

    Args:
        run: the present call, with its space, classifier and ``stop``.
        batch: images with their codes and reconstructions.
        allowed: pixels that may change, bool (b, 1, h, w).
        gradient_classifier: the classifier whose gradient is followed.
        options: the options of ``sce_as_published``.
    """

    def __init__(
        self,
        run: Run,
        batch: EncodedBatch,
        allowed: Tensor,
        gradient_classifier: CheckedClassifier,
        options: PublishedOptions,
    ) -> None:
        self.run, self.options, self.batch = run, options, batch
        self.gradient_classifier = gradient_classifier
        self.rows = (~batch.skip).nonzero()[:, 0]  # no other sample takes part
        self.x, self.target = batch.images[self.rows], batch.target[self.rows]
        self.allowed = allowed[self.rows].to(self.x)
        strength = torch.tensor([options.strength], dtype=torch.float64)
        schedule = respaced_schedule(run.space.alphas_cumprod, strength, options.denoising_steps)
        self.start, self.levels = schedule.start, levels(schedule)
        self.draws = 0
        self.best = torch.full_like(self.x[:, 0, 0, 0], 0.5)
        self.image, self.kept = self.x.clone(), torch.ones_like(self.allowed)
        self.cost = dict.fromkeys(("unet", "decoder", "classifier"), 0)

    def search(self) -> None:
        """Search with momentum, and repaint what changed: one attempt of the official code."""
        o, x = self.options, self.x
        self.uncond = self.run.space.encode_condition([None] * len(x))
        z = x.clone()
        optimiser = self._optimiser(z)
        active = torch.ones_like(self.target, dtype=torch.bool)
        goal = 1 - self._probability(x)
        for step in range(o.steps):
            if not active.any() or self.run.stop.now:
                break
            # 1. Take the gradient of the smooth classifier, through all steps of the U-Net.
            with torch.enable_grad():
                point = z.detach().requires_grad_()
                x_0 = self._denoise(self._noisy(point, self.start).clamp(-1, 1))
                loss = F.cross_entropy(self._smooth_logits(x_0) / o.temperature, self.target)
                loss = loss + o.l1_scale * (point - x).abs().mean()
                slope = gradient(loss, point)
            # 2. Clip it. Finished samples and forbidden pixels get no gradient.
            slope = self._clip(slope) * per_sample(active, slope)
            slope = slope * self.allowed if o.mask_threshold > 0 else slope
            # 3. Take a step of the optimiser.
            self._step(z, slope, optimiser, fresh=not bool(active.all()))
            # 4. Where the target is likely enough, restore pixels that changed little, and repaint.
            last = step == o.steps - 1
            good = (self._probability(z) >= 0.5) | last
            kept = torch.ones_like(self.allowed)
            if good.any() and o.mask_threshold > 0:
                kept = (blurred_difference(x, z, o.blur_size) < o.mask_threshold).to(x)
                kept = torch.maximum(kept, 1 - self.allowed) * per_sample(good, x)
                repainted = self._repaint(z, kept)
                z.copy_(torch.where(per_sample(good & active, x), repainted, z))
            # 5. Store the most probable image. A sample is finished at its goal.
            p = self._probability(z)
            better = good & active & ((p >= self.best) | (last & (self.best <= 0.5)))
            self.best[better], self.image[better], self.kept[better] = (
                p[better],
                z[better],
                kept[better],
            )
            active = active & ~(good & (p >= goal))
            self.run.stop.tell(Step(step + 1, o.steps, self.batch.rows[self.rows], z, p, active))

    def edit(self) -> Edit:
        """Run the search, and return the result of each sample."""
        if len(self.rows):
            with self.run.stop.on_interrupt():
                self.search()
        batch, rows = self.batch, self.rows
        image, changed = batch.reconstruction.clone(), torch.zeros_like(batch.images[:, 0]) > 0
        image[rows], changed[rows] = self.image, self.kept[:, 0] == 0
        forbidden = torch.zeros_like(batch.images[:, 0, 0, 0])
        forbidden[rows] = 1 - self.allowed.flatten(1).mean(1)
        spent = {name: (~batch.skip) * passes for name, passes in self.cost.items()}
        trace = {"changed": changed.cpu(), "forbidden_fraction": forbidden.cpu()}
        z = batch.code_before.z.clone()
        if len(rows):
            z[rows] = self._code(self.image)
        return Edit(
            code=batch.code_before.with_z(z),
            image=image,
            generator=spent["unet"] + spent["decoder"],
            classifier=spent["classifier"],
            cost={"unet": spent["unet"]},
            trace=trace,
        )

    # -- Parts of the above

    def _count(self, part: str, passes: int = 1) -> None:
        self.cost[part] += passes

    def _noise(self) -> Tensor:
        """Return new noise, which depends only on seed, row and number of the draw."""
        seed = self.options.seed + 7919 * self.draws
        self.draws += 1
        return noise_like(self.batch.code_before.z[self.rows], seed, self.batch.rows[self.rows])

    def _code(self, images: Tensor) -> Tensor:
        return self.run.space.encode(images).z

    def _image(self, code: Tensor) -> Tensor:
        self._count("decoder")
        return self.run.space.decode(self.batch.code_before[self.rows].with_z(code))

    def _noisy(self, images: Tensor, alpha_bar: Tensor) -> Tensor:
        return add_noise(self._code(images), self._noise(), alpha_bar)

    def _denoise(self, noisy: Tensor) -> Tensor:
        """Take all DDPM steps, and return images."""
        for level in self.levels:
            noisy = self._ddpm_step(noisy, level)
        return self._image(noisy)

    def _ddpm_step(self, noisy: Tensor, level: Level) -> Tensor:
        space = self.run.space
        self._count("unet", 1 + noisy.requires_grad)
        eps, fraction = space.predict_noise_and_variance(
            noisy, level.times.expand(len(noisy)), self.uncond
        )
        clean = predict_x0(noisy, eps, level.alpha_bar).clamp(-1, 1)
        mean = posterior_mean(noisy, clean, level)
        if level.is_last:
            return mean
        return mean + posterior_variance(noisy, level, fraction).sqrt() * self._noise()

    def _repaint(self, images: Tensor, kept: Tensor) -> Tensor:
        """Paint each image again outside of the mask ``kept`` (RePaint, Lugmayr et al., 2022)."""
        noisy = self._noisy(images, self.levels[0].alpha_bar)
        inside = kept.to(noisy) > 0
        for level in self.levels:
            noisy = torch.where(inside, self._noisy(self.x, level.alpha_bar), noisy)
            noisy = self._ddpm_step(noisy, level)
        return torch.where(kept > 0, self.x, self._image(noisy))

    def _smooth_logits(self, images: Tensor) -> Tensor:
        self._count("classifier", 1 + images.requires_grad)
        with SmoothReLUs() if self.options.smooth else contextlib.nullcontext():
            logits = self.gradient_classifier(images)
        require_gradient(logits)
        return logits

    def _probability(self, images: Tensor) -> Tensor:
        """Return the probability of the target, with logits divided by the temperature, (n,)."""
        self._count("classifier")
        logits = self.run.classifier(images) / self.options.temperature
        return logits.softmax(1).gather(1, self.target[:, None])[:, 0]

    def _clip(self, slope: Tensor) -> Tensor:
        """Clip gradients whose largest step would exceed ``gradient_clip``.

        As in the official code, a clipped gradient is divided by the learning rate twice. The
        largest step is therefore gradient_clip / lr instead of gradient_clip.
        """
        lr, clip = self.options.lr, self.options.gradient_clip
        largest = slope.flatten(1).abs().amax(1)
        factor = torch.where(lr * largest > clip, clip / (lr**2 * largest), 1.0)
        return slope * per_sample(factor, slope)

    def _optimiser(self, z: Tensor) -> torch.optim.Optimizer:
        if self.options.optimizer == "SGD":
            return torch.optim.SGD([z], lr=self.options.lr, momentum=self.options.momentum)
        return torch.optim.RMSprop([z], lr=self.options.lr)

    def _step(
        self, z: Tensor, slope: Tensor, optimiser: torch.optim.Optimizer, fresh: bool
    ) -> None:
        """Take one step in place. If ``fresh``, RMSprop is replaced by a new Adam."""
        if fresh and self.options.optimizer == "RMSprop":
            optimiser = torch.optim.Adam([z], lr=self.options.lr)
        z.grad = slope
        optimiser.step()
        z.clamp_(0, 1)


@streamed
@standard_modes
@torch.no_grad()
def sce_as_published(
    space: Any,
    classifier: Classifier,
    images: Images,
    target: Target,
    *,
    allowed: Tensor | None = None,
    gradient_classifier: Classifier | None = None,
    smooth: bool = True,
    optimizer: str = "SGD",
    lr: float = 300.0,
    momentum: float = 0.9,
    gradient_clip: float = 1e12,
    l1_scale: float = 0.0005,
    mask_threshold: float = 0.15,
    blur_size: int = 13,
    temperature: float = 3.0,
    steps: int = 50,
    strength: float = 0.3,
    denoising_steps: int = 66,
    seed: int = 0,
    batch_size: int = 32,
    first_row: int | Tensor = 0,
    on_step: OnStep | None = None,
    output_dir: str | os.PathLike | None = None,
) -> Counterfactuals:
    """Search with SCE (arXiv 2506.14698) as its official code computes it.

    ``sce_as_published`` is for comparisons with the paper only; use ``sce`` for all other purposes.
    ``sce_as_published`` does what the official code does, including these defects:

    - The loss is the mean over the batch, so results depend on ``batch_size`` and on the other
      images of the batch.
    - The largest step after clipping is gradient_clip / lr instead of gradient_clip.
    - With ``optimizer="RMSprop"`` (the official code calls it Adam), each step becomes the first
      step of a new Adam optimiser as soon as one image of the batch is finished.
    - Noisy images are clamped to [-1, 1].

    The paper trains a smooth copy of the classifier on the classifier's predictions. To use a
    smooth copy, pass a network from ``cfx.distill_classifier`` as ``gradient_classifier``. The
    defaults are the settings of the paper for images of 128 and 256 pixels. In the paper, a second
    attempt halves ``l1_scale`` and ``mask_threshold``, and may change only pixels that the first
    attempt has not changed (argument ``allowed``).

    Args:
        space: a ``Diffusion`` space of pixels, whose codes are images in [-1, 1].
        classifier: images (b, c, h, w) -> logits (b, k).
        images: (b, c, h, w) in [0, 1], or a data set (see ``cfx.open``).
        target: class to reach, by number or name: one for all images, or one per image (b,). With
            a regression model: a goal, such as ``cfx.raise_to(0.8)``. With a data set also an entry
            of each item, such as ``cfx.from_item("label")``.
        allowed: pixels that may change, bool (b, h, w). Default: all pixels.
        gradient_classifier: the classifier whose gradient is followed. Default: ``classifier``.
        smooth: compute the ReLUs of the network by a smooth function while gradients are taken.
        optimizer: ``"SGD"`` or ``"RMSprop"``.
        lr: learning rate.
        momentum: momentum of SGD.
        gradient_clip: the step of an image is clipped if the largest change of a pixel exceeds this
            limit.
        l1_scale: weight of the mean absolute change.
        mask_threshold: pixels whose blurred change is below this fraction of the largest change are
            restored, and all other pixels are painted again. If ``mask_threshold`` is 0, no pixel
            is restored.
        blur_size: side of the Gaussian blur of the change, in pixels, an odd number.
        temperature: divisor of all logits.
        steps: largest number of steps of the search.
        strength: fraction of the ``denoising_steps`` that are taken in each step of the search.
        denoising_steps: number of evenly spaced times into which the whole diffusion is divided.
        seed: seed of the noise. The noise of an image depends only on the seed and the row of the
            image.
        batch_size: images per batch.
        first_row: row of the first image in its data set, or the row of each image, (b,).
        on_step: called with a ``Step`` after each step. If ``on_step`` returns True, the search
            stops.
        output_dir: folder to which the results are written in shards, for any number of images.
            After a crash, the same call goes on. ``cfx.open`` opens the folder. Default: None.

    Returns:
        Counterfactuals. ``trace["changed"]`` (b, h, w) is the region that was changed, and
        ``trace["forbidden_fraction"]`` (b,) the fraction of the pixels that could not change. The
        search of an image stops when the target has at least the probability that all other classes
        together had at the start. The status "flipped" only says that the target is predicted. An
        image that does not flip keeps the image of the last step.

    Raises:
        ValueError, TypeError: if an argument is wrong. The error message names the argument.
    """
    options = PublishedOptions.among(locals())
    run, search = prepare(
        space, classifier, gradient_classifier, images, target, allowed, on_step, batch_size,
        first_row,
    )  # fmt: skip
    one = torch.tensor([options.strength], dtype=torch.float64)
    respaced_schedule(space.alphas_cumprod, one, options.denoising_steps)  # checks both
    side = min(run.images.shape[2:])
    if options.blur_size // 2 >= side:
        raise ValueError(
            f"blur_size: expected less than {2 * side} for images of {side} pixels, "
            f"got {options.blur_size}"
        )

    def edit(batch: EncodedBatch) -> Edit:
        if batch.code_before.z[0].numel() != batch.images[0].numel():
            raise ValueError(
                "space: expected a diffusion model of pixels, got codes of shape "
                f"{tuple(batch.code_before.z.shape[1:])} for images of shape "
                f"{tuple(batch.images.shape[1:])}; use cfx.sce"
            )
        return search(PublishedSearch, batch, options)

    return run.counterfactuals(edit, function="sce_as_published", **dataclasses.asdict(options))
