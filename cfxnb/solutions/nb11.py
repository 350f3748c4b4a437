"""Solutions of 11_flow_counterfactuals, written by ``python -m cfxnb.build learner``."""

# ruff: noqa: I001
import torch
from torch.nn.functional import one_hot
import cfxnb as cfx
from cfxnb.core.tensors import standardise
from cfxnb.solutions.nb02 import move


def interpolate(noise: torch.Tensor, u: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return the points of the paths from noise to codes at the times t, (b, d)."""
    t = t[:, None]
    return (1 - t) * noise + t * u


def flow_loss(net, u, condition, noise, t) -> torch.Tensor:
    """Return the mean squared error of the predicted velocities, a number."""
    point = interpolate(noise, u, t)
    error = net(point, condition, t) - (u - noise)
    return (error**2).mean()


def train_flow(net, u, answers, steps: int, batch_size: int = 256, lr: float = 2e-3, seed: int = 0):
    """Train a network by flow matching, and return it."""
    g = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(steps):
        rows = torch.randint(len(u), (batch_size,), generator=g)
        noise = torch.randn(batch_size, u.shape[1], generator=g)
        t = torch.rand(batch_size, generator=g)
        adam.zero_grad()
        loss = flow_loss(net, u[rows], answers[rows], noise, t)
        loss.backward()
        adam.step()
    return net.requires_grad_(False)


def midpoint(velocity, u, condition, start: float, end: float, steps: int = 8, gamma: float = 1.0):
    """Solve du/dt = gamma v(u, condition, t) from start to end, (b, d) -> (b, d)."""
    h = (end - start) / steps
    for i in range(steps):
        t = torch.full((len(u),), start + i * h)
        middle = u + h / 2 * gamma * velocity(u, condition, t)
        u = u + h * gamma * velocity(middle, condition, t + h / 2)
    return u


def leap(velocity, u, present, target, gamma: float = 1.0, steps: int = 8) -> torch.Tensor:
    """Lift codes along the flow of one class, and land them along that of another, (b, d)."""
    lifted = midpoint(velocity, u, present, 1.0, 0.0, steps, gamma)
    return midpoint(velocity, lifted, target, 0.0, 1.0, steps, gamma)


def mean_difference(velocity, u, target, rival, times=(0.125, 0.375, 0.625, 0.875)):
    """Return the mean over times of v(u, target, t) - v(u, rival, t), (b, d)."""
    total = torch.zeros_like(u)
    for time in times:
        t = torch.full((len(u),), time)
        total += velocity(u, target, t) - velocity(u, rival, t)
    return total / len(times)


def implicit_gradient(log_p, u, t: float, target: int, rival: int) -> torch.Tensor:
    """Return (1 - t) / t times the gradient of the implicit classifier's log odds, (b, d)."""
    u = u.detach().clone().requires_grad_()
    odds = log_p(u, t, target) - log_p(u, t, rival)
    (gradient,) = torch.autograd.grad(odds.sum(), u)
    return (1 - t) / t * gradient


def noisy_log_density(u, t: float, centres, std: float) -> torch.Tensor:
    """Return log p_t(u) of codes in groups, up to a constant, (b, d) -> (b,)."""
    variance = t**2 * std**2 + (1 - t) ** 2
    squares = ((u[:, None] - t * centres) ** 2).sum(2)
    return (-squares / (2 * variance)).logsumexp(1)


def strongest_rival(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the most probable class other than the target, as one-hot rows (b, k)."""
    others = logits.scatter(1, target[:, None], -torch.inf)
    return one_hot(others.argmax(1), logits.shape[1]).float()


def walk(velocity, classify, u, target, gamma=0.1, rounds=20, confidence=0.99):
    """Walk along the difference of two flows until the target is reached, (b, d), bool (b,)."""
    logits = classify(u)
    reached = torch.zeros(len(u), dtype=torch.bool)
    wanted = one_hot(target, logits.shape[1]).float()
    for n in range(rounds):
        rival = strongest_rival(logits, target)
        step = gamma * min(1.25**n, 4) * mean_difference(velocity, u, wanted, rival)
        u = torch.where(reached[:, None], u, u + step)
        logits = classify(u)
        p = logits.softmax(1).gather(1, target[:, None]).squeeze(1)
        reached = reached | (p >= confidence)
        if reached.all():
            break
    return u, reached


def class_mean_line(codes: torch.Tensor, answers: torch.Tensor):
    """Return a velocity that is the mean code of the class, at all places and times."""
    means = answers.T @ codes / answers.sum(0)[:, None]

    def velocity(u, condition, t):
        return condition @ means

    return velocity


def codes_and_answers(space, classifier, images) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the codes in standard deviations, and the answers for the reconstructions."""
    z = space.encode(images).z
    logits = cfx.predict_logits(classifier, space.decode(cfx.Code(z)))
    u = standardise(z - space.mean, space.std)
    return u, logits.softmax(1)


def my_flow_counterfactual(space, classifier, velocity, images, target):
    """Return counterfactual images, their codes, and which of them reach the target."""
    z0 = space.encode(images).z
    start = standardise(z0 - space.mean, space.std)

    def classify(u):
        return classifier(space.decode(cfx.Code(move(space, z0, u - start))))

    u, reached = walk(velocity, classify, start, target)
    u = torch.where(reached[:, None], u, start)
    z = move(space, z0, u - start)
    return space.decode(cfx.Code(z)), z, reached


def swap_class(space, velocity, images, target) -> torch.Tensor:
    """Return the images after one leap to the target with gamma = 1."""
    z0 = space.encode(images).z
    start = standardise(z0 - space.mean, space.std)
    present, wanted = one_hot(1 - target, 2).float(), one_hot(target, 2).float()
    u = leap(velocity, start, present, wanted)
    return space.decode(cfx.Code(move(space, z0, u - start)))


def measure(classifier, judge, before, after, target, causes) -> tuple[float, float, float]:
    """Return the fractions of flips, of changed causes, and of changed causes and nothing else."""
    flipped = classifier(after).argmax(1) == target
    changed = (judge.indices(before) != judge.indices(after))[flipped]
    is_cause = torch.tensor([name in causes for name in judge.options])
    cause = changed[:, is_cause].any(1)
    other = changed[:, ~is_cause].any(1)
    parts = (flipped, cause, cause & ~other)
    return tuple(float(part.double().mean()) for part in parts)
