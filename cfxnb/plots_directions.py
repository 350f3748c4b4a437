"""Pictures of what a direction does: how far it must be followed, and what is seen on the way."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from cfxnb import validate
from cfxnb.methods.follow import step_lengths
from cfxnb.methods.paths import heading
from cfxnb.plots import Picture, draw, figure, picture
from cfxnb.plots_charts import curves
from cfxnb.results import Counterfactuals
from cfxnb.tensors import undisturbed
from cfxnb.types import Classifier, LatentSpace


def flip_curves(
    space: LatentSpace, results: Mapping[str, Counterfactuals], *, points: int = 25
) -> Picture:
    """Share of decisions flipped over the length of the step, one line a direction.

    Args:
        results: name -> what ``cfx.follow`` returned, with the same reach.
    """
    validate.space(space)
    lines, longest = {}, 0.0
    for name, result in results.items():
        validate.instance(result, Counterfactuals, f"results[{name!r}]")
        lengths = step_lengths(space, result)[result.eligible]
        longest = max(longest, float(result.made_by.get("reach", lengths.max())))
        lines[name] = torch.where(result.flipped[result.eligible], lengths, torch.inf)
    x = np.linspace(0, longest, points)
    shares = {n: [(v <= at + 1e-6).float().mean().item() for at in x] for n, v in lines.items()}
    told = ", ".join(f"{name} {values[-1]:.0%}" for name, values in shares.items())
    return curves(
        x,
        shares,
        xlabel="length of the step, in spreads",
        ylabel="share flipped",
        alt=f"Share of decisions flipped over the length of the step; in the end: {told}.",
    )


@torch.no_grad()
def walk_strip(
    space: LatentSpace,
    classifier: Classifier,
    image: Tensor,
    direction: Tensor,
    lengths: Sequence[float],
    *,
    names: Sequence[str] | None = None,
) -> Picture:
    """One image, and what becomes of it along a direction, with decisions.

    Args:
        image: (1, c, h, w) in [0, 1].
        direction: like ``space.center``; its own length plays no part.
        lengths: signed, in spreads.
        names: of the classes.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    validate.space(space)
    image = validate.images(image, "image")
    if len(image) != 1:
        raise ValueError(f"image: expected a single one, got {len(image)}")
    steps = torch.tensor([validate.number(x, "lengths", -float("inf")) for x in lengths])
    with undisturbed(space, classifier):
        code = space.encode(image)
        step = heading(space, direction, 1).to(code.z)
        rest = None if code.rest is None else code.rest.expand(len(steps), *code.rest.shape[1:])
        moved = code.z + steps.to(code.z).view(-1, *[1] * (code.z.ndim - 1)) * step
        shown = torch.cat([image, space.decode(type(code)(moved, rest)).to(image)])
        logits = validate.logits(classifier(shown), len(shown))
    best, sure = logits.argmax(1).tolist(), logits.softmax(1).amax(1).tolist()
    classes = range(logits.shape[1])
    known = classes if names is None else validate.names(names, "names", len(classes))
    told = [str(known[i]) for i in best]
    titles = ["image", *[f"{x:+.1f}" for x in steps.tolist()]]
    fig, axes = figure(1, len(shown), (1.1 * len(shown), 1.9))
    for ax, one, title, decision, p in zip(axes[0], shown, titles, told, sure, strict=True):
        draw(ax, one, title)
        ax.set_xlabel(f"{decision} {p:.0%}", fontsize=8)
    return picture(
        fig,
        f"An image decided as {told[0]}, and what becomes of it "
        + ", ".join(f"{t} spreads along: {d}" for t, d in zip(titles[1:], told[1:], strict=True)),
    )
