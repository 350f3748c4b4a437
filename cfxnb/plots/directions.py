"""Pictures of directions: which fraction of images flips, and how one image changes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedSpace
from cfxnb.core.directions import expand_direction
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.prediction import finite_predict_logits
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import Classifier, LatentSpace
from cfxnb.directions.follow_direction import step_lengths
from cfxnb.plots.charts import curves
from cfxnb.plots.pictures import (
    CYCLE,
    Picture,
    decoded,
    draw,
    figure,
    finished,
    font,
    given_axes,
    names_of,
)

MAX_POINTS = 10_000  # of a curve
MAX_IMAGES = 100  # in a row


@standard_modes
def flip_curves(
    space: LatentSpace,
    results: Mapping[str, Counterfactuals],
    *,
    n_points: int = 25,
    ax: Any = None,
) -> Picture | Any:
    """Draw the fraction of images that flip within a step length, one curve per direction.

    Args:
        space: latent space in which ``results`` were computed.
        results: dict from names to results of ``cfx.follow_direction``. Use the same ``max_step``
            for all results.
        n_points: number of step lengths at which a curve is computed. Default: 25.
        ax: axes of matplotlib to draw into. Default: a new figure.

    Returns:
        A Picture, or ``ax`` if axes were given.

    Raises:
        ValueError, TypeError: if an argument is wrong, for example if a result has no codes or no
            image that could flip.
    """
    space = validate.space(space)
    n_points = validate.count(n_points, "n_points", 2, MAX_POINTS)
    validate.instance(results, Mapping, "results", "a dict: name -> result")
    if not results or len(results) > len(CYCLE):
        raise ValueError(f"results: expected 1 to {len(CYCLE)} of them, got {len(results)}")
    lines, longest = {}, 0.0
    for name, result in results.items():
        where = f"results[{validate.text(name, 'results')[:60]!r}]"
        validate_results.result(result, where)
        before, _ = validate_results.codes(result, where)
        validate.shape(before.z.shape[1:], space.mean.shape, where, "codes of this space,")
        if not result.eligible.any():
            raise ValueError(f"{where}: expected an image that could flip, got none")
        lengths = step_lengths(space, result)[result.eligible]
        if not lengths.isfinite().all():
            raise ValueError(f"{where}.code_after: expected finite codes, got NaN or infinity")
        max_step = result.made_by.get("max_step", float(lengths.max()))
        longest = max(longest, validate.number(max_step, f"{where}.made_by['max_step']", 0.0))
        lines[name] = torch.where(result.flipped[result.eligible], lengths, torch.inf)
    x = np.linspace(0, longest, n_points)
    fractions = {n: [(v <= at + 1e-6).float().mean().item() for at in x] for n, v in lines.items()}
    final = ", ".join(f"{name} {values[-1]:.0%}" for name, values in fractions.items())
    return curves(
        x,
        fractions,
        xlabel="length of the step (std)",
        ylabel="fraction flipped",
        alt=f"Fraction flipped by the length of the step. At the longest step: {final}.",
        ax=ax,
    )


@standard_modes
@torch.no_grad()
def direction_strip(
    space: LatentSpace,
    classifier: Classifier,
    image: Tensor,
    direction: Tensor,
    steps_along: Sequence[float],
    *,
    class_names: Sequence[str] | None = None,
    axes: Any = None,
) -> Picture | Any:
    """Draw one image and its changes along a direction, each with the predicted class.

    Args:
        space: space in which the code is moved.
        classifier: images -> logits (b, k).
        image: one image in [0, 1], (1, c, h, w).
        direction: direction in code space, shaped like ``space.mean``. The
            length of the direction is ignored.
        steps_along: signed lengths of the steps, in standard deviations of the code (std).
        class_names: names of the classes. Default: their numbers.
        axes: axes of matplotlib to draw into: one for the image, and one per step. Default: a new
            figure.

    Returns:
        A Picture, or ``axes`` if axes were given.

    Raises:
        ValueError, TypeError: if an argument is wrong.
    """
    checked = CheckedSpace(space)
    image = validate.images(image, "image")
    if len(image) != 1:
        raise ValueError(f"image: expected one image, got {len(image)}")
    steps = torch.from_numpy(validate.array(steps_along, "steps_along", 1)).float()
    if not len(steps) or len(steps) > MAX_IMAGES or not steps.isfinite().all():
        raise ValueError(
            f"steps_along: expected 1 to {MAX_IMAGES} numbers of ordinary size, got "
            f"{validate.describe(steps_along)}"
        )
    with eval_frozen(space, classifier):
        code = checked.encode(image)
        step = expand_direction(checked, direction, 1).to(code.z)
        aux = None if code.aux is None else code.aux.expand(len(steps), *code.aux.shape[1:])
        moved = code.z + steps.to(code.z).view(-1, *[1] * (code.z.ndim - 1)) * step
        shown = torch.cat([image, decoded(checked, type(code)(moved, aux), image).to(image)])
        logits = finite_predict_logits(classifier, shown)
    names = names_of(class_names, logits.shape[1])
    decisions = [names[i] for i in logits.argmax(1).tolist()]
    probabilities = logits.softmax(1).amax(1).tolist()
    titles = ["image", *[f"{x:+.1f}" for x in steps.tolist()]]
    if axes is None:
        fig, grid = figure(1, len(shown), (1.1 * len(shown), 1.9))
    else:
        fig, grid = None, given_axes(axes, 1, len(shown))
    for column in zip(grid[0], shown, titles, decisions, probabilities, strict=True):
        ax, one, title, decision, p = column
        draw(ax, one, title)
        ax.set_xlabel(f"{decision} {p:.0%}", fontsize=font(0.8, "axes.labelsize"))
    moved_to = [f"{t} std: {d}" for t, d in zip(titles[1:], decisions[1:], strict=True)]
    alt = f"An image classified as {decisions[0]}. Along the direction: {', '.join(moved_to)}."
    return finished(fig, axes, alt)
