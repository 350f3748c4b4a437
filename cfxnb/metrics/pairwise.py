"""Measures of one image and its counterfactual, (n,) each."""

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.types import Classifier


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Images of equal shape on one device; none at all have no distances."""
    both = isinstance(a, Tensor) and isinstance(b, Tensor)
    if both and a.ndim == 4 and a.shape == b.shape and not len(a):
        return a, b
    a = validate.images(a, "a")
    b = validate.images(b, "b").to(a.device)
    if a.shape != b.shape:
        raise ValueError(f"b: expected the shape of a, {tuple(a.shape)}, got {tuple(b.shape)}")
    return a, b


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Sum of absolute differences of pixels, (n,).

    Args:
        a, b: images of equal shape, (n, c, h, w) in [0, 1].

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    a, b = _pair(a, b)
    return (a - b).flatten(1).abs().sum(1)


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of pixels, (n,). Arguments as in ``l1``."""
    a, b = _pair(a, b)
    return (a - b).flatten(1).norm(dim=1)


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
    """COUT (Khorram & Fuxin, 2022): does little of the change do most of the work?

    The changed pixels are pasted into the original, the most changed first. COUT is the area
    under p(target) minus the area under p(source) along the way.

    Args:
        classifier: images -> logits.
        original, image: (n, c, h, w) in [0, 1].
        target: class of the counterfactual, one or (n,).
        source: class of the original, (n,); by default the one predicted.
        n_chunks: the pixels come in about so many equal portions.
        batch_size: images classified at once.

    Returns:
        (n,) in [-1, 1]; higher is better.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them unequal shapes, and a
            classifier whose logits are not finite.
    """
    share, towards, away = cout_curve(
        classifier, original, image, target, source, n_chunks=n_chunks, batch_size=batch_size
    )
    return torch.trapezoid(towards - away, share)


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
    """What COUT integrates: share of pixels pasted (s,), p(target) (n, s), p(source) (n, s).

    Raises:
        ValueError, TypeError: as ``cout``.
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
    share, p = paste_curve(
        classifier, original, image, change, n_chunks=n_chunks, batch_size=batch_size
    )
    names = getattr(classifier, "class_names", None)
    target = validate.labels(target, n, p.shape[2], "target", names).to(p.device)
    source = p[:, 0].argmax(1) if source is None else source
    source = validate.labels(source, n, p.shape[2], "source", names).to(p.device)
    index = torch.arange(n, device=p.device)
    return share, p[index, :, target], p[index, :, source]


@torch.no_grad()
def paste_curve(
    classifier: Classifier,
    start: Tensor,
    end: Tensor,
    strength: Tensor,
    *,
    n_chunks: int = 50,
    batch_size: int = 512,
) -> tuple[Tensor, Tensor]:
    """Probabilities while the pixels of ``end`` are pasted into ``start``, the strongest first.

    Args:
        start, end: (n, c, h, w) in [0, 1].
        strength: what orders the pixels, (n, h, w).
        n_chunks: the pixels come in about so many equal portions.
        batch_size: images classified at once.

    Returns:
        Share of pixels pasted (s,) from 0 to 1, probabilities of all classes (n, s, k).

    Raises:
        ValueError, TypeError: for a wrong argument, and for logits that are not finite.
    """
    checked = CheckedClassifier(classifier)
    n, _, h, w = start.shape
    pixels = h * w
    portion = max(1, pixels // validate.count(n_chunks, "n_chunks", 1))
    batch_size = validate.count(batch_size, "batch_size", 1)
    ends = [*range(0, pixels, portion), pixels]
    place = strength.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    rank = place.view(n, 1, h, w)
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
