"""Integrated gradients along any path, and latent integrated gradients (arXiv 2404.12488).

Read first ``integrated_gradients``, then ``latent_integrated_gradients``, whose baseline is found
by following a direction of the code. ``paths`` has the curves between baseline and image.
``explained_output`` is the number that is explained: a logit, or the difference of two.
``captum_attribution`` gives standard maps for comparison. ``result`` is what all of them return.
"""
