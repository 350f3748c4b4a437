"""Answers to the exercises of 07_global_directions."""

import numpy as np
import torch
from mutants import Answers, assert_accepted, assert_rejected, right_answers, wrong_answers
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from cfxnb.checks import nb07


def parts(score):
    return score[::2], score[1::2]


def taken_apart(change):
    """The right parts, changed."""

    def answer(score, home):
        there, back = parts(score)
        return change((there - back) / 2, (there + back) / 2, home)

    return answer


def odd_even_in_a_loop(score, home):
    odd, even = [], []
    for i in range(0, len(score), 2):
        odd.append((score[i] - score[i + 1]) / 2)
        even.append((score[i] + score[i + 1]) / 2 - home)
    return torch.stack(odd), torch.stack(even)


def by_reshaping(score, home):
    pairs = score.reshape(-1, 2) - home
    return (pairs @ torch.tensor([0.5, -0.5])), pairs.mean(1)


def halves(score, home):
    m = len(score) // 2
    return (score[:m] - score[m:]) / 2, (score[:m] + score[m:]) / 2 - home


def neighbours(score, home):
    return (score[:-1] - score[1:]) / 2, (score[:-1] + score[1:]) / 2 - home


def solved(matrix, right):
    return torch.linalg.solve(matrix, right)


def system(weight=lambda p, m: p, sign=1):
    def answer(delta, odd, penalty):
        eye = torch.eye(delta.shape[1])
        return sign * solved(delta.T @ delta + weight(penalty, len(delta)) * eye, delta.T @ odd)

    return answer


def by_the_dual(delta, odd, penalty):
    return delta.T @ solved(delta @ delta.T + penalty * torch.eye(len(delta)), odd)


def by_sklearn(delta, odd, penalty):
    fit = Ridge(penalty, fit_intercept=False).fit(delta.numpy(), odd.numpy())
    return torch.from_numpy(fit.coef_)


def with_an_intercept(delta, odd, penalty):
    return torch.from_numpy(Ridge(penalty).fit(delta.numpy(), odd.numpy()).coef_)


def by_more_rows(delta, odd, penalty):
    d = delta.shape[1]
    rows = torch.cat([delta, penalty**0.5 * torch.eye(d)])
    return torch.linalg.lstsq(rows, torch.cat([odd, torch.zeros(d)])[:, None]).solution[:, 0]


def penalty_everywhere(delta, odd, penalty):
    return solved(delta.T @ delta + penalty, delta.T @ odd)


def right_hand_side(delta, odd, penalty):
    return delta.T @ odd


def prediction(delta, odd, penalty):
    return delta @ system()(delta, odd, penalty)


def right_r2(seen, told):
    return float(1 - (seen - told).square().sum() / (seen - seen.mean()).square().sum())


def bisection(ask_first=None, moved_right=True, result="far", turns=0, both=False):
    def answer(flips, low, high, halvings):
        if ask_first == "low":
            flips(low)
        middle = high
        for _ in range(halvings + turns):
            middle = (low + high) / 2
            seen = flips(middle)
            if both and flips(middle):
                pass
            if seen == moved_right:
                high = middle
            else:
                low = middle
        return {"far": high, "near": low, "middle": (low + high) / 2, "last": middle}[result]

    return answer


def by_recursion(flips, low, high, halvings):
    if not halvings:
        return high
    middle = low + (high - low) / 2
    ends = (low, middle) if flips(middle) else (middle, high)
    return by_recursion(flips, *ends, halvings - 1)


def last_middle_that_flips_or_not(flips, low, high, halvings):
    far = bisection()(flips, low, high, halvings)
    return far if far < high else high - 1


def without_asking(flips, low, high, halvings):
    return low + (high - low) / 2**halvings


def endless(flips, low, high, halvings):
    while high > low:
        middle = (low + high) / 2
        if flips(middle):
            high = middle
        else:
            low = middle
        high, low = max(high, low + 1), low
    return high


def oriented_in_a_loop(axes, gradient):
    return torch.stack([-a if a @ gradient < 0 else a for a in axes])


def by_a_factor(axes, gradient):
    return axes * (1 - 2 * (axes @ gradient < 0).float())[:, None]


def by_sign(axes, gradient):
    return axes * (axes @ gradient).sign()[:, None]


def by_slope(axes, gradient):
    return axes * ((axes @ gradient)[:, None] + (axes @ gradient == 0)[:, None])


def turned_when(condition):
    return lambda a, g: torch.where(condition(a, g)[:, None], -a, a)


def framed(share=None, area=None):
    """The right shares, unless another formula is given."""

    def answer(change, width):
        inside = change[width:-width, width:-width]
        right = float(1 - inside.abs().sum() / change.abs().sum())
        part = 1 - inside.numel() / change.numel()
        return (
            share(change, inside, width) if share else right,
            area(change, inside, width) if area else part,
        )

    return answer


def frame_in_numpy(change, width):
    size = np.abs(change.numpy())
    inside = np.pad(np.ones(np.array(size.shape) - 2 * width, dtype=bool), width)
    return size[~inside].sum() / size.sum(), (~inside).mean()


def four_strips(change, inside, width):
    size = change.abs()
    strips = (size[:width], size[-width:], size[:, :width], size[:, -width:])
    return float(sum(s.sum() for s in strips) / size.sum())


TABLE = {
    "odd_even": Answers(
        right={
            "slices": taken_apart(lambda odd, even, home: (odd, even - home)),
            "loop": odd_even_in_a_loop,
            "reshaped": by_reshaping,
        },
        wrong={
            "odd only": (
                taken_apart(lambda odd, even, home: odd),
                "expected the odd and the even part, got Tensor",
            ),
            "exchanged": (
                taken_apart(lambda odd, even, home: (even - home, odd)),
                "odd part: the odd and the even part are exchanged",
            ),
            "sign": (
                taken_apart(lambda odd, even, home: (-odd, even - home)),
                "odd part: its sign is wrong",
            ),
            "not halved": (
                taken_apart(lambda odd, even, home: (2 * odd, even - home)),
                "odd part: it is too large by a factor of 2",
            ),
            "home forgotten": (
                taken_apart(lambda odd, even, home: (odd, even)),
                "even part: the score of the unchanged code was not subtracted",
            ),
            "home in the odd part": (
                taken_apart(lambda odd, even, home: (odd - home, even - home)),
                "odd part: expected 2.000, -2.500",
            ),
            "sum": (
                taken_apart(lambda odd, even, home: (odd, 2 * even - home)),
                "even part: expected 1.500, 0.000",
            ),
            "home twice": (
                taken_apart(lambda odd, even, home: (odd, even - 2 * home)),
                "even part: expected 1.500, 0.000",
            ),
            "halves": (halves, "the first half of the scores is paired with the second"),
            "neighbours": (
                neighbours,
                "expected one odd part per pair, shape (5,), got",
            ),
        },
    ),
    "ridge_slope": Answers(
        right={
            "normal equations": system(),
            "dual": by_the_dual,
            "scikit-learn": by_sklearn,
            "more rows": by_more_rows,
        },
        wrong={
            "no penalty": (system(lambda p, m: 0.0), "the penalty is ignored"),
            "penalty doubled": (
                system(lambda p, m: 2 * p),
                "the penalty is too large by a factor of 2",
            ),
            "penalty halved": (system(lambda p, m: p / 2), "half of the penalty"),
            "penalty squared": (system(lambda p, m: p**2), "the penalty is squared"),
            "penalty times rows": (
                system(lambda p, m: p * m),
                "the penalty is multiplied by the number of changes",
            ),
            "intercept": (with_an_intercept, "an intercept was fitted as well"),
            "not solved": (right_hand_side, "nothing was solved"),
            "sign": (system(sign=-1), "slope: its sign is wrong"),
            "penalty everywhere": (penalty_everywhere, "the penalty is added to every entry"),
            "prediction": (prediction, "expected 6 numbers, one per dimension"),
            "eye of rows": (
                lambda d, y, p: solved(d.T @ d + p * torch.eye(len(d)), d.T @ y),
                "it raised RuntimeError",
            ),
            "another penalty": (system(lambda p, m: 1.0), "slope: expected"),
        },
    ),
    "r_squared": Answers(
        right={
            "sums": right_r2,
            "scikit-learn": lambda seen, told: r2_score(seen.numpy(), told.numpy()),
            "means": lambda seen, told: 1 - (seen - told).square().mean() / seen.var(correction=0),
        },
        wrong={
            "missed": (
                lambda s, t: 1 - right_r2(s, t),
                "that is the fraction that is not explained",
            ),
            "correlation": (
                lambda s, t: torch.corrcoef(torch.stack([s, t]))[0, 1],
                "that is the correlation",
            ),
            "squared correlation": (
                lambda s, t: torch.corrcoef(torch.stack([s, t]))[0, 1] ** 2,
                "that is the squared correlation",
            ),
            "mean kept": (
                lambda s, t: 1 - (s - t).square().sum() / s.square().sum(),
                "the observed values are squared instead of their deviations from the mean",
            ),
            "exchanged": (
                lambda s, t: right_r2(t, s),
                "the deviations are those of the predictions",
            ),
            "root": (lambda s, t: 1 - (1 - right_r2(s, t)) ** 0.5, "a square root was taken"),
            "unbiased variance": (
                lambda s, t: 1 - (s - t).square().mean() / s.var(),
                "expected 0.721, got 0.777",
            ),
            "cut at 0": (lambda s, t: max(0.0, right_r2(s, t)), "R² of a bad prediction: expected"),
        },
    ),
    "smallest_step": Answers(
        right={"loop": bisection(), "recursion": by_recursion},
        wrong={
            "near end": (bisection(result="near"), "expected 3.5, got 3.25"),
            "middle": (bisection(result="middle"), "expected 3.5, got 3.375"),
            "last middle": (bisection(result="last"), "expected 3.5, got 3.25"),
            "wrong end moved": (bisection(moved_right=False), "queried at 4, 5, 5.5, 5.75"),
            "one turn less": (bisection(turns=-1), "expected 4 queries for 4 steps, got 3"),
            "one turn more": (bisection(turns=1), "expected 4 queries for 4 steps, got 5"),
            "asked twice": (bisection(both=True), "expected 4 queries for 4 steps, got 8"),
            "low asked": (bisection(ask_first="low"), "the first query was at 2"),
            "never asked": (without_asking, "the box was never queried"),
            "endless": (endless, "the box is queried more than 50 times"),
            "another far end": (
                last_middle_that_flips_or_not,
                "expected 8.000, got 7.000",
            ),
            "nothing": (
                lambda f, a, b, n: bisection()(f, a, b, n) and None,
                "expected a number, got NoneType",
            ),
        },
    ),
    "orient": Answers(
        right={
            "where": turned_when(lambda a, g: a @ g < 0),
            "loop": oriented_in_a_loop,
            "factor": by_a_factor,
        },
        wrong={
            "sign": (by_sign, "an axis orthogonal to the gradient has become 0"),
            "other way": (
                turned_when(lambda a, g: a @ g > 0),
                "of 4 axes the score still decreases",
            ),
            "unchanged": (lambda a, g: a, "of 4 axes the score still decreases"),
            "all": (lambda a, g: -a, "of 4 axes the score still decreases"),
            "absolute": (lambda a, g: a.abs(), "only some coordinates of an axis changed sign"),
            "slopes": (lambda a, g: a @ g, "expected axes of shape (4, 3)"),
            "scaled by the slope": (by_slope, "the length or the order of the axes has changed"),
            "normalised": (
                lambda a, g: oriented_in_a_loop(a / a.norm(dim=1, keepdim=True), g),
                "the length or the order of the axes has changed",
            ),
            "first coordinate": (
                turned_when(lambda a, g: a[:, 1] < 0),
                "of 4 axes the score still decreases",
            ),
        },
    ),
    "frame_fraction": Answers(
        right={"slices": framed(), "numpy": frame_in_numpy},
        wrong={
            "share only": (
                lambda c, w: framed()(c, w)[0],
                "expected the fraction of the change and of the area, got float",
            ),
            "exchanged": (
                lambda c, w: framed()(c, w)[::-1],
                "the two fractions are exchanged",
            ),
            "inside": (
                framed(lambda c, i, w: float(i.abs().sum() / c.abs().sum())),
                "that is the fraction inside the frame",
            ),
            "signed": (
                framed(lambda c, i, w: float(1 - i.sum() / c.sum())),
                "positive and negative changes cancel",
            ),
            "squares": (
                framed(lambda c, i, w: float(1 - i.square().sum() / c.square().sum())),
                "squares are summed",
            ),
            "corners twice": (framed(four_strips), "fraction of the change: expected"),
            "one side": (
                framed(lambda c, i, w: float(1 - c[w:, w:].abs().sum() / c.abs().sum())),
                "fraction of the change: expected",
            ),
            "area of one side": (
                framed(area=lambda c, i, w: 1 - c[w:, w:].numel() / c.numel()),
                "fraction of the area: expected",
            ),
            "area of the inside": (
                framed(area=lambda c, i, w: i.numel() / c.numel()),
                "fraction of the area: expected",
            ),
        },
    ),
}


@right_answers(nb07, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb07, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)
