"""Test whether flips of a classifier depend on named properties that changed in the code."""

from typing import Any

import pandas as pd
import torch
from torch import Generator, Tensor

from cfxnb.attacks.descriptors import Descriptors
from cfxnb.core import validate, validate_results
from cfxnb.core.border import CheckedClassifier, CheckedSpace
from cfxnb.core.decisions import is_predicted, log_odds
from cfxnb.core.modes import standard_modes
from cfxnb.core.modules import eval_frozen
from cfxnb.core.results import Counterfactuals
from cfxnb.core.space_fit import check_codes, same_scale
from cfxnb.core.tensors import active_dims, standardise
from cfxnb.core.types import Classifier, LatentSpace

CHANCE_DRAWS = 10


@standard_modes
def ablate(
    space: LatentSpace,
    classifier: Classifier,
    counterfactuals: Counterfactuals,
    descriptors: Descriptors,
    groups: tuple[tuple[str, ...], ...],
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how much the flips depend on the properties of each group of descriptors.

    A descriptor is a linear model that predicts a named property from a code. The component of a
    group is the part of a code's change that the descriptors of the group can express. To get the
    component, the function projects the change, in standard deviations, on the span of the
    descriptors' weights. Each image is classified twice, once after its change without the
    component, and once with the component as the only change.

    Args:
        space: The space of the codes.
        classifier: Maps images to logits (b, k).
        counterfactuals: A result with codes. All rows are used.
        descriptors: Linear models of named properties, from ``fit_descriptors`` for ``space``.
        groups: Groups of descriptors, each a tuple of names.
        seed: Seed of the random directions. Default: 0.

    Returns:
        A DataFrame with one row per group and four more rows. Each row tests one part of the
        change, such as the component of one group. The row ``all descriptors`` tests the part that
        all groups together can express, and the row ``not described`` tests the rest of the change.
        The rows ``random direction`` and ``random subspace of equal size`` show the chance level,
        as means over ten random parts. The columns are:

        - ``fraction``: fraction of the squared change of the code that lies in the tested part.
        - ``flips without``: fraction of images still classified as the target after the tested part
          is removed from the change. A low fraction means that the flips need the tested part.
        - ``flips alone``: fraction of images classified as the target if the tested part is the
          only change. A high fraction means that the tested part is enough for a flip.
        - ``log odds without``, ``log odds alone``: mean rise of the target's log odds above those
          of the reconstruction, for the change without the tested part, and for the tested part
          alone.

    Raises:
        ValueError, TypeError: If an argument is wrong, for example a result without codes. The
            error message names the argument.
    """
    validate.space(space)
    validate_results.result(counterfactuals, "counterfactuals")
    start, code = validate_results.codes(counterfactuals, "counterfactuals")
    if not len(start):
        raise ValueError("counterfactuals: expected at least one row, got none")
    validate.instance(descriptors, Descriptors, "descriptors", "Descriptors of fit_descriptors")
    _check_groups(groups, descriptors.names)
    seed = validate.seed(seed)
    validate_results.all_started(counterfactuals, "counterfactuals")
    same_scale(descriptors.mean, descriptors.std, space, "descriptors", "those of this space")
    space, classifier = CheckedSpace(space), CheckedClassifier(classifier)
    check_codes(space, start, counterfactuals.reconstruction, "counterfactuals")
    target = counterfactuals.target
    scale = space.std.to(start.z)
    change = standardise(code.z - start.z, scale)

    def outcome(part: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether the change ``part`` reaches the target, and the target's log odds."""
        codes = start.with_z(start.z + scale * part)
        chunks = torch.arange(len(codes)).split(256)
        images = [space.decode(codes[rows]) for rows in chunks]
        logits = validate.finite_logits(torch.cat([classifier(x) for x in images]))
        return is_predicted(logits, target).double(), log_odds(logits, target)

    with eval_frozen(space, classifier), torch.no_grad():
        floor = outcome(torch.zeros_like(change))[1]
        rows = []
        for name, basis in _components(descriptors, groups, seed):
            inside = _project(change, basis.to(change))
            part = change - inside if name == "not described" else inside
            without, without_odds = outcome(change - part)
            alone, alone_odds = outcome(part)
            row = {
                "fraction": _fraction(part, change),
                "flips without": float(without.mean()),
                "flips alone": float(alone.mean()),
                "log odds without": float((without_odds - floor).mean()),
                "log odds alone": float((alone_odds - floor).mean()),
            }
            rows.append(pd.Series(row, name=name))
    return pd.DataFrame(rows).groupby(level=0, sort=False).mean()  # the mean of the random draws


def _check_groups(groups: Any, names: tuple[str, ...]) -> None:
    """Raise ValueError if the groups are not tuples of names of descriptors.

    A string in place of a tuple is refused, because iterating over a string gives letters.
    """
    listed = groups if isinstance(groups, list | tuple) else ()
    good = [isinstance(g, list | tuple) and len(g) > 0 for g in listed]
    if not good or not all(good) or any(n not in names for g in listed for n in g):
        expected = f"at least one group of names, each a tuple out of {list(names)}"
        raise ValueError(f"groups: expected {expected}, got {validate.describe(groups)}")


def _components(
    descriptors: Descriptors, groups: tuple[tuple[str, ...], ...], seed: int
) -> list[tuple[str, Tensor]]:
    """Return a name and an orthonormal basis for each part of the change that is tested.

    The random direction and the random subspace occur ``CHANCE_DRAWS`` times each, with different
    random vectors.
    """
    index = {name: i for i, name in enumerate(descriptors.names)}
    named = [(" + ".join(g), span(descriptors.weights[[index[n] for n in g]])) for g in groups]
    described = span(torch.cat([basis for _, basis in named]))
    named += [("all descriptors", described), ("not described", described)]
    generator = Generator().manual_seed(seed)
    used = active_dims(descriptors.std).flatten()
    draws = [torch.randn(described.shape, generator=generator) for _ in range(CHANCE_DRAWS)]
    named += [("random direction", span(draw[:1] * used)) for draw in draws]
    return named + [("random subspace of equal size", span(draw * used)) for draw in draws]


def span(vectors: Tensor) -> Tensor:
    """Return an orthonormal basis of the span of the rows of ``vectors``."""
    _, size, right = torch.linalg.svd(vectors, full_matrices=False)
    return right[size > 1e-6 * size.max()]


def _project(change: Tensor, basis: Tensor) -> Tensor:
    flat = change.flatten(1)
    return (flat @ basis.T @ basis).view_as(change)


def _fraction(part: Tensor, change: Tensor) -> float:
    squares = part.flatten(1).square().sum(1) / change.flatten(1).square().sum(1).clamp_min(1e-12)
    return float(squares.mean())
