"""Guidance: a denoiser that a classifier steers towards a target class.

``GuidedDenoiser._guided_eps`` is consensus guidance, the method of Farid et al. (arXiv 2310.06668).
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from cfxnb.core.ddim import predict_x0
from cfxnb.core.decisions import is_reached, log_odds
from cfxnb.core.tensors import finite_rows, gradient, noise_like, norms, per_sample
from cfxnb.core.types import Classifier
from cfxnb.diffusion.consensus import apply_mask, consensus, match_norm, random_mask
from cfxnb.diffusion.counted_networks import CountedNetworks
from cfxnb.diffusion.options import DiffusionOptions


@dataclasses.dataclass(eq=False)
class GuidanceTask:
    """Originals, targets and conditions of a batch. Every tensor has one row per sample.

    Attributes:
        rows: positions of the samples in the data set.
        images, code: the original images and their codes.
        target: class to reach.
        cond, uncond: encoded conditions of the U-Net: the target class, and the null condition.
    """

    rows: Tensor
    images: Tensor
    code: Tensor
    target: Tensor
    cond: Tensor
    uncond: Tensor

    def __getitem__(self, rows: Tensor) -> "GuidanceTask":
        fields = dataclasses.fields(self)
        return GuidanceTask(*(getattr(self, field.name)[rows] for field in fields))


class GuidedDenoiser:
    """Wraps the U-Net of a space: predicts noise that leads towards the target classes.

    A guided denoiser is called like every denoiser, (z, t, alpha_bar) -> noise, so
    ``core.ddim.denoise`` can take DDIM steps with it. Each call is recorded for the ``trace`` of
    the result.

    Args:
        space: a ``Diffusion`` space.
        classifier: images -> logits (b, k), with gradients.
        task: the samples, their targets and conditions.
        options: options of ``diffusion_counterfactual``. ``guidance`` chooses the kind of guidance.

    Attributes:
        probability: probability of the target in the predicted clean image, (b,) per step.
        active: samples that were guided and not paused, bool (b,) per step.
        masks: positions where the classifier's gradient is used, bool (b, h, w) per step.
        kept: fraction of positions where the classifier's gradient is used, (b,) per step.
    """

    def __init__(
        self, space: Any, classifier: Classifier, task: GuidanceTask, options: DiffusionOptions
    ) -> None:
        self.task, self.options = task, options
        self.networks = CountedNetworks(space, classifier, len(task.rows))
        self.probability: list[Tensor] = []
        self.active: list[Tensor] = []
        self.masks: list[Tensor] = []
        self.kept: list[Tensor] = []
        self._without_gradient = torch.zeros_like(task.target, dtype=torch.bool)
        self._guided = torch.zeros_like(self._without_gradient)

    @property
    def no_gradient(self) -> Tensor:
        """Samples that had no usable gradient in any step that should guide them, bool (b,)."""
        return self._without_gradient & ~self._guided

    @torch.no_grad()
    def __call__(self, z: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
        """Return the guided noise, (b, c, h, w), at times ``t`` and noise levels ``alpha_bar``."""
        self.networks.counted = torch.ones(len(z), dtype=torch.bool)
        if self.options.guidance not in ("none", "classifier_free"):
            return self._guided_eps(z, t, alpha_bar)
        eps_uncond = self.unguided(z, t, alpha_bar)
        if self.options.guidance == "none":
            return eps_uncond
        eps_cond = self.networks.eps(z, t, self.task.cond)
        return eps_uncond + self.options.guidance_scale * (eps_cond - eps_uncond)

    @torch.no_grad()
    def unguided(self, z: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
        """Return the noise that the U-Net predicts without a condition."""
        return self.networks.eps(z, t, self.task.uncond)

    def _guided_eps(self, z: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
        """Return the noise with consensus guidance: one step of the paper's algorithm.

        In the code below, z_0 is the predicted clean code, x_0 is its image, and sigma is
        sqrt(1 - alpha_bar). ``core.ddim.denoise`` then takes a DDIM step with the returned noise.

        Differences from the official code:

        - We take the gradient of the log odds, not of log p. Both gradients have the same
          direction, and ``match_norm`` fixes their length.
        - The distance to the original may be measured in code space.
        - Guidance may pause for samples that are classified as the target.
        - A multiple of the implicit classifier may be added, as in classifier-free guidance.

        With ``PAPER_DIFFUSION`` only the first of these differences remains.
        """
        o, task, networks = self.options, self.task, self.networks
        with torch.enable_grad():
            # 1. Predict the clean code without a condition. Decode it and classify the image.
            point = z_t = z.detach().requires_grad_(o.backprop_diffusion)
            eps_uncond = networks.eps(z_t, t, task.uncond)
            z_0 = predict_x0(z_t, eps_uncond, alpha_bar)
            if not o.backprop_diffusion:  # gradients at z_0 stand for those at z_t
                point = z_0 = z_0.detach().requires_grad_()
            x_0 = networks.decode(z_0)
            logits = networks.classify(x_0)
            score = log_odds(logits, task.target)
            image_distance = self._image_distance(x_0)
        eps_uncond, z_0 = eps_uncond.detach(), z_0.detach()
        active = self._begin_step(z, logits, score)
        if not active.any():
            return eps_uncond

        # 2. The implicit classifier: the diffusion model's own direction towards the target.
        implicit = networks.eps(z, t, task.cond) - eps_uncond

        # 3. Gradients of the classifier and of the distance to the original, as changes of noise.
        sigma = per_sample((1 - alpha_bar.to(z)).sqrt(), z)
        in_image = o.distance_space == "image"
        classifier_gradient = gradient(score, point, retain_graph=in_image)
        classifier = -sigma * classifier_gradient
        distance = sigma * (
            gradient(image_distance, point) if in_image else self._code_distance_gradient(z_0)
        )

        # 4. Consensus: keep the classifier's vectors only where they agree with the implicit ones.
        filtered, mask = consensus(implicit, classifier, o.cone_angle, o.patch_size)
        if o.guidance != "consensus":
            filtered, mask = self._baseline_mask(mask, classifier)

        # 5. Rescale both to the norm of the implicit classifier, and add them to the noise.
        guidance = o.classifier_scale * match_norm(filtered, implicit)
        guidance = guidance + o.distance_scale * match_norm(distance, implicit)
        guidance = guidance + o.guidance_scale * implicit
        active = self._end_step(mask, active, classifier_gradient)
        return eps_uncond + torch.where(per_sample(active, z), guidance, 0.0)

    def _image_distance(self, x_0: Tensor) -> Tensor:
        """Return the L1 distance of images, clamped to [0, 1], to the originals, (b,)."""
        return (x_0.clamp(0, 1) - self.task.images).abs().flatten(1).sum(1)

    def _code_distance_gradient(self, z_0: Tensor) -> Tensor:
        """Return the gradient at z_0 of half the squared distance to the original codes."""
        return z_0 - self.task.code

    def _baseline_mask(self, mask: Tensor, classifier: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vectors to use, and their mask, for a guidance without consensus.

        With ``guidance="classifier"`` all positions are used. With ``"random_mask"`` as many random
        positions are used as consensus would keep.
        """
        o = self.options
        if o.guidance == "classifier":  # everywhere, except for vectors without a direction
            return consensus(classifier, classifier, 180.0, o.patch_size)
        seed = o.seed + 7919 * len(self.masks)  # another mask at each step
        mask = random_mask(mask, noise_like(mask.float(), seed, self.task.rows))
        return apply_mask(classifier, mask), mask

    def _begin_step(self, z: Tensor, logits: Tensor, score: Tensor) -> Tensor:
        """Begin the record of a step, and return the samples to guide in this step, bool (b,).

        With ``pause_when_reached`` the guidance of samples that have reached the target pauses.
        """
        shown = is_reached(logits.detach(), self.task.target, self.options.confidence)
        active = ~(shown & self.options.pause_when_reached)
        side = self.options.patch_size
        self.networks.counted = active.cpu()
        self.probability.append(score.detach().sigmoid())
        self.active.append(active)
        self.masks.append(torch.zeros_like(z[:, 0, ::side, ::side], dtype=torch.bool, device="cpu"))
        self.kept.append(torch.full((len(z),), torch.nan))
        return active

    def _end_step(self, mask: Tensor, active: Tensor, classifier_gradient: Tensor) -> Tensor:
        """Record the mask. Return the active samples that have a usable gradient, bool (b,)."""
        usable = finite_rows(classifier_gradient) & (norms(classifier_gradient) != 0)
        self._without_gradient |= active & ~usable
        self._guided |= active & usable
        guided = (active & usable).cpu()
        self.masks[-1] = mask.cpu() & guided.view(-1, 1, 1)
        kept = self.masks[-1].flatten(1).float().mean(1)
        self.kept[-1] = torch.where(guided, kept, torch.nan)
        return active & usable

    def trace(self, n_steps: int) -> dict[str, Tensor]:
        """Return the record of all steps as CPU tensors of shape (b, n_steps, ...).

        Steps that were not taken are NaN or False.
        """
        if not self.masks:
            return {}
        parts = {"kept_fraction": self.kept, "masks": self.masks, "probability": self.probability}
        return {name: _padded(torch.stack(x, 1).cpu(), n_steps) for name, x in parts.items()}


def _padded(values: Tensor, n_steps: int) -> Tensor:
    """Extend axis 1 of ``values`` to length ``n_steps``, filled with NaN or False."""
    empty = torch.nan if values.is_floating_point() else 0
    padded = values.new_full((len(values), n_steps, *values.shape[2:]), empty)
    padded[:, : values.shape[1]] = values
    return padded
