"""The walk along the difference of two flows, on codes whose truth is known."""

import pytest
import torch
from torch import Generator, nn
from worlds import LinearNet, LinearSpace, code_classifier

import cfxnb as cfx
from cfxnb.flows.flow_counterfactual import mean_difference
from cfxnb.flows.leap import integrate, leap
from cfxnb.flows.velocity import DenoiserFlow, FittedFlow

SPACE = LinearSpace()
MEANS = torch.tensor([[-2.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]])


class GaussianVelocity(nn.Module):
    """The exact velocity if the codes of class c are N(means[c], std^2): v = E[u - noise | u_t]."""

    def __init__(self, means, std=0.5):
        super().__init__()
        self.register_buffer("means", means)
        self.std = std

    def forward(self, u, condition, t):
        m, t = condition @ self.means, t[:, None]
        # u_t ~ N(t m, t^2 std^2 + (1 - t)^2), and (u, noise) are jointly Gaussian with it.
        variance = t**2 * self.std**2 + (1 - t) ** 2
        slope = (t * self.std**2 - (1 - t)) / variance
        return m + slope * (u - t * m)


def exact_flow(means=MEANS):
    return FittedFlow(GaussianVelocity(means), SPACE.mean, SPACE.std, len(means))


def nearest_mean(means=MEANS, gain=8.0):
    """Logits that are highest for the nearest class mean, linear in the code."""
    weight = means @ SPACE.basis / SPACE.scale
    return cfx.wrap(LinearNet(gain * weight, -gain * means.square().sum(1) / 2))


def codes(label, n=20, means=MEANS, seed=0):
    z = means[label] + 0.5 * torch.randn(n, 4, generator=Generator().manual_seed(seed))
    return SPACE.decode(cfx.Code(z))


def test_difference_is_the_gradient_of_the_implicit_classifier():
    """((1 - t) / t) grad [log p_t(target | u) - log p_t(rival | u)], in closed form."""
    flow, t, std = exact_flow(), 0.375, 0.5
    u = torch.randn(6, 4, generator=Generator().manual_seed(1)).requires_grad_()
    target, rival = torch.eye(3)[[1] * 6], torch.eye(3)[[0] * 6]
    variance = t**2 * std**2 + (1 - t) ** 2

    def log_p(condition):
        return -(u - t * (condition @ MEANS)).square().sum(1) / (2 * variance)

    odds = (log_p(target) - log_p(rival)).sum()
    expected = (1 - t) / t * torch.autograd.grad(odds, u)[0]
    found = mean_difference(flow, u.detach(), target, rival, [t])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_mean_over_times_is_the_mean_of_each_time():
    flow, u = exact_flow(), torch.randn(5, 4, generator=Generator().manual_seed(2))
    target, rival = torch.eye(3)[[1] * 5], torch.eye(3)[[2] * 5]
    each = [mean_difference(flow, u, target, rival, [t]) for t in (0.2, 0.7)]
    both = mean_difference(flow, u, target, rival, (0.2, 0.7))
    torch.testing.assert_close(both, torch.stack(each).mean(0))


def test_small_leaps_are_the_difference_walk():
    """The first-order term of a leap is gamma times the integral over t of the difference."""
    flow, u = exact_flow(), torch.randn(8, 4, generator=Generator().manual_seed(3))
    target, rival = torch.eye(3)[[1] * 8], torch.eye(3)[[0] * 8]
    gamma = 1e-3
    times = ((torch.arange(200) + 0.5) / 200).tolist()
    walked = mean_difference(flow, u, target, rival, times)
    leapt = (leap(flow, u, rival, target, gamma, gamma, 32) - u) / gamma
    torch.testing.assert_close(leapt, walked, rtol=2e-2, atol=2e-2)


def test_a_full_leap_swaps_the_class_and_keeps_the_noise():
    flow = exact_flow()
    u = MEANS[0] + 0.5 * torch.randn(9, 4, generator=Generator().manual_seed(4))
    one, other = torch.eye(3)[[0] * 9], torch.eye(3)[[1] * 9]
    swapped = leap(flow, u, one, other, 1.0, 1.0, 64)
    torch.testing.assert_close(swapped - MEANS[1], u - MEANS[0], rtol=0, atol=1e-3)


def test_lift_and_landing_with_one_condition_return():
    flow, u = exact_flow(), torch.randn(7, 4, generator=Generator().manual_seed(5))
    condition = torch.eye(3)[[2] * 7]
    there = integrate(flow, u, condition, 1.0, 1.0, 0.0, 64)
    back = integrate(flow, there, condition, 1.0, 0.0, 1.0, 64)
    torch.testing.assert_close(back, u, rtol=0, atol=1e-4)


def test_walk_flips_and_changes_only_what_differs():
    f, flow = nearest_mean(MEANS[:2]), exact_flow(MEANS[:2])
    cf = cfx.flow_counterfactual(SPACE, cfx.BlackBox(f), codes(0), 1, flow=flow, landing_time=1.0)
    assert set(cf.status) == {"flipped"}
    assert (cf.logits_after.softmax(1)[:, 1] >= 0.99 - 1e-4).all()
    moved = cf.code_after.z - cf.code_before.z
    assert (moved[:, 0] > 0).all()
    assert moved[:, 1:].abs().max() < 1e-4


def test_cost_is_what_was_computed():
    f = cfx.BlackBox(nearest_mean())
    cf = cfx.flow_counterfactual(SPACE, f, codes(0), 1, flow=exact_flow())
    rounds = cf.trace["rounds"]
    assert (rounds > 0).all()
    # The original, the reconstruction, and the landing.
    assert (cf.cost["classifier"] == 3 + rounds).all()
    assert (cf.cost["generator"] == 2 + rounds).all()
    landing = cf.cost["velocity"] - 8 * rounds
    assert (landing >= 1 + 9 + 16).all()  # at least one step without questions, then Runge-Kutta
    assert ((landing - 17) % 9 == 0).all()
    assert f.n_queries == cf.cost["classifier"].sum()
    without = cfx.flow_counterfactual(SPACE, f, codes(0), 1, flow=exact_flow(), landing_time=1.0)
    rounds = without.trace["rounds"]
    assert (without.cost["classifier"] == 2 + rounds).all()
    assert (without.cost["velocity"] == 8 * rounds).all()


def test_what_is_not_found_keeps_its_code():
    """Too few rounds for some: half an edit is not returned."""
    f, x = nearest_mean(), codes(0)
    told = {"flow": exact_flow(), "gamma": 0.1, "growth": 1.25, "restarts": 0}
    full = cfx.flow_counterfactual(SPACE, f, x, 1, **told)
    few = int(full.trace["rounds"].median())
    cf = cfx.flow_counterfactual(SPACE, f, x, 1, **told, rounds=few)
    found = torch.tensor([s == "flipped" for s in cf.status])
    assert found.any()
    assert (~found).any()
    assert {s for s, ok in zip(cf.status, found, strict=True) if not ok} == {"not_found"}
    torch.testing.assert_close(cf.code_after.z[~found], cf.code_before.z[~found])
    torch.testing.assert_close(cf.image[~found], cf.reconstruction[~found])
    torch.testing.assert_close(cf.code_after.z[found], full.code_after.z[found])


def test_a_classifier_of_something_else_is_not_found():
    """A flow that knows nothing of what the classifier reads names no false cause."""
    f = code_classifier(SPACE, torch.tensor([[0.0, 0.0, 0.0, 1.0]]), 8.0)
    flow = FittedFlow(GaussianVelocity(MEANS[:2]), SPACE.mean, SPACE.std, 2)
    x = codes(0)
    told = {"gamma": 0.1, "growth": 1.25, "rounds": 8}  # larger ones leave the space
    cf = cfx.flow_counterfactual(SPACE, f, x, 1 - f(x).argmax(1), flow=flow, **told)
    assert not cf.flipped.any()
    torch.testing.assert_close(cf.code_after.z, cf.code_before.z)


def test_batch_mates_do_not_matter():
    f, x = nearest_mean(), torch.cat([codes(0, 5), codes(2, 5)])
    whole = cfx.flow_counterfactual(SPACE, f, x, 1, flow=exact_flow())
    for i in range(len(x)):
        alone = cfx.flow_counterfactual(SPACE, f, x[i : i + 1], 1, flow=exact_flow())
        torch.testing.assert_close(alone.code_after.z[0], whole.code_after.z[i])
        assert alone.status[0] == whole.status[i]


def test_fitted_flow_is_near_the_exact_one():
    """Flow matching finds the walk of the closed form from 1,500 codes and the answers alone."""
    f = nearest_mean()
    x = torch.cat([codes(label, 500, seed=label + 7) for label in range(3)])
    flow = cfx.fit_flow(SPACE, cfx.BlackBox(f), x, steps=600, hidden_dim=64)
    u = SPACE.encode(codes(0, 50)).z
    target, rival = torch.eye(3)[[1] * 50], torch.eye(3)[[0] * 50]
    times = (0.125, 0.375, 0.625, 0.875)
    mine, exact = (mean_difference(w, u, target, rival, times) for w in (flow, exact_flow()))
    assert torch.nn.functional.cosine_similarity(mine, exact).mean() > 0.98
    cf = cfx.flow_counterfactual(SPACE, f, codes(0), 1, flow=flow)
    assert cf.flipped.all()


def test_class_means_are_the_means():
    f = nearest_mean(gain=100.0)
    x = torch.cat([codes(label, 40, seed=label) for label in range(3)])
    flow = cfx.fit_flow(SPACE, f, x, kind="class_means")
    z = SPACE.encode(x).z.view(3, 40, 4).mean(1)
    torch.testing.assert_close(flow.means, z, rtol=0, atol=0.02)
    u = torch.randn(4, 4, generator=Generator().manual_seed(0))
    line = mean_difference(flow, u, torch.eye(3)[[1] * 4], torch.eye(3)[[0] * 4], (0.3,))
    torch.testing.assert_close(line, (flow.means[1] - flow.means[0]).expand(4, 4))


def test_training_is_kept_and_recognised(tmp_path):
    f, x = nearest_mean(), torch.cat([codes(label, 40, seed=label) for label in range(3)])
    told = {"steps": 5, "hidden_dim": 8, "checkpoint_dir": tmp_path}
    first = cfx.fit_flow(SPACE, f, x, **told)
    again = cfx.fit_flow(SPACE, f, x, **told)
    other = cfx.fit_flow(SPACE, nearest_mean(gain=0.5), x, **told)
    for a, b in zip(first.net.parameters(), again.net.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    weights = [next(flow.net.parameters()) for flow in (first, other)]
    assert not torch.equal(*weights)
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 2


def test_few_answers_of_a_class_are_said():
    f = nearest_mean()
    x = torch.cat([codes(0, 40), codes(1, 3), codes(2, 40)])
    with pytest.warns(UserWarning, match=r"classes \[1\]"):
        cfx.fit_flow(SPACE, f, x, steps=2)
    with pytest.raises(ValueError, match="at least two classes"):
        cfx.fit_flow(SPACE, f, codes(0, 40), steps=2)


def test_wrong_flows_are_refused():
    f, x = nearest_mean(), codes(0)
    with pytest.raises(ValueError, match="flow: expected a flow from"):
        cfx.flow_counterfactual(SPACE, f, x, 1)
    two = FittedFlow(GaussianVelocity(MEANS[:2]), SPACE.mean, SPACE.std, 2)
    moved = FittedFlow(GaussianVelocity(MEANS), SPACE.mean + 1, SPACE.std, 3)
    for flow, error in ((two, ValueError), (moved, ValueError), (nn.Linear(4, 4), TypeError)):
        with pytest.raises(error, match="flow: expected a flow"):
            cfx.flow_counterfactual(SPACE, f, x, 1, flow=flow)


def test_bisection_shortens_only_the_last_step():
    f, x = nearest_mean(), codes(0)
    told = {"flow": exact_flow(), "gamma": 0.3, "landing_time": 1.0}
    long = cfx.flow_counterfactual(SPACE, f, x, 1, **told)
    short = cfx.flow_counterfactual(SPACE, f, x, 1, **told, binary_search_steps=4)
    lengths = [(cf.code_after.z - cf.code_before.z).norm(dim=1) for cf in (long, short)]
    assert (lengths[1] <= lengths[0] + 1e-5).all()
    assert lengths[1].mean() < lengths[0].mean()
    assert short.flipped.all()
    assert (short.logits_after.softmax(1)[:, 1] >= 0.99 - 1e-4).all()
    assert (short.cost["classifier"] == long.cost["classifier"] + 4).all()


def test_denoiser_is_the_same_flow():
    """A denoiser of Gaussian classes gives the closed-form velocity at its own times."""

    class Denoiser:
        mean, std = torch.zeros(4), torch.ones(4)
        alphas_cumprod = torch.linspace(0.999, 0.001, 500)

        def encode_condition(self, conditions):
            return torch.tensor(conditions)

        def predict_noise(self, z, t, condition):
            a = self.alphas_cumprod[t][:, None]
            m, std = MEANS[condition], 0.5
            # E[noise | z] for z = sqrt(a) u + sqrt(1 - a) noise, u ~ N(m, std^2)
            return (1 - a).sqrt() * (z - a.sqrt() * m) / (a * std**2 + 1 - a)

    denoiser, exact = DenoiserFlow(Denoiser(), [0, 1, 2]), exact_flow()
    t = denoiser.times[[50, 200, 300, 400]].float()
    u, condition = (
        torch.randn(4, 4, generator=Generator().manual_seed(6)),
        torch.eye(3)[[0, 1, 2, 1]],
    )
    found, expected = denoiser.velocity(u, condition, t), exact.velocity(u, condition, t)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_restarts_try_large_steps_and_are_counted():
    """Where small steps run out of rounds, a second walk with larger ones gets there."""
    f, x, told = nearest_mean(), codes(0), {"flow": exact_flow(), "gamma": 0.01, "growth": 1.0}
    once = cfx.flow_counterfactual(SPACE, f, x, 1, **told, rounds=5, restarts=0)
    again = cfx.flow_counterfactual(SPACE, f, x, 1, **told, rounds=5, restarts=1)
    more = cfx.flow_counterfactual(SPACE, f, x, 1, **told, rounds=40, restarts=1)
    assert not once.flipped.any()
    assert (once.trace["rounds"] == 5).all()
    assert (again.trace["rounds"] > 5).all()
    assert more.flipped.all()
    assert (again.cost["velocity"] == 8 * again.trace["rounds"]).all()


def test_landing_ends_among_the_codes_of_the_target():
    """A classifier that is sure halfway stops the walk there. The landing ends at the target."""
    wide = torch.tensor([[-3.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0]])
    sure, flow = nearest_mean(wide, gain=8.0), exact_flow(wide)
    x, told = codes(0, means=wide), {"flow": flow, "gamma": 0.1}
    halfway = cfx.flow_counterfactual(SPACE, sure, x, 1, **told, landing_time=1.0)
    landed = cfx.flow_counterfactual(SPACE, sure, x, 1, **told, landing_time=0.55)
    assert halfway.flipped.all()
    assert landed.flipped.all()
    away = [(cf.code_after.z - wide[1]).norm(dim=1) for cf in (halfway, landed)]
    assert away[0].mean() > 1.5
    assert away[1].max() < 1.2


def test_landing_is_the_flow_of_the_target():
    """In closed form: a code keeps its place in the noise, in standard deviations of each time."""
    flow, begin, std = exact_flow(), 0.55, 0.5
    u = MEANS[[1] * 6] + torch.randn(6, 4, generator=Generator().manual_seed(8))
    target = torch.eye(3)[[1] * 6]
    landed = integrate(flow, begin * u, target, 1.0, begin, 1.0, 4)
    spread = (begin**2 * std**2 + (1 - begin) ** 2) ** 0.5
    expected = MEANS[1] + std * begin * (u - MEANS[1]) / spread
    torch.testing.assert_close(landed, expected, rtol=0, atol=1e-3)


def test_only_fitted_flows_land():
    f, x = nearest_mean(), codes(0)
    means = cfx.fit_flow(SPACE, f, torch.cat([codes(c, 30) for c in range(3)]), kind="class_means")
    for told in ({"flow": means}, {"flow": exact_flow(), "update": "leap"}):
        with pytest.raises(ValueError, match="landing_time: expected 1, for no landing"):
            cfx.flow_counterfactual(SPACE, f, x, 1, **told, landing_time=0.5)
        cf = cfx.flow_counterfactual(SPACE, f, x, 1, **told)
        assert (cf.cost["classifier"] == 2 + cf.trace["rounds"]).all()


def test_a_landing_that_loses_the_target_is_not_kept():
    """The flow knows another place for the class than the classifier does."""
    f, x = nearest_mean(MEANS[:2]), codes(0)
    elsewhere = torch.tensor([[-2.0, 0.0, 0.0, 0.0], [-1.5, 0.0, 0.0, 0.0]])
    told = {"flow": exact_flow(elsewhere), "gamma": 1.0, "rounds": 40}
    walked = cfx.flow_counterfactual(SPACE, f, x, 1, **told, landing_time=1.0)
    landed = cfx.flow_counterfactual(SPACE, f, x, 1, **told, restarts=0, landing_time=0.55)
    assert walked.flipped.all()
    assert landed.flipped.all()
    torch.testing.assert_close(landed.code_after.z, walked.code_after.z)
    assert (landed.cost["classifier"] == walked.cost["classifier"] + 1).all()
