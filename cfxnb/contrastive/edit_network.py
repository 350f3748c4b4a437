"""A network that proposes the step for each code (Alipour et al., arXiv 2206.05257).

Facts of the published training: a multilayer perceptron maps code and target to a step; it is
trained through the frozen generator against a frozen attribute reader, with 0.05 times the length
of the step as a penalty. There, a target of 0 means "don't care" and is left out of the loss; with
``preserve_others=True`` it means "as it was": the reader must find every other factor unchanged.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from cfxnb.contrastive.edits import Contrasts, LinearSteps
from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.core.kept_work import sketch
from cfxnb.core.modules import eval_frozen
from cfxnb.core.tensors import active_dims, hash_seed, predicted
from cfxnb.core.training import fit
from cfxnb.core.types import Code, LatentSpace

PROBES = 8  # codes about which space and reader are asked, to recognise them


class EditNetwork(nn.Module):
    """(codes in units of the spread (b, dims), target (b, attributes) in {-1, 0, 1}) -> steps.

    The network's output is added to the linear step ``linear_steps``, and begins at zero. From nothing
    it would not get far where a space is densely filled: between two kinds of images the reader
    is sure of a third, and its gradient says nothing about what lies behind.
    """

    def __init__(
        self,
        dims: int,
        attributes: int,
        hidden_dim: int = 512,
        linear_steps: LinearSteps | None = None,
    ) -> None:
        super().__init__()
        nothing = torch.zeros(attributes, dims), torch.zeros(attributes, 2)
        self.linear_steps = linear_steps or LinearSteps(*nothing)
        last = nn.Linear(hidden_dim, dims)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(
            nn.Linear(dims + attributes, hidden_dim),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
            nn.Dropout(0.1),
            last,
        )

    def forward(self, u: Tensor, target: Tensor) -> Tensor:
        return self.linear_steps(u, target) + self.layers(torch.cat([u, target], dim=1))


def train_predictor(
    space: LatentSpace,
    u: Tensor,
    reader: FactorReader,
    contrasts: Contrasts,
    preserve_others: bool,
    start: LinearSteps | None,
    *,
    hidden_dim: int,
    steps: int,
    batch_size: int,
    lr: float,
    length_weight: float,
    code_noise: float,
    folder: Path | None,
    asked: dict[str, Any],
    seed: int,
) -> EditNetwork:
    """Train against the frozen generator and reader; see ``cfxnb.fit_attribute_edits``.

    Args:
        u: codes in units of the spread, (n, dims).
        length_weight: weight of the mean length of a step.
        code_noise: standard deviation of the noise added to each code.
        asked: all that the training depends on, as JSON values, to recognise the folder by.
    """
    shape, work = space.mean.shape, space.mean.device
    scale = (space.std * active_dims(space.std)).flatten()
    mean = space.mean.flatten()

    def read(points: Tensor) -> dict[str, Tensor]:
        return reader(space.decode(Code((mean + scale * points).view(-1, *shape))))

    def loss(net: EditNetwork, rows: tuple[Tensor, ...], generator: Generator) -> Tensor:
        points, now = rows
        # Dropout takes torch's global numbers: those of this step, whenever the run began.
        torch.manual_seed(hash_seed(generator.initial_seed(), 1))
        noise = torch.randn(points.shape, generator=generator, device=points.device)
        points = points + code_noise * noise
        target = _targets(len(points), len(contrasts), generator).to(points)
        step = net(points, target)
        found = read(points + step)
        wrong = (
            _edit_loss(found, target, contrasts, reader) + length_weight * step.norm(dim=1).mean()
        )
        return wrong + (_keep_loss(found, now, target, contrasts) if preserve_others else 0.0)

    def answers() -> dict[str, Tensor]:
        """What space and reader answer about a few codes, and beside them."""
        few = u[torch.linspace(0, len(u) - 1, min(PROBES, len(u))).round().long()]
        few = torch.cat([few, -few])
        drawn = space.decode(Code((mean + scale * few).view(-1, *shape)))
        told = torch.cat([*reader(drawn).values()], 1)
        return {"space codes": sketch(u), "space": sketch(drawn), "reader": told.detach()}

    with eval_frozen(space, reader), _own_random_numbers(seed):
        net = EditNetwork(u.shape[1], len(contrasts), hidden_dim, start)
        with torch.no_grad():
            heads = [torch.stack([predicted(h) for h in read(c).values()], 1) for c in u.split(256)]
        if wrong := int((torch.cat(heads) < 0).any(1).sum()):
            raise ValueError(
                f"reader: expected finite logits, got NaN or infinity for {wrong} of {len(u)} codes"
            )
        trained = fit(
            net,
            loss,
            (u, torch.cat(heads)),
            steps=steps,
            batch_size=min(batch_size, len(u)),
            lr=lr,
            folder=folder,
            seed=seed,
            device=work,
            asked=asked,
            answers=None if folder is None else answers(),
        )
    return trained


def _targets(rows: int, attributes: int, generator: Generator) -> Tensor:
    """One attribute a row is to be edited, up or down; the others are 0."""
    which = torch.randint(attributes, (rows,), generator=generator, device=generator.device)
    sign = 2 * torch.randint(2, (rows,), generator=generator, device=generator.device) - 1
    return F.one_hot(which, attributes) * sign[:, None]


def _wanted(contrasts: Contrasts, name: str, reader: FactorReader, target: Tensor) -> Tensor:
    """The number of the option that each row's target asks for."""
    below, above = (reader.options[name].index(value) for value in contrasts[name])
    return torch.where(target > 0, above, below)


def _edit_loss(
    read: dict[str, Tensor], target: Tensor, contrasts: Contrasts, reader: FactorReader
) -> Tensor:
    """Cross-entropy of the edited attributes towards the options asked for, a row."""
    total = target.new_zeros(len(target))
    for j, name in enumerate(contrasts):
        sign = target[:, j]
        wanted = _wanted(contrasts, name, reader, sign)
        total = total + F.cross_entropy(read[name], wanted, reduction="none") * (sign != 0)
    return total.mean()


def _keep_loss(
    read: dict[str, Tensor], now: Tensor, target: Tensor, contrasts: Contrasts
) -> Tensor:
    """Cross-entropy of everything that was not edited towards what it was, a row."""
    names = list(contrasts)
    total = target.new_zeros(len(target))
    for (name, logits), was in zip(read.items(), now.T, strict=True):
        free = target[:, names.index(name)] == 0 if name in names else torch.ones_like(total) > 0
        total = total + F.cross_entropy(logits, was, reduction="none") * free
    return total.mean()


@contextlib.contextmanager
def _own_random_numbers(seed: int) -> Iterator[None]:
    """Initial weights and dropout draw from torch's global numbers: lend them, give them back."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
