"""Minimality of counterfactuals: the counterfactual latent divergence (CLD).

Melistas et al., "Benchmarking counterfactual image generation" (NeurIPS 2024 Datasets and
Benchmarks, arXiv 2403.20287). A counterfactual should lie nearer to its original than most real
images of the target class do. A counterfactual should also be no nearer to its original than other
images of the original class typically are.

The official code contains two errors, which ``paper=True`` repeats. The official code compares each
image also with itself. The KL divergence of the official code uses the mean as log standard
deviation, too. Without ``paper=True``, no image is compared with itself, and the KL divergence is
right. The default distance is the Euclidean distance of features that are divided by their standard
deviations.
"""

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.modes import standard_modes
from cfxnb.metrics.axioms import MAX_CLASSES

DISTANCES = ("l2_std", "l1", "kl")
WEIGHTS = (0.8, 0.2)  # of the target class and of the original class
COLUMNS = ("CLD", "target nearer", "source farther")


@standard_modes
def minimality(
    original: Tensor,
    counterfactual: Tensor,
    source: Any,
    target: Any,
    *,
    reference: Tensor | None = None,
    reference_labels: Any = None,
    distance: str = "l2_std",
    paper: bool = False,
) -> pd.DataFrame:
    """Compare the change of each counterfactual with the distances between real images.

    For each image, let delta be the distance from the image to its counterfactual. Let S_t be the
    distances from the image to the real images of the target class, and S_s the distances from the
    image to the real images of its source class::

        CLD = log(0.8 exp(P(S_t <= delta)) + 0.2 exp(P(S_s >= delta)))

    The CLD of an unchanged image is log(0.8 + 0.2 e) = 0.295, a low value although nothing flipped.
    Show minimality only together with effectiveness.

    Args:
        original, counterfactual: Features of n images and of their counterfactuals, (n, d). For
            ``distance="kl"``, the features are means and log variances, (n, 2, d).
        source, target: Class of each image before the change, and class that the counterfactual
            should have, (n,).
        reference: Features of real images that are not explained, (m, d) or (m, 2, d). Default: the
            originals. If the originals are the reference, an image is not compared with itself.
        reference_labels: Classes of the reference images, (m,).
        distance: ``"l2_std"`` (default) is the Euclidean distance of features that are divided by
            their standard deviations over the reference images. ``"l2_std"`` leaves out constant
            features. ``"l1"`` is the mean absolute difference of the features. ``"kl"`` is the KL
            divergence of Gaussians with diagonal covariance, KL(real image || original), divided by
            the number of features d.
        paper: Whether to compute CLD as the official code does, with the originals as reference
            and ``distance`` "l1" or "kl".

    Returns:
        DataFrame with one row per image. ``CLD`` lies in [0, 1], and lower is better. ``target
        nearer`` is P(S_t <= delta): the fraction of the real target images that are nearer than
        the counterfactual; lower is better. ``source farther`` is P(S_s >= delta): the fraction of
        the real source images that are at least as far from the original as the counterfactual; a
        lower value means a larger change. The row of an image is NaN if its source class or its
        target class has no reference image.

    Raises:
        ValueError, TypeError: If an argument is wrong. The error message names the argument.
    """
    validate.choice(distance, "distance", DISTANCES)
    dims = 3 if distance == "kl" else 2
    x = _features(original, "original", dims)
    y = _features(counterfactual, "counterfactual", dims)
    if y.shape != x.shape:
        raise ValueError(
            f"counterfactual: expected the shape of original, {tuple(x.shape)}, "
            f"got {tuple(y.shape)}"
        )
    source = validate.labels(source, len(x), MAX_CLASSES, "source").cpu()
    target = validate.labels(target, len(x), MAX_CLASSES, "target").cpu()
    if validate.flag(paper, "paper") and (distance == "l2_std" or reference is not None):
        raise ValueError(
            "paper: expected the distance 'l1' or 'kl' and no reference images, got "
            f"distance={distance!r}" + ("" if reference is None else " and reference")
        )
    real, labels = x, source
    if reference is not None:
        real = _features(reference, "reference", dims)
        if real.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"reference: expected features of shape {tuple(x.shape[1:])}, "
                f"got {tuple(real.shape[1:])}"
            )
        labels = validate.labels(reference_labels, len(real), MAX_CLASSES, "reference_labels").cpu()
    elif reference_labels is not None:
        raise ValueError("reference_labels: expected None without reference, got labels")
    function = _distance(distance, real, paper)
    in_source = labels == source[:, None]
    if reference is None and not paper:
        in_source.fill_diagonal_(False)
    return divergence(
        torch.stack([function(b[None], a)[0] for a, b in zip(x, y, strict=True)]),
        torch.stack([function(real, a) for a in x]),
        in_source,
        labels == target[:, None],
    )


def divergence(delta: Tensor, distances: Tensor, source: Tensor, target: Tensor) -> pd.DataFrame:
    """Return the table of ``minimality`` for given distances and given groups of real images.

    Args:
        delta: Distance of each counterfactual to its original, (n,).
        distances: Distance of each of m real images to each original, (n, m).
        source, target: Which real images are in the source group and in the target group of each
            original, bool (n, m).
    """
    delta, distances = delta[:, None].double(), distances.double()
    nearer = ((distances <= delta) & target).double().sum(1) / target.sum(1)
    farther = ((distances >= delta) & source).double().sum(1) / source.sum(1)
    undefined = nearer.isnan() | farther.isnan()
    cld = (WEIGHTS[0] * nearer.exp() + WEIGHTS[1] * farther.exp()).log()
    columns = [v.masked_fill(undefined, torch.nan).numpy() for v in (cld, nearer, farther)]
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def _distance(kind: str, real: Tensor, paper: bool) -> Any:
    """Return a function (features of m images, features of one image) -> distances (m,)."""
    if kind == "l1":
        return lambda many, one: (many - one).abs().mean(1)
    if kind == "kl":
        return _official_kl if paper else gaussian_kl
    std = real.std(0, correction=0)
    used = std > 1e-6 * std.max()
    return lambda many, one: ((many - one)[:, used] / std[used]).norm(dim=1)


def gaussian_kl(many: Tensor, one: Tensor) -> Tensor:
    """Return the divergence KL(many || one) / d of Gaussians with diagonal covariance, (m,).

    Args:
        many, one: Means and log variances of m Gaussians, (m, 2, d), and of one Gaussian, (2, d).
    """
    (mean, log_variance), (other_mean, other) = many.unbind(1), one
    terms = other - log_variance - 1
    terms = terms + (log_variance.exp() + (mean - other_mean).square()) / other.exp()
    return 0.5 * terms.mean(1)


def _official_kl(many: Tensor, one: Tensor) -> Tensor:
    """Return the wrong KL divergence of the official code: the mean serves as log std, too."""
    means = torch.stack([many[:, 0], 2 * many[:, 0]], 1)
    return gaussian_kl(means, torch.stack([one[0], 2 * one[0]]))


def _features(value: Any, name: str, dims: int) -> Tensor:
    shape = "(n, d)" if dims == 2 else "(n, 2, d)"
    found = validate.instance(value, Tensor, name, "a torch tensor")
    if not found.is_floating_point() or found.is_meta or found.layout != torch.strided:
        raise TypeError(f"{name}: expected floats, got {found.dtype} {found.layout}")
    if found.ndim != dims or 0 in found.shape or (dims == 3 and found.shape[1] != 2):
        raise ValueError(f"{name}: expected shape {shape}, got {tuple(found.shape)}")
    if not found.isfinite().all():
        raise ValueError(f"{name}: expected finite features, got NaN or infinity")
    return found.detach().double().cpu()
