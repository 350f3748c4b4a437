"""A network that predicts the edit step of each code (Alipour et al., arXiv 2206.05257).

The paper trains a multilayer perceptron that maps a code and a target (which attributes to change)
to a step. The loss comes from a frozen attribute classifier, which reads the image that the frozen
generator decodes. The paper adds 0.05 times the length of the step to the loss of the attribute
classifier. In the paper a target of 0 means "don't care", and the attribute is left out of the
loss. With ``preserve_others=True`` a target of 0 means "unchanged": the attribute classifier must
find the same value before and after the edit.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from cfxnb.contrastive.contrasts import Contrasts
from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.contrastive.linear_steps import LinearSteps
from cfxnb.core import validate
from cfxnb.core.kept_work import sketch
from cfxnb.core.modes import own_random_numbers
from cfxnb.core.modules import eval_frozen
from cfxnb.core.saved import saved_module, with_state
from cfxnb.core.tensors import active_dims, hash_seed
from cfxnb.core.training import fit
from cfxnb.core.types import Code, LatentSpace

N_PROBES = 8  # codes whose images and readings identify the space and the reader


@saved_module
class EditNetwork(nn.Module):
    """Network that predicts the edit step of a standardised code for a target.

    The predicted step is the linear step plus the output of the layers, which is zero before
    training. Training that starts from steps of length zero often fails if the codes of images fill
    the space densely. On the way from one kind of image to a wanted kind, the factor reader may see
    a third kind with certainty. Where the factor reader sees a third kind, its gradient does not
    point towards the wanted kind.

    Args:
        dims: Number of dimensions of a code.
        attributes: Number of attributes.
        hidden_dim: Width of each of the two hidden layers.
        linear_steps: Linear steps from which the training starts. Default: steps of length zero.
    """

    def __init__(
        self,
        dims: int,
        attributes: int,
        hidden_dim: int = 512,
        linear_steps: nn.Module | None = None,
    ) -> None:
        super().__init__()
        zero = LinearSteps(torch.zeros(attributes, dims), torch.zeros(attributes, 2))
        self.linear_steps = linear_steps or zero
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

    @staticmethod
    def from_state(state: dict[str, Tensor]) -> "EditNetwork":
        """Return the network that has this state dict.

        Raises:
            ValueError: If the state dict is that of another network.
        """
        normals, hidden = state.get("linear_steps.normals"), state.get("layers.0.bias")
        if normals is None or hidden is None or normals.ndim != 2:
            raise ValueError(f"weights: expected those of an edit network, got {sorted(state)[:3]}")
        attributes, dims = normals.shape
        return with_state(EditNetwork(dims, attributes, len(hidden)), state)

    def forward(self, u: Tensor, target: Tensor) -> Tensor:
        """Return the steps (b, dims) of standardised codes u, in standard deviations.

        Args:
            u: Standardised codes, (b, dims).
            target: Target of each attribute, (b, attributes): -1 for the baseline of the contrast,
                1 for the value of the contrast, and 0 if the attribute is unspecified.
        """
        return self.linear_steps(u, target) + self.layers(torch.cat([u, target], dim=1))


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """Options of ``cfxnb.fit_attribute_edits`` that concern the network and its training."""

    hidden_dim: int
    steps: int
    batch_size: int
    lr: float
    length_weight: float
    code_noise: float
    preserve_others: bool
    seed: int


def train_edit_network(
    space: LatentSpace,
    u: Tensor,
    reader: FactorReader,
    contrasts: Contrasts,
    linear_steps: nn.Module | None,
    options: TrainingOptions,
    checkpoint_dir: Path | None,
    record: dict[str, Any],
) -> EditNetwork:
    """Train an edit network with gradients through the frozen factor reader and generator.

    Args:
        space: Space that decodes the edited codes.
        u: Standardised codes to train on, (n, dims).
        reader: Factor reader that must find the wanted values in the decoded images.
        contrasts: dict attribute -> (baseline, value), the two values of each attribute.
        linear_steps: Linear steps from which the training starts, or None for steps of length zero.
        options: Width of the network, number of training steps, weights of the loss, and so on.
        checkpoint_dir: Directory for checkpoints of the training. If None, no checkpoints are
            written.
        record: Everything that the training depends on, as JSON values. The record identifies the
            directory.
    """
    shape, device = space.mean.shape, space.mean.device
    scale = (space.std * active_dims(space.std)).flatten()
    mean = space.mean.flatten()

    def decode(u: Tensor) -> Tensor:
        return space.decode(Code((mean + scale * u).view(-1, *shape)))

    def loss(net: EditNetwork, rows: tuple[Tensor, ...], generator: Generator) -> Tensor:
        u, original = rows
        # Dropout uses torch's global generator. Seed it per step, so that a resumed training
        # draws the same numbers.
        torch.manual_seed(hash_seed(generator.initial_seed(), 1))
        noise = torch.randn(u.shape, generator=generator, device=u.device)
        u = u + options.code_noise * noise
        target = _random_targets(len(u), len(contrasts), generator).to(u)
        step = net(u, target)
        logits = reader(decode(u + step))
        total = _edit_loss(logits, target, contrasts, reader)
        total = total + options.length_weight * step.norm(dim=1).mean()
        if options.preserve_others:
            total = total + _preserve_loss(logits, original, target, contrasts)
        return total

    def answers() -> dict[str, Tensor]:
        """Return outputs of space and factor reader for a few codes, to identify both networks."""
        few = u[torch.linspace(0, len(u) - 1, min(N_PROBES, len(u))).round().long()]
        decoded = decode(torch.cat([few, -few]))
        logits = torch.cat([*reader(decoded).values()], 1)
        return {"space codes": sketch(u), "space": sketch(decoded), "reader": logits.detach()}

    with eval_frozen(space, reader), own_random_numbers(options.seed):
        net = EditNetwork(u.shape[1], len(contrasts), options.hidden_dim, linear_steps)
        with torch.no_grad(), validate.part_of("reader"):
            original = torch.cat([reader.indices(decode(chunk)) for chunk in u.split(256)])
        return fit(
            net,
            loss,
            (u, original),
            steps=options.steps,
            batch_size=min(options.batch_size, len(u)),
            lr=options.lr,
            checkpoint_dir=checkpoint_dir,
            seed=options.seed,
            device=device,
            config=record,
            answers=None if checkpoint_dir is None else answers(),
        )


def _random_targets(rows: int, attributes: int, generator: Generator) -> Tensor:
    """Return random targets of edits: one attribute per row is 1 or -1, and the others are 0."""
    which = torch.randint(attributes, (rows,), generator=generator, device=generator.device)
    sign = 2 * torch.randint(2, (rows,), generator=generator, device=generator.device) - 1
    return F.one_hot(which, attributes) * sign[:, None]


def _edit_loss(
    logits: dict[str, Tensor], target: Tensor, contrasts: Contrasts, reader: FactorReader
) -> Tensor:
    """Return the mean cross-entropy between the edited attributes and the wanted values."""
    total = target.new_zeros(len(target))
    for j, (name, pair) in enumerate(contrasts.items()):
        baseline, value = (reader.options[name].index(v) for v in pair)
        wanted = torch.where(target[:, j] > 0, value, baseline)
        edited = target[:, j] != 0
        total = total + F.cross_entropy(logits[name], wanted, reduction="none") * edited
    return total.mean()


def _preserve_loss(
    logits: dict[str, Tensor], original: Tensor, target: Tensor, contrasts: Contrasts
) -> Tensor:
    """Return the mean cross-entropy between unedited factors and the options before the edit."""
    names = list(contrasts)
    total = target.new_zeros(len(target))
    for (name, own), option in zip(logits.items(), original.T, strict=True):
        kept = target[:, names.index(name)] == 0 if name in names else torch.ones_like(total) > 0
        total = total + F.cross_entropy(own, option, reduction="none") * kept
    return total.mean()
