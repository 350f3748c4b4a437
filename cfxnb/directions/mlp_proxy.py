"""The proxy of the paper (arXiv 2404.12488): a network that predicts logits and distance.

All numbers, and the stopping rule ``stop="paper"``, are those of the official configuration.
``stop="best"`` is our own rule, which returns to the weights with the best held-out loss.
"""

import dataclasses
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import grad, hessian

from cfxnb.core.decisions import log_odds
from cfxnb.directions.proxies import Probes, ProxyFit

HIDDEN = (256, 128, 64)
LR, BATCH, EPOCHS = 1e-3, 128, 1024
DISTANCE_WEIGHT = 3.0  # of the squared error of distances against that of logits
PATIENCE = 200  # epochs without progress after which stop="best" ends


class MLPProxy(nn.Module):
    """A network from changes of a code (n, d) to logits (n, k) and distances (n,) in (0, 1)."""

    def __init__(self, dims: int, logits: int, hidden: tuple[int, ...] = HIDDEN) -> None:
        super().__init__()
        self.dims = dims
        widths = [dims, *hidden]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.Sigmoid()]
        self.proxy = nn.Sequential(*layers, nn.Linear(widths[-1], logits + 1))

    def forward(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        out = self.proxy(delta)
        return out[..., :-1], out[..., -1].sigmoid()

    def loss(self, delta: Tensor, logits: Tensor, distance: Tensor) -> Tensor:
        """Return the squared error of logits plus 3 times the squared error of distances."""
        predicted_logits, predicted_distance = self(delta)
        error = nn.functional.mse_loss
        loss: Tensor = error(predicted_logits, logits)
        return loss + DISTANCE_WEIGHT * error(predicted_distance, distance)


def counterfactual_loss(
    proxy: MLPProxy, delta: Tensor, target: int, sign: float, weights: tuple[float, float]
) -> Tensor:
    """Return the paper's loss weights[0] * sign * logit[target] + weights[1] * distance, (n,)."""
    logits, distance = proxy(delta)
    return weights[0] * sign * logits[..., target] + weights[1] * distance


def train_proxy(probes: Probes, *, stop: str = "best", seed: int = 0) -> MLPProxy:
    """Train a new network on probes, of which at most an eighth is held out for stopping.

    Args:
        stop: "paper" stops at the first epoch whose held-out loss exceeds the mean of the last
            five, and keeps the weights of that epoch. "best" stops after 200 epochs without a
            better held-out loss, and returns to the best weights.
        seed: seed of the initial weights and of the order of the batches.
    """
    generator = torch.Generator().manual_seed(seed)
    n_held = _n_held_out(len(probes.delta))
    parts = [t.float() for t in (probes.delta, probes.logits, probes.distance)]
    train, check = [t[:-n_held] for t in parts], [t[-n_held:] for t in parts]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        proxy = MLPProxy(probes.delta.shape[1], probes.logits.shape[1])
    optimiser = torch.optim.AdamW(proxy.parameters(), lr=LR, weight_decay=0.01)
    losses: list[float] = []
    best, kept = float("inf"), {k: v.clone() for k, v in proxy.state_dict().items()}
    for epoch in range(EPOCHS):
        order = torch.randperm(len(train[0]), generator=generator)
        with torch.enable_grad():
            for rows in order.split(BATCH):
                optimiser.zero_grad()
                proxy.loss(*[t[rows] for t in train]).backward()
                optimiser.step()
        with torch.no_grad():
            value = proxy.loss(*check).item()
        if stop == "paper" and losses and value > sum(losses[-5:]) / len(losses[-5:]):
            return proxy.requires_grad_(False)
        losses.append(value)
        if value < best:
            best, kept = value, {k: v.clone() for k, v in proxy.state_dict().items()}
        if stop == "best" and epoch - losses.index(best) >= PATIENCE:
            break
    if stop == "best":
        proxy.load_state_dict(kept)
    return proxy.requires_grad_(False)


def mlp(
    probes: Probes,
    target: Tensor,
    contrast_class: Tensor | None,
    *,
    stop: str = "best",
    seed: int = 0,
) -> ProxyFit:
    """Train the network, and return the gradient and Hessian of its score at the unchanged code.

    Args:
        target, contrast_class: class numbers, (1,). The score is the log odds of ``target``,
            against ``contrast_class`` if a class is given.
        stop, seed: passed to ``train_proxy``.
    """
    proxy = train_proxy(probes, stop=stop, seed=seed)

    def score(logits: Tensor) -> Tensor:
        rows = len(logits)
        return log_odds(
            logits,
            target.expand(rows),
            None if contrast_class is None else contrast_class.expand(rows),
        )

    n_held = _n_held_out(len(probes.delta))
    observed = probes.score[-n_held:].float()
    with torch.no_grad():
        residual = observed - score(proxy(probes.delta[-n_held:].float())[0])
    r2 = float(1 - residual.square().mean() / observed.var(correction=0).clamp_min(1e-30))
    fit = differentiate(proxy, score)
    return dataclasses.replace(fit, r2=r2, n_queries=len(probes.delta))


def differentiate(proxy: MLPProxy, score: Callable[[Tensor], Tensor]) -> ProxyFit:
    """Return the derivatives of a trained network at the unchanged code, by autograd.

    Args:
        score: logits (n, k) -> scores (n,).
    """
    zero = torch.zeros(proxy.dims)

    def at(delta: Tensor) -> Tensor:
        return score(proxy(delta[None])[0])[0]

    return ProxyFit(
        gradient=grad(at)(zero).detach(),
        hessian=hessian(at)(zero).detach(),
        distance=grad(lambda delta: proxy(delta)[1])(zero).detach(),
        r2=float("nan"),
        split_half_cosine=float("nan"),
        n_queries=0,
    )


def _n_held_out(count: int) -> int:
    """Return the number of held-out probes. The two opposite changes of a pair are held out
    together, because they are similar."""
    return min(128, max(2, count // 16 * 2))
