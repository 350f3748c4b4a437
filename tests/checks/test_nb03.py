"""Answers to the exercises of 03_what_changed."""

import numpy as np
import torch
from mutants import Answers, assert_accepted, assert_rejected, right_answers, wrong_answers

from cfxnb.checks import nb03


def basis(weights):
    return torch.linalg.qr(weights.T).Q


def explained(change, directions):
    """Share of the squared length along the columns of ``directions``."""
    return (change @ directions).square().sum(1) / change.square().sum(1)


def residual_by_least_squares(change, weights):
    fit = torch.linalg.lstsq(weights.T, change.T).solution
    rest = change - (weights.T @ fit).T
    return rest.square().sum(1) / change.square().sum(1)


def along(change, direction):
    d = direction / direction.norm()
    return (change @ d)[:, None] * d


def remove_in_place(change, direction):
    change -= along(change, direction)
    return change


def without_length(change, direction):
    return change - (change @ direction)[:, None] * direction


def divided_once(change, direction):
    return change - (change @ direction)[:, None] / direction.norm() * direction


def shuffles(one):
    """``repeats`` times ``one(rng, score, before, after)``, with one generator from the seed."""

    def answer(score, before, after, repeats, seed):
        rng = np.random.default_rng(seed)
        return np.stack([one(rng, score, before, after) for _ in range(repeats)])

    return answer


def shuffle_originals(rng, score, before, after):
    return score(rng.permutation(before), after)


def shuffle_by_index(rng, score, before, after):
    return score(before[rng.permutation(len(before))], after)


def shuffle_in_place(rng, score, before, after):
    rng.shuffle(before)
    return score(before, after)


def shuffle_pairs(rng, score, before, after):
    order = rng.permutation(len(before))
    return score(before[order], after[order])


def shuffle_readings(rng, score, before, after):
    return score(rng.permuted(before, axis=0), after)


def draw_with_replacement(rng, score, before, after):
    return score(before[rng.integers(0, len(before), len(before))], after)


def generator_in_the_loop(score, before, after, repeats, seed):
    return np.stack([single_shuffle(score, before, after, 1, seed) for _ in range(repeats)])


def single_shuffle(score, before, after, repeats, seed):
    return score(np.random.default_rng(seed).permutation(before), after)


def mean_of_shuffles(score, before, after, repeats, seed):
    return shuffles(shuffle_originals)(score, before, after, repeats, seed).mean(0)


def seed_ignored(score, before, after, repeats, seed):
    rng = np.random.default_rng()
    return np.stack([score(rng.permutation(before), after) for _ in range(repeats)])


TABLE = {
    "contribution": Answers(
        right={
            "change of the code": lambda w, s, e, std: ((e - s) / std) @ w,
            "difference of scores": lambda w, s, e, std: e / std @ w - s / std @ w,
        },
        wrong={
            "not summed up": (
                lambda w, s, e, std: (e - s) / std * w,
                "expected one number per image, shape (3,), got torch.Size([3, 4])",
            ),
            "summed over images": (
                lambda w, s, e, std: ((e - s) / std * w).sum(0),
                "got torch.Size([4])",
            ),
            "start minus end": (
                lambda w, s, e, std: ((s - e) / std) @ w,
                "the sign is reversed",
            ),
            "sigmoid left in": (
                lambda w, s, e, std: (e / std @ w).sigmoid() - (s / std @ w).sigmoid(),
                "no value exceeds 1",
            ),
            "no std": (
                lambda w, s, e, std: (e - s) @ w,
                "not weights @ (change in standard deviations)",
            ),
            "times the std": (
                lambda w, s, e, std: ((e - s) * std) @ w,
                "not weights @ (change in standard deviations)",
            ),
            "absolute value": (
                lambda w, s, e, std: (((e - s) / std) @ w).abs(),
                "not weights @ (change in standard deviations)",
            ),
            "end only": (
                lambda w, s, e, std: (e / std) @ w,
                "not weights @ (change in standard deviations)",
            ),
        },
    ),
    "unexplained_fraction": Answers(
        right={
            "basis": lambda change, w: 1 - explained(change, basis(w)),
            "least squares": residual_by_least_squares,
        },
        wrong={
            "explained fraction": (
                lambda change, w: explained(change, basis(w)),
                "expected 1, got 0.000",
            ),
            "weights not orthogonal": (
                lambda change, w: 1 - explained(change, (w / w.norm(dim=1, keepdim=True)).T),
                "inside the span of the weights",
            ),
            "first weight only": (
                lambda change, w: 1 - explained(change, basis(w[:1])),
                "inside the span of the weights",
            ),
            "basis of the wrong space": (
                lambda change, w: 1 - explained(change, torch.linalg.qr(w).Q),
                "it raised RuntimeError",
            ),
            "summed over the batch": (
                lambda change, w: 1 - (change @ basis(w)).square().sum() / change.square().sum(),
                "expected one fraction per image",
            ),
            "not divided": (
                lambda change, w: (change - change @ basis(w) @ basis(w).T).square().sum(1),
                "a fraction cannot exceed 1",
            ),
            "lengths": (
                lambda change, w: 1 - explained(change, basis(w)).sqrt(),
                "expected 0.5, got 0.293",
            ),
            "root of the fraction": (
                lambda change, w: (1 - explained(change, basis(w))).clamp(min=0).sqrt(),
                "expected 0.5, got 0.707",
            ),
        },
    ),
    "remove_component": Answers(
        right={
            "unit vector": lambda change, d: change - along(change, d),
            "outer": lambda change, d: change - torch.outer(change @ d, d) / (d @ d),
        },
        wrong={
            "in place": (remove_in_place, "was written to"),
            "batch collapsed": (
                lambda change, d: change @ (d / d.norm()),
                "expected the shape of the change",
            ),
            "not divided by the length": (without_length, "something is left"),
            "divided once": (divided_once, "something is left"),
            "kept instead of removed": (along, "something is left"),
            "added": (lambda change, d: change + along(change, d), "something is left"),
            "no dimension for the coordinates": (
                lambda change, d: change - (change @ d) * d / (d @ d),
                "it raised RuntimeError",
            ),
            "coordinates set to zero": (
                lambda change, d: change * (d == 0),
                "orthogonal to the direction has changed",
            ),
            "everything removed": (
                lambda change, d: torch.zeros_like(change),
                "orthogonal to the direction has changed",
            ),
        },
    ),
    "global_score": Answers(
        right={
            "row by row": lambda before, after: (after - before).mean(0),
            "difference of means": lambda before, after: after.mean(0) - before.mean(0),
        },
        wrong={
            "mean over descriptors": (
                lambda before, after: (after - before).mean(1),
                "expected one score per descriptor, shape (3,), got (40,)",
            ),
            "mean over all": (lambda before, after: (after - before).mean(), "got ()"),
            "level": (lambda before, after: after.mean(0), "second descriptor never changes"),
            "one fixed original": (
                lambda before, after: (after - before[0]).mean(0),
                "second descriptor never changes",
            ),
            "sign": (lambda before, after: (before - after).mean(0), "the changes are 1 and -2"),
            "absolute values": (
                lambda before, after: np.abs(after - before).mean(0),
                "the changes are 1 and -2",
            ),
        },
    ),
    "shuffled_scores": Answers(
        right={
            "permutation": shuffles(shuffle_originals),
            "index": shuffles(shuffle_by_index),
        },
        wrong={
            "in place": (shuffles(shuffle_in_place), "are now shuffled"),
            "single shuffle": (single_shuffle, "expected 200 shuffles of two scores"),
            "mean of shuffles": (mean_of_shuffles, "expected 200 shuffles of two scores"),
            "pairs kept": (shuffles(shuffle_pairs), "all shuffles give the same score"),
            "not shuffled": (
                shuffles(lambda rng, score, before, after: score(before, after)),
                "all shuffles give the same score",
            ),
            "generator in the loop": (generator_in_the_loop, "all shuffles give the same score"),
            "rows by themselves": (
                shuffles(
                    lambda rng, score, before, after: score(rng.permuted(before, axis=1), after)
                ),
                "complete rows must be shuffled",
            ),
            "columns by themselves": (shuffles(shuffle_readings), "complete rows must be shuffled"),
            "with replacement": (shuffles(draw_with_replacement), "complete rows must be shuffled"),
            "seed ignored": (seed_ignored, "the same seed gives other shuffles"),
        },
    ),
}


@right_answers(nb03, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb03, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)
