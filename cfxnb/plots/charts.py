"""Charts of numbers: lines, bars and scatter plots."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from cfxnb.core import validate
from cfxnb.plots.pictures import (
    CYCLE,
    Picture,
    chart_size,
    checked_alt,
    cycle,
    figure,
    finished,
    font,
    given_axes,
    ink,
)

MAX_CLASSES = 100  # in one map


def curves(
    x: Sequence[float] | np.ndarray,
    lines: Mapping[str, Any],
    *,
    xlabel: str,
    ylabel: str,
    tick_labels: Sequence[str] | None = None,
    alt: str | None = None,
    ax: Any = None,
) -> Picture | Any:
    """Draw lines that differ in colour, dash and marker.

    Args:
        x: Finite numbers, (n,).
        lines: Dict from the name of each line to its values, (n,). A value of NaN makes a gap in a
            line.
        xlabel, ylabel: Labels of the axes.
        tick_labels: One text per value of ``x``, written below the horizontal axis. Default: the
            values.
        alt: Text that describes the picture. Default: first value, last value and range of each
            line.
        ax: Axes of matplotlib to draw into. Default: a new figure.

    Returns:
        A Picture, or ``ax`` if axes were given.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    checked_alt(alt, may_be_none=True)
    x = validate.drawable(x, "x", 1)
    validate.instance(lines, Mapping, "lines", "a dict: name -> numbers")
    if not lines or len(lines) > len(CYCLE):
        raise ValueError(f"lines: expected 1 to {len(CYCLE)} lines, got {len(lines)}")
    drawn = {}
    for label, values in lines.items():
        name = f"lines[{validate.text(label, 'lines')[:60]!r}]"
        drawn[label] = validate.drawable(values, name, 1, gaps=True)
        if len(drawn[label]) != len(x):
            raise ValueError(f"{name}: expected {len(x)} numbers as in x, got {len(drawn[label])}")
    if tick_labels is not None:
        tick_labels = validate.texts(tick_labels, "tick_labels", len(x))
    fig, panel = _panel(ax, chart_size(5.2, 2.8))
    styles = zip(cycle(), ("-", "--", "-.", ":") * 2, "os^Dvxp*", strict=False)
    for (label, y), (colour, dash, marker) in zip(drawn.items(), styles, strict=False):
        panel.plot(x, y, dash, marker=marker, ms=3.5, color=colour, label=label)
    if tick_labels is not None:
        panel.set_xticks(x, tick_labels)
    panel.set_xlabel(validate.text(xlabel, "xlabel"))
    panel.set_ylabel(validate.text(ylabel, "ylabel"))
    panel.legend(fontsize=font(0.8, "legend.fontsize"))
    panel.grid(alpha=0.25)
    if alt is None:
        places = [str(label) for label in tick_labels] if tick_labels else [_say(v) for v in x]
        told = [f"{label}: {_describe_line(places, y)}" for label, y in drawn.items()]
        alt = f"{ylabel} over {xlabel}. {'; '.join(told)}."
    return finished(fig, ax, alt)


def _describe_line(places: Sequence[str], y: np.ndarray) -> str:
    """Return the ends of a line, and its extremes if they are not at the ends, as text."""
    known = np.flatnonzero(~np.isnan(y))
    if not len(known):
        return "no values"
    first, last = known[0], known[-1]
    text = f"{_say(y[first])} at {places[first]}"
    if last > first:
        text += f", {_say(y[last])} at {places[last]}"
    for word, place in (("lowest", int(np.nanargmin(y))), ("highest", int(np.nanargmax(y)))):
        if y[place] not in (y[first], y[last]):
            text += f", {word} {_say(y[place])} at {places[place]}"
    return text


def _say(value: float) -> str:
    """Return a number with three significant digits."""
    return f"{value:.3g}"


def _panel(ax: Any, size: tuple[float, float]) -> tuple[Any, Any]:
    """Return a new figure and its axes, or None and the axes of the caller."""
    if ax is not None:
        return None, given_axes(ax, 1, 1, "ax")[0, 0]
    fig, grid = figure(1, 1, size)
    return fig, grid[0, 0]


def code_map(
    points: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    *,
    alt: str | None = None,
    ax: Any = None,
) -> Picture | Any:
    """Draw points in a plane, each as the name of its class.

    Args:
        points: Two coordinates per point, (n, 2).
        labels: Class of each point, (n,).
        class_names: A digit, a letter or a short word per class.
        alt: Text that describes the picture. Default: how many points of each class there are, and
            where they lie.
        ax: Axes of matplotlib to draw into. Default: a new figure.

    Returns:
        A Picture, or ``ax`` if axes were given.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    checked_alt(alt, may_be_none=True)
    xy = validate.drawable(points, "points", 2)
    if xy.shape[1] != 2:
        raise ValueError(f"points: expected shape (n, 2), got {xy.shape}")
    names = validate.texts(class_names, "class_names")
    wrong = [n for n in names if not n.strip() or set(n) & set("$\\_^{}") or len(n) > 20]
    if wrong or not 0 < len(names) <= MAX_CLASSES:
        raise ValueError(f"class_names: expected a few letters per class, got {names[:20]}"[:200])
    classes = validate.labels(labels, len(xy), len(names), "labels").cpu().numpy()
    fig, panel = _panel(ax, chart_size(5.6, 4.6))
    palette = (*cycle(), "#999999", "#882255")
    for c, name in enumerate(names):
        rows = classes == c
        panel.scatter(*xy[rows].T, s=34, marker=f"${name}$", color=palette[c % len(palette)], lw=0)
    panel.set_xlabel("first component")
    panel.set_ylabel("second component")
    if alt is None:
        told = []
        for c in np.unique(classes):
            mean = ", ".join(map(_say, xy[classes == c].mean(0)))
            told.append(f"{names[c]}: {(classes == c).sum()}, mean ({mean})")
        alt = f"Points in a plane, {len(xy)} in all. {'; '.join(told)}."
    return finished(fig, ax, alt)


def _numbers(
    value: Any, name: str, must: tuple[str, ...], may: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Return the columns of a table as floats. Values may be NaN.

    Args:
        value: The table. A Series stands for a table with the single column "mean".
        name: Name of the argument, for error messages.
        must: Columns that the table must have.
        may: Optional columns, returned only if the table has all columns of ``may``.
    """
    if isinstance(value, pd.Series) and must == ("mean",):
        value = value.to_frame("mean")
    table: pd.DataFrame = validate.instance(value, pd.DataFrame, name, "a table of numbers")
    if not len(table) or not table.index.is_unique or not table.columns.is_unique:
        raise ValueError(
            f"{name}: expected unique rows, at least one, "
            f"got {validate.describe(list(table.index))}"
        )
    if missing := [column for column in must if column not in table]:
        raise ValueError(f"{name}: expected a column {missing[0]!r}, got {list(table)[:10]}")
    chosen = [*must, *(may if set(may) <= set(table) else ())]
    columns = {c: validate.drawable(table[c], f"{name}[{c!r}]", 1, gaps=True) for c in chosen}
    return pd.DataFrame(columns, index=table.index)


def bars(
    table: pd.DataFrame | pd.Series,
    *,
    null: pd.DataFrame | None = None,
    sort: bool = True,
    xlabel: str = "mean change of the log odds",
    alt: str | None = None,
    ax: Any = None,
) -> Picture | Any:
    """Draw one horizontal bar per row of a table, with the interval of its value.

    Args:
        table: A Series, or a DataFrame with the column ``mean`` and optionally ``low`` and
            ``high``. A row of NaN has no bar.
        null: A DataFrame with the rows of ``table`` and the columns ``low`` and ``high``, the ends
            of the range in which 95 % of the values would lie by chance. The range of chance is
            drawn as a gray band.
        sort: If True, the longest bar is drawn on top. If ``sort`` is False, the first row is on
            top.
        xlabel: Label of the horizontal axis.
        alt: Text that describes the picture. Default: the value of each bar.
        ax: Axes of matplotlib to draw into. Default: a new figure.

    Returns:
        A Picture, or ``ax`` if axes were given.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    checked_alt(alt, may_be_none=True)
    validate.flag(sort, "sort")
    validate.text(xlabel, "xlabel")
    frame = _numbers(table, "table", ("mean",), ("low", "high"))
    if null is not None:
        null = _numbers(null, "null", ("low", "high"))
        if missing := [name for name in frame.index if name not in null.index]:
            raise ValueError(f"null: expected the rows of table, got no row {missing[0]!r}")
    order = frame["mean"].abs().sort_values().index if sort else frame.index[::-1]
    frame = frame.reindex(order)
    fig, panel = _panel(ax, (5.6, 0.34 * len(frame) + 0.9))
    y = np.arange(len(frame))
    if null is not None:
        band = null.reindex(frame.index)
        panel.barh(
            y, band["high"] - band["low"], left=band["low"], height=0.9, color=ink(), alpha=0.2,
            label="null (95 %)",
        )  # fmt: skip
        panel.legend(fontsize=font(0.8, "legend.fontsize"), loc="lower right")
    palette = cycle()
    colours = [palette[0] if v >= 0 else palette[3] for v in frame["mean"]]
    panel.barh(y, frame["mean"], height=0.55, color=colours)
    if {"low", "high"} <= set(frame):
        error = [frame["mean"] - frame["low"], frame["high"] - frame["mean"]]
        panel.errorbar(frame["mean"], y, xerr=error, fmt="none", color=ink(), lw=1, capsize=2)
    panel.axvline(0, color=ink(), lw=0.8)
    panel.set_yticks(y, [str(label) for label in frame.index])
    panel.set_xlabel(xlabel)
    if alt is None:
        shown = frame.iloc[::-1]  # from top to bottom
        told = [f"{label} {_say(value)}" for label, value in shown["mean"].items()]
        alt = f"Bars, {xlabel}, from top to bottom: {', '.join(told)}."
    return finished(fig, ax, alt)
