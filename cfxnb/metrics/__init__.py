"""Measures: of pairs (one number an image), of sets, of attributes, and one table of all."""

from cfxnb.metrics.attributes import correlation_difference, flip_rate, mean_changed
from cfxnb.metrics.attributions import (
    PasteCurves,
    heat_inside,
    insertion_deletion,
    pointing_game,
    randomised_weights,
)
from cfxnb.metrics.distributions import fid, kid, mmd2, sfid
from cfxnb.metrics.diversity import diversity
from cfxnb.metrics.ground_truth import (
    KINDS,
    changed_factors,
    distinct_explanations,
    flip_kinds,
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
    "KINDS", "LPIPS", "PasteCurves", "accuracy_by_group", "changed_factors",
    "correlation_difference", "cout", "cout_curve", "distinct_explanations", "diversity", "fid",
    "flip_kinds", "flip_rate", "heat_inside", "insertion_deletion", "kid", "l1", "l2",
    "mean_changed", "mmd2", "perceptual_distance", "pointing_game", "randomised_weights",
    "rank_agreement", "report", "score_errors", "sfid", "true_scores",
]  # fmt: skip
