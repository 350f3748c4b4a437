"""Global Counterfactual Directions: found black-box, from one image (arXiv 2404.12488).

Published: a fresh network on all answers so far, every round; directions from its gradient and
its Hessian at the image's code, with the sign that an eigenvector happens to have. Here by
default: least squares on pairs of opposite changes, which needs far fewer queries; its gradient
rests on log odds that saturate, so that answers near the decision count most. Both signs of every
direction are tried, more axes of curvature than are kept, and what they measurably do tells which
are kept, and in which order. What other images answer in that trial corrects the gradient, too,
unless the correction does worse there.
"""

import dataclasses
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier, CheckedFunction, CheckedSpace
from cfxnb.core.decisions import check_labels, class_number
from cfxnb.core.driver import Stop
from cfxnb.core.kept_work import digest, given_folder
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.tensors import active_dims, typical_distance, unit
from cfxnb.core.types import Classifier, LatentSpace, OnStep
from cfxnb.core.weights_hash import weights_hash
from cfxnb.directions.candidates import SAME, candidates
from cfxnb.directions.gradient_correction import corrected
from cfxnb.directions.mlp_proxy import mlp
from cfxnb.directions.probing import FEWEST, Distance, Questions, rms
from cfxnb.directions.proxies import Fit, Probes, ridge
from cfxnb.directions.query_log import Ledger
from cfxnb.directions.result import Directions
from cfxnb.directions.trial import LENGTHS, Trial

ALONE, CORRECTED = "g uncorrected", "g corrected"
SHARE_ALONE, SHARE_OTHERS = 0.25, 0.5  # of the queries, for the trial at most
SLOPES = 2  # g-directions without a correction, which are always tried
PROXIES = ("ridge", "mlp", "mlp_paper")


@standard_modes
def find_directions(
    space: LatentSpace,
    classifier: Classifier,
    image: Tensor,
    target: int | str,
    *,
    contrast_class: int | str | None = None,
    max_queries: int = 2048,
    proxy: str = "ridge",
    radius: float | None = None,
    saturation: float | None = 5.0,
    n_curvature: int = 6,
    validation_images: Tensor | None = None,
    max_step: float | None = None,
    distance: Distance | None = None,
    batch_size: int = 64,
    checkpoint_dir: str | Path | None = None,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Directions:
    """Directions of the code that turn a decision, from answers about changes of one image.

    The classifier is only asked, never differentiated. For one label of a multi-label net, ask
    about ``cfx.select_label(net, number)``.

    Args:
        space: whose codes are changed; the image's stochastic code stays.
        classifier: images -> logits (b, k), such as a BlackBox.
        image: one image, (c, h, w) or (1, c, h, w), in [0, 1].
        target, contrast_class: directions raise the log odds of the label against all other classes, or
            against one. Numbers, or names of classes.
        max_queries: images that the classifier is asked about at most, in all: a hard limit.
        proxy: "ridge", least squares on opposite pairs; "mlp", the paper's network; "mlp_paper",
            with the paper's own stop rule, too.
        radius: changes are drawn with lengths from 0 to this, in spreads; by default ``max_step``:
            what is to hold for a data set is asked about far and wide. The paper's is 1, in units
            of the code.
        saturation: for the slope of "ridge", log odds count up to about this, s tanh(odds / s):
            where a decision turns matters, not how sure the classifier is far away. None takes
            them as they are, as for the curvature.
        n_curvature: h-directions to keep. Three times as many axes of the proxy's strongest curvatures
            are tried, as far as queries do for all images, and those that flip most are kept.
        validation_images: (m, c, h, w) images on which directions are ranked, with at most half of the
            max_queries: the first ones, if these don't do for all. Best are a few that are seen as
            the label, and as many that are not, in turn. With "ridge", their answers correct the
            gradient as well: "g" is then the corrected one, beside "g uncorrected" if that
            is another one; but if the latter flips more of them, it is "g", beside "g corrected".
            None: the image alone is tried, with at most a quarter of the queries, and nothing is
            corrected.
        max_step: longest step of a trial, in spreads. By default sqrt(2 d), with d coordinates that
            carry anything: the typical distance between the codes of two images.
        distance: (images, images) in [0, 1] -> (b,), such as LPIPS, for the second g-direction
            and the network; by default the root of the mean squared difference of pixels.
        batch_size: images rendered and asked about at once.
        checkpoint_dir: where answers are kept. A search that was interrupted goes on there, and asks
            nothing twice; what was under way when a process died is lost. All that was ever
            asked there counts: trials of searches that were stopped early leave fewer probes.
            Another search, and a second one at the same time, are refused. Weights alone don't
            tell who answered. So whenever a folder that holds answers is opened, also one of a
            finished search, about a dozen of its questions are asked anew, beyond ``max_queries``,
            and compared; about fifty, if the classifier gives decisions without degrees, or if
            weights or the name of the distance are not those that the folder was begun with.
            ``made_by["compared"]`` tells how many.
        seed: of the changes.
        on_step: called with a Step after each batch of probes: codes, and probability of the
            label. Returning True ends the probing; what is known is used. So it is after Ctrl-C
            without a folder; with one Ctrl-C passes, and the search goes on there later.

    Returns:
        Directions, best first.

    Raises:
        ValueError, TypeError: for a wrong argument, naming it; a folder of another search, one
            that is in use, or one with a file that is damaged or altered.

    Warns:
        UserWarning: if queries don't do for a trial: flip rates are NaN then, and g is the image's.
    """
    began = time.perf_counter()
    space, classifier = CheckedSpace(space), CheckedClassifier(classifier)
    image = _one(image)
    others = (
        image[:0]
        if validation_images is None
        else validate.images(validation_images, "validation_images")
    )
    if others.shape[1:] != image.shape[1:]:
        raise ValueError(
            f"validation_images: expected images of shape {tuple(image.shape[1:])}, like image, "
            f"got {tuple(others.shape[1:])}"
        )
    used = active_dims(space.std)
    max_step = _reach(space, max_step)
    radius = max_step if radius is None else validate.number(radius, "radius", 0, open_low=True)
    distance = CheckedFunction(rms if distance is None else distance, "distance")
    names = classifier.class_names
    knobs: dict[str, Any] = {
        "target": class_number(target, "target", names),
        "contrast_class": None
        if contrast_class is None
        else class_number(contrast_class, "contrast_class", names),
        "max_queries": validate.count(max_queries, "max_queries", FEWEST + 4),
        "proxy": validate.choice(proxy, "proxy", PROXIES),
        "radius": radius,
        "saturation": validate.optional(_positive, saturation, "saturation"),
        "n_curvature": validate.count(n_curvature, "n_curvature"),
        "max_step": max_step,
        "batch_size": validate.count(batch_size, "batch_size", 2),
        "seed": validate.seed(seed),
    }
    stop = Stop(on_step)
    parts = {"space": space, "classifier": classifier, "distance": distance}
    told = getattr(distance.inner, "__qualname__", type(distance.inner).__name__)
    weights = {name: weights_hash(part) for name, part in parts.items()}
    ledger = Ledger(
        knobs["max_queries"],
        None if checkpoint_dir is None else given_folder(checkpoint_dir),
        {
            **knobs,
            "image": digest(image),
            "validation_images": digest(others),
            "center and spread of the space": digest(space.mean, space.std),
        },
        {**weights, "name of the distance": told},
    )
    with ledger, eval_frozen(space, classifier, distance), torch.no_grad():
        ask = Questions(space, classifier, distance, image, ledger, knobs, others, stop)
        share = SHARE_OTHERS if len(others) else SHARE_ALONE
        trial = Trial(ask, others if len(others) else image, max_step, share)
        corrects = proxy == "ridge" and len(others) > 0
        axes, keep = trial.plan(n_curvature, int(used.sum()), SLOPES + corrects)
        probes = ask.probes(used, keep)
        fit = _fit(probes, knobs)
        found = candidates(fit, ask.sign, axes, used.flatten().cpu())
        still = torch.zeros_like(space.std)[None]  # no move: what is seen at home
        moves = trial.moves(_shaped(found, space.std))
        seen, score = trial.look("trial", torch.cat([still, moves]))
        home, seen = seen[:, 0], seen[:, 1:]
        if corrects and "g" in found:
            better = {"g": _corrected(fit, found, score, trial, saturation)}
            again, _ = trial.look("corrected", trial.moves(_shaped(better, space.std)))
            seen = torch.cat([again, seen], 1)
            found = better | {ALONE if name == "g" else name: u for name, u in found.items()}
        vectors = _shaped(found, space.std)
        table = trial.rank(vectors, list(found), fit, home, seen).drop(index=_twins(found))
        if ALONE in table.index and table["flip rate"][ALONE] > table["flip rate"]["g"]:
            swapped = {"g": CORRECTED, ALONE: "g"}
            table = table.rename(index=swapped)
            found = {swapped.get(name, name): u for name, u in found.items()}
        bends = [name for name in table.index if name.startswith("h")]
        table = table.drop(index=bends[n_curvature:])
    ask.fit.warn()
    if stop.interrupted:
        warnings.warn(
            f"interrupted: {ledger.spent} of at most {max_queries} queries were asked; the directions "
            "rest on these, and flip rates that are not known are NaN",
            stacklevel=3,
        )
    order = [list(found).index(name) for name in table.index]
    record = {
        "function": "find_directions",
        **knobs,
        "distance": told,
        "weights": weights,
        "lost": ledger.lost,
    }
    record["compared"] = ask.compared
    record["tried"] = len(trial.images)
    return Directions(
        vectors=vectors[order].to(image.device),
        names=tuple(table.index),
        table=table,
        proxy_fit=fit,
        target=knobs["target"],
        contrast_class=knobs["contrast_class"],
        n_queries=ledger.spent,
        made_by={**record, "seconds": round(time.perf_counter() - began, 3)},
    )


def _corrected(
    fit: Fit, found: dict[str, Tensor], score: Tensor, trial: Trial, saturation: float | None
) -> Tensor:
    """The unit direction that the scores of a trial make of g, (d,), in spreads."""
    home, told = score[:, 0], score[:, 1:].unflatten(1, (-1, len(trial.senses)))
    units, near = torch.stack(list(found.values())), LENGTHS[0] * trial.max_step
    return unit(corrected(fit.gradient, units, home, told, near, saturation)[None])[0]


def _twins(found: dict[str, Tensor]) -> list[str]:
    """Names of the directions that a corrected g made needless."""
    if "g" not in found:
        return []
    return [name for name, u in found.items() if name != "g" and abs(u @ found["g"]) > SAME]


def _shaped(steps: dict[str, Tensor], std: Tensor) -> Tensor:
    """Steps (d,) in spreads as changes of a code, (n, *code)."""
    flat = torch.stack([*steps.values(), std.flatten().cpu()])[:-1]  # perhaps there is none
    return std * flat.to(std).view(-1, *std.shape)


def _fit(probes: Probes, knobs: dict[str, Any]) -> Fit:
    if knobs["proxy"] == "ridge":
        fit = ridge(probes)
        if knobs["saturation"] is None:
            return fit
        near = ridge(probes.saturated(knobs["saturation"]))
        # How the log odds bend is seen far out, where saturated ones are flat.
        return dataclasses.replace(
            fit, gradient=near.gradient, split_half_cosine=near.split_half_cosine
        )
    stop = "paper" if knobs["proxy"] == "mlp_paper" else "sound"
    classes = check_labels(knobs["target"], knobs["contrast_class"], 1, probes.logits.shape[1])
    return mlp(probes, *classes, stop=stop, seed=knobs["seed"])


def _positive(value: Any, name: str) -> float:
    return validate.number(value, name, 0.0, open_low=True)


def _one(image: Any) -> Tensor:
    if isinstance(image, Tensor) and image.ndim == 3:
        image = image[None]
    image = validate.images(image, "image")
    if len(image) > 1:
        raise ValueError(f"image: expected a single one, got {len(image)}; the others: validation")
    return image


def _reach(space: LatentSpace, max_step: float | None) -> float:
    if max_step is not None:
        return validate.number(max_step, "max_step", 0.0, open_low=True)
    return typical_distance(space.std)
