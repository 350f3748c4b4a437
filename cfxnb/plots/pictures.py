"""Pictures of results. They read results and are imported by nothing below them.

Colours are those of Okabe & Ito, which most colour-blind people can tell apart; no statement
rests on colour alone. Every picture carries a text that says what is to be seen.
"""

import base64
import html
import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import finite_rows
from cfxnb.core.types import FLIPPED

BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, "#56B4E9", "#F0E442", "#000000")


MOST = 1000  # images in one picture


class Picture:
    """A drawn figure with its alternative text; shows itself in a notebook.

    Attributes:
        alt: what is to be seen, in words.
        png: the picture's bytes.
    """

    def __init__(self, png: bytes, alt: str) -> None:
        self.png = validate.instance(png, bytes, "png", "the bytes of a picture")
        if not png:
            raise ValueError("png: expected the bytes of a picture, got none")
        self.alt = checked_alt(alt)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        # JupyterLab drops the alternative text of plain images, so it gets HTML beside it.
        data = {
            "text/html": self.html(),
            "image/png": base64.b64encode(self.png).decode(),
            "text/plain": self.alt,
        }
        return data, {"image/png": {"alt": self.alt}}

    def html(self) -> str:
        source = base64.b64encode(self.png).decode()
        return f'<img alt="{html.escape(self.alt)}" src="data:image/png;base64,{source}">'

    def __repr__(self) -> str:
        return f"Picture: {self.alt}"


def as_picture(figure: Figure, alt: str) -> Picture:
    """Draw a matplotlib figure, with the text that stands for it where it can't be seen.

    Raises:
        ValueError, TypeError: if there is no figure, or ``alt`` is no text or says nothing.
    """
    validate.instance(figure, Figure, "figure", "a matplotlib Figure")
    checked_alt(alt)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90, bbox_inches="tight", facecolor="white")
    return Picture(buffer.getvalue(), alt)


def checked_alt(alt: Any) -> str:
    """A sentence for those who don't see the picture."""
    if not validate.instance(alt, str, "alt", "a sentence").strip():
        raise ValueError("alt: expected a sentence that says what is to be seen, got nothing")
    return alt


def figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, np.ndarray]:
    """A figure outside pyplot's registry: nothing to close, nothing shown twice."""
    drawn = Figure(figsize=size, layout="constrained")
    return drawn, drawn.subplots(rows, columns, squeeze=False)


def draw(axes: Any, image: Tensor, title: str = "") -> None:
    """One image (c, h, w), gray or RGB, without ticks."""
    shown = image.detach().cpu().float().clamp(0, 1)
    array = shown[0].numpy() if len(shown) == 1 else shown.permute(1, 2, 0).numpy()
    axes.imshow(array, cmap="gray", vmin=0, vmax=1)
    _frame(axes, title)


def _frame(axes: Any, title: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if title:
        axes.set_title(title, fontsize=9)


def folded(title: str, width: int = 20) -> str:
    """A title in lines of at most ``width`` letters, so that neighbours don't run into it."""
    return "\n".join(textwrap.fill(line, width) for line in title.split("\n"))


def gallery(
    images: Tensor,
    titles: Sequence[str] | None = None,
    *,
    n_columns: int = 10,
    row_labels: Sequence[str] | None = None,
    alt: str,
) -> Picture:
    """Images (n, c, h, w) side by side, row by row.

    Args:
        images: gray or coloured. Floats out of [0, 1], as of noise, are drawn as black or white.
        titles: above each image.
        n_columns: at most.
        row_labels: names of the rows, at their left.
        alt: what is to be seen, in words.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them another number of titles
            than of images, or of names than of rows, and images that are not finite.
    """
    checked_alt(alt)
    images = _drawable(images)
    max_images = len(images)
    n_columns = max(1, min(validate.count(n_columns, "n_columns", 1), max_images))
    lines = max(1, -(-max_images // n_columns))
    titles = None if titles is None else validate.texts(titles, "titles", max_images)
    row_labels = None if row_labels is None else validate.texts(row_labels, "row_labels", lines)
    side = 1.05 if n_columns > 3 else 1.9  # inches; a few images may be larger
    margin = 0.0 if row_labels is None else 1.1
    height = side + (0.3 if titles else 0.05)
    fig, axes = figure(lines, n_columns, (side * n_columns + margin, height * lines))
    for place in axes.flat[max_images:]:
        place.axis("off")
    for i in range(max_images):
        draw(axes.flat[i], images[i], "" if titles is None else titles[i])
    for line, name in zip(axes, row_labels or (), strict=False):
        line[0].set_ylabel(folded(name, 16), fontsize=9, rotation=0, ha="right", va="center")
    return as_picture(fig, alt)


def _drawable(value: Any) -> Tensor:
    """Images that can be drawn: finite, gray or coloured; there may be none."""
    plain = isinstance(value, Tensor) and value.ndim == 4 and value.layout == torch.strided
    if plain and value.is_floating_point() and not value.is_meta and 0 not in value.shape[1:]:
        if not value.isfinite().all():
            raise ValueError("images: expected finite numbers, got NaN or infinity")
        checked = value.detach().cpu().float()
    else:
        checked = validate.images(value)
    if checked.shape[1] not in (1, 3):
        raise ValueError(f"images: expected 1 or 3 channels, got shape {tuple(checked.shape)}")
    if len(checked) > MOST:
        raise ValueError(f"images: expected {MOST} at most in one picture, got {len(checked)}")
    return checked


@standard_modes
def show(
    cf: Counterfactuals,
    *,
    max_images: int = 8,
    judge: Any = None,
    class_names: Sequence[str] | None = None,
) -> Picture:
    """Original, reconstruction, counterfactual and difference of the first images.

    One column an image; of three images or fewer, one row an image.

    Args:
        max_images: images at most.
        judge: an independent classifier whose reading is written above each counterfactual.
        class_names: of the classes.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them a result without images
            to show, and a judge whose logits are not finite.
    """
    whole = validate_results.result(cf, "cf")
    part = whole[_shown(whole)]
    part = part[slice(0, validate.count(max_images, "max_images", 1, MOST))]
    if not len(part):
        raise ValueError(f"cf: expected images to show, got {cf!r}")
    n = len(part)
    classes = range(part.logits_before.shape[1])
    known = (
        classes
        if class_names is None
        else validate.class_names(class_names, "class_names", len(classes))
    )

    def name(number: int) -> str:
        return str(known[number])

    kinds = ["original", "reconstruction", "counterfactual", "difference"]
    if torch.equal(part.reconstruction, part.original):
        kinds.remove("reconstruction")
    wide = n <= 3
    # Rows are so high that an image may have four lines of words above it.
    shape, height = ((n, len(kinds)), 1.8) if wide else ((len(kinds), n), 1.45)
    fig, axes = figure(*shape, (1.4 * shape[1] + 0.4, height * shape[0] + 0.3))
    axes = axes if wide else axes.T
    seen, now = part.logits_before.argmax(1).tolist(), part.logits_after.argmax(1).tolist()
    sure = part.logits_after.softmax(1).amax(1).tolist()
    read = None
    if judge is not None:
        checked = CheckedClassifier(judge, "judge")
        with eval_frozen(judge), torch.no_grad():
            own = validate.recorded_names(part.made_by)
            read = validate.same_classes(checked, part.image, len(classes), "judge", own).tolist()
    for i in range(n):
        titles = dict.fromkeys(kinds, "")
        titles["original"] = f"seen as {name(seen[i])}"
        verdict = "" if read is None else f"\njudge: {name(read[i])}"
        failed = "" if part.status[i] == FLIPPED else f"{part.status[i].replace('_', ' ')}\n"
        seen_now = f"seen as {name(now[i])} ({sure[i]:.0%})"
        titles["counterfactual"] = f"{failed}{seen_now}{verdict}"
        for place, kind in zip(axes[i], kinds, strict=True):
            title = folded(f"{kind}\n{titles[kind]}".strip() if wide else titles[kind])
            if kind == "difference":
                _draw_change(place, part.image[i] - part.reconstruction[i], title)
            else:
                field = "image" if kind == "counterfactual" else kind
                draw(place, getattr(part, field)[i], title)
            if i == 0 and not wide:
                place.set_ylabel(kind, fontsize=9)
    told = "; ".join(
        f"{name(a)} to {name(b)} ({s})" for a, b, s in zip(seen, now, part.status, strict=True)
    )
    verdict = "" if read is None else f" The judge reads {', '.join(map(name, read))}."
    each = "row" if wide else "column"
    return as_picture(fig, f"Originals and counterfactuals, one {each} an image: {told}.{verdict}")


def _shown(cf: Counterfactuals) -> Tensor:
    """Rows with an image and a decision to be shown, bool (n,)."""
    decided = ~(cf.logits_after.isnan() | cf.logits_after.isposinf()).any(1)
    return (finite_rows(cf.image) & decided.to(cf.image.device)).cpu()


def _draw_change(axes: Any, change: Tensor, title: str) -> None:
    """Purple got brighter, orange darker; channels are added up."""
    axes.imshow(change.sum(0).cpu().numpy(), cmap="PuOr", vmin=-1, vmax=1)
    _frame(axes, title)


def html_strip(cf: Counterfactuals) -> str:
    """How a result shows itself: a sentence and the first few samples."""
    return f"<p>{html.escape(repr(cf))}</p>" + (
        show(cf, max_images=6).html() if _shown(cf).any() else ""
    )
