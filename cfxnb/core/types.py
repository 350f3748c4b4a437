"""What the parts agree on: codes, spaces, classifiers, steps."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.tensors import positions

FLIPPED = "flipped"  # the target is predicted with the asked confidence
NOT_FOUND = "not_found"  # the budget ran out first
NO_GRADIENT = "no_gradient"  # the gradient vanished or was not finite
ALREADY_TARGET = "already_target"  # the original is predicted as the target
RECONSTRUCTION_IS_TARGET = "reconstruction_is_target"  # the space alone changed the decision
STOPPED = "stopped"  # the call was stopped before this sample was finished
NOT_FINITE = "not_finite"  # the logits of the original or its reconstruction are NaN or infinite
STATUSES = (
    FLIPPED, NOT_FOUND, NO_GRADIENT, ALREADY_TARGET, RECONSTRUCTION_IS_TARGET, STOPPED, NOT_FINITE,
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Code:
    """Where an image lies in a space.

    Attributes:
        z: what methods edit, shape (b, ...).
        aux: what they leave alone, row by row (a stochastic code, noise maps), or None.
    """

    z: Tensor
    aux: Tensor | None = None

    def __post_init__(self) -> None:
        for value, name in ((self.z, "z"), (self.aux, "aux")):
            if value is None and name == "aux":
                continue
            if not isinstance(value, Tensor):
                raise TypeError(f"{name}: expected a torch tensor, got {type(value).__name__}")
            if not value.is_floating_point() or value.layout != torch.strided:
                raise TypeError(f"{name}: expected floats, got {value.dtype}, {value.layout}")
            if not value.ndim or len(value) != len(self.z):
                raise ValueError(
                    f"{name}: expected one row per image, got shape {tuple(value.shape)} beside z "
                    f"of shape {tuple(self.z.shape)}"
                )

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, rows: Any) -> "Code":
        index = positions(rows, len(self), f"a code with {len(self)} rows").to(self.z.device)
        return Code(self.z[index], None if self.aux is None else self.aux[index])

    def to(self, device: torch.device | str) -> "Code":
        """The same on another device."""
        device = validate.named_device(device)
        return Code(self.z.to(device), None if self.aux is None else self.aux.to(device))

    def with_z(self, z: Tensor) -> "Code":
        """The same rest with another ``z``."""
        return Code(z, self.aux)


@runtime_checkable
class LatentSpace(Protocol):
    """A generator with its inverse.

    ``mean`` and ``std`` are mean and standard deviation of the codes of real images, per
    coordinate: the unit in which methods measure how far a code has moved.
    """

    @property
    def mean(self) -> Tensor: ...

    @property
    def std(self) -> Tensor: ...

    def encode(self, images: Tensor) -> Code: ...

    def decode(self, code: Code) -> Tensor: ...


Classifier = Callable[[Tensor], Tensor]
"""Images (b, c, h, w) in [0, 1] -> logits (b, k), k >= 2."""


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """What ``on_step`` is told each time a search has looked; return True there to stop early.

    Attributes:
        number: 1, 2, ... ; of at most ``total`` looks: one before each step, one after the last.
        rows: positions in the data set of the samples being worked on, (b,).
        code: their present codes (images for methods without a space), (b, ...).
        probability: present probability of their targets, (b,).
        active: False where a sample is finished and frozen, bool (b,).
    """

    number: int
    total: int
    rows: Tensor
    code: Tensor
    probability: Tensor
    active: Tensor

    def __post_init__(self) -> None:
        validate.fields(self)


OnStep = Callable[[Step], bool | None]
