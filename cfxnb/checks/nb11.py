"""Checks of 11_flow_counterfactuals."""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import one_hot

from cfxnb import data, weights
from cfxnb.checks.core import (
    exercise,
    expect,
    expect_none_of,
    expect_pair,
    expect_tensor,
    near,
    same,
)
from cfxnb.core.code_covariance import along_active_axes
from cfxnb.core.prediction import predict_logits
from cfxnb.core.tensors import norms, standardise
from cfxnb.core.types import Code
from cfxnb.flows.flow_counterfactual import flow_counterfactual

#: Largest difference of two codes that count as the same, in standard deviations.
TOLERANCE = 0.02
#: Settings of the library with which the walk of the chapter agrees.
SETTINGS: dict[str, Any] = {"gamma": 0.1, "growth": 1.25, "restarts": 0, "landing_time": 1.0}
TIMES = (0.125, 0.375, 0.625, 0.875)
Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]


def _random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed))


def _velocity(u: Tensor, condition: Tensor, t: Tensor) -> Tensor:
    """Velocities that depend on place, condition and time, and not linearly."""
    expect(
        isinstance(t, Tensor) and t.shape == (len(u),),
        f"the velocity was asked at times of shape {tuple(getattr(t, 'shape', ()))}, expected one "
        f"time per row, shape ({len(u)},)",
        cause="is the time a number? The velocity takes a tensor with one time per row",
        hint="torch.full((len(u),), time)",
    )
    centres = torch.linspace(-2, 2, condition.shape[1] * u.shape[1])
    place = condition @ centres.view(condition.shape[1], -1)
    return place * (1 + t[:, None]) + (2 * u).sin() * (1.5 - t[:, None])


def _unchanged(before: Tensor, after: Tensor, name: str) -> None:
    expect(
        torch.equal(before, after) and not after.requires_grad,
        f"the tensor {name} that was handed in has changed",
        cause=f"does an operation write into {name}, such as += or a method whose name ends in _?",
        hint=f"{name} = {name} + step makes a new tensor, {name} += step changes the old one",
    )


@exercise("A point of the path")
def interpolate(answer: Callable[..., Tensor]) -> None:
    noise, u, t = _random(4, 3), 3 + _random(4, 3, seed=2), torch.tensor([0.0, 0.25, 0.6, 1.0])
    got = answer(noise, u, t)
    hint = "t = t[:, None], and then (1 - t) * noise + t * u"
    expect_tensor(
        got, (4, 3), "is one point returned for each row?", hint, "points of shape (4, 3)"
    )
    s = t[:, None]
    wrong = {
        "at t = 0 the point is the code": (
            (1 - s) * u + s * noise,
            "where does the path begin: at the noise, or at the code?",
        ),
        "the noise keeps its full size until the end": (
            noise + s * u,
            "how much of the noise is left at t = 1?",
        ),
        "the point does not lie on the straight line": (
            (1 - s**2).sqrt() * noise + s * u,
            "these are the weights of a diffusion model. Which weights has a straight path?",
        ),
    }
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    expect(
        same(got, (1 - s) * noise + s * u),
        "the points are not those of the straight path",
        cause="does each row have its own time?",
        hint=hint,
    )


@exercise("The loss of flow matching")
def flow_loss(answer: Callable[..., Tensor]) -> None:
    u, noise, t = 2 + _random(4, 3), _random(4, 3, seed=2), torch.tensor([0.1, 0.3, 0.6, 0.9])
    condition = torch.eye(2)[[0, 1, 1, 0]]
    got = answer(_velocity, u, condition, noise, t)
    hint = "the mean of (net(interpolate(noise, u, t), condition, t) - (u - noise)) squared"
    expect_tensor(
        got,
        (),
        "is the mean taken over rows and coordinates?",
        hint,
        "one number, a tensor without dimensions",
    )
    s = t[:, None]
    point = (1 - s) * noise + s * u
    error = _velocity(point, condition, t) - (u - noise)
    at_code = _velocity(u, condition, t) - (u - noise)
    wrong = {
        "the velocity that is learned leads from code to noise": (
            ((error + 2 * (u - noise)) ** 2).mean(),
            "in which direction does time run: towards the code, or towards the noise?",
        ),
        "the network is asked at the code": (
            (at_code**2).mean(),
            "where is a point at time t: at the code, or between noise and code?",
        ),
        "the network learns the code, and not a velocity": (
            ((error - noise) ** 2).mean(),
            "how fast does a point on its path move?",
        ),
        "the network learns the noise, and not a velocity": (
            ((error + u - 2 * noise) ** 2).mean(),
            "how fast does a point on its path move?",
        ),
        "the errors are summed over coordinates": (
            (error**2).sum(1).mean(),
            "the mean runs over rows and coordinates",
        ),
        "the errors are summed": ((error**2).sum(), "the mean runs over rows and coordinates"),
        "the errors are not squared": (error.abs().mean(), "which power has the formula?"),
        "the root is taken at the end": (
            (error**2).mean().sqrt(),
            "the formula has a square, and no root",
        ),
    }
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    expect(
        same(got, (error**2).mean()),
        f"expected {float((error**2).mean()):.3f}, got {float(got):.3f}",
        cause="compare each symbol of the formula with your code",
        hint=hint,
    )


class _Recorder(nn.Module):
    """A network with one bias as its velocity, which keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.full((2,), 3.0))
        self.asked: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, point: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        self.asked.append((point.detach(), condition.detach(), t.detach()))
        return self.bias.expand(len(point), 2)


CENTRES = torch.tensor([[100.0, 0.0], [0.0, 200.0], [-300.0, 50.0]])


def _trained(answer: Callable[..., Any], seed: int, steps: int = 30) -> tuple[Any, _Recorder]:
    net, answers = _Recorder(), torch.eye(3).repeat(4, 1)
    return answer(net, CENTRES.repeat(4, 1), answers, steps, 64, 0.05, seed), net


@exercise("Train the flow")
def train_flow(answer: Callable[..., Any]) -> None:
    got, net = _trained(answer, 0)
    expect(
        got is net,
        f"expected the trained network, got {type(got).__name__}",
        cause="what does the function return at its end?",
        hint="return net.requires_grad_(False), which is net itself",
    )
    expect(
        len(net.asked) == 30,
        f"for 30 steps expected 30 batches, got {len(net.asked)}",
        cause="does one step of the loop compute the loss of one batch?",
        hint="for _ in range(steps): draw, flow_loss, backward, step",
    )
    points, conditions, times = ([step[part] for step in net.asked] for part in range(3))
    expect(
        all(len(p) == 64 for p in points),
        f"expected batches of 64 rows, got {len(points[0])}",
        cause="how many rows does one step draw?",
        hint="torch.randint(len(u), (batch_size,), generator=g)",
    )
    expect(
        all(float(t.std()) > 0.15 and t.min() >= 0 and t.max() <= 1 for t in times),
        "the times of a batch are not spread over 0 to 1",
        cause="is a new time drawn for each row, between 0 and 1, and equally likely everywhere?",
        hint="torch.rand(batch_size, generator=g)",
    )
    expect(
        not any(same(times[0], t) for t in times[1:]),
        "the times are the same in each step",
        cause="are the times drawn before the loop, or in it?",
        hint="draw inside the loop",
    )
    noises = []
    for point, condition, t in net.asked:
        s = t[:, None]
        usable = t < 0.95
        noises.append(((point - s * (condition @ CENTRES)) / (1 - s).clamp_min(1e-3))[usable])
    expect(
        max(float(n.abs().max()) for n in noises) < 15,
        "codes are paired with the answers of other codes",
        cause="do u and answers use the same row numbers?",
        hint="draw the row numbers once, and index u and answers with them",
    )
    every = torch.cat(noises)
    expect(
        0.85 < float(every.std()) < 1.15 and abs(float(every.mean())) < 0.15,
        f"the noise has mean {float(every.mean()):.2f} and standard deviation "
        f"{float(every.std()):.2f}",
        cause="which distribution does the noise of the path have?",
        hint="torch.randn(batch_size, u.shape[1], generator=g)",
    )
    width = min(len(n) for n in noises)
    expect(
        not any(_overlap(noises[0], n) for n in noises[1:]) and width > 1,
        "the noise is the same in each step",
        cause="is the noise drawn before the loop, or in it?",
        hint="draw inside the loop",
    )
    seen = torch.cat(conditions).mean(0)
    expect(
        bool((seen > 0.2).all()),
        "some codes are never drawn",
        cause="can each row of u be drawn, and does each step draw new rows?",
        hint="torch.randint(len(u), (batch_size,), generator=g) in each step",
    )
    exact = _by_adam(net.asked)
    expect(
        not same(net.bias.detach(), torch.full((2,), 3.0)),
        "the network does not change",
        cause="does the optimiser take a step after the gradient is computed?",
        hint="adam.zero_grad(), loss.backward(), adam.step()",
    )
    expect(
        same(net.bias.detach(), exact, atol=2e-2),
        f"after 30 steps of Adam the bias must be {float(exact[0]):.2f}, but it is "
        f"{float(net.bias.detach()[0]):.2f}",
        cause="are old gradients cleared in each step, is there one optimiser for all steps, with "
        "the learning rate lr, and does it minimise the loss?",
        hint="create Adam before the loop; in it zero_grad(), backward(), step()",
    )
    expect(
        not any(p.requires_grad for p in net.parameters()),
        "the network still collects gradients",
        cause="later cells only use the network. What does the task say about its output?",
        hint="return net.requires_grad_(False)",
    )
    torch.manual_seed(1234)
    again, other = _trained(answer, 0, 3)[1], _trained(answer, 1, 3)[1]
    expect(
        same(again.asked[0][0], points[0]),
        "the same seed gives different batches",
        cause="do all random numbers come from one generator with this seed?",
        hint="pass generator=g to randint, randn and rand",
    )
    expect(
        not same(other.asked[0][0], points[0]),
        "another seed gives the same batches",
        cause="is the argument `seed` used?",
        hint="torch.Generator().manual_seed(seed)",
    )


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Return whether two lists of noise vectors share more than a few vectors."""
    shared = (torch.cdist(a, b) < 1e-3).any(1).double().mean()
    return float(shared) > 0.3


def _by_adam(asked: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Return the bias after Adam's steps on the batches that were drawn."""
    bias = torch.full((2,), 3.0, requires_grad=True)
    adam = torch.optim.Adam([bias], lr=0.05)
    for point, condition, t in asked:
        u, s = condition @ CENTRES, t[:, None]
        noise = (point - s * u) / (1 - s).clamp_min(1e-6)
        adam.zero_grad()
        ((bias - (u - noise.clamp(-9, 9))) ** 2).mean().backward()
        adam.step()
    return bias.detach()


def _midpoint(
    velocity: Velocity,
    u: Tensor,
    c: Tensor,
    start: float,
    end: float,
    steps: int,
    gamma: float,
    *,
    half: float = 0.5,
    at: float = 0.5,
    from_middle: bool = False,
) -> Tensor:
    h = (end - start) / steps
    for i in range(steps):
        t = torch.full((len(u),), start + i * h)
        middle = u + half * h * gamma * velocity(u, c, t)
        u = (middle if from_middle else u) + h * gamma * velocity(middle, c, t + at * h)
    return u


@exercise("The midpoint method")
def midpoint(answer: Callable[..., Tensor]) -> None:
    u, c, calls = _random(5, 2), torch.eye(2)[[0, 1, 0, 1, 1]], []
    before = u.clone()

    def velocity(u: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        return _velocity(u, condition, t)

    got = answer(velocity, u, c, 1.0, 0.2, 4, 0.5)
    hint = "h = (end - start) / steps; half a step to the middle, then a whole step from u"
    expect_tensor(got, (5, 2), "are the points returned?", hint, "points of shape (5, 2)")
    _unchanged(before, u, "u")
    expect(
        not same(got, u),
        "the points do not move",
        cause="does the loop run, and does it store the new points?",
        hint=hint,
    )
    args = (_velocity, u, c, 1.0, 0.2, 4)
    wrong = {
        "this is Euler's method: the velocity at the beginning of each step moves the point": (
            _midpoint(*args, 0.5, half=0, at=0),
            "where is the velocity taken that moves the point over the whole step?",
        ),
        "the velocity in the middle is taken at the time of the beginning": (
            _midpoint(*args, 0.5, at=0),
            "which time belongs to the middle of a step?",
        ),
        "the velocity in the middle is taken at the time of the end": (
            _midpoint(*args, 0.5, at=1),
            "which time belongs to the middle of a step?",
        ),
        "the whole step begins in the middle": (
            _midpoint(*args, 0.5, from_middle=True),
            "from which point does the whole step start?",
        ),
        "the first part is a whole step, and not half of one": (
            _midpoint(*args, 0.5, half=1),
            "how long is the step to the middle?",
        ),
        "gamma is ignored": (_midpoint(*args, 1.0), "where does the factor gamma belong?"),
        "time runs in the wrong direction": (
            _midpoint(_velocity, u, c, 0.2, 1.0, 4, 0.5),
            "the points start at the time `start`. Which sign has h if `end` is smaller?",
        ),
        "the times are right, but the points move against time": (
            _against_time(u, c),
            "which sign has h if `end` is smaller than `start`?",
        ),
        "only one step is taken": (
            _midpoint(_velocity, u, c, 1.0, 0.2, 1, 0.5),
            "does the loop return before its end, or is `steps` ignored?",
        ),
    }
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    expect(
        same(got, _midpoint(*args, 0.5), atol=1e-3),
        "the points are not those of the midpoint method",
        cause="does each step begin where the last one ended, and at its time?",
        hint=hint,
    )
    expect(
        len(calls) == 8,
        f"for 4 steps expected 8 evaluations of the velocity, got {len(calls)}",
        cause="each step needs the velocity at its beginning and in its middle",
        hint=hint,
    )


def _against_time(u: Tensor, c: Tensor) -> Tensor:
    def reversed_velocity(u: Tensor, c: Tensor, t: Tensor) -> Tensor:
        return -_velocity(u, c, t)

    return _midpoint(reversed_velocity, u, c, 1.0, 0.2, 4, 0.5)


@exercise("A leap")
def leap(answer: Callable[..., Tensor]) -> None:
    u, present, target = _random(4, 3), torch.eye(2)[[0, 0, 1, 0]], torch.eye(2)[[1, 1, 0, 1]]
    before = u.clone()
    got = answer(_velocity, u, present, target, 0.4, 8)
    hint = "midpoint from 1 to 0 with `present`, then midpoint from 0 to 1 with `target`"
    expect_tensor(got, (4, 3), "are the landed codes returned?", hint, "codes of shape (4, 3)")
    _unchanged(before, u, "u")

    def leg(u: Tensor, c: Tensor, start: float, gamma: float = 0.4, steps: int = 8) -> Tensor:
        return _midpoint(_velocity, u, c, start, 1 - start, steps, gamma)

    lifted = leg(u, present, 1.0)
    wrong = {
        "this is the lift alone: the code is still on its way to the noise": (
            lifted,
            "what follows the lift?",
        ),
        "the code lands without a lift": (leg(u, target, 0.0), "where does the landing begin?"),
        "lift and landing use each other's class": (
            leg(leg(u, target, 1.0), present, 0.0),
            "which class has the code now, and which one shall it get?",
        ),
        "the code lands in its own class": (
            leg(lifted, present, 0.0),
            "along the flow of which class does the code land?",
        ),
        "the lift goes forwards in time": (
            leg(leg(u, present, 0.0), target, 0.0),
            "a code is at t = 1. In which direction is the noise?",
        ),
        "the landing comes before the lift": (
            leg(leg(u, target, 0.0), present, 1.0),
            "which leg comes first?",
        ),
        "gamma is ignored": (
            leg(leg(u, present, 1.0, 1.0), target, 0.0, 1.0),
            "both legs take gamma",
        ),
        "only the lift uses gamma": (leg(lifted, target, 0.0, 1.0), "both legs take gamma"),
        "only the landing uses gamma": (
            leg(leg(u, present, 1.0, 1.0), target, 0.0),
            "both legs take gamma",
        ),
    }
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    expect(
        same(got, leg(lifted, target, 0.0), atol=1e-3),
        "the codes are not those of lift and landing",
        cause="do both legs use `steps` and `gamma`, and cover the times between 0 and 1?",
        hint=hint,
    )


def _mean_difference(
    velocity: Velocity, u: Tensor, target: Tensor, rival: Tensor, times: Sequence[float] = TIMES
) -> Tensor:
    at = [torch.full((len(u),), t) for t in times]
    return torch.stack([velocity(u, target, t) - velocity(u, rival, t) for t in at]).mean(0)


@exercise("The mean difference")
def mean_difference(answer: Callable[..., Tensor]) -> None:
    u, target, rival = _random(4, 2), torch.eye(3)[[1, 1, 2, 0]], torch.eye(3)[[0, 2, 0, 1]]

    def velocity(u: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        return _velocity(u, condition, t) * (1 + t[:, None] ** 2)

    before, times = u.clone(), (0.1, 0.5, 0.8)
    got = answer(velocity, u, target, rival, times)
    hint = "for each time: velocity(u, target, t) - velocity(u, rival, t); then the mean"
    expect_tensor(got, (4, 2), "is one row returned for each code?", hint, "shape (4, 2)")
    _unchanged(before, u, "u")
    exact = _mean_difference(velocity, u, target, rival, times)
    parts = [_mean_difference(velocity, u, target, rival, [t]) for t in times]
    towards = _mean_difference(velocity, u, target, torch.zeros_like(rival), times)
    wrong = {
        "the sign is reversed: the step leads to the rival": (
            -exact,
            "which class shall the code leave?",
        ),
        "the differences are summed": (3 * exact, "by what is the sum divided?"),
        "only the first time counts": (parts[0], "is the result of each time kept?"),
        "only the last time counts": (parts[-1], "is the result of each time kept?"),
        "the velocity is taken once, at the mean time": (
            _mean_difference(velocity, u, target, rival, [sum(times) / 3]),
            "first the velocities, then the mean. Is the velocity linear in time?",
        ),
        "the argument `times` is ignored": (
            _mean_difference(velocity, u, target, rival),
            "over which times does the mean run?",
        ),
        "the sum is divided by the number of codes": (
            3 * exact / 4,
            "by what is the sum divided?",
        ),
        "nothing leads away from the rival": (towards, "how many velocities has a difference?"),
    }
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    expect(
        same(got, exact),
        "the values are not the mean difference of the two velocities",
        cause="is each velocity taken at the same u, and with its own condition?",
        hint=hint,
    )


@exercise("The gradient of the implicit classifier")
def implicit_gradient(answer: Callable[..., Tensor]) -> None:
    u, t = _random(5, 2), 0.3
    centres = torch.tensor([[1.0, 0.0], [-1.0, 2.0], [0.0, -1.0]])

    def log_p(u: Tensor, t: float, c: int) -> Tensor:
        return -((u - t * centres[c]) ** 2).sum(1) / (1 + c) - (u[:, 0] * (c + 1)).cos()

    def slope(*classes: int) -> Tensor:
        point = u.detach().clone().requires_grad_()
        total = log_p(point, t, classes[0]).sum()
        if len(classes) > 1:
            total = total - log_p(point, t, classes[1]).sum()
        return torch.autograd.grad(total, point)[0]

    before = u.clone()
    got = answer(log_p, u, t, 1, 2)
    hint = (
        "copy u, requires_grad_(), torch.autograd.grad of the summed difference, times (1 - t) / t"
    )
    expect_tensor(
        got,
        (5, 2),
        "is the gradient with respect to u returned?",
        hint,
        "a gradient of shape (5, 2)",
    )
    _unchanged(before, u, "u")
    expect(
        not got.requires_grad,
        "the result still carries gradient history",
        cause="the result is used as a vector. Does it need gradients of its own?",
        hint="torch.autograd.grad returns a tensor without history",
    )
    exact = slope(1, 2)
    factor = (1 - t) / t
    wrong = {
        "the factor in front of the gradient is missing": (
            exact,
            "compare with the formula: what stands before the gradient?",
        ),
        "the factor in front of the gradient is upside down": (
            exact / factor,
            "is the difference large at t near 0, or at t near 1?",
        ),
        "the sign is reversed": (-factor * exact, "which class stands in the numerator?"),
        "the gradient is that of the target's density alone": (
            factor * slope(1),
            "the log odds compare two classes",
        ),
        "the gradient is divided by the number of codes": (
            factor * exact / 5,
            "is the sum over rows differentiated, or their mean?",
        ),
        "the factor has only its denominator": (exact / t, "compare with the formula"),
        "the factor has only its numerator": ((1 - t) * exact, "compare with the formula"),
    }
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    expect(
        same(got, factor * exact),
        "the values are not the gradient of the log odds, times its factor",
        cause="which function does your code differentiate, and with respect to which tensor?",
        hint=hint,
    )


@exercise("The density of noisy codes")
def noisy_log_density(answer: Callable[..., Tensor]) -> None:
    u, t, std = _random(5, 2), 0.4, 0.5
    centres = torch.tensor([[2.0, 0.0], [-1.0, 2.0], [0.0, -3.0]])
    got = answer(u, t, centres, std)
    hint = (
        "the squared distances of u[:, None] to t * centres, (b, m); divide by -2 times the "
        "variance; logsumexp(1)"
    )
    expect_tensor(
        got,
        (5,),
        "is there one number per place, and are coordinates and groups both summed?",
        hint,
        "one number per place, shape (5,)",
    )

    def density(means: Tensor, variance: float, half: float = 2.0) -> Tensor:
        squares = ((u[:, None] - means) ** 2).sum(2)
        return (-squares / (half * variance)).logsumexp(1)

    def alike(wrong: Tensor) -> bool:  # up to a constant
        return same(got - got.mean(), wrong - wrong.mean())

    variance, means = t**2 * std**2 + (1 - t) ** 2, t * centres
    squares = ((u[:, None] - means) ** 2).sum(2)
    wrong = {
        "the sign is reversed: the density is highest far from the groups": (
            -density(means, variance),
            "is a place near a centre more probable, or less?",
        ),
        "the centres do not shrink towards the noise": (
            density(centres, variance),
            "where is the mean of the noisy codes of a group at time t?",
        ),
        "the variance is that of the noise alone": (
            density(means, (1 - t) ** 2),
            "of which two parts does a noisy code consist?",
        ),
        "the variance is that of the groups alone": (
            density(means, t**2 * std**2),
            "of which two parts does a noisy code consist?",
        ),
        "standard deviations are added, and not variances": (
            density(means, (t * std + 1 - t) ** 2),
            "what adds up for independent parts: the variance, or the standard deviation?",
        ),
        "the factor 2 in the exponent is missing": (
            density(means, variance, half=1.0),
            "compare with the density of a normal distribution",
        ),
        "only the nearest group counts": (
            (-squares / (2 * variance)).amax(1),
            "how are the densities of several groups joined?",
        ),
        "the logs of the groups are summed": (
            (-squares / (2 * variance)).sum(1),
            "is the density of a class the sum, or the product, of those of its groups?",
        ),
        "the distances of the groups are averaged": (
            (-squares / (2 * variance)).mean(1),
            "how are the densities of several groups joined?",
        ),
        "the result is a density, and not its log": (
            (-squares / (2 * variance)).exp().sum(1),
            "is the log taken?",
        ),
    }
    expect_none_of(wrong, alike, hint=hint)
    expect(
        alike(density(means, variance)),
        "the values are not the log density, up to a constant",
        cause="is each distance divided by twice the variance of a noisy code?",
        hint=hint,
    )
    far = answer(u + 100, 0.9, centres, 0.1)
    expect(
        bool(far.isfinite().all()),
        "far from all centres the result is not finite",
        cause="the densities round to 0 there. Is their log taken after the sum of exponentials?",
        hint="logsumexp(1) computes the log of the sum without leaving logarithms",
    )


@exercise("The strongest rival")
def strongest_rival(answer: Callable[..., Tensor]) -> None:
    logits = torch.tensor(
        [[3.0, 1.0, 2.0, 0.0], [1.0, 4.0, 0.5, 2.0], [-5.0, -7.0, -6.0, -1.0], [2.0, 1.0, 9.0, 8.0]]
    )
    target, before = torch.tensor([0, 0, 3, 1]), logits.clone()
    got = answer(logits, target)
    hint = "logits.scatter(1, target[:, None], -inf), then argmax(1), then one_hot(..., k).float()"
    expect_tensor(
        got,
        (4, 4),
        "is the rival a condition, with one entry per class?",
        hint,
        "one-hot rows of shape (4, 4)",
    )
    _unchanged(before, logits, "logits")
    expect(
        got.is_floating_point(),
        f"expected floats, got {got.dtype}",
        cause="the network multiplies conditions with its weights. Which type do these have?",
        hint=hint,
    )
    k = logits.shape[1]
    own = one_hot(target, k).bool()
    wrong = {
        "the target is its own rival": (
            one_hot(logits.argmax(1), k),
            "can the target win the comparison?",
        ),
        "the second largest logit counts, also where the target is not the largest": (
            one_hot(logits.topk(2).indices[:, 1], k),
            "what if the target is not the largest?",
        ),
        "this is the target": (one_hot(target, k), "the rival is another class"),
        "this is the least probable class": (
            one_hot(logits.masked_fill(own, torch.inf).argmin(1), k),
            "is the rival strong, or weak?",
        ),
        "the target's logit is replaced by 0, which is larger than the others": (
            one_hot(logits.masked_fill(own, 0.0).argmax(1), k),
            "which number loses every comparison?",
        ),
    }
    expect_none_of(wrong, lambda w: same(got, w.float()), hint=hint)
    expect(
        same(got, one_hot(logits.masked_fill(own, -torch.inf).argmax(1), k).float()),
        "the rows are not the most probable other class",
        cause="is each row compared with its own target, and are the rows one-hot?",
        hint=hint,
    )


class _Field:
    """Three classes of codes in a plane, their flow, and a classifier that counts its answers."""

    centres = torch.tensor([[0.0, 0.0], [4.0, 0.0], [2.0, 3.0]])
    u = torch.tensor(
        [[0.0, 0.0], [1.4, 0.0], [-3.0, -2.0], [2.5, 2.0], [0.5, 0.2], [3.9, 0.1], [2.2, -0.5]]
    )
    target = torch.tensor([1, 1, 2, 0, 1, 1, 2])

    def __init__(self) -> None:
        self.n_answers = 0

    def velocity(self, u: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        return (condition @ self.centres - u * 0.5) * (1.2 - 0.4 * t[:, None])

    def classify(self, u: Tensor) -> Tensor:
        self.n_answers += 1
        return -((u[:, None] - self.centres) ** 2).sum(2)


def _walk(
    field: _Field,
    gamma: float,
    rounds: int,
    confidence: float,
    *,
    growth: float = 1.25,
    largest: float = 4.0,
    freeze: bool = True,
    sign: int = 1,
    rival: str = "strongest",
    first: int = 0,
    flip: bool = False,
    begin: bool = False,
) -> tuple[Tensor, Tensor]:
    u, target = field.u.clone(), field.target
    wanted, reached = one_hot(target, 3).float(), torch.zeros(len(u), dtype=torch.bool)
    logits = start = field.classify(u)
    if begin:
        reached = logits.softmax(1).gather(1, target[:, None])[:, 0] >= confidence
    for n in range(rounds):
        seen = start if rival == "start" else logits
        others = seen if rival == "present" else seen.scatter(1, target[:, None], -torch.inf)
        away = one_hot(others.argmax(1), 3).float()
        size = sign * gamma * min(growth ** (n + first), largest)
        step = size * _mean_difference(field.velocity, u, wanted, away)
        u = torch.where((reached & freeze)[:, None], u, u + step)
        logits = field.classify(u)
        p = logits.softmax(1).gather(1, target[:, None])[:, 0]
        reached = reached | ((logits.argmax(1) == target) if flip else (p >= confidence))
        if reached.all():
            break
    return u, reached


@exercise("The walk")
def walk(answer: Callable[..., tuple[Tensor, Tensor]]) -> None:
    field = _Field()
    before, asked = field.u.clone(), (0.04, 9, 0.98)
    got = answer(field.velocity, field.classify, field.u, field.target, *asked)
    found, reached = expect_pair(got, "the codes and which of them reach the target")
    hint = "u = torch.where(reached[:, None], u, u + step); then classify, then update reached"
    expect_tensor(
        found, (7, 2), "is the first part the tensor of codes?", "return u, reached", "codes (7, 2)"
    )
    expect(
        isinstance(reached, Tensor) and reached.shape == (7,) and reached.dtype == torch.bool,
        f"expected one bool per image, got {getattr(reached, 'dtype', type(reached).__name__)} "
        f"of shape {tuple(getattr(reached, 'shape', ()))}",
        cause="is the second part a tensor that says for each image whether it reached the target?",
        hint="start with torch.zeros(len(u), dtype=torch.bool)",
    )
    _unchanged(before, field.u, "u")
    expect(
        not same(found, before),
        "no image moves",
        cause="is the step added to the codes?",
        hint=hint,
    )
    n_answers = field.n_answers
    exact, truth = _walk(_Field(), *asked)
    cannot_stop = "what happens to an image that has reached the target?"
    wrong: dict[str, tuple[dict[str, Any], str]] = {
        "the walk leads away from the target": (
            {"sign": -1},
            "is the difference that of target minus rival, and is it added?",
        ),
        "all steps have the same length": ({"growth": 1.0}, "how large is the step number n?"),
        "the steps grow without a limit": ({"largest": 1e9}, "what is the largest step?"),
        "the first step is too large: its number is 0": (
            {"first": 1},
            "which number does the first step have?",
        ),
        "images that have reached the target move on": ({"freeze": False}, cannot_stop),
        "the walk stops at the flip, and not at the confidence": (
            {"flip": True},
            "with what is the probability of the target compared?",
        ),
        "after a flip an image stands still, also below the confidence": (
            {"rival": "present"},
            "after a flip the present class is the target. Which class is the rival then?",
        ),
        "an image is counted as reached before its first step": (
            {"begin": True},
            "with what does `reached` start?",
        ),
        "the rival is that of the beginning": (
            {"rival": "start"},
            "the rival depends on the logits. Which logits does your loop use?",
        ),
    }
    known = {
        name: (_walk(_Field(), *asked, **change)[0], cause)
        for name, (change, cause) in wrong.items()
    }
    known = {name: pair for name, pair in known.items() if not same(pair[0], exact)}
    expect_none_of(known, lambda w: same(found, w), hint=hint)
    moved_back = ~truth & (norms(found - before) < 1e-6)
    expect(
        not moved_back.any(),
        "an image that does not reach the target is back at its start",
        cause="is the last code of each image returned? The next exercise deals with failures",
        hint="return u, reached",
    )
    expect(
        same(found, exact, atol=1e-3),
        "the codes are not those of the walk",
        cause="is the step gamma, times its growth, times the mean difference, and does each image "
        "stop on its own?",
        hint=hint,
    )
    expect(
        torch.equal(reached, truth),
        f"expected reached = {truth.tolist()}, got {reached.tolist()}",
        cause="is an image that has reached the target once always counted, and no other one?",
        hint="reached = reached | (p >= confidence)",
    )
    expect(
        n_answers == 10,
        f"for 9 steps expected 10 answers of the classifier, got {n_answers}",
        cause="one answer before the first step, and one after each step",
        hint="keep the logits of the last step for the next one",
    )
    easy = _Field()
    answer(easy.velocity, easy.classify, easy.u[1:2], easy.target[1:2], 0.3, 50, 0.6)
    expect(
        easy.n_answers < 20,
        "the walk goes on after all images have reached the target",
        cause="when may the loop end?",
        hint="if reached.all(): break",
    )


@exercise("Class means as a flow")
def class_mean_line(answer: Callable[..., Velocity]) -> None:
    codes = 1 + _random(7, 3)
    answers = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [1, 0], [0, 1], [0.3, 0.7], [1, 0]])
    velocity = answer(codes, answers)
    hint = "means = answers.T @ codes / answers.sum(0)[:, None]; velocity returns condition @ means"
    expect(
        callable(velocity),
        f"expected a function velocity(u, condition, t), got {type(velocity).__name__}",
        cause="is a function defined inside your function, and returned?",
        hint="def velocity(u, condition, t): ... and then return velocity",
    )
    u, condition = _random(4, 3, seed=3), torch.eye(2)[[0, 1, 1, 0]]
    got = velocity(u, condition, torch.linspace(0, 1, 4))
    expect_tensor(got, (4, 3), "is one mean code returned for each row?", hint, "shape (4, 3)")
    means = answers.T @ codes / answers.sum(0)[:, None]
    hard = one_hot(answers.argmax(1), 2).float()
    wrong = {
        "each code counts fully for its most probable class": (
            condition @ (hard.T @ codes / hard.sum(0)[:, None]),
            "what is the weight of a code in the mean of a class?",
        ),
        "the weighted codes are summed": (
            condition @ (answers.T @ codes),
            "by what is a weighted sum divided?",
        ),
        "the weighted sum is divided by the number of codes": (
            condition @ (answers.T @ codes / 7),
            "do the weights of a class add up to the number of codes?",
        ),
        "the velocity points from u to the mean": (
            condition @ means - u,
            "does the velocity of this baseline depend on the place?",
        ),
        "both classes have the same mean": (
            codes.mean(0).expand(4, 3),
            "where does the condition enter?",
        ),
        "each row gets the mean of the other class": (
            condition.flip(1) @ means,
            "which row of the means belongs to a condition?",
        ),
    }
    expect_none_of(wrong, lambda w: same(got, w), hint=hint)
    expect(
        same(got, condition @ means),
        "the values are not the mean codes of the conditions",
        cause="are the codes of each class weighted with its probabilities?",
        hint=hint,
    )
    mixed = torch.tensor([[0.5, 0.5]])
    expect(
        same(velocity(u[:1], mixed, torch.zeros(1)), mixed @ means),
        "a condition with two probabilities does not mix the two means",
        cause="is a class number looked up, or is the condition used as weights?",
        hint="condition @ means",
    )


_known: dict[str, Any] = {}


def _figures() -> dict[str, Any]:
    """Return networks, a few figures, and what the library makes of the figures."""
    if _known:
        return _known
    space, classifier, flow = (
        weights.load(f"sprites/{name}", device="cpu") for name in ("vae", "unknown", "flow_unknown")
    )
    images = data.sprites("pairs", 8, split="test", seed=5).images
    target = 1 - predict_logits(classifier, images).argmax(1)

    def weak(u: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """A flow that is too slow for most images."""
        return 0.03 * flow.velocity(u, condition, t)

    _known.update(
        space=space,
        classifier=classifier,
        flow=flow,
        weak=weak,
        images=images,
        target=target,
        start=space.encode(images).z,
        library=flow_counterfactual(space, classifier, images, target, flow=flow, **SETTINGS),
    )
    return _known


@exercise("Your flow counterfactuals")
def my_flow_counterfactual(answer: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
    known = _figures()
    space, images, library = known["space"], known["images"], known["library"]
    rest = (images, known["target"])
    got = answer(space, known["classifier"], known["flow"].velocity, *rest)
    expect(
        isinstance(got, tuple | list) and len(got) == 3,
        f"expected images, codes and which of them reach the target, got {type(got).__name__}",
        cause="are all three parts returned?",
        hint="return image, z, reached",
    )
    image, z, reached = got
    hint = "encode, standardise, walk, reset the failures, move, decode"
    expect_tensor(
        image,
        tuple(images.shape),
        "is the first part the decoded image?",
        hint,
        "images like the input",
    )
    expect_tensor(
        z,
        tuple(known["start"].shape),
        "is the second part the tensor of codes after the walk?",
        hint,
        "codes of shape (8, 20)",
    )
    flips = torch.tensor([status == "flipped" for status in library.status])
    expect(
        isinstance(reached, Tensor) and torch.equal(reached.cpu(), flips),
        f"the library flips {int(flips.sum())} of {len(flips)} images, your function "
        f"{int(torch.as_tensor(reached).sum())}",
        cause="does the walk start at the code in standard deviations from the mean code, and does "
        "the classifier see the changed code?",
        hint=hint,
    )
    after = library.code_after.z
    in_units = z.detach() - standardise(after - space.mean, space.std)
    expect(
        float(norms(along_active_axes(space, in_units)).max()) > TOLERANCE,
        "the codes are still in standard deviations",
        cause="which unit do the codes of the space have?",
        hint="move(space, z0, u - start)",
    )
    apart = norms(standardise(z.detach() - after, space.std)).max()
    expect(
        float(apart) <= TOLERANCE,
        f"a code is {float(apart):.2f} standard deviations away from the library's",
        cause="what is u at the beginning, and what is the change that `move` takes?",
        hint="start = standardise(z0 - space.mean, space.std), and the change is u - start",
    )
    drawn = space.decode(Code(z.detach()))
    expect(
        torch.allclose(drawn, image.detach(), atol=1e-4),
        "the images are not those of the codes",
        cause="is the image decoded from the code that you return?",
        hint="decode the code that you return",
    )
    few = answer(space, known["classifier"], known["weak"], *rest)
    expect(
        not few[2].all(),
        "with a flow that is too slow, all images count as reached",
        cause="is `reached` the second part of what walk returns?",
        hint="u, reached = walk(...)",
    )
    left = norms(standardise(few[1].detach() - known["start"], space.std))[~few[2]]
    expect(
        math.isfinite(float(left.max())) and float(left.max()) < 1e-3,
        f"an image that does not reach the target is {float(left.max()):.2f} standard deviations "
        "away from its original code",
        cause="what does the task say about images that do not reach the target?",
        hint="u = torch.where(reached[:, None], u, start)",
    )
    back = space.decode(Code(known["start"]))[~few[2]]
    expect(
        torch.allclose(back, few[0].detach()[~few[2]], atol=1e-4),
        "the image of a failed walk shows a change that its code does not have",
        cause="is the image decoded before the failures are set back?",
        hint="set the failures back first, then decode",
    )


@exercise("Codes and answers")
def codes_and_answers(answer: Callable[..., tuple[Tensor, Tensor]]) -> None:
    known = _figures()
    space, classifier, images = known["space"], known["classifier"], known["images"]
    u, p = expect_pair(answer(space, classifier, images), "the codes and the answers")
    hint = "z = space.encode(images).z; decode and classify z; standardise z - space.mean"
    expect_tensor(u, (8, 20), "is the first part the tensor of codes?", hint, "codes (8, 20)")
    expect_tensor(p, (8, 2), "is the second part one row per image?", hint, "answers (8, 2)")
    z = known["start"]
    wrong = {
        "the codes are still in their own unit": (z, "which unit does the task ask for?"),
        "the mean code is not subtracted": (
            standardise(z, space.std),
            "from where are the standard deviations counted?",
        ),
        "the codes are not divided by their standard deviation": (
            z - space.mean,
            "what does `standardise` do?",
        ),
    }
    expect_none_of(wrong, lambda w: same(u, w), hint=hint)
    expect(
        same(u, standardise(z - space.mean, space.std)),
        "the codes are not those of the images, in standard deviations",
        cause="are they encoded, and is the mean code subtracted before the unit changes?",
        hint=hint,
    )
    logits = predict_logits(classifier, space.decode(Code(z)))
    truth = predict_logits(classifier, images).softmax(1)
    soft = logits.softmax(1)
    wrong = {
        "the answers are logits": (logits, "the sum over classes must be 1"),
        "the answers are those for the originals": (
            truth,
            "which images does the walk classify: originals, or decoded codes?",
        ),
        "the answers are class numbers in one-hot rows": (
            one_hot(logits.argmax(1), 2).float(),
            "the classifier says more than a class: how sure is it?",
        ),
        "the softmax runs over images, and not over classes": (
            logits.softmax(0),
            "which sum must be 1?",
        ),
    }
    expect_none_of(wrong, lambda w: same(p, w, rtol=0, atol=1e-7), hint=hint)
    expect(
        same(p, soft),
        "the answers are not the probabilities for the reconstructions",
        cause="is the code decoded in its own unit, and then classified?",
        hint=hint,
    )


@exercise("The class swap for images")
def swap_class(answer: Callable[..., Tensor]) -> None:
    known = _figures()
    space, images, target = known["space"], known["images"], known["target"]
    velocity = known["flow"].velocity
    got = answer(space, velocity, images, target)
    hint = (
        "start = standardise(z0 - space.mean, space.std); leap; decode move(space, z0, u - start)"
    )
    expect_tensor(got, tuple(images.shape), "is the result decoded?", hint, "images like the input")
    z0 = known["start"]
    start = standardise(z0 - space.mean, space.std)
    here, there = one_hot(1 - target, 2).float(), one_hot(target, 2).float()

    def leapt(first: Tensor, second: Tensor, gamma: float = 1.0) -> Tensor:
        u = _midpoint(velocity, start, first, 1.0, 0.0, 8, gamma)
        return _midpoint(velocity, u, second, 0.0, 1.0, 8, gamma)

    def image(u: Tensor) -> Tensor:
        change = along_active_axes(space, u - start)
        return space.decode(Code(z0 + space.std * change))

    u = leapt(here, there)
    wrong = {
        "the image is the reconstruction": (image(start), "does the code change?"),
        "present class and target are exchanged": (
            image(leapt(there, here)),
            "from which class does an image come?",
        ),
        "the change is added to the mean code, and not to the code": (
            space.decode(Code(space.mean + space.std * along_active_axes(space, u - start))),
            "where does the change begin?",
        ),
        "the new code is taken for the change": (
            space.decode(Code(z0 + space.std * along_active_axes(space, u))),
            "what does `move` take: a code, or a change?",
        ),
        "the new code is decoded in standard deviations": (
            space.decode(Code(u)),
            "which unit do the codes of the space have?",
        ),
        "the leap is a small one": (image(leapt(here, there, 0.1)), "which gamma has a swap?"),
    }
    expect_none_of(wrong, lambda w: same(got, w, atol=2e-3), hint=hint)
    expect(
        same(got, image(u), atol=2e-2),
        "the images are not those of one leap to the other class",
        cause="is the start in standard deviations from the mean code?",
        hint=hint,
    )


class _Judge:
    """A judge of images whose pixels are the options of the factors."""

    options: ClassVar = dict.fromkeys(("hair", "top", "shoes", "eyes"), ("a", "b"))

    def indices(self, images: Tensor) -> Tensor:
        return (images.flatten(1)[:, :4] > 0.5).long()


def _reads_last_pixel(images: Tensor) -> Tensor:
    odds = 8 * (images.flatten(1)[:, 5] - 0.5)
    return torch.stack([-odds, odds], 1)


@exercise("The cause, and nothing else")
def measure(answer: Callable[..., tuple[float, float, float]]) -> None:
    before = torch.zeros(12, 1, 2, 3)
    after = before.clone().flatten(1)
    after[:10, 5] = 1  # ten images flip
    after[0, 1] = 1  # a cause
    after[1, 2] = 1  # another cause
    after[2, 1] = after[2, 2] = 1  # both causes
    after[3, 1] = after[3, 0] = 1  # a cause and another factor
    after[4, 2] = after[4, 3] = 1
    after[5, 0] = 1  # another factor only
    after[10:, 1] = 1  # a cause, but no flip
    after = after.view(12, 1, 2, 3)
    target = torch.ones(12, dtype=torch.int64)
    arguments = (_reads_last_pixel, _Judge(), before)
    got = answer(*arguments, after, target, ("top", "shoes"))
    expect(
        isinstance(got, tuple | list) and len(got) == 3,
        f"expected three fractions, got {type(got).__name__}",
        cause="are all three numbers returned?",
        hint="return flips, causes, causes and nothing else",
    )
    try:
        flips, cause, alone = (float(part) for part in got)
    except (TypeError, ValueError, RuntimeError):
        flips = cause = alone = math.nan
    expect(
        all(map(math.isfinite, (flips, cause, alone))),
        "expected three numbers",
        cause="is the mean over images taken?",
        hint="the mean of a bool tensor needs .double() first",
    )
    expect(
        near(flips, 10 / 12),
        f"10 of 12 images flip, but the fraction is {flips:.2f}",
        cause="in which images does the classifier read the target after the change?",
        hint="classifier(after).argmax(1) == target",
    )
    hint = "select the flips first; changed[:, is_cause].any(1), changed[:, ~is_cause].any(1)"
    known = {
        "the fraction of changed causes is over all images": (7 / 12, "which images count?"),
        "an image counts only if all causes changed": (0.1, "one changed cause is enough"),
        "all factors count as causes": (0.6, "which columns belong to the causes?"),
        "the other factors count as causes": (0.3, "which columns belong to the causes?"),
    }
    expect_none_of(known, lambda w: near(cause, w), hint=hint)
    expect(
        near(cause, 0.5),
        f"a cause changes in 5 of 10 flips, but the fraction is {cause:.2f}",
        cause="is the reading before compared with the reading after, factor by factor?",
        hint=hint,
    )
    known = {
        "the last fraction is over all images": (5 / 12, "which images count?"),
        "flips in which nothing changed count as well": (
            0.7,
            "a cause must change, and the other factors must not",
        ),
        "the fraction is that of flips with a changed cause": (
            0.6,
            "by how many images is the number divided?",
        ),
        "a change of a second cause counts as a side effect": (
            0.2,
            "what are the other factors: all but one, or all that are no causes?",
        ),
        "changes of other factors do not matter": (0.5, "what must not change?"),
    }
    expect_none_of(known, lambda w: near(alone, w), hint=hint)
    expect(
        near(alone, 0.3),
        f"a cause and nothing else changes in 3 of 10 flips, but the fraction is {alone:.2f}",
        cause="are both conditions asked of the same image?",
        hint=hint,
    )
    none = answer(*arguments, before, target, ("top", "shoes"))
    expect(
        math.isnan(float(none[1])) and math.isnan(float(none[2])),
        f"if no image flips expected NaN, got {float(none[1]):.2f} and {float(none[2]):.2f}",
        cause="what is the mean of no numbers?",
        hint="torch gives NaN for the mean of an empty tensor: no special case is needed",
    )
