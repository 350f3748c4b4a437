"""Noise, denoise under guidance, and look: at as little noise as flips each sample."""

from typing import Any

import torch
from torch import Tensor

from cfxnb.core.ddim import (
    Denoiser,
    Schedule,
    add_noise,
    ddim_invert,
    denoise,
    even_schedule,
    paper_schedule,
)
from cfxnb.core.decisions import is_reached, still_reached
from cfxnb.core.driver import Batch, Run, assign_statuses, confirmed, nothing_to_do
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import noise_like, per_sample
from cfxnb.core.types import Step
from cfxnb.diffusion.best_attempt import Best
from cfxnb.diffusion.composite import pasted
from cfxnb.diffusion.consensus import chance_level
from cfxnb.diffusion.guidance import Asked, Guided


class Search:
    """One chunk of images; each sample has noise levels of its own, and leaves when it is done."""

    def __init__(self, run: Run, task: Batch, entries: list[Any], knobs: dict) -> None:
        self.space, self.classifier, self.stop = run.space, run.classifier, run.stop
        self.task, self.knobs = task, knobs
        self.start, self.reconstruction, self.rebuilt = run.reconstruct_batch(task)
        space: Any = self.space
        shape, side = tuple(self.start.z.shape), knobs["patch_size"]
        if len(shape) != 4 or shape[2] % side or shape[3] % side:
            raise ValueError(
                f"patch_size: expected a divisor of the sides of codes {shape}, got {side}"
            )
        targets = task.target.tolist()
        self.asked = Asked(
            task.rows,
            task.images,
            self.start.z,
            task.target,
            space.encode_condition([entries[t] for t in targets]),
            space.encode_condition([None] * len(targets)),
        )
        self.noise = noise_like(self.start.z, knobs["seed"], task.rows)
        self.best = Best(self.start.z, task.logits_before)

    def run(self) -> Counterfactuals:
        with self.stop.on_interrupt():
            self._search()
        stopped = self.stop.now
        return self.stop.finish(lambda: self._result(stopped))

    def _search(self) -> None:
        active = ~nothing_to_do(self.task, self.rebuilt)
        count = len(active)
        # In double precision: the number of steps depends on the last digit.
        low, high, level = (
            torch.full((count,), value, dtype=torch.float64)
            for value in (0.0, torch.inf, self.knobs["strength"])
        )
        for number in range(self.knobs["max_attempts"]):
            rows = active.nonzero()[:, 0]
            if not len(rows) or self.stop.now:
                break
            passed = self._try(rows, level[rows.cpu()], number)
            done, here = passed.cpu(), rows.cpu()
            high[here] = torch.where(done, level[here], high[here])
            low[here] = torch.where(done, low[here], level[here])
            level = torch.where(high.isinf(), (low + 1) / 2, (low + high) / 2)
            low_enough = high.isfinite() & (level < self.knobs["min_strength"])
            active &= ~low_enough.to(active.device)

    def _try(self, rows: Tensor, level: Tensor, number: int) -> Tensor:
        """Noise and denoise; keep what flips, and what doesn't where nothing else did."""
        knobs, asked = self.knobs, self.asked[rows]
        times = even_schedule if knobs["timestep_spacing"] == "even" else paper_schedule
        schedule = times(self.space.alphas_cumprod, level, knobs["steps"])
        guided = Guided(self.space, self.classifier, asked, knobs)
        z = self._noisy(rows, guided, schedule)
        z = denoise(self._watched(guided, number), z, schedule, lambda: self.stop.now)
        logits = self.classifier(self.space.decode(self.start[rows].with_z(z)))
        passed = is_reached(logits, asked.target, knobs["confidence"])
        self.best.update(rows, z, logits, passed, level, guided, len(schedule.times))
        return passed

    def _noisy(self, rows: Tensor, guided: Guided, schedule: Schedule) -> Tensor:
        """With noise that is drawn, or with the very noise that the code comes from."""
        if self.knobs["noise"] == "random":
            return add_noise(self.asked.code[rows], self.noise[rows], schedule.start)
        return ddim_invert(guided.unguided, self.asked.code[rows], schedule)

    def _watched(self, guided: Guided, number: int) -> Denoiser:
        total = self.knobs["max_attempts"] * self.knobs["steps"]
        count = number * self.knobs["steps"]

        def denoiser(z: Tensor, times: Tensor, left: Tensor) -> Tensor:
            nonlocal count
            eps = guided(z, times, left)
            count += 1
            p = guided.probability[-1] if guided.probability else torch.full((len(z),), torch.nan)
            active = guided.active[-1] if guided.active else torch.ones(len(z), dtype=torch.bool)
            step = Step(count, total, guided.asked.rows, z, p, active)
            self.stop.tell(step)
            return eps

        return denoiser

    def _result(self, stopped: bool) -> Counterfactuals:
        best, task = self.best, self.task
        code = self.start.with_z(best.z)
        image, after, drawn = self._composited(self.space.decode(code))
        unet = best.cost["unet"]
        # Besides the search: the reconstruction and the final image, and the original's logits.
        generator, asked = unet + best.cost["decoder"] + 2, best.cost["classifier"] + 3
        asked = asked if self.knobs["composite_threshold"] is None else asked + 1
        size = self.start.z.shape[1] * self.knobs["patch_size"] ** 2
        need = still_reached(self.knobs["confidence"])
        passed = confirmed(best.passed, best.logits, drawn, task.target, need)
        cone_angle = 180.0 if self.knobs["guidance"] == "classifier" else self.knobs["cone_angle"]
        return Counterfactuals(
            original=task.images,
            image=image,
            reconstruction=self.reconstruction,
            logits_before=task.logits_before,
            logits_after=after,
            target=task.target,
            status=assign_statuses(
                task, passed, no_gradient=best.lost, reconstruction=self.rebuilt, stopped=stopped
            ),
            code_before=self.start,
            code_after=code,
            cost={"generator": generator, "unet": unet, "classifier": asked},
            trace=best.trace(chance_level(size, cone_angle)),
        )

    def _composited(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The images and their logits, with untouched pixels put back where that still flips.

        Third come the logits of the images as they were drawn.
        """
        after = self.classifier(image)
        share, task = self.knobs["composite_threshold"], self.task
        if share is None:
            return image, after, after
        pasting = pasted(task.images, self.reconstruction, image, share)
        logits = self.classifier(pasting)
        fits = is_reached(logits, task.target, self.knobs["confidence"])
        fits |= ~self.best.passed  # nothing to lose
        return (
            torch.where(per_sample(fits, image), pasting, image),
            torch.where(fits[:, None], logits, after),
            after,
        )
