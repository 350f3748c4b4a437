"""Smooth Counterfactual Explorer (SCE, arXiv 2506.14698): gradients at denoised images."""

import contextlib
import dataclasses
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, softshrink

from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.ddim import add_noise, denoise, even_schedule
from cfxnb.core.decisions import is_reached, log_odds, still_reached
from cfxnb.core.driver import Edit, EncodedBatch, Run
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.options import CheckedOptions
from cfxnb.core.results import Counterfactuals
from cfxnb.core.streamed import streamed
from cfxnb.core.target import Target
from cfxnb.core.tensors import (
    finite_rows,
    gradient,
    noise_like,
    norms,
    per_sample,
    predicted,
    require_gradient,
)
from cfxnb.core.types import Classifier, Images, OnStep, Step
from cfxnb.diffusion.composite import edit_mask
from cfxnb.diffusion.smooth_relu import SmoothReLUs

_fraction = partial(validate.number, low=0.0, high=0.999)
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "strength": partial(_fraction, open_low=True),
    "denoising_steps": partial(validate.count, low=1),
    "steps": partial(validate.count, low=1),
    "lr": partial(validate.number, low=0.0, open_low=True),
    "momentum": _fraction,
    "l1_scale": partial(validate.number, low=0.0),
    "mask_threshold": partial(validate.number, low=0.0, high=1.0),
    "confidence": partial(validate.number, low=0.0, high=1 - 1e-6, open_low=True),
    "smooth": validate.flag,
    "seed": validate.seed,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SCEOptions(CheckedOptions):
    """The checked options of ``sce``, whose docstring explains each option."""

    checks = _CHECKS
    strength: float
    denoising_steps: int
    steps: int
    lr: float
    momentum: float
    l1_scale: float
    mask_threshold: float
    confidence: float
    smooth: bool
    seed: int


class SCESearch:
    """The search of ``sce`` for one batch of images.

    Args:
        run: the present call, with its space, classifier and ``stop``.
        batch: images with their codes and reconstructions.
        allowed: pixels that may change, bool (b, 1, h, w).
        gradient_classifier: the classifier whose gradient is followed.
        options: the options of ``sce``.
    """

    def __init__(
        self,
        run: Run,
        batch: EncodedBatch,
        allowed: Tensor,
        gradient_classifier: CheckedClassifier,
        options: SCEOptions,
    ) -> None:
        self.run, self.batch, self.options = run, batch, options
        self.allowed, self.gradient_classifier = allowed, gradient_classifier
        z = batch.code_before.z
        if z.ndim != 4:
            raise ValueError(f"space: expected codes (b, c, h, w), got {tuple(z.shape)}")
        self.allowed_codes = adaptive_max_pool2d(allowed.float(), z.shape[2:]).to(z)
        self.active = ~batch.skip & allowed.flatten(1).any(1)
        self.z, self.image = z.clone(), batch.reconstruction.clone()
        self.changed = torch.zeros_like(allowed)
        self.logits = torch.full_like(batch.logits_before, torch.nan)
        self.reached = torch.zeros_like(batch.skip)
        self.no_gradient = torch.zeros_like(batch.skip)
        self.agrees = torch.zeros_like(batch.skip)
        parts = ("unet", "decoder", "classifier")
        self.cost = {part: torch.zeros_like(batch.target) for part in parts}

    def search(self) -> None:
        """Move each code along the smooth classifier's gradient, taken at the denoised code.

        This is the algorithm of SCE.

        In the code below, z is the code that is optimised, and z_0 is the code z after adding and
        removing noise. The classifier sees z_0 only, so changes that the diffusion model would
        remove have no effect.
        """
        o, batch, stop = self.options, self.batch, self.run.stop
        original = batch.code_before.z
        z, velocity = original.clone(), torch.zeros_like(original)
        for step in range(o.steps):
            rows = self.active.nonzero()[:, 0]
            if not len(rows) or stop.now:
                break
            # 1. Add new noise and denoise.
            z_0 = self._denoise(rows, z[rows], step)
            # 2. Take the gradient of the smooth classifier at z_0, not through the U-Net.
            with torch.enable_grad():
                point = z_0.detach().requires_grad_()
                image = self._restricted_image(rows, point)
                slope = gradient(self._smooth_log_odds(rows, image), point)
            slope = slope * self.allowed_codes[rows]
            # 3. Restore pixels that changed little. A sample that reaches the target is finished.
            p = self._classify(rows, image.detach(), step)
            # 4. Move z along the gradient, with momentum. Then shrink the change (L1 distance).
            usable = finite_rows(slope) & (norms(slope) > 0)
            self._end_step(rows, usable)
            size = norms(slope) / slope[0].numel() ** 0.5
            slope = torch.where(per_sample(usable, slope), slope / per_sample(size, slope), 0.0)
            velocity[rows] = o.momentum * velocity[rows] + (1 - o.momentum) * slope
            change = z[rows] + o.lr * velocity[rows] - original[rows]
            z[rows] = original[rows] + softshrink(change, o.lr * o.l1_scale)
            stop.tell(Step(step + 1, o.steps, batch.rows[rows], z_0, p, self.active[rows]))

    def edit(self) -> Edit:
        """Run the search, and return the result of each sample."""
        with self.run.stop.on_interrupt():
            self._compare_classifiers()
            self.search()
        forbidden = 1 - self.allowed.flatten(1).float().mean(1)
        trace = {
            "changed": self.changed[:, 0],
            "forbidden_fraction": forbidden,
            "smooth_agrees": self.agrees,
        }
        return Edit(
            code=self.batch.code_before.with_z(self.z),
            image=self.image,
            reached=self.reached,
            no_gradient=self.no_gradient,
            seen=self.logits,
            generator=self.cost["unet"] + self.cost["decoder"],
            classifier=self.cost["classifier"],
            cost={"unet": self.cost["unet"]},
            trace={name: values.cpu() for name, values in trace.items()},
        )

    # -- Parts of the above

    def _count(self, part: str, rows: Tensor, passes: int = 1) -> None:
        self.cost[part][rows] += passes

    def _denoise(self, rows: Tensor, z: Tensor, step: int) -> Tensor:
        """Add noise of strength ``strength`` to codes, and remove it by DDIM steps."""
        o, space = self.options, self.run.space
        strength = torch.full((len(rows),), o.strength, dtype=torch.float64)
        schedule = even_schedule(space.alphas_cumprod, strength, o.denoising_steps)
        uncond = space.encode_condition([None] * len(rows))

        def denoiser(noisy: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
            self._count("unet", rows)
            return space.predict_noise(noisy, t, uncond)

        noise = noise_like(z, o.seed + 7919 * step, self.batch.rows[rows])
        return denoise(denoiser, add_noise(z, noise, schedule.start), schedule)

    def _restricted_image(self, rows: Tensor, z: Tensor) -> Tensor:
        """Return the images of codes, with the original outside of the allowed region.

        The change of the decoded image is added to the original. Errors of the autoencoder are
        thereby not part of the counterfactual.
        """
        original, batch = self.batch.images[rows], self.batch
        made = self.run.space.decode(batch.code_before[rows].with_z(z), clamp=False)
        self._count("decoder", rows, 1 + z.requires_grad)
        made = (original + made - batch.reconstruction[rows]).clamp(0, 1)
        return torch.where(self.allowed[rows], made, original)

    def _smooth_logits(self, rows: Tensor, image: Tensor) -> Tensor:
        self._count("classifier", rows, 1 + image.requires_grad)
        with SmoothReLUs() if self.options.smooth else contextlib.nullcontext():
            return self.gradient_classifier(image)

    def _smooth_log_odds(self, rows: Tensor, image: Tensor) -> Tensor:
        logits = self._smooth_logits(rows, image)
        require_gradient(logits)
        return log_odds(logits, self.batch.target[rows])

    def _compare_classifiers(self) -> None:
        """Record whether the smooth classifier and ``classifier`` predict the same class."""
        rows = torch.arange(len(self.active), device=self.active.device)
        found = predicted(self._smooth_logits(rows, self.batch.images))
        self.agrees = found == predicted(self.batch.logits_before)

    def _classify(self, rows: Tensor, image: Tensor, step: int) -> Tensor:
        """Classify images. Restore pixels of images that reach the target, and classify these
        images again.

        Images that still reach the target after the restoration are stored and finished.

        Returns:
            The probability of the target, (n,).
        """
        logits = self.run.classifier(image)
        self._count("classifier", rows)
        target, confidence = self.batch.target[rows], self.options.confidence
        chosen = is_reached(logits, target, confidence).nonzero()[:, 0]
        if len(chosen):
            here = rows[chosen]
            composite, changed = self._composite(here, image[chosen], step)
            found = self.run.classifier(composite)
            self._count("classifier", here)
            reached = is_reached(found, target[chosen], confidence)
            stored = here[reached]
            if not len(stored):
                return log_odds(logits, target).sigmoid()
            self.z[stored] = self.run.space.encode(composite[reached]).z
            self.image[stored] = composite[reached]
            self.changed[stored] = changed[reached]
            self.logits[stored] = found[reached].to(self.logits)
            self.reached[stored], self.active[stored] = True, False
        return log_odds(logits, target).sigmoid()

    def _composite(self, rows: Tensor, image: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Restore pixels that changed little. Return images, and a mask of the changed pixels.

        Denoising changes details of every image. To find small changes, an image is therefore
        compared with the original after the same noise and the same denoising.
        """
        same = self._restricted_image(
            rows, self._denoise(rows, self.batch.code_before.z[rows], step)
        )
        changed = edit_mask(same, image, self.options.mask_threshold) & self.allowed[rows]
        return torch.where(changed, image, self.batch.images[rows]), changed

    def _end_step(self, rows: Tensor, usable: Tensor) -> None:
        """Finish samples without a usable gradient, unless they have reached the target."""
        lost = rows[~usable & self.active[rows]]
        self.no_gradient[lost], self.active[lost] = True, False


@streamed
@standard_modes
@torch.no_grad()
def sce(
    space: Any,
    classifier: Classifier,
    images: Images,
    target: Target,
    *,
    allowed: Tensor | None = None,
    gradient_classifier: Classifier | None = None,
    smooth: bool = True,
    strength: float = 0.3,
    denoising_steps: int = 3,
    steps: int = 30,
    lr: float = 0.5,
    momentum: float = 0.5,
    l1_scale: float = 0.7,
    mask_threshold: float = 0.3,
    confidence: float = 0.99,
    seed: int = 0,
    batch_size: int = 32,
    first_row: int | Tensor = 0,
    on_step: OnStep | None = None,
    output_dir: str | os.PathLike | None = None,
) -> Counterfactuals:
    """Change the code of each image along smooth gradients, taken at denoised images.

    The code of an image is moved until the classifier predicts the target. The classifier sees the
    image after noise was added and removed again, not the decoded code itself. The diffusion model
    thereby removes changes that do not look like natural images. At the end, pixels that changed
    little are exactly those of the original.

    One call of ``sce`` gives one counterfactual per image. ``cfx.diverse_counterfactuals(cfx.sce,
    ...)`` gives several counterfactuals per image, which change different regions.

    With the default options, ``sce`` differs from the paper (Smooth Counterfactual Explorer, arXiv
    2506.14698). The gradient does not pass through the U-Net. The smooth classifier is the
    classifier itself with smooth activations (see ``smooth``). The paper trains a smooth network on
    the predictions of the classifier. Each image has its own loss and step length, and stops
    independently of other images. Images are denoised by a few DDIM steps. Pixels that changed
    little are restored, and all other pixels are not painted again. With a latent diffusion model,
    the code is optimised instead of the pixels.

    Args:
        space: a ``Diffusion`` space. The condition of the diffusion model is not used.
        classifier: images (b, c, h, w) -> logits (b, k). If no ``gradient_classifier`` is given,
            ``classifier`` must have gradients.
        images: (b, c, h, w) in [0, 1], or a data set (see ``cfx.open``).
        target: class to reach, by number or name: one for all images, or one per image (b,). With
            a regression model: a goal, such as ``cfx.raise_to(0.8)``. With a data set also an entry
            of each item, such as ``cfx.from_item("label")``.
        allowed: pixels that may change, bool (b, h, w). All other pixels keep their values.
            Default: all pixels.
        gradient_classifier: the classifier whose gradient is followed, for example from
            ``cfx.distill_classifier``. ``classifier`` may be a ``BlackBox`` (only if a
            ``gradient_classifier`` is given). Default: ``classifier``.
        smooth: compute the ReLUs of the network by a smooth function while gradients are taken.
            Networks without ReLUs are not affected.
        strength: fraction of the diffusion time to which noise is added in each step, above 0 and
            below 1.
        denoising_steps: DDIM steps that remove the noise. Each DDIM step costs one pass of the
            U-Net.
        steps: largest number of steps of the search.
        lr: length of a step, as the root mean square over the code.
        momentum: fraction of the last direction that is kept, 0 to below 1.
        l1_scale: weight of the L1 distance to the original code. A coordinate moves only if its
            gradient exceeds ``l1_scale`` times the root mean square gradient.
        mask_threshold: restore the pixels of the original where the change is at most this fraction
            of the largest change of the image.
        confidence: an image counts as flipped if the target is predicted with at least this
            probability.
        seed: seed of the noise. The noise of an image depends only on the seed and the row of the
            image.
        batch_size: images per batch. A larger batch is faster and needs more memory.
        first_row: row of the first image in its data set, or the row of each image, (b,).
        on_step: called with a ``Step`` after each step. If ``on_step`` returns True, the search
            stops, and images without a result get the status "stopped".
        output_dir: folder to which the results are written in shards, for any number of images.
            After a crash, the same call goes on. ``cfx.open`` opens the folder. Default: None.

    Returns:
        Counterfactuals. ``trace["changed"]`` (b, h, w) is the region that was changed,
        ``trace["forbidden_fraction"]`` (b,) the fraction of the pixels that could not change, and
        ``trace["smooth_agrees"]`` (b,) whether the smooth classifier and ``classifier`` predict the
        same class for the original image. ``code_after`` is the code of ``image``. An image without
        any allowed pixel has the status "not_found".

    Raises:
        ValueError, TypeError: if an argument is wrong. The error message names the argument.
    """
    options = SCEOptions.among(locals())
    run, search = prepare(
        space, classifier, gradient_classifier, images, target, allowed, on_step, batch_size,
        first_row,
    )  # fmt: skip

    def edit(batch: EncodedBatch) -> Edit:
        return search(SCESearch, batch, options)

    need = still_reached(options.confidence)
    return run.counterfactuals(edit, need, function="sce", **dataclasses.asdict(options))


def prepare(
    space: Any,
    classifier: Any,
    gradient_classifier: Any,
    images: Any,
    target: Any,
    allowed: Any,
    on_step: OnStep | None,
    batch_size: int,
    first_row: int | Tensor,
) -> tuple[Run, Callable[..., Edit]]:
    """Check the arguments that ``sce`` and ``sce_as_published`` share.

    Returns:
        The present call, and a function that runs a search, given its class, a batch and options.
    """
    validate.diffusion(space)
    if gradient_classifier is None:
        gradient_classifier = validate.white_box(classifier)
    validate.white_box(gradient_classifier, "gradient_classifier")
    run = Run(
        classifier, images, target, space=space, batch_size=batch_size, first_row=first_row,
        on_step=on_step, any_size=True,
    )  # fmt: skip
    region = checked_region(allowed, run.images)
    followed = run.with_same_goal(gradient_classifier, "gradient_classifier")

    def search(kind: Any, batch: EncodedBatch, options: Any) -> Edit:
        here = region[batch.index.to(region.device)].to(batch.images.device)
        with eval_frozen(followed):
            found: Edit = kind(run, batch, here, followed, options).edit()
        return found

    return run, search


def checked_region(allowed: Any, images: Tensor) -> Tensor:
    """Return the argument ``allowed`` as bool (b, 1, h, w). If ``allowed`` is None, all pixels may
    change."""
    if allowed is None:
        return torch.ones_like(images[:, :1], dtype=torch.bool)
    value = validate.tensor_of(allowed, "allowed")
    shape = (len(images), *images.shape[2:])
    whole = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
    if not whole or value.dtype != torch.bool or value.shape != shape:
        raise ValueError(
            f"allowed: expected a bool tensor of shape {shape}, got {validate.describe(allowed)}"
        )
    return value[:, None]
