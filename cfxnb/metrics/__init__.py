"""Measures of counterfactuals and attributions.

- ``report``: one table with one row per method. Read it first.
- ``report_arguments``, ``columns``: the checked arguments of ``report``, and the cells of the table
  of ``report``.
- ``pairwise``: distances between an image and its counterfactual, and COUT.
- ``distributions``: distances between two sets of features (FID, KID, sFID, MMD).
- ``lpips``: LPIPS.
- ``attributes``: changed decisions of a classifier (flip rate, MNAC, correlation difference).
- ``ground_truth``: explanations compared with the known causes of sprites.
- ``attribution``: quality of heat maps.
- ``axioms``: what null edits, edits there and back, and single edits do to an image.
- ``minimality``: the size of a change compared with distances between real images.
- ``transfer``: flips on retrained classifiers, and the gain in accuracy after repair.
- ``called_again``: code that is shared by the measures that call a method again.
- ``stability``: differences between counterfactuals after small changes of seed or image.
- ``diversity``: differences between several counterfactuals of one image.
- ``groups``: accuracy of a classifier in each group of images.
"""

from cfxnb.metrics.attributes import correlation_difference, flip_rate, mnac
from cfxnb.metrics.attribution import (
    InsertionDeletion,
    insertion_deletion,
    parameter_randomisation,
    pointing_game,
    relevance_mass,
)
from cfxnb.metrics.axioms import composition, cycle_distances, effectiveness, reversibility
from cfxnb.metrics.distributions import fid, kid, mmd2, sfid
from cfxnb.metrics.diversity import diversity, factor_diversity
from cfxnb.metrics.ground_truth import (
    FLIP_KINDS,
    changed_factors,
    classify_flips,
    distinct_explanations,
    rank_agreement,
    score_errors,
    true_scores,
)
from cfxnb.metrics.groups import accuracy_by_group
from cfxnb.metrics.lpips import LPIPS
from cfxnb.metrics.minimality import minimality
from cfxnb.metrics.pairwise import cout, cout_curve, l1, l2, sparsity
from cfxnb.metrics.report import report
from cfxnb.metrics.stability import stability
from cfxnb.metrics.transfer import accuracy_gain, transfer
from cfxnb.nets.squeezenet import perceptual_distance

__all__ = [
    "FLIP_KINDS",
    "LPIPS",
    "InsertionDeletion",
    "accuracy_by_group",
    "accuracy_gain",
    "changed_factors",
    "classify_flips",
    "composition",
    "correlation_difference",
    "cout",
    "cout_curve",
    "cycle_distances",
    "distinct_explanations",
    "diversity",
    "effectiveness",
    "factor_diversity",
    "fid",
    "flip_rate",
    "insertion_deletion",
    "kid",
    "l1",
    "l2",
    "minimality",
    "mmd2",
    "mnac",
    "parameter_randomisation",
    "perceptual_distance",
    "pointing_game",
    "rank_agreement",
    "relevance_mass",
    "report",
    "reversibility",
    "score_errors",
    "sfid",
    "sparsity",
    "stability",
    "transfer",
    "true_scores",
]  # fmt: skip
