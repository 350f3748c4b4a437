"""Answers to the exercises of 11_flow_counterfactuals."""

import itertools

import torch
from mutants import (
    Answers,
    assert_accepted,
    assert_rejected,
    public_checks,
    right_answers,
    wrong_answers,
)
from torch import nn
from torch.nn.functional import mse_loss, one_hot

from cfxnb.checks import nb11
from cfxnb.core.tensors import standardise
from cfxnb.core.types import Code
from cfxnb.solutions import nb11 as solutions
from cfxnb.solutions.nb02 import move

TIMES = (0.125, 0.375, 0.625, 0.875)


def of(function, change):
    """The right answer, with its result changed afterwards."""
    return lambda *args, **kwargs: change(function(*args, **kwargs))


def path_by_lerp(noise, u, t):
    return torch.lerp(noise, u, t[:, None].expand_as(u))


def path_row_by_row(noise, u, t):
    return torch.stack([a + s * (b - a) for a, b, s in zip(noise, u, t, strict=True)])


def loss_by_mse(net, u, c, noise, t):
    return mse_loss(net(torch.lerp(noise, u, t[:, None]), c, t), u - noise)


def loss_by_sums(net, u, c, noise, t):
    error = noise + net(solutions.interpolate(noise, u, t), c, t) - u
    return error.square().sum() / error.numel()


def lossy(change=None, point=None, goal=None):
    """The loss with another point, another goal, or another reduction."""

    def answer(net, u, c, noise, t):
        place = (point or solutions.interpolate)(noise, u, t)
        error = net(place, c, t) - (goal or (lambda u, noise: u - noise))(u, noise)
        return (change or (lambda e: (e**2).mean()))(error)

    return answer


def trained(
    *,
    pair=True,
    zero=True,
    fresh=True,
    sign=1,
    step=True,
    freeze=True,
    seeded=True,
    one_time=False,
    uniform=False,
    own_seed=None,
    new_adam=False,
    rate=None,
    batch=None,
    more=0,
    rows=None,
):
    """The answer to exercise 3, with one thing changed."""

    def answer(net, u, answers, steps, batch_size=256, lr=2e-3, seed=0):
        batch_size = batch or batch_size
        g = torch.Generator()
        if seeded:
            g.manual_seed(seed if own_seed is None else own_seed)
        else:
            g = None
        adam = torch.optim.Adam(net.parameters(), lr=rate or lr)
        draw = torch.rand if uniform else torch.randn
        noise = draw(batch_size, u.shape[1], generator=g)
        t = torch.rand(batch_size, generator=g)
        for _ in range(steps + more):
            if new_adam:
                adam = torch.optim.Adam(net.parameters(), lr=lr)
            i = torch.randint(rows or len(u), (batch_size,), generator=g)
            j = i if pair else torch.randint(len(u), (batch_size,), generator=g)
            if fresh:
                noise = draw(batch_size, u.shape[1], generator=g)
                t = torch.rand(1 if one_time else batch_size, generator=g).expand(batch_size)
            if fresh == "times":
                noise = draw(batch_size, u.shape[1], generator=torch.Generator().manual_seed(seed))
            loss = sign * solutions.flow_loss(net, u[i], answers[j], noise, t)
            if zero:
                adam.zero_grad()
            loss.backward()
            if step:
                adam.step()
        return net.requires_grad_(False) if freeze else net

    return answer


def train_by_hand(net, u, answers, steps, batch_size=256, lr=2e-3, seed=0):
    """Adam by its own formulas, and batches of a permutation."""
    g = torch.Generator().manual_seed(seed)
    parameters = list(net.parameters())
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    for n in range(1, steps + 1):
        rows = torch.randperm(len(u), generator=g).repeat(1 + batch_size // len(u))[:batch_size]
        noise = torch.randn((batch_size, u.shape[1]), generator=g)
        loss = solutions.flow_loss(
            net, u[rows], answers[rows], noise, torch.rand(batch_size, generator=g)
        )
        slopes = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, m, v, slope in zip(parameters, first, second, slopes, strict=True):
                m.mul_(0.9).add_(slope, alpha=0.1)
                v.mul_(0.999).add_(slope**2, alpha=0.001)
                p -= lr * (m / (1 - 0.9**n)) / ((v / (1 - 0.999**n)).sqrt() + 1e-8)
    for p in parameters:
        p.requires_grad_(False)
    return net


def ode(half=0.5, at=0.5, begin="u", gamma_used=True, steps_used=True, sign=1, scalar=False):
    """The answer to exercise 4, with one thing changed."""

    def answer(velocity, u, c, start, end, steps=8, gamma=1.0):
        gamma, steps = gamma if gamma_used else 1.0, steps if steps_used else 1
        h = (end - start) / steps
        for i in range(steps):
            t = start + i * h if scalar else torch.full((len(u),), start + i * h)
            middle = u + sign * half * h * gamma * velocity(u, c, t)
            moved = sign * h * gamma * velocity(middle, c, t + at * h)
            u = moved + (middle if begin == "middle" else u)
        return u

    return answer


def ode_by_times(velocity, u, c, start, end, steps=8, gamma=1.0):
    times = torch.linspace(start, end, steps + 1)
    for a, b in itertools.pairwise(times):
        k = gamma * velocity(u, c, a.repeat(len(u)))
        k = gamma * velocity(u + (b - a) / 2 * k, c, ((a + b) / 2).repeat(len(u)))
        u = u + (b - a) * k
    return u


def ode_in_a_loop(velocity, u, c, start, end, steps=8, gamma=1.0):
    """While loop, and velocities scaled before."""

    def scaled(place, time):
        return velocity(place, c, torch.ones(len(u)) * time) * gamma

    h, n = (end - start) / steps, 0
    while n < steps:
        here = start + n * h
        u = u + h * scaled(u + h * scaled(u, here) / 2, here + h / 2)
        n += 1
    return u


def ode_in_place(velocity, u, c, start, end, steps=8, gamma=1.0):
    u.copy_(solutions.midpoint(velocity, u, c, start, end, steps, gamma))
    return u


def leapt(*legs):
    """Legs (class, start, gamma used), one after the other."""

    def answer(velocity, u, present, target, gamma=1.0, steps=8):
        for which, start, used in legs:
            c = present if which == "present" else target
            u = solutions.midpoint(velocity, u, c, start, 1 - start, steps, gamma if used else 1)
        return u

    return answer


LIFT, LAND = ("present", 1.0, True), ("target", 0.0, True)


def leap_by_keywords(velocity, u, present, target, gamma=1.0, steps=8):
    legs = {"start": 1.0, "end": 0.0}, {"start": 0.0, "end": 1.0}
    for c, times in zip((present, target), legs, strict=True):
        u = solutions.midpoint(velocity, u, c, **times, steps=steps, gamma=gamma)
    return u


def leap_as_one(velocity, u, present, target, gamma=1.0, steps=8):
    """Both legs as one flow, whose time runs from -1 to 1."""
    h = 1 / steps
    for i in range(2 * steps):
        s = -1 + i * h
        c, sign = (present, -1) if i < steps else (target, 1)

        def slope(u, s, c=c, sign=sign):
            return sign * gamma * velocity(u, c, torch.full((len(u),), abs(s)))

        u = u + h * slope(u + h / 2 * slope(u, s), s + h / 2)
    return u


def difference_at_once(velocity, u, target, rival, times=TIMES):
    n = len(times)
    t = torch.tensor(times).repeat_interleave(len(u))
    parts = [velocity(u.repeat(n, 1), c.repeat(n, 1), t) for c in (target, rival)]
    return (parts[0] - parts[1]).view(n, *u.shape).mean(0)


def difference_by_stack(velocity, u, target, rival, times=TIMES):
    ones = torch.ones(len(u))
    a = torch.stack([velocity(u, target, t * ones) for t in times]).mean(0)
    return a - torch.stack([velocity(u, rival, t * ones) for t in times]).mean(0)


def difference_in_place(velocity, u, target, rival, times=TIMES):
    u += solutions.mean_difference(velocity, u, target, rival, times)
    return u


def implicit(factor=lambda t: (1 - t) / t, both=True, mean=False, copy=True, graph=False):
    """The answer to exercise 7, with one thing changed."""

    def answer(log_p, u, t, target, rival):
        u = u.detach().clone().requires_grad_() if copy else u.requires_grad_()
        odds = log_p(u, t, target) - (log_p(u, t, rival) if both else 0)
        total = odds.mean() if mean else odds.sum()
        return factor(t) * torch.autograd.grad(total, u, create_graph=graph)[0]

    return answer


def implicit_by_backward(log_p, u, t, target, rival):
    point = u.clone().detach()
    point.requires_grad = True
    ((1 - t) / t * (log_p(point, t, target) - log_p(point, t, rival))).sum().backward()
    return point.grad


def implicit_by_parts(log_p, u, t, target, rival):
    slopes = []
    for c in (target, rival):
        point = u.detach().clone().requires_grad_()
        slopes.append(torch.autograd.grad(log_p(point, t, c).sum(), point)[0])
    return (1 / t - 1) * (slopes[0] - slopes[1])


def rival_by_a_mask(logits, target):
    own = one_hot(target, logits.shape[1]).bool()
    return torch.eye(logits.shape[1])[logits.masked_fill(own, -torch.inf).argmax(1)]


def rival_row_by_row(logits, target):
    rows = torch.zeros_like(logits)
    for i, (row, t) in enumerate(zip(logits, target.tolist(), strict=True)):
        best = max((float(v), c) for c, v in enumerate(row) if c != t)
        rows[i, best[1]] = 1
    return rows


def rival_in_place(logits, target):
    logits.scatter_(1, target[:, None], -torch.inf)
    return one_hot(logits.argmax(1), logits.shape[1]).float()


def walked(
    grow=1.25,
    largest=4,
    freeze=True,
    need="p",
    sign=1,
    rival="strongest",
    first=0,
    early=True,
    twice=False,
    forget=False,
    begin=False,
    back=False,
):
    """The answer to exercise 9, with one thing changed."""

    def answer(velocity, classify, u, target, gamma=0.1, rounds=20, confidence=0.99):
        origin, logits = u, classify(u)
        start = logits
        k = logits.shape[1]
        wanted = one_hot(target, k).float()
        reached = torch.zeros(len(u), dtype=torch.bool)
        if begin:
            reached = logits.softmax(1).gather(1, target[:, None])[:, 0] >= confidence
        for n in range(rounds):
            if rival == "present":
                away = one_hot(logits.argmax(1), k).float()
            else:
                away = solutions.strongest_rival(start if rival == "start" else logits, target)
            size = sign * gamma * min(grow ** (n + first), largest)
            step = size * solutions.mean_difference(velocity, u, wanted, away)
            u = u + step * (~reached[:, None]) if freeze else u + step
            logits = classify(u)
            if twice:
                logits = classify(u)
            p = logits.softmax(1)[torch.arange(len(u)), target]
            now = {"p": p >= confidence, "flip": logits.argmax(1) == target}[need]
            reached = now if forget else reached | now
            if early and reached.all():
                break
        return (torch.where(reached[:, None], u, origin) if back else u), reached

    return answer


def walk_by_rows(velocity, classify, u, target, gamma=0.1, rounds=20, confidence=0.99):
    """Moves only the rows that are still on their way."""
    u, logits = u.clone(), classify(u)
    reached = torch.zeros(len(u)).bool()
    for n in range(rounds):
        rows = (~reached).nonzero()[:, 0]
        if not len(rows):
            return u, reached
        away = solutions.strongest_rival(logits[rows], target[rows])
        wanted = torch.eye(logits.shape[1])[target[rows]]
        step = solutions.mean_difference(velocity, u[rows], wanted, away)
        u[rows] += gamma * min(1.25**n, 4) * step
        logits = classify(u)
        odds = solutions_log_odds(logits, target)
        reached[rows] = odds[rows] >= torch.logit(torch.tensor(confidence))
    return u, reached


def solutions_log_odds(logits, target):
    chosen = logits.gather(1, target[:, None])[:, 0]
    return chosen - logits.scatter(1, target[:, None], -torch.inf).logsumexp(1)


def walk_in_place(velocity, classify, u, target, gamma=0.1, rounds=20, confidence=0.99):
    found, reached = solutions.walk(velocity, classify, u, target, gamma, rounds, confidence)
    u.copy_(found)
    return u, reached


def line_by_loop(codes, answers):
    means = [(w[:, None] * codes).sum(0) / w.sum() for w in answers.T]
    means = torch.stack(means)
    return lambda u, condition, t: condition @ means


def line_by_einsum(codes, answers):
    weights = answers / answers.sum(0)

    def velocity(u, condition, t):
        return torch.einsum("bk,nk,nd->bd", condition, weights, codes)

    return velocity


def line(means=None, use=None):
    """The answer to exercise 10, with other means, or another use of them."""

    def answer(codes, answers):
        found = (means or (lambda x, a: a.T @ x / a.sum(0)[:, None]))(codes, answers)
        return (use or (lambda m: lambda u, c, t: c @ m))(found)

    return answer


def hard_means(codes, answers):
    hard = one_hot(answers.argmax(1), answers.shape[1]).float()
    return hard.T @ codes / hard.sum(0)[:, None]


def counterfactual(
    *, begin="standard", unit=True, reset=True, decode="after", all_reached=False, confidence=0.99
):
    """The answer to exercise 11, with one thing changed."""

    def answer(space, classifier, velocity, images, target):
        z0 = space.encode(images).z
        start = standardise(z0 - space.mean, space.std)
        if begin == "code":
            start = z0
        if begin == "zero":
            start = torch.zeros_like(z0)

        def draw(u):
            return space.decode(Code(move(space, z0, u - start)))

        u, reached = solutions.walk(
            velocity, lambda u: classifier(draw(u)), start, target, confidence=confidence
        )
        full = draw(u)
        if reset:
            u = torch.where(reached[:, None], u, start)
        z = move(space, z0, u - start) if unit else u
        image = {"after": draw(u), "before": full, "original": images}[decode]
        return image, z, reached | all_reached

    return answer


def counterfactual_by_rows(space, classifier, velocity, images, target):
    """One figure at a time."""
    parts = [
        counterfactual()(space, classifier, velocity, images[i : i + 1], target[i : i + 1])
        for i in range(len(images))
    ]
    return [torch.cat(part) for part in zip(*parts, strict=True)]


def measure_by_sets(f, judge, before, after, target, causes):
    names = list(judge.options)
    flips = (f(after).argmax(1) == target).tolist()
    pairs = zip(judge.indices(before).tolist(), judge.indices(after).tolist(), flips, strict=True)
    sets = [{n for n, x, y in zip(names, a, b, strict=True) if x != y} for a, b, ok in pairs if ok]
    some = [bool(s & set(causes)) for s in sets]
    alone = [bool(s & set(causes)) and not s - set(causes) for s in sets]
    n = len(sets) or float("nan")
    return sum(flips) / len(flips), sum(some) / n, sum(alone) / n


def measure_by_columns(f, judge, before, after, target, causes):
    ok = f(after).argmax(1).eq(target)
    changed = judge.indices(before[ok]).ne(judge.indices(after[ok]))
    names = list(judge.options)
    own = [names.index(c) for c in causes]
    cause = changed[:, own].sum(1) > 0
    rest = changed.sum(1) - changed[:, own].sum(1)
    alone = (cause & (rest == 0)).float().mean()
    return ok.double().mean(), cause.float().mean().item(), alone


def measured(first=None, second=None, mean=True, select=True, empty=None, flips=None):
    """The answer to exercise 15, with another condition."""

    def answer(f, judge, before, after, target, names):
        ok = f(after).argmax(1) == target
        changed = judge.indices(before) != judge.indices(after)
        own = torch.tensor([n in names for n in judge.options])
        cause = (first or (lambda c, own: c[:, own].any(1)))(changed, own)
        alone = (second or (lambda c, own: c[:, own].any(1) & ~c[:, ~own].any(1)))(changed, own)
        if select:
            cause, alone = cause[ok], alone[ok]
        if not mean:
            return ok, cause, alone
        if empty is not None and not ok.any():
            return 0.0, empty, empty
        ok = ok if flips is None else flips(ok)
        return tuple(float(part.double().mean()) for part in (ok, cause, alone))

    return answer


def density(shrink=True, variance=None, half=2, join=None, sign=1):
    """The answer to exercise 8, with one thing changed."""

    def answer(u, t, centres, std):
        means = t * centres if shrink else centres
        v = (variance or (lambda t, s: (t * s) ** 2 + (1 - t) ** 2))(t, std)
        squares = (u[:, None] - means).square().sum(2)
        return sign * (join or (lambda x: x.logsumexp(1)))(-squares / (half * v))

    return answer


def density_by_cdist(u, t, centres, std):
    v = t * t * std * std + 1 - 2 * t + t * t
    return torch.logsumexp(-(torch.cdist(u, t * centres) ** 2) / v / 2, dim=1)


def density_by_torch(u, t, centres, std):
    """With all constants."""
    s = ((t * std) ** 2 + (1 - t) ** 2) ** 0.5
    groups = [torch.distributions.Normal(t * c, s).log_prob(u).sum(1) for c in centres]
    return torch.stack(groups).logsumexp(0) - torch.tensor(float(len(centres))).log()


def prepared(unit=True, mean=True, which="reconstruction", soft=1, swap=False, divide=True):
    """The answer to exercise 12, with one thing changed."""

    def answer(space, f, images):
        z = space.encode(images).z
        seen = images if which == "original" else space.decode(Code(z))
        logits = f(seen)
        p = {None: logits, "hard": one_hot(logits.argmax(1), 2).float()}.get(soft)
        p = logits.softmax(soft) if p is None else p
        u = z - space.mean if mean else z
        u = standardise(u, space.std) if divide else u
        return (p, u) if swap else (u if unit else z, p)

    return answer


def prepare_by_rows(space, f, images):
    parts = [prepared()(space, f, image[None]) for image in images]
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))


def prepare_by_hand(space, f, images):
    code = space.encode(images)
    e = f(space.decode(code)).exp()
    return (code.z - space.mean) / space.std.clamp_min(1e-12), e / e.sum(1, keepdim=True)


def swapped(order=1, change=True, unit=True, gamma=1.0, begin="standard", at="code", codes=False):
    """The answer to exercise 14, with one thing changed."""

    def answer(space, velocity, images, target):
        z0 = space.encode(images).z
        start = standardise(z0 - space.mean, space.std) if begin == "standard" else z0
        classes = [torch.eye(2)[1 - target], torch.eye(2)[target]][::order]
        u = solutions.leap(velocity, start, *classes, gamma)
        z = move(space, z0 if at == "code" else space.mean, u - start if change else u)
        z = z if unit else u
        return z if codes else space.decode(Code(z))

    return answer


def swap_by_rows(space, velocity, images, target):
    pairs = zip(images, target, strict=True)
    return torch.cat([swapped()(space, velocity, x[None], t[None]) for x, t in pairs])


TABLE = {
    "interpolate": Answers(
        right={
            "solution": solutions.interpolate,
            "lerp": path_by_lerp,
            "row by row": path_row_by_row,
        },
        wrong={
            "reversed": (
                lambda noise, u, t: solutions.interpolate(u, noise, t),
                "at t = 0 the point is the code",
            ),
            "noise stays": (lambda noise, u, t: noise + t[:, None] * u, "keeps its full size"),
            "diffusion": (
                lambda noise, u, t: (1 - t[:, None] ** 2).sqrt() * noise + t[:, None] * u,
                "does not lie on the straight line",
            ),
            "one time": (
                lambda noise, u, t: (1 - t[1]) * noise + t[1] * u,
                "not those of the straight path",
            ),
            "no new dimension": (
                lambda noise, u, t: (1 - t) * noise + t * u,
                "it raised RuntimeError",
            ),
            "one row": (
                lambda noise, u, t: solutions.interpolate(noise, u, t)[0],
                "expected points of shape (4, 3)",
            ),
        },
    ),
    "flow_loss": Answers(
        right={"solution": solutions.flow_loss, "mse_loss": loss_by_mse, "sums": loss_by_sums},
        wrong={
            "backwards": (lossy(goal=lambda u, n: n - u), "leads from code to noise"),
            "at the code": (lossy(point=lambda n, u, t: u), "asked at the code"),
            "learns the code": (lossy(goal=lambda u, n: u), "learns the code"),
            "learns the noise": (lossy(goal=lambda u, n: n), "learns the noise"),
            "per row": (lossy(lambda e: (e**2).mean(1)), "expected one number"),
            "not reduced": (lossy(lambda e: e**2), "expected one number"),
            "sum over coordinates": (lossy(lambda e: (e**2).sum(1).mean()), "summed over coord"),
            "sum": (lossy(lambda e: (e**2).sum()), "the errors are summed"),
            "absolute": (lossy(lambda e: e.abs().mean()), "are not squared"),
            "root": (lossy(lambda e: (e**2).mean().sqrt()), "the root is taken"),
            "at the noise": (lossy(point=lambda n, u, t: n), "expected"),
        },
    ),
    "train_flow": Answers(
        right={"solution": solutions.train_flow, "flags": trained(), "by hand": train_by_hand},
        wrong={
            "no network": (of(trained(), lambda net: net.bias), "expected the trained network"),
            "losses": (of(trained(), lambda net: [0.1, 0.2]), "expected the trained network"),
            "one step more": (trained(more=1), "for 30 steps expected 30 batches, got 31"),
            "own batch size": (trained(batch=32), "expected batches of 64 rows, got 32"),
            "one time for all": (trained(one_time=True), "not spread over 0 to 1"),
            "drawn before the loop": (trained(fresh=False), "the times are the same in each step"),
            "noise drawn before": (trained(fresh="times"), "the noise is the same in each step"),
            "wrong pairs": (trained(pair=False), "paired with the answers of other codes"),
            "uniform noise": (trained(uniform=True), "the noise has mean 0.5"),
            "first rows only": (trained(rows=2), "some codes are never drawn"),
            "no step": (trained(step=False), "the network does not change"),
            "gradients add up": (trained(zero=False), "after 30 steps of Adam the bias must be"),
            "uphill": (trained(sign=-1), "after 30 steps of Adam the bias must be"),
            "new optimiser": (trained(new_adam=True), "after 30 steps of Adam the bias must be"),
            "own rate": (trained(rate=0.01), "after 30 steps of Adam the bias must be"),
            "not frozen": (trained(freeze=False), "still collects gradients"),
            "no seed": (trained(seeded=False), "the same seed gives different batches"),
            "seed ignored": (trained(own_seed=5), "another seed gives the same batches"),
        },
    ),
    "midpoint": Answers(
        right={
            "solution": solutions.midpoint,
            "times": ode_by_times,
            "while": ode_in_a_loop,
            "flags": ode(),
        },
        wrong={
            "Euler": (ode(half=0, at=0), "this is Euler's method"),
            "time of the beginning": (ode(at=0), "at the time of the beginning"),
            "time of the end": (ode(at=1), "at the time of the end"),
            "from the middle": (ode(begin="middle"), "the whole step begins in the middle"),
            "whole first step": (ode(half=1), "a whole step, and not half"),
            "no gamma": (ode(gamma_used=False), "gamma is ignored"),
            "one step": (ode(steps_used=False), "only one step is taken"),
            "against time": (ode(sign=-1), "the points move against time"),
            "reversed": (
                lambda v, u, c, a, b, steps=8, gamma=1.0: ode()(v, u, c, b, a, steps, gamma),
                "time runs in the wrong direction",
            ),
            "time is a number": (ode(scalar=True), "expected one time per row"),
            "in place": (ode_in_place, "u that was handed in has changed"),
            "nothing": (lambda v, u, c, *_: u, "the points do not move"),
            "after one step": (
                lambda v, u, c, a, b, steps=8, gamma=1.0: ode()(
                    v, u, c, a, a + (b - a) / steps, 1, gamma
                ),
                "not those of the midpoint method",
            ),
        },
    ),
    "leap": Answers(
        right={"solution": solutions.leap, "keywords": leap_by_keywords, "one flow": leap_as_one},
        wrong={
            "lift only": (leapt(LIFT), "this is the lift alone"),
            "landing only": (leapt(LAND), "lands without a lift"),
            "exchanged": (
                leapt(("target", 1.0, True), ("present", 0.0, True)),
                "use each other's class",
            ),
            "own class": (leapt(LIFT, ("present", 0.0, True)), "lands in its own class"),
            "forwards": (leapt(("present", 0.0, True), LAND), "the lift goes forwards"),
            "landing first": (leapt(LAND, LIFT), "the landing comes before the lift"),
            "no gamma": (
                leapt(("present", 1.0, False), ("target", 0.0, False)),
                "gamma is ignored",
            ),
            "gamma in the lift": (leapt(LIFT, ("target", 0.0, False)), "only the lift uses gamma"),
            "gamma in the landing": (
                leapt(("present", 1.0, False), LAND),
                "only the landing uses gamma",
            ),
            "change only": (
                lambda v, u, *args: solutions.leap(v, u, *args) - u,
                "not those of lift and landing",
            ),
        },
    ),
    "mean_difference": Answers(
        right={
            "solution": solutions.mean_difference,
            "at once": difference_at_once,
            "stack": difference_by_stack,
        },
        wrong={
            "sign": (of(solutions.mean_difference, lambda d: -d), "the sign is reversed"),
            "sum": (
                lambda v, u, a, b, times=TIMES: (
                    len(times) * solutions.mean_difference(v, u, a, b, times)
                ),
                "the differences are summed",
            ),
            "first time": (
                lambda v, u, a, b, times=TIMES: solutions.mean_difference(v, u, a, b, times[:1]),
                "only the first time counts",
            ),
            "last time": (
                lambda v, u, a, b, times=TIMES: solutions.mean_difference(v, u, a, b, times[-1:]),
                "only the last time counts",
            ),
            "mean time": (
                lambda v, u, a, b, times=TIMES: solutions.mean_difference(
                    v, u, a, b, [sum(times) / len(times)]
                ),
                "taken once, at the mean time",
            ),
            "own times": (
                lambda v, u, a, b, times=TIMES: solutions.mean_difference(v, u, a, b),
                "the argument `times` is ignored",
            ),
            "target only": (
                lambda v, u, a, b, times=TIMES: solutions.mean_difference(v, u, a, 0 * b, times),
                "nothing leads away from the rival",
            ),
            "number": (
                lambda v, u, a, b, times=TIMES: v(u, a, times[0]) - v(u, b, times[0]),
                "expected one time per row",
            ),
            "per code": (
                lambda v, u, a, b, times=TIMES: (
                    len(times) * solutions.mean_difference(v, u, a, b, times) / len(u)
                ),
                "divided by the number of codes",
            ),
            "in place": (difference_in_place, "u that was handed in has changed"),
        },
    ),
    "implicit_gradient": Answers(
        right={
            "solution": solutions.implicit_gradient,
            "backward": implicit_by_backward,
            "parts": implicit_by_parts,
        },
        wrong={
            "no factor": (implicit(lambda t: 1), "the factor in front of the gradient is missing"),
            "upside down": (implicit(lambda t: t / (1 - t)), "upside down"),
            "sign": (implicit(lambda t: (t - 1) / t), "the sign is reversed"),
            "1 / t": (implicit(lambda t: 1 / t), "only its denominator"),
            "1 - t": (implicit(lambda t: 1 - t), "only its numerator"),
            "target only": (implicit(both=False), "the target's density alone"),
            "mean": (implicit(mean=True), "divided by the number of codes"),
            "no copy": (implicit(copy=False), "has changed"),
            "history": (implicit(graph=True), "still carries gradient history"),
            "odds": (
                lambda log_p, u, t, a, b: log_p(u, t, a) - log_p(u, t, b),
                "expected a gradient of shape (5, 2)",
            ),
            "no gradient asked": (
                lambda log_p, u, t, a, b: torch.autograd.grad(log_p(u, t, a).sum(), u)[0],
                "it raised RuntimeError",
            ),
        },
    ),
    "strongest_rival": Answers(
        right={
            "solution": solutions.strongest_rival,
            "mask": rival_by_a_mask,
            "row by row": rival_row_by_row,
        },
        wrong={
            "index": (
                of(solutions.strongest_rival, lambda r: r.argmax(1)),
                "expected one-hot rows",
            ),
            "integers": (of(solutions.strongest_rival, lambda r: r.long()), "expected floats"),
            "present": (
                lambda logits, target: one_hot(logits.argmax(1), 4).float(),
                "the target is its own rival",
            ),
            "second": (
                lambda logits, target: one_hot(logits.topk(2).indices[:, 1], 4).float(),
                "the second largest logit counts",
            ),
            "target": (lambda logits, target: one_hot(target, 4).float(), "this is the target"),
            "weakest": (
                lambda logits, target: solutions.strongest_rival(-logits, target),
                "the least probable class",
            ),
            "zero": (
                lambda logits, target: one_hot(
                    logits.scatter(1, target[:, None], 0.0).argmax(1), 4
                ).float(),
                "replaced by 0",
            ),
            "in place": (rival_in_place, "logits that was handed in has changed"),
            "probabilities": (
                lambda logits, target: logits.scatter(1, target[:, None], -torch.inf).softmax(1),
                "not the most probable other class",
            ),
        },
    ),
    "walk": Answers(
        right={"solution": solutions.walk, "flags": walked(), "rows": walk_by_rows},
        wrong={
            "codes only": (of(walked(), lambda pair: pair[0]), "expected the codes and which"),
            "count": (
                of(walked(), lambda pair: (pair[0], pair[1].sum())),
                "expected one bool per image",
            ),
            "exchanged": (of(walked(), lambda pair: pair[::-1]), "expected codes (7, 2)"),
            "away": (walked(sign=-1), "leads away from the target"),
            "no growth": (walked(grow=1), "all steps have the same length"),
            "no limit": (walked(largest=1e9), "grow without a limit"),
            "first step": (walked(first=1), "the first step is too large"),
            "moves on": (walked(freeze=False), "images that have reached the target move on"),
            "at the flip": (walked(need="flip"), "stops at the flip"),
            "present class": (walked(rival="present"), "after a flip an image stands still"),
            "old logits": (walked(rival="start"), "the rival is that of the beginning"),
            "asked twice": (walked(twice=True), "expected 10 answers"),
            "no end": (walked(early=False), "goes on after all images"),
            "counts the start": (walked(begin=True), "before its first step"),
            "back": (walked(back=True), "back at its start"),
            "nobody": (
                of(walked(), lambda pair: (pair[0], pair[1] & False)),
                "expected reached = ",
            ),
            "nothing": (
                lambda v, f, u, t, *_: (u, torch.zeros(len(u), dtype=torch.bool)),
                "no image moves",
            ),
            "in place": (walk_in_place, "u that was handed in has changed"),
        },
    ),
    "class_mean_line": Answers(
        right={
            "solution": solutions.class_mean_line,
            "loop": line_by_loop,
            "einsum": line_by_einsum,
        },
        wrong={
            "means": (line(use=lambda m: m), "expected a function"),
            "hard": (line(hard_means), "fully for its most probable class"),
            "sum": (line(lambda x, a: a.T @ x), "the weighted codes are summed"),
            "by n": (line(lambda x, a: a.T @ x / len(x)), "divided by the number of codes"),
            "from u": (line(use=lambda m: lambda u, c, t: c @ m - u), "points from u to the mean"),
            "same mean": (
                line(lambda x, a: x.mean(0).expand(2, 3)),
                "both classes have the same mean",
            ),
            "flipped": (
                line(use=lambda m: lambda u, c, t: c @ m.flip(0)),
                "the mean of the other class",
            ),
            "looked up": (
                line(use=lambda m: lambda u, c, t: m[c.argmax(1)]),
                "does not mix the two means",
            ),
            "difference": (
                line(use=lambda m: lambda u, c, t: (m[1] - m[0]).expand(len(u), 3)),
                "not the mean codes of the conditions",
            ),
        },
    ),
    "my_flow_counterfactual": Answers(
        right={
            "solution": solutions.my_flow_counterfactual,
            "flags": counterfactual(),
            "one by one": counterfactual_by_rows,
        },
        wrong={
            "two parts": (
                of(counterfactual(), lambda found: found[:2]),
                "expected images, codes and which of them",
            ),
            "codes first": (
                of(counterfactual(), lambda found: (found[1], found[0], found[2])),
                "expected images like the input",
            ),
            "standard deviations": (counterfactual(unit=False), "still in standard deviations"),
            "starts at the code": (counterfactual(begin="code"), "standard deviations away"),
            "starts at zero": (counterfactual(begin="zero"), "your function"),
            "high confidence": (counterfactual(confidence=0.99999), "your function"),
            "originals": (counterfactual(decode="original"), "images are not those of the codes"),
            "not set back": (counterfactual(reset=False), "does not reach the target is"),
            "decoded too early": (counterfactual(decode="before"), "a change that its code does"),
            "all reached": (counterfactual(all_reached=True), "all images count as reached"),
        },
    ),
    "noisy_log_density": Answers(
        right={
            "solution": solutions.noisy_log_density,
            "cdist": density_by_cdist,
            "torch": density_by_torch,
        },
        wrong={
            "sign": (density(sign=-1), "the sign is reversed"),
            "centres": (density(shrink=False), "do not shrink towards the noise"),
            "noise only": (density(variance=lambda t, s: (1 - t) ** 2), "of the noise alone"),
            "groups only": (density(variance=lambda t, s: (t * s) ** 2), "of the groups alone"),
            "deviations": (
                density(variance=lambda t, s: (t * s + 1 - t) ** 2),
                "standard deviations are added",
            ),
            "no 2": (density(half=1), "the factor 2"),
            "nearest": (density(join=lambda x: x.amax(1)), "only the nearest group counts"),
            "product": (density(join=lambda x: x.sum(1)), "the logs of the groups are summed"),
            "mean": (density(join=lambda x: x.mean(1)), "are averaged"),
            "no log": (density(join=lambda x: x.exp().sum(1)), "and not its log"),
            "all groups": (density(join=lambda x: x), "expected one number per place"),
            "overflow": (density(join=lambda x: x.exp().sum(1).log()), "is not finite"),
        },
    ),
    "codes_and_answers": Answers(
        right={
            "solution": solutions.codes_and_answers,
            "by rows": prepare_by_rows,
            "flags": prepared(),
        },
        wrong={
            "codes only": (of(prepared(), lambda pair: pair[0]), "expected the codes and the answ"),
            "exchanged": (prepared(swap=True), "expected codes (8, 20)"),
            "own unit": (prepared(unit=False), "still in their own unit"),
            "no mean": (prepared(mean=False), "the mean code is not subtracted"),
            "not divided": (prepared(divide=False), "not divided by their standard deviation"),
            "logits": (prepared(soft=None), "the answers are logits"),
            "originals": (prepared(which="original"), "are those for the originals"),
            "hard": (prepared(soft="hard"), "class numbers in one-hot rows"),
            "over images": (prepared(soft=0), "runs over images"),
        },
    ),
    "swap_class": Answers(
        right={"solution": solutions.swap_class, "by rows": swap_by_rows, "flags": swapped()},
        wrong={
            "exchanged": (swapped(order=-1), "present class and target are exchanged"),
            "code as change": (swapped(change=False), "the new code is taken for the change"),
            "unit": (swapped(unit=False), "decoded in standard deviations"),
            "small": (swapped(gamma=0.1), "the leap is a small one"),
            "from the mean": (swapped(at="mean"), "added to the mean code"),
            "start in codes": (swapped(begin="code"), "not those of one leap"),
            "codes": (swapped(codes=True), "expected images like the input"),
            "reconstruction": (
                lambda space, v, x, t: space.decode(space.encode(x)),
                "the image is the reconstruction",
            ),
        },
    ),
    "measure": Answers(
        right={
            "solution": solutions.measure,
            "sets": measure_by_sets,
            "columns": measure_by_columns,
        },
        wrong={
            "one number": (of(measured(), lambda all: all[0]), "expected three fractions"),
            "per image": (measured(mean=False), "expected three numbers"),
            "not flipped": (measured(flips=lambda ok: ~ok), "10 of 12 images flip"),
            "over all": (measured(select=False), "of changed causes is over all images"),
            "last over all": (
                of(measured(), lambda all: (*all[:2], all[2] * 25 / 18)),
                "the last fraction is over all images",
            ),
            "all causes": (measured(lambda c, own: c[:, own].all(1)), "only if all causes changed"),
            "any factor": (measured(lambda c, own: c.any(1)), "all factors count as causes"),
            "the others": (measured(lambda c, own: c[:, ~own].any(1)), "the other factors count"),
            "also no change": (
                measured(second=lambda c, own: ~c[:, ~own].any(1)),
                "in which nothing changed count",
            ),
            "of the causes": (
                of(measured(), lambda all: (*all[:2], all[2] / all[1])),
                "with a changed cause",
            ),
            "only one factor": (
                measured(second=lambda c, own: c[:, own].any(1) & (c.sum(1) == 1)),
                "second cause counts as a side effect",
            ),
            "same twice": (of(measured(), lambda all: (*all[:2], all[1])), "do not matter"),
            "zero": (measured(empty=0.0), "if no image flips expected NaN"),
        },
    ),
}


@right_answers(nb11, TABLE)
def test_right_answers_pass(check, answer):
    assert_accepted(check(answer))


@wrong_answers(nb11, TABLE)
def test_typical_mistakes_are_named(check, answer, fragment):
    assert_rejected(check(answer), fragment)


def test_there_are_three_styles_of_each_right_answer():
    assert all(len(answers.right) >= 3 for answers in TABLE.values())
    assert set(TABLE) == set(public_checks(nb11))


def test_the_recorder_is_a_network():
    assert isinstance(nb11._Recorder(), nn.Module)
