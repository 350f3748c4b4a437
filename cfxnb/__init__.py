"""Counterfactual explanations of image classifiers with generative models.

``import cfxnb as cfx`` gives everything a notebook uses:

- what there is: ``available``, ``load``, ``data`` (digits, sprites, World), ``spaces``, ``doctor``
- your own: ``wrap``, ``two_logits``, ``select_label``, ``BlackBox``, ``FactorReader``, ``Code``
- counterfactuals: ``latent_attack``, ``diffusion_counterfactual``; beside them ``pixel_attack``,
  ``random_change``, ``reconstruct``; which class to ask for: ``nearest_classes``
- what a model gets wrong: ``explain_errors``, ``fine_tune``, ``group_weights``
- without gradients: ``find_directions`` (``Directions``), ``follow_direction``
- what changed: ``fit_descriptors``, ``describe_change``, ``ablate``, ``permutation_null``
- necessary, sufficient: ``fit_attribute_edits``, ``contrastive_scores``; from a table
  ``observed_scores``, ``adjusted_effect``, ``score_bounds``
- where it lies: ``latent_integrated_gradients``, ``integrated_gradients``, ``captum_attribution``
- how good it is: ``report``, ``cout``, ``metrics`` (distances, and scores against the truth)
"""

import lazy_loader

__version__ = "0.1.0"

# Importing cfxnb takes no time: what a name needs is loaded when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
