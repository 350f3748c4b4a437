"""Find directions in code space that change a classifier's decision, without gradients.

``find_directions`` checks the arguments and writes the record. The algorithms are in two other
files. ``global_search`` has the default search, which uses one or several images.
``one_image_search`` has the search of the paper, Global Counterfactual Directions (GCD, arXiv
2404.12488), around one image.
"""

import dataclasses
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from cfxnb.core import validate
from cfxnb.core.border import CheckedClassifier, CheckedFunction, CheckedSpace
from cfxnb.core.driver import Stop
from cfxnb.core.goals import Goal, absolute, goal_classifier
from cfxnb.core.kept_work import checkpoint_path, digest
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.progress import Progress
from cfxnb.core.types import Classifier, LatentSpace, OnStep
from cfxnb.core.weights_hash import weights_hash
from cfxnb.directions.direction_trial import Trial, as_code_changes
from cfxnb.directions.global_search import search_globally
from cfxnb.directions.held_out import HeldOut
from cfxnb.directions.one_image_search import search_one_image
from cfxnb.directions.probing import BlackBoxProbe, Distance, rms
from cfxnb.directions.proxies import ProxyFit
from cfxnb.directions.query_log import QueryLog
from cfxnb.directions.result import Directions
from cfxnb.directions.search_config import GLOBAL, SearchConfig


@standard_modes
def find_directions(
    space: LatentSpace,
    classifier: Classifier,
    images: Tensor,
    target: int | str | Goal,
    *,
    contrast_class: int | str | None = None,
    max_queries: int = 2048,
    proxy: str = GLOBAL,
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
    """Find directions in code space that change a classifier's decision, from one or more images.

    The function queries the classifier about random changes of the codes of ``images``, and needs
    no gradients. For each class, a linear function of the code is fitted to the log odds of the
    class against all other classes. The gradients of the fitted functions are the directions.
    ``validation_images``, which are not used for the fit, show how many images a direction flips.

    The random changes have the covariance of the codes of real images, which the space states as
    ``axes`` and ``variances``. If the space does not state its covariance, the covariance is
    measured on ``images``, and shrunk towards a multiple of the identity.

    The default search departs from Global Counterfactual Directions (arXiv 2404.12488), which uses
    one image and changes of equal size in all coordinates. To use the method of the paper, set
    ``proxy``; ``cfxnb.directions.one_image_search`` lists the differences that remain. For one
    label of a multi-label network, pass ``cfx.select_label(net, number)``.

    Args:
        space: space whose codes are changed. The stochastic code (aux) of each image is kept.
        classifier: images -> logits (b, k), for example a ``BlackBox``.
        images: images in [0, 1], (m, c, h, w), or one image (c, h, w). Labels are not needed. With
            about 32 images, directions hold for most other images. Directions from one image hold
            for fewer images. Pass images of all classes from which or to which the directions
            should lead. If there are fewer than four queries per image, only the first images are
            used.
        target: class that adding the direction "g" favours, as a number or a class name. With a
            regression model: a goal, such as ``cfx.raise_to(0.8)``. The directions are then fitted
            to the outcome itself, ``saturation`` has no effect, and an image flips where the goal
            is reached or lost. ``cfx.lower_by`` and ``cfx.raise_by`` are refused, because their
            bound differs between images. The direction does not depend on the bound, so
            ``cfx.follow_direction`` takes them.
        contrast_class: "g" raises the log odds of ``target`` against this class, or by default
            against all other classes.
        max_queries: largest number of images that the classifier may classify. Default: 2048.
        proxy: what is fitted to the classifier's answers. "global_ridge" is the default search. All
            other proxies use one image, as in the paper. "ridge" is ridge regression on pairs of
            opposite changes. "mlp" is the paper's network, and "mlp_paper" is the paper's network
            with the paper's stopping rule.
        radius: length of the longest random change, in standard deviations of the code (std).
            Lengths of the changes are uniform in [0, radius]. With "global_ridge" the root mean
            square of the lengths is uniform in [0, radius]. Default: ``max_step``. The paper uses a
            radius of 1 in units of the code.
        saturation: the gradients of "global_ridge" and "ridge" use the saturated log odds s *
            tanh(odds / s), where s is ``saturation``. With saturation, answers far from the
            decision count less. If ``saturation`` is None, the gradients use the log odds
            unchanged. The Hessian always uses the log odds unchanged.
        n_curvature: largest number of h-directions (eigenvectors of the Hessian) to keep. If the
            queries suffice, three times as many h-directions are tested, and those that flip most
            images are kept. With "global_ridge", h-directions that cannot be tested with the
            available queries are left out.
        validation_images: images (m, c, h, w) on which the directions are tested and ranked. With
            "global_ridge", a quarter of the queries is reserved for tests of the directions, with
            or without ``validation_images``. With all other proxies, tests on ``validation_images``
            use at most half of the queries. With "ridge", the answers about ``validation_images``
            also correct the gradient g. The corrected result has the directions "g" and "g
            uncorrected", or "g corrected" and "g" if the correction flips fewer images. If the
            queries are too few for all validation images, only the first ones are used. Alternate
            between images that are classified as the target and images that are not. Default: the
            directions are tested on ``images``, so the flip rates may not hold for other images.
        max_step: longest step along a direction in the tests, in standard deviations of the code.
            Default: sqrt(2 d), the typical distance between the codes of two images, where d is the
            number of active dimensions.
        distance: distance of images in [0, 1], (images, images) -> (b,), for example LPIPS. The
            distance has no effect with "global_ridge". With all other proxies, the direction "g
            with distance" and the proxy network use ``distance``. Default: root mean squared
            difference of pixels.
        batch_size: number of images processed together, which does not change the results. A stored
            search can be continued only with the same batch size.
        checkpoint_dir: folder in which the answers are stored. An interrupted search continues from
            this folder without repeating queries. If a process dies, the answers to the current
            batch are lost. ``max_queries`` limits all queries made with the folder, including those
            of stopped searches. A folder that is in use or belongs to another search is refused.
            When a folder with answers is opened, about 14 images are queried again, beyond
            ``max_queries``, to recognise the classifier. About 50 images are queried again if the
            classifier returns only decisions instead of graded scores, or if weights or the name of
            the distance have changed. ``made_by["compared"]`` is the number of images that were
            queried again.
        seed: seed of the random changes.
        on_step: called with a ``Step`` after each batch of random changes. The ``Step`` has the
            codes and the probability of the target. Return True from ``on_step`` to stop the
            queries and use the answers so far. Without ``checkpoint_dir``, Ctrl-C also stops the
            queries. With ``checkpoint_dir``, Ctrl-C raises KeyboardInterrupt, and the search can be
            continued.

    Returns:
        Directions, best first. With "global_ridge", the ``table`` of the result has the fraction of
        images that flip within ``max_step`` and within half of ``max_step``, and a last row for a
        random direction within the active axes. With "global_ridge", the method ``towards`` of the
        result returns the direction towards any class.

    Raises:
        ValueError, TypeError: if an argument is wrong, or if ``checkpoint_dir`` belongs to another
            search, is in use, or has a damaged file.

    Warns:
        UserWarning: if the space states no covariance and there is only one image. Without a
            covariance, the random changes have the same size in all active coordinates. The
            function also warns if the queries do not suffice to test the directions, whose flip
            rates are then NaN.
    """
    start = time.perf_counter()
    goal: dict[str, Any] | None = None
    if isinstance(target, Goal):  # the log odds of its classifier are the outcome, shifted
        selected = goal_classifier(classifier, absolute(target, "target"), scale=1.0)
        classifier, goal, target, saturation = selected, selected.record(), 1, None
    space, classifier = CheckedSpace(space), CheckedClassifier(classifier)
    images, others = _check_images(images, validation_images)
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
    if config.proxy != GLOBAL and len(images) > 1:
        raise ValueError(
            f"proxy: expected {GLOBAL!r} for more than one image, got {config.proxy!r} and "
            f"{len(images)} images. It uses one image; pass the others as validation_images."
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
            **({} if goal is None else {"goal": goal}),
            "images": digest(images),
            "validation_images": digest(others),
            "statistics of the space": digest(*_statistics(space)),
        },
        {**weights, "name of the distance": distance_name},
    )
    with (
        log,
        Progress(1, "find_directions") as stop.progress,
        eval_frozen(space, classifier, distance),
        torch.no_grad(),
    ):
        stop.progress.begin(1)
        probe = BlackBoxProbe(space, classifier, distance, images, log, config, others, stop)
        fit, directions, table, by_class, tried = _search(probe, others, config)
    _warn(probe, config)
    probe.space_fit.warn()
    as_changes = partial(as_code_changes, std=space.std)
    return Directions(
        vectors=as_changes(directions).to(images.device),
        names=tuple(directions),
        table=table,
        proxy_fit=fit,
        target=config.target,
        contrast_class=config.contrast_class,
        n_queries=log.n_queries,
        class_vectors=None if by_class is None else as_changes(by_class).to(images.device),
        made_by={
            "function": "find_directions",
            **dataclasses.asdict(config),
            **({} if goal is None else {"goal": goal}),
            "distance": distance_name,
            "weights": weights,
            "lost": log.lost,
            "compared": probe.n_compared,
            "tried": tried,
            "held_out": len(others) > 0,
            "covariance": probe.covariance.source,
            "seconds": round(time.perf_counter() - start, 3),
        },
    )


def _search(
    probe: BlackBoxProbe, others: Tensor, config: SearchConfig
) -> tuple[ProxyFit, dict[str, Tensor], pd.DataFrame, dict[str, Tensor] | None, int]:
    """Run the search that ``proxy`` names.

    Returns:
        The fit, the directions, their table, the direction towards each class if the search knows
        it, and the number of images on which the directions were tested.
    """
    if config.proxy == GLOBAL:
        held_out = HeldOut(probe, others)
        found = search_globally(probe, held_out, config)
        by_class = {str(label): vector for label, vector in enumerate(found.towards)}
        return found.fit, found.vectors, found.table, by_class, len(held_out.images)
    trial = Trial(probe, others)
    return (*search_one_image(probe, trial, config), None, len(trial.images))


def _warn(probe: BlackBoxProbe, config: SearchConfig) -> None:
    """Warn about what makes the directions worse than they could be."""
    if config.proxy == GLOBAL and probe.covariance.source == "none":
        warnings.warn(
            "space: expected axes and variances, the covariance of the codes of real images, got "
            "none. Changes have the same size in all coordinates, so that directions may hold for "
            "fewer images. Pass several images, on which the covariance is then measured.",
            stacklevel=4,
        )
    if probe.stop.interrupted:
        warnings.warn(
            f"interrupted after {probe.log.n_queries} of at most {config.max_queries} queries. The "
            "directions are based on these, and unknown flip rates are NaN.",
            stacklevel=4,
        )


def _statistics(space: Any) -> list[Tensor]:
    """Return mean and std of the codes of a space, and axes and variances if the space has them."""
    found = [getattr(space, name, None) for name in ("mean", "std", "axes", "variances")]
    return [value for value in found if isinstance(value, Tensor)]


def _check_images(images: Any, validation_images: Any) -> tuple[Tensor, Tensor]:
    """Return the images (n, c, h, w) and the validation images (m, c, h, w), where m can be 0."""
    if isinstance(images, Tensor) and images.ndim == 3:
        images = images[None]
    images = validate.images(images, "images")
    if validation_images is None:
        return images, images[:0]
    others = validate.images(validation_images, "validation_images")
    if others.shape[1:] != images.shape[1:]:
        raise ValueError(
            f"validation_images: expected images of shape {tuple(images.shape[1:])}, like images, "
            f"got {tuple(others.shape[1:])}"
        )
    return images, others
