"""The paper's proxy: a small network that learns logits and distance from changes of a code.

Global Counterfactual Directions, arXiv 2404.12488. Numbers and stop rule are those of the
official configuration; ``stop="sound"`` waits for the best held-out loss and goes back to it.
"""

import dataclasses
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import grad, hessian

from cfxnb.core.decisions import log_odds
from cfxnb.directions.proxies import Fit, Probes

HIDDEN = (256, 128, 64)
LR, BATCH, EPOCHS = 1e-3, 128, 1024
DISTANCE_WEIGHT = 3.0  # of the squared error of distances against that of logits
PATIENCE = 200  # epochs without progress, for the sound rule


class MLPProxy(nn.Module):
    """Changes (n, d) -> logits (n, k) and distances (n,) in (0, 1)."""

    def __init__(self, dims: int, logits: int, hidden: tuple[int, ...] = HIDDEN) -> None:
        super().__init__()
        self.dims = dims
        widths = [dims, *hidden]
        layers: list[nn.Module] = []
        for inside, outside in pairwise(widths):
            layers += [nn.Linear(inside, outside), nn.Sigmoid()]
        self.proxy = nn.Sequential(*layers, nn.Linear(widths[-1], logits + 1))

    def forward(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        out = self.proxy(delta)
        return out[..., :-1], out[..., -1].sigmoid()

    def loss(self, delta: Tensor, logits: Tensor, distance: Tensor) -> Tensor:
        """Squared error of the logits, and three times that of the distances."""
        guess, far = self(delta)
        error = nn.functional.mse_loss
        return error(guess, logits) + DISTANCE_WEIGHT * error(far, distance)


def counterfactual_loss(
    proxy: MLPProxy, delta: Tensor, label: int, sign: float, weights: tuple[float, float]
) -> Tensor:
    """weights[0] * sign * logit[label] + weights[1] * distance, (n,): what a step lowers."""
    logits, distance = proxy(delta)
    return weights[0] * sign * logits[..., label] + weights[1] * distance


def train_proxy(probes: Probes, *, stop: str = "sound", seed: int = 0) -> MLPProxy:
    """A fresh network on all probes, of which an eighth decides when to stop.

    Args:
        stop: "paper": at the first epoch whose held-out loss is above the mean of the last five,
            keeping the weights of that moment. "sound": after 200 epochs without a better
            held-out loss, going back to the best.
    """
    generator = torch.Generator().manual_seed(seed)
    held = _held(len(probes.delta))
    parts = [t.float() for t in (probes.delta, probes.logits, probes.distance)]
    train, check = [t[:-held] for t in parts], [t[-held:] for t in parts]
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
        if stop == "sound" and epoch - losses.index(best) >= PATIENCE:
            break
    if stop == "sound":
        proxy.load_state_dict(kept)
    return proxy.requires_grad_(False)


def mlp(
    probes: Probes,
    label: Tensor,
    contrast_class: Tensor | None,
    *,
    stop: str = "sound",
    seed: int = 0,
) -> Fit:
    """Gradients and Hessian of the network's score at no change.

    Args:
        label, contrast_class: (1,) classes, see ``log_odds``.
    """
    proxy = train_proxy(probes, stop=stop, seed=seed)

    def score(logits: Tensor) -> Tensor:
        rows = len(logits)
        return log_odds(
            logits,
            label.expand(rows),
            None if contrast_class is None else contrast_class.expand(rows),
        )

    held = _held(len(probes.delta))
    seen = probes.score[-held:].float()
    with torch.no_grad():
        left = seen - score(proxy(probes.delta[-held:].float())[0])
    r2 = float(1 - left.square().mean() / seen.var(correction=0).clamp_min(1e-30))
    return dataclasses.replace(read(proxy, score), r2=r2, queries=len(probes.delta))


def read(proxy: MLPProxy, score: Callable[[Tensor], Tensor]) -> Fit:
    """What a trained network says at no change about a score, logits (n, k) -> (n,)."""
    home = torch.zeros(proxy.dims)

    def at(delta: Tensor) -> Tensor:
        return score(proxy(delta[None])[0])[0]

    return Fit(
        gradient=grad(at)(home).detach(),
        hessian=hessian(at)(home).detach(),
        distance=grad(lambda delta: proxy(delta)[1])(home).detach(),
        r2=float("nan"),
        split_half_cosine=float("nan"),
        queries=0,
    )


def _held(count: int) -> int:
    """Probes kept from training: whole pairs, since an opposite tells much about a change."""
    return min(128, max(2, count // 16 * 2))
