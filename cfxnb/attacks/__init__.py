"""Counterfactual Attacks (Goldwasser & Hooker, arXiv 2504.15479), and what changed in an image.

Read first ``latent_attack``: the search in the latent space of a generator. ``gradient_search`` is
the loop that it shares with ``pixel_attack``, the adversarial baseline without a generator.
``baselines`` has the two comparisons that every table needs: a random change and a mere
reconstruction. ``descriptors`` fits linear models from codes to named properties.
``describe_change`` uses them to say what changed, and ``ablate`` tests whether the classifier
cares. ``nearest_neighbour`` finds the nearest real image of the target class.
``nearest_classes`` proposes a target class for each image.
"""
