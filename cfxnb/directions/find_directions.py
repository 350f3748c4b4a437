"""Global Counterfactual Directions (GCD, arXiv 2404.12488), from one image and a black box.

``search`` is the algorithm. ``find_directions`` checks the arguments and writes the record.

Differences from the paper:

- Rounds: the paper repeats 50 to 84 rounds of probing, fitting and following, with a growing set of
  answers. Here the classifier is probed in one round, also with ``proxy="mlp_paper"``.
- Score: the paper fits the raw logit within a ball of radius 1. We fit the log odds, within
  ``radius`` standard deviations of the code. So g is a mean gradient over this ball.
- Distance: the paper's proxy has LPIPS as a second output. Ours has the root mean square difference
  of the images, or the function given as ``distance``.
- Proxy: the paper fits a new network to all answers in every round. By default we fit a ridge
  regression to pairs of opposite changes, which needs far fewer queries. For the gradient the log
  odds are saturated, so that answers near the decision count most.
- Sign: the paper keeps the arbitrary sign of an eigenvector. We test both signs.
- Selection: we test more h-directions than we keep, on images, and rank by the measured flip rate.
- Correction: the answers of other images in that trial correct g, unless the corrected g flips
  fewer images.
"""

import dataclasses
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier, CheckedFunction, CheckedSpace
from cfxnb.core.decisions import check_labels
from cfxnb.core.driver import Stop
from cfxnb.core.kept_work import checkpoint_path, digest
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.tensors import active_dims, unit
from cfxnb.core.types import Classifier, LatentSpace, OnStep
from cfxnb.core.weights_hash import weights_hash
from cfxnb.directions.direction_candidates import DUPLICATE_COSINE, direction_candidates
from cfxnb.directions.direction_trial import STEP_FRACTIONS, Trial, TrialAnswers, as_code_changes
from cfxnb.directions.gradient_correction import correct_gradient
from cfxnb.directions.mlp_proxy import mlp
from cfxnb.directions.probing import BlackBoxProbe, Distance, rms
from cfxnb.directions.proxies import Probes, ProxyFit, ridge
from cfxnb.directions.query_log import QueryLog
from cfxnb.directions.result import Directions
from cfxnb.directions.search_config import SearchConfig

UNCORRECTED, CORRECTED = "g uncorrected", "g corrected"
N_GRADIENTS = 2  # "g" and "g with distance"


def search(
    probe: BlackBoxProbe, trial: Trial, config: SearchConfig
) -> tuple[ProxyFit, dict[str, Tensor], pd.DataFrame]:
    """Find directions that change the decision, around the code of one image.

    Args:
        probe: the black box, with the image z = E(x) and its stochastic code x_T, which is fixed.
        trial: tests directions on images.

    Returns:
        The fitted proxy, a dict of unit directions (d,) in std, and a table of the directions. Dict
        and table begin with the best direction.
    """
    active = active_dims(probe.space.std).flatten().cpu()
    correct = config.proxy == "ridge" and trial.has_others
    n_axes, reserved = trial.plan(config.n_curvature, int(active.sum()), N_GRADIENTS + correct)

    # The paper: query the classifier about D(z + delta, x_T) for random delta. Fit a proxy to the
    # answers. g is its gradient at delta = 0, and h are the eigenvectors of its Hessian.
    probes = probe.sample(active, reserved)
    fit = fit_proxy(probes, config)
    directions = direction_candidates(fit, probe.sign, n_axes, active)

    # Ours: move images both ways along each direction, and count how many decisions flip.
    answers = trial.run(directions)

    # Ours: correct g with the answers of the other images, and test the corrected g as well.
    if correct and "g" in directions:
        g = correct_g(directions, answers, fit, config)
        answers = trial.run_corrected(g, answers)
        others = {UNCORRECTED if name == "g" else name: u for name, u in directions.items()}
        directions = {"g": g} | others

    table = trial.rank(directions, answers, fit)
    return fit, *select_directions(directions, table, config.n_curvature)


def fit_proxy(probes: Probes, config: SearchConfig) -> ProxyFit:
    """Fit the proxy that ``config.proxy`` names to the answers of the black box."""
    if config.proxy != "ridge":
        stop = "paper" if config.proxy == "mlp_paper" else "best"
        classes = check_labels(config.target, config.contrast_class, 1, probes.logits.shape[1])
        return mlp(probes, *classes, stop=stop, seed=config.seed)
    fit = ridge(probes)
    if config.saturation is None:
        return fit
    saturated = ridge(probes.saturated(config.saturation))
    # The Hessian stays that of the plain scores, because saturated ones are flat far from 0.
    return dataclasses.replace(
        fit, gradient=saturated.gradient, split_half_cosine=saturated.split_half_cosine
    )


def correct_g(
    directions: dict[str, Tensor], answers: TrialAnswers, fit: ProxyFit, config: SearchConfig
) -> Tensor:
    """Return the unit direction (d,) of the gradient corrected by the answers of the trial."""
    gradient = correct_gradient(
        fit.gradient,
        torch.stack(list(directions.values())),
        answers.score_before,
        answers.score,
        STEP_FRACTIONS[0] * config.max_step,
        config.saturation,
    )
    return unit(gradient[None])[0]


def select_directions(
    directions: dict[str, Tensor], table: pd.DataFrame, n_curvature: int
) -> tuple[dict[str, Tensor], pd.DataFrame]:
    """Drop duplicates of g and the worst h-directions, and name the better gradient "g"."""
    duplicates = [
        name
        for name, u in directions.items()
        if name != "g" and "g" in directions and abs(u @ directions["g"]) > DUPLICATE_COSINE
    ]
    table, names = table.drop(index=duplicates), {}
    rates = table["flip rate"]
    if UNCORRECTED in rates and rates[UNCORRECTED] > rates["g"]:
        names = {"g": CORRECTED, UNCORRECTED: "g"}
    axes = [name for name in table.index if name.startswith("h")]
    table = table.drop(index=axes[n_curvature:])
    directions = {names.get(name, name): directions[name] for name in table.index}
    return directions, table.rename(index=names)


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
    """Find directions in code space that change a classifier's decision, from one image.

    The function only queries the classifier. It needs no gradients. For one label of a multi-label
    network, pass ``cfx.select_label(net, number)``. Global Counterfactual Directions, arXiv
    2404.12488; the docstring of the module lists the differences.

    Args:
        space: space whose codes are changed. The stochastic code (aux) of each image is kept.
        classifier: images -> logits (b, k), for example a ``BlackBox``.
        image: one image in [0, 1], (c, h, w) or (1, c, h, w).
        target: class that adding a direction favours, as a number or a class name.
        contrast_class: directions raise the log odds of ``target`` against this class. Default:
            against all other classes.
        max_queries: largest number of images that the classifier may classify. Default: 2048.
        proxy: "ridge" for ridge regression on pairs of opposite changes, "mlp" for the paper's
            network, "mlp_paper" for the paper's network with its stopping rule.
        radius: longest change of a probe, in standard deviations of the code (std). Lengths of
            the changes are uniform in [0, radius]. Default: ``max_step``. The paper uses 1 in units
            of the code.
        saturation: the gradient of "ridge" uses the saturated log odds s tanh(odds / s). Answers
            far from the decision then count less. If None, the gradient uses the log odds
            unchanged. The Hessian always uses the log odds unchanged.
        n_curvature: number of h-directions to keep. If the queries suffice, three times as many
            are tested, and those that flip most images are kept.
        validation_images: images (m, c, h, w) on which the directions are ranked. The ranking uses
            at most half of ``max_queries``. If this budget is too small for all images, only the
            first images are used. Pass equal numbers of images that are classified as the target
            and that are not, in alternating order. With "ridge" the answers for these images also
            correct g. The result then has "g" and "g uncorrected", or "g corrected" and "g" if the
            correction flips fewer images. Default: the directions are ranked on ``image`` alone,
            with at most a quarter of the queries, and g is not corrected.
        max_step: longest step of the ranking, in std. Default: sqrt(2 d), the typical distance
            between the codes of two images, where d is the number of active dimensions.
        distance: distance of images in [0, 1], (images, images) -> (b,), for example LPIPS. The
            distance is used by "g with distance" and by the proxy network. Default: root mean
            squared difference of pixels.
        batch_size: images per batch. The batch size affects memory and speed, not results. A stored
            search can be continued only with the same batch size.
        checkpoint_dir: folder in which the answers are stored. An interrupted search continues
            from this folder without repeating its queries. If a process dies, the answers to its
            current batch are lost. ``max_queries`` limits all queries made with the folder,
            including trials of stopped searches. A folder that is in use or belongs to another
            search is refused. When a folder with answers is opened, about 12 images are queried
            again, beyond ``max_queries``, to recognise the classifier. About 50 images are queried
            again if the classifier returns decisions without degrees, or if weights or the name of
            the distance have changed. ``made_by["compared"]`` is the number of images that were
            queried again.
        seed: seed of the random changes.
        on_step: called with a ``Step`` after each batch of probes. The ``Step`` has the
            codes and the probability of the target. Return True from ``on_step`` to stop probing
            and use the answers so far. Without ``checkpoint_dir``, Ctrl-C also stops probing. With
            ``checkpoint_dir``, Ctrl-C raises KeyboardInterrupt, and the search can be continued.

    Returns:
        Directions, best first.

    Raises:
        ValueError, TypeError: if an argument is wrong, or if ``checkpoint_dir`` belongs to another
            search, is in use, or has a damaged file. The message names the argument.

    Warns:
        UserWarning: if the queries do not suffice for the ranking. Flip rates are then NaN.
    """
    start = time.perf_counter()
    space, classifier = CheckedSpace(space), CheckedClassifier(classifier)
    image, others = _check_images(image, validation_images)
    distance = CheckedFunction(rms if distance is None else distance, "distance")
    config = SearchConfig.checked(
        space,
        classifier.class_names,
        target=target,
        contrast_class=contrast_class,
        radius=radius,
        max_step=max_step,
        max_queries=max_queries,
        proxy=proxy,
        saturation=saturation,
        n_curvature=n_curvature,
        batch_size=batch_size,
        seed=seed,
    )
    stop = Stop(on_step)
    parts = {"space": space, "classifier": classifier, "distance": distance}
    weights = {name: weights_hash(part) for name, part in parts.items()}
    distance_name = getattr(distance.inner, "__qualname__", type(distance.inner).__name__)
    log = QueryLog(
        config.max_queries,
        None if checkpoint_dir is None else checkpoint_path(checkpoint_dir),
        {
            **dataclasses.asdict(config),
            "image": digest(image),
            "validation_images": digest(others),
            "mean and std of the space": digest(space.mean, space.std),
        },
        {**weights, "name of the distance": distance_name},
    )
    with log, eval_frozen(space, classifier, distance), torch.no_grad():
        probe = BlackBoxProbe(space, classifier, distance, image, log, config, others, stop)
        trial = Trial(probe, others)
        fit, directions, table = search(probe, trial, config)
    probe.space_fit.warn()
    if stop.interrupted:
        warnings.warn(
            f"interrupted after {log.n_queries} of at most {max_queries} queries. The directions "
            "are based on these, and unknown flip rates are NaN.",
            stacklevel=3,
        )
    return Directions(
        vectors=as_code_changes(directions, space.std).to(image.device),
        names=tuple(directions),
        table=table,
        proxy_fit=fit,
        target=config.target,
        contrast_class=config.contrast_class,
        n_queries=log.n_queries,
        made_by={
            "function": "find_directions",
            **dataclasses.asdict(config),
            "distance": distance_name,
            "weights": weights,
            "lost": log.lost,
            "compared": probe.n_compared,
            "tried": len(trial.images),
            "seconds": round(time.perf_counter() - start, 3),
        },
    )


def _check_images(image: Any, validation_images: Any) -> tuple[Tensor, Tensor]:
    """Return the image (1, c, h, w) and the validation images (m, c, h, w), perhaps none."""
    if isinstance(image, Tensor) and image.ndim == 3:
        image = image[None]
    image = validate.images(image, "image")
    if len(image) > 1:
        raise ValueError(
            f"image: expected one image, got {len(image)}. Pass the others as validation_images."
        )
    if validation_images is None:
        return image, image[:0]
    others = validate.images(validation_images, "validation_images")
    if others.shape[1:] != image.shape[1:]:
        raise ValueError(
            f"validation_images: expected images of shape {tuple(image.shape[1:])}, like image, "
            f"got {tuple(others.shape[1:])}"
        )
    return image, others
