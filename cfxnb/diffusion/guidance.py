"""Guidance: a function around a denoiser that lets it see more than it was trained on."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from cfxnb.core.ddim import predict_x0
from cfxnb.core.decisions import is_reached, log_odds
from cfxnb.core.tensors import finite_rows, needs_gradient, noise_like, norms, per_sample
from cfxnb.core.types import Classifier, Code
from cfxnb.diffusion.consensus import consensus, masked, rescaled, shuffled

GUIDES = ("consensus", "classifier", "random_mask", "classifier_free", "none")


@dataclasses.dataclass(eq=False)
class Asked:
    """What is asked for of a chunk of samples; every tensor has one row a sample.

    Attributes:
        rows: positions in the whole input.
        images, code: the originals and their codes.
        target: class to reach.
        told, nothing: what the denoiser is told: the target, and nothing.
    """

    rows: Tensor
    images: Tensor
    code: Tensor
    target: Tensor
    told: Tensor
    nothing: Tensor

    def __getitem__(self, rows: Tensor) -> "Asked":
        return Asked(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


class Guided:
    """A denoiser of a space, guided towards targets by a classifier; it remembers its steps.

    At each step the slope of the log odds of the target is taken at what the present code would
    look like without its noise. Where it agrees with the denoiser's implicit classifier, the
    difference that telling it the target makes, it is kept, and given that difference's norm
    (Farid et al., section 3.2). A second slope, of the distance to the original, gets the same
    norm.

    Args:
        knobs: ``guidance``, ``cone_angle``, ``patch_size``, ``classifier_scale``, ``distance_scale``, ``guidance_scale``, ``distance_space``,
            ``backprop_diffusion``, ``pause_when_reached``, ``confidence`` and ``seed`` of ``diffusion_counterfactual``.
    """

    def __init__(self, space: Any, classifier: Classifier, asked: Asked, knobs: dict) -> None:
        self.space, self.classifier, self.asked, self.knobs = space, classifier, asked, knobs
        self.kept: list[Tensor] = []
        self.masks: list[Tensor] = []
        self.probability: list[Tensor] = []
        self.active: list[Tensor] = []
        zero = torch.zeros(len(asked.rows), dtype=torch.int64)
        self.cost = {"unet": zero, "decoder": zero.clone(), "classifier": zero.clone()}
        self._stuck = torch.zeros(len(asked.rows), dtype=torch.bool, device=asked.code.device)
        self._moved = torch.zeros_like(self._stuck)

    @property
    def lost(self) -> Tensor:
        """Whether each sample was to be guided and never had a slope, bool (b,)."""
        return self._stuck & ~self._moved

    def __call__(self, z: Tensor, times: Tensor, left: Tensor) -> Tensor:
        guidance = self.knobs["guidance"]
        if guidance == "none":
            return self.unguided(z, times, left)
        if guidance == "classifier_free":
            self._spend(torch.ones(len(z), dtype=torch.bool), unet=1)
            free = self.unguided(z, times, left)
            return free + self.knobs["guidance_scale"] * (
                self._eps(z, times, self.asked.told) - free
            )
        return self._towards(z, times, left)

    def unguided(self, z: Tensor, times: Tensor, left: Tensor) -> Tensor:
        """The denoiser told nothing, at the cost of one pass."""
        self._spend(torch.ones(len(z), dtype=torch.bool), unet=1)
        return self._eps(z, times, self.asked.nothing)

    @torch.no_grad()
    def _eps(self, z: Tensor, times: Tensor, told: Tensor) -> Tensor:
        return self.space.predict_noise(z, times, told)

    def _towards(self, z: Tensor, times: Tensor, left: Tensor) -> Tensor:
        whole = self.knobs["backprop_diffusion"]
        with torch.enable_grad():
            point = z.detach().requires_grad_(whole)
            free = self.space.predict_noise(point, times, self.asked.nothing)
            clean = predict_x0(point, free, left)
            if not whole:  # the slope at the clean code stands for that at the noisy one
                free, clean = free.detach(), clean.detach().requires_grad_()
                point = clean
            images = self.space.decode(Code(clean), clamp=False)
            logits = self.classifier(images)
            needs_gradient(logits)
            odds = log_odds(logits, self.asked.target)
            far = self._distance(images)
        there = is_reached(logits.detach(), self.asked.target, self.knobs["confidence"])
        active = ~(there & self.knobs["pause_when_reached"])
        self.probability.append(odds.detach().sigmoid())
        self.active.append(active)
        free = free.detach()
        self._spend(active | ~active, unet=1, decoder=1, classifier=1)
        if not active.any():
            side = self.knobs["patch_size"]
            nowhere = torch.zeros_like(z[:, 0, ::side, ::side], dtype=torch.bool, device="cpu")
            self._remember(nowhere, active)
            return free
        told = self._eps(z, times, self.asked.told)
        in_pixels = self.knobs["distance_space"] == "image"
        slope = _slope(odds, point, keep=in_pixels)
        away = _slope(far, point) if in_pixels else self._homesick(clean)
        back = 1 + in_pixels
        self._spend(active, unet=1 + whole * back, decoder=back, classifier=1)
        share = per_sample((1 - left.to(z)).sqrt(), z)
        implicit, direction = told - free, -share * slope
        stuck = active & (~finite_rows(slope) | (norms(slope) == 0))
        filtered, keep = self._filtered(implicit, direction)
        pulled = rescaled(filtered, implicit) * self.knobs["classifier_scale"]
        pulled = pulled + rescaled(share * away, implicit) * self.knobs["distance_scale"]
        pulled = pulled + implicit * self.knobs["guidance_scale"]
        active = active & ~stuck
        self._stuck, self._moved = self._stuck | stuck, self._moved | active
        self._remember(keep, active)
        return free + torch.where(per_sample(active, z), pulled, 0.0)

    def _filtered(self, implicit: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        guidance, patch_size = self.knobs["guidance"], self.knobs["patch_size"]
        if guidance == "classifier":  # everywhere, but for what is no direction
            return consensus(direction, direction, 180.0, patch_size)
        filtered, keep = consensus(implicit, direction, self.knobs["cone_angle"], patch_size)
        if guidance == "random_mask":
            # A mask of its own for each step.
            seed = self.knobs["seed"] + 7919 * (1 + len(self.masks))
            keep = shuffled(keep, noise_like(keep.float(), seed, self.asked.rows))
            filtered = masked(direction, keep)
        return filtered, keep

    def _distance(self, images: Tensor) -> Tensor:
        """In pixels, as published: where an image is out of range it is as good as in range."""
        return (images.clamp(0, 1) - self.asked.images).abs().flatten(1).sum(1)

    def _homesick(self, clean: Tensor) -> Tensor:
        """The slope of half the squared distance of codes."""
        return (clean - self.asked.code).detach()

    def steps(self, total: int) -> dict[str, Tensor]:
        """What was remembered, on the CPU, one row a sample: (b, total, ...) each.

        Of steps that were not taken it is NaN or False.
        """
        if not self.kept:
            return {}
        parts = {"kept_fraction": self.kept, "masks": self.masks, "probability": self.probability}
        return {name: _filled(torch.stack(all_, 1).cpu(), total) for name, all_ in parts.items()}

    def _remember(self, keep: Tensor, active: Tensor) -> None:
        active = active.cpu()
        keep = keep.cpu() & active.view(-1, 1, 1)
        self.masks.append(keep)
        self.kept.append(torch.where(active, keep.flatten(1).float().mean(1), torch.nan))

    def _spend(self, rows: Tensor, **passes: int) -> None:
        for part, count in passes.items():
            self.cost[part] += count * rows.cpu()


def _filled(values: Tensor, total: int) -> Tensor:
    shape = (len(values), total, *values.shape[2:])
    filled = values.new_full(shape, torch.nan if values.is_floating_point() else 0)
    filled[:, : values.shape[1]] = values
    return filled


def _slope(values: Tensor, point: Tensor, keep: bool = False) -> Tensor:
    ones = torch.ones_like(values)
    return torch.autograd.grad(values, point, ones, retain_graph=keep)[0]
