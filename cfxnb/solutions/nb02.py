"""Solutions of 02_counterfactual_attacks, written by ``python -m cfxnb.build learner``."""

# ruff: noqa: I001
import math
import torch
import cfxnb as cfx
from cfxnb.core.code_covariance import along_active_axes
from cfxnb.core.tensors import norms, standardise


def log_odds(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return log(p / (1 - p)) of the target, (b, k), (b,) -> (b,)."""
    chosen = logits.gather(1, target[:, None]).squeeze(1)
    others = logits.scatter(1, target[:, None], -torch.inf).logsumexp(1)
    return chosen - others


def move(space, z0: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Return the codes z0 + std * u, (b, d), (b, d) -> (b, d)."""
    return z0 + space.std * along_active_axes(space, u)


def objective(odds, u, start, proximity: float = 0.1, prior: float = 0.3) -> torch.Tensor:
    """Return the loss of each image, which the search minimises, (b,)."""
    change = (u**2).sum(1)
    from_mean = ((start + u) ** 2).sum(1)
    return -odds + proximity * change + prior * from_mean


def evaluate(space, classifier, z0, u, target) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log odds at the change u, (b,), and the gradient of the objective, (b, d)."""
    u = u.detach().clone().requires_grad_()
    start = standardise(z0 - space.mean, space.std)
    logits = classifier(space.decode(cfx.Code(move(space, z0, u))))
    odds = log_odds(logits, target)
    loss = objective(odds, u, start).sum()
    return odds.detach(), torch.autograd.grad(loss, u)[0]


def search(space, classifier, z0, target, steps=25, lr=0.3, confidence=0.995):
    """Return the change at the first success, (b, d), and which images succeed, bool (b,)."""
    u = torch.zeros_like(z0)
    found = u.clone()
    reached = torch.zeros(len(z0), dtype=torch.bool)
    need = math.log(confidence / (1 - confidence))
    adam = torch.optim.Adam([u], lr=lr)
    for _ in range(steps + 1):
        odds, u.grad = evaluate(space, classifier, z0, u, target)
        found[~reached] = u[~reached]
        reached |= odds >= need
        if reached.all():
            break
        adam.step()
    return found, reached


def shrink(reaches, n: int, halvings: int = 5) -> torch.Tensor:
    """Return the smallest tested fraction of each change that reaches the target, (n,)."""
    low, high = torch.zeros(n), torch.ones(n)
    for _ in range(halvings):
        middle = (low + high) / 2
        works = reaches(middle)
        low = torch.where(works, low, middle)
        high = torch.where(works, middle, high)
    return high


def my_latent_attack(space, classifier, images, target: int, confidence: float = 0.995):
    """Return counterfactual images, their codes, and which of them reach the target."""
    z0 = space.encode(images).z
    classes = torch.full((len(images),), target)
    u, reached = search(space, classifier, z0, classes, confidence=confidence)
    need = math.log(confidence / (1 - confidence))

    def reaches(fraction):
        z = move(space, z0, fraction[:, None] * u)
        with torch.no_grad():
            return log_odds(classifier(space.decode(cfx.Code(z))), classes) >= need

    fraction = torch.where(reached, shrink(reaches, len(u)), 1.0)
    z = move(space, z0, fraction[:, None] * u)
    return space.decode(cfx.Code(z)).detach(), z, reached


def random_change(u: torch.Tensor, seed: int) -> torch.Tensor:
    """Return random changes with the lengths of the rows of u, (b, d) -> (b, d)."""
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn(u.shape, generator=g) * (u != 0)
    return noise * (norms(u) / norms(noise))[:, None]


def measure(image, target: int, classifier, judge) -> tuple[float, float]:
    """Return the fraction of flips, and the fraction of flips with which the judge agrees."""
    flipped = cfx.predict_logits(classifier, image).argmax(1) == target
    read = cfx.predict_logits(judge, image).argmax(1)
    agreed = read[flipped] == target
    return float(flipped.double().mean()), float(agreed.double().mean())
