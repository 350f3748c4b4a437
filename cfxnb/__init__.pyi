"""The flat vocabulary: what ``import cfxnb as cfx`` gives, and where it stands.

``__init__`` reads this list, and imports each name when it is first used.
"""

from . import checks as checks
from . import data as data
from . import metrics as metrics
from . import spaces as spaces
from . import weights as weights
from .attacks.ablate import ablate as ablate
from .attacks.baselines import random_change as random_change
from .attacks.baselines import reconstruct as reconstruct
from .attacks.describe_change import FeatureAttribution as FeatureAttribution
from .attacks.describe_change import describe_change as describe_change
from .attacks.describe_change import permutation_null as permutation_null
from .attacks.descriptors import Descriptors as Descriptors
from .attacks.descriptors import fit_descriptors as fit_descriptors
from .attacks.latent_attack import PAPER_ATTACK as PAPER_ATTACK
from .attacks.latent_attack import latent_attack as latent_attack
from .attacks.nearest_classes import nearest_classes as nearest_classes
from .attacks.nearest_neighbour import nearest_neighbour as nearest_neighbour
from .attacks.pixel_attack import pixel_attack as pixel_attack
from .attribution.captum_attribution import captum_attribution as captum_attribution
from .attribution.integrated_gradients import integrated_gradients as integrated_gradients
from .attribution.latent_integrated_gradients import (
    latent_integrated_gradients as latent_integrated_gradients,
)
from .attribution.paths import direction_path as direction_path
from .attribution.paths import latent_path as latent_path
from .attribution.paths import piecewise_linear_path as piecewise_linear_path
from .attribution.paths import straight_path as straight_path
from .attribution.result import Attribution as Attribution
from .contrastive.attribute_edits import AttributeEdits as AttributeEdits
from .contrastive.attribute_edits import fit_attribute_edits as fit_attribute_edits
from .contrastive.contrastive_scores import contrastive_scores as contrastive_scores
from .contrastive.factor_reader import FactorReader as FactorReader
from .contrastive.observed_scores import ObservedScores as ObservedScores
from .contrastive.observed_scores import ScoreBounds as ScoreBounds
from .contrastive.observed_scores import adjusted_effect as adjusted_effect
from .contrastive.observed_scores import observed_scores as observed_scores
from .contrastive.observed_scores import score_bounds as score_bounds
from .contrastive.scores import ContrastiveScores as ContrastiveScores
from .core import types as types
from .core.classifiers import BlackBox as BlackBox
from .core.classifiers import select_label as select_label
from .core.classifiers import two_logits as two_logits
from .core.classifiers import wrap as wrap
from .core.intervals import wilson_interval as wilson_interval
from .core.prediction import predict_logits as predict_logits
from .core.results import Counterfactuals as Counterfactuals
from .core.types import Code as Code
from .core.types import Step as Step
from .course.doctor import doctor as doctor
from .course.profiles import by_profile as by_profile
from .course.widgets import explore as explore
from .course.widgets import predict_then_run as predict_then_run
from .course.widgets import progress as progress
from .diffusion.diffusion_counterfactual import PAPER_DIFFUSION as PAPER_DIFFUSION
from .diffusion.diffusion_counterfactual import diffusion_counterfactual as diffusion_counterfactual
from .diffusion.dime import PAPER_DIME as PAPER_DIME
from .diffusion.dime import dime as dime
from .diffusion.distill_classifier import distill_classifier as distill_classifier
from .diffusion.diverse_counterfactuals import diverse_counterfactuals as diverse_counterfactuals
from .diffusion.fastdime import PAPER_FASTDIME as PAPER_FASTDIME
from .diffusion.fastdime import fastdime as fastdime
from .diffusion.maskdime import PAPER_MASKDIME as PAPER_MASKDIME
from .diffusion.maskdime import maskdime as maskdime
from .diffusion.sce import sce as sce
from .diffusion.sce_as_published import sce_as_published as sce_as_published
from .directions.find_directions import find_directions as find_directions
from .directions.follow_direction import follow_direction as follow_direction
from .directions.result import Directions as Directions
from .flows.flow_counterfactual import PAPER_FLOW as PAPER_FLOW
from .flows.flow_counterfactual import flow_counterfactual as flow_counterfactual
from .flows.velocity import fit_flow as fit_flow
from .metrics.pairwise import cout as cout
from .metrics.report import report as report
from .plots.attribution import heat_maps as heat_maps
from .plots.charts import bars as bars
from .plots.charts import code_map as code_map
from .plots.charts import curves as curves
from .plots.directions import direction_strip as direction_strip
from .plots.directions import flip_curves as flip_curves
from .plots.pictures import Picture as Picture
from .plots.pictures import as_picture as as_picture
from .plots.pictures import gallery as gallery
from .plots.pictures import show as show
from .plots.scores import edit_picture as edit_picture
from .plots.scores import edit_strip as edit_strip
from .plots.scores import leakage_map as leakage_map
from .plots.scores import score_bars as score_bars
from .repair.explain_errors import ErrorExplanation as ErrorExplanation
from .repair.explain_errors import explain_errors as explain_errors
from .repair.fine_tune import fine_tune as fine_tune
from .repair.fine_tune import group_weights as group_weights
from .weights import available as available
from .weights import load as load
from .weights import load_retrained as load_retrained

__version__: str
