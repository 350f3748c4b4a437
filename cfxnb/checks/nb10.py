"""Checks of 10_model_errors."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

from cfxnb.checks.core import exercise, expect, expect_pair, near


@exercise("The worst group")
def worst_group(answer: Callable[[np.ndarray, np.ndarray, int], tuple[str, float]]) -> None:
    # group: (right, of how many)
    cells = {"a": (9, 12), "b": (2, 8), "c": (7, 10), "d": (0, 2), "e": (4, 30)}
    order = np.random.default_rng(3).permutation(sum(n for _, n in cells.values()))
    groups = np.repeat(list(cells), [n for _, n in cells.values()])[order]
    right = np.concatenate([np.arange(n) < k for k, n in cells.values()])[order]
    for min_size, name in ((1, "d"), (2, "d"), (3, "e"), (8, "e")):
        case = f"with groups of at least {min_size}"
        group, accuracy = expect_pair(
            answer(right.copy(), groups.copy(), min_size), "a name and an accuracy"
        )
        expect(
            str(group) in cells,
            f"{case}: expected the name of a group, got {str(group)!r}",
            cause="the two results are exchanged, or a position is returned instead of a name",
            hint="keep names and accuracies together, in a dict or a Series",
        )
        true = {g: k / n for g, (k, n) in cells.items() if n >= min_size}
        expect(
            str(group) in true,
            f"{case}: got {group}, which has only {cells[str(group)][1]}",
            cause="small groups are not left out",
            hint="count each group and skip those with fewer",
        )
        expect(
            str(group) != max(true, key=lambda g: true[g]),
            f"{case}: got {group}, the best group",
            cause="the largest accuracy is chosen, or errors are used as accuracies",
            hint="the lowest fraction of right answers",
        )
        expect(
            str(group) == name,
            f"{case}: expected {name}, got {group}",
            cause="right answers or errors are counted and not averaged, or a group of exactly "
            f"{min_size} is left out",
            hint="accuracy is right[groups == name].mean(); at least means >=",
        )
        expect(
            near(float(accuracy), true[name]),
            f"{case}: expected {true[name]:.3f} as accuracy of {name}, got {float(accuracy):.3f}",
            cause="it is the fraction of errors, a percentage, or a fraction of all images",
            hint="the average of right over the images of this group",
        )


def _changes() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two tables of changed factors: with guidance, and without (the baseline).

    With guidance, factor b changes most often; factor c has the largest increase over the baseline.
    """
    rows = {"a": ([1, 0, 0, 0], [4, 0, 0, 0]), "b": ([9, 0], [8, 0]), "c": ([6, 0], [2, 0])}
    rows |= {"d": ([0, 0], [5, 0])}
    found = {name: np.arange(10) < counts[0][0] for name, counts in rows.items()}
    anyway = {name: np.arange(20) < 2 * counts[1][0] for name, counts in rows.items()}
    return pd.DataFrame(found), pd.DataFrame(anyway)


@exercise("Suspect what changes more than by chance")
def most_changed_factor(answer: Callable[[pd.DataFrame, pd.DataFrame], tuple[str, float]]) -> None:
    changed, baseline = _changes()
    name, excess = expect_pair(answer(changed.copy(), baseline.copy()), "a factor and its excess")
    expect(
        name in changed.columns,
        f"expected the name of a factor, got {name!r}",
        cause="the two results are exchanged, or a position is returned instead of a name",
        hint="idxmax gives the name of the largest entry of a Series",
    )
    more = "it changes more often in the baseline"
    known = {
        "b": ("it changes most, but nearly as often in the baseline", "the baseline isn't used"),
        "d": (more, "the sign of the difference is lost, or the difference is reversed"),
        "a": (more, "counts are subtracted, or the difference is reversed"),
    }
    problem, cause = known.get(name, ("", ""))
    hint = "the fraction with guidance minus the fraction in the baseline"
    expect(name == "c", f"got {name}: {problem}", cause=cause, hint=hint)
    expect(
        not near(float(excess), 0.6),
        "got 0.600, which is how often it changes: the baseline is not subtracted",
        cause="the fraction itself is returned",
        hint="return the difference of the two fractions",
    )
    expect(
        near(float(excess), 0.4),
        f"expected an excess of 0.400, got {float(excess):.3f}",
        cause="counts of different numbers of images are subtracted, or fractions are divided",
        hint="changed.mean() - baseline.mean(): both are fractions",
    )


def _training() -> dict[str, Tensor]:
    g = Generator().manual_seed(5)
    labels = torch.tensor([0, 1, 1, 0, 1, 0])
    return {
        "images": torch.rand(6, 3, 4, 4, generator=g),
        "labels": labels,
        "edited": torch.rand(6, 3, 4, 4, generator=g),
        "flipped": torch.tensor([True, True, False, True, True, False]),
        "cause_changed": torch.tensor([False, True, False, False, False, False]),
    }


@exercise("What to train on")
def training_set(answer: Callable[..., tuple[Tensor, Tensor]]) -> None:
    given = _training()
    got = answer(*(v.clone() for v in given.values()))
    images, labels = expect_pair(got, "images and their labels")
    keep = given["flipped"] & ~given["cause_changed"]
    number = 6 + int(keep.sum())
    for value, name in ((images, "images"), (labels, "labels")):
        expect(
            isinstance(value, Tensor),
            f"expected {name} as a tensor, got {type(value).__name__}",
            cause="lists are joined, not tensors",
            hint="torch.cat([...])",
        )
    expect(
        len(images) == len(labels),
        f"got {len(images)} images and {len(labels)} labels",
        cause="rows are chosen for one of the two only",
        hint="use the same mask for both",
    )
    wrong = {
        int(keep.sum()): ("the originals are missing", "only counterfactuals are returned"),
        12: ("all counterfactuals are in it", "neither condition is used"),
        6 + int(given["flipped"].sum()): (
            "counterfactuals in which the cause changed are in it",
            "their old label is wrong now, because its cause was changed",
        ),
        6 + int((~given["cause_changed"]).sum()): (
            "counterfactuals that did not flip are in it",
            "they show no error of the classifier",
        ),
    }
    problem, cause = wrong.get(len(images), ("other rows are kept", "the condition is different"))
    expect(
        len(images) == number,
        f"expected {number} images, got {len(images)}: {problem}",
        cause=cause,
        hint="keep = flipped & ~cause_changed, and all originals",
    )
    right = torch.cat([given["images"], given["edited"][keep]])
    sums, mine = right.flatten(1).sum(1), images.double().flatten(1).sum(1)
    expect(
        torch.allclose(mine.sort().values, sums.double().sort().values, atol=1e-4),
        "the number of images is right, but some images are wrong",
        cause="originals are taken in place of counterfactuals, or the mask is different",
        hint="edited[keep] after images",
    )
    by_image = dict(zip(sums.mul(1e3).round().tolist(),
                        torch.cat([given["labels"], given["labels"][keep]]).tolist(),
                        strict=True))  # fmt: skip
    rows = mine.mul(1e3).round().tolist()
    off = [by_image[r] != y for r, y in zip(rows, labels.tolist(), strict=True)]
    expect(
        not any(off),
        f"{sum(off)} labels are not the old ones",
        cause="counterfactuals get the class that the classifier predicts: that teaches it the "
        "shortcut again",
        hint="labels[keep]: the cause is unchanged, so the label is too",
    )


@exercise("Weights by group")
def group_weights(answer: Callable[[list[str]], Tensor]) -> None:
    groups = ["x", "y", "x", "x", "z", "x", "y", "x"]
    got = answer(list(groups))
    expect(
        isinstance(got, Tensor | np.ndarray | list) and len(got) == len(groups),
        f"expected {len(groups)} weights, one per image, got {getattr(got, 'shape', type(got))}",
        cause="one weight per group is returned",
        hint="one entry per image, in the order of the images",
    )
    each = torch.tensor(np.asarray(got, dtype=float))
    names = np.array(groups)
    totals = {g: float(each[torch.from_numpy(names == g)].sum()) for g in ("x", "y", "z")}
    expect(
        not near(totals["x"] / 5, totals["z"]),
        "every image has the same weight: the largest group dominates",
        cause="the size of the groups isn't used",
        hint="an image of a small group needs a larger weight",
    )
    expect(
        totals["x"] / 5 < totals["z"],
        "images of larger groups have larger weights",
        cause="multiplied by the size of the group, not divided",
        hint="1 / the number of images in the group",
    )
    expect(
        max(totals.values()) - min(totals.values()) < 1e-4,
        "groups weigh "
        + ", ".join(f"{v:.3f}" for v in totals.values())
        + " in total: not the same",
        cause="weights are not proportional to 1 / size",
        hint="the sum of the weights of each group must be the same",
    )
    expect(
        abs(float(each.mean()) - 1) < 1e-4,
        f"expected weights with mean 1, got mean {float(each.mean()):.3f}",
        cause="the weights are not normalised, which rescales the loss",
        hint="n / (number of groups * size of the group)",
    )


@exercise("Two kinds of errors")
def error_rates(answer: Callable[[Tensor, Tensor], tuple[float, float]]) -> None:
    labels = torch.tensor([1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0])
    predicted = torch.tensor([1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0])
    what = "missed and false"
    missed, false = map(float, expect_pair(answer(labels.clone(), predicted.clone()), what))
    known = {
        (2 / 15, 1 / 15): ("fractions of all images", "divided by the number of all images"),
        (2.0, 1.0): ("counts, not fractions", "sums are returned"),
        (3 / 5, 9 / 10): ("fractions of right answers", "the comparison is reversed"),
        (2 / 11, 1 / 4): ("fractions of the predictions", "divided by the number of predictions"),
        (1 / 10, 2 / 5): ("the right two numbers, exchanged", "false alarms come first"),
    }
    for (a, b), (problem, cause) in known.items():
        expect(
            not (near(missed, a) and near(false, b)),
            f"got {missed:.3f} and {false:.3f}: {problem}",
            cause=cause,
            hint="missed: the fraction of images labelled 1 with prediction 0; false: the reverse",
        )
    expect(
        near(missed, 2 / 5) and near(false, 1 / 10),
        f"expected 0.400 and 0.100, got {missed:.3f} and {false:.3f}",
        cause="the wrong images are counted, or the divisor is wrong",
        hint="(predicted[labels == 1] == 0) and (predicted[labels == 0] == 1), averaged",
    )
    missed, false = map(
        float, expect_pair(answer(labels[labels == 1], predicted[labels == 1]), what)
    )
    expect(
        near(missed, 2 / 5) and math.isnan(false),
        f"if no image is labelled 0, expected 0.400 and NaN, got {missed:.3f} and {false:.3f}",
        cause="a number is returned for a mean over no images",
        hint="the mean of an empty float tensor is NaN: return it",
    )
