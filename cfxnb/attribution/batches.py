"""What every attribution method repeats: work in batches, keep what Ctrl-C left, the record."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cfxnb.attribution.result import Attribution
from cfxnb.core.driver import Stop
from cfxnb.core.types import STOPPED

Classes = tuple[Tensor, Tensor | None]


def explain_batches(
    stop: Stop,
    batches: Sequence[Tensor],
    explain: Callable[[Tensor], Attribution],
    classes_of: Callable[[Tensor], Classes],
    images: Tensor | None,
) -> Attribution:
    """Explain batch after batch and join the results.

    After Ctrl-C the remaining images get the status "stopped", and NaN in all that was not
    computed.

    Args:
        stop: Says whether the call is to end.
        batches: Positions of the images of each batch.
        explain: Positions -> Attribution.
        classes_of: Positions -> label and contrast class.
        images: The explained images. None if they are only known once they are rendered: images
            that were not explained are then NaN too.
    """
    parts = stop.each(batches, explain)
    finished = next(part for _, part in parts if part is not None)

    def left_out(rows: Tensor) -> Attribution:
        if images is None:
            image = torch.full_like(finished.image[:1], torch.nan).repeat(len(rows), 1, 1, 1)
        else:
            image = images[rows.to(images.device)]
        return _unfinished(image, *classes_of(rows), finished)

    return Attribution.concatenate(
        [left_out(rows) if part is None else part for rows, part in parts]
    )


def _unfinished(
    image: Tensor, label: Tensor, contrast_class: Tensor | None, like: Attribution
) -> Attribution:
    """Images that were not explained, with the same fields as the finished part ``like``."""
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
        baseline_step=None if like.baseline_step is None else unknown,
        cost=dict.fromkeys(like.cost, zero),
    )


def with_record(
    result: Attribution, stop: Stop, began: float, weights: Callable[[], Any], **made_by: Any
) -> Attribution:
    """Add the record of the call to a result, and warn if the call was interrupted.

    Args:
        began: ``time.perf_counter()`` at the beginning of the call.
        weights: Function that returns the hashes of the networks' weights.
        made_by: Name of the function and its options.
    """
    done = sum(status != STOPPED for status in result.status)
    stop.warn(done, len(result), "the others have the status 'stopped'")
    seconds = round(time.perf_counter() - began, 3)
    record = made_by | {"weights": stop.finish(weights), "seconds": seconds}
    return dataclasses.replace(result, made_by=record)
