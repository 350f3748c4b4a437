"""Worlds of bits: attributes are coordinates of a code, and Boolean rules of pixels decide."""

import itertools

import pandas as pd
import torch
from torch import Tensor, nn

import cfxnb as cfx
from cfxnb.contrastive.attribute_edits import AttributeEdits
from cfxnb.contrastive.linear_steps import LinearSteps
from cfxnb.core.classifiers import Wrapped

NAMES = ("A", "B", "C")
PAIR = ("no", "yes")
CONTRASTS = dict.fromkeys(NAMES, PAIR)
#: Every combination of three bits once.
ALL = torch.tensor(list(itertools.product((0, 1), repeat=3)))


class BitSpace(nn.Module):
    """Pixel j is 0.5 + 0.1 z_j: encode inverts decode exactly, but for coordinates ``lost``."""

    def __init__(self, dims: int = 3, lost: tuple[int, ...] = (), std: Tensor | None = None):
        super().__init__()
        self.lost = list(lost)
        self.register_buffer("mean", torch.zeros(dims))
        self.register_buffer("std", torch.ones(dims) if std is None else std)

    def encode(self, images: Tensor) -> cfx.Code:
        z = 10 * (images.flatten(1) - 0.5)
        z[:, self.lost] = -1.0
        return cfx.Code(z)

    def decode(self, code: cfx.Code) -> Tensor:
        return (0.5 + 0.1 * code.z)[:, None, None, :]


class Pixels(nn.Module):
    """The first ``count`` pixels as log odds: -2 for 0, 2 for 1."""

    def __init__(self, count: int = 3):
        super().__init__()
        self.count = count

    def forward(self, images: Tensor) -> Tensor:
        return 20 * (images.flatten(1)[:, : self.count] - 0.5)


def judge(names=NAMES) -> cfx.FactorReader:
    return cfx.FactorReader(Pixels(len(names)), dict.fromkeys(names, PAIR))


class Rule(nn.Module):
    """Class 1 where a rule of the bits (n, dims) holds."""

    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward(self, images: Tensor) -> Tensor:
        return self.method(images.flatten(1) > 0.5).float() * 2 - 1


def decide(method) -> Wrapped:
    return cfx.wrap(Rule(method))


RULES = {
    "and": lambda b: b[:, 0] & b[:, 1],
    "or": lambda b: b[:, 0] | b[:, 1],
    "xor": lambda b: b[:, 0] ^ b[:, 1],
    "majority": lambda b: b.sum(1) >= 2,
    "B": lambda b: b[:, 1],
    "not A": lambda b: ~b[:, 0],
}


def images_of(bits: Tensor) -> Tensor:
    return (0.4 + 0.2 * bits.float())[:, None, None, :]


def factors_of(bits: Tensor) -> pd.DataFrame:
    return pd.DataFrame({n: [PAIR[b] for b in bits[:, j].tolist()] for j, n in enumerate(NAMES)})


def edits(step_model: nn.Module | None = None, names=NAMES, dims: int = 3) -> AttributeEdits:
    """Sets a bit and nothing else, or what ``step_model`` does."""
    k = len(names)
    exact = LinearSteps(torch.eye(dims)[:k], torch.tensor([[-1.0, 1.0]]).expand(k, 2))
    contrasts = dict.fromkeys(names, PAIR)
    place = torch.zeros(dims), torch.ones(dims)
    return AttributeEdits(contrasts, step_model or exact, *place, preserve_others=True)


def scores(method, bits: Tensor = ALL, outcome: int = 1, **kwargs) -> cfx.ContrastiveScores:
    """With exact edits in the lossless space, unless told otherwise."""
    space = kwargs.pop("space", None) or BitSpace()
    kwargs.setdefault("edits", edits())
    f = decide(RULES.get(method, method))
    return cfx.contrastive_scores(space, f, images_of(bits), factors_of(bits), outcome, **kwargs)
