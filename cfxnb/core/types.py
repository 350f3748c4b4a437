"""Types that all parts share: codes, spaces, classifiers, steps, and statuses."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.tensors import positions

FLIPPED = "flipped"  # the target is predicted, with the required confidence
NOT_FOUND = "not_found"  # the method found no image of the target class
NO_GRADIENT = "no_gradient"  # the gradient was zero or not finite
ALREADY_TARGET = "already_target"  # the original is classified as the target
RECONSTRUCTION_IS_TARGET = "reconstruction_is_target"  # the reconstruction alone is the target
STOPPED = "stopped"  # the call was stopped before this sample was finished
NOT_FINITE = "not_finite"  # the logits of the original or its reconstruction are NaN or infinite
STATUSES = (
    FLIPPED, NOT_FOUND, NO_GRADIENT, ALREADY_TARGET, RECONSTRUCTION_IS_TARGET, STOPPED, NOT_FINITE,
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Code:
    """The codes of b images in a latent space.

    Attributes:
        z: Latent vectors, (b, ...). Methods change only ``z``.
        aux: Auxiliary codes that methods do not change, (b, ...), such as noise maps. May be None.
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
        """Return a copy of the code with its tensors on another device."""
        device = validate.named_device(device)
        return Code(self.z.to(device), None if self.aux is None else self.aux.to(device))

    def with_z(self, z: Tensor) -> "Code":
        """Return a code with another ``z`` and the same ``aux``."""
        return Code(z, self.aux)


@runtime_checkable
class LatentSpace(Protocol):
    """A generator of images, together with its inverse, the encoder.

    ``encode`` returns the code of an image, and ``decode`` the image of a code. ``mean`` and
    ``std`` are the mean and standard deviation of each coordinate of the codes of real images.
    Methods measure distances between codes in units of ``std``. A space may also state the
    covariance of its codes as ``axes`` and ``variances``, see ``cfxnb.core.code_covariance``."""

    @property
    def mean(self) -> Tensor: ...

    @property
    def std(self) -> Tensor: ...

    def encode(self, images: Tensor) -> Code: ...

    def decode(self, code: Code) -> Tensor: ...


Images = Any
"""Images (b, c, h, w) in [0, 1], or a data set of them: a torch ``Dataset`` or ``DataLoader``, an
iterator of images or batches, an ``ImageSet``, or the set of ``cfx.data.folder``."""

Classifier = Callable[[Tensor], Tensor]
"""Images (b, c, h, w) in [0, 1] -> logits (b, k), k >= 2."""


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """The state passed to ``on_step`` after each evaluation of the classifier.

    Return True from ``on_step`` to stop the search.

    Attributes:
        number, total: Number of the present evaluation, from 1, and the largest number of
            evaluations.
        rows: Rows of the samples in the data set, (b,).
        code: Current codes, or current images for methods without a space, (b, ...).
        probability: Current probability of the target, (b,).
        active: False for samples that are finished, bool (b,).
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
