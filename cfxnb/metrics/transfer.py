"""Flips on classifiers that were retrained, and the gain in accuracy after repair."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedClassifier
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.prediction import finite_predict_logits
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import Classifier
from cfxnb.metrics.called_again import some


@standard_modes
@torch.no_grad()
def transfer(counterfactuals: Counterfactuals, classifiers: Sequence[Classifier]) -> Tensor:
    """Return the fraction of retrained classifiers that each counterfactual flips, too.

    A counterfactual that flips only a classifier with one particular set of weights is an
    adversarial example. Flips are tested on classifiers that were trained in the same way with
    other seeds, and that no method has seen. ``cfx.load_retrained`` loads retrained classifiers.

    Args:
        counterfactuals: Counterfactuals of any method. Only flipped images are tested.
        classifiers: Retrained classifiers with the classes of the explained classifier, in the same
            order. For each image, the retrained classifiers that already predict the target for the
            original are left out.

    Returns:
        Fraction of the retrained classifiers that predict the target for the counterfactual,
        float64 (n,) in [0, 1]. Higher is better. The entry of an image is NaN if the image did not
        flip, or if all retrained classifiers predict the target for the original.

    Raises:
        ValueError, TypeError: If an argument is wrong. The error message names the argument.
    """
    cf = validate_results.result(counterfactuals, "counterfactuals")
    nets = checked_classifiers(classifiers, "classifiers")
    found = torch.full((len(cf),), torch.nan, dtype=torch.float64)
    rows = cf.flipped.nonzero()[:, 0]
    if not len(rows):
        return found
    flips = cf[rows]
    names = validate.recorded_names(cf.made_by)
    moved, tested = torch.zeros(2, len(rows), dtype=torch.float64)
    for net in nets:
        with eval_frozen(net):
            first = flips.original[:1]
            validate.same_classes(net, first, cf.logits_before.shape[1], net.name, names)
        before, after = (
            finite_predict_logits(net, images, name=net.name).argmax(1) == flips.target
            for images in (flips.original, flips.image)
        )
        moved += (after & ~before).cpu()
        tested += (~before).cpu()
    found[rows] = moved / tested
    return found


def checked_classifiers(value: Any, name: str) -> list[CheckedClassifier]:
    """Return the checked classifiers of a list, which must not be empty."""
    listed = some(value, name, "classifiers")
    return [CheckedClassifier(each, f"{name}[{i}]") for i, each in enumerate(listed)]


@standard_modes
@torch.no_grad()
def accuracy_gain(
    classifier: Classifier, repaired: Classifier, images: Tensor, labels: Any
) -> Tensor:
    """Return by how much a repair changes the accuracy of a classifier.

    ``cfx.fine_tune`` repairs a classifier with counterfactuals. If the counterfactuals show what is
    wrong with the classifier, the accuracy on held-out images rises.

    Args:
        classifier, repaired: The classifier before and after the repair. Each of the two
            classifiers maps images to logits.
        images: Held-out images, (n, c, h, w) in [0, 1]. Choose images in which a shortcut points to
            the wrong class, or all images.
        labels: True classes, by number or name, (n,).

    Returns:
        One value per image, float64 (n,): 1 if only the repaired classifier is right, -1 if only
        the classifier before the repair is right, otherwise 0. The mean over images is the gain in
        accuracy. Higher is better.

    Raises:
        ValueError, TypeError: If an argument is wrong. The error message names the argument.
    """
    images = validate.images(images)
    right = []
    for net, name in ((classifier, "classifier"), (repaired, "repaired")):
        logits = finite_predict_logits(net, images, name=name)
        names = CheckedClassifier(net, name).class_names
        true = validate.labels(labels, len(images), logits.shape[1], "labels", names)
        right.append((logits.argmax(1).cpu() == true.cpu()).double())
    return right[1] - right[0]
