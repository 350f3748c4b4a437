"""Search for the smallest amount of noise with which each image flips."""

import functools
from typing import Any

import torch
from torch import Tensor

from cfxnb.core.ddim import (
    Denoiser,
    add_noise,
    ddim_invert,
    denoise,
    even_schedule,
    paper_schedule,
)
from cfxnb.core.decisions import is_reached
from cfxnb.core.driver import Edit, EncodedBatch, Run
from cfxnb.core.tensors import noise_like, per_sample
from cfxnb.core.types import Step
from cfxnb.diffusion.best_attempt import BestAttempt
from cfxnb.diffusion.composite import composite_edit
from cfxnb.diffusion.consensus import chance_level
from cfxnb.diffusion.guidance import GuidanceTask, GuidedDenoiser
from cfxnb.diffusion.inversion_path import InversionPath
from cfxnb.diffusion.options import DiffusionOptions


class StrengthSearch:
    """Searches for the smallest strength (amount of noise) that flips each sample of one batch.

    Each sample has its own strength, and leaves the batch when its search is finished. The paper
    makes one attempt at a fixed strength, and does not check whether the image flips.

    Most images flip at half of the first strength of the bisection. So this half is tried first: a
    success saves the attempt at the full strength, whose result would only be replaced.

    Args:
        run: the present call of ``diffusion_counterfactual``, with its space and classifier.
        batch: images with their codes and reconstructions.
        conditions: condition of the diffusion model for each class.
        options: options of ``diffusion_counterfactual``.

    Raises:
        ValueError: if ``patch_size`` does not divide the sides of the codes.
    """

    def __init__(
        self, run: Run, batch: EncodedBatch, conditions: list[Any], options: DiffusionOptions
    ) -> None:
        self.space, self.classifier, self.stop = run.space, run.classifier, run.stop
        self.batch, self.options = batch, options
        z, side = batch.code_before.z, options.patch_size
        if z.ndim != 4 or z.shape[2] % side or z.shape[3] % side:
            raise ValueError(
                f"patch_size: expected a divisor of the sides of codes {tuple(z.shape)}, got {side}"
            )
        cond = self.space.encode_condition([conditions[c] for c in batch.target.tolist()])
        uncond = self.space.encode_condition([None] * len(z))
        self.task = GuidanceTask(batch.rows, batch.images, z, batch.target, cond, uncond)
        self.noise = noise_like(z, options.seed, batch.rows)
        self.half_first = options.max_attempts > 1 and options.strength / 2 >= options.min_strength
        self.best = BestAttempt(z, batch.logits_before)

    @functools.cached_property
    def path(self) -> InversionPath:
        """The DDIM inversion of all images of the batch."""
        o, code = self.options, self.task.code
        return InversionPath(code, self.space.alphas_cumprod, o.strength, o.steps, self.half_first)

    def run(self) -> Edit:
        """Run the search, and return the best attempt of each sample."""
        with self.stop.on_interrupt():
            self._search()
        return self.stop.finish(self._edit)

    def _search(self) -> None:
        """Bisect each sample's strength: lower after a success, higher after a failure."""
        o, active = self.options, ~self.batch.skip
        # In double precision, because the number of steps can depend on the last digit.
        low, high, strength = (
            torch.full((len(active),), value, dtype=torch.float64)
            for value in (0.0, torch.inf, o.strength / 2 if self.half_first else o.strength)
        )
        for attempt in range(o.max_attempts + self.half_first):
            rows = active.nonzero()[:, 0]
            if not len(rows) or self.stop.now:
                break
            here = rows.cpu()
            reached = self._attempt(rows, strength[here], attempt).cpu()
            high[here] = torch.where(reached, strength[here], high[here])
            low[here] = torch.where(reached, low[here], strength[here])
            higher = torch.where(low < o.strength, o.strength, (low + 1) / 2)
            strength = torch.where(high.isinf(), higher, (low + high) / 2)
            finished = high.isfinite() & (strength < o.min_strength)
            finished |= attempt + 1 >= self._attempts_allowed(low, high)
            active &= ~finished.to(active.device)

    def _attempts_allowed(self, low: Tensor, high: Tensor) -> Tensor:
        """Return how many attempts each sample may take, (b,).

        A bisection that begins at the full strength tries half of it only after a success. So a
        sample that flips at half has skipped an attempt, and one that fails at both took one more.

        Args:
            low, high: highest strength that failed, and lowest that succeeded, (b,).
        """
        o = self.options
        more, fewer = low >= o.strength, high <= o.strength / 2
        return o.max_attempts + self.half_first * (more.int() - fewer.int())

    def _attempt(self, rows: Tensor, strength: Tensor, attempt: int) -> Tensor:
        """Add noise and denoise. Store the result if it flips, or if no earlier attempt flipped."""
        o, task, start = self.options, self.task[rows], self.batch.code_before[rows]
        make_schedule = even_schedule if o.timestep_spacing == "even" else paper_schedule
        schedule = make_schedule(self.space.alphas_cumprod, strength, o.steps)
        guided = GuidedDenoiser(self.space, self.classifier, task, o)
        if o.noise == "random":
            z = add_noise(task.code, self.noise[rows], schedule.start)
        elif o.timestep_spacing == "paper":
            z = ddim_invert(guided.unguided, task.code, schedule)
        else:
            z = self.path.start(rows.cpu(), schedule.start, guided.unguided_rows)
        z = denoise(self._observed(guided, attempt), z, schedule, lambda: self.stop.now)
        logits = self.classifier(self.space.decode(start.with_z(z)))
        reached = is_reached(logits, task.target, o.confidence)
        self.best.update(rows, z, logits, reached, strength, guided, len(schedule.times))
        return reached

    def _observed(self, guided: GuidedDenoiser, attempt: int) -> Denoiser:
        """Return a denoiser that calls ``guided``, and then ``on_step`` after each step."""
        total = (self.options.max_attempts + self.half_first) * self.options.steps
        number = attempt * self.options.steps

        def denoiser(z: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
            nonlocal number
            eps = guided(z, t, alpha_bar)
            number += 1
            p = guided.probability[-1] if guided.probability else torch.full((len(z),), torch.nan)
            active = guided.active[-1] if guided.active else torch.ones(len(z), dtype=torch.bool)
            self.stop.tell(Step(number, total, guided.task.rows, z, p, active))
            return eps

        return denoiser

    def _edit(self) -> Edit:
        """Return the best attempts as the ``Edit`` that ``Run.counterfactuals`` expects."""
        o, best = self.options, self.best
        cost = {part: passes.to(best.z.device) for part, passes in best.cost.items()}
        code = self.batch.code_before.with_z(best.z)
        image, seen, composites = None, best.logits, 0
        if o.composite_threshold is not None:
            image, seen = self._composite(self.space.decode(code), o.composite_threshold)
            composites = 1
        vector_size = best.z.shape[1] * o.patch_size**2
        cone_angle = 180.0 if o.guidance == "classifier" else o.cone_angle
        return Edit(
            code=code,
            image=image,
            reached=best.reached,
            no_gradient=best.no_gradient,
            seen=seen,
            generator=cost["unet"] + cost["decoder"] + composites,
            classifier=cost["classifier"] + composites,
            cost={"unet": cost["unet"]},
            trace=best.trace(chance_level(vector_size, cone_angle)),
        )

    @torch.no_grad()
    def _composite(self, image: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
        """Restore pixels that changed little, unless an image would no longer flip.

        Return one image per sample, composited or not, and the logits of these images.
        """
        batch, best = self.batch, self.best
        composite = composite_edit(batch.images, batch.reconstruction, image, threshold)
        logits = self.classifier(composite)
        still = is_reached(logits, batch.target, self.options.confidence) | ~best.reached
        return (
            torch.where(per_sample(still, image), composite, image),
            torch.where(still[:, None], logits, best.logits),
        )
