"""Does a heat map mean anything? Where it lies, whether it depends on the net, what it predicts."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from cfxnb.attribution.result import NO_MAP, Attribution, checked_attribution
from cfxnb.core import validate
from cfxnb.core.copies import copied
from cfxnb.core.modes import standard_modes
from cfxnb.core.tensors import finite_rows, noise_like
from cfxnb.core.types import Classifier
from cfxnb.metrics.pairwise import paste_curve


@standard_modes
def relevance_mass(attribution: Attribution | Tensor, mask: Tensor) -> pd.DataFrame:
    """How much of a map lies in a region.

    Args:
        attribution: an Attribution, or maps (n, h, w).
        mask: the region, bool (n, h, w), as ``cfxnb.data.lpc.visible`` gives it.

    Returns:
        DataFrame, one row an image: ``inside``, the share of |heat| within the mask;
        ``positive inside``, the same of heat that speaks for the label; ``area``, the mask's
        share of the image, which is what a map that knows nothing gets. NaN where a map has none.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    maps, region = _checked(attribution, mask)
    kinds = {"inside": maps.abs(), "positive inside": maps.clamp_min(0)}
    shares = {k: (v * region).sum(1) / v.sum(1) for k, v in kinds.items()}
    table = {**shares, "area": region.double().mean(1)}
    return pd.DataFrame({name: value.cpu().numpy() for name, value in table.items()})


@standard_modes
def pointing_game(attribution: Attribution | Tensor, mask: Tensor) -> Tensor:
    """Whether the hottest pixel lies in the region (Zhang et al., 2018), bool (n,).

    A map without any positive heat points nowhere: False. Arguments as in ``relevance_mass``.
    """
    maps, region = _checked(attribution, mask)
    best = maps.nan_to_num(-torch.inf).max(1)
    return region.gather(1, best.indices[:, None])[:, 0] & (best.values > 0)


@dataclasses.dataclass(frozen=True, eq=False)
class InsertionDeletion:
    """Probability of the label while pixels come and go; made by ``insertion_deletion``.

    Attributes:
        fraction: of the pixels pasted, (s,) from 0 to 1.
        insertion: image into baseline, the hottest pixels first, (n, s).
        deletion: baseline into image, the hottest pixels first, (n, s).
    """

    fraction: Tensor
    insertion: Tensor
    deletion: Tensor

    def __post_init__(self) -> None:
        validate.fields(self)

    @property
    def insertion_auc(self) -> Tensor:
        """Area under the curve, (n,) in [0, 1]: high if few pixels bring the label about."""
        return torch.trapezoid(self.insertion, self.fraction)

    @property
    def deletion_auc(self) -> Tensor:
        """Area under the curve, (n,) in [0, 1]: low if the label goes with few pixels."""
        return torch.trapezoid(self.deletion, self.fraction)

    def __repr__(self) -> str:
        into, away = (float(a.mean()) for a in (self.insertion_auc, self.deletion_auc))
        return f"PasteCurves({len(self.insertion)}: insertion {into:.3f}, deletion {away:.3f})"


@standard_modes
def insertion_deletion(
    classifier: Classifier,
    images: Tensor,
    baseline: Tensor,
    attribution: Attribution | Tensor,
    label: int | Tensor,
    *,
    n_chunks: int = 50,
    batch_size: int = 512,
) -> InsertionDeletion:
    """Insertion and deletion (Petsiuk et al., 2018, RISE), between an image and its baseline.

    Args:
        classifier: images -> logits; it is only asked.
        images, baseline: (n, c, h, w) in [0, 1].
        attribution: an Attribution, or maps (n, h, w); pixels come in the order of falling heat.
        label: the class explained, one or (n,).
        n_chunks: the pixels come in about so many equal portions.
        batch_size: images classified at once.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; among them maps or logits that are
            not finite.
    """
    images = validate.images(images)
    baseline = validate.images(baseline, "baseline").to(images.device)
    if baseline.shape != images.shape:
        raise ValueError(
            f"baseline: expected the shape of images, {tuple(images.shape)}, "
            f"got {tuple(baseline.shape)}"
        )
    maps = _maps(attribution).to(images.device)
    if maps.shape != (len(images), *images.shape[2:]):
        raise ValueError(
            f"attribution: expected maps of shape {(len(images), *images.shape[2:])}, "
            f"got {tuple(maps.shape)}"
        )
    curves = []
    names = getattr(classifier, "class_names", None)
    for start, end in ((baseline, images), (images, baseline)):
        fraction, p = paste_curve(
            classifier, start, end, maps, n_chunks=n_chunks, batch_size=batch_size
        )
        own = validate.labels(label, len(images), p.shape[2], "label", names).to(p.device)
        curves.append(p[torch.arange(len(p), device=p.device), :, own])
    return InsertionDeletion(fraction, *curves)


@standard_modes
def parameter_randomisation(
    classifier: Any,
    explain: Callable[[Any], Attribution | Tensor],
    *,
    cascade: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """Sanity check (Adebayo et al., 2018): a map must change when the net forgets what it knows.

    A copy of the net loses its weights, layer by layer from the output on; each is drawn anew
    from a normal distribution with the layer's own mean and standard deviation.

    Args:
        classifier: from ``cfx.wrap``, or a module.
        explain: classifier -> Attribution or maps (n, h, w), always of the same images.
        cascade: False: all layers at once.
        seed: of the new weights.

    Returns:
        DataFrame, one row for each state of the net, by the ``layer`` lost last: mean rank
        correlation over images with the original's maps, of the signed ``attribution`` and of its
        ``size``, |heat|. Near 1: the map doesn't depend on what that layer has learnt. NaN
        where a map is constant.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it.
    """
    module = classifier if isinstance(classifier, nn.Module) else getattr(classifier, "module", 0)
    if not isinstance(module, nn.Module) or isinstance(classifier, validate.BlackBoxed):
        raise TypeError(
            f"classifier: expected a module or what cfx.wrap makes of one, got "
            f"{type(classifier).__name__}"
        )
    validate.function(explain, "explain")
    validate.flag(cascade, "cascade")
    seed = validate.seed(seed)
    layers = [
        n
        for n, m in module.named_modules()
        if any(p.is_floating_point() for p in m.parameters(False))
    ]
    if not layers:
        raise ValueError("classifier: expected one with weights, got one without any")
    if not all(weight.isfinite().all() for weight in module.parameters()):
        raise ValueError("classifier: expected finite weights, got NaN or infinity")
    before = _maps(explain(classifier), "explain")
    twin = copied(module)
    other = twin if module is classifier else copy.copy(classifier)
    if other is not twin:
        other.module = twin
    rows = []
    for number, name in enumerate(reversed(layers)):
        _forget(twin.get_submodule(name), seed, number)
        if cascade or number == len(layers) - 1:
            after = _maps(explain(other), "explain")
            if after.shape != before.shape:
                raise ValueError(
                    f"explain: expected maps of the same images, {tuple(before.shape)}, "
                    f"got {tuple(after.shape)}"
                )
            rows.append((name if cascade else "all", *_agreement(before, after)))
    return pd.DataFrame(rows, columns=["layer", "signed", "absolute"]).set_index("layer")


@torch.no_grad()
def _forget(layer: nn.Module, seed: int, number: int) -> None:
    for i, weight in enumerate(layer.parameters(False)):
        if not weight.is_floating_point():
            continue
        std = weight.std(correction=0) if weight.numel() > 1 else weight.abs().mean()
        noise = noise_like(weight[None], seed, torch.tensor([1000 * number + i]))[0]
        weight.copy_(weight.mean() + std * noise)


def _agreement(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Mean rank correlation of maps, and of their absolute values; NaN where one is constant."""
    return _rank_correlation(a, b), _rank_correlation(a.abs(), b.abs())


def _rank_correlation(a: Tensor, b: Tensor) -> float:
    ranks = [rankdata(m.flatten(1).double().cpu().numpy(), axis=1) for m in (a, b)]
    x, y = (r - r.mean(1, keepdims=True) for r in ranks)
    lengths = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return float(np.mean((x * y).sum(1) / np.where(lengths > 0, lengths, np.nan)))


def _maps(value: Any, name: str = "signed", gaps: bool = False) -> Tensor:
    """Finite maps (n, h, w), float64.

    Args:
        gaps: let those pass that an attribution says it has no map for.
    """
    if isinstance(value, Attribution):
        checked_attribution(value, name)
    attribution = value.heat_map if isinstance(value, Attribution) else value
    validate.instance(attribution, Tensor, name, "an Attribution or a tensor of maps")
    if attribution.ndim != 3 or 0 in attribution.shape:
        raise ValueError(
            f"{name}: expected maps of shape (n, h, w), got {tuple(attribution.shape)}"
        )
    if (
        not attribution.is_floating_point()
        or attribution.is_meta
        or attribution.layout != torch.strided
    ):
        raise TypeError(
            f"{name}: expected floats, got {attribution.dtype} {attribution.layout} on {attribution.device}"
        )
    attribution = attribution.detach().double()
    broken = ~finite_rows(attribution)
    if gaps and isinstance(value, Attribution):
        broken &= torch.tensor([s not in NO_MAP for s in value.status], device=attribution.device)
    if broken.any():
        raise ValueError(
            f"{name}: expected finite maps, got NaN or infinity in {int(broken.sum())} of "
            f"{len(attribution)}; leave out what has no map"
        )
    return attribution


def _checked(attribution: Any, mask: Any) -> tuple[Tensor, Tensor]:
    """Maps and regions as rows of pixels, (n, h * w)."""
    maps = _maps(attribution, gaps=True)
    validate.instance(mask, Tensor, "mask", "a torch tensor")
    plain = not mask.is_meta and mask.layout == torch.strided
    if mask.dtype != torch.bool or mask.shape != maps.shape or not plain:
        raise ValueError(
            f"mask: expected bool of shape {tuple(maps.shape)}, got {mask.dtype} of "
            f"shape {tuple(mask.shape)}"
        )
    return maps.flatten(1).double(), mask.flatten(1).to(maps.device)
