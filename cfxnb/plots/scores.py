"""Pictures of contrastive scores: bars with intervals, leakage, and what an edit does."""

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
from cfxnb.plots.pictures import BLUE, ORANGE, Picture, as_picture, draw, figure


def score_bars(
    scores: ContrastiveScores, *, truth: ContrastiveScores | None = None, title: str = ""
) -> Picture:
    """Necessity and sufficiency of each attribute with their intervals, the strongest first.

    Args:
        truth: from ``cfxnb.metrics.true_scores``, drawn as black diamonds on the bars; taken for
            the contrast in which ``scores`` gives it, as by ``cfxnb.metrics.score_errors``.
        title: of the picture, which may be empty.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    checked_scores(scores, "scores")
    validate.text(title, "title")
    if truth is not None:
        checked_scores(truth, "truth")
        exact = [same_contrast(truth, name, scores.contrasts[name]) for name in scores.ranking]
    order = list(scores.ranking)
    fig, axes = figure(1, 1, (6.5, 0.55 * len(order) + 1.1))
    ax = axes[0, 0]
    for offset, kind, colour in ((-0.19, "necessity", BLUE), (0.19, "sufficiency", ORANGE)):
        table = scores.table.loc[order]
        place = np.arange(len(order)) + offset
        value = table[kind].to_numpy(float)
        ends = [value - table[f"{kind} low"], table[f"{kind} high"] - value]
        ax.barh(place, value, 0.36, color=colour, label=kind, xerr=np.nan_to_num(np.array(ends)))
        if truth is not None:
            real = [row[kind] for row in exact]
            named = "truth" if kind == "necessity" else None
            ax.plot(real, place, "D", color="black", markersize=5, label=named)
        for y, v in zip(place, value, strict=True):
            if np.isnan(v):
                ax.text(0.01, y, "no image to ask", va="center", fontsize=7)
    labels = [
        f"{name}: {scores.contrasts[name][1]}, not {scores.contrasts[name][0]}" for name in order
    ]
    ax.set_yticks(range(len(order)), labels)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.02)
    ax.set_title(title, fontsize=10)
    ax.legend(loc="lower right", fontsize=8)
    told = ", ".join(
        f"{n} {scores.necessity[n]:.2f} and {scores.sufficiency[n]:.2f}" for n in order[:3]
    )
    return as_picture(fig, f"Necessity and sufficiency with intervals; strongest first: {told}.")


def leakage_map(scores: Mapping[str, ContrastiveScores]) -> Picture:
    """For each result by name: how often an edit (row) changed another factor (column), in %.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them scores without a judge.
    """
    validate.instance(scores, Mapping, "scores", "a dict: name -> Scores")
    if not scores:
        raise ValueError("scores: expected at least one result, got none")
    for name, one in scores.items():
        checked_scores(one, f"scores[{validate.text(name, 'scores')[:60]!r}]")
        if one.leakage.empty:
            raise ValueError(f"scores[{name!r}]: expected scores with a judge, got some without")
    fig, axes = figure(1, len(scores), (4.6 * len(scores), 4.2))
    worst = []
    for ax, (name, one) in zip(axes[0], scores.items(), strict=True):
        share = one.leakage.to_numpy(float)
        ax.imshow(np.nan_to_num(share), cmap="Blues", vmin=0, vmax=0.5)
        for (i, j), value in np.ndenumerate(share):
            told = "–" if np.isnan(value) else f"{100 * value:.0f}"
            shade = "white" if value > 0.3 else "black"
            ax.text(j, i, told, ha="center", va="center", fontsize=8, color=shade)
        ax.set_xticks(range(share.shape[1]), one.leakage.columns, rotation=60)
        ax.set_yticks(range(len(share)), one.leakage.index)
        ax.set_xlabel("changed as well, % of edits")
        ax.set_title(f"{name}: edited factor", fontsize=10)
        worst.append(f"{name} at worst {100 * np.nan_to_num(share).max():.0f} %")
    return as_picture(fig, f"Leakage of edits into other factors: {'; '.join(worst)}.")


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
) -> Picture:
    """One image, its reconstruction, and each attribute set to its other value, with decisions.

    Args:
        image: (1, c, h, w).
        factors: DataFrame of one row. An attribute with neither of its two values is left out.
        class_names: of the classes.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    space, classifier, image = _single(space, classifier, edits, image)
    values = contrast_indices(factors, edits.contrasts, len(image))
    with eval_frozen(space, classifier, edits):
        code = space.encode(image)
        shown, titles = [image[0], _drawn(space, code, image)[0]], ["original", "reconstruction"]
        for name, pair in edits.contrasts.items():
            if values[name][0] >= 0:
                wanted = pair[1 - values[name][0]]
                shown.append(_drawn(space, edits.edit(code, name, wanted), image)[0])
                titles.append(f"{name}: {wanted}")
        told = _decisions(finite_predict_logits(classifier, torch.stack(shown)), class_names)
    fig, axes = figure(1, len(shown), (1.25 * len(shown), 2.6))
    for ax, one, title, decision in zip(axes[0], shown, titles, told, strict=True):
        draw(ax, one, title)
        changed = decision != told[1]
        style: dict[str, Any] = {"fontsize": 9, "fontweight": "bold" if changed else "normal"}
        ax.set_xlabel(f"→ {decision}{' (flips)' if changed else ''}", **style)
    flips = [t for t, d in zip(titles[2:], told[2:], strict=True) if d != told[1]]
    return as_picture(
        fig,
        f"A figure decided as {told[1]} and each of its attributes edited alone; the decision "
        f"flips for: {', '.join(flips) or 'none of them'}.",
    )


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
) -> Picture:
    """One image with one attribute set, and what that says about this very image.

    If the image had the attribute's other value: a changed decision shows that it was necessary
    for the old one, and sufficient for the new one.

    Args:
        image: (1, c, h, w).
        name, value: of the edit; see ``AttributeEdits.edit``.
        class_names: of the classes.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    space, classifier, image = _single(space, classifier, edits, image)
    with eval_frozen(space, classifier, edits):
        code = space.encode(image)
        edited = edits.edit(code, name, value)
        pair = torch.cat([_drawn(space, code, image), _drawn(space, edited, image)])
        chances = finite_predict_logits(classifier, pair).softmax(1)
    told = _decisions(chances, class_names)
    if told[0] == told[1]:
        verdict = f"{name} = {value} leaves the decision as it is"
    else:
        verdict = f"the old {name} was necessary for {told[0]}; {value} suffices for {told[1]}"
    fig, axes = figure(1, 3, (5.2, 2.9))
    heads = ("before", f"{name}: {value}", "difference")
    images = [*pair, (pair[1] - pair[0]).abs().amax(0, keepdim=True)]
    for ax, one, head in zip(axes[0], images, heads, strict=True):
        draw(ax, one, head)
    for i in (0, 1):
        axes[0, i].set_xlabel(f"→ {told[i]} ({chances[i].max():.2f})", fontsize=9)
    fig.suptitle(verdict, fontsize=10)
    return as_picture(fig, f"A figure before and after setting {name} to {value}: {verdict}.")


def _single(space: Any, classifier: Any, edits: Any, image: Any) -> tuple[Any, Any, Tensor]:
    """Space, classifier and the one image, checked as the edits that go with them are."""
    checked = CheckedSpace(space)
    checked_edits(edits, checked)
    image = validate.images(image, "image")
    if len(image) != 1:
        raise ValueError(f"image: expected one, (1, c, h, w), got {tuple(image.shape)}")
    return checked, CheckedClassifier(classifier), image


def _drawn(space: Any, code: Any, like: Tensor) -> Tensor:
    """What codes look like: finite, and of the same size."""
    made = validate.images(space.decode(code), "space.decode")
    if made.shape[1:] != like.shape[1:]:
        raise ValueError(
            f"space.decode: expected images like the one given, {tuple(like.shape[1:])}, got "
            f"{tuple(made.shape[1:])}"
        )
    return made


def _decisions(logits: Tensor, class_names: Any) -> list[str]:
    """The class of each row, by name."""
    classes = logits.shape[1]
    known = (
        range(classes)
        if class_names is None
        else validate.class_names(class_names, "class_names", classes)
    )
    return [str(known[c]) for c in logits.argmax(1).tolist()]
