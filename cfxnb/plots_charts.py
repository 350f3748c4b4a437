"""Charts: lines, bars and maps of numbers, in the colours of ``plots``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from cfxnb.plots import BLUE, CYCLE, RED, Picture, figure, picture


def curves(
    x: Sequence[float] | np.ndarray,
    lines: Mapping[str, Any],
    *,
    xlabel: str,
    ylabel: str,
    ticks: Sequence[str] | None = None,
    alt: str,
) -> Picture:
    """Named lines over one axis, told apart by colour, dash and marker.

    Args:
        ticks: words for the values of ``x``, where numbers say nothing.
    """
    fig, axes = figure(1, 1, (5.2, 2.8))
    styles = zip(CYCLE, ("-", "--", "-.", ":") * 2, "os^Dvxp*", strict=False)
    for (label, values), (colour, dash, marker) in zip(lines.items(), styles, strict=False):
        y = np.asarray(values, dtype=float)
        axes[0, 0].plot(x, y, dash, marker=marker, ms=3.5, color=colour, label=label)
    if ticks is not None:
        axes[0, 0].set_xticks(list(x), list(ticks))
    axes[0, 0].set_xlabel(xlabel)
    axes[0, 0].set_ylabel(ylabel)
    axes[0, 0].legend(fontsize=8)
    axes[0, 0].grid(alpha=0.25)
    return picture(fig, alt)


def code_map(points: Tensor, labels: Tensor, names: Sequence[str], *, alt: str) -> Picture:
    """Points (n, 2) as the digit or letter of their class."""
    fig, axes = figure(1, 1, (5.6, 4.6))
    place = axes[0, 0]
    xy = points.detach().cpu().numpy()
    palette = (*CYCLE, "#999999", "#882255")
    for c, name in enumerate(names):
        rows = (labels == c).cpu().numpy()
        place.scatter(*xy[rows].T, s=34, marker=f"${name}$", color=palette[c % len(palette)], lw=0)
    place.set_xlabel("first component")
    place.set_ylabel("second component")
    return picture(fig, alt)


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
        table: a Series, or a DataFrame with ``mean`` and perhaps ``low`` and ``high``.
        null: a DataFrame with ``low`` and ``high`` for the same rows: the range that chance
            explains, drawn as a gray band.
        sort: whether by length; else the first row is on top.
    """
    frame = table.to_frame("mean") if isinstance(table, pd.Series) else table
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
        reach = [frame["mean"] - frame["low"], frame["high"] - frame["mean"]]
        place.errorbar(frame["mean"], y, xerr=reach, fmt="none", color="black", lw=1, capsize=2)
    place.axvline(0, color="black", lw=0.8)
    place.set_yticks(y, [str(name) for name in frame.index])
    place.set_xlabel(xlabel)
    return picture(fig, alt)
