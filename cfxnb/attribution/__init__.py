"""Attribution: integrated gradients along any path, and latent integrated gradients.

Papers: Sundararajan et al. (2017) for integrated gradients; GCD (arXiv 2404.12488) for latent
integrated gradients. Read first ``integrated_gradients``, then ``latent_integrated_gradients``,
which moves the code of an image along a direction to find a baseline.

- ``paths``: curves of images between a baseline and an image.
- ``explained_output``: the function that is explained, a logit or the difference of two logits.
- ``captum_attribution``: standard maps of captum, for comparison.
- ``result``: the Attribution that all attribution methods return.
- ``batches``: work in batches and the record of the call, shared by all attribution methods.
"""
