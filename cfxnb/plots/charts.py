"""Charts: lines, bars and maps of numbers, in the colours of ``plots``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from cfxnb.core import validate
from cfxnb.plots.pictures import BLUE, CYCLE, RED, Picture, as_picture, checked_alt, figure

MOST = 100  # classes in one map


def curves(
    x: Sequence[float] | np.ndarray,
    lines: Mapping[str, Any],
    *,
    xlabel: str,
    ylabel: str,
    tick_labels: Sequence[str] | None = None,
    alt: str,
) -> Picture:
    """Named lines over one axis, told apart by colour, dash and marker.

    Args:
        x: finite numbers, (n,).
        lines: name -> numbers, (n,); NaN leaves a gap.
        tick_labels: words for the values of ``x``, where numbers say nothing.
        alt: what is to be seen, in words.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    checked_alt(alt)
    x = validate.drawable(x, "x", 1)
    validate.instance(lines, Mapping, "lines", "a dict: name -> numbers")
    if not lines or len(lines) > len(CYCLE):
        raise ValueError(f"lines: expected 1 to {len(CYCLE)} of them, got {len(lines)}")
    drawn = {}
    for label, values in lines.items():
        name = f"lines[{validate.text(label, 'lines')[:60]!r}]"
        drawn[label] = validate.drawable(values, name, 1, gaps=True)
        if len(drawn[label]) != len(x):
            raise ValueError(f"{name}: expected {len(x)} numbers as in x, got {len(drawn[label])}")
    words = None if tick_labels is None else validate.texts(tick_labels, "tick_labels", len(x))
    fig, axes = figure(1, 1, (5.2, 2.8))
    styles = zip(CYCLE, ("-", "--", "-.", ":") * 2, "os^Dvxp*", strict=False)
    for (label, y), (colour, dash, marker) in zip(drawn.items(), styles, strict=False):
        axes[0, 0].plot(x, y, dash, marker=marker, ms=3.5, color=colour, label=label)
    if words is not None:
        axes[0, 0].set_xticks(x, words)
    axes[0, 0].set_xlabel(validate.text(xlabel, "xlabel"))
    axes[0, 0].set_ylabel(validate.text(ylabel, "ylabel"))
    axes[0, 0].legend(fontsize=8)
    axes[0, 0].grid(alpha=0.25)
    return as_picture(fig, alt)


def code_map(points: Tensor, labels: Tensor, class_names: Sequence[str], *, alt: str) -> Picture:
    """Points as the digit or letter of their class.

    Args:
        points: (n, 2).
        labels: the class of each, (n,).
        class_names: a digit, a letter or a short word for each class.
        alt: what is to be seen, in words.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    checked_alt(alt)
    xy = validate.drawable(points, "points", 2)
    if xy.shape[1] != 2:
        raise ValueError(f"points: expected shape (n, 2), got {xy.shape}")
    listed = validate.texts(class_names, "class_names")
    wrong = [n for n in listed if not n.strip() or set(n) & set("$\\_^{}") or len(n) > 20]
    if wrong or not 0 < len(listed) <= MOST:
        raise ValueError(
            f"class_names: expected a few letters for each class, got {listed[:20]}"[:200]
        )
    classes = validate.labels(labels, len(xy), len(listed), "labels").cpu().numpy()
    fig, axes = figure(1, 1, (5.6, 4.6))
    place = axes[0, 0]
    palette = (*CYCLE, "#999999", "#882255")
    for c, name in enumerate(listed):
        rows = classes == c
        place.scatter(*xy[rows].T, s=34, marker=f"${name}$", color=palette[c % len(palette)], lw=0)
    place.set_xlabel("first component")
    place.set_ylabel("second component")
    return as_picture(fig, alt)


def _numbers(
    value: Any, name: str, must: tuple[str, ...], may: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Those columns as floats, each row once; NaN stands for none."""
    if isinstance(value, pd.Series) and must == ("mean",):
        value = value.to_frame("mean")
    table: pd.DataFrame = validate.instance(value, pd.DataFrame, name, "a table of numbers")
    if not len(table) or not table.index.is_unique or not table.columns.is_unique:
        raise ValueError(
            f"{name}: expected one row or more, each once, got {validate.describe(list(table.index))}"
        )
    if missing := [column for column in must if column not in table]:
        raise ValueError(f"{name}: expected a column {missing[0]!r}, got {list(table)[:10]}")
    known = [*must, *(may if set(may) <= set(table) else ())]
    columns = {c: validate.drawable(table[c], f"{name}[{c!r}]", 1, gaps=True) for c in known}
    return pd.DataFrame(columns, index=table.index)


def bars(
    table: pd.DataFrame | pd.Series,
    *,
    null: pd.DataFrame | None = None,
    sort: bool = True,
    xlabel: str = "mean change of the log odds",
    alt: str,
) -> Picture:
    """Signed bars with intervals, the longest on top.

    Args:
        table: a Series, or a DataFrame with ``mean`` and perhaps ``low`` and ``high``. A row of
            NaN has no bar.
        null: a DataFrame with ``low`` and ``high`` for the same rows: the range that chance
            explains, drawn as a gray band.
        sort: whether by length; else the first row is on top.
        alt: what is to be seen, in words.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    checked_alt(alt)
    validate.flag(sort, "sort")
    validate.text(xlabel, "xlabel")
    frame = _numbers(table, "table", ("mean",), ("low", "high"))
    if null is not None:
        null = _numbers(null, "null", ("low", "high"))
        if missing := [name for name in frame.index if name not in null.index]:
            raise ValueError(f"null: expected the rows of table, got none for {missing[0]!r}")
    order = frame["mean"].abs().sort_values().index if sort else frame.index[::-1]
    frame = frame.reindex(order)
    fig, axes = figure(1, 1, (5.6, 0.34 * len(frame) + 0.9))
    place = axes[0, 0]
    y = np.arange(len(frame))
    if null is not None:
        band = null.reindex(frame.index)
        place.barh(
            y, band["high"] - band["low"], left=band["low"], height=0.9, color="#CCCCCC",
            label="null (95 %)",
        )  # fmt: skip
        place.legend(fontsize=8, loc="lower right")
    colours = [BLUE if v >= 0 else RED for v in frame["mean"]]
    place.barh(y, frame["mean"], height=0.55, color=colours)
    if {"low", "high"} <= set(frame):
        max_step = [frame["mean"] - frame["low"], frame["high"] - frame["mean"]]
        place.errorbar(frame["mean"], y, xerr=max_step, fmt="none", color="black", lw=1, capsize=2)
    place.axvline(0, color="black", lw=0.8)
    place.set_yticks(y, [str(label) for label in frame.index])
    place.set_xlabel(xlabel)
    return as_picture(fig, alt)
