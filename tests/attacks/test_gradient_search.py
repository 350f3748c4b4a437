"""The parts of a search against naive versions of themselves."""

import math

import pytest
import torch

from cfxnb.attacks.latent_attack import Adam
from cfxnb.core.bisection import bisect
from cfxnb.core.decisions import is_reached, log_odds


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_log_odds_are_those_of_the_softmax(classes):
    logits = 3 * torch.randn(20, classes, dtype=torch.float64)
    target = torch.randint(classes, (20,))
    for i, ours in enumerate(log_odds(logits, target).tolist()):
        exps = [math.exp(v) for v in logits[i].tolist()]
        p = exps[target[i]] / sum(exps)
        assert ours == pytest.approx(math.log(p / (1 - p)), abs=1e-9)


@pytest.mark.parametrize("contrast_class", [None, torch.tensor([2, 2, 0])])
def test_log_odds_among_all_classes_or_among_two(contrast_class):
    logits = 3 * torch.randn(3, 4, dtype=torch.float64)
    label = torch.tensor([0, 1, 3])
    for i, ours in enumerate(log_odds(logits, label, contrast_class).tolist()):
        exps = [math.exp(v) for v in logits[i].tolist()]
        rest = sum(exps) - exps[label[i]] if contrast_class is None else exps[contrast_class[i]]
        assert ours == pytest.approx(math.log(exps[label[i]] / rest), abs=1e-9)


def test_log_odds_do_not_saturate():
    logits = torch.tensor([[0.0, 500.0], [500.0, 0.0]], requires_grad=True)
    odds = log_odds(logits, torch.tensor([0, 0]))
    assert odds.tolist() == [-500, 500]
    odds.sum().backward()
    assert logits.grad.tolist() == [[1, -1], [1, -1]]


@pytest.mark.parametrize("p", [0.01, 0.5, 0.95, 0.999])
def test_reached_is_at_least_that_probability_and_predicted(p):
    """Both sides of the border at p, against the softmax; nothing counts that is not predicted."""
    border = math.log(p / (1 - p))
    odds = border + torch.tensor([-1e-3, -1e-9, 1e-9, 1e-3, 40.0], dtype=torch.float64)
    logits = torch.stack([torch.zeros_like(odds), odds], dim=1)
    expected = (logits.softmax(1)[:, 1] >= p) & (odds > 0)
    assert torch.equal(is_reached(logits, torch.ones(5, dtype=torch.int64), p), expected)
    assert expected[-1]


def smallest(holds, count, binary_search_steps):
    """The smallest fraction, in (0, 1], at which each of ``count`` samples holds."""
    return bisect(holds, torch.zeros(count), torch.ones(count), binary_search_steps)


@pytest.mark.parametrize("binary_search_steps", [0, 1, 2, 5, 8])
def test_bisect_finds_what_brute_force_finds(binary_search_steps):
    """On a monotone test the answer is the smallest passing multiple of 2**-binary_search_steps."""
    boundary = torch.tensor([0.001, 0.2, 0.37, 0.5, 0.75, 0.99, 1.0])
    grid = torch.arange(1, 2**binary_search_steps + 1) / 2**binary_search_steps
    brute = torch.stack([grid[grid >= b].min() for b in boundary])
    ours = smallest(lambda x: x >= boundary, 7, binary_search_steps)
    torch.testing.assert_close(ours, brute)


def test_bisect_works_in_any_interval():
    """Also downwards, and each row in its own."""
    boundary = torch.tensor([0.9, -0.1, 3.0])
    low, high = torch.tensor([0.0, 0.0, 4.0]), torch.tensor([1.0, -1.0, 2.0])
    found = bisect(lambda x: (x - low).abs() >= (boundary - low).abs(), low, high, 10)
    assert (found - boundary).abs().max() < 2**-9 + 1e-6


def test_bisect_answers_only_what_it_saw_pass():
    """Also where the test is not monotone at all."""
    seen = []

    def holds(x):
        ok = ((x * 7).floor() % 2) == 0
        seen.extend(x[ok].tolist())
        return ok

    for answer in smallest(holds, 3, 6).tolist():
        assert answer == 1 or answer in seen


def test_bisect_of_no_samples():
    assert smallest(lambda x: x > 0, 0, 5).shape == (0,)


def test_adam_is_torchs_when_all_rows_move():
    ours = torch.randn(5, 3, 2, dtype=torch.float64)
    theirs = ours.clone().requires_grad_()
    own, reference = Adam(ours, 0.07), torch.optim.Adam([theirs], lr=0.07)
    for _ in range(25):
        slope = torch.randn(5, 3, 2, dtype=torch.float64)
        ours -= own.step(torch.arange(5), slope)
        theirs.grad = slope.clone()
        reference.step()
    torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-6)


def test_adam_on_some_rows_is_adam_on_each_row_alone():
    """A row's moments and its bias correction count only its own steps."""
    x = torch.randn(3, 4, dtype=torch.float64)
    alone = [row.clone().requires_grad_() for row in x]
    optimisers = [torch.optim.Adam([row], lr=0.1) for row in alone]
    adam = Adam(x, 0.1)
    for rows in ([0, 1, 2], [1], [0, 2], [2], [1, 2], [0]):
        slope = torch.randn(len(rows), 4, dtype=torch.float64)
        x[rows] -= adam.step(torch.tensor(rows), slope)
        for row, g in zip(rows, slope, strict=True):
            alone[row].grad = g.clone()
            optimisers[row].step()
    torch.testing.assert_close(x, torch.stack(alone).detach(), rtol=1e-5, atol=1e-6)
