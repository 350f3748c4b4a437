"""Pictures of contrastive scores: bars with intervals, leakage, and the effect of edits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfxnb.contrastive.attribute_edits import AttributeEdits, checked_edits
from cfxnb.contrastive.contrasts import contrast_indices
from cfxnb.contrastive.scores import ContrastiveScores, checked_scores
from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier, CheckedSpace
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.prediction import finite_predict_logits
from cfxnb.core.types import Classifier, LatentSpace
from cfxnb.metrics.ground_truth import same_contrast
from cfxnb.plots.pictures import (
    Picture,
    cycle,
    decoded,
    draw,
    figure,
    finished,
    font,
    given_axes,
    ink,
    names_of,
    wrap_lines,
)


def score_bars(
    scores: ContrastiveScores,
    *,
    truth: ContrastiveScores | None = None,
    title: str = "",
    ax: Any = None,
) -> Picture | Any:
    """Draw necessity and sufficiency of each attribute as bars with intervals.

    Attributes are sorted by their score PNS (probability of necessity and sufficiency), the highest
    first.

    Args:
        scores: Result of ``contrastive_scores``.
        truth: Result of ``cfxnb.metrics.true_scores``, drawn as black diamonds. If ``truth`` has
            value and baseline of an attribute swapped, the true scores are computed again with the
            value and the baseline of ``scores``.
        title: Title of the picture. Default: no title.
        ax: Axes of matplotlib to draw into. Default: a new figure.

    Returns:
        A Picture, or ``ax`` if axes were given.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    checked_scores(scores, "scores")
    validate.text(title, "title")
    if truth is not None:
        checked_scores(truth, "truth")
        true_rows = [same_contrast(truth, name, scores.contrasts[name]) for name in scores.ranking]
    order = list(scores.ranking)
    if ax is None:
        fig, grid = figure(1, 1, (6.5, 0.55 * len(order) + 1.1))
    else:
        fig, grid = None, given_axes(ax, 1, 1, "ax")
    panel, palette = grid[0, 0], cycle()
    for offset, kind, colour in (
        (-0.19, "necessity", palette[0]),
        (0.19, "sufficiency", palette[1]),
    ):
        table = scores.table.loc[order]
        position = np.arange(len(order)) + offset
        value = table[kind].to_numpy(float)
        ends = [value - table[f"{kind} low"], table[f"{kind} high"] - value]
        xerr = np.nan_to_num(np.array(ends))
        panel.barh(position, value, 0.36, color=colour, label=kind, xerr=xerr, ecolor=ink())
        if truth is not None:
            true_values = [row[kind] for row in true_rows]
            label = "truth" if kind == "necessity" else None
            style: dict[str, Any] = {"color": ink(), "markeredgecolor": panel.get_facecolor()}
            panel.plot(true_values, position, "D", markersize=5, label=label, **style)
        for y, v in zip(position, value, strict=True):
            if np.isnan(v):
                panel.text(0.01, y, "no images", va="center", fontsize=font(0.7))
    labels = [
        f"{name}: {scores.contrasts[name][1]}, not {scores.contrasts[name][0]}" for name in order
    ]
    panel.set_yticks(range(len(order)), labels)
    panel.set_ylim(len(order) - 0.45, -0.55)  # the first is on top
    panel.set_xlim(0, 1.02)
    panel.set_title(title, fontsize=font(1.0, "axes.titlesize"))
    panel.legend(loc="lower right", fontsize=font(0.8, "legend.fontsize"))
    summary = ", ".join(
        f"{n} {scores.necessity[n]:.2f} and {scores.sufficiency[n]:.2f}" for n in order[:3]
    )
    alt = f"Necessity and sufficiency with intervals; highest PNS first: {summary}."
    return finished(fig, ax, alt)


def leakage_map(scores: Mapping[str, ContrastiveScores], *, axes: Any = None) -> Picture | Any:
    """Draw how often the edit of one factor (row) changed another factor (column), in %.

    Args:
        scores: dict from names to results of ``contrastive_scores`` that were computed with a
            judge. The picture has one map per result.
        axes: Axes of matplotlib to draw into, one per result. Default: a new figure.

    Returns:
        A Picture, or ``axes`` if axes were given.

    Raises:
        ValueError, TypeError: If an argument is wrong, for example if scores were computed without
            a judge.
    """
    validate.instance(scores, Mapping, "scores", "a dict: name -> ContrastiveScores")
    if not scores:
        raise ValueError("scores: expected at least one result, got none")
    for name, one in scores.items():
        checked_scores(one, f"scores[{validate.text(name, 'scores')[:60]!r}]")
        if one.leakage.empty:
            raise ValueError(
                f"scores[{name!r}]: expected scores with a judge, got scores without one"
            )
    if axes is None:
        fig, grid = figure(1, len(scores), (4.6 * len(scores), 4.2))
    else:
        fig, grid = None, given_axes(axes, 1, len(scores))
    worst = []
    for ax, (name, one) in zip(grid[0], scores.items(), strict=True):
        leakage = one.leakage.to_numpy(float)
        ax.imshow(np.nan_to_num(leakage), cmap="Blues", vmin=0, vmax=0.5)
        for (i, j), value in np.ndenumerate(leakage):
            text = "–" if np.isnan(value) else f"{100 * value:.0f}"
            shade = "white" if value > 0.3 else "black"
            ax.text(j, i, text, ha="center", va="center", fontsize=font(0.8), color=shade)
        ax.set_xticks(range(leakage.shape[1]), one.leakage.columns, rotation=60)
        ax.set_yticks(range(len(leakage)), one.leakage.index)
        ax.set_xlabel("changed factor, % of edits")
        ax.set_title(f"{name}: edited factor", fontsize=font(1.0, "axes.titlesize"))
        worst.append(f"{name} at worst {100 * np.nan_to_num(leakage).max():.0f} %")
    return finished(fig, axes, f"Leakage of edits into other factors: {'; '.join(worst)}.")


@standard_modes
@torch.no_grad()
def edit_strip(
    space: LatentSpace,
    classifier: Classifier,
    edits: AttributeEdits,
    image: Tensor,
    factors: Any,
    *,
    class_names: Sequence[str] | None = None,
    axes: Any = None,
) -> Picture | Any:
    """Draw one image, its reconstruction, and for each attribute the image with the other value.

    The predicted class is written below each image, in bold if it differs from the predicted class
    of the reconstruction.

    Args:
        space: Space in which the image is edited.
        classifier: Classifier that decides.
        edits: Edits from ``fit_attribute_edits``.
        image: Image in [0, 1], (1, c, h, w).
        factors: DataFrame with the factors of the image in one row. An attribute is left out if the
            image has neither of the two values between which the attribute is edited.
        class_names: Names of the classes. Default: their indices.
        axes: Axes of matplotlib to draw into: original, reconstruction, and one per attribute that
            is not left out. Default: a new figure.

    Returns:
        A Picture, or ``axes`` if axes were given.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    space, classifier, image = _single(space, classifier, edits, image)
    values = contrast_indices(factors, edits.contrasts, len(image))
    with eval_frozen(space, classifier, edits):
        code = space.encode(image)
        shown, titles = [image[0], decoded(space, code, image)[0]], ["original", "reconstruction"]
        for name, pair in edits.contrasts.items():
            if values[name][0] >= 0:
                wanted = pair[1 - values[name][0]]
                shown.append(decoded(space, edits.edit(code, name, wanted), image)[0])
                titles.append(f"{name}: {wanted}")
        decisions = _decisions(finite_predict_logits(classifier, torch.stack(shown)), class_names)
    if axes is None:
        fig, grid = figure(1, len(shown), (1.25 * len(shown), 2.6))
    else:
        fig, grid = None, given_axes(axes, 1, len(shown))
    for ax, one, title, decision in zip(grid[0], shown, titles, decisions, strict=True):
        draw(ax, one, title)
        changed = decision != decisions[1]
        style: dict[str, Any] = {
            "fontsize": font(0.9, "axes.labelsize"),
            "fontweight": "bold" if changed else "normal",
        }
        ax.set_xlabel(f"→ {decision}{' (flips)' if changed else ''}", **style)
    flips = [t for t, d in zip(titles[2:], decisions[2:], strict=True) if d != decisions[1]]
    alt = (
        f"An image classified as {decisions[1]}, and one edit of each of its attributes. The class "
        f"flips for: {', '.join(flips) or 'none of them'}."
    )
    return finished(fig, axes, alt)


@standard_modes
@torch.no_grad()
def edit_picture(
    space: LatentSpace,
    classifier: Classifier,
    edits: AttributeEdits,
    image: Tensor,
    name: str,
    value: Any,
    *,
    class_names: Sequence[str] | None = None,
    axes: Any = None,
) -> Picture | Any:
    """Draw one image before and after an edit, the difference, and a text that interprets the edit.

    If the edit changes the class, the old value of the attribute was necessary for the old class of
    the image, and the new value is sufficient for the new class.

    Args:
        space: Space in which the image is edited.
        classifier: Classifier that decides.
        edits: Edits from ``fit_attribute_edits``.
        image: Image in [0, 1], (1, c, h, w).
        name: Attribute to edit.
        value: Value that the edit sets.
        class_names: Names of the classes. Default: their indices.
        axes: Three axes of matplotlib to draw into: before, after, and difference. The text is then
            written below the difference. Default: a new figure, with the text on top.

    Returns:
        A Picture, or ``axes`` if axes were given.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    space, classifier, image = _single(space, classifier, edits, image)
    with eval_frozen(space, classifier, edits):
        code = space.encode(image)
        edited = edits.edit(code, name, value)
        pair = torch.cat([decoded(space, code, image), decoded(space, edited, image)])
        probabilities = finite_predict_logits(classifier, pair).softmax(1)
    old, new = decisions = _decisions(probabilities, class_names)
    if old == new:
        verdict = f"{name} = {value} does not change the class"
    else:
        verdict = f"the old {name} was necessary for {old}; {value} suffices for {new}"
    if axes is None:
        fig, grid = figure(1, 3, (5.2, 2.9))
        fig.suptitle(verdict, fontsize=font(1.0, "figure.titlesize"))
    else:
        fig, grid = None, given_axes(axes, 1, 3)
        grid[0, 2].set_xlabel(wrap_lines(verdict), fontsize=font(0.9, "axes.labelsize"))
    heads = ("before", f"{name}: {value}", "difference")
    images = [*pair, (pair[1] - pair[0]).abs().amax(0, keepdim=True)]
    for ax, one, head in zip(grid[0], images, heads, strict=True):
        draw(ax, one, head)
    for i in (0, 1):
        text = f"→ {decisions[i]} ({probabilities[i].max():.2f})"
        grid[0, i].set_xlabel(text, fontsize=font(0.9, "axes.labelsize"))
    alt = f"An image before and after setting {name} to {value}: {verdict}."
    return finished(fig, axes, alt)


def _single(space: Any, classifier: Any, edits: Any, image: Any) -> tuple[Any, Any, Tensor]:
    """Return space, classifier and image, after checking that there is exactly one image."""
    checked = CheckedSpace(space)
    checked_edits(edits, checked)
    image = validate.images(image, "image")
    if len(image) != 1:
        raise ValueError(f"image: expected one, (1, c, h, w), got {tuple(image.shape)}")
    return checked, CheckedClassifier(classifier), image


def _decisions(logits: Tensor, class_names: Any) -> list[str]:
    """Return the name of the predicted class for each row of the logits."""
    names = names_of(class_names, logits.shape[1])
    return [names[c] for c in logits.argmax(1).tolist()]
