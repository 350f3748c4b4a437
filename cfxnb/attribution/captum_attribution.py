"""Maps to compare with, from captum: one adapter for all of them."""

import time
from typing import Any

import torch
from torch import Tensor

from cfxnb.attribution.explained_output import Looks
from cfxnb.attribution.integrated_gradients import recorded
from cfxnb.attribution.paths import straight_path
from cfxnb.attribution.result import (
    COMPLETE,
    INCOMPLETE,
    Attribution,
    relative_gap,
    unfinished,
)
from cfxnb.core import validate
from cfxnb.core.classifiers import as_classifier
from cfxnb.core.driver import Stop
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.tensors import needs_gradient
from cfxnb.core.types import NO_GRADIENT, Classifier
from cfxnb.core.weights_hash import weights_hash

CAPTUM_MAPS = ("input_x_gradient", "integrated_gradients", "occlusion")


@standard_modes
def captum_attribution(
    algorithm: str,
    classifier: Classifier,
    images: Tensor,
    label: int | str | Tensor,
    *,
    contrast_class: int | str | Tensor | None = None,
    baseline: float | Tensor = 0.0,
    n_points: int = 50,
    window: int = 4,
    stride: int = 2,
    tolerance: float = 0.01,
    batch_size: int = 128,
) -> Attribution:
    """What every attribution is to be compared with, computed by captum (Kokhlikyan et al., 2020).

    Args:
        algorithm: "gradient_x_input"; "integrated_gradients" (Gauss-Legendre, straight from the
            baseline); "occlusion" (Zeiler & Fergus, 2014; needs no gradients).
        label, contrast_class: what is explained, see ``integrated_gradients``.
        baseline: one gray level or images, for the last two; ``gradient_x_input`` has black
            as its baseline, whatever is given.
        n_points: of "integrated_gradients".
        window, stride: sides of the square that is occluded, and its step, in pixels.
        tolerance: of |gap| for the status "complete". Only integrated gradients are meant to be.
        batch_size: images classified at once, roughly; bounds the memory, never changes a result.

    Returns:
        Attribution, where the images are. Ctrl-C ends the call: what is finished is kept, the
        other samples get the status "stopped".

    Raises:
        ImportError: without captum.
        ValueError, TypeError: for a wrong argument, naming it; among them a BlackBox with
            another name than "occlusion".
    """
    began = time.perf_counter()
    validate.choice(algorithm, "name", CAPTUM_MAPS)
    if algorithm == "occlusion":
        as_classifier(classifier)
    else:
        validate.white_box(classifier)
    path = straight_path(images, baseline)
    if algorithm == "input_x_gradient":
        path = straight_path(images, 0.0)
    knobs: dict[str, Any] = {
        "n_points": validate.count(n_points, "n_points", 1),
        "window": validate.count(window, "window", 1),
        "stride": validate.count(stride, "stride", 1),
    }
    sides = path.images.shape[2:]
    if algorithm == "occlusion" and window > min(sides):
        raise ValueError(f"window: expected at most {min(sides)}, the images' side, got {window}")
    if stride > window:
        raise ValueError(f"stride: expected at most the window, {window}, got {stride}")
    validate.number(tolerance, "tolerance", 0.0, open_low=True)
    batch_size = validate.count(batch_size, "batch_size", 1)
    stop, chunks = Stop(None), torch.arange(len(path), device=path.device).split(batch_size)
    with eval_frozen(classifier):
        looks = Looks(classifier, label, contrast_class, len(path), batch_size, slope=False)
        found = stop.each(
            chunks, lambda rows: _part(algorithm, looks, path, rows, knobs, tolerance)
        )
    like = next(part for _, part in found if part is not None)
    parts = [
        unfinished(path.images[rows], *looks.of(rows), like) if part is None else part
        for rows, part in found
    ]
    whole = Attribution.concatenate(parts)
    return recorded(
        whole, stop, began, lambda: weights_hash(classifier), function=algorithm, **knobs
    )


def _part(
    name: str, looks: Looks, path: Any, rows: Tensor, knobs: dict, tolerance: float
) -> Attribution:
    ends = [looks.at(path, rows, torch.full((len(rows),), t, device=rows.device)) for t in (0, 1)]
    (baseline, low, _), (image, high, _) = ends
    asked = torch.full_like(rows, 2)  # both ends

    def explained(x: Tensor, whose: Tensor) -> Tensor:
        asked.index_add_(0, whose - rows[0], torch.ones_like(whose))
        f = looks.number(looks.classifier(x), whose)
        if name != "occlusion":
            needs_gradient(f)
        return f

    with torch.enable_grad():
        full = _captum(name, explained, image, baseline, rows, knobs, looks.batch_size).detach()
    change = high - low
    gap = relative_gap(full.flatten(1).sum(1, dtype=torch.float64), change)
    good = full.isfinite().flatten(1).all(1)
    status = [COMPLETE if abs(g) <= tolerance else INCOMPLETE for g in gap.tolist()]
    own, other = looks.of(rows)
    whole = torch.ones_like(rows)
    return Attribution(
        image=image,
        baseline=baseline,
        attributions=full,
        output_change=change.float(),
        relative_delta=gap.float(),
        n_points=whole * (knobs["n_points"] if name == "integrated_gradients" else 1),
        label=own,
        contrast_class=other,
        status=tuple(
            s if fine else NO_GRADIENT for s, fine in zip(status, good.tolist(), strict=True)
        ),
        cost={"generator": 0 * whole, "classifier": asked},
    )


def _captum(
    name: str,
    explained: Any,
    image: Tensor,
    baseline: Tensor,
    rows: Tensor,
    knobs: dict,
    batch_size: int,
) -> Tensor:
    try:
        from captum.attr import InputXGradient, IntegratedGradients, Occlusion
    except ImportError as error:
        raise ImportError(
            "cfx.captum_attribution needs captum; install it with: pip install 'captum>=0.9'"
        ) from error
    x = image.clone().requires_grad_(name != "occlusion")
    # What goes with each image, so that captum repeats it along with the images.
    whose = {"additional_forward_args": (rows,)}
    if name == "input_x_gradient":
        return InputXGradient(explained).attribute(x, **whose)
    if name == "integrated_gradients":
        return IntegratedGradients(explained).attribute(
            x,
            baseline,
            n_steps=knobs["n_points"],
            internal_batch_size=max(batch_size, len(x)),
            **whose,
        )
    window, stride = knobs["window"], knobs["stride"]
    with torch.no_grad():
        return Occlusion(explained).attribute(
            x,
            (x.shape[1], window, window),
            strides=(x.shape[1], stride, stride),
            baselines=baseline,
            perturbations_per_eval=max(1, batch_size // len(x)),
            **whose,
        )
