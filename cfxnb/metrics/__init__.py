"""Measures of counterfactuals and attributions.

- ``report``: one table with one row per method. Read it first.
- ``pairwise``: distances between an image and its counterfactual, and COUT.
- ``distributions``: distances between two sets of features (FID, KID, sFID, MMD).
- ``lpips``: LPIPS.
- ``attributes``: changed decisions of a classifier (flip rate, MNAC, correlation difference).
- ``ground_truth``: explanations compared with the known causes of sprites.
- ``attribution``: quality of heat maps.
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
from cfxnb.metrics.distributions import fid, kid, mmd2, sfid
from cfxnb.metrics.diversity import diversity
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
from cfxnb.metrics.pairwise import cout, cout_curve, l1, l2
from cfxnb.metrics.report import report
from cfxnb.nets.squeezenet import perceptual_distance

__all__ = [
    "FLIP_KINDS",
    "LPIPS",
    "InsertionDeletion",
    "accuracy_by_group",
    "changed_factors",
    "classify_flips",
    "correlation_difference",
    "cout",
    "cout_curve",
    "distinct_explanations",
    "diversity",
    "fid",
    "flip_rate",
    "insertion_deletion",
    "kid",
    "l1",
    "l2",
    "mmd2",
    "mnac",
    "parameter_randomisation",
    "perceptual_distance",
    "pointing_game",
    "rank_agreement",
    "relevance_mass",
    "report",
    "score_errors",
    "sfid",
    "true_scores",
]  # fmt: skip
