"""Measures of maps, against values that can be counted by hand."""

import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from worlds import LinearNet, vae_world

import cfxnb as cfx
from cfxnb.attribution.integrated_gradients import integrated_gradients
from cfxnb.attribution.paths import straight_path
from cfxnb.metrics.attribution import (
    insertion_deletion,
    parameter_randomisation,
    pointing_game,
    relevance_mass,
)

MAPS = torch.tensor(
    [[[3.0, -1.0], [0.0, 4.0]], [[-5.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]
)
MASK = torch.tensor([[[True, True], [False, False]]]).expand(3, 2, 2)


def test_relevance_mass():
    table = relevance_mass(MAPS, MASK)
    expected = pd.DataFrame(
        {
            "inside": [4 / 8, 1.0, float("nan")],
            "positive inside": [3 / 7, float("nan"), float("nan")],
            "area": [0.5, 0.5, 0.5],
        }
    )
    pd.testing.assert_frame_equal(table, expected)


def test_even_heat_is_at_chance():
    mask = torch.rand(4, 9, 7) < 0.3
    table = relevance_mass(torch.ones(4, 9, 7), mask)
    assert (table["inside"] - table["area"]).abs().max() < 1e-12


def test_pointing_game():
    assert pointing_game(MAPS, MASK).tolist() == [False, False, False]
    assert pointing_game(MAPS, ~MASK).tolist() == [True, False, False]


def test_insertion_and_deletion_by_hand():
    """Log odds 4, 2, 0 and -2 for four pixels that come one by one: p is known at each step."""
    weight = torch.tensor([[0.0, 0, 0, 0], [4.0, 2.0, 0.0, -2.0]])
    f = cfx.BlackBox(cfx.wrap(LinearNet(weight, torch.tensor([0.0, 2.0]))))
    x, black = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    # x - 0.5 inside the net: black has log odds 0, each pixel adds its weight.
    found = insertion_deletion(f, x, black, weight[1].view(1, 2, 2), 1, n_chunks=4)
    torch.testing.assert_close(found.fraction, torch.tensor([0, 0.25, 0.5, 0.75, 1]))
    up = torch.tensor([[0.0, 4, 6, 6, 4]]).sigmoid()
    down = torch.tensor([[4.0, 0, -2, -2, 0]]).sigmoid()
    torch.testing.assert_close(found.insertion, up)
    torch.testing.assert_close(found.deletion, down)
    torch.testing.assert_close(found.insertion_auc, torch.trapezoid(up, dx=0.25))
    torch.testing.assert_close(found.deletion_auc, torch.trapezoid(down, dx=0.25))
    assert f.n_queries == 10


def test_true_order_beats_its_opposite():
    _, f, x = vae_world(2)
    label = f(x).argmax(1)
    maps = integrated_gradients(f, straight_path(x, 0.5), label)
    right = insertion_deletion(f, x, maps.baseline, maps, label)
    wrong = insertion_deletion(f, x, maps.baseline, -maps.heat_map, label)
    assert (right.insertion_auc > wrong.insertion_auc).all()
    assert (right.deletion_auc < wrong.deletion_auc).all()


def maps_of(x):
    return lambda f: integrated_gradients(f, straight_path(x), 1)


@pytest.mark.parametrize("cascade", [True, False])
def test_maps_that_read_the_net_lose_their_order(cascade):
    _, f, x = vae_world(3)
    before = {k: v.clone() for k, v in f.module.state_dict().items()}
    table = parameter_randomisation(f, maps_of(x), cascade=cascade)
    assert list(table.index) == (["head", "conv"] if cascade else ["all"])
    assert table["signed"].iloc[-1] < 0.6
    assert all(torch.equal(v, before[k]) for k, v in f.module.state_dict().items())


def test_a_map_that_ignores_the_net_is_found_out():
    _, f, x = vae_world(2)
    table = parameter_randomisation(f, lambda g: x.diff(dim=3, prepend=x[..., :1]).sum(1))
    assert (table == 1).all(axis=None)


def test_new_weights_are_as_large_as_the_old():
    net = nn.Linear(300, 300)
    with torch.no_grad():
        net.weight.mul_(5).add_(2)
    seen = []

    def explain(module):
        seen.append(module.weight.detach().clone())
        return torch.rand(1, 3, 3, generator=torch.Generator().manual_seed(0))

    state = torch.get_rng_state()
    parameter_randomisation(net, explain)
    old, new = seen
    assert abs(new.mean() - old.mean()) < 0.01
    assert abs(new.std() / old.std() - 1) < 0.02
    assert abs(torch.corrcoef(torch.stack([old.flatten(), new.flatten()]))[0, 1]) < 0.02
    assert torch.equal(state, torch.get_rng_state())


def test_rank_correlation_is_that_of_scipy():
    a, b = torch.rand(3, 4, 4), torch.rand(3, 4, 4).round(decimals=1)  # with ties
    net = nn.Linear(2, 2)
    found = parameter_randomisation(net, lambda f: a if f is net else b)["signed"].item()
    pairs = zip(a.flatten(1).numpy(), b.flatten(1).numpy(), strict=True)
    expected = [spearmanr(x, y).statistic for x, y in pairs]
    assert found == pytest.approx(sum(expected) / 3)


def test_rank_correlation_sees_order_alone():
    """One net whose map is the cube of the other's; and one whose map runs backwards."""
    net, maps = nn.Linear(2, 2), torch.rand(2, 4, 4)
    assert parameter_randomisation(net, lambda f: maps if f is net else maps**3)[
        "signed"
    ].tolist() == [1]
    back = parameter_randomisation(net, lambda f: maps if f is net else -maps)
    torch.testing.assert_close(back.to_numpy().tolist(), [[-1.0, 1.0]])
