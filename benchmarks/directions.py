"""What the chapters on directions promise, measured: ``python -m benchmarks.directions``.

Shipped models, default options, seed 0, held-out images of both classes: digits 4 and 9, sprites
by the honest classifier, chest X-rays. Exits 1 when a row falls short.
"""

import inspect
import sys
from typing import Any

import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

import cfxnb as cfx
from benchmarks.cases import CASES, Case
from benchmarks.curvature import flip_fraction, h_directions
from benchmarks.rendering import rendering
from benchmarks.rows import Rows, arguments
from cfxnb.core.decisions import log_odds
from cfxnb.core.tensors import active_dims, typical_distance
from cfxnb.directions.follow_direction import step_lengths
from cfxnb.directions.mlp_proxy import mlp
from cfxnb.directions.probing import BlackBoxProbe, rms
from cfxnb.directions.proxies import Probes, ridge
from cfxnb.directions.query_log import QueryLog
from cfxnb.directions.search_config import SearchConfig
from cfxnb.train.diffae_recipes import measure

CHECKED = [
    "tests/reference/test_ref_diffae.py",
    "tests/reference/test_ref_gcd_directions.py",
    "tests/reference/test_ref_attribution.py",
    "tests/directions/test_query_log.py",
]
BUDGETS = (64, 128, 256, 512, 1024, 2048)
SATURATION = inspect.signature(cfx.find_directions).parameters["saturation"].default
FEW = 100  # images for what is measured many times


def main() -> int:
    parser = arguments("directions", __doc__)
    parser.add_argument("--images", type=int, default=500, help="held-out images of each data set")
    parser.add_argument("--datasets", nargs="*", default=list(CASES), choices=list(CASES))
    chosen = parser.parse_args()
    pd.set_option("display.width", 160)
    setting = f"{chosen.images} held-out images of both classes; shipped models, default options."
    rows = Rows("directions", setting, chosen.write)
    for world in chosen.datasets:
        case = CASES[world](chosen.images)
        title = f"{world}: {len(case.images)} images, source {case.label} against {case.other}"
        rows.section(title)
        quality(rows, case)
        found = directions(rows, case)
        sources(rows, case)
        if world == "digits":  # the other worlds turn all or nearly all with g
            ceiling(rows, case)
        curve(rows, case)
        slope(rows, case)
        attribution(rows, case, found)
    rows.section("rendering")
    rendering(rows)
    rows.tests("reference tensors and resuming", CHECKED)
    return rows.close()


def quality(rows: Rows, case: Case) -> None:
    found = measure(case.world, case.space)
    rows.table("The space", pd.Series(found))
    name = "fraction of decisions that survive reconstruction"
    rows.add(name, found[name], case.survive)


def directions(rows: Rows, case: Case) -> cfx.Directions:
    """Find directions from 32 images, rank them on 12 images, test them on the data set."""
    box = cfx.BlackBox(case.classifier)
    found = cfx.find_directions(
        case.space,
        box,
        case.several,
        case.label,
        contrast_class=case.contrast_class,
        max_queries=2048,
        validation_images=case.validation_images,
    )
    print(found)
    rows.table("Directions, by their trial on the validation images", found.table)
    rows.add("queries", box.n_queries, 2048, at_most=True)
    g = cfx.follow_direction(
        case.space, case.classifier, case.images, found, case.target, max_step=case.max_step
    )
    towards = case.target == case.label
    flips = [flip_fraction(g, towards), flip_fraction(g, ~towards)]
    rows.say("longest step (std)", case.max_step)
    judge = cfx.load(f"{case.world}/judge") if case.world != "sprites" else None
    if judge is not None:
        agrees = cfx.predict_logits(judge, g.image).argmax(1) == g.target
        rows.say("g: the judge agrees, of flips", agrees[g.flipped].float().mean().item())
    whole = cfx.follow_direction(
        case.space, case.classifier, case.images, found, case.target, max_step=2 * case.max_step
    )
    rows.say("g: flipped within the typical distance", flip_fraction(whole))
    rows.say("g: flipped towards the label", flips[0])
    rows.say("g: flipped away from it", flips[1])
    rows.add("g: flipped, images of both classes", flip_fraction(g), case.flips)
    rows.say(
        "the same, with up to three other noises for images that did not flip",
        retried(case, found, g),
    )
    few = torch.arange(len(case.images))[:: max(1, len(case.images) // FEW)]
    images, target = case.images[few], case.target[few]
    # Long enough steps flip something along any direction, so we compare at the length g needs.
    need = step_lengths(case.space, g)[g.flipped].quantile(0.95).item()
    rows.say("step length of 95 % of g's flips (std)", need)
    ratio = against_random(rows, case, found.g, images, target, case.max_step)
    rows.say("g against random: how many times as many flips", ratio)
    needed = against_random(rows, case, found.g, images, target, need)
    rows.add("g against random, within the steps that g needs: times", needed, 4)
    h_directions(rows, case, found, images, target)
    return found


def retried(case: Case, way: cfx.Directions, g: cfx.Counterfactuals) -> float:
    """Return the fraction flipped if images that did not flip are tried with other noise."""
    able = torch.tensor([s in ("flipped", "not_found") for s in g.status])
    left = (able & ~g.flipped).nonzero()[:, 0]
    for seed in range(3):
        if not len(left):
            break
        again = cfx.follow_direction(
            case.space,
            case.classifier,
            case.images[left],
            way,
            case.target[left],
            max_step=case.max_step,
            noise_seed=seed,
        )
        left = left[~again.flipped]
    return 1 - len(left) / max(1, int(able.sum()))


def sources(rows: Rows, case: Case) -> None:
    """Find directions from other source images, and test them on a part of the data set."""
    few = torch.arange(len(case.images))[:: max(1, len(case.images) // FEW)]
    images, target = case.images[few], case.target[few]
    proxies = {"one image": "global_ridge", "one image, changes of equal size": "ridge"}
    rates: dict[str, list[float]] = {name: [] for name in proxies}
    for image in case.sources:
        for name, proxy in proxies.items():
            found = cfx.find_directions(
                case.space,
                cfx.BlackBox(case.classifier),
                image,
                case.label,
                contrast_class=case.contrast_class,
                max_queries=2048,
                proxy=proxy,
                n_curvature=0,
            )
            way = found if proxy == "global_ridge" else found.g
            rates[name].append(
                flip_fraction(
                    cfx.follow_direction(case.space, case.classifier, images, way, target)
                )
            )
    for name, values in rates.items():
        rows.say(f"{name}, {len(values)} other sources: flipped, mean", sum(values) / len(values))
        rows.say(f"{name}, {len(values)} other sources: flipped, least", min(values))
    # Baseline without a search: the images of the trial alone.
    seen = cfx.predict_logits(case.classifier, case.validation_images).argmax(1) == case.label
    codes = case.space.encode(case.validation_images).z
    apart = codes[seen].mean(0) - codes[~seen].mean(0)
    moved = cfx.follow_direction(case.space, case.classifier, images, apart, target)
    rows.say("difference of the mean codes of the trial's images: flipped", flip_fraction(moved))


def ceiling(rows: Rows, case: Case) -> None:
    """Test a linear classifier of codes, trained on 1,000 images and their decisions."""
    train = cfx.data.digits("train")
    images = train.images[(train.labels == case.label) | (train.labels == case.other)][:1000]
    seen = cfx.predict_logits(case.classifier, images).argmax(1)
    able = (seen == case.label) | (seen == case.other)
    with torch.no_grad():
        codes = torch.cat([case.space.encode_semantic(part) for part in images[able].split(100)])
    changes = (codes - case.space.mean.cpu()) / case.std
    line = LogisticRegression(C=0.01, max_iter=1000).fit(changes.numpy(), seen[able].numpy())
    way = case.std * torch.from_numpy(line.coef_[0]).float()
    few = torch.arange(len(case.images))[:: max(1, len(case.images) // FEW)]
    moved = cfx.follow_direction(
        case.space, case.classifier, case.images[few], way, case.target[few], max_step=case.max_step
    )
    rows.say("linear classifier of 1,000 codes and decisions: flipped", flip_fraction(moved))


def against_random(
    rows: Rows, case: Case, direction: Tensor, images: Tensor, target: Tensor, max_step: float
) -> float:
    """Return the flips along a direction, divided by those along random ones (mean of three)."""

    def flips(way: Tensor) -> float:
        return flip_fraction(
            cfx.follow_direction(
                case.space, case.classifier, images, way, target, max_step=max_step
            )
        )

    own, chance = flips(direction), sum(flips(case.random(seed)) for seed in range(3)) / 3
    rows.say(f"g, within {max_step:.2f} std: flipped", own)
    rows.say(f"random directions, within {max_step:.2f} std: flipped, mean of three", chance)
    return own / max(chance, 1e-9)


def curve(rows: Rows, case: Case) -> None:
    """Compare the flip rates of ridge regression and the paper's network over the queries."""
    max_step = typical_distance(case.space.std)
    config = SearchConfig(case.label, case.contrast_class, radius=max_step, max_step=max_step)
    log = QueryLog(2 + max(BUDGETS), None, {})
    with torch.no_grad():
        probe = BlackBoxProbe(case.space, case.classifier, rms, case.source, log, config)
        probes: Probes = probe.sample(active_dims(case.space.std).flatten().cpu(), 0)
    few = torch.arange(len(case.images))[:: max(1, len(case.images) // FEW)]
    label = torch.tensor([case.label])
    contrast_class = None if case.contrast_class is None else torch.tensor([case.contrast_class])
    rates: dict[str, list[float]] = {"ridge": [], "paper's network": []}
    for budget in BUDGETS:
        some = probes.first(budget)
        fits = (ridge(some.saturated(SATURATION)), mlp(some, label, contrast_class, stop="paper"))
        for name, fit in zip(rates, fits, strict=True):
            step = case.std * fit.gradient.view(case.std.shape)
            moved = cfx.follow_direction(
                case.space,
                case.classifier,
                case.images[few],
                step,
                case.target[few],
                max_step=case.max_step,
            )
            rates[name].append(flip_fraction(moved))
    table = pd.DataFrame(rates, index=pd.Index(BUDGETS, name="queries"))
    rows.table("Flip rate over queries about the one image", table)
    goal = 0.9 * max(rates["ridge"][-1], rates["paper's network"][-1])
    needed = {
        name: next((b for b, v in zip(BUDGETS, values, strict=True) if v >= goal), float("inf"))
        for name, values in rates.items()
    }
    for name, value in needed.items():
        rows.say(f"queries to 90 % of the final flip rate: {name}", value)
    ratio = needed["paper's network"] / needed["ridge"]
    rows.add("queries: the paper's network against least squares, times", ratio, 4)


def slope(rows: Rows, case: Case) -> None:
    """Compare the ridge gradient with the gradient through the network (white-box)."""
    found = cfx.find_directions(
        case.space,
        cfx.BlackBox(case.classifier),
        case.source,
        case.label,
        contrast_class=case.contrast_class,
        proxy="ridge",
        n_curvature=0,
    )
    code = case.space.encode(case.source)
    z = code.z.requires_grad_()
    logits = case.classifier(case.space.decode(code.with_z(z)))
    contrast_class = None if case.contrast_class is None else torch.tensor([case.contrast_class])
    score = log_odds(logits, torch.tensor([case.label]), contrast_class)
    true = torch.autograd.grad(score.sum(), z)[0][0] * case.std
    own = found.proxy_fit.gradient
    rows.say(
        "cosine of the one image's g with the gradient through the network (std)",
        torch.cosine_similarity(own, true, dim=0).item(),
    )


def attribution(rows: Rows, case: Case, found: cfx.Directions) -> None:
    few = case.images[:FEW]
    predicted = cfx.predict_logits(case.classifier, few).argmax(1)
    rival = torch.where(predicted == case.label, case.other, case.label)
    keep = (predicted == case.label) | (predicted == case.other)
    heat = cfx.latent_integrated_gradients(
        case.space, case.classifier, few[keep], found, predicted[keep], contrast_class=rival[keep]
    )
    able = torch.tensor([s in ("complete", "incomplete") for s in heat.status])
    delta = heat.relative_delta[able].abs()
    rows.say(
        "latent IG: fraction of images with a baseline",
        able.float().mean().item(),
    )
    rows.add("latent IG: relative delta, median", delta.median().item(), 0.01, at_most=True)
    rows.add("latent IG: relative delta, worst", delta.max().item(), 0.05, at_most=True)
    if case.world == "sprites":
        inside(rows, case)


def inside(rows: Rows, case: Case) -> None:
    """Measure how much of the shortcut classifier's attribution lies in the layer that it uses."""
    shortcut = cfx.load("sprites/shortcut")
    figures: Any = case.figures
    source = figures.images[-1:]
    found = cfx.find_directions(case.space, cfx.BlackBox(shortcut), source, 1, max_queries=2048)
    images = figures.images[:FEW]
    label = cfx.predict_logits(shortcut, images).argmax(1)
    mask = cfx.data.layer_mask(figures.factors[:FEW], "top")
    ours = cfx.latent_integrated_gradients(case.space, shortcut, images, found.g, label)
    other = cfx.captum_attribution("input_x_gradient", shortcut, images, label)
    masses = {
        "latent IG": cfx.metrics.relevance_mass(ours, mask),
        "gradient x input": cfx.metrics.relevance_mass(other, mask),
    }
    for name, table in masses.items():
        rows.say(f"fraction of the attribution inside the top: {name}", table["inside"].mean())
    rows.say("the top's fraction of the picture", masses["latent IG"]["area"].mean())
    advantage = masses["latent IG"]["inside"].mean() - masses["gradient x input"]["inside"].mean()
    rows.add("latent IG ahead of gradient x input by", advantage, 0.0)


if __name__ == "__main__":
    sys.exit(main())
