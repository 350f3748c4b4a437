"""What the chapters on diffusion promise, measured: ``python -m benchmarks.diffusion``.

Shipped models, default options, seed 0, 300 held-out images of each world. Exits 1 when a row falls
short.
"""

import sys
from typing import Any

import pandas as pd

import cfxnb as cfx
from benchmarks.diffusion_cases import CASES, Case
from benchmarks.repair import repair
from benchmarks.rows import Rows, arguments

CHECKED = ["tests/reference/test_ref_ldce.py", "tests/spaces/test_ldm_files.py"]
GUIDANCES = {
    "no consensus": "classifier",
    "random mask": "random_mask",
    "classifier-free guidance only": "classifier_free",
    "noise and denoise only": "none",
}


def main() -> int:
    parser = arguments("diffusion", __doc__)
    parser.add_argument("--images", type=int, default=300, help="held-out images of each data set")
    parser.add_argument("--paper-images", type=int, default=16, help="for the paper's settings")
    parser.add_argument("--datasets", nargs="*", default=list(CASES), choices=list(CASES))
    chosen = parser.parse_args()
    pd.set_option("display.width", 200)
    setting = f"{chosen.images} held-out images of each data set; shipped models, default options."
    rows = Rows("diffusion", setting, chosen.write)
    for world in chosen.datasets:
        case = CASES[world](chosen.images)
        rows.section(f"{world}: {len(case.images)} images")
        compared(rows, case)
        against_the_paper(rows, case, chosen.paper_images)
    if "sprites" in chosen.datasets:
        rows.section("a shortcut classifier, repaired")
        repair(rows)
    rows.tests("reference tensors, pipelines from disk", CHECKED)
    return rows.close()


def counterfactuals(case: Case, count: int | None = None, **options: Any) -> cfx.Counterfactuals:
    return cfx.diffusion_counterfactual(
        case.space,
        case.classifier,
        case.images[:count],
        case.target[:count],
        conditions=case.conditions,
        **options,
    )


def table_of(
    rows: Rows, title: str, case: Case, results: dict[str, cfx.Counterfactuals]
) -> pd.DataFrame:
    real, std = case.images, case.space.std
    table = cfx.report(
        results,
        classifier=case.classifier,
        judge=case.judge,
        features=case.features,
        real=real,
        code_std=std,
    )
    table["passes"] = [all_passes(cf) for cf in results.values()]
    if case.reader is not None:
        kinds = {
            name: cfx.metrics.classify_flips(cf, case.reader, [str(case.cause)], "hair")
            for name, cf in results.items()
        }
        table["cause changed"] = [k["cause"].mean() for k in kinds.values()]
        # The hair is what the classes are named after, and a bystander of any other cause.
        table["cause alone changed"] = [
            k["changed"].map(lambda names: names == (case.cause,)).mean() for k in kinds.values()
        ]
    rows.table(title, table.astype(float).T)
    return table.astype(float)


def row(table: pd.DataFrame, name: str) -> Any:
    return table.astype(float).to_dict("index")[name]


def all_passes(cf: cfx.Counterfactuals) -> float:
    """Passes of every network, forward and backward, of failures too, for each flip."""
    spent = cf.cost["generator"] + cf.cost["classifier"]
    return spent.sum().item() / max(1, int(cf.flipped.sum()))


def compared(rows: Rows, case: Case) -> None:
    """Ours, its baselines by one switch, and the attacks in latents and in pixels."""
    results = {"consensus": counterfactuals(case)}
    results |= {
        name: counterfactuals(case, guidance=guidance) for name, guidance in GUIDANCES.items()
    }
    results["composited"] = counterfactuals(case, composite_threshold=0.1)
    inputs = (case.classifier, case.images, case.target)
    results["latent attack"] = cfx.latent_attack(case.space.autoencoder, *inputs)
    results["pixel attack"] = cfx.pixel_attack(*inputs)
    table = table_of(rows, "One column a method", case, results)
    own, without = row(table, "consensus"), row(table, "no consensus")
    rows.add(f"{case.world}: flip rate", own["flip rate"], case.flips)
    rows.say(f"{case.world}: flip rate without consensus", without["flip rate"])
    if case.agrees is not None:
        rows.add(f"{case.world}: judge agrees, of flips", own["judge agrees"], case.agrees)
        rows.say(f"{case.world}: judge agrees, without consensus", without["judge agrees"])
    if case.reader is not None:
        of, alone = "cause changed", "cause alone changed"
        rows.say(f"{case.world}: flips that change the cause, of flips", own[of])
        rows.say(f"{case.world}: flips that change the cause, without consensus", without[of])
        rows.say(f"{case.world}: nothing but the cause changed", own[alone])
        rows.say(f"{case.world}: nothing but the cause changed, without consensus", without[alone])
        ahead = own[of] - without[of]
        rows.add(f"{case.world}: causal flips, consensus ahead by more than", ahead, 1e-9)
    trace = results["consensus"].trace
    rows.say(f"{case.world}: share of positions kept", trace["kept_fraction"].nanmean().item())
    rows.say(f"{case.world}: of random vectors", trace["chance_fraction"][0].item())


def against_the_paper(rows: Rows, case: Case, few: int) -> None:
    """The published settings, with 500 steps, on the same images and in the same run."""
    paper = counterfactuals(case, few, **cfx.PAPER_DIFFUSION)
    ours = counterfactuals(case, few)
    both = {"ours": ours, "as published": paper}
    table = table_of(rows, f"The first {few} images, and the published settings", case, both)
    own, theirs = row(table, "ours"), row(table, "as published")
    name = f"{case.world}, against the published settings"
    rows.add(f"{name}: passes per success, times fewer", theirs["passes"] / own["passes"], 8)
    rows.add(
        f"{name}: wall time per success, times",
        theirs["seconds per flip"] / own["seconds per flip"],
        6,
    )
    rows.add(f"{name}: flip rate; bound: theirs", own["flip rate"], theirs["flip rate"])
    rows.add(f"{name}: COUT; bound: theirs", own["COUT"], theirs["COUT"])


if __name__ == "__main__":
    sys.exit(main())
