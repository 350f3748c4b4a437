"""Counterfactual explanations of image classifiers with generative models.

``import cfxnb as cfx`` gives everything that the notebooks use:

- shipped models and data: ``available``, ``load``, ``data``, ``spaces``; ``doctor`` checks the
  installation
- your own models: ``wrap``, ``two_logits``, ``select_label``, ``BlackBox``, ``FactorReader``,
  ``Code``
- counterfactuals: ``latent_attack``, ``diffusion_counterfactual``, ``maskdime``, ``fastdime``,
  ``dime``, ``sce``, ``sce_as_published``
- several counterfactuals per image: ``diverse_counterfactuals``
- a smooth copy of a black box: ``distill_classifier``
- baselines: ``pixel_attack``, ``random_change``, ``reconstruct``, ``nearest_neighbour``
- targets for counterfactuals: ``nearest_classes``
- goals for regression models as targets: ``wrap_regression``, ``raise_to``, ``lower_to``,
  ``raise_by``, ``lower_by``, ``between``, ``score``, ``select_goal``
- counterfactuals without gradients: ``query_attack`` for single images; ``find_directions``,
  ``follow_direction`` for a data set
- names for what changed: ``fit_descriptors``, ``describe_change``, ``ablate``,
  ``permutation_null``
- necessity and sufficiency: ``fit_attribute_edits``, ``contrastive_scores``; from a table of
  observations: ``observed_scores``, ``adjusted_effect``, ``score_bounds``
- maps of pixels: ``latent_integrated_gradients``, ``integrated_gradients``, ``captum_attribution``
- a generator or a classifier of your own images: ``train``
- errors of a model: ``explain_errors``, ``fine_tune``, ``group_weights``
- a drawing of the idea behind a method: ``diagram``
- a panel for trying methods: ``workbench``
- everything at once: ``explain``, which compares methods and writes a page
- evaluation: ``report``, ``cout``, ``metrics`` (distances, and scores against the truth);
  ``evaluate`` scores your own method beside baselines
"""

import lazy_loader

__version__ = "0.1.0"

# Importing cfxnb takes no time: what a name needs is loaded when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
