"""Pictures of what a direction does: how far it must be followed, and what is seen on the way."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedSpace
from cfxnb.core.directions import heading
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.prediction import finite_predict_logits
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import Classifier, LatentSpace
from cfxnb.directions.follow_direction import step_lengths
from cfxnb.plots.charts import curves
from cfxnb.plots.pictures import CYCLE, Picture, as_picture, draw, figure

MOST = 10_000  # points of a curve
FEW = 100  # images in a row


@standard_modes
def flip_curves(
    space: LatentSpace, results: Mapping[str, Counterfactuals], *, n_points: int = 25
) -> Picture:
    """Share of decisions flipped over the length of the step, one line a direction.

    Args:
        results: name -> what ``cfx.follow_direction`` returned, with the same reach.
        n_points: lengths at which the share is drawn.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them results without codes,
            or without an image that could flip.
    """
    space = validate.space(space)
    n_points = validate.count(n_points, "n_points", 2, MOST)
    validate.instance(results, Mapping, "results", "a dict: name -> result")
    if not results or len(results) > len(CYCLE):
        raise ValueError(f"results: expected 1 to {len(CYCLE)} of them, got {len(results)}")
    lines, longest = {}, 0.0
    for name, result in results.items():
        told = f"results[{validate.text(name, 'results')[:60]!r}]"
        validate_results.result(result, told)
        start, _ = validate_results.codes(result, told)
        if start.z.shape[1:] != space.center.shape:
            raise ValueError(
                f"{told}: expected codes of this space, {tuple(space.center.shape)}, got those of "
                f"another, {tuple(start.z.shape[1:])}"
            )
        if not result.eligible.any():
            raise ValueError(f"{told}: expected an image that could flip, got none")
        steps_along = step_lengths(space, result)[result.eligible]
        if not steps_along.isfinite().all():
            raise ValueError(f"{told}.code: expected finite codes, got NaN or infinity")
        max_step = result.made_by.get("max_step", float(steps_along.max()))
        longest = max(longest, validate.number(max_step, f"{told}.made_by['reach']", 0.0))
        lines[name] = torch.where(result.flipped[result.eligible], steps_along, torch.inf)
    x = np.linspace(0, longest, n_points)
    shares = {n: [(v <= at + 1e-6).float().mean().item() for at in x] for n, v in lines.items()}
    told = ", ".join(f"{name} {values[-1]:.0%}" for name, values in shares.items())
    return curves(
        x,
        shares,
        xlabel="length of the step, in spreads",
        ylabel="share flipped",
        alt=f"Share of decisions flipped over the length of the step; in the end: {told}.",
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
) -> Picture:
    """One image, and what becomes of it along a direction, with decisions.

    Args:
        image: (1, c, h, w) in [0, 1].
        direction: like ``space.center``; its own length plays no part.
        steps_along: signed, in spreads.
        class_names: of the classes.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    checked = CheckedSpace(space)
    image = validate.images(image, "image")
    if len(image) != 1:
        raise ValueError(f"image: expected a single one, got {len(image)}")
    steps = torch.from_numpy(validate.array(steps_along, "steps_along", 1)).float()
    if not len(steps) or len(steps) > FEW or not steps.isfinite().all():
        raise ValueError(
            f"steps_along: expected 1 to {FEW} numbers of ordinary size, got {validate.describe(steps_along)}"
        )
    with eval_frozen(space, classifier):
        code = checked.encode(image)
        step = heading(checked, direction, 1).to(code.z)
        aux = None if code.aux is None else code.aux.expand(len(steps), *code.aux.shape[1:])
        moved = code.z + steps.to(code.z).view(-1, *[1] * (code.z.ndim - 1)) * step
        made = validate.images(checked.decode(type(code)(moved, aux)), "space.decode")
        if made.shape[1:] != image.shape[1:]:
            raise ValueError(
                f"space.decode: expected images like the one given, {tuple(image.shape[1:])}, got "
                f"{tuple(made.shape[1:])}"
            )
        shown = torch.cat([image, made.to(image)])
        logits = finite_predict_logits(classifier, shown)
    best, sure = logits.argmax(1).tolist(), logits.softmax(1).amax(1).tolist()
    classes = range(logits.shape[1])
    known = (
        classes
        if class_names is None
        else validate.class_names(class_names, "class_names", len(classes))
    )
    told = [str(known[i]) for i in best]
    titles = ["image", *[f"{x:+.1f}" for x in steps.tolist()]]
    fig, axes = figure(1, len(shown), (1.1 * len(shown), 1.9))
    for ax, one, title, decision, p in zip(axes[0], shown, titles, told, sure, strict=True):
        draw(ax, one, title)
        ax.set_xlabel(f"{decision} {p:.0%}", fontsize=8)
    return as_picture(
        fig,
        f"An image decided as {told[0]}, and what becomes of it "
        + ", ".join(f"{t} spreads along: {d}" for t, d in zip(titles[1:], told[1:], strict=True)),
    )
