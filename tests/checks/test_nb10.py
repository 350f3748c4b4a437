"""Answers to the exercises of 10_model_errors."""

import numpy as np
import pandas as pd
import torch
from mutants import (
    Answers,
    assert_accepted,
    assert_rejected,
    public_checks,
    right_answers,
    wrong_answers,
)

import cfxnb as cfx
from cfxnb.checks import nb10


def picked(
    score, pick=min, enough=lambda n, min_size: n >= min_size, result=lambda name, value: value
):
    """The group with the least score, among those that are large enough."""

    def answer(right, groups, min_size):
        values = {
            g: score(right, groups == g)
            for g in np.unique(groups)
            if enough((groups == g).sum(), min_size)
        }
        name = pick(values, key=values.get)
        return name, result(name, values[name])

    return answer


def accuracy(right, mine):
    return right[mine].mean()


def by_pandas(right, groups, min_size):
    table = pd.Series(right).groupby(groups).agg(["mean", "size"])
    table = table[table["size"] >= min_size]
    return table["mean"].idxmin(), table["mean"].min()


def position(right, groups, min_size):
    names = np.unique(groups)
    values = [accuracy(right, groups == g) for g in names]
    return int(np.argmin(values)), min(values)


def by_excess(changed, baseline):
    excess = changed.mean() - baseline.mean()
    return excess.idxmax(), excess.max()


def by_loop(changed, baseline):
    excess = {
        name: sum(changed[name]) / len(changed) - sum(baseline[name]) / len(baseline)
        for name in changed
    }
    name = max(excess, key=excess.get)
    return name, excess[name]


def ranked(score, result=None):
    def answer(changed, baseline):
        values = score(changed, baseline)
        name = values.idxmax()
        return name, (values if result is None else result(changed, baseline))[name]

    return answer


def kept(mask, old=lambda labels, keep: labels[keep], source=lambda x, e: e, whole=True):
    def answer(images, labels, edited, flipped, cause_changed):
        keep = mask(flipped, cause_changed)
        more, theirs = source(images, edited)[keep], old(labels, keep)
        if not whole:
            return more, theirs
        return torch.cat([images, more]), torch.cat([labels, theirs])

    return answer


def right_mask(flipped, changed):
    return flipped & ~changed


def in_a_training_loop(images, labels, edited, flipped, cause_changed):
    more, theirs = list(images), labels.tolist()
    for i in range(len(images)):
        if flipped[i] and not cause_changed[i]:
            more.insert(0, edited[i])
            theirs.insert(0, int(labels[i]))
    return torch.stack(more), torch.tensor(theirs)


def as_lists(images, labels, edited, flipped, cause_changed):
    x, y = kept(right_mask)(images, labels, edited, flipped, cause_changed)
    return list(x), y.tolist()


def labels_of_all(images, labels, edited, flipped, cause_changed):
    x, _ = kept(right_mask)(images, labels, edited, flipped, cause_changed)
    return x, torch.cat([labels, labels])


def first_labels(labels, keep):
    return labels[: int(keep.sum())]


def weighed(weight):
    def answer(groups):
        sizes = {g: groups.count(g) for g in set(groups)}
        return torch.tensor([float(weight(len(groups), len(sizes), sizes[g])) for g in groups])

    return answer


def one_a_group(groups):
    sizes = pd.Series(groups).value_counts()
    return torch.tensor((len(groups) / (len(sizes) * sizes)).tolist())


def sampled(groups):
    return pd.Series(groups).map(pd.Series(groups).value_counts()).rdiv(8 / 3).to_numpy()


def both_rates(missed, false):
    def answer(labels, predicted):
        return float(missed(labels, predicted)), float(false(labels, predicted))

    return answer


def fraction(x):
    return x.float().mean()


def missed(labels, predicted):
    return fraction(predicted[labels == 1] == 0)


def false(labels, predicted):
    return fraction(predicted[labels == 0] == 1)


def by_numpy(labels, predicted):
    table = pd.crosstab(labels.numpy(), predicted.numpy()).reindex([0, 1], axis=0, fill_value=0)
    table = table.reindex([0, 1], axis=1, fill_value=0).astype(float)
    with np.errstate(invalid="ignore"):
        rows = table.to_numpy() / table.to_numpy().sum(1, keepdims=True)
    return rows[1, 0], rows[0, 1]


def guarded(labels, predicted):
    a, b = missed(labels, predicted).item(), false(labels, predicted).item()
    return (a if a == a else 0.0), (b if b == b else 0.0)


TABLE = {
    "worst_group": Answers(
        right={"dict": picked(accuracy), "table": by_pandas},
        wrong={
            "name only": (lambda *a: picked(accuracy)(*a)[0], "expected a name and an accuracy"),
            "exchanged": (lambda *a: picked(accuracy)(*a)[::-1], "expected the name of a group"),
            "position": (position, "expected the name of a group, got '3'"),
            "small ones": (
                picked(accuracy, enough=lambda n, min_size: True),
                "with groups of at least 3: got d, which has only 2",
            ),
            "the best": (picked(accuracy, pick=max), "the best group"),
            "most errors": (
                picked(lambda right, mine: -(~right[mine]).sum()),
                "expected d, got e",
            ),
            "errors": (
                picked(accuracy, result=lambda name, value: 1 - value),
                "expected 0.000 as accuracy of d, got 1.000",
            ),
            "of everybody": (
                picked(accuracy, result=lambda name, value: 0.0),
                "expected 0.133 as accuracy of e",
            ),
            "more than": (
                picked(accuracy, enough=lambda n, min_size: n > min_size),
                "with groups of at least 2: expected d, got e",
            ),
            "per cent": (
                picked(accuracy, result=lambda name, value: 100 * value),
                "expected 0.133 as accuracy of e, got 13.333",
            ),
        },
    ),
    "most_changed_factor": Answers(
        right={"tables": by_excess, "loop": by_loop},
        wrong={
            "name only": (lambda c, b: by_excess(c, b)[0], "expected a factor and its excess"),
            "exchanged": (lambda c, b: by_excess(c, b)[::-1], "expected the name of a factor"),
            "no baseline": (ranked(lambda c, b: c.mean()), "got b: it changes most"),
            "size of it": (
                ranked(lambda c, b: (c.mean() - b.mean()).abs()),
                "got d: it changes more often in the baseline",
            ),
            "other way": (ranked(lambda c, b: b.mean() - c.mean()), "got d"),
            "share itself": (
                ranked(lambda c, b: c.mean() - b.mean(), result=lambda c, b: c.mean()),
                "got 0.600, which is how often it changes",
            ),
            "ratio": (
                ranked(lambda c, b: c.mean() / b.mean()),
                "expected an excess of 0.400, got 3.000",
            ),
            "counts": (
                ranked(lambda c, b: c.sum() - b.sum()),
                "expected an excess of 0.400, got 2.000",
            ),
            "position": (
                lambda c, b: (int(np.argmax((c.mean() - b.mean()).to_numpy())), 0.4),
                "expected the name of a factor, got 2",
            ),
        },
    ),
    "training_set": Answers(
        right={"mask": kept(right_mask), "loop": in_a_training_loop},
        wrong={
            "images only": (
                lambda *a: kept(right_mask)(*a)[0],
                "expected images and their labels, got Tensor",
            ),
            "lists": (as_lists, "expected images as a tensor"),
            "without originals": (
                kept(right_mask, whole=False),
                "expected 9 images, got 3: the originals are missing",
            ),
            "all": (kept(lambda f, c: torch.ones_like(f)), "all counterfactuals are in it"),
            "all flips": (kept(lambda f, c: f), "in which the cause changed are in it"),
            "all with their cause": (kept(lambda f, c: ~c), "that did not flip are in it"),
            "cause changed": (kept(lambda f, c: f & c), "other rows are kept"),
            "wrong labels": (labels_of_all, "got 9 images and 12 labels"),
            "new labels": (
                kept(right_mask, old=lambda y, keep: 1 - y[keep]),
                "3 labels are not the old ones",
            ),
            "labels not chosen": (
                kept(right_mask, old=first_labels),
                "are not the old ones",
            ),
            "originals twice": (
                kept(right_mask, source=lambda x, e: x),
                "some images are wrong",
            ),
        },
    ),
    "group_weights": Answers(
        right={
            "formula": weighed(lambda n, k, size: n / (k * size)),
            "package": cfx.group_weights,
            "array": sampled,
        },
        wrong={
            "one a group": (one_a_group, "expected 8 weights, one per image"),
            "equal": (weighed(lambda n, k, size: 1), "every image has the same weight"),
            "size": (
                weighed(lambda n, k, size: size / n),
                "images of larger groups have larger weights",
            ),
            "root": (
                weighed(lambda n, k, size: size**-0.5),
                "groups weigh 2.236, 1.414, 1.000 in total: not the same",
            ),
            "not scaled": (weighed(lambda n, k, size: 1 / size), "with mean 1, got mean 0.375"),
            "n over size": (weighed(lambda n, k, size: n / size), "with mean 1, got mean 3.000"),
            "rest": (weighed(lambda n, k, size: 1 - size / n), "not the same"),
            "table": (lambda groups: dict.fromkeys(groups, 1.0), "expected 8 weights"),
        },
    ),
    "error_rates": Answers(
        right={"masks": both_rates(missed, false), "table": by_numpy},
        wrong={
            "one": (missed, "expected missed and false, got Tensor"),
            "of all": (
                both_rates(
                    lambda y, s: fraction((y == 1) & (s == 0)),
                    lambda y, s: fraction((y == 0) & (s == 1)),
                ),
                "fractions of all images",
            ),
            "counts": (
                both_rates(
                    lambda y, s: (s[y == 1] == 0).sum(), lambda y, s: (s[y == 0] == 1).sum()
                ),
                "counts, not fractions",
            ),
            "right ones": (
                both_rates(lambda y, s: 1 - missed(y, s), lambda y, s: 1 - false(y, s)),
                "fractions of right answers",
            ),
            "of what is said": (
                both_rates(
                    lambda y, s: fraction(y[s == 0] == 1), lambda y, s: fraction(y[s == 1] == 0)
                ),
                "fractions of the predictions",
            ),
            "exchanged": (both_rates(false, missed), "the right two numbers, exchanged"),
            "one twice": (
                both_rates(missed, missed),
                "expected 0.400 and 0.100, got 0.400 and 0.400",
            ),
            "accuracy": (
                both_rates(lambda y, s: fraction(y == s), lambda y, s: fraction(y != s)),
                "expected 0.400 and 0.100",
            ),
            "zero of nobody": (guarded, "if no image is labelled 0, expected 0.400 and NaN"),
        },
    ),
}


def test_every_check_has_its_answers():
    assert set(TABLE) == set(public_checks(nb10))
    assert all(len(answers.wrong) >= 5 for answers in TABLE.values())


@right_answers(nb10, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb10, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)
