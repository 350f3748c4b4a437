"""Answers to the exercises of 01_latent_spaces."""

import torch
from mutants import Answers, assert_accepted, assert_rejected, right_answers, wrong_answers
from torch.nn.functional import mse_loss

from cfxnb.checks import nb01


def without_gradient(mean, log_variance, noise):
    with torch.no_grad():
        return mean + (0.5 * log_variance).exp() * noise


def moved(change):
    """Copies of the code, one a step, to which ``change(codes, dim, steps, spread)`` is done."""

    def answer(z, dim, steps, std):
        codes = z.repeat(len(steps), 1)
        change(codes, dim, steps, std)
        return codes

    return answer


def add(codes, dim, steps, std):
    codes[:, dim] += steps * std[dim]


def add_without_spread(codes, dim, steps, std):
    codes[:, dim] += steps


def subtract(codes, dim, steps, std):
    codes[:, dim] -= steps * std[dim]


def replace(codes, dim, steps, std):
    codes[:, dim] = steps * std[dim]


def multiply(codes, dim, steps, std):
    codes[:, dim] *= steps * std[dim]


def add_to_row(codes, dim, steps, std):
    codes[dim] += steps * std[dim]


def one_hot(z, dim, steps, std):
    return z + (steps * std[dim])[:, None] * torch.eye(len(z))[dim]


def write_into_the_code(z, dim, steps, std):
    rows = []
    for step in steps:
        z[dim] += step * std[dim]
        rows.append(z.clone())
    return torch.stack(rows)


def accumulate(z, dim, steps, std):
    return write_into_the_code(z.clone(), dim, steps, std)


def write_into_an_expanded_view(z, dim, steps, std):
    codes = z.expand(len(steps), -1)
    codes[:, dim] += steps * std[dim]
    return codes


def single_code(z, dim, steps, std):
    code = z.clone()
    code[dim] += steps[0] * std[dim]
    return code


def centred(codes):
    return codes - codes.mean(0)


def directions(codes):
    return torch.linalg.svd(codes, full_matrices=False).Vh


def by_covariance(codes, k):
    _, vectors = torch.linalg.eigh(torch.cov(codes.T))
    return centred(codes) @ vectors.flip(1)[:, :k]


def in_ascending_order(codes, k):
    _, vectors = torch.linalg.eigh(torch.cov(codes.T))
    return centred(codes) @ vectors[:, :k]


TABLE = {
    "reconstruction_error": Answers(
        right={
            "mean": lambda a, b: (a - b).square().mean(dim=(1, 2, 3)),
            "flattened": lambda a, b: ((a - b) ** 2).flatten(1).mean(1),
            "mse_loss": lambda a, b: mse_loss(a, b, reduction="none").mean((1, 2, 3)),
        },
        wrong={
            "mean over the batch": (
                lambda a, b: ((a - b) ** 2).mean(),
                "expected one number per image, shape (3,), got torch.Size([])",
            ),
            "mean of each channel": (
                lambda a, b: ((a - b) ** 2).mean(dim=(2, 3)),
                "got torch.Size([3, 2])",
            ),
            "sum": (lambda a, b: ((a - b) ** 2).sum(dim=(1, 2, 3)), "these are not means"),
            "not squared": (lambda a, b: (a - b).mean(dim=(1, 2, 3)), "these are not means"),
            "absolute difference": (
                lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)),
                "differ from the mean squared error",
            ),
            "root": (
                lambda a, b: ((a - b) ** 2).mean(dim=(1, 2, 3)).sqrt(),
                "differ from the mean squared error",
            ),
            "mean squared": (
                lambda a, b: (a - b).mean(dim=(1, 2, 3)) ** 2,
                "differ from the mean squared error",
            ),
            "norm": (
                lambda a, b: (a - b).flatten(1).norm(dim=1),
                "differ from the mean squared error",
            ),
        },
    ),
    "reparameterise": Answers(
        right={
            "half in the exponent": lambda m, v, e: m + (0.5 * v).exp() * e,
            "root of the variance": lambda m, v, e: m + v.exp().sqrt() * e,
        },
        wrong={
            "no spread": (lambda m, v, e: m + e, "the noise is not scaled at all"),
            "variance": (lambda m, v, e: m + v.exp() * e, "the change is -7.389"),
            "log variance": (lambda m, v, e: m + v * e, "the change is -2.000"),
            "no exponential": (lambda m, v, e: m + 0.5 * v * e, "the change is -1.000"),
            "sign": (lambda m, v, e: m - (0.5 * v).exp() * e, "the change is 2.718"),
            "own noise": (
                lambda m, v, e: m + (0.5 * v).exp() * torch.randn_like(m),
                "the same noise gives another result",
            ),
            "mean forgotten": (lambda m, v, e: (0.5 * v).exp() * e, "the change is -0.718"),
            "spread detached": (
                lambda m, v, e: m + (0.5 * v).exp().detach() * e,
                "reaches only one of mean and log_variance",
            ),
            "detached": (
                lambda m, v, e: (m + (0.5 * v).exp() * e).detach(),
                "no gradient flows",
            ),
            "no_grad": (without_gradient, "no gradient flows"),
        },
    ),
    "kl_term": Answers(
        right={
            "as in the text": lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v).sum(1),
            "as often printed": lambda m, v: -0.5 * (1 + v - m.square() - v.exp()).sum(dim=1),
        },
        wrong={
            "sum over the batch": (
                lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v).sum(),
                "expected one number per image, shape (2,), got torch.Size([])",
            ),
            "sum over images": (
                lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v).sum(0),
                "got torch.Size([3])",
            ),
            "no sum": (lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v), "got torch.Size([2, 3])"),
            "minus one forgotten": (
                lambda m, v: 0.5 * (m**2 + v.exp() - v).sum(1),
                "equal to the prior must cost 0, got 1.500",
            ),
            "no exponential": (
                lambda m, v: 0.5 * (m**2 + v - 1 - v).sum(1),
                "equal to the prior must cost 0, got -1.500",
            ),
            "sign": (lambda m, v: 0.5 * (1 + v - m**2 - v.exp()).sum(1), "a negative value"),
            "mean instead of sum": (
                lambda m, v: 0.5 * (m**2 + v.exp() - 1 - v).mean(1),
                "differ from the closed form",
            ),
            "half forgotten": (
                lambda m, v: (m**2 + v.exp() - 1 - v).sum(1),
                "differ from the closed form",
            ),
            "standard deviation": (
                lambda m, v: 0.5 * (m**2 + (0.5 * v).exp() - 1 - v).sum(1),
                "differ from the closed form",
            ),
        },
    ),
    "traverse": Answers(
        right={"repeated": moved(add), "one-hot": one_hot},
        wrong={
            "written into the code": (write_into_the_code, "handed in has changed"),
            "steps add up": (accumulate, "step 0 doesn't give the code itself"),
            "written into a view": (write_into_an_expanded_view, "it raised RuntimeError"),
            "single code": (single_code, "expected one code per step, shape (3, 3)"),
            "whole codes": (
                lambda z, dim, steps, std: z + steps[:, None] * std,
                "other coordinates move too",
            ),
            "row instead of column": (moved(add_to_row), "other coordinates move too"),
            "replaced": (moved(replace), "step 0 doesn't give the code itself"),
            "multiplied": (moved(multiply), "step 0 doesn't give the code itself"),
            "no spread": (moved(add_without_spread), "two std below 2 is 1; got 0.00"),
            "sign": (moved(subtract), "two std below 2 is 1; got 3.00"),
        },
    ),
    "principal_components": Answers(
        right={
            "svd": lambda codes, k: centred(codes) @ directions(centred(codes))[:k].T,
            "covariance": by_covariance,
        },
        wrong={
            "directions": (
                lambda codes, k: directions(centred(codes))[:k],
                "expected the codes in two coordinates",
            ),
            "not centred": (
                lambda codes, k: codes @ directions(codes)[:k].T,
                "not centred",
            ),
            "centred for the directions only": (
                lambda codes, k: codes @ directions(centred(codes))[:k].T,
                "not centred",
            ),
            "centred for the codes only": (
                lambda codes, k: centred(codes) @ directions(codes)[:k].T,
                "not those of largest variance",
            ),
            "left singular vectors": (
                lambda codes, k: torch.linalg.svd(centred(codes), full_matrices=False).U[:, :k],
                "the coordinates are stretched",
            ),
            "divided by the spread": (
                lambda codes, k: by_covariance(codes / codes.std(0), k),
                "not those of largest variance",
            ),
            "ascending": (in_ascending_order, "not those of largest variance"),
            "columns instead of rows": (
                lambda codes, k: centred(codes) @ directions(centred(codes))[:, :k],
                "not those of largest variance",
            ),
            "no components at all": (
                lambda codes, k: centred(codes)[:, :k],
                "not those of largest variance",
            ),
        },
    ),
}


@right_answers(nb01, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb01, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)
