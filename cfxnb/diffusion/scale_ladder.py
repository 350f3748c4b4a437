"""Try growing scales of the classifier's gradient, until each image flips."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.border import CheckedFunction
from cfxnb.core.ddpm import respaced_schedule
from cfxnb.core.decisions import still_reached
from cfxnb.core.driver import Edit, EncodedBatch, Run
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import finite_rows
from cfxnb.core.types import OnStep
from cfxnb.diffusion.guided_ddpm import DDPMOptions, GuidedDDPM


class ScaleLadder:
    """Denoises the samples of one batch with growing scales of the classifier's gradient.

    A sample leaves the batch at the first scale with which it flips. A sample that does not flip
    keeps its original code. With ``as_published``, a sample that does not flip gets the result of
    the last scale.

    Args:
        run: the present call.
        batch: images with their codes and reconstructions.
        options: the options of ``maskdime``, ``fastdime`` or ``dime``.
        sample: function that runs the steps of a ``GuidedDDPM``, such as ``sample_maskdime``.
        features: images -> features, for the perceptual distance, or None.
        divide, masked: see ``GuidedDDPM``.

    Raises:
        ValueError: if the codes do not have the shape (b, c, h, w).
    """

    def __init__(
        self,
        run: Run,
        batch: EncodedBatch,
        options: DDPMOptions,
        sample: Callable[[GuidedDDPM], None],
        features: CheckedFunction | None,
        *,
        divide: bool = True,
        masked: bool = True,
    ) -> None:
        self.run_, self.batch, self.options, self.sample = run, batch, options, sample
        self.settings: dict[str, Any] = {"features": features, "divide": divide, "masked": masked}
        z = batch.code_before.z
        if z.ndim != 4:
            raise ValueError(f"space: expected codes (b, c, h, w), got {tuple(z.shape)}")
        count, device = len(z), z.device
        self.z, self.image = z.clone(), batch.reconstruction.clone()
        self.logits = torch.full_like(batch.logits_before, torch.nan)
        self.reached = torch.zeros(count, dtype=torch.bool, device=device)
        self.no_gradient = torch.zeros_like(self.reached)
        self.mask = torch.zeros_like(self.image[:, 0], dtype=torch.bool)
        self.scale = torch.full((count,), torch.nan, device=device)
        parts = ("unet", "decoder", "classifier", "features")
        self.cost = {part: torch.zeros_like(batch.target) for part in parts}
        names = ("probability", "mask_fraction") if masked else ("probability",)
        shape = (count, options.n_steps)
        self.steps = {name: torch.full(shape, torch.nan, device=device) for name in names}

    def run(self) -> Edit:
        """Run the search, and return the result of each sample."""
        with self.run_.stop.on_interrupt():
            self._search()
        return self._edit()

    @torch.no_grad()
    def _search(self) -> None:
        """Try the scales one after the other."""
        active = ~self.batch.skip
        for number, scale in enumerate(self.options.scales):
            rows = active.nonzero()[:, 0]
            if not len(rows) or self.run_.stop.now:
                return
            attempt = GuidedDDPM(
                self.run_, self.batch, rows, scale, self.options, number=number, **self.settings
            )
            self.sample(attempt)
            self._update(rows, attempt, scale)
            active &= ~self.reached

    def _update(self, rows: Tensor, attempt: GuidedDDPM, scale: float) -> None:
        """Record an attempt for the samples at ``rows``."""
        for part, passes in attempt.cost.items():
            self.cost[part][rows] += passes
        kept = attempt.reached | self.options.as_published
        kept &= finite_rows(attempt.found) & finite_rows(attempt.image)
        chosen = rows[kept]
        self.z[chosen], self.image[chosen] = attempt.found[kept], attempt.image[kept]
        self.logits[chosen], self.mask[chosen] = attempt.logits[kept], attempt.mask[kept]
        self.reached[rows] = attempt.reached
        self.no_gradient[rows] = attempt.no_gradient
        self.scale[rows] = scale
        for name, table in self.steps.items():
            table[rows] = torch.nan
            if values := getattr(attempt, name):
                table[rows, : len(values)] = torch.stack(values, 1)

    def _edit(self) -> Edit:
        """Return the results as the ``Edit`` that ``Run.counterfactuals`` expects."""
        cost, trace = self.cost, {**self.steps, "scale": self.scale}
        if self.settings["masked"]:
            trace["mask"] = self.mask
        own = ("unet", "features") if self.settings["features"] is not None else ("unet",)
        return Edit(
            code=self.batch.code_before.with_z(self.z),
            image=self.image,
            reached=self.reached,
            no_gradient=self.no_gradient,
            seen=self.logits,
            generator=cost["unet"] + cost["decoder"],
            classifier=cost["classifier"],
            cost={part: cost[part] for part in own},
            trace={name: values.cpu() for name, values in trace.items()},
        )


def run_ladder(
    name: str,
    space: Any,
    classifier: Any,
    images: Any,
    target: Any,
    options: DDPMOptions,
    sample: Callable[[GuidedDDPM], None],
    *,
    features: Any,
    batch_size: int,
    first_row: int | Tensor,
    on_step: OnStep | None,
    divide: bool = True,
    masked: bool = True,
) -> Counterfactuals:
    """Check the arguments of a DDPM method, and run a ``ScaleLadder`` on each batch.

    Args:
        name: name of the method, which is recorded in the result.
        space, classifier, images, target, features, batch_size, first_row, on_step: arguments that
            the user passed to the method, checked here.

    For the other arguments see ``ScaleLadder``.

    Raises:
        ValueError, TypeError: if an argument is wrong. The message names it.
    """
    validate.diffusion(space)
    validate.white_box(classifier)
    checked = None if features is None else CheckedFunction(features, "features")
    if checked is None and options.perceptual_scale:
        raise ValueError(
            f"features: expected a function images -> features with perceptual_scale="
            f"{options.perceptual_scale:g}, got None; pass one, or perceptual_scale=0"
        )
    if options.as_published:  # the schedule checks steps and strength
        one = torch.tensor([options.strength], dtype=torch.float64)
        respaced_schedule(space.alphas_cumprod, one, options.steps)
    run = Run(
        classifier,
        images,
        target,
        space=space,
        batch_size=batch_size,
        first_row=first_row,
        on_step=on_step,
        any_size=True,
    )

    def edit(batch: EncodedBatch) -> Edit:
        settings = {"divide": divide, "masked": masked}
        return ScaleLadder(run, batch, options, sample, checked, **settings).run()

    need = still_reached(options.confidence)
    return run.counterfactuals(edit, need, function=name, **dataclasses.asdict(options))
