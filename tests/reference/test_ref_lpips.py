"""LPIPS against the official package, with random weights stored as int8 times a scale."""

import pytest
import torch
import torch.nn.functional as F
from stored import stored

from cfxnb.metrics.lpips import LPIPS


@pytest.fixture(params=["alex", "squeeze"], scope="module")
def case(request):
    t, _ = stored(f"metrics_lpips_{request.param}")
    state = {k: v for k, v in t.items() if k.startswith(("net.", "lin", "scaling_layer."))}
    for key in [k for k in state if k.endswith(".int8")]:
        name = key.removesuffix(".int8")
        state[name] = state.pop(key).float() * state.pop(f"{name}.scale")
    # The references lie in [-1, 1]; this package's images in [0, 1].
    a, b = ((t[k] + 1) / 2 for k in ("image_a", "image_b"))
    return request.param, state, t, a, b


def test_distances(case):
    net, state, t, a, b = case
    with torch.no_grad():
        ours = LPIPS(state, net)(a, b)
    torch.testing.assert_close(ours, t.wanted("lpips"), rtol=0, atol=1e-5)
    torch.testing.assert_close(ours, t.wanted("lpips_from_01_inputs"), rtol=0, atol=1e-5)
    assert ours[2] == 0  # the third pair is identical
    assert ours[0] > 1e-2


def test_features(case):
    net, state, t, a, _ = case
    maps = LPIPS(state, net).features(a[:1])
    for i, ours in enumerate(maps):
        torch.testing.assert_close(ours, t.wanted(f"feature_a/{i}"), rtol=1e-4, atol=1e-5)
    assert f"feature_a/{len(maps)}" not in t


@torch.no_grad()
def test_parts(case):
    """Layer by layer, without learned weights, and place by place."""
    net, state, t, a, b = case
    lins = [key for key in state if key.startswith("lin")]
    per_layer = t.wanted("lpips_per_layer")
    for i, wanted in enumerate(per_layer):
        alone = {k: state[k] * (k == f"lin{i}.model.1.weight") for k in lins}
        torch.testing.assert_close(LPIPS(state | alone, net)(a, b), wanted, rtol=0, atol=1e-5)
    assert len(per_layer) == len(lins)
    ones = {k: torch.ones_like(state[k]) for k in lins}
    ours = LPIPS(state | ones, net)(a, b)
    torch.testing.assert_close(ours, t.wanted("uncalibrated_sum"), rtol=1e-5, atol=1e-5)

    model, total = LPIPS(state, net), 0
    both = zip(model.features(a), model.features(b), model.weights, strict=True)
    for x, y, weight in both:
        x, y = (f / (f.norm(dim=1, keepdim=True) + 1e-10) for f in (x, y))
        each = F.conv2d((x - y).square(), weight)
        total = total + F.interpolate(each, a.shape[2:], mode="bilinear")
    torch.testing.assert_close(total, t.wanted("lpips_spatial"), rtol=0, atol=1e-5)


def test_symmetric_and_differentiable(case):
    net, state, _, a, b = case
    model = LPIPS(state, net)
    torch.testing.assert_close(model(a, b), model(b, a))
    point = a[:1].clone().requires_grad_()
    model(point, b[:1]).sum().backward()
    assert point.grad.abs().sum() > 0


def test_wrong_states_and_nets(case):
    net, state, _, a, b = case
    with pytest.raises(ValueError, match=r"net: expected one of.*got 'vgg'"):
        LPIPS(state, "vgg")
    with pytest.raises(ValueError, match="state_dict: expected the tensors of LPIPS"):
        LPIPS({k: v for k, v in state.items() if k != "lin0.model.1.weight"}, net)
    with pytest.raises(ValueError, match="state_dict: expected the tensors of LPIPS"):
        LPIPS(state, "squeeze" if net == "alex" else "alex")
    with pytest.raises(ValueError, match="a, b: expected equal shapes"):
        LPIPS(state, net)(a, b[:1])
