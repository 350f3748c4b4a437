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


class CleanPredictions:
    """The predicted clean codes of all samples in one step. Every tensor has one row per sample.

    Attributes:
        eps_uncond: predicted noise without a condition.
        z_0: predicted clean codes.
        score: log odds of the target in the images of ``z_0``.
        reached: whether the images of ``z_0`` reach the target.
        classifier_gradient, distance_gradient: gradients of ``score``, and of the distance to the
            original, for the samples that are guided. The rows of samples that are not guided have
            no meaning.
    """

    def __init__(self, z: Tensor) -> None:
        self.eps_uncond, self.z_0 = torch.empty_like(z), torch.empty_like(z)
        self.classifier_gradient, self.distance_gradient = torch.zeros_like(z), torch.zeros_like(z)
        self.score = z.new_empty(len(z))
        self.reached = torch.zeros(len(z), dtype=torch.bool, device=z.device)


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
        self._all = torch.arange(len(task.rows))

    @property
    def no_gradient(self) -> Tensor:
        """Samples that had no usable gradient in any step that should guide them, bool (b,)."""
        return self._without_gradient & ~self._guided

    @torch.no_grad()
    def __call__(self, z: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
        """Return the guided noise, (b, c, h, w), at times ``t`` and noise levels ``alpha_bar``."""
        if self.options.guidance not in ("none", "classifier_free"):
            return self._guided_eps(z, t, alpha_bar)
        eps_uncond = self.unguided(z, t, alpha_bar)
        if self.options.guidance == "none":
            return eps_uncond
        eps_cond = self.networks.eps(self._all, z, t, self.task.cond)
        return eps_uncond + self.options.guidance_scale * (eps_cond - eps_uncond)

    @torch.no_grad()
    def unguided(self, z: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
        """Return the noise that the U-Net predicts without a condition."""
        return self.networks.eps(self._all, z, t, self.task.uncond)

    @torch.no_grad()
    def unguided_rows(self, rows: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Return the noise without a condition for the samples at positions ``rows``, (n,)."""
        return self.networks.eps(rows, z, t, self.task.uncond[rows])

    def _guided_eps(self, z: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
        """Return the noise with consensus guidance: one step of the paper's algorithm.

        In the code below, z_0 is the predicted clean code, x_0 is its image, and sigma is sqrt(1 -
        alpha_bar). With the returned noise, ``core.ddim.denoise`` takes a DDIM step.

        Differences from the official code:

        - We take the gradient of the target's log odds, and the official code the gradient of the
          target's log probability. The gradients have the same direction, and ``match_norm`` sets
          the length.
        - The distance to the original may be measured in code space.
        - Guidance may pause for samples that are classified as the target.
        - A multiple of the implicit classifier may be added, as in classifier-free guidance.

        With ``PAPER_DIFFUSION`` only the gradient of the log odds remains as a difference.
        """
        o, task, networks = self.options, self.task, self.networks
        # 1. Predict the clean code without a condition. Decode it and classify the image. Take the
        #    gradients of the classifier and of the distance to the original.
        now = self._predict_clean(z, t, alpha_bar)
        active = self._begin_step(z, now)
        rows = active.cpu().nonzero()[:, 0]
        if not len(rows):
            return now.eps_uncond
        t, cond, eps_uncond = t[rows], task.cond[rows], now.eps_uncond[rows]

        # 2. The implicit classifier: the diffusion model's own direction towards the target.
        implicit = networks.eps(rows, z[rows], t, cond) - eps_uncond

        # 3. Both gradients as changes of noise.
        sigma = per_sample((1 - alpha_bar[rows].to(z)).sqrt(), z)
        classifier = -sigma * now.classifier_gradient[rows]
        distance = sigma * now.distance_gradient[rows]

        # 4. Consensus: keep the classifier's vectors only where they agree with the implicit ones.
        filtered, mask = consensus(implicit, classifier, o.cone_angle, o.patch_size)
        if o.guidance != "consensus":
            filtered, mask = self._baseline_mask(mask, classifier, rows)

        # 5. Rescale both to the norm of the implicit classifier, and add them to the noise.
        guidance = o.classifier_scale * match_norm(filtered, implicit)
        guidance = guidance + o.distance_scale * match_norm(distance, implicit)
        guidance = guidance + o.guidance_scale * implicit
        usable = self._end_step(rows, mask, now.classifier_gradient[rows])
        eps = now.eps_uncond.clone()
        eps[rows] = eps_uncond + torch.where(per_sample(usable, z), guidance, 0.0)
        return eps

    def _predict_clean(self, z: Tensor, t: Tensor, alpha_bar: Tensor) -> CleanPredictions:
        """Predict the clean codes of all samples, with gradients for the samples to guide.

        Gradients are costly, and only the classification shows for which samples guidance pauses.
        Samples that will probably pause are therefore first classified without gradients. A sample
        that unexpectedly does not pause is computed once more, with gradients.
        """
        now = CleanPredictions(z)
        likely = self._will_probably_pause().cpu()
        self._predict_rows(now, (~likely).nonzero()[:, 0], z, t, alpha_bar, with_gradient=True)
        paused = likely.nonzero()[:, 0]
        self._predict_rows(now, paused, z, t, alpha_bar, with_gradient=False)
        guided = paused[~now.reached[paused].cpu()]
        self._predict_rows(now, guided, z, t, alpha_bar, with_gradient=True)
        return now

    def _will_probably_pause(self) -> Tensor:
        """Return whether the last log odds were at least half of those needed to pause, (b,).

        On 32 faces, three quarters of the samples for which the result is True paused, and one in
        ten of all other samples.
        """
        if not self.probability or not self.options.pause_when_reached:
            return torch.zeros_like(self._guided)
        needed = torch.tensor(self.options.confidence).logit()
        return self.probability[-1].logit() >= needed / 2

    def _predict_rows(
        self,
        now: CleanPredictions,
        rows: Tensor,
        z: Tensor,
        t: Tensor,
        alpha_bar: Tensor,
        with_gradient: bool,
    ) -> None:
        """Predict the clean codes of some samples, and store them in ``now``.

        Args:
            rows: positions of the samples in the batch, (n,), on the CPU.
            z, t, alpha_bar: codes, times and noise levels of all samples.
            with_gradient: whether to take gradients. Gradients are taken even for samples that turn
                out to pause, because the cost of a sample must not depend on other samples.
        """
        if not len(rows):
            return
        o, task, networks = self.options, self.task, self.networks
        through_unet = with_gradient and o.backprop_diffusion
        with torch.set_grad_enabled(with_gradient):
            point = z_t = z[rows].detach().requires_grad_(through_unet)
            eps_uncond = networks.eps(rows, z_t, t[rows], task.uncond[rows])
            z_0 = predict_x0(z_t, eps_uncond, alpha_bar[rows])
            if not through_unet:  # gradients at z_0 stand for those at z_t
                point = z_0 = z_0.detach().requires_grad_(with_gradient)
            x_0 = networks.decode(rows, z_0)
            logits = networks.classify(rows, x_0)
            score = log_odds(logits, task.target[rows])
            distance = self._image_distance(x_0, task.images[rows])
        reached = is_reached(logits.detach(), task.target[rows], o.confidence)
        now.eps_uncond[rows], now.z_0[rows] = eps_uncond.detach(), z_0.detach()
        now.score[rows], now.reached[rows] = score.detach(), reached
        if not with_gradient:
            return
        in_image = o.distance_space == "image"
        now.classifier_gradient[rows] = gradient(score, point, retain_graph=in_image)
        now.distance_gradient[rows] = (
            gradient(distance, point) if in_image else now.z_0[rows] - task.code[rows]
        )

    def _image_distance(self, x_0: Tensor, images: Tensor) -> Tensor:
        """Return the L1 distance of predicted images, clamped to [0, 1], to the originals, (n,)."""
        return (x_0.clamp(0, 1) - images).abs().flatten(1).sum(1)

    def _baseline_mask(
        self, mask: Tensor, classifier: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the vectors to use, and their mask, for a guidance without consensus.

        With ``guidance="classifier"`` all positions are used. With ``"random_mask"`` as many random
        positions are used as consensus would keep.
        """
        o = self.options
        if o.guidance == "classifier":  # everywhere, except for vectors without a direction
            return consensus(classifier, classifier, 180.0, o.patch_size)
        seed = o.seed + 7919 * len(self.masks)  # another mask at each step
        mask = random_mask(mask, noise_like(mask.float(), seed, self.task.rows[rows]))
        return apply_mask(classifier, mask), mask

    def _begin_step(self, z: Tensor, now: CleanPredictions) -> Tensor:
        """Begin the record of a step, and return the samples to guide in this step, bool (b,).

        With ``pause_when_reached`` the guidance of samples that have reached the target pauses.
        """
        active = ~(now.reached & self.options.pause_when_reached)
        side = self.options.patch_size
        self.probability.append(now.score.sigmoid())
        self.active.append(active)
        self.masks.append(torch.zeros_like(z[:, 0, ::side, ::side], dtype=torch.bool, device="cpu"))
        self.kept.append(torch.full((len(z),), torch.nan))
        return active

    def _end_step(self, rows: Tensor, mask: Tensor, classifier_gradient: Tensor) -> Tensor:
        """Record the masks of n active samples. Return which samples have a gradient, bool (n,)."""
        usable = finite_rows(classifier_gradient) & (norms(classifier_gradient) != 0)
        self._without_gradient[rows] |= ~usable
        self._guided[rows] |= usable
        guided = rows[usable.cpu()]
        self.masks[-1][guided] = mask[usable].cpu()
        self.kept[-1][guided] = mask[usable].cpu().flatten(1).float().mean(1)
        return usable

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
