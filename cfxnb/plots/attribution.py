"""Pictures of attributions."""

import html
import math
from collections.abc import Sequence

from cfxnb.attribution.result import Attribution, checked_attribution
from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.plots.pictures import MOST, Picture, as_picture, draw, figure, folded


@standard_modes
def heat_maps(
    attribution: Attribution, *, max_images: int = 6, class_names: Sequence[str] | None = None
) -> Picture:
    """Image, baseline and map of the first samples, one column a sample.

    Above each baseline stands how much higher or lower f is there than at the image.
    Purple pixels speak for the label, orange ones against it. Each map has its own scale, cut at
    the 99th percentile of its absolute values, because a few pixels would leave all others white.

    Args:
        max_images: samples at most.
        class_names: of the classes.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    checked_attribution(attribution, "attribution")
    max_images = validate.count(max_images, "max_images", 1, MOST)
    labels = attribution.label.tolist()
    known = (
        range(max(labels, default=0) + 1)
        if class_names is None
        else validate.class_names(class_names, "class_names")
    )
    if len(known) <= max(labels, default=0):
        raise ValueError(f"class_names: expected one for each class, got {list(known)}")
    part = attribution[slice(0, max_images)]
    fig, axes = figure(3, max(1, len(part)), (1.4 * max(2, len(part)) + 0.4, 4.6))
    told = []
    for i in range(len(part)):
        name, gap = str(known[labels[i]]), _gap(part.relative_delta[i].item())
        draw(axes[0, i], part.image[i], folded(f"why {name}?"))
        draw(axes[1, i], part.baseline[i], f"f {0.0 - part.output_change[i].item():+.3g}")
        heat = part.heat_map[i].detach().cpu().float()
        top = heat.abs().nan_to_num().flatten().quantile(0.99).item() or 1.0
        axes[2, i].imshow(heat.numpy(), cmap="PuOr", vmin=-top, vmax=top)
        status = part.status[i].replace("_", " ")
        axes[2, i].set_title(f"{status}\n{gap}", fontsize=9)
        axes[2, i].set_xticks([])
        axes[2, i].set_yticks([])
        told.append(f"{name} ({status}, {gap})")
    for place, kind in zip(axes[:, 0], ("image", "baseline", "heat"), strict=True):
        place.set_ylabel(kind, fontsize=9)
    return as_picture(
        fig, f"Images, baselines and heat maps, one column an image: {'; '.join(told)}."
    )


def _gap(gap: float) -> str:
    """In percent; where f hardly changes, it is so large that only its sign says anything."""
    if math.isnan(gap):
        return "gap unknown"
    if abs(gap) > 10:
        return "gap > +1000%" if gap > 0 else "gap < -1000%"
    return f"gap {gap:+.1%}"


def html_heat(attribution: Attribution) -> str:
    """How an attribution shows itself: a sentence and the first few samples."""
    shown = heat_maps(attribution).html() if len(attribution) else ""
    return f"<p>{html.escape(repr(attribution))}</p>{shown}"
