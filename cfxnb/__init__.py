"""Counterfactual explanations of image classifiers with generative models.

``import cfxnb as cfx`` gives everything a notebook uses:

- what there is: ``available``, ``load``, ``data`` (digits, sprites, World), ``spaces``, ``doctor``
- your own: ``wrap``, ``two_class``, ``one_label``, ``BlackBox``, ``FactorReader``, ``Code``
- counterfactuals: ``latent_attack``, ``diffusion_counterfactual``; beside them ``pixel_attack``,
  ``random_change``, ``reconstruct``; which class to ask for: ``nearest_classes``
- what a model gets wrong: ``explain_errors``, ``fine_tune``, ``group_weights``
- without gradients: ``find_directions`` (``Directions``), ``follow``
- what changed: ``fit_descriptors``, ``describe_change``, ``ablate``, ``permutation_null``
- necessary, sufficient: ``attribute_directions``, ``contrastive_scores``; from a table
  ``observed_scores``, ``adjusted_effect``, ``score_bounds``
- where it lies: ``latent_integrated_gradients``, ``integrated_gradients``, ``captum_attribution``
- how good it is: ``report``, ``cout``, ``metrics`` (distances, and scores against the truth)
"""

from cfxnb import checks, data, metrics, spaces, weights
from cfxnb.attacks.ablate import ablate
from cfxnb.attacks.baselines import random_change, reconstruct
from cfxnb.attacks.describe_change import FeatureAttribution, describe_change, permutation_null
from cfxnb.attacks.descriptors import Descriptors, fit_descriptors
from cfxnb.attacks.latent_attack import PAPER as PAPER_ATTACK
from cfxnb.attacks.latent_attack import latent_attack
from cfxnb.attacks.nearest_classes import nearest_classes
from cfxnb.attacks.pixel_attack import pixel_attack
from cfxnb.attribution.captum_attribution import captum_attribution
from cfxnb.attribution.integrated_gradients import integrated_gradients
from cfxnb.attribution.latent_integrated_gradients import latent_integrated_gradients
from cfxnb.attribution.paths import latent_path, points_path, straight_path, walk_path
from cfxnb.attribution.result import Attribution
from cfxnb.contrastive.attribute_edits import attribute_directions
from cfxnb.contrastive.contrastive_scores import contrastive_scores
from cfxnb.contrastive.edits import AttributeDirections
from cfxnb.contrastive.factor_reader import FactorReader
from cfxnb.contrastive.observed_scores import (
    ObservedScores,
    ScoreBounds,
    adjusted_effect,
    observed_scores,
    score_bounds,
)
from cfxnb.contrastive.scores import Scores
from cfxnb.core import types
from cfxnb.core.classifiers import BlackBox, one_label, two_class, wrap
from cfxnb.core.intervals import wilson
from cfxnb.core.prediction import predict
from cfxnb.core.results import Counterfactuals
from cfxnb.core.types import Code, Step
from cfxnb.course.doctor import doctor
from cfxnb.course.profiles import sizes
from cfxnb.course.widgets import explore, predict_then_run, progress
from cfxnb.diffusion.diffusion_counterfactual import PAPER as PAPER_DIFFUSION
from cfxnb.diffusion.diffusion_counterfactual import diffusion_counterfactual
from cfxnb.directions.find_directions import find_directions
from cfxnb.directions.follow_direction import follow
from cfxnb.directions.result import Directions
from cfxnb.metrics import cout, report
from cfxnb.plots.attribution import heat_maps
from cfxnb.plots.charts import bars, code_map, curves
from cfxnb.plots.directions import flip_curves, walk_strip
from cfxnb.plots.pictures import Picture, gallery, picture, show
from cfxnb.plots.scores import edit_picture, edit_strip, leakage_map, score_bars
from cfxnb.repair.explain_errors import ErrorExplanation, explain_errors
from cfxnb.repair.fine_tune import fine_tune, group_weights
from cfxnb.weights import available, load

__version__ = "0.1.0"

__all__ = [
    "PAPER_ATTACK", "PAPER_DIFFUSION", "AttributeDirections", "Attribution", "BlackBox", "Code",
    "Counterfactuals", "Descriptors", "Directions", "ErrorExplanation", "FactorReader",
    "FeatureAttribution", "ObservedScores", "Picture", "ScoreBounds", "Scores", "Step", "ablate",
    "adjusted_effect", "attribute_directions", "available", "bars", "captum_attribution", "checks",
    "code_map", "contrastive_scores", "cout", "curves", "data", "describe_change",
    "diffusion_counterfactual", "doctor", "edit_picture", "edit_strip", "explain_errors",
    "explore", "find_directions", "fine_tune", "fit_descriptors", "flip_curves", "follow",
    "gallery", "group_weights", "heat_maps", "integrated_gradients", "latent_attack",
    "latent_integrated_gradients", "latent_path", "leakage_map", "load", "metrics",
    "nearest_classes", "observed_scores", "one_label", "permutation_null", "picture",
    "pixel_attack", "points_path", "predict", "predict_then_run", "progress", "random_change",
    "reconstruct", "report", "score_bars", "score_bounds", "show", "sizes", "spaces",
    "straight_path", "two_class", "types", "walk_path", "walk_strip", "weights", "wilson", "wrap",
]  # fmt: skip
