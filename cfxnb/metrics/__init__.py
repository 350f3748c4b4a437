"""Measures: of pairs (one number an image), of sets, of attributes, and one table of all."""

from cfxnb.metrics.attributes import correlation_difference, flip_rate, mean_changed
from cfxnb.metrics.lpips import LPIPS
from cfxnb.metrics.pairs import cout, cout_curve, l1, l2
from cfxnb.metrics.report import report
from cfxnb.metrics.sets import fid, kid, mmd2, sfid

__all__ = [
    "LPIPS", "correlation_difference", "cout", "cout_curve", "fid", "flip_rate", "kid", "l1", "l2",
    "mean_changed", "mmd2", "report", "sfid",
]  # fmt: skip
