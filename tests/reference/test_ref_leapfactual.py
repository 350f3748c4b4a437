"""LeapFactual's leaps against exact solutions along the official code's flows."""

import pytest
import torch
from stored import stored
from torch import Tensor, nn

import cfxnb as cfx
from cfxnb.flows.leap import integrate, leap
from cfxnb.flows.velocity import FittedFlow, matching_loss

RUNS = [
    ("softmax", "blend"),
    ("softmax", "inject"),
    ("softmax", "inject_from_source"),
    ("softmax", "leap_gamma1"),
    ("onehot", "blend"),
    ("onehot", "robust"),
    ("onehot", "leap_gamma1"),
]
CONDITION = {"softmax": "probabilities", "onehot": "one_hot"}


def close(a, b, tolerance):
    torch.testing.assert_close(a.double(), b.double(), rtol=0.0, atol=tolerance)


class Space(nn.Module):
    """The official toy decoder; it encodes the stored image as the stored code."""

    def __init__(self, t, code: Tensor) -> None:
        super().__init__()
        self.t = {k.rpartition(".")[2]: v for k, v in t.items() if ".D" in k or ".d" in k}
        self.code = code
        self.register_buffer("mean", torch.zeros(code.shape[1]))
        self.register_buffer("std", torch.ones(code.shape[1]))

    def encode(self, images: Tensor) -> cfx.Code:
        return cfx.Code(self.code[: len(images)])

    def decode(self, code: cfx.Code) -> Tensor:
        hidden = torch.tanh(code.z @ self.t["D1"].T + self.t["d1"])
        return torch.sigmoid(hidden @ self.t["D2"].T + self.t["d2"]).view(-1, 1, 12, 12)


def parts(t, code):
    space = Space(t, code)
    n = t["logits"].shape[1]
    return space, classifier(t), FittedFlow(Velocity(t), space.mean, space.std, n)


class Velocity(nn.Module):
    """The official network, whose input is [z, condition, t]."""

    def __init__(self, t) -> None:
        super().__init__()
        own = {
            k.removeprefix("net/velocity.net."): v for k, v in t.items() if k.startswith("net/v")
        }
        numbers = sorted({int(k.split(".")[0]) for k in own})
        layers = []
        for n in numbers:
            weight = own[f"{n}.weight"]
            layers += [nn.Linear(weight.shape[1], weight.shape[0]), nn.SELU()]
        self.net = nn.Sequential(*layers[:-1])
        self.net.load_state_dict(own, strict=True)

    def forward(self, u: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        return self.net(torch.cat([u, condition, t[:, None]], 1))


def classifier(t):
    w = {k: t[f"net/decoder_classifier.{k}"] for k in ("C1", "c1", "C2", "c2")}

    def f(x: Tensor) -> Tensor:
        hidden = torch.tanh((x.flatten(1) - 0.5) @ w["C1"].T + w["c1"])
        return hidden @ w["C2"].T + w["c2"]

    return f


@pytest.mark.parametrize("name", CONDITION)
def test_loss_and_its_gradients(name):
    t, _ = stored(f"leapfactual_{name}")
    net = Velocity(t)
    given = [t[f"loss/{k}"] for k in ("code", "condition", "noise", "t")]
    close(torch.lerp(given[2], given[0], given[3][:, None]), t.wanted("loss/x_t"), 1e-6)
    close(given[0] - given[2], t.wanted("loss/velocity_target"), 1e-6)
    close(net(t["loss/x_t"], given[1], given[3]), t.wanted("loss/velocity"), 1e-5)
    loss = matching_loss(net, *given)
    close(loss[None], t.wanted("loss/loss"), 1e-6)
    loss.backward()
    for key, value in net.named_parameters():
        close(value.grad, t.wanted(f"loss/grad.{key}"), 1e-6)


def condition_of(name, logits):
    if name == "softmax":
        return logits.softmax(1)
    return nn.functional.one_hot(logits.argmax(1), logits.shape[1]).to(logits)


@pytest.mark.parametrize(("name", "run"), RUNS)
def test_leaps(name, run):
    """All rounds against the exact solution, in float32 with 64 Runge-Kutta steps a leg."""
    t, facts = stored(f"leapfactual_{name}")
    told = facts["runs"][run]
    start = t["blend/codes"][-1] if run in ("inject", "robust") else t["code"]
    space, f, flow = parts(t, start)
    wanted = nn.functional.one_hot(t["target"], flow.n_classes).float()
    gammas, u = (told["gamma_lift"], told["gamma_land"]), start
    exact, official = t.wanted(f"{run}/exact_codes"), t.wanted(f"{run}/codes")
    for r in range(told["rounds"]):
        logits = f(space.decode(cfx.Code(u)))
        present = condition_of(name, logits)
        exact_present = t.wanted(f"{run}/exact_source_condition")[r]
        if name == "onehot" and not torch.equal(present.double(), exact_present):
            assert logits.topk(2).values.diff().abs().min() < 0.01  # a tie: paths part here
            break
        close(present, exact_present, 1e-4)
        if gammas[0]:
            lifted = integrate(flow, u, present, gammas[0], 1.0, 0.0, 64)
            close(lifted, t.wanted(f"{run}/exact_lift_end")[r], 1e-4)
        u = leap(flow, u, present, wanted, *gammas, 64)
        close(u, exact[r], 1e-4)
        close(u, official[r], told["max_abs_diff_official_minus_exact"] + 1e-4)
    assert r > 0 or told["rounds"] == 1


@pytest.mark.parametrize(("name", "run"), RUNS)
def test_legs_of_the_official_solver(name, run):
    """Each leg at each stored time, started where the official code was."""
    t, facts = stored(f"leapfactual_{name}")
    told = facts["runs"][run]
    start = t["blend/codes"][-1] if run in ("inject", "robust") else t["code"]
    space, f, flow = parts(t, start)
    wanted = nn.functional.one_hot(t["target"], flow.n_classes).float()
    gammas = told["gamma_lift"], told["gamma_land"]
    tolerance = told["max_abs_diff_single_leg"] + 1e-4
    codes = torch.cat([start[None], t[f"{run}/codes"]])
    for r in range(told["rounds"]):
        logits = f(space.decode(cfx.Code(codes[r])))
        close(f(space.decode(cfx.Code(codes[r + 1]))), t.wanted(f"{run}/logits")[r], 1e-4)
        u = codes[r]
        for leg, gamma in zip(("lift", "land"), gammas, strict=True):
            if not gamma:
                continue
            stops = t.wanted(f"{run}/{leg}")[r]
            condition = condition_of(name, logits) if leg == "lift" else wanted
            close(stops[0], u, tolerance)
            u = stops[0]
            n = len(stops) - 1
            for i in range(n):
                a, b = (1 - i / n, 1 - (i + 1) / n) if leg == "lift" else (i / n, (i + 1) / n)
                u = integrate(flow, u, condition, gamma, a, b, 16)
                close(u, stops[i + 1], tolerance)
            u = stops[-1]


@pytest.mark.parametrize("name", CONDITION)
def test_the_method_runs_the_paper(name):
    """``PAPER_FLOW`` reaches the exact codes, and reports each round."""
    t, facts = stored(f"leapfactual_{name}")
    told = facts["runs"]["blend"]
    space, f, flow = parts(t, t["code"])
    seen = []
    with torch.no_grad():
        free = f(space.decode(space.encode(t["image"]))).argmax(1) != t["target"]
    assert free.any()
    cfx.flow_counterfactual(
        space, f, t["image"], t["target"], flow=flow,
        **cfx.PAPER_FLOW | {"condition": CONDITION[name], "rounds": told["rounds"]},
        on_step=lambda step: seen.append(step.code),
    )  # fmt: skip
    assert len(seen) == told["rounds"]
    first = t.wanted("blend/exact_codes")[0]
    close(seen[0], first[free], 3e-3)


@pytest.mark.parametrize("name", CONDITION)
def test_decoder_and_classifier(name):
    t, _ = stored(f"leapfactual_{name}")
    space, f, _ = parts(t, t["code"])
    close(space.decode(cfx.Code(t["code"])), t.wanted("image"), 1e-5)
    close(f(t["image"]), t.wanted("logits"), 1e-4)
