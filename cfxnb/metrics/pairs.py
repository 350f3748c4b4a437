"""Measures of one image and its counterfactual, (n,) each."""

import torch
from torch import Tensor

from cfxnb import validate
from cfxnb.types import Classifier


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Sum of absolute differences of pixels (values in [0, 1]), (n,)."""
    return (a - b).flatten(1).abs().sum(1)


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of pixels (values in [0, 1]), (n,)."""
    return (a - b).flatten(1).norm(dim=1)


def cout(
    classifier: Classifier,
    original: Tensor,
    image: Tensor,
    target: int | Tensor,
    source: Tensor | None = None,
    *,
    chunks: int = 50,
    batch: int = 512,
) -> Tensor:
    """COUT (Khorram & Fuxin, 2022): does little of the change do most of the work?

    The changed pixels are pasted into the original, the most changed first. COUT is the area
    under p(target) minus the area under p(source) along the way.

    Args:
        classifier: images -> logits.
        original, image: (n, c, h, w) in [0, 1].
        target: class of the counterfactual, one or (n,).
        source: class of the original, (n,); by default the one predicted.
        chunks: the pixels come in about so many equal portions.
        batch: images classified at once.

    Returns:
        (n,) in [-1, 1]; higher is better.
    """
    share, towards, away = cout_curve(
        classifier, original, image, target, source, chunks=chunks, batch=batch
    )
    return torch.trapezoid(towards - away, share)


@torch.no_grad()
def cout_curve(
    classifier: Classifier,
    original: Tensor,
    image: Tensor,
    target: int | Tensor,
    source: Tensor | None = None,
    *,
    chunks: int = 50,
    batch: int = 512,
) -> tuple[Tensor, Tensor, Tensor]:
    """What COUT integrates: share of pixels pasted (s,), p(target) (n, s), p(source) (n, s).

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them unequal shapes.
    """
    validate.function(classifier, "classifier")
    validate.count(batch, "batch", 1)
    original = validate.images(original, "original")
    image = validate.images(image, "image")
    if original.shape != image.shape:
        raise ValueError(
            f"image: expected the shape of original, {tuple(original.shape)}, "
            f"got {tuple(image.shape)}"
        )
    n = len(original)
    change = (image - original).abs().sum(1)
    share, p = paste_curve(classifier, original, image, change, chunks=chunks, batch=batch)
    target = validate.labels(target, n, p.shape[2]).to(p.device)
    source = p[:, 0].argmax(1) if source is None else source
    source = validate.labels(source, n, p.shape[2], "source").to(p.device)
    index = torch.arange(n, device=p.device)
    return share, p[index, :, target], p[index, :, source]


@torch.no_grad()
def paste_curve(
    classifier: Classifier,
    start: Tensor,
    end: Tensor,
    strength: Tensor,
    *,
    chunks: int = 50,
    batch: int = 512,
) -> tuple[Tensor, Tensor]:
    """Probabilities while the pixels of ``end`` are pasted into ``start``, the strongest first.

    Args:
        start, end: (n, c, h, w) in [0, 1].
        strength: what orders the pixels, (n, h, w).
        chunks: the pixels come in about so many equal portions.
        batch: images classified at once.

    Returns:
        Share of pixels pasted (s,) from 0 to 1, probabilities of all classes (n, s, k).
    """
    n, _, h, w = start.shape
    pixels = h * w
    portion = max(1, pixels // validate.count(chunks, "chunks", 1))
    ends = [*range(0, pixels, portion), pixels]
    place = strength.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    rank = place.view(n, 1, h, w)
    curves = []
    for rows in torch.arange(n).split(max(1, batch // len(ends))):
        mixed = [torch.where(rank[rows] < until, end[rows], start[rows]) for until in ends]
        logits = validate.logits(classifier(torch.cat(mixed)), len(ends) * len(rows))
        curves.append(logits.softmax(1).unflatten(0, (len(ends), len(rows))))
    p = torch.cat(curves, dim=1).transpose(0, 1)
    return torch.tensor(ends, dtype=p.dtype, device=p.device) / pixels, p
