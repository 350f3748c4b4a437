"""Answers to the exercises of 00_welcome."""

import torch
from mutants import Answers, assert_accepted, assert_rejected, right_answers, wrong_answers

from cfxnb.checks import nb00


def weights(steps):
    return torch.linspace(0, 1, steps).unsqueeze(1)


def path_in_a_loop(start, end, steps):
    return torch.stack([start + i / (steps - 1) * (end - start) for i in range(steps)])


def flip_in_a_loop(p):
    for i, value in enumerate(p.tolist()):
        if value > 0.5:
            return i
    return -1


def flip_without_a_last_line(p):
    for i, value in enumerate(p.tolist()):
        if value > 0.5:
            return i


def if_any(p, index):
    return int(index(p)) if (p > 0.5).any() else -1


def fraction_with_floor(read, target, flipped):
    agree = ((read == target) & flipped).sum()
    return (agree / flipped.sum().clamp(min=1)).item()


def smallest(distance, flipped):
    if not flipped.any():
        return -1
    return int(distance.masked_fill(~flipped, torch.inf).argmin())


def smallest_in_a_loop(distance, flipped):
    best = -1
    for i in range(len(distance)):
        if flipped[i] and (best == -1 or distance[i] < distance[best]):
            best = i
    return best


def smallest_in_place(distance, flipped):
    if not flipped.any():
        return -1
    distance[~flipped] = torch.inf
    return int(distance.argmin())


def last_success(distance, flipped):
    return int(flipped.nonzero()[-1, 0]) if flipped.any() else -1


TABLE = {
    "straight_path": Answers(
        right={
            "weights": lambda a, b, n: a + weights(n) * (b - a),
            "lerp": lambda a, b, n: torch.lerp(a, b, weights(n)),
            "loop": path_in_a_loop,
        },
        wrong={
            "start and end exchanged": (
                lambda a, b, n: b + weights(n) * (a - b),
                "doesn't begin at the start",
            ),
            "never reaches the end": (
                lambda a, b, n: a + torch.arange(n)[:, None] / n * (b - a),
                "doesn't begin at the start and end at the end",
            ),
            "end instead of difference": (
                lambda a, b, n: a + weights(n) * b,
                "doesn't begin at the start and end at the end",
            ),
            "one step too many": (
                lambda a, b, n: a + weights(n + 1) * (b - a),
                "got (6, 4)",
            ),
            "list": (
                lambda a, b, n: list(path_in_a_loop(a, b, n)),
                "expected 5 codes in a tensor of shape (5, 4), got list",
            ),
            "steps in columns": (
                lambda a, b, n: a[:, None] + torch.linspace(0, 1, n) * (b - a)[:, None],
                "got (4, 5)",
            ),
            "no dimension for the steps": (
                lambda a, b, n: a + torch.linspace(0, 1, n) * (b - a),
                "it raised RuntimeError",
            ),
            "squared weights": (
                lambda a, b, n: a + weights(n) ** 2 * (b - a),
                "not equally long",
            ),
        },
    ),
    "flip_point": Answers(
        right={
            "argmax": lambda p: if_any(p, lambda p: (p > 0.5).int().argmax()),
            "nonzero": lambda p: if_any(p, lambda p: (p > 0.5).nonzero()[0, 0]),
            "loop": flip_in_a_loop,
        },
        wrong={
            "argmax of nothing": (
                lambda p: int((p > 0.5).int().argmax()),
                "never flips expected -1, got 0",
            ),
            "nothing returned": (flip_without_a_last_line, "never flips expected -1, got None"),
            "first of nothing": (
                lambda p: int((p > 0.5).nonzero()[0, 0]),
                "it raised IndexError",
            ),
            "last step above": (
                lambda p: if_any(p, lambda p: (p > 0.5).nonzero()[-1, 0]),
                "expected step 1, got 4",
            ),
            "largest step": (
                lambda p: if_any(p, torch.argmax),
                "expected step 1, got 4",
            ),
            "counted from one": (
                lambda p: if_any(p, lambda p: (p > 0.5).int().argmax() + 1),
                "expected step 1, got 2",
            ),
            "bisected": (
                lambda p: if_any(p, lambda p: torch.searchsorted(p, 0.5, right=True)),
                "expected step 1, got 4",
            ),
            "change between steps": (
                lambda p: if_any(p, lambda p: (p > 0.5).int().diff().argmax() + 1),
                "for [0.6, 0.7] expected step 0, got 1",
            ),
            "one half counts": (
                lambda p: int((p >= 0.5).int().argmax()) if (p >= 0.5).any() else -1,
                "for [0.5, 0.6] expected step 1, got 0",
            ),
        },
    ),
    "judge_agreement": Answers(
        right={
            "selected": lambda r, t, f: (r[f] == t[f]).float().mean().item(),
            "counted": lambda r, t, f: ((r == t) & f).sum() / f.sum(),
        },
        wrong={
            "all images": (
                lambda r, t, f: (r == t).float().mean().item(),
                "expected 0.667, got 0.750",
            ),
            "divided by all images": (
                lambda r, t, f: ((r == t) & f).float().mean().item(),
                "expected 0.667, got 0.500",
            ),
            "fraction that disagrees": (
                lambda r, t, f: (r[f] != t[f]).float().mean().item(),
                "expected 0.667, got 0.333",
            ),
            "sum": (
                lambda r, t, f: (r[f] == t[f]).sum().item(),
                "expected 0.667, got 2.000",
            ),
            "mean of truth values": (
                lambda r, t, f: (r[f] == t[f]).mean().item(),
                "it raised RuntimeError",
            ),
            "fixed class": (
                lambda r, t, f: (r[f] == 9).float().mean().item(),
                "for targets 3 and 6",
            ),
            "first target for all": (
                lambda r, t, f: (r[f] == t[0]).float().mean().item(),
                "for targets 3 and 6",
            ),
            "nothing divided by one": (
                fraction_with_floor,
                "if nothing flipped expected NaN, got 0",
            ),
        },
    ),
    "smallest_change": Answers(
        right={"infinity": smallest, "loop": smallest_in_a_loop},
        wrong={
            "failed ones too": (
                lambda d, f: int(d.argmin()) if f.any() else -1,
                "expected index 3, got 0",
            ),
            "zero for the failed": (
                lambda d, f: int((d * f).argmin()) if f.any() else -1,
                "expected index 3, got 0",
            ),
            "largest": (
                lambda d, f: int(d.masked_fill(~f, -torch.inf).argmax()) if f.any() else -1,
                "expected index 3, got 2",
            ),
            "place among the flipped": (
                lambda d, f: int(d[f].argmin()) if f.any() else -1,
                "is one among the flipped",
            ),
            "distance": (
                lambda d, f: d[f].min().item() if f.any() else -1,
                "expected index 3, got 1.5",
            ),
            "in place": (smallest_in_place, "handed in have changed"),
            "last": (last_success, "when all flipped expected index 0, got 3"),
            "argmin of infinities": (
                lambda d, f: int(d.masked_fill(~f, torch.inf).argmin()),
                "when nothing flipped expected -1, got 0",
            ),
        },
    ),
}


@right_answers(nb00, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb00, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)
