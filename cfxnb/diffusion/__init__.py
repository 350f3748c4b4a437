"""Latent Diffusion Counterfactual Explanations (LDCE; Farid et al., arXiv 2310.06668).

Read ``guidance`` first. Its ``_guided_eps`` is the method of the paper: at each denoising step it
predicts the clean image and takes the gradient of the classifier. It keeps the gradient where it
agrees with the diffusion model, and adds it to the predicted noise.

- ``diffusion_counterfactual``: the public function, and the settings of the paper.
- ``options``: its options, checked.
- ``consensus``: where two fields of vectors agree, and how often they would by chance.
- ``strength_search``: looks for the smallest amount of noise with which each image flips.
- ``best_attempt``: the best result of each image so far.
- ``counted_networks``: counts the network passes, so that the mathematics need not.
- ``composite``: restores the pixels that the edit did not need.

The DDIM steps are in ``core.ddim``.
"""
