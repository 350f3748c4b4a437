"""Latent Diffusion Counterfactual Explanations (LDCE; Farid et al., arXiv 2310.06668).

Read first ``diffusion_counterfactual``, then ``guidance``: how the gradient of the classifier is
combined with the direction of the diffusion model at each denoising step. ``consensus`` has the
mask that keeps only positions where the two agree. ``strength_search`` looks for the least noise
that flips each image, and ``best_attempt`` keeps the best result so far. ``composite`` puts
unchanged pixels back. The DDIM steps themselves are in ``core.ddim``.
"""
