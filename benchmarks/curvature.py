"""What axes of curvature do to a data set, beside random ones that had the same trial."""

import torch
from torch import Tensor

import cfxnb as cfx
from benchmarks.cases import Case
from benchmarks.rows import Rows
from cfxnb.core.tensors import noise_like, typical_distance
from cfxnb.directions.probing import Questions, rms
from cfxnb.directions.query_log import Ledger
from cfxnb.directions.trial import TRIED, Trial


def n_curvature(
    rows: Rows, case: Case, found: cfx.Directions, images: Tensor, target: Tensor
) -> None:
    """Axes of curvature, walked as far as other images are; random directions beside them."""
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
        rows.say(name, share(result))
        apart = all(abs(torch.cosine_similarity(flat[i], flat[k], dim=0)) < 0.3 for k in kept)
        if apart and share(result) >= 0.4:
            kept.append(i)
    chance = [share(walk(case.random(seed))) for seed in range(3)]
    rows.say("random directions, to the typical distance: flipped, mean of three", sum(chance) / 3)
    picked = [share(walk(way)) for way in picked_at_random(case, found, 3)]
    rows.say("best three of as many random axes, by the same trial: mean", sum(picked) / 3)
    rows.say("best three h-directions: mean", sum(share(r) for r in results[:3]) / 3)
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
    """What the trial alone can do: the best of random axes at right angles, tried like others."""
    std = case.space.std
    tried = min(TRIED * found.made_by["n_curvature"], len(std))
    axes = torch.linalg.qr(noise_like(std.expand(tried, -1), 2000).T).Q.T
    names = [str(number) for number in range(tried)]
    far = typical_distance(std)
    ledger = Ledger(2048, None, {})
    knobs = {
        "label": case.label,
        "contrast_class": case.contrast_class,
        "radius": far,
        "batch_size": 64,
        "seed": 0,
    }
    with torch.no_grad():
        ask = Questions(case.space, case.classifier, rms, case.source, ledger, knobs)
        trial = Trial(ask, case.validation, far, 1.0)
        moves = torch.cat([torch.zeros_like(std)[None], trial.moves(std * axes)])
        seen, _ = trial.look("trial", moves)
        table = trial.rank(std * axes, names, found.proxy_fit, seen[:, 0], seen[:, 1:])
    return (std * axes)[[int(name) for name in table.index[:count]]].cpu()


def diversity(case: Case, results: list[cfx.Counterfactuals]) -> float:
    """Mean over the images, in the judge's features."""
    return cfx.metrics.diversity(results, case.features).nanmean().item()


def share(result: cfx.Counterfactuals, among: Tensor | None = None) -> float:
    """Flipped among those that could flip: not yet the target, nor by reconstruction alone."""
    able = torch.tensor([s in ("flipped", "not_found") for s in result.status])
    able = able if among is None else able & among
    return (result.flipped & able).sum().item() / max(1, int(able.sum()))
