"""Quality of heat maps: location, effect of the pixels on the output, dependence on the weights."""

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
from cfxnb.core.saved import Result, image_index
from cfxnb.core.tensors import finite_rows, noise_like
from cfxnb.core.types import Classifier
from cfxnb.metrics.pairwise import paste_curve


@standard_modes
def relevance_mass(attribution: Attribution | Tensor, mask: Tensor) -> pd.DataFrame:
    """Return the fraction of each map that lies in a region (relevance mass, Arras et al., 2022).

    Args:
        attribution: An Attribution, or heat maps (n, h, w).
        mask: The region, bool (n, h, w), for example from ``cfxnb.data.lpc.visible``.

    Returns:
        DataFrame with one row per image and three columns:

        - ``inside``: fraction of the sum of |map| that lies in the mask.
        - ``positive inside``: fraction of the sum of the positive values of the map that lies in
          the mask.
        - ``area``: fraction of the pixels that lie in the mask, which is the expected value of
          ``inside`` for a map that ignores the image.

        ``inside`` is NaN for a map of zeros. ``positive inside`` is NaN for a map without positive
        values.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    maps, region = _checked(attribution, mask)
    kinds = {"inside": maps.abs(), "positive inside": maps.clamp_min(0)}
    fractions = {k: (v * region).sum(1) / v.sum(1) for k, v in kinds.items()}
    table = {**fractions, "area": region.double().mean(1)}
    return pd.DataFrame({name: value.cpu().numpy() for name, value in table.items()})


@standard_modes
def pointing_game(attribution: Attribution | Tensor, mask: Tensor) -> Tensor:
    """Return whether the largest value of each map lies in the region (Zhang et al., 2018).

    Args:
        attribution: An Attribution, or heat maps (n, h, w).
        mask: The region, bool (n, h, w).

    Returns:
        Bool (n,). The entry of a map without positive values is False.
    """
    maps, region = _checked(attribution, mask)
    best = maps.nan_to_num(-torch.inf).max(1)
    return region.gather(1, best.indices[:, None])[:, 0] & (best.values > 0)


@dataclasses.dataclass(frozen=True, eq=False)
class InsertionDeletion(Result):
    """Probability of the label while pixels are inserted and deleted; see ``insertion_deletion``.

    Attributes:
        fraction: Fraction of the pixels inserted or deleted at each of s steps, (s,), from 0 to 1.
        insertion: Probability of the label while pixels of the image are pasted into the
            baseline, for n images, (n, s).
        deletion: Probability of the label while pixels of the baseline are pasted into the image,
            for n images, (n, s).
    """

    fraction: Tensor
    insertion: Tensor
    deletion: Tensor

    def __post_init__(self) -> None:
        validate.fields(self)

    @property
    def insertion_auc(self) -> Tensor:
        """Area under the insertion curve of each of n images, (n,) in [0, 1]. Higher is better."""
        return torch.trapezoid(self.insertion, self.fraction)

    @property
    def deletion_auc(self) -> Tensor:
        """Area under the deletion curve of each of n images, (n,) in [0, 1]. Lower is better."""
        return torch.trapezoid(self.deletion, self.fraction)

    def _check_saved(self) -> None:
        shape = (len(self.insertion), *self.fraction.shape)
        for name in ("insertion", "deletion"):
            validate.shape(getattr(self, name).shape, shape, name)

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per image: ``insertion_auc`` and ``deletion_auc``."""
        names = ("insertion_auc", "deletion_auc")
        columns = {name: getattr(self, name).detach().cpu().numpy() for name in names}
        return pd.DataFrame(columns, index=image_index(len(self.insertion)))

    def __repr__(self) -> str:
        n, insertion, deletion = len(self.insertion), self.insertion_auc, self.deletion_auc
        return (
            f"InsertionDeletion({n}: insertion {float(insertion.mean()):.3f}, "
            f"deletion {float(deletion.mean()):.3f})"
        )


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
    """Compute insertion and deletion curves (RISE, Petsiuk et al., 2018).

    The insertion curve shows the probability of the label while pixels of the image are pasted into
    the baseline. The deletion curve shows the probability of the label while pixels of the baseline
    are pasted into the image. Pixels with the largest values in the heat map are pasted first. In
    the paper, deletion replaces pixels by a constant, and insertion starts with a blurred image.
    In ``insertion_deletion``, both curves use the images ``baseline`` for missing pixels.

    Args:
        classifier: Images -> logits (b, k). No gradients are needed.
        images, baseline: Explained images, and images in which the evidence is missing, (n, c, h,
            w) in [0, 1].
        attribution: An Attribution, or heat maps (n, h, w).
        label: The explained class: one for all images, or one per image (n,).
        n_chunks: Approximate number of equal groups in which the pixels are pasted.
        batch_size: Number of images classified together, which does not change the results.

    Raises:
        ValueError, TypeError: If an argument is wrong, or maps or logits are not finite.
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
    class_names = getattr(classifier, "class_names", None)
    for start, end in ((baseline, images), (images, baseline)):
        fraction, p = paste_curve(
            classifier, start, end, maps, n_chunks=n_chunks, batch_size=batch_size
        )
        own = validate.labels(label, len(images), p.shape[2], "label", class_names).to(p.device)
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
    """Compare heat maps before and after a network's weights are randomised (Adebayo et al., 2018).

    The comparison is a sanity check: a map that explains a network must change if the network
    changes. The layers of a copy of the network are randomised one after the other, from the output
    to the input. The new weights of a layer are drawn from a normal distribution with the mean and
    standard deviation of the old weights.

    Args:
        classifier: A classifier from ``cfx.wrap``, or a module.
        explain: Function that takes a classifier and returns an Attribution or heat maps (n, h, w),
            always for the same images.
        cascade: If True, the maps are compared after each randomised layer. If False, the maps are
            compared once, after all layers are randomised.
        seed: Seed of the new weights.

    Returns:
        DataFrame with one row per randomised layer, or a single row named "all" if ``cascade`` is
        False. The index ``layer`` holds the name of the layer. Columns:

        - ``signed``: Spearman correlation of the new and the original map, mean over images.
        - ``absolute``: Spearman correlation of the absolute values of the new and the original map,
          mean over images.

        A correlation near 1 means that the map hardly depends on the weights. The correlation is
        NaN if a map is constant.

    Raises:
        ValueError, TypeError: If an argument is wrong.
    """
    module = classifier if isinstance(classifier, nn.Module) else getattr(classifier, "module", 0)
    if not isinstance(module, nn.Module) or isinstance(classifier, validate.BlackBoxed):
        raise TypeError(
            f"classifier: expected a module or a classifier from cfx.wrap, got "
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
        raise ValueError("classifier: expected a module with weights, got one without")
    if not all(weight.isfinite().all() for weight in module.parameters()):
        raise ValueError("classifier: expected finite weights, got NaN or infinity")
    before = _maps(explain(classifier), "explain")
    copy_of_module = copied(module)
    randomised = copy_of_module if module is classifier else copy.copy(classifier)
    if randomised is not copy_of_module:
        randomised.module = copy_of_module
    rows = []
    for index, name in enumerate(reversed(layers)):
        _randomise(copy_of_module.get_submodule(name), seed, index)
        if cascade or index == len(layers) - 1:
            after = _maps(explain(randomised), "explain")
            if after.shape != before.shape:
                raise ValueError(
                    f"explain: expected maps of the same images, {tuple(before.shape)}, "
                    f"got {tuple(after.shape)}"
                )
            rows.append(
                (
                    name if cascade else "all",
                    _rank_correlation(before, after),
                    _rank_correlation(before.abs(), after.abs()),
                )
            )
    return pd.DataFrame(rows, columns=["layer", "signed", "absolute"]).set_index("layer")


@torch.no_grad()
def _randomise(layer: nn.Module, seed: int, index: int) -> None:
    """Replace the weights of one layer by random weights; ``index`` is 0 at the output layer."""
    for i, weight in enumerate(layer.parameters(False)):
        if not weight.is_floating_point():
            continue
        std = weight.std(correction=0) if weight.numel() > 1 else weight.abs().mean()
        noise = noise_like(weight[None], seed, torch.tensor([1000 * index + i]))[0]
        weight.copy_(weight.mean() + std * noise)


def _rank_correlation(a: Tensor, b: Tensor) -> float:
    """Return the mean Spearman correlation of pairs of maps, or NaN if a map is constant."""
    ranks = [rankdata(m.flatten(1).double().cpu().numpy(), axis=1) for m in (a, b)]
    x, y = (r - r.mean(1, keepdims=True) for r in ranks)
    lengths = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return float(np.mean((x * y).sum(1) / np.where(lengths > 0, lengths, np.nan)))


def _maps(value: Any, name: str = "attribution", gaps: bool = False) -> Tensor:
    """Return the finite maps (n, h, w) of an Attribution or a tensor, in float64.

    Args:
        value: The Attribution or the tensor of maps.
        name: Name of the argument, for error messages.
        gaps: If True, images of an Attribution whose status is in ``NO_MAP`` may have NaN maps.
    """
    if isinstance(value, Attribution):
        checked_attribution(value, name)
    maps = value.heat_map if isinstance(value, Attribution) else value
    validate.instance(maps, Tensor, name, "an Attribution or a tensor of maps")
    if maps.ndim != 3 or 0 in maps.shape:
        raise ValueError(f"{name}: expected maps of shape (n, h, w), got {tuple(maps.shape)}")
    if not maps.is_floating_point() or maps.is_meta or maps.layout != torch.strided:
        raise TypeError(f"{name}: expected floats, got {maps.dtype} {maps.layout} on {maps.device}")
    maps = maps.detach().double()
    not_finite = ~finite_rows(maps)
    if gaps and isinstance(value, Attribution):
        not_finite &= torch.tensor([s not in NO_MAP for s in value.status], device=maps.device)
    if not_finite.any():
        raise ValueError(
            f"{name}: expected finite maps, got NaN or infinity in {int(not_finite.sum())} of "
            f"{len(maps)}; leave these images out"
        )
    return maps


def _checked(attribution: Any, mask: Any) -> tuple[Tensor, Tensor]:
    """Return the checked maps and masks of n images, flattened to (n, h * w)."""
    maps = _maps(attribution, gaps=True)
    validate.instance(mask, Tensor, "mask", "a torch tensor")
    dense = not mask.is_meta and mask.layout == torch.strided
    if mask.dtype != torch.bool or mask.shape != maps.shape or not dense:
        raise ValueError(
            f"mask: expected bool of shape {tuple(maps.shape)}, got {mask.dtype} of "
            f"shape {tuple(mask.shape)}"
        )
    return maps.flatten(1).double(), mask.flatten(1).to(maps.device)
