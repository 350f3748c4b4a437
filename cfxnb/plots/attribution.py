"""Pictures of attributions."""

import html
import math
from collections.abc import Sequence
from typing import Any

from cfxnb.attribution.result import Attribution, checked_attribution
from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.plots.pictures import (
    MAX_IMAGES,
    Picture,
    draw,
    figure,
    finished,
    font,
    given_axes,
    wrap_lines,
)


@standard_modes
def heat_maps(
    attribution: Attribution,
    *,
    max_images: int = 6,
    class_names: Sequence[str] | None = None,
    axes: Any = None,
) -> Picture | Any:
    """Show image, baseline and heat map of the first images, one column per image.

    f is the explained output: a logit, or the difference of two logits. The number above each
    baseline is f(baseline) - f(image). Purple pixels raise f, orange pixels lower f. Each map has
    its own colour scale, which ends at the 99th percentile of the map's absolute values. If the
    scale ended at the maximum, a few large values would leave all other pixels white.

    Args:
        attribution: The Attribution to show.
        max_images: Largest number of images to show.
        class_names: Names of the classes, in the order of the logits. Default: their numbers.
        axes: Axes of matplotlib to draw into, 3 x images: image, baseline and heat map. Default: a
            new figure.

    Returns:
        A Picture, or ``axes`` if axes were given.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    checked_attribution(attribution, "attribution")
    max_images = validate.count(max_images, "max_images", 1, MAX_IMAGES)
    labels = attribution.label.tolist()
    names = (
        range(max(labels, default=0) + 1)
        if class_names is None
        else validate.class_names(class_names, "class_names")
    )
    if len(names) <= max(labels, default=0):
        raise ValueError(f"class_names: expected one per class, got {list(names)}")
    part = attribution[slice(0, max_images)]
    if axes is None:
        fig, grid = figure(3, max(1, len(part)), (1.4 * max(2, len(part)) + 0.4, 4.6))
    else:
        fig, grid = None, given_axes(axes, 3, max(1, len(part)))
    texts = []
    for i in range(len(part)):
        name, delta = str(names[labels[i]]), _delta_text(part.relative_delta[i].item())
        draw(grid[0, i], part.image[i], wrap_lines(f"why {name}?"))
        draw(grid[1, i], part.baseline[i], f"f {0.0 - part.output_change[i].item():+.3g}")
        heat_map = part.heat_map[i].detach().cpu().float()
        top = heat_map.abs().nan_to_num().flatten().quantile(0.99).item() or 1.0
        grid[2, i].imshow(heat_map.numpy(), cmap="PuOr", vmin=-top, vmax=top)
        status = part.status[i].replace("_", " ")
        grid[2, i].set_title(f"{status}\n{delta}", fontsize=font(0.9, "axes.titlesize"))
        grid[2, i].set_xticks([])
        grid[2, i].set_yticks([])
        texts.append(f"{name} ({status}, {delta})")
    for ax, kind in zip(grid[:, 0], ("image", "baseline", "heat map"), strict=True):
        ax.set_ylabel(kind, fontsize=font(0.9, "axes.labelsize"))
    alt = f"Images, baselines and heat maps, one column per image: {'; '.join(texts)}."
    return finished(fig, axes, alt)


def _delta_text(delta: float) -> str:
    """Return the relative error of the sum of a map as a text in percent.

    For relative errors above 1000 %, the text gives only the sign: in these cases the explained
    output hardly changed, and the number means little.
    """
    if math.isnan(delta):
        return "delta unknown"
    if abs(delta) > 10:
        return "delta > +1000%" if delta > 0 else "delta < -1000%"
    return f"delta {delta:+.1%}"


def html_maps(attribution: Attribution) -> str:
    """Return the HTML that a notebook shows for an attribution: repr and heat maps."""
    shown = heat_maps(attribution).html() if len(attribution) else ""
    return f"<p>{html.escape(repr(attribution))}</p>{shown}"
