"""What the sprites chapters promise, measured: ``python -m benchmarks.sprites``.

2,000 held-out figures of the world "pairs", shipped models, default knobs, seed 0; the truth is
re-rendered. Exits 1 when a row falls short.
"""

import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import torch

import cfxnb as cfx
from benchmarks.rows import Rows, arguments
from cfxnb.data import SPRITE_CLASSIFIERS, SPRITE_CONTRASTS
from cfxnb.data.imageset import ImageSet
from cfxnb.data.lpc import LAYERS, SPRITE_OPTIONS
from cfxnb.train.sprites_space import measure_vae

CHECKED = [
    "tests/reference/test_ref_scores.py",
    "tests/reference/test_ref_stylegan2.py",
    "tests/spaces/test_stylegan2_arguments.py",
]


def main() -> int:
    parser = arguments("sprites", __doc__)
    parser.add_argument("--images", type=int, default=2000, help="number of held-out figures")
    chosen = parser.parse_args()
    count = chosen.images
    pd.set_option("display.width", 160)
    space, judge = cfx.load("sprites/vae"), cfx.load("sprites/judge")
    asked = cfx.data.sprites("pairs", count, split="test")
    setting = f"{count:,} held-out figures of the world 'pairs'; the truth is rendered again."
    rows = Rows("sprites", setting, chosen.write)
    world(rows)
    readers_and_space(rows, space, judge, asked)
    train = cfx.data.sprites("pairs", 6000, split="train", seed=21)
    edits = {
        others: cfx.fit_attribute_edits(
            space, train.images, train.factors, contrasts=SPRITE_CONTRASTS, preserve_others=others
        )
        for others in (True, False)
    }
    learnt = {
        others: cfx.load("sprites/edits_" + ("preserve" if others else "free"))
        for others in (True, False)
    }
    scores_against_truth(rows, space, judge, asked, edits[True], "linear")
    scores_against_truth(rows, space, judge, asked, learnt[True], "learnt")
    leakage(rows, space, judge, asked, edits, "linear")
    leakage(rows, space, judge, asked, learnt, "learnt")
    attacks(rows, space, judge, asked)
    rows.tests("reference tensors and hostile files", CHECKED)
    return rows.close()


def world(rows: Rows) -> None:
    began = time.perf_counter()
    figures = cfx.data.sprites(n_samples=1000, seed=5)
    rows.say("seconds for 1,000 figures", time.perf_counter() - began)
    outside = 0
    for layer in LAYERS:
        for option in SPRITE_OPTIONS[layer]:
            twin = cfx.data.intervene(figures[:100], **{layer: option})
            own = cfx.data.layer_mask(figures.factors[:100], layer)
            own = own | cfx.data.layer_mask(twin.factors, layer)
            outside += int(((twin.images != figures.images[:100]).any(1) & ~own).sum())
    rows.add("pixels outside its layer that an intervention changed", outside, 0, at_most=True)


def readers_and_space(rows: Rows, space: Any, judge: Any, asked: ImageSet) -> None:
    figures = cfx.data.sprites("independent", len(asked), split="test", seed=1)
    for name, reader in (("reader", cfx.load("sprites/reader")), ("judge", judge)):
        right = (reader.read(figures.images) == figures.factors[list(SPRITE_OPTIONS)]).mean()
        rows.add(f"{name}: worst factor on clean figures ({right.idxmin()})", right.min(), 0.99)
    quality = measure_vae(space)
    rows.table("The space", pd.Series(quality))
    survive = quality["share of factors (without eyes) read as they are after reconstruction"]
    rows.add("space: factors that survive reconstruction", survive, 0.97)
    rows.say(
        "space: eyes that survive reconstruction",
        quality["share of eyes read as they are after reconstruction"],
    )
    rows.say(
        "space: judge's mean confidence on samples from the prior",
        quality["judge's mean confidence on samples from the prior"],
    )


def scores_against_truth(
    rows: Rows, space: Any, judge: Any, asked: ImageSet, edits: Any, kind: str
) -> None:
    inside = []
    for name, reason in SPRITE_CLASSIFIERS.items():
        f = cfx.load(f"sprites/{name}")
        found = cfx.contrastive_scores(
            space, f, asked.images, asked.factors, 1, edits=edits, judge=judge
        )
        wrong = cfx.metrics.score_errors(
            found, cfx.metrics.true_scores(asked, f, SPRITE_CONTRASTS, 1)
        )
        first = set(found.ranking[: len(reason.causes)])
        told = f"{kind} edits, {name}"
        rows.add(f"{told}: planted causes named first", float(first == set(reason.causes)), 1)
        errors = wrong["error"].unstack().mean(axis=1)
        for score in ("necessity", "sufficiency"):
            rows.add(f"{told}: mean error of {score}", errors[score], 0.05, at_most=True)
        inside.append(wrong["covered"])
    rows.add(f"{kind} edits: truth inside the 95 % interval", pd.concat(inside).mean(), 0.9)


def leakage(
    rows: Rows, space: Any, judge: Any, asked: ImageSet, edits: dict[str, Any], kind: str
) -> None:
    f = cfx.load("sprites/honest")
    mean = {}
    for others, directions in edits.items():
        found = cfx.contrastive_scores(
            space, f, asked.images, asked.factors, 1, edits=directions, judge=judge
        )
        title = f"{kind} edits, others={others!r}: edited (rows), changed as well (columns)"
        rows.table(title, found.leakage)
        done, worst = found.table["took effect"], float(np.nanmax(found.leakage))
        mean[others] = float(np.nanmean(found.leakage))
        rows.say(f"{kind} edits, {others}: took effect, worst ({done.idxmin()})", done.min())
        if others and kind == "learnt":  # linear edits are the baseline beside them
            rows.add(f"{kind} edits, keep: leakage, worst pair", worst, 0.05, at_most=True)
        else:
            rows.say(f"{kind} edits, {others}: leakage, worst pair", worst)
    bound = mean[False]
    rows.add(f"{kind} edits: mean leakage; bound: don't care", mean[True], bound, at_most=True)


def attacks(rows: Rows, space: Any, judge: Any, asked: ImageSet) -> None:
    f = cfx.load("sprites/shortcut")
    target = 1 - cfx.predict_logits(f, asked.images).argmax(1)
    latent = cfx.latent_attack(space, f, asked.images, target)
    results = {
        "latent attack": latent,
        "pixel attack": cfx.pixel_attack(f, asked.images, target),
        "random direction": cfx.random_change(space, f, latent),
    }
    table = {}
    for name, result in results.items():
        kinds = cfx.metrics.classify_flips(result, judge, causes=["top"], named_factor="hair")
        table[name] = {
            "flips": len(kinds) / len(asked),
            **kinds[["cause", "named_factor", "side_effect"]].mean(),
            **{kind: (kinds["kind"] == kind).mean() for kind in cfx.metrics.FLIP_KINDS},
        }
        rows.say(f"{name} on shortcut: flips that change the top", kinds["cause"].mean())
    rows.table("Flips of the shortcut classifier, by kind", pd.DataFrame(table).T)


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.exit(main())
