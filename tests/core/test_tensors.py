"""Small tensor tools."""

import torch

from cfxnb.attacks.pixel_attack import project
from cfxnb.core.tensors import finite_rows, noise_like, norms, per_sample, unit


def test_unit():
    x = torch.randn(5, 2, 3)
    x[2] = 0
    ours = unit(x)
    expected = [1.0, 1.0, 0.0, 1.0, 1.0]
    torch.testing.assert_close(ours.flatten(1).norm(dim=1), torch.tensor(expected))
    torch.testing.assert_close(ours * per_sample(norms(x), x), x)


def test_norms_and_per_sample():
    x = torch.tensor([[[3.0, 4.0]], [[0.0, 2.0]]])
    assert norms(x).tolist() == [5, 2]
    assert per_sample(norms(x), x).shape == (2, 1, 1)


def test_finite_rows():
    x = torch.zeros(3, 2, 2)
    x[0, 1, 1], x[2, 0, 0] = torch.nan, torch.inf
    assert finite_rows(x).tolist() == [False, True, False]


def test_noise_is_bound_to_its_row():
    like = torch.zeros(6, 3, 2)
    all_rows = noise_like(like, seed=3)
    for rows in ([4], [5, 1], [0, 2, 4]):
        torch.testing.assert_close(
            noise_like(like[: len(rows)], 3, torch.tensor(rows)), all_rows[rows]
        )


def test_noise_is_standard_normal_and_unrelated():
    """Neighbouring rows and seeds share nothing: correlations of 5000 draws stay below 0.07."""
    like = torch.zeros(4, 5000)
    streams = torch.cat([noise_like(like, seed) for seed in (0, 1, 2)])
    assert streams.mean(1).abs().max() < 0.07
    assert (streams.std(1) - 1).abs().max() < 0.05
    correlation = torch.corrcoef(streams) - torch.eye(12)
    assert correlation.abs().max() < 0.07


def test_project_by_hand():
    mean = torch.full((1, 1, 1, 2), 0.5)
    inside = mean + torch.tensor([0.1, 0.0])
    assert torch.equal(project(inside, mean, 0.2), inside)
    outside = mean + torch.tensor([0.3, 0.4])
    torch.testing.assert_close(project(outside, mean, 0.25), mean + torch.tensor([0.15, 0.2]))
    edge = torch.tensor([[[[0.9, 0.5]]]])
    torch.testing.assert_close(
        project(edge + torch.tensor([0.3, 0.4]), edge, 0.5), torch.tensor([[[[1.0, 0.9]]]])
    )
