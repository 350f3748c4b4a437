"""Counterfactual explanations of image classifiers with generative models.

``import cfxnb as cfx`` gives everything a notebook uses.
"""

from cfxnb import checks, data, metrics, spaces, types, weights
from cfxnb.classify import BlackBox, predict, two_class, wrap
from cfxnb.doctor import doctor
from cfxnb.methods.ablate import ablate
from cfxnb.methods.attack import PAPER as PAPER_ATTACK
from cfxnb.methods.attack import latent_attack
from cfxnb.methods.baselines import random_change, reconstruct
from cfxnb.methods.describe import FeatureAttribution, describe_change, permutation_null
from cfxnb.methods.descriptors import Descriptors, fit_descriptors
from cfxnb.methods.pixel import pixel_attack
from cfxnb.metrics import cout, report
from cfxnb.plots import Picture, bars, code_map, curves, gallery, picture, show
from cfxnb.profiles import sizes
from cfxnb.results import Counterfactuals
from cfxnb.types import Code, Step
from cfxnb.weights import available, load
from cfxnb.widgets import explore, predict_then_run, progress

__version__ = "0.1.0"

__all__ = [
    "PAPER_ATTACK", "BlackBox", "Code", "Counterfactuals", "Descriptors", "FeatureAttribution",
    "Picture", "Step", "ablate", "available", "bars", "checks", "code_map", "cout", "curves",
    "data", "describe_change", "doctor", "explore", "fit_descriptors", "gallery", "latent_attack",
    "load", "metrics", "permutation_null", "picture", "pixel_attack", "predict",
    "predict_then_run", "progress", "random_change", "reconstruct", "report", "show", "sizes",
    "spaces", "two_class", "types", "weights", "wrap",
]  # fmt: skip
