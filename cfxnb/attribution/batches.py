"""Code that all attribution methods share: batches, results after Ctrl-C, record of the call."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cfxnb.attribution.explained_output import ExplainedOutput
from cfxnb.attribution.result import Attribution
from cfxnb.core.driver import Stop
from cfxnb.core.types import STOPPED


def explain_batches(
    stop: Stop,
    output: ExplainedOutput,
    explain: Callable[[Tensor], Attribution],
    positions: Tensor,
    images: Tensor | None = None,
    n_points: int = 1,
) -> Attribution:
    """Explain batch after batch and join the results in one Attribution.

    Images that were not explained before Ctrl-C get the status "stopped" and a map of NaN.

    Args:
        stop: Stop object of the call, which says whether Ctrl-C was pressed.
        output: The explained function, whose ``batch_size`` limits the number of images in a batch.
        explain: Function that takes positions of images and returns the Attribution of the images.
        positions: Positions of all images in the call, int64 (n,).
        images: The explained images, or None if the images must be rendered first. If ``images`` is
            None, images that were not explained before Ctrl-C are NaN in the result.
        n_points: Number of images that ``explain`` evaluates for each explained image.
    """
    batches = positions.split(max(1, output.batch_size // n_points))
    parts = stop.each(batches, explain, "attribution")
    finished = next(part for _, part in parts if part is not None)

    def unfinished(rows: Tensor) -> Attribution:
        if images is None:
            image = torch.full_like(finished.image[:1], torch.nan).repeat(len(rows), 1, 1, 1)
        else:
            image = images[rows.to(images.device)]
        label, contrast_class = output.classes_of(rows)
        unknown, zero = image.new_full((len(image),), torch.nan), torch.zeros_like(label)
        return Attribution(
            image=image,
            baseline=torch.full_like(image, torch.nan),
            attributions=torch.full_like(image, torch.nan),
            output_change=unknown,
            relative_delta=unknown,
            n_points=zero,
            label=label,
            contrast_class=contrast_class,
            status=(STOPPED,) * len(image),
            baseline_step=None if finished.baseline_step is None else unknown,
            cost=dict.fromkeys(finished.cost, zero),
        )

    return Attribution.concatenate(
        [unfinished(rows) if part is None else part for rows, part in parts]
    )


def with_record(
    result: Attribution, stop: Stop, began: float, weights: Callable[[], Any], **made_by: Any
) -> Attribution:
    """Add the record of the call to a result, and warn if the call was interrupted.

    Args:
        began: ``time.perf_counter()`` at the beginning of the call.
        weights: Function without arguments that returns the hashes of the networks' weights.
        made_by: Name of the called function and options of the call.
    """
    done = sum(status != STOPPED for status in result.status)
    stop.warn(done, len(result), "the others have the status 'stopped'")
    seconds = round(time.perf_counter() - began, 3)
    record = made_by | {"weights": stop.finish(weights), "seconds": seconds}
    return dataclasses.replace(result, made_by=record)
