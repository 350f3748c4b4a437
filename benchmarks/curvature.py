"""Test h-directions on a data set, beside random directions that had the same trial."""

import torch
from torch import Tensor

import cfxnb as cfx
from benchmarks.cases import Case
from benchmarks.rows import Rows
from cfxnb.core.code_covariance import covariance_of
from cfxnb.core.tensors import noise_like, typical_distance
from cfxnb.directions.direction_trial import AXES_PER_KEPT
from cfxnb.directions.held_out import HeldOut
from cfxnb.directions.probing import BlackBoxProbe, rms
from cfxnb.directions.query_log import QueryLog
from cfxnb.directions.search_config import SearchConfig


def h_directions(
    rows: Rows, case: Case, found: cfx.Directions, images: Tensor, target: Tensor
) -> None:
    """Follow h-directions, and random ones, as far as the typical distance between images."""
    far = typical_distance(case.space.std)

    def walk(way: Tensor) -> cfx.Counterfactuals:
        return cfx.follow_direction(case.space, case.classifier, images, way, target, max_step=far)

    results = [walk(h) for h in found.h]
    kept: list[int] = []
    flat = (found.h / case.std).flatten(1)
    g = (found.g / case.std).flatten()
    names = [name for name in found.names if name.startswith("h")]
    for i, result in enumerate(results):
        with_g = torch.cosine_similarity(flat[i], g, dim=0).item()
        name = f"{names[i]} (cosine with g {with_g:.2f}), to the typical distance: flipped"
        rows.say(name, flip_fraction(result))
        apart = all(abs(torch.cosine_similarity(flat[i], flat[k], dim=0)) < 0.3 for k in kept)
        if apart and flip_fraction(result) >= 0.4:
            kept.append(i)
    chance = [flip_fraction(walk(case.random(seed))) for seed in range(3)]
    rows.say("random directions, to the typical distance: flipped, mean of three", sum(chance) / 3)
    picked = [flip_fraction(walk(way)) for way in picked_at_random(case, found, 3)]
    rows.say("best three of as many random axes, by the same trial: mean", sum(picked) / 3)
    rows.say("best three h-directions: mean", sum(flip_fraction(r) for r in results[:3]) / 3)
    rows.add("h-directions that flip 40 %, pairwise |cosine| below 0.3", len(kept), 3)
    alone = [
        cfx.follow_direction(
            case.space,
            case.classifier,
            images,
            found.g,
            target,
            noise_seed=seed,
            max_step=case.max_step,
        )
        for seed in range(3)
    ]
    several = diversity(case, [results[i] for i in kept[:3]]) if len(kept) > 1 else float("nan")
    once = diversity(case, alone)
    rows.say("diversity of g with three random stochastic codes", once)
    rows.add("diversity of h-directions, relative to that", several / once, 1.0)


def picked_at_random(case: Case, found: cfx.Directions, count: int) -> Tensor:
    """Return the best of random orthogonal axes by the same trial: the effect of selection."""
    std = case.space.std
    n_axes = min(AXES_PER_KEPT * found.made_by["n_curvature"], len(std))
    covariance = covariance_of(case.space)
    n_axes = min(n_axes, len(covariance.axes))
    inside = torch.zeros(n_axes, len(covariance.axes))
    axes = torch.linalg.qr(noise_like(inside, 2000).T).Q.T @ covariance.axes
    directions = {"g": (found.g / case.std).flatten()}
    directions |= {str(number): axis for number, axis in enumerate(axes)}
    towards = (found.towards(torch.arange(2)) / case.std).flatten(1)
    far = typical_distance(std)
    log = QueryLog(2048, None, {})
    config = SearchConfig(case.label, case.contrast_class, radius=far, max_step=far)
    with torch.no_grad():
        probe = BlackBoxProbe(case.space, case.classifier, rms, case.source, log, config)
        held_out = HeldOut(probe, case.validation_images)
        held_out.run(directions, towards, covariance)
        table = held_out.table(directions, found.proxy_fit)
    best = [int(name) for name in table.index if name.isdigit()][:count]
    return case.std * axes[best]


def diversity(case: Case, results: list[cfx.Counterfactuals]) -> float:
    """Return the diversity in the judge's features, the mean over the images."""
    return cfx.metrics.diversity(results, case.features).nanmean().item()


def flip_fraction(result: cfx.Counterfactuals, among: Tensor | None = None) -> float:
    """Return the fraction flipped of the images that could flip.

    Images that are the target before the edit, or by reconstruction alone, do not count.
    """
    able = torch.tensor([s in ("flipped", "not_found") for s in result.status])
    able = able if among is None else able & among
    return (result.flipped & able).sum().item() / max(1, int(able.sum()))
