"""Warnings and notes for the reader of the page: sentences with the numbers behind them."""

import dataclasses
from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from cfxnb.core.decisions import is_predicted, is_reached
from cfxnb.core.outcomes import record_of_goal
from cfxnb.core.results import Counterfactuals
from cfxnb.core.tensors import predicted
from cfxnb.core.types import (
    ALREADY_TARGET,
    FLIPPED,
    NO_GRADIENT,
    NOT_FOUND,
    RECONSTRUCTION_IS_TARGET,
)
from cfxnb.explanation.methods import Job

WARNING, NOTE = "warning", "note"
SURVIVAL = 0.9  # of the decisions, which should survive the space
FLIPS = 0.5  # of the images, which a method should flip
AGREEMENT = 0.7  # of the flips, with which the judge should agree
FEW = 30  # images with which intervals are wide


@dataclasses.dataclass(frozen=True)
class Finding:
    """One paragraph for the reader.

    Attributes:
        kind: ``"warning"`` or ``"note"``.
        text: The sentences.
    """

    kind: str
    text: str


def share(count: int, total: int) -> str:
    """Return "83 % (10 of 12)"."""
    return f"{100 * count / total:.0f} % ({count} of {total})" if total else "none (0 of 0)"


def percent(part: float) -> str:
    """Return "99.5 %"."""
    return f"{100 * part:.6g} %"


def required_confidence(cf: Counterfactuals) -> float | None:
    """Return the probability of the target that the method requires for a flip.

    None means that the target must only be the predicted class, or that the target is a goal.
    """
    if record_of_goal(cf.made_by) is not None:
        return None
    given = cf.made_by.get("confidence")
    if not isinstance(given, float | int) or "reached_confidence" in cf.trace:
        return None  # with such a trace, the status tells only the predicted class
    return float(given) if given > 1 / cf.logits_after.shape[1] else None


def reaches(cf: Counterfactuals, confidence: float | None) -> Tensor:
    """Return whether the change leads to the target with a confidence, bool (n,).

    ``confidence`` may differ from the confidence that the method requires. So all methods can be
    compared at the same confidence. With ``confidence=None``, the target must only be the predicted
    class. Images that are classified as the target before the change do not count.
    """
    searched = [s in (FLIPPED, NOT_FOUND, NO_GRADIENT) for s in cf.status]
    target = cf.target.to(cf.logits_after.device)
    if confidence is None:
        reached = is_predicted(cf.logits_after, target)
    else:
        reached = is_reached(cf.logits_after, target, confidence, slack=1e-3)
    return reached.cpu() & torch.tensor(searched, dtype=torch.bool)


def nearly(cf: Counterfactuals) -> Tensor:
    """Return whether the target is predicted, but with less than the required confidence."""
    return reaches(cf, None) & ~cf.flipped


def less(cf: Counterfactuals) -> str:
    """Say why the images of ``nearly`` do not count as flipped."""
    need = required_confidence(cf)
    if need is None:
        return "but the method does not count it"
    return f"but with less than the required confidence of {percent(need)}"


def of_data(skipped: pd.DataFrame, n_images: int, n_all: int) -> list[Finding]:
    """Return findings about the images."""
    found = []
    if len(skipped):
        first = "; ".join(
            f"{f}: {r}" for f, r in zip(skipped.file[:3], skipped.reason, strict=False)
        )
        found.append(
            Finding(
                WARNING,
                f"{len(skipped)} files of the data were skipped, because they cannot be used "
                f"({first}{' ...' if len(skipped) > 3 else ''}). "
                "No number on this page includes them. The file skipped.csv lists all of them.",
            )
        )
    if n_images < FEW:
        found.append(
            Finding(
                NOTE,
                f"The numbers on this page come from {n_images} images (of {n_all:,} in the data). "
                "With so few images, the intervals are wide. Set n_images to explain more.",
            )
        )
    return found


def of_classifier(logits: Tensor, labels: Tensor | None, target: Tensor) -> list[Finding]:
    """Return findings about the decisions before any change."""
    found, decided = [], predicted(logits)
    if labels is not None:
        right = int((decided == labels).sum())
        words = f"The classifier is right on {share(right, len(labels))} of the explained images."
        kind = WARNING if right < 0.5 * len(labels) else NOTE
        if kind == WARNING:
            words += (
                " That is less than half. The order of the classes may differ between data and "
                "classifier, see class_names. Or the images need another normalisation or size."
            )
        found.append(Finding(kind, words))
    if same := int((decided == target).sum()):
        found.append(
            Finding(
                NOTE,
                f"{same} images are already classified as their target. Nothing is changed in "
                f"them, and their status is {ALREADY_TARGET!r}.",
            )
        )
    return found


def of_spaces(
    reconstructions: Mapping[str, Counterfactuals],
) -> tuple[list[Finding], dict[str, float]]:
    """Return findings about reconstructions, and the fraction of decisions that survive."""
    found, survival = [], {}
    for name, cf in reconstructions.items():
        same = predicted(cf.logits_before) == predicted(cf.logits_after)
        count, total = int(same.sum()), len(cf)
        survival[name] = count / total
        if survival[name] < SURVIVAL:
            found.append(
                Finding(
                    WARNING,
                    f"Only {share(count, total)} of the decisions survive the space {name!r}: the "
                    "classifier decides otherwise about the other images when they are encoded and "
                    "decoded without any change. Reconstructions in this space lack something "
                    "that the classifier uses, and counterfactuals start from reconstructions. "
                    "A space that was trained longer, or on images like these, loses less.",
                )
            )
    return found, survival


def of_results(
    jobs: Mapping[str, Job], results: Mapping[str, Counterfactuals], judged: Mapping[str, Tensor]
) -> list[Finding]:
    """Return findings about the methods.

    Args:
        jobs: The jobs by name.
        results: The results by name.
        judged: For each result, whether the judge sees the target, bool (n,). Empty without a
            judge.
    """
    found = []
    pixel = next((n for n, j in jobs.items() if j.method == "pixel_attack"), None)
    chance = {j.space: n for n, j in jobs.items() if j.method == "random_change"}
    for name, cf in results.items():
        if jobs[name].baseline:
            continue
        flips, eligible = int(cf.flipped.sum()), int(cf.eligible.sum())
        if eligible and flips < FLIPS * eligible:
            found.append(
                Finding(
                    WARNING,
                    f"The method {name!r} changed the decision for only {share(flips, eligible)} "
                    f"of the images{_near(cf)}. Its other numbers describe only the images that "
                    "are easy to flip.",
                )
            )
        other = chance.get(jobs[name].space)
        if other is not None:
            found += _of_chance(name, cf, results[other])
        if judged and flips:
            found += _of_judge(name, pixel, results, judged)
    if judged and pixel is not None and bool(results[pixel].flipped.any()):
        flipped, eligible = results[pixel].flipped, int(results[pixel].eligible.sum())
        flips, agrees = int(flipped.sum()), int(judged[pixel][flipped].sum())
        found.append(
            Finding(
                NOTE,
                f"Baseline: the pixel attack changes the decision for {share(flips, eligible)} of "
                f"the images, and the judge agrees with {share(agrees, flips)} of these flips. A "
                "flip alone is no explanation.",
            )
        )
    if not judged:
        found.append(
            Finding(
                NOTE,
                "No judge was given. So this page cannot tell whether a counterfactual shows the "
                "target class, or only deceives the classifier. A judge is a classifier with the "
                "same classes that was trained apart, see judge.",
            )
        )
    return found


def of_methods(jobs: Mapping[str, Job]) -> list[Finding]:
    """Return a warning if there is no method, but only baselines."""
    if not all(job.baseline for job in jobs.values()):
        return []
    return [
        Finding(
            WARNING,
            "No method for counterfactuals was used, so this page shows baselines only. With this "
            "space and target, the methods take too long or do not apply. Name a method in "
            "methods to run it anyway.",
        )
    ]


def _of_chance(name: str, cf: Counterfactuals, chance: Counterfactuals) -> list[Finding]:
    """Compare a method with random changes, by the confidence that the method requires."""
    need = required_confidence(cf)
    own, other = (_rate(reaches(each, need)[each.eligible]) for each in (cf, chance))
    if not other >= 0.5 * own > 0:
        return []
    how = "as the predicted class" if need is None else f"with a confidence of {percent(need)}"
    return [
        Finding(
            WARNING,
            f"Random changes of the code reach the target {how} for {100 * other:.0f} % of the "
            f"images, and {name!r} for {100 * own:.0f} %. So a flip of {name!r} says little about "
            "what the classifier reads.",
        )
    ]


def _near(cf: Counterfactuals) -> str:
    """Return how many more images reach the target with less confidence, or an empty text."""
    count = int(nearly(cf).sum())
    if not count:
        return ""
    verb = "reaches" if count == 1 else "reach"
    return f", and {count} more {verb} the target, {less(cf)}"


def _of_judge(
    name: str,
    pixel: str | None,
    results: Mapping[str, Counterfactuals],
    judged: Mapping[str, Tensor],
) -> list[Finding]:
    flipped = results[name].flipped
    agrees, flips = int(judged[name][flipped].sum()), int(flipped.sum())
    found = []
    if agrees < AGREEMENT * flips:
        found.append(
            Finding(
                WARNING,
                f"The judge agrees with only {share(agrees, flips)} of the flips of {name!r}. The "
                "other flips may be adversarial: they change the classifier's decision, but not "
                "what an independent network sees.",
            )
        )
    if pixel is not None and name != pixel:
        needs = [required_confidence(results[n]) for n in (name, pixel)]
        # Flips are compared by the lower confidence, which all flips of both methods have.
        lower = None if None in needs else min(n for n in needs if n is not None)
        own, base = (_rate(judged[n][reaches(results[n], lower)]) for n in (name, pixel))
        how = "" if lower is None else f", counted from a confidence of {percent(lower)}"
        if own <= base:
            found.append(
                Finding(
                    WARNING,
                    f"The judge agrees with the flips of {name!r} no more often than with those of "
                    f"the pixel attack ({100 * own:.0f} % and {100 * base:.0f} %{how}).",
                )
            )
    return found


def _rate(values: Tensor) -> float:
    return float(values.float().mean()) if len(values) else float("nan")


def of_messages(messages: Mapping[str, str]) -> list[Finding]:
    """Return findings from a dict that maps the text of each warning to its method."""
    return [Finding(NOTE, f"While running {where}: {text}.") for text, where in messages.items()]


def sentence(name: str, cf: Counterfactuals, judged: Tensor | None) -> str:
    """Return one sentence about a method, for the beginning of the page."""
    flips, eligible = int(cf.flipped.sum()), int(cf.eligible.sum())
    text = f"{name} changed the decision of {flips} of {eligible} images{_near(cf)}"
    if flips and required_confidence(cf) is None and record_of_goal(cf.made_by) is None:
        text += " (with any confidence)"
    if free := cf.status.count(RECONSTRUCTION_IS_TARGET):
        text += f". Encoding and decoding alone gave the target for {free} of the {eligible}"
    if judged is not None and flips:
        text += f". The judge agrees with {int(judged[cf.flipped].sum())} of {flips} changes"
    return text + "."


def judge_sees(judge_logits: Tensor, target: Tensor) -> Tensor:
    """Return whether the judge sees the target in each image, bool (n,)."""
    return (predicted(judge_logits) == target.cpu()).to(torch.bool)
