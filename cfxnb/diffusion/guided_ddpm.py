"""What MaskDiME, FastDiME and DiME share: guided DDPM steps of one attempt, and their options.

MaskDiME, FastDiME and DiME differ in the clean image at which they take gradients, and in the mask.
Each method is a function that takes a ``GuidedDDPM`` and calls its parts. Read ``maskdime`` first.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cfxnb.core import validate
from cfxnb.core.border import CheckedFunction
from cfxnb.core.ddim import even_schedule, exact, predict_x0
from cfxnb.core.ddpm import Level, levels, posterior_mean, posterior_variance, respaced_schedule
from cfxnb.core.decisions import is_reached, log_odds
from cfxnb.core.driver import EncodedBatch, Run
from cfxnb.core.options import CheckedOptions
from cfxnb.core.tensors import (
    finite_rows,
    gradient,
    noise_like,
    norms,
    per_sample,
    require_gradient,
)
from cfxnb.core.types import Step

_scale = partial(validate.number, low=0.0)
LOSSES = ("log_odds", "logit", "log_probability")
CLIPS = ("none", "image", "batch")
DILATION = 5  # default side of the square with which masks are dilated, in pixels
DIVERGED = 1e6  # absolute value of codes, whose standard deviation is about 1


def _scales(value: Any, name: str) -> tuple[float, ...]:
    numbers = validate.listed(value, name, "numbers")
    if not numbers:
        raise ValueError(f"{name}: expected at least one number, got none")
    return tuple(validate.number(each, name, 0.0, open_low=True) for each in numbers)


_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "scales": _scales,
    "strength": partial(validate.number, low=0.0, high=0.999, open_low=True),
    "steps": partial(validate.count, low=1),
    "confidence": partial(validate.number, low=0.0, high=1 - 1e-6, open_low=True),
    "l1_scale": _scale,
    "perceptual_scale": _scale,
    "loss": partial(validate.choice, allowed=LOSSES),
    "gradient_clip": partial(validate.choice, allowed=CLIPS),
    "clip_sample_range": partial(
        validate.optional, partial(validate.number, low=0.0, open_low=True)
    ),
    "when_reached": partial(validate.choice, allowed=("pause", "stop")),
    "as_published": validate.flag,
    "seed": validate.seed,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPMOptions(CheckedOptions):
    """Options that the docstrings of ``maskdime``, ``fastdime`` and ``dime`` explain."""

    checks = _CHECKS
    scales: Sequence[float]
    strength: float
    steps: int
    confidence: float
    l1_scale: float
    perceptual_scale: float
    loss: str
    gradient_clip: str
    clip_sample_range: float | None
    when_reached: str
    as_published: bool
    seed: int

    @property
    def n_steps(self) -> int:
        """Number of denoising steps of one attempt."""
        if not self.as_published:
            return self.steps
        strength = torch.tensor([self.strength], dtype=torch.float64)
        return int(float(exact(strength, self.steps)) * self.steps)


class GuidedDDPM:
    """One attempt: denoises the codes of n samples with DDPM steps and one guidance scale.

    Networks are evaluated only for samples that are not finished, and their passes are counted per
    sample.

    Args:
        run: the present call, with its space, classifier and ``stop``.
        batch: images with their codes and reconstructions.
        rows: positions of the n samples in the batch, (n,).
        scale: scale of the classifier's gradient.
        options: the options of ``maskdime``, ``fastdime`` or ``dime``.
        features: images -> features, for the perceptual distance, or None.
        divide: with ``as_published``, whether gradients at the clean image are divided by
            sqrt(alpha_bar).
        masked: whether the method changes only a part of each image.

    Attributes:
        code: codes of the originals, (n, c, h, w).
        active: samples that are not finished, bool (n,).
        found: codes at the end of the attempt, (n, c, h, w).
        image: images at the end of the attempt, (n, c, h, w) in [0, 1].
        logits: logits of ``image``, (n, k).
        reached: samples that reached the target, bool (n,).
        mask: pixels that the attempt could change, bool (n, h, w) in the size of the images.
        cost: passes of ``unet``, ``decoder``, ``classifier`` and ``features``, int64 (n,) each.
        probability: probability of the target, one tensor (n,) per step, NaN for finished samples.
        mask_fraction: fraction of the positions in the mask, one tensor (n,) per step.
    """

    def __init__(
        self,
        run: Run,
        batch: EncodedBatch,
        rows: Tensor,
        scale: float,
        options: DDPMOptions,
        *,
        features: CheckedFunction | None,
        divide: bool,
        masked: bool,
        number: int = 0,
    ) -> None:
        self.run, self.options, self.scale = run, options, scale
        self.divide, self.masked, self.number = divide, masked, number
        self.features = features if options.perceptual_scale else None
        self.rows, self.target = batch.rows[rows], batch.target[rows]
        self.images, self.reconstruction = batch.images[rows], batch.reconstruction[rows]
        self.start_code = batch.code_before[rows]
        self.code = self.start_code.z
        self.uncond = run.space.encode_condition([None] * len(rows))
        strength = torch.full((len(rows),), options.strength, dtype=torch.float64)
        make = respaced_schedule if options.as_published else even_schedule
        self.schedule = make(run.space.alphas_cumprod, strength, options.steps)
        self.steps = levels(self.schedule)
        self.draws = 0
        self.active = torch.ones_like(self.target, dtype=torch.bool)
        self.found, self.image = self.code.clone(), self.reconstruction.clone()
        self.logits = torch.full_like(batch.logits_before[rows], torch.nan)
        self.reached = torch.zeros_like(self.active)
        self.mask = torch.zeros_like(self.images[:, 0], dtype=torch.bool)
        self.broken = torch.zeros_like(self.active)
        self.paused = torch.zeros_like(self.active)
        self._tried = torch.zeros_like(self.active)
        self._guided = torch.zeros_like(self.active)
        parts = ("unet", "decoder", "classifier", *(("features",) if self.features else ()))
        self.cost = {part: torch.zeros_like(self.target) for part in parts}
        self.probability: list[Tensor] = []
        self.mask_fraction: list[Tensor] = []
        self._original_features: Tensor | None = None

    @property
    def no_gradient(self) -> Tensor:
        """Samples that had no usable gradient in any step, or whose codes diverged, bool (n,)."""
        return (self._tried & ~self._guided) | self.broken

    def levels(self) -> Iterator[Level]:
        """Yield the steps, from the noisiest on, until all samples are finished."""
        for level in self.steps:
            if not self.active.any() or self.run.stop.now:
                return
            yield level

    def noise(self, level: Level | None = None) -> Tensor:
        """Return new noise, (n, c, h, w), which depends only on seed, row and number of the draw.

        If ``level`` is the last step, the noise is 0.
        """
        drawn = noise_like(self.code, self.options.seed + 7919 * self.draws, self.rows)
        self.draws += 1
        return torch.zeros_like(drawn) if level is not None and level.is_last else drawn

    def posterior(self, z: Tensor, level: Level) -> tuple[Tensor, Tensor, Tensor]:
        """Return the predicted clean codes, and mean and variance of the codes after the step."""
        self._drop_diverged(z)
        here = self._begin()
        eps, fraction = self.run.space.predict_noise_and_variance(
            z[here], level.times[here.cpu()], self.uncond[here]
        )
        self._count("unet", here)
        clean = predict_x0(z, self._spread(eps, here, z), level.alpha_bar)
        if self.options.clip_sample_range is not None:
            clean = clean.clamp(-self.options.clip_sample_range, self.options.clip_sample_range)
        if fraction is not None:
            fraction = self._spread(fraction, here, z)
        return clean, posterior_mean(z, clean, level), posterior_variance(z, level, fraction)

    def denoise(self, z: Tensor, after: Level, inner_noise: bool = False) -> Tensor:
        """Return clean codes: take all unguided steps that follow ``after``.

        Args:
            inner_noise: whether to add noise in the unguided steps.
        """
        for level in self.steps[self.steps.index(after) + 1 :]:
            _, z, variance = self.posterior(z, level)
            if inner_noise:
                z = z + variance.sqrt() * self.noise(level)
        return z

    def gradients(
        self, clean: Tensor, z: Tensor, level: Level, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the scaled gradients of the classifier's loss and of the distance to the original.

        Unless ``as_published``, samples for which ``clean`` reaches the target pause or are
        finished, depending on ``when_reached``.

        Args:
            clean: clean codes at which the gradients are taken, (n, c, h, w).
            z: noisy codes before the step.
            level: the step.
            mask: positions at which ``clean`` may differ from the original, bool (n, 1, h, w).

        Returns:
            The two gradients, (n, c, h, w) each. Unless ``as_published``, each gradient is divided
            by its root mean square before it is scaled.
        """
        o, here = self.options, self._begin()
        with torch.enable_grad():
            point = clean[here].detach().requires_grad_()
            images = self._decode(point, here)
            logits = self.run.classifier(images)
            require_gradient(logits)
            value = self._loss(logits, here)
            distance = self._perceptual_distance(images, here)
        class_gradient = gradient(value, point, retain_graph=distance is not None)
        self._count("classifier", here, 2)
        self._count("decoder", here)
        perceptual = torch.zeros_like(class_gradient)
        if distance is not None:
            perceptual = gradient(distance, point)
            self._count("decoder", here)
            self._count("features", here, 2)
        self._record(logits.detach(), here, z, mask)
        usable = finite_rows(class_gradient) & (norms(class_gradient) > 0)
        self._tried[here] = True
        self._guided[here] |= usable
        class_gradient = torch.where(per_sample(usable, point), class_gradient, 0.0)
        self._stop_reached(clean, logits.detach(), here, mask)
        away = z if o.as_published else clean
        class_gradient = self._scaled(self.scale, self._spread(class_gradient, here, z), level)
        perceptual = self._scaled(o.perceptual_scale, self._spread(perceptual, here, z), level)
        return self._clip(class_gradient), o.l1_scale * (away - self.code).sign() + perceptual

    def shift(self, guidance: Tensor, variance: Tensor) -> Tensor:
        """Return by how much ``guidance`` shifts the mean of a step, (n, c, h, w).

        With ``as_published``, the guidance is multiplied by the variance of the step. Without
        ``as_published``, the guidance is multiplied by the standard deviation of the step, so that
        ``scales`` are in units of the step's noise. Samples that pause are not guided.
        """
        size = variance if self.options.as_published else variance.sqrt()
        return torch.where(per_sample(self.paused, guidance), 0.0, guidance * size)

    def dilation(self, given: int | None) -> int:
        """Return the side of the square for the dilation of masks, in positions of the code.

        Args:
            given: the option ``dilation``. If ``given`` is None, the square has about 5 x 5 pixels
                of the image.
        """
        if given is not None:
            return given
        side = DILATION * self.code.shape[2] / self.images.shape[2]
        return 2 * int(side / 2) + 1

    def outside(self, level: Level) -> Tensor:
        """Return the level of noise outside the mask after a step, (n,).

        With ``as_published``, the noise outside the mask has the level before the step, although
        the codes inside the mask have the level after the step.
        """
        return level.alpha_bar if self.options.as_published else level.alpha_bar_prev

    def finish(self, z: Tensor, mask: Tensor | None = None) -> None:
        """Store the codes at the end of the steps, and decode and classify them.

        Args:
            z: clean codes, (n, c, h, w).
            mask: positions that may differ from the original, bool (n, 1 or c, h, w).
        """
        if self.run.stop.now or not self.active.any():
            return
        self._drop_diverged(z)
        self._store(z, self.active.nonzero()[:, 0], mask, keep_all=True)

    # -- Parts of the above

    def _begin(self) -> Tensor:
        return self.active.nonzero()[:, 0]

    def _drop_diverged(self, z: Tensor) -> None:
        """Finish samples whose codes are not finite, or so large that networks would overflow."""
        self.broken |= self.active & ~(finite_rows(z) & (z.flatten(1).abs().amax(1) < DIVERGED))
        self.active &= ~self.broken

    def _count(self, part: str, here: Tensor, passes: int = 1) -> None:
        self.cost[part][here] += passes

    @staticmethod
    def _spread(values: Tensor, here: Tensor, like: Tensor) -> Tensor:
        """Return ``values`` at the rows ``here``, and 0 for all other samples."""
        found = torch.zeros_like(like)
        found[here] = values
        return found

    def _decode(self, z: Tensor, here: Tensor, clamp: bool = False) -> Tensor:
        """Return images of codes at the rows ``here``.

        If the method uses a mask, the change of the decoded image is added to the original. Errors
        of the autoencoder are thereby not part of the counterfactual.
        """
        made = self.run.space.decode(self.start_code[here].with_z(z), clamp=clamp)
        self._count("decoder", here)
        if self.masked and not self.options.as_published:
            made = self.images[here] + (made - self.reconstruction[here])
        return made

    def _loss(self, logits: Tensor, here: Tensor) -> Tensor:
        target, loss = self.target[here], self.options.loss
        if loss == "log_odds":
            return -log_odds(logits, target)
        if loss == "log_probability":
            logits = logits.log_softmax(1)
        return -logits.gather(1, target[:, None])[:, 0]

    def _perceptual_distance(self, images: Tensor, here: Tensor) -> Tensor | None:
        """Return the mean squared difference from the features of the originals, (n,)."""
        if self.features is None:
            return None
        if self._original_features is None:
            with torch.no_grad():
                self._original_features = self.features(self.images)
            self._count("features", torch.arange(len(self.images)))
        off = self.features(images.clamp(0, 1)) - self._original_features[here]
        return off.square().flatten(1).mean(1)

    def _scaled(self, scale: float, x: Tensor, level: Level) -> Tensor:
        if not self.options.as_published:
            size = norms(x) / x[0].numel() ** 0.5
            return scale * x / per_sample(size, x).clamp_min(1e-30)
        if not self.divide:
            return scale * x
        return scale * x / per_sample(level.alpha_bar.sqrt().to(x), x)

    def _clip(self, x: Tensor) -> Tensor:
        """Clip a gradient to its mean, plus or minus three standard deviations."""
        if self.options.gradient_clip == "none":
            return x
        flat = x.flatten(1) if self.options.gradient_clip == "image" else x.reshape(1, -1)
        middle, width = per_sample(flat.mean(1), x), per_sample(flat.std(1), x)
        return x.clamp(middle - 3 * width, middle + 3 * width)

    def _record(self, logits: Tensor, here: Tensor, z: Tensor, mask: Tensor | None) -> None:
        unknown = torch.full_like(self.target, torch.nan, dtype=torch.float32)
        probability, fraction = unknown.clone(), unknown.clone()
        probability[here] = log_odds(logits, self.target[here]).sigmoid()
        if mask is not None:
            fraction[here] = mask[here].flatten(1).float().mean(1)
        self.probability.append(probability)
        self.mask_fraction.append(fraction)
        total = len(self.options.scales) * len(self.steps)
        number = self.number * len(self.steps) + len(self.probability)
        self.run.stop.tell(Step(number, total, self.rows, z, probability, self.active.clone()))

    def _stop_reached(
        self, clean: Tensor, logits: Tensor, here: Tensor, mask: Tensor | None
    ) -> None:
        """Pause or finish the samples for which ``clean`` is classified as the target."""
        if self.options.as_published:
            return
        hit = is_reached(logits, self.target[here], self.options.confidence)
        if self.options.when_reached == "pause":
            self.paused[here] = hit
        else:
            self._store(clean, here[hit], mask, keep_all=False)

    @torch.no_grad()
    def _store(self, z: Tensor, here: Tensor, mask: Tensor | None, keep_all: bool) -> None:
        """Decode and classify codes at the rows ``here``, and store those that reach the target.

        Args:
            keep_all: whether to also store samples that do not reach the target.
        """
        if not len(here):
            return
        o = self.options
        made = self._decode(z[here], here)
        # The official code classifies images that are not clamped, and stores clamped ones.
        image = made.clamp(0, 1)
        pixels = torch.ones_like(self.mask[here])
        if mask is not None:
            wide = mask[here].any(1, keepdim=True).float()
            pixels = interpolate(wide, self.images.shape[2:], mode="nearest-exact")[:, 0] > 0
        if self.masked and not o.as_published:
            image = torch.where(pixels[:, None], image, self.images[here])
        logits = self.run.classifier(made if o.as_published else image)
        self._count("classifier", here)
        reached = is_reached(logits, self.target[here], o.confidence)
        kept = torch.ones_like(reached) if keep_all else reached
        rows = here[kept]
        self.found[rows], self.image[rows] = z[rows], image[kept]
        self.logits[rows] = torch.nan if o.as_published else logits[kept]
        self.reached[rows], self.mask[rows] = reached[kept], pixels[kept]
        self.active[rows] = False
