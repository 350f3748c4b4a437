"""Counterfactual Attacks (Goldwasser & Hooker, arXiv 2504.15479), and what changed in an image.

Read ``latent_attack`` first, which searches in the latent space of a generator.
``gradient_search`` holds the algorithm of this search. ``pixel_attack`` uses the same algorithm
without a generator, as an adversarial baseline. ``minimal_norm`` is its search for the smallest
change of pixels. ``baselines`` has two more comparisons: a random change and a plain
reconstruction. ``nearest_neighbour`` finds the nearest real image of the target class.

``descriptors`` fits linear models from codes to named properties. ``describe_change`` uses these
models to say which properties changed. ``ablate`` tests whether the classifier depends on these
changes. ``nearest_classes`` proposes a target class for each class.
"""
