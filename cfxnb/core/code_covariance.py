"""The covariance of the codes of real images, by its axes of largest variance.

The codes of real images vary along few directions, often fewer than a code has coordinates. A space
may state its active axes, the directions of largest variance, in the attributes ``axes`` and
``variances``. The active axes are eigenvectors of the covariance of the standardised codes, which
together have 99.5 % of the variance. ``variances`` holds the eigenvalues. Active axes are measured
without labels, and without any classifier.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.tensors import active_dims, standardise

KEPT_VARIANCE = 0.995
MAX_DIMS = 1024  # the covariance of larger codes is not computed


@dataclasses.dataclass(frozen=True, eq=False)
class CodeCovariance:
    """Active axes of the codes of a space, on the CPU.

    Attributes:
        axes: k orthonormal axes V of standardised codes (codes divided by ``std``), float32 (k, d).
        variances: variance lambda of the standardised codes of real images along each axis, float32
            (k,).
        source: "space" if the space states the axes, "images" if the axes were measured on a few
            images, or "none" if nothing is known. With "none", every active coordinate is an axis
            of variance 1.
    """

    axes: Tensor
    variances: Tensor
    source: str = "space"

    def whiten(self, u: Tensor) -> Tensor:
        """Return the coordinates xi = lambda^(-1/2) V u (n, k) of standardised codes u (n, d)."""
        return u @ self.axes.T / self.variances.sqrt()

    def colour(self, xi: Tensor) -> Tensor:
        """Return the standardised codes V^T lambda^(1/2) xi (n, d) for coordinates xi (n, k)."""
        return xi * self.variances.sqrt() @ self.axes


def along_active_axes(space: Any, u: Tensor) -> Tensor:
    """Return the part of standardised changes u (n, *code) that lies along the active axes.

    Real images do not vary in any other direction. If the space states no axes, or an axis for each
    active coordinate, the result is u with 0 in all inactive coordinates.

    Args:
        space: a checked space.
        u: changes of codes, divided by ``space.std``, (n, *code).
    """
    axes, active = getattr(space, "axes", None), active_dims(space.std).to(u.device)
    if not isinstance(axes, Tensor) or len(axes) == active.sum():
        return u * active
    axes = axes.detach().to(u)
    return (u.flatten(1) @ axes.T @ axes).view(u.shape)


def principal_axes(codes: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``axes`` (k, d) and ``variances`` (k,) of the codes of real images.

    Args:
        codes: codes of n real images, (n, *code).
        std: standard deviation of each coordinate, (*code).
    """
    u = standardise(codes - codes.mean(0), std).flatten(1).double()
    return _largest(u.T @ u / max(1, len(u) - 1), std)


def covariance_of(space: Any, codes: Tensor | None = None) -> CodeCovariance:
    """Return the covariance that a space states, or measure the covariance of ``codes``.

    A measured covariance is shrunk towards a multiple of the identity, as Ledoit and Wolf (2004)
    propose for few codes.

    Args:
        space: a checked space.
        codes: codes of n images, (n, *code), for spaces that state no covariance. If ``codes`` is
            None, n is below 2, or a code has more than ``MAX_DIMS`` coordinates, every active
            coordinate becomes an axis of variance 1.
    """
    axes, variances = getattr(space, "axes", None), getattr(space, "variances", None)
    if isinstance(axes, Tensor) and isinstance(variances, Tensor):
        validate.place_axes(axes, variances, space.mean, "space.")
        return CodeCovariance(axes.detach().float().cpu(), variances.detach().float().cpu())
    std = space.std.cpu()
    if codes is not None and len(codes) >= 2 and std.numel() <= MAX_DIMS:
        u = standardise(codes.cpu() - space.mean.cpu(), std).flatten(1).double()
        from sklearn.covariance import ledoit_wolf  # imported here, because it is slow to import

        shrunk, _ = ledoit_wolf(u.numpy())
        return CodeCovariance(*_largest(torch.from_numpy(shrunk), std), "images")
    axes = torch.eye(std.numel())[active_dims(std).flatten()]
    return CodeCovariance(axes, torch.ones(len(axes)), "none")


def _largest(covariance: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Return the axes of largest variance that together have 99.5 % of the variance."""
    active = active_dims(std).flatten().to(covariance)
    values, axes = torch.linalg.eigh(covariance.cpu() * (active[:, None] * active).cpu())
    values, axes = values.flip(0).clamp_min(0), axes.T.flip(0)
    total = values.cumsum(0) / values.sum().clamp_min(1e-30)
    count = int((total < KEPT_VARIANCE).sum()) + 1
    kept = values[:count] > 1e-9 * values[0]
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()  # eigh leaves them open
    axes = (axes * signs)[:count][kept].float().to(std.device)
    return axes.contiguous(), values[:count][kept].float().to(std.device)
