"""The paper's network and its directions against the official code, and against the right sign."""

import pytest
import torch
from stored import stored

from cfxnb.directions.direction_candidates import WEIGHTS, direction_candidates, top_eigenvectors
from cfxnb.directions.mlp_proxy import MLPProxy, counterfactual_loss, differentiate

NAMES = ("positive", "negative")


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a.double(), b.double(), rtol=tolerance, atol=tolerance)


def up_to_sign(a, b, tolerance=1e-4):
    cosines = torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=-1).abs()
    close(cosines, torch.ones_like(cosines), tolerance)


@pytest.fixture(params=NAMES)
def case(request):
    """(tensors, facts, network, what it says at no change about the official logit)."""
    t, facts = stored(f"gcd_directions_{request.param}")
    net = MLPProxy(facts["latent_dim"], facts["logits"], tuple(facts["hidden"]))
    net.load_state_dict({k: v for k, v in t.items() if k.startswith("proxy.")}, strict=True)
    return t, facts, net, differentiate(net, lambda logits: logits[:, facts["query_label"]])


def test_network(case):
    t, _, net, _ = case
    logits, lpips = net(t["test_delta"])
    close(logits, t.wanted("test_logits"))
    close(lpips[:, None], t.wanted("test_lpips"))


def test_training_loss_and_its_gradients(case):
    t, _, net, _ = case
    loss = net.loss(t["test_delta"], t["train_target_logits"], t["train_target_lpips"][:, 0])
    close(loss, t.wanted("train_loss"))
    loss.backward()
    found = {n: p.grad for n, p in net.named_parameters()}
    assert len(found) == sum(k.startswith("train_grad.") for k in t)
    for name, gradient in found.items():
        close(gradient, t.wanted(name.replace("proxy", "train_grad")))


def test_counterfactual_loss(case):
    t, facts, net, _ = case
    for weights, expected in zip(facts["weight_pairs"], t.wanted("cf_loss"), strict=True):
        label, sign = facts["query_label"], facts["sign_s"]
        close(counterfactual_loss(net, t["test_delta"], label, sign, weights), expected)


def test_gradients_and_curvature(case):
    t, facts, _, fit = case
    both = WEIGHTS[0] * facts["sign_s"] * fit.gradient + WEIGHTS[1] * fit.distance
    slopes = torch.stack([facts["sign_s"] * fit.gradient, both])
    close(slopes, t.wanted("loss_gradient_raw_float64"))
    close(slopes.norm(dim=1), t.wanted("g_norms"))
    close(facts["sign_s"] * fit.hessian, t.wanted("hessian"))
    close(facts["sign_s"] * fit.hessian, t.wanted("hessian_float64"))
    assert facts["weight_pairs"][0] == [1.0, 0.0]
    assert list(WEIGHTS) == facts["weight_pairs"][1]


def test_g_directions(case):
    """The loss falls where the score of a source seen as the label falls: hence the sign s."""
    t, facts, _, fit = case
    every = torch.ones(facts["latent_dim"], dtype=torch.bool)
    found = direction_candidates(fit, facts["sign_s"], 0, every)
    close(facts["sign_s"] * found["g"], t.wanted("g_directions")[0])
    # The second one is turned, where needed, so that it raises the score.
    second = facts["sign_s"] * t.wanted("g_directions")[1]
    close(found["g with distance"], second if second @ fit.gradient >= 0 else -second)
    wrong = direction_candidates(fit, -facts["sign_s"], 0, every)
    assert (wrong["g with distance"].abs() - second.abs()).abs().max() > 1e-3


def test_h_axes_are_the_official_ones(case):
    t, facts, _, fit = case
    axes = top_eigenvectors(fit.hessian, facts["n_h"])
    up_to_sign(axes, t.wanted("h_vectors_corrected"))
    up_to_sign(axes, t.wanted("h_vectors_official_saved_file"))
    up_to_sign(axes, t.wanted("h_directions_official_line_search"))
    # How much they have of the gradient tells whether their sign means anything.
    dots = (axes @ fit.gradient.double()).abs() / fit.gradient.double().norm()
    close(dots, t.wanted("h_vectors_corrected_gradient_dot"), 1e-4)


def test_curvatures_along_them_are_the_official_ones(case):
    """Largest first; the official eigenvalues are complex, with nothing in the imaginary part."""
    t, facts, _, fit = case
    axes = top_eigenvectors(fit.hessian, facts["n_h"])
    values = facts["sign_s"] * torch.einsum("nd,de,ne->n", axes, fit.hessian.double(), axes)
    close(values, t.wanted("h_eigenvalues_corrected"), 1e-5)
    close(torch.stack([values, torch.zeros_like(values)], 1), t.wanted("h_eigenvalues_official"))
    assert (values.abs().diff() < 0).all()
    gap = -values.abs().diff().max().item()
    assert gap == pytest.approx(facts["smallest_gap_between_consecutive_abs_eigenvalues"], abs=1e-5)


def test_official_line_search(case):
    """z - alpha d: each direction, g first, with the official sign, at each length."""
    t, facts, _, fit = case
    used = torch.ones(facts["latent_dim"], dtype=torch.bool)
    gradients = direction_candidates(fit, facts["sign_s"], 0, used)
    ours = torch.stack([gradients["g"], gradients["g with distance"]]).double()
    ours = torch.cat([ours, top_eigenvectors(fit.hessian, facts["n_h"])])
    official = torch.cat([t["g_directions"], t["h_directions_official_line_search"]]).double()
    ours = (ours * official).sum(1, keepdim=True).sign() * ours
    search = facts["line_search"]
    alphas = torch.linspace(search["alpha_min"], search["alpha_max"], search["steps"])
    close(alphas, t.wanted("line_search_alphas"), 1e-6)
    steps = alphas.double()[None, :, None] * ours[:, None]
    wanted = t.wanted("line_search_z").view(*steps.shape[:2], -1)
    # As far as the axes themselves, which are known to 1e-4, times the longest step.
    close(t["z_source"].double() - steps, wanted, 4e-4)


def test_h_directions_have_the_sign_that_lowers_the_loss(case):
    """Ours raise the score to first order; corrected ones have it in s * score."""
    t, facts, _, fit = case
    used = torch.ones(facts["latent_dim"], dtype=torch.bool)
    found = direction_candidates(fit, facts["sign_s"], facts["n_h"], used)
    compared = 0
    for number in range(facts["n_h"]):
        name = f"h{number + 1}"
        if name not in found or t["h_vectors_corrected_gradient_dot"][number] < 0.01:
            continue
        close(facts["sign_s"] * found[name], t.wanted("h_vectors_corrected")[number], 1e-4)
        official = t["h_directions_official_line_search"][number]
        agrees = bool(facts["sign_s"] * found[name].double() @ official.double() > 0)
        assert agrees == facts["official_line_search_sign_agrees_with_corrected"][number]
        compared += 1
    assert compared >= 3


def test_official_signs_are_arbitrary():
    """Of ten line searches six go the wrong way: no rule about eigenvalues can be right."""
    told = [stored(f"gcd_directions_{n}")[1] for n in NAMES]
    agrees = [a for f in told for a in f["official_line_search_sign_agrees_with_corrected"]]
    assert 0 < sum(agrees) < len(agrees)


def test_coordinates_that_carry_nothing_stay_zero(case):
    """A network's weights for an input that never varied are what they began with."""
    _, facts, _, fit = case
    used = torch.arange(facts["latent_dim"]) % 3 > 0
    found = direction_candidates(fit, 1.0, 4, used)
    for direction in found.values():
        assert not direction[~used].any()
        close(direction.norm(), torch.tensor(1.0))
    inner = top_eigenvectors(fit.hessian[used][:, used], 1)[0]
    up_to_sign(found["h1"][used], inner)
