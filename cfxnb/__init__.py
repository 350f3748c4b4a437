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

from cfxnb import checks, data, metrics, spaces, types, weights
from cfxnb.classify import BlackBox, one_label, predict, two_class, wrap
from cfxnb.doctor import doctor
from cfxnb.global_directions import Directions
from cfxnb.heat import Attribution
from cfxnb.methods.ablate import ablate
from cfxnb.methods.attack import PAPER as PAPER_ATTACK
from cfxnb.methods.attack import latent_attack
from cfxnb.methods.attribution import integrated_gradients
from cfxnb.methods.baselines import random_change, reconstruct
from cfxnb.methods.captum_maps import captum_attribution
from cfxnb.methods.contrastive import contrastive_scores
from cfxnb.methods.describe import FeatureAttribution, describe_change, permutation_null
from cfxnb.methods.descriptors import Descriptors, fit_descriptors
from cfxnb.methods.directions import attribute_directions
from cfxnb.methods.edits import AttributeDirections
from cfxnb.methods.errors import ErrorExplanation, explain_errors
from cfxnb.methods.follow import follow
from cfxnb.methods.gcd import find_directions
from cfxnb.methods.intervals import wilson
from cfxnb.methods.latent_attribution import latent_integrated_gradients
from cfxnb.methods.ldce import PAPER as PAPER_DIFFUSION
from cfxnb.methods.ldce import diffusion_counterfactual
from cfxnb.methods.lewis import (
    ObservedScores,
    ScoreBounds,
    adjusted_effect,
    observed_scores,
    score_bounds,
)
from cfxnb.methods.paths import latent_path, points_path, straight_path, walk_path
from cfxnb.methods.pixel import pixel_attack
from cfxnb.methods.repair import fine_tune, group_weights
from cfxnb.methods.scores import Scores
from cfxnb.methods.targets import nearest_classes
from cfxnb.metrics import cout, report
from cfxnb.plots import Picture, gallery, picture, show
from cfxnb.plots_charts import bars, code_map, curves
from cfxnb.plots_directions import flip_curves, walk_strip
from cfxnb.plots_heat import heat_maps
from cfxnb.plots_scores import edit_picture, edit_strip, leakage_map, score_bars
from cfxnb.profiles import sizes
from cfxnb.readers import FactorReader
from cfxnb.results import Counterfactuals
from cfxnb.types import Code, Step
from cfxnb.weights import available, load
from cfxnb.widgets import explore, predict_then_run, progress

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
