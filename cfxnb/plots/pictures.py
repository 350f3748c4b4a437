"""Pictures of counterfactuals, and the functions that all plots share.

The colours are those of Okabe & Ito, which most colour-blind people can distinguish. No plot uses
colour alone to carry information. Every picture has an alternative text that describes it.

Each plot function draws into the axes of a caller, if there are any, and returns them. Without
axes it makes a figure of its own and returns a Picture. Fonts, colours and resolution follow
matplotlib's ``rcParams``: a style that the caller has chosen wins over our defaults.
"""

import base64
import html
import io
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rcParams, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.disk import given_path, shown, writing
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.outcomes import OUTCOMES
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import finite_rows
from cfxnb.core.types import FLIPPED, Code, LatentSpace

BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, "#56B4E9", "#F0E442", "#000000")
MAX_IMAGES = 1000  # in one picture
MAX_DPI = 2400.0
FORMATS = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}


class Picture:
    """A drawn figure with its alternative text, which a notebook displays.

    Attributes:
        alt: Text that describes the picture.
        png: The picture as PNG, bytes.
        figure: The matplotlib figure, or None if only the PNG is known.
    """

    def __init__(self, png: bytes, alt: str, figure: Figure | None = None) -> None:
        self.png = validate.instance(png, bytes, "png", "the bytes of a picture")
        if not png:
            raise ValueError("png: expected the bytes of a picture, got none")
        self.alt = checked_alt(alt)
        self.figure = validate.optional(_as_figure, figure, "figure")

    def save(self, path: str | os.PathLike, *, dpi: float | None = None) -> Path:
        """Write the picture to a file, and return the path of the file.

        Args:
            path: Path of the file. The ending decides the format: ``.pdf`` and ``.svg`` are vector
                formats, in which text and lines stay sharp at any size; ``.png`` consists of
                pixels. Missing folders are created. An existing file is replaced, or kept if
                writing fails.
            dpi: Dots per inch of a PNG, and of images inside a PDF or SVG. Default:
                ``matplotlib.rcParams["savefig.dpi"]``.

        Raises:
            ValueError, TypeError: If the path has another ending or cannot be written to, or if the
                picture was made of a PNG only and another format is wanted.
        """
        place = given_path(path)
        if (ending := place.suffix.lower()) not in FORMATS:
            raise ValueError(
                f"path: expected a name that ends with {list(FORMATS)}, got {shown(path)}"
            )
        if dpi is not None:
            dpi = validate.number(dpi, "dpi", 1.0, MAX_DPI)
        if self.figure is None and (ending != ".png" or dpi is not None):
            raise ValueError(
                "path: expected a name that ends with .png and no dpi, because this picture "
                f"consists of pixels only, got {shown(path)}"
            )
        with writing(place) as partial:
            if self.figure is None:
                partial.write_bytes(self.png)
            else:
                _save_figure(self.figure, partial, ending, dpi)
        return place

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        # JupyterLab drops the alternative text of plain images, so we offer HTML too.
        data = {
            "text/html": self.html(),
            "image/png": base64.b64encode(self.png).decode(),
            "text/plain": self.alt,
        }
        return data, {"image/png": {"alt": self.alt}}

    def html(self) -> str:
        """Return the picture as an HTML image with the alternative text."""
        source = base64.b64encode(self.png).decode()
        return f'<img alt="{html.escape(self.alt)}" src="data:image/png;base64,{source}">'

    def __repr__(self) -> str:
        return f"Picture: {self.alt}"


def as_picture(figure: Figure, alt: str) -> Picture:
    """Return a matplotlib figure as a Picture.

    Args:
        figure: The figure.
        alt: Text that describes the picture for readers who cannot see it.

    Raises:
        ValueError, TypeError: If ``figure`` is not a matplotlib Figure, or ``alt`` is not a text
            or is empty.
    """
    validate.instance(figure, Figure, "figure", "a matplotlib Figure")
    checked_alt(alt)
    buffer = io.BytesIO()
    _save_figure(figure, buffer, ".png", None)
    return Picture(buffer.getvalue(), alt, figure)


def _save_figure(figure: Figure, place: Any, ending: str, dpi: float | None) -> None:
    """Write a figure in the style of ``rcParams``, without the time of day."""
    figure.savefig(
        place,
        format=ending[1:],
        dpi=rcParams["savefig.dpi"] if dpi is None else dpi,
        bbox_inches="tight",
        metadata=FORMATS[ending],
    )


def _as_figure(value: Any, name: str) -> Figure:
    return validate.instance(value, Figure, name, "a matplotlib Figure")


def checked_alt(alt: Any, may_be_none: bool = False) -> Any:
    """Return the alternative text ``alt``, or raise an error if it is empty or not a str.

    If ``may_be_none`` is True, the plot function describes what it draws if ``alt`` is None.
    """
    if alt is None and may_be_none:
        return None
    if not validate.instance(alt, str, "alt", "a sentence").strip():
        raise ValueError("alt: expected a sentence that describes the picture, got an empty text")
    return alt


def figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, np.ndarray]:
    """Return a new matplotlib figure and an array of axes, (rows, columns).

    The figure is made without pyplot, and therefore need not be closed.
    """
    larger = max(1.0, rcParams["font.size"] / rcParamsDefault["font.size"])
    drawn = Figure(figsize=(larger * size[0], larger * size[1]), layout="constrained")
    return drawn, drawn.subplots(rows, columns, squeeze=False)


def given_axes(value: Any, rows: int, columns: int, name: str = "axes") -> np.ndarray:
    """Return the axes of a caller as an array (rows, columns).

    Args:
        value: One axes, a list of axes, or an array of axes as ``plt.subplots`` returns.
        rows, columns: Layout of the picture. The axes are taken in the order of rows.
        name: Name of the argument, for messages.

    Raises:
        ValueError, TypeError: If the value does not hold as many axes as the picture has panels.
    """
    one = isinstance(value, Axes)
    plain = one or isinstance(value, list | tuple | np.ndarray)
    flat = np.empty(0, object)
    if plain:
        flat = np.array([value] if one else value, dtype=object).ravel()
    if not plain or not all(isinstance(each, Axes) for each in flat):
        raise TypeError(f"{name}: expected axes of matplotlib, got {validate.describe(value)}")
    if len(flat) != rows * columns:
        panels = "one axes" if rows * columns == 1 else f"{rows} x {columns} axes"
        raise ValueError(f"{name}: expected {panels}, got {len(flat)}")
    return flat.reshape(rows, columns)


def finished(figure: Figure | None, given: Any, alt: str) -> Any:
    """Return a Picture of our own figure, or the axes of the caller if there is no figure."""
    if figure is None:
        return given
    picture = as_picture(figure, alt)
    figure.set_layout_engine("none")  # later files look the same: the layout is not computed again
    return picture


def font(scale: float, setting: Any = "font.size") -> Any:
    """Return a font size: ``scale`` times the size of ordinary text.

    If the caller has changed the rcParam ``setting``, such as "legend.fontsize", this wins.
    """
    own, usual = (dict(params).get(setting) for params in (rcParams, rcParamsDefault))
    if setting != "font.size" and own != usual:
        return own
    return scale * rcParams["font.size"]


def cycle() -> list[str]:
    """Return the colours of lines and bars: those of the caller's style, or of Okabe & Ito."""
    own = rcParams["axes.prop_cycle"].by_key().get("color", [])
    usual = rcParamsDefault["axes.prop_cycle"].by_key()["color"]
    if not own or own == usual:
        return list(CYCLE)
    return [to_hex(own[i % len(own)]) for i in range(len(CYCLE))]


def ink() -> str:
    """Return the colour of text and thin lines: black, or white in a dark style."""
    return to_hex(rcParams["text.color"])


def chart_size(width: float, height: float) -> tuple[float, float]:
    """Return the size of a chart in inches: ``figure.figsize`` if the caller has changed it."""
    own = tuple(rcParams["figure.figsize"])
    return (own[0], own[1]) if own != tuple(rcParamsDefault["figure.figsize"]) else (width, height)


def draw(axes: Any, image: Tensor, title: str = "") -> None:
    """Draw one gray or RGB image (c, h, w) into ``axes``, without ticks."""
    shown = image.detach().cpu().float().clamp(0, 1)
    array = shown[0].numpy() if len(shown) == 1 else shown.permute(1, 2, 0).numpy()
    axes.imshow(array, cmap="gray", vmin=0, vmax=1)
    _frame(axes, title)


def _frame(axes: Any, title: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if title:
        axes.set_title(title, fontsize=font(0.9, "axes.titlesize"))


def wrap_lines(title: str, width: int = 20) -> str:
    """Break a title into lines of at most ``width`` letters, so that titles do not overlap."""
    return "\n".join(textwrap.fill(line, width) for line in title.split("\n"))


def names_of(class_names: Any, count: int) -> list[str]:
    """Return the names of ``count`` classes, which are numbers if ``class_names`` is None."""
    if class_names is None:
        return [str(number) for number in range(count)]
    return list(validate.class_names(class_names, "class_names", count))


def decoded(space: LatentSpace, code: Code, like: Tensor) -> Tensor:
    """Return the images of codes, after checking that they have the size of the images ``like``."""
    made = validate.images(space.decode(code), "space.decode")
    validate.shape(made.shape[1:], like.shape[1:], "space.decode", "the shape of the image,")
    return made


def gallery(
    images: Tensor,
    titles: Sequence[str] | None = None,
    *,
    n_columns: int = 10,
    row_labels: Sequence[str] | None = None,
    alt: str | None = None,
    axes: Any = None,
) -> Picture | Any:
    """Return a Picture of images in rows, each image with an optional title.

    Args:
        images: Gray or RGB images, (n, c, h, w). Values outside [0, 1] are drawn as black or
            white.
        titles: One title per image.
        n_columns: Largest number of images per row.
        row_labels: One label per row of images, drawn at the left of the row.
        alt: Text that describes the picture. Default: the number of images, their titles and the
            labels of the rows.
        axes: Axes of matplotlib to draw into, one per place of the grid: rows x ``n_columns``.
            Default: a new figure.

    Returns:
        A Picture, or ``axes`` if axes were given.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    checked_alt(alt, may_be_none=True)
    images = _drawable(images)
    n = len(images)
    n_columns = max(1, min(validate.count(n_columns, "n_columns", 1), n))
    n_rows = max(1, -(-n // n_columns))
    titles = None if titles is None else validate.texts(titles, "titles", n)
    row_labels = None if row_labels is None else validate.texts(row_labels, "row_labels", n_rows)
    side = 1.05 if n_columns > 3 else 1.9  # inches; few images are drawn larger
    margin = 0.0 if row_labels is None else 1.1
    height = side + (0.3 if titles else 0.05)
    if axes is None:
        fig, grid = figure(n_rows, n_columns, (side * n_columns + margin, height * n_rows))
    else:
        fig, grid = None, given_axes(axes, n_rows, n_columns)
    for ax in grid.flat[n:]:
        ax.axis("off")
    for i in range(n):
        draw(grid.flat[i], images[i], "" if titles is None else titles[i])
    style: dict[str, Any] = {"fontsize": font(0.9, "axes.labelsize"), "rotation": 0, "ha": "right"}
    for row, label in zip(grid, row_labels or (), strict=False):
        row[0].set_ylabel(wrap_lines(label, 16), va="center", **style)
    if alt is None:
        alt = _describe_gallery(n, n_columns, titles, row_labels)
    return finished(fig, axes, alt)


def _describe_gallery(
    n: int, n_columns: int, titles: Sequence[str] | None, row_labels: Sequence[str] | None
) -> str:
    """Return the alternative text of a gallery."""
    size = f"{n} image{'' if n == 1 else 's'}"
    n_rows = -(-n // n_columns)
    text = f"{size} in {n_rows} rows of {n_columns}" if n_rows > 1 else f"{size} in a row"
    every = [" ".join(title.split()) for title in titles or [""] * n]
    rows = [every[i * n_columns : (i + 1) * n_columns] for i in range(n_rows)]
    labels = [" ".join(label.split()) for label in row_labels or [""] * n_rows]
    told = []
    for number, (label, row) in enumerate(zip(labels, rows, strict=True), 1):
        name = f"row {number}" if n_rows > 1 else ""
        name = f"{name}, {label}".strip(", ") if label else name
        content = "; ".join(title for title in row if title)
        if label or content:
            told.append(": ".join(part for part in (name, content) if part))
    return f"{text}. {'. '.join(told)}".strip().removesuffix(".") + "."


def _drawable(value: Any) -> Tensor:
    """Return a batch of images, which may be empty, after checking that it can be drawn."""
    plain = isinstance(value, Tensor) and value.ndim == 4 and value.layout == torch.strided
    if plain and value.is_floating_point() and not value.is_meta and 0 not in value.shape[1:]:
        if not value.isfinite().all():
            raise ValueError("images: expected finite numbers, got NaN or infinity")
        checked = value.detach().cpu().float()
    else:
        checked = validate.images(value)
    if checked.shape[1] not in (1, 3):
        raise ValueError(f"images: expected 1 or 3 channels, got shape {tuple(checked.shape)}")
    if len(checked) > MAX_IMAGES:
        raise ValueError(
            f"images: expected at most {MAX_IMAGES} in one picture, got {len(checked)}"
        )
    return checked


@standard_modes
def show(
    cf: Counterfactuals,
    *,
    max_images: int = 8,
    judge: Any = None,
    class_names: Sequence[str] | None = None,
    axes: Any = None,
) -> Picture | Any:
    """Show original, reconstruction, counterfactual and difference of the first images.

    The picture has one column per image, or one row per image if there are at most three images.
    The difference is counterfactual - reconstruction: purple pixels became brighter, and orange
    pixels became darker.

    Args:
        cf: The counterfactuals to show. Images that were not finished are left out.
        max_images: Largest number of images to show.
        judge: Independent classifier. The judge's prediction is written above each
            counterfactual.
        class_names: Names of the classes, in the order of the logits. Default: their numbers.
        axes: Axes of matplotlib to draw into: kinds x images, or images x kinds if there are at
            most three images. The kinds are original, reconstruction, counterfactual and
            difference. Methods without a space have no reconstruction. Default: a new figure.

    Returns:
        A Picture, or ``axes`` if axes were given.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    cf = validate_results.result(cf, "cf")
    part = cf[_can_be_shown(cf)]
    part = part[slice(0, validate.count(max_images, "max_images", 1, MAX_IMAGES))]
    if not len(part):
        raise ValueError(f"cf: expected images to show, got {cf!r}")
    n = len(part)
    name = names_of(class_names, part.logits_before.shape[1])
    kinds = ["original", "reconstruction", "counterfactual", "difference"]
    if torch.equal(part.reconstruction, part.original):
        kinds.remove("reconstruction")
    wide = n <= 3
    # The height leaves room for four lines of text above each image.
    shape, height = ((n, len(kinds)), 1.8) if wide else ((len(kinds), n), 1.45)
    if axes is None:
        fig, grid = figure(*shape, (1.4 * shape[1] + 0.4, height * shape[0] + 0.3))
    else:
        fig, grid = None, given_axes(axes, *shape)
    grid = grid if wide else grid.T
    before, after = part.logits_before.argmax(1).tolist(), part.logits_after.argmax(1).tolist()
    confidence = part.logits_after.softmax(1).amax(1).tolist()
    judged = None
    if judge is not None:
        checked = CheckedClassifier(judge, "judge")
        with eval_frozen(judge), torch.no_grad():
            own = validate.recorded_names(part.made_by)
            judged = validate.same_classes(checked, part.image, len(name), "judge", own).tolist()
    seen = [
        (f"seen as {name[before[i]]}", f"seen as {name[after[i]]} ({confidence[i]:.0%})")
        for i in range(n)
    ]
    if set(OUTCOMES) <= part.trace.keys():  # outcomes say more than "reached"
        table = part.outcomes
        units = table.attrs["units"]
        seen = [
            (f"{a:.4g} {units}".rstrip(), f"{b:.4g} {units}".rstrip())
            for a, b in zip(table["before"], table["after"], strict=True)
        ]
    for i in range(n):
        titles = dict.fromkeys(kinds, "")
        titles["original"] = seen[i][0]
        verdict = "" if judged is None else f"\njudge: {name[judged[i]]}"
        failed = "" if part.status[i] == FLIPPED else f"{part.status[i].replace('_', ' ')}\n"
        titles["counterfactual"] = f"{failed}{seen[i][1]}{verdict}"
        for ax, kind in zip(grid[i], kinds, strict=True):
            title = wrap_lines(f"{kind}\n{titles[kind]}".strip() if wide else titles[kind])
            if kind == "difference":
                _draw_change(ax, part.image[i] - part.reconstruction[i], title)
            else:
                field = "image" if kind == "counterfactual" else kind
                draw(ax, getattr(part, field)[i], title)
            if i == 0 and not wide:
                ax.set_ylabel(kind, fontsize=font(0.9, "axes.labelsize"))
    text = "; ".join(
        f"{a.removeprefix('seen as ')} to {name[now] if a.startswith('seen') else b} ({s})"
        for (a, b), now, s in zip(seen, after, part.status, strict=True)
    )
    verdict = "" if judged is None else f" The judge sees {', '.join(name[c] for c in judged)}."
    each = "row" if wide else "column"
    alt = f"Originals and counterfactuals, one {each} per image: {text}.{verdict}"
    return finished(fig, axes, alt)


def _can_be_shown(cf: Counterfactuals) -> Tensor:
    """Return which images have a finite counterfactual with usable logits, bool (n,)."""
    decided = ~(cf.logits_after.isnan() | cf.logits_after.isposinf()).any(1)
    return (finite_rows(cf.image) & decided.to(cf.image.device)).cpu()


def _draw_change(axes: Any, change: Tensor, title: str) -> None:
    """Draw a change of an image (c, h, w), summed over channels (purple: brighter)."""
    axes.imshow(change.sum(0).cpu().numpy(), cmap="PuOr", vmin=-1, vmax=1)
    _frame(axes, title)


def html_strip(cf: Counterfactuals) -> str:
    """Return the HTML that a notebook shows for Counterfactuals: repr and first images."""
    return f"<p>{html.escape(repr(cf))}</p>" + (
        show(cf, max_images=6).html() if _can_be_shown(cf).any() else ""
    )
