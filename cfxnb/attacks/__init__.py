"""Counterfactual Attacks (Goldwasser & Hooker, arXiv 2504.15479), and what changed in an image.

Read ``latent_attack`` first, which searches in the latent space of a generator. ``gradient_search``
holds the search of ``latent_attack``. ``pixel_attack`` applies ``gradient_search`` to pixels
instead of codes, as an adversarial baseline without a generator. ``minimal_norm`` searches for the
smallest change of pixels that reaches the target class. ``query_attack`` searches in the latent
space by queries alone, for classifiers without gradients. ``baselines`` holds two baselines, a
random change of the code and a plain reconstruction. ``nearest_neighbour`` finds the nearest real
image of the target class.

``descriptors`` fits linear models from codes to named properties. ``describe_change`` uses the
models of ``descriptors`` to say which properties changed. ``ablate`` tests whether a flip of the
classifier depends on the changed properties. ``nearest_classes`` proposes a target class for each
class.
"""
