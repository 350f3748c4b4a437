"""Measures that compare an image with its counterfactual, one value per image."""

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.types import Classifier


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return two batches of images on the device of ``a``; their shapes must be equal."""
    both = isinstance(a, Tensor) and isinstance(b, Tensor)
    if both and a.ndim == 4 and a.shape == b.shape and not len(a):
        return a, b
    a = validate.images(a, "a")
    b = validate.images(b, "b").to(a.device)
    if a.shape != b.shape:
        raise ValueError(f"b: expected the shape of a, {tuple(a.shape)}, got {tuple(b.shape)}")
    return a, b


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Return the L1 distance between n pairs of images, summed over pixels and channels, (n,).

    Args:
        a, b: Images of equal shape, (n, c, h, w) in [0, 1].

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    a, b = _pair(a, b)
    return (a - b).flatten(1).abs().sum(1)


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Return the Euclidean distance between n pairs of images, over pixels and channels, (n,).

    Args:
        a, b: Images of equal shape, (n, c, h, w) in [0, 1].
    """
    a, b = _pair(a, b)
    return (a - b).flatten(1).norm(dim=1)


def sparsity(a: Tensor, b: Tensor, threshold: float = 0.05) -> Tensor:
    """Return the fraction of pixels in which n pairs of images are nearly equal, (n,).

    Args:
        a, b: Images of equal shape, (n, c, h, w) in [0, 1].
        threshold: A pixel counts as unchanged if no channel differs by more than ``threshold``, in
            [0, 1]. Default: 0.05, which is about 13 grey levels.

    Returns:
        Fractions in [0, 1]. A higher fraction means a sparser change: 1 means that no pixel
        changed.

    Raises:
        ValueError, TypeError: If an argument is wrong. The error message names the argument.
    """
    a, b = _pair(a, b)
    threshold = validate.number(threshold, "threshold", 0.0, 1.0)
    return ((a - b).abs().amax(1) <= threshold).flatten(1).float().mean(1)


@standard_modes
def cout(
    classifier: Classifier,
    original: Tensor,
    image: Tensor,
    target: int | Tensor,
    source: Tensor | None = None,
    *,
    n_chunks: int = 50,
    batch_size: int = 512,
) -> Tensor:
    """Compute COUT (Khorram & Fuxin, 2022), which measures how sparse a counterfactual is.

    COUT is high if few changed pixels are enough to flip the decision. The pixels of the
    counterfactual are pasted into the original, beginning with the pixels that changed most. The
    curves p(target) and p(source) give the probabilities of the target class and of the source
    class against the fraction of pixels pasted. COUT is the area under p(target) minus the area
    under p(source).

    Args:
        classifier: Images -> logits (b, k).
        original, image: Originals and counterfactuals, (n, c, h, w) in [0, 1].
        target: Class of the counterfactuals: one for all images, or one per image (n,).
        source: Class of each original, (n,). Default: the class that the classifier predicts.
        n_chunks: Approximate number of equal groups in which the pixels are pasted.
        batch_size: Number of images classified together, which does not change the results.

    Returns:
        COUT per image, (n,) in [-1, 1]. Higher is better.

    Raises:
        ValueError, TypeError: If an argument is wrong, or logits are not finite.
    """
    fraction, p_target, p_source = cout_curve(
        classifier, original, image, target, source, n_chunks=n_chunks, batch_size=batch_size
    )
    return torch.trapezoid(p_target - p_source, fraction)


@standard_modes
@torch.no_grad()
def cout_curve(
    classifier: Classifier,
    original: Tensor,
    image: Tensor,
    target: int | Tensor,
    source: Tensor | None = None,
    *,
    n_chunks: int = 50,
    batch_size: int = 512,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the curves that ``cout`` integrates, from the same arguments.

    Returns:
        Three tensors: the fraction of the pixels pasted at each of s steps, (s,), the probabilities
        of the target in n images at each step, (n, s), and the probabilities of the source, (n, s).
    """
    original = validate.images(original, "original")
    image = validate.images(image, "image")
    if original.shape != image.shape:
        raise ValueError(
            f"image: expected the shape of original, {tuple(original.shape)}, "
            f"got {tuple(image.shape)}"
        )
    n = len(original)
    change = (image - original).abs().sum(1)
    fraction, p = paste_curve(
        classifier, original, image, change, n_chunks=n_chunks, batch_size=batch_size
    )
    names = getattr(classifier, "class_names", None)
    target = validate.labels(target, n, p.shape[2], "target", names).to(p.device)
    source = p[:, 0].argmax(1) if source is None else source
    source = validate.labels(source, n, p.shape[2], "source", names).to(p.device)
    index = torch.arange(n, device=p.device)
    return fraction, p[index, :, target], p[index, :, source]


@torch.no_grad()
def paste_curve(
    classifier: Classifier,
    start: Tensor,
    end: Tensor,
    importance: Tensor,
    *,
    n_chunks: int = 50,
    batch_size: int = 512,
) -> tuple[Tensor, Tensor]:
    """Return the class probabilities while the pixels of ``end`` are pasted into ``start``.

    Args:
        classifier: Images -> logits (b, k).
        start, end: Images, (n, c, h, w) in [0, 1].
        importance: Importance of each pixel, (n, h, w). The most important pixels are pasted first.
        n_chunks: Approximate number of equal groups in which the pixels are pasted.
        batch_size: Number of images classified together, which does not change the results.

    Returns:
        The fraction of the pixels pasted at each of s steps, (s,), from 0 to 1, and the
        probabilities of all k classes at each step, (n, s, k).

    Raises:
        ValueError, TypeError: If an argument is wrong, or logits are not finite.
    """
    checked = CheckedClassifier(classifier)
    n, _, h, w = start.shape
    pixels = h * w
    chunk = max(1, pixels // validate.count(n_chunks, "n_chunks", 1))
    batch_size = validate.count(batch_size, "batch_size", 1)
    ends = [*range(0, pixels, chunk), pixels]
    rank = importance.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    rank = rank.view(n, 1, h, w)
    curves = []
    with eval_frozen(checked):
        for rows in torch.arange(n).split(max(1, batch_size // len(ends))):
            mixed = [torch.where(rank[rows] < until, end[rows], start[rows]) for until in ends]
            logits = checked(torch.cat(mixed))
            if not logits.isfinite().all():
                raise ValueError("classifier: expected finite logits, got NaN or infinity")
            curves.append(logits.softmax(1).unflatten(0, (len(ends), len(rows))))
    p = torch.cat(curves, dim=1).transpose(0, 1)
    return torch.tensor(ends, dtype=p.dtype, device=p.device) / pixels, p
